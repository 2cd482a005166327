from collections import Counter

import pytest
import torch
from hypothesis import settings

# the same cases every time, here and elsewhere; "search" draws new ones
settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True, max_examples=200)
settings.register_profile("search", deadline=None, print_blob=True, max_examples=2000)
settings.load_profile("fixed")

CASES = pytest.StashKey()

# on CUDA a convolution's sums may come in another order every time, and of fewer bits, unless asked
torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False


def pytest_addoption(parser):
    parser.addoption("--every-model", action="store_true", help="all of torchvision's models")
    parser.addoption("--every-config", action="store_true", help="a thousand changed configs, not 200")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def held(request):
    """How many generated cases held, by name: a Counter, printed at the end of the run."""
    return request.config.stash.setdefault(CASES, Counter())


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash.get(CASES, {})
    if counts:
        terminalreporter.write_line("property cases: " + ", ".join(f"{k} {n}" for k, n in counts.items()))
