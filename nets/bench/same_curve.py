"""The same curve: a config's first steps by hand and by autograd, from the same weights on the same batches."""

import itertools
from pathlib import Path

import torch
from torch import Tensor

from nets.bench.forms import parameter_groups
from nets.commands import cli
from nets.common import device
from nets.common.errors import MismatchError, UsageError
from nets.convert.to_torch import to_torch
from nets.gradcheck.reference import loss_value
from nets.layers.base import sum_dtype
from nets.optim.sgd import SGD, factor
from nets.training import config
from nets.training.trainer import Run

# how far two losses may be apart, relative: rounding grows with every step
APART = {"float64": 1e-10, "float32": 1e-3, "bfloat16": 5e-2}


class Twin:
    """The run's net in torch.nn, with autograd for its backward and torch.optim's SGD for its update."""

    def __init__(self, run: Run):
        if type(run.optimizer) is not SGD:
            raise UsageError(f"train.optimizer: torch.optim has no twin of {run.config.train.optimizer}")
        self.module, self.loss = to_torch(run.net), run.loss
        groups = parameter_groups(run.config, run.net, self.module, run.loss.maximize, factor=1.0)
        self.rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.SGD(groups, lr=0.0)

    def step(self, x: Tensor, target: Tensor, rate: float) -> Tensor:
        for group, own in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = own * rate
        z = self.module(x)
        value = loss_value(self.loss, z.to(sum_dtype(z)), target)
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        return value.detach()


def curves(run: Run, steps: int):
    """Yield (loss by hand, loss by autograd) for the first steps of a run, with dropout off.

    Dropout is off because the two draw at random in different order.
    """
    for layer in run.net.walk():
        if hasattr(layer, "p"):
            layer.p, layer.scale = 0.0, 1.0
    twin, t = Twin(run), run.config.train
    rate, warmup = torch.ones((), device=run.device), round(t.warmup_epochs * run.per_epoch[0])
    every = (batch for epoch in itertools.count() for batch in run.feed(epoch))
    for i, (_, x, target) in enumerate(itertools.islice(every, steps)):
        now = factor(t.schedule, i, run.steps, warmup)
        theirs = twin.step(x, target, now)
        yield run.step(x, target, rate.fill_(now))[0].item(), theirs.item()


def main():
    parser = cli.parser(__doc__)
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("--steps", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override a key")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--data-root", metavar="DIR", help="override data.root")
    args = parser.parse_args()
    if args.data_root is not None:
        args.set.append(f"data.root={config.toml(args.data_root)}")
    conf = config.load(args.config, args.set)
    run = Run(conf, device.pick(args.device), Path("."))  # writes nothing unless it is asked to train
    least = None  # a loss of almost 0 is measured against a tenth of the first
    print("step  by hand   autograd  relative difference")
    for i, (ours, theirs) in enumerate(curves(run, args.steps)):
        least = least or 0.1 * abs(theirs)
        apart = abs(ours - theirs) / max(abs(theirs), least)
        print(f"{i + 1:4}  {ours:8.5f}  {theirs:8.5f}  {apart:.1e}", flush=True)
        if not apart <= APART[conf.train.dtype]:
            raise MismatchError(f"the losses of step {i + 1} are {apart:.1e} apart")


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
