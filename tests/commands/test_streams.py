"""Commands whose stdout is of another encoding, closed, or on a full disk."""

import contextlib
import io
import os
import subprocess
import sys

import pytest
from PIL import Image

from nets.commands import main, streams
from tests.shell import QUICK, ROOT, shell


def nets(*args, **more):
    """A command in a process of its own."""
    args = [sys.executable, "-m", "nets", *map(str, args)]
    return subprocess.run(args, cwd=ROOT, stderr=subprocess.PIPE, **more)


@contextlib.contextmanager
def closed_pipe():
    """The end of a pipe to write to, which nobody reads."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as file, contextlib.suppress(BrokenPipeError):
        yield file


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "zwölf.png", folder / os.fsdecode(b"a\xff.png"), folder / "two\nlines.png"]
    for path in paths:
        Image.new("L", (8, 8)).save(path)
    return [str(path) for path in paths]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_signs_that_stdout_cannot_encode_are_plain(encoding, digits, pictures, no_pictures):
    run, raw = str(digits[0]), io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(raw, encoding=encoding)) as out:
        for argv in (["summary"], ["watch", run, "--once"], ["eval", run], ["eval", run, *pictures]):
            main(argv)
    out.flush()
    text = raw.getvalue().decode(encoding)
    assert "a\\udcff.png" in text and "two lines.png" in text
    assert ("zw\\xf6lf" if encoding == "ascii" else "zwölf") in text
    assert ("1 × 10" if encoding != "ascii" else "1 x 10") in text
    assert ("█" if encoding == "utf-8" else "####") in text and ("⠒" if encoding == "utf-8" else "**") in text


def test_plain_signs():
    text = "╳█×\u2801µ\udcff"
    assert text.encode("ascii", "nets.plain") == b"\\u2573#x*u\\udcff"
    assert all(sign.isascii() and sign for sign in streams.PLAIN.values())


def test_a_closed_pipe_ends_a_command_without_a_word():
    """As under `| head`."""
    with closed_pipe() as pipe:
        done = nets("--help", stdout=pipe)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named():
    for unbuffered in ("", "1"):
        with open("/dev/full", "w") as full:
            done = nets("--help", stdout=full, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
        assert done.stderr.endswith(b"standard output: No space left on device\n"), done.stderr
        assert done.returncode == 3 and done.stderr.count(b"\n") == 1


def test_no_stdout_and_no_stderr_at_all():
    for close in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m nets --help {close}"], cwd=ROOT, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b""), close


def test_training_goes_on_when_the_reader_of_its_lines_has_gone(tmp_path, no_pictures):
    with closed_pipe() as pipe, contextlib.redirect_stdout(pipe):
        main(["train", *QUICK, "--set", "train.epochs=1", "--out", str(tmp_path)])
    assert (tmp_path / "digits/result.json").exists()


def test_training_prints_a_line_for_each_epoch_into_a_pipe(digits):
    lines = digits[1].splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all("loss " in line and "test top-1 " in line for line in lines[:-1])


def test_training_prints_at_most_a_hundred_lines(tmp_path, no_pictures):
    printed = shell("train", "two_weight", "--set", "train.epochs=150", "--out", tmp_path)
    lines = printed.splitlines()[:-1]
    assert len(lines) == 75 and lines[0].startswith("epoch 2 of 150: loss ") and "epoch 150 of" in lines[-1]
