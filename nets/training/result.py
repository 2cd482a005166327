"""result.json: the metrics of a finished run and the facts about it."""

import json
from pathlib import Path

from nets.common import files
from nets.common.device import device_name, versions
from nets.data import stream
from nets.data.datasets import Dataset
from nets.training.config import Config
from nets.training.metrics import Metrics, OutputMetrics

RESULT = "result.json"


def write(
    out: Path, config: Config, data: Dataset, result: Metrics | OutputMetrics | None, facts: dict, device
):
    """result: on the test set, if there is one. facts: more of them. A run with this file is finished."""
    facts = (result.facts(data.classes) if result else {}) | facts
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
    if data.left_out:
        facts["left_out"] = data.left_out
    files.write_text(out / RESULT, json.dumps(facts, indent=2) + "\n")
