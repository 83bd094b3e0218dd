"""Generate JSON to repair, with the errors that json and pydantic report, and requests to plan."""

import json
from typing import Annotated, Literal

import pydantic

from openmodels.harbour.grammar import capital, casual
from openmodels.harbour.questions import Questions
from openmodels.harbour.text import Instance, assistant, system, user
from openmodels.harbour.world import GOODS

REPAIR_SYSTEM = "Repair the JSON."
PLAN_SYSTEM = "Write a plan as a JSON list of steps."
Text = Annotated[str, pydantic.Field(min_length=1)]
Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class Strict(pydantic.BaseModel):
    """Rejects unknown fields and converts no types."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class Order(Strict):
    """Validate an order of `ORDER_SYSTEM`."""

    name: Text
    item: Literal[tuple(GOODS)]
    quantity: int
    price: int
    day: Day


class GetPrice(Strict):
    """Validate the arguments of `get_price`."""

    item: Text
    shop: Text


class FerryTimes(Strict):
    """Validate the arguments of `ferry_times`."""

    to: Text
    day: Day


class Tide(Strict):
    """Validate the arguments of `tide`."""

    day: Day


class BookBerth(Strict):
    """Validate the arguments of `book_berth`."""

    ship: Text
    captain: Text
    nights: int


class SendMessage(Strict):
    """Validate the arguments of `send_message`."""

    to: Text
    text: Text


MODELS = {
    "order": Order, "get_price": GetPrice, "ferry_times": FerryTimes, "tide": Tide,
    "book_berth": BookBerth, "send_message": SendMessage,
}  # fmt: skip


def problem(model: type[pydantic.BaseModel], text: str) -> str | None:
    """Return the first error of a JSON text as json or pydantic words it, or None if it is valid.

    A message that lists the goods is cut after 60 characters.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return str(error)
    try:
        model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"]
        message = message if len(message) <= 60 else message[:60].rsplit(" ", 1)[0] + " ..."
        return f"{place}: {message}" if place else message
    return None


# Requests, arguments, indirect questions and a noun phrase for the result of each function.
FIND = "[find out|check|look up|see|~ask]"
STEPS = {
    "get_price": (
        f"{FIND} [what {{a_good}} costs|how much {{a_good}} is] at the {{shop}}"
        "|[look up|check|get] the price of {a_good} at the {shop}",
        "{good}, {shop}",
        "what {a_good} costs at the {shop}|how much {a_good} is at the {shop}",
        "the price of {a_good}",
    ),
    "ferry_times": (
        f"{FIND} when the [ferry to {{to}} leaves|ferries go to {{to}}] on {{day}}"
        "|[look up|check|get] the ferry times to {to} on {day}",
        "{to}, {day}",
        "when the ferry to {to} leaves on {day}|when the ferries go to {to} on {day}",
        "the ferry times to {to}",
    ),
    "tide": (
        f"{FIND} [when high water is|what the tide is|when the water is high] on {{day}}"
        "|[look up|check|get] the tide [on|for] {day}",
        "{day}",
        "when [high|low] water is on {day}|what the tide is on {day}",
        "the tide on {day}",
    ),
    "book_berth": (
        "[book|reserve|keep|~arrange] a [berth|place|mooring] for the {ship}, captain {name},"
        " for {stay}|[book|reserve] {stay} for the {ship} of captain {name}",
        "{ship}, {name}, {nights}",
        "which berth the {ship} of captain {name} has for {stay}",
        "the berth of the {ship}",
    ),
}

TELL = "tell {name}|let {name} know|write to {name}|send {name} a message|~inform {name}"
PLAN_HEADS = (
    "",
    "",
    "please ",
    "[can|could|~would] you ",
    "I need you to ",
    "hello, ",
    "good morning, please ",
)
PLAIN_MESSAGES = (
    "the {good} is [ready|here|broken|late]",
    "the {goods} are [here|late|sold]",
    "the {ship} is in",
    "I come at {hour}",
    "dinner is at {hour}",
    "the {shop} is [shut|open|full]",
)


class DeskTasks(Questions):
    """The tasks that repair JSON and plan requests."""

    # ------------------------------------------------------------------ broken JSON
    def break_syntax(self, text: str, fields: dict) -> str:
        """Return a JSON text with an error of syntax, or with other text around it."""
        rng = self.rng
        key = rng.choice(list(fields))
        value = json.dumps(fields[key])
        broken = rng.choice(
            (
                lambda: text[:-1], lambda: text[1:], lambda: text[:-1] + ",}",
                lambda: text.replace('"', "'"), lambda: text.replace(f'"{key}"', key, 1),
                lambda: text.replace(f'"{key}"', f'"{key}', 1), lambda: text.replace(", ", " ", 1),
                lambda: text.replace(f'"{key}":', f'"{key}"', 1),
                lambda: text.replace(": ", " = ", 1),
                lambda: "Here it is: " + text, lambda: text + " I hope this helps.",
                lambda: text + "}", lambda: text.replace(value, value.strip('"'), 1),
                lambda: text[: text.rindex(":") + 1] + "}", lambda: f"```json\n{text}\n```",
                lambda: text.replace(value, value.rstrip('"'), 1), lambda: "Order " + text,
            )
        )  # fmt: skip
        return broken()

    def break_fields(self, fields: dict, complete: bool) -> dict:
        """Return fields with a wrong key, type or day; a missing one only if `complete`.

        complete: the request is shown too, so that every value can be found.
        """
        rng = self.rng
        key = rng.choice(list(fields))
        numbers = [k for k, v in fields.items() if isinstance(v, int)]
        kinds = ["key", "extra"] + ["text", "text", "unit"] * bool(numbers)
        kinds += ["day", "day"] * ("day" in fields) + ["missing", "null", "empty"] * complete
        kind = rng.choice(kinds)
        names = {
            "name": "customer", "item": "good", "quantity": "count", "price": "cost", "day": "date",
            "to": "name", "text": "message", "shop": "place", "ship": "boat", "captain": "name",
            "nights": "days",
        }  # fmt: skip
        if kind == "key":
            return {names[k] if k == key else k: v for k, v in fields.items()}
        if kind == "extra":
            return fields | {
                rng.choice(("note", "please", "currency")): rng.choice(("yes", "", "coins"))
            }
        if kind in ("text", "unit"):
            number = rng.choice(numbers)
            unit = (
                {"price": " coins", "nights": " nights"}.get(number, "") if kind == "unit" else ""
            )
            return fields | {number: f"{fields[number]}{unit}"}
        if kind == "day":
            day = fields["day"]
            wrong = [day.lower(), day[:3], day + "s", day.upper()]
            return fields | {"day": rng.choice(wrong + ["tomorrow", "Someday"] * complete)}
        if kind == "missing":
            return {k: v for k, v in fields.items() if k != key}
        if kind == "null":
            return fields | {key: None}
        return fields | {key: ""}

    def repair(self) -> Instance:
        """Return broken JSON with its error, sometimes after the order, and the right JSON."""
        rng = self.rng
        while True:
            function, request = "order", ""
            if rng.random() < 0.6:
                request, fields = self.free_order()
            else:
                function = rng.choice([name for name in MODELS if name != "order"])
                request, fields, _, _ = self.free_call(function)
            complete = rng.random() < 0.5
            right = json.dumps(fields)
            if rng.random() < 0.5:
                broken = self.break_syntax(right, fields)
            else:
                broken = json.dumps(self.break_fields(fields, complete))
            error = problem(MODELS[function], broken)
            head = f"{'Order' if function == 'order' else 'Request'}: {request}\n" * complete
            content = f"{head}JSON: {broken}\nError: {error}"
            if error and broken != right and self.belongs(content):
                break
        messages = (system(REPAIR_SYSTEM), user(content), assistant(right))
        return Instance("repair", messages, key=content)

    # ------------------------------------------------------------------ plans
    def step(self) -> tuple[str, str, str, str]:
        """Return a request, its step, an indirect question and a noun phrase for its result."""
        rng, slots = self.rng, self.slots()
        function = rng.choice(list(STEPS))
        requests, step, questions, noun = STEPS[function]
        request = self.grammar.expand(requests).format(**slots)
        question = self.grammar.expand(questions).format(**slots)
        return request, f"{function}: {step.format(**slots)}", question, noun.format(**slots)

    def joined(self, count: int) -> tuple[str, list[str], list[str]]:
        """Return `count` requests as one, their steps, and noun phrases for their results."""
        parts: dict[str, tuple[str, str]] = {}
        while len(parts) < count:
            request, step, _, noun = self.step()
            parts[step] = request, noun
        joint = self.rng.choice((" and ", ", then ", ", and then ", ". Also ", "; after that "))
        return (
            joint.join(request for request, _ in parts.values()),
            list(parts),
            [noun for _, noun in parts.values()],
        )

    def plan_parts(self) -> tuple[str, list[str], bool]:
        """Return a compound request, its steps in order, and whether it has a literal message."""
        rng, name = self.rng, self.name()
        request, step, indirect, noun = self.step()
        report = f"send_message: {name}, {noun}"
        form = rng.random()
        if form < 0.25:
            tail = self.grammar.expand(TELL).format(name=name)
            joint = rng.choice((" and ", ", then ", " and then ", ". Then ", ", and after that "))
            return f"{request}{joint}{tail}", [step, report], False
        if form < 0.4 and not step.startswith("book_berth"):
            return f"[tell {name}|let {name} know] {indirect}", [step, report], False
        if form < 0.5:
            return f"before you write to {name} about {noun}, {request}", [step, report], False
        if form < 0.75:
            text, steps, _ = self.joined(rng.choice((1, 2, 2, 2, 3)))
            return text, steps, False
        if form < 0.85:
            text, steps, nouns = self.joined(2)
            report = f"send_message: {name}, {nouns[0]} and {nouns[1]}"
            tail = self.grammar.expand(TELL).format(name=name)
            return f"{text}, then {tail}", [*steps, report], False
        text = self.grammar.expand(PLAIN_MESSAGES).format(**self.slots())
        message = f"send_message: {name}, {text}"
        if form < 0.93:
            return f"{request} and tell {name}: {text}", [step, message], True
        return f"tell {name} that {text}, and {request}", [message, step], True

    def plan(self) -> Instance:
        """Return a compound request and the steps that fulfil it as a JSON list."""
        rng = self.rng
        while True:
            text, steps, literal = self.plan_parts()
            text = self.grammar.expand(text)
            head = self.grammar.expand(PLAN_HEADS)
            head = "" if text.startswith("before") else head
            mark = "?" if "you " in head and "need" not in head else "."
            content = capital(head + text) + mark
            content = content if literal else casual(rng, content, 0.15)
            if self.belongs(content):
                break
        messages = (system(PLAN_SYSTEM), user(content), assistant(json.dumps(steps)))
        return Instance("plan", messages, key=content)
