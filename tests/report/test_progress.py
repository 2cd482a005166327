"""The status line of a run."""

from nets.report.progress import status
from tests.log_entries import facts, log_of, times


def test_status_has_progress_times_and_speed():
    entries = log_of(epochs=3, per_epoch=20, every=5)  # a step takes a tenth of a second
    speed = ["5,120 images/s", "812 MB"]
    clocks = ["0:00:06 so far", "about 0:00:14 left"]
    assert status(entries, 10) == ["3 of 10 epochs", "step 60 of about 200", *clocks, *speed]
    assert status(entries, 3) == ["3 of 3 epochs", "step 60", clocks[0], *speed]
    assert status([facts(5)], 10) == ["0 of 10 epochs", "step 5"]
    entries[0]["seconds"] = None
    entries += [facts(65) | times(65), facts(70) | {"step": 70}]  # without times, which aren't written yet
    assert status(entries, 10)[1:4] == ["step 70 of about 200", *clocks]
    slow = [r | {"seconds": 100 + r["seconds"] if r["step"] > 5 else 100} for r in log_of()]
    assert status(slow, 10)[2:4] == [
        "0:01:46 so far",
        "about 0:00:14 left",
    ]  # the first steps included compilation
    toy = [{"step": 9, "epoch": 1, "loss": -1.0, "largest_error": 0.5} | times(9)]
    assert "5,120 samples/s" in status(toy, 10)
