"""A CUDA graph of a train step, or of making a batch: captured once for each shape, then replayed.

A step launches hundreds of kernels, and a fast GPU finishes one before the next is launched. A graph
launches all of them at once. It reads and writes the memory that it had at capture: parameters and
momentum are changed in place anyway, and each batch is copied into a fixed place.
"""

import warnings

import torch
from torch import Tensor
from torch.backends import cudnn

WARM_UPS = 3  # steps before the capture, in which libraries initialize


class Captured:
    """A function step(*tensors), replayed as a CUDA graph where possible.

    step        changes only the tensors in `persistent()`, in place, and returns tensors
    persistent  () -> every tensor that lives from step to step: parameters, statistics, momentum
    key         () -> whatever else the step depends on; each key has its own capture

    If a step can't be captured, it runs without a graph, after one warning with the reason. The next step
    overwrites a step's results.
    """

    def __init__(self, step, persistent, key=lambda: None):
        self.step, self.persistent, self.key = step, persistent, key
        self.graphs = {}  # (shapes, key) -> (graph, its inputs, its outputs)
        self.pool = None  # memory that all graphs share: no two are replayed at once
        self.fails = False

    def __call__(self, *tensors: Tensor | None):
        found = self._graph(tensors)
        if found is None:
            return self.step(*tensors)
        graph, inputs, out = found
        for to, t in zip(inputs, tensors):
            if t is not None and to is not None:
                to.copy_(t)
        graph.replay()
        return out

    def prepare(self, *tensors: Tensor | None):
        """Capture the step for tensors of these shapes. Nothing is trained."""
        self._graph(tensors)

    def _graph(self, tensors):
        """The capture for tensors of these shapes, made now if there is none; None if it can't be made."""
        if self.fails:
            return None
        shapes = tuple(None if t is None else (t.shape, t.dtype, t.stride()) for t in tensors)
        found = self.graphs.get((shapes, self.key()))
        if found is None:
            try:
                found = self._capture(tensors)
            except RuntimeError as e:
                self.fails = True
                warnings.warn(
                    f"no CUDA graph of this step, it runs without one: {e}".split("\n")[0], stacklevel=3
                )
                return None
            self.graphs[shapes, self.key()] = found
        return found

    def _capture(self, tensors):
        """Capture the step. Afterwards the persistent tensors are as they were before."""
        inputs = [None if t is None else t.clone() for t in tensors]
        before = [t.detach().clone() for t in self.persistent()]
        draws, stream = torch.cuda.get_rng_state(), torch.cuda.current_stream()
        searches, cudnn.benchmark = (
            cudnn.benchmark,
            True,
        )  # search for the fastest kernels: these shapes occur often
        try:
            side = torch.cuda.Stream()
            side.wait_stream(stream)
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    self.step(*inputs)
            stream.wait_stream(side)
            self.pool = self.pool or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool):
                out = self.step(*inputs)
        finally:
            cudnn.benchmark = searches
            torch.cuda.set_stream(stream)  # a failed capture may leave its own stream
            torch.cuda.set_rng_state(draws)
            with torch.no_grad():
                after = self.persistent()
                for t, old in zip(after, before):
                    t.copy_(old)
                for t in after[len(before) :]:  # momentum that the first step made
                    t.zero_()
        return graph, inputs, out
