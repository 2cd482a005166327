"""What a run does beside its steps: see base.py."""

from nets.training.hooks.base import EVENTS as EVENTS
from nets.training.hooks.base import Hook as Hook
from nets.training.hooks.capture import Capture as Capture
from nets.training.hooks.checkpoint import CheckpointHook as CheckpointHook
from nets.training.hooks.clock import Clock as Clock
from nets.training.hooks.due import Due as Due
from nets.training.hooks.due import StopHook as StopHook
from nets.training.hooks.evaluate import Evaluate as Evaluate
from nets.training.hooks.guard import GuardHook as GuardHook
from nets.training.hooks.log import Bar as Bar
from nets.training.hooks.log import LogHook as LogHook
