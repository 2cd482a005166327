"""Devices by name, and the versions of what is installed."""

import importlib.metadata
import mmap
import platform

import pytest
import torch

from nets.common import device
from nets.common.errors import UsageError


def test_auto_is_cuda_where_available(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.select_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.select_device("auto") == torch.device("cuda")
    assert device.select_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="--device cuda:2: this machine has 2 CUDA"):
        device.select_device("cuda:2")


@pytest.mark.parametrize("name", ["", "tpu", "cpu:0", "cpu:", "cuda:", "cuda:x", "cuda:-1"])
def test_unknown_devices_are_usage_errors(name):
    with pytest.raises(UsageError, match='expected "auto", "cpu", "cuda" or "cuda:N"'):
        device.select_device(name)


def test_memory_in_mb_and_bytes():
    used, capacity = device.resident_memory_mb(), device.memory_capacity()
    assert 10 < used < capacity / 1e6
    with mmap.mmap(-1, 50_000_000) as pages:  # new pages: the C library may have kept freed ones
        pages.write(b"1" * len(pages))
        assert device.resident_memory_mb() > used + 40


def test_the_state_of_a_generator_is_set_again():
    state = device.generator_state(torch.device("cpu"))
    first = torch.rand(3)
    device.generator_state(torch.device("cpu"), state)
    assert torch.equal(torch.rand(3), first)


def test_versions_without_torchvision(monkeypatch):
    assert device.versions()["torch"] == torch.__version__
    assert device.versions()["python"] == platform.python_version()

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert device.versions()["torchvision"] is None
