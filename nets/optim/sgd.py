"""Optimizers take a step along the gradient, in place; schedules say how long a step."""

import math
from fnmatch import fnmatch

import torch
from torch import Tensor


class SGD:
    """Gradient steps with rate constant r, momentum μ and weight decay λ.

        g = dw + λ·w          v = μ·v + g
        w = w − r·v           or, Nesterov, w − r·(g + μ·v)

    params    name -> tensor, updated in place (a net's `params`)
    maximize  climb: the sign of dw is turned
    groups    tables with `match`, a list of name patterns ("*.bias"), and any of `lr_scale`, momentum,
              `weight_decay` for the parameters that match; `lr_scale` multiplies `rate`.
              The first group that matches counts. `until_epoch` is the trainer's: see `constants`.

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum".
    """

    layerwise = True  # may be given the gradients a layer at a time

    def __init__(
        self,
        params: dict[str, Tensor],
        rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        groups=(),
    ):
        self.params, self.nesterov, self.maximize = params, nesterov, maximize
        self.constants: set[str] = set()  # parameters that are left as they are
        self.settings = {}
        for name in params:
            group = of_group(name, groups)
            self.settings[name] = (
                rate * group.get("lr_scale", 1.0),
                group.get("momentum", momentum),
                group.get("weight_decay", weight_decay),
            )
        self.velocity = {name: torch.zeros_like(w) for name, w in params.items() if self.settings[name][1]}

    def downhill(self, g: Tensor) -> Tensor:
        """Against which a step is taken: the gradient, or, to climb, its opposite."""
        return -g if self.maximize else g

    def state(self) -> dict[str, Tensor]:
        """What it keeps from step to step, by name: part of a checkpoint."""
        return {f"velocity.{name}": v for name, v in self.velocity.items()}

    def step(self, grads: dict[str, Tensor], factor=1.0, value=None, ok=None, names=None):
        """One step, of all parameters or of those named.

        factor: the schedule's multiple of the rate, a number or a tensor (). value, the loss,
        is for optimizers that judge a step by it; here it doesn't matter. ok: a tensor (); if
        it is false nothing changes.
        """
        for name in self.params if names is None else names:
            if name not in grads or name in self.constants:
                continue
            w = self.params[name]
            rate, momentum, weight_decay = self.settings[name]
            g = self.downhill(grads[name])
            if weight_decay:
                g = g + weight_decay * w
            if momentum:
                v = change(self.velocity[name], momentum * self.velocity[name] + g, ok)
                g = g + momentum * v if self.nesterov else v
            change(w, w - g * (rate * factor), ok)


def change(t: Tensor, new: Tensor, ok: Tensor | None) -> Tensor:
    """t becomes new, in place; unless ok () is false."""
    return t.copy_(new if ok is None else torch.where(ok, new, t))


def of_group(name: str, groups) -> dict:
    """The first group that a parameter's name matches."""
    return next((g for g in groups if any(fnmatch(name, m) for m in g["match"])), {})


def constants(names, groups, epoch: float) -> list[str]:
    """The parameters that a group has trained until this epoch, and no longer."""
    return [n for n in names if of_group(n, groups).get("until_epoch", math.inf) <= epoch]


def constant(share: float) -> float:
    """The rate stays."""
    return 1.0


def linear(share: float) -> float:
    """Down to 0 in a straight line."""
    return 1.0 - share


def cosine(share: float) -> float:
    """Down to 0 along half a cosine. Source: Loshchilov and Hutter 2016, "SGDR"."""
    return 0.5 * (1 + math.cos(math.pi * share))


def step(share: float) -> float:
    """Cut by ten after each quarter of the run: three times in all.

    AlexNet's rate was cut so often, when the validation error stopped falling; the paper doesn't
    say when that was. Source: Krizhevsky, Sutskever and Hinton 2012, 5.
    """
    return 0.1 ** int(4 * share)


SCHEDULES = {f.__name__: f for f in (constant, linear, cosine, step)}


def factor(schedule: str, step: int, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    """What multiplies the rate at `step` of `steps`: up to 1 over `warmup` steps, then down to `floor`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(floor, SCHEDULES[schedule]((step - warmup) / max(1, steps - warmup)))
