"""Draw facts of Port Lark: a subject, an attribute and its value, in the words of `wordings`."""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass
from itertools import count

from openmodels.harbour import world
from openmodels.harbour.text import Harbour, held_out
from openmodels.harbour.wordings import (
    DECLARERS,
    FACT_KINDS,
    FRAMES,
    PLAIN_KINDS,
    WEATHER,
    FactKind,
    Wording,
)
from openmodels.harbour.world import GOODS, SHIPS, SHOPS, a, some

KINDS = FACT_KINDS | PLAIN_KINDS
Key = tuple[str, tuple[str, ...], str]


def capitalise(sentence: str) -> str:
    """Return the sentence with a capital first letter."""
    return sentence[:1].upper() + sentence[1:]


@dataclass(frozen=True)
class Fact:
    """One value of one attribute of one subject.

    kind: a key of `KINDS`. subject: the parts that identify it. slots: what fills the wordings.
    """

    kind: str
    subject: tuple[str, ...]
    attribute: str
    slots: dict[str, object]

    @property
    def key(self) -> Key:
        """Return what identifies the fact without its value."""
        return self.kind, self.subject, self.attribute

    @property
    def family(self) -> FactKind:
        """Return the kind's subjects and attributes."""
        return KINDS[self.kind]

    @property
    def wording(self) -> Wording:
        """Return the wordings of this attribute."""
        return self.family.attributes[self.attribute]

    @property
    def answer(self) -> str:
        """Return the full sentence that answers a question about this fact."""
        return capitalise(self.wording.answer.format(**self.slots))

    @property
    def values(self) -> tuple[str, ...]:
        """Return the strings that a right answer must contain."""
        return tuple(value.format(**self.slots) for value in self.wording.values)

    def _fill(self, template: str, subject: str) -> str:
        return capitalise(template.format(s=subject.format(**self.slots), **self.slots))

    def statement(self, rng: random.Random) -> str:
        """Return a sentence of a document that states this fact."""
        template = rng.choice(self.wording.statements)
        return self._fill(template, rng.choice(self.family.stated))

    def direct_question(self, rng: random.Random) -> str:
        """Return a question that starts with a question word."""
        template = rng.choice(self.wording.questions)
        return self._fill(template, rng.choice(self.family.queried))

    def question(self, rng: random.Random, frames: float = 0.35) -> str:
        """Return a direct question or, with probability `frames`, a request for the value."""
        if rng.random() >= frames:
            return self.direct_question(rng)
        subject = rng.choice(self.family.queried).format(**self.slots)
        topic = self.wording.topic.format(s=subject, **self.slots)
        return capitalise(rng.choice(FRAMES).format(topic=topic))


class FactSource(Harbour):
    """A seeded source of facts; in each split, the subjects' combinations are its own."""

    def part(self, slot: str) -> str:
        """Return a random value of one part of a subject."""
        rng = self.rng
        if slot in ("name", "other"):
            return self.name()
        if slot == "date":
            return self.date()
        origins = [f"from {island}" for island in world.ISLANDS]
        origins += [f"off the {ship}" for ship in SHIPS]
        choices = {"ship": SHIPS, "good": GOODS, "shop": SHOPS, "origin": origins}
        return rng.choice(list(choices[slot]))

    def date(self) -> str:
        """Return a day of 2031 in ISO form."""
        start = datetime.date(2031, 1, 1)
        return (start + datetime.timedelta(days=self.rng.randrange(365))).isoformat()

    def subject(self, kind: str, like: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return the parts of a subject of this split; with `like`, one part is that subject's."""
        parts = KINDS[kind].parts
        for attempt in count():
            shared = like and len(parts) > 1 and attempt < 40  # some have no similar subject
            fixed = self.rng.randrange(len(parts)) if shared else None
            subject = tuple(
                like[place] if place == fixed else self.part(slot)
                for place, slot in enumerate(parts)
            )
            split_fits = len(parts) == 1 or held_out(*subject) == self.test
            if split_fits and subject != like and len(set(subject)) == len(subject):
                return subject

    def fact(self, kind: str, subject: tuple[str, ...], attribute: str) -> Fact:
        """Return a fact about the subject with a random value."""
        rng = self.rng
        if kind.startswith("plain "):
            record = self.record(kind.removeprefix("plain "), subject[0])
            return Fact(kind, subject, attribute, record)
        slots: dict[str, object] = dict(zip(KINDS[kind].parts, subject, strict=True))
        good = slots.get("good") or rng.choice(list(GOODS))
        while slots.get("other") in (None, slots.get("name")):
            slots["other"] = self.name()
        slots |= {
            "good": good, "a_good": a(good), "goods": GOODS[good][0], "price": rng.randint(2, 99),
            "n": rng.randint(2, 40), "cargo": some(rng.randint(2, 40), rng.choice(list(GOODS))),
            "berth": rng.randint(1, 24), "island": rng.choice(world.ISLANDS),
            "day": rng.choice(world.DAYS), "hour": rng.randint(5, 12), "late": rng.randint(13, 22),
            "place": rng.choice(world.PLACES), "weather": rng.choice(WEATHER),
            "who": rng.choice(DECLARERS),
        }  # fmt: skip
        return Fact(kind, subject, attribute, slots)

    def other_value(self, fact: Fact) -> Fact:
        """Return the same fact with a different value."""
        while True:
            changed = self.fact(*fact.key)
            if changed.values != fact.values:
                return changed
