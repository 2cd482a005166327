"""Listing image trees: file names in one array, class folders, val/ for test/."""

import os
import shutil
import subprocess
import unicodedata

import pytest
from PIL import Image

from nets.common.errors import DataError
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


def names_of(files) -> list[str]:
    return [os.fsdecode(files.name(i)) for i in range(len(files))]


def test_scan_lists_image_files_in_subfolders_and_ignores_others(small_tree):
    write_image(small_tree / "train" / "dog" / "deeper" / "a.png")
    (small_tree / "train" / "dog" / "notes.txt").write_text("no image")
    (small_tree / "train" / ".cache").mkdir()
    splits, classes, left_out = tree.scan(small_tree)
    assert classes == ("cat", "dog", "emu")
    assert names_of(splits["train"])[3:7] == [
        "dog/deeper/a.png",
        "dog/train0.png",
        "dog/train1.png",
        "dog/train2.png",
    ]
    assert left_out.counts == {"ending .txt": 1, "hidden": 1}


def test_hidden_and_system_folders_are_left_out_and_counted(small_tree):
    whole = tree.scan(small_tree)
    for name in (".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX"):
        write_image(small_tree / "train" / "cat" / name / "a.png")
        write_image(small_tree / "train" / name / "a.png")  # where a class is expected
        write_image(small_tree / "test" / name / "a.png")
    (small_tree / "train/dog/._train0.png").write_bytes(b"\0\5\x16\7")
    splits, classes, left_out = tree.scan(small_tree)
    assert classes == whole[1] and all([*splits[k]] == [*whole[0][k]] for k in splits)
    assert left_out.counts == {"hidden": 7, "system folder": 6}


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda p: p.symlink_to(p.parent / "nowhere.png"), "broken link"),
        (lambda p: p.symlink_to(p), "broken link"),
        (lambda p: p.symlink_to(p.parents[1] / "dog"), "linked folder"),
        (lambda p: p.symlink_to(p.parents[1]), "linked folder"),
        (os.mkfifo, "pipe, device or socket"),
        (lambda p: p.symlink_to("/dev/zero"), "pipe, device or socket"),
        (lambda p: p.with_suffix(".svg").touch(), "ending .svg"),
        (lambda p: p.with_suffix("").touch(), "no ending"),
    ],
)
def test_what_is_no_image_file_is_left_out_and_counted(small_tree, make, reason):
    make(small_tree / "train" / "cat" / "x.png")
    splits, _, left_out = tree.scan(small_tree)
    assert left_out.counts == {reason: 1} and left_out.first[reason][0].startswith("train/cat/x")
    assert len(splits["train"]) == 9


def test_files_beside_the_class_folders_are_counted(small_tree):
    write_image(small_tree / "train" / "a.png")
    os.mkfifo(small_tree / "test" / "pipe")
    assert tree.scan(small_tree)[2].counts == {"not in a class folder": 1, "pipe, device or socket": 1}


def test_linked_files_and_class_folders_are_read(small_tree):
    shutil.move(small_tree / "train" / "emu", small_tree / "elsewhere")
    (small_tree / "train" / "emu").symlink_to(small_tree / "elsewhere")
    (small_tree / "train" / "cat" / "more.png").symlink_to(small_tree / "train" / "dog" / "train0.png")
    splits, _, left_out = tree.scan(small_tree)
    assert splits["train"].y.tolist() == [0] * 4 + [1] * 3 + [2] * 3 and not left_out.counts


@pytest.mark.parametrize("target", ["nowhere", "fox"])  # "fox" leads to itself
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_folder_that_is_a_broken_link_is_an_error(small_tree, split, target):
    (small_tree / split / "fox").symlink_to(target)
    with pytest.raises(DataError, match=f"{split}/fox: a broken link, where a class folder is expected"):
        tree.scan(small_tree)


def test_endings_are_read_in_any_case_and_named_where_there_are_no_images(small_tree):
    for path in (small_tree / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".JFIF"))
    assert len(tree.scan(small_tree)[0]["train"]) == 9
    for path in (small_tree / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".raw"))
    with pytest.raises(DataError, match=r"cat: no images in this class folder \(endings: .*\.png "):
        tree.scan(small_tree)


def test_classes_are_compared_in_one_unicode_form(small_tree):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        write_image(small_tree / split / unicodedata.normalize(form, "café") / "a.png")
    splits, classes, _ = tree.scan(small_tree)
    assert classes == ("café", "cat", "dog", "emu") and splits["test"].y.tolist()[0] == 0
    (small_tree / "train" / unicodedata.normalize("NFD", "café")).mkdir()
    with pytest.raises(DataError, match=r"'cafe\\u0301' and 'caf\\xe9' have the same name"):
        tree.scan(small_tree)


@pytest.mark.parametrize(
    "name, shown",
    [("cat ", '"cat ": class not in'), ("c\u0430t", r"\('c\\u0430t'\): class not in")],  # a Cyrillic a
)
def test_a_difference_between_class_names_that_is_not_seen_is_shown(small_tree, name, shown):
    write_image(small_tree / "test" / name / "a.png")
    with pytest.raises(DataError, match=shown + ' train/; did you mean "cat"'):
        tree.scan(small_tree)


def test_names_that_are_not_utf8_or_hold_control_characters_are_read(small_tree, capsys):
    for name in ("x\udcff.png", "a\nb\x1b[2J.png", ".\udcff\x1b"):
        write_image(small_tree / "train" / "cat" / "b.png")
        (small_tree / "train" / "cat" / "b.png").rename(small_tree / "train" / "cat" / name)
    data = load_stream(small_tree, memory_limit_mb=4000)
    assert len(data.train_x) == 11 and data.left_out["hidden"]["count"] == 1
    said = capsys.readouterr().err
    assert said == f"note: {small_tree}: not read: hidden: 1 (train/cat/.\\udcff\\x1b)\n"


def test_a_tree_deeper_than_the_stack_is_read(small_tree):
    deep = small_tree / "train" / "cat"
    here = os.getcwd()
    try:
        os.chdir(deep)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        os.chdir(deep)
        assert len(tree.scan(small_tree)[0]["train"]) == 9
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-r", deep / "d"], check=True)  # shutil.rmtree and pytest would recurse
