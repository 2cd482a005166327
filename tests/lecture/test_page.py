"""The page of the lecture: self-contained, and its numbers are measured ones."""

import base64
import html
import json
import re

import pytest
import torch

from nets.lecture import page
from nets.lecture.neuron import neuron, threshold
from nets.lecture.rate import rate_constant
from nets.lecture.slope import performance
from nets.lecture.two_weight import two_weight


def test_the_page_is_self_contained_and_its_numbers_are_in_the_json(tmp_path):
    results = {"threshold": threshold(most=4, neurons=20), "two-weight": two_weight(draws=3)}
    facts = {
        "seed": 0,
        "device": "cpu",
        "versions": {"torch": torch.__version__},
        "seconds": {"threshold": 0.1},
    }
    page.write(tmp_path, results, facts)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text) and "http" not in text and "<script" not in text
    for data in re.findall(r'src="data:image/png;base64,([^"]*)"', text):
        assert base64.b64decode(data)[:4] == b"\x89PNG"
    assert {p.name for p in tmp_path.glob("*.png")} == {"threshold.png", "two-weight.png"}
    facts = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    for name, result in results.items():
        assert facts["experiments"][name]["table"] == result.table
        assert facts["experiments"][name]["held"] is result.held


def _numbers(found):
    """Every number in a tree of figures, including those in keys and texts."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _numbers(key)
            yield from _numbers(value)
    elif isinstance(found, (list, tuple)):
        for value in found:
            yield from _numbers(value)
    elif isinstance(found, str):
        yield from (float(m) for m in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", found.replace(",", "")))
    elif isinstance(found, (int, float)) and not isinstance(found, bool):
        yield float(found)


def _is_among(text, known):
    """Does a printed number equal a known one, to its printed precision?"""
    digits, _, power = text.rstrip("%").replace(",", "").partition("e")
    decimals = len(digits.partition(".")[2])
    scale = 10.0 ** int(power or 0) / (100 if text.endswith("%") else 1)
    near = 0.5001 * 10.0**-decimals * scale if decimals or power or text.endswith("%") else 1e-9
    return any(abs(k - float(digits) * scale) <= near for k in known)


@pytest.mark.parametrize(
    "experiment",
    [
        lambda: neuron(),
        lambda: threshold(most=4, neurons=20),
        lambda: performance(),
        lambda: two_weight(draws=3),
        lambda: rate_constant(starts=50, rates=(0.5, 5.0, 50.0), cap=1000),
    ],
    ids=["neuron", "threshold", "performance", "two-weight", "rate-constant"],
)
def test_every_measured_number_of_a_section_is_in_its_figures(experiment):
    result = experiment()
    known = list(_numbers([result.figures, result.table, result.timings]))
    text = re.sub(r"<[^>]*>", " ", " ".join(result.found).replace("−", "-"))
    printed = re.findall(r"(?<![\w.,(-])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?%?(?![,\w)])", text)
    missing = [n for n in printed if not _is_among(n, known)]
    assert [n for n in missing if float(n.rstrip("%").replace(",", "")) > 8] == []


def test_a_failed_claim_is_reported_as_failed(tmp_path):
    broken = two_weight(draws=3, product=lambda w1, w2, x, d: _flipped(w1, w2, x, d))
    assert not broken.held
    assert page.line("two-weight", broken).startswith("NOT held")
    page.write(
        tmp_path,
        {"two-weight": broken},
        {"seed": 0, "device": "cpu", "versions": {"torch": ""}, "seconds": {}},
    )
    assert "the claim did not hold" in (tmp_path / "index.html").read_text(encoding="utf-8")


def _flipped(w1, w2, x, d):
    from nets.lecture.two_weight import factors

    parts = factors(w1, w2, x, d)
    return parts | {"dP/dw1": -parts["dP/dw1"]}


def test_a_pictures_alternative_text_is_its_label(tmp_path):
    result = two_weight(draws=3)
    facts = {"seed": 0, "device": "cpu", "versions": {"torch": ""}, "seconds": {}}
    page.write(tmp_path, {"two-weight": result}, facts)
    (alt,) = re.findall(r'<img alt="([^"]*)"', (tmp_path / "index.html").read_text(encoding="utf-8"))
    assert html.unescape(alt) == result.pictures[0][2].get_label()
