"""Exit codes, suggestions and one-line descriptions of errors."""

import signal

import pytest

from nets.common import errors
from nets.common.errors import PeerError, describe, nearest, printable


def test_exit_codes():
    found = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.Problem)]
    assert {cls.__name__: cls.code for cls in found} == {
        "Problem": 1, "UsageError": 2, "BatchError": 2, "ModuleError": 2, "SavedError": 2, "Unsupported": 2,
        "DataError": 3, "CheckpointError": 4,
        "NonFiniteError": 5, "MismatchError": 6, "PeerError": 7, "Stopped": 1,
    }  # fmt: skip
    assert errors.Stopped(signal.SIGINT).code == 130 and errors.Stopped(signal.SIGTERM).code == 143
    assert str(errors.Stopped(signal.SIGTERM, " at step 3")) == "terminated at step 3"


@pytest.mark.parametrize(
    "name, end",
    [
        ("Relu", '; did you mean "ReLU"?'),
        ("conv2d", '; did you mean "Conv2d"?'),
        ("xyz", "; known: ReLU, Conv2d"),
        (3, "; known: ReLU, Conv2d"),
    ],
)
def test_the_nearest_name(name, end):
    assert nearest(name, iter(["ReLU", "Conv2d"])) == end


def test_an_error_is_described_with_its_place():
    def fails():
        raise ValueError("no")

    with pytest.raises(ValueError) as e:
        fails()
    line = fails.__code__.co_firstlineno + 1
    assert describe(e.value) == f"ValueError: no (test_errors.py, line {line})"
    assert describe(KeyError("a")) == "KeyError: 'a'"


def test_an_error_whose_text_raises_is_described():
    class Own(Exception):
        def __str__(self):
            raise RuntimeError

    assert describe(Own()) == "Own: (its text can't be shown: RuntimeError)"


def test_printable():
    assert printable("a\n b\t\x1b[2Jé\udcff") == "a b \\x1b[2Jé\\udcff"


def test_exit_code():
    assert PeerError.code == 7
