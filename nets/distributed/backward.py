"""The backward of a step whose batch is split over several processes."""

from torch import Tensor

from nets.distributed.buckets import Reducer
from nets.layers.base import run_backward
from nets.layers.containers import Sequential
from nets.layers.norm import BatchNorm2d


def weight(loss, rows: int, batch: int) -> float:
    """The weight of a loss over `rows` rows in the loss of the whole batch.

    1 for a sum; for a mean L = Σ_i l_i/B = Σ_r (n_r/B)·L_r, with L_r the mean over n_r rows, n_r/B.
    """
    return rows / batch if getattr(loss, "reduction", "sum") == "mean" else 1.0


def local_statistics(net) -> list[Tensor]:
    """The running statistics that each process computes from its own rows."""
    norms = [layer for layer in net.walk() if type(layer) is BatchNorm2d]
    return list({id(t): t for norm in norms for t in norm.buffers.values()}.values())


class Backward:
    """backward(net, saved, dz, value, num_correct, frozen) -> (grads, value, num_correct) of the whole batch.

    A train step calls it instead of net.backward. Before that, `weigh` multiplies this process's loss and
    its gradient by their weight.

    weight      of this process's loss, see above
    share       this process's rows divided by the batch's
    statistics  running statistics to average over the processes, so that all have the same. Means are then
                the whole batch's; variances leave out the differences between the processes' means, as the
                net's own normalization does
    """

    def __init__(self, reducer: Reducer, weight: float, share: float, statistics=()):
        self.reducer, self.weight, self.share, self.statistics = reducer, weight, share, list(statistics)

    def weigh(self, value: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
        return value * self.weight, dz * self.weight

    def __call__(self, net, saved, dz: Tensor, value: Tensor, num_correct: Tensor, frozen=frozenset()):
        reducer = self.reducer
        reducer.along(value, num_correct, *(t * self.share for t in self.statistics))
        if isinstance(net, Sequential):
            options = {"frozen": frozen, "on_grads": reducer.take}
            left = net.backward(saved, dz, input_grad=False, **options)[1]
        else:
            left = run_backward(net, saved, dz, input_grad=False)[1]
        reducer.take({name: g for name, g in left.items() if name not in frozen})
        grads, (value, num_correct, *means) = reducer.finish()
        for t, mean in zip(self.statistics, means):
            t.copy_(mean)
        return grads, value, num_correct
