"""The optimizer that adapts its rate: cut and taken back when a step doesn't pay, else raised."""

import pytest
import torch

from nets.common.errors import UsageError
from nets.optim.adaptive import MAX_MOVE, MIN_GAIN, Adaptive
from nets.training import config
from nets.training.run import Run


def hill(w):
    """P = −w², summed, and its slope."""
    return -(w * w).sum(), -2 * w


def test_a_step_that_falls_is_taken_back_and_the_rate_cut():
    w = torch.tensor([0.1], dtype=torch.float64)
    opt = Adaptive({"w": w}, 0.5, shrink=0.5, grow=50.0, maximize=True)
    p, g = hill(w)
    opt.step({"w": g}, loss=p)
    rate = opt.rate["w"].item()
    opt.step({"w": torch.tensor([123.0], dtype=torch.float64)}, loss=p - 1)  # it got worse
    assert opt.rate["w"].item() == rate / 2
    torch.testing.assert_close(opt.kept["w"], torch.tensor([0.1], dtype=torch.float64))
    torch.testing.assert_close(w, 0.1 + opt.rate["w"] * g)  # with the kept gradient, not the new one


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_step_to_a_value_that_is_not_finite_is_taken_back(bad):
    w = torch.tensor([0.1], dtype=torch.float64)
    opt = Adaptive({"w": w}, 0.1, maximize=True)
    opt.step({"w": hill(w)[1]}, loss=hill(torch.tensor([0.1]))[0].double())
    opt.step(
        {"w": torch.tensor([float("nan")], dtype=torch.float64)}, loss=torch.tensor(bad, dtype=torch.float64)
    )
    assert w.isfinite().all() and opt.rate["w"].isfinite().all() and opt.kept["w"].item() == 0.1


def test_a_step_that_pays_raises_the_rate_as_the_parabola_says():
    w = torch.tensor([1.0], dtype=torch.float64)
    opt = Adaptive({"w": w}, 0.01, shrink=0.5, grow=50.0, maximize=True)
    opt.step({"w": torch.tensor([1.0], dtype=torch.float64)}, loss=torch.tensor(-9.0, dtype=torch.float64))
    for share in (0.6, MIN_GAIN + 0.001):  # of the promised rise, which is rate · 1²
        before = opt.rate["w"].clone()
        value = opt.value + share * before[0]
        opt.step({"w": torch.tensor([1.0], dtype=torch.float64)}, loss=value)
        torch.testing.assert_close(opt.rate["w"], before / (1 - share))


def test_a_rate_is_raised_by_at_most_grow():
    w = torch.tensor([1.0], dtype=torch.float64)
    opt = Adaptive({"w": w}, 0.01, grow=7.0, maximize=True)
    for value in (-100.0, -99.0):  # rose by more than was promised
        opt.step(
            {"w": torch.tensor([1.0], dtype=torch.float64)}, loss=torch.tensor(value, dtype=torch.float64)
        )
    torch.testing.assert_close(opt.rate["w"], torch.tensor([0.07], dtype=torch.float64))


def test_a_weight_whose_slope_turned_is_cut_and_the_others_raised():
    w = torch.zeros(2, dtype=torch.float64)
    opt = Adaptive({"w": w}, 0.01, shrink=0.5, grow=10.0, maximize=True)
    for g, value in (([1.0, 1.0], -10.0), ([1.0, -1.0], -9.0)):
        opt.step({"w": torch.tensor(g, dtype=torch.float64)}, loss=torch.tensor(value, dtype=torch.float64))
    torch.testing.assert_close(opt.rate["w"], torch.tensor([0.1, 0.005], dtype=torch.float64))


def test_no_step_promises_more_than_there_is_to_gain():
    w = torch.tensor([1.0], dtype=torch.float64)
    opt = Adaptive({"w": w}, 1e6, maximize=True)
    p, g = hill(w)
    opt.step({"w": g}, loss=p)
    torch.testing.assert_close(((w - 1) * g).sum(), p.abs())


def test_no_weight_moves_further_than_the_reach():
    w = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    opt = Adaptive({"w": w}, 1e6, maximize=True)
    opt.step({"w": torch.tensor([1.0, -1e-9, 0.0])}, loss=torch.tensor(-1e9, dtype=torch.float64))
    torch.testing.assert_close(w, torch.tensor([1 + MAX_MOVE, 1 - 1e-3, 1.0], dtype=torch.float64))


def test_no_rate_is_more_than_max_ratio_times_the_smallest():
    w = torch.zeros(2, dtype=torch.float64)
    opt = Adaptive({"w": w}, 1e-3, maximize=True)
    for k in range(9):  # one slope turns every time, the other never
        g = torch.tensor([1e-3, 1e-3 * (-1) ** k], dtype=torch.float64)
        opt.step({"w": g}, loss=torch.tensor(-9.0 + k, dtype=torch.float64))
    torch.testing.assert_close(opt.rate["w"][0], opt.max_ratio * opt.rate["w"][1])


def test_steps_with_lr_factor_0_raise_no_rate():
    w = torch.tensor([1.0], dtype=torch.float64)
    opt = Adaptive({"w": w}, 0.1, maximize=True)
    for _ in range(3):
        opt.step({"w": torch.ones_like(w)}, lr_factor=0.0, loss=torch.tensor(-9.0, dtype=torch.float64))
    assert opt.rate["w"].item() == 0.1 and w.item() == 1.0


@pytest.mark.parametrize("rate", [1e-6, 1.0, 1e6])
def test_it_climbs_from_any_rate(rate):
    scale = torch.tensor([1.0, 30.0], dtype=torch.float64)
    w = torch.tensor([3.0, -2.0], dtype=torch.float64)
    opt = Adaptive({"w": w}, rate)
    for _ in range(100):
        opt.step({"w": scale * w}, loss=0.5 * (scale * w * w).sum())  # a loss, to go down
    opt.restore_best()
    assert (0.5 * (scale * w * w).sum()).item() < 1e-6


def test_restore_best_goes_back_to_the_best_point():
    w = torch.tensor([1.0], dtype=torch.float64)
    opt = Adaptive({"w": w}, 0.9, maximize=True)
    seen = []
    for _ in range(20):
        p, g = hill(w)
        seen.append(p.item())
        opt.step({"w": g}, loss=p)
    opt.restore_best()
    assert hill(w)[0].item() == max(seen)


def test_nets_side_by_side_adapt_each_on_its_own():
    torch.manual_seed(0)
    start = torch.randn(4, 2, 1, dtype=torch.float64)
    rates = torch.tensor([0.01, 0.3, 2.0, 100.0], dtype=torch.float64)[:, None, None]

    def run(w, rate, num_nets):
        opt = Adaptive({"w": w}, rate, maximize=True, num_nets=num_nets)
        for _ in range(12):
            p = -(w**4).sum((1, 2)) if num_nets else -(w**4).sum()
            opt.step({"w": -4 * w**3}, loss=p)
        return w

    together = run(start.clone(), rates, 4)
    for s in range(4):
        torch.testing.assert_close(together[s], run(start[s].clone(), rates[s], None))


def test_a_weight_without_slope_stays_finite():
    w = torch.tensor([1.0, 5.0])
    opt = Adaptive({"w": w}, 0.1, maximize=True)
    for _ in range(300):
        opt.step({"w": torch.tensor([-2 * w[0], 0.0])}, loss=-(w[0] ** 2))
    assert w.isfinite().all() and w[1] == 5.0 and opt.rate["w"].isfinite().all()


def test_a_step_without_the_loss_is_refused():
    with pytest.raises(ValueError, match="loss"):
        Adaptive({"w": torch.zeros(1)}, 0.1).step({"w": torch.zeros(1)})


@pytest.mark.parametrize("rate", [0.005, 500.0])
def test_a_run_trains_with_it(tmp_path, rate):
    overrides = ['train.optimizer="adaptive"', f"train.lr={rate}", "train.batch_size=2", "train.epochs=100"]
    conf = config.load("configs/two_weight.toml", overrides)
    run = Run.from_config(conf, torch.device("cpu"), tmp_path / "run")
    assert run.train().largest_error < 0.1


@pytest.mark.parametrize("key", ["momentum=0.9", "weight_decay=0.1", "nesterov=true"])
def test_options_that_it_lacks_are_a_usage_error(key):
    with pytest.raises(UsageError, match=f"train.{key.split('=')[0]}: the adaptive optimizer has none"):
        config.load("configs/two_weight.toml", ['train.optimizer="adaptive"', f"train.{key}"])
