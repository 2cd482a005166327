"""Muon: momentum steps that are equally long in all directions of a filter matrix."""

import math

import torch
from torch import Tensor

from nets.optim.sgd import SGD, add_scaled

# Coefficients of the Newton–Schulz polynomial, chosen by Jordan 2024: singular values between 0 and 1
# come near 1 in few rounds, though they don't converge to 1 exactly.
A, B, C = 3.4445, -4.7750, 2.0315
MIN_NORM = 1e-12  # filters whose norm is smaller, such as zeros, aren't scaled to the whole norm √O


def orthogonal(g: Tensor, rounds: int = 3) -> Tensor:
    """g (rows, columns) with its singular values moved near 1: an approximation of U Vᵀ, in bfloat16.

    With g = U S Vᵀ, an odd polynomial of g changes only its singular values:

        X ← A·X + B·(XXᵀ)X + C·(XXᵀ)²X = U (A·S + B·S³ + C·S⁵) Vᵀ.

    Repeated from S ≤ 1, X approaches U Vᵀ. This needs only matrix products. After three rounds the large
    singular values are between 0.5 and 1.2, after five rounds all are. bfloat16 is precise enough,
    because only the direction matters.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    wide = g.shape[0] <= g.shape[1]
    x = (g if wide else g.T).to(torch.bfloat16)  # keeps XXᵀ small
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        s = x @ x.T
        s = torch.addmm(s, s, s, beta=B, alpha=C)  # B·XXᵀ + C·(XXᵀ)², rounded once
        x = torch.addmm(x, s, x, beta=A)
    return x if wide else x.T


class Muon(SGD):
    """SGD, except that convolution filters (4 axes) move by `orthogonal` of the momentum step.

        v = μ·v + g          u = g + μ·v with Nesterov, else v          w = √O·w/‖w‖ − r·orthogonal(u)

    u is used as a matrix of O rows, one per filter; r is the learning rate. Before each step, a layer's
    filters are scaled to the norm √O, so that the learning rate has the same meaning in all layers. Weight
    decay doesn't apply to them. All other parameters get the step of SGD, with the same options.
    Source: Jordan 2024, airbench94_muon.
    """

    def updates(self, grads: dict[str, Tensor], lr_factor: float | Tensor = 1.0, names=None):
        names = list(self.params if names is None else names)
        filters = [name for name in names if self.params[name].dim() == 4]
        weights, momenta = super().updates(grads, lr_factor, [n for n in names if n not in filters])
        for name in filters:
            if name not in grads:
                continue
            w, u = self.params[name], -grads[name] if self.maximize else grads[name]
            lr, momentum, _ = self.settings[name]
            if momentum:
                v = u + momentum * self.velocity[name]
                momenta.append((self.velocity[name], v))
                u = u + momentum * v if self.nesterov else v
            direction = orthogonal(u.flatten(1)).reshape(w.shape).to(w.dtype)
            scale = math.sqrt(len(w)) / w.norm().clamp(min=MIN_NORM)
            weights.append((w, add_scaled(w * scale, direction, lr * lr_factor, -1)))
        return weights, momenta
