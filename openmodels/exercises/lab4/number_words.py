"""Numbers in a text, in digits and in words, for exercise 4.5."""

import re
from functools import cache

SMALL = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"


@cache
def values_of_words() -> dict[str, float]:
    """Return the value of each number word from "two" to "ninety-nine"."""
    words = {word: float(value) for value, word in enumerate(SMALL, 2)}
    for tens, word in enumerate(TENS, 2):
        words[word] = 10.0 * tens
        for unit, small in enumerate(["one", *SMALL[:8]], 1):
            words[f"{word}-{small}"] = 10.0 * tens + unit
    return words


def read_numbers(text: str) -> set[float]:
    """Return the numbers of a text as floats, from digits and from words.

    1,200 is 1200.0. Words count from "two" to "ninety-nine", in any case; "one" is left out,
    because it is a pronoun too often. Example: "Ida has 12 or thirteen crates" -> {12.0, 13.0}.
    """
    digits = {float(number.replace(",", "")) for number in re.findall(NUMBER, text)}
    values = values_of_words()
    words = re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower())
    parts = [p for word in words for p in ([word] if word in values else word.split("-"))]
    return digits | {values[part] for part in parts if part in values}
