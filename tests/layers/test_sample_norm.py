"""LayerNorm, RMSNorm and GroupNorm: against torch over sizes, and what they refuse."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets.common.errors import BatchError, ModuleError
from nets.convert.from_torch import from_torch
from nets.layers.sample_norm import GroupNorm, LayerNorm, RMSNorm
from tests.convert.test_from_torch import agree, forward
from tests.helpers import check_layer

CASES = [
    *[(LayerNorm(4, bias=b), (3, 4)) for b in (True, False)],
    *[(LayerNorm((3, 4), 0.1), shape) for shape in ((2, 3, 4), (2, 5, 3, 4))],
    (LayerNorm(1), (3, 1)),
    (LayerNorm(5, elementwise_affine=False), (2, 3, 5)),
    *[(RMSNorm((3, 4), eps), (2, 3, 4)) for eps in (None, 0.1)],
    (RMSNorm(5, elementwise_affine=False), (2, 3, 5)),
    *[(GroupNorm(g, 6, affine=a), (2, 6, 3, 5)) for g in (1, 2, 3, 6) for a in (True, False)],
    *[(GroupNorm(2, 4, 0.5), shape) for shape in ((3, 4, 7), (3, 4))],
]


@pytest.mark.parametrize("layer, shape", CASES, ids=lambda v: repr(v).replace(" ", ""))
def test_every_gradient_is_autograds_in_every_layout(layer, shape):
    for t in layer.params.values():
        t.uniform_(0.5, 1.5)
    check_layer(layer.to(torch.float64), torch.randn(shape, dtype=torch.float64) * 2 + 3)


@pytest.mark.parametrize(
    "module", [nn.LayerNorm(4), nn.RMSNorm(4), nn.GroupNorm(2, 4), nn.LayerNorm(4, bias=False)]
)
def test_the_mean_and_scale_of_x_do_not_matter_at_bfloat16(module):
    """Sums are taken in float32: the results are the float64 ones, rounded."""
    layer, x = from_torch(module), (torch.randn(5, 4) * 3 + 2).bfloat16()
    y, saved = layer.forward(x)
    dx, grads = layer.backward(saved, torch.ones_like(y))
    wide = from_torch(module.double())
    y64, saved64 = wide.forward(x.double())
    dx64, grads64 = wide.backward(saved64, torch.ones_like(y64))
    torch.testing.assert_close(y.double(), y64, rtol=0.01, atol=0.01)
    torch.testing.assert_close(dx.double(), dx64, rtol=0.01, atol=0.01)
    for name, g in grads.items():
        torch.testing.assert_close(g.double(), grads64[name], rtol=0.02, atol=0.02)


def test_calls_with_the_forwards_own_parameters_are_layers():
    def of(self, x):
        x = F.layer_norm(x, (4,), self.norm.weight, self.norm.bias, 1e-3)
        return F.linear(x, self.w, self.b) + F.linear(x, self.w)

    module = forward(of, norm=nn.LayerNorm(4))
    module.w, module.b = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3))
    net = agree(module.double(), torch.randn(5, 4, dtype=torch.float64))
    assert len(net.params) == 4 and "LayerNorm" in repr(net)


def test_what_does_not_fit_is_refused():
    for layer, shape in ((LayerNorm((3, 4)), (3, 5)), (RMSNorm(4), (4, 3)), (GroupNorm(2, 4), (2, 3, 4))):
        with pytest.raises(BatchError, match=type(layer).__name__):
            layer.forward(torch.ones(shape))
    with pytest.raises(BatchError, match="samples with numbers"):
        GroupNorm(2, 4).forward(torch.ones(2, 4, 0))
    for make in (lambda: LayerNorm(()), lambda: RMSNorm(0), lambda: GroupNorm(3, 4), lambda: GroupNorm(0, 4)):
        with pytest.raises(ValueError):
            make()
    with pytest.raises(ModuleError, match="a bias alone"):
        from_torch(forward(lambda self, x: F.layer_norm(x, (4,), None, self.norm.bias), norm=nn.LayerNorm(4)))


def test_defaults_are_torchs():
    pairs = [(LayerNorm, nn.LayerNorm, (4,)), (RMSNorm, nn.RMSNorm, (4,)), (GroupNorm, nn.GroupNorm, (1, 4))]
    for cls, module, sizes in pairs:
        ours, theirs = cls(*sizes), module(*sizes)
        assert ours.eps == theirs.eps and ours.params.keys() == dict(theirs.named_parameters()).keys()
    call = LayerNorm.torch_tensor_calls["layer_norm"]
    module = call(None, (4,), nn.Parameter(torch.ones(4)))
    assert module.eps == 1e-5 and module.elementwise_affine and module.bias is None
    assert not call(None, (4,)).elementwise_affine and call(None, (4,), eps=0.1).eps == 0.1


def test_one_number_is_the_least():
    for layer in (LayerNorm(1), RMSNorm(1), GroupNorm(1, 1)):
        assert layer(torch.ones(2, 1)).shape == (2, 1)
    with pytest.raises(ValueError, match="num_groups divides num_channels"):
        GroupNorm(1, 0)
    with pytest.raises(BatchError, match="GroupNorm of 4 channels"):
        GroupNorm(2, 4).forward(torch.ones(4))


@pytest.mark.parametrize("layer", [LayerNorm(4), RMSNorm(4), GroupNorm(2, 4)], ids=lambda v: type(v).__name__)
def test_statistics_of_bfloat16_are_float32(layer):
    _, (_, *statistics) = layer.forward(torch.randn(3, 4, 4).bfloat16() + 10)
    assert {t.dtype for t in statistics} == {torch.float32}


def test_the_layout_of_images_is_kept():
    x = torch.randn(2, 3, 4, 5)
    assert LayerNorm(5)(x).is_contiguous()
    assert LayerNorm(5)(x.contiguous(memory_format=torch.channels_last)).stride() == (60, 1, 15, 3)


def test_weights_in_float32_follow_a_batch_in_bfloat16():
    for layer in (LayerNorm(4), RMSNorm(4), GroupNorm(2, 4)):
        x = torch.randn(3, 4).bfloat16()
        torch.testing.assert_close(layer.to_torch()(x), layer(x), rtol=0.02, atol=0.02)
    module, x = RMSNorm(64).to_torch(), torch.randn(8, 64).bfloat16()
    module.weight.data.uniform_(1, 2)
    assert torch.equal(module(x), F.rms_norm(x, (64,), module.weight.bfloat16()))
