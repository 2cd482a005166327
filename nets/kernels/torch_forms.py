"""Backend "torch": the library's backward kernels (aten) instead of the layers' own formulas."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from nets.kernels.registry import FirstLayer, Form, Target
from nets.layers.activations import GELU, ReLU, SiLU
from nets.layers.base import Layer, SavesInput, SavesInputFirst
from nets.layers.checks import check_dy
from nets.layers.conv import Conv2d, bias_gradient
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d


class OneLayer(Form[FirstLayer]):
    """A form of one layer of class `replaces`, with that layer's forward."""

    replaces: ClassVar[type[Layer]]

    @classmethod
    def count(cls, layers: Sequence[Layer], target: Target):
        return int(type(layers[0]) is cls.replaces)

    def forward(self, x: Tensor):
        return self.first.forward(x)


class TorchConv2d(SavesInput, OneLayer[Conv2d], backend="torch"):
    """Conv2d with aten.convolution_backward."""

    replaces = Conv2d

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        win, w = self.first.windows, self.params["weight"]
        check_dy(self, dy, (len(saved), len(w), *win.out_size(saved.shape)))
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
            self.first.groups,
            [input_grad, True, False],
        )
        grads = {"weight": dw.to(w.dtype)}
        if "bias" in self.params:
            grads["bias"] = bias_gradient(dy, w.dtype)
        return dx, grads


class TorchMaxPool2d(OneLayer[MaxPool2d], backend="torch"):
    """MaxPool2d with aten.max_pool2d_with_indices_backward. saved holds the winners, int64, and x."""

    replaces = MaxPool2d

    def forward(self, x: Tensor):
        self.first.check(x)
        win = self.first.windows
        y, winner = max_pool2d(x, win.size, win.stride, win.padding, win.dilation, return_indices=True)
        return y, (winner, x)

    def backward(self, saved, dy: Tensor):
        winner, x = saved
        check_dy(self, dy, winner.shape)
        win = self.first.windows
        dx = torch.ops.aten.max_pool2d_with_indices_backward(
            dy, x, win.size, win.stride, win.padding, win.dilation, False, winner
        )
        return dx, {}


class TorchBatchNorm2d(SavesInputFirst, OneLayer[BatchNorm2d], backend="torch"):
    """BatchNorm2d with aten.native_batch_norm_backward."""

    replaces = BatchNorm2d

    def output(self, saved):
        return self.first.output(saved)

    def backward(self, saved, dy: Tensor):
        if not len(dy):  # without samples, the library divides by 0 and crashes
            return self.first.backward(saved, dy)
        x, mean, rstd, training = saved
        check_dy(self, dy, x.shape)
        gamma, eps = self.params.get("weight"), self.first.eps
        outputs = [True, gamma is not None, gamma is not None]
        dx, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
            dy, x, gamma, mean, rstd**-2 - eps, mean, rstd, training, eps, outputs
        )
        return dx, {"weight": dgamma, "bias": dbeta} if gamma is not None else {}


class TorchReLU(OneLayer[ReLU], backend="torch"):
    """ReLU with aten.threshold_backward. saved is y, which is positive where x is.

    Where the next layer saves its x, as a convolution does, that is the same tensor and needs no memory.
    """

    replaces = ReLU

    def forward(self, x: Tensor):
        y = torch.relu(x)
        return y, y

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        return torch.ops.aten.threshold_backward(dy, saved, 0), {}


class TorchGELU(SavesInput, OneLayer[GELU], backend="torch"):
    """GELU with aten.gelu_backward: the same formula in one pass over memory."""

    replaces = GELU

    def output(self, saved):
        return self.first.output(saved)

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        return torch.ops.aten.gelu_backward(dy, saved, approximate=self.first.approximate), {}


class TorchSiLU(SavesInput, OneLayer[SiLU], backend="torch"):
    """SiLU with aten.silu_backward."""

    replaces = SiLU

    def output(self, saved):
        return self.first.output(saved)

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        return torch.ops.aten.silu_backward(dy, saved), {}
