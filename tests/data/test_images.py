"""Decoding image files: each kind that Pillow writes gives the right pixels, or an error in one line.

`IMAGES=10000 python -m pytest -s tests/data/test_images.py -k malformed` tries ten thousand malformed
files; the default is a hundred.
"""

import io
import os
import struct
import subprocess
import sys
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from nets.commands import cli
from nets.common.errors import DataError
from nets.data.images import decode

COUNT = int(os.environ.get("IMAGES", 100))


def scene(width=24, height=16) -> Image.Image:
    """A smooth image, which lossy formats change little, with four different corners."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 128 + 0 * x], 2)
    return Image.fromarray(pixels.round().astype(np.uint8))


def assert_near(pixels, want, most):
    """The wanted shape in uint8, each value at most `most` off."""
    assert pixels.shape == want.shape and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - want.astype(int)).max() <= most


@pytest.mark.parametrize(
    "name, most, options",
    [
        ("a.png", 0, {}),
        ("a.bmp", 0, {}),
        ("a.ppm", 0, {}),
        ("a.tif", 0, {}),
        ("a.tiff", 0, {"compression": "tiff_lzw"}),
        ("a.webp", 0, {"lossless": True}),
        ("a.webp", 12, {"quality": 95}),
        ("a.jpg", 12, {"quality": 95, "subsampling": 0}),
        ("a.jpeg", 12, {"quality": 95, "subsampling": 0, "progressive": True}),
        ("a.gif", 40, {}),  # 256 colors
    ],
)
def test_every_format_decodes(tmp_path, name, most, options):
    scene().save(tmp_path / name, **options)
    assert_near(decode(tmp_path / name), np.asarray(scene()), most)


def test_a_wrong_file_extension_is_ignored(tmp_path):
    scene().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert_near(decode(tmp_path / "a.jpg"), np.asarray(scene()), 0)


def test_cmyk_becomes_rgb(tmp_path):
    scene().convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "CMYK"
    assert_near(decode(tmp_path / "a.jpg"), np.asarray(scene()), 12)
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 51], [0, 0, 0, 255]]], np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "inks.tif")
    assert_near(
        decode(tmp_path / "inks.tif"), np.uint8([[[255] * 3, [0, 255, 255], [204, 0, 204], [0] * 3]]), 1
    )


def test_gray_as_one_and_three_channels(tmp_path):
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for name in ("a.png", "a.bmp", "a.tif"):
        Image.fromarray(gray).save(tmp_path / name)
        assert_near(decode(tmp_path / name), np.repeat(gray[..., None], 3, 2), 0)
        assert_near(decode(tmp_path / name, channels=1), gray[..., None], 0)
    Image.fromarray(gray > 99).save(tmp_path / "bits.png")
    assert_near(decode(tmp_path / "bits.png", 1), np.where(gray > 99, 255, 0).astype(np.uint8)[..., None], 0)
    assert_near(decode(tmp_path / "bits.png", 1), decode(tmp_path / "bits.png")[..., :1], 0)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, name):
    wide = np.array([[0, 128, 129, 257, 32896, 65279, 65407, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.mode.startswith("I")
    assert_near(decode(tmp_path / name, 1)[..., 0], np.uint8([[0, 0, 1, 1, 128, 254, 255, 255]]), 0)


def png(path, width, height, depth, kind, rows: bytes, *chunks):
    """A PNG file, as Pillow doesn't write every bit depth."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    out = b"\x89PNG\r\n\x1a\n"
    for name, body in parts:
        out += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    path.write_bytes(out)


def test_sixteen_bits_in_color_and_with_alpha(tmp_path):
    color = struct.pack(">B6H", 0, 0, 32896, 65535, 65535, 257, 0)
    png(tmp_path / "rgb.png", 2, 1, 16, 2, color)
    assert_near(decode(tmp_path / "rgb.png"), np.uint8([[[0, 128, 255], [255, 1, 0]]]), 1)
    alpha = struct.pack(">B8H", 0, 0, 0, 0, 0, 65535, 0, 0, 65535)  # a clear and a red pixel
    png(tmp_path / "rgba.png", 2, 1, 16, 6, alpha)
    assert_near(decode(tmp_path / "rgba.png"), np.uint8([[[255] * 3, [255, 0, 0]]]), 1)
    gray = struct.pack(">B2H", 0, 500, 65535 // 3)  # the first gray value is transparent
    png(tmp_path / "clear.png", 2, 1, 16, 0, gray, (b"tRNS", struct.pack(">H", 500)))
    assert_near(decode(tmp_path / "clear.png", 1), np.uint8([[[255], [85]]]), 0)


def test_pixels_without_a_known_scale_are_refused(tmp_path):
    Image.fromarray(np.float32([[0, 0.5, 1]])).save(tmp_path / "f.tif")
    Image.fromarray(np.int32([[0, 2**20, 2**30]])).save(tmp_path / "i.tif")
    for name in ("f.tif", "i.tif"):
        with pytest.raises(DataError, match=f"{name}: .*no known white"):
            decode(tmp_path / name)


def test_transparency_is_blended_with_white(tmp_path):
    pixels = np.uint8([[[200, 100, 0, 255], [200, 100, 0, 128], [200, 100, 0, 0]]])
    want = np.uint8([[[200, 100, 0], [227, 177, 127], [255, 255, 255]]])
    for name in ("a.png", "a.tif", "a.webp"):
        Image.fromarray(pixels).save(tmp_path / name, lossless=True)
        assert_near(decode(tmp_path / name), want, 1)
    Image.fromarray(np.uint8([[[50, 255], [50, 0]]]), "LA").save(tmp_path / "la.png")
    assert_near(decode(tmp_path / "la.png", 1), np.uint8([[[50], [255]]]), 0)


def test_palettes_become_rgb(tmp_path):
    image = Image.fromarray(np.uint8([[0, 1, 2]]), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    kinds = {"a.png": None, "a.gif": None, "a.bmp": None, "b.png": 2, "b.gif": 2, "c.png": b"\xff\xff\0"}
    for name, clear in kinds.items():
        image.save(tmp_path / name, **({} if clear is None else {"transparency": clear}))
        last = [9] * 3 if clear is None else [255] * 3
        assert_near(decode(tmp_path / name), np.uint8([[[255, 0, 0], [0, 255, 0], last]]), 0)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_of_several_frames_is_decoded(tmp_path, name):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 3
    assert_near(decode(tmp_path / name), np.asarray(frames[0]), 0)


TURNS = {  # EXIF orientation → the file's pixels, made from the upright image's
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_exif_orientation_is_applied(tmp_path, orientation, name):
    upright = np.asarray(scene())
    image = Image.fromarray(np.ascontiguousarray(TURNS[orientation](upright)))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / name, exif=exif, quality=95, subsampling=0, lossless=True)
    assert_near(decode(tmp_path / name), upright, 12)
    left = decode(
        tmp_path / name, size=8, crop=lambda w, h: (0, 0, w / 2, h)
    )  # the crop is of the upright image
    assert left.shape == (8, 8, 3) and left[..., 0].max() < 140 and left[..., 1].max() > 200


def test_size_scales_and_crops_the_center(tmp_path):
    scene(60, 20).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png", size=10)
    assert pixels.shape == (10, 10, 3)
    assert 75 < pixels[..., 0].min() < 95 and 160 < pixels[..., 0].max() < 180  # the middle third
    for size in ((1, 1), (1, 50), (50, 1)):
        Image.new("RGB", size, "red").save(tmp_path / "b.png")
        assert_near(decode(tmp_path / "b.png", size=4), np.full((4, 4, 3), [255, 0, 0], np.uint8), 0)


def bomb(path):
    """A file of a few hundred bytes whose header says 60,000 × 60,000 pixels."""
    png(path, 60_000, 60_000, 8, 2, b"\0" * 1000)


def large(path):
    """More pixels than Pillow's limit, but fewer than twice as many, where it only warns."""
    png(path, 10_000, 10_000, 8, 2, b"\0" * 1000)


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
    assert done.returncode == 3 and done.stderr.endswith("(10000 × 10000 pixels are too many)\n")
    assert done.stderr.count("\n") == 1


def test_an_exception_without_a_message_is_named_by_its_type(tmp_path, monkeypatch):
    def decoder(*_, **__):
        raise EOFError

    monkeypatch.setattr(Image, "open", decoder)
    with pytest.raises(DataError, match=r"a.png: not a readable image \(EOFError\)"):
        decode(tmp_path / "a.png")


def test_control_characters_in_a_file_name_are_escaped(tmp_path, capsys):
    with pytest.raises(SystemExit), cli.one_line_errors():
        decode(tmp_path / "a\x1b[2J\udcff.png")
    assert capsys.readouterr().err == f"error: {tmp_path}/a\\x1b[2J\\udcff.png: no such file\n"
