import pytest

from nets.common.errors import Stopped
from tests.training.ended_runs import ended, make, stop


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stopped):
        ended(make(""), out, 7, stop).train()
    return out
