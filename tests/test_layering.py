"""The import rule of docs/layout.md: imports go one way, and heavy packages stay where they belong."""

import ast
import shutil
from pathlib import Path

import pytest

NETS = Path(__file__).parents[1] / "nets"

# A part may import itself and what is listed.
BASE = {"common", "layers"}
CORE = BASE | {"losses", "optim"}
DOWN = CORE | {"kernels", "data"}
ALLOWED = {
    "common": set(),
    "layers": {"common"},
    "losses": BASE,
    "optim": BASE,
    "gradcheck": BASE | {"losses"},
    "convert": BASE | {"losses"},
    "kernels": CORE,
    "data": CORE | {"kernels"},
    "training": DOWN | {"convert"},
    "distributed": DOWN | {"training", "convert"},
    "report": DOWN | {"training", "distributed", "gradcheck", "convert"},
}
# The rest sees everything: commands, bench, tools, lecture, play, and the files at the top.

HEAVY = {"matplotlib", "sklearn", "torchvision"}
LIGHT_PARTS = set(ALLOWED) - {"report"}  # none of these at import time, matplotlib not even in a function

# Imports that are still to be moved: (file, what it imports). No other may be added.
EXPECTED: set[tuple[str, str]] = set()


def part_of(module: str) -> str:
    """The part of nets that a module belongs to: nets.layers.conv -> layers; "" for nets itself."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, package: str):
    """Yield (line, module, inside a function?) for every import in a file, relative ones made absolute."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        late = id(node) in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, late
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name, late) for name in (names if module == "nets" else [module]))
        elif _is_import_call(node):
            yield node.lineno, str(node.args[0].value), late


def _is_import_call(node) -> bool:
    """Is it import_module("…"), with a constant?"""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in ("import_module", "__import__")


def violations(root: Path) -> list[tuple[str, str]]:
    """(file, what it may not import) of every import in the package at root that breaks the rule."""
    found = []
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root)
        part = file.parts[0].removesuffix(".py")
        package = ".".join(("nets", *file.parts[:-1]))
        for _, module, late in imports(path, package):
            top = module.split(".")[0]
            upwards = top == "nets" and part in ALLOWED and part_of(module) not in ALLOWED[part] | {part}
            plots = top == "matplotlib" and part not in ("report", "lecture")
            heavy = top in HEAVY and part in LIGHT_PARTS and not late
            if upwards or plots or heavy:
                found.append((str(file), module))
    return found


def test_imports_go_one_way_and_heavy_packages_stay_where_they_belong():
    found = set(violations(NETS))
    assert found - EXPECTED == set()
    assert EXPECTED - found == set(), "these imports are gone: take them off the list"


def test_every_folder_has_its_place_in_the_rule():
    parts = {path.name for path in NETS.iterdir() if (path / "__init__.py").exists()}
    assert parts - set(ALLOWED) == {"bench", "commands", "lecture", "play", "tools"}
    assert set(ALLOWED) - parts == {"losses"}


def with_line(file, line, folder):
    """The violations of a copy of one file, before and after a line is added to it."""
    copy = folder / "nets" / file
    copy.parent.mkdir(parents=True)
    shutil.copy(NETS / file, copy)
    before = violations(folder / "nets")
    copy.write_text(copy.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    return before, violations(folder / "nets")


@pytest.mark.parametrize(
    "file, line, module",
    [
        ("layers/conv.py", "from nets.training import config", "nets.training"),
        ("layers/conv.py", "import nets.optim.sgd", "nets.optim.sgd"),
        ("layers/conv.py", "from ..kernels import native", "nets.kernels"),
        ("layers/conv.py", "def f():\n    from nets import kernels", "nets.kernels"),
        ("layers/conv.py", "from nets import Linear", "nets.Linear"),
        ("losses.py", "from nets.optim import SGD", "nets.optim"),
        ("optim/sgd.py", "from nets.gradcheck import check", "nets.gradcheck"),
        (
            "kernels/registry.py",
            "import importlib\nimportlib.import_module('nets.data.datasets')",
            "nets.data.datasets",
        ),
        ("data/datasets.py", "from nets.training.step import train_step", "nets.training.step"),
        ("training/step.py", "from nets.distributed.world import World", "nets.distributed.world"),
        ("distributed/world.py", "from nets.commands import main", "nets.commands"),
        ("report/figure.py", "from nets.bench import measure", "nets.bench"),
        ("gradcheck/check.py", "from nets.optim import SGD", "nets.optim"),
        ("gradcheck/check.py", "from nets.convert.from_torch import from_torch", "nets.convert.from_torch"),
        ("convert/paths.py", "from nets.data.images import decode", "nets.data.images"),
        ("common/errors.py", "from nets.layers import Layer", "nets.layers"),
        ("data/cifar.py", "import torchvision", "torchvision"),
        ("data/datasets.py", "from sklearn.datasets import load_digits", "sklearn.datasets"),
        ("training/log.py", "def f():\n    import matplotlib.pyplot", "matplotlib.pyplot"),
        ("bench/race.py", "import matplotlib", "matplotlib"),
    ],
)
def test_a_planted_import_is_found(file, line, module, tmp_path):
    before, after = with_line(file, line, tmp_path)
    assert (file, module) in after and len(after) == len(before) + 1


@pytest.mark.parametrize(
    "file, line",
    [
        ("layers/conv.py", "from nets.common.errors import Problem"),
        ("layers/conv.py", "from .windows import Windows"),
        ("training/step.py", "from nets.data import datasets"),
        ("data/cifar.py", "def f():\n    import torchvision"),
        ("report/figure.py", "import matplotlib"),
        ("commands/bench.py", "from nets.lecture import page"),
    ],
)
def test_an_import_that_follows_the_rule_is_not_reported(file, line, tmp_path):
    before, after = with_line(file, line, tmp_path)
    assert before == after
