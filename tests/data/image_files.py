"""Image files to test with."""

import struct
import zlib

import numpy as np
from PIL import Image


def scene(width=24, height=16) -> Image.Image:
    """A smooth image, which lossy formats change little, with four different corners."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 128 + 0 * x], 2)
    return Image.fromarray(pixels.round().astype(np.uint8))


def png(path, width, height, depth, kind, rows: bytes, *chunks):
    """A PNG file, as Pillow doesn't write every bit depth."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    out = b"\x89PNG\r\n\x1a\n"
    for name, body in parts:
        out += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    path.write_bytes(out)
