"""Damaged image files: decoded, or an error in one line.

`IMAGES=10000 python -m pytest -s tests/data/test_images_damaged.py -k malformed` tries ten thousand
malformed files; the default is a hundred.
"""

import io
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from nets.commands import cli
from nets.common.errors import DataError
from nets.data.images import decode
from tests.data.image_files import png, scene

COUNT = int(os.environ.get("IMAGES", 100))


def bomb(path):
    """A file of a few hundred bytes whose header says 60,000 × 60,000 pixels."""
    png(path, 60_000, 60_000, 8, 2, b"\0" * 1000)


def large(path):
    """More pixels than Pillow's limit, but fewer than twice as many, where it only warns."""
    png(path, 12_000, 10_000, 8, 2, b"\0" * 1000)


def cut(path):
    scene().save(path)
    path.write_bytes(path.read_bytes()[:-40])


def postscript(path):
    scene().save(path, "EPS")


BAD = {
    "cut.png": cut,
    "cut.jpg": cut,
    "cut.gif": cut,
    "cut.bmp": cut,
    "cut.webp": cut,
    "cut.tif": cut,
    "empty.jpg": lambda p: p.write_bytes(b""),
    "text.jpg": lambda p: p.write_text("hello\nthere"),
    "postscript.jpg": postscript,  # for which Pillow would start another program
    "bomb.png": bomb,
    "large.png": large,
    "folder.png": lambda p: p.mkdir(),
    "pipe.png": os.mkfifo,  # opening it would wait for a writer
    "device.png": lambda p: p.symlink_to("/dev/zero"),
    "loop.png": lambda p: p.symlink_to(p),
    "nowhere.png": lambda p: None,
    "no\nway.png": lambda p: p.write_bytes(b""),
    "zeros.png": lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
}


@pytest.mark.parametrize("name", BAD)
def test_unreadable_files_are_an_error_in_one_line(tmp_path, name, capsys):
    BAD[name](tmp_path / name)
    with pytest.raises(SystemExit) as exit, cli.one_line_errors():
        decode(tmp_path / name)
    error = capsys.readouterr().err
    assert exit.value.code == 3 and error.count("\n") == 1
    assert error.startswith(f"error: {tmp_path}/{' '.join(name.split())}: ")


def malformed(count: int):
    """Yield (name, bytes): valid files, truncated or with some bytes changed."""
    rng = np.random.default_rng(0)
    kinds = [("jpg", {}), ("png", {}), ("gif", {}), ("webp", {}), ("bmp", {}), ("jpg", {"progressive": True})]
    kinds += [("tif", {"compression": c}) for c in (None, "tiff_lzw", "tiff_adobe_deflate")]
    for i in range(count):
        kind, options = kinds[i % len(kinds)]
        buffer = io.BytesIO()
        scene(64, 48).save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()), **options)
        raw = bytearray(buffer.getvalue())
        if rng.random() < 0.4:
            raw = raw[: rng.integers(len(raw))]
        else:
            first = rng.choice([0, 0, len(raw) // 2])  # the header is the most sensitive part
            span = min(len(raw) - first, rng.choice([64, len(raw)]))
            for at in first + rng.integers(span, size=rng.integers(1, 6)):
                raw[at] = rng.integers(256)
        yield f"{i}.{kind}", bytes(raw)


def test_malformed_files_are_decoded_or_an_error_in_one_line(tmp_path, capfd):
    """No other exception, no traceback, no output from C, and pixels of the right shape."""
    outcomes = Counter()
    for name, raw in malformed(COUNT):
        (tmp_path / name).write_bytes(raw)
        try:
            with cli.one_line_errors():
                pixels = decode(tmp_path / name, size=32)
            assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
            assert capfd.readouterr().err == ""
            outcomes["decoded"] += 1
        except SystemExit as exit:
            error = capfd.readouterr().err
            assert exit.code == 3 and error.count("\n") == 1
            assert error.startswith(f"error: {tmp_path / name}: ")
            outcomes["refused"] += 1
    assert outcomes.total() == COUNT and min(outcomes.values()) >= COUNT // 10
    print(f"{COUNT} malformed images: {dict(outcomes)}")


def test_too_many_pixels_are_an_error_in_one_line(tmp_path):
    """In a process of its own: pytest captures the warning that Pillow would print."""
    large(tmp_path / "large.png")
    code = "import sys; from nets.commands import cli; from nets.data import images\n"
    code += "with cli.one_line_errors(): images.decode(sys.argv[1])"
    args = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    done = subprocess.run(args, capture_output=True, text=True)
    limit = "(12000 × 10000 pixels are more than data.max_megapixels = 100 allows)\n"
    assert done.returncode == 3 and done.stderr.endswith(limit)
    assert done.stderr.count("\n") == 1


def test_an_exception_without_a_message_is_named_by_its_type(tmp_path, monkeypatch):
    def decoder(*_, **__):
        raise EOFError

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(Image, "open", decoder)
    with pytest.raises(DataError, match=r"a.png: not a readable image \(EOFError\)"):
        decode(tmp_path / "a.png")


def test_control_characters_in_a_file_name_are_escaped(tmp_path, capsys):
    with pytest.raises(SystemExit), cli.one_line_errors():
        decode(tmp_path / "a\x1b[2J\udcff.png")
    assert capsys.readouterr().err == f"error: {tmp_path}/a\\x1b[2J\\udcff.png: no such file\n"
