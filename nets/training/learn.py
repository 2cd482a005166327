"""A training step of a run: the train step, what it adds to the metrics, and its CUDA graph."""

from torch import Tensor

from nets.data.selection import Selection
from nets.training.cuda_graph import Captured
from nets.training.guard import Guard
from nets.training.metrics import RunningMetrics
from nets.training.step import train_step


class Learner:
    """learner(indices, x, target, lr_factor) takes one step and returns its loss ().

    weights    selected samples that are weighted, or None
    guard      checks for non-finite values. With ignore=True it checks only the loss, after the step
    metrics    to which each step is added
    batch      samples of a step over all processes; 0: those of the batch
    frozen     names of parameters that stay as they are at present

    On a GPU `captured` runs the step as a CUDA graph, a graph for each shape and set of frozen names.
    """

    def __init__(self, net, loss, optimizer, guard: Guard, selection: Selection | None = None, backward=None,
                 ignore: bool = False, batch: int = 0, metrics: tuple[RunningMetrics, ...] = ()):  # fmt: skip
        self.net, self.optimizer, self.guard, self.selection = net, optimizer, guard, selection
        self.ignore, self.batch, self.metrics = ignore, batch, metrics
        self.frozen: frozenset[str] = frozenset()
        checks = None if ignore else guard
        self.step = train_step(net, loss, optimizer, selection is not None, checks, backward)
        self.captured: Captured | None = None

    def capture(self):
        """From now on, replay steps as CUDA graphs."""
        self.captured = Captured(self.learn, lambda: [*self.persistent().values()], lambda: self.frozen)

    def __call__(self, indices: Tensor, x: Tensor, target: Tensor, lr_factor: Tensor) -> Tensor:
        return (self.learn if self.captured is None else self.captured)(indices, x, target, lr_factor)

    def learn(self, indices: Tensor, x: Tensor, target: Tensor, lr_factor: Tensor) -> Tensor:
        s = self.selection
        result = self.step(x, target, lr_factor, s.weight[indices] if s else None, self.frozen)
        if s and result.scores is not None:
            s.update(indices, result.scores)
        ok = self.guard.check(result.loss) if self.ignore else result.ok
        for metrics in self.metrics:
            metrics.add(result.loss, result.num_correct, self.batch or len(target), ok)
        return result.loss

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that live from step to step, other than the hooks', by name in a checkpoint."""
        tensors = {f"net.{k}": v for k, v in (self.net.params | self.net.buffers).items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.state().items()}
        if self.selection:
            tensors |= {"selection.scores": self.selection.scores, "selection.weight": self.selection.weight}
        return tensors

    def persistent(self) -> dict[str, Tensor]:
        """Every tensor that a step changes."""
        tensors = self.tensors() | {f"guard.{k}": v for k, v in self.guard.state().items()}
        tensors |= {f"metrics.{i}": m.sums for i, m in enumerate(self.metrics)}
        return tensors | ({"selection.updated": self.selection.updated} if self.selection else {})
