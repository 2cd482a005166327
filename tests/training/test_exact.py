"""What the bits of a run rest on is compared, named, and can be waived."""

import contextlib
import json
import shutil

import pytest
import torch

from nets.common import tensorfile
from nets.common.errors import UsageError
from nets.kernels import running_backend
from nets.kernels.native import cpp
from nets.training import exact
from tests.training.ended_runs import ended, make, run_of, stop

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_another_number_of_threads_is_named_and_can_be_waived(stopped_run, tmp_path):
    shutil.copytree(stopped_run, tmp_path / "run")
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        words = rf"threads: {before} when it was written, {before + 1} now; --resume=inexact resumes it"
        with pytest.raises(UsageError, match=words):
            run_of(make(""), tmp_path / "run").train(resume=True)
        result = run_of(make(""), tmp_path / "run").train(resume="inexact")
    finally:
        torch.set_num_threads(before)
    assert result.top1 > 0.5 and (tmp_path / "run/result.json").exists()


@pytest.mark.parametrize("fact", ["torch", "processor", "threads", "processes", "kernels"])
def test_every_fact_is_compared(fact, stopped_run, tmp_path):
    tensors, words = tensorfile.read(stopped_run / "last.safetensors")
    words["exact"][fact] = "another"
    tensorfile.save(tmp_path / "last.safetensors", tensors, words)
    with pytest.raises(UsageError, match=f"{fact}: another when it was written, .* now"):
        run_of(make(""), tmp_path).train(resume=True)


@contextlib.contextmanager
def uncached():
    """Which backend runs is found out once in a process."""
    running_backend.cache_clear()
    yield
    running_backend.cache_clear()


@pytest.mark.skipif(cpp.library() is None, reason="needs a C++ compiler")
def test_a_native_run_is_not_resumed_where_its_kernels_are_gone(tmp_path, monkeypatch):
    conf = make("", ["net.backend=native"])
    with pytest.raises(BaseException, match="terminated"):
        ended(conf, tmp_path, 7, stop).train()
    with monkeypatch.context() as patch, uncached():
        patch.setattr("nets.kernels.native._has_library", lambda: False)
        with pytest.raises(UsageError, match=r"kernels: .*NormAct.*, kernels-\w+ when .*, .* now"):
            run_of(conf, tmp_path).train(resume=True)
        run_of(make("", ["train.epochs=1", "net.backend=native"]), tmp_path / "without").train()
        facts = json.loads((tmp_path / "without/result.json").read_text())
        assert facts["backend"] == "torch" and facts["no_native_kernels"]
    run_of(conf, tmp_path).train(resume=True)
    assert json.loads((tmp_path / "result.json").read_text())["backend"] == "native"
    assert "NormAct" in tensorfile.read(tmp_path / "last.safetensors")[1]["exact"]["kernels"]


def test_the_first_difference_is_named():
    now = {"threads": 2, "torch": "2.14"}
    assert exact.difference(dict(now), now) == ""
    assert exact.difference(now | {"torch": "2.11"}, now) == "torch: 2.11 when it was written, 2.14 now"
    for damaged in (None, 7, {}, {"threads": 2}):
        with pytest.raises(ValueError, match="where the run was trained"):
            exact.difference(damaged, now)
