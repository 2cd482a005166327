"""What is left out of an image tree: counts, the first paths, one line."""

import json

import pytest

from nets.data.left_out import LeftOut, hidden_or_system
from tests.data.trees import make_tree
from tests.shell import shell


def test_the_first_paths_of_each_reason_are_kept():
    found = LeftOut()
    for i in range(5):
        found.add("hidden", f"train/a/.{i}")
    found.add_ending("train/a/B.TXT")
    found.add_ending("train/a/b\x1b")
    assert found.facts()["hidden"] == {"count": 5, "first": ["train/a/.0", "train/a/.1", "train/a/.2"]}
    assert found.line() == (
        "ending .txt: 1 (train/a/B.TXT); hidden: 5 (train/a/.0, train/a/.1, train/a/.2, …);"
        " no ending: 1 (train/a/b\\x1b)"
    )
    assert LeftOut().line() == "" and LeftOut().facts() == {}


@pytest.mark.parametrize("name", [".a", "._a.png", "__MACOSX", "@eaDir", "$RECYCLE.BIN"])
def test_hidden_and_system_names(name):
    assert hidden_or_system(name) and not hidden_or_system(f"a{name}")


def test_what_a_run_does_not_read_is_in_its_result(tmp_path):
    root = make_tree(tmp_path / "tree", count=4)
    (root / "train/ant/._0.png").touch()
    (root / "test/bee/9.png").symlink_to("nowhere")
    layers = '["GlobalAvgPool", { type = "Linear", out_features = 3 }]'
    text = f'[data]\nsource = "folder"\n[net]\nlayers = {layers}\n[train]\nepochs = 2\nbatch_size = 4\n'
    (tmp_path / "net.toml").write_text(text)
    shell("train", tmp_path / "net.toml", "--data-root", root, "--out", tmp_path)
    facts = json.loads((tmp_path / "net/result.json").read_text())["left_out"]
    assert facts == {
        "broken link": {"count": 1, "first": ["test/bee/9.png"]},
        "hidden": {"count": 1, "first": ["train/ant/._0.png"]},
    }
