"""Many nets side by side: one tensor program trains thousands of nets, each for itself."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from nets.layers.activations import Sigmoid
from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.layers.init import uniform
from nets.losses import Performance
from nets.optim.sgd import SGD

SOLVED = 0.1  # a net is right when its largest error is smaller, as in the lecture


class Many(Layer):
    """S separate `Linear` layers: y_sno = Σ_i x_sni W_soi + b_so, nothing shared between the s.

    Shapes: x (S, N, inputs), W (S, outputs, inputs), b (S, 1, outputs), y (S, N, outputs).
    Every net s has Linear's backward (see there) for itself:

        dx_sni = Σ_o dy_sno W_soi        dW_soi = Σ_n dy_sno x_sni        db_so = Σ_n dy_sno

    The nets are tiny: starting a matrix product for each would take longer than computing it. So
    the sums are elementwise products that are added up. Parameters start uniform in ±init_bound.
    """

    def __init__(self, num_nets: int, inputs: int, outputs: int, bias: bool = True, init_bound: float = 2.0):
        super().__init__()
        self.params["weight"] = uniform((num_nets, outputs, inputs), init_bound)
        if bias:
            self.params["bias"] = uniform((num_nets, 1, outputs), init_bound)

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


def chain(num_nets: int, sizes, device, dtype=torch.float64, bias: bool = True) -> Sequential:
    """`num_nets` nets of sigmoid layers with the given sizes, such as (1, 1, 1), and random starts."""
    pairs = [(Many(num_nets, a, b, bias), Sigmoid()) for a, b in pairwise(sizes)]
    return Sequential(*(layer for pair in pairs for layer in pair)).to(device, dtype)


def map_params(net: Sequential, change: Callable[[Tensor], Tensor]) -> Sequential:
    """Replace every parameter t by change(t), which selects or repeats nets. Returns the net."""
    for layer in net.walk():
        if isinstance(layer, Many):
            layer.params = {name: change(t) for name, t in layer.params.items()}
    return net


def truth_table(inputs: int, device, dtype=torch.float64) -> Tensor:
    """All binary inputs in counting order, (1, 2^inputs, inputs)."""
    codes = torch.arange(2**inputs, device=device)
    return (codes[:, None] >> torch.arange(inputs - 1, -1, -1, device=device) & 1).to(dtype)[None]


def slopes(net: Sequential, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(performance of every net (S), outputs (S, N, O), gradients of all nets)."""
    z, saved = net.forward(x)
    # P is the sum over nets, so each net's part of the gradient is its own
    _, dz = Performance()(z, d.expand_as(z))
    return -0.5 * (dz * dz).sum((1, 2)), z, net.backward(saved, dz, input_grad=False)[1]


def performance(net: Sequential, x: Tensor, d: Tensor) -> Tensor:
    """The performance of every net (S), without backward."""
    return -0.5 * ((net.forward(x)[0] - d) ** 2).sum((1, 2))


def largest_error(net: Sequential, x: Tensor, d: Tensor) -> Tensor:
    """The largest error of every net over samples and outputs, (S)."""
    return (net.forward(x)[0] - d).abs().amax((1, 2))


def train(net: Sequential, x: Tensor, d: Tensor, rate: Tensor, cap: int, batch=None, name="train") -> Tensor:
    """Train every net by SGD at its own fixed rate until it is right.

    x      (1 or S, N, inputs)
    d      (1 or S, N, outputs), the wanted outputs
    rate   (S)
    cap    the largest number of passes over the samples
    batch  samples per update, by default all; the lecture uses 1

    Returns (S) int64: the number of passes after which the largest error was under SOLVED, or 0 if
    it never was. The function changes the net: solved nets are removed from it.
    """
    count, batch = len(rate), batch or x.shape[1]
    x, d = (t.expand(count, *t.shape[1:]) for t in (x, d))
    index, passes = torch.arange(count, device=x.device), torch.zeros_like(rate, dtype=torch.int64)
    found, rate = passes.clone(), rate.to(x.dtype)[:, None, None]
    optimizer = SGD(net.params, 1.0, maximize=True)
    with tqdm(total=count, desc=name, unit="net", disable=None, leave=False) as bar:
        for step in range(1, cap + 1):
            for samples, wanted in zip(x.split(batch, 1), d.split(batch, 1)):
                optimizer.step(slopes(net, samples, wanted)[2], rate)
            right = (largest_error(net, x, d) < SOLVED) & (found == 0)
            found = torch.where(right, step, found)
            if step % 50 == 0 or step == cap:  # rarely, since reading `found` waits for the device
                passes[index] = found
                left = found == 0
                if not left.any():
                    break
                if left.sum() < 0.9 * len(left):
                    bar.update(int((~left).sum()))
                    index, found, rate, x, d = (t[left] for t in (index, found, rate, x, d))
                    map_params(net, lambda t, left=left: t[left])
                    optimizer = SGD(net.params, 1.0, maximize=True)
    return passes


def band(passes: Tensor) -> dict:
    """Median and 10–90% band of passes (S). Nets that were never right count as the slowest.

    None where a quantile is such a net.
    """
    never = torch.iinfo(torch.int64).max
    ordered = torch.where(passes == 0, never, passes).sort().values
    quantiles = {"p10": 0.1, "median": 0.5, "p90": 0.9}
    found = {name: int(ordered[int(q * (len(ordered) - 1))]) for name, q in quantiles.items()}
    known = {name: None if v == never else v for name, v in found.items()}
    return known | {"never": int((passes == 0).sum()), "starts": len(passes)}
