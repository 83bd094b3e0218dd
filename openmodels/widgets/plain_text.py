"""Texts from models and pages, made safe to show: no invisible or direction-changing characters."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

# Categories of characters that are invisible or move the text around them; spaces are not listed.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str) -> str:
    """Return a text in which invisible characters, except tab and newline, are escapes: \\u202e.

    A terminal then gets no control sequence, and no character changes the order of what is shown.
    """
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character in "\t\n" or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, and how many were removed from a longer one."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit:,} characters are not shown)"


def call_line(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call as one line: book_berth(ship="Heron", nights=3)."""
    fields = (f"{key}={as_json(value)}" for key, value in arguments.items())
    return printable(f"{name}({', '.join(fields)})").replace("\n", "\\n")


def as_json(value: object) -> str:
    """Return a value as JSON, with Chinese as it is; what JSON does not know becomes its text."""
    return json.dumps(value, ensure_ascii=False, default=str)
