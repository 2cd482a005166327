"""Captured steps, with a fake CUDA that replays a graph by running the step again."""

import pytest
import torch

from nets.training.cuda_graph import Captured


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
