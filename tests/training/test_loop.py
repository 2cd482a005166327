"""The events of a run."""

from nets.training.hooks import Hook
from nets.training.loop import Events


def test_only_defined_events_are_called():
    class Two(Hook):
        def after_step(self, run):
            pass

        def close(self, run):
            pass

    class Stub:
        hooks = [Two(), Hook()]

    events = Events(Stub())
    assert {name: len(methods) for name, methods in events.methods.items() if methods} == {
        "after_step": 1,
        "close": 1,
    }
