"""Decoding image files: each kind that Pillow writes gives the right pixels."""

import struct

import numpy as np
import pytest
from PIL import Image

from nets.common.errors import DataError
from nets.data.images import EXTENSIONS, decode
from tests.data.image_files import png, scene


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
        ("a.jfif", 12, {"format": "JPEG", "quality": 95, "subsampling": 0}),
        ("a.jpe", 12, {"quality": 95, "subsampling": 0}),
        ("a.pnm", 0, {}),
        ("a.jp2", 0, {}),
        ("a.avif", 12, {"quality": 95}),
        ("a.tga", 0, {}),
        ("a.ico", 0, {"sizes": [(24, 16)]}),
    ],
)
def test_every_format_decodes_and_its_ending_counts(tmp_path, name, most, options):
    scene().save(tmp_path / name, **options)
    assert name[1:] in EXTENSIONS
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


def test_max_megapixels_raises_the_limit_beyond_pillows_own(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # beyond twice as many Pillow raises
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"30 × 20 pixels are more than data.max_megapixels = 0.0005 allows"):
        decode(tmp_path / "a.png", max_megapixels=0.0005)
    assert decode(tmp_path / "a.png", max_megapixels=0.0006).shape == (20, 30, 3)
