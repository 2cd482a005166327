"""What test_process_group.py runs in several processes: python -m tests.distributed.worker [cpu | cuda].

Prints what became of them.
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from pathlib import Path

import torch

from nets.commands import cli
from nets.common.errors import DataError, Stopped
from nets.distributed.agree import Agreement
from nets.distributed.alive import watched
from nets.distributed.world import join
from tests.distributed import step_checks, world_checks
from tests.distributed.forked import fork

CHECKS = [*world_checks.CHECKS, *step_checks.CHECKS]


def checks(device, results: Path):
    """One of the processes that run all checks; where one fails the rest don't run."""
    with cli.one_line_errors(), watched(join(device)) as world, open(results, "w") as file:
        for check in CHECKS:
            try:
                check(world)
            except Exception:
                file.write(json.dumps([check.__name__, traceback.format_exc()]) + "\n")
                raise
            file.write(json.dumps([check.__name__, "ok"]) + "\n")


def dying(device, victim, how, grace=5.0):
    """One of the processes of a run in which something happens to rank `victim` after some steps."""
    with cli.one_line_errors():
        asked = []
        with watched(join(device), grace) as world:
            if how == "stopped":
                signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
            agree, x = Agreement(world, 0.05), torch.ones(1000, device=world.device)
            for step in range(100_000):
                world.sum(x.fill_(1))
                if step == 20 and world.rank == victim:
                    if how == "data":
                        raise DataError("picture.png: damaged")
                    os.kill(os.getpid(), signal.SIGTERM if how == "stopped" else signal.SIGKILL)
                if step == 20 and how == "standing":
                    time.sleep(60)
                if (agree(step, bool(asked)) or [False])[0]:
                    time.sleep(0.3 * world.is_main)  # it writes a checkpoint
                    raise Stopped(signal.SIGTERM, f" at step {step}")
                time.sleep(0.001)


# processes, the one to which it happens, what, is there an agent that tells the others to end?
DEATHS = [
    *((2, victim, "killed", True) for victim in range(2)),
    *((4, victim, "killed", victim % 2 == 0) for victim in range(4)),
    *((3, victim, "standing", True) for victim in (0, 1)),
    *((3, 1, "data", True), (3, 1, "stopped", True), (2, 0, "no agent", False), (2, 1, "no agent", False)),
]


def main(device="cpu"):
    torch.set_num_threads(1)
    found, results_of = {"checks": {}, "deaths": {}}, defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for size in (2, 4) if device == "cpu" else (2,):
            results = [Path(folder) / f"{size}.{rank}" for rank in range(size)]
            codes, lines, _ = fork(size, lambda rank: checks(device, results[rank]), agent=False)
            for rank, file in enumerate(results):
                for name, result in map(json.loads, file.read_text().splitlines() if file.exists() else ()):
                    if result != "ok" or rank == 0:
                        results_of[f"{size} {name}"].append(
                            result if result == "ok" else f"rank {rank}: {result}"
                        )
            for check in (f"{size} {check.__name__}" for check in CHECKS):
                bad = [result for result in results_of[check] if result != "ok"]
                found["checks"][check] = "\n".join(bad) or (results_of[check] or ["didn't run"])[0]
            found["checks"][f"{size} end"] = "ok" if codes == [0] * size else f"{codes} {lines}"
    for size, victim, how, agent in DEATHS:
        grace = 1.0 if how == "standing" else 5.0
        work = lambda rank: dying(device, victim, how, grace)  # noqa: E731
        found["deaths"][f"{size} {victim} {how}"] = fork(size, work, agent, alone=how == "no agent")
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
