"""Generate tasks on questions and requests: stand-alone, decomposed, repaired, planned."""

import json
import re
from typing import Annotated, Literal

import pydantic

from openmodels.harbour import phrasing, world
from openmodels.harbour.grammar import capital, casual
from openmodels.harbour.templates import TEXT_FACTS
from openmodels.harbour.text import Instance, assistant, system, user
from openmodels.harbour.varied import VALUES, Varied
from openmodels.harbour.world import GOODS, SHIPS, SHOPS, a

STANDALONE_SYSTEM = "Rewrite the last question so that it stands alone."
DECOMPOSE_SYSTEM = "Split the question into simple questions, as JSON."
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


# Questions whose slots can change: (template, slots in it).
TRAVEL = (
    ("how much is {a_good} at the {shop}", ("good", "shop")),
    ("what does {a_good} cost at the {shop}", ("good", "shop")),
    ("what does the {shop} ask for {a_good}", ("good", "shop")),
    ("what is the price of {a_good} at the {shop}", ("good", "shop")),
    ("when does the ferry to {to} leave on {day}", ("to", "day")),
    ("is there a ferry to {to} on {day}", ("to", "day")),
    ("what time is the ferry to {to} on {day}", ("to", "day")),
    ("~at what hour does the ferry to {to} go on {day}", ("to", "day")),
    ("when is [high|low] water on {day}", ("day",)),
    ("what is the tide on {day}", ("day",)),
    ("when does the tide turn on {day}", ("day",)),
    ("is the {shop} open on {day}", ("shop", "day")),
    ("when does the {shop} [open|close] on {day}", ("shop", "day")),
    ("~what are the hours of the {shop} on {day}", ("shop", "day")),
    ("is there a free berth for the {ship} on {day}", ("ship", "day")),
    ("how many ships come in on {day}", ("day",)),
)  # fmt: skip
ELLIPSES = {
    "day": "[and|and what about|what about|how about|and how about|~or] [on |]{day}|and on {day}",
    "good": "[and|and what about|what about|how about|and for|~or] {a_good}",
    "shop": "[and|and what about|what about|how about|~or] [at the|the] {shop}|and at the {shop}",
    "to": "[and|and what about|what about|how about|~or] [to |]{to}|and to {to}",
    "ship": "[and|and what about|what about|how about|~or] [for |]the {ship}|and the {ship}",
    "person": "[and|and what about|what about|how about|~or] {name}|and {name}",
}  # fmt: skip


class DeskTasks(Varied):
    """The tasks that rewrite a question or a request."""

    # ------------------------------------------------------------------ stand-alone questions
    def trip(self) -> tuple[str, tuple[str, ...], dict]:
        """Return an open template of a question about prices or times, its slots and values."""
        allowed = [(t, s) for t, s in TRAVEL if self.test or not t.startswith("~")]
        template, names = self.rng.choice(allowed)
        slots = self.slots()
        return self.grammar.expand(template), names, slots

    def change(self, slots: dict, name: str) -> dict:
        """Return the slots with another value for one of them."""
        while True:
            other = self.slots()
            if other[name] != slots[name]:
                changed = slots | {name: other[name]}
                return changed | {"a_good": a(changed["good"]), "goods": GOODS[changed["good"]][0]}

    def ask_full(self, sentence: str) -> str:
        """Return a question with a capital and its mark."""
        return capital(sentence) + "?"

    def reply_to_trip(self, template: str, slots: dict) -> str:
        """Return a plausible answer to a question about prices or times."""
        rng = self.rng
        if "{a_good}" in template:
            return (
                f"{capital(slots['a_good'])} at the {slots['shop']} costs {slots['price']} coins."
            )
        if template.startswith("is "):
            return rng.choice(("Yes.", "No.", "Yes, it is.", "No, not on that day."))
        if template.startswith("how many"):
            return f"{rng.randint(1, 9)} ships."
        return rng.choice((f"At {slots['hour']}.", f"At {slots['hour']} on {slots['day']}."))

    def turns(self) -> tuple[list[str], str, str]:
        """Return earlier questions and answers in order, a follow-up, and its full form."""
        kind = self.rng.random()
        if kind < 0.35:
            return self.turn_trip()
        if kind < 0.55:
            return self.turn_subject()
        if kind < 0.85:
            return self.turn_pronoun()
        return self.turn_place() if kind < 0.93 else self.turn_person()

    def turn_trip(self) -> tuple[list[str], str, str]:
        """Return a follow-up that changes one slot of a question about prices or times."""
        template, names, slots = self.trip()
        history = [self.ask_full(template.format(**slots)), self.reply_to_trip(template, slots)]
        name = self.rng.choice(names)
        if self.rng.random() < 0.2:  # an earlier follow-up changed a slot before
            slots = self.change(slots, self.rng.choice(names))
            history += [
                self.ask_full(template.format(**slots)),
                self.reply_to_trip(template, slots),
            ]
        changed = self.change(slots, name)
        if name == "shop" and "{a_good}" in template and self.rng.random() < 0.3:
            follow = "how much is it at the {shop}"
            full = "how much is {a_good} at the {shop}"
            return history, follow.format(**changed), full.format(**changed)
        follow = self.grammar.expand(ELLIPSES[name]).format(**changed)
        return history, follow, template.format(**changed)

    def fact_turn(self, record: dict, attribute: str) -> tuple[str, list[str]]:
        """Return an open question about an attribute, and the question with its answer."""
        template = self.grammar.expand(phrasing.QUESTIONS[record["kind"]][attribute])
        answer = self.statement_of(record, attribute)
        return template, [self.ask_full(template.format(**record)), answer]

    def any_record(self) -> tuple[dict, str]:
        """Return a record and one of its attributes."""
        kind = self.rng.choice(list(TEXT_FACTS))
        record = self.record(kind, self.subjects(kind, 1)[0])
        return record, self.rng.choice(list(TEXT_FACTS[kind]))

    def turn_subject(self) -> tuple[list[str], str, str]:
        """Return a follow-up that asks the same of another subject."""
        record, attribute = self.any_record()
        template, history = self.fact_turn(record, attribute)
        other = record
        while other["subject"] == record["subject"]:
            other = self.record(record["kind"], self.subjects(record["kind"], 1)[0])
        name = record["kind"]
        follow = self.grammar.expand(ELLIPSES[name]).format(**other)
        if name == "shop":
            follow = follow.replace(" at the ", " the ")
        return history, follow.replace(" for the ", " the "), template.format(**other)

    def pronoun(self, record: dict, attribute: str) -> tuple[str, str]:
        """Return a question about an attribute with a pronoun, and the same with the noun."""
        follow, full = self.rng.choice(phrasing.FOLLOW_UPS[record["kind"]][attribute])
        match = re.search(r"\[(.*?)\]", follow)
        word = self.rng.choice(match[1].split("|")) if match else ""
        follow = follow.replace(match[0], word) if match else follow
        return follow, full.format(word, **record)

    def turn_pronoun(self) -> tuple[list[str], str, str]:
        """Return a follow-up about the same subject, named by a pronoun."""
        record, attribute = self.any_record()
        _, history = self.fact_turn(record, attribute)
        others = [name for name in TEXT_FACTS[record["kind"]] if name != attribute]
        follow, full = self.pronoun(record, self.rng.choice(others))
        if self.rng.random() < 0.2:  # an older question about another subject
            older = self.any_record()
            history = self.fact_turn(*older)[1] + history
        return history, self.rng.choice(("", "", "and ", "so ")) + follow, full

    def turn_place(self) -> tuple[list[str], str, str]:
        """Return a follow-up about a price in the shop that was just named."""
        slots = self.slots()
        shop, good = slots["shop"], slots["a_good"]
        goods = [GOODS[g][0] for g in SHOPS[shop].sells]
        first = self.rng.choice((f"What does the {shop} sell?", f"What can I buy at the {shop}?"))
        history = [first, f"The {shop} sells {goods[0]} and {goods[1]}."]
        follow = self.rng.choice(
            ("how much is {a_good} there", "what does {a_good} cost there", "who runs it",
             "what do they ask for {a_good} there", "when does it close"))  # fmt: skip
        full = follow.replace(" there", " at the {shop}").replace(" it", " the {shop}")
        return history, follow.format(**slots), full.format(shop=shop, a_good=good)

    def turn_person(self) -> tuple[list[str], str, str]:
        """Return a follow-up about the person that the last answer named."""
        kind = self.rng.choice(("shop", "good", "ship"))
        record = self.record(kind, self.subjects(kind, 1)[0])
        attribute = {"shop": "owner", "good": "seller", "ship": "captain"}[kind]
        _, history = self.fact_turn(record, attribute)
        person = record | {"kind": "person"}
        follow, full = self.pronoun(person, self.rng.choice(list(TEXT_FACTS["person"])))
        return history, follow, full

    def standalone(self) -> Instance:
        """Return earlier questions with a follow-up, and the follow-up made complete."""
        rng = self.rng
        while True:
            history, follow, full = self.turns()
            if rng.random() < 0.2:  # already complete
                if rng.random() < 0.5:
                    record, attribute = self.any_record()
                    full = self.grammar.expand(phrasing.QUESTIONS[record["kind"]][attribute])
                    full = full.format(**record)
                else:
                    template, _, slots = self.trip()
                    full = template.format(**slots)
                follow = full
            lines = [
                f"{'Question' if number % 2 == 0 else 'Answer'}: {line}"
                for number, line in enumerate(history)
            ]
            content = "\n".join([*lines, f"Question: {casual(rng, self.ask_full(follow), 0.15)}"])
            if self.belongs(content):
                break
        messages = (system(STANDALONE_SYSTEM), user(content), assistant(self.ask_full(full)))
        return Instance("standalone", messages, key=content)

    # ------------------------------------------------------------------ compound questions
    def simple(self) -> tuple[str, str]:
        """Return a simple question and its indirect form ("" if it has none)."""
        if self.rng.random() < 0.3:
            template, _, slots = self.trip()
            return template.format(**slots), ""
        record, attribute = self.any_record()
        direct = self.grammar.expand(phrasing.QUESTIONS[record["kind"]][attribute])
        return direct.format(**record), ""

    def shared(self, count: int) -> tuple[str, list[str]]:
        """Return one question about several values of a slot, and the simple questions."""
        rng = self.rng
        template, names, slots = self.trip()
        name = rng.choice(names)
        shown = {
            "good": "{a_good}",
            "shop": "{shop}",
            "day": "{day}",
            "to": "{to}",
            "ship": "{ship}",
        }
        values = [slots]
        while len(values) < count:
            changed = self.change(slots, name)
            if changed[name] not in [v[name] for v in values]:
                values.append(changed)
        words = [shown[name].format(**v) for v in values]
        if name in ("shop", "ship"):
            words = [words[0], *(f"the {word}" for word in words[1:])]
        joined = ", ".join(words[:-1]) + rng.choice((" and ", " and ", " and also ")) + words[-1]
        compound = template.replace(shown[name], joined).format(**slots)
        return compound, [template.format(**v) for v in values]

    def same_subject(self) -> tuple[str, list[str]]:
        """Return a question about two attributes of one subject, and the simple questions."""
        rng = self.rng
        record, attribute = self.any_record()
        other = rng.choice([name for name in TEXT_FACTS[record["kind"]] if name != attribute])
        first = self.grammar.expand(phrasing.QUESTIONS[record["kind"]][attribute]).format(**record)
        follow, full = self.pronoun(record, other)
        joint = rng.choice((" and ", ", and ", "? And ", ", and also ", ". Also, "))
        return first + joint + follow, [first, full]

    def comparison(self) -> tuple[str, list[str]]:
        """Return a comparison of two subjects, and the questions that settle it."""
        rng = self.rng
        first = self.slots()
        forms = (
            ("good", "[which is|what is] [cheaper|dearer|more expensive] at the {shop}, {0} or {1}", "how much is {a_good} at the {shop}"),
            ("shop", "[where is|which shop has] {a_good} [cheaper|for fewer coins], [at ]the {0} or the {1}", "how much is {a_good} at the {shop}"),
            ("name", "who [owes more|has the larger debt|must pay more], {0} or {1}", "how much does {name} owe"),
            ("ship", "which ship leaves [first|earlier|later], the {0} or the {1}", "when does the {ship} leave"),
            ("shop", "which opens [earlier|first|later], the {0} or the {1}", "when does the {shop} open"),
        )  # fmt: skip
        name, template, simple = rng.choice(forms)
        second = self.change(first, name)
        shown = "a_good" if name == "good" else name
        text = self.grammar.expand(template).format(first[shown], second[shown], **first)
        return text, [simple.format(**first), simple.format(**second)]

    def compound(self) -> tuple[str, list[str]]:
        """Return a question of any number of parts, and its simple questions."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.15:
            text, _ = self.simple()
            return text, [text]
        if kind < 0.4:
            return self.shared(rng.choice((2, 2, 2, 3)))
        if kind < 0.6:
            return self.same_subject()
        if kind < 0.7:
            return self.comparison()
        parts = [self.simple()[0] for _ in range(rng.choice((2, 2, 3)))]
        if rng.random() < 0.4:
            return "? ".join([parts[0], *map(capital, parts[1:])]), parts
        joint = rng.choice((" and ", ", and ", ", and also ", "? And ", ", and then: "))
        return joint.join([", ".join(parts[:-1]), parts[-1]]), parts

    def decompose(self) -> Instance:
        """Return a compound question and its simple questions as a JSON list."""
        while True:
            text, parts = self.compound()
            content = casual(self.rng, self.ask_full(self.hello() + text), 0.15)
            if self.belongs(content):
                break
        answer = json.dumps([self.ask_full(part) for part in parts])
        messages = (system(DECOMPOSE_SYSTEM), user(content), assistant(answer))
        return Instance("decompose", messages, key=content)

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
                lambda: text.replace(f'"{key}":', f'"{key}"', 1), lambda: text.replace(": ", " = ", 1),
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
        a_good, shop, to, day = slots["a_good"], slots["shop"], slots["to"], slots["day"]
        kind = rng.choice(("get_price", "ferry_times", "tide", "book_berth"))
        if kind == "get_price":
            indirect = rng.choice(
                (f"what {a_good} costs at the {shop}", f"how much {a_good} is at the {shop}")
            )
            request = f"[find out|check|look up|see|~learn] {indirect}|[look up|check|get] the price of {a_good} at the {shop}"
            return (
                request,
                f"get_price: {slots['good']}, {shop}",
                indirect,
                f"the price of {a_good}",
            )
        if kind == "ferry_times":
            indirect = rng.choice(
                (f"when the ferry to {to} leaves on {day}", f"when the ferries go to {to} on {day}")
            )
            request = f"[find out|check|look up|see|~learn] {indirect}|[look up|check|get] the ferry times to {to} on {day}"
            return request, f"ferry_times: {to}, {day}", indirect, f"the ferry times to {to}"
        if kind == "tide":
            indirect = rng.choice((f"when high water is on {day}", f"what the tide is on {day}"))
            request = f"[find out|check|look up|see|~learn] {indirect}|[look up|check|get] the tide [on|for] {day}"
            return request, f"tide: {day}", indirect, f"the tide on {day}"
        ship, captain, stay = slots["ship"], slots["name"], slots["stay"]
        request = f"[book|reserve|keep|~arrange] a [berth|place] for the {ship}, captain {captain}, for {stay}"
        step = f"book_berth: {ship}, {captain}, {slots['nights']}"
        return request, step, f"which berth the {ship} has", f"the berth of the {ship}"

    def plan_parts(self) -> tuple[str, list[str]]:
        """Return a compound request and its steps in the order of their execution."""
        rng, grammar = self.rng, self.grammar
        name = self.name()
        request, step, indirect, noun = self.step()
        request = grammar.expand(request)
        report = f"send_message: {name}, {noun}"
        form = rng.random()
        if form < 0.3:
            tail = grammar.expand(f"[tell|let|write to|~inform] {name}")
            tail = tail.replace(f"let {name}", f"let {name} know")
            joint = rng.choice((" and ", ", then ", " and then ", ". Then ", ", and after that "))
            return f"{request}{joint}{tail}", [step, report]
        if form < 0.45:
            return f"[tell {name}|let {name} know] {indirect}", [step, report]
        if form < 0.55:
            return f"before you write to {name} about {noun}, {request}", [step, report]
        if form < 0.8:
            steps, texts = [step], [request]
            for _ in range(rng.choice((1, 1, 2))):
                more, other, _, _ = self.step()
                if other not in steps:
                    texts.append(grammar.expand(more))
                    steps.append(other)
            joint = rng.choice((" and ", ", then ", ", and then ", ". Also ", "; after that "))
            return joint.join(texts), steps
        text = grammar.expand(self.plain_message()).format(**self.slots())
        message = f"send_message: {name}, {text}"
        if form < 0.9:
            return f"{request} and tell {name}: {text}", [step, message]
        return f"tell {name} that {text}, and {request}", [message, step]

    def plain_message(self) -> str:
        """Return a template of a message without commas."""
        return self.rng.choice(
            ("the {good} is [ready|here|broken]", "the {goods} are [here|late|sold]",
             "the {ship} is in", "I come at {hour}", "dinner is at {hour}", "the {shop} is [shut|open]")
        )  # fmt: skip

    def plan(self) -> Instance:
        """Return a compound request and the steps that fulfil it as a JSON list."""
        rng = self.rng
        while True:
            text, steps = self.plan_parts()
            text = self.grammar.expand(text)
            head = self.grammar.expand(
                "|||please |[can|could] you |I need you to |~would you |hello, "
            )
            mark = "?" if "you " in head and "need" not in head else "."
            content = capital(head + text) + mark
            if "send_message" not in steps[0]:
                content = casual(rng, content, 0.15)
            if self.belongs(content):
                break
        messages = (system(PLAN_SYSTEM), user(content), assistant(json.dumps(steps)))
        return Instance("plan", messages, key=content)
