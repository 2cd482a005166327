"""Mutation testing: change one thing at a time in a layer, and see whether a test fails.

    python tests/mutants.py                         # makes all mutants anew, runs them, prints the table
    python tests/mutants.py "nets.layers.linear.*"  # runs these alone: a file, or patterns
    python tests/mutants.py --changed main          # runs those of the files that differ from a revision
    python tests/mutants.py --table                 # only prints the table

mutmut makes and runs the mutants ([tool.mutmut] in pyproject.toml says of which files, with which
tests). Of its own it turns arithmetic, comparison and boolean operators, adds 1 to a number, and
drops arguments and assigned values. Added here is what arrays need: one less, slices cut and
uncut, indices and sizes in another order, `.T` left out, `@` as `*`.

A test that fails kills a mutant, and so does one that crashes in the library or never ends. Every mutant that
survives must be listed in docs/mutants.md, with the reason why it changes no result; otherwise the
exit code is 1.
"""

import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import libcst as cst
from mutmut.__main__ import cli
from mutmut.mutation import file_mutation, mutators
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

PAGE = Path("docs/mutants.md")
# of the files that pyproject.toml names; of nets/lecture/many.py, the layer
ALL = ["nets.layers.*", "nets.losses.*", "nets.kernels.*", "nets.lecture.many.xǁ*"]
EXAMPLES = {"_example", "_diamond", "_quotient", "_products"}  # inputs of tests, where any number would do
KILLED = ("killed", "segfault", "suspicious", "timeout")
LITERAL = (cst.Integer, cst.SimpleString)
ONE = cst.Integer("1")
MINUS_ONE = cst.UnaryOperation(cst.Minus(), ONE)


def one_less(node):
    """2 -> 1, 0 -> -1"""
    less = node.evaluated_value - 1
    number = node.with_changes(value=repr(abs(less)))
    yield number if less >= 0 else cst.UnaryOperation(cst.Minus(), number)


def other_slice(node):
    """a:b -> :b, a:  and  : -> 1:, :-1"""
    yield node.with_changes(lower=None if node.lower else ONE)
    yield node.with_changes(upper=None if node.upper else MINUS_ONE)
    if node.step:
        yield node.with_changes(step=None)


def other_order(field):
    """(a, b, c) -> (b, a, c), (a, c, b), but not (0, 2, 3), a set of axes"""

    def swap(node):
        items = getattr(node, field)
        if all(isinstance(getattr(item, "value", None), LITERAL) for item in items):
            return
        for i, (a, b) in enumerate(pairwise(items)):
            if not a.with_changes(comma=b.comma).deep_equals(b):
                pair = b.with_changes(comma=a.comma), a.with_changes(comma=b.comma)
                yield node.with_changes(**{field: [*items[:i], *pair, *items[i + 2 :]]})

    return swap


def not_transposed(node):
    """x.T -> x"""
    if node.attr.value == "T":
        yield node.value


file_mutation.NEVER_MUTATE_FUNCTION_NAMES |= EXAMPLES
mutators._operator_mapping[cst.MatrixMultiply] = cst.Multiply
mutators.mutation_operators += [
    (cst.Integer, one_less),
    (cst.Float, one_less),
    (cst.Slice, other_slice),
    (cst.Tuple, other_order("elements")),
    (cst.Subscript, other_order("slice")),
    (cst.Attribute, not_transposed),
]


def fate(path, name, code, listed) -> tuple[str, str]:
    """What became of a mutant, and how it differs."""
    if status_by_exit_code[code] in KILLED:
        return "killed", ""
    lines = get_diff_for_mutant(name, path=path).splitlines()[2:]
    lines = [f"{line[0]} {line[1:].strip()}" for line in lines if line[0] in "+-"]
    if status_by_exit_code[code] == "survived" and all(line in listed for line in lines):
        return "equivalent", ""
    return "survived", "\n".join([f"{name}: {status_by_exit_code[code]}", *lines, ""])


def table() -> int:
    """Print what became of each file's mutants, and those that survived unlisted: how many?"""
    listed = PAGE.read_text().splitlines()
    total, survivors = Counter(), []
    print(f"\n{'file':30}{'made':>6}{'killed':>8}{'equivalent':>12}{'survived':>10}")

    def row(name, n):
        print(f"{name!s:30}{n.total():6}{n['killed']:8}{n['equivalent']:12}{n['survived']:10}")

    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        run = [(name, code) for name, code in data.exit_code_by_key.items() if code is not None]
        fates = [fate(path, name, code, listed) for name, code in run]
        survivors += [diff for _, diff in fates if diff]
        if fates:
            row(path, Counter(what for what, _ in fates))
        total += Counter(what for what, _ in fates)
    row("all", total)
    print("", *survivors, sep="\n")
    return len(survivors)


def changed(revision: str) -> list[str]:
    """Patterns of the mutants of the files that differ from a revision."""
    lines = subprocess.run(
        ["git", "diff", "--name-only", revision, "--", "nets"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    files = {str(path) for path in walk_mutatable_files()}
    return [f"{Path(line).with_suffix('').as_posix().replace('/', '.')}.*" for line in lines if line in files]


def main(args: list[str]) -> int:
    """The number of mutants that survived and aren't listed."""
    if args == ["--table"]:
        return table()
    if args[:1] == ["--changed"]:
        args = changed(args[1] if args[1:] else "HEAD")
        if not args:
            print("no file that is mutated has changed")
            return 0
        shutil.rmtree("mutants", ignore_errors=True)
    elif not args:
        shutil.rmtree("mutants", ignore_errors=True)
    cli(["run", *(args or ALL)], standalone_mode=False)
    return table()


if __name__ == "__main__":
    sys.exit(int(main(sys.argv[1:]) > 0))
