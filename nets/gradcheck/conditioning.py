"""How far rounding moves autograd's own gradient: what the numbers of one layer allow beside their count.

A gradient can be ill-conditioned: the norm of two nearly equal numbers, a softmax of large ones, a mean that
is large beside the deviation. Then two right formulas differ by more than their sums' rounding.
"""

import torch
from torch import Tensor

from nets.gradcheck.measure import largest
from nets.gradcheck.reference import Answer, differentiate
from nets.gradcheck.replica import parts, replica
from nets.gradcheck.trace import Call
from nets.layers.base import run_backward

SAFETY = 4  # manual and autograd are off in different directions, and by the luck of single roundings


class Doubt:
    """The error of autograd's gradients for one call, by a second computation in another precision.

    In float64 the second one is in float32: its error, times the ratio of the two roundings, 2⁻²⁹, estimates
    that of the first. In a lower precision the second one is in float64, and the difference is the error.
    """

    def __init__(self, call: Call):
        self.call = call
        self._other: Answer | None = None
        self._nudged: dict[str, float] = {}

    @property
    def other(self) -> Answer:
        """Autograd's gradients in the other precision."""
        if self._other is None:
            call, x = self.call, self.call.x
            kind = torch.float32 if x.dtype == torch.float64 else torch.float64
            call.replay.restore(call.state)
            self._other = differentiate(replica(call.layer, kind), x.to(kind), call.dy.to(kind))
        return self._other

    def of_backward(self, name: str) -> float:
        """The absolute error that manual can have: how far the rounding of what forward saved moves it.

        The saved numbers are moved by much more than a rounding, and the difference is scaled down: so a
        jump at a tie counts as little.
        """
        call = self.call
        if name not in self._nudged:
            eps = torch.finfo(call.x.dtype).eps
            size = max(1e-5, 8 * eps)
            call.replay.restore(call.state)
            _, saved = call.layer.forward(call.x)
            floats = [t for t in parts(saved) if isinstance(t, Tensor) and t.is_floating_point()]
            moved = replica(saved, instead={id(t): t * (1 + size * torch.randn_like(t)) for t in floats})
            dx, grads = run_backward(call.layer, moved, call.dy)
            now, before = {**grads, "input": dx}, {**call.grads, "input": call.dx}
            both = {k: (now[k], before[k]) for k in now.keys() & before.keys()}
            both = {k: two for k, two in both.items() if two[0] is not None and two[1] is not None}
            gaps = {k: (a.double() - b.double()).abs() for k, (a, b) in both.items() if a.shape == b.shape}
            self._nudged = {k: SAFETY * eps / size * largest(gap[gap.isfinite()]) for k, gap in gaps.items()}
        return self._nudged.get(name, 0.0)

    def of(self, name: str | None, autograd: Tensor) -> float:
        """The absolute error that a right gradient can have. 0 if the other precision isn't supported.

        name: "output", "input", a parameter or a buffer; None for a tensor inside of a net.
        """
        try:
            other = self.other
        except Exception:
            return 0.0
        found = {"output": other.y, "input": other.dx, **other.buffers, **other.grads}.get(name or "")
        if found is None or found.shape != autograd.shape:
            return 0.0
        gap = (found.double() - autograd.double()).abs()
        error = largest(gap[gap.isfinite()])
        if autograd.dtype == torch.float64:
            error *= torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
        return SAFETY * error
