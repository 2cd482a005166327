"""Buckets of gradients."""

import torch

from nets.distributed.buckets import Reducer
from nets.training.world import World
from tests.distributed.nets import small_net


def test_buckets_are_sent_while_backward_runs(monkeypatch):
    """The last layers' first; one that isn't full only at the end."""
    net, sent = small_net(), []
    reducer = Reducer(net.params, World(), mb=0.00015)
    monkeypatch.setattr(reducer, "_start", lambda _, flat: sent.append(flat))
    wanted = [["4.bias", "4.weight", "1.bias"], ["1.weight", "0.bias"], ["0.weight"]]
    assert [[*b.places] for b in reducer.buckets] == wanted
    grads = {name: torch.full_like(w, i + 1.0) for i, (name, w) in enumerate(net.params.items())}
    counts = []
    for layer in ("4", "1", "0"):
        reducer.take({name: g for name, g in grads.items() if name[0] == layer and name != "0.bias"})
        counts.append(len(sent))
    assert counts == [0, 1, 2]
    found, _ = reducer.finish()
    assert len(sent) == 3 and "0.bias" not in found
    assert all(torch.equal(found[name], grads[name]) for name in found) and len(found) == len(grads) - 1
    assert reducer.buckets[1].view("0.bias").abs().sum() == 0, "what wasn't given is sent as 0"
    assert reducer.finish() == ({}, ()) and len(sent) == 3, "nothing is left from the step before"


def test_a_bucket_holds_one_type():
    params = {"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.float64), "c": torch.zeros(2)}
    reducer = Reducer(params, World())
    assert [[*b.places] for b in reducer.buckets] == [["c"], ["b"], ["a"]]
    reducer.take({name: torch.ones_like(w) for name, w in params.items()})
    grads, _ = reducer.finish()
    assert {name: g.dtype for name, g in grads.items()} == {name: w.dtype for name, w in params.items()}
