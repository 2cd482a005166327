"""Many nets side by side: one tensor program trains thousands of them, each on its own."""

import torch
from torch import Tensor
from tqdm import tqdm

from nets.layers.activations import Sigmoid
from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.layers.init import uniform
from nets.losses import Performance
from nets.optim.sgd import SGD

SOLVED = 0.1  # the largest error that counts as learnt, as in the lecture


class Many(Layer):
    """S separate `Linear` layers: y_sno = Σ_i x_sni W_soi + b_so, nothing shared between the s.

    Shapes: x (S, N, inputs), W (S, outputs, inputs), b (S, 1, outputs), y (S, N, outputs).
    Every net s has Linear's backward (see there) for itself:

        dx_sni = Σ_o dy_sno W_soi        dW_soi = Σ_n dy_sno x_sni        db_so = Σ_n dy_sno

    Such nets are tiny, so the sums are written as products that are added up: a matrix product
    a net would cost more to start than to do. Starts are uniform in ±spread.
    """

    def __init__(self, nets: int, inputs: int, outputs: int, bias: bool = True, spread: float = 2.0):
        super().__init__()
        self.params["weight"] = uniform((nets, outputs, inputs), spread)
        if bias:
            self.params["bias"] = uniform((nets, 1, outputs), spread)

    def forward(self, x: Tensor):
        y = (x[:, :, None] * self.params["weight"][:, None]).sum(3)
        return y + self.params["bias"] if "bias" in self.params else y, x

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        x, w = saved, self.params["weight"]
        dx = (dy[..., None] * w[:, None]).sum(2) if input_grad else None
        grads = {"weight": (dy[..., None] * x[:, :, None]).sum(1)}
        if "bias" in self.params:
            grads["bias"] = dy.sum(1, keepdim=True)
        return dx, grads


def chain(nets: int, sizes, device, dtype=torch.float64, bias: bool = True) -> Sequential:
    """`nets` nets of sigmoid layers of these sizes, say (1, 1, 1), their starts drawn anew."""
    pairs = [(Many(nets, a, b, bias), Sigmoid()) for a, b in zip(sizes, sizes[1:])]
    net = Sequential(*(layer for pair in pairs for layer in pair)).to(device, dtype)
    return net


def rows(net: Sequential, change):
    """Replace every parameter t by change(t), which picks or repeats nets. Returns the net."""
    for layer in net.walk():
        if isinstance(layer, Many):
            layer.params = {name: change(t) for name, t in layer.params.items()}
    return net


def truth_table(inputs: int, device, dtype=torch.float64) -> Tensor:
    """All binary inputs, (1, 2^inputs, inputs), in counting order."""
    codes = torch.arange(2**inputs, device=device)
    return (codes[:, None] >> torch.arange(inputs - 1, -1, -1, device=device) & 1).to(dtype)[None]


def slopes(net: Sequential, x: Tensor, d: Tensor):
    """Every net's performance (S), its outputs (S, N, O), and the gradients of all."""
    z, saved = net.forward(x)
    _, dz = Performance()(z, d.expand_as(z))  # the sum over nets: each net's part of the gradient is its own
    return -0.5 * (dz * dz).sum((1, 2)), z, net.backward(saved, dz, input_grad=False)[1]


def value(net: Sequential, x: Tensor, d: Tensor) -> Tensor:
    """Every net's performance alone (S), with no backward."""
    return -0.5 * ((net.forward(x)[0] - d) ** 2).sum((1, 2))


def worst(net: Sequential, x: Tensor, d: Tensor) -> Tensor:
    """Every net's largest error over samples and outputs, (S)."""
    return (net.forward(x)[0] - d).abs().amax((1, 2))


def train(net: Sequential, x: Tensor, d: Tensor, rate: Tensor, cap: int, batch=None, name="train"):
    """Train every net at its own fixed rate until it is right, by SGD.

    x      (1 or S, N, inputs), d (1 or S, N, outputs), wanted
    rate   (S)
    cap    give up after so many passes over the samples
    batch  samples an update, all of them by default; 1 is the lecture's way

    Returns (S) int64: the passes after which the largest error was under 0.1; 0 if it never was.
    Nets that have got there leave the program. The given net is used up.
    """
    count, batch = len(rate), batch or x.shape[1]
    x, d = (t.expand(count, *t.shape[1:]) for t in (x, d))
    index, passes = torch.arange(count, device=x.device), torch.zeros_like(rate, dtype=torch.int64)
    found, rate = passes.clone(), rate.to(x.dtype)[:, None, None]
    optimizer = SGD(net.params, 1.0, maximize=True)
    with tqdm(total=count, desc=name, unit="net", disable=None, leave=False) as bar:
        for step in range(1, cap + 1):
            for some, wanted in zip(x.split(batch, 1), d.split(batch, 1)):
                optimizer.step(slopes(net, some, wanted)[2], rate)
            right = (worst(net, x, d) < SOLVED) & (found == 0)
            found = torch.where(right, step, found)
            if step % 50 == 0 or step == cap:  # to look waits for the device: now and then only
                passes[index] = found
                left = found == 0
                if not left.any():
                    break
                if left.sum() < 0.9 * len(left):
                    bar.update(int((~left).sum()))
                    index, found, rate, x, d = (t[left] for t in (index, found, rate, x, d))
                    optimizer = SGD(rows(net, lambda t: t[left]).params, 1.0, maximize=True)
    return passes


def band(passes: Tensor) -> dict:
    """Median and 10–90% band of passes (S), those that never got there counted as the longest.

    None where that many never got there.
    """
    ordered = torch.where(passes == 0, torch.iinfo(torch.int64).max, passes).sort().values
    picks = {
        k: int(ordered[int(q * (len(ordered) - 1))]) for k, q in (("p10", 0.1), ("median", 0.5), ("p90", 0.9))
    }
    picks = {k: None if v == torch.iinfo(torch.int64).max else v for k, v in picks.items()}
    return picks | {"never": int((passes == 0).sum()), "starts": len(passes)}
