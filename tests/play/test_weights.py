"""A net as JSON, and the page's layers on it."""

import json

import pytest
import torch

from nets import layers as L
from nets.common.errors import CheckpointError, UsageError
from nets.data.datasets import digits
from nets.play.weights import LAYERS, Exported, read, to_json
from tests.play.engine import has_node, in_node


def exported(*layers, shape=(3, 9, 8)) -> Exported:
    mean, std = torch.rand(shape[0]), torch.rand(shape[0]) + 0.5
    return Exported(L.Sequential(*layers).eval(), ("a", "b", "c"), shape, mean, std)


def batch_norm(channels: int, **options):
    norm = L.BatchNorm2d(channels, eps=0.01, **options)
    for t in (norm.params | norm.buffers).values():
        t.uniform_(0.5, 2)
    return norm


NETS = {  # every layer of the page, with options other than the defaults
    "strides": lambda: [
        L.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)),
        L.Sigmoid(),
        L.Flatten(),
        L.Linear(140, 3),
    ],
    "groups": lambda: [
        L.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3, bias=False),
        batch_norm(6),
        L.GlobalAvgPool(),
    ],
    "pools": lambda: [
        L.MaxPool2d(3, stride=2, padding=1),
        L.Tanh(),
        L.AvgPool2d((2, 3), stride=1, padding=1),
        L.Flatten(),
    ],
    "dilated": lambda: [
        L.MaxPool2d(2, stride=1, dilation=2),
        batch_norm(3, affine=False),
        L.ReLU(),
        L.Dropout(0.5),
    ],
    "nested": lambda: [
        L.Sequential(L.Conv2d(3, 2, 1), L.Sequential(L.ReLU())),
        L.Flatten(),
        L.Linear(144, 3, bias=False),
    ],
}


def test_the_nets_of_the_tests_have_every_layer():
    used = {type(leaf) for make in NETS.values() for leaf in L.Sequential(*make()).leaves()}
    assert used == set(LAYERS)


@pytest.mark.parametrize("name", NETS)
def test_read_gives_what_was_written(name, tmp_path):
    before = exported(*NETS[name]())
    path = tmp_path / "net.json"
    path.write_text(json.dumps(to_json(before, name)))
    after, x = read(path), torch.randn(2, *before.shape)
    assert torch.equal(after.net(x), before.net(x))
    assert (
        after[1:3] == before[1:3]
        and torch.equal(after.mean, before.mean)
        and torch.equal(after.std, before.std)
    )


@pytest.mark.skipif(not has_node(), reason="needs node")
@pytest.mark.parametrize("name", NETS)
def test_the_pages_layers_are_those_of_nets(name):
    net = exported(*NETS[name]())
    x = torch.randn(2, *net.shape, dtype=torch.float64)
    function = """({ about, x, shape }, { loaded, layers }) => {
        const { net } = loaded.loadNet(about), [y, saved] = net.forward(layers.tensor(shape, x));
        const dy = layers.tensor(y.shape, y.data.map((_, k) => Math.cos(k)));
        const [dx, grads] = net.backward(saved, dy);
        return { shape: y.shape, y: [...y.data], dx: [...dx.data],
          grads: grads.flatMap((g, i) => Object.keys(g).map((name) => [`${i}.${name}`, [...g[name].data]])) };
        }"""
    about = to_json(net, name)
    page = in_node(function, {"about": about, "x": x.flatten().tolist(), "shape": list(x.shape)})
    ours = L.Sequential(*net.net.leaves()).to(torch.float64)
    y, saved = ours.forward(x)
    dy = torch.arange(y.numel(), dtype=torch.float64).cos().view_as(y)
    dx, grads = ours.backward(saved, dy)
    assert page["shape"] == list(y.shape) and dict(page["grads"]).keys() == grads.keys()
    found = {"y": page["y"], "dx": page["dx"], **dict(page["grads"])}
    for key, ours in {"y": y, "dx": dx, **grads}.items():
        torch.testing.assert_close(
            torch.tensor(found[key], dtype=torch.float64), ours.flatten(), rtol=1e-12, atol=1e-12
        )


def test_the_shipped_net_reads_digits():
    net, data = read(), digits(None)
    x = (data.test_x.permute(0, 3, 1, 2).float() / 255 - net.mean[:, None, None]) / net.std[:, None, None]
    assert (net.net(x).argmax(1) == data.test_y).double().mean() > 0.985


def test_a_layer_that_the_page_lacks_is_named():
    with pytest.raises(UsageError, match="mine: the page has no GELU; it has Linear"):
        to_json(exported(L.GELU()), "mine")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2}', '{"format": 1, "layers": [{"type": "GELU"}]}', "[" * 5000],
    ids=["empty", "list", "table", "format", "layer", "deep"],
)
def test_a_damaged_file_is_an_error_of_one_line(text, tmp_path):
    path = tmp_path / "net.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="not a net of nets export, or damaged") as e:
        read(path)
    assert "\n" not in str(e.value)
    with pytest.raises(CheckpointError):
        read(tmp_path / "missing.json")


def test_a_tensor_of_another_shape_is_refused(tmp_path):
    about = to_json(exported(*NETS["strides"]()), "mine")
    about["layers"][0]["tensors"]["bias"] = {"shape": [2], "float32": "AAAAAAAAAAA="}
    path = tmp_path / "net.json"
    path.write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match="bias"):
        read(path)
