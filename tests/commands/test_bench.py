"""The arguments of nets bench."""

import pytest

from nets.common.errors import UsageError
from tests.bench.common import command


@pytest.mark.parametrize(
    "args, why",
    [
        (["--rounds", 0], "--rounds"),
        (["--scaling", "--profile"], "can't be combined"),
        (["--set", "train.optimizer=adaptive"], "adaptive has no autograd form"),
        (["--batch", 0], "--batch"),
    ],
)
def test_wrong_arguments_are_usage_errors(args, why):
    with pytest.raises(UsageError, match=why):
        command("cross", *args)
