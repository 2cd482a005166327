"""The forms: one train step of the same net, manual or autograd, eager or compiled."""

import math
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nets.common.errors import UsageError, nearest
from nets.data import augment
from nets.kernels import lower
from nets.layers.base import sum_dtype
from nets.layers.to_module import to_module
from nets.optim.param_groups import frozen_names
from nets.optim.sgd import SGD
from nets.training.config import Config
from nets.training.guard import Guard
from nets.training.make import make_loss, make_net, make_optimizer
from nets.training.step import num_correct, train_step

SIDES, MODES = ("manual", "autograd"), ("", "-compiled", "-graph", "-compiled-graph")
NAMES = [side + mode for mode in MODES for side in SIDES]
# times the config's learning rate: small, as in the first steps of a warmup, so that no net diverges
LR_FACTOR = 1 / 16


@dataclass(frozen=True)
class Form:
    """One way to compute a train step.

    side          "manual" or "autograd"
    mode          "" for eager, or one of MODES
    keep          does the C library keep freed memory?
    keep_in_name  does the name say that it does?
    """

    side: str
    mode: str = ""
    keep: bool = False
    keep_in_name: bool = False

    @property
    def name(self) -> str:
        return self.side + self.mode + ("+keep" if self.keep_in_name else "")

    @property
    def compiled(self) -> bool:
        return "-compiled" in self.mode

    @property
    def captured(self) -> bool:
        return "-graph" in self.mode


@dataclass(frozen=True)
class Task:
    """The work of every form: a config's step on one batch of samples of `shape`, on a device."""

    config: Config
    shape: tuple[int, ...]
    outputs: int
    device: torch.device


def select_forms(names: str, allocator: str, device: torch.device) -> list[Form]:
    """The forms in a comma-separated list; by default all forms that the device supports.

    allocator  what the C library does with freed memory on a CPU. "default": the manual forms keep
               it, as the trainer does, and the autograd forms use the library's default. "keep":
               all forms keep it. "both": the autograd forms run both ways. On CUDA this has no
               effect: PyTorch's allocator keeps freed memory.
    """
    supported = NAMES if device.type == "cuda" else NAMES[:4]
    forms = []
    for name in names.split(",") if names else supported:
        if name not in NAMES:
            raise UsageError(f'--forms: unknown form "{name}"{nearest(name, NAMES)}')
        if name not in supported:
            raise UsageError(f"--forms: {name} needs a CUDA device")
        side, dash, mode = name.partition("-")
        form = Form(side, dash + mode, keep=side == "manual" or allocator == "keep")
        forms.append(form)
        if side == "autograd" and allocator == "both" and device.type == "cpu":
            forms.append(replace(form, keep=True, keep_in_name=True))
    if len(set(forms)) < len(forms):
        raise UsageError(f"--forms {names}: a form is named twice")
    return forms


def prepare(task: Task):
    """(net, loss, x, target): bit-identical for every form."""
    conf, batch = task.config, task.config.train.batch_size
    net, dtype = make_net(conf, task.shape, task.outputs), getattr(torch, conf.train.dtype)
    generator = torch.Generator().manual_seed(conf.seed)
    if len(task.shape) == 3:
        c, h, w = task.shape
        bytes_ = torch.randint(256, (batch, h, w, c), dtype=torch.uint8, generator=generator)
        mean = torch.full((c,), 0.5)
        x = augment.normalize(bytes_, mean, mean / math.sqrt(3), dtype, conf.train.channels_last)
        target = torch.randint(task.outputs, (batch,), generator=generator)
    else:
        x = torch.rand(batch, *task.shape, generator=generator).to(dtype)
        target = torch.rand(batch, task.outputs, generator=generator)
    first = next(iter(net.children.values()))
    if fit := getattr(first, "fit", None):
        fit(x.float())
    net.to(task.device, torch.promote_types(dtype, torch.float32))
    return net, make_loss(conf, len(task.shape) == 3), x.to(task.device), target.to(task.device)


class Manual:
    """The trainer's step: hand-written gradients, with the trainer's check for non-finite values."""

    def __init__(self, task: Task, net, loss, compiled: bool):
        conf = task.config
        self.net = lower(net, conf.net.backend, task.device, getattr(torch, conf.train.dtype))
        self.optimizer = make_optimizer(conf, net, loss)
        self.parts = "forward, loss, backward and update in one graph" if compiled else ""
        self.lr_factor = torch.full((), LR_FACTOR, device=task.device)
        policy = conf.train.on_nonfinite
        self.guard = Guard(policy, task.device)
        self._step = train_step(
            self.net, loss, self.optimizer, guard=None if policy == "ignore" else self.guard
        )
        self.frozen = frozen_names(net.params, conf.train.param_groups, 0.0)
        if compiled:
            self._step = torch.compile(self._step, fullgraph=True, dynamic=False)

    def __call__(self, x: Tensor, target: Tensor):
        return self._step(x, target, self.lr_factor, frozen=self.frozen)[:2]

    def persistent_tensors(self) -> list[Tensor]:
        """Tensors that live between steps: weights, buffers, momentum, and the guard's state."""
        holders = (vars(self.optimizer), vars(self.guard))
        state = [t for t in tree_leaves(holders) if isinstance(t, Tensor)]
        return [*self.net.params.values(), *self.net.buffers.values(), *state]


class Autograd:
    """The same step with torch.nn, autograd and torch.optim.SGD.

    torch.optim's Muon takes no convolution filters. With Muon, this package's optimizer runs on
    autograd's gradients.
    """

    def __init__(self, task: Task, net, loss, compiled: bool):
        self.module, self.loss = to_module(net), loss
        if task.config.train.channels_last and len(task.shape) == 3:
            self.module.to(memory_format=torch.channels_last)
        frozen = frozen_names(net.params, task.config.train.param_groups, 0.0)
        for name, p in self.module.named_parameters():
            p.requires_grad_(p.requires_grad and name not in frozen)
        if task.config.train.optimizer == "sgd":
            groups = parameter_groups(task.config, net, self.module, loss.maximize)
            self.optimizer, kind = fastest_sgd(groups)
        else:
            self.optimizer, kind = OwnOptimizer(task.config, self.module, loss), "our"
        name = task.config.train.optimizer.replace("sgd", "SGD").replace("muon", "Muon")
        self.parts = f"{kind} {name}" + (" outside the graphs of forward and backward" if compiled else "")
        if compiled:
            self.forward = torch.compile(self.forward, fullgraph=True, dynamic=False)

    def __call__(self, x: Tensor, target: Tensor):
        value, correct = self.forward(x, target)
        value.backward()
        self.update()
        return value.detach(), correct

    def forward(self, x: Tensor, target: Tensor):
        z = self.module(x)
        return self.loss.torch_loss(z.to(sum_dtype(z)), target), num_correct(z.detach(), target)

    def update(self):
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # frees the gradients before the next step

    def persistent_tensors(self) -> list[Tensor]:
        """Tensors that live between steps: weights, buffers and momentum."""
        state = [t for t in tree_leaves([*self.optimizer.state.values()]) if isinstance(t, Tensor)]
        return [*self.module.parameters(), *self.module.buffers(), *state]


class OwnOptimizer:
    """An optimizer of this package, with torch.optim's interface, for the parameters of a torch.nn module."""

    def __init__(self, conf: Config, module, loss):
        self.params = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(conf, SimpleNamespace(params=self.params), loss)
        self.lr_factor = torch.full((), LR_FACTOR, device=next(iter(self.params.values())).device)

    @property
    def state(self) -> dict:
        return self.optimizer.state()

    @torch.no_grad()
    def step(self):
        self.optimizer.step({name: p.grad for name, p in self.params.items()}, self.lr_factor)

    def zero_grad(self, set_to_none: bool = True):
        for p in self.params.values():
            p.grad = None


def parameter_groups(conf: Config, net, module, maximize: bool, lr_factor: float = LR_FACTOR) -> list[dict]:
    """torch.optim's groups: parameters with the same learning rate, momentum and weight decay.

    lr_factor multiplies the learning rate.
    """
    t = conf.train
    own = SGD(net.params, t.lr, t.momentum, t.nesterov, t.weight_decay, param_groups=t.param_groups)
    theirs, groups = dict(module.named_parameters()), {}
    for name, settings in own.settings.items():
        if not theirs[name].requires_grad:
            continue
        groups.setdefault(settings, []).append(theirs[name])
    return [
        dict(
            params=params, lr=lr * lr_factor, momentum=momentum, weight_decay=weight_decay,
            nesterov=t.nesterov and momentum > 0, maximize=maximize,
        )
        for (lr, momentum, weight_decay), params in groups.items()
    ]  # fmt: skip


def fastest_sgd(groups: list[dict]) -> tuple[torch.optim.SGD, str]:
    """(torch.optim.SGD, its kind): "fused" or "foreach", the kind that updates copies in less time."""
    seconds: dict[str, float] = {}
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
    best = min(seconds, key=lambda kind: seconds[kind])
    return torch.optim.SGD(groups, lr=0.0, **{best: True}), best


def dropout_layers(net) -> list:
    """The layers that drop values at random."""
    return [layer for layer in net.walk() if getattr(layer, "p", 0)]


def turn_off_dropout(net):
    """Set every dropout probability of the net to 0."""
    for layer in dropout_layers(net):
        layer.p, layer.scale = 0.0, 1.0


def now(device: torch.device) -> float:
    """A clock in seconds, read when the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
