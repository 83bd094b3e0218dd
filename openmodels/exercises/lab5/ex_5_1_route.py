"""Exercise 5.1: translate a request by a glossary, and route it to a handler."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openmodels.check import WrongAnswer, exercise
from openmodels.exercises.cases import Case
from openmodels.exercises.contracts import Contract
from openmodels.workflows.office_kit import GLOSSARY, ROUTES
from openmodels.workflows.office_request import Request

PUNCTUATION = {"？": "?", "。": ".", "，": ",", "：": ":", "！": "!"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")
Routes = Mapping[str, Sequence[str]]

# --- The reference solution -----------------------------------------------------------------------


def longest_first(phrases: Mapping[str, str]) -> list[str]:
    """Return the phrases of a glossary, the longest first."""
    return sorted(phrases, key=len, reverse=True)


def tidy(text: str) -> str:
    """Return a text with single spaces, and no space before punctuation."""
    return re.sub(r" ([?.,:!])", r"\1", " ".join(text.split()))


@dataclass(frozen=True)
class Steps:
    """The steps of both functions. A known mistake replaces one of them."""

    order: Callable[[Mapping[str, str]], list[str]] = longest_first
    space: str = " "
    punctuation: Mapping[str, str] = None  # type: ignore[assignment]
    clean: Callable[[str], str] = tidy
    unknown: Callable[[str], str] = str
    english: Callable[[str], bool] = lambda text: not CHINESE.search(text)
    media: Sequence[str] = ("sound", "image")
    form: Callable[[str], bool] = lambda handler: handler == "place_order"
    head: Callable[[str], str] = lambda text: text.partition(":")[0]
    words: Callable[[str], Any] = lambda text: re.findall(r"\w+", text.lower())
    rows: Callable[[Routes, Any], list[str]] = lambda routes, words: [
        name for name, keys in routes.items() if set(keys) & set(words)
    ]
    none: str = "person"
    translated: bool = True
    pair: Callable[[str, str], Any] = lambda handler, text: (handler, text)


def translate(steps: Steps, text: str, glossary: Mapping[str, str]) -> str:
    """Return a text in English, phrase by phrase."""
    if steps.english(text):
        return text
    phrases, parts, place = steps.order(glossary), [], 0
    marks = PUNCTUATION if steps.punctuation is None else steps.punctuation
    while place < len(text):
        phrase = next((p for p in phrases if text.startswith(p, place)), "")
        character = text[place]
        if phrase:
            parts.append(f"{steps.space}{glossary[phrase]}{steps.space}")
        else:
            parts.append(marks.get(character, steps.unknown(character)))
        place += len(phrase) or 1
    return steps.clean("".join(parts))


def choose(steps: Steps, request: Request, glossary: Mapping[str, str], routes: Routes) -> Any:
    """Return the handler of a request, and its text in English."""
    english = translate(steps, request.text, glossary)
    rows = steps.rows(routes, steps.words(steps.head(english)))
    handler = rows[0] if rows else steps.none
    for kind in reversed(steps.media):
        if getattr(request, kind) is None:
            continue
        if kind == "sound":
            handler = "sound"
        else:
            handler = "form" if steps.form(handler) else "picture"
    return steps.pair(handler, english if steps.translated else request.text)


def use(**changes: Any) -> tuple[Callable, Callable]:
    """Return both functions with some steps replaced."""
    steps = replace(Steps(), **changes)
    return (
        lambda text, glossary: translate(steps, text, glossary),
        lambda request, glossary, routes: choose(steps, request, glossary, routes),
    )


reference_to_english, reference_route = use()

# --- Known mistakes -------------------------------------------------------------------------------


def mistake(name: str, message: str, first: bool, **changes: Any) -> WrongAnswer:
    """Return a wrong answer of both functions. first: the mistake is in `to_english`."""
    functions = use(**changes)
    answer = (functions[0], reference_route) if first else (reference_to_english, functions[1])
    return WrongAnswer(name, answer, message)


MISTAKES = [
    mistake("glossary order", "Take the longest phrase that fits, not the first of the glossary.",
            True, order=list),
    mistake("shortest first", "You take the shortest phrase: 面包店 is a bakery, not a loaf.",
            True, order=lambda phrases: sorted(phrases, key=len)),
    mistake("no spaces", "Put spaces around each translated phrase, then remove double ones.",
            True, space=""),
    mistake("Chinese punctuation", "Replace Chinese punctuation, such as ？ and ：, too.",
            True, punctuation={}),
    mistake("spaces before punctuation", "Remove the space before a punctuation mark.",
            True, clean=lambda text: " ".join(text.split())),
    mistake("unknown dropped", "A character that the glossary lacks stays as it is: it may be a "
            "name or a number.", True, unknown=lambda character: ""),
    mistake("lower case", "Keep the case: the tools need `Heron`, not `heron`.",
            True, clean=lambda text: tidy(text).lower()),
    mistake("English cleaned", "A text without Chinese characters stays exactly as it is.",
            True, english=lambda text: False),
    mistake("picture before sound", "A request with a sound goes to `sound`, whatever else it has.",
            False, media=("image",)),
    mistake("no form", "A picture with the words of an order is a form.",
            False, form=lambda handler: False),
    mistake("always a form", "A picture is a form only if its text orders something.",
            False, form=lambda handler: True),
    mistake("words after the colon", "Only the text before the first colon decides: what follows "
            "is the text of a message.", False, head=str),
    mistake("parts of words", "Compare whole words: `ordered` and `bookshop` contain other words.",
            False, words=str.lower, rows=lambda routes, text: [
                name for name, keys in routes.items() if any(key in text for key in keys)]),
    mistake("upper case", "A sentence may start with a word of the table: compare in lower case.",
            False, words=lambda text: re.findall(r"\w+", text)),
    mistake("last row", "The first row of the table with a word of the text decides, not the last.",
            False, rows=lambda routes, words: [
                name for name, keys in reversed(routes.items()) if set(keys) & set(words)]),
    mistake("most words", "The first row decides, not the row with most words.",
            False, rows=lambda routes, words: sorted(
                (n for n, keys in routes.items() if set(keys) & set(words)),
                key=lambda n: -len(set(routes[n]) & set(words)))),
    mistake("nobody", "If no row has a word of the text, the handler is `person`.",
            False, none="find_ship"),
    mistake("Chinese kept", "Return the text in English: the tools' model does not read Chinese.",
            False, translated=False),
    mistake("handler only", "`route` returns two things: the handler and the English text.",
            False, pair=lambda handler, text: handler),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------

SMALL = {"面包": "loaf", "面包店": "the bakery", "有多少": "has how many", "星期一": "Monday",
         "高潮": "high water", "几点": "at what hour", "告诉": "tell", "请": "please"}  # fmt: skip


def text_case(what: str, text: str, hint: str = "", glossary: Mapping = GLOSSARY) -> Case:
    """Return a case of `to_english`."""
    return Case(what, (text, dict(glossary)), hint)


def route_case(what: str, text: str, hint: str = "", **media: bytes) -> Case:
    """Return a case of `route`."""
    return Case(what, (Request(text, **media), dict(GLOSSARY), dict(ROUTES)), hint)


TEXTS = [
    text_case("one phrase", "面包", glossary=SMALL),
    text_case("a bakery", "面包店有多少面包", "Look at every place for the longest phrase.", SMALL),
    text_case("a question with its mark", "星期一高潮几点？", glossary=SMALL),
    text_case("a name and a colon", "请告诉Ada：面包", glossary=SMALL),
    text_case("a ship", "在哪里能找到Heron？"),
    text_case("a number", "请为Ada在船具店订12绳子。"),
    text_case("an unknown character", "面包店有多少猫？"),
    text_case("English with two spaces", "Good morning.  Where is the Heron ?"),
    text_case("an empty text", ""),
    text_case("a day and an island", "星期五去North Cape的渡船几点？"),
]
ROUTED = [
    route_case("a price", "What is the price of a rope at the chandlery?"),
    route_case("a berth", "Where does the Heron lie?"),
    route_case("a sentence with a capital", "Pay Ada 3 coins."),
    route_case("a price of a book", "What does a book cost at the bookshop?"),
    route_case("a message about an order", "Send Otto this message: the order is here."),
    route_case("news of a price", "Read this to me: what is the price of a lamp?"),
    route_case("duty", "How many coins of duty do I pay for a lamp off the Petrel?"),
    route_case("the duty on a price", "What is the price and cost of duty on ropes?"),
    route_case("nobody's request", "Can you sing?"),
    route_case("a word inside a word", "He ordered well. Where is the Heron?"),
    route_case("a Chinese question", "面包店有多少面包？"),
    route_case("a Chinese order", "请为Ada在船具店订12绳子。"),
    route_case("a picture", "How many flags are there?", image=b"png"),
    route_case("a gauge", "What does the tide gauge show?", image=b"png"),
    route_case("a form", "Please order what the form says from the smithy.", image=b"png"),
    route_case("a sound", "What does the signal mean?", sound=b"wav"),
    route_case("a sound and a picture", "Order this.", image=b"png", sound=b"wav"),
    route_case("a picture without a text", "", image=b"png"),
]


@exercise(
    "5.1",
    wrong=[
        *MISTAKES,
        WrongAnswer("nothing", (lambda text, glossary: None, reference_route), "returns None"),
    ],
)
def check_route(to_english: Callable, route: Callable) -> str:
    """Judge `to_english(text, glossary)` and `route(request, glossary, routes)`."""
    firsts = [m for m in MISTAKES if m.answer[1] is reference_route]
    seconds = [m for m in MISTAKES if m.answer[0] is reference_to_english]
    Contract(reference_to_english, TEXTS, [replace(m, answer=m.answer[0]) for m in firsts]).expect(
        to_english
    )
    Contract(reference_route, ROUTED, [replace(m, answer=m.answer[1]) for m in seconds]).expect(
        route
    )
    return f"your router sends {len(ROUTED)} requests to the right handler, in English."
