"""Rows and reports: verdicts, the table, the line and the facts for JSON."""

import json

import torch

from nets.gradcheck.report import HEAD, Report, Row


def row(name, manual, autograd, verdict=None):
    made = Row.of("0 (Tanh)", name, manual, autograd, torch.float64, terms=4)
    made.verdict = verdict or made.verdict
    return made


X = torch.tensor([1.0, 2.0], dtype=torch.float64)


def test_a_row_is_wrong_where_rounding_does_not_explain_the_difference():
    assert row("input", X, X).verdict == "ok" and row("input", X, X).ok
    wrong = row("input", X * 1.5, X)
    assert wrong.verdict == "WRONG" and not wrong.ok and wrong.relative == 0.5 and wrong.worst == (1,)
    assert row("input", None, X).verdict == "WRONG"


def test_a_report_is_ok_with_kinks_and_not_with_errors_or_breaches():
    assert Report("training", "float64", [row("input", X, X), row("a", X, X, "kink")]).ok
    assert not Report("training", "float64", [row("a", X, X, "WRONG")]).ok
    assert not Report("training", "float64", breaches=["changes x"]).ok


def test_the_first_bad_row_is_the_first_wrong_one():
    rows = [row("a", X, X), row("b", X, X, "infected"), row("c", X, X, "WRONG"), row("d", X, X, "WRONG")]
    report = Report("training", "float64", rows)
    assert report.first_bad == "0 (Tanh), c" and report.guilty == ["0 (Tanh), c", "0 (Tanh), d"]
    assert Report("training", "float64").first_bad == ""


def test_the_table_has_a_line_for_every_row_and_says_what_is_off():
    rows = [row("a", X, X), row("b", X, X, "WRONG"), row("c", X, X, "infected"), row("d", X, X, "kink")]
    table = Report("training", "float64", rows, ["0 (Tanh) changes x"], corners=2).table()
    assert all(word in table for word in HEAD if word != "order")  # a layer has none
    for text in (
        "0 (Tanh), a",
        "WRONG",
        "infected: 1 tensors",
        "at kinks",
        "2 kinks",
        "contract: 0 (Tanh) changes x",
    ):
        assert text in table


def test_the_line_of_a_passed_check_has_counts_and_the_largest_differences():
    rows = [row("a", X, X), row("b", X, X, "kink")]
    rows[0].difference = 3e-9
    line = Report("evaluation", "float64", rows).line("net")
    assert line.startswith("net, evaluation: 2 tensors ok") and "1 at kinks" in line and "3e-09" in line


def test_facts_can_be_written_as_json():
    facts = json.loads(json.dumps(Report("training", "float64", [row("a", X, X)]).facts()))
    assert facts["ok"] and facts["rows"][0]["tensor"] == "a" and facts["first_bad"] == ""
