"""Each breach of the contract is reported, and no layer or form of ours has one."""

import pytest
import torch

from nets.commands.targets import LOSSES, cases
from nets.gradcheck import breaches, check
from nets.kernels import lower
from nets.layers.activations import GELU, ReLU
from nets.layers.base import Layer
from nets.layers.containers import Net, Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.whiten import Whiten2d
from tests.helpers import subjects

X = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
ORIGINAL = X.clone()
PICTURES = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


class Square(Layer):
    """y = a·x², as it should be."""

    def __init__(self):
        super().__init__()
        self.params["a"] = torch.full((1,), 1.5, dtype=torch.float64)

    def forward(self, x):
        return self.params["a"] * x * x, x

    def backward(self, x, dy):
        return 2 * self.params["a"] * x * dy, {"a": (dy * x * x).sum().reshape(1)}


class WritesInForward(Square):
    def forward(self, x):
        self.count = getattr(self, "count", 0) + 1
        return super().forward(x)


class WritesParamsInForward(Square):
    def forward(self, x):
        self.params["a"] += 1
        return super().forward(x)


class ChangesX(Square):
    def forward(self, x):
        y = super().forward(x.clone())
        x.mul_(2)
        return y


class Narrows(Square):
    def forward(self, x):
        return super().forward(x)[0].float(), x


class WritesInBackward(Square):
    def backward(self, x, dy):
        self.last = dy
        return super().backward(x, dy)


class WritesBuffersInBackward(Square):
    def __init__(self):
        super().__init__()
        self.buffers["n"] = torch.zeros(())

    def backward(self, x, dy):
        self.buffers["n"] += 1
        return super().backward(x, dy)


class ChangesDy(Square):
    def backward(self, x, dy):
        right = super().backward(x, dy.clone())
        if not dy.is_contiguous():
            return right  # what is expanded can't be written to
        dy.zero_()
        return right


class ChangesSaved(Square):
    def forward(self, x):
        return super().forward(x)[0], x.clone()

    def backward(self, x, dy):
        right = super().backward(x.clone(), dy)
        x.zero_()
        return right


class Draws(Square):
    def backward(self, x, dy):
        dx, grads = super().backward(x, dy)
        return dx * (torch.rand_like(dx) < 0.5), grads


class Extra(Square):
    def backward(self, x, dy):
        dx, grads = super().backward(x, dy)
        return dx, grads | {"b": grads["a"]}


class Missing(Square):
    def backward(self, x, dy):
        return super().backward(x, dy)[0], {}


class Shapeless(Square):
    def backward(self, x, dy):
        dx, grads = super().backward(x, dy)
        return dx, {"a": grads["a"].squeeze()}


class OtherType(Square):
    def backward(self, x, dy):
        dx, grads = super().backward(x, dy)
        return dx.float(), grads


class NotLinear(Square):
    def backward(self, x, dy):
        dx, grads = super().backward(x, dy)
        return dx.clamp(-1, 1), grads


class ByStrides(Square):
    """Reads dy's memory in its order, whatever its strides."""

    def backward(self, x, dy):
        flat = dy.as_strided(dy.shape, (dy.shape[1], 1) if dy.stride(1) else (0, 0))
        return super().backward(x, flat)


class Remembers(Square):
    """Keeps what backward needs in itself, where a second forward overwrites it."""

    memory = {}

    def forward(self, x):
        Remembers.memory["x"] = x
        return super().forward(x)[0], None

    def backward(self, saved, dy):
        return super().backward(Remembers.memory["x"], dy)


class NeedsSamples(Square):
    def backward(self, x, dy):
        dx, grads = super().backward(x, dy)
        return dx, {"a": dy[:1].reshape(1, -1)[0, :1] * 0 + grads["a"]} if len(dy) else {"a": dy[0]}


class OnesForNothing(Square):
    def backward(self, x, dy):
        dx, grads = super().backward(x, dy)
        return dx, grads if len(dy) else {"a": torch.ones(1, dtype=dy.dtype)}


class LosesLayout(Square):
    def backward(self, x, dy):
        dx, grads = super().backward(x, dy)
        return dx.contiguous(), grads


@pytest.mark.parametrize(
    "cls, message",
    [
        (WritesInForward, "writes to itself in forward"),
        (WritesParamsInForward, "writes to itself in forward"),
        (ChangesX, "changes x in forward"),
        (Narrows, "turns torch.float64 into torch.float32"),
        (WritesInBackward, "writes to itself in backward"),
        (WritesBuffersInBackward, "writes to itself in backward"),
        (ChangesDy, "changes dy in backward"),
        (ChangesSaved, "changes saved in backward"),
        (Draws, "gives another gradient in a second backward of one forward"),
        (Extra, "gives a gradient for b, which is no parameter"),
        (Missing, "gives no gradient for a"),
        (Shapeless, "gives a gradient of shape () for a, which has (1,)"),
        (OtherType, "gives a gradient of torch.float32 for dx, which has torch.float64"),
        (NotLinear, "is not linear in dy"),
        (ByStrides, "gives another gradient for the same dy when it is strided"),
        (ByStrides, "gives another gradient for the same dy when it is expanded"),
        (Remembers, "forgets its first forward at a second, and so can't be used twice in a net"),
        (
            NeedsSamples,
            "can't take a batch of no samples (IndexError: index 0 is out of bounds for dimension 0",
        ),
        (OnesForNothing, "gives a gradient other than 0 for a batch of no samples"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_a_breach_is_reported(cls, message):
    assert breaches(Square(), X) == []
    found = breaches(cls(), X)
    assert any(b.startswith(message) for b in found), found
    report = check(cls(), X, strict=True)
    assert not report.ok and f"contract: {cls.__name__} {message}" in report.table()
    assert torch.equal(X, ORIGINAL)


@pytest.mark.parametrize("cls", [NeedsSamples, OnesForNothing, LosesLayout])
def test_a_breach_that_concerns_no_gradient_is_a_note(cls):
    report = check(cls(), PICTURES)
    assert report.ok and len(report.notes) == 1 and f"note: {report.notes[0]}" in report.table()
    assert not check(cls(), PICTURES, strict=True).ok


def test_what_follows_from_a_first_breach_is_left_out():
    assert len(breaches(ChangesX(), X)) == len(breaches(ChangesDy(), X)) == len(breaches(Draws(), X)) == 1


def test_a_lost_layout_is_reported():
    assert breaches(Square(), PICTURES) == []
    assert breaches(LosesLayout(), PICTURES) == ["loses channels_last in dx"]


class WritesInItsBackward(Net):
    """A net that writes to itself."""

    def forward(self, x):
        y, saved = self.children["a"].forward(x)
        return y, [saved]

    def backward(self, saved, dy, keep=False):
        dx, grads = self.children["a"].backward((list(saved) if keep else saved).pop(), dy)
        self.seen = dx
        return dx, {f"a.{k}": g for k, g in grads.items()}


def test_a_users_net_is_checked_too():
    net = Sequential(WritesInItsBackward(a=Linear(5, 3))).to(torch.float64)
    assert check(net, X).breaches == ["0 (WritesInItsBackward) writes to itself in backward"]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape, make, name, options", subjects())
def test_no_layer_or_form_breaks_the_contract(shape, make, name, options, dtype, training):
    layer = make().to(torch.promote_types(dtype, torch.float32)).train(training)
    assert breaches(layer, torch.randn(shape).to(dtype)) == []


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_native_form_breaks_the_contract(dtype, training):
    convs = [Conv2d(4, 4, 3, padding=1), MaxPool2d(2), BatchNorm2d(4), GELU(), Conv2d(4, 4, 3, padding=1)]
    net = lower(Sequential(Whiten2d(3), ReLU(), Conv2d(24, 4, 1), *convs), "native", "cpu", dtype).train(
        training
    )
    x = torch.randn(3, 3, 7, 8).to(dtype)
    for form in net:
        assert breaches(form, x) == [], form
        x = form(x)


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_breaks_the_contract(name):
    for case in cases(name):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            case = case.to(torch.device("cpu"), dtype)
            assert breaches(case.layer, case.x) == [], case.name


def test_the_checked_layer_is_left_as_it_was():
    layer = WritesParamsInForward()
    breaches(layer, X)
    assert layer.params["a"] == 1.5
