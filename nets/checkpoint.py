"""Checkpoints: tensors in safetensors, words in its metadata. Nothing is ever unpickled."""

import contextlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nets.errors import CheckpointError


@contextlib.contextmanager
def whole(path: Path):
    """Gives a path to write to, which becomes `path` at the end, or vanishes on an error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, text: str):
    """Write a text file whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def also(path: Path, other: Path):
    """The file at `path` under another name too, whole or not at all."""
    with whole(other) as part:
        os.link(path, part)


def save(path: Path, tensors: dict, words: dict):
    """Save tensors and `words` (JSON), whole or not at all."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with whole(path) as part:
        save_file(tensors, part, {"words": json.dumps(words)})


def read(path: Path) -> tuple[dict, dict]:
    """Returns (tensors, words). CheckpointError where the file is missing or damaged."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, "pt") as f:
            words = json.loads((f.metadata() or {})["words"])
            return {name: f.get_tensor(name) for name in f.keys()}, words
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as e:
        raise CheckpointError(f"{path}: not a checkpoint of this project, or damaged ({e})") from None


def restore(net, tensors: dict, path):
    """Copy a checkpoint's tensors into the net. CheckpointError names the first that differs."""
    here = net.params | net.buffers
    saved = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
    for name in [*here, *(saved.keys() - here.keys())]:
        if name not in saved:
            raise CheckpointError(f"{path}: doesn't match its config: has no tensor {name}")
        if name not in here:
            raise CheckpointError(f"{path}: doesn't match its config: the net has no {name}")
        if here[name].shape != saved[name].shape:
            a, b = tuple(saved[name].shape), tuple(here[name].shape)
            raise CheckpointError(f"{path}: doesn't match its config: {name} is {a}, not {b}")
        if not saved[name].is_floating_point():
            raise CheckpointError(f"{path}: doesn't match its config: {name} is {saved[name].dtype}")
    for name, t in here.items():
        t.copy_(saved[name])
