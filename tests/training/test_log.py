"""A run's log: written, resumed, damaged, and shown by TensorBoard."""

import json
import os
import resource
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets.commands import cli
from nets.common.errors import CheckpointError, DataError, UsageError
from nets.training import config, log
from nets.training.log import Log
from tests.log_entries import content, epoch, facts, times, write


def test_entries_are_read_back_as_they_were_added(tmp_path):
    to = Log(tmp_path)
    entries = [facts(50, rate=0.9), facts(78, rate=1 / 3), epoch(78, 1), facts(100)]
    took = [times(50), times(78), times(78, wait=0.1), times(100)]
    for entry, time_ in zip(entries, took):
        to.add(entry, time_)
        assert log.read_entries(tmp_path)[-1] == entry | time_  # immediately
    assert log.read_entries(tmp_path) == [a | b for a, b in zip(entries, took)]
    text = (tmp_path / "metrics.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == entries
    assert "seconds" not in text and "memory" not in text


def test_an_empty_or_missing_log_has_no_entries(tmp_path):
    assert log.read_entries(tmp_path) == log.read_entries(tmp_path / "nowhere") == []
    Log(tmp_path)
    assert log.read_entries(tmp_path) == [] and content(tmp_path) == {
        "metrics.jsonl": b"",
        "times.jsonl": b"",
    }


def test_non_finite_numbers_are_null(tmp_path):
    to = Log(tmp_path)
    to.add(facts(1, top1=float("nan")) | {"loss": float("inf")}, times(1) | {"memory": float("nan")})
    strict = [json.loads(text, parse_constant=pytest.fail) for text in content(tmp_path).values()]
    assert strict[0]["loss"] is strict[0]["top1"] is strict[1]["memory"] is None
    assert strict[0]["train_top1"] == 0.0 and strict[1]["seconds"] == 0.1


def test_a_new_log_removes_the_old_one(tmp_path):
    write(Log(tmp_path), range(1, 9))
    (tmp_path / "events.out.tfevents.1.host.2.0").write_text("")
    (tmp_path / "other").write_text("")
    write(Log(tmp_path), [5])
    assert [r["step"] for r in log.read_entries(tmp_path)] == [5]
    assert {p.name for p in tmp_path.iterdir()} == {*log.FILES, "other"}


@pytest.mark.parametrize("at", [0, 1, 4, 7])
def test_a_resumed_log_equals_that_of_an_undisturbed_run(at, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    write(Log(whole), range(1, 8))
    to = Log(cut)
    write(to, range(1, at + 1))
    mark = json.loads(json.dumps(to.mark()))  # as a checkpoint stores it
    write(to, range(at + 1, 6))
    (cut / "metrics.jsonl").open("a").write('{"step": 6, "lo')  # then it was killed
    (cut / "times.jsonl").open("a").write('{"st')
    to = Log.resume(cut, mark)
    assert [r["step"] for r in log.read_entries(cut)] == list(range(1, at + 1))
    assert to.mark() == mark
    write(to, range(at + 1, 8))
    assert content(cut) == content(whole)


def test_a_log_that_differs_from_the_checkpoints_is_refused_and_unchanged(tmp_path):
    to = Log(tmp_path)
    write(to, range(1, 6))
    mark, path = to.mark(), tmp_path / "metrics.jsonl"
    good, times_ = path.read_bytes(), (tmp_path / "times.jsonl").read_bytes()
    wrong = {
        "has 0 of the": None,
        "has 10 of the": good[:10],
        f"has {len(good) - 1} of the {len(good)} bytes": good[:-1],
        "checksum mismatch": good.replace(b"2.0", b"2.1") + b"more\n",
    }
    for words, bad in wrong.items():
        path.unlink() if bad is None else path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=words) as e:
            Log.resume(tmp_path, mark)
        assert str(path) in str(e.value)
        assert (bad is None and not path.exists()) or path.read_bytes() == bad
        assert (tmp_path / "times.jsonl").read_bytes() == times_
    path.write_bytes(good)
    for bad in (None, {}, {"metrics": 1, "times": 1}, mark | {"times": "x"}, mark | {"metrics": None}):
        with pytest.raises(CheckpointError, match=r"doesn't say how far metrics\.jsonl went"):
            Log.resume(tmp_path, bad)
    assert path.read_bytes() == good


@pytest.mark.parametrize("left", [None, 0, 30, -10])
def test_missing_times_do_not_prevent_a_resume(left, tmp_path):
    to = Log(tmp_path)
    write(to, range(1, 6))
    mark, path = to.mark(), tmp_path / "times.jsonl"
    path.unlink() if left is None else path.write_bytes(path.read_bytes()[:left])
    have = [] if left is None else [r["step"] for r in log.read_entries(tmp_path) if "seconds" in r]
    write(Log.resume(tmp_path, mark), range(6, 9))
    entries = log.read_entries(tmp_path)
    assert [r["step"] for r in entries] == list(range(1, 9)) and all("loss" in r for r in entries)
    assert [r["step"] for r in entries if "seconds" in r] == [*have, 6, 7, 8]
    assert all(r["seconds"] == r["step"] / 10 for r in entries if "seconds" in r)


def test_a_mark_syncs_both_files_to_the_disk(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.add(os.fstat(fd).st_ino))
    to = Log(tmp_path)
    write(to, [1])
    assert not synced
    to.mark()
    assert synced == {(tmp_path / name).stat().st_ino for name in log.FILES}


@given(st.data())
def test_complete_lines_of_a_truncated_log_are_read(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("log")
    write(Log(folder), range(1, 6))
    whole, took = content(folder).values()
    n, m = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(took)))
    (folder / "metrics.jsonl").write_bytes(whole[:n])
    (folder / "times.jsonl").write_bytes(took[:m])
    entries = log.read_entries(folder)
    assert [r["step"] for r in entries] == list(range(1, whole[:n].count(b"\n") + 1))
    assert sum("seconds" in r for r in entries) == min(len(entries), took[:m].count(b"\n"))


@pytest.mark.parametrize("name", log.FILES)
@pytest.mark.parametrize(
    "bad",
    [b"", b"{", b"\0\0", b"\xff{}", b"3", b"{}", b"[" * 10**5]
    + [b'{"step": %s}' % step for step in (b"1.5", b"-1", b"true", b"1e400", b"1" * 30)],
    ids=range(12),
)
def test_a_damaged_line_is_an_error_with_its_number(name, bad, tmp_path):
    write(Log(tmp_path), range(1, 6))
    lines = (tmp_path / name).read_bytes().split(b"\n")
    lines[2] = bad
    (tmp_path / name).write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=f"{name}, line 3: "):
        log.read_entries(tmp_path)


def test_a_full_disk_leaves_complete_lines_and_names_the_file(tmp_path, capsys):
    to = Log(tmp_path)
    write(to, [1, 2])
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), (tmp_path / "metrics.jsonl").stat().st_size
    before = content(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))  # room for 20 bytes
        with pytest.raises(SystemExit) as left, cli.one_line_errors():
            to.add(facts(3), times(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert left.value.code == 3 and error == f"error: {tmp_path}/metrics.jsonl: File too large\n"
    assert content(tmp_path) == before
    write(to, [3])
    assert [r["step"] for r in log.read_entries(tmp_path)] == [1, 2, 3]


def test_no_space_left_names_the_file(tmp_path):
    to = Log(tmp_path)
    (tmp_path / "times.jsonl").unlink()
    (tmp_path / "times.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as e:
        write(to, [1])
    assert e.value.filename == str(tmp_path / "times.jsonl")


def test_a_removed_folder_is_an_error_and_not_created_again(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    to = Log(folder)
    write(to, [1])
    folder.rename(tmp_path / "elsewhere")
    for work in (lambda: write(to, [2]), to.mark):
        with pytest.raises(FileNotFoundError) as e:
            work()
        assert e.value.filename == str(folder / "metrics.jsonl") and not folder.exists()
    folder.mkdir()
    with pytest.raises(FileNotFoundError):
        write(to, [2])
    assert not list(folder.iterdir())


def test_without_tensorboard_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    to = Log(tmp_path)
    write(to, [1])
    before, mark = content(tmp_path), to.mark()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for make in (lambda: Log(tmp_path, True), lambda: Log.resume(tmp_path, mark | {"metrics": 0}, True)):
        with pytest.raises(UsageError) as e:
            make()
        assert str(e.value) == "log.tensorboard: needs pip install '.[tensorboard]'"
    assert content(tmp_path) == before


def test_tensorboard_has_each_point_of_a_resumed_run_once(tmp_path):
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs pip install '.[tensorboard]'"
    )
    to = Log(tmp_path, tensorboard=True)
    write(to, range(1, 7))
    to.add(epoch(6, 1), times(6, wait=0.25))
    mark = to.mark()
    write(to, range(7, 10))
    to.add(epoch(9, 2) | {"top1": float("nan")}, times(9))

    def curves():
        found = events.EventAccumulator(str(tmp_path)).Reload()
        return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}

    to = Log.resume(tmp_path, mark, tensorboard=True)
    for step in (8, 9):
        to.add(facts(step) | {"loss": 7.0}, times(step))
        found = curves()
        assert found["steps/loss"][-1] == (step, 7.0)  # immediately
    assert found["steps/loss"][:-2] == [(i, pytest.approx(2 / i)) for i in range(1, 7)]
    assert [x for x, _ in found["steps/per_second"]] == [1, 2, 3, 4, 5, 6, 8, 9]
    assert found["epoch/wait"] == [(6, 0.25)] and [x for x, _ in found["epoch/top1"]] == [6]
    assert not any("step" in tag.split("/") or tag.endswith("/epoch") for tag in found)
    to.close()
    Log(tmp_path, tensorboard=True).close()
    assert curves() == {}


def test_log_settings_of_a_config(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[net]\nlayers = ["Flatten"]\n')
    assert config.load(path).log == config.LogConfig(50, False)
    assert config.load(path, ["log.every_steps=1", "log.tensorboard=true"]).log == config.LogConfig(1, True)
    for wrong in ("log.every_steps=0", "log.every_steps=1.5", "log.tensorboard=1", "log.evry=3"):
        with pytest.raises(UsageError, match=wrong.split("=")[0]):
            config.load(path, [wrong])
