"""The page in a browser, and its functions in node and in the browser."""

import pytest

from nets.play.bundle import page as text
from tests.play import engine


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    """The page on the disk."""
    path = tmp_path_factory.mktemp("play") / "index.html"
    path.write_text(text(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def context(tmp_path_factory):
    """A browser without tabs of its own use; errors of the page fail the test that opens it."""
    engine.browser_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = engine.launch(playwright, tmp_path_factory.mktemp("profile"), has_touch=True)
        context.set_default_timeout(60_000)
        yield context
        context.close()


@pytest.fixture
def tab(context, page_file):
    """A function that opens the page with an address's state. It returns the tab."""
    opened, errors, requests = context.new_page(), [], []
    opened.on("pageerror", lambda e: errors.append(str(e)))
    opened.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    opened.on("request", lambda r: requests.append(r.url))

    def visit(state: str = "", width: int = 1600, height: int = 900):
        opened.set_viewport_size({"width": width, "height": height})
        opened.goto("about:blank")
        opened.goto(page_file.as_uri() + (f"#{state}" if state else ""))
        opened.wait_for_selector("h2")
        return opened

    yield visit
    opened.close()
    assert errors == []
    assert all(url.startswith(("file:", "about:")) for url in requests), requests


@pytest.fixture(params=["node", pytest.param("browser", marks=pytest.mark.deep)])
def call(request):
    """call(function, argument): the JavaScript function of (argument, modules) on one JSON value."""
    if request.param == "node":
        if not engine.has_node():
            pytest.skip("needs node")
        return engine.in_node
    tab = request.getfixturevalue("tab")("scene=neuron")
    return lambda function, argument: tab.evaluate(f"given => ({function})(given, play.modules)", argument)
