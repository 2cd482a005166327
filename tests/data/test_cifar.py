"""CIFAR's archives: pickles that are read only if they are the published ones, and then run nothing."""

import hashlib
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision

from nets.common.errors import DataError
from nets.data import cifar
from nets.data import datasets as data
from nets.training import config
from tests.shell import shell


class Python2(pickle._Pickler):
    """Pickles as Python 2 did it, whose texts are bytes: the published files are so."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_text(self, text):
        raw = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)

    dispatch[str] = dispatch[bytes] = save_text


def python2(content) -> bytes:
    file = io.BytesIO()
    Python2(file, 2).dump(content)
    return file.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


class Archive:
    """A small archive in the official layout, whose MD5s are taken to be the published ones."""

    def __init__(self, root, monkeypatch, cls=torchvision.datasets.CIFAR10, dump=python2):
        self.root, self.cls, self.dump, self.patch = root, cls, dump, monkeypatch
        self.folder = Path(root) / cls.base_folder
        self.folder.mkdir(parents=True)
        fine = "fine" in cls.meta["key"]
        rng, classes = np.random.default_rng(0), 100 if fine else 10
        files = [name for name, _ in cls.train_list + cls.test_list]
        self.x = rng.integers(0, 256, (len(files), 4, 3072), np.uint8)
        self.names = [f"class{i}" for i in range(classes)]
        self.contents = {cls.meta["filename"]: {cls.meta["key"]: self.names}}
        for name, x in zip(files, self.x):
            labels = {"fine_labels" if fine else "labels": [0, 1, 2, classes - 1]}
            self.contents[name] = {"batch_label": name, "data": x} | labels
        for name, content in self.contents.items():
            self.write(name, dump(content))
        self.publish()

    def write(self, name, raw):
        (self.folder / name).write_bytes(raw)

    def publish(self):
        """Take what is there for what was published: the check of MD5s is defeated."""
        md5 = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in self.folder.iterdir()}
        for files in ("train_list", "test_list"):
            self.patch.setattr(self.cls, files, [[name, md5[name]] for name, _ in getattr(self.cls, files)])
        self.patch.setattr(self.cls, "meta", self.cls.meta | {"md5": md5[self.cls.meta["filename"]]})

    def load(self):
        return data.load(config.Data(source=self.cls.__name__.lower(), root=str(self.root)))

    def refused(self, told: str):
        with pytest.raises(DataError) as e:
            self.load()
        assert str(e.value).startswith(f"{self.folder}: damaged or incomplete (") and told in str(e.value)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    return Archive(tmp_path / "data", monkeypatch)


@pytest.mark.parametrize("cls", [torchvision.datasets.CIFAR10, torchvision.datasets.CIFAR100])
@pytest.mark.parametrize("dump", [python2, pickle.dumps])
def test_an_archive_is_read_as_torchvision_reads_it(tmp_path, monkeypatch, cls, dump):
    archive = Archive(tmp_path, monkeypatch, cls, dump)
    d = archive.load()
    for train, x, y in ((True, d.train_x, d.train_y), (False, d.test_x, d.test_y)):
        theirs = cls(tmp_path, train)
        assert np.array_equal(x.numpy(), theirs.data) and y.tolist() == theirs.targets
        assert d.classes == tuple(theirs.classes)
    want = archive.x[-1, 0].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(d.test_x[0].numpy(), want) and d.shape == (3, 32, 32)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.fixture
def untouched(tmp_path, monkeypatch):
    """A folder to run in, in which nothing may come to be."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("published", [False, True])
def test_a_trap_is_never_sprung(archive, name, published, untouched):
    among = archive.contents[name] | {"more": Trap()}
    for raw in (pickle.dumps(Trap()), python2(Trap()), pickle.dumps(among)):
        archive.write(name, raw)
        if published:
            archive.publish()
        archive.refused("it asks for 'posix.mkdir'" if published else f"{name} is not the published file")


def test_the_commands_say_it_in_one_line(archive, untouched, tmp_path):
    args = ["cifar10", "--data-root", archive.root, "--out", tmp_path / "runs"]
    for name in ("data_batch_1", "batches.meta"):
        archive.write(name, pickle.dumps(Trap()))
        assert "is not the published file" in shell("train", *args, code=3, cwd=Path())
    archive.publish()
    assert "it asks for 'posix.mkdir'" in shell("train", *args, code=3, cwd=Path())
    (tmp_path / "trap.toml").write_bytes(pickle.dumps(Trap()))
    assert "trap.toml" in shell(
        "train", tmp_path / "trap.toml", "--out", tmp_path / "runs", code=2, cwd=Path()
    )
    assert not (tmp_path / "runs").exists()


def asking(module, name) -> bytes:
    """A pickle that asks for a function, and calls it with a text."""
    return f"c{module}\n{name}\n(S'sprung'\ntR.".encode()


@pytest.mark.parametrize(
    "asked",
    [
        ("builtins", "open"),
        ("__builtin__", "eval"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy.core.multiarray", "scalar"),
        ("nets.common.tensorfile", "write"),
        ("copyreg", "_reconstructor"),
    ],
)
def test_no_other_name_is_admitted(archive, asked, untouched):
    archive.write("data_batch_2", asking(*asked))
    archive.publish()
    archive.refused("it asks for '")


def test_dotted_names_and_attributes_lead_nowhere(archive, untouched):
    archive.write("data_batch_2", pickle.dumps(np.ndarray.tofile, 4))  # an attribute of what is admitted
    archive.publish()
    archive.refused("it asks for '")
    for name in ("numpy.ndarray", "numpy.dtype"):
        stand_in = cifar.STAND_INS[name]
        assert stand_in.__module__ == "nets.data.cifar"  # and not numpy's


@pytest.mark.parametrize(
    "change, told",
    [
        ({"data": np.zeros((4, 3072), np.float32)}, "no bytes"),
        ({"data": np.zeros((4, 3072), object)}, "no bytes"),
        ({"data": np.zeros((4, 3071), np.uint8)}, "not of 32 × 32"),
        ({"data": np.zeros((3072, 4), np.uint8).T}, "no bytes"),
        ({"data": [1, 2]}, "state"),
        ({"data": None}, "state"),
        ({"labels": [0, 1, 2]}, "labels"),
        ({"labels": [0, 1, 2, 10]}, "labels"),
        ({"labels": [0, 1, 2, -1]}, "labels"),
        ({"labels": [0, 1, 2, 0.5]}, "labels"),
        ({"labels": None}, "damaged"),
    ],
)
def test_published_but_wrong(archive, change, told):
    archive.write("data_batch_3", python2(archive.contents["data_batch_3"] | change))
    archive.publish()
    archive.refused(told)


def test_more_pictures_than_it_says(archive):
    raw = python2(archive.contents["data_batch_3"] | {"labels": [0, 1, 2]})
    assert raw.count(b"K\x04M\x00\x0c") == 1  # 4 × 3072
    archive.write("data_batch_3", raw.replace(b"K\x04M\x00\x0c", b"K\x03M\x00\x0c"))
    archive.publish()
    archive.refused("no bytes, or not of 32 × 32")


NAMELESS = [None, "0123456789", [*range(10)], [*"012345678", "\x1b"]]


@pytest.mark.parametrize(
    "content, told",
    [([], "indices"), ({}, "label_names"), *(({"label_names": names}, "no names") for names in NAMELESS)],
)
def test_names_that_are_none(archive, content, told):
    archive.write("batches.meta", python2(content))
    archive.publish()
    archive.refused(told)


def test_files_that_are_missing_or_none(archive):
    (archive.folder / "test_batch").unlink()
    archive.refused("test_batch is missing")
    os.mkfifo(archive.folder / "test_batch")
    archive.refused("test_batch is missing, or no such file")
    (archive.folder / "data_batch_1").write_bytes(b"")
    archive.refused("data_batch_1 is not the published file")


def test_damaged_pickles_of_the_right_hash(archive):
    raw = (archive.folder / "data_batch_1").read_bytes()
    rng = np.random.default_rng(0)
    for i in range(60):
        bad = bytearray(raw[: rng.integers(len(raw))] if i % 3 == 0 else raw)
        for at in rng.integers(0, 300, 4) if i % 3 else ():
            bad[at] = rng.integers(256)
        archive.write("data_batch_1", bad)
        archive.publish()
        try:
            d = archive.load()
        except DataError:
            continue
        assert d.train_x.shape == (20, 32, 32, 3) and d.train_y.max() < 10  # what was changed says nothing
