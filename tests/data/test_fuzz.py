"""Generated image files and trees end in images or in an error of one line, soon and in little memory.

`FUZZ_MINUTES=10 python -m pytest -s -n 0 tests/data/test_fuzz.py` draws new cases for ten minutes; without
it, the same few every time.
"""

import dataclasses
import faulthandler
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from nets.data import datasets, stream
from nets.data.images import decode
from nets.report import figure
from nets.training import config
from tests.data import fuzz
from tests.data.trees import make_tree

MINUTES = float(os.environ.get("FUZZ_MINUTES", 0))
SHARES = {"files": 0.5, "trees": 0.4, "figures": 0.1}  # of the time


@pytest.fixture(autouse=True)
def signals():
    """one_line_errors sets a handler."""
    handler = signal.getsignal(signal.SIGTERM)
    faulthandler.dump_traceback_later(60 * MINUTES + 120, exit=True)  # a hang in C
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGTERM, handler)


def explore(name: str, body, *drawn, examples: int = 25):
    """Call body with the strategies' values: the same cases, or new ones for its share of FUZZ_MINUTES."""
    end = time.monotonic() + 60 * MINUTES * SHARES[name]
    new: dict = dict(derandomize=False, database=None, max_examples=100) if MINUTES else {}
    while True:

        @seed(time.time_ns() if MINUTES else 0)
        @settings(**{"max_examples": examples} | new)
        @given(st.tuples(*drawn))
        def case(values):
            body(*values)

        case()
        if time.monotonic() >= end:
            break


def test_image_files():
    count = Counter()

    def files(raw, channels, size):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.png"
            path.write_bytes(raw)
            limit = fuzz.MAX_MEGAPIXELS
            found = fuzz.outcome(lambda: decode(path, channels, size, max_megapixels=limit))
        count["refused" if isinstance(found, int) else "decoded"] += 1
        if isinstance(found, int):
            assert found == 3
        else:
            assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == channels
            assert size is None or found.shape[:2] == (size, size)

    explore("files", files, fuzz.image_bytes(), st.sampled_from([1, 3]), st.sampled_from([None, 5]))
    print(f"{count.total():,} image files: {dict(count)}")
    assert min(count.values()) > 0


def test_trees():
    count = Counter()

    def trees(more, on_error, size, limit, damage):
        with tempfile.TemporaryDirectory() as folder:
            root = make_tree(Path(folder), count=1, names=("cat", "dog"))
            for entry in more:
                entry.make(root)
            conf = config.Data(source="folder", root=folder, size=size, on_error=on_error, num_workers=0)
            conf = dataclasses.replace(conf, memory_limit_mb=limit, max_megapixels=fuzz.MAX_MEGAPIXELS)
            first = fuzz.outcome(lambda: load(conf))
            cache = root / ".nets-cache.safetensors"
            if damage and cache.is_file() and not cache.is_symlink():
                raw = bytearray(cache.read_bytes())
                at = damage[0] * len(raw) // 256
                raw[at : at + 1] = damage[1:]
                cache.write_bytes(raw)
            second = fuzz.outcome(lambda: load(conf))
        assert type(first) is type(second)
        count["refused" if isinstance(first, int) else "read"] += 1
        if isinstance(first, int):
            assert first == second == 3
        else:
            assert torch.equal(first.train_y, second.train_y)
            assert first.left_out == second.left_out and first.skipped == second.skipped

    options = [st.sampled_from(["stop", "skip"]), st.sampled_from([0, 6]), st.sampled_from([0, 4000])]
    explore("trees", trees, st.lists(fuzz.entries(), max_size=8), *options, st.binary(max_size=3))
    print(f"{count.total():,} trees: {dict(count)}")
    assert min(count.values()) > 0


def load(conf):
    """A tree, every image of it, and what is said about it."""
    data = datasets.load(conf)
    for x in (data.train_x, data.test_x):
        assert x is not None and len(x[:]) == len(x)
    stream.report_skipped(data.skipped)
    return data


@pytest.mark.filterwarnings("ignore:Glyph")  # pytest sets the module's filter back
def test_figures():
    count = Counter()
    names = st.lists(st.one_of(st.text(max_size=40), st.sampled_from(fuzz.NAMES)), min_size=2, max_size=7)

    def figures(classes, images, size, labelled, data):
        pixels = [np.zeros((*size, data.draw(st.sampled_from([1, 3]))), np.uint8)] * images
        labels = [data.draw(st.integers(0, len(classes) - 1)) for _ in pixels] if labelled else None
        captions = None if labelled else [data.draw(st.sampled_from(fuzz.NAMES)) for _ in pixels]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "a.png"
            figure.top5(file, pixels, torch.randn(images, len(classes)), classes, labels, None, captions)
            assert file.stat().st_size > 1000
        count["drawn"] += 1

    sizes = st.sampled_from([(1, 1), (1, 9), (9, 1), (3, 5)])
    explore("figures", figures, names, st.integers(1, 3), sizes, st.booleans(), st.data(), examples=4)
    print(f"{count.total():,} figures")
