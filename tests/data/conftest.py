"""Image trees that several test files read."""

import pytest

from tests.data.trees import make_tree, write_image


@pytest.fixture
def small_tree(tmp_path):
    """3 classes of 3 training images and 2 test images of 6 × 6."""
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog", "emu"):
            for i in range(count):
                write_image(tmp_path / split / name / f"{split}{i}.png")
    return tmp_path


@pytest.fixture
def root(tmp_path):
    """3 classes of 14 training images and 3 test images of 12 × 12."""
    return make_tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The same with images of several shapes."""
    return make_tree(tmp_path_factory.mktemp("mixed"), side=None)
