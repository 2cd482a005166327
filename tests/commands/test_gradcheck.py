"""nets gradcheck: its targets, its output, its files and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
