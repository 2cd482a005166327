"""The decoder: unreadable images, the number of workers, killed workers, the wait timer."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nets.commands import cli
from nets.common.errors import DataError
from nets.data import decoder
from nets.training import config
from tests.data.trees import all_equal, epoch_of, load_stream


def test_a_skipped_image_is_replaced_by_the_next_of_its_class(root):
    for i in (4, 13):
        (root / f"train/bee/{i}.png").write_bytes(b"")
    d = load_stream(root, on_error="skip")
    names = [Path(p).relative_to(root / "train").as_posix() for p in d.train_x.files]
    x, at = d.train_x[:], names.index
    assert torch.equal(x[at("bee/4.png")], x[at("bee/5.png")])
    assert names[at("bee/9.png")] == names[27] and torch.equal(x[at("bee/13.png")], x[at("bee/2.png")])
    with_workers = load_stream(root, on_error="skip", num_workers=2)
    assert all_equal(epoch_of(d)[0], epoch_of(with_workers)[0])
    assert len(d.skipped) == len(with_workers.skipped) == 2
    for p in (root / "train/bee").iterdir():
        p.write_bytes(b"")
    with pytest.raises(DataError, match="no other file of its class can be read"):
        load_stream(root, on_error="skip")


def test_an_image_damaged_during_training_is_counted(root):
    d = load_stream(root, on_error="skip").to("cpu")
    assert d.skipped == {}
    for i in range(3):
        (root / f"train/cow/{i}.png").write_bytes(b"")
    epoch_of(d)  # all but two of the 42 images
    assert d.skipped and all("/train/cow/" in path for path in d.skipped)


def test_a_killed_worker_is_an_error_in_one_line(root, monkeypatch, capsys):
    d = load_stream(root, num_workers=1)
    monkeypatch.setattr(decoder, "decode_for", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(SystemExit) as exit, cli.one_line_errors():
        epoch_of(d)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.startswith("error: data.num_workers: DataLoader worker (pid")


def test_a_decoder_gives_errors_as_text(root):
    d = load_stream(root)
    (root / "train/bee/5.png").write_bytes(b"")
    images, unreadable, error = d.train_x.decoder[None, np.arange(42)]
    assert len(images) == 0 and unreadable == {} and "train/bee/5.png: not a readable image" in error


def test_num_workers_is_the_configs_or_all_cores_less_one(monkeypatch):
    assert decoder.num_workers(config.Data(num_workers=0)) == 0
    assert decoder.num_workers(config.Data(num_workers=40)) == 40
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for cores, want in ((1, 1), (2, 1), (9, 8), (99, 16)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores), raising=False)
        assert decoder.num_workers(config.Data(num_workers=-1)) == want
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "9")  # processes of one machine share its cores
    assert decoder.num_workers(config.Data(num_workers=-1)) == 10


def test_the_wait_timer_adds_up():
    timer = decoder.WaitTimer(torch.device("cpu"))
    assert timer.seconds() == 0
    for _ in range(2):
        with timer:
            time.sleep(0.02)
    assert 0.04 <= timer.seconds() < 1
