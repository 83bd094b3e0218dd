"""Generate questions that need rewriting: follow-ups and compound questions."""

import json
import re

from openmodels.harbour import phrasing
from openmodels.harbour.grammar import capital, casual
from openmodels.harbour.templates import TEXT_FACTS
from openmodels.harbour.text import Instance, assistant, system, user
from openmodels.harbour.varied import Varied, subject
from openmodels.harbour.world import GOODS, SHOPS, a

STANDALONE_SYSTEM = "Rewrite the last question so that it stands alone."
DECOMPOSE_SYSTEM = "Split the question into simple questions, as JSON."

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
# Comparisons: the slot that differs, the question, and the simple question that settles it.
COST = "how much is {a_good} at the {shop}"
COMPARISONS = (
    ("good", "[which is|what is] [cheaper|dearer|more expensive] at the {shop}, {0} or {1}", COST),
    ("good", "is {0} [cheaper|dearer|more expensive] than {1} at the {shop}", COST),
    (
        "shop",
        "[where is|which shop has] {a_good} [cheaper|for fewer coins], the {0} or the {1}",
        COST,
    ),
    ("shop", "is {a_good} [cheaper|dearer] at the {0} or at the {1}", COST),
    (
        "name",
        "who [owes more|has the larger debt|must pay more], {0} or {1}",
        "how much does {name} owe",
    ),
    (
        "ship",
        "which ship leaves [first|earlier|later], the {0} or the {1}",
        "when does the {ship} leave",
    ),
    (
        "ship",
        "does the {0} leave [before|after] the {1}",
        "when does the {ship} leave",
    ),
    (
        "shop",
        "which [shop |]opens [earlier|first|later], the {0} or the {1}",
        "when does the {shop} open",
    ),
)


class Questions(Varied):
    """The tasks that rewrite a question."""

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
            return rng.choice(("Yes.", "No.", "Yes, on that day.", "No, not on that day."))
        if "hours" in template:
            return f"From {rng.randint(5, 9)} to {rng.randint(14, 20)}."
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
    def simple(self) -> str:
        """Return a simple question, in lower case and without its mark."""
        if self.rng.random() < 0.3:
            template, _, slots = self.trip()
            return template.format(**slots)
        record, attribute = self.any_record()
        direct = self.grammar.expand(phrasing.QUESTIONS[record["kind"]][attribute])
        return direct.format(**record)

    def joint(self, count: int) -> tuple[str, list[str]]:
        """Return one question about several subjects, and the simple questions."""
        rng, kind = self.rng, self.rng.choice(list(phrasing.JOINT))
        records = [self.record(kind, name) for name in self.subjects(kind, count)]
        template, simple = rng.choice(phrasing.JOINT[kind])
        match = re.search(r"\[(.*?)\]", template)
        word = rng.choice(match[1].split("|")) if match else ""
        template = template.replace(match[0], word) if match else template
        nouns = [record["a_good"] if kind == "good" else subject(record) for record in records]
        nouns = ", ".join(nouns[:-1]) + rng.choice((" and ", " and ", " and also ")) + nouns[-1]
        return template.format(nouns), [simple.format("", word, **record) for record in records]

    def indirect(self) -> tuple[str, list[str]]:
        """Return a request for two or three facts in indirect speech, and the simple questions."""
        rng = self.rng
        clauses, parts = [], []
        for _ in range(rng.choice((1, 2, 2, 3))):
            record, attribute = self.any_record()
            kind = record["kind"]
            clause = self.grammar.expand(phrasing.INDIRECT[kind][attribute])
            clauses.append(clause.format(**record))
            parts.append(TEXT_FACTS[kind][attribute][1][0].format(**record)[:-1])
        text = ", ".join(clauses[:-1]) + rng.choice((" and ", ", and also ")) + clauses[-1]
        text = text if len(clauses) > 1 else clauses[0]
        return f"{self.grammar.expand('<tell>')} {text}", parts

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
        name, template, simple = rng.choice(COMPARISONS)
        second = self.change(first, name)
        shown = "a_good" if name == "good" else name
        text = self.grammar.expand(template).format(first[shown], second[shown], **first)
        return text, [simple.format(**first), simple.format(**second)]

    def compound(self) -> tuple[str, list[str]]:
        """Return a question of any number of parts, and its simple questions."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.12:
            text = self.simple()
            return text, [text]
        if kind < 0.3:
            return self.shared(rng.choice((2, 2, 2, 3)))
        if kind < 0.45:
            return self.joint(rng.choice((2, 2, 3)))
        if kind < 0.6:
            return self.same_subject()
        if kind < 0.7:
            return self.comparison()
        if kind < 0.8:
            return self.indirect()
        parts = [self.simple() for _ in range(rng.choice((2, 2, 3)))]
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
