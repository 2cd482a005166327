"""The table and the figure of nets distributed-plan."""

import torch

from nets.distributed import plan
from nets.distributed.plan import Machine, Work
from nets.report import plan as figures
from nets.training import config
from nets.training.make import make_net

WORK = Work("three", ((1e6, 1e6), (0.0, 0.0), (2e6, 3e6)))


SLOW = Machine(rate=1e12, memory=1e12, link=1e9, hop=1e-5, wire=4)


def test_the_table_and_the_figure(tmp_path):
    machines = {"slow": SLOW, "fast": Machine()}
    lines = figures.table(WORK, 8, machines).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "4", "8"]  # a sample each, no fewer
    figures.draw(tmp_path / "plan.png", [(WORK, 64), (plan.billion(), 4096)], machines)
    assert (tmp_path / "plan.png").stat().st_size > 10_000


def test_a_configs_work_is_its_nets():
    conf = config.load("configs/digits.toml")
    work = figures.work(conf)
    with torch.device("meta"):
        net = make_net(conf, (1, 8, 8), 10)
    assert work.weights == sum(w.numel() for w in net.params.values())
    assert work.products == 64 * (32 * 9 + 64 * 32 * 9) + 16 * 128 * 64 * 9 + 512 * 10
    assert 1e9 < plan.billion().weights < 1.1e9
