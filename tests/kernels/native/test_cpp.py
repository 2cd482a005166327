"""The native library: compiled once, for any processor."""

import pytest
import torch

from nets.kernels import native
from nets.kernels.native import cpp

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no compiler here: {native.reason}")


def pictures(*shape, dtype, last=True):
    x = torch.randn(*shape).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def off(a, b):
    """How far a is from b, all in all, relative."""
    return ((a.double() - b).norm() / b.norm()).item()


def test_the_library_is_compiled_once_into_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpp, "FLAGS", ("-O1", *cpp.FLAGS[1:]))
    native.library.cache_clear()
    try:
        assert native.library() is not None
        (made,) = (tmp_path / "handwritten-backprop").iterdir()
        native.library.cache_clear()
        before = made.stat().st_mtime_ns
        assert native.library() is not None and made.stat().st_mtime_ns == before
    finally:
        native.library.cache_clear()


@pytest.mark.deep
@pytest.mark.parametrize("without", ["-mno-amx-tile", "-mno-avx512bf16"])
def test_a_processor_without_an_extension_gives_the_same_sums(without, monkeypatch, tmp_path):
    """Its matrix unit, and its products of bfloat16, are ways to the same sums."""
    torch.manual_seed(0)
    x, dy = (pictures(5, k, 7, 6, dtype=torch.bfloat16) for k in (40, 70))
    weight, bias = torch.randn(70, 40, 3, 3), torch.randn(70)

    def results():
        y, winner = native.conv_pool(x, weight, bias)
        return [
            native.conv(x, weight, bias), y,
            native.conv_input_gradient(dy, weight), native.conv_weight_gradient(x, dy),
            native.conv_pool_weight_gradient(x, y, winner),
        ]  # fmt: skip

    here = results()
    monkeypatch.setattr(cpp, "FLAGS", ("-O1", *cpp.FLAGS[1:], without))  # less is faster compiled
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    try:
        if native.library() is None:
            pytest.skip(f"the compiler doesn't know {without}")
        for mine, other in zip(here, results()):
            assert off(mine, other.double()) < 5e-3
    finally:
        native.library.cache_clear()
