"""Compose sentences from templates with alternatives, some of which are held out.

A template is text with alternatives in square brackets, ``[how much|what] does it cost``, that may
be nested or empty. ``<rule>`` stands for one of the alternatives of a named rule. An alternative
that starts with ``~`` is held out: the train split never uses it. Slots in braces are untouched.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache

Option = tuple[bool, tuple]  # held out, parts
TOKEN = re.compile(r"[\[\]|~]|<\w+>|[^\[\]|~<]+|<")
PROPER = frozenset("I I'm I'd I'll I've Captain Mill Fisher".split())
NUMBERS = dict(
    enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
) | {20: "twenty", 30: "thirty", 40: "forty"}


@cache
def parse(text: str) -> tuple[Option, ...]:
    """Return a template's alternatives as a tree; rules stay named.

    Raises ValueError for brackets that do not match.
    """
    stack: list[list] = [[[False, []]]]
    for token in TOKEN.findall(text):
        if token == "[":
            stack.append([[False, []]])
        elif token == "]":
            if len(stack) == 1:
                raise ValueError(f"a bracket too many in {text!r}")
            options = stack.pop()
            stack[-1][-1][1].append(tuple((held, tuple(parts)) for held, parts in options))
        elif token == "|":
            stack[-1].append([False, []])
        elif token == "~" and not stack[-1][-1][1]:
            stack[-1][-1][0] = True
        else:
            stack[-1][-1][1].append(token)
    if len(stack) != 1:
        raise ValueError(f"a bracket is not closed in {text!r}")
    return tuple((held, tuple(parts)) for held, parts in stack[0])


class Grammar:
    """A seeded source of sentences; `test` permits the alternatives that are held out."""

    def __init__(self, rng: random.Random, test: bool, rules: Mapping[str, str]):
        self.rng, self.test, self.rules = rng, test, rules

    def expand(self, template: str | Sequence[str]) -> str:
        """Return one sentence of a template, or of one of several templates."""
        if not isinstance(template, str):
            allowed = [t for t in template if self.test or not t.startswith("~")]
            template = self.rng.choice(allowed)
        return self._choose(parse(template))

    def _choose(self, options: tuple[Option, ...]) -> str:
        allowed = options
        if not self.test:
            allowed = tuple(option for option in options if not option[0])
        elif len(options) > 1:  # a held-out alternative counts twice in the test split
            allowed = options + tuple(option for option in options if option[0])
        parts = self.rng.choice(allowed)[1]
        return "".join(
            self._rule(part) if isinstance(part, str) else self._choose(part) for part in parts
        )

    def _rule(self, part: str) -> str:
        if part.startswith("<") and part[1:-1] in self.rules:
            return self._choose(parse(self.rules[part[1:-1]]))
        return part


def capital(text: str) -> str:
    """Return a text with its first letter capitalised."""
    return text[:1].upper() + text[1:]


def casual(rng: random.Random, text: str, share: float = 0.2) -> str:
    """Return a text, or with probability `share` the text as people type it in a hurry.

    Such a text is in lower case or lacks its final punctuation or its apostrophes.
    """
    if rng.random() >= share:
        return text
    kind = rng.random()
    if kind < 0.6:
        text = text.lower()
    if kind > 0.3:
        text = text.rstrip(".?!") + rng.choice(("", "", "", "??", "!"))
    if rng.random() < 0.3:
        text = text.replace("'", "")
    return text


def in_words(rng: random.Random, count: int, share: float = 0.15) -> str:
    """Return a number as digits, or with probability `share` as a word if it is a short one."""
    return NUMBERS[count] if count in NUMBERS and rng.random() < share else str(count)
