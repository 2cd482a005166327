"""Many processes, each with a device of its own, train one net: torchrun --nproc-per-node N train.py CONFIG

Every process has the whole net and sees its share of every batch; gradients are summed over all of
them, so that all take the same step. In reading order:

    world.py      the processes of a run, and what they can do together
    shares.py     which samples of a batch, or of a test set, are this process's
    buckets.py    gradients summed over the processes while backward still runs
    backward.py   the backward of a step, of the whole batch
    sync_norm.py  BatchNorm over the whole batch
    shard.py      each process keeps a part of the momentum, and updates a part of the weights
    together.py   what a config asks of the parts above
    agree.py      steps at which the processes speak to one another
    alive.py      a process that dies ends the others, with one line that says which it was
    plan.py       how long would a step take on N GPUs?
    measure.py    what do sums cost here, and how much of them does backward hide?
"""
