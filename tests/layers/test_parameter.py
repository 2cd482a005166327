"""A bare parameter or constant as a layer."""

import torch

from nets.convert.from_torch import from_torch
from nets.layers.parameter import Parameter


def test_a_parameter_is_in_the_dtype_of_the_input_and_its_gradient_in_its_own():
    layer, x = Parameter((2, 3)), torch.ones(5).bfloat16()
    layer.params["weight"].normal_()
    y, saved = layer.forward(x)
    assert y.dtype == torch.bfloat16 and y.shape == (2, 3)
    dx, grads = layer.backward(saved, torch.ones_like(y))
    assert dx.shape == x.shape and dx.dtype == x.dtype and not dx.any()
    assert grads["weight"].dtype == torch.float32 and grads["weight"].eq(1).all()
    assert layer.backward(saved, torch.ones_like(y), input_grad=False)[0] is None


def test_a_constant_is_a_buffer_without_a_gradient():
    layer = Parameter((2,), trained=False)
    assert not layer.params and layer.buffers["weight"].shape == (2,)
    y, saved = layer.forward(torch.ones(3))
    assert layer.backward(saved, y)[1] == {}
    assert not from_torch(layer.to_torch()).trained
    layer.buffers["weight"] = torch.tensor([0, 1])
    assert layer.forward(torch.ones(3))[0].dtype == torch.int64  # an index stays one
