"""Text that a terminal can show."""

from nets.common.text import printable


def test_control_characters_and_broken_bytes_become_escapes():
    assert printable("a\nb\x1b[2J\udcff\u200b é 猫") == "a\\nb\\x1b[2J\\udcff\\u200b é 猫"
