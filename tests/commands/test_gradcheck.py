"""nets gradcheck: its targets, its output, its files and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from nets.commands.gradcheck import main
from nets.commands.targets import LOSSES, cases, everything
from nets.common.errors import MismatchError, UsageError
from nets.gradcheck import check
from nets.layers.registry import LAYERS
from nets.training import config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(ROOT.glob("configs/*.toml"))
IDS = [p.stem for p in CONFIGS]


def deep(*values):
    """A case that takes long and has a quick sibling."""
    return pytest.param(*values, marks=pytest.mark.deep)


def command(*args):
    main([*map(str, args)])


@pytest.mark.parametrize("path", [deep(p) if p.stem == "cifar100" else p for p in CONFIGS], ids=IDS)
def test_every_shipped_config_passes(path, capsys):
    command(path, "--batch", 2, "--samples", 1, "--device", "cpu")
    out = capsys.readouterr().out
    assert "training mode, float64" in out and "evaluation mode" in out
    assert "WRONG" not in out and "infected" not in out and "every gradient agrees" in out


@pytest.mark.parametrize("kernel", ["reference", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["digits", "cross"])
def test_lower_precision_passes(name, dtype, kernel, capsys):
    path = ROOT / "configs" / f"{name}.toml"
    command(path, "--dtype", dtype, "--device", "cpu", "--set", f"net.backend={kernel}")
    assert f"training mode, {dtype}" in capsys.readouterr().out


def used(path):
    """The layer classes of a config that have something to get wrong in backward."""
    conf = config.load(path)
    names = {spec if isinstance(spec, str) else spec["type"] for spec in conf.net.layers}
    return sorted(names | {"Sequential"})


def repeats(path, name) -> bool:
    """Is the layer class one that a quicker config has too?"""
    if not path.stem.startswith("cifar") or name == "Residual":
        return False
    return path.stem != "cifar10" or any(name in used(p) for p in CONFIGS if not p.stem.startswith("cifar"))


@pytest.mark.parametrize(
    "path, name",
    [deep(p, n) if repeats(p, n) else (p, n) for p in CONFIGS for n in used(p)],
    ids=lambda v: v if isinstance(v, str) else v.stem,
)
def test_a_flipped_sign_is_found_and_its_layer_named(path, name, monkeypatch):
    flip(monkeypatch, name)
    (case,) = cases(str(path), batch=2)
    case = case.to(torch.device("cpu"), torch.float64)
    report = check(case.layer, case.x, loss=case.loss, target=case.target, samples=0, contract=False)
    assert f"({name}), " in report.first_bad or report.first_bad.startswith(f"{name}, ")


def flip(monkeypatch, name):
    """Turn the sign of every gradient of a class's parameters, or of dx where it has none."""
    cls = LAYERS[name]
    right = cls.backward

    def wrong(self, saved, dy, *keep):
        dx, grads = right(self, saved, dy, *keep)
        return (-dx, grads) if not grads or name == "Sequential" else (dx, {k: -g for k, g in grads.items()})

    monkeypatch.setattr(cls, "backward", wrong)


def test_a_mismatch_is_written_down_and_leaves_with_6(monkeypatch, capsys, tmp_path):
    flip(monkeypatch, "Conv2d")
    with pytest.raises(MismatchError, match=r"digits, training mode, first at 7 \(Conv2d\), weight") as e:
        command(ROOT / "configs/digits.toml", "--device", "cpu", "--json", tmp_path / "r.json")
    assert e.value.code == 6
    assert "first wrong, from the loss backwards: 7 (Conv2d), weight" in capsys.readouterr().out
    facts = json.loads((tmp_path / "r.json").read_text())
    assert not facts["ok"] and facts["targets"][0]["first_bad"] == "7 (Conv2d), weight"


def test_exit_code_and_one_line(tmp_path):
    """From the shell: a broken layer makes the command leave with 6 and say so in one line."""
    code = (
        "from nets.commands import main\nfrom nets.layers.activations import Sigmoid\n"
        "Sigmoid.backward = lambda self, y, dy: (dy * y * (1 + y), {})\nmain()\n"
    )
    args = [sys.executable, "-c", code, "gradcheck", "two_weight", "--device", "cpu"]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 6
    assert done.stderr.count("\n") == 1 and "3 (Sigmoid), input" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_all_without_a_single_config_fails(monkeypatch):
    """As in an installation without its configs: a check of nothing must not pass."""
    monkeypatch.setattr(config, "shipped_configs", dict)
    for args in (["--all"], ["--all", "--dtype", "bfloat16", "--seeds", 2]):
        with pytest.raises(MismatchError, match="not checked: no shipped config found"):
            command(*args, "--device", "cpu")


def test_a_layer_without_examples_fails(monkeypatch):
    monkeypatch.setattr(LAYERS["Tanh"], "examples", ())
    with pytest.raises(UsageError, match="Tanh: has no examples to check"):
        command("Tanh", "--device", "cpu")


SHIPPED = [p.stem for p in CONFIGS]


def test_everything_is_every_config_layer_and_loss():
    assert everything() == [*SHIPPED, *LAYERS, *LOSSES]
    assert {"CrossEntropyLoss", "Performance"} <= LOSSES.keys()


@pytest.mark.parametrize("name", [*LAYERS, *LOSSES])
def test_a_layer_by_its_name(name, capsys):
    command(name, "--device", "cpu", "--samples", 2)
    out = capsys.readouterr().out
    assert out.startswith("float64 on cpu, TF32 off") and "every gradient agrees" in out
    assert out.count("mode, float64") + out.count("mode: the same") == 2 * len(cases(name))


def test_several_targets_are_a_line_each(capsys, tmp_path):
    command("Tanh", "Performance", "--device", "cpu", "--json", tmp_path / "r.json")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:-1]] == [
        *("Tanh(), training", "Tanh(), evaluation", "Performance, training", "Performance, evaluation")
    ]
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["ok"] and facts["tf32"] is False and facts["torch"] == torch.__version__
    row = facts["targets"][0]["rows"][0]
    assert facts["targets"][0]["target"] == "Tanh" and row["tensor"] == "input" and row["verdict"] == "ok"
    assert row.keys() >= {
        "shape",
        "dtype",
        "absolute",
        "relative",
        "tolerance",
        "cosine",
        "ulp_median",
        "ulp_worst",
    }


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
    command("mine_:instance", " digits ", "--shape", "3,4", "--samples", 0, "--device", "cpu")
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


def test_every_case_is_drawn_and_every_file_is_named(tmp_path, capsys):
    for targets, files in (
        (["Tanh"], ["a.png"]),
        (["Tanh", CONFIGS[-1]], ["b-Tanh.png", "b-two_weight.png"]),
        (["Linear"], ["c.png", "c-2.png"]),
    ):
        command(*targets, "--device", "cpu", "--plot", tmp_path / (files[0][0] + ".png"))
        written = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrote ")]
        assert written == [f"wrote {tmp_path / file}" for file in files]
        for file in files:
            picture = imread(tmp_path / file)
            assert picture.shape[0] > 300 and picture.std() > 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_gradient_is_further_from_the_truth_than_autograds(dtype, capsys, tmp_path):
    targets = ["Sigmoid", "CrossEntropyLoss", ROOT / "configs/cross.toml"]
    args = ["--device", "cpu", "--dtype", dtype, "--seeds", 20, "--json", tmp_path / "r.json"]
    command(*targets, *args)
    assert "medians of 20 seeds" in capsys.readouterr().out
    facts = json.loads((tmp_path / "r.json").read_text())
    ratios = [r for t in facts["targets"] for r in t["ratios"]]
    assert len(ratios) == 2 * (1 + 1 + 8) and max(r["ratio"] for r in ratios) <= 1.1
    eps = torch.finfo(getattr(torch, dtype)).eps
    assert all(0 < r["manual"] < 10 * eps for r in ratios)


def test_a_formula_that_loses_digits_is_reported(monkeypatch):
    """Right in float64 and poor in bfloat16: 1 − y² is rounded where y is near 1."""

    def poor(self, y, dy):
        return dy * (1 - y * y), {}

    monkeypatch.setattr(LAYERS["Tanh"], "backward", poor)
    command("Tanh", "--device", "cpu")
    with pytest.raises(MismatchError, match=r"Tanh, input: \S+ times autograd's error"):
        command("Tanh", "--device", "cpu", "--dtype", "bfloat16", "--seeds", 20)
