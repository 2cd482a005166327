"""Your torch model: converted to layers with hand-written backwards, checked, and trained."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from nets import SGD, CrossEntropyLoss, check, fit, from_torch, to_torch


class Block(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))


torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), Block(16), nn.AdaptiveAvgPool2d(2), nn.Flatten()
)
model.append(nn.Linear(64, 10))
net = from_torch(model)

pixels, labels = load_digits(return_X_y=True)
x = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
y = torch.tensor(labels)

report = check(net, x[:4], module=model)
report.raise_if_wrong()
print(f"{len(report.rows)} gradients agree with autograd of the torch model")

optimizer = SGD(net.params, lr=0.05, momentum=0.9)
train, test = (x[:1400], y[:1400]), (x[1400:], y[1400:])
run = fit(
    net,
    CrossEntropyLoss(),
    optimizer,
    train,
    test,
    epochs=5,
    batch_size=32,
    out="runs/own_torch_model",
    force=True,
)
print(f"top-1 {run.top1:.1%} of {len(x) - 1400} test digits")

back = to_torch(net).eval()  # a torch.nn module with the trained weights
print(f"back in torch: {(back(test[0]).argmax(1) == test[1]).float().mean():.1%}")
