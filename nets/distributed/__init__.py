"""Several processes, each with its own device, train one net.

    torchrun --nproc-per-node N -m nets train CONFIG

Every process has the whole net and computes its share of every batch. Gradients are summed over all
processes, so that all take the same step. In reading order:

    world.py      the processes of a run, and their collectives
    buckets.py    gradients summed over the processes while backward still runs
    backward.py   the backward of a step, of the whole batch
    sync_norm.py  BatchNorm over the whole batch
    shard.py      each process keeps a part of the momentum, and updates a part of the weights
    together.py   applies a config's [distributed] to a net and its optimizer
    agree.py      steps at which the processes exchange flags
    alive.py      a process that dies ends the others, with one error line that names it
    plan.py       a model of a step's time on N GPUs
    measure.py    measures the cost of sums, and how much of it backward hides

World in nets/training/world.py decides which rows of a batch and of a test set a process computes.
"""
