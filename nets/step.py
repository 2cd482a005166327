"""The train step: forward, loss, backward, update, as one function of tensors."""

from torch import Tensor

from nets.layer import Layer


def hits(z: Tensor, target: Tensor) -> Tensor:
    """How many rows of z (N, K) are right: by class (N), or within 0.1 of a wanted (N, K)."""
    if target.dim() == 1:
        return (z.argmax(1) == target).sum()
    return ((z - target).abs() < 0.1).all(1).sum()


def train_step(net: Layer, loss, optimiser):
    """The step of a net: step(x, target, factor) -> (loss (), hits ()), both on x's device.

    No autograd, nothing read back to the host, parameters changed in place, so that
    `torch.compile(fullgraph=True)` and a CUDA graph can take it whole. factor, a tensor () or
    a number, multiplies the rate. The net's gradient for its input isn't asked for.
    """
    net.input_grad = False

    def step(x: Tensor, target: Tensor, factor):
        z, saved = net.forward(x)
        value, dz = loss(z, target)
        _, grads = net.backward(saved, dz)
        optimiser.step(grads, factor, value)
        return value, hits(z, target)

    return step
