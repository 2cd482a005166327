"""Batch norm over all processes."""

import pytest
import torch

from nets.distributed.backward import local_statistics
from nets.distributed.sync_norm import SyncBatchNorm2d, synchronize
from nets.kernels import lower, native
from nets.kernels.native_forms import NormAct
from nets.layers.norm import BatchNorm2d
from nets.training.build import build
from nets.training.world import World
from tests.distributed.nets import small_net


def test_a_synchronized_net_keeps_names_and_tensors():
    layers = ["BatchNorm2d", {"type": "Residual", "body": ["BatchNorm2d"]}, "GlobalAvgPool"]
    net = build(layers, (3, 4, 4))[0]
    shared = net.children["0"]
    net.children["1"].children["body"].children["0"] = shared
    before, state = {**net.params, **net.buffers}, [id(t) for t in (net.params | net.buffers).values()]
    assert synchronize(net, World()) is net
    after = {**net.params, **net.buffers}
    assert [*after] == [*before] and [id(t) for t in after.values()] == state
    norms = [layer for layer in net.leaves() if isinstance(layer, BatchNorm2d)]
    assert len(norms) == 2 and norms[0] is norms[1] and type(norms[0]) is SyncBatchNorm2d
    net.eval()
    assert not norms[0].training
    assert local_statistics(net) == []


@pytest.mark.skipif(not native.available(torch.device("cpu"), torch.float32), reason="no kernels")
def test_synchronized_norms_are_not_fused():
    """A stage would take its own rows' sums in backward."""
    net = synchronize(small_net(), World())
    kinds = [type(layer) for layer in lower(net, "native", "cpu", torch.float32).walk()]
    assert SyncBatchNorm2d in kinds and NormAct not in kinds
