"""The picture of nets/distributed/plan.py's model, and the work of a config's net."""

from matplotlib.figure import Figure

from nets.distributed.plan import Machine, Work, step
from nets.report import summary
from nets.report.figure import save


def work(conf) -> Work:
    """The multiplications and weights of a config's layers."""
    return Work(conf.name, tuple((line.products, line.parameters) for line in summary.of(conf)))


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
