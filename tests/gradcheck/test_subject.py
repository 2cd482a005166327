"""Names, leaves and outputs of what is checked."""

import numpy as np
import torch
from torch import nn

from nets.gradcheck.subject import Subject

X = torch.randn(3, 4, dtype=torch.float64)


def test_leaves_have_the_names_of_parameters_and_their_paths():
    def f(x, params, *rest, scale=1.0):
        return x * params["w"] * scale

    subject = Subject(f, (X, {"w": X, "b": [X]}, 3, None, X), {"scale": X})
    names = [subject.names[i] for i in subject.where]
    assert names == ["x", "params['w']", "params['b'][0]", "input 4", "scale"]
    assert Subject(nn.Linear(4, 2).double(), (X,)).names == ["input", "weight", "bias"]


def test_numpy_arrays_are_given_as_arrays_and_copied():
    seen = []
    array = X.numpy().copy()
    subject = Subject((lambda x: seen.append(type(x)) or x.fill(0), lambda dy, x: dy), (array,))
    subject._call(subject.pair.forward, subject.values)
    assert seen == [np.ndarray] and array.any()


def test_outputs_without_a_gradient_are_left_out():
    subject = Subject(lambda x: {"y": x * 2, "places": x.argmax(), "kept": x.detach()}, (X,))
    assert subject.find_outputs(subject.values) == "output 1, output 2" and subject.judged == [0]


def test_a_modules_buffers_and_frozen_parameters_stay():
    module = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)).double()
    module[0].bias.requires_grad_(False)
    before = module[1].running_mean.clone()
    subject = Subject(module, (X,))
    subject.find_outputs(subject.values)
    assert torch.equal(module[1].running_mean, before)
    assert [subject.names[i] for i in subject.where] == ["input", "0.weight", "1.weight", "1.bias"]
