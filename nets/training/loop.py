"""The training loop: epochs of steps. Everything else is done by hooks (hooks.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nets.optim.schedules import lr_factor
from nets.training.hooks import EVENTS, Hook

if TYPE_CHECKING:
    from nets.training.run import Run


def train_epochs(run: Run) -> dict:
    """Take the steps that are left of a run. Returns the facts about it for result.json."""
    call = Events(run)
    try:
        call("before_run")
        return _train(run, call)
    finally:
        call("close")


def _train(run: Run, call: Events) -> dict:
    t, p = run.config.train, run.progress
    warmup, factor = round(t.warmup_epochs * run.per_epoch[0]), torch.ones((), device=run.device)
    while p.epoch < t.epochs:
        steps, facts = run.per_epoch[p.epoch], {}
        call("before_epoch")
        for indices, x, target in run.feed(p.epoch, p.step) if p.step < steps else ():
            run.update_frozen(p.epoch + p.step / steps)
            run.factor = lr_factor(t.schedule, run.at(), run.steps, warmup, t.min_lr / t.lr)
            call("before_step")
            run.learner(indices, x, target, factor.fill_(run.factor))
            p.step += 1
            call("after_step")
        call("close_epoch", facts)
        p.epoch, p.step = p.epoch + 1, 0
        call("after_epoch", facts)
    facts = {"parameters": sum(w.numel() for w in run.net.params.values())}
    call("after_run", facts)
    return facts


class Events:
    """events(name, …) calls an event's method of every hook that defines it, in order."""

    def __init__(self, run: Run):
        defines = lambda hook, event: getattr(type(hook), event) is not getattr(Hook, event)  # noqa: E731
        self.run = run
        self.methods = {e: [getattr(hook, e) for hook in run.hooks if defines(hook, e)] for e in EVENTS}

    def __call__(self, event: str, *facts: dict):
        for method in self.methods[event]:
            method(self.run, *facts)
