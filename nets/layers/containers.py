"""Nets are layers: in a row (Sequential) or around (Residual), under the same contract.

A net's `saved` is a list that backward empties from its end, so that memory is given back as
backward goes; with `keep=True` it is left whole, for a second backward.
"""

from collections import Counter

from torch import Tensor

from nets.layers.base import Layer, Net

AGAIN = "again"  # saved in place of an x that the layer before can compute once more


def back(layer: Layer, saved, dy: Tensor, keep: bool):
    """One layer's backward; a net is also told whether to keep what was saved."""
    return layer.backward(saved, dy, keep) if isinstance(layer, Net) else layer.backward(saved, dy)


def _without(s, x: Tensor):
    """What was saved, less the layer's x."""
    if s is x:
        return AGAIN
    return (AGAIN, *s[1:]) if type(s) is tuple and s and s[0] is x else s


class Sequential(Net):
    """y = f_n(… f_2(f_1(x))). Backward is the chain rule, from the last layer to the first.

    With `recompute` a layer that would save its x (a convolution) doesn't, where the layer
    before can compute it once more from what it has saved itself (an activation, a norm): less
    memory for a little work. Source: Chen et al. 2016, "Training deep nets with sublinear
    memory cost".
    """

    def __init__(self, *layers: Layer, recompute: bool = False):
        super().__init__(**{str(i): layer for i, layer in enumerate(layers)})
        self.recompute = recompute
        self.frozen = 0  # so many first layers are spared their backward

    def freeze(self, names=()):
        """Take the parameters called `names` as constants, and the input too.

        First layers that are left with nothing to train get no backward, and give no gradients.
        """
        layers = list(self.children.items())
        for leaf in self.places():
            leaf.input_grad = True  # of whoever was first before
        trains = [any(f"{child}.{name}" not in names for name in layer.params) for child, layer in layers]
        self.frozen = trains.index(True) if True in trains else len(layers)
        often = Counter(id(leaf) for leaf in self.places())
        for leaf in layers[self.frozen][1].readers() if True in trains else ():
            leaf.input_grad = often[id(leaf)] > 1

    def forward(self, x: Tensor):
        saved, before = [], None
        for layer in self.children.values():
            y, s = layer.forward(x)
            if self.recompute and before is not None and type(before).output is not Layer.output:
                s = _without(s, x)
            saved.append(s)
            x, before = y, layer
        return x, saved

    def backward(self, saved, dy: Tensor, keep: bool = False, take=None):
        """take: called with a layer's gradients as soon as they are whole, which are then forgotten."""
        saved, grads = list(saved) if keep else saved, {}
        layers = list(self.children.values())
        for i, name in reversed(list(enumerate(self.children))):
            if i < self.frozen:
                saved.pop()
                dy = None
                continue
            self._recall(layers, saved, i)
            dy, new = back(layers[i], saved.pop(), dy, keep)
            self._collect(grads, name, new)
            if (
                take and new
            ):  # what stands in an earlier place too isn't whole yet, nor in `grads` by this name
                take({k: grads.pop(k) for n in new if (k := f"{name}.{n}") in grads})
        return dy, grads

    def _recall(self, layers: list[Layer], saved: list, i: int):
        """saved[i], with layer i's x computed once more where it was left out."""
        s = saved[i]
        if s is AGAIN or (type(s) is tuple and s and s[0] is AGAIN):
            x = layers[i - 1].output(self._recall(layers, saved, i - 1))
            saved[i] = x if s is AGAIN else (x, *s[1:])
        return saved[i]

    def readers(self):
        return next(iter(self.children.values())).readers()


class Residual(Net):
    """y = body(x) + shortcut(x), the shortcut being x itself unless a layer is given.

    x goes two ways, so its gradient is the sum of two: dx = body'ᵀ dy + shortcut'ᵀ dy.
    Source: He et al. 2015, "Deep residual learning for image recognition".
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None):
        super().__init__(body=body, **({"shortcut": shortcut} if shortcut else {}))

    def forward(self, x: Tensor):
        y, saved = self.children["body"].forward(x)
        if "shortcut" not in self.children:
            return y + x, [saved]
        around, other = self.children["shortcut"].forward(x)
        return y + around, [saved, other]

    def backward(self, saved, dy: Tensor, keep: bool = False):
        saved, grads = list(saved) if keep else saved, {}
        around = dy
        if "shortcut" in self.children:
            around, new = back(self.children["shortcut"], saved.pop(), dy, keep)
            self._collect(grads, "shortcut", new)
        dx, new = back(self.children["body"], saved.pop(), dy, keep)
        self._collect(grads, "body", new)
        return None if dx is None or around is None else dx + around, grads

    def readers(self):
        return [leaf for child in self.children.values() for leaf in child.readers()]
