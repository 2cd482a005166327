"""The code and the commands in README, CONTRIBUTING and docs run, and print what the pages show.

`python tests/test_docs.py` writes the current output into the pages. These fenced blocks count:

    python title="FILE", toml title="FILE"   is written to FILE; one that starts with "    def backward"
                                             replaces that method in the file before it
    python                                   is run; a text block after it is its output
    console                                  "$ nets …" is run; the other lines are its output

A file test_*.py must pass under pytest. Blocks of other kinds (sh, py) are not run.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
    if re.search(r"^```(python|console)", path.read_text(encoding="utf-8"), re.M)
)
TRIAL = "CONTRIBUTING.md"  # adds a layer to a copy of the package
BLOCK = re.compile(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```\n', re.M | re.S)


class Page:
    """Runs a page's blocks in the current folder, all in this process."""

    def __init__(self):
        self.file, self.printed = Path(), None

    def __call__(self, text: str) -> str:
        """The page with the output as it is now."""
        return BLOCK.sub(self._block, text)

    def _block(self, match) -> str:
        kind, title, text = match.groups()
        printed, self.printed = self.printed, None
        if title:
            self.file = Path(title)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(text)
            if self.file.name.startswith("test_"):
                assert pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir=.", title]) == 0
        elif kind == "python" and text.startswith("    def backward"):
            old = self.file.read_text()
            self.file.write_text(re.sub(r"    def backward.*?(?=\n\S)", lambda _: text, old, flags=re.S))
        elif kind == "python":
            self.printed = output(lambda: exec(compile(text, "<page>", "exec"), {"__name__": "__main__"}))
        elif kind == "console":
            command = text.splitlines()[0]
            sys.argv = shlex.split(command.removeprefix("$ "))
            return (
                f"```console\n{command}\n{output(lambda: runpy.run_module('nets', run_name='__main__'))}```\n"
            )
        elif kind == "text" and printed is not None:
            return f"```text\n{printed}```\n"
        return match.group()


def output(call) -> str:
    """What a call prints on a terminal; errors come last. Empty lines and the device's line are left out."""
    import torch

    for name, module in list(sys.modules.items()):  # a file may have changed since it was imported
        if Path(getattr(module, "__file__", None) or ".").parent == Path.cwd():
            del sys.modules[name]
    torch.manual_seed(0)
    out, err = io.StringIO(), io.StringIO()
    stop = contextlib.suppress(SystemExit)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), stop:
        call()
    lines = [line.rstrip() for line in out.getvalue().splitlines() if line.strip() and "TF32" not in line]
    lines = [line for line in lines if not re.match(r"epoch \d+ of ", line)]  # of a run without its bar
    return "".join(f"{line}\n" for line in [*lines, *err.getvalue().splitlines()])


def current(pages: list[str], folder: Path) -> dict[str, str]:
    """The pages of these names as they should be. All run in one process, which imports torch once."""
    source = ROOT
    if pages == [TRIAL]:
        source = folder
        for name in ("nets", "configs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    env = os.environ | {"PYTHONPATH": str(source), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    args = [sys.executable, __file__, "--run", str(folder), *pages]
    done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {page: (folder / page).read_text(encoding="utf-8") for page in pages}


def run(folder: Path, pages: list[str]):
    """What the process of `current` does: write each page as it should be to folder."""
    sys.path[0] = ""  # the current folder
    for page in pages:
        work = folder if page == TRIAL else folder / Path(page).stem
        work.mkdir(exist_ok=True)
        os.chdir(work)
        text = Page()((ROOT / page).read_text(encoding="utf-8"))
        (folder / page).parent.mkdir(exist_ok=True)
        (folder / page).write_text(text, encoding="utf-8")


def without_numbers(page: str) -> str:
    """The words of a page: another build rounds numbers differently."""
    return re.sub(r"[ ]+", " ", re.sub(r"-?\d+(\.\d+)?(e[-+]\d+)?", "#", page))


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, str]:
    return current([page for page in PAGES if page != TRIAL], tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("page", [page for page in PAGES if page != TRIAL])
def test_page_shows_what_its_code_prints(page, shown):
    assert without_numbers(shown[page]) == without_numbers((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.deep
def test_layer_added_in_one_file_works_as_contributing_shows(tmp_path):
    text = (ROOT / TRIAL).read_text(encoding="utf-8")
    assert without_numbers(current([TRIAL], tmp_path)[TRIAL]) == without_numbers(text)
    found = later(tmp_path)
    assert "| [`CELU`][nets.layers.celu.CELU] | `alpha = 1.0` | y = x wh" in found
    assert re.search(r"^digits, 98,026 parameters.*^ms per step +\d", found, re.M | re.S)


def later(folder: Path) -> str:
    """The site's table of layers and a bench of the new layer, in the folder where the page has run."""
    (folder / "docs").mkdir(exist_ok=True)
    shutil.copy(ROOT / "docs" / "hooks.py", folder / "docs")
    bench = ["bench", "digits", "--set", 'net.layers.2={type="CELU", alpha=0.5}']
    bench += ["--device", "cpu", "--batch", "2", "--forms", "manual", "--rounds", "1", "--steps", "1"]
    code = f"from docs.hooks import layer_reference\nprint(layer_reference())\nmain({bench})"
    args = [sys.executable, "-c", f"from nets.commands import main\n{code}"]
    env = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.deep
def test_readme_shows_what_train_prints(tmp_path):
    args = [sys.executable, "train.py", "--out", str(tmp_path), "--device", "cpu", "--set", "train.epochs=1"]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^    (top-1 .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert [without_numbers(line) for line in shown] == [without_numbers(done.stdout.splitlines()[-1])]
    assert (tmp_path / "digits" / "top5.png").stat().st_size > 1000


@pytest.mark.parametrize("page", sorted({"README.md", "CONTRIBUTING.md", *PAGES}))
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        if "://" not in link and not link.endswith(("changelog.md", "contributing.md")):
            assert ((ROOT / page).parent / link).exists(), link


def test_files_that_pages_name_exist():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    names = set(re.findall(r"`((?:nets|tests|configs|examples)/[\w/]+(?:\.\w+)?)/?`", text))
    assert len(names) > 20
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(Path(sys.argv[2]), sys.argv[3:])
    else:
        import tempfile

        for page in sys.argv[1:] or PAGES:
            with tempfile.TemporaryDirectory() as folder:
                (ROOT / page).write_text(current([page], Path(folder))[page], encoding="utf-8")
