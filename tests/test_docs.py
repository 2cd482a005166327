"""The pages in docs say what the commands print: their code is run, their output compared.

`python tests/test_docs.py` writes the output into the pages anew.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gradients.md"
BLOCK = re.compile(r"```(python)?\n(.*?)```\n", re.S)


def run(page: str, folder: Path) -> str:
    """The page with its commands' output as it is now. Code is put together in folder."""

    def block(match):
        kind, text = match.groups()
        file = folder / "rmsnorm.py"
        if kind and text.startswith("    def backward"):  # a new backward for the file
            old = file.read_text()
            file.write_text(re.sub(r"    def backward.*?(?=\n\S)", lambda _: text, old, flags=re.S))
        elif kind:
            (folder / "test_rmsnorm.py" if "def test" in text else file).write_text(text)
        else:
            line = text.splitlines()[0]
            args = [sys.executable, *line.removeprefix("$ python ").split(), "--device", "cpu"]
            env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
            done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True)
            out = "\n".join(s.rstrip() for s in done.stdout.splitlines() if s and "TF32" not in s)
            return f"```\n{line}\n{out}\n{done.stderr}```\n"
        return match.group()

    return BLOCK.sub(block, page)


def shape_of(text: str) -> str:
    """Verdicts and words, without the numbers, which another build rounds otherwise."""
    return re.sub(r"[ ]+", " ", re.sub(r"-?\d+(\.\d+)?(e[-+]\d+)?", "#", text))


def test_gradients_page(tmp_path):
    page = PAGE.read_text()
    assert shape_of(run(page, tmp_path)) == shape_of(page)
    args = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_rmsnorm.py"]
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(run(PAGE.read_text(), Path(folder)))
