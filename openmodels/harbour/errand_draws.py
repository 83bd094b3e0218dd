"""What errands draw from: an office's goods, ships and days of one split, and phrases."""

from __future__ import annotations

import random
import re

from openmodels.harbour import world
from openmodels.harbour.errand_phrases import capital, expand
from openmodels.harbour.errand_talk import Redraw, combinations, nights
from openmodels.harbour.office import Office
from openmodels.harbour.text import Harbour, held_out
from openmodels.harbour.world import GOODS, NAMES, SHIPS, SHOPS, a, some

POLITE = re.compile(r"(?:^|(?<=[.:?] ))((?:can|could|will|would) you [^.:?]*)\.", re.IGNORECASE)


class Draws:
    """Draws names, goods, ships and phrases that belong to the split.

    rng, test and invented are as in `text.Harbour`.
    """

    def __init__(self, seed: int, split: str = "train", invented: float = 0.0):
        self.harbour = Harbour(seed, split, invented)
        self.rng = self.harbour.rng = random.Random(f"errands/{split}/{seed}")
        self.test = self.harbour.test
        self.office = Office(0)
        self.pairs = {(i, s) for i in GOODS for s in SHOPS if self.belongs(i, s)}

    # ------------------------------------------------------------------ drawing
    def belongs(self, *parts: object) -> bool:
        """Return whether a combination belongs to this split."""
        return held_out(*parts) == self.test

    def pick(self, options: list) -> object:
        """Return one of the options. Raises Redraw if there is none."""
        if not options:
            raise Redraw
        return self.rng.choice(options)

    def stalls(self, sold: bool = True, name: str = "") -> list[tuple[str, str]]:
        """Return the (item, shop) pairs of this split that the office sells, or does not sell."""
        return [
            (item, shop)
            for shop in SHOPS
            for item in GOODS
            if (item in self.office.prices[shop]) == sold
            and (item, shop) in self.pairs
            and (not name or self.belongs(name, item))
        ]

    def two_stalls(self) -> tuple[str, str, str]:
        """Return an item and two shops of this split that sell it at different prices."""
        prices = self.office.prices
        pairs = self.stalls()
        item, shop = self.pick(pairs)
        price = prices[shop][item]
        others = [s for i, s in pairs if i == item and s != shop and prices[s][item] != price]
        return item, shop, self.pick(others)

    def ship(self) -> tuple[str, str]:
        """Return a ship in the harbour and its captain, a combination of this split."""
        ships = self.office.ships
        return self.pick(
            [(s, v["captain"]) for s, v in ships.items() if self.belongs(v["captain"], s)]
        )

    def crossing(self) -> tuple[str, str]:
        """Return an island and a day with a ferry, a combination of this split."""
        ferries = self.office.ferries
        return self.pick([(to, d) for to in ferries for d in ferries[to] if self.belongs(to, d)])

    def tide_day(self) -> str:
        """Return a day whose tides are a combination of this split."""
        return self.pick([d for d, tides in self.office.tides.items() if self.belongs(d, *tides)])

    def coins_for(self, name: str) -> int:
        """Return coins that the purse has, and whose combination with the name is of this split."""
        return self.pick([n for n in range(2, self.office.purse + 1) if self.belongs(name, n)])

    def news_for(self, name: str) -> str:
        """Return the text of a message whose combination with the name is of this split."""
        rng = self.rng

        def make() -> str:
            good = rng.choice(list(GOODS))
            related = (f"the {good} is ready", f"bring the {good}", f"your {good} is here",
                       f"the {good} is on board", f"the {good} is for sale")  # fmt: skip
            unrelated = (f"come at {rng.randint(6, 20)}", f"the {rng.choice(SHIPS)} is in",
                         f"wait at berth {rng.randint(1, 24)}",
                         f"we meet on {rng.choice(world.DAYS)}",
                         f"the {rng.choice(SHIPS)} leaves on {rng.choice(world.DAYS)}")  # fmt: skip
            return rng.choice(related + related + unrelated)

        while True:
            text = make()
            parts = combinations("send_message", {"to": name, "text": text}, {})
            if all(self.belongs(*part) for part in parts):
                return text

    def phrase(self, symbol: str, **slots: object) -> str:
        """Return a phrase of a list with its slots filled."""
        if "item" in slots:
            item = slots["item"]
            slots |= {"a_good": a(item), "goods": GOODS[item][0], "good": item}
            if "quantity" in slots:
                slots |= {"some": some(slots["quantity"], item), "n": slots["quantity"]}
        if "nights" in slots:
            slots["stay"] = nights(slots["nights"])
        if "coins" in slots:
            slots["n"] = slots["coins"]
        return expand(self.rng, f"<{symbol}>", self.test).format(**slots)

    def dress(self, text: str, follows: bool = False) -> str:
        """Return a request with an opener, a closer and, now and then, careless typing."""
        rng = self.rng
        text = text if text[-1] in ".?!" else text + "."
        opener = "" if follows else self.phrase("opener")
        text = opener + text + ("" if follows else self.phrase("closer"))
        if rng.random() < 0.7:
            text = POLITE.sub(r"\1?", text)
        text = capital(text)
        if rng.random() < 0.2:
            text = text[0].lower() + text[1:] if text[1] != " " else text
        if rng.random() < 0.12 and text[-1] in ".?":
            text = text[:-1]
        return text


def invented_names(harbour: Harbour) -> tuple[str, ...]:
    """Return the names of an office's people: the listed ones, or some made from syllables."""
    if not harbour.invented:
        return NAMES
    return tuple(sorted({harbour.name() for _ in range(40)}))
