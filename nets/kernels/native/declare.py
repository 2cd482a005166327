"""Kernels as operators of torch, which torch.compile calls as they are. Their arguments are checked first."""

import functools

import torch

from nets.kernels.native.check import checker

DTYPES = {"CPU": (torch.float32, torch.bfloat16), "CUDA": (torch.float32, torch.bfloat16, torch.float16)}

_operators = torch.library.Library("handwritten", "DEF")
_DESCRIPTIONS: dict[str, tuple[str, bool]] = {}  # operator -> what `checker` takes


def declare(signature: str, fake, description: str, empty: bool = True):
    """Define an operator, which torch.compile calls as it is. fake returns results without values.

    description, empty: of its arguments, see check.py.
    """
    name = signature.partition("(")[0]
    _DESCRIPTIONS[name] = description, empty
    _operators.define(signature, tags=[torch.Tag.needs_exact_strides])
    torch.library.register_fake(f"handwritten::{name}", fake, lib=_operators)
    return getattr(torch.ops.handwritten, name)


def implement(name: str, function, key: str):
    """Make the function the operator's implementation on "CPU" or "CUDA". Its arguments are checked first."""
    description, empty = _DESCRIPTIONS[name]
    check = checker(name, description, DTYPES[key], empty)

    @functools.wraps(function)
    def checked(*args):
        check(*args)
        return function(*args)

    _operators.impl(name, checked, key)


def operator(signature: str, fake, description: str, empty: bool = True):
    """Decorator: define an operator that runs the decorated function on a CPU."""

    def register(function):
        declared = declare(signature, fake, description, empty)
        implement(signature.partition("(")[0], function, "CPU")
        return declared

    return register
