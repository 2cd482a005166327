"""Checkpoints: tensors in safetensors, words in its metadata. Nothing is ever unpickled."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nets.errors import CheckpointError


def write(path: Path, text: str):
    """Write a text file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def save(path: Path, net, extra: dict, words: dict):
    """Save a net's params and buffers, `extra` tensors, and `words` (JSON), whole or not at all."""
    tensors = {f"net.{k}": v for k, v in (net.params | net.buffers).items()} | extra
    part = path.with_name(f".{path.name}.part")
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(tensors, part, {"words": json.dumps(words)})
    os.replace(part, path)


def read(path: Path) -> tuple[dict, dict]:
    """Returns (tensors, words). CheckpointError where the file is missing or damaged."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, "pt") as f:
            words = json.loads((f.metadata() or {})["words"])
            return {name: f.get_tensor(name) for name in f.keys()}, words
    except (SafetensorError, OSError, ValueError, KeyError) as e:
        raise CheckpointError(f"{path}: not a checkpoint of this project, or damaged ({e})") from None


def restore(net, tensors: dict, path):
    """Copy a checkpoint's tensors into the net. CheckpointError names the first that differs."""
    here = net.params | net.buffers
    saved = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
    for name in here.keys() | saved.keys():
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
