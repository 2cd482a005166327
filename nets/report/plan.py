"""The table and the figure of nets/distributed/plan.py's model, and the work of a config's net."""

from matplotlib.figure import Figure

from nets.distributed.plan import Machine, Work, step
from nets.report import summary
from nets.report.figure import save
from nets.report.tables import grid


def work(conf) -> Work:
    """The multiplications and weights of a config's layers."""
    return Work(conf.name, tuple((line.products, line.parameters) for line in summary.of(conf)))


def table(work: Work, batch: float, machines: dict[str, Machine], counts=(1, 2, 4, 8, 16, 64, 256)) -> str:
    """Milliseconds a step, and how much faster than one process, with the global batch as it is."""
    rows = [("GPUs", "batch each", *(f"{name}: ms, times faster, waits" for name in machines))]
    for n in counts:
        if batch / n < 1:
            break
        cells = []
        for m in machines.values():
            s = step(work, batch, n, m)
            faster = step(work, batch, 1, m).seconds / s.seconds
            cells.append(f"{1e3 * s.seconds:,.2f}, {faster:,.1f}, {s.waits / s.seconds:.0%}")
        rows.append((f"{n}", f"{batch / n:,.0f}", *cells))
    return grid(rows, left=())


def draw(path, plans, machines: dict[str, Machine], counts=tuple(2**k for k in range(9))):
    """Draw the speedup of N GPUs over one. plans: pairs (work, global batch), an axes each."""
    figure = Figure(figsize=(3.1 * len(plans), 3.4), layout="constrained")
    for axes, (work, batch) in zip(figure.subplots(1, len(plans), sharey=True), plans):
        some = [n for n in counts if batch / n >= 1]
        axes.plot(some, some, color="#bbbbbb", lw=1, label="N times")
        one = step(work, batch, 1, next(iter(machines.values()))).seconds
        for (name, m), color in zip(machines.items(), ("#d1495b", "#6c8ebf", "#333333")):
            axes.plot(some, [one / step(work, batch, n, m).seconds for n in some], color=color, label=name)
        axes.set(xscale="log", yscale="log", xlabel="GPUs", ylim=(0.02, 300))
        axes.set_title(f"{work.name}, batches of {batch:,}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
    figure.axes[0].set_ylabel("times faster than one")
    figure.axes[0].legend(frameon=False, fontsize=8)
    save(figure, path)
