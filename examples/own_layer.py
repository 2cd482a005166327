"""A layer of your own: RMSNorm written by hand, checked, and trained on handwritten digits as tensors."""

import torch
from sklearn.datasets import load_digits

from nets import SGD, CrossEntropyLoss, Linear, ReLU, Sequential, check, fit
from nets.layers import Layer


class RMSNorm(Layer):
    """y = g·x / r with r = √(mean x² + ε), over the last axis.

    With n = dy·g, dx = n / r − x·mean(n·x) / r³, since ∂r/∂x_i = x_i / (D·r).
    """

    def __init__(self, features: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.params["g"] = torch.ones(features)

    def forward(self, x):
        r = (x * x).mean(-1, keepdim=True).add(self.eps).sqrt()
        return self.params["g"].to(x.dtype) * x / r, (x, r)

    def backward(self, saved, dy):
        x, r = saved
        n = dy * self.params["g"].to(dy.dtype)
        dx = n / r - x * (n * x).mean(-1, keepdim=True) / r**3
        return dx, {"g": (dy * x / r).flatten(0, -2).sum(0)}


torch.manual_seed(0)
report = check(RMSNorm(6).to(torch.float64), torch.randn(2, 3, 6, dtype=torch.float64))
report.raise_if_wrong()
print(f"RMSNorm: {len(report.rows)} gradients agree with autograd and finite differences")

pixels, labels = load_digits(return_X_y=True)
order = torch.randperm(len(labels))
x, y = torch.tensor(pixels, dtype=torch.float32)[order] / 16, torch.tensor(labels)[order]
net = Sequential(Linear(64, 64), RMSNorm(64), ReLU(), Linear(64, 10))
run = fit(
    net,
    CrossEntropyLoss(),
    SGD(net.params, lr=0.1, momentum=0.9),
    train=(x[:1400], y[:1400]),
    test=(x[1400:], y[1400:]),
    epochs=10,
    out="runs/own_layer",
    force=True,  # over the run of an earlier time
)
print(f"top-1 {run.top1:.1%} of {len(x) - 1400} test digits")
