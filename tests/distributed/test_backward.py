"""The weights of each process's loss, and the statistics that are its own."""

import pytest
import torch

from nets.distributed.backward import local_statistics, weight
from nets.kernels import lower
from nets.losses import CrossEntropyLoss, Performance
from nets.training.world import World
from tests.distributed.nets import small_net


def test_weights_add_up():
    mean, total = CrossEntropyLoss(), CrossEntropyLoss(reduction="sum")
    worlds = [World(rank, 4) for rank in range(4)]
    assert sum(weight(mean, w.count(11), 11) for w in worlds) == pytest.approx(1)
    assert weight(total, 3, 11) == weight(Performance(), 3, 11) == 1


def test_statistics_of_a_fused_net():
    """They are the tensors that its fused form updates."""
    net = small_net()
    fused = lower(net, "native", "cpu", torch.float32)
    assert [id(t) for t in local_statistics(net)] == [id(t) for t in fused.buffers.values()]
    assert len(fused.buffers) == 2
