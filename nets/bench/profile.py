"""Where a step's time goes: by layer, forward and backward apart, or by kernel where it is fused."""

from collections import defaultdict
from statistics import median

from nets.bench import measure
from nets.bench.forms import now
from nets.gradcheck.trace import named_layers
from nets.layers.containers import Net


def labels(net) -> dict[str, str]:
    """path -> "path (Type)" of every layer that isn't a net; the twin's modules have these paths too."""
    found = [label for label, layer in named_layers(net) if not isinstance(layer, Net)]
    return {label.split(" ")[0]: label for label in found}


def manual(rival, steps: int) -> dict:
    """Each layer's forward and backward with a clock around it."""
    layers = {label: layer for label, layer in named_layers(rival.net) if not isinstance(layer, Net)}
    clock = _Clock(rival.device, layers)
    timed = [(layer, "forward", f"{label}, forward") for label, layer in layers.items()]
    timed += [(layer, "backward", f"{label}, backward") for label, layer in layers.items()]
    timed.append((rival.made.optimizer, "step", "update"))
    for owner, name, key in timed:
        setattr(owner, name, clock.around(getattr(owner, name), key))
    try:
        for _ in range(steps):
            clock.step(lambda: rival.step(rival.x, rival.target))
    finally:
        for owner, name, _ in timed:
            delattr(owner, name)
    return clock.table()


def autograd(rival, steps: int) -> dict:
    """The twin's: forward by hooks; backward from when a layer's dy is there to when its dx is."""
    step, modules = rival.made, dict(rival.made.module.named_modules())
    leaves = {rival.labels[path]: m for path, m in modules.items() if path in rival.labels}
    clock, stamps, hooks = _Clock(rival.device, leaves), [], []

    def watch(label, module):
        def before(*_):
            stamps.append((now(rival.device), None))

        def after(_, inputs, y):
            clock.add(f"{label}, forward", now(rival.device) - stamps.pop()[0])
            if y.requires_grad:
                y.register_hook(lambda dy: stamps.append((now(rival.device), f"{label}, backward")))

        hooks.extend([module.register_forward_pre_hook(before), module.register_forward_hook(after)])

    def run():
        value, _ = step.forward(rival.x, rival.target)
        value.backward()
        stamps.append((now(rival.device), "update"))
        step.update()
        stamps.append((now(rival.device), None))
        for (begin, key), (end, _) in zip(stamps, stamps[1:]):
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


def by_kernel(step, device, steps: int) -> dict:
    """Milliseconds in each kernel or operator, a step, the dearest first."""
    found = defaultdict(list)
    for _ in range(steps):
        for name, times in measure.kernels(measure.recorded(step, device), device).items():
            found[name].append((sum(times), len(times)))
    rows = [{"kernel": k, "ms": median(t for t, _ in v), "launches": v[0][1]} for k, v in found.items()]
    return {"kernels": sorted(rows, key=lambda row: -row["ms"])}


class _Clock:
    """Times by key: added up within a step, the median over steps."""

    def __init__(self, device, layers):
        self.device, self.names = device, list(layers)
        self.now, self.all, self.steps = defaultdict(float), [], []

    def add(self, key: str, seconds: float):
        self.now[key] += seconds

    def around(self, function, key: str):
        def timed(*args):
            begin = now(self.device)
            out = function(*args)
            self.add(key, now(self.device) - begin)
            return out

        return timed

    def step(self, run):
        begin = now(self.device)
        run()
        self.steps.append(now(self.device) - begin)
        self.all.append(dict(self.now))
        self.now.clear()

    def table(self) -> dict:
        def ms(key):
            return 1e3 * median(times.get(key, 0.0) for times in self.all)

        layers = [
            {"layer": name, "forward_ms": ms(f"{name}, forward"), "backward_ms": ms(f"{name}, backward")}
            for name in self.names
        ]
        inside = sum(row["forward_ms"] + row["backward_ms"] for row in layers) + ms("update")
        total = 1e3 * median(self.steps)
        rest = max(0.0, total - inside)
        return {"layers": layers, "update_ms": ms("update"), "rest_ms": rest, "step_ms": total}
