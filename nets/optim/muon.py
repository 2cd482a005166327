"""Muon: momentum steps in which every direction of a filter matrix counts the same."""

import math

import torch
from torch import Tensor

from nets.optim.sgd import SGD, update_

# of the polynomial that Newton–Schulz repeats: chosen by Jordan 2024 so that singular values,
# wherever they start between 0 and 1, come near 1 fast, if not exactly
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonal(g: Tensor, rounds: int = 3) -> Tensor:
    """The matrix next to g (rows, columns) with singular values nearer to 1, bfloat16.

    With g = U S Vᵀ an odd polynomial of g acts on its singular values alone:

        X ← A·X + B·(XXᵀ)X + C·(XXᵀ)²X = U (A·S + B·S³ + C·S⁵) Vᵀ,

    and repeated from S ≤ 1 this goes to U Vᵀ, with matrix products and nothing else: the large
    ones lie between 0.5 and 1.2 after three rounds, all after five. bfloat16 is enough, as only
    the direction counts.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    wide = g.shape[0] <= g.shape[1]
    x = (g if wide else g.T).to(torch.bfloat16)  # XXᵀ is small then
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        s = x @ x.T
        s = torch.addmm(s, s, s, beta=B, alpha=C)  # B·XXᵀ + C·(XXᵀ)², in one pass, rounded once
        x = torch.addmm(x, s, x, beta=A)
    return x if wide else x.T


class Muon(SGD):
    """SGD (see there) but for convolutions' filters (4 axes), which go along `orthogonal` of it.

        v = μ·v + g          u = g + μ·v, or v          w = √O·w/‖w‖ − r·orthogonal(u)

    u as a matrix of O rows, one a filter. Every filter bank is brought to the norm √O first,
    so that the rate means the same for all. Weight decay has no say there.
    Source: Jordan 2024, airbench94_muon.
    """

    def step(self, grads: dict[str, Tensor], lr_factor=1.0, loss=None, ok=None):
        filters = {name: w for name, w in self.params.items() if w.dim() == 4}
        for name, w in filters.items():
            if name not in grads:
                continue
            lr, momentum, _ = self.settings[name]
            u = self._signed(grads[name])
            if momentum:
                v = update_(self.velocity[name], momentum * self.velocity[name] + u, ok)
                u = u + momentum * v if self.nesterov else v
            way = orthogonal(u.flatten(1)).reshape(w.shape).to(w.dtype)
            update_(w, w * (math.sqrt(len(w)) / w.norm()) - way * (lr * lr_factor), ok)
        super().step(grads, lr_factor, loss, ok, [name for name in self.params if name not in filters])
