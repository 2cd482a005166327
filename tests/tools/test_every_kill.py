"""Kills after every call that changes a file."""

import os
import sys

import numpy as np
import pytest

from nets.common import files
from nets.tools.every_kill import SETTINGS, Tracer, every_kill
from nets.training import config
from nets.training.checkpoint import BEST, LAST
from nets.training.hooks import CheckpointHook
from tests.training.ended_runs import CPU

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_each_call_that_changes_a_file_is_traced(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    tracer = Tracer(folder, tmp_path / "copies")
    sys.setprofile(tracer)
    try:
        files.write_text(folder / "a", "one")
        os.link(folder / "a", folder / "b")
        os.truncate(folder / "b", 1)
        (folder / "a").unlink()
    finally:
        sys.setprofile(None)
    names = [call.split()[0] for call in tracer.calls]
    assert names[-4:] == ["replace", "link", "truncate", "unlink"] and names[0] == "open"
    copies = [
        {p.name: p.read_text() for p in (tmp_path / "copies" / str(i)).iterdir()} for i in range(len(names))
    ]
    assert copies[-4:] == [{"a": "one"}, {"a": "one", "b": "one"}, {"a": "o", "b": "o"}, {"b": "o"}]
    assert list(copies[0].values()) == [""]


def test_methods_of_arrays_are_traced_past(tmp_path):
    """An array compares with anything, number by number: the owner of a call is compared by identity."""
    array = np.arange(3)
    tracer = Tracer(tmp_path, tmp_path / "copies")
    sys.setprofile(tracer)
    try:
        array.any()
        assert sys.getprofile() is tracer
    finally:
        sys.setprofile(None)


def found(tmp_path, depth=1):
    return dict(every_kill(config.load("digits", SETTINGS), CPU, tmp_path, depth))


@pytest.mark.deep
def test_a_run_killed_after_any_call_ends_the_same(tmp_path):
    kills = found(tmp_path)
    assert len(kills) > 20 and not any(kills.values()), {k: v for k, v in kills.items() if v}


@pytest.mark.deep
def test_the_last_checkpoint_before_the_best_would_be_found(tmp_path, monkeypatch):
    """Checks the search itself: in the other order, a kill between the two checkpoints loses the best."""
    real = CheckpointHook.save

    def save(hook, run, best=False):
        real(hook, run)
        if best:
            files.link(run.out / LAST, run.out / BEST)

    monkeypatch.setattr(CheckpointHook, "save", save)
    different = [kinds for kinds in found(tmp_path).values() if kinds]
    assert different and any(name.startswith("best.") for kinds in different for name in kinds)
