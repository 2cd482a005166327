import contextlib

import pytest
import torch

from nets.common.errors import Stopped
from tests.training.ended_runs import ended, make, stop
from tests.training.fake_cuda import FakeCuda, FakeGraph


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stopped):
        ended(make(""), out, 7, stop).train()
    return out


@pytest.fixture
def cuda(monkeypatch):
    """torch.cuda is a FakeCuda."""
    fake = FakeCuda()
    stream = lambda: type("Stream", (), {"wait_stream": lambda self, other: None})()  # noqa: E731
    parts = {
        "Stream": stream, "current_stream": stream, "stream": lambda s: contextlib.nullcontext(),
        "CUDAGraph": FakeGraph, "graph": fake.record, "graph_pool_handle": lambda: "the pool",
        "set_stream": lambda s: None,
        "get_rng_state": lambda: fake.draws.clone(), "set_rng_state": lambda t: fake.draws.copy_(t),
    }  # fmt: skip
    for name, part in parts.items():
        monkeypatch.setattr(torch.cuda, name, part)
    return fake
