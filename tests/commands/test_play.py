"""nets play."""

import json
import re
import webbrowser

import pytest

from nets.play.bundle import page
from tests.shell import shell


@pytest.fixture
def opened(monkeypatch):
    """The addresses that a browser is asked to open."""
    addresses = []
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


def test_the_page_is_written_and_opened(opened, tmp_path):
    printed = shell("play", cwd=tmp_path)
    path = tmp_path / "runs/play/index.html"
    assert path.read_text(encoding="utf-8") == page() and opened == [path.as_uri()]
    assert printed == f"wrote runs/play/index.html, {path.stat().st_size / 1e6:.2f} MB\n"


def test_no_open_only_writes_it(opened, tmp_path):
    shell("play", "--no-open", "--out", tmp_path / "a b/page.html")
    assert opened == [] and (tmp_path / "a b/page.html").is_file()


def test_without_a_browser_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert shell("play", cwd=tmp_path).endswith("no browser found; open the file in one\n")


def test_a_run_of_ones_own_is_shown(opened, digits, tmp_path):
    shell("play", "--run", digits[0], "--out", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    (inside,) = re.findall(r'id="net">(.*?)</script>', text, re.S)
    assert json.loads(inside)["name"] == "digits" and text != page()
    assert "no such run" in shell("play", "--run", tmp_path / "none", "--out", tmp_path / "x.html", code=4)
    assert not (tmp_path / "x.html").exists()
