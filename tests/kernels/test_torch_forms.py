"""The forms with the library's backward kernels; tests/layers/test_gradients.py has their numbers."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nets.common.errors import BatchError
from nets.kernels import lower
from nets.kernels.torch_forms import OneLayer
from nets.layers.activations import GELU, ReLU, SiLU
from nets.layers.conv import Conv2d
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d

PICTURES = (2, 4, 9, 8)


class Ops(TorchDispatchMode):
    """The names of the operations that the library runs."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__.split(".")[0])
        return func(*args, **(kwargs or {}))


BACKWARDS = [  # (layer, the library's operator)
    (lambda: Conv2d(4, 6, 3), "convolution_backward"),
    (lambda: MaxPool2d(3, 2), "max_pool2d_with_indices_backward"),
    (lambda: BatchNorm2d(4), "native_batch_norm_backward"),
    (ReLU, "threshold_backward"),
    (GELU, "gelu_backward"),
    (SiLU, "silu_backward"),
]


@pytest.mark.parametrize("make, operator", BACKWARDS)
def test_the_backend_decides_which_backward_runs(make, operator):
    for backend in ("reference", "torch"):
        layer = lower(make(), backend, "cpu", torch.float32)
        y, saved = layer.forward(torch.randn(PICTURES))
        with Ops() as ops:
            layer.backward(saved, torch.ones_like(y))
        assert (operator in ops.names) == (backend == "torch")


def test_every_form_of_the_library_is_in_that_list():
    known = {type(lower(make(), "torch", "cpu", torch.float32)) for make, _ in BACKWARDS}
    assert known == set(OneLayer.__subclasses__())


@pytest.mark.parametrize("make, operator", BACKWARDS)
def test_a_form_saves_what_recomputing_needs(make, operator):
    """As its layer: output, drop_input and add_input give the same."""
    layer = make()
    form = lower(layer, "torch", "cpu", torch.float32)
    assert form.recomputes_output() == layer.recomputes_output()
    assert form.saves_input() == layer.saves_input()
    x = torch.randn(PICTURES)
    y, saved = form.forward(x)
    if form.recomputes_output():
        torch.testing.assert_close(form.output(saved), y)
    if form.saves_input():
        back = form.add_input(form.drop_input(saved), x)
        dy = torch.randn_like(y)
        assert torch.equal(form.backward(back, dy)[0], form.backward(saved, dy)[0])


@pytest.mark.parametrize("make, operator", BACKWARDS)
def test_a_form_refuses_a_dy_of_another_shape(make, operator):
    form = lower(make(), "torch", "cpu", torch.float32)
    y, saved = form.forward(torch.randn(PICTURES))
    for dy in (y[:1], y[..., :1]):
        with pytest.raises(BatchError, match=f"^{type(form).__name__}: dy is"):
            form.backward(saved, dy)
