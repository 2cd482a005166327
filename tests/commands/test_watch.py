"""nets watch, in a terminal and as a PNG."""

import contextlib
import dataclasses
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from nets.commands import cli
from nets.commands import watch as command
from nets.report.curves import panels
from nets.training import config, log
from nets.training.log import Log
from nets.training.metrics import metrics
from nets.training.run import Run
from tests.log_entries import write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    """The folder of a live run: (the folder, its log, the process that holds its lock)."""
    folder = tmp_path / "a"
    folder.mkdir()
    conf = config.load(ROOT / "configs/digits.toml")
    conf = dataclasses.replace(conf, train=dataclasses.replace(conf.train, epochs=10))
    (folder / "config.toml").write_text(config.dumps(conf))
    code = "from nets.training import lock\nimport sys\n"
    code += "with lock.locked(sys.argv[1]): print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, folder], cwd=ROOT, **pipes) as process:
        process.stdout.readline()
        try:
            yield folder, Log(folder), process
        finally:
            process.kill()


def look(*args, code=0, capsys):
    """The command's output, without a terminal."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with cli.one_line_errors():
            command.main([*map(str, args)])
        left = 0
    except SystemExit as e:
        left = e.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    out, err = capsys.readouterr()
    assert left == code and "\x1b" not in out + err
    assert err.count("\n") == bool(code) and err.startswith("error: " if code else "")
    return err if code else out


def test_a_live_run_is_shown_once(run, capsys):
    folder, to, _ = run
    assert look(folder, capsys=capsys) == "digits: no lines yet\n"
    write(to, range(1, 100))
    shown = look(folder, capsys=capsys)
    assert shown.startswith("digits: 0 of 10 epochs, step 99, 0:00:10 so far, 5,120 images/s, 812 MB\nloss")
    assert "stopped" not in shown and "top-1 / %" in shown
    assert shown == look(folder, "--once", capsys=capsys)


def test_a_dead_run_is_shown_as_stopped(run, capsys):
    folder, to, process = run
    write(to, range(1, 4))
    assert "stopped" not in look(folder, capsys=capsys)
    process.kill()
    process.wait()
    assert look(folder, capsys=capsys).endswith("\nstopped at step 3, without a checkpoint\n")
    (folder / "last.safetensors").write_text("")
    assert look(folder, capsys=capsys).endswith("\nstopped at step 3; resume with --resume\n")
    (folder / "lock").unlink()
    (folder / "last.safetensors").unlink()
    Log(folder)
    said = "digits: no lines yet\nstopped before its first line, without a checkpoint\n"
    assert look(folder, capsys=capsys) == said


def test_the_last_line_is_the_result_that_training_printed(run, capsys):
    folder, to, _ = run
    write(to, [1])
    torch.manual_seed(0)
    z, y = torch.randn(50, 7), torch.randint(7, (50,))
    few, target = torch.randn(50, 3), torch.randint(3, (50,))
    toy = metrics(torch.tensor([[0.2], [0.95]]), torch.tensor([[0.0], [1.0]]))
    for found, classes in ((metrics(z, y), "abcdefg"), (metrics(few, target), "abc"), (toy, "")):
        (folder / "result.json").write_text(json.dumps(found.facts(classes) | {"name": "a", "seconds": 1}))
        assert look(folder, capsys=capsys).endswith(f"\n{found.line()}\n")
    for bad in ("", "{}", "[]", "3", '{"chance": {}}', '{"within": 3}', '{"chance": {"x": 1}}'):
        (folder / "result.json").write_text(bad)
        assert "result.json: not a run's result" in look(folder, code=3, capsys=capsys)


def test_wrong_folders_and_arguments_are_one_line_errors(run, tmp_path, capsys):
    folder, to, _ = run
    assert "none: no such run" in look(tmp_path / "none", code=4, capsys=capsys)
    assert "not a run's folder: it has no config.toml" in look(tmp_path, code=4, capsys=capsys)
    (tmp_path / "config.toml").write_text("name = 3")
    assert "name: expected text" in look(tmp_path, code=4, capsys=capsys)
    for every in ("0", "nan", "inf", "-1"):
        assert "--every: must be at " in look(folder, "--every", every, code=2, capsys=capsys)
    assert "--png: nowhere/a.png: no such folder" in look(
        folder, "--png", "nowhere/a.png", code=2, capsys=capsys
    )
    write(to, [1, 2])
    path = folder / "metrics.jsonl"
    path.write_bytes(b"x" + path.read_bytes())
    assert "metrics.jsonl, line 1: damaged" in look(folder, code=3, capsys=capsys)


def test_a_real_run_is_shown(tmp_path, capsys):
    conf = config.load(ROOT / "configs/two_weight.toml", ["train.epochs=40", "log.every_steps=1"])
    line = Run.from_config(conf, torch.device("cpu"), tmp_path / "a").train().line()
    shown = look(tmp_path / "a", "--png", tmp_path / "a.png", capsys=capsys)
    words = r"two_weight: 40 of 40 epochs, step 80, 0:00:\d\d so far,\s[\d,]+ samples/s, [\d,]+ MB\n"
    assert re.fullmatch(words + re.escape(line) + "\n", shown)
    loss, error = panels(log.read_entries(tmp_path / "a"))
    assert [p.label for p in (loss, error)] == ["performance P", "largest error"]
    assert loss.curves[0].x == list(range(1, 81)) and error.curves[0].x == list(range(2, 81, 2))
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 300


def wait(until, seconds=60):
    begin = time.monotonic()
    while not until():
        assert time.monotonic() - begin < seconds
        time.sleep(0.05)


def test_the_png_is_redrawn_until_an_interrupt(run, tmp_path):
    folder, to, _ = run
    live = tmp_path / "live.png"
    args = [sys.executable, "-m", "nets", "watch", folder, "--png", live, "--every", "0.1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(args, cwd=ROOT, text=True, **pipes) as process:
        try:
            seen = b""
            for step in (5, 6):
                write(to, [step])
                wait(lambda seen=seen: live.exists() and live.read_bytes() != seen)
                seen = live.read_bytes()
                with Image.open(live) as image:
                    image.load()  # complete at any time
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "live.png"}


def test_the_terminal_is_redrawn_until_the_run_ends(run):
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
                wait(lambda step=step: reads(b"step %d," % step))
            found = metrics(torch.eye(5), torch.arange(5))
            (folder / "result.json").write_text(json.dumps(found.facts("abcde")))
            wait(lambda: reads(found.line().encode()))
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(ours)
    frames = re.split(rb"\x1b\[(\d+)F\x1b\[J", seen)
    assert len(frames) == 5  # three frames, and between them the number of lines up
    for frame, up in zip(frames[::2], frames[1::2]):
        assert frame.count(b"\n") == int(up) and frame.startswith(b"digits: ")
