"""Tables as text."""

from nets.report.tables import count, grid, number, size


def test_numbers_have_three_significant_digits():
    assert [number(v) for v in (1234.5, 12.34, 1.234, 0.1234)] == ["1,234", "12.3", "1.23", "0.123"]


def test_sizes_and_counts_have_prefixes():
    assert [size(v) for v in (None, 12, 3.2e6)] == ["–", "12 B", "3.20 MB"]
    assert count(2.5e9) == "2.50 G"


def test_columns_are_aligned_and_lines_have_no_trailing_spaces():
    assert grid([["a", "", "x"], ["bbb", "12", ""]], left=(0, 2)) == "a        x\nbbb  12"
