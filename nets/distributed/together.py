"""The net's norms, the optimizer and the backward of several processes, as [distributed] of a config says."""

from collections.abc import Callable
from typing import Any

import torch

from nets.distributed.backward import Backward, local_statistics, weight
from nets.distributed.buckets import Reducer
from nets.distributed.shard import Scatterer, ShardedSGD
from nets.distributed.sync_norm import synchronize
from nets.training import validate
from nets.training.config import Config
from nets.training.world import World


def prepare(config: Config, net, loss, batch: int, world: World, make_optimizer: Callable[[], Any]):
    """World.prepare of a process group: (optimizer, backward), for batches of `batch` samples."""
    t, d = config.train, config.distributed
    validate.check(config, batch=batch, processes=world.size)
    if d.batch_norm == "sync":
        synchronize(net, world)
    wire = torch.bfloat16 if d.reduce_dtype == "bfloat16" else None
    if d.shard_optimizer:
        reducer = Scatterer(net.params, world, d.bucket_mb, wire)
        settings = (t.lr, t.momentum, t.nesterov, t.weight_decay, loss.maximize)
        optimizer = ShardedSGD(reducer, *settings, param_groups=t.param_groups)
    else:
        reducer, optimizer = Reducer(net.params, world, d.bucket_mb, wire), make_optimizer()
    rows = world.count(batch)
    return optimizer, Backward(reducer, weight(loss, rows, batch), rows / batch, local_statistics(net))
