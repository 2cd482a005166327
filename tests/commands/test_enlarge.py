"""nets enlarge refuses to overwrite."""

import pytest

from nets.commands import enlarge
from nets.common.errors import UsageError
from tests.alexnet import ENLARGE


def test_a_folder_that_exists_is_not_overwritten(alexnet_tree, tmp_path):
    with pytest.raises(UsageError, match="exists already"):
        enlarge.main([str(alexnet_tree), str(tmp_path), *ENLARGE])
