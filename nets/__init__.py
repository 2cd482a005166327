"""Nets whose every layer has its own forward and its own hand-derived backward.

Read the files in this order; each has one idea.

    The layers
      layer.py        the contract: forward gives (y, saved), backward gives (dx, grads)
      activations.py  sigmoid, tanh, ReLU, GELU, SiLU: one number in, one out
      start.py        start values from a Gaussian, biases from a constant
      linear.py       every output a weighted sum of every input
      dropout.py      numbers dropped by chance
      windows.py      a picture through shifted, strided views
      conv.py         the same small weights at every place
      whiten.py       a first layer read off the pictures
      pool.py         a window becomes one number; adaptive_pool.py as many windows as are asked for
      norm.py         every channel to mean 0 and variance 1
      response_norm.py  every channel damped by its neighbours
      net.py          nets are layers: in a row, or around
      native/         the same in kernels of our own, for a CPU and for a GPU; its __init__ lists them
      fused.py        layers that stand behind one another, in one pass
    Learning
      loss.py         how wrong is the output, and which way should it move
      optim.py        a step along the gradient, and how long a step
      muon.py         a step in which every direction of a filter matrix counts the same
      adaptive.py     a step that finds its own length
      selective.py    a picture that has little left to teach sits out
      guard.py        a step that isn't finite changes nothing
      step.py         forward, loss, backward, update: one function
      graph.py        that function as a CUDA graph
    Many processes
      parallel/       each sees its share of every batch, in the order of its __init__
    Trust
      twin.py         the same net in torch.nn.functional, for autograd
      trace.py        what every layer of a net got and gave
      gradcheck/      manual against autograd against finite differences, in the order of its __init__
    Speed
      torch_nn.py     the same net as torch.nn modules, the rival
      bench/          a step by hand and by autograd, side by side
    Somebody's own torch model
      torch_parts.py  which modules and calls of torch have a layer here
      paths.py        a traced forward becomes layers in a row, and around
      from_torch.py   a torch.nn model becomes a net with the same weights
    A run
      config.py       a TOML file becomes frozen dataclasses
      build.py        a list of layers becomes a net
      make.py         a config's net, loss and optimizer
      pictures.py     one picture file; tree.py lists a whole tree of them
      folder.py       the tree decoded into memory
      batches.py      shuffled, shifted, flipped and normalized on the device
      color.py        a little more or less light of the colors that pictures have
      stream.py       a tree that doesn't fit in memory, decoded while the net trains
      stream_bench.py how long the step waits for it, and what memory it takes
      cifar.py        CIFAR's official archives, pickles that are not trusted
      data.py         data sets, in memory or streamed
      fits.py         do config, data and net fit together?
      feed.py         an epoch's batches as the net wants them
      tally.py        what the steps so far add up to
      trainer.py      epochs of steps, and everything written to one folder
      log.py          what was learned and what it took, a line at a time
      checkpoint.py   tensors in safetensors, never a pickle
      state.py        all that a run is between two steps, to go on from
      stop.py, lock.py  a signal is obeyed between two steps; a folder has one owner
      outcome.py      what a finished run leaves
      ten_crop.py     parts of a larger picture: four corners, the center, and their mirror images
      views.py        a picture looked at more than once
      evaluate.py     what the net says of pictures that it has not seen
      curves.py       what the log shows over its steps; braille.py draws it in a terminal
      figure.py       learning curves, and five best guesses as bars
      watch.py        a run's curves while it trains
      predict.py      a finished run, loaded again
      survive.py      killed and resumed: the same to the last bit? soak.py: as small as it was?
      summary.py      a net's layers: shapes, parameters, multiplications, memory
      enlarge.py      a small data set as a tree of larger pictures
      pretrained.py   a model of torchvision, with its published weights
    The lecture
      lecture/        every claim of MIT 6.034's lecture as an experiment
    Around it
      device.py, errors.py, cli.py   which device, what can go wrong, what the commands share
"""
