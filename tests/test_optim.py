"""The optimiser against torch.optim, and the schedules."""

import pytest
import torch

from nets.optim import SGD, factor


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(momentum=0.9),
        dict(momentum=0.9, nesterov=True),
        dict(weight_decay=0.1),
        dict(momentum=0.8, nesterov=True, weight_decay=0.05),
    ],
)
def test_sgd_is_torchs(options, maximize):
    mine = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    theirs = [v.clone().requires_grad_() for v in mine.values()]
    places = [v.data_ptr() for v in mine.values()]
    sgd = SGD(mine, 0.3, maximize=maximize, **options)
    other = torch.optim.SGD(theirs, 0.3, maximize=maximize, **options)
    for _ in range(5):
        grads = {k: torch.randn_like(v) for k, v in mine.items()}
        for w, g in zip(theirs, grads.values()):
            w.grad = g.clone()
        sgd.step(grads)
        other.step()
    assert [v.data_ptr() for v in mine.values()] == places  # in place
    for a, b in zip(mine.values(), theirs):
        torch.testing.assert_close(a, b.detach())


def test_the_rate_may_be_a_tensor():
    a, b = {"w": torch.ones(3)}, {"w": torch.ones(3)}
    SGD(a, 0.5).step({"w": torch.ones(3)}, 0.5)
    SGD(b, 0.5).step({"w": torch.ones(3)}, torch.tensor(0.5))
    assert torch.equal(a["w"], b["w"]) and a["w"][0] == 0.75


def test_parameter_groups():
    params = {"0.weight": torch.ones(2), "0.bias": torch.ones(2), "1.bias": torch.ones(2)}
    groups = [
        {"match": ["1.*"], "rate": 0.0},
        {"match": ["*.bias"], "rate": 10.0, "weight_decay": 0.0, "momentum": 0.0},
    ]
    sgd = SGD(params, 0.01, momentum=0.9, weight_decay=1.0, groups=groups)
    sgd.step({k: torch.ones(2) for k in params})
    assert params["1.bias"][0] == 1  # the first group that matches counts
    assert params["0.bias"][0] == pytest.approx(0.9)
    assert params["0.weight"][0] == pytest.approx(1 - 0.01 * 2)
    assert list(sgd.velocity) == ["0.weight", "1.bias"]


def test_schedules():
    assert [factor("constant", i, 4) for i in range(4)] == [1, 1, 1, 1]
    assert [factor("linear", i, 4) for i in range(4)] == [1, 0.75, 0.5, 0.25]
    assert factor("cosine", 2, 4) == pytest.approx(0.5)
    assert factor("cosine", 1, 4) == pytest.approx(0.853553, abs=1e-6)
    rates = [factor("linear", i, 10, 4) for i in range(10)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] == pytest.approx(1 / 6)
