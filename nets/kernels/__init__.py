"""Fast forms of the layers, beside the clear ones: `lower` puts them in a net's place."""

from nets.kernels import fused, library  # noqa: F401 (they register their forms)
from nets.kernels.registry import BACKENDS, Form, forms, lower

__all__ = ["BACKENDS", "Form", "forms", "lower"]
