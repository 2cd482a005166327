"""Tensors in, figures out: fit trains a net on images, and leaves accuracies, guesses and files."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from nets import SGD, BatchNorm2d, Conv2d, CrossEntropyLoss, Flatten, Linear, MaxPool2d, ReLU, Sequential, fit

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16  # (1797, 1, 8, 8)
y = torch.tensor(digits.target)
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
run = fit(net, CrossEntropyLoss(), optimizer, train, test, epochs=5, out=out, force=True)
print(f"top-1 {run.top1:.1%}, top-5 {run.top5:.1%}")

net.eval()
for image, label in zip(test[0][:3], test[1][:3]):
    p = net(image[None]).softmax(1)[0]
    best = p.topk(5)
    guesses = ", ".join(f"{k} {v:.1%}" for k, v in zip(best.indices.tolist(), best.values.tolist()))
    print(f"digit {label}: {guesses}")

print("files:", ", ".join(sorted(path.name for path in out.iterdir())))
