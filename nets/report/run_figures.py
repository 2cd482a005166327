"""The figures of a finished run: its curves, and its best and worst guesses."""

from __future__ import annotations

from nets.report import figure
from nets.training.hooks import Hook


class Figures(Hook):
    """A hook that draws curves.png and, for images, top5.png in the run's folder at the end."""

    def after_run(self, run, facts):
        if run.out is None or not run.world.is_main:
            return
        d, z = run.data, run.evaluator.z
        if (
            d.classes
            and d.mean is not None
            and z is not None
            and d.test_x is not None
            and d.test_y is not None
        ):
            z, y = z.cpu(), d.test_y.cpu()
            best, worst = figure.best_and_worst(z, y)
            index = best + worst
            titled = [("The most confident right answers", best), ("The worst mistakes", worst)]
            titled = [(title, [index.index(i) for i in row]) for title, row in titled]
            pixels = d.test_x[index].cpu().numpy()
            figure.top5(run.out / "top5.png", pixels, z[index], d.classes, y[index].tolist(), titled)
        figure.curves(run.out / "curves.png", run.history, run.config.name)
