"""The command line's help: every command, every argument, every default."""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nets
from nets.commands import COMMANDS, load, main
from nets.commands.cli import has_default
from tests.shell import ROOT, shell


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]], ids=["none", "--help", "-h"])
def test_nets_lists_every_command_in_one_line(args):
    lines = shell(*args).splitlines()
    assert lines[0] == "usage: nets COMMAND [ARGUMENT ...]"
    listed = [line.split(maxsplit=1) for line in lines if line.startswith("  ")]
    assert [name for name, _ in listed] == list(COMMANDS)
    assert all(about == COMMANDS[name] and about.endswith(".") for name, about in listed)
    assert max(map(len, lines)) <= 110


def test_every_file_with_a_main_is_a_command():
    files = {p.stem for p in (ROOT / "nets/commands").glob("*.py") if "def main(" in p.read_text()}
    assert files - {"__init__"} == {name.replace("-", "_") for name in COMMANDS}
    others = [p for p in (ROOT / "nets").rglob("*.py") if "ArgumentParser" in p.read_text()]
    assert others == [ROOT / "nets/commands/cli.py"]


@pytest.mark.parametrize(
    "name, end",
    [
        ("trian", 'did you mean "train"? (see nets --help)'),
        ("Gradcheck", 'did you mean "gradcheck"? (see nets --help)'),
        ("stream_bench", 'did you mean "stream-bench"? (see nets --help)'),
        ("q", f"known: {', '.join(COMMANDS)} (see nets --help)"),
    ],
)
def test_an_unknown_command_names_the_nearest(name, end):
    assert shell(name, code=2) == f'error: "{name}" is not a command of nets; {end}\n'


def test_version():
    assert shell("--version") == f"nets {nets.__version__}\n"


@pytest.fixture(params=COMMANDS)
def command(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return request.param


def test_help_has_usage_and_every_argument_with_its_default(command):
    parser, text = load(command).parser(), shell(command, "--help")
    assert text == parser.format_help()
    assert text.startswith(f"usage: nets {command} ") and COMMANDS[command] in " ".join(text.split())
    for action in parser._actions:
        formatter = parser._get_formatter()
        formatter.add_argument(action)
        about = " ".join(formatter.format_help().split())
        assert action.help and len(action.help) > 5, f"{action.dest} has no help"
        if has_default(action):
            shown = format(action.default, "g") if isinstance(action.default, float) else action.default
            value = " ".join(map(str, shown)) if isinstance(shown, list) else str(shown)
            assert f"(default: {value}" in about, f"{action.dest}: {about}"
        elif action.option_strings and action.nargs != 0:
            # without a value of its own: the help says what happens then
            assert action.default in (None, []), action.dest


def test_has_default():
    add = argparse.ArgumentParser().add_argument
    assert has_default(add("--seed", type=int, default=0)) and has_default(add("--out", default="runs"))
    assert has_default(add("--forms", default=""))
    for action in (add("--set", action="append", default=[]), add("--bare", action="store_true")):
        assert not has_default(action)
    assert not has_default(add("--json"))


def test_a_wrong_argument_names_the_commands_help(command):
    assert f"(see nets {command} --help)" in shell(command, "--nonsense", code=2)


@pytest.mark.parametrize("start", [["train.py"], ["-m", "nets", "train"]], ids=" ".join)
def test_help_from_a_real_shell(start):
    done = subprocess.run([sys.executable, *start, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: nets train [-h]")


def test_a_config_is_found_by_name_from_any_folder(tmp_path):
    assert shell("summary", cwd=tmp_path) == shell("summary", "configs/digits.toml")
    assert shell("summary", "two_weight", cwd=tmp_path).startswith("layer")
    error = shell("summary", "digit", cwd=tmp_path, code=2)
    assert 'did you mean "digits"' in error
    (tmp_path / "cross.toml").write_text((ROOT / "configs/two_weight.toml").read_text())
    own, shipped = (shell("summary", name, cwd=tmp_path) for name in ("cross.toml", "cross"))
    assert own == shell("summary", "two_weight") != shipped


def test_commands_and_torch_are_imported_only_when_a_command_runs():
    code = "import sys, nets.commands; nets.commands.main([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    own = {n for n in loaded if n.startswith("nets.commands.")}
    assert own == {"nets.commands.cli", "nets.commands.streams"} and "torch" not in loaded


def test_main_takes_its_arguments_from_sys_argv(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nets", "--version"])
    main()
    assert capsys.readouterr().out.startswith("nets ")
    assert Path(load("train").__file__) == ROOT / "nets/commands/train.py"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "seconds", [0.8, *(pytest.param(s, marks=pytest.mark.deep) for s in (0.3, 1.5, 2.5))]
)
def test_a_signal_during_imports_is_one_line(seconds, number, code):
    """For each start of a command; a busy machine is still importing then."""
    starts = [["train.py"], ["-m", "nets", "eval", "no run"], ["eval.py", "no run"]]
    started = [
        subprocess.Popen([sys.executable, *args], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for args in (starts if seconds > 1 else starts[:1])
    ]
    time.sleep(seconds)
    for process in started:
        process.send_signal(number)
        error = process.communicate(timeout=60)[1]
        if "no such run" not in error:  # it was quicker
            name = {130: "interrupted", 143: "terminated"}[code]
            assert (process.returncode, error) == (code, f"error: {name}\n")


def test_options_and_other_arguments_come_in_any_order(tmp_path):
    for order in (["x", "--json", "y.png"], ["--json", "x", "y.png", "--best"], ["x", "y.png", "--best"]):
        args = load("eval").parser().parse_args(order)
        assert (args.run, args.images) == ("x", ["y.png"])
    args = load("gradcheck").parser().parse_args(["--batch", "2", "digits", "--seed", "3", "Conv2d"])
    assert args.target == ["digits", "Conv2d"] and (args.batch, args.seed) == (2, 3)
    assert load("train").parser().parse_args(["--force", "cifar10", "--seed", "3"]).config == "cifar10"


@pytest.mark.parametrize(
    "args, words",
    [
        (["survive", "--kills", "-1"], "--kills: must be at least 0, got -1"),
        (["survive", "--seed", "9" * 30], "--seed: must be at most 9223372036854775807"),
        (["train", "--seed", "9" * 30], "--seed: must be at most"),
        (["lecture", "--seed", "-1"], "--seed: must be at least 0, got -1"),
        (["summary", "--batch", "9" * 5000], "--batch: invalid whole number value"),
        (["summary", "--batch", "9" * 30], "--batch: must be at most 2147483647"),
        (["distributed-bench", "--mb", "nan"], "--mb: must be at least 1e-06, got nan"),
        (["distributed-plan", "--rate", "0"], "--rate: must be at least 1, got 0.0"),
        (["bench", "--json", "no/folder.json"], "--json: no/folder.json: no such folder"),
        (["bench", "--plot", "tests"], "--plot: tests: is a folder"),
        (["eval", "README.md"], "README.md: is a file; name the run's folder first: nets eval RUN IMAGE"),
        (["summary", "--batch=--"], "argument --batch: expected one argument"),
        (["stream-bench", "digits", "--workers", "9" * 5000], "--workers: must be whole numbers up to 1024"),
        (["watch", ""], "RUN: expected a path, got ''"),
    ],
)
def test_a_value_out_of_range_is_named_in_one_short_line(args, words):
    error = shell(*args, code=2)
    assert words in error and len(error) < 500


def test_a_home_folder_is_expanded_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    parsed = load("train").parser().parse_args(["--out=~/runs", "--data-root=~/data"])
    assert (parsed.out, parsed.data_root) == (f"{tmp_path}/runs", f"{tmp_path}/data")
    parsed = load("eval").parser().parse_args(["~/run", "~/a.png"])
    assert (parsed.run, parsed.images) == (f"{tmp_path}/run", [f"{tmp_path}/a.png"])
    (tmp_path / "mine.toml").write_text((ROOT / "configs/two_weight.toml").read_text())
    assert shell("summary", "~/mine.toml") == shell("summary", "two_weight")


def test_every_path_argument_expands_the_home_folder():
    """An argument whose metavar or help names a file or folder has a type of its own."""
    for command in COMMANDS:
        for action in load(command).parser()._actions:
            if action.metavar in ("FILE", "DIR", "RUN", "IMAGE", "SRC", "DST"):
                assert action.type is not None, f"{command} {action.dest}"
                assert action.type("~/x") == f"{Path.home()}/x", f"{command} {action.dest}"
