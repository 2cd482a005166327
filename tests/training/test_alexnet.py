"""AlexNet as published: its parameters, its start, how its pictures vary, and its curve against autograd's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from nets.bench import same_curve
from nets.commands import enlarge
from nets.commands import same_curve as command
from nets.commands.targets import narrow
from nets.common.errors import DataError, MismatchError, UsageError
from nets.data import datasets as data
from nets.data.augment import color_axes, color_jitter, crop_and_flip
from nets.data.sampler import EpochPlan, epoch_plan
from nets.data.tta import center_crop, predict_tta, ten_crop
from nets.layers.init import init_gaussian
from nets.layers.linear import Linear
from nets.training import config, make
from nets.training.predict import Trained
from nets.training.run import Run
from nets.training.step import train_step

PATH = Path(__file__).parents[2] / "configs" / "alexnet.toml"
CONF = config.load(PATH)
PAPER = {  # weights a neuron, neurons: figure 2 of the paper
    0: (96, 11 * 11 * 3), 4: (256, 5 * 5 * 48), 8: (384, 3 * 3 * 256), 10: (384, 3 * 3 * 192),
    12: (256, 3 * 3 * 192), 17: (4096, 6 * 6 * 256), 20: (4096, 4096), 22: (1000, 4096),
}  # fmt: skip


def test_60_965_224_parameters_layer_by_layer():
    with torch.device("meta"):
        net = make.make_net(CONF, *data.shapes(CONF.data))
    assert sum(p.numel() for p in net.params.values()) == 60_965_224
    found = {}
    for name, p in net.params.items():
        found.setdefault(int(name.split(".")[0]), []).append((len(p), p[0].numel()))
    assert found == {i: [(n, weights), (n, 1)] for i, (n, weights) in PAPER.items()}


def test_the_papers_places_norms_and_recipe():
    with torch.device("meta"):
        net = make.make_net(CONF, *data.shapes(CONF.data))
        x, sides = torch.empty(1, 3, 224, 224), []
        for layer in net.children.values():
            x = layer.forward(x)[0]
            sides.append(x.shape[-1])
    assert [sides[i] for i in (0, 3, 4, 7, 8, 10, 12, 14, 15)] == [55, 27, 27, 13, 13, 13, 13, 6, 9216]
    layers = list(net.children.values())
    assert [layers[i].groups for i in (0, 4, 8, 10, 12)] == [1, 2, 1, 2, 2]
    for norm in (layers[2], layers[6]):
        assert (norm.size, norm.k, norm.alpha / norm.size, norm.beta) == (5, 2, pytest.approx(1e-4), 0.75)
    t = CONF.train
    assert (t.lr, t.momentum, t.weight_decay, t.batch_size, t.schedule) == (0.01, 0.9, 5e-4, 128, "step")
    assert (CONF.data.size, CONF.data.crop_size, CONF.augment.color_jitter, CONF.eval.tta) == (
        256,
        224,
        0.1,
        "ten_crop",
    )


def test_start_values_are_a_gaussians_and_biases_constants():
    conf = config.load(PATH, narrow(PATH))
    params = make.make_net(conf, *data.shapes(conf.data)).params
    weights = torch.cat([p.flatten() for name, p in params.items() if name.endswith("weight")])
    assert abs(weights.std() - 0.01) < 3e-4 and abs(weights.mean()) < 5e-4 and weights.abs().max() > 0.03
    biases = {int(name.split(".")[0]): p for name, p in params.items() if name.endswith("bias")}
    ones = {4, 10, 12, 17, 20}  # the 2nd, 4th and 5th convolution, and the dense layers but the last
    assert all(torch.equal(b, torch.full_like(b, float(i in ones))) for i, b in biases.items())


def test_init_gaussian():
    params = {"weight": torch.ones(300, 300), "bias": torch.ones(3)}
    init_gaussian(params)
    assert params["weight"].min() == params["bias"].min() == 1
    init_gaussian(params, 0.0, 2)
    assert not params["weight"].any() and params["bias"].tolist() == [2, 2, 2]
    init_gaussian(params, 3.0)
    assert abs(params["weight"].std() - 3) < 0.05 and params["bias"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="init_std must be at least 0"):
        Linear(2, 2, init_std=-1.0)
    with pytest.raises(ValueError, match="init_bias is for a layer that has a bias"):
        Linear(2, 2, bias=False, init_bias=1.0)


def test_random_crops_are_cut_from_anywhere_and_no_further():
    conf, augment = config.Data(source="folder", size=9, crop_size=6), config.Augment(flip="random")
    plan = epoch_plan(500, (3, 6, 6), conf, augment, 0, 0, "cpu")
    assert sorted(set(plan.shift.flatten().tolist())) == [0, 1, 2, 3]
    x = torch.randint(0, 256, (500, 9, 9, 3), dtype=torch.uint8)
    got = crop_and_flip(x, plan, 6)
    assert got.shape == (500, 6, 6, 3)
    for k in range(20):
        i, j = plan.shift[k].tolist()
        want = x[plan.order[k], i : i + 6, j : j + 6]
        assert torch.equal(got[k], want.flip(1) if plan.flip[k] else want)
    one = EpochPlan(torch.tensor([3]), torch.tensor([[3, 0]]))
    assert torch.equal(crop_and_flip(x, one, 6)[0], x[3, 3:, :6])


def test_color_axes_are_the_covariances_eigenvectors():
    mix = torch.tensor([[40.0, 10.0, 0.0], [30.0, -10.0, 5.0], [20.0, 5.0, -10.0]])
    x = (torch.randn(6, 30, 40, 3) @ mix.T + 128).round().clamp(0, 255).to(torch.uint8)
    axes = color_axes(x)
    pixels = x.reshape(-1, 3).double() / 255
    covariance = torch.cov(pixels.T, correction=0)
    torch.testing.assert_close((axes @ axes.T).double(), covariance, rtol=1e-4, atol=1e-7)
    apart = axes.T @ axes
    assert (apart - apart.diag().diag()).abs().max() < 1e-5 * apart.max()
    assert torch.equal(color_axes(x[:1].expand(6, -1, -1, -1), max_images=2), color_axes(x[:1]))


def test_color_jitter_moves_a_whole_picture_along_the_axes():
    parts = config.Data(source="folder"), config.Augment(color_jitter=0.1)
    plan = epoch_plan(4000, (3, 2, 2), *parts, 0, 0, "cpu")
    assert plan.color.shape == (4000, 3) and abs(plan.color.std() - 0.1) < 3e-3
    again, other = (epoch_plan(4000, (3, 2, 2), *parts, 0, epoch, "cpu") for epoch in (0, 1))
    assert torch.equal(plan.color, again.color) and not torch.equal(plan.color, other.color)
    axes, std = (
        torch.tensor([[1.0, 0.0, 0.2], [0.0, 2.0, 0.1], [0.5, 0.0, 0.3]]),
        torch.tensor([0.2, 0.3, 0.4]),
    )
    x = torch.randn(2, 3, 4, 5)
    y = color_jitter(x, torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.0, 0.0]]), axes, std)
    light = torch.tensor([0.1 + 0.06, -0.4 + 0.03, 0.05 + 0.09]) / std
    torch.testing.assert_close(y[0], x[0] + light[:, None, None])
    assert torch.equal(y[1], x[1])
    assert color_jitter(x.bfloat16(), torch.randn(2, 3), axes, std).dtype == torch.bfloat16


def test_ten_views_are_torchvisions():
    from torchvision.transforms.functional import ten_crop as theirs

    x = torch.randn(2, 3, 9, 11)  # torchvision rounds an odd rest up
    want = theirs(x, 5)
    order = [0, 1, 2, 3, 4, 6, 5, 8, 7, 9]  # torchvision cuts the mirrored picture, we mirror what was cut
    assert all(torch.equal(mine, want[i]) for mine, i in zip(ten_crop(x, 5), order, strict=True))
    assert torch.equal(center_crop(x, 5), ten_crop(x, 5)[4])


class Mean:
    """A net whose two outputs depend on what it sees."""

    def forward(self, x):
        self.shapes = [*getattr(self, "shapes", []), x.shape]
        return torch.stack([x[:, 0, 0, 0], x.mean((1, 2, 3))], 1), None


def test_answers_of_ten_views_are_averaged_after_the_softmax():
    x, net = 3 * torch.randn(2, 3, 9, 8), Mean()
    z = predict_tta(net, x, "ten_crop", 5)
    want = torch.stack([F.softmax(Mean().forward(v)[0], 1) for v in ten_crop(x, 5)]).mean(0)
    torch.testing.assert_close(F.softmax(z, 1), want)
    torch.testing.assert_close(z.exp().sum(1), torch.ones(2))  # probabilities already
    assert net.shapes == 10 * [(2, 3, 5, 5)]
    torch.testing.assert_close(predict_tta(net, x, "none", 5), Mean().forward(center_crop(x, 5))[0])
    assert torch.equal(predict_tta(net, x, "none"), Mean().forward(x)[0])
    assert predict_tta(net, x.bfloat16(), "ten_crop", 5).dtype == torch.float32


@pytest.mark.parametrize(
    "override, message",
    [
        ("data.crop_size=300", "data.crop_size: 300 is more than data.size, 256"),
        ("augment.crop_padding=2", "augment.crop_padding: data.crop_size shifts the images already"),
        ("data.source=cifar10", 'data.crop_size: only for data.source = "folder", not cifar10'),
        ("data.normalize=means", 'data.normalize: "means" is not one of its values; did you mean "mean"?'),
        (
            "eval.tta=two",
            'eval.tta: "two" is not one of its values; known: none, flip, six_view, corners, ten_crop',
        ),
        ("net.layers.23.out_features=3", "net.layers.23.out_features=3: 23 is no index in a list of 23"),
        ("net.layers.-24=3", "-24 is no index in a list of 23"),
        ("net.layers.x.out_features=3", "x is no index in a list of 23"),
        ("net.layers.1.out_features=3", "--set net.layers.1.out_features=3: 1 is a value, not a table"),
    ],
)
def test_wrong_settings_are_named(override, message):
    with pytest.raises(UsageError) as e:
        config.load(PATH, [override])
    assert message in str(e.value)


def test_color_jitter_of_gray_images_is_refused(tree):
    conf = config.load(PATH, overrides(tree, "data.channels=1"))
    with pytest.raises(UsageError, match="augment.color_jitter: gray images have no colors"):
        Run.from_config(conf, torch.device("cpu"), tree)


def test_normalize_and_num_classes_are_for_folders_alone():
    for override, name in (
        ("data.normalize=mean", "data.normalize"),
        ("data.num_classes=10", "data.num_classes"),
    ):
        with pytest.raises(UsageError, match=f'{name}: only for data.source = "folder", not digits'):
            config.load(PATH.with_name("digits.toml"), [override])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three classes of small pictures, enlarged by the command to 110 pixels."""
    small, large = (tmp_path_factory.mktemp("trees") / name for name in ("small", "large"))
    random = np.random.default_rng(0)
    for split, n in (("train", 8), ("test", 3)):
        for label, tint in (("blue", 2), ("green", 1), ("red", 0)):
            (small / split / label).mkdir(parents=True)
            for i in range(n):
                pixels = random.integers(0, 120, (12, 12, 3), np.uint8)
                pixels[..., tint] += 120
                Image.fromarray(pixels).save(small / split / label / f"{i}.png")
    args = [str(small), str(large), "--size", "110", "--count", "20"]
    enlarge.main(args)
    with pytest.raises(UsageError, match="exists already"):
        enlarge.main(args)
    return large


def test_enlarge_takes_as_many_of_every_class_and_scales_them(tree):
    counts = {p.relative_to(tree).as_posix(): len(list(p.glob("*.png"))) for p in tree.glob("*/*")}
    assert counts == {
        "train/blue": 7, "train/green": 7, "train/red": 6, "test/blue": 2, "test/green": 1, "test/red": 1,
    }  # fmt: skip
    for path in tree.glob("*/*/*.png"):
        assert Image.open(path).size == (110, 110)
    red = np.asarray(Image.open(tree / "train/red/0.png")).mean((0, 1))
    assert red[0] > red[1] + 90 and red[0] > red[2] + 90


def overrides(tree, *more):
    """The narrow net on the tree of three classes."""
    own = [
        "data.size=110",
        "data.num_classes=3",
        "net.layers.-1.out_features=3",
        f"data.root={config.toml(str(tree))}",
    ]
    return [*narrow(PATH), *own, "train.batch_size=6", "train.epochs=2", "train.schedule=constant", *more]


# enough fewer inputs a neuron that a Gaussian of 0.01 would let nothing through
WIDE = [f"net.layers.{i}.init_std=0.15" for i in (4, 8, 10, 12, 17, 20, 22)]


def test_a_run_on_a_folder_crops_jitters_and_tests_by_ten_views(tree, tmp_path, capsys):
    """The whole path: training, checkpoint, test again, and a guess for a picture of another size."""
    conf = config.load(PATH, overrides(tree))
    run = Run.from_config(conf, torch.device("cpu"), tmp_path / "run")
    assert run.data.shape == (3, 99, 99) and run.data.train_x.shape[1:] == (110, 110, 3)
    assert run.data.std.tolist() == pytest.approx([1 / 255] * 3)
    plan = epoch_plan(run.feed.n, run.data.shape, conf.data, conf.augment, 0, 0, "cpu")
    _, x, _ = next(run.feed(0))
    assert x.shape == (6, 3, 99, 99) and x.is_contiguous(memory_format=torch.channels_last)
    assert 20 < x.std() < 128  # bytes, about their mean
    raw = crop_and_flip(run.data.train_x, plan.batch(0, 6), 99).permute(0, 3, 1, 2)
    light = x - (raw - 255 * run.data.mean[:, None, None])
    assert light.std((2, 3)).max() < 1e-2 < light.abs().max()  # one color a picture
    result = run.train()
    assert result.count == 4
    facts = json.loads((tmp_path / "run" / "result.json").read_text())
    assert math.isfinite(facts["top1"])
    trained = Trained(tmp_path / "run", torch.device("cpu"))
    assert trained.test().top1 == result.top1
    torch.testing.assert_close(trained.ask(run.data.test_x), run.evaluator.z, rtol=1e-4, atol=1e-5)
    big = tmp_path / "big.png"
    Image.new("RGB", (300, 240), "red").save(big)
    pixels, z = trained.guess([big])
    assert pixels[0].shape == (110, 110, 3) and z.shape == (1, 3)


def test_a_folder_with_another_number_of_classes(tree):
    conf = config.load(PATH, overrides(tree, "data.num_classes=4"))
    with pytest.raises(DataError, match="has 3 classes, data.num_classes is 4"):
        data.load(conf.data)


def test_shapes_are_known_without_the_folder():
    assert data.shapes(CONF.data) == ((3, 224, 224), 1000)


def test_twenty_steps_by_hand_and_by_autograd_have_the_same_loss(tree):
    """The narrow net: crops, flips, jitter, LRN, groups, weight decay and momentum, all as in a run."""
    conf = config.load(
        PATH, overrides(tree, *WIDE, "train.lr=0.003", "train.epochs=10", "train.schedule=step")
    )
    run = Run.from_config(conf, torch.device("cpu"), tree)
    before = {k: p.clone() for k, p in run.net.params.items()}
    pairs = list(same_curve.curves(run, 20))
    assert pairs[-1][0] < 0.9 * pairs[0][0]
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert all(not torch.equal(p, before[k]) for k, p in run.net.params.items())


def test_a_curve_that_leaves_the_others_is_told(tree, monkeypatch, capsys):
    args = [str(PATH), "--steps", "9", "--device", "cpu", "--data-root", str(tree)]
    for override in overrides(tree, *WIDE):
        args += ["--set", override]
    command.main(args)
    assert capsys.readouterr().out.count("\n") == 10
    right = Linear.backward

    def wrong(self, saved, dy):
        dx, grads = right(self, saved, dy)
        return dx, grads | {"bias": 0.5 * grads["bias"]}

    monkeypatch.setattr(Linear, "backward", wrong)
    with pytest.raises(MismatchError, match="the losses of step [2-9] differ"):
        command.main(args)


def test_the_curve_of_another_optimizer_has_no_twin(tree):
    conf = config.load(PATH, overrides(tree, "train.optimizer=muon"))
    with pytest.raises(UsageError, match="torch.optim has no equivalent of muon"):
        next(same_curve.curves(Run.from_config(conf, torch.device("cpu"), tree), 1))


def test_the_residual_net_learns():
    """A few steps of configs/cifar10_resnet.toml, narrow, in its own dtype."""
    path = PATH.with_name("cifar10_resnet.toml")
    conf = config.load(path, [*narrow(path), "train.lr=0.05"])
    net, loss = make.make_net(conf, (3, 32, 32), 10), make.make_loss(conf, True)
    step = train_step(net, loss, make.make_optimizer(conf, net, loss))
    target = torch.arange(30) % 10
    x = torch.randn(10, 3, 1, 1)[target] + 0.3 * torch.randn(30, 3, 32, 32)
    values = [step(x.bfloat16(), target, 1.0)[0].item() for _ in range(25)]
    assert values[0] == pytest.approx(math.log(10), rel=0.2) and values[-1] < 0.7 * values[0]
