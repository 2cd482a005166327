"""The order of the Taylor remainder tells a right slope from a wrong one without a step size."""

import math

import pytest
import torch

from nets.gradcheck.order import order

X = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
V = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
FUNCTIONS = {
    "sin": (torch.sin, torch.cos),
    "exp": (torch.exp, torch.exp),
    "cube": (lambda x: x**3, lambda x: 3 * x * x),
}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_remainder_of_a_right_slope_falls_as_the_square(name, scale):
    f, slope = FUNCTIONS[name]
    x = X.clone()
    found = order(lambda: scale * f(x), x, V, scale * (slope(x) * V).sum().item())
    assert found.exponent > 1.8 and not found.wrong and torch.equal(x, X)


@pytest.mark.parametrize("off", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_that_of_a_wrong_slope_falls_in_proportion(name, off):
    f, slope = FUNCTIONS[name]
    x = X.clone()
    found = order(lambda: f(x), x, V, (slope(x) * V).sum().item() + off)
    assert found.wrong and found.exponent == pytest.approx(1, abs=0.4)
    assert found.error == pytest.approx(off, rel=0.3)


def test_a_linear_function_has_no_remainder():
    x = X.clone()
    assert order(lambda: x * V, x, V, (V * V).sum().item()).exponent == math.inf
