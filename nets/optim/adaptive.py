"""An optimizer that adapts its learning rates: they grow after good steps; bad steps are undone."""

import math

import torch
from torch import Tensor

from nets.common.ranges import check_range
from nets.optim.param_groups import check_settings

MIN_GAIN = 0.15  # a step must achieve this share of its predicted gain
MAX_MOVE = 2.0  # no weight changes by more in one step


class Adaptive:
    """Gradient steps with an adaptive learning rate r for each weight.

    P is the performance to maximize (for a loss, P = −loss), and g is its gradient. The slope predicts
    that a step r·g increases P by Σ r·g². Let ρ be the actual increase divided by the predicted one:

        ρ < 0.15  P decreased or hardly increased. The step is undone, and all rates are reduced,
                  r ← shrink·r. The next step starts from the best point, with the gradient there.
        else      The new point becomes the best point, and the rates are increased, r ← r / (1 − ρ), but
                  at most to grow·r. If a weight's gradient changed its sign, its rate is reduced instead,
                  r ← shrink·r, because the step went past a maximum.

    The factor 1 / (1 − ρ) comes from a parabola with the slope at the start of the step and with the
    increase at its end: at r / (1 − ρ) it is back at the old P. A straight line, ρ = 1, never is, so
    `grow` limits the factor.

    Three limits prevent steps that are too large:

        No step predicts a gain of more than |P|, because P can't exceed 0.
        No weight changes by more than 2. The derivative of a sigmoid vanishes within a few units, and a
        weight that moved far would reach a plateau, where the gradient is too small to lead back.
        No rate exceeds `max_ratio` times the net's smallest rate. Otherwise, while some gradients change
        sign at every step and their rates stay small, the rate of one other weight could keep growing
        and move that weight onto such a plateau.

    If the weights of a task need very different rates, max_ratio=math.inf is better. `shrink`, `grow`
    and `max_ratio` are settings; MIN_GAIN = 0.15 and MAX_MOVE = 2 are constants.

    Every step needs the same batch, the whole training set, because P of two batches can't be compared.
    The last step of a run has no following step that would undo it. `restore_best()` returns to the best
    point.

    params    name -> tensor, updated in place (a net's `params`)
    lr        the initial rate of every weight
    maximize  True: the loss is a performance, which is maximized
    num_nets  S, if the first axis of every parameter is that of S separate nets, and the loss is (S): each
              net then has its own rates, and its steps are undone independently

    Sources: Vogl et al. 1988 and Battiti 1989 ("bold driver") for reducing the rate and undoing steps;
    Tollenaere 1990 ("SuperSAB") for a rate per weight; Conn, Gould and Toint 2000, "Trust-region
    methods", for the comparison with the predicted gain.
    """

    layerwise = False  # a step needs the gradients of all layers

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
        if not isinstance(lr, Tensor):
            check_settings(lr=lr)
        check_range(shrink, "shrink", over=0, most=1)
        check_range(grow, "grow", least=1)
        if max_ratio != math.inf:
            check_range(max_ratio, "max_ratio", least=1)
        self.params, self.shrink, self.grow, self.max_ratio = params, shrink, grow, max_ratio
        self.lr, self.maximize, self.sign = lr, maximize, 1 if maximize else -1
        self.rate = {name: torch.ones_like(w) * lr for name, w in params.items()}
        self.kept = {name: w.clone() for name, w in params.items()}
        self.slope = {name: torch.zeros_like(w) for name, w in params.items()}
        # the names of state(): a rate per weight, the best point, its gradient, the predicted gain of the
        # current step, and P at the best point
        first = next(iter(params.values()))
        self.promised = first.new_zeros(() if num_nets is None else num_nets)
        self.value = torch.full_like(self.promised, -torch.inf)

    def state(self) -> dict[str, Tensor]:
        """The optimizer's own tensors by name, for checkpoints."""
        kinds = {"rate": self.rate, "kept": self.kept, "slope": self.slope}
        state = {f"{kind}.{name}": t for kind, tensors in kinds.items() for name, t in tensors.items()}
        return state | {"promised": self.promised, "value": self.value}

    def step(self, grads: dict[str, Tensor], lr_factor: float | Tensor = 1.0, loss: Tensor | None = None):
        """Accept or undo the previous step, and take the next one.

        grads      the gradients at the current weights
        lr_factor  multiplies this step; a number or a tensor ()
        loss       () or (S), the loss or performance at the current weights; ValueError without it

        No value is copied to the host, and all state is changed in place, as CUDA graphs need it.
        """
        if loss is None:
            raise ValueError("Adaptive.step needs the loss at the weights as they are")
        value = loss * self.sign
        gain = value - self.value
        # False if the gain is NaN. True at the first step, where the old value is −∞.
        accepted = gain >= MIN_GAIN * self.promised
        growth = (self.promised / (self.promised - gain)).nan_to_num(1.0)  # 1 / (1 − ρ)
        growth = torch.where(gain <= self.promised, growth, self.grow).clamp(max=self.grow)
        self.value.copy_(torch.where(accepted, value, self.value))
        promised = torch.zeros_like(self.promised)
        for name, w in self.params.items():
            rate, slope, kept = self.rate[name], self.slope[name], self.kept[name]
            g, ok = grads[name] * self.sign, _expand(accepted, w)
            agreement = g.sign() * slope.sign()  # 0 without a slope: the rate stays the same
            factor = torch.where(agreement > 0, _expand(growth, w), 1.0)
            rate.mul_(torch.where(ok & (agreement >= 0), factor, self.shrink))
            kept.copy_(torch.where(ok, w, kept))
            slope.copy_(torch.where(ok, g, slope))
        smallest = torch.stack([r.flatten(promised.dim()).amin(-1) for r in self.rate.values()]).amin(0)
        for name, w in self.params.items():
            rate, slope = self.rate[name], self.slope[name]
            rate.copy_(torch.minimum(rate, _expand(self.max_ratio * smallest, w)))
            rate.copy_(torch.minimum(rate, MAX_MOVE / (lr_factor * slope).abs()))  # no limit if slope is 0
            promised += (rate * lr_factor * slope * slope).flatten(promised.dim()).sum(-1)
        possible = self.value.abs()
        scale = torch.where(promised > possible, possible / promised, 1.0)
        for name, w in self.params.items():
            self.rate[name].mul_(_expand(scale, w))
            w.copy_(self.kept[name] + self.rate[name] * lr_factor * self.slope[name])
        self.promised.copy_(promised * scale)

    def restore_best(self):
        """Set the weights to the best point. This undoes the last step, whose performance isn't known yet."""
        for name, w in self.params.items():
            w.copy_(self.kept[name])


def _expand(t: Tensor, w: Tensor) -> Tensor:
    """t, () or (S), with as many axes as w, so that it multiplies along w's first axis."""
    return t.view(t.shape + (1,) * (w.dim() - t.dim()))
