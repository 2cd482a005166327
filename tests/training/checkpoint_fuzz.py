"""Checkpoints made from a valid one: other bytes, other words, other tensors."""

import json
from pathlib import Path

import torch
from hypothesis import strategies as st

from nets.common import tensorfile

NUMBERS = st.sampled_from([0, 1, -1, 2, 7, 2**31, 2**40, 2**63, 10**400, 0.5, -0.0, 1e300])
TEXTS = st.sampled_from(["", "x", "\0", "é", "../x", "a = [", "x" * 3000, "net.0.weight"])
SCALARS = NUMBERS | TEXTS | st.booleans() | st.none()
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=3))
FILLS = st.sampled_from([torch.nan, torch.inf, -torch.inf, 0.0, -1.0, 1e30, 3e38])
DTYPES = st.sampled_from([*tensorfile.NAMES])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 64, 2000]), max_size=4).filter(
    lambda shape: torch.Size(shape).numel() < 10**5
)


def places(node) -> list[tuple]:
    """(what holds it, its key) of every value in a tree."""
    keys = [*node] if isinstance(node, dict) else range(len(node))
    found = [(node, key) for key in keys]
    return found + [p for _, key in found if isinstance(node[key], (dict, list)) for p in places(node[key])]


@st.composite
def checkpoints(draw, path: Path) -> bytes:
    """The bytes of a changed checkpoint. Most have the right checksum."""
    raw = bytearray(path.read_bytes())
    kind = draw(st.sampled_from(["bytes", "words", "words", "tensors", "tensors"]))
    if kind == "bytes":
        for _ in range(draw(st.integers(1, 3))):
            at = draw(st.integers(0, len(raw)) | st.integers(0, 400))
            raw[at : at + draw(st.sampled_from([0, 1, 8, 10**9]))] = draw(st.binary(max_size=9))
        return bytes(raw)
    tensors, words = tensorfile.read(path)
    for _ in range(draw(st.integers(1, 3))):
        if kind == "words":
            words = json.loads(json.dumps(words))
            if found := places(words):
                holder, key = draw(st.sampled_from(found))
                if draw(st.integers(0, 5)):
                    holder[key] = draw(VALUES)
                else:
                    del holder[key]
            continue
        name = draw(st.sampled_from([*tensors]))
        change = draw(st.sampled_from(["fill", "dtype", "shape", "drop", "name"]))
        t = tensors.pop(name)
        if change == "fill":
            tensors[name] = t.flatten().index_fill(0, torch.arange(1), _fit(draw(FILLS), t)).view(t.shape)
        elif change == "dtype":
            tensors[name] = t.to(draw(DTYPES))
        elif change == "shape":
            tensors[name] = torch.zeros(draw(SHAPES), dtype=t.dtype)
        elif change == "name":
            tensors[draw(TEXTS) or "a"] = t
    out = path.with_name("changed.safetensors")
    tensorfile.save(out, tensors, words)
    return out.read_bytes()


def _fit(value: float, t: torch.Tensor):
    return value if t.is_floating_point() else int(value == value and abs(value) < 100 and value > 0)
