"""nets bench: its counts, that all forms train the same net, its output and files."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from torch.utils.flop_counter import FlopCounterMode

from nets.bench import forms, measure, race, scaling, work, worker
from nets.commands.bench import main
from nets.commands.targets import narrow
from nets.common.errors import MismatchError, NonFiniteError, Problem, UsageError
from nets.convert.to_torch import to_torch
from nets.data import datasets as data
from nets.layers.activations import GELU, Sigmoid
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.response_norm import LocalResponseNorm
from nets.layers.whiten import Whiten2d
from nets.training import config

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
LABELS = (
    "ms per step", "samples per second", "peak memory of tensors", "peak memory of process",
    "operators, kernels", "of the machine's best", "bytes moved", "/ fewest possible", "compile time",
    "loss in step 5",
)  # fmt: skip
GROUP = '{match=["*.bias"], lr_scale=9.0, weight_decay=0.0, momentum=0.0}'
COMPILER = pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="needs a C++ compiler")


class InProcess:
    """A worker without a process of its own, which starts faster."""

    def __init__(self, cls, *args, name):
        self.name, self.made = name, cls(*args)

    def call(self, method, *args):
        return getattr(self.made, method)(*args)

    def close(self):
        pass


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(race, "Worker", InProcess)


def command(name, *args):
    main([name, "--device", "cpu", *map(str, args)])


def numbers(value):
    """Every number in the result of json.loads."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            yield from numbers(v)
    elif isinstance(value, (int, float)):
        yield value


def task(name, *overrides):
    conf = config.load(ROOT / "configs" / f"{name}.toml", overrides)
    return forms.Task(conf, *data.shapes(conf.data), CPU)


def test_rates_of_every_convolution(capsys):
    from nets.commands import rates
    from nets.kernels import native

    if native.library() is None:
        pytest.skip("no compiler")

    rates.main(["cifar10", "--batch", "2", "--times", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [a, "→", b] for a, b in [("24", "64"), ("64", "64"), ("64", "256"), *[("256", "256")] * 3]
    ]
    assert all(float(v.replace(",", "")) > 0 for line in lines[1:] for v in line.split()[-6:])


def test_output_has_every_line_and_json_has_finite_numbers(in_process, capsys, tmp_path):
    args = ("--forms", "manual,autograd", "--rounds", 2, "--steps", 2, "--batch", 4, "--profile", 1)
    command("digits", *args, "--json", tmp_path / "b.json", "--plot", tmp_path / "b.png")
    out = capsys.readouterr().out
    assert out.startswith("digits, 98,026 parameters, batches of 4 in float32, reference kernels, on cpu")
    assert "Timed: forward, loss, backward and update" in out and "runs 2 steps after one" in out
    assert all(label in out for label in LABELS)
    assert out.count("7 (Conv2d)") == 1 and "update" in out  # one table has both forms' layers
    facts = json.loads((tmp_path / "b.json").read_text())
    found = list(numbers(facts))
    assert len(found) > 100 and all(map(math.isfinite, found))
    for result in facts["forms"]:
        for key in ("median_ms", "total_bytes", "resident_bytes", "launches", "moved_bytes", "share_of_peak"):
            assert result[key] > 0, key
        assert len(result["ms"]) == 2 and result["low_ms"] <= result["median_ms"] <= result["high_ms"]
        assert result["moved_over_fewest"] > 1
        assert result["total_bytes"] == result["persistent_bytes"] + result["peak_bytes"]
    ours, theirs = (result["persistent_bytes"] for result in facts["forms"])
    guard = 1 + 8 + 4  # a flag, a count and a loss
    assert ours - guard + 3 * 8 == theirs  # each nn.BatchNorm2d counts its batches
    assert imread(tmp_path / "b.png").shape[2] == 4


@COMPILER
def test_compiled_forms_run_in_their_own_processes(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(worker, "CACHE", str(tmp_path / "compiled"))  # the forms share some compiled code
    names = "manual-compiled,autograd-compiled"
    args = ("--forms", names, "--rounds", 1, "--steps", 1, "--json", tmp_path / "b.json", "--profile", 1)
    command("two_weight", *args)
    out = capsys.readouterr().out
    assert all(label in out for label in LABELS) and "cpp_fused" in out
    facts = json.loads((tmp_path / "b.json").read_text())
    assert all(map(math.isfinite, numbers(facts)))
    for result in facts["forms"]:
        assert result["compile_s"] > 0 and result["launches"] > 0 and result["moved_bytes"] > 0


@pytest.mark.parametrize(
    "name, overrides",
    [
        ("cross", []),
        ("two_weight", ["train.loss=mse", "train.momentum=0.5"]),
        ("dense", ["train.batch_size=8"]),
        ("dense", ["train.batch_size=8", "train.loss=cross_entropy", "train.weight_decay=0.1"]),
        ("digits", ["train.batch_size=8"]),
        ("digits", ["train.batch_size=8", "train.dtype=bfloat16", "net.backend=torch"]),
        ("digits", ["train.batch_size=8", "train.dtype=float64", "train.channels_last=false"]),
        ("digits", ["train.batch_size=8", f"train.param_groups=[{GROUP}]"]),
        ("cifar10", ["train.batch_size=4"]),
        ("cifar10", ["train.batch_size=32", "train.dtype=float32"]),
        ("alexnet", [*narrow("alexnet"), "train.batch_size=4"]),
        ("cifar10", ["train.batch_size=4", "net.recompute=true", "net.backend=torch"]),
    ],
    ids=str,
)  # fmt: skip
def test_manual_and_autograd_train_the_same_net(name, overrides):
    todo = task(name, *overrides)
    losses = {side: worker.Runner(todo, forms.Form(side)).losses(5) for side in forms.SIDES}
    race.compare(losses, race.loss_tolerance(todo.config, todo.device))
    assert len(set(losses["manual"])) == 5  # and the loss changes


def test_a_form_with_other_losses_is_a_mismatch():
    right = [2.3, 2.2, 2.1]
    race.compare({"manual": right, "autograd": [2.3, 2.2001, 2.0998]}, 2e-3)
    with pytest.raises(
        MismatchError,
        match=r"autograd-compiled and manual .*: in step 3 the loss of autograd-compiled is 2\.3,",
    ):
        race.compare({"manual": right, "autograd": right, "autograd-compiled": [2.3, 2.2, 2.3]}, 2e-3)
    with pytest.raises(MismatchError, match=r"autograd .* step 2"):  # half the rate
        race.compare({"manual": [2.3, 2.28], "autograd": [2.3, 2.29]}, 2e-3)
    with pytest.raises(NonFiniteError, match="manual: the loss became nan in 3 steps"):
        race.compare({"manual": [2.3, 2.2, math.nan]}, 2e-3)


def test_a_wrong_backward_is_a_mismatch(in_process, monkeypatch):
    monkeypatch.setattr(Sigmoid, "backward", lambda self, y, dy: (dy * y * (1 + y), {}))
    with pytest.raises(MismatchError, match="autograd and manual train differently") as e:
        command("cross", "--forms", "manual,autograd", "--rounds", 1)
    assert e.value.code == 6


def test_dropout_is_off_only_for_the_compared_losses():
    runner = worker.Runner(task("digits", "train.batch_size=4"), forms.Form("autograd"))
    runner.losses(1)
    assert runner.trainer.module[12].p == 0.25


def test_useful_arithmetic_of_known_layers():
    x = torch.empty(5, 3, 8, 8)
    conv = Conv2d(3, 6, 3, padding=1)
    once = 2 * 5 * 6 * 8 * 8 * 3 * 9
    assert work.useful_flops(Sequential(conv), x) == 2 * once  # forward and dw: the data's dx isn't needed
    twice = Sequential(Conv2d(3, 6, 3, padding=1), Conv2d(6, 4, 3, stride=2, padding=1, groups=2))
    assert work.useful_flops(twice, x) == 2 * once + 3 * (2 * 5 * 4 * 4 * 4 * 3 * 9)
    assert (
        work.useful_flops(Sequential(Whiten2d(3, 2)), x) == 2 * 5 * 24 * 7 * 7 * 3 * 4
    )  # its filters aren't trained
    dense = Sequential(Linear(7, 2), Linear(2, 3))
    assert work.useful_flops(dense, torch.empty(4, 7)) == 2 * 4 * (2 * 14 + 3 * 6)


@pytest.mark.parametrize("name", ["dense", "digits", "cifar10"])
def test_useful_arithmetic_equals_torchs_count_of_autograds_step(name):
    net, _, x, _ = forms.prepare(task(name, "train.batch_size=2", "train.dtype=float32"))
    with FlopCounterMode(display=False) as counter:
        to_torch(net)(x).sum().backward()
    assert work.useful_flops(net, x) == counter.get_total_flops()


def test_fewest_bytes_of_a_layer_that_writes_in_place():
    """LocalResponseNorm writes into its output, which autograd's recording would forbid."""
    net = Sequential(Conv2d(3, 4, 3), LocalResponseNorm(3), Flatten(), Linear(4 * 4 * 4, 2))
    x, dtype = torch.empty(5, 3, 6, 6), 4
    conv, norm, dense = 5 * 3 * 6 * 6, 5 * 4 * 4 * 4, 5 * 2
    first = dtype * (2 * conv + 2 * norm)  # the images' gradient isn't needed
    middle = dtype * (3 * norm + 2 * norm)
    last = dtype * (3 * norm + 2 * dense)
    weights = 4 * 3 * 9 + 4 + 64 * 2 + 2
    assert work.fewest_bytes(net, x, False) == first + middle + last + 6 * dtype * weights


def test_fewest_bytes_of_a_known_net():
    x, hidden, y = 4 * 5 * 7, 4 * 5 * 3, 4 * 5 * 2
    net = Sequential(Linear(7, 3, bias=False), GELU(), Linear(3, 2, bias=False))
    first = 2 * x + 2 * hidden  # read forward and for dw; written forward, dy read
    second = 3 * hidden + 2 * y  # and dx written
    assert work.fewest_bytes(net, torch.empty(5, 7), False) == first + second + 6 * 4 * (21 + 6)
    assert work.fewest_bytes(net, torch.empty(5, 7), True) == first + second + 8 * 4 * (21 + 6)


@pytest.mark.parametrize(
    "run, operators, floats",
    [
        (lambda a, b: a + b, 1, 300),
        (lambda a, b: a.mul_(2), 1, 200),
        (lambda a, b: a.copy_(b), 1, 200),
        (lambda a, b: a.zero_(), 1, 100),
        (lambda a, b: (a.view(4, 25).T, a.detach(), a[3:], torch.empty(9)), 0, 0),
        (lambda a, b: torch.zeros(()).expand(100) + b, 2, 1 + 1 + 200),
        (lambda a, b: torch.add(a, a, out=b), 1, 300),
        (lambda a, b: torch._foreach_mul_([a, b], 2.0), 1, 400),
    ],
    ids=["add", "in-place", "copy", "zero", "views", "expanded", "out", "foreach"],
)
def test_counts_of_known_operators(run, operators, floats):
    a, b = torch.zeros(100), torch.zeros(100)
    with measure.OperatorCounter() as counter:
        run(a, b)
    assert (counter.operators, counter.bytes) == (operators, 4 * floats)


def test_peak_tensor_bytes_of_known_operators():
    def step():
        a = torch.zeros(1000)
        b = a + 1
        del a
        return b * 2  # with b: 8,000 bytes at once, never three tensors

    assert 8000 <= measure.peak_tensor_bytes(measure.profile_step(step, CPU)) < 8100


def test_select_forms():
    cuda = torch.device("cuda")
    names = [f.name for f in forms.select_forms("", "default", CPU)]
    assert names == ["manual", "autograd", "manual-compiled", "autograd-compiled"]
    assert "manual-graph" in [f.name for f in forms.select_forms("", "both", cuda)]
    both = [(f.name, f.keep) for f in forms.select_forms("autograd,manual", "both", CPU)]
    assert both == [("autograd", False), ("autograd+keep", True), ("manual", True)]
    assert all(f.keep for f in forms.select_forms("", "keep", CPU))
    bad = {"manul": 'did you mean "manual"', "manual-graph": "CUDA", "manual,manual": "twice"}
    for wrong, why in bad.items():
        with pytest.raises(UsageError, match=why):
            forms.select_forms(wrong, "default", CPU)


@pytest.mark.parametrize(
    "args, why",
    [
        (["--rounds", 0], "--rounds"),
        (["--scaling", "--profile"], "can't be combined"),
        (["--set", "train.optimizer=adaptive"], "adaptive has no autograd form"),
        (["--batch", 0], "train.batch_size"),
    ],
)
def test_wrong_arguments_are_usage_errors(args, why):
    with pytest.raises(UsageError, match=why):
        command("cross", *args)


def test_a_worker_that_fails_or_dies_is_a_problem():
    one = worker.Worker(int, "x", name="one")
    two = worker.Worker(os._exit, 3, name="two")
    with pytest.raises(Problem, match="one: ValueError: invalid literal"):
        one.call("bit_length")
    with pytest.raises(Problem, match="two: its process died"):
        two.call("anything")
    one.close()
    two.close()
    assert not Path(one.folder.name).exists() and not one.process.is_alive()


def test_wider_and_deeper_nets():
    layers = task("cifar10").config.net.layers
    wide = scaling.wider(layers, 2)
    assert [s["out_channels"] for s in wide if s["type"] == "Conv2d"] == [128, 128, 512, 512, 512, 512]
    assert wide[-2]["out_features"] == 10
    deep = [s["type"] for s in scaling.deeper(layers, 3)]
    assert deep.count("Conv2d") == deep.count("BatchNorm2d") == 18 and deep.count("MaxPool2d") == 3
    assert deep.count("Whiten2d") == deep.count("Linear") == 1
    assert [s.get("out_features") for s in scaling.deeper(task("dense").config.net.layers, 2)] == [
        None, 64, None, 64, None, 10, None,
    ]  # fmt: skip
    for axis in scaling.SIZES:
        for _, conf in scaling.sizes(task("digits").config, axis):
            net, _, x, _ = forms.prepare(forms.Task(conf, (1, 8, 8), 10, CPU))
            assert net.forward(x)[0].shape == (len(x), 10)
    with pytest.raises(UsageError, match="no hidden Conv2d or Linear"):
        scaling.deeper(["Flatten", {"type": "Linear", "out_features": 10}], 2)


def test_scaling_writes_exponents_and_a_plot(in_process, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(scaling, "SIZES", {"batch": (1 / 2, 1), "width": (1, 2), "depth": (1, 2)})
    args = ("--scaling", "--forms", "manual,autograd", "--rounds", 1, "--steps", 1)
    command("cross", *args, "--json", tmp_path / "s.json", "--plot", tmp_path / "s.png")
    assert "manual ms" in capsys.readouterr().out
    found = json.loads((tmp_path / "s.json").read_text())["scaling"]
    assert found.keys() == {"batch", "width", "depth"} and all(map(math.isfinite, numbers(found)))
    assert found["batch"]["exponents"]["flops"] == pytest.approx(1)
    assert found["depth"]["points"][1]["parameters"] == 12 + 6
    assert imread(tmp_path / "s.png").shape[2] == 4


def test_slope_of_a_power_law():
    assert scaling.slope([1, 2, 4, 8], [3 * n**1.5 for n in (1, 2, 4, 8)]) == pytest.approx(1.5)
    assert scaling.slope([4], [3]) == 0
