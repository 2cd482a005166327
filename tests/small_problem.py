"""A small problem for fit, and what its runs leave."""

import json
import os
import signal

import torch
from torch.utils.data import Dataset

from nets.layers import Dropout, Linear, ReLU, Sequential
from nets.optim import SGD
from nets.tools import survive
from nets.training.hooks import Hook


def problem(n=220):
    """Samples of three classes in four dimensions: (x, y)."""
    draws = torch.Generator().manual_seed(1)
    y = torch.arange(n) % 3
    return torch.randn(n, 4, generator=draws) + 2 * torch.nn.functional.one_hot(y, 4), y


def small_net(seed=0):
    torch.manual_seed(seed)
    return Sequential(Linear(4, 16), ReLU(), Dropout(0.2), Linear(16, 3))


def sgd(net):
    return SGD(net.params, lr=0.1, momentum=0.9)


class Interrupt(Hook):
    """Sends this process a signal before step `at`."""

    def __init__(self, at, number=signal.SIGTERM):
        self.at, self.number = at, number

    def before_step(self, run):
        if run.at() == self.at:
            os.kill(os.getpid(), self.number)


def state(out):
    """What must be the same in two runs; the folder's name may differ."""
    found = survive.state(out)
    return found | {"result": {**json.loads(found["result"]), "name": ""}}


class Squares(Dataset):
    """A map-style Dataset; its samples are (x, int)."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])
