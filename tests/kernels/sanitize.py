"""Run the C++ kernels under the address and undefined-behaviour sanitizers.

    python -m tests.kernels.sanitize           # odd sizes, offsets, layouts, empty batches
    python -m tests.kernels.sanitize --short   # a few of them

The sanitizers' library must be loaded before any other, so the program starts itself again with it. Tensors
come from malloc, which the sanitizer replaces, so a read or write beside a tensor ends the program.
"""

import itertools
import os
import subprocess
import sys
import tempfile

SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
SIZES = [(1, 1, 1, 1, 1), (1, 3, 5, 2, 3), (2, 17, 33, 5, 6), (3, 33, 31, 7, 1), (5, 64, 32, 3, 3),
         (0, 4, 4, 2, 2), (2, 3, 2, 0, 4), (41, 16, 70, 3, 2)]  # fmt: skip


def main(options: list[str]) -> int:
    compiler = os.environ.get("CXX", "c++").split()
    asan = subprocess.run([*compiler, "-print-file-name=libasan.so"], capture_output=True, text=True)
    with tempfile.TemporaryDirectory() as cache:
        more = {
            "LD_PRELOAD": asan.stdout.strip(),
            # Python itself leaks at its end, and torch was built without the sanitizers
            "ASAN_OPTIONS": "detect_leaks=0:detect_odr_violation=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "XDG_CACHE_HOME": cache,
        }
        command = [sys.executable, "-m", "tests.kernels.sanitize", "--inside", *options]
        return subprocess.run(command, env=os.environ | more).returncode


def inside(short: bool):
    from nets.kernels import native
    from nets.kernels.native import cpp

    done = 0
    for without in ((), ("-mno-avx512bf16",))[: 1 if short else 2]:
        cpp.FLAGS = (*SANITIZE, *cpp.FLAGS[1:], *without)
        native.library.cache_clear()
        if native.library() is None:
            sys.exit(f"no library: {native.reason[-1]}")
        done += cases(SIZES[2:6:3] if short else SIZES)
    print(f"{done} calls, and the sanitizers found nothing")


def cases(sizes) -> int:
    """Call every operator for every size, dtype, layout and offset. Returns the number of calls."""
    import torch

    torch.manual_seed(0)
    layouts = itertools.product(sizes, (torch.float32, torch.bfloat16), (True, False), (0, 1))
    return sum(_case(*layout) for layout in layouts)


def _case(size, dtype, last: bool, offset: int) -> int:
    import torch

    from nets.kernels import native

    def images(*shape):
        """Images in a piece of memory of their own, or at an offset in a larger one."""
        n, c, h, w = shape
        x = torch.randn(n * c * h * w + offset).to(dtype)[offset:]
        return x.view(n, h, w, c).permute(0, 3, 1, 2) if last else x.view(shape)

    n, c, o, h, w = size
    x, dy, slope = images(n, c, h, w), images(n, o, h, w), images(n, c, h, w)
    weight, bias, each = torch.randn(o, c, 3, 3), torch.randn(o), torch.randn(c)
    y, winner = native.conv_pool(x, weight, None)
    dz = images(*y.shape)
    calls = [
        (native.conv, x, weight, bias),
        (native.conv_input_gradient, dy, weight),
        (native.conv_weight_gradient, x, dy),
        (native.conv_pool_input_gradient, dz, winner, weight, h, w),
        (native.conv_pool_weight_gradient, x, dz, winner),
        *([(native.moments, x)] if x.numel() else []),
    ]
    for act in native.ACTS:
        calls.append((native.act_forward, x, each, each, each, act))
        for yes in (True, False):
            calls.append((native.bias_act_backward, x, slope, each, act, yes))
            calls.append((native.norm_act_backward, x, slope, each, each, each, each, act, yes))
    for operator, *args in calls:
        operator(*args)
    return len(calls) + 1


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "--inside" in arguments:
        inside("--short" in arguments)
    else:
        sys.exit(main(arguments))
