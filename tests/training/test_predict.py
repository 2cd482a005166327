"""The net of a run's folder: what is checked of its checkpoint before it is used."""

import resource
import shutil

import pytest
import torch

from nets import SGD, CrossEntropyLoss, Flatten, Linear, Sequential, fit
from nets.common import tensorfile
from nets.common.errors import CheckpointError, NonFiniteError
from nets.training.predict import Trained
from tests.training.ended_runs import CPU, make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def changed(stopped_run, tmp_path):
    """changed(tensors, words) is the folder of a run with these changes to its checkpoint."""

    def write(tensors=(), words=()):
        shutil.copytree(stopped_run, tmp_path / "run", dirs_exist_ok=True)
        own, known = tensorfile.read(stopped_run / "last.safetensors")
        new = {name: change(own[name]) for name, change in dict(tensors).items()}
        tensorfile.save(tmp_path / "run/last.safetensors", own | new, known | dict(words))
        return tmp_path / "run"

    return write


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_checkpoint_of_few_bytes_that_asks_for_gigabytes_takes_none(tmp_path):
    layers = 'net.layers=["Flatten", { type = "Linear", out_features = 10 }]'
    run_of(make("", [layers, "train.param_groups=[]", "train.epochs=1"]), tmp_path).train()
    tensors, words = tensorfile.read(tmp_path / "last.safetensors")
    small = {"data.mean": torch.zeros(3), "data.std": torch.ones(3)}
    path = tmp_path / "last.safetensors"
    tensorfile.save(path, tensors | small, words | {"shape": [3, 16384, 5461]})
    before = peak()
    with pytest.raises(CheckpointError, match=r"1\.weight is \(10, 64\), not \(10, 268419072\)"):
        Trained(tmp_path, CPU)
    assert path.stat().st_size < 30_000 and peak() - before < 100


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["net.0.weight", "net.1.running_var"])
def test_a_net_that_is_not_finite_is_an_error(name, bad, changed):
    run = changed({name: lambda t: t.flatten().index_fill(0, torch.tensor([3]), bad).view(t.shape)})
    with pytest.raises(NonFiniteError, match=rf"{name[4:]} has an infinite or NaN number") as caught:
        Trained(run, CPU)
    assert caught.value.code == 5
    with pytest.raises(NonFiniteError, match=name):
        run_of(make(""), run).train(resume=True)


def test_outputs_that_are_not_finite_are_an_error(changed):
    """Of weights that are finite, but too large."""
    run = changed({"net.13.weight": lambda t: torch.full_like(t, 3e38)})
    with pytest.raises(NonFiniteError, match="an output of the net is infinite or NaN"):
        Trained(run, CPU).test()


@pytest.mark.parametrize("name", ["data.mean", "data.std"])
@pytest.mark.parametrize(
    "change", [lambda t: t * torch.nan, lambda t: t * torch.inf, lambda t: t.double(), lambda t: t[None]]
)
def test_a_mean_and_a_deviation_that_are_none_are_refused(name, change, changed):
    with pytest.raises(CheckpointError, match="has no mean and standard deviation"):
        Trained(changed({name: change}), CPU)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_deviation_is_more_than_zero(value, changed):
    with pytest.raises(CheckpointError, match="has no mean and standard deviation"):
        Trained(changed({"data.std": lambda t: torch.full_like(t, value)}), CPU)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -1.0])
@pytest.mark.parametrize("name", ["log.epoch", "log.steps"])
def test_counters_that_are_none_are_refused_at_a_resume(name, bad, changed):
    run = changed({name: lambda t: torch.full_like(t, bad)})
    with pytest.raises(CheckpointError, match=name):
        run_of(make(""), run).train(resume=True)


def test_a_run_of_fit_says_what_it_is(tmp_path):
    x, y = torch.randn(20, 3), torch.arange(20) % 2
    net = Sequential(Flatten(), Linear(3, 2))
    fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), (x, y), epochs=1, out=tmp_path, bar=False)
    with pytest.raises(CheckpointError, match="a run of fit has no config of its net"):
        Trained(tmp_path, CPU)
