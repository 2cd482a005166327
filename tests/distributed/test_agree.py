"""Flags are exchanged at the same steps on all processes."""

from nets.distributed.agree import Agreement
from nets.training.world import World


def test_one_process_exchanges_at_first_and_at_once_where_it_must():
    agree = Agreement(World(), seconds=1e9)
    said = [agree(step, step == 3, now=step == 3) for step in range(1, 5)]
    assert said == [(False,), (False,), (True,), None]
