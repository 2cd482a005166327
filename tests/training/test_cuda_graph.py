"""Captured steps, with a fake CUDA that replays a graph by running the step again."""

import contextlib
import dataclasses

import pytest
import torch

from nets.training.cuda_graph import Captured
from nets.training.hooks import Capture
from nets.training.run import Run
from tests.training.test_run import CPU, recipe


class FakeGraph:
    def replay(self):
        self.again()


class FakeCuda:
    """Stands in for torch.cuda in what a capture asks of it. `of(step)` can be captured."""

    def __init__(self):
        self.graph, self.captures, self.replays, self.draws = None, 0, 0, torch.zeros(8, dtype=torch.uint8)

    def of(self, step):
        def watched(*inputs):
            out = step(*inputs)
            if self.graph is None:
                return out
            return self._recorded(out, lambda: step(*inputs))

        return watched

    def _recorded(self, out, again):
        def replay():
            self.replays += 1
            new = again()
            for old, value in [(out, new)] if isinstance(out, torch.Tensor) else zip(out, new):
                old.copy_(value)

        self.graph.again = replay
        self.captures += 1
        return out

    @contextlib.contextmanager
    def record(self, graph, pool):
        assert pool == "the pool"
        self.graph = graph
        try:
            yield
        finally:
            self.graph = None


@pytest.fixture
def cuda(monkeypatch):
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


def test_a_captured_step_does_what_the_step_does(cuda):
    w, searching = torch.zeros(3), []

    def step(x, factor, weight):
        searching.append(torch.backends.cudnn.benchmark)
        cuda.draws.add_(1)
        w.add_(x * factor)
        return w.sum(), None if weight is None else weight + 1

    def outputs(x, factor, weight=None):
        return [t for t in step(x, factor, weight) if t is not None]

    captured = Captured(cuda.of(outputs), lambda: [w])
    x, one = torch.arange(3.0), torch.ones(())
    captured.prepare(x, one)
    assert cuda.captures == 1 and not w.any() and not cuda.draws.any()
    assert all(searching) and len(searching) == 4 and not torch.backends.cudnn.benchmark
    assert captured(x, one)[0] == 3 and captured(2 * x, one)[0] == 9
    assert torch.equal(w, 3 * x) and cuda.captures == 1 and cuda.replays == 2
    captured(x[:, None].expand(3, 3)[0], one)  # the same shape, other strides
    assert cuda.captures == 2
    assert captured(x, one, x)[1].tolist() == [1, 2, 3] and cuda.captures == 3


def test_a_step_that_cannot_be_captured_runs_after_one_warning(cuda):
    w = torch.zeros(())

    def step(x):
        if cuda.graph:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return (w.add_(x),)

    captured = Captured(cuda.of(step), lambda: [w])
    with pytest.warns(
        UserWarning, match="runs without one: operation not permitted when stream is capturing$"
    ):
        assert captured(torch.ones(()))[0] == 1
    assert captured(torch.ones(()))[0] == 2 and cuda.replays == 0


@pytest.mark.parametrize("skip", [0.5, 0.0])
def test_every_step_of_a_run_is_captured_before_the_first(skip, cuda, tmp_path, monkeypatch):
    """Two sizes of picture, and a parameter that becomes constant in the middle of an epoch."""
    conf = recipe()
    groups = ({"match": ["0.*"], "until_epoch": 0.6}, {"match": ["2.weight"], "until_epoch": 1.0})
    conf = dataclasses.replace(
        conf, train=dataclasses.replace(conf.train, param_groups=groups, skip_fraction=skip)
    )
    plain = Run.from_config(conf, CPU, tmp_path / "plain")
    plain.train()

    run = Run.from_config(conf, CPU, tmp_path / "captured")
    run.feed.make = Captured(cuda.of(run.feed._make), list, lambda: run.feed.side)
    run.learner.capture()
    run.learner.captured.step = cuda.of(run.learner.learn)
    capture, ready = Capture.before_run, []

    def captured(*args):
        capture(*args)
        ready.append((cuda.captures, cuda.replays))

    monkeypatch.setattr(Capture, "before_run", captured)
    run.train()
    # batches of two sizes; steps of these, and of the first with the parameter that is constant later
    assert ready == [(5, 2)] and cuda.captures == 5  # with a batch of each size made
    assert cuda.replays == 2 + 2 * run.steps
    assert all(torch.equal(p, plain.net.params[name]) for name, p in run.net.params.items())
    same = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "captured")]
    assert same[0] == same[1]
