"""The contract's own parts: options of backward, names of tensors, what torch has, printing, blocks."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nets.common.errors import BatchError, CheckpointError
from nets.kernels import lower, native
from nets.layers.activations import ReLU, Scale, Sigmoid
from nets.layers.base import Layer, SavesInput, blocks, run_backward
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.registry import LAYERS, examples
from nets.layers.whiten import Whiten2d

NEEDS_COMPILER = pytest.mark.skipif(native.library() is None, reason="no compiler here")
PRODUCTS = (
    "mm",
    "bmm",
    "convolution",
    "convolution_backward",
    "conv_input_gradient",
    "conv_pool_input_gradient",
)


class Calls(TorchDispatchMode):
    """The names of the operators that run, in order, with the wanted outputs of a convolution's backward."""

    def __init__(self):
        super().__init__()
        self.names, self.masks = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__.split(".")[0])
        if self.names[-1] == "convolution_backward":
            self.masks.append(args[-1])
        return func(*args, **(kwargs or {}))

    def products(self):
        return [name for name in self.names if name in PRODUCTS]


IMAGES, ROWS = (2, 3, 6, 6), (2, 3)
LEAVE_OUT = [  # (layer, backend, shape of x, products of a whole backward, of one without dx)
    (lambda: Linear(3, 4), "reference", ROWS, ["mm", "mm"], ["mm"]),
    (lambda: Conv2d(3, 4, 3), "reference", IMAGES, ["mm", "convolution"], ["mm"]),
    (lambda: Whiten2d(3), "reference", IMAGES, ["convolution"], []),
    (lambda: Conv2d(3, 4, 3), "torch", IMAGES, ["convolution_backward"], ["convolution_backward"]),
    pytest.param(
        *(lambda: Conv2d(3, 4, 3, padding=1), "native", IMAGES, ["conv_input_gradient"], []),
        marks=NEEDS_COMPILER,
    ),
    pytest.param(
        *(lambda: Sequential(Conv2d(3, 4, 3, padding=1), MaxPool2d(2)), "native", IMAGES),
        *(["conv_pool_input_gradient"], []),
        marks=NEEDS_COMPILER,
    ),
    pytest.param(
        *(lambda: Sequential(Whiten2d(3), ReLU()), "native", IMAGES, ["convolution"], []),
        marks=NEEDS_COMPILER,
    ),
]


@pytest.mark.parametrize("make, backend, shape, whole, without", LEAVE_OUT)
def test_without_input_grad_dx_and_its_products_are_left_out(make, backend, shape, whole, without):
    layer, x = lower(make(), backend, "cpu", torch.float32), torch.randn(shape)
    y, saved = layer.forward(x)
    dy = torch.randn_like(y)
    with Calls() as full:
        dx, grads = run_backward(layer, saved, dy, keep=True)
    with Calls() as less:
        no_dx, same = run_backward(layer, saved, dy, input_grad=False)
    assert dx.shape == x.shape and no_dx is None
    assert full.products() == whole and less.products() == without
    assert [mask[0] for mask in full.masks + less.masks] in ([], [True, False])
    assert same.keys() == grads.keys() == layer.params.keys()
    assert all(torch.equal(same[k], grads[k]) for k in grads)


def test_run_backward_passes_only_the_options_that_a_backward_takes():
    class Plain(Layer):
        def forward(self, x):
            return x, None

        def backward(self, saved, dy):
            return dy, {}

    class Keeps(Plain):
        def backward(self, saved, dy, keep=False):
            return (dy, keep), {}

    dy = torch.ones(2)
    assert run_backward(Plain(), None, dy, input_grad=False, keep=True)[0] is dy
    assert run_backward(Keeps(), None, dy, input_grad=False, keep=True)[0] == (dy, True)
    assert run_backward(Keeps(), None, dy)[0] == (dy, False)
    assert Plain.backward_options == frozenset() and Keeps.backward_options == {"keep"}
    assert Linear.backward_options == {"input_grad"}


def test_layers_have_no_flags_for_the_gradients_that_are_wanted():
    """Which gradients are wanted is said to backward."""
    for layer in (Linear(3, 4), Conv2d(3, 4, 3), Whiten2d(3), Sequential(Linear(3, 4), ReLU())):
        assert not {"input_grad", "frozen", "freeze", "hold", "kernel"} & set(dir(layer))


def test_a_layer_without_forward_or_backward_says_so():
    with pytest.raises(NotImplementedError, match="Layer has no forward"):
        Layer().forward(None)
    with pytest.raises(NotImplementedError, match="Layer has no backward"):
        Layer().backward(None, None)


def test_calling_a_layer_gives_y_alone():
    layer, x = Linear(3, 2), torch.randn(4, 3)
    assert torch.equal(layer(x), layer.forward(x)[0])


class Leaky(ReLU):
    """Derived from a layer that torch has, with a forward of its own."""

    def forward(self, x):
        return torch.where(x > 0, x, 0.1 * x), x <= 0


class Renamed(ReLU):
    """The same function under another name."""


class OwnModule(Leaky):
    def to_torch(self, **_):
        return nn.LeakyReLU(0.1)


def test_only_a_class_whose_forward_is_described_has_a_torch_module():
    assert ReLU.has_torch() and Renamed.has_torch() and OwnModule.has_torch()
    assert not Leaky.has_torch() and not Layer.has_torch()


def test_methods_describe_the_forward_that_they_were_written_for():
    class Doubles(Scale):
        def forward(self, x):
            return 2 * x, x

        def output(self, saved):
            return 2 * saved

        def drop_input(self, saved):
            return None

        def to_torch(self, **_):
            return nn.Identity()

        def to_reference(self, **_):
            return nn.Tanh()

    class Child(Doubles):
        pass

    class Halves(Doubles):
        def forward(self, x):
            return x / 2, x

    class Converted(Halves):
        def to_torch(self, **_):
            return nn.Sigmoid()

    class Mixed(SavesInput, Halves):
        def forward(self, x):
            return x, x

    everything = {"output", "drop_input", "to_torch", "to_reference"}
    assert Doubles.described == Child.described == everything and Halves.described == frozenset()
    assert Child.recomputes_output() and not Halves.recomputes_output()
    assert Child.to_reference is Doubles.to_reference
    assert Converted.described == {"to_torch"} and Converted.to_reference is Layer.to_reference
    assert Mixed.described == {"drop_input"} and Mixed.saves_input()


def test_train_and_eval_set_the_mode_and_give_the_layer():
    layer = Dropout(0.5)
    assert layer.training and layer.eval() is layer and not layer.training
    assert layer.train() is layer and layer.training


def test_state_dict_has_parameters_and_buffers_by_name():
    norm = BatchNorm2d(3)
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert norm.state_dict()["bias"] is norm.params["bias"]
    net = Sequential(Linear(2, 3), BatchNorm2d(3))
    assert "1.running_mean" in net.state_dict() and "0.weight" in net.state_dict()


def test_load_state_dict_copies_into_the_tensors_of_the_net():
    net, other = (Sequential(Linear(2, 3), BatchNorm2d(3)) for _ in range(2))
    places = {k: t.data_ptr() for k, t in net.state_dict().items()}
    assert net.load_state_dict(other.state_dict()) is net
    assert all(torch.equal(t, other.state_dict()[k]) for k, t in net.state_dict().items())
    assert {k: t.data_ptr() for k, t in net.state_dict().items()} == places
    net.load_state_dict({k: t.double() for k, t in other.state_dict().items()})
    assert {t.dtype for t in net.state_dict().values()} == {torch.float32}
    assert not set(places.values()) & {t.data_ptr() for t in other.state_dict().values()}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("bias"), "state: has no tensor bias"),
        (lambda s: s.update(extra=torch.ones(1)), "state: the net has no extra"),
        (lambda s: s.update(weight=torch.ones(3, 3)), r"state: weight is \(3, 3\), not \(3, 2\)"),
    ],
)
def test_load_state_dict_names_the_tensor_that_does_not_fit(change, message):
    layer = Linear(2, 3)
    state = {k: torch.zeros_like(t) for k, t in layer.state_dict().items()}
    change(state)
    with pytest.raises(CheckpointError, match=f"^{message}$"):
        layer.load_state_dict(state)
    assert layer.params["weight"].any()  # nothing has been copied


def test_a_net_is_printed_as_torch_prints_it():
    ours = Sequential(Linear(4, 16), ReLU(), Sequential(Conv2d(3, 4, 3, 2, 1, bias=False), Sigmoid()))
    theirs = nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.Sigmoid())
    )
    assert repr(ours) == repr(theirs)
    assert repr(Linear(2, 3, bias=False)) == "Linear(in_features=2, out_features=3, bias=False)"
    assert repr(BatchNorm2d(3)) == "BatchNorm2d(num_features=3, eps=1e-05, momentum=0.1, affine=True)"
    assert repr(Dropout(0.3)) == "Dropout(p=0.3)" and repr(Flatten()) == "Flatten()"


def test_layers_that_recompute_nothing_say_so():
    for call in (
        lambda: ReLU().output(None),
        lambda: ReLU().drop_input(None),
        lambda: ReLU().add_input(None, 1),
    ):
        with pytest.raises(NotImplementedError, match="ReLU doesn't"):
            call()


@pytest.mark.parametrize("cls", [cls for cls in LAYERS.values() if cls.recomputes_output()])
@pytest.mark.parametrize("training", [True, False])
def test_an_output_that_is_recomputed_is_the_same(cls, training):
    for _, layer, shape in examples(cls):
        y, saved = layer.train(training).forward(torch.randn(shape))
        torch.testing.assert_close(layer.output(saved), y)


def test_a_batch_error_is_also_a_value_error():
    assert issubclass(BatchError, ValueError)


def test_blocks_split_samples_on_the_cpu_alone(monkeypatch):
    def sizes(n, **options):
        device = options.pop("device", "cpu")
        pairs = list(blocks(torch.empty(n, 3, device=device), torch.empty(n, device=device), **options))
        assert all(len(a) == len(b) for a, b in pairs)
        return [len(a) for a, _ in pairs]

    assert sizes(8, sample_size=2, block_size=6) == [3, 3, 2]
    assert sizes(8, sample_size=1, block_size=4) == [4, 4]
    assert sizes(4, block_size=6) == [2, 2]  # each sample has 3 numbers
    assert sizes(3, sample_size=9, block_size=4) == [1, 1, 1]
    assert sizes(8, sample_size=0, block_size=4) == [4, 4]
    assert sizes(0, sample_size=1) == [0] == sizes(0, sample_size=1, device="meta")
    assert sizes(8, sample_size=1, block_size=4, device="meta") == [8]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert sizes(8, sample_size=1, block_size=4) == [8]
