"""Trees larger than memory: the same batches from any number of workers, and those of a tree in memory."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nets.commands import cli
from nets.common.errors import DataError, Stopped, UsageError
from nets.data import augment, decoder, sampler, stream, tree
from nets.data import datasets as data
from nets.report.run_figures import Figures
from nets.tools import survive
from nets.training import config, log
from nets.training.hooks import Hook
from nets.training.run import Run
from tests.helpers import CUDA
from tests.shell import shell

ROOT = Path(__file__).parents[2]
NET = """
[net]
layers = [
  { type = "Conv2d", out_channels = 4, kernel_size = 3 }, "ReLU", "GlobalAvgPool",
  { type = "Linear", out_features = 3 },
]
[train]
epochs = 2
batch_size = 10
"""


def make_tree(root, count=14, side=12, test="test", names=("ant", "bee", "cow")):
    """Pictures of several shapes, or of one where side is given."""
    rng = np.random.default_rng(0)
    for split, n in (("train", count), (test, 3)):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                h, w = (side, side) if side else rng.integers(9, 40, 2)
                pixels = rng.integers(0, 256, (h, w, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("mixed"), side=None)


def load(root, random_resized_crop=0.0, **options):
    options = {"memory_limit_mb": 0, "num_workers": 0} | options
    augment = config.Augment(random_resized_crop=random_resized_crop)
    return data.load(config.Data(source="folder", root=str(root), **options), augment)


def feed(x, plan, batch, seed, epoch, start=0):
    """An epoch's batches of a stream, or of a tensor."""
    if isinstance(x, stream.ImageStream):
        return x.batches(plan, batch, seed, epoch, start, 0)
    rows = range(start * batch, len(plan.order) - batch + 1, batch)
    return (augment.crop_and_flip(x, plan.batch(i, i + batch)) for i in rows)


def epoch(d, number=0, start=0, seed=3, batch=10, options=None):
    """(the batches' pictures, the plan) of one epoch."""
    plan = sampler.epoch_plan(
        len(d.train_x), d.shape, config.Data(), options or config.Augment(), seed, number, "cpu"
    )
    return list(feed(d.train_x, plan, batch, seed, number, start)), plan


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


def test_a_stream_is_the_tree_in_memory(root):
    options = config.Augment(crop_padding=2, flip="random")
    here, there = load(root, memory_limit_mb=1), load(root)
    assert isinstance(here.train_x, torch.Tensor) and isinstance(there.train_x, stream.ImageStream)
    assert same(epoch(here, options=options)[0], epoch(there, options=options)[0])
    assert len(epoch(there)[0]) == 4  # 42 pictures: two sit this epoch out
    assert torch.equal(here.train_y, there.train_y) and torch.equal(here.test_y, there.test_y)
    assert torch.equal(here.mean, there.mean) and torch.equal(here.std, there.std)
    assert torch.equal(torch.cat([*there.test_x.split(4)]), here.test_x) and len(there.test_x.split(4)) == 3
    assert torch.equal(there.train_x[::5], here.train_x[::5])
    assert torch.equal(there.train_x[[3, 1]], here.train_x[[3, 1]])
    assert there.shape == here.shape == (3, 12, 12) and there.train_x.shape == here.train_x.shape
    assert there.train_x.numel() == here.train_x.numel() and there.num_outputs == 3


@pytest.mark.parametrize(
    "limit, streamed",
    [(0, True), (1, False)],  # MB; 51 pictures of 12 × 12 × 3 are 22 kB
)
def test_the_limit(root, limit, streamed):
    assert isinstance(load(root, memory_limit_mb=limit).train_x, stream.ImageStream) == streamed


def test_any_number_of_workers_gives_the_same_batches(mixed):
    options = {"size": 8, "random_resized_crop": 0.2, "memory_limit_mb": 4000}
    one = load(mixed, **options)
    assert isinstance(one.train_x, stream.ImageStream)  # crops are cut from the whole pictures
    first, second = epoch(one, 0)[0], epoch(one, 1)[0]
    assert not same(first, second) and first[0].shape == (10, 8, 8, 3)
    for count in (1, 4):
        d = load(mixed, num_workers=count, **options)
        assert same(epoch(d, 0)[0], first)
        assert same(epoch(d, 1, start=2)[0], second[2:])  # by workers that have seen another epoch
    half = feed(d.train_x, epoch(d, 0)[1], 10, 3, 0)
    next(half)  # an epoch that is left in the middle
    assert same(epoch(d, 1)[0], second)


def test_a_crop_is_of_seed_epoch_and_picture_alone(mixed):
    d = load(mixed, size=8, random_resized_crop=0.2)

    def by_picture(**options):
        found, plan = epoch(d, **options)
        return dict(zip(plan.order.tolist(), torch.cat(found)))

    def agree(a, b):
        both = a.keys() & b.keys()
        return [torch.equal(a[k], b[k]) for k in both]

    base = by_picture(batch=10)
    assert all(agree(base, by_picture(batch=7)))
    assert sum(agree(base, by_picture(number=1))) < 5 and sum(agree(base, by_picture(seed=4))) < 5


def test_a_crop_is_that_part_of_the_picture(mixed):
    d = load(mixed, size=8, random_resized_crop=0.2)
    found, plan = epoch(d, number=5)
    row = int(plan.order[13])
    with Image.open(d.train_x.files[row]) as image:
        part = augment.random_resized_crop_box(*image.size, 0.2, np.random.default_rng((3, 5, row)))
        want = image.resize((8, 8), Image.Resampling.BILINEAR, part)
    assert np.array_equal(found[1][3].numpy(), np.asarray(want))


def test_boxes():
    """Inside, of the area and shape that were asked for, and as torchvision's on the whole."""
    from torchvision.transforms import RandomResizedCrop

    rng = np.random.default_rng(0)
    boxes = np.array([augment.random_resized_crop_box(400, 300, 0.08, rng) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() == top.min() == 0 and right.max() == 400 and bottom.max() == 300
    w, h = right - left, bottom - top
    assert 0.73 < (w / h).min() < 0.76 and 1.32 < (w / h).max() < 1.36
    assert 0.075 < (w * h).min() / 120_000 < 0.1 and (w * h).max() <= 120_000
    picture = torch.empty(3, 300, 400)
    theirs = [RandomResizedCrop.get_params(picture, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(4000)]
    for ours, other in zip((top, left, h, w), np.array(theirs).T):
        assert abs(ours.mean() - other.mean()) < 5 * other.std() / 4000**0.5 * 2**0.5
    assert augment.random_resized_crop_box(1, 1000, 0.08, rng) == (
        0,
        499,
        1,
        500,
    )  # too narrow for any: the middle
    assert augment.random_resized_crop_box(900, 90, 1.0, rng) == (390, 0, 510, 90)


def test_the_same_run_streamed(root, tmp_path):
    """The whole of a run, and its test again, by workers: the weights of the run in memory."""
    (tmp_path / "net.toml").write_text(
        '[data]\nsource = "folder"\n[augment]\ncrop_padding = 2\ncutout = 3' + NET
    )
    args = ["--data-root", root, "--out", tmp_path, "--device", "cpu", "--set", "data.num_workers=2", "--set"]
    here = shell("train", tmp_path / "net.toml", *args, "name=here")
    there = shell("train", tmp_path / "net.toml", *args, "name=there", "--set", "data.memory_limit_mb=0")
    assert here == there == shell("eval", tmp_path / "there").split("\n\n")[-1]
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("here", "there"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    epochs = [row for row in log.rows(tmp_path / "there") if "epoch" in row]
    assert all(0 < r["wait"] < 1 for r in epochs) and (tmp_path / "there/top5.png").exists()
    assert not any("wait" in row for row in log.rows(tmp_path / "here"))
    here, there = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("here", "there"))
    assert here == there


class Interrupt(Hook):
    """Sends a signal before step `at`, unless that is None."""

    def __init__(self, at):
        self.at = at

    def before_step(self, run):
        if run.at() == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_stream_goes_on_in_the_middle_of_an_epoch(root, tmp_path):
    """With random crops, and with another number of workers."""
    (tmp_path / "net.toml").write_text(
        '[data]\nsource = "folder"\nsize = 9\n[augment]\nrandom_resized_crop = 0.3' + NET
    )
    runs = {}
    for name, workers, at in (("alone", 0, None), ("again", 2, 6), ("again", 1, None)):
        given = [f"data.root={root}", f"data.num_workers={workers}", "train.momentum=0.9"]
        conf = config.load(tmp_path / "net.toml", given)
        hooks = [Figures(), Interrupt(at)]
        run = runs[name] = Run.from_config(conf, torch.device("cpu"), tmp_path / name, hooks=hooks)
        if at is None:
            run.train(resume=True)
        else:
            with pytest.raises(Stopped, match="at step 7 of 8"):
                run.train()
    assert not survive.differences(*(survive.state(tmp_path / name) for name in runs))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_picture_stops_a_stream(root, tmp_path, workers):
    (root / "train/bee/5.png").write_bytes(b"")
    (tmp_path / "net.toml").write_text('[data]\nsource = "folder"\nmemory_limit_mb = 0' + NET)
    args = ["--data-root", root, "--out", tmp_path, "--set", f"data.num_workers={workers}"]
    assert "train/bee/5.png: not a picture" in shell("train", tmp_path / "net.toml", *args, code=3)


@pytest.mark.parametrize("limit", [0, 4000])
def test_bad_pictures_are_skipped_and_counted(root, tmp_path, limit, capfd):
    bad = [root / s for s in ("train/ant/0.png", "train/bee/5.png", "train/bee/13.png", "test/cow/1.png")]
    for p in bad:
        p.write_text("no picture")
    (tmp_path / "net.toml").write_text('[data]\nsource = "folder"\non_error = "skip"' + NET)
    args = ["--data-root", root, "--out", tmp_path, "--set", f"data.memory_limit_mb={limit}"]
    for _ in range(2):  # in memory, the second time from the cache
        out = shell("train", tmp_path / "net.toml", *args, "--force")
        result = json.loads((tmp_path / "net/result.json").read_text())
        assert result["count"] == 8 and "8 test pictures" in out
        assert result["skipped"]["count"] == 4 and set(result["skipped"]["files"]) == {*map(str, bad)}
        assert all("not a picture" in why for why in result["skipped"]["files"].values())
    assert "8 test pictures" in shell("eval", tmp_path / "net")
    args[-1] += ".0"
    shell("train", tmp_path / "net.toml", *args, code=2)


def test_a_skipped_picture_gives_way_to_the_next_of_its_class(root):
    for i in (4, 13):
        (root / f"train/bee/{i}.png").write_bytes(b"")
    d = load(root, on_error="skip")
    names = [Path(p).relative_to(root / "train").as_posix() for p in d.train_x.files]
    x, at = d.train_x[:], names.index
    assert torch.equal(x[at("bee/4.png")], x[at("bee/5.png")])
    assert names[at("bee/9.png")] == names[27] and torch.equal(x[at("bee/13.png")], x[at("bee/2.png")])
    with_workers = load(root, on_error="skip", num_workers=2)
    assert same(epoch(d)[0], epoch(with_workers)[0]) and len(d.skipped) == len(with_workers.skipped) == 2
    for p in (root / "train/bee").iterdir():
        p.write_bytes(b"")
    with pytest.raises(DataError, match="no other file of its class can be read"):
        load(root, on_error="skip")


def test_a_picture_that_goes_bad_while_the_net_trains_is_counted(root):
    d = load(root, on_error="skip").to("cpu")
    assert d.skipped == {}
    for i in range(3):
        (root / f"train/cow/{i}.png").write_bytes(b"")
    epoch(d)  # two of 42 sit it out
    assert d.skipped and all("/train/cow/" in path for path in d.skipped)


@pytest.mark.parametrize("limit", [0, 4000])
def test_pictures_of_several_sizes(mixed, limit):
    with pytest.raises(DataError, match="set data.size"):
        epoch(load(mixed, memory_limit_mb=limit, on_error="skip"))


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "needs data.size"),
        (["data.size=8"], "digits is not read from a folder"),
    ],
)
def test_random_resized_crop_is_refused_without_a_size_or_a_folder(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        conf = config.load("configs/digits.toml", ["augment.random_resized_crop=0.5", *options])
        Run.from_config(conf, torch.device("cpu"), tmp_path)


def test_a_worker_that_is_killed(root, monkeypatch, capsys):
    d = load(root, num_workers=1)
    monkeypatch.setattr(decoder, "decode", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(SystemExit) as left, cli.one_line_errors():
        epoch(d)
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.startswith("error: data.num_workers: DataLoader worker (pid")


def test_an_interrupted_run_leaves_no_worker(root, tmp_path):
    (tmp_path / "net.toml").write_text(
        '[data]\nsource = "folder"\nmemory_limit_mb = 0\nnum_workers = 2' + NET
    )
    args = [sys.executable, "train.py", str(tmp_path / "net.toml"), "--data-root", str(root)]
    args += ["--device", "cpu", "--set", "train.epochs=100000", "--out", str(tmp_path)]
    own = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(args, cwd=ROOT, **own) as process:
        lines, begin = tmp_path / "net/metrics.jsonl", time.monotonic()
        while not (lines.exists() and lines.stat().st_size) and time.monotonic() - begin < 100:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert re.fullmatch(r"error: interrupted at step \d+ of 400000; go on with --resume\n", error), error
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_names_of_files_are_bytes_in_one_array(tmp_path):
    groups = [["a/x.png", "a/\udcff ü.png"], ["b/" + "y" * 200], ["c/z"]]
    files = tree.FileList.from_groups(tmp_path, groups)
    paths = [f"{tmp_path}/{name}" for group in groups for name in group]
    assert [*files] == paths and files.y.tolist() == [0, 0, 1, 2]
    assert files.names.nbytes == sum(len(os.fsencode(n)) for g in groups for n in g)
    fewer = files.without([1, 3])
    assert [*fewer] == [paths[0], paths[2]] and fewer.y.tolist() == [0, 1]
    assert [*files.without([])] == paths


def test_val_in_place_of_test(tmp_path):
    make_tree(tmp_path, count=2, test="val")
    assert len(load(tmp_path).test_x) == 9
    (tmp_path / "test").mkdir()  # ImageNet's: pictures without labels
    Image.new("RGB", (12, 12)).save(tmp_path / "test" / "a.png")
    assert len(load(tmp_path).test_x) == 9
    assert len(load(tmp_path, memory_limit_mb=9).test_x) == 9


def bench(root, conf, *args):
    """The rows that stream_bench prints: [[workers, pictures/s, waited, peak], ...]."""
    line = [sys.executable, "-m", "nets", "stream-bench", str(conf), "--data-root", str(root), *args]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[0] == "workers"
    return [[float(s.rstrip("%").replace(",", "")) for s in row.split()] for row in rows]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_tree(tmp_path):
    """Every picture of ten times the pictures read, in the same memory. In full: see the README."""
    net = NET.replace("batch_size = 10", "batch_size = 60")
    (tmp_path / "net.toml").write_text('[data]\nsource = "folder"' + net)
    peaks = []
    for count in (300, 3000):
        root = make_tree(tmp_path / str(count), count=1)
        for i in range(1, count):
            for name in ("ant", "bee", "cow"):
                (root / f"train/{name}/{i}.png").symlink_to(root / f"train/{name}/0.png")
        steps = 3 * count // 60 - 5
        args = ["--workers", "1", "--steps", str(steps), "--device", "cpu"]
        [[workers, pace, waited, peak]] = bench(root, tmp_path / "net.toml", *args)
        assert workers == 1 and pace > 0 and 0 <= waited <= 100 and 50 < peak < 2000
        peaks.append(peak)
    assert abs(peaks[1] / peaks[0] - 1) < 0.05


@CUDA
def test_on_cuda(mixed):
    d = load(mixed, size=8, random_resized_crop=0.2, num_workers=2)
    want, plan = epoch(d)
    x = d.train_x.to("cuda")
    plan = sampler.epoch_plan(len(x), d.shape, config.Data(), config.Augment(), 3, 0, "cuda")
    got = [*x.batches(plan, 10, 3, 0)]
    assert all(b.device.type == "cuda" for b in got) and same([b.cpu() for b in got], want)
    assert x.wait_timer.seconds() > 0 and x[:2].device.type == "cuda"
