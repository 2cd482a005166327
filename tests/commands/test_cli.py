"""The command line's help: every command, every argument, every default."""

import argparse
import subprocess
import sys
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


def test_commands_are_imported_only_when_they_run():
    code = "import sys, nets.commands; nets.commands.main([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert {n for n in loaded if n.startswith("nets.commands.")} == {"nets.commands.cli"}


def test_main_takes_its_arguments_from_sys_argv(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nets", "--version"])
    main()
    assert capsys.readouterr().out.startswith("nets ")
    assert Path(load("train").__file__) == ROOT / "nets/commands/train.py"
