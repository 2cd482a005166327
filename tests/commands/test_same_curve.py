"""nets same-curve reports a curve that leaves the others."""

import pytest

from nets.commands import same_curve as command
from nets.common.errors import MismatchError
from nets.layers.linear import Linear
from tests.alexnet import PATH, WIDE, overrides


def test_a_curve_that_leaves_the_others_is_reported(alexnet_tree, monkeypatch, capsys):
    args = [str(PATH), "--steps", "9", "--device", "cpu", "--data-root", str(alexnet_tree)]
    for override in overrides(alexnet_tree, *WIDE):
        args += ["--set", override]
    command.main(args)
    assert capsys.readouterr().out.count("\n") == 10
    right = Linear.backward

    def wrong(self, saved, dy):
        dx, grads = right(self, saved, dy)
        return dx, grads | {"bias": 0.5 * grads["bias"]}

    monkeypatch.setattr(Linear, "backward", wrong)
    with pytest.raises(MismatchError, match="the losses of step [2-9] differ"):
        command.main(args)
