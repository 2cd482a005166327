"""nets distributed-plan: its tables and its picture."""

from PIL import Image

from tests.shell import shell


def test_the_plan_and_its_picture(tmp_path):
    printed = shell("distributed-plan", "--plot", tmp_path / "plan.png")
    tables = printed.strip().split("\n\n")
    assert [table.split(":")[0] for table in tables] == ["cifar10", "alexnet", "alexnet", "1.02 billion"]
    assert "60,965,224 weights, batches of 128\n" in tables[1]
    with Image.open(tmp_path / "plan.png") as image:
        assert image.width > 600
