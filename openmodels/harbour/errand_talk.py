"""The parts of an errand's conversation: messages, calls, expectations and standard answers."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field

from openmodels.harbour.office import Office
from openmodels.harbour.text import Message, assistant, user
from openmodels.harbour.tools import OFFICE_SCHEMAS
from openmodels.harbour.world import GOODS, a, some

NO_TOOL = "I have no tool for that."
COULD_NOT = "I could not"
GOOD_WORDS = re.compile(r"\b(?:" + "|".join(GOODS) + r")\b")


Request = tuple[str, dict]  # a function's name and its arguments


class Redraw(Exception):  # noqa: N818 (not an error: the scenario does not fit this office)
    """The scenario cannot be written with this office; draw another one."""


@dataclass(frozen=True)
class Turn:
    """What a complete conversation contains between one user message and the next.

    calls: steps in order, each a tuple of (name, arguments) that belong side by side. values: words
    and numbers that the answer contains. opening: how the answer begins, for a refusal. fields: the
    arguments of `final_result`, or None if the turn ends with text.
    """

    calls: tuple[tuple[Request, ...], ...]
    values: tuple[str, ...]
    opening: str = ""
    fields: dict | None = None


@dataclass
class Talk:
    """A conversation in the making: messages, and what is expected of each turn.

    typed: whether the conversation ends with `final_result(answer)` instead of a text.
    """

    office: Office
    typed: bool = False
    messages: list[Message] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    steps: list[tuple[Request, ...]] = field(default_factory=list)
    output: dict | None = None  # the fields of final_result and their JSON types
    offered: list[str] = field(default_factory=list)  # tools that a wrong model would call

    def ask(self, text: str) -> None:
        """Add the user's message."""
        self.messages.append(user(text))

    def call(self, *requests: Request) -> list[dict]:
        """Add calls that the model makes in one message, and return their results."""
        self.steps.append(requests)
        self.messages.append(calling(*requests))
        results = [self.office.call(name, arguments) for name, arguments in requests]
        self.messages += [{"role": "tool", "content": json.dumps(r)} for r in results]
        return results

    def say(self, text: str, *values: object, opening: str = "") -> None:
        """Add the final answer and the values that it must contain."""
        if self.typed:
            self.output = {"answer": "string"}
            self.messages.append(calling(("final_result", {"answer": text})))
        else:
            self.messages.append(assistant(text))
        self._end(tuple(map(str, values)), opening, {"answer": text} if self.typed else None)

    def finish(self, **fields: object) -> None:
        """Add the call of `final_result` with these fields."""
        kinds = {str: "string", int: "integer"}
        self.output = {key: kinds[type(value)] for key, value in fields.items()}
        self.messages.append(calling(("final_result", fields)))
        self._end((), "", fields)

    def _end(self, values: tuple[str, ...], opening: str, fields: dict | None) -> None:
        self.turns.append(Turn(tuple(self.steps), values, opening, fields))
        self.steps = []


def calling(*requests: Request) -> Message:
    """Return an assistant message that makes these calls."""
    calls = [
        {"type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in requests
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def combinations(name: str, arguments: dict, result: dict) -> list[tuple]:
    """Return the combinations that a call depends on; the splits share none of them."""
    if "error" in result or name not in OFFICE_SCHEMAS:
        return []
    v = arguments
    if name == "send_message":
        goods = sorted(set(GOOD_WORDS.findall(v["text"])))
        return [(v["to"], good) for good in goods] or [(v["to"], v["text"])]
    return {
        "get_price": lambda: [(v["item"], v["shop"])],
        "get_stock": lambda: [(v["item"], v["shop"])],
        "ferry_times": lambda: [(v["to"], v["day"])],
        "tide": lambda: [(v["day"], result["high"], result["low"])],
        "find_ship": lambda: [(result["captain"], v["ship"])],
        "book_berth": lambda: [(v["captain"], v["ship"])],
        "place_order": lambda: [(v["name"], v["item"]), (v["item"], v["shop"])],
        "read_mail": lambda: [("mail", v["person"], result["from"])],
        "pay": lambda: [(v["name"], v["coins"])],
    }[name]()


def report(name: str, v: dict, result: dict) -> tuple[str, tuple]:
    """Return the sentence that reports a result, and the values that it must contain."""
    if name == "get_price":
        text = f"{a(v['item']).capitalize()} at the {v['shop']} costs {result['price']} coins."
        return text, (v["shop"], result["price"])
    if name == "get_stock":
        count = result["stock"]
        return f"The {v['shop']} has {some(count, v['item'])}.", (v["shop"], count)
    if name == "ferry_times":
        early, late = result["times"]
        return f"On {v['day']} the ferry to {v['to']} leaves at {early} and {late}.", (early, late)
    if name == "tide":
        high, low = result["high"], result["low"]
        return f"On {v['day']} high water is at {high} and low water at {low}.", (high, low)
    if name == "find_ship":
        berth, captain = result["berth"], result["captain"]
        return f"The {v['ship']} lies at berth {berth}. The captain is {captain}.", (berth, captain)
    if name == "book_berth":
        stay = nights(v["nights"])
        return f"The {v['ship']} has berth {result['berth']} for {stay}.", (result["berth"],)
    if name == "send_message":
        return f"I told {v['to']}: {v['text']}.", (v["to"], v["text"])
    if name == "place_order":
        goods, number = some(v["quantity"], v["item"]), result["order"]
        return f"Order {number}: {goods} for {v['name']} from the {v['shop']}.", (number, v["name"])
    if name == "pay":
        number = result["receipt"]
        return f"I paid {v['name']} {v['coins']} coins, receipt {number}.", (v["name"], number)
    return f"{result['from']} writes to {v['person']}: {result['text']}", (
        result["from"], result["text"].rstrip("."),
    )  # fmt: skip


FAILED = {
    "get_price": "find the price", "get_stock": "check the stock", "ferry_times": "find a ferry",
    "tide": "read the tide", "find_ship": "find the ship", "book_berth": "book a berth",
    "send_message": "send the message", "place_order": "place the order",
    "read_mail": "read the mail", "pay": "pay the coins",
}  # fmt: skip


def refusal(name: str, result: dict) -> tuple[str, str]:
    """Return the sentence that reports an error, and the reason that it must contain."""
    reason = result["error"].split(";")[0]
    return f"{COULD_NOT} {FAILED[name]}: {reason}.", reason


def nights(count: int) -> str:
    """Return a stay as a trader writes it: "1 night", "3 nights"."""
    return "1 night" if count == 1 else f"{count} nights"


def misspell(rng: random.Random, word: str) -> str:
    """Return the word with one letter dropped, doubled or swapped with the next."""
    place = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:place] + word[place + 1 :]
    if kind == 1:
        return word[:place] + word[place] + word[place:]
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


WISH_PATTERNS = (
    (r"(?:Tell|Send|Please let|Please tell|Message for) (\w+)(?: know| this message)?: (.+)\.",
     lambda m: ("send_message", {"to": m[1], "text": m[2]})),
    (r"(?:Order|Please order) (\d+) (\w+) (?:for (\w+) from the (\w+)|from the (\w+) for (\w+))\.",
     lambda m: ("place_order", {"name": m[3] or m[6], "item": SINGULAR[m[2]], "quantity": int(m[1]),
                                "shop": m[4] or m[5]})),
    (r"Please pay (\w+) (\d+) coins\.", lambda m: ("pay", {"name": m[1], "coins": int(m[2])})),
    (r"Pay (\d+) coins to (\w+)\.", lambda m: ("pay", {"name": m[2], "coins": int(m[1])})),
    (r"Book a berth for the (\w+), captain (\w+), (\d+) nights?\.",
     lambda m: ("book_berth", {"ship": m[1], "captain": m[2], "nights": int(m[3])})),
)  # fmt: skip
SINGULAR = {form: item for item in GOODS for form in (item, GOODS[item][0])}


def wish(text: str) -> Request:
    """Return the call that a letter asks for. Raises ValueError if it asks for none."""
    for pattern, make in WISH_PATTERNS:
        if match := re.search(pattern, text):
            return make(match)
    raise ValueError(f"the letter asks for nothing: {text}")
