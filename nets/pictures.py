"""Picture files: any size and mode in, rows × columns × channels of bytes out."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nets.errors import DataError

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode` says it as an error


def decode(path, channels: int = 3, size: int | None = None) -> np.ndarray:
    """The picture at `path` as uint8 (H, W, channels), upright, transparency over white.

    size: scale the shorter side to it and cut the middle out, so that H = W = size.
    DataError names a file that is missing, is no picture, is cut off or is absurdly large.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels are too many")
            image = ImageOps.exif_transpose(image)
            image = _plain(image, "L" if channels == 1 else "RGB")
        if size is not None and image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, not a picture") from None
    except Exception as e:  # Pillow's decoders raise almost anything on damaged files
        raise DataError(f"{path}: not a picture that can be read ({e})") from None
    pixels = np.asarray(image)
    return pixels[:, :, None] if channels == 1 else pixels


def _plain(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        wide = np.asarray(image).astype(np.float64)  # 16 bits: keep the upper eight
        image = Image.fromarray((wide / 257).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


EXTENSIONS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"))


def listed(folder: Path) -> list[Path]:
    """The picture files in a folder and below it, sorted by name."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
