"""Losses against torch.nn.functional: the number and its gradient."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from nets.common.errors import BatchError
from nets.gradcheck import compare
from nets.losses import CrossEntropyLoss, Loss, MSELoss, Performance
from nets.training import config, make


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_agrees_with_torch(smoothing, reduction):
    z = (torch.randn(7, 5, dtype=torch.float64) * 10).requires_grad_()
    target = torch.randint(5, (7,))
    want = F.cross_entropy(z, target, label_smoothing=smoothing, reduction=reduction)
    (dwant,) = torch.autograd.grad(want, z)
    loss, dz = CrossEntropyLoss(smoothing, reduction)(z.detach(), target)
    assert compare(loss, want)[1] < 1e-12
    assert compare(dz, dwant)[1] < 1e-10


def test_cross_entropy_of_bfloat16_is_summed_in_float32():
    z, target = torch.randn(7, 5).bfloat16(), torch.randint(5, (7,))
    loss, dz = CrossEntropyLoss(0.2)(z, target)
    assert loss.dtype == torch.float32 and dz.dtype == torch.bfloat16
    want = F.cross_entropy(z.float(), target, label_smoothing=0.2)
    assert compare(loss, want)[1] < 1e-6


def test_cross_entropy_of_huge_logits_stays_finite():
    loss, dz = CrossEntropyLoss()(torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert loss == 2e4 and torch.equal(dz, torch.tensor([[1.0, -1.0]]))


def test_cross_entropy_of_a_logit_of_minus_infinity_is_finite_with_gradient_zero():
    z = torch.tensor([[0.5, float("-inf"), 0.0]])
    loss, dz = CrossEntropyLoss()(z, torch.tensor([0]))
    assert loss == F.cross_entropy(z, torch.tensor([0])) and dz[0, 1] == 0


def test_performance_is_the_lectures_measure():
    """P = −½‖d − z‖²: the lecture's, to be maximized."""
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    d = torch.randn(4, 3, dtype=torch.float64)
    want = -0.5 * ((d - z) ** 2).sum()
    value, dz = Performance()(z.detach(), d)
    assert compare(value, want)[1] < 1e-12
    assert compare(dz, torch.autograd.grad(want, z)[0])[1] < 1e-12
    assert Performance.maximize and not CrossEntropyLoss.maximize


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(4, 3), (5,), (), (2, 3, 4, 5)])
def test_mean_squared_error_agrees_with_torch(shape, reduction):
    z = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    d = torch.randn(shape, dtype=torch.float64)
    want = F.mse_loss(z, d, reduction=reduction)
    value, dz = MSELoss(reduction)(z.detach(), d)
    assert compare(value, want)[1] < 1e-12
    assert compare(dz, torch.autograd.grad(want, z)[0])[1] < 1e-12
    assert not MSELoss.maximize


def test_mean_squared_error_of_bfloat16_is_summed_in_float32():
    z, d = torch.randn(64, 32).bfloat16(), torch.randn(64, 32).bfloat16()
    loss, dz = MSELoss()(z, d)
    assert loss.dtype == torch.float32 and dz.dtype == torch.bfloat16
    assert compare(loss, F.mse_loss(z.float(), d.float()))[1] < 1e-6


def test_performance_of_bfloat16_is_summed_in_float32():
    z, d = torch.randn(64, 32).bfloat16(), torch.randn(64, 32).bfloat16()
    value, dz = Performance()(z, d)
    assert value.dtype == torch.float32 and dz.dtype == torch.bfloat16
    assert compare(value, -0.5 * ((d.float() - z.float()) ** 2).sum())[1] < 1e-6


@pytest.mark.parametrize("target", [[2, 0, 1, 1], [1, 0, 0, 1]])  # the last class may be missing
@pytest.mark.parametrize("loss", [Performance(), MSELoss(), MSELoss("sum")])
def test_classes_are_taken_as_one_hot_outputs(loss, target):
    z, target = torch.rand(4, 3), torch.tensor(target)
    for many in (z, torch.rand(2, 4, 3)):
        classes = target.expand(many.shape[:-1])
        a, b = loss(many, classes), loss(many, torch.eye(3)[classes])
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


LOSSES = {"cross_entropy": CrossEntropyLoss, "performance": Performance, "mse": MSELoss}


EVERY = [
    *(cls() for cls in LOSSES.values()),
    MSELoss("sum"),
    CrossEntropyLoss(0.2, "sum"),
    CrossEntropyLoss(0.3),
]


@pytest.mark.parametrize("classes", [[2, 0, 1, 1], [1, 0, 0, 1]])  # the last class may be missing
@pytest.mark.parametrize("loss", EVERY)
def test_torch_loss_is_the_same_number(loss, classes):
    z, classes = torch.randn(4, 3, dtype=torch.float64), torch.tensor(classes)
    pairs = [(z, classes)]
    if not isinstance(loss, CrossEntropyLoss):
        many = torch.randn(2, 4, 3, dtype=torch.float64)
        pairs += [(z, torch.rand(4, 3).double()), (z, torch.rand(4, 3)), (many, classes.expand(2, 4))]
    for z, target in pairs:
        assert compare(loss(z, target)[0], loss.torch_loss(z, target))[1] < 1e-12


def test_torch_loss_has_the_dtype_of_the_sums_or_of_the_output():
    z = torch.randn(4, 3).bfloat16()
    assert CrossEntropyLoss().torch_loss(z, torch.tensor([2, 0, 1, 1])).dtype == torch.float32
    for loss in (MSELoss(), Performance()):
        assert loss.torch_loss(z, torch.rand(4, 3)).dtype == torch.bfloat16
        assert loss.torch_loss(z, torch.tensor([2, 0, 1, 1])).dtype == torch.bfloat16


@pytest.mark.parametrize("name", LOSSES)
def test_a_config_chooses_the_loss(name):
    conf = config.load(Path(__file__).parents[1] / "configs" / "dense.toml", [f"train.loss={name}"])
    assert type(make.make_loss(conf, classes=True)) is LOSSES[name]


@pytest.mark.parametrize("loss", [Performance(), MSELoss()])
@pytest.mark.parametrize("target", [torch.rand(4, 1), torch.rand(3), torch.rand(4), torch.tensor([1, 2])])
def test_a_target_must_have_the_shape_of_the_output(loss, target):
    """It isn't broadcast: that would be another loss."""
    with pytest.raises(BatchError, match=r"shaped as the output, .*not .* for \(4, 3\)"):
        loss(torch.rand(4, 3), target)


@pytest.mark.parametrize(
    "z, target",
    [
        (torch.rand(3), torch.tensor(1)),
        (torch.rand(2, 3, 4), torch.ones(2, 4, dtype=torch.int64)),
        (torch.rand(2, 3), torch.rand(2, 3)),
        (torch.rand(2, 3), torch.rand(2)),
        (torch.rand(2, 3), torch.tensor([1])),
    ],
)
def test_cross_entropy_takes_logits_and_classes(z, target):
    with pytest.raises(BatchError, match=r"takes logits \(N, K\) and classes \(N\) of int64, not \("):
        CrossEntropyLoss()(z, target)


@pytest.mark.parametrize(
    "wrong", [dict(reduction="none"), dict(label_smoothing=1.5), dict(label_smoothing=-0.5)]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}:"):
        CrossEntropyLoss(**wrong)
    if "reduction" in wrong:
        with pytest.raises(ValueError, match="^reduction:"):
            MSELoss(**wrong)


@pytest.mark.parametrize(
    "loss", [Performance(), MSELoss(), CrossEntropyLoss(0.1)], ids=lambda v: type(v).__name__
)
def test_dz_is_the_slope_of_the_loss(loss):
    """By central differences, along random directions."""
    z, target = torch.randn(4, 3, dtype=torch.float64), torch.tensor([2, 0, 1, 1])
    _, dz = loss(z, target)
    for _ in range(5):
        direction = torch.randn_like(z)
        slope = (loss(z + 1e-6 * direction, target)[0] - loss(z - 1e-6 * direction, target)[0]) / 2e-6
        assert slope.item() == pytest.approx((dz * direction).sum().item(), rel=1e-6, abs=1e-8)


def test_a_loss_of_ones_own_is_differentiated_by_its_formula():
    class Absolute(Loss):
        def __call__(self, z, target):
            return (z - target).abs().sum(), (z - target).sign()

    z, target = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    Absolute().torch_loss(z, target).backward()
    assert torch.equal(z.grad, Absolute()(z.detach(), target)[1])
    assert not Absolute.maximize and Absolute.reduction == "sum"
    with pytest.raises(BatchError, match="Absolute takes floating-point numbers"):
        Absolute()(torch.ones(4, 3, dtype=torch.int64), target)
    assert type("Child", (Absolute,), {}).__call__ is Absolute.__call__  # checked once
    with pytest.raises(NotImplementedError, match="Loss has no formula"):
        Loss()(z, target)


class Absolute(Loss):
    def __call__(self, z, target):
        return (z - target).abs().sum(), (z - target).sign()


@pytest.mark.parametrize("loss", [*EVERY, Absolute()], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.complex64])
def test_every_loss_refuses_outputs_of_integers_and_complex_numbers(loss, dtype):
    with pytest.raises(BatchError, match=f"{type(loss).__name__} takes floating-point numbers, not"):
        loss(torch.ones(4, 3, dtype=dtype), torch.tensor([2, 0, 1, 1]))


@pytest.mark.parametrize("loss", EVERY, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("wrong", [-100, -1, 3])
def test_a_class_out_of_range_is_named(loss, wrong):
    with pytest.raises(BatchError, match=f"^classes are 0 to 2 for 3 outputs, not {wrong}$"):
        loss(torch.randn(4, 3), torch.tensor([2, 0, wrong, 1]))


@pytest.mark.parametrize("loss", [Performance(), MSELoss()], ids=lambda v: type(v).__name__)
def test_classes_are_along_the_last_axis_and_summed_in_float32(loss):
    z, target = torch.rand(4, 1, 3), torch.tensor([[2], [0], [1], [1]])
    for a, b in zip(loss(z, target), loss(z, torch.eye(3)[target]), strict=True):
        assert torch.equal(a, b)
    assert loss(z.bfloat16(), target)[0].dtype == torch.float32
    with pytest.raises(BatchError, match="^classes are 0 to 2 for 3 outputs, not 3$"):
        loss(z, target + 1)


def test_a_class_out_of_range_is_named_with_labels_smoothed_away():
    with pytest.raises(BatchError, match="not -100"):
        CrossEntropyLoss(1.0)(torch.randn(1, 3), torch.tensor([-100]))


@pytest.mark.parametrize("loss", [Performance(), MSELoss()], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("target", [[0, 0], [0, 1]])
def test_numbers_for_a_single_output_are_not_taken_for_classes(loss, target):
    words = r"one output is no class; give the target the output's shape, not outputs \(2, 1\) and .* \(2,\)"
    with pytest.raises(BatchError, match=words):
        loss(torch.rand(2, 1), torch.tensor(target))
    loss(torch.rand(2, 1), torch.tensor(target)[:, None])
