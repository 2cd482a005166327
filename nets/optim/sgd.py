"""SGD: gradient steps with momentum and weight decay."""

import torch
from torch import Tensor

from nets.optim.param_groups import check_groups, check_nesterov, check_settings, group_of

Update = tuple[Tensor, Tensor]  # a tensor, and its new value


class SGD:
    """Stochastic gradient descent with learning rate r, momentum μ and weight decay λ.

        g = dw + λ·w          v = μ·v + g
        w = w − r·v           or, with Nesterov momentum, w − r·(g + μ·v)

    params        name -> tensor, updated in place (a net's `params`)
    maximize      maximize instead of minimize: −dw replaces dw
    param_groups  tables with `match`, a list of name patterns such as "*.bias", and any of `lr_scale`,
                  `momentum` and `weight_decay` for the parameters that match; `lr_scale` multiplies lr. The
                  first group that matches applies. `until_epoch` is read by the training loop, see
                  param_groups.frozen_names.

    RangeError, a ValueError, for a setting that is out of range: what a config refuses, in the same words.
    Source: Sutskever et al. 2013, "On the importance of initialization and momentum".
    """

    layerwise = True  # step can be called with the gradients of one layer at a time

    def __init__(
        self,
        params: dict[str, Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        param_groups=(),
    ):
        self.params, self.nesterov, self.maximize, self.lr = params, nesterov, maximize, lr
        self.momentum, self.weight_decay, self.param_groups = momentum, weight_decay, param_groups
        check_settings(lr=lr, momentum=momentum, weight_decay=weight_decay)
        check_groups(param_groups)
        check_nesterov(nesterov, momentum, param_groups)
        self.settings = {}
        for name in params:
            group = group_of(name, param_groups)
            self.settings[name] = (
                lr * group.get("lr_scale", 1.0),
                group.get("momentum", momentum),
                group.get("weight_decay", weight_decay),
            )
        self.velocity = {name: torch.zeros_like(w) for name, w in params.items() if self.settings[name][1]}

    def state(self) -> dict[str, Tensor]:
        """The optimizer's own tensors by name, for checkpoints: the momentum of each parameter."""
        return {f"velocity.{name}": v for name, v in self.velocity.items()}

    def step(self, grads: dict[str, Tensor], lr_factor: float | Tensor = 1.0, loss=None, names=None):
        """Update the parameters that have a gradient in grads.

        lr_factor  multiplies lr; a number or a tensor ()
        loss       not used; Adaptive needs it
        names      update only these parameters
        """
        for pairs in self.updates(grads, lr_factor, names):
            for t, new in pairs:
                t.copy_(new)
        self.updated()

    def updates(
        self, grads: dict[str, Tensor], lr_factor: float | Tensor = 1.0, names=None
    ) -> tuple[list[Update], list[Update]]:
        """What a step will write, as pairs (tensor, its new value): of the weights, and of the momentum.

        A momentum that isn't finite makes the weight's new value infinite or NaN too. So a guard checks only
        the weights. It calls `updated` after it has written the values.
        """
        weights, momenta, rates = [], [], {}
        for name in self.params if names is None else names:
            if name not in grads:
                continue
            w, g = self.params[name], grads[name]
            lr, momentum, weight_decay = self.settings[name]
            rate = rates[lr] if lr in rates else rates.setdefault(lr, lr * lr_factor)
            plain = not (momentum or weight_decay)
            if self.maximize and not plain:
                g = -g
            if weight_decay:
                g = g + weight_decay * w
            if momentum:
                v = g + momentum * self.velocity[name]
                momenta.append((self.velocity[name], v))
                g = g + momentum * v if self.nesterov else v
            weights.append((w, add_scaled(w, g, rate, 1 if self.maximize and plain else -1)))
        return weights, momenta

    def updated(self):
        """The values of `updates` are written. For optimizers that have to pass them on."""


def add_scaled(w: Tensor, g: Tensor, rate: float | Tensor, sign: int) -> Tensor:
    """w + sign·rate·g.

    Nothing here is torch.add with alpha: torch.compile drops alpha where a term is a matrix product, as a
    gradient often is (seen with torch 2.14).
    """
    if isinstance(rate, Tensor):
        return torch.addcmul(w, g, rate, value=sign)
    return w + sign * rate * g
