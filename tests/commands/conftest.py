"""A short run that the tests of several commands share."""

import pytest

from tests.shell import QUICK, shell


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run of two epochs on digits: (its folder, what `nets train` printed)."""
    out = tmp_path_factory.mktemp("runs")
    return out / "digits", shell("train", *QUICK, "--out", out)
