"""fit refuses what does not go together, in one line that names it."""

import dataclasses

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from nets.common.errors import DataError
from nets.fitting import KEYS, fit
from nets.layers import (
    Flatten,
    Linear,
    ReLU,
    Sequential,
)
from nets.losses import CrossEntropyLoss, MSELoss
from nets.optim import SGD
from nets.training import config
from tests.small_problem import problem, sgd, small_net

pytestmark = pytest.mark.usefixtures("no_pictures")

X, Y = problem(30)


@pytest.mark.parametrize(
    "train, test, options, words",
    [
        ((X, Y), None, {"epoch": 3}, 'fit has no argument epoch; did you mean "epochs"?'),
        ((X, Y), None, {"epochs": 0}, "epochs: must be at least 1, got 0"),
        ((X, Y), None, {"seed": -1}, "seed: must be at least 0"),
        ((X, Y), None, {"schedule": "cosin"}, 'did you mean "cosine"'),
        ((X, Y), None, {"dtype": "float16"}, "dtype"),
        ((X, Y), None, {"backend": "cuda"}, "backend"),
        ((X, Y), None, {"device": "tpu"}, "tpu"),
        ((X, Y), None, {"augment": {"flipp": "random"}}, 'augment.flipp: unknown key; did you mean "flip"?'),
        ((X, Y), None, {"augment": {"flip": "random"}}, "augment.flip: the training data has no images"),
        ((X, Y), None, {"tta": "flip"}, "tta: the training data has no images"),
        ((X, Y), None, {"size": 32}, "size: only for an image tree"),
        ((X, Y), None, {"min_lr": 1.0}, "min_lr: 1 is more than train.lr"),
        ((X, Y), None, {"classes": ["a", "b"]}, "net: its output is (3,), 2 classes need (2)"),
        ((X[:, :3], Y), None, {}, "net: can't take samples of shape (3,)"),
        ((X, Y + 1), None, {}, "train: classes are 1 to 3, the net has 3 outputs"),
        ((X, Y), (X, Y - 1), {}, "test: classes are -1 to 1"),
        ((X, torch.zeros(30, 2)), None, {}, "net: its output is (3,), y needs (2,)"),
        ((X, torch.zeros(30, 3)), None, {}, "train.loss: the training data has no classes"),
        (DataLoader(TensorDataset(X, Y)), None, {"skip_fraction": 0.5}, "skip_fraction: not with"),
        (DataLoader(TensorDataset(X, Y)), None, {"augment": {"cutout": 2}}, "augment.cutout: not with"),
        ("nowhere", None, {}, "nowhere: no such folder"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(train, test, options, words):
    net = small_net()
    with pytest.raises((ValueError, DataError)) as e:
        fit(net, CrossEntropyLoss(), sgd(net), train, test, **options)
    assert words in str(e.value) and "\n" not in str(e.value)


def test_wrong_nets_and_optimizers_are_named():
    net, other = small_net(), small_net()
    with pytest.raises(ValueError, match="optimizer: make it with net.params"):
        fit(net, CrossEntropyLoss(), sgd(other), (X, Y))
    with pytest.raises(ValueError, match="net must be a layer of nets, not Linear"):
        fit(torch.nn.Linear(4, 3), CrossEntropyLoss(), sgd(net), (X, Y))
    with pytest.raises(ValueError, match="no parameters to train"):
        fit(ReLU(), MSELoss(), SGD({}, 0.1), (X, X))


def test_every_key_of_a_config_is_an_argument_or_is_given_otherwise():
    """Of the sections that fit has; a new key must be one or the other."""
    keys = {"epochs", "checkpoint_every_steps", "checkpoint_every_seconds", "log_every_steps", "tensorboard"}
    keys |= {"tta", "tta_fraction", "skip_fraction", "progressive_sizes", "size", "num_workers"}
    assert keys <= KEYS.keys() and not {"lr", "loss", "root", "every_steps"} & KEYS.keys()
    assert len(set(KEYS.values())) == len(KEYS)
    assert dataclasses.is_dataclass(config.Train)


def test_a_net_that_cannot_take_a_progressive_size_is_refused_before_training(tmp_path):
    x, y = torch.randint(0, 256, (20, 8, 8, 3), dtype=torch.uint8), torch.arange(20) % 2
    net = Sequential(Flatten(), Linear(192, 2))
    with pytest.raises(ValueError, match=r"train\.progressive_sizes: the net can't take 6 × 6"):
        fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), (x, y), progressive_sizes=[6, 8], out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_validation_split_of_a_loader_is_refused():
    net = small_net()
    with pytest.raises(ValueError, match=r"data\.validation: not with a DataLoader"):
        fit(net, CrossEntropyLoss(), sgd(net), DataLoader(TensorDataset(X, Y)), validation=0.2)
