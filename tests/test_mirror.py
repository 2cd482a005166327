"""tests/ mirrors nets/: the tests of nets/a/b.py are in tests/a/test_b.py, with the exceptions named here.

A part of them can be in a file beside it, tests/a/test_b_TOPIC.py.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WITHOUT_MODULE = {  # test file: why it has no module of its name
    "commands/test_arguments": "every command",
    "commands/test_wheel": "the installed wheel",
    "convert/test_forms": "whole forwards, apart for length",
    "convert/test_torchvision": "the models of torchvision",
    "data/test_fuzz": "generated image files and trees",
    "distributed/test_process_group": "what needs several processes, forked once",
    "gradcheck/test_own_layers": "layers that users write",
    "gradcheck/test_right_layers": "right layers on inputs that are hard to judge",
    "gradcheck/test_planted": "bugs planted in every layer",
    "layers/test_dtypes": "every layer",
    "layers/test_gradients": "every layer",
    "layers/test_op_db": "every layer",
    "layers/test_operators": "every layer of a Graph's arithmetic and shapes",
    "layers/test_properties": "every layer",
    "play/test_look": "the page in a browser",
    "play/test_numbers": "the page's scripts",
    "play/test_page": "the page in a browser",
    "test_docs": "README, CONTRIBUTING and docs",
    "test_examples": "examples/",
    "test_import": "imports of every package",
    "test_layering": "imports of every module",
    "test_mirror": "the names of tests",
    "test_mutants": "mutants of changed files",
    "training/test_alexnet": "whole runs of one config",
    "training/test_resume": "whole runs",
}
TESTED_IN = {  # module: the file that tests it
    "api": "test_import",
    "bench/profile": "bench/test_text",
    "commands/rates": "bench/test_rates",
    "commands/soak": "commands/test_wheel",
    "commands/stream_bench": "tools/test_stream_bench",
    "commands/survive": "commands/test_wheel",
    "convert/operands": "convert/test_forms",
    "convert/trace": "convert/test_forms",
    "kernels/native/declare": "kernels/native/test_check",
    "gradcheck/case": "commands/test_gradcheck",
    "gradcheck/conditioning": "gradcheck/test_right_layers",
    "gradcheck/leaf": "gradcheck/test_functions",
    "gradcheck/loss": "gradcheck/test_check",
    "gradcheck/one_input": "layers/test_graph",
    "gradcheck/precision": "commands/test_gradcheck",
    "gradcheck/single_layer": "gradcheck/test_check",
    "layers/arithmetic": "layers/test_operators",
    "layers/reduction": "layers/test_operators",
    "layers/reshaping": "layers/test_operators",
    "layers/softmax": "layers/test_gradients",
    "lecture/result": "lecture/test_page",
    "report/bench": "bench/test_text",
    "training/hooks/log": "training/test_resume",
    "training/learn": "test_fitting",
    "training/make": "training/test_step",
    "training/pretrained": "convert/test_pretrained",
    "training/result": "commands/test_train",
}

MODULES = {p.relative_to(ROOT / "nets").with_suffix("") for p in (ROOT / "nets").rglob("*.py")}
MODULES = {path.as_posix() for path in MODULES if not path.stem.startswith("__")}
TESTS = {
    p.relative_to(ROOT / "tests").with_suffix("").as_posix() for p in (ROOT / "tests").rglob("test_*.py")
}


def namesake(module: str) -> str:
    *folders, name = module.split("/")
    return "/".join([*folders, f"test_{name}"])


PACKAGES = {p.parent.relative_to(ROOT / "nets").as_posix() for p in (ROOT / "nets").rglob("*/__init__.py")}
NAMESAKES = {namesake(module) for module in MODULES | PACKAGES}


def has_module(test: str) -> bool:
    return test in NAMESAKES or any(test.startswith(f"{name}_") for name in NAMESAKES & TESTS)


def test_every_test_file_has_the_name_of_a_module_or_a_reason():
    assert sorted(test for test in TESTS if not has_module(test)) == sorted(WITHOUT_MODULE)


def test_every_module_has_a_test_file_of_its_name_or_names_another():
    assert sorted(module for module in MODULES if namesake(module) not in TESTS) == sorted(TESTED_IN)


@pytest.mark.parametrize("file", sorted(set(TESTED_IN.values())))
def test_the_named_file_exists(file):
    assert file in TESTS
