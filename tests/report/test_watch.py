"""nets watch: what it shows of a run, in a terminal and as a PNG."""

import textwrap

import pytest

from nets.report import watch
from nets.report.progress import status
from tests.log_entries import log_of


@pytest.mark.parametrize("width", [10, 24, 60, 80, 119, 120, 200])
@pytest.mark.parametrize("height", [3, 9, 12, 24, 50])
def test_text_fits_the_terminal(width, height):
    lines = watch.text("a-name", log_of(), 10, width, height)
    assert max(map(len, lines)) <= width
    words = "\n".join(lines)
    head = textwrap.fill("a-name: " + ", ".join(status(log_of(), 10)), width).count("\n") + 1
    room = (height - head - 1) // 5 if width >= 20 else 0
    shown = [what for what in ("loss", "top-1 / %") if what in words]
    assert shown == ["loss", "top-1 / %"][: 2 * room if width >= 120 else max(room, 0)]
    assert words.count(" step\n") + words.endswith(" step") == (1 if shown and width >= 120 else len(shown))
    if width >= 24:
        assert all(
            any(word in line for line in lines) for word in status(log_of(), 10)
        )  # not broken across lines
    if shown:
        assert min(height - 4, 21) <= len(lines) < height
    assert "\xa0" not in words and words.startswith("a-name")


def test_a_resized_terminal_is_cleared(capsys):
    screen = watch.Screen()
    for size in ((80, 24), (80, 24), (60, 24)):
        screen.show(["a", "b"], size)
    assert capsys.readouterr().out == "a\nb\n\x1b[2F\x1b[Ja\nb\n\x1b[H\x1b[2Ja\nb\n"
