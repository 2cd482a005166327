"""How far apart two tensors are, and how much of it rounding explains."""

import pytest
import torch

from nets.gradcheck import check, compare
from nets.gradcheck.measure import cosine, relative_differences, tolerance, ulps
from nets.layers.linear import Linear


def test_compare():
    a = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    b = a.clone()
    b[1, 0] += 0.5
    assert compare(b, a) == (0.5, 0.125, (1, 0), 3.5, 3.0)
    nan = torch.tensor([1.0, float("nan")])
    assert compare(nan, nan)[0] == 0
    assert compare(nan, torch.ones(2))[1] == float("inf")
    assert compare(torch.ones(2), torch.ones(3))[1] == float("inf")
    assert compare(torch.zeros(2), torch.zeros(2))[1] == 0
    assert compare(torch.ones(2), torch.ones(2) + 1, min_scale=10.0).relative == 0.1


def test_cosine():
    a = torch.tensor([3.0, 0.0])
    assert cosine(2 * a, a) == 1 and cosine(-a, a) == -1 and cosine(a.flip(0), a) == 0
    assert cosine(0 * a, 0 * a) == 1 and cosine(0 * a, a) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_ulps_count_the_steps_between_two_numbers(dtype):
    a = torch.tensor([1.0, 1.9, 1024.0, 3e-5, -7.0, 1e-30], dtype=dtype)
    whole = {torch.float64: torch.int64, torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    for steps in (0, 1, 3):
        b = (a.view(whole) + steps).view(dtype)  # the next numbers, by their bits
        assert ulps(b, a, dtype) == (steps, steps)
    b = a.clone()
    b[0] += torch.finfo(dtype).eps
    assert ulps(b, a, dtype) == (0, 1)


def test_relative_differences_are_over_the_largest_entry():
    a = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    assert relative_differences(a + 1, a).tolist() == [0.25] * 4
    assert relative_differences(torch.ones(2), torch.zeros(2)).tolist() == [1.0, 1.0]
    assert relative_differences(torch.ones(0), torch.ones(0)).shape == (0,)


def test_tensors_of_other_shapes_have_no_cosine_and_no_ulps():
    a, b = torch.ones(2), torch.ones(3)
    assert cosine(a, b) != cosine(a, b) and ulps(a, b, torch.float32)[0] != ulps(a, b, torch.float32)[0]
    assert ulps(torch.ones(0), torch.ones(0), torch.float32) == (0.0, 0.0)
    assert compare(torch.ones(0), torch.ones(0)) == (0.0, 0.0, (), 0.0, 0.0)


def test_differences_that_rounding_explains_are_allowed_and_no_larger_ones():
    assert tolerance(torch.float64, 10_000) == 4 * 2**-52 * 101
    assert tolerance(torch.float64, 10_000, layers=7) == 7 * tolerance(torch.float64, 10_000)
    assert tolerance(torch.bfloat16, 100) == 4 * (2**-7 + 10 * 2**-23)  # sums are in float32
    x = torch.randn(4, 5, dtype=torch.float64)
    for off, ok in ((1e-15, True), (1e-12, False)):
        layer = Linear(5, 5).to(torch.float64)
        right = layer.backward
        layer.backward = lambda saved, dy, right=right, off=off: (
            right(saved, dy)[0] * (1 + off),
            right(saved, dy)[1],
        )
        assert check(layer, x, samples=0).ok == ok
