"""Fast kernels for the layers' formulas. `lower` puts them in the place of a net's layers.

registry.py      forms, backends and `lower`
torch_forms.py   backend "torch": the library's backward kernels (aten)
native_forms.py  backend "native": this project's kernels, which also fuse consecutive layers
native/          these kernels, as operators: C++ for CPUs, Triton for GPUs
"""

from nets.kernels import native_forms, torch_forms  # noqa: F401 (importing them registers their forms)
from nets.kernels.registry import BACKENDS, Form, forms, kernels, lower, running_backend

__all__ = ["BACKENDS", "Form", "forms", "kernels", "lower", "running_backend"]
