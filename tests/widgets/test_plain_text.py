"""Texts from models and pages: readable in any script, and nothing hidden in them."""

import pytest

from openmodels.widgets.plain_text import call_line, cut, printable


@pytest.mark.parametrize(
    "text", ["plain", "苹果，三个！", "a\tb\nc", "«Ünïcode» 👋", "no-break\u00a0space\u3000wide"]
)
def test_readable_text_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb", "a\\u202eb"),  # turns the order of what follows
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("a\u2028b", "a\\u2028b"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),  # a tag character: invisible text
        ("a\rb\0", "a\\rb\\x00"),
    ],
)
def test_hidden_characters_become_escapes(text, escaped):
    assert printable(text) == escaped


def test_a_call_is_a_single_line_with_all_arguments():
    line = call_line("send_message", {"to": "麦穗", "text": "a\nb\u202e", "n": {3}})
    assert line == 'send_message(to="麦穗", text="a\\nb\\u202e", n="{3}")'
    assert call_line("a\nb", {}) == "a\\nb()"


def test_a_cut_text_states_what_is_missing():
    assert cut("abc", 3) == "abc"
    assert cut("abcdef" * 1_000, 4) == "abcd… (5,996 characters are not shown)"
