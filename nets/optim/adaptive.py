"""An optimizer that finds its own rate: bolder while steps pay, back and shorter when they don't."""

import torch
from torch import Tensor

from nets.optim.sgd import update_

LEAST = 0.15  # a rise of less than this share of what the slope promised counts as none
REACH = 2.0  # no weight moves further in one step


class Adaptive:
    """Gradient steps with a rate r for every weight, which cuts and raises itself.

    P is what is climbed (a loss counts as −loss) and g its gradient. A step r·g promises, by the
    slope alone, a rise of Σ r·g². What it brought, as a share ρ of that promise, decides:

        ρ < 0.15  P fell, or all but stood still: the step is taken back and every rate cut,
                  r ← shrink·r; the next step starts from the kept point, with the kept gradient
        else      the new point is kept, and the rates are raised, r ← r / (1 − ρ), but to no
                  more than grow·r; a weight whose slope changed its sign went too far: r ← shrink·r

    The raise is the parabola's: with this slope at the start and this rise it would be back to
    the old P at r / (1 − ρ). A straight line, ρ = 1, has no such end, hence `grow`.

    Three bounds keep a bold step sane. None promises more than |P|, which is all there is to gain: P
    ends at 0. None moves a weight by more than 2: a sigmoid's slope dies off within a few units, and
    a weight thrown far out would meet a plateau there whose rise is too small to lead back. And no
    rate is more than `max_ratio` times the net's smallest: else, while some slopes change sign with every
    step and stay cut, one weight with ever higher rates would walk out on such a plateau alone.
    A task whose weights need very different rates is learnt better without: max_ratio=math.inf.

    `shrink`, `grow` and `max_ratio` can be set; LEAST = 0.15 and REACH = 2 are fixed.

    The same batch must come every time, the whole training set: P of two different batches says
    nothing about the step between them. The last step of all isn't judged any more; `restore_best()`
    goes back to the last point that was.

    params    name -> tensor, updated in place (a net's `params`)
    lr        the rate that every weight starts with
    maximize  climb: `value` is a performance, not a loss
    num_nets  S, where every parameter leads with S separate nets and `value` is (S): each net
              then has its own rates, and takes back its own steps

    Sources: Vogl et al. 1988 and Battiti 1989 ("bold driver") for cutting and taking back;
    Tollenaere 1990 ("SuperSAB") for a rate a weight; Conn, Gould and Toint 2000, "Trust-region
    methods", for judging a step by its promise.
    """

    layerwise = False  # a step is judged as a whole

    def __init__(
        self,
        params: dict[str, Tensor],
        lr: float | Tensor,
        shrink: float = 0.5,
        grow: float = 50.0,
        max_ratio: float = 1000.0,
        maximize: bool = False,
        num_nets: int | None = None,
    ):
        self.params, self.shrink, self.grow, self.max_ratio = params, shrink, grow, max_ratio
        self.sign = 1 if maximize else -1
        self.rate = {name: torch.ones_like(w) * lr for name, w in params.items()}
        self.kept = {name: w.clone() for name, w in params.items()}
        self.slope = {name: torch.zeros_like(w) for name, w in params.items()}
        some = next(iter(params.values()))
        self.promised = some.new_zeros(() if num_nets is None else num_nets)
        self.value = torch.full_like(self.promised, -torch.inf)

    def state(self) -> dict[str, Tensor]:
        """What it keeps from step to step, by name: part of a checkpoint."""
        kinds = {"rate": self.rate, "kept": self.kept, "slope": self.slope}
        state = {f"{kind}.{name}": t for kind, tensors in kinds.items() for name, t in tensors.items()}
        return state | {"promised": self.promised, "value": self.value}

    def step(self, grads: dict[str, Tensor], lr_factor=1.0, loss: Tensor | None = None, ok=None):
        """Judge the last step by `loss` (() or (S)), P or the loss at the weights now, and take one.

        grads are the gradients there; lr_factor multiplies this step. Nothing is read back to the
        host, and all state is changed in place; or not at all where ok, a tensor (), is false.
        ValueError without a loss.
        """
        if loss is None:
            raise ValueError("Adaptive.step needs the loss at the weights as they are")
        if ok is None:
            return self._step(grads, lr_factor, loss)
        standing = [*self.params.values(), *self.state().values()]
        before = [t.clone() for t in standing]
        self._step(grads, lr_factor, loss)
        for t, old in zip(standing, before):
            update_(t, old, ~ok)

    def _step(self, grads: dict[str, Tensor], factor, value: Tensor):
        value = value * self.sign
        rise = value - self.value
        good = rise >= LEAST * self.promised  # NaN isn't; at the first step, when P was −∞, all is
        raised = (self.promised / (self.promised - rise)).nan_to_num(1.0)  # 1 / (1 − ρ)
        raised = torch.where(rise <= self.promised, raised, self.grow).clamp(max=self.grow)
        self.value.copy_(torch.where(good, value, self.value))
        promised = torch.zeros_like(self.promised)
        for name, w in self.params.items():
            rate, slope, kept = self.rate[name], self.slope[name], self.kept[name]
            g, ok = grads[name] * self.sign, _like(good, w)
            same = g.sign() * slope.sign()  # 0 where there was no slope: that rate stays
            more = torch.where(same > 0, _like(raised, w), 1.0)
            rate.mul_(torch.where(ok & (same >= 0), more, self.shrink))
            kept.copy_(torch.where(ok, w, kept))
            slope.copy_(torch.where(ok, g, slope))
        least = torch.stack([r.flatten(promised.dim()).amin(-1) for r in self.rate.values()]).amin(0)
        for name, w in self.params.items():
            rate, slope = self.rate[name], self.slope[name]
            rate.copy_(torch.minimum(rate, _like(self.max_ratio * least, w)))
            rate.copy_(torch.minimum(rate, REACH / (factor * slope).abs()))  # no bound without a slope
            promised += (rate * factor * slope * slope).flatten(promised.dim()).sum(-1)
        most = self.value.abs()
        scale = torch.where(promised > most, most / promised, 1.0)
        for name, w in self.params.items():
            self.rate[name].mul_(_like(scale, w))
            w.copy_(self.kept[name] + self.rate[name] * factor * self.slope[name])
        self.promised.copy_(promised * scale)

    def restore_best(self):
        """Put the weights back to the best point that was judged."""
        for name, w in self.params.items():
            w.copy_(self.kept[name])


def _like(t: Tensor, w: Tensor) -> Tensor:
    """t, () or (S), shaped so that it meets w's leading dimension."""
    return t.view(t.shape + (1,) * (w.dim() - t.dim()))
