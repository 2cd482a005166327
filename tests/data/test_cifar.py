"""CIFAR's archives: read only if the checksums match, and never running code."""

import dataclasses
import hashlib
import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from nets.common.errors import DataError, UsageError
from nets.data import cifar, datasets
from nets.training import config
from tests.shell import shell


class Python2(pickle._Pickler):
    """Pickles as Python 2 does, whose strings are bytes: the format of the published files."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_text(self, text):
        raw = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)

    dispatch[str] = dispatch[bytes] = save_text


def python2(content) -> bytes:
    file = io.BytesIO()
    Python2(file, 2).dump(content)
    return file.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


class FakeArchive:
    """A small archive in the official layout. `publish` makes its MD5s the published ones."""

    def __init__(self, root, monkeypatch, source="cifar10", dump=python2):
        self.root, self.source, self.dump, self.patch = root, source, dump, monkeypatch
        archive = cifar.ARCHIVES[source]
        self.folder = Path(root) / archive.folder
        self.folder.mkdir(parents=True)
        rng, classes = np.random.default_rng(0), 10 if source == "cifar10" else 100
        files = [name for name, _ in archive.train + archive.test]
        self.x = rng.integers(0, 256, (len(files), 4, 3072), np.uint8)
        self.names = [f"class{i}" for i in range(classes)]
        self.contents = {archive.meta[0]: {archive.names_key: self.names}}
        for name, x in zip(files, self.x):
            labels = {archive.labels_key: [0, 1, 2, classes - 1]}
            self.contents[name] = {"batch_label": name, "data": x} | labels
        for name, content in self.contents.items():
            self.write(name, dump(content))
        self.publish()

    def write(self, name, raw):
        (self.folder / name).write_bytes(raw)

    def publish(self):
        """Replace the known MD5s by those of the files here, so every checksum matches."""
        self.md5 = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in self.folder.iterdir()}
        archive = cifar.ARCHIVES[self.source]
        files = {
            split: tuple((name, self.md5[name]) for name, _ in getattr(archive, split))
            for split in ("train", "test")
        }
        meta = (archive.meta[0], self.md5[archive.meta[0]])
        published = dataclasses.replace(archive, **files, meta=meta)
        self.patch.setitem(cifar.ARCHIVES, self.source, published)

    def load(self):
        return datasets.load(config.Data(source=self.source, root=str(self.root)))

    def assert_refused(self, message: str):
        with pytest.raises(DataError) as e:
            self.load()
        assert str(e.value).startswith(f"{self.folder}: damaged or incomplete (") and message in str(e.value)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    return FakeArchive(tmp_path / "data", monkeypatch)


CLASSES = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # in torchvision.datasets


@pytest.mark.parametrize("source", CLASSES)
def test_archives_are_those_that_torchvision_knows(source):
    theirs = getattr(pytest.importorskip("torchvision.datasets"), CLASSES[source])
    ours = cifar.ARCHIVES[source]
    assert (ours.url, ours.md5, ours.folder) == (theirs.url, theirs.tgz_md5, theirs.base_folder)
    assert [*ours.train] == [*map(tuple, theirs.train_list)]
    assert [*ours.test] == [*map(tuple, theirs.test_list)]
    meta = {"filename": ours.meta[0], "md5": ours.meta[1], "key": ours.names_key}
    assert meta == theirs.meta and ours.url.endswith("/" + theirs.filename)


@pytest.mark.parametrize("source", CLASSES)
@pytest.mark.parametrize("dump", [python2, pickle.dumps])
def test_an_archive_is_read_as_torchvision_reads_it(tmp_path, monkeypatch, source, dump):
    cls = getattr(pytest.importorskip("torchvision.datasets"), CLASSES[source])
    archive = FakeArchive(tmp_path, monkeypatch, source, dump)
    d = archive.load()
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(cls, files, [[name, archive.md5[name]] for name, _ in getattr(cls, files)])
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": archive.md5[cls.meta["filename"]]})
    for train, x, y in ((True, d.train_x, d.train_y), (False, d.test_x, d.test_y)):
        theirs = cls(tmp_path, train)
        assert np.array_equal(x.numpy(), theirs.data) and y.tolist() == theirs.targets
        assert d.classes == tuple(theirs.classes)
    want = archive.x[-1, 0].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(d.test_x[0].numpy(), want) and d.shape == (3, 32, 32)


def test_an_archive_is_read_without_torchvision(archive, monkeypatch):
    for name in ("torchvision", "torchvision.datasets", "torchvision.datasets.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    assert archive.load().train_x.shape == (20, 32, 32, 3)


def test_a_download_without_torchvision_names_the_extra(tmp_path, monkeypatch):
    for name in ("torchvision", "torchvision.datasets", "torchvision.datasets.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UsageError, match=r"the download of cifar-10-batches-py: needs torchvision.*\[vision\]"
    ):
        datasets.load(config.Data(source="cifar10", root=str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")

    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    root = tmp_path / "new"
    with pytest.raises(DataError, match="set --data-root to the folder that holds cifar-100-python"):
        datasets.load(config.Data(source="cifar100", root=str(root)))
    assert not root.exists()


class Trap:
    """Unpickling it creates a folder."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.fixture
def untouched(tmp_path, monkeypatch):
    """Runs the test in an empty folder, and checks that it stays empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("published", [False, True])
def test_a_file_never_runs_code(archive, name, published, untouched):
    among = archive.contents[name] | {"more": Trap()}
    for raw in (pickle.dumps(Trap()), python2(Trap()), pickle.dumps(among)):
        archive.write(name, raw)
        if published:
            archive.publish()
        archive.assert_refused("'posix.mkdir' is not allowed" if published else f"{name}: checksum mismatch")


def test_commands_report_a_damaged_archive_in_one_line(archive, untouched, tmp_path):
    args = ["cifar10", "--data-root", archive.root, "--out", tmp_path / "runs"]
    for name in ("data_batch_1", "batches.meta"):
        archive.write(name, pickle.dumps(Trap()))
        assert "checksum mismatch" in shell("train", *args, code=3, cwd=Path())
    archive.publish()
    assert "'posix.mkdir' is not allowed" in shell("train", *args, code=3, cwd=Path())
    (tmp_path / "trap.toml").write_bytes(pickle.dumps(Trap()))
    assert "trap.toml" in shell(
        "train", tmp_path / "trap.toml", "--out", tmp_path / "runs", code=2, cwd=Path()
    )
    assert not (tmp_path / "runs").exists()


def calling(module, name) -> bytes:
    """A pickle that calls a function with a string."""
    return f"c{module}\n{name}\n(S'sprung'\ntR.".encode()


@pytest.mark.parametrize(
    "function",
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
def test_no_other_function_is_allowed(archive, function, untouched):
    archive.write("data_batch_2", calling(*function))
    archive.publish()
    archive.assert_refused("is not allowed")


def test_attributes_of_allowed_names_are_not_allowed(archive, untouched):
    archive.write("data_batch_2", pickle.dumps(np.ndarray.tofile, 4))  # an attribute of an allowed name
    archive.publish()
    archive.assert_refused("is not allowed")
    for name in ("numpy.ndarray", "numpy.dtype"):
        stand_in = cifar.STAND_INS[name]
        assert stand_in.__module__ == "nets.data.cifar"  # not numpy


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": np.zeros((4, 3072), np.float32)}, "not bytes"),
        ({"data": np.zeros((4, 3072), object)}, "not bytes"),
        ({"data": np.zeros((4, 3071), np.uint8)}, "not bytes of 32 × 32 × 3"),
        ({"data": np.zeros((3072, 4), np.uint8).T}, "not bytes"),
        ({"data": [1, 2]}, "state"),
        ({"data": None}, "state"),
        ({"labels": [0, 1, 2]}, "labels"),
        ({"labels": [0, 1, 2, 10]}, "labels"),
        ({"labels": [0, 1, 2, -1]}, "labels"),
        ({"labels": [0, 1, 2, 0.5]}, "labels"),
        ({"labels": None}, "damaged"),
    ],
)
def test_wrong_content_with_the_right_checksum_is_refused(archive, change, message):
    archive.write("data_batch_3", python2(archive.contents["data_batch_3"] | change))
    archive.publish()
    archive.assert_refused(message)


def test_more_bytes_than_the_shape_says_are_refused(archive):
    raw = python2(archive.contents["data_batch_3"] | {"labels": [0, 1, 2]})
    assert raw.count(b"K\x04M\x00\x0c") == 1  # 4 × 3072
    archive.write("data_batch_3", raw.replace(b"K\x04M\x00\x0c", b"K\x03M\x00\x0c"))
    archive.publish()
    archive.assert_refused("not bytes of 32 × 32 × 3")


BAD_NAMES = [None, "0123456789", [*range(10)], [*"012345678", "\x1b"]]


@pytest.mark.parametrize(
    "content, message",
    [
        ([], "indices"),
        ({}, "label_names"),
        *(({"label_names": names}, "not a list of printable strings") for names in BAD_NAMES),
    ],
)
def test_bad_class_names_are_refused(archive, content, message):
    archive.write("batches.meta", python2(content))
    archive.publish()
    archive.assert_refused(message)


def test_missing_and_empty_files_are_refused(archive):
    (archive.folder / "test_batch").unlink()
    archive.assert_refused("test_batch is missing")
    os.mkfifo(archive.folder / "test_batch")
    archive.assert_refused("test_batch is missing, not a file")
    (archive.folder / "data_batch_1").write_bytes(b"")
    archive.assert_refused("data_batch_1: checksum mismatch")


def test_damaged_pickles_with_the_right_checksum_are_read_or_refused(archive):
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
        assert (
            d.train_x.shape == (20, 32, 32, 3) and d.train_y.max() < 10
        )  # the damage is in a part that is not used
