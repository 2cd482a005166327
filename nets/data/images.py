"""Image files: any size and mode in, uint8 (H, W, C) out."""

import ctypes
import os
import stat
import warnings
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageOps, _imaging

from nets.common.errors import DataError

# Pillow's warnings: `decode` raises an error, or the image is as good as Pillow can read it
warnings.filterwarnings("ignore", module=r"PIL\.")

Image.init()
# The formats that Pillow reads by itself. For others, such as EPS, it would run a program on the file.
SAFE_FORMATS = {"JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "MPO", "AVIF", "JPEG2000", "ICO", "TGA"}
FORMATS = tuple(name for name in Image.ID if name in SAFE_FORMATS)
# the endings of their files; .pfm has fractions, which have no known white
EXTENSIONS = frozenset(e for e, name in Image.registered_extensions().items() if name in FORMATS) - {".pfm"}
MAX_MEGAPIXELS = 100.0  # in an image, unless the config says otherwise
# libtiff prints to stderr from C what Pillow then raises
_set_tiff_handler = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
if _set_tiff_handler is not None:
    _set_tiff_handler(None)

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def decode(
    path,
    channels: int = 3,
    size: int | None = None,
    crop: Callable[[int, int], Box] | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> np.ndarray:
    """The image at `path` as uint8 (H, W, channels): its first frame, upright by its EXIF orientation.

    Transparent pixels are blended with white. 16 bits are scaled to 8. CMYK becomes RGB by Pillow's
    plain formula, without color profiles.
    channels: 3 for RGB, 1 for gray.
    size: scale the shorter side to size and crop the center, so H = W = size.
    crop: a function of (width, height) of the upright image that gives a box. The box is scaled to
    size × size, in place of the center.
    max_megapixels: the largest image, in millions of pixels; a larger one is refused.
    DataError names a file that is missing, is no image, is truncated or has too many pixels.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise ValueError("a pipe, device or socket")  # opening one can wait for ever
        if Image.MAX_IMAGE_PIXELS is not None and 1e6 * max_megapixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = round(1e6 * max_megapixels)  # Pillow has a limit of its own
        with Image.open(path, formats=FORMATS) as file:
            _check_pixels(file.size, max_megapixels)
            image = _convert(ImageOps.exif_transpose(file), "L" if channels == 1 else "RGB")
        if crop is not None:
            if size is None:
                raise TypeError("crop needs a size")
            image = image.resize((size, size), Image.Resampling.BILINEAR, crop(*image.size))
        elif size is not None and image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, not an image") from None
    except Exception as e:  # Pillow's decoders raise almost anything on damaged files
        raise DataError(f"{path}: not a readable image ({str(e) or type(e).__name__})") from None
    pixels = np.asarray(image)
    return pixels[:, :, None] if channels == 1 else pixels


def decode_for(config, path, crop: Callable[[int, int], Box] | None = None) -> np.ndarray:
    """`decode` by the [data] table of a config."""
    return decode(path, config.channels, config.size or None, crop, config.max_megapixels)


def _check_pixels(size: tuple[int, int], max_megapixels: float):
    width, height = size
    if width * height > 1e6 * max_megapixels:
        raise ValueError(
            f"{width} × {height} pixels are more than data.max_megapixels = {max_megapixels:g} allows"
        )


def first_readable(paths: Iterable, config) -> np.ndarray:
    """The first image that can be decoded. With config.on_error = "stop", the first one must be readable."""
    error = None
    for path in paths:
        try:
            return decode_for(config, path)
        except DataError as e:
            if config.on_error == "stop":
                raise
            error = e
    raise error or DataError("no images")


def check_same_size(path, pixels: np.ndarray, shape: tuple[int, ...]):
    """DataError unless the pixels have this shape (H, W, C)."""
    if pixels.shape != shape:
        (h, w), (h0, w0) = pixels.shape[:2], shape[:2]
        raise DataError(f"{path}: {w} × {h} pixels, others {w0} × {h0}; set data.size to scale all images")


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _to_eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray scaled to 8 bits. ValueError where the numbers have no known scale."""
    wide = np.asarray(image)
    if image.mode == "F" or wide.min() < 0 or wide.max() > 65535:
        raise ValueError("fractions and numbers beyond 16 bits have no known white")
    if "transparency" in image.info:  # one gray value is transparent: white
        wide = np.where(wide == image.info["transparency"], 65535, wide)
    rounded = wide.astype(np.uint32)  # 257 is odd, so no quotient lies halfway
    rounded += 128
    rounded //= 257
    return Image.fromarray(rounded.astype(np.uint8))
