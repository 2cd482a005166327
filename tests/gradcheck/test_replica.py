"""Copies of layers: what is one object stays one object, and what can't be copied is shared."""

import threading
import types

import numpy
import pytest
import torch

from nets.gradcheck.replica import parts, replica, same
from nets.layers.base import Layer
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d


class Held(Layer):
    """Its weight has a second name, and a view is a third."""

    def __init__(self):
        super().__init__()
        self.params["w"] = torch.randn(3, 4)
        self.w, self.row = self.params["w"], self.params["w"][1]
        self.inner = Linear(4, 3)
        self.inner.params["weight"] = self.w
        self.order = torch.tensor([2, 0, 1])
        self.lock, self.generator, self.module = threading.Lock(), torch.Generator(), numpy


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_a_tensor_with_several_names_stays_one(dtype):
    layer = Held()
    copied = replica(layer, dtype)
    w = copied.params["w"]
    assert w is copied.w is copied.inner.params["weight"] and w is not layer.w
    assert w.dtype == (dtype or torch.float32) == copied.inner.params["bias"].dtype
    w[1] = 7
    assert (copied.row == 7).all() and not (layer.row == 7).any()
    assert copied.order.dtype == torch.int64 and torch.equal(copied.order, layer.order)
    assert copied.lock is layer.lock and copied.module is numpy and copied.generator is not layer.generator


def test_a_tensor_and_its_views_can_be_replaced():
    layer, new = Held(), torch.zeros(3, 4, requires_grad=True)
    copied = replica(layer, instead={id(layer.params["w"]): new})
    assert copied.w is new is copied.inner.params["weight"]
    (grad,) = torch.autograd.grad(copied.row.sum(), new)
    assert grad[1].all() and not grad[0].any()


def test_the_bound_methods_of_a_copy_are_bound_to_it():
    layer = Held()
    layer.method = types.MethodType(lambda self: self, layer)
    copied = replica(layer)
    assert copied.method() is copied


def test_parts_come_once():
    layer = Held()
    found = [part for part in parts(layer, layer) if part is layer.w]
    assert len(found) == 1 and any(part is layer.inner for part in parts([layer]))


class Slots:
    __slots__ = ("n",)


def test_values_are_compared_by_what_they_hold():
    context = lambda n: types.SimpleNamespace(x=torch.ones(2), n=numpy.array([1, n]))  # noqa: E731
    assert same(context(2), context(2)) and not same(context(2), context(3))
    assert same({"a": [torch.tensor([float("nan")])]}, {"a": [torch.tensor([float("nan")])]})
    assert not same([1], [1, 2]) and not same({"a": 1}, {"b": 1}) and not same(torch.ones(2), torch.ones(3))
    assert same(Slots(), Slots()) and same(print, len)
    assert same(Linear(2, 2), replica(Linear(2, 2))) is False
    norm = BatchNorm2d(2)
    copied = replica(norm)
    norm.buffers["running_mean"] += 1
    assert same(norm, copied)  # buffers may change
    norm.params["weight"] += 1
    assert not same(norm, copied)


def test_what_holds_itself_can_be_copied_and_compared():
    loop = []
    loop.append(loop)
    assert same(loop, replica(loop))
