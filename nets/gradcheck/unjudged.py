"""What leaves a check without anything to judge. Such a check is "not checked", with the reason."""

from collections.abc import Sequence

from torch import Tensor

from nets.common.errors import Terminated, describe
from nets.gradcheck.measure import compare, tolerance

LACKING = ("not implemented for", "ScalarType", "scalar type", "same dtype")


def reason(e: BaseException, dtype: str) -> str:
    """Why a check that ended in e has nothing to judge, or "": then e is an error.

    A layer that ends the program is judged by nothing, nor is one whose operators lack the dtype.
    """
    if isinstance(e, SystemExit):
        return "" if isinstance(e, Terminated) else describe(e)
    if any(words in str(e) for words in LACKING):
        return f"not supported in {dtype} ({describe(e)})"
    return ""


def without_elements(ys: Sequence[Tensor]) -> str:
    """Why outputs without elements can't be judged, or ""."""
    return "" if sum(y.numel() for y in ys) else "the output has no elements"


def not_repeated(ys: Sequence[Tensor], again: Sequence[Tensor]) -> str:
    """Why the outputs of two equal forwards can't be judged, or ""."""
    for y, other in zip(ys, again):
        if compare(other, y).relative > max(1e-6, tolerance(y.dtype, y.numel())):
            return "two forwards with the same random numbers differ, so no slope can be measured"
    return ""
