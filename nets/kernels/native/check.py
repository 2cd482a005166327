"""What an operator's tensors must be. It is checked once a call, before anything is read by address.

A description has an entry for each argument that is a tensor or a size, in the arguments' order:

    "x: images N C H W, w: float O C 3 3, winner: uint8 N O H/2 W/2, height: H"

A letter is the same size in all entries. H/2 is half of H, rounded down; a number is that size.

    images   the dtype is one of the kernels', and is the same for all images of a call
    float    any floating-point dtype; the operator converts it
    float32, uint8  the dtype; a float32 tensor must also be contiguous
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nets.common.errors import BatchError

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
KINDS = {"float": FLOATS, "float32": (torch.float32,), "uint8": (torch.uint8,)}
# The kernels compute sizes in 32 bits and positions in 64. The number of channels is multiplied by up to 64.
LARGEST, MOST_CHANNELS = 2**30, 2**25


def checker(operator: str, description: str, dtypes: Sequence[torch.dtype], empty: bool = True) -> Callable:
    """The function that checks an operator's arguments. BatchError names the first that is wrong.

    dtypes: of images. empty: whether a batch may be without numbers.
    """
    entries = [_entry(text) for text in description.split(", ")]
    kinds = KINDS | {"images": tuple(dtypes)}

    def check(*args):
        sizes: dict[str, int] = {"3": 3}
        device, dtype = args[0].device, args[0].dtype
        for (name, kind, dims), t in zip(entries, args):
            if not isinstance(t, Tensor):
                if t is not None:  # a size
                    sizes[dims[0]] = t
                    if sizes.setdefault(f"{dims[0]}/2", t // 2) != t // 2:
                        wrong(f"{name} is {t}", f"twice {sizes[f'{dims[0]}/2']}")
                continue
            if t.dtype not in kinds[kind] or (kind == "images" and t.dtype != dtype):
                wrong(f"{name} is {_name(t.dtype)}", kind if kind != "images" else _names(dtypes, dtype))
            if t.device != device:
                wrong(f"{name} is on {t.device}", str(device))
            if len(t.shape) != len(dims):
                wrong(f"{name} is {tuple(t.shape)}", f"({', '.join(dims)})")
            for size, n in zip(dims, t.shape):
                if sizes.setdefault(size, n) != n:
                    wrong(f"{name} is {tuple(t.shape)}", f"({', '.join(dims)}) with {size} = {sizes[size]}")
                if size in "HW":
                    sizes[f"{size}/2"] = n // 2
            if kind == "float32" and not t.is_contiguous():
                wrong(f"{name} isn't contiguous", "that")
        for size, n in sizes.items():
            low, high = (1, MOST_CHANNELS) if size in "CO" else (0, LARGEST)
            if not low <= n <= high:
                wrong(f"{size} is {n}", f"{low} to {high}")
        if not empty and not args[0].numel():
            wrong("the batch is empty", "numbers")

    def wrong(found: str, expected: str):
        raise BatchError(f"kernel {operator}: {found}, expected {expected}")

    return check


def _entry(text: str) -> tuple[str, str, list[str]]:
    name, _, rest = text.partition(": ")
    kind, *dims = rest.split(" ")
    return (name, kind, dims) if dims else (name, "size", [kind])


def _names(dtypes: Sequence[torch.dtype], dtype: torch.dtype) -> str:
    """The dtypes that images may have: the first tensor's if that is one."""
    return " or ".join(map(_name, [dtype] if dtype in dtypes else dtypes))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
