"""The bench: the same net and data by hand and by autograd, side by side, each in its own process.

Read the files in this order; each has one idea.

    forms.py     the rivals: our step and the torch.nn twin's; eagerly, compiled, as a CUDA graph
    work.py      what a step has to do at least: arithmetic and bytes; and the machine's best rate
    measure.py   what a step did: operators, bytes, peak memory
    profile.py   where its time went: by layer, forward and backward; compiled, by kernel
    worker.py    one rival in one process, and how to talk to it
    race.py      the rivals in turn, round by round
    scaling.py   the race over batch, width and depth
    report.py    tables
    picture.py   plots
    __main__.py  the command

Two more are commands of their own:

    rates.py       each convolution alone
    same_curve.py  the loss by hand and by autograd, step by step, on a run's own batches
"""
