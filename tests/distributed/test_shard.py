"""A step with sums over processes, with and without a sharded optimizer."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nets.distributed.backward import Backward
from nets.distributed.buckets import Reducer
from nets.distributed.shard import Scatterer, ShardedSGD
from nets.distributed.sync_norm import synchronize
from nets.losses import CrossEntropyLoss
from nets.optim.sgd import SGD
from nets.training.step import train_step
from nets.training.world import World
from tests.distributed.nets import small_net
from tests.training.test_step import OnlyOn


@pytest.mark.parametrize("wire", [None, torch.bfloat16], ids=["same", "bfloat16"])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_step_stays_on_a_fake_cuda_device(sharded, wire):
    """Buckets, the norm's own arithmetic and the pieces; nothing is read back to the host."""
    world = World()
    with FakeTensorMode():
        net, loss = synchronize(small_net("cuda"), world), CrossEntropyLoss()
        kind = Scatterer if sharded else Reducer
        reducer = kind(net.params, world, 0.0001, wire)
        optimizer = ShardedSGD(reducer, 0.1, 0.9) if sharded else SGD(net.params, 0.1, 0.9)
        statistics = [t for layer in net.walk() for t in layer.buffers.values() if layer is not net]
        step = train_step(net, loss, optimizer, backward=Backward(reducer, 0.5, 0.5, statistics))
        x, y = torch.rand(4, 3, 6, 6, device="cuda"), torch.randint(3, (4,), device="cuda")
        with OnlyOn("cuda"):
            result = step(x, y, torch.ones((), device="cuda"))
        assert len(reducer.buckets) > 2 and all(t.device.type == "cuda" for t in result if t is not None)
