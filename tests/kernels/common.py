"""The dtypes of the kernels in C++, and how near their results must be."""

import torch

from nets.gradcheck import compare
from nets.kernels import lower
from nets.layers.containers import Sequential

DTYPES = [torch.float32, torch.bfloat16]
WINOGRAD = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # what is multiplied is rounded too


def pictures(*shape, dtype, last=True):
    x = torch.randn(*shape).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def near(a, b, allowed):
    relative = compare(a.double(), b.double(), 0.0)[1]
    assert relative <= allowed, f"off by {relative:.1e}"


def off(a, b):
    """How far a is from b, all in all, relative."""
    return ((a.double() - b).norm() / b.norm()).item()


def form_of(*layers, dtype=torch.float32):
    """The one form that stands for these layers."""
    (form,) = lower(Sequential(*layers), "native", "cpu", dtype)
    return form
