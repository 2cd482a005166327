"""Runs the page's functions: in node, and in a browser as a reader does."""

import json
import os
import shutil
import subprocess
import time

import pytest

from nets.play.bundle import SCRIPTS, script

SCENES = ["neuron", "smallest", "cross", "digits"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
CALCULATING = SCRIPTS[: SCRIPTS.index("dom")]  # the modules that need no page


def browser_path() -> str:
    """The system's Chromium. The test is skipped without it, or without Playwright."""
    pytest.importorskip("playwright", reason="needs playwright: pip install -e '.[test]'")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    return path


def in_node(function: str, argument):
    """function(argument, modules) in node; both values are JSON."""
    code = f"{script(CALCULATING)}\nconst given = JSON.parse(require('fs').readFileSync(0));\n"
    code += f"console.log(JSON.stringify(({function})(given, modules)));"
    done = subprocess.run(
        ["node", "-e", code], input=json.dumps(argument), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def has_node() -> bool:
    return shutil.which("node") is not None


def launch(playwright, folder, **options):
    """A browser with a new profile in the folder."""
    return playwright.chromium.launch_persistent_context(
        folder, executable_path=browser_path(), args=ARGUMENTS, headless=True, env=dict(os.environ), **options
    )


def scene(tab, name: str, expression: str):
    """The value of a JavaScript expression of `scene`."""
    return tab.evaluate(f"((scene) => {expression})(play.scenes.find((s) => s.name === '{name}'))")


def settle(tab):
    """Wait until what was changed is drawn."""
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_until(tab, expression: str, seconds: float = 60):
    """Wait until a JavaScript expression is true. Playwright's own way needs eval, which the page forbids."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)
