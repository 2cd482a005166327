"""Losses against torch.nn.functional: the number and its gradient."""

import pytest
import torch
from torch.nn import functional as F

from nets.gradcheck import compare
from nets.loss import CrossEntropy, Performance


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(smoothing, reduction):
    z = (torch.randn(7, 5, dtype=torch.float64) * 10).requires_grad_()
    target = torch.randint(5, (7,))
    want = F.cross_entropy(z, target, label_smoothing=smoothing, reduction=reduction)
    (dwant,) = torch.autograd.grad(want, z)
    loss, dz = CrossEntropy(smoothing, reduction)(z.detach(), target)
    assert compare(loss, want)[1] < 1e-12
    assert compare(dz, dwant)[1] < 1e-10


def test_cross_entropy_of_bfloat16_is_summed_in_float32():
    z, target = torch.randn(7, 5).bfloat16(), torch.randint(5, (7,))
    loss, dz = CrossEntropy(0.2)(z, target)
    assert loss.dtype == torch.float32 and dz.dtype == torch.bfloat16
    want = F.cross_entropy(z.float(), target, label_smoothing=0.2)
    assert compare(loss, want)[1] < 1e-6


def test_cross_entropy_of_huge_logits_stays_finite():
    loss, dz = CrossEntropy()(torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert loss == 2e4 and torch.equal(dz, torch.tensor([[1.0, -1.0]]))


def test_a_class_that_is_ruled_out_costs_nothing():
    z = torch.tensor([[0.5, float("-inf"), 0.0]])
    loss, dz = CrossEntropy()(z, torch.tensor([0]))
    assert loss == F.cross_entropy(z, torch.tensor([0])) and dz[0, 1] == 0


def test_performance():
    """P = −½‖d − z‖²: the lecture's, climbed."""
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    d = torch.randn(4, 3, dtype=torch.float64)
    want = -0.5 * ((d - z) ** 2).sum()
    value, dz = Performance()(z.detach(), d)
    assert compare(value, want)[1] < 1e-12
    assert compare(dz, torch.autograd.grad(want, z)[0])[1] < 1e-12
    assert Performance.maximize and not CrossEntropy.maximize


def test_performance_of_classes():
    z, target = torch.rand(4, 3), torch.tensor([2, 0, 1, 1])
    a, b = Performance()(z, target), Performance()(z, torch.eye(3)[target])
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.mark.parametrize("wrong", [dict(reduction="none"), dict(label_smoothing=1.5)])
def test_bad_options(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CrossEntropy(**wrong)
