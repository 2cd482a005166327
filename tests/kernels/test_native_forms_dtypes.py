"""What the native forms take: other dtypes, and an error for what they would read beyond its end."""

import copy

import pytest
import torch

from nets.common.errors import BatchError
from nets.kernels import native
from nets.kernels.native_forms import WhitenAct
from nets.layers.activations import GELU, ReLU
from nets.layers.conv import Conv2d
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.whiten import Whiten2d
from tests.kernels.common import form_of

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no compiler here: {native.reason}")

FORMS = [
    [Conv2d(3, 4, 3, padding=1)],
    [Conv2d(3, 4, 3, padding=1), MaxPool2d(2)],
    [BatchNorm2d(3)],
    [BatchNorm2d(3), ReLU()],
    [Whiten2d(3), GELU()],
]


@pytest.mark.parametrize("layers", FORMS)
def test_a_gradient_of_lower_precision_is_taken_as_it_is(layers):
    """Float32 images with dy in bfloat16: the same as that dy in float32, to the bit."""
    form = form_of(*layers)
    y, saved = form.forward(torch.randn(2, 3, 6, 6))
    dy = torch.randn(y.shape).bfloat16()
    dx, grads = form.backward(saved, dy)
    dx2, grads2 = form.backward(saved, dy.float())
    assert torch.equal(dx, dx2) and all(torch.equal(grads[k], grads2[k]) for k in grads)


@pytest.mark.parametrize("layers", FORMS)
@pytest.mark.parametrize("training", [True, False])
def test_parameters_in_bfloat16_are_taken_and_get_gradients_in_bfloat16(layers, training):
    form = form_of(*copy.deepcopy(layers), dtype=torch.bfloat16).to(torch.bfloat16).train(training)
    y, saved = form.forward(torch.randn(2, 3, 6, 6).bfloat16())
    dx, grads = form.backward(saved, torch.randn(y.shape).bfloat16())
    assert dx.dtype == y.dtype == torch.bfloat16 and dx.isfinite().all()
    assert {k: (g.dtype, g.shape) for k, g in grads.items()} == {
        k: (w.dtype, w.shape) for k, w in form.params.items()
    }
    assert torch.equal(form.output(saved), y) if form.recomputes_output() else True


@pytest.mark.parametrize("layers", FORMS)
def test_images_and_gradients_of_other_sizes_are_an_error(layers):
    form = form_of(*layers)
    if type(form) is not WhitenAct:  # whose forward is the library's
        with pytest.raises(BatchError, match="expected|channels"):
            form.forward(torch.randn(2, 4, 6, 6))
    y, saved = form.forward(torch.randn(2, 3, 6, 6))
    for wrong in (y[:1], y[:, :2], y[:, :, :2], torch.cat([y, y])):
        with pytest.raises(BatchError, match="expected"):
            form.backward(saved, wrong)
