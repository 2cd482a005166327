"""The error of from_torch has everything in at most ten lines."""

from nets.common.errors import ModuleError, Unsupported
from nets.convert.refusal import Problems


def test_one_problem_is_one_line():
    problems = Problems()
    problems.add(Unsupported("erfinv"), "", "model.py:3")
    error = problems.error("Net")
    assert type(error) is ModuleError and len(problems) == 1
    assert str(error) == "no layer here is for a part of Net: erfinv (itself, model.py:3)"


def test_the_first_three_places_are_named_and_the_others_counted():
    problems = Problems()
    for i in range(9):
        problems.add("RReLU", f"a.{i}")
        problems.add("erfinv", "b", f"model.py:{i}")
    problems.add("RReLU", "a.0")  # the same place again
    assert len(problems) == 18
    head, first, second = str(problems.error("Net")).splitlines()
    assert head == "no layer here is for these parts of Net:"
    assert first == "  RReLU (a.0; a.1; a.2; and 6 more places)"
    assert second.startswith("  erfinv (b, model.py:0; b, model.py:1; ")


def test_there_are_at_most_ten_lines():
    problems = Problems()
    for i in range(30):
        problems.add(f"call {i}", "a")
    lines = str(problems.error("Net")).splitlines()
    assert len(lines) == 10 and lines[-1] == "  and 22 more kinds"
