"""Optimizers change a net's parameters in place; schedules set the learning rate over a run."""

from nets.optim.adaptive import Adaptive
from nets.optim.muon import Muon
from nets.optim.sgd import SGD

__all__ = ["SGD", "Adaptive", "Muon"]
