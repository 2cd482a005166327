"""The list of experiments, and their seeds."""

import json

from nets.lecture import EXPERIMENTS
from nets.lecture.cross import cross
from nets.lecture.two_weight import two_weight


def test_the_list_of_experiments():
    assert list(EXPERIMENTS) == [
        "neuron", "threshold", "sigmoid", "performance", "hill-climbing", "two-weight", "rate-constant",
        "adaptive-rate", "symmetry", "cross", "reuse", "approximator",
    ]  # fmt: skip


def test_same_seed_same_figures():
    def figures(seed):
        return json.dumps(cross(seed, starts=2, passes=60).figures), json.dumps(
            two_weight(seed, draws=4).figures
        )

    assert figures(1) == figures(1)
    assert figures(1)[1] != figures(2)[1]
