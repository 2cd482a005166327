"""Many nets side by side: each is a net of its own."""

import pytest
import torch

from nets import gradcheck
from nets.layers.linear import Linear
from nets.lecture.many import Many, band, chain, map_params, slopes, train
from nets.lecture.rate import nets_at, task


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_many_agree_with_autograd(bias):
    torch.manual_seed(0)
    layer = Many(5, 3, 2, bias).to(torch.float64)
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    report = gradcheck.check(layer, x, contract=False)  # the contract wants samples along axis 0
    assert report.ok, report.table()


@pytest.mark.parametrize("bias", [True, False])
def test_many_equals_separate_linear_layers(bias):
    torch.manual_seed(0)
    many, x = Many(5, 3, 2, bias).to(torch.float64), torch.randn(5, 4, 3, dtype=torch.float64)
    dy = torch.randn(5, 4, 2, dtype=torch.float64)
    y, saved = many.forward(x)
    dx, grads = many.backward(saved, dy)
    for s in range(5):
        one = Linear(3, 2, bias).to(torch.float64)
        for name in many.params:
            one.params[name].copy_(many.params[name][s].reshape(one.params[name].shape))
        y1, saved1 = one.forward(x[s])
        dx1, grads1 = one.backward(saved1, dy[s])
        torch.testing.assert_close(y[s], y1)
        torch.testing.assert_close(dx[s], dx1)
        assert grads.keys() == grads1.keys() == many.params.keys()
        for name, g in grads.items():
            assert g.shape == many.params[name].shape
            torch.testing.assert_close(g[s].reshape(grads1[name].shape), grads1[name])
    assert many.backward(saved, dy, input_grad=False)[0] is None


def test_many_starts_uniform_in_its_init_bound():
    for layer, bound in [(Many(2000, 1, 1), 2), (Many(2000, 1, 1, init_bound=0.5), 0.5)]:
        assert list(layer.params) == ["weight", "bias"]
        for t in layer.params.values():
            t = t / bound
            assert -1 <= t.min() < -0.99 and 0.99 < t.max() <= 1 and abs(t.mean()) < 0.08


def test_a_net_trains_the_same_alone_and_among_others():
    x, rates = task("cpu"), (5.0,)
    net, rate = nets_at(rates, 8, 3, "cpu")
    together = train(net, x, x, rate, 400, batch=1)
    for s in range(8):
        net, rate = nets_at(rates, 8, 3, "cpu")
        map_params(net, lambda t, s=s: t[s : s + 1].clone())
        alone = train(net, x, x, rate[:1], 400, batch=1)
        assert alone.item() == together[s].item()


def test_train_counts_passes_until_the_error_is_small_or_the_cap():
    x = task("cpu")
    net, rate = nets_at((5.0,), 6, 0, "cpu")
    passes = train(net, x, x, rate, 300, batch=1)
    assert (passes > 0).all()
    for p in set(passes.tolist()):  # these nets are wrong after p − 1 passes and right after p
        for cap, right in ((p - 1, False), (p, True)):
            net, rate = nets_at((5.0,), 6, 0, "cpu")
            done = train(net, x, x, rate, cap, batch=1) > 0
            assert (done[passes == p] == right).all()


def test_band_counts_failed_starts_as_the_slowest():
    found = band(torch.tensor([0, 5, 1, 2, 3, 4, 0, 0, 0, 0, 0]))
    assert found == {"p10": 2, "median": None, "p90": None, "never": 6, "starts": 11}


def test_slopes_returns_each_nets_own_performance_and_gradients():
    torch.manual_seed(0)
    net, x = chain(3, (2, 2, 1), "cpu"), torch.rand(3, 4, 2, dtype=torch.float64)
    d = torch.rand(3, 4, 1, dtype=torch.float64)
    p, _, grads = slopes(net, x, d)
    one = map_params(net, lambda t: t[1:2])
    p1, _, grads1 = slopes(one, x[1:2], d[1:2])
    torch.testing.assert_close(p[1:2], p1)
    for name, g in grads1.items():
        torch.testing.assert_close(grads[name][1:2], g)
