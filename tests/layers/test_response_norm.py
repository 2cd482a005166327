"""Facts of LocalResponseNorm: its defaults, rounding, blocks and refusals."""

import pytest
import torch
from torch.nn import functional as F

from nets.common.errors import BatchError
from nets.layers.response_norm import LocalResponseNorm


def test_defaults_are_torchs_and_alpha_is_divided_by_the_size():
    x = 100 * torch.randn(2, 6, 3, 3, dtype=torch.float64)
    y, saved = LocalResponseNorm(5).forward(x)
    torch.testing.assert_close(y, F.local_response_norm(x, 5), rtol=1e-12, atol=0)
    assert saved is x
    # the paper's own form, where alpha isn't divided
    near = F.pad(x**2, (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)
    paper = x / (2 + 1e-4 * near) ** 0.75
    torch.testing.assert_close(LocalResponseNorm(5, 5e-4, 0.75, 2.0).forward(x)[0], paper, rtol=1e-12, atol=0)


def test_output_in_bfloat16_is_rounded_once():
    x = torch.randn(2, 6, 9, 9).bfloat16()
    y = LocalResponseNorm(5, 0.5).forward(x)[0]
    truth = LocalResponseNorm(5, 0.5).forward(x.double())[0]
    assert y.dtype == torch.bfloat16 and (y != truth.bfloat16()).double().mean() < 0.01


@pytest.mark.parametrize("alpha", [0.5, 0.0])
def test_blocks_of_pictures_give_the_same_as_single_pictures(alpha):
    """More pictures than a block holds."""
    layer, x = LocalResponseNorm(3, alpha, k=2.0), torch.randn(5, 4, 300, 300)
    assert x.numel() > 2 * 2**19 > x[0].numel()
    y, saved = layer.forward(x)
    dx, _ = layer.backward(saved, y)
    for i in range(5):
        yi, si = layer.forward(x[i : i + 1])
        assert torch.equal(yi, y[i : i + 1]) and torch.equal(layer.backward(si, yi)[0], dx[i : i + 1])


@pytest.mark.parametrize(
    "wrong",
    [
        *(dict(size=0), dict(size=1.5), dict(size=3, alpha=-1e-4)),
        *(dict(size=3, beta=-0.1), dict(size=3, k=-1.0)),
    ],
)
def test_wrong_options_and_inputs_without_places_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be (a whole number of at least 1|at least 0), not"):
        LocalResponseNorm(**wrong)
    with pytest.raises(BatchError, match=r"LocalResponseNorm takes \(N, C, …\) with places, not \(2, 3\)"):
        LocalResponseNorm(1, 0, 0, 0).forward(torch.randn(2, 3))


@pytest.mark.parametrize("options", [dict(beta=0.0), dict(alpha=0.0)])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_without_alpha_or_beta_an_infinite_input_has_the_constant_derivative(size, options):
    x = torch.randn(2, 4, 3)
    x[0, 1, 2] = torch.inf
    layer = LocalResponseNorm(size, k=1.0, **options)
    y, saved = layer.forward(x)
    assert torch.equal(y, x) and torch.equal(layer.backward(saved, torch.ones_like(x))[0], torch.ones_like(x))
