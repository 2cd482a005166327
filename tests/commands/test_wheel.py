"""An installed wheel, used from an empty folder: its files, and every command."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from nets.commands import COMMANDS
from tests.data.trees import make_tree
from tests.shell import ROOT

SUFFIXES = (".py", ".cpp", ".h", ".typed", ".js", ".css", ".html", ".json")
CONFIGS = {p.stem for p in (ROOT / "configs").glob("*.toml")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The project's wheel, built without a download from a copy of what the build reads."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("nets", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", out, copy]
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder in which the wheel is unpacked as pip does, to be put on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    install = ["-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", folder, wheel]
    done = subprocess.run([sys.executable, *install], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(installed, folder, *args, code=0) -> str:
    """What the wheel's `nets ARGS` prints in a folder."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PYTHONPATH": str(installed)}
    line = [sys.executable, "-P", installed / "bin" / "nets", *map(str, args)]
    done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_the_wheel_has_every_module_config_and_kernel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [p for p in (ROOT / "nets").rglob("*") if p.suffix in SUFFIXES]
    wanted = {p.relative_to(ROOT).as_posix() for p in sources}
    wanted |= {f"nets/configs/{name}.toml" for name in CONFIGS}
    assert len(CONFIGS) >= 8 and "nets/py.typed" in wanted
    assert {name for name in names if name.startswith("nets/")} == wanted


def test_the_version_and_the_dependencies_are_the_projects(wheel):
    archive = zipfile.ZipFile(wheel)
    (path,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    text = archive.read(path).decode()
    spec = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = re.search(r'__version__ = "(.*)"', (ROOT / "nets/__init__.py").read_text())[1]
    assert f"\nVersion: {version}\n" in text
    required = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", text, re.M)
    assert required == [re.match(r"[\w-]+", name)[0] for name in spec["dependencies"]]
    assert set(re.findall(r"^Provides-Extra: (.+)$", text, re.M)) == set(spec["optional-dependencies"])


@pytest.mark.deep
def test_commands_run_from_an_empty_folder(installed, tmp_path):
    listed = run(installed, tmp_path, "--help")
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert "98,026" in run(installed, tmp_path, "summary")  # the default, digits
    assert "every gradient agrees: 1 cases" in run(installed, tmp_path, "gradcheck", "two_weight")
    assert not list(tmp_path.iterdir())


def test_it_is_the_wheel_that_runs(installed, tmp_path):
    """The checkout must not be found by accident, as in a test that runs in its folder."""
    code = "from nets.training import config; print(*config.shipped_configs().values(), sep='\\n')"
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PYTHONPATH": str(installed)}
    args = [sys.executable, "-P", "-c", code]
    done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert {p.stem for p in paths} == CONFIGS
    assert {p.parent for p in paths} == {installed / "nets" / "configs"}


def test_gradcheck_all_without_configs_fails(installed, tmp_path):
    """As a wheel without its configs would: a check of nothing must not pass."""
    copy = tmp_path / "site"
    shutil.copytree(installed, copy)
    shutil.rmtree(copy / "nets" / "configs")
    error = run(copy, tmp_path, "gradcheck", "--all", code=6)
    assert error == "error: not checked: no shipped config found, so the installation of nets is incomplete\n"


@pytest.mark.deep
@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_from_an_empty_folder(installed, tmp_path, name):
    assert run(installed, tmp_path, name, "--help").startswith(f"usage: nets {name} ")


@pytest.mark.deep
def test_gradcheck_all_checks_every_config(installed, tmp_path):
    """Few finite differences: that the gradients agree is what tests/commands/test_gradcheck.py tests."""
    args = ["--device", "cpu", "--samples", "0", "--batch", "2", "--json", "found.json"]
    printed = run(installed, tmp_path, "gradcheck", "--all", *args)
    assert "every gradient agrees" in printed
    assert all(f"\n{name}, training: " in printed for name in CONFIGS)


@pytest.mark.deep
def test_training_and_testing_from_an_empty_folder(installed, tmp_path):
    """Native kernels are compiled from the wheel's own sources."""
    args = ["--device", "cpu", "--set", "train.epochs=1", "--set", "net.backend=native"]
    result = run(installed, tmp_path, "train", *args).splitlines()[-1]  # before it, a line an epoch
    assert run(installed, tmp_path, "eval", "runs/digits", "--device", "cpu").endswith(f"{result}\n")
    assert result in run(installed, tmp_path, "watch", "runs/digits", "--once")
    assert {p.name for p in tmp_path.iterdir()} == {"runs"}


CPU = ["--device", "cpu"]
TREE = ["--set", "data.source=folder", "--set", "data.root=large", "--set", "data.size=8"]
TREE += ["--set", "data.channels=1", "--set", "data.num_classes=3"]
TREE += ["--set", "net.layers.-1.out_features=3"]
ONCE = {  # command: (smallest arguments, a pattern of what it prints)
    "train": (["digits", *CPU, "--set", "train.epochs=1"], r"^top-1 \d"),
    "eval": (["runs/digits", *CPU], r"^top-1 \d"),
    "watch": (["runs/digits", "--once"], r"top-1 \d"),
    "gradcheck": (["two_weight", *CPU, "--samples", 0], "every gradient agrees: 1 cases"),
    "summary": (["digits"], "98,026"),
    "lecture": (["two-weight", *CPU, "--out", "page"], "1 of 1 claims held"),
    "play": (["--no-open"], "^wrote runs/play/index.html"),
    "export": (["runs/digits"], "^wrote runs/digits/net.json"),
    "bench": (
        ["digits", *CPU, "--batch", 2, "--rounds", 1, "--steps", 1, "--forms", "manual"],
        "^ms per step",
    ),
    "rates": (["cifar10", "--batch", 1, "--times", 1], "^convolution "),
    "same-curve": (["digits", *CPU, "--steps", 2], r"^ +2 +\d"),
    "survive": (
        ["digits", *CPU, "--kills", 1, "--saves", 0, "--alone", 0, "--depth", 0],
        "^1 of 1 the same to the last bit",
    ),
    "soak": (["two_weight", *CPU, "--steps", 600], r"^memory +\d"),
    "enlarge": (["small", "large", "--size", 8, "--count", 6], "^large: 6 train, 3 test images"),
    "stream-bench": (
        ["digits", *CPU, *TREE, "--set", "train.batch_size=2", "--workers", 0, "--steps", 2],
        r"^ *0 ",
    ),
    "distributed-plan": ([], "^cifar10: "),
    "distributed-bench": (
        [*CPU, "--width", 8, "--depth", 1, "--batch", 2, "--rounds", 1],
        r"^2 processes: \d",
    ),
}


@pytest.mark.deep
def test_every_command_runs_once_from_an_empty_folder(installed, tmp_path):
    """In this order: eval and watch read train's run, stream-bench reads enlarge's images."""
    assert ONCE.keys() == COMMANDS.keys()
    make_tree(tmp_path / "small", count=3)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PYTHONPATH": str(installed)}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    for name, (args, pattern) in ONCE.items():
        launch = torchrun if name == "distributed-bench" else ["-P", "-m"]
        line = [sys.executable, *launch, "nets", name, *map(str, args)]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert re.search(pattern, done.stdout, re.M), f"{name}: {done.stdout}"
    assert {p.name for p in tmp_path.iterdir()} == {"small", "large", "runs", "page"}


@pytest.mark.deep
@pytest.mark.skipif(not importlib.util.find_spec("venv"), reason="needs venv")
def test_an_editable_install_finds_its_configs(tmp_path):
    """From a copy of the project, in an environment of its own that shares the installed packages."""
    for name in ("nets", "configs"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "copy")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = tmp_path.glob("venv/lib/python*/site-packages")
    shared = [p for p in sys.path if p.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(shared))
    python = tmp_path / "venv/bin/python"
    install = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--quiet", "-e"]
    subprocess.run([*install, tmp_path / "copy"], check=True)
    (tmp_path / "empty").mkdir()
    args = [tmp_path / "venv/bin/nets", "summary", "two_weight"]
    done = subprocess.run(args, cwd=tmp_path / "empty", capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("layer"), done.stderr
