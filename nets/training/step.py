"""The train step: forward, loss, backward, update, as one function of tensors."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nets.layers.base import Layer, run_backward
from nets.training.guard import Guard


class StepResult(NamedTuple):
    """What one step gives, on the device of its tensors.

    loss         ()
    num_correct  (), samples that were right
    ok           (), was everything finite? None without a guard
    scores       (B), the size of each sample's gradient at the output; None unless samples are weighted
    """

    loss: Tensor
    num_correct: Tensor
    ok: Tensor | None = None
    scores: Tensor | None = None


def num_correct(z: Tensor, target: Tensor) -> Tensor:
    """How many outputs are right: z (N, K) by class (N), or z (N, …) within 0.1 of the target."""
    if target.dim() == 1:
        return (z.argmax(1) == target).sum()
    return ((z - target).abs() < 0.1).flatten(1).all(1).sum()


def train_step(net: Layer, loss, optimizer, weighted=False, guard: Guard | None = None, backward=None):
    """The step of a net: step(x, target, lr_factor, weight=None, frozen=frozenset()) -> StepResult.

    No autograd, nothing read back to the host, parameters changed in place, so that
    `torch.compile(fullgraph=True)` and a CUDA graph can take it whole. lr_factor, a tensor () or
    a number, multiplies the learning rate. frozen: names of parameters that stay as they are. Their
    gradients and that of x are left out where possible. A layer is updated as soon as
    backward has its gradients, which are then freed, unless the optimizer, a guard or another
    `backward` needs all of them at once.

    weighted: the step multiplies each sample's gradient by its weight (B), and gives each sample's score,
    the size of its gradient before that: see data/selection.py.
    guard: keeps a step that isn't finite from changing parameters, momentum and statistics.
    backward: of a batch that is split over several processes, see distributed/backward.py.
    """
    in_row = "on_grads" in net.backward_options  # a Sequential's backward
    row: Any = net  # whose backward takes frozen and on_grads, if in_row
    leaves = [layer for layer in net.walk() if layer.is_leaf() and layer.buffers] if guard else []
    layerwise = in_row and getattr(optimizer, "layerwise", False) and guard is None and backward is None

    def step(x: Tensor, target: Tensor, lr_factor, weight=None, frozen: frozenset[str] = frozenset()):
        statistics = [(t, t.clone()) for layer in leaves for t in layer.buffers.values()]
        z, saved = net.forward(x)
        value, dz = loss(z, target)
        if backward:
            value, dz = backward.weigh(value, dz)
        correct = num_correct(z, target)
        scores = dz.abs().sum(1, dtype=torch.float32) if weighted else None
        if weight is not None:
            dz = dz * weight[:, None].to(dz.dtype)
        if layerwise:
            update = lambda grads: optimizer.step(grads, lr_factor, value)  # noqa: E731
            row.backward(saved, dz, input_grad=False, frozen=frozen, on_grads=update)
            return StepResult(value, correct, None, scores)
        if backward:
            grads, value, correct = backward(net, saved, dz, value, correct, frozen)
        elif in_row:
            grads = row.backward(saved, dz, input_grad=False, frozen=frozen)[1]
        else:
            grads = run_backward(net, saved, dz, input_grad=False)[1]
            grads = {name: g for name, g in grads.items() if name not in frozen}
        if guard is None:
            optimizer.step(grads, lr_factor, value)
            return StepResult(value, correct, None, scores)
        ok = guard.update(optimizer, grads, lr_factor, value, statistics)
        return StepResult(value, correct, ok, scores)

    return step
