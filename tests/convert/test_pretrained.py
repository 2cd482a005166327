"""nets eval torchvision:MODEL: published weights, here random ones in their place, and any picture."""

import hashlib
import io
import json
import re
import urllib.error
from email.message import Message
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from nets.common.errors import CheckpointError, DataError
from nets.convert import pretrained
from nets.training.pretrained import Pretrained
from tests.shell import shell

HASHES, ANY = torch.hub.HASH_REGEX, re.compile("(nothing)")  # where a file's name tells its hash
MODEL, WEIGHTS = "torchvision:resnet18", torchvision.models.ResNet18_Weights.DEFAULT


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """torch.hub's folder with random weights, and the model that has them: (the folder, module)."""
    home = tmp_path_factory.mktemp("hub")
    torch.manual_seed(7)
    module = torchvision.models.resnet18()
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(), m.running_var.uniform_(0.5, 2)
    (home / "hub/checkpoints").mkdir(parents=True)
    torch.save(module.state_dict(), home / "hub/checkpoints" / WEIGHTS.url.rsplit("/", 1)[1])
    return home, module.eval()


@pytest.fixture
def home(hub, monkeypatch, tmp_path):
    """That folder in use, no network, and a folder of one's own to work in."""

    def no_network(*_):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(hub[0]))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setattr("torch.hub.HASH_REGEX", ANY)  # random weights have another hash
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*args, code=0):
    return shell("eval", *args, code=code, cwd=Path())


def colors(width, height, mode="RGB"):
    rng = np.random.default_rng(width)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def test_the_five_best_guesses_are_torchvisions(home, hub):
    colors(400, 300).save(home / "a.png")
    colors(90, 260).save(home / "b.png")
    found = json.loads(evaluate(MODEL, home / "a.png", home / "b.png", "--device", "cpu", "--json"))
    assert [f["file"] for f in found] == [str(home / "a.png"), str(home / "b.png")]
    x = torch.stack([WEIGHTS.transforms()(Image.open(f["file"])) for f in found])
    with torch.no_grad():
        best = torch.softmax(hub[1](x), 1).topk(5)
    names = [[WEIGHTS.meta["categories"][k] for k in row] for row in best.indices.tolist()]
    assert [[name for name, _ in f["guesses"]] for f in found] == names
    shares = torch.tensor([[p for _, p in f["guesses"]] for f in found])
    torch.testing.assert_close(shares, best.values, rtol=1e-3, atol=1e-6)

    text = evaluate(MODEL, home / "a.png", "--device", "cpu")
    assert [line.split("  ")[1].strip() for line in text.splitlines()[1:]] == names[0]
    assert len(re.findall(r"^  .+ +\d+\.\d%", text, re.M)) == 5
    with Image.open(home / "runs/torchvision-resnet18/guesses.png") as image:
        assert image.width > 150 and len(image.getcolors(2**24)) > 100


def test_pictures_of_every_mode_are_read_as_rgb(home, hub):
    """Each as the same picture in plain RGB; what is drawn is what the net saw."""
    net = Pretrained(MODEL, torch.device("cpu"))
    plain = colors(300, 280)
    plain.save(home / "rgb.png")
    plain.convert("CMYK").save(home / "cmyk.jpg", quality=100, subsampling=0)
    plain.convert("RGBA").save(home / "alpha.png")
    plain.transpose(Image.Transpose.ROTATE_90).save(home / "turned.png", exif=exif(6))
    gray = plain.convert("L")
    gray.save(home / "gray.png")
    Image.fromarray(np.asarray(gray).astype(np.uint16) * 257).save(home / "16-bit.png")
    plain.convert("P").save(home / "palette.png")
    same = {"rgb.png": ["cmyk.jpg", "alpha.png", "turned.png", "palette.png"], "gray.png": ["16-bit.png"]}
    for first, others in same.items():
        pixels, z = net.guess([home / name for name in (first, *others)])
        assert z.shape == (1 + len(others), 1000) and pixels[0].shape == (224, 224, 3)
        for name, other in zip(others, pixels[1:]):
            gap = (other.int() - pixels[0].int()).abs().float().mean()
            assert gap < (12 if name == "palette.png" else 3), name
    scaled = plain.resize((274, 256), Image.Resampling.BILINEAR)
    want = torchvision.transforms.functional.center_crop(scaled, 224)
    pixels, _ = net.guess([home / "rgb.png"])
    assert (torch.tensor(np.asarray(want)).int() - pixels[0].int()).abs().max() <= 2


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda path: path.write_bytes(b"no picture"), "not a readable image"),
        (lambda path: path.write_bytes(png()[:400]), "not a readable image"),
        (lambda path: Image.new("L", (3, 3000)).save(path), "3 × 3000 pixels are too long and narrow"),
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a folder"),
    ],
)
def test_a_file_that_is_no_picture_is_named(write, message, home):
    write(home / "x.png")
    err = evaluate(MODEL, home / "x.png", code=3)
    assert "x.png" in err and message in err


def png():
    file = io.BytesIO()
    colors(64, 64).save(file, "PNG")
    return file.getvalue()


def test_a_picture_of_one_pixel_is_taken(home):
    Image.new("L", (1, 1)).save(home / "x.png")
    assert "x.png" in evaluate(MODEL, home / "x.png")


def test_without_a_network_the_error_says_where_the_file_belongs(home):
    err = evaluate("torchvision:resnet34", home / "x.png", code=3)
    assert "resnet34-b627a593.pth can't be downloaded (Name or service not known)" in err
    assert str(home.parent) in err and "hub/checkpoints/resnet34-b627a593.pth" in err


@pytest.mark.parametrize(
    "args, message",
    [
        (["torchvision:resnet81"], 'torchvision has no model "resnet81"; did you mean "resnet'),
        (["torchvision:maxvit_t"], "no layer here is for these parts of MaxVit:"),
        ([MODEL], "which images?"),
    ],
)
def test_a_wrong_call_is_one_line(args, message, home):
    assert message in evaluate(*args, code=2)


class Network(io.BytesIO):
    """What urlopen gives."""

    def info(self):
        return Message()


def answers(monkeypatch, content, home):
    """A network that gives this, an empty hub, and weights that belong there."""
    monkeypatch.setenv("TORCH_HOME", str(home / "empty"))
    monkeypatch.setattr("torch.hub.HASH_REGEX", HASHES)
    monkeypatch.setattr("torch.hub.urlopen", lambda _: Network(content))


def test_a_download_with_another_checksum_is_refused(home, monkeypatch):
    answers(monkeypatch, b"something else", home)
    with pytest.raises(DataError, match="isn't what was published"):
        pretrained._download(WEIGHTS)
    assert not list((home / "empty/hub/checkpoints").iterdir())


def test_a_download_is_kept_and_prints_nothing_on_stdout(home, monkeypatch, capsys):
    file = io.BytesIO()
    torch.save({"a": torch.ones(3)}, file)
    answers(monkeypatch, file.getvalue(), home)
    monkeypatch.setattr("torch.hub.HASH_REGEX", ANY)
    assert torch.equal(pretrained._download(WEIGHTS)["a"], torch.ones(3))
    monkeypatch.setattr("torch.hub.urlopen", None)
    assert torch.equal(pretrained._download(WEIGHTS)["a"], torch.ones(3))
    assert capsys.readouterr().out == ""


def test_a_file_in_the_cache_with_another_checksum_is_refused(home, hub, monkeypatch):
    file = hub[0] / "hub/checkpoints" / WEIGHTS.url.rsplit("/", 1)[1]
    monkeypatch.setattr("torch.hub.HASH_REGEX", HASHES)
    with pytest.raises(CheckpointError, match=f"{re.escape(str(file))}: not the published weights"):
        pretrained._download(WEIGHTS)


def test_the_checksum_is_read_from_the_files_name(tmp_path):
    digits = hashlib.sha256(b"some weights").hexdigest()[:8]
    for name, published in ((f"a-{digits}.pth", True), ("a-01234567.pth", False), ("a.pth", True)):
        (tmp_path / name).write_bytes(b"some weights")
        assert pretrained._published(tmp_path / name) == published


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("content", [b"", b"no weights", Evil(), {"a": torch.ones(1)}, [1]])
def test_a_file_that_holds_something_else_is_named(content, home, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(home))
    file = home / "hub/checkpoints" / WEIGHTS.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(CheckpointError, match=re.escape(str(file))):
        Pretrained(MODEL, torch.device("cpu"))
    assert capsys.readouterr().out == ""
