"""Samples that don't make a data set are named."""

import pytest
import torch
from torch.utils.data import DataLoader

from nets.fitting import fit
from nets.losses import CrossEntropyLoss
from tests.small_problem import Squares, problem, sgd, small_net

X, Y = problem(30)


@pytest.mark.parametrize(
    "train, test, words",
    [
        ((X, Y), (X[:, :3], Y), "test: a sample's x is float32 (3,) in test, float32 (4,) in train"),
        ((X, Y), (X, torch.zeros(30, 3)), "test: a sample's y"),
        ((X, Y[:-1]), None, "the same number of samples, but have 30 and 29"),
        ((X[:0], Y[:0]), None, "the same number of samples, but have 0 and 0"),
        ((X, Y[:, None]), None, "y is classes (N) of whole numbers"),
        ((X, Y.float()), None, "use y[:, None]"),
        ((X, ["a"] * 30), None, "train: y must be a tensor, not list"),
        (X, None, "train: expected a pair (x, y)"),
        (Squares([], []), None, "train: a Dataset without samples"),
        (Squares([X, X[:5]], [0, 1]), None, "samples differ in shape"),
        ((torch.zeros(30, 5, 5, 2, dtype=torch.uint8), Y), None, "1 or 3 channels, not (30, 5, 5, 2)"),
        (DataLoader(Squares(X.to(torch.uint8), Y)), None, "a DataLoader must give floats"),
    ],
)  # fmt: skip
def test_wrong_samples_are_named(train, test, words):
    net = small_net()
    with pytest.raises(ValueError) as e:
        fit(net, CrossEntropyLoss(), sgd(net), train, test)
    assert words in str(e.value) and "\n" not in str(e.value)
