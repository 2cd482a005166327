"""Fonts for names in any script, and texts cut to a width."""

import warnings

from matplotlib import font_manager
from matplotlib.figure import Figure

from nets.report import text
from nets.report.figure import save


def drawn(words: str):
    figure = Figure()
    return figure, figure.text(0.1, 0.5, words)


def test_a_font_that_has_a_character_is_found():
    char = min(
        c for c in text._characters(font_manager.findfont("STIXGeneral")) - text._characters(
            font_manager.findfont("DejaVu Sans"))
    )  # fmt: skip
    figure, found = drawn(f"a {char}")
    before = found.get_fontfamily()
    text.complete_fonts(figure)
    assert found.get_fontfamily()[: len(before)] == before and len(found.get_fontfamily()) == len(before) + 1
    families, missing = text._families(frozenset(char))
    assert len(families) == 1 and not missing


def test_ascii_keeps_its_font():
    figure, found = drawn("plain")
    before = [*found.get_fontfamily()]
    text.complete_fonts(figure)
    assert found.get_fontfamily() == before


def test_characters_of_no_font_are_one_note_and_no_warning(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(text, "_noted", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from font"
        )  # as the module sets it: pytest resets filters
        for _ in range(2):
            figure, _ = drawn("\U000e0fff x \U000e0ffe")  # of no script
            save(figure, tmp_path / "a.png")
    said = capfd.readouterr().err
    assert said == "note: no installed font has the characters \\U000e0ffe\\U000e0fff\n" and not caught


def test_fonts_that_cannot_be_read_are_passed_over(monkeypatch):
    def broken(path):
        raise RuntimeError("can not load face")

    monkeypatch.setattr(text, "_characters", broken)
    assert text._families.__wrapped__(frozenset("猫")) == ((), frozenset("猫"))


def test_a_text_is_cut_to_a_width_and_an_accent_stays_with_its_letter():
    _, found = drawn("wide " * 20)
    text.cut(found, 100)
    assert found.get_text().endswith("…") and 60 < found.get_window_extent().width <= 100
    _, found = drawn("short")
    text.cut(found, 100)
    assert found.get_text() == "short"
    text.cut(found, 1)
    assert found.get_text() == "…"
    assert text._beginning("cafe\u0301s", 4) == "caf…"
