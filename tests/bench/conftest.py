"""Fixtures of the bench's tests."""

import pytest

from nets.bench import race


class InProcess:
    """A worker without a process of its own, which starts faster."""

    def __init__(self, cls, *args, name):
        self.name, self.made = name, cls(*args)

    def call(self, method, *args):
        return getattr(self.made, method)(*args)

    def close(self):
        pass


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(race, "Worker", InProcess)
