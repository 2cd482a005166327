"""The forms: their selection, and that all of them train the same net."""

import pytest
import torch

from nets.bench import forms, race, worker
from nets.commands.targets import narrow
from nets.common.errors import UsageError
from tests.bench.common import CPU, task

GROUP = '{match=["*.bias"], lr_scale=9.0, weight_decay=0.0, momentum=0.0}'


@pytest.mark.parametrize(
    "name, overrides",
    [
        ("cross", []),
        ("two_weight", ["train.loss=mse", "train.momentum=0.5"]),
        ("dense", ["train.batch_size=8"]),
        ("dense", ["train.batch_size=8", "train.loss=cross_entropy", "train.weight_decay=0.1"]),
        ("digits", ["train.batch_size=8"]),
        ("digits", ["train.batch_size=8", "train.dtype=bfloat16", "net.backend=torch"]),
        ("digits", ["train.batch_size=8", "train.dtype=float64", "train.channels_last=false"]),
        ("digits", ["train.batch_size=8", f"train.param_groups=[{GROUP}]"]),
        ("cifar10", ["train.batch_size=4"]),
        ("cifar10", ["train.batch_size=32", "train.dtype=float32"]),
        ("alexnet", [*narrow("alexnet"), "train.batch_size=4"]),
        ("cifar10", ["train.batch_size=4", "net.recompute=true", "net.backend=torch"]),
    ],
    ids=str,
)  # fmt: skip
def test_manual_and_autograd_train_the_same_net(name, overrides):
    todo = task(name, *overrides)
    losses = {side: worker.Runner(todo, forms.Form(side)).losses(5) for side in forms.SIDES}
    race.compare(losses, race.loss_tolerance(todo.config, todo.device))
    assert len(set(losses["manual"])) == 5  # and the loss changes


def test_select_forms():
    cuda = torch.device("cuda")
    names = [f.name for f in forms.select_forms("", "default", CPU)]
    assert names == ["manual", "autograd", "manual-compiled", "autograd-compiled"]
    assert "manual-graph" in [f.name for f in forms.select_forms("", "both", cuda)]
    both = [(f.name, f.keep) for f in forms.select_forms("autograd,manual", "both", CPU)]
    assert both == [("autograd", False), ("autograd+keep", True), ("manual", True)]
    assert all(f.keep for f in forms.select_forms("", "keep", CPU))
    bad = {"manul": 'did you mean "manual"', "manual-graph": "CUDA", "manual,manual": "twice"}
    for wrong, why in bad.items():
        with pytest.raises(UsageError, match=why):
            forms.select_forms(wrong, "default", CPU)
