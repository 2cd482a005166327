"""A gradient against finite differences, and what counts as a kink."""

import pytest
import torch

from nets.gradcheck import check
from nets.gradcheck.probes import along, is_kink, sampled
from nets.layers.activations import Tanh
from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.layers.linear import Linear


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e7, 1e12])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("error, wrong", [(0.0, False), (0.01, True)])
def test_the_step_suits_the_size_of_the_entries_and_of_the_value(size, offset, error, wrong):
    t = size * torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = sampled(lambda: t**2 + offset * size**2, t, 2 * t * (1 + error), samples=5)
    assert (found.excess > 0) == wrong and found.kinks == 0


def test_a_slope_that_rounding_hides_is_not_resolved():
    t = torch.full((3,), 40.0, dtype=torch.float64)
    claimed = torch.full_like(t, 1e-18)
    found = sampled(lambda: torch.tanh(t), t, claimed, samples=3)
    assert found.relative is None and not found.excess
    assert sampled(lambda: t.detach() * 0 + 1, t, claimed, samples=3).excess  # no step moves this one


@pytest.mark.parametrize("part", [1, 90])
def test_a_wrong_part_of_a_large_tensor_is_found_along_a_direction(part):
    for seed in range(20):
        t = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        manual = torch.cos(t)
        assert not along(lambda t=t: torch.sin(t), t, manual, seed).excess
        manual[:part] *= 1.5
        assert along(lambda t=t: torch.sin(t), t, manual, seed).excess


@pytest.mark.parametrize("error, found", [(0.0, False), (1e-3, True)])
def test_sampled_finds_a_wrong_entry(error, found):
    t = torch.randn(4, dtype=torch.float64)
    manual = 2 * t * (1 + error)
    result = sampled(lambda: (t**2).sum().item(), t, manual, samples=4)
    assert (result.excess > 0) == found and result.kinks == 0


def test_sampled_takes_any_slope_at_a_kink_and_counts_it():
    t = torch.zeros(1, dtype=torch.float64)
    for slope, right in ((0.3, True), (-1.0, True), (1.5, False)):
        found = sampled(lambda: t.abs().sum().item(), t, torch.tensor([slope]).double(), samples=1)
        assert (found.excess == 0) == right and found.kinks == 1


def test_a_gradient_that_is_not_finite_or_of_another_shape_is_no_kink():
    t = torch.zeros(2, dtype=torch.float64)
    value, everywhere = (lambda: t.abs().sum().item()), torch.ones(2, dtype=torch.bool)
    assert is_kink(value, t, torch.zeros(2).double(), everywhere)
    assert not is_kink(value, t, torch.full((2,), float("nan")).double(), everywhere)
    assert not is_kink(value, t, torch.zeros(3).double(), everywhere)


class Kink(Layer):
    """ReLU with a chosen slope at 0."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return torch.relu(x), x

    def backward(self, x, dy):
        return torch.where(x == 0, self.slope, (x > 0).to(x.dtype)) * dy, {}


@pytest.mark.parametrize(
    "slope, verdict", [(0.0, "ok"), (1.0, "kink"), (0.5, "kink"), (1.5, "WRONG"), (-0.1, "WRONG")]
)
def test_at_a_kink_any_slope_between_its_sides_is_no_error(slope, verdict):
    x = torch.randn(4, 5, dtype=torch.float64)
    x[::2, ::2] = 0
    report = check(Sequential(Linear(5, 5, bias=False), Kink(slope)).to(torch.float64), x)
    assert report.ok
    net_ = Sequential(Kink(slope), Tanh()).to(torch.float64)
    report = check(net_, x)
    assert report.kinks == (["0 (Kink), input"] if verdict == "kink" else [])
    assert report.ok == (verdict != "WRONG") and ("at kinks" in report.table()) == (verdict == "kink")


class Tied(Layer):
    """The largest of a row; on a tie `give` says which entries get dy."""

    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, x):
        return x.max(1, keepdim=True).values, x

    def backward(self, x, dy):
        return self.give(x == x.max(1, keepdim=True).values) * dy, {}


@pytest.mark.parametrize(
    "give, verdict",
    [
        (lambda tie: tie & (tie.cumsum(1) == 1), "ok"),  # the first, as torch's max has it
        (lambda tie: tie / tie.sum(1, keepdim=True), "kink"),  # all, a share each
        (lambda tie: tie & (tie.flip(1).cumsum(1).flip(1) == 1), "kink"),  # the last
        (lambda tie: tie.double(), "WRONG"),  # each of them, which counts dy twice
        (lambda tie: tie & (tie.sum(1, keepdim=True) == 1), "WRONG"),  # none of them
    ],
)
def test_on_a_tie_one_winner_or_shares_of_it_are_no_error(give, verdict):
    x = torch.randn(6, 4, dtype=torch.float64)
    x[::2, 1] = x[::2, 3] = 5.0
    report = check(Tied(give), x)
    assert {row.name: row.verdict for row in report.rows} == {"Tied, input": verdict}
