"""The page as one file."""

import json
import re

import pytest

from nets.play.bundle import EXPORT, IMPORT, SCRIPTS, page, part
from nets.play.weights import read, to_json
from tests.shell import ROOT


def test_the_committed_page_is_current():
    committed = (ROOT / "docs/play/index.html").read_text(encoding="utf-8")
    assert committed == page(), "stale: nets play --no-open --out docs/play/index.html"
    assert len(committed.encode()) < 1e6


def test_the_page_names_nothing_outside_itself():
    text = page()
    assert not re.findall(r'(?:src|href)="(?!#)', text) and "{{" not in text
    assert set(re.findall(r"https?://[^\s\"')]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|WebSocket|eval|importScripts)\s*\(", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_module_imports_what_others_before_it_export(name):
    for names, module in IMPORT.findall(part(f"{name}.js")):
        assert SCRIPTS.index(module) < SCRIPTS.index(name)
        wanted = {n.strip() for n in names.strip("{} \n").split(",") if n.strip()}
        assert wanted <= set(EXPORT.findall(part(f"{module}.js"))), module
        for one in wanted:
            assert len(re.findall(rf"\b{one}\b", part(f"{name}.js"))) > 1, f"{one} is not used"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_module_is_short(name):
    lines = part(f"{name}.js").splitlines()
    assert lines[0].startswith("// ") and len(lines) <= 300


def test_the_scripts_are_all_that_there_are():
    assert {p.stem for p in (ROOT / "nets/play").glob("*.js")} == set(SCRIPTS)


def test_a_net_of_ones_own_takes_the_place_of_the_digits_net():
    text = page(to_json(read(), "</script>"))
    (inside,) = re.findall(r'<script type="application/json" id="net">(.*?)</script>', text, re.S)
    assert json.loads(inside)["name"] == "</script>"
