"""Made-up entries of a run's log, for the tests of the log and of what shows it."""

from nets.training import log
from nets.training.log import Log


def facts(step, **more):
    return {"step": step, "loss": 2 / step, "train_top1": 1 - 1 / step, **more}


def times(step, **more):
    return {"step": step, "seconds": step / 10, "per_second": 5120.0, "memory": 812.5, **more}


def epoch(step, number):
    return facts(step, epoch=number, top1=1 - 2 / (step + 1), top5=1.0)


def write(to: Log, steps):
    for step in steps:
        to.add(facts(step), times(step))


def content(folder):
    """name -> bytes of the log's files."""
    return {name: (folder / name).read_bytes() for name in log.FILES}


def log_of(epochs=3, per_epoch=20, every=5):
    """The entries of a run: one every `every` steps, and one at the end of each epoch."""
    entries = []
    for i in range(1, epochs * per_epoch + 1):
        entries += [facts(i) | times(i)] if i % every == 0 else []
        entries += [epoch(i, i // per_epoch) | times(i)] if i % per_epoch == 0 else []
    return entries
