"""Nets whose every layer has its own forward and its own hand-derived backward.

Read the files in this order; each has one idea.

    The layers
      layer.py        the contract: forward gives (y, saved), backward gives (dx, grads)
      activations.py  sigmoid, tanh, ReLU, GELU, SiLU: one number in, one out
      linear.py       every output a weighted sum of every input
      dropout.py      numbers dropped by chance
      windows.py      a picture through shifted, strided views
      conv.py         the same small weights at every place
      whiten.py       a first layer read off the pictures
      pool.py         a window becomes one number
      norm.py         every channel to mean 0 and variance 1
      net.py          nets are layers: in a row, or around
    Learning
      loss.py         how wrong is the output, and which way should it move
      optim.py        a step along the gradient, and how long a step
      muon.py         a step in which every direction of a filter matrix counts the same
      adaptive.py     a step that finds its own length
      step.py         forward, loss, backward, update: one function
    Trust
      twin.py         the same net in torch.nn.functional, for autograd
      trace.py        what every layer of a net got and gave
      gradcheck/      manual against autograd against finite differences, in the order of its __init__
    Speed
      torch_nn.py     the same net as torch.nn modules, the rival
      bench/          a step by hand and by autograd, side by side
    A run
      config.py       a TOML file becomes frozen dataclasses
      build.py        a list of layers becomes a net
      pictures.py     one picture file; tree.py lists a whole tree of them
      folder.py       the tree decoded into memory
      batches.py      shuffled, shifted, flipped and normalised on the device
      stream.py       a tree that doesn't fit in memory, decoded while the net trains
      stream_bench.py how long the step waits for it, and what memory it takes
      data.py         data sets, in memory or streamed
      trainer.py      epochs of steps, and everything written to one folder
      evaluate.py     what the net says of pictures that it has not seen
      figure.py       learning curves, and five best guesses as bars
      checkpoint.py   tensors in safetensors, never a pickle
      predict.py      a finished run, loaded again
    The lecture
      lecture/        every claim of MIT 6.034's lecture as an experiment
    Around it
      device.py, errors.py, cli.py   which device, what can go wrong, what the commands share
"""
