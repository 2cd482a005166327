from nets.training.hooks.base import EVENTS, Hook
from nets.training.hooks.capture import Capture
from nets.training.hooks.checkpoint import CheckpointHook
from nets.training.hooks.clock import Clock
from nets.training.hooks.due import Due, StopHook
from nets.training.hooks.evaluate import Evaluate
from nets.training.hooks.guard import GuardHook
from nets.training.hooks.log import Bar, LogHook

__all__ = [
    "EVENTS", "Bar", "Capture", "CheckpointHook", "Clock", "Due", "Evaluate", "GuardHook", "Hook", "LogHook", "StopHook",
]  # fmt: skip
