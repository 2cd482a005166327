"""Checks of a step of several processes, each a function of their World."""

import torch
import torch.distributed as dist

from nets.common.errors import CheckpointError
from nets.distributed.shard import ShardedSGD
from nets.losses import CrossEntropyLoss, MSELoss, Performance
from nets.optim.muon import Muon
from nets.optim.sgd import SGD
from nets.training.world import World
from tests.distributed.trained import BATCH, CLOSE, N, Trained, near, same_as_one, same_on_all


def momentum(world):
    _, many = same_as_one(world, epochs=2)
    same_on_all(world, many.kept())
    start = Trained(World(device=world.device), epochs=0).kept()
    for name, t in many.kept().items():
        assert name.endswith("bias") or not torch.equal(t, start[name]), f"{name} is as it was at the start"


def even_batches(world):
    same_as_one(world, batch=8)


def one_bucket(world):
    same_as_one(world, mb=4.0)


def other_losses(world):
    for loss in (CrossEntropyLoss(0.1, "sum"), MSELoss(), MSELoss("sum"), Performance()):
        same_as_one(world, loss=loss)


def muon(world):
    same_as_one(world, kind=Muon)


def frozen_layers(world):
    frozen = {"0.weight", "0.bias", "1.weight", "1.bias"}
    _, many = same_as_one(world, frozen=frozen, mb=4.0)
    start = Trained(World(device=world.device), epochs=0).net.params
    same = {name for name, w in many.net.params.items() if torch.equal(w, start[name])}
    # a bias before a norm has no gradient but rounding
    assert frozen <= same and {name for name in same if "weight" in name} <= frozen


def chosen_samples(world):
    """Samples that count for more or less than one, and what each has taught."""
    one, many = same_as_one(world, skip=True)
    same_on_all(world, {"scores": many.scores})
    assert (many.scores < 0).sum() == N - 2 * BATCH
    if one:
        near(many.scores, one.scores, "scores", 1e-6)  # in float32


def not_finite(world):
    """A picture that isn't finite, on one process, keeps all of them from that step."""
    _, many = same_as_one(world, poison=1, epochs=2)
    assert int(many.guard.skipped) == 1 and not many.results[2][0].isfinite()
    for kind in (SGD, ShardedSGD):
        many = Trained(world, kind=kind, norm="local", poison=1, epochs=2)
        same_on_all(world, many.net.params | many.net.buffers)
        kept = {"results": torch.stack(many.results)[[0, 1, 3]], **many.kept()}
        assert int(many.guard.skipped) == 1 and all(t.isfinite().all() for t in kept.values())


def sharded(world):
    _, many = same_as_one(world, kind=ShardedSGD)
    mine = torch.tensor([sum(p.numel() for p in many.optimizer.velocity.values())])
    every = world.gather(mine, world.size)
    whole = sum(p.numel() for p in many.net.params.values())
    assert every.sum() == whole
    assert every.max() <= whole / world.size + len(many.optimizer.scatterer.buckets)
    rough = Trained(world, kind=ShardedSGD, wire=torch.bfloat16)
    same_on_all(world, rough.net.params)
    off = max((many.net.params[name] - w).abs().max().item() for name, w in rough.net.params.items())
    assert 1e-6 < off < 2e-2, off


def pieces_are_judged_together(world):
    """An infinite gradient in one process's piece alone."""
    many = Trained(world, kind=ShardedSGD, epochs=0)
    reducer, guard = many.optimizer.scatterer, many.guard
    for bad in (False, True):
        grads = {name: torch.zeros_like(w) for name, w in many.net.params.items()}
        grads["0.weight"].view(-1)[-1] = torch.inf if bad else 0.0
        reducer.take(grads)
        pieces, _ = reducer.finish()
        assert guard.check(torch.zeros(()), [*pieces.values()]) != bad
    assert guard.skipped == 1
    mine = sum(int(g.isinf().sum()) for g in pieces.values())
    assert world.sum(torch.tensor([mine])) == 1


def sharded_goes_on(world):
    """One process's momentum, taken up by many, and the other way round."""
    state = [Trained(world, kind=ShardedSGD).optimizer.state()]
    dist.broadcast_object_list(state)
    moved = {name: v.to(world.device) for name, v in state[0].items()}
    assert [*moved] == [*Trained(World(device=world.device), epochs=0).optimizer.state()]
    same_as_one(world, kind=ShardedSGD, state=moved)
    try:
        Trained(world, kind=ShardedSGD, state={**moved, "velocity.8.bias": torch.zeros(7)})
    except CheckpointError as e:
        assert "velocity.8.bias" in str(e)
    else:
        raise AssertionError("a state of another net was taken")


def local_norms(world):
    """Each process's own statistics in the step; afterwards all have the same, their mean."""
    many = Trained(world, norm="local")
    same_on_all(world, many.kept())
    one = Trained(World(device=world.device), norm="local", batch=23)
    many = Trained(world, norm="local", batch=23)
    near(many.net.buffers["1.running_mean"], one.net.buffers["1.running_mean"], "the first mean")
    far = (many.net.buffers["1.running_var"] - one.net.buffers["1.running_var"]).abs().max()
    assert CLOSE < far < 0.1


def bfloat16_on_the_wire(world):
    fine, rough = Trained(world), Trained(world, wire=torch.bfloat16)
    same_on_all(world, rough.kept())
    off = max((fine.kept()[name] - t).abs().max().item() for name, t in rough.kept().items())
    assert 1e-6 < off < 2e-2, off


CHECKS = [
    *(momentum, even_batches, one_bucket, other_losses, muon, frozen_layers, chosen_samples, not_finite),
    *(sharded, pieces_are_judged_together, sharded_goes_on, local_norms, bfloat16_on_the_wire),
]
