"""A train step, or the making of a batch, as a CUDA graph: captured once for each shape, then only replayed.

A step launches hundreds of kernels, and a fast GPU is done with one before the next is launched. A
graph launches them all at once. What it reads and writes lies where it lay at capture: parameters
and momentum are changed in place anyway, and the batch is copied into a place of its own.
"""

import warnings

import torch
from torch import Tensor
from torch.backends import cudnn

WARM_UPS = 3  # steps that let libraries set themselves up before anything is captured


class Captured:
    """A step(*tensors), replayed where it can be.

    step       changes only tensors that `standing()` lists, in place, and returns tensors
    standing   () -> every tensor that lives from step to step: parameters, statistics, momentum
    key        () -> what else decides what a step does: another key, another capture

    Where a step can't be captured, it is run as it is, after one warning that says why. A step's
    results are overwritten by the next.
    """

    def __init__(self, step, standing, key=lambda: None):
        self.step, self.standing, self.key = step, standing, key
        self.graphs = {}  # (shapes, key) -> (graph, its inputs, its outputs)
        self.pool = None  # the memory of all graphs: no two are replayed at once
        self.fails = False

    def __call__(self, *tensors: Tensor | None):
        found = self._graph(tensors)
        if found is None:
            return self.step(*tensors)
        graph, inputs, out = found
        for to, t in zip(inputs, tensors):
            if t is not None:
                to.copy_(t)
        graph.replay()
        return out

    def prepare(self, *tensors: Tensor | None):
        """Capture the step for such tensors, whatever numbers they hold; nothing is trained."""
        self._graph(tensors)

    def _graph(self, tensors):
        """What was captured for such tensors, now if not before; None where it can't be."""
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
                    f"no CUDA graph of this step, it runs without: {e}".split("\n")[0], stacklevel=3
                )
                return None
            self.graphs[shapes, self.key()] = found
        return found

    def _capture(self, tensors):
        """Capture the step; what stands is afterwards as it was before, and nothing was trained."""
        inputs = [None if t is None else t.clone() for t in tensors]
        before = [t.detach().clone() for t in self.standing()]
        draws, stream = torch.cuda.get_rng_state(), torch.cuda.current_stream()
        searches, cudnn.benchmark = cudnn.benchmark, True  # the fastest kernels: these shapes come often
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
            torch.cuda.set_stream(stream)  # a capture that fails may leave its own
            torch.cuda.set_rng_state(draws)
            with torch.no_grad():
                after = self.standing()
                for t, old in zip(after, before):
                    t.copy_(old)
                for t in after[len(before) :]:  # momentum that the first step made
                    t.zero_()
        return graph, inputs, out
