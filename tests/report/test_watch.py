"""A run's log, and what is seen of it while the run goes on."""

import contextlib
import dataclasses
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nets.commands import cli
from nets.common.errors import CheckpointError, DataError, UsageError
from nets.report import braille, figure, watch
from nets.report.curves import Curve, Panel, panels
from nets.training import config, log
from nets.training.evaluate import report, toy_report
from nets.training.log import Log
from nets.training.trainer import Run

ROOT = Path(__file__).parents[2]


def facts(step, **more):
    return {"step": step, "loss": 2 / step, "train_top1": 1 - 1 / step, **more}


def times(step, **more):
    return {"step": step, "seconds": step / 10, "per_second": 5120.0, "memory": 812.5, **more}


def epoch(step, number):
    return facts(step, epoch=number, top1=1 - 2 / (step + 1), top5=1.0)


def write(to: Log, steps):
    for step in steps:
        to.add(facts(step), times(step))


def content(folder):
    return {name: (folder / name).read_bytes() for name in log.FILES}


# the log


def test_lines_are_read_back_as_they_were_given(tmp_path):
    to = Log(tmp_path)
    rows = [facts(50, rate=0.9), facts(78, rate=1 / 3), epoch(78, 1), facts(100)]
    took = [times(50), times(78), times(78, wait=0.1), times(100)]
    for row, time_ in zip(rows, took):
        to.add(row, time_)
        assert log.rows(tmp_path)[-1] == row | time_  # at once
    assert log.rows(tmp_path) == [a | b for a, b in zip(rows, took)]
    text = (tmp_path / "metrics.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == rows
    assert "seconds" not in text and "memory" not in text


def test_there_is_no_log_yet(tmp_path):
    assert log.rows(tmp_path) == log.rows(tmp_path / "nowhere") == []
    Log(tmp_path)
    assert log.rows(tmp_path) == [] and content(tmp_path) == {"metrics.jsonl": b"", "times.jsonl": b""}


def test_what_is_no_number_is_null(tmp_path):
    to = Log(tmp_path)
    to.add(facts(1, top1=float("nan")) | {"loss": float("inf")}, times(1) | {"memory": float("nan")})
    strict = [json.loads(text, parse_constant=pytest.fail) for text in content(tmp_path).values()]
    assert strict[0]["loss"] is strict[0]["top1"] is strict[1]["memory"] is None
    assert strict[0]["train_top1"] == 0.0 and strict[1]["seconds"] == 0.1


def test_a_new_log_removes_the_one_before(tmp_path):
    write(Log(tmp_path), range(1, 9))
    (tmp_path / "events.out.tfevents.1.host.2.0").write_text("")
    (tmp_path / "other").write_text("")
    write(Log(tmp_path), [5])
    assert [r["step"] for r in log.rows(tmp_path)] == [5]
    assert {p.name for p in tmp_path.iterdir()} == {*log.FILES, "other"}


@pytest.mark.parametrize("at", [0, 1, 4, 7])
def test_a_resumed_log_is_that_of_a_run_that_was_not_stopped(at, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    write(Log(whole), range(1, 8))
    to = Log(cut)
    write(to, range(1, at + 1))
    mark = json.loads(json.dumps(to.mark()))  # as in a checkpoint's words
    write(to, range(at + 1, 6))
    (cut / "metrics.jsonl").open("a").write('{"step": 6, "lo')  # and was killed
    (cut / "times.jsonl").open("a").write('{"st')
    to = Log.resume(cut, mark)
    assert [r["step"] for r in log.rows(cut)] == list(range(1, at + 1))
    assert to.mark() == mark
    write(to, range(at + 1, 8))
    assert content(cut) == content(whole)


def test_a_log_that_is_not_the_checkpoints_is_refused_and_left_alone(tmp_path):
    to = Log(tmp_path)
    write(to, range(1, 6))
    mark, path = to.mark(), tmp_path / "metrics.jsonl"
    good, times_ = path.read_bytes(), (tmp_path / "times.jsonl").read_bytes()
    wrong = {
        "has 0 of the": None,
        "has 10 of the": good[:10],
        f"has {len(good) - 1} of the {len(good)} bytes": good[:-1],
        "isn't what it was": good.replace(b"2.0", b"2.1") + b"more\n",
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
        with pytest.raises(CheckpointError, match="doesn't say how far metrics.jsonl went"):
            Log.resume(tmp_path, bad)
    assert path.read_bytes() == good


@pytest.mark.parametrize("left", [None, 0, 30, -10])
def test_times_that_are_gone_are_only_times(left, tmp_path):
    to = Log(tmp_path)
    write(to, range(1, 6))
    mark, path = to.mark(), tmp_path / "times.jsonl"
    path.unlink() if left is None else path.write_bytes(path.read_bytes()[:left])
    have = [] if left is None else [r["step"] for r in log.rows(tmp_path) if "seconds" in r]
    write(Log.resume(tmp_path, mark), range(6, 9))
    rows = log.rows(tmp_path)
    assert [r["step"] for r in rows] == list(range(1, 9)) and all("loss" in r for r in rows)
    assert [r["step"] for r in rows if "seconds" in r] == have + [6, 7, 8]
    assert all(r["seconds"] == r["step"] / 10 for r in rows if "seconds" in r)


def test_a_mark_is_of_what_is_on_the_disk(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.add(os.fstat(fd).st_ino))
    to = Log(tmp_path)
    write(to, [1])
    assert not synced
    to.mark()
    assert synced == {(tmp_path / name).stat().st_ino for name in log.FILES}


@given(st.data())
def test_however_a_log_is_cut_short_its_whole_lines_are_read(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("log")
    write(Log(folder), range(1, 6))
    whole, took = content(folder).values()
    n, m = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(took)))
    (folder / "metrics.jsonl").write_bytes(whole[:n])
    (folder / "times.jsonl").write_bytes(took[:m])
    rows = log.rows(folder)
    assert [r["step"] for r in rows] == list(range(1, whole[:n].count(b"\n") + 1))
    assert sum("seconds" in r for r in rows) == min(len(rows), took[:m].count(b"\n"))


@pytest.mark.parametrize("name", log.FILES)
@pytest.mark.parametrize(
    "bad",
    [b"", b"{", b"\0\0", b"\xff{}", b"3", b"{}", b"[" * 10**5]
    + [b'{"step": %s}' % step for step in (b"1.5", b"-1", b"true", b"1e400", b"1" * 30)],
    ids=range(12),
)
def test_a_damaged_line_is_named(name, bad, tmp_path):
    write(Log(tmp_path), range(1, 6))
    lines = (tmp_path / name).read_bytes().split(b"\n")
    lines[2] = bad
    (tmp_path / name).write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=f"{name}, line 3: "):
        log.rows(tmp_path)


def test_a_full_disk_leaves_whole_lines_and_says_which_file(tmp_path, capsys):
    to = Log(tmp_path)
    write(to, [1, 2])
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), (tmp_path / "metrics.jsonl").stat().st_size
    before = content(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))  # so much fits in
        with pytest.raises(SystemExit) as left, cli.one_line_errors():
            to.add(facts(3), times(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert left.value.code == 3 and error == f"error: {tmp_path}/metrics.jsonl: File too large\n"
    assert content(tmp_path) == before
    write(to, [3])
    assert [r["step"] for r in log.rows(tmp_path)] == [1, 2, 3]


def test_a_disk_without_room_is_told_by_its_files_name(tmp_path):
    to = Log(tmp_path)
    (tmp_path / "times.jsonl").unlink()
    (tmp_path / "times.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as e:
        write(to, [1])
    assert e.value.filename == str(tmp_path / "times.jsonl")


def test_a_folder_that_vanishes_is_not_made_again(tmp_path):
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


# TensorBoard


def test_without_tensorboard_it_says_how_to_get_it(tmp_path, monkeypatch):
    to = Log(tmp_path)
    write(to, [1])
    before, mark = content(tmp_path), to.mark()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for make in (lambda: Log(tmp_path, True), lambda: Log.resume(tmp_path, mark | {"metrics": 0}, True)):
        with pytest.raises(UsageError) as e:
            make()
        assert str(e.value) == "log.tensorboard: needs pip install '.[tensorboard]'"
    assert content(tmp_path) == before


def test_tensorboard_shows_the_curves_of_a_resumed_run_once(tmp_path):
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
        assert found["steps/loss"][-1] == (step, 7.0)  # at once
    assert found["steps/loss"][:-2] == [(i, pytest.approx(2 / i)) for i in range(1, 7)]
    assert [x for x, _ in found["steps/per_second"]] == [1, 2, 3, 4, 5, 6, 8, 9]
    assert found["epoch/wait"] == [(6, 0.25)] and [x for x, _ in found["epoch/top1"]] == [6]
    assert not any("step" in tag.split("/") or tag.endswith("/epoch") for tag in found)
    to.close()
    Log(tmp_path, tensorboard=True).close()
    assert curves() == {}


def test_the_logs_settings(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[net]\nlayers = ["Flatten"]\n')
    assert config.load(path).log == config.Log(50, False)
    assert config.load(path, ["log.every_steps=1", "log.tensorboard=true"]).log == config.Log(1, True)
    for wrong in ("log.every_steps=0", "log.every_steps=1.5", "log.tensorboard=1", "log.evry=3"):
        with pytest.raises(UsageError, match=wrong.split("=")[0]):
            config.load(path, [wrong])


# curves


def log_of(epochs=3, per_epoch=20, every=5):
    rows = []
    for i in range(1, epochs * per_epoch + 1):
        rows += [facts(i) | times(i)] if i % every == 0 else []
        rows += [epoch(i, i // per_epoch) | times(i)] if i % per_epoch == 0 else []
    return rows


def test_training_is_drawn_by_its_finest_lines_and_tests_by_epochs():
    loss, top1 = panels(log_of())
    assert loss.curves == [Curve("training", list(range(5, 61, 5)), [2 / i for i in range(5, 61, 5)])]
    assert top1.what == "top-1 / %" and [c.name for c in top1.curves] == ["training", "test"]
    assert top1.curves[0].y == [100 * (1 - 1 / i) for i in range(5, 61, 5)]
    assert top1.curves[1] == Curve("test", [20, 40, 60], [100 * (1 - 2 / (i + 1)) for i in (20, 40, 60)])
    assert panels(log_of(every=50))[0].curves[0].x == [20, 40, 60]
    early = panels(log_of(epochs=1)[:2])
    assert [[c.name for c in p.curves] for p in early] == [["training"], ["training"]]


def test_toys_and_climbed_performance_have_their_own_words():
    rows = [{"step": i, "epoch": i, "loss": -1 / i, "largest_error": 1 / i, "within": 0} for i in (1, 2, 3)]
    assert [p.what for p in panels(rows)] == ["performance P", "largest error"]
    assert panels(rows)[1].curves == [Curve("test", [1, 2, 3], [1, 1 / 2, 1 / 3])]


def test_what_is_no_number_is_not_drawn():
    assert panels([]) == []
    losses = [1.0, None, "x", float("inf"), float("nan"), 10**400, 2.0]
    rows = [{"step": i, "loss": v} for i, v in enumerate(losses)]
    assert panels(rows) == [Panel("loss", [Curve("training", [0, 6], [1.0, 2.0])])]
    assert panels([{"step": 1, "loss": None}]) == []


def dots(lines):
    """Which dots are set in a drawing's rows: (4 · rows, 2 · columns)."""
    cells = [[ord(c) - 0x2800 if c > "⟿" else 0 for c in re.split("[┤│]", line)[1]] for line in lines[1:-2]]
    cells = np.array(cells)
    out = np.zeros((4 * cells.shape[0], 2 * cells.shape[1]), bool)
    for bit, (row, column) in enumerate([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]):
        out[row::4, column::2] = cells >> bit & 1
    return out


def test_a_small_drawing_dot_by_dot():
    lines = braille.draw(Panel("loss", [Curve("training", [0, 4, 8], [0.0, 2.0, 0.0])]), 23, 7)
    assert set(map(len, lines)) == {23}
    assert [line.rstrip() for line in lines] == [
        "loss  ⠒⠒ training 0",
        "2 ┤        ⡠⠔⠑⠤⡀",
        "  │     ⢀⠔⠉    ⠈⠢⢄",
        "1 ┤  ⢀⠤⠊⠁         ⠑⠢⡀",
        "0 ┤⡠⠔⠁              ⠈⠒⢄",
        "  └┬─────────┬─────────",
        "   0         4     step",
    ]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(-1e6, 1e6)), min_size=1, max_size=40),
    st.integers(12, 90),
    st.integers(4, 24),
)
def test_a_drawing_has_every_point_in_its_place_and_a_line_without_a_gap(points, width, height):
    x = np.cumsum([dx for dx, _ in points])
    y = np.array([v for _, v in points])
    lines = braille.draw(Panel("loss", [Curve("training", x.tolist(), y.tolist())]), width, height)
    assert len(lines) == height and len(set(map(len, lines))) == 1
    assert len(lines[0]) == max(width, lines[-2].index("└") + 9)  # so much there has to be
    seen = dots(lines)
    rows, columns = seen.shape
    if np.ptp(y) > 1e-3:
        top, left = (y.max() - y) / np.ptp(y) * (rows - 1), x / x[-1] * (columns - 1)
        for a, b in zip(top, left):
            near = seen[max(0, int(a)) : int(a) + 2, max(0, int(b)) : int(b) + 2]
            assert near.any(), (a, b)
    used = np.flatnonzero(seen.any(0))
    assert (np.diff(used) == 1).all()
    for column in range(used[0], used[-1]):  # neighbours touch
        a, b = np.flatnonzero(seen[:, column]), np.flatnonzero(seen[:, column + 1])
        assert abs(a[:, None] - b).min() <= 1 and (np.diff(a) == 1).all()


def test_axes_have_numbers_where_they_belong():
    lines = braille.draw(Panel("loss", [Curve("training", [0, 1000, 2000], [1.0, 3.0, 5.0])]), 60, 12)
    for number, row in ((5, 0), (3, 4), (1, 8)):
        assert lines[1 + row].startswith(f"{number} ┤"), lines
    far = braille.draw(Panel("top-1 / %", [Curve("test", [0, 1, 2, 3, 4], [100, 90, 60, 30, 21])]), 60, 9)
    assert [line.split()[0] for line in far[1:-2]] == ["90", "│", "│", "60", "│", "30"]  # not 2 apart
    ticks = [i for i, c in enumerate(lines[-2]) if c == "┬"]
    numbers = [(m.start(), m[0]) for m in re.finditer(r"[\d,]+", lines[-1])]
    assert lines[-1].endswith("step") and len(ticks) == len(numbers) >= 3
    for tick, (begin, number) in zip(ticks, numbers):
        assert begin <= tick <= begin + len(number)
        assert abs((tick - 3) / 56 * 2000 - int(number.replace(",", ""))) < 40


def test_tests_are_marks_and_never_hide_the_line():
    many = list(range(1, 200))
    panel = Panel("top-1 / %", [Curve("training", many, many), Curve("test", many, many)])
    lines = braille.draw(panel, 80, 12)
    drawn = "".join(lines[1:-2])
    assert 5 <= drawn.count("o") <= 14 and sum(c > "⟿" for c in drawn) > 30
    assert lines[1].endswith("o") and "⠒⠒ training 199  o test 199" in lines[0]


def test_the_same_rows_are_the_same_picture_byte_for_byte(tmp_path):
    rows = log_of()
    for i in range(2):
        figure.curves(tmp_path / f"curves{i}.png", rows, "a run")
        figure.by_step(tmp_path / f"steps{i}.png", panels(rows), "a run")
    figure.curves(tmp_path / "epochs.png", [r for r in rows if "epoch" in r], "a run")
    read = {p.stem: p.read_bytes() for p in tmp_path.iterdir()}
    assert read["curves0"] == read["curves1"] == read["epochs"] and read["steps0"] == read["steps1"]
    assert read["curves0"] != read["steps0"]
    for name in ("curves0", "steps0"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert set(image.info) <= {"dpi"} and len(image.getcolors(2**24)) > 20


def test_a_name_with_signs_of_mathematics_is_drawn_as_it_is(tmp_path):
    for title in (r"$\frac$", "50$ and 60$_"):
        figure.curves(tmp_path / "a.png", log_of(), title)
        figure.by_step(tmp_path / "b.png", panels(log_of()), title)


# what is said


@pytest.fixture
def run(tmp_path):
    """A run's folder, in which a process trains: (the folder, its log, the process)."""
    folder = tmp_path / "a"
    folder.mkdir()
    conf = config.load(ROOT / "configs/digits.toml")
    conf = dataclasses.replace(conf, train=dataclasses.replace(conf.train, epochs=10))
    (folder / "config.toml").write_text(config.dumps(conf))
    code = (
        "import sys; from nets import lock\nwith lock.hold(sys.argv[1]): print(flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, folder], cwd=ROOT, **pipes) as process:
        process.stdout.readline()
        try:
            yield folder, Log(folder), process
        finally:
            process.kill()


def look(*args, code=0, capsys):
    """What the command prints, without a terminal."""
    argv, sys.argv = sys.argv, ["watch", *map(str, args)]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with cli.one_line_errors():
            watch.main()
        left = 0
    except SystemExit as e:
        left = e.code
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    out, err = capsys.readouterr()
    assert left == code and "\x1b" not in out + err
    assert err.count("\n") == bool(code) and err.startswith("error: " if code else "")
    return err if code else out


def test_how_far_a_run_is_and_how_long_it_takes():
    rows = log_of(epochs=3, per_epoch=20, every=5)  # a tenth of a second a step
    speed = ["5,120 pictures/s", "812 MB"]
    clocks = ["0:00:06 so far", "about 0:00:14 left"]
    assert watch.status(rows, 10) == ["3 of 10 epochs", "step 60 of about 200", *clocks, *speed]
    assert watch.status(rows, 3) == ["3 of 3 epochs", "step 60", clocks[0], *speed]
    assert watch.status([facts(5)], 10) == ["0 of 10 epochs", "step 5"]
    rows[0]["seconds"] = None
    rows += [facts(65) | times(65), facts(70) | {"step": 70}]  # its times aren't written yet
    assert watch.status(rows, 10)[1:4] == ["step 70 of about 200", *clocks]
    slow = [r | {"seconds": 100 + r["seconds"] if r["step"] > 5 else 100} for r in log_of()]
    assert watch.status(slow, 10)[2:4] == ["0:01:46 so far", "about 0:00:14 left"]  # compiling was before
    toy = [{"step": 9, "epoch": 1, "loss": -1.0, "largest_error": 0.5} | times(9)]
    assert "5,120 samples/s" in watch.status(toy, 10)


@pytest.mark.parametrize("width", [10, 24, 60, 80, 119, 120, 200])
@pytest.mark.parametrize("height", [3, 9, 12, 24, 50])
def test_text_fits_the_terminal(width, height):
    lines = watch.text("a-name", log_of(), 10, width, height)
    assert max(map(len, lines)) <= width
    words = "\n".join(lines)
    head = textwrap.fill("a-name: " + ", ".join(watch.status(log_of(), 10)), width).count("\n") + 1
    room = (height - head - 1) // 5 if width >= 20 else 0
    shown = [what for what in ("loss", "top-1 / %") if what in words]
    assert shown == ["loss", "top-1 / %"][: 2 * room if width >= 120 else max(room, 0)]
    assert words.count(" step\n") + words.endswith(" step") == (1 if shown and width >= 120 else len(shown))
    if width >= 24:
        assert all(any(word in line for line in lines) for word in watch.status(log_of(), 10))  # unbroken
    if shown:
        assert min(height - 4, 21) <= len(lines) < height
    assert "\xa0" not in words and words.startswith("a-name")


def test_looking_once_at_a_run_that_goes_on(run, capsys):
    folder, to, _ = run
    assert look(folder, capsys=capsys) == "digits: no lines yet\n"
    write(to, range(1, 100))
    shown = look(folder, capsys=capsys)
    assert shown.startswith("digits: 0 of 10 epochs, step 99, 0:00:10 so far, 5,120 pictures/s, 812 MB\nloss")
    assert "stopped" not in shown and "top-1 / %" in shown
    assert shown == look(folder, "--once", capsys=capsys)


def test_a_run_that_died_is_told_from_one_that_goes_on(run, capsys):
    folder, to, process = run
    write(to, range(1, 4))
    assert "stopped" not in look(folder, capsys=capsys)
    process.kill()
    process.wait()
    assert look(folder, capsys=capsys).endswith("\nstopped at step 3, without a checkpoint\n")
    (folder / "last.safetensors").write_text("")
    assert look(folder, capsys=capsys).endswith("\nstopped at step 3; --resume goes on\n")
    (folder / "lock").unlink()
    (folder / "last.safetensors").unlink()
    Log(folder)
    said = "digits: no lines yet\nstopped before its first line, without a checkpoint\n"
    assert look(folder, capsys=capsys) == said


def test_a_run_ends_with_the_line_that_training_printed(run, capsys):
    folder, to, _ = run
    write(to, [1])
    torch.manual_seed(0)
    z, y = torch.randn(50, 7), torch.randint(7, (50,))
    few, target = torch.randn(50, 3), torch.randint(3, (50,))
    toy = toy_report(torch.tensor([[0.2], [0.95]]), torch.tensor([[0.0], [1.0]]))
    for found, classes in ((report(z, y), "abcdefg"), (report(few, target), "abc"), (toy, "")):
        (folder / "result.json").write_text(json.dumps(found.facts(classes) | {"name": "a", "seconds": 1}))
        assert look(folder, capsys=capsys).endswith(f"\n{found.line()}\n")
    for bad in ("", "{}", "[]", "3", '{"chance": {}}', '{"within": 3}', '{"chance": {"x": 1}}'):
        (folder / "result.json").write_text(bad)
        assert "result.json: not a run's result" in look(folder, code=3, capsys=capsys)


def test_what_is_no_run_is_told_in_a_line(run, tmp_path, capsys):
    folder, to, _ = run
    assert "none: no such run" in look(tmp_path / "none", code=4, capsys=capsys)
    assert "not a run's folder: it has no config.toml" in look(tmp_path, code=4, capsys=capsys)
    (tmp_path / "config.toml").write_text("name = 3")
    assert "name: expected text" in look(tmp_path, code=4, capsys=capsys)
    for every in ("0", "nan", "inf", "-1"):
        assert "--every: from 0.1 to 86400 seconds" in look(folder, "--every", every, code=2, capsys=capsys)
    assert "--png: nowhere is no folder" in look(folder, "--png", "nowhere/a.png", code=2, capsys=capsys)
    write(to, [1, 2])
    path = folder / "metrics.jsonl"
    path.write_bytes(b"x" + path.read_bytes())
    assert "metrics.jsonl, line 1: damaged" in look(folder, code=3, capsys=capsys)


def test_what_the_trainer_writes_is_what_is_shown(tmp_path, capsys):
    conf = config.load(ROOT / "configs/two_weight.toml", ["train.epochs=40", "log.every_steps=1"])
    line = Run(conf, torch.device("cpu"), tmp_path / "a").train().line()
    shown = look(tmp_path / "a", "--png", tmp_path / "a.png", capsys=capsys)
    words = r"two_weight: 40 of 40 epochs, step 80, 0:00:\d\d so far,\s[\d,]+ samples/s, [\d,]+ MB\n"
    assert re.fullmatch(words + re.escape(line) + "\n", shown)
    loss, error = panels(log.rows(tmp_path / "a"))
    assert [p.what for p in (loss, error)] == ["performance P", "largest error"]
    assert loss.curves[0].x == list(range(1, 81)) and error.curves[0].x == list(range(2, 81, 2))
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 300


def wait(until, seconds=60):
    begin = time.monotonic()
    while not until():
        assert time.monotonic() - begin < seconds
        time.sleep(0.05)


def test_a_picture_is_drawn_anew_until_it_is_interrupted(run, tmp_path):
    folder, to, _ = run
    args = [sys.executable, "-m", "nets", "watch", folder, "--png", tmp_path / "live.png", "--every", "0.1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(args, cwd=ROOT, text=True, **pipes) as process:
        try:
            seen = b""
            for step in (5, 6):
                write(to, [step])
                wait(
                    lambda: (tmp_path / "live.png").exists() and (tmp_path / "live.png").read_bytes() != seen
                )
                seen = (tmp_path / "live.png").read_bytes()
                with Image.open(tmp_path / "live.png") as image:
                    image.load()  # whole, whenever it is looked at
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "live.png"}


def test_another_size_of_terminal_is_begun_anew(capsys):
    screen = watch.Screen()
    for size in ((80, 24), (80, 24), (60, 24)):
        screen.show(["a", "b"], size)
    assert capsys.readouterr().out == "a\nb\n\x1b[2F\x1b[Ja\nb\n\x1b[H\x1b[2Ja\nb\n"


def test_a_terminal_is_drawn_over_until_the_run_ends(run):
    folder, to, _ = run
    write(to, [1])
    ours, theirs = pty.openpty()
    args = [sys.executable, "-m", "nets", "watch", folder, "--every", "0.1"]
    env = os.environ | {"COLUMNS": "80", "LINES": "24"}
    seen = b""
    with subprocess.Popen(args, cwd=ROOT, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        os.set_blocking(ours, False)

        def reads(words):
            nonlocal seen
            with contextlib.suppress(BlockingIOError, OSError):
                seen += os.read(ours, 10**6)
            return words in seen

        try:
            wait(lambda: reads(b"step 1,"))
            assert b"\x1b" not in seen
            for step in (2, 3):
                write(to, [step])
                wait(lambda: reads(b"step %d," % step))
            found = report(torch.eye(5), torch.arange(5))
            (folder / "result.json").write_text(json.dumps(found.facts("abcde")))
            wait(lambda: reads(found.line().encode()))
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(ours)
    frames = re.split(rb"\x1b\[(\d+)F\x1b\[J", seen)
    assert len(frames) == 5  # three, and between them how many lines up
    for frame, up in zip(frames[::2], frames[1::2]):
        assert frame.count(b"\n") == int(up) and frame.startswith(b"digits: ")
