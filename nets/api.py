"""What `from nets import …` gives. nets/__init__.py imports it at the first use of a name."""

from nets.convert.from_torch import from_torch
from nets.convert.to_torch import to_torch, torch_state
from nets.fitting import fit
from nets.gradcheck import check
from nets.layers import *  # noqa: F403 (every registered layer, also one in a new file)
from nets.layers import __all__ as _layers
from nets.layers.saving import load, save
from nets.losses import CrossEntropyLoss, Loss, MSELoss, Performance
from nets.optim import SGD, Adaptive, Muon

__all__ = [
    "SGD",
    "Adaptive",
    "CrossEntropyLoss",
    "Loss",
    "MSELoss",
    "Muon",
    "Performance",
    "check",
    "fit",
    "from_torch",
    "load",
    "save",
    "to_torch",
    "torch_state",
]
__all__ += _layers  # pyright: ignore[reportUnsupportedDunderAll]
