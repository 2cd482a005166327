"""What a run's bits depend on beside config and data. If it changes, a resumed run isn't bit-identical."""

from typing import Any

import torch

from nets.common.device import device_name
from nets.kernels import kernels


def facts(run) -> dict[str, Any]:
    """By name, for a checkpoint."""
    processor = f"{torch.backends.cpu.get_cpu_capability()}, {device_name(run.device)}"
    return {
        "torch": torch.__version__,
        "processor": processor,
        "threads": torch.get_num_threads(),
        "processes": run.world.size,
        "kernels": kernels(run.fast),
    }


def difference(then: Any, now: dict[str, Any]) -> str:
    """The first fact that has changed, in words, or "". ValueError if `then` isn't what `facts` returned."""
    if not isinstance(then, dict) or then.keys() != now.keys():
        raise ValueError("it doesn't say where the run was trained")
    for name, value in now.items():
        if then[name] != value:
            return f"{name}: {then[name]!s:.300} when it was written, {value} now"
    return ""
