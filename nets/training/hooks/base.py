"""Hooks: everything that a run does beside its steps.

The loop calls each event on every hook, in the list's order. A checkpoint has each hook's `state()` under
the hook's name, and `load` takes it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from nets.training.run import Run

EVENTS = (
    "before_run",
    "before_epoch",
    "before_step",
    "after_step",
    "close_epoch",
    "after_epoch",
    "after_run",
    "close",
    "after_result",
)


class Hook:
    """Base of hooks. A subclass defines the events that it needs.

    name  of its state in a checkpoint, which no other hook of the run has; "" where it has no state
    """

    name = ""

    def before_run(self, run: Run):
        """The folder is ready and a checkpoint is loaded; `run.resumed` says whether there was one."""

    def before_epoch(self, run: Run):
        pass

    def before_step(self, run: Run):
        pass

    def after_step(self, run: Run):
        """run.progress counts the step."""

    def close_epoch(self, run: Run, facts: dict):
        """The epoch's steps are done. facts: its line in the log, to which a hook may add."""

    def after_epoch(self, run: Run, facts: dict):
        """run.progress counts the epoch."""

    def after_run(self, run: Run, facts: dict):
        """All epochs are done. facts: what result.json gets, to which a hook may add."""

    def close(self, run: Run):
        """The run ends, however it ends."""

    def after_result(self, run: Run):
        """result.json is written: nothing that fails here costs the result."""

    def times(self, run: Run) -> dict[str, float]:
        """What a line of times.jsonl gets."""
        return {}

    def state(self) -> dict[str, Any]:
        """Tensors and JSON values by name."""
        return {}

    def load(self, state: dict[str, Any]):
        """Restore a state, tensors in place. KeyError, TypeError or ValueError if it is damaged."""
        for name, value in self.state().items():
            if isinstance(value, Tensor):
                value.copy_(state[name])
