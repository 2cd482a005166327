"""The checker passes what is right, and names what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nets import build, config, gradcheck, net
from nets.activations import ReLU, Tanh
from nets.conv import Conv2d
from nets.dropout import Dropout
from nets.errors import MismatchError
from nets.gradcheck import check, compare
from nets.layer import Layer, Net
from nets.linear import Linear
from nets.loss import CrossEntropy, Performance
from nets.net import Residual, Sequential
from nets.norm import BatchNorm2d

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(ROOT.glob("configs/*.toml"))
IDS = [p.stem for p in CONFIGS]


def command(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["gradcheck", *map(str, args)])
    gradcheck.main()


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_every_shipped_config_passes(path, monkeypatch, capsys):
    command(monkeypatch, path, "--batch", 2, "--device", "cpu")
    out = capsys.readouterr().out
    assert "training mode, float64" in out and "evaluation mode" in out
    assert "WRONG" not in out and "every gradient agrees" in out


@pytest.mark.parametrize("kernel", ["written", "vendor"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["digits", "cross"])
def test_lower_precision_passes(name, dtype, kernel, monkeypatch, capsys):
    path = ROOT / "configs" / f"{name}.toml"
    command(monkeypatch, path, "--dtype", dtype, "--device", "cpu", "--set", f"net.kernel={kernel}")
    assert f"training mode, {dtype}" in capsys.readouterr().out


def used(path):
    """The layer classes of a config that have something to get wrong in backward."""
    conf = config.load(path)
    names = {spec if isinstance(spec, str) else spec["type"] for spec in conf.net.layers}
    return sorted(names | {"Sequential"})


@pytest.mark.parametrize(
    "path, name",
    [(p, n) for p in CONFIGS if p.stem != "cifar100" for n in used(p)],
    ids=lambda v: v if isinstance(v, str) else v.stem,
)
def test_a_flipped_sign_is_found_and_its_layer_named(path, name, monkeypatch, capsys, tmp_path):
    cls = build.LAYERS[name]
    right = cls.backward

    def wrong(self, saved, dy, *keep):
        dx, grads = right(self, saved, dy, *keep)
        return (-dx, grads) if not grads or name == "Sequential" else (dx, {k: -g for k, g in grads.items()})

    monkeypatch.setattr(cls, "backward", wrong)
    with pytest.raises(MismatchError) as e:
        args = ("--batch", 2, "--samples", 0, "--device", "cpu", "--json", tmp_path / "r.json")
        command(monkeypatch, path, *args)
    assert e.value.code == 6
    assert name in str(e.value)
    report = json.loads((tmp_path / "r.json").read_text())
    assert not report["ok"] and name in report["reports"][0]["first_bad"]


def test_exit_code_and_one_line(tmp_path):
    """From the shell: a broken layer makes the command leave with 6 and say so in one line."""
    code = (
        "from nets import activations, cli, gradcheck\n"
        "activations.Sigmoid.backward = lambda self, y, dy: (dy * y * (1 + y), {})\n"
        "with cli.one_line_errors():\n    gradcheck.main()\n"
    )
    args = [sys.executable, "-c", code, "configs/two_weight.toml", "--device", "cpu"]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 6
    assert done.stderr.count("\n") == 1 and "3 (Sigmoid), input" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("loss", [CrossEntropy(0.1), Performance()])
def test_a_wrong_loss_is_named(loss, monkeypatch):
    layer, x = Linear(4, 3).to(torch.float64), torch.randn(5, 4, dtype=torch.float64)
    target = torch.randint(3, (5,))
    assert check(layer, x, loss=loss, target=target).ok
    right = type(loss).__call__
    monkeypatch.setattr(type(loss), "__call__", lambda *a: (right(*a)[0], right(*a)[1] * 2))
    report = check(layer, x, loss=loss, target=target)
    assert not report.ok and report.first_bad == f"loss ({type(loss).__name__})"


class Twice(Layer):
    """A user's own layer, y = a·x², which no twin knows."""

    def __init__(self, error=0.0):
        super().__init__()
        self.params["a"] = torch.tensor([1.5])
        self.error = error

    def forward(self, x):
        return self.params["a"] * x * x, x

    def backward(self, saved, dy):
        x, a = saved, self.params["a"]
        return (2 + self.error) * a * x * dy, {"a": (dy * x * x).sum().reshape(1)}


def test_a_layer_of_ones_own():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert check(Twice().to(torch.float64), x).ok
    report = check(Sequential(Linear(5, 5), Twice(1e-3), Tanh()).to(torch.float64), x)
    assert not report.ok and report.first_bad == "1 (Twice), input"


class Side(Net):
    """A user's own net, y = left(x) · right(x)."""

    def __init__(self, left, right, sign=1):
        super().__init__(left=left, right=right)
        self.sign = sign

    def forward(self, x):
        (a, s), (b, t) = (child.forward(x) for child in self.children.values())
        return a * b, [(a, s), (b, t)]

    def backward(self, saved, dy, keep=False):
        ((a, s), (b, t)), grads = saved, {}
        left, right = self.children.values()
        dx, new = left.backward(s, dy * b)
        self._collect(grads, "left", new)
        dx2, new = right.backward(t, dy * a)
        self._collect(grads, "right", new)
        return dx + self.sign * dx2, grads


def test_a_net_of_ones_own():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert check(Side(Linear(5, 3), Linear(5, 3)).to(torch.float64), x).ok
    report = check(Sequential(Side(Linear(5, 3), Linear(5, 3), -1), Tanh()).to(torch.float64), x)
    assert not report.ok and report.first_bad == "0 (Side), input"


def test_any_layout_of_parameters_and_input():
    linear, conv = Linear(3, 3).to(torch.float64), Conv2d(3, 4, 3).to(torch.float64)
    linear.params["weight"] = torch.randn(3, 3, dtype=torch.float64).T
    assert check(linear, torch.randn(3, 4, dtype=torch.float64).T).ok
    conv.params["weight"] = conv.params["weight"].contiguous(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert check(conv, x).ok


TINY = {  # how to make each layer, and its input
    "Linear": (dict(inputs=4, outputs=3), (2, 4)),
    "Scale": (dict(factor=0.5), (2, 4)),
    "Conv2d": (dict(in_channels=2, out_channels=3, kernel_size=3), (2, 2, 5, 6)),
    "MaxPool2d": (dict(kernel_size=2), (2, 2, 5, 6)),
    "AvgPool2d": (dict(kernel_size=2), (2, 2, 5, 6)),
    "BatchNorm2d": (dict(channels=2), (3, 2, 5, 6)),
    "Whiten2d": (dict(channels=2), (2, 2, 5, 6)),
    "Sequential": ((Tanh(),), (2, 4)),
    "Residual": ((Tanh(),), (2, 4)),
}


@pytest.mark.parametrize("name", build.LAYERS)
def test_a_flipped_sign_in_any_layer_and_any_of_its_gradients(name):
    options, shape = TINY.get(name, ({}, (2, 2, 5, 6)))
    make = build.LAYERS[name]
    layer = (make(*options) if isinstance(options, tuple) else make(**options)).to(torch.float64)
    x, right = torch.randn(shape, dtype=torch.float64), layer.backward
    assert check(layer, x).ok

    def flipped(tensor):
        def backward(saved, dy, *keep):
            dx, grads = right(saved, dy, *keep)
            if tensor == "input":
                return -dx, grads
            return dx, {k: -g if k == tensor else g for k, g in grads.items()}

        return backward

    for tensor in ("input", *layer.params):
        layer.backward = flipped(tensor)
        assert check(layer, x).first_bad == f"{name}, {tensor}"


def broken(cls, *args, change, **options):
    layer = cls(*args, **options)
    right = layer.backward
    layer.backward = lambda saved, dy: change(*right(saved, dy))
    return layer


@pytest.mark.parametrize(
    "change, where",
    [
        (lambda dx, g: (dx, {}), "0 (Conv2d), weight"),
        (lambda dx, g: (dx, g | {"weight": g["weight"].transpose(2, 3)}), "0 (Conv2d), weight"),
        (lambda dx, g: (dx, g | {"bias": g["bias"] / 7}), "0 (Conv2d), bias"),
        (lambda dx, g: (dx * (1 + 1e-8), g), "0 (Conv2d), input"),
        (lambda dx, g: (dx * float("nan"), g), "0 (Conv2d), input"),
        (lambda dx, g: (dx[..., :-1], g), "0 (Conv2d), input"),
    ],
)
def test_small_and_odd_errors_are_found(change, where):
    conv = broken(Conv2d, 2, 3, 3, change=change)
    net = Sequential(conv, ReLU()).to(torch.float64)
    report = check(net, torch.randn(2, 2, 7, 7, dtype=torch.float64))
    assert not report.ok and report.first_bad == where
    assert "WRONG" in report.table() and where in report.table()


def test_a_container_that_forgets_its_shortcut_is_named(monkeypatch):
    monkeypatch.setattr(
        Residual, "backward", lambda self, s, dy, keep=False: self.children["body"].backward(s[0], dy)
    )
    net = Sequential(Linear(3, 3), Residual(Tanh()), Tanh()).to(torch.float64)
    report = check(net, torch.randn(2, 3, dtype=torch.float64))
    assert report.first_bad == "1 (Residual), input"


def test_a_gradient_overwritten_on_reuse_is_found(monkeypatch):
    def overwrite(self, grads, child, new):
        grads.update({self._names[f"{child}.{k}"]: g for k, g in new.items()})

    shared = Linear(3, 3)
    net_ = Sequential(shared, Tanh(), shared).to(torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)
    assert check(net_, x).ok
    monkeypatch.setattr(net.Net, "_collect", overwrite)
    report = check(net_, x)
    assert not report.ok and report.first_bad == "Sequential, 0.weight"


def test_finite_differences_find_an_error_that_autograd_shares(monkeypatch):
    """A layer whose own forward is its oracle: only finite differences see a cut graph."""

    class Cut(Twice):
        def forward(self, x):
            return self.params["a"] * x * x.detach(), x

        def backward(self, saved, dy):
            x, a = saved, self.params["a"]
            return a * x * dy, {"a": (dy * x * x).sum().reshape(1)}

    report = check(Cut().to(torch.float64), torch.randn(4, 5, dtype=torch.float64))
    row = report.rows[0]
    assert row.tensor == "input" and row.relative < 1e-10 and row.difference > 0.1 and not report.ok


def test_the_checked_net_is_left_as_it_was():
    net = Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), Dropout(0.5)).to(torch.float64)
    before = {k: v.clone() for k, v in (net.params | net.buffers).items()}
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    kept = x.clone()
    assert check(net, x).ok
    assert all(torch.equal(v, before[k]) for k, v in (net.params | net.buffers).items())
    assert torch.equal(x, kept)
    assert "forward" not in vars(net.children["0"])


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
