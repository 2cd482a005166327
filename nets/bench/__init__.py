"""Benchmarks: the same net trained with hand-written gradients and with autograd, on the same data.

Each form of the train step runs in a process of its own. The files, in reading order:

    forms.py     the forms: manual and autograd, each eager, compiled or as a CUDA graph
    work.py      the least arithmetic and memory traffic of a step, and the machine's best rate
    measure.py   the operators, bytes and peak memory of a step
    profile.py   the time of a step by layer, or by kernel where layers are fused
    worker.py    one form in one process
    race.py      times all forms, in rounds
    scaling.py   repeats the race for several batch sizes, widths and depths
    text.py      tables of the results; nets/report/bench.py draws them

Two more benchmarks:

    rates.py       the arithmetic rate of each convolution
    same_curve.py  the loss with hand-written gradients and with autograd, step by step, on a run's batches
"""
