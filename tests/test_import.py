"""`import nets` is quick, and imports nothing that only figures, data sets or downloads need."""

import subprocess
import sys

HEAVY = ("matplotlib", "sklearn", "scipy", "torchvision", "PIL.ImageFont", "tensorboard")
LIMIT = 0.3  # seconds beyond torch's own import

CODE = f"""
import sys, time
import torch
begin = time.perf_counter()
import nets
print(time.perf_counter() - begin, *(name for name in {HEAVY} if name in sys.modules))
"""


def test_import_nets_is_quick_and_light():
    for _ in range(3):  # other processes may slow it down
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
        seconds, *heavy = done.stdout.split()
        assert not heavy, f"import nets imports {heavy}"
        if float(seconds) <= LIMIT:
            return
    raise AssertionError(f"import nets takes {seconds} s beyond torch")


PACKAGES = ("layers", "losses", "optim", "kernels", "data", "training", "gradcheck", "convert", "common")

ALL = f"""
import importlib, pkgutil, sys
for name in {PACKAGES}:
    package = importlib.import_module("nets." + name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
        if module.name != "nets.kernels.native.gpu":  # needs Triton
            importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("nets.")]))
print(*(name for name in {HEAVY} if name in sys.modules))
"""


def test_training_needs_no_figures_and_no_data_sets():
    done = subprocess.run([sys.executable, "-c", ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, heavy = done.stdout.split("\n")[:2]
    assert int(count) > 50 and not heavy, f"imported with nets' packages: {heavy}"
