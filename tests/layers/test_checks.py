"""What every layer refuses: dtypes of x, shapes and dtypes of dy, and values of params."""

import pytest
import torch

from nets.common.errors import BatchError
from nets.layers.base import Layer, run_backward
from nets.layers.checks import Tensors, check_dy, takes_floats
from nets.layers.containers import Net, Residual, Sequential
from nets.layers.linear import Flatten, Linear
from nets.layers.registry import LAYERS
from tests.helpers import make_layer

EXAMPLES = [(cls, *example) for cls in LAYERS.values() for example in cls.examples[:1]]
IDS = [cls.__name__ for cls, *_ in EXAMPLES]
INTEGERS = [torch.uint8, torch.int32, torch.int64, torch.bool]


class Mine(Layer):
    """A layer of one's own, y = x."""

    def forward(self, x):
        return x, None

    def backward(self, saved, dy):
        return dy, {}


class Lookup(Mine):
    takes_integers = True

    def forward(self, x):
        return x.float(), None


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.complex64])
@pytest.mark.parametrize("cls, shape, options", EXAMPLES, ids=IDS)
def test_every_layer_refuses_integers_and_complex_numbers(cls, shape, options, dtype):
    layer = make_layer(cls, options)
    if layer.takes_integers and dtype in (torch.int32, torch.int64):
        return
    hint = "" if dtype.is_complex else r"; convert them with .float\(\)"
    with pytest.raises(BatchError, match=f"takes .*not {str(dtype).removeprefix('torch.')}{hint}$"):
        layer.forward(torch.ones(shape, dtype=dtype))


@pytest.mark.parametrize(
    "net", [Mine(), Sequential(Mine()), Residual(Mine()), Sequential(Sequential(Mine()))]
)
def test_a_layer_of_ones_own_refuses_them_too(net):
    with pytest.raises(
        BatchError, match=r"takes floating-point numbers, not int64; convert them with .float\(\)"
    ):
        net.forward(torch.ones(3, 4, dtype=torch.int64))


def test_a_forward_from_a_mixin_is_checked_and_an_inherited_one_once():
    class Doubles:
        def forward(self, x):
            return 2 * x, None

    class Double(Doubles, Layer):
        pass

    class Child(Double):
        pass

    assert Child.forward is Double.forward and Double.forward.__wrapped__ is Doubles.forward
    with pytest.raises(BatchError, match="Child takes"):
        Child().forward(torch.ones(2, dtype=torch.int64))


def test_integers_inside_a_net_are_refused_where_they_appear():
    class Round(Mine):
        def forward(self, x):
            return x.round().long(), None

    with pytest.raises(BatchError, match="Linear takes floating-point numbers, not int64"):
        Sequential(Round(), Linear(3, 2)).forward(torch.randn(2, 3))


def test_a_layer_that_takes_integers_says_so_and_so_does_a_net_that_begins_with_it():
    for net in (Lookup(), Sequential(Lookup(), Linear(3, 2)), Sequential(Sequential(Lookup()))):
        assert net.takes_integers
        assert net(torch.ones(2, 3, dtype=torch.int64)).dtype == torch.float32
        for dtype in (torch.bool, torch.complex64):
            with pytest.raises(BatchError, match="takes floating-point numbers"):
                net.forward(torch.ones(2, 3, dtype=dtype))
    assert not Sequential(Linear(3, 3), Lookup()).takes_integers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_point_dtype_passes(dtype):
    x = torch.ones(2, 3, dtype=dtype)
    assert Mine().forward(x)[0] is x and Mine().forward(x=x)[0] is x


LEAVES = [(cls, *rest) for cls, *rest in EXAMPLES if not issubclass(cls, Net)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cls, shape, options", LEAVES, ids=[cls.__name__ for cls, *_ in LEAVES])
def test_every_layer_refuses_a_dy_of_another_shape(cls, shape, options, training):
    layer = make_layer(cls, options).train(training)
    x = torch.zeros(shape, dtype=torch.int64) if layer.takes_integers else torch.randn(shape)
    y, saved = layer.forward(x)
    others = [y[:1], y[..., :1], torch.cat([y, y]), y[0], y[None]]
    for dy in (t for t in others if t.shape != y.shape):
        name = cls.__name__ if type(layer) is cls else ""  # an example may be a graph with such a layer
        with pytest.raises(BatchError, match=f"{name}.*dy is"):
            run_backward(layer, saved, dy, keep=True)
    with pytest.raises(BatchError, match="dy must be floating-point, not torch.int64"):
        run_backward(layer, saved, torch.ones(y.shape, dtype=torch.int64), keep=True)
    layer.backward(saved, torch.ones_like(y))


def test_a_net_refuses_it_where_it_begins():
    net = Sequential(Flatten(), Linear(4, 3))
    with pytest.raises(BatchError, match=r"Linear: dy is \(1, 3\), and y was \(5, 3\)"):
        net.backward(net.forward(torch.randn(5, 2, 2))[1], torch.ones(1, 3))


def test_check_dy_names_both_shapes():
    check_dy(Mine(), torch.ones(2, 3), (2, 3))
    with pytest.raises(BatchError, match=r"^Mine: dy is \(3,\), and y was \(2, 3\)$"):
        check_dy(Mine(), torch.ones(3), (2, 3))


def test_parameters_are_floating_point_tensors():
    layer = Linear(2, 3)
    with pytest.raises(TypeError, match=r'^Linear: params\["bias"\] is None, not a tensor; leave it out$'):
        layer.params["bias"] = None
    with pytest.raises(TypeError, match=r'^Linear: params\["n"\] must be floating-point, not torch.int64$'):
        layer.params["n"] = torch.tensor([2])
    with pytest.raises(TypeError, match=r'^Linear: buffers\["n"\] is 3, not a tensor'):
        layer.buffers["n"] = 3
    layer.buffers["n"] = torch.tensor([2])
    assert isinstance(layer.params, Tensors) and layer.params.keys() == {"weight", "bias"}


def test_the_decorator_keeps_name_and_signature():
    assert (
        Linear.forward.__name__ == "forward" and Linear.forward.__doc__ == Linear.forward.__wrapped__.__doc__
    )
    assert takes_floats(lambda self, x, y=2: (x, y))(None, torch.ones(1), y=3)[1] == 3
