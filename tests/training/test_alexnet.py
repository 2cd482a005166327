"""AlexNet as published: parameters, initial values, augmentation, and its losses against autograd's."""

import json
import math

import pytest
import torch
from PIL import Image

from nets.commands.targets import narrow
from nets.common.errors import DataError, UsageError
from nets.data import datasets as data
from nets.data.augment import crop_and_flip
from nets.data.sampler import epoch_plan
from nets.training import config, make
from nets.training.predict import Trained
from nets.training.run import Run
from nets.training.step import train_step
from tests.alexnet import PATH, overrides

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


def test_color_jitter_of_gray_images_is_refused(alexnet_tree):
    conf = config.load(PATH, overrides(alexnet_tree, "data.channels=1"))
    with pytest.raises(UsageError, match="augment.color_jitter: gray images have no colors"):
        Run.from_config(conf, torch.device("cpu"), alexnet_tree)


def test_normalize_and_num_classes_are_for_folders_alone():
    for override, name in (
        ("data.normalize=mean", "data.normalize"),
        ("data.num_classes=10", "data.num_classes"),
    ):
        with pytest.raises(UsageError, match=f'{name}: only for data.source = "folder", not digits'):
            config.load(PATH.with_name("digits.toml"), [override])


def test_a_run_on_a_folder_crops_jitters_and_tests_by_ten_views(alexnet_tree, tmp_path, capsys):
    """The whole path: training, checkpoint, test again, and a guess for a picture of another size."""
    conf = config.load(PATH, overrides(alexnet_tree))
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
    torch.testing.assert_close(trained.predict(run.data.test_x), run.evaluator.z, rtol=1e-4, atol=1e-5)
    big = tmp_path / "big.png"
    Image.new("RGB", (300, 240), "red").save(big)
    pixels, z = trained.guess([big])
    assert pixels[0].shape == (110, 110, 3) and z.shape == (1, 3)


def test_a_folder_with_another_number_of_classes(alexnet_tree):
    conf = config.load(PATH, overrides(alexnet_tree, "data.num_classes=4"))
    with pytest.raises(DataError, match="has 3 classes, data.num_classes is 4"):
        data.load(conf.data)


def test_shapes_are_known_without_the_folder():
    assert data.shapes(CONF.data) == ((3, 224, 224), 1000)


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
