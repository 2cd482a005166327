"""Targets of one's own: module:callable, and what is wrong with one."""

import json
import sys
from pathlib import Path

import pytest

from nets.commands.gradcheck import main
from nets.common.errors import MismatchError, UsageError


def command(*args):
    main([*map(str, args)])


OWN = """
import torch
from nets.layers.base import Layer

class Square(Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
    def forward(self, x):
        if x.dim() != 2:
            raise ValueError("rows only")
        return x * x, x
    def backward(self, x, dy):
        return self.factor * x * dy, {}

def right():
    return Square(2)

def wrong():
    return Square(3), torch.randn(4, 5)

def broken():
    return 1 / 0

def number():
    return 7

class Own(BaseException):
    def __str__(self):
        raise ValueError("no")

def own():
    raise Own(1, 2)

class Raises(Square):
    def forward(self, x):
        raise Own()

def raises():
    return Raises(2)

class Alone(Square):
    def backward(self, x, dy):
        return 2 * x * dy

def alone():
    return Alone(2)

class Single(Square):
    def forward(self, x):
        return x * x

def single():
    return Single(2)

def leaves():
    raise SystemExit(0)

def no_tensor():
    return Square(2), [[1.0]]

instance = Square(2)

class NoHalf(Square):
    def forward(self, x):
        if x.dtype == torch.bfloat16:
            raise NotImplementedError("'square_cpu' not implemented for 'BFloat16'")
        return super().forward(x)

def no_half():
    return NoHalf(2)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "mine_.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("mine_", None)
    sys.path.remove(str(tmp_path))


def test_a_layer_of_ones_own(own, capsys):
    command("mine_:right", "--shape", "3,4", "--device", "cpu")
    assert "Square, input  3×4" in capsys.readouterr().out
    with pytest.raises(MismatchError, match="mine_:wrong, training mode, first at Square, input"):
        command("mine_:wrong", "--device", "cpu")


@pytest.mark.parametrize(
    "args, message",
    [
        (["mine_:right"], "give --shape"),
        (["mine_:right", "--shape", "2,3,4"], r"ValueError: rows only \(mine_.py, line 11\)"),
        (["mine_:broken"], r"ZeroDivisionError: division by zero \(mine_.py, line 23\)"),
        (["mine_:number"], "must return a layer"),
        (["mine_:nothing"], "has no attribute 'nothing'"),
        (["nowhere_:x"], "No module named 'nowhere_'"),
        (
            ["mine_:own", "--shape", "3,4"],
            r"mine_:own: Own: \(its text can't be shown: ValueError\) \(mine_",
        ),
        (
            ["mine_:raises", "--shape", "3,4"],
            r"mine_:raises: Own: \(its text can't be shown: ValueError\) \(mine_.py",
        ),
        (["mine_:alone", "--shape", "3,4"], r"Alone: backward must return \(dx, grads\), not a Tensor"),
        (["mine_:single", "--shape", "3,4"], r"Single: forward must return \(y, saved\), not a Tensor"),
        (["mine_:leaves"], "mine_:leaves: SystemExit: 0"),
        (["mine_:no_tensor"], "x must be a tensor, not a list"),
        (["mine_:"], "write module:callable"),
        ([":right"], "write module:callable"),
        (["mine_.py"], "is a file; name a callable in it, such as mine_:make_layer"),
        (["./mine_.py:right"], "write mine_:right, and run the command in the file's folder"),
        (["mine_:right", "--shape=-1,3"], "sizes must be at least 0, got -1,3"),
        (["mine_:right", "--shape", "9999999999999,99999999"], "--shape: RuntimeError"),
        (["Tanh", "--shape", "3,4"], "--shape is for module:callable"),
        (["Tanh", "--seed", "1" * 30], "must be at most"),
        (["Tanh", "--seed=-1"], "must be at least 0"),
        (["conv2d"], 'did you mean "Conv2d"'),
        (["digit"], 'did you mean "digits"'),
        (["--all", "Tanh"], "leave the others out"),
        (["Tanh", "--seeds", "2"], "lower --dtype"),
        (["Tanh", "--batch", "0"], "at least 1"),
        (["Tanh", "--shape", "a"], "--shape"),
        (["Tanh", "--dtype", "int8"], "--dtype"),
    ],
)
def test_wrong_arguments_are_named(args, message, own):
    sys.path.insert(0, str(Path.cwd()))
    with pytest.raises(UsageError, match=message):
        command(*args, "--device", "cpu")
    while sys.path.count(str(Path.cwd())) > 1:
        sys.path.remove(str(Path.cwd()))


def test_an_instance_and_a_name_with_blanks_around_it(own, capsys):
    command("mine_:instance", " cross ", "--shape", "3,4", "--samples", 0, "--device", "cpu")
    assert "every gradient agrees: 2 cases" in capsys.readouterr().out


def test_a_dtype_that_an_operator_lacks_is_not_checked(own):
    command("mine_:no_half", "--shape", "3,4", "--dtype", "float32", "--device", "cpu")
    for options in ([], ["--seeds", 2]):
        with pytest.raises(MismatchError, match="not checked: not supported in bfloat16"):
            command("mine_:no_half", "--shape", "3,4", "--dtype", "bfloat16", "--device", "cpu", *options)


FUNCTIONS = """
import torch

class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return dy @ w.T, x.T @ dy

class Wrong(Product):
    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return dy @ w.T, x.T @ dy * 2

def product(x, w):
    return Product.apply(x, w)

def make():
    return Wrong, torch.ones(2, 3), torch.ones(3, 4)

def pair():
    return lambda x: torch.from_numpy(x.detach().numpy() ** 2), lambda dy, x: 2 * x * dy

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 4))

    def forward(self, x):
        return Product.apply(x, self.weight)

def with_inputs():
    return product, torch.ones(2, 3), torch.ones(3, 4)
"""


def test_functions_of_ones_own(own, capsys):
    Path("mine_.py").write_text(FUNCTIONS)
    for target, shapes in (
        ("Product", ["--shape", "2,3", "--shape", "3,4"]),
        ("product", ["--shape", "2,3", "--shape", "3,4"]),
        ("with_inputs", []),
        ("pair", ["--shape", "2,3"]),
        ("Own", ["--shape", "2,3"]),
    ):
        command(f"mine_:{target}", *shapes, "--device", "cpu")
        assert "every gradient agrees: 1 cases" in capsys.readouterr().out
    with pytest.raises(MismatchError, match="mine_:make, first at Wrong, w"):
        command("mine_:make", "--device", "cpu", "--json", "f.json")
    assert json.loads(Path("f.json").read_text())["targets"][0]["first_bad"] == "Wrong, w"
    for args, message in (
        (["mine_:Product"], "give --shape"),
        (["mine_:Product", "--shape", "2,3"], "mine_:Product: TypeError"),
        (["mine_:make", "--plot", "a.png"], "--plot draws layers"),
        (["mine_:make", "--seeds", "2", "--dtype", "float32"], "--seeds is for layers"),
        (["torchvision:resnet18", "--shape", "2,3", "--shape", "3,4"], "has one input"),
    ):
        with pytest.raises(UsageError, match=message):
            command(*args, "--device", "cpu")
