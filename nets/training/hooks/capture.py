"""CUDA graphs of a run's steps, captured before the first step."""

from __future__ import annotations

import time

import torch

from nets.training.hooks.base import Hook


class Capture(Hook):
    """Captures a step for every size of image and every set of frozen parameters. Nothing is trained."""

    def __init__(self):
        self.seconds = 0.0

    def before_run(self, run):
        captured, t, p = run.learner.captured, run.config.train, run.progress
        if captured is None:
            return
        begin = time.perf_counter()
        with run.clock.paused():
            ends = {group["until_epoch"] for group in run.param_groups if "until_epoch" in group}
            for epoch in range(p.epoch, t.epochs):
                batch = run.feed.blank(epoch)
                for moment in sorted({epoch, *(end for end in ends if epoch < end < epoch + 1)}):
                    run.update_frozen(moment)
                    captured.prepare(*batch, torch.zeros((), device=run.device))
            run.update_frozen(p.epoch + p.step / run.per_epoch[p.epoch] if p.epoch < t.epochs else t.epochs)
        self.seconds = time.perf_counter() - begin

    def after_run(self, run, facts):
        if run.learner.captured is not None:
            facts["capture_seconds"] = round(self.seconds, 3)  # not in the seconds of training
