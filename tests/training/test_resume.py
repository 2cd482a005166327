"""A stopped run resumes bit-identically, and a step that isn't finite changes nothing."""

import dataclasses
import json
import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from nets.common import files, tensorfile
from nets.common.errors import CheckpointError, DataError, NonFiniteError, Stopped, UsageError
from nets.data import datasets as data
from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.report import figure
from nets.report.run_figures import Figures
from nets.tools import survive
from nets.training import checkpoint, config, lock, predict
from nets.training.guard import Guard
from nets.training.hooks import Evaluate, Hook
from nets.training.make import make_loss, make_net, make_optimizer
from nets.training.metrics import RunningMetrics
from nets.training.run import Run
from nets.training.signals import Stop
from nets.training.step import train_step

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
QUICK = ["train.epochs=3", "train.batch_size=256", "log.every_steps=2", "checkpoint.every_seconds=0"]
MUON = [
    "train.optimizer=muon",
    "train.lr=0.02",
    'train.param_groups=[{ match = ["0.*"], until_epoch = 1.5 }]',
]
RUNS = {
    "dropout": ("digits", []),
    "varied": ("digits", ["augment.flip=alternating", "augment.cutout=3", "train.dtype=bfloat16"]),
    "selective": ("digits", ["train.skip_fraction=0.8", "train.skip_after_epochs=1"]),
    "muon": ("digits", MUON),
    "eval every second epoch": ("digits", ["train.eval_every=2", "eval.tta=flip"]),
    "skipping": ("digits", ["train.on_nonfinite=skip"]),
    "ignoring": ("digits", ["train.on_nonfinite=ignore"]),
    "adaptive": ("cross", ["train.epochs=12", "train.optimizer=adaptive", "train.batch_size=4"]),
}


class Gone(BaseException):
    """The process ends without saving."""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing a figure takes longer than the run."""
    monkeypatch.setattr(figure, "top5", lambda path, *_: Path(path).write_bytes(b"png"))
    kept = ("epoch", "loss", "train_top1", "top1")

    def curves(path, rows, _):
        Path(path).write_text(str([[r.get(k) for k in kept] for r in rows]))

    monkeypatch.setattr(figure, "curves", curves)


def make(name, overrides=()):
    file, own = RUNS.get(name, ("digits", []))
    return config.load(ROOT / f"configs/{file}.toml", [*QUICK, *own, *overrides])


def run_of(conf, out, *hooks):
    return Run.from_config(conf, CPU, out, hooks=[Figures(), *hooks])


def ended(conf, out, at, end):
    """A run that `end(run)` ends at step `at`."""
    return run_of(conf, out, End(at, end))


class End(Hook):
    """Calls end(run) before a step."""

    def __init__(self, at, end):
        self.at, self.end = at, end

    def before_step(self, run):
        if run.at() == self.at:
            self.end(run)


def gone(run):
    raise Gone


def stop(run):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_and_killed_run_resumes_bit_identically(name, tmp_path):
    conf = make(name)
    run_of(conf, tmp_path / "alone").train()
    whole = survive.state(tmp_path / "alone")
    assert len(whole["metrics.jsonl"].splitlines()) >= 8
    steps = json.loads(whole["metrics.jsonl"].splitlines()[-1])["step"]
    with pytest.raises(Stopped) as caught:
        ended(conf, tmp_path / "again", steps // 3, stop).train()
    assert caught.value.code == 143 and f"at step {steps // 3 + 1} of {steps}" in str(caught.value)
    # again, this time without saving, two steps after a checkpoint
    later = dataclasses.replace(conf, checkpoint=config.Checkpoint(every_steps=3, every_seconds=1e9))
    with pytest.raises(Gone):
        ended(later, tmp_path / "again", steps // 2 // 3 * 3 + 2, gone).train(resume=True)
    run_of(conf, tmp_path / "again").train(resume=True)
    assert not survive.differences(whole, survive.state(tmp_path / "again"))


def test_differences_between_two_runs_are_named(tmp_path):
    """Checks the comparison itself, with two seeds."""
    for seed in (0, 1):
        run_of(make("", [f"seed={seed}", "train.epochs=1"]), tmp_path / str(seed)).train()
    a, b = (survive.state(tmp_path / str(seed)) for seed in (0, 1))
    found = survive.differences(a, b)
    assert {"net.0.weight", "optimizer.velocity.0.weight", "metrics.jsonl", "random.cpu", "words"} <= set(
        found
    )


@pytest.mark.parametrize(
    "lost", ["random.cpu", "optimizer.velocity.13.weight", "net.1.running_mean", "log.steps"]
)
def test_every_saved_tensor_is_needed(lost, tmp_path, monkeypatch):
    """With one tensor set back to its initial value, the resumed run differs."""
    conf = make("")
    run_of(conf, tmp_path / "alone").train()
    with pytest.raises(Stopped):
        ended(conf, tmp_path / "again", 6, stop).train()
    tensors, words = tensorfile.read(tmp_path / "again/last.safetensors")
    tensors[lost] = (
        torch.Generator().get_state()[None] if lost == "random.cpu" else torch.zeros_like(tensors[lost])
    )
    tensorfile.save(tmp_path / "again/last.safetensors", tensors, words)
    run_of(conf, tmp_path / "again").train(resume=True)
    assert survive.differences(*(survive.state(tmp_path / name) for name in ("alone", "again")))


def test_a_run_stopped_in_a_test_resumes_bit_identically(tmp_path, monkeypatch):
    conf = make("", ["train.epochs=2"])
    run_of(conf, tmp_path / "alone").train()
    run, test = run_of(conf, tmp_path / "again"), Evaluate.test

    def stopped(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return test(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluate, "test", stopped)
        with pytest.raises(Stopped, match="interrupted at step 5 of 10"):
            run.train()
    assert run.net.training
    run_of(conf, tmp_path / "again").train(resume=True)
    assert not survive.differences(*(survive.state(tmp_path / name) for name in ("alone", "again")))


@pytest.mark.deep
def test_a_killed_process_resumes_bit_identically(tmp_path):
    """The short form of `nets survive`, SIGKILL and all."""
    conf = config.load(ROOT / "configs/digits.toml", [*survive.SETTINGS, "train.epochs=2"])
    found = dict(survive.survive(conf, CPU, tmp_path, kills=2, saves=2))
    assert len(found) == 4 and not any(found.values()), found


def test_the_best_checkpoint_is_kept_beside_the_last(tmp_path, monkeypatch):
    run = run_of(make("", ["train.epochs=4"]), tmp_path)
    scores, real = iter([0.2, 0.5, 0.4, 0.5]), Evaluate.test
    monkeypatch.setattr(Evaluate, "test", lambda *args: dataclasses.replace(real(*args), top1=next(scores)))
    run.train()
    best, last = (tensorfile.read(tmp_path / f"{name}.safetensors")[1] for name in ("best", "last"))
    assert (best["progress"]["epoch"], best["hooks"]["evaluate"]["best"]) == (2, 0.5)
    assert (last["progress"]["epoch"], last["hooks"]["evaluate"]["best"]) == (4, 0.5)
    kept, newest = (predict.Trained(tmp_path, CPU, best).net.params for best in (True, False))
    assert all(torch.equal(newest[k], w) for k, w in run.net.params.items())
    assert not any(torch.equal(newest[k], w) for k, w in kept.items())


def test_checkpoints_by_steps_and_by_seconds(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda run, path: saved.append(run.at()))
    monkeypatch.setattr(files, "link", lambda *_: None)
    own = ["train.epochs=2", "train.eval_every=9", "checkpoint.every_steps=4", "checkpoint.every_seconds=1e9"]
    run_of(make("", own), tmp_path / "a").train()
    assert saved == [0, 4, 8, 10]
    saved.clear()
    run_of(make("", [*own[:2], "checkpoint.every_seconds=0"]), tmp_path / "b").train()
    assert saved == [
        0,
        1,
        2,
        3,
        4,
        5,
        5,
        6,
        7,
        8,
        9,
        10,
        10,
    ]  # after an epoch's last step, and after its test


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stopped):
        ended(make(""), out, 7, stop).train()
    return out


def test_an_earlier_run_is_not_overwritten_without_force(stopped_run, tmp_path):
    with pytest.raises(
        UsageError, match="a run that isn't finished; --resume resumes it, --force overwrites it"
    ):
        run_of(make(""), stopped_run).train()
    out = tmp_path / "run"
    run_of(make("", ["train.epochs=1"]), out).train()
    before = (out / "last.safetensors").read_bytes()
    with pytest.raises(UsageError, match="has a finished run"):
        run_of(make("", ["train.epochs=1"]), out).train()
    assert (out / "last.safetensors").read_bytes() == before
    run_of(make("", ["train.epochs=1", "seed=5"]), out).train(force=True)
    assert (out / "last.safetensors").read_bytes() != before


def test_resuming_a_finished_run_returns_its_result(tmp_path):
    conf = make("", ["train.epochs=1"])
    first = run_of(conf, tmp_path).train()
    before = survive.state(tmp_path)
    assert run_of(conf, tmp_path).train(resume=True) == first
    assert not survive.differences(before, survive.state(tmp_path))


def test_resuming_with_another_config_is_refused(stopped_run):
    with pytest.raises(UsageError, match=r"train\.lr: .* was trained with 0\.1, now it is 0\.2"):
        run_of(make("", ["train.lr=0.2"]), stopped_run).train(resume=True)
    with pytest.raises(UsageError, match=r"net\.layers"):
        run_of(make("", ["net.layers.0.out_channels=31"]), stopped_run).train(resume=True)


def test_resuming_on_other_data_is_refused(stopped_run, monkeypatch):
    real = data.LOADERS["digits"]

    def other(*args):
        found = real(*args)
        found.mean = found.mean + 1e-6
        return found

    monkeypatch.setitem(data.LOADERS, "digits", other)
    with pytest.raises(DataError, match="not the samples"):
        run_of(make(""), stopped_run).train(resume=True)


@pytest.mark.parametrize("name, change", [
    ("optimizer.velocity.13.weight", lambda t: t.double()),
    ("optimizer.velocity.13.weight", lambda t: t[:1]),
    ("log.epoch", lambda t: None),
    ("random.cpu", lambda t: t[:, :7]),
    ("net.0.weight", lambda t: t.flatten()),
])  # fmt: skip
def test_a_checkpoint_whose_tensors_do_not_fit_is_refused(name, change, stopped_run, tmp_path):
    tensors, words = tensorfile.read(stopped_run / "last.safetensors")
    tensors[name] = change(tensors[name])
    tensors = {k: t for k, t in tensors.items() if t is not None}
    tensorfile.save(tmp_path / "last.safetensors", tensors, words)
    run = run_of(make(""), tmp_path)
    before = {k: t.clone() for k, t in run.net.params.items()}
    with pytest.raises(CheckpointError, match="random" if "random" in name else name):
        run.train(resume=True)
    assert all(torch.equal(t, before[k]) for k, t in run.net.params.items())


@pytest.mark.parametrize(
    "change",
    [
        {"progress": {"epoch": "x", "step": 0}},
        {"progress": {"epoch": -1, "step": 0}},
        {"progress": {"epoch": 1, "step": 10**6}},
        {"progress": {"epoch": 0.5, "step": 0}},
        {"progress": {"epoch": 0}},
        {"progress": 5},
        {"config": 7},
        {"config": "a ="},
        {"config": "a = " + "[" * 10_000},
        {"config": "seed = " + hex(16**5000)},
        {"hooks": 5},
        {"hooks": {}},
        *({"hooks": {name: state}} for name in ("clock", "evaluate", "log") for state in (None, 7, {}, [])),
        {"hooks": {"clock": {"seconds": 10**400}}},
        {"hooks": {"clock": {"seconds": -1}}},
        {"hooks": {"clock": {"seconds": None}}},
        {"hooks": {"evaluate": {"best": "x"}}},
        {"hooks": {"evaluate": {"best": 10**400}}},
        {"hooks": {"log": {"mark": None}}},
        {"hooks": {"log": {"mark": {}}}},
        {"hooks": {"log": {"mark": {"metrics": -1, "times": 10**400, "sha256": 3}}}},
    ],
)
def test_a_checkpoint_whose_words_do_not_fit_is_refused(change, stopped_run, tmp_path):
    tensors, words = tensorfile.read(stopped_run / "last.safetensors")
    if change.get("hooks") not in (5, {}) and "hooks" in change:
        change = {"hooks": words["hooks"] | change["hooks"]}
    tensorfile.save(tmp_path / "last.safetensors", tensors, words | change)
    with pytest.raises(CheckpointError):
        run_of(make(""), tmp_path).train(resume=True)


def test_a_folder_in_use_is_locked(tmp_path):
    """By another process, as a process can take its own lock again."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with lock.locked(tmp_path):
            os.write(write, b"x")
            signal.pause()
    os.read(read, 1)
    try:
        assert lock.held(tmp_path)
        with pytest.raises(UsageError, match=f"in use by process {child}"):
            run_of(make(""), tmp_path).train()
        assert [p.name for p in tmp_path.iterdir()] == ["lock"]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not lock.held(tmp_path)


def test_a_second_signal_is_handled_at_once():
    with Stop() as stopper:
        stopper.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped, match="interrupted"):
            stopper.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # the handler runs between two of Python's own steps
                pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Infinite(Layer):
    """y = x, but dx is infinite once `now`."""

    now = False

    def forward(self, x):
        return x, None

    def backward(self, saved, dy):
        return dy / 0 if self.now else dy, {}


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "adaptive"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_step_that_is_not_finite_changes_nothing(policy, where, optimizer):
    conv, linear = (
        "{ type = 'Conv2d', out_channels = 3, kernel_size = 3 }",
        "{ type = 'Linear', out_features = 4 }",
    )
    layers = f"[{conv}, 'BatchNorm2d', 'Flatten', {linear}]"
    own = [f"train.optimizer={optimizer}", "train.param_groups=[]"]
    own += (
        ["train.momentum=0", "train.nesterov=false", "train.weight_decay=0", "augment.crop_padding=0"]
        if optimizer == "adaptive"
        else []
    )
    conf = make("", [f"net.layers={layers}", *own])
    net = make_net(conf, (1, 8, 8), 4)
    loss, infinite = make_loss(conf, True), Infinite()
    both = Sequential(*list(net.children.values())[:2], infinite, *list(net.children.values())[2:])
    opt = make_optimizer(conf, both, loss)
    guard = Guard(policy, CPU)
    step = train_step(both, loss, opt, guard=guard)
    x, y = torch.randn(5, 1, 8, 8), torch.arange(5) % 4
    assert step(x, y, 1.0)[2] and step(x, y, 1.0)[2]
    everything = [*both.params.values(), *both.buffers.values(), *opt.state().values()]
    before = [t.clone() for t in everything]
    infinite.now = where == "gradient"
    bad = torch.full_like(x, torch.nan) if where == "loss" else x
    assert not step(bad, y, 1.0)[2]
    assert all(torch.equal(a, b) for a, b in zip(everything, before))
    infinite.now = False
    assert bool(step(x, y, 1.0)[2]) == (policy == "skip")  # after a stop nothing counts
    assert all(torch.equal(a, b) for a, b in zip(everything, before)) == (policy == "stop")
    assert (int(guard.skipped), bool(guard.good)) == ((1, True) if policy == "skip" else (0, False))
    if policy == "stop":
        message = "the loss became nan" if where == "loss" else "a gradient became infinite or NaN"
        assert message in guard.message(0)


def poisoned(conf, out, at):
    """A run whose batches at the steps `at` are NaN."""
    run = run_of(conf, out)
    feed = run.feed

    class Feed(type(feed)):
        def __call__(self, epoch, start=0):
            for i, (which, x, target) in enumerate(super().__call__(epoch, start), start):
                yield which, torch.full_like(x, torch.nan) if epoch * 5 + i in at else x, target

    feed.__class__ = Feed
    return run


def test_a_run_stops_before_a_batch_that_is_not_finite(tmp_path):
    conf = make("", ["checkpoint.every_seconds=1e9"])
    run = poisoned(conf, tmp_path / "bad", [7])
    with pytest.raises(NonFiniteError, match="the loss became nan at step 3 of epoch 2"):
        run.train()
    with pytest.raises(Stopped):
        ended(conf, tmp_path / "good", 6, stop).train()  # which stops after that step: 7 are done
    bad, good = (tensorfile.read(tmp_path / name / "last.safetensors") for name in ("bad", "good"))
    for name, t in good[0].items():
        if name not in ("random.cpu", "guard.loss"):  # the step that didn't count has drawn its dropout
            assert torch.equal(t, bad[0][name]), name
    found = json.loads((tmp_path / "bad/nonfinite.json").read_text())
    plan = run.feed.plan(1)
    assert found == {"epoch": 2, "step": 3, "samples": plan.order[512:768].tolist()}
    # the batch being mended, the run goes on
    run_of(conf, tmp_path / "bad").train(resume=True)


def test_steps_that_are_not_finite_are_skipped_up_to_a_limit(tmp_path):
    own = ["train.on_nonfinite=skip", "train.max_nonfinite_steps=2"]
    run = poisoned(make("", own), tmp_path / "a", [4, 7])
    run.train()
    assert json.loads((tmp_path / "a/result.json").read_text())["skipped_steps"] == 2
    assert all(t.isfinite().all() for t in run.net.params.values())
    rows = [json.loads(s) for s in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert all(row["loss"] is not None and row["loss"] == row["loss"] for row in rows)
    with pytest.raises(NonFiniteError, match="3 steps weren't finite, train.max_nonfinite_steps is 2"):
        poisoned(make("", own), tmp_path / "b", [4, 7, 8]).train()


def test_a_partial_checkpoint_of_a_killed_process_is_removed(stopped_run, tmp_path):
    shutil.copytree(stopped_run, tmp_path / "run")
    (tmp_path / "run/.last.safetensors.1.part").write_bytes(b"half")
    run_of(make(""), tmp_path / "run").train(resume=True)
    assert not list((tmp_path / "run").glob(".*"))


def test_a_score_that_is_not_finite_is_never_the_best(tmp_path):
    """Weights that overflow in the last step of all, whose loss still is a number."""
    layers = 'net.layers=[{ type = "Linear", out_features = 1, init_bound = 100.0 }]'
    over = ["train.lr=9e37", "train.epochs=1", "train.batch_size=2", "train.loss=mse"]
    conf = config.load(ROOT / "configs/two_weight.toml", [*over, layers])
    result = run_of(conf, tmp_path).train()
    assert not math.isfinite(result.score())
    assert tensorfile.read(tmp_path / "last.safetensors")[1]["hooks"]["evaluate"]["best"] is None


def test_running_metrics_leave_out_steps_that_do_not_count():
    metrics = RunningMetrics(CPU)
    for loss, ok in ((1.0, True), (float("nan"), False), (3.0, True)):
        metrics.add(torch.tensor(loss), torch.tensor(2), 4, torch.tensor(ok))
    assert metrics.means(summed=False) == {"loss": 2.0, "train_top1": 0.5}
    assert metrics.means(summed=True)["loss"] == 0.5
    assert (metrics.steps(), metrics.samples()) == (2, 8)


def test_running_metrics_of_batches_of_several_sizes():
    metrics = RunningMetrics(CPU)
    metrics.add(torch.tensor(3.0), torch.tensor(1), 1)
    metrics.add(torch.tensor(1.0), torch.tensor(2), 3)
    assert metrics.means(summed=True) == {"loss": 1.0, "train_top1": 0.75}
