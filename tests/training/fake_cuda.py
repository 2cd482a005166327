"""A fake CUDA that replays a graph by running the step again."""

import contextlib

import torch


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
