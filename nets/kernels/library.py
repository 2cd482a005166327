"""The library's own backward kernels (aten) for the layers' formulas: backend "torch"."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from nets.kernels.registry import Form, Target
from nets.layers.activations import GELU, SiLU
from nets.layers.base import SavesInput, sum_dtype
from nets.layers.conv import Conv2d
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d


class One(Form):
    """A form of one layer, whose forward it shares."""

    stands_for: type

    @classmethod
    def count(cls, layers, target: Target):
        return int(type(layers[0]) is cls.stands_for)

    def forward(self, x: Tensor):
        return self.layers[0].forward(x)


class TorchConv2d(SavesInput, One, backend="torch"):
    """Conv2d with aten.convolution_backward."""

    stands_for = Conv2d

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        layer: Conv2d = self.layers[0]  # type: ignore[assignment]
        win, w = layer.windows, self.params["weight"]
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy,
            saved,
            w.to(dy.dtype),
            None,
            win.stride,
            win.padding,
            win.dilation,
            False,
            [0, 0],
            layer.groups,
            [input_grad, True, False],
        )
        grads = {"weight": dw.to(w.dtype)}
        if "bias" in self.params:
            grads["bias"] = dy.sum((0, 2, 3), dtype=sum_dtype(dy)).to(w.dtype)
        return dx, grads


class TorchMaxPool2d(One, backend="torch"):
    """MaxPool2d with aten.max_pool2d_with_indices_backward. Saved are the winners, int64, and x."""

    stands_for = MaxPool2d

    def forward(self, x: Tensor):
        layer: MaxPool2d = self.layers[0]  # type: ignore[assignment]
        layer.check(x)
        win = layer.windows
        y, winner = max_pool2d(x, win.size, win.stride, win.padding, win.dilation, return_indices=True)
        return y, (winner, x)

    def backward(self, saved, dy: Tensor):
        winner, x = saved
        win = self.layers[0].windows  # type: ignore[attr-defined]
        dx = torch.ops.aten.max_pool2d_with_indices_backward(
            dy, x, win.size, win.stride, win.padding, win.dilation, False, winner
        )
        return dx, {}


class TorchBatchNorm2d(One, backend="torch"):
    """BatchNorm2d with aten.native_batch_norm_backward."""

    stands_for = BatchNorm2d

    def output(self, saved):
        return self.layers[0].output(saved)

    def drop_input(self, saved):
        return self.layers[0].drop_input(saved)

    def add_input(self, saved, x: Tensor):
        return self.layers[0].add_input(saved, x)

    def backward(self, saved, dy: Tensor):
        if not len(dy):  # of no pictures the library divides by 0, and crashes
            return self.layers[0].backward(saved, dy)
        x, mean, rstd, training = saved
        gamma, eps = self.params.get("weight"), self.layers[0].eps  # type: ignore[attr-defined]
        wanted = [True, gamma is not None, gamma is not None]
        dx, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
            dy, x, gamma, mean, rstd**-2 - eps, mean, rstd, training, eps, wanted
        )
        return dx, {"weight": dgamma, "bias": dbeta} if gamma is not None else {}


class TorchGELU(SavesInput, One, backend="torch"):
    """GELU with aten.gelu_backward: the same formula in one pass over the memory."""

    stands_for = GELU

    def output(self, saved):
        return self.layers[0].output(saved)

    def backward(self, saved, dy: Tensor):
        approximate = self.layers[0].approximate  # type: ignore[attr-defined]
        return torch.ops.aten.gelu_backward(dy, saved, approximate=approximate), {}


class TorchSiLU(SavesInput, One, backend="torch"):
    """SiLU with aten.silu_backward."""

    stands_for = SiLU

    def output(self, saved):
        return self.layers[0].output(saved)

    def backward(self, saved, dy: Tensor):
        return torch.ops.aten.silu_backward(dy, saved), {}
