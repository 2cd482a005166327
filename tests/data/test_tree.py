"""Listing image trees: file names in one array, class folders, val/ for test/."""

import os

from PIL import Image

from nets.data import tree
from tests.data.trees import load_stream, make_tree, write_image


def test_names_of_files_are_bytes_in_one_array(tmp_path):
    groups = [["a/x.png", "a/\udcff ü.png"], ["b/" + "y" * 200], ["c/z"]]
    files = tree.FileList.from_groups(tmp_path, groups)
    paths = [f"{tmp_path}/{name}" for group in groups for name in group]
    assert [*files] == paths and files.y.tolist() == [0, 0, 1, 2]
    assert files.names.nbytes == sum(len(os.fsencode(n)) for g in groups for n in g)
    fewer = files.without([1, 3])
    assert [*fewer] == [paths[0], paths[2]] and fewer.y.tolist() == [0, 1]
    assert [*files.without([])] == paths


def test_val_replaces_a_missing_or_unlabeled_test_folder(tmp_path):
    make_tree(tmp_path, count=2, test="val")
    assert len(load_stream(tmp_path).test_x) == 9
    (tmp_path / "test").mkdir()  # as in ImageNet: images without labels
    Image.new("RGB", (12, 12)).save(tmp_path / "test" / "a.png")
    assert len(load_stream(tmp_path).test_x) == 9
    assert len(load_stream(tmp_path, memory_limit_mb=9).test_x) == 9


def test_scan_lists_image_files_in_subfolders_and_ignores_others(small_tree):
    write_image(small_tree / "train" / "dog" / "deeper" / "a.png")
    (small_tree / "train" / "dog" / "notes.txt").write_text("no image")
    (small_tree / "train" / ".cache").mkdir()
    splits, classes = tree.scan(small_tree)
    assert classes == ("cat", "dog", "emu")
    names = [splits["train"].name(i).decode() for i in range(3, 7)]
    assert names == ["dog/deeper/a.png", "dog/train0.png", "dog/train1.png", "dog/train2.png"]
