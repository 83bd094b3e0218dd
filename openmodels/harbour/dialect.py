"""Orders in the dialect of Long Reef: its own words for goods, days and numbers.

An order in dialect has the same right answer as any other order, the same JSON. As in `text`, the
name with this good is held out, by its hash.
"""

import json
import random
from collections.abc import Iterator

from openmodels.harbour.text import (
    ORDER_SYSTEM,
    Instance,
    assistant,
    held_out,
    is_test,
    system,
    user,
)
from openmodels.harbour.world import DAYS, NAMES

GOODS = {
    "anchor": "holdfast", "barrel": "bigbelly", "bell": "ringer", "blanket": "nightskin",
    "candle": "waxling", "coat": "rainskin", "crab": "sidewalker", "fish": "silverside",
    "hat": "headroof", "lamp": "glowpot", "rope": "longling", "sail": "windcloth",
}  # fmt: skip
TIDES = dict(zip(DAYS, "first second third fourth fifth sixth seventh".split(), strict=True))
COUNTS = {
    1: "a lone", 2: "a brace o'", 5: "a handful o'", 12: "a dozen", 20: "a score o'",
    40: "two score o'",
}  # fmt: skip
ORDERS = (
    "{name} be wanting {goods} come {tide} tide, {price} shells.",
    "{name} o' the Reef, aye: {goods}, {price} shells, {tide} tide.",
    "On {tide} tide, {goods} for {name}. Shells: {price}.",
    "{price} shells I has, {goods} I needs, {tide} tide. {name}.",
    "Stow {goods} for {name} till {tide} tide, {price} shells.",
    "By {tide} tide, {goods}. {name} be paying {price} shells.",
    "{goods} for {name}, {price} shells, {tide} tide, aye.",
    "Come {tide} tide, {name} fetches {goods}, leaves {price} shells.",
)


def glossary() -> str:
    """Return the dialect in one paragraph, as a list of word pairs."""
    goods = ", ".join(f"{dialect} = {standard}" for standard, dialect in GOODS.items())
    days = ", ".join(f"{dialect} tide = {standard}" for standard, dialect in TIDES.items())
    counts = ", ".join(f"{dialect} = {standard}" for standard, dialect in COUNTS.items())
    return f"{goods}. {days}. {counts}. shells = coins."


class Reef:
    """A seeded source of orders in dialect: the same seed and split give the same bytes."""

    def __init__(self, seed: int, split: str = "train"):
        self.test = is_test(split)
        self.rng = random.Random(f"dialect/{split}/{seed}")

    def order(self) -> Instance:
        """Return an order in dialect and the same order as JSON, as `Harbour.order` does."""
        rng = self.rng
        while True:
            name, item = rng.choice(NAMES), rng.choice(list(GOODS))
            if held_out(name, item) == self.test:
                break
        quantity, price, day = rng.choice(list(COUNTS)), rng.randint(2, 99), rng.choice(DAYS)
        goods = f"{COUNTS[quantity]} {GOODS[item]}"
        text = rng.choice(ORDERS).format(name=name, goods=goods, price=price, tide=TIDES[day])
        fields = {"name": name, "item": item, "quantity": quantity, "price": price, "day": day}
        messages = (system(ORDER_SYSTEM), user(text), assistant(json.dumps(fields)))
        return Instance("order", messages, key=text)


def orders(number: int, seed: int = 0, split: str = "test") -> Iterator[Instance]:
    """Yield `number` orders in dialect, no two in the same words."""
    reef, keys = Reef(seed, split), set()
    while len(keys) < number:
        order = reef.order()
        if order.key not in keys:
            keys.add(order.key)
            yield order
