"""Optimizers, which update a net's parameters in place, and learning rate schedules."""

from nets.optim.adaptive import Adaptive
from nets.optim.muon import Muon
from nets.optim.sgd import SGD

__all__ = ["SGD", "Adaptive", "Muon"]
