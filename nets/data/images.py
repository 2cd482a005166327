"""Picture files: any size and mode in, rows × columns × channels of bytes out."""

import ctypes
import warnings

import numpy as np
from PIL import Image, ImageOps, _imaging

from nets.common.errors import DataError

# `decode` says it as an error, or the picture is as good as Pillow can read it
warnings.filterwarnings("ignore", module=r"PIL\.")

EXTENSIONS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"))
Image.init()
# what Pillow reads by itself; for others, such as EPS, it would run a program on what the file says
FORMATS = {"JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "MPO", "AVIF", "JPEG2000", "ICO", "TGA"}
FORMATS = tuple(name for name in Image.ID if name in FORMATS)
# libtiff says on stderr, past Python, what Pillow then raises
_say_nothing = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
if _say_nothing is not None:
    _say_nothing(None)


def decode(path, channels: int = 3, size: int | None = None, crop=None) -> np.ndarray:
    """The picture at `path` as uint8 (H, W, channels): upright, its first frame.

    What is transparent shows white behind it; 16 bits are scaled to 8; CMYK becomes RGB by
    Pillow's plain formula, without color profiles.
    size: scale the shorter side to it and cut the middle out, so that H = W = size.
    crop: a function of (width, height), upright, that gives the box to scale to size instead.
    DataError names a file that is missing, is no picture, is cut off or is absurdly large.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels are too many")
            image = ImageOps.exif_transpose(image)
            image = _plain(image, "L" if channels == 1 else "RGB")
        if crop is not None:
            image = image.resize((size, size), Image.Resampling.BILINEAR, crop(*image.size))
        elif size is not None and image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, not a picture") from None
    except Exception as e:  # Pillow's decoders raise almost anything on damaged files
        raise DataError(f"{path}: not a picture that can be read ({str(e) or type(e).__name__})") from None
    pixels = np.asarray(image)
    return pixels[:, :, None] if channels == 1 else pixels


def _plain(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 bits scaled to 8. ValueError where numbers are of no known scale."""
    wide = np.asarray(image)
    if image.mode == "F" or wide.min() < 0 or wide.max() > 65535:
        raise ValueError("numbers beyond 16 bits, or fractions, have no known white")
    if "transparency" in image.info:  # one gray that is to be seen through
        wide = np.where(wide == image.info["transparency"], 65535, wide)
    return Image.fromarray((wide / 257).round().astype(np.uint8))
