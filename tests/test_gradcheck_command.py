"""python -m nets.gradcheck: what it is told, what it prints, what it writes and how it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from nets import build, config
from nets.errors import MismatchError, UsageError
from nets.gradcheck.__main__ import main
from nets.gradcheck.targets import LOSSES, cases, everything

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(ROOT.glob("configs/*.toml"))
IDS = [p.stem for p in CONFIGS]


def command(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["gradcheck", *map(str, args)])
    main()


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_every_shipped_config_passes(path, monkeypatch, capsys):
    command(monkeypatch, path, "--batch", 2, "--device", "cpu")
    out = capsys.readouterr().out
    assert "training mode, float64" in out and "evaluation mode" in out
    assert "WRONG" not in out and "infected" not in out and "every gradient agrees" in out


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
    assert not report["ok"] and name in report["targets"][0]["first_bad"]


def test_exit_code_and_one_line(tmp_path):
    """From the shell: a broken layer makes the command leave with 6 and say so in one line."""
    code = (
        "from nets import activations, cli\nfrom nets.gradcheck.__main__ import main\n"
        "activations.Sigmoid.backward = lambda self, y, dy: (dy * y * (1 + y), {})\n"
        "with cli.one_line_errors():\n    main()\n"
    )
    args = [sys.executable, "-c", code, "configs/two_weight.toml", "--device", "cpu"]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 6
    assert done.stderr.count("\n") == 1 and "3 (Sigmoid), input" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


