"""The rivals: one train step of the same net, by hand or by autograd; eagerly or compiled."""

import math
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nets.common.errors import UsageError, nearest
from nets.convert.to_torch import to_torch
from nets.data import batches
from nets.gradcheck.reference import loss_value
from nets.kernels.fused import fuse
from nets.layers.base import sum_dtype
from nets.optim.sgd import SGD, constants
from nets.training.config import Config
from nets.training.guard import Guard
from nets.training.make import make_loss, make_net, make_optimizer
from nets.training.step import hits, hold, train_step

SIDES, WAYS = ("manual", "autograd"), ("", "-compiled", "-graph", "-compiled-graph")
NAMES = [side + way for way in WAYS for side in SIDES]
# times the config's rate: as in the first steps of a run, when a rate warms up, so that no net runs away
FACTOR = 1 / 16


@dataclass(frozen=True)
class Form:
    """Who: a side, and how it is run. keep: does the C library keep the memory that it frees?"""

    side: str
    way: str = ""
    keep: bool = False
    marked: bool = False  # is `keep` said in the name?

    @property
    def name(self) -> str:
        return self.side + self.way + ("+keep" if self.marked else "")

    @property
    def compiled(self) -> bool:
        return "-compiled" in self.way

    @property
    def captured(self) -> bool:
        return "-graph" in self.way


@dataclass(frozen=True)
class Task:
    """What every rival does: a config's step on one batch of `shape` samples, on a device."""

    config: Config
    shape: tuple[int, ...]
    outputs: int
    device: torch.device


def chosen(names: str, allocator: str, device: torch.device) -> list[Form]:
    """The forms of a comma-separated list, by default all that the device can run.

    allocator  "default", as a user runs it: the manual forms keep freed memory, as the trainer
               does, and the twin runs as the C library comes; "keep": all forms keep it;
               "both": the twin both ways. On CUDA, whose allocator keeps it anyway, no matter.
    """
    can = NAMES if device.type == "cuda" else NAMES[:4]
    forms = []
    for name in names.split(",") if names else can:
        if name not in NAMES:
            raise UsageError(f'--forms: no form is called "{name}"{nearest(name, NAMES)}')
        if name not in can:
            raise UsageError(f"--forms: {name} needs a CUDA device")
        side, dash, way = name.partition("-")
        form = Form(side, dash + way, keep=side == "manual" or allocator == "keep")
        forms.append(form)
        if side == "autograd" and allocator == "both" and device.type == "cpu":
            forms.append(replace(form, keep=True, marked=True))
    if len(set(forms)) < len(forms):
        raise UsageError(f"--forms {names}: one of them is named twice")
    return forms


def prepare(task: Task):
    """(net, loss, x, target): the same for every form, down to the last bit."""
    conf, batch = task.config, task.config.train.batch_size
    net, dtype = make_net(conf, task.shape, task.outputs), getattr(torch, conf.train.dtype)
    generator = torch.Generator().manual_seed(conf.seed)
    if len(task.shape) == 3:
        c, h, w = task.shape
        bytes_ = torch.randint(256, (batch, h, w, c), dtype=torch.uint8, generator=generator)
        mean = torch.full((c,), 0.5)
        x = batches.normalize(bytes_, mean, mean / math.sqrt(3), dtype, conf.train.channels_last)
        target = torch.randint(task.outputs, (batch,), generator=generator)
    else:
        x = torch.rand(batch, *task.shape, generator=generator).to(dtype)
        target = torch.rand(batch, task.outputs, generator=generator)
    first = next(iter(net.children.values()))
    if hasattr(first, "fit"):
        first.fit(x.float())
    net.to(task.device, torch.promote_types(dtype, torch.float32))
    return net, make_loss(conf, len(task.shape) == 3), x.to(task.device), target.to(task.device)


class Manual:
    """Our step, as the trainer runs it: it also looks whether loss and gradients are finite."""

    def __init__(self, task: Task, net, loss, compiled: bool):
        conf = task.config
        self.net = fuse(net, task.device, getattr(torch, conf.train.dtype), conf.net.backend)
        self.optimizer = make_optimizer(conf, net, loss)
        self.parts = "forward, loss, backward and update in one graph" if compiled else ""
        self.factor = torch.full((), FACTOR, device=task.device)
        policy = conf.train.on_nonfinite
        self.guard = Guard(policy, task.device)
        self._step = train_step(
            self.net, loss, self.optimizer, guard=None if policy == "ignore" else self.guard
        )
        hold(self.net, self.optimizer, constants(net.params, conf.train.param_groups, 0.0))
        if compiled:
            self._step = torch.compile(self._step, fullgraph=True, dynamic=False)

    def __call__(self, x: Tensor, target: Tensor):
        return self._step(x, target, self.factor)[:2]

    def standing(self) -> list[Tensor]:
        holders = (vars(self.optimizer), vars(self.guard))  # momentum, and whether all is well
        state = [t for t in tree_leaves(holders) if isinstance(t, Tensor)]
        return [*self.net.params.values(), *self.net.buffers.values(), *state]


class Autograd:
    """The twin's step: torch.nn, torch.optim.SGD, and autograd between them.

    torch.optim has no Muon that serves filters: there it's our own, on autograd's gradients.
    """

    def __init__(self, task: Task, net, loss, compiled: bool):
        self.module, self.loss = to_torch(net), loss
        if task.config.train.channels_last and len(task.shape) == 3:
            self.module.to(memory_format=torch.channels_last)
        still = constants(net.params, task.config.train.param_groups, 0.0)
        for name, p in self.module.named_parameters():
            p.requires_grad_(p.requires_grad and name not in still)
        if task.config.train.optimizer == "sgd":
            groups = parameter_groups(task.config, net, self.module, loss.maximize)
            self.optimizer, kind = fastest(groups)
        else:
            self.optimizer, kind = Ours(task.config, self.module, loss), "our"
        name = task.config.train.optimizer.replace("sgd", "SGD").replace("muon", "Muon")
        self.parts = f"{kind} {name}" + (" outside the graphs of forward and backward" if compiled else "")
        if compiled:
            self.forward = torch.compile(self.forward, fullgraph=True, dynamic=False)

    def __call__(self, x: Tensor, target: Tensor):
        value, hit = self.forward(x, target)
        value.backward()
        self.update()
        return value.detach(), hit

    def forward(self, x: Tensor, target: Tensor):
        z = self.module(x)
        return loss_value(self.loss, z.to(sum_dtype(z)), target), hits(z.detach(), target)

    def update(self):
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # now: no gradient is kept until the next step

    def standing(self) -> list[Tensor]:
        state = [t for t in tree_leaves([*self.optimizer.state.values()]) if isinstance(t, Tensor)]
        return [*self.module.parameters(), *self.module.buffers(), *state]


class Ours:
    """An optimizer of ours, on the parameters of a torch.nn module and the gradients that they hold."""

    def __init__(self, conf: Config, module, loss):
        self.params = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(conf, SimpleNamespace(params=self.params), loss)
        self.factor = torch.full((), FACTOR, device=next(iter(self.params.values())).device)

    @property
    def state(self) -> dict:
        return {"momentum": self.optimizer.velocity}

    @torch.no_grad()
    def step(self):
        self.optimizer.step({name: p.grad for name, p in self.params.items()}, self.factor)

    def zero_grad(self, set_to_none: bool = True):
        for p in self.params.values():
            p.grad = None


def parameter_groups(conf: Config, net, module, maximize: bool, factor: float = FACTOR) -> list[dict]:
    """torch.optim's groups: parameters that share a rate, here times `factor`, momentum and weight decay."""
    t = conf.train
    own = SGD(net.params, t.lr, t.momentum, t.nesterov, t.weight_decay, groups=t.param_groups)
    theirs, groups = dict(module.named_parameters()), {}
    for name, settings in own.settings.items():
        if not theirs[name].requires_grad:
            continue
        groups.setdefault(settings, []).append(theirs[name])
    return [
        dict(
            params=params, lr=rate * factor, momentum=momentum, weight_decay=weight_decay,
            nesterov=t.nesterov and momentum > 0, maximize=maximize,
        )
        for (rate, momentum, weight_decay), params in groups.items()
    ]  # fmt: skip


def fastest(groups: list[dict]):
    """(torch.optim.SGD, which): "fused" or "foreach", whichever updates copies in less time."""
    seconds = {}
    for kind in ("fused", "foreach"):
        copies = [group | {"params": [p.detach().clone() for p in group["params"]]} for group in groups]
        params = [p for group in copies for p in group["params"]]
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer = torch.optim.SGD(copies, lr=0.0, **{kind: True})
        times = []
        for _ in range(12):
            begin = now(params[0].device)
            optimizer.step()
            times.append(now(params[0].device) - begin)
        seconds[kind] = sorted(times)[3]
    best = min(seconds, key=seconds.get)
    return torch.optim.SGD(groups, lr=0.0, **{best: True}), best


def now(device: torch.device) -> float:
    """The time when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
