"""What a config's [distributed] makes of a net's norms, its optimizer and its backward."""

import torch

from nets.distributed import shares
from nets.distributed.backward import Backward, local_statistics, weight
from nets.distributed.buckets import Reducer
from nets.distributed.shard import Scatterer, ShardedSGD
from nets.distributed.sync_norm import synchronize
from nets.distributed.world import World
from nets.training.config import Config
from nets.training.make import make_optimizer


def together(config: Config, net, loss, batch: int, world: World):
    """(optimizer, backward for train_step) of a net that `world` trains with batches of `batch` samples.

    Alone, the config's optimizer and None.
    """
    if world.size == 1:
        return make_optimizer(config, net, loss), None
    t, p = config.train, config.distributed
    shares.check(batch, world)
    if p.batch_norm == "sync":
        synchronize(net, world)
    wire = torch.bfloat16 if p.reduce_dtype == "bfloat16" else None
    if p.shard_optimizer:
        reducer = Scatterer(net.params, world, p.bucket_mb, wire)
        settings = (t.lr, t.momentum, t.nesterov, t.weight_decay, loss.maximize)
        optimizer = ShardedSGD(reducer, *settings, groups=t.param_groups)
    else:
        reducer, optimizer = Reducer(net.params, world, p.bucket_mb, wire), make_optimizer(config, net, loss)
    rows = shares.rows(batch, world)
    return optimizer, Backward(reducer, weight(loss, rows, batch), rows / batch, local_statistics(net))
