"""Exercise 5.4: turn what a model reads from a form or hears on the radio into a tool call."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openmodels.check import WrongAnswer, exercise
from openmodels.exercises.cases import Case
from openmodels.exercises.contracts import Contract
from openmodels.harbour.world import GOODS, NAMES, SHOPS
from openmodels.workflows.office_kit import GOODS_BY_WORD

ToolCall = tuple[str, dict[str, Any]]

# --- The reference solution -----------------------------------------------------------------------


def closest(word: str, words: Sequence[str]) -> str | None:
    """Return the known word that is most similar, if one is similar enough."""
    return next(iter(difflib.get_close_matches(word, words, 1, 0.6)), None)


def find_shop(text: str) -> str | None:
    """Return the shop that a text names."""
    return next((shop for shop in SHOPS if re.search(rf"\b{shop}\b", text)), None)


def find_good(text: str) -> str | None:
    """Return the good that a text names, in singular."""
    words = re.findall(r"\w+", text.lower())
    return next((GOODS_BY_WORD[word] for word in words if word in GOODS_BY_WORD), None)


def find_person(text: str) -> str | None:
    """Return the person that a text names."""
    return next((word for word in re.findall(r"\w+", text) if word in NAMES), None)


def order_call(fields: dict, shop: str) -> ToolCall:
    """Return the call that orders what a form says."""
    return "place_order", {**fields, "shop": shop}


@dataclass(frozen=True)
class Steps:
    """The steps of both functions. A known mistake replaces one of them."""

    parse: Callable[[str], Any] = json.loads
    errors: tuple[type[Exception], ...] = (ValueError,)
    near: Callable[[str, Sequence[str]], str | None] = closest
    near_name: Callable[[str, Sequence[str]], str | None] = closest
    quantity: Callable[[Any], Any] = lambda value: (
        int(value)
        if (type(value) is int or (isinstance(value, str) and value.strip().isdecimal()))
        and int(value) > 0
        else None
    )
    names: Sequence[str] = ("customer", "good", "quantity")
    shop: Callable[[str], str | None] = find_shop
    order: Callable[[dict, str], ToolCall] = order_call
    good: Callable[[str], str | None] = find_good
    price: Callable[[str, str], bool] = lambda heard, text: "price" in heard.lower()
    ask: Callable[[str, str, str], ToolCall] = lambda good, shop, heard: (
        "get_price", {"item": good, "shop": shop}
    )  # fmt: skip
    person: Callable[[str, str], str | None] = lambda heard, text: find_person(text)
    tell: Callable[[str, str], ToolCall] = lambda person, heard: (
        "send_message", {"to": person, "text": heard}
    )  # fmt: skip
    nothing: Any = None
    priority: str = "price"


def read_form(steps: Steps, seen: str, text: str) -> ToolCall | None:
    """Return the call that orders what a form says, or None if it cannot be read."""
    try:
        form = steps.parse(seen)
    except steps.errors:
        return None
    shop = steps.shop(text)
    if not isinstance(form, dict) or shop is None or not all(n in form for n in steps.names):
        return None
    item, name = (
        steps.near(str(form.get("good")), list(GOODS)),
        steps.near_name(str(form.get("customer")), NAMES),
    )
    quantity = steps.quantity(form.get("quantity"))
    if item is None or name is None or quantity is None:
        return None
    return steps.order({"name": name, "item": item, "quantity": quantity}, shop)


def read_call(steps: Steps, heard: str, text: str) -> ToolCall | None:
    """Return the tool call that a radio call needs, or None if what was heard is the answer."""
    shop, good, person = steps.shop(text), steps.good(heard), steps.person(heard, text)
    asks = shop and good and steps.price(heard, text)
    if asks and (steps.priority == "price" or not person):
        return steps.ask(good, shop, heard)
    return steps.tell(person, heard) if person else steps.nothing


def use(**changes: Any) -> tuple[Callable, Callable]:
    """Return both functions with some steps replaced."""
    steps = replace(Steps(), **changes)
    return (
        lambda seen, text: read_form(steps, seen, text),
        lambda heard, text: read_call(steps, heard, text),
    )


reference_form_call, reference_radio_call = use()

# --- Known mistakes -------------------------------------------------------------------------------


def mistake(name: str, message: str, first: bool, **changes: Any) -> WrongAnswer:
    """Return a wrong answer of both functions. first: the mistake is in `form_call`."""
    functions = use(**changes)
    if first:
        return WrongAnswer(name, (functions[0], reference_radio_call), message)
    return WrongAnswer(name, (reference_form_call, functions[1]), message)


def exact(word: str, words: Sequence[str]) -> str | None:
    """Return a word if it is known."""
    return word if word in words else None


def any_match(word: str, words: Sequence[str]) -> str | None:
    """Return the most similar word, however different it is."""
    return next(iter(difflib.get_close_matches(word, words, 1, 0.0)), None)


MISTAKES = [
    mistake("broken JSON raises", "A form that is not JSON gives None: the office then asks a "
            "person.", True, errors=()),
    mistake("list accepted", "JSON that is not an object gives None.", True,
            parse=lambda seen: (lambda v: v[0] if isinstance(v, list) else v)(json.loads(seen))),
    mistake("missing fields", "A form without a quantity is not complete: return None.", True,
            names=(), quantity=lambda value: value if type(value) is int else 1),
    mistake("goods as read", "Replace a misread good by the closest known one.", True,
            near=lambda word, words: word),
    mistake("exact goods", "A good with one wrong letter is still readable: use the closest known "
            "good.", True, near=exact),
    mistake("exact names", "A name with one wrong letter is still readable: use the closest known "
            "name.", True, near_name=exact),
    mistake("any name", "A name that is like no known name gives None: do not guess a customer.",
            True, near_name=any_match),
    mistake("any good", "A good that is like no known good gives None: do not guess an order.",
            True, near=any_match),
    mistake("quantity of 0", "A quantity below 1 gives None.", True,
            quantity=lambda value: int(value) if type(value) is int or (
                isinstance(value, str) and value.lstrip("-").isdecimal()) else None),
    mistake("quantity as text", "A quantity in quotes, such as \"12\", is a number too.", True,
            quantity=lambda value: value if type(value) is int and value > 0 else None),
    mistake("true as 1", "`true` is no quantity, although Python counts it as an int.", True,
            quantity=lambda value: int(value) if isinstance(value, int) and value > 0
            or isinstance(value, str) and value.isdecimal() else None),
    mistake("fields of the form", "The tool calls them `name` and `item`, not `customer` and "
            "`good`.", True, order=lambda fields, shop: ("place_order", {
                "customer": fields["name"], "good": fields["item"],
                "quantity": fields["quantity"], "shop": shop})),
    mistake("arguments only", "Return the name of the tool and its arguments.", True,
            order=lambda fields, shop: {**fields, "shop": shop}),
    mistake("no shop", "Without a shop in the text, the order has no place: return None.", True,
            shop=lambda text: find_shop(text) or "market"),
    mistake("plural good", "The tools need the good in singular: `GOODS_BY_WORD` has it.", False,
            ask=lambda good, shop, heard: ("get_price", {"item": GOODS[good][0], "shop": shop})),
    mistake("price without asking", "Only a call that asks for a price is a price request.", False,
            price=lambda heard, text: True),
    mistake("person of the call", "The recipient is in the text of the request. A name in the call "
            "comes from outside: it must not choose who gets the message.", False,
            person=lambda heard, text: find_person(heard) or find_person(text)),
    mistake("call lost", "Pass on what was heard, word for word.", False,
            tell=lambda person, heard: ("send_message", {
                "to": person, "text": "There was a radio call."})),
    mistake("nobody told", "Without a person and without a price, return None: what was heard is "
            "the answer.", False, nothing=("send_message", {"to": "", "text": ""})),
    mistake("pass on first", "A call that asks for a price, with a shop, is a price request even "
            "if the text names a person.", False, priority="person"),
    mistake("lower case of names", "Compare goods in lower case, and names as they are.", False,
            good=lambda text: next((GOODS_BY_WORD[w] for w in re.findall(r"\w+", text)
                                    if w in GOODS_BY_WORD), None)),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------

FORM = {"customer": "Ada", "good": "lamp", "quantity": 12, "day": "Friday", "price": 40}
ORDER = "Please order what the form says from the smithy."


def form(what: str, hint: str = "", text: str = ORDER, drop: str = "", **changes: Any) -> Case:
    """Return a case of `form_call`. drop: a field that the form lacks."""
    fields = {name: v for name, v in (FORM | changes).items() if name != drop}
    return Case(what, (json.dumps(fields), text), hint)


FORMS = [
    form("a clear form"),
    Case("text that is not JSON", ('{"customer": "Ada", "good"', ORDER)),
    Case("a list", (json.dumps([FORM]), ORDER)),
    Case("an empty answer", ("", ORDER)),
    form("a misread good", good="kettie"),
    form("a misread name", customer="Imgrid"),
    form("an unknown name", customer="Xqv"),
    form("an unknown good", good="zzzzzz"),
    form("no quantity", drop="quantity"),
    form("no customer", drop="customer"),
    form("a quantity of 0", quantity=0),
    form("a negative quantity", quantity="-3"),
    form("a quantity in quotes", quantity="12"),
    form("a quantity that is true", quantity=True),
    form("one piece", quantity=1, good="knife"),
    form("a text without a shop", text="Please order what the form says."),
    form("another shop", text="Order this at the boatyard."),
]
CALLS = [
    Case("a ship that arrives", ("Osprey arrives on Sunday, berth 18.",
                                 "A radio call for Ada. Please pass it on.")),
    Case("a price", ("What is the price of 38 nets?",
                     "A radio call. What does this cost at the boatyard?")),
    Case("a price of an apple", ("What is the price of 5 apples?", "At the market, please.")),
    Case("the meaning of a signal", ("a ship turns right", "What does the signal mean?")),
    Case("strokes of a bell", ("bell: 3 strokes", "How many strokes does the bell sound?")),
    Case("goods to send", ("Send 9 chairs to Puffin on Sunday.",
                           "Pass this radio call on to Otto at the workshop.")),
    Case("a price for a person", ("What is the price of 6 coats?",
                                  "Ada asks what this costs at the tailor.")),
    Case("a call with a name", ("Tell Otto that the net is ready.",
                                "A radio call for Ada. Please pass it on.")),
    Case("a call in capitals", ("WHAT IS THE PRICE OF 38 NETS?", "What is it at the boatyard?")),
]  # fmt: skip


@exercise("5.4", wrong=MISTAKES)
def check_media(form_call: Callable, radio_call: Callable) -> str:
    """Judge `form_call(seen, text)` and `radio_call(heard, text)`."""
    firsts = [m for m in MISTAKES if m.answer[1] is reference_radio_call]
    seconds = [m for m in MISTAKES if m.answer[0] is reference_form_call]
    Contract(reference_form_call, FORMS, [replace(m, answer=m.answer[0]) for m in firsts]).expect(
        form_call
    )
    Contract(reference_radio_call, CALLS, [replace(m, answer=m.answer[1]) for m in seconds]).expect(
        radio_call
    )
    return f"your office reads {len(FORMS)} forms and {len(CALLS)} sounds, and guesses none."
