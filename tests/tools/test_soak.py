"""nets soak: what it compares."""

import pytest

from nets.common.errors import UsageError
from nets.tools.soak import compare


def test_too_few_log_entries_are_an_error_in_one_line():
    with pytest.raises(UsageError, match="--steps: 3 steps have too few log entries"):
        compare([{"step": 3, "memory": 1.0, "files": 1, "threads": 1, "python_threads": 1}], 3)
