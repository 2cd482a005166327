"""The time of a step, by layer and direction, or by kernel where layers are fused."""

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from nets.bench import measure
from nets.bench.forms import now
from nets.gradcheck.trace import named_layers
from nets.layers.containers import Net


def labels(net) -> dict[str, str]:
    """path -> "path (Type)" of every layer that isn't a net. The torch.nn modules have the same paths."""
    found = [label for label, layer in named_layers(net) if not isinstance(layer, Net)]
    return {label.split(" ")[0]: label for label in found}


def manual(runner, steps: int) -> dict:
    """Times of the manual step: a clock around each layer's forward and backward, and the update."""
    layers = {label: layer for label, layer in named_layers(runner.net) if not isinstance(layer, Net)}
    clock = _Clock(runner.device, layers)
    timed = [(layer, "forward", f"{label}, forward") for label, layer in layers.items()]
    timed += [(layer, "backward", f"{label}, backward") for label, layer in layers.items()]
    timed.append((runner.trainer.optimizer, "step", "update"))
    for owner, name, key in timed:
        setattr(owner, name, clock.around(getattr(owner, name), key))
    try:
        for _ in range(steps):
            clock.step(lambda: runner.step(runner.x, runner.target))
    finally:
        for owner, name, _ in timed:
            delattr(owner, name)
    return clock.table()


def autograd(runner, steps: int) -> dict:
    """Times of the autograd step.

    Hooks before and after a module time its forward. Its backward lasts from when its dy is known
    to when the next module's dy is, or to the update.
    """
    trainer, modules = runner.trainer, dict(runner.trainer.module.named_modules())
    leaves = {runner.labels[path]: m for path, m in modules.items() if path in runner.labels}
    clock, stamps, hooks = _Clock(runner.device, leaves), [], []

    def watch(label, module):
        def before(*_):
            stamps.append((now(runner.device), None))

        def after(_, inputs, y):
            clock.add(f"{label}, forward", now(runner.device) - stamps.pop()[0])
            if y.requires_grad:
                y.register_hook(lambda dy: stamps.append((now(runner.device), f"{label}, backward")))

        hooks.extend([module.register_forward_pre_hook(before), module.register_forward_hook(after)])

    def run():
        value, _ = trainer.forward(runner.x, runner.target)
        value.backward()
        stamps.append((now(runner.device), "update"))
        trainer.update()
        stamps.append((now(runner.device), None))
        for (begin, key), (end, _) in pairwise(stamps):
            clock.add(key, end - begin)
        stamps.clear()

    for label, module in leaves.items():
        watch(label, module)
    try:
        for _ in range(steps):
            clock.step(run)
    finally:
        for hook in hooks:
            hook.remove()
    return clock.table()


def by_kernel(step: Callable, device, steps: int) -> dict:
    """Milliseconds of a step in each kernel or operator, the largest first."""
    found = defaultdict(list)
    for _ in range(steps):
        for name, times in measure.kernel_times(measure.profile_step(step, device), device).items():
            found[name].append((sum(times), len(times)))
    kernels = [{"kernel": k, "ms": median(t for t, _ in v), "launches": v[0][1]} for k, v in found.items()]
    return {"kernels": sorted(kernels, key=lambda kernel: -kernel["ms"])}


class _Clock:
    """Times by key: summed within a step, the median over steps."""

    def __init__(self, device, layers):
        self.device, self.names = device, list(layers)
        self.current, self.all, self.steps = defaultdict(float), [], []

    def add(self, key: str, seconds: float):
        self.current[key] += seconds

    def around(self, function: Callable, key: str) -> Callable:
        """The function, with its time added to the key."""

        def timed(*args, **kwargs):
            begin = now(self.device)
            out = function(*args, **kwargs)
            self.add(key, now(self.device) - begin)
            return out

        return timed

    def step(self, run: Callable):
        begin = now(self.device)
        run()
        self.steps.append(now(self.device) - begin)
        self.all.append(dict(self.current))
        self.current.clear()

    def table(self) -> dict:
        def ms(key):
            return 1e3 * median(times.get(key, 0.0) for times in self.all)

        layers = [
            {"layer": name, "forward_ms": ms(f"{name}, forward"), "backward_ms": ms(f"{name}, backward")}
            for name in self.names
        ]
        inside = sum(layer["forward_ms"] + layer["backward_ms"] for layer in layers) + ms("update")
        total = 1e3 * median(self.steps)
        rest = max(0.0, total - inside)
        return {"layers": layers, "update_ms": ms("update"), "rest_ms": rest, "step_ms": total}
