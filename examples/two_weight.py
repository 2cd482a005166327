"""The lecture's smallest net, x → w₁ → σ → w₂ → σ → z, in plain layers and a loop of ten lines.

It learns to repeat a bit. Performance is the lecture's P = −½‖d − z‖², which is maximized: 0 is best.
Source: MIT 6.034, lecture 12a, "Neural nets".
"""

import torch

from nets import SGD, Linear, Performance, Sequential, Sigmoid

torch.manual_seed(0)
net = Sequential(Linear(1, 1), Sigmoid(), Linear(1, 1), Sigmoid())  # a weight and a threshold each
performance = Performance()
optimizer = SGD(net.params, lr=5.0, maximize=True)

x = torch.tensor([[0.0], [1.0]])
wanted = x.clone()

for step in range(2001):
    z, saved = net.forward(x)
    p, dz = performance(z, wanted)
    if step % 500 == 0:
        print(f"step {step:4}: P = {p:.4f}, z = {', '.join(f'{v:.2f}' for v in z.flatten().tolist())}")
    _, grads = net.backward(saved, dz)
    optimizer.step(grads)

right = ((net(x) - wanted).abs() < 0.1).sum()
print(f"{right} of 2 right to 0.1")
print(net)
