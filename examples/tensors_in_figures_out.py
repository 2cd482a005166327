"""Tensors in, figures out: fit trains a net on images, and leaves accuracies, guesses and files."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from nets import SGD, BatchNorm2d, Conv2d, CrossEntropyLoss, Flatten, Linear, MaxPool2d, ReLU, Sequential, fit

torch.manual_seed(0)
digits = load_digits()
order = torch.randperm(1797)
x = torch.tensor(digits.images * 255 / 16).to(torch.uint8)[order]  # (1797, 8, 8): fit normalizes images
y = torch.tensor(digits.target)[order]
train, test = (x[:1400], y[:1400]), (x[1400:], y[1400:])

net = Sequential(
    Conv2d(1, 16, 3, padding=1, bias=False),
    BatchNorm2d(16),
    ReLU(),
    MaxPool2d(2),
    Flatten(),
    Linear(16 * 4 * 4, 10),
)
print(net)

out = Path("runs/tensors")
optimizer = SGD(net.params, lr=0.1, momentum=0.9, weight_decay=5e-4)
run = fit(
    net,
    CrossEntropyLoss(),
    optimizer,
    train,
    test,
    epochs=10,
    augment={"crop_padding": 1},
    out=out,
    force=True,
)
print(f"top-1 {run.top1:.1%}, top-5 {run.top5:.1%}")

for image, label in zip(test[0][:3], test[1][:3]):
    pixels = (image[None, None] / 255 - run.data.mean) / run.data.std
    best = net(pixels).softmax(1)[0].topk(5)
    guesses = ", ".join(f"{k} {p:.1%}" for k, p in zip(best.indices.tolist(), best.values.tolist()))
    print(f"digit {label}: {guesses}")

print("files:", ", ".join(sorted(path.name for path in out.iterdir())))
