"""SGD against torch.optim, and the settings that it refuses."""

import tomllib
from pathlib import Path

import pytest
import torch

from nets.common.errors import UsageError
from nets.optim.sgd import SGD
from nets.training import config

OPTIONS = [
    dict(),
    dict(momentum=0.9),
    dict(momentum=0.9, nesterov=True),
    dict(weight_decay=0.1),
    dict(momentum=0.8, nesterov=True, weight_decay=0.05),
]


@pytest.mark.deep
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("tensor_rate", [False, True])
def test_a_compiled_update_by_a_matrix_product_is_the_same(options, tensor_rate, maximize):
    """torch.compile fuses a product with what is added to it."""
    x, dy = torch.randn(8, 4), torch.randn(8, 3)
    found = []
    for compiled in (False, True):
        torch.compiler.reset()
        sgd = SGD({"weight": torch.ones(4, 3)}, 0.3, maximize=maximize, **options)

        def step(x, dy, rate, sgd=sgd):
            sgd.step({"weight": x.T @ dy}, rate)

        step = torch.compile(step, fullgraph=True) if compiled else step
        for _ in range(3):
            step(x, dy, torch.tensor(0.5) if tensor_rate else 0.5)
        found.append(sgd.params | sgd.state())
    for name, t in found[0].items():
        torch.testing.assert_close(t, found[1][name], msg=name)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_steps_are_those_of_torchs_sgd(options, maximize):
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


def test_lr_factor_may_be_a_tensor():
    a, b = {"w": torch.ones(3)}, {"w": torch.ones(3)}
    SGD(a, 0.5).step({"w": torch.ones(3)}, 0.5)
    SGD(b, 0.5).step({"w": torch.ones(3)}, torch.tensor(0.5))
    assert torch.equal(a["w"], b["w"]) and a["w"][0] == 0.75


def test_only_parameters_with_a_gradient_that_are_named_are_updated():
    params = {"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(2)}
    sgd = SGD(params, 0.5)
    sgd.step({"a": torch.ones(2), "b": torch.ones(2)}, names=["b", "c"])
    assert [params[k][0].item() for k in "abc"] == [1.0, 0.5, 1.0]
    sgd.step({"a": torch.ones(2)})
    assert [params[k][0].item() for k in "abc"] == [0.5, 0.5, 1.0]


def test_updates_are_what_a_step_writes():
    params = {"w": torch.ones(2)}
    sgd = SGD(params, 0.5, momentum=0.9)
    (weight,), (momentum,) = sgd.updates({"w": torch.ones(2)})
    assert weight[0] is params["w"] and momentum[0] is sgd.velocity["w"]
    assert params["w"].tolist() == [1, 1] and not sgd.velocity["w"].any()
    sgd.step({"w": torch.ones(2)})
    assert torch.equal(params["w"], weight[1]) and torch.equal(sgd.velocity["w"], momentum[1])


def test_state_is_the_momentum_by_name():
    sgd = SGD({"w": torch.ones(2)}, 0.5, momentum=0.9)
    assert list(sgd.state()) == ["velocity.w"] and sgd.state()["velocity.w"] is sgd.velocity["w"]
    assert SGD({"w": torch.ones(2)}, 0.5).state() == {}


@pytest.mark.parametrize(
    "name, wrong",
    [
        *(("lr", value) for value in (0, -0.1, float("inf"), float("nan"))),
        *(("momentum", value) for value in (-0.1, 1.1, float("nan"))),
        *(("weight_decay", value) for value in (-1e-4, float("inf"), float("nan"))),
    ],
)
def test_settings_that_no_step_can_be_taken_with_are_refused(name, wrong):
    with pytest.raises(ValueError, match=f"^{name}: (must|expected a finite number)"):
        SGD({}, **(dict(lr=0.1) | {name: wrong}))


def test_settings_at_the_ends_of_their_ranges_are_taken():
    SGD({}, lr=1e-9, momentum=1, weight_decay=0)


OUT_OF_RANGE = [
    *(("lr", value) for value in (-1.0, 0.0, "nan", "inf", "true")),
    *(("momentum", value) for value in (-1.0, 1.5, "nan")),
    *(("weight_decay", value) for value in (-1.0, "inf")),
    ("nesterov", "true"),
    *(
        ("param_groups", f'[{{match=["*"], {group}}}]')
        for group in ("lr_scale=-1", "momentum=2", "weight_decay=nan")
    ),
    *(
        ("param_groups", f"[{group}]")
        for group in ("{lr_scale=1}", '{match="*"}', '{match=["*"], lr=1}', "3")
    ),
]


@pytest.mark.parametrize("name, value", OUT_OF_RANGE)
def test_a_call_refuses_what_a_config_refuses_in_the_same_words(name, value, tmp_path):
    path = Path(__file__).parents[2] / "configs" / "dense.toml"
    with pytest.raises(UsageError) as by_config:
        config.load(path, [f"train.{name}={value}"])
    given = tomllib.loads(f"x = {value}")["x"]
    with pytest.raises(ValueError) as by_call:
        SGD({}, **({"lr": 0.1} | {name: given}))
    assert str(by_config.value) == f"train.{by_call.value}"
