"""What a finished run leaves: its figures, and the facts in result.json."""

import json
from pathlib import Path

from nets.common import files
from nets.common.device import device_name, versions
from nets.data import stream
from nets.data.datasets import Dataset
from nets.training.config import Config


def write(out: Path, config: Config, data: Dataset, z, result, rows: list[dict], facts: dict, device):
    """result: a report on the net's outputs z (N, outputs); rows: of metrics.jsonl; facts: more of them."""
    from nets.report import figure  # imports matplotlib, which only figures need

    if data.classes:
        z, y = z.cpu(), data.test_y.cpu()
        best, worst = figure.best_and_worst(z, y)
        index = best + worst
        titled = [("The most confident right answers", best), ("The worst mistakes", worst)]
        titled = [(title, [index.index(i) for i in row]) for title, row in titled]
        pictures = data.test_x[index].cpu().numpy()
        figure.top5(out / "top5.png", pictures, z[index], data.classes, y[index].tolist(), titled)
    facts = result.facts(data.classes) | facts
    facts |= {
        "name": config.name,
        "device": device_name(device),
        "dtype": config.train.dtype,
        "seed": config.seed,
        "versions": versions(),
    }
    if config.data.on_error == "skip":
        facts["skipped"] = {"count": len(data.skipped), "files": data.skipped}
        stream.report_skipped(data.skipped)
    figure.curves(out / "curves.png", rows, config.name)
    files.write_text(out / "result.json", json.dumps(facts, indent=2) + "\n")  # last: now it is finished
