import os
from collections import Counter
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # idle threads of one worker must not take the cores from another
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import pytest
import torch
from hypothesis import settings

# the same cases every time, here and elsewhere; "search" draws new ones
settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True, max_examples=25)
settings.register_profile("deep", settings.get_profile("fixed"), max_examples=200)
settings.register_profile("search", deadline=None, print_blob=True, max_examples=2000)
settings.load_profile("fixed")

CASES, LEFT_OUT = pytest.StashKey(), pytest.StashKey()

# on CUDA a convolution's sums may come in another order every time, and of fewer bits, unless asked
torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False


def pytest_addoption(parser):
    parser.addoption("--deep", action="store_true", help="also run the tests marked deep, which take long")


def pytest_configure(config):
    if config.getoption("--deep") and not config.getoption("--hypothesis-profile", None):
        settings.load_profile("deep")


def pytest_itemcollected(item):
    """Tests that share a fixture run in one process of pytest-xdist, which sets it up once."""
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        fixture = definitions[-1]
        if fixture.scope in ("module", "session") and fixture.baseid.startswith("tests"):
            place = item.module.__name__ if fixture.scope == "module" else fixture.baseid
            item.add_marker(pytest.mark.xdist_group(place))
            return


def pytest_collection_modifyitems(config, items):
    """Without --deep the tests marked deep are deselected, and counted at the end of the run."""
    if config.getoption("--deep"):
        return
    deep = [item for item in items if item.get_closest_marker("deep")]
    config.stash[LEFT_OUT] = len(deep)
    config.hook.pytest_deselected(items=deep)
    items[:] = [item for item in items if not item.get_closest_marker("deep")]


def pytest_sessionfinish(session):
    """A worker of pytest-xdist sends its counts to the process that prints them."""
    if hasattr(session.config, "workeroutput"):
        stash = session.config.stash
        session.config.workeroutput["counts"] = dict(stash.get(CASES, {})), stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Every worker collects all tests, but runs its own cases."""
    cases, left_out = getattr(node, "workeroutput", {}).get("counts", ({}, 0))
    node.config.stash.setdefault(CASES, Counter()).update(cases)
    node.config.stash[LEFT_OUT] = left_out or node.config.stash.get(LEFT_OUT, 0)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing a figure takes longer than the run."""
    from nets.report import figure

    monkeypatch.setattr(figure, "top5", lambda path, *_, **__: Path(path).write_bytes(b"png"))
    kept = ("epoch", "loss", "train_top1", "top1")

    def curves(path, rows, _):
        Path(path).write_text(str([[r.get(k) for k in kept] for r in rows]))

    monkeypatch.setattr(figure, "curves", curves)


@pytest.fixture(scope="session")
def alexnet_tree(tmp_path_factory):
    """Three classes of images, which nets enlarge scaled to 110 pixels."""
    from nets.commands import enlarge
    from tests.alexnet import ENLARGE, make_small_tree

    small, large = (tmp_path_factory.mktemp("trees") / name for name in ("small", "large"))
    make_small_tree(small)
    enlarge.main([str(small), str(large), *ENLARGE])
    return large


@pytest.fixture
def held(request):
    """How many generated cases held, by name: a Counter, printed at the end of the run."""
    return request.config.stash.setdefault(CASES, Counter())


def pytest_terminal_summary(terminalreporter, config):
    counts, left_out = config.stash.get(CASES, {}), config.stash.get(LEFT_OUT, 0)
    if counts:
        terminalreporter.write_line("property cases: " + ", ".join(f"{k} {n}" for k, n in counts.items()))
    if left_out:
        terminalreporter.write_line(f"{left_out} deep tests not run; --deep runs them")
