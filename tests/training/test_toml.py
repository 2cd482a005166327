"""TOML: byte order marks, numbers as people write them, and errors that name the right form."""

import math
import os
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets.common.errors import UsageError
from nets.training import toml

LOOSE = [
    (".001", "0.001"),
    ("-.5", "-0.5"),
    ("+.5e-3", "+0.5e-3"),
    ("1.", "1.0"),
    ("-3.", "-3.0"),
    ("1.e3", "1.0e3"),
    ("1_000.", "1_000.0"),
    ("True", "true"),
    ("FALSE", "false"),
]


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("a = 1\n", encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") and toml.read(path) == {"a": 1}


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "c.toml")
    with pytest.raises(UsageError, match="c.toml: not a file"):
        toml.read(tmp_path / "c.toml")


def test_another_encoding_is_refused(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("a = 1\n", encoding="utf-16")
    with pytest.raises(UsageError, match=r"c\.toml: not a UTF-8 text file"):
        toml.read(path)


@pytest.mark.parametrize("loose, strict", LOOSE)
def test_loose_values_are_taken_on_the_command_line(loose, strict):
    wanted = tomllib.loads(f"x = {strict}")["x"]
    assert toml.value(loose) == wanted and type(toml.value(loose)) is type(wanted)
    text = f'[{{ a = {loose}, b = [{loose}, {loose}], c = "{loose}" }}]'
    assert toml.value(text) == [{"a": wanted, "b": [wanted, wanted], "c": loose}]


@pytest.mark.parametrize("loose, strict", LOOSE)
@pytest.mark.parametrize(
    "text", ["x = {}", "x = {}\n", "a = 1\nx = {} # so\nb = 2\n", 'x = ["{}", {}]', "x = {{ y = {} }}"]
)
def test_loose_values_in_a_file_are_refused_with_the_right_form(loose, strict, text, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(text.format(*[loose] * text.count("{}")))
    with pytest.raises(UsageError) as e:
        toml.read(path)
    assert str(e.value).endswith(f"; write {strict}, not {loose}") and str(e.value).startswith(
        f"config {path}: "
    )


@pytest.mark.parametrize("text", ["x = [", "x = y", "x = 1.2.3", "x = .", 'x = "', "x = .5.5", "x = Trueish"])
def test_other_errors_suggest_nothing(text, tmp_path):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UsageError) as e:
        toml.read(tmp_path / "c.toml")
    assert "write" not in str(e.value)


@pytest.mark.parametrize(
    "text", ["a b", "a.1", "1.2.3", "True story", "x.5", "", "é", "-", ".", "1.x", "v1."]
)
def test_other_text_stays_text(text):
    assert toml.value(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**62), 2**62) | st.booleans())
def test_every_number_is_read_as_it_is(number):
    assert toml.value(toml.toml(number)) == number
    found = toml.value(str(number))
    assert found == number and type(found) is type(number)


@given(st.text())
def test_any_text_is_a_value_or_itself(text):
    found = toml.value(text)
    assert found == text or not isinstance(found, str) or text.strip()[0] in "\"'" or math.isnan(found)


def test_set_value_makes_tables_and_goes_into_lists():
    table = {"a": [{"b": 1}, {"b": 2}]}
    toml.set_value(table, "a.-1.b = 3")
    toml.set_value(table, "c.d=x y")
    assert table == {"a": [{"b": 1}, {"b": 3}], "c": {"d": "x y"}}
    for wrong, why in (
        ("a.2.b=1", "2 is no index"),
        ("c.d.e=1", "d is a value"),
        ("a", "key=value"),
        ("=1", "key=value"),
    ):
        with pytest.raises(UsageError, match=why):
            toml.set_value(table, wrong)
