"""Every argument of every command: a short form of `python -m tests.fuzz_arguments`."""

import pytest

from nets.commands import COMMANDS
from tests import fuzz_arguments


@pytest.fixture(scope="module", autouse=True)
def prepared(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        fuzz_arguments.prepare(tmp_path_factory.mktemp("fuzz"), patch)
        yield


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("count", [2, pytest.param(30, marks=pytest.mark.deep)])
def test_every_argument_is_accepted_or_refused_in_one_line(command, count):
    cases, faults = fuzz_arguments.fuzz(command, count)
    assert cases >= 2 * count and not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "leave, words",
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: exit(9), "exit code 9"),
        (lambda: exit(2), "not one line"),
    ],
)
def test_a_fault_is_found(leave, words, monkeypatch):
    """Checks the check itself."""
    monkeypatch.setattr(fuzz_arguments, "main", lambda argv: leave())
    assert words in fuzz_arguments.fault("train", [])
