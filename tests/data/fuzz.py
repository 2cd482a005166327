"""Generated image files and trees: valid ones with some bytes, names or kinds of files changed."""

import contextlib
import io
import os
import time
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from nets.commands import cli
from tests.data.image_files import scene

SECONDS = 5  # no case may take longer
MAX_MEGAPIXELS = 8.0
BYTES_PER_PIXEL = 32  # docs/data.md
SLACK = 64e6  # bytes: caches of Pillow, numpy and hypothesis

FORMATS = {
    "png": [("RGB", {}), ("RGBA", {}), ("P", {}), ("L", {}), ("1", {}), ("I;16", {})],
    "jpg": [("RGB", {}), ("CMYK", {}), ("L", {"progressive": True}), ("RGB", {"progressive": True})],
    "gif": [("P", {}), ("RGB", {"save_all": True, "append_images": [scene(9, 7)]})],
    "webp": [("RGB", {}), ("RGBA", {"lossless": True})],
    "bmp": [("RGB", {}), ("P", {}), ("RGBA", {})],
    "tif": [("RGB", {"compression": c}) for c in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")]
    + [("I;16", {}), ("F", {}), ("CMYK", {}), ("1", {"compression": "group4"})],
    "ppm": [("RGB", {}), ("L", {}), ("1", {})],
    "tga": [("RGB", {}), ("RGBA", {"compression": "tga_rle"}), ("P", {})],
    "ico": [("RGBA", {}), ("RGBA", {"bitmap_format": "bmp"})],
    "jp2": [("RGB", {}), ("L", {})],
    "avif": [("RGB", {})],
}
PIL_NAMES = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}


@cache
def seeds() -> list[bytes]:
    """Valid files of every format, in several modes, some with an EXIF orientation."""
    files = []
    for ending, kinds in FORMATS.items():
        for mode, options in kinds:
            for size in ((24, 16), (1, 1)):
                image = scene(*size) if size != (1, 1) else Image.new("RGB", size, "red")
                image = Image.fromarray(_wide(size)) if mode == "I;16" else image.convert(mode)
                exif = image.getexif()
                exif[0x0112] = 6
                buffer = io.BytesIO()
                with contextlib.suppress(OSError, ValueError):  # too small for some
                    image.save(buffer, PIL_NAMES.get(ending, ending.upper()), exif=exif, **options)
                    files.append(buffer.getvalue())
    return files


def _wide(size) -> np.ndarray:
    return np.arange(size[0] * size[1], dtype=np.uint16).reshape(size[::-1]) * 100


NUMBERS = [
    b"\0",
    b"\xff",
    b"\xff" * 2,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\0" * 4,
    b"\x80\0\0\0",
    b"\xe8\3",
    b"\3\xe8",
]


@st.composite
def image_bytes(draw) -> bytes:
    """A valid image file, changed in a few places, its beginning more often than the rest."""
    raw = bytearray(draw(st.sampled_from(seeds())))
    for _ in range(draw(st.integers(0, 6))):
        end = draw(st.sampled_from([32, 128, len(raw)]))
        at = draw(st.integers(0, max(0, min(end, len(raw)) - 1)))
        match draw(st.integers(0, 5)):
            case 0 | 1:
                raw[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 2:
                number = draw(st.sampled_from(NUMBERS))
                raw[at : at + len(number)] = number
            case 3:
                del raw[at : at + draw(st.integers(1, 40))]
            case 4:
                raw[at:at] = raw[at : at + draw(st.integers(1, 200))] * draw(st.sampled_from([1, 2, 50]))
            case 5:
                other = draw(st.sampled_from(seeds()))
                raw[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(raw)


NAMES = [
    "cat",
    "dog",
    "a.png",
    "b.JPG",
    "c.gif",
    "d.tif",
    "e",
    ".hidden.png",
    "._a.png",
    "__MACOSX",
    "@eaDir",
]
NAMES += [
    "café",
    unicodedata.normalize("NFD", "café"),
    "cat ",
    "c\u0430t",
    "x\udcff.png",
    "a\nb.png",
    "\x1b[2J.png",
]
NAMES += [
    "n" * 250 + ".png",
    "train",
    "val",
    "test",
    ".nets-cache.safetensors",
    "notes.txt",
    "a.svg",
    "$x_1$.webp",
]
KINDS = [
    "image",
    "image",
    "image",
    "changed",
    "changed",
    "empty",
    "folder",
    "folder",
    "pipe",
    "loop",
    "nowhere",
    "up",
]


@dataclass
class Entry:
    """One more thing in a tree, at a path of NAMES below one of the tree's folders."""

    place: tuple[str, ...]
    kind: str
    content: bytes

    def make(self, root: Path):
        path = root.joinpath(*self.place)
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
            match self.kind:
                case "folder":
                    path.mkdir(exist_ok=True)
                case "pipe":
                    os.mkfifo(path)
                case "loop":
                    path.symlink_to(path)
                case "nowhere":
                    path.symlink_to("nowhere")
                case "up":
                    path.symlink_to("..")
                case _:
                    if not path.is_symlink() and not path.is_fifo():
                        path.write_bytes(self.content)


@st.composite
def entries(draw) -> Entry:
    top = draw(
        st.sampled_from([(), ("train",), ("test",), ("train", "cat"), ("train", "dog"), ("test", "cat")])
    )
    below = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    kind = draw(st.sampled_from(KINDS))
    content = draw(image_bytes()) if kind == "changed" else b"" if kind == "empty" else seeds()[0]
    return Entry((*top, *below), kind, content)


class Peak:
    """The process's peak memory since it began, in bytes, above what it had then. None without /proc."""

    def __init__(self):
        self.before = self._status("VmRSS")
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak back

    def _status(self, key: str) -> int | None:
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith(key):
                    return 1024 * int(line.split()[1])
        return None

    def bytes(self) -> int | None:
        peak = self._status("VmHWM")
        return None if peak is None or self.before is None else peak - self.before


def outcome(work):
    """work()'s result, or the exit code of an error in one line. Asserts limits of time and memory."""
    err, peak, begin = io.StringIO(), Peak(), time.monotonic()
    try:
        with contextlib.redirect_stderr(err), cli.one_line_errors():
            result = work()
    except SystemExit as e:
        result = e.code
        errors = [line for line in err.getvalue().split("\n") if line.startswith("error: ")]
        assert len(errors) == 1 and errors[0].isprintable(), err.getvalue()
    seconds, most = time.monotonic() - begin, peak.bytes()
    assert all(line.isprintable() for line in err.getvalue().split("\n")), err.getvalue()
    assert seconds < SECONDS, seconds
    assert most is None or most < 1e6 * MAX_MEGAPIXELS * BYTES_PER_PIXEL + SLACK, most
    return result
