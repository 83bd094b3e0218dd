"""A simulated harbour office: it answers every tool call from a seeded state.

An error names the reason, and after a semicolon what is known: "no shop bakerie; shops: bakery".
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from openmodels.harbour.tools import OFFICE_SCHEMAS
from openmodels.harbour.world import DAYS, GOODS, ISLANDS, NAMES, SHIPS, SHOPS, some

BERTHS = 24
LONGEST_STAY = 30  # nights
TYPES = {"string": str, "integer": int}


class Refusal(Exception):  # noqa: N818 (a refusal is a response, not a fault of the program)
    """A call that the office cannot carry out; its text is the error's text."""


@dataclass(frozen=True)
class Call:
    """One call in the office's log: the function's name, its arguments and the response."""

    name: str
    arguments: dict
    result: dict


class Office:
    """A harbour office whose state follows from a seed.

    prices, stock: shop -> item -> coins, pieces. ferries: island -> day -> two hours. tides:
    day -> (high, low). ships: ship in port -> berth and captain. mail: person -> sender and text.
    free_berths: numbers in the order of booking. purse: coins that can be paid out. ledger: what
    writing calls recorded. calls: every call with its result.
    """

    def __init__(self, seed: int = 0, names: Sequence[str] = NAMES):
        rng = random.Random(f"office/{seed}")
        self.seed, self.names = seed, names
        self.prices: dict[str, dict[str, int]] = {shop: {} for shop in SHOPS}
        self.stock: dict[str, dict[str, int]] = {shop: {} for shop in SHOPS}
        for item in GOODS:
            for shop in rng.sample(list(SHOPS), rng.choice((1, 2, 3, 4, 6, 8))):
                self.prices[shop][item] = rng.randint(2, 99)
                self.stock[shop][item] = rng.randint(0, 40)
        self.ferries = {
            island: {
                day: sorted(rng.sample(range(5, 22), 2))
                for day in sorted(rng.sample(DAYS, rng.randint(4, 6)), key=DAYS.index)
            }
            for island in ISLANDS
        }
        self.tides = {day: tuple(rng.sample(range(24), 2)) for day in DAYS}
        people = rng.sample(list(names), min(len(names), 24))
        berths = rng.sample(range(1, BERTHS + 1), BERTHS)
        in_port = rng.sample(SHIPS, 9)
        self.ships = {
            ship: {"berth": berths.pop(), "captain": rng.choice(people)} for ship in in_port
        }
        self.free_berths = [] if rng.random() < 0.15 else berths
        self.mail = {
            person: {"from": rng.choice([n for n in people if n != person]), "text": text}
            for person, text in zip(people[:6], self._mail_texts(rng, people), strict=False)
        }
        self.purse = rng.randint(20, 200)
        self.ledger: list[dict] = []
        self.calls: list[Call] = []
        self._number = rng.randint(1, 80)  # of the next order or receipt

    def _mail_texts(self, rng: random.Random, people: Sequence[str]) -> list[str]:
        """Return six short letters; some of them ask for something to be done."""
        return [mail_text(rng, self, people, rng.random() < 0.4) for _ in range(6)]

    def schemas(self, names: Iterable[str] | None = None) -> list[dict]:
        """Return the JSON schemas of these functions, by default all.

        Raises KeyError for an unknown name.
        """
        return [OFFICE_SCHEMAS[name] for name in (OFFICE_SCHEMAS if names is None else names)]

    def call(self, name: str, arguments: dict) -> dict:
        """Return a function's result, or {"error": reason} if it cannot be carried out.

        Both are logged in `calls`. A call that fails changes nothing else.
        """
        try:
            self._check(name, arguments)
            result = self._functions()[name](**arguments)
        except Refusal as refusal:
            result = {"error": str(refusal)}
        self.calls.append(
            Call(name, dict(arguments) if isinstance(arguments, dict) else {}, result)
        )
        return result

    def sellers(self, item: str) -> list[str]:
        """Return the shops that sell an item."""
        return [shop for shop in SHOPS if item in self.prices[shop]]

    # ------------------------------------------------------------------ checks
    def _check(self, name: str, arguments: dict) -> None:
        """Raise Refusal unless the call fits the function's schema."""
        if name not in OFFICE_SCHEMAS:
            raise Refusal(f"no tool {name}")
        if not isinstance(arguments, dict):
            raise Refusal("arguments must be an object")
        parameters = OFFICE_SCHEMAS[name]["function"]["parameters"]
        for key in arguments:
            if key not in parameters["properties"]:
                raise Refusal(f"no argument {key}; arguments: {', '.join(parameters['required'])}")
        for key in parameters["required"]:
            if key not in arguments:
                raise Refusal(f"missing {key}{self._sold_at(key, arguments.get('item'))}")
        for key, value in arguments.items():
            kind = parameters["properties"][key]["type"]
            if not isinstance(value, TYPES[kind]) or isinstance(value, bool):
                raise Refusal(f"{key} must be {'an' if kind == 'integer' else 'a'} {kind}")

    def _sold_at(self, key: str, item: object) -> str:
        """Return which shops sell the item, as the end of an error about a shop."""
        if key != "shop" or item not in GOODS:
            return ""
        return f"; shops: {', '.join(self.sellers(item))}"

    def _known(self, kind: str, value: str, options: Iterable[str], plural: str = "") -> None:
        """Raise Refusal unless the value is among the options; name the most similar ones."""
        options = list(options)
        if value in options:
            return
        similar = get_close_matches(value, options, 3)
        hint = f"; {plural or kind + 's'}: {', '.join(similar)}" if similar else ""
        raise Refusal(f"no {kind} {value}{hint}")

    def _stall(self, item: str, shop: str) -> None:
        """Raise Refusal unless the shop exists and sells the item."""
        self._known("shop", shop, SHOPS)
        self._known("item", item, GOODS)
        if item not in self.prices[shop]:
            sold_at = self._sold_at("shop", item)
            raise Refusal(f"the {shop} does not sell {GOODS[item][0]}{sold_at}")

    # ------------------------------------------------------------------ functions
    def _functions(self) -> dict[str, Callable[..., dict]]:
        return {name: getattr(self, f"_{name}") for name in OFFICE_SCHEMAS}

    def _get_price(self, item: str, shop: str) -> dict:
        self._stall(item, shop)
        return {"price": self.prices[shop][item]}

    def _get_stock(self, item: str, shop: str) -> dict:
        self._stall(item, shop)
        return {"stock": self.stock[shop][item]}

    def _ferry_times(self, to: str, day: str) -> dict:
        self._known("island", to, ISLANDS)
        self._known("day", day, DAYS)
        if day not in self.ferries[to]:
            raise Refusal(f"no ferry to {to} on {day}; days: {', '.join(self.ferries[to])}")
        return {"times": self.ferries[to][day]}

    def _tide(self, day: str) -> dict:
        self._known("day", day, DAYS)
        high, low = self.tides[day]
        return {"high": high, "low": low}

    def _find_ship(self, ship: str) -> dict:
        self._known("ship", ship, SHIPS)
        if ship not in self.ships:
            raise Refusal(f"the {ship} is not in the harbour")
        return dict(self.ships[ship])

    def _book_berth(self, ship: str, captain: str, nights: int) -> dict:
        self._known("ship", ship, SHIPS)
        if not 1 <= nights <= LONGEST_STAY:
            raise Refusal(f"nights must be 1 to {LONGEST_STAY}")
        if not self.free_berths:
            raise Refusal("no berth is open")
        berth = self.free_berths.pop(0)
        self.ledger.append({"berth": berth, "ship": ship, "captain": captain, "nights": nights})
        return {"berth": berth}

    def _send_message(self, to: str, text: str) -> dict:
        self.ledger.append({"message": text, "to": to})
        return {"sent": True}

    def _place_order(self, name: str, item: str, quantity: int, shop: str) -> dict:
        self._stall(item, shop)
        if quantity < 1:
            raise Refusal("quantity must be 1 or more")
        if quantity > self.stock[shop][item]:
            raise Refusal(f"the {shop} has only {some(self.stock[shop][item], item)}")
        self.stock[shop][item] -= quantity
        fields = {"name": name, "item": item, "quantity": quantity, "shop": shop}
        return self._record("order", fields)

    def _read_mail(self, person: str) -> dict:
        if person not in self.mail:
            raise Refusal(f"no mail for {person}")
        return dict(self.mail[person])

    def _pay(self, name: str, coins: int) -> dict:
        if coins < 1:
            raise Refusal("coins must be 1 or more")
        if coins > self.purse:
            raise Refusal(f"the office has only {self.purse} coins")
        self.purse -= coins
        return self._record("receipt", {"name": name, "coins": coins})

    def _record(self, kind: str, fields: dict) -> dict:
        """Enter an order or a receipt in the ledger and return its number."""
        number = self._number
        self._number += 1
        self.ledger.append({kind: number} | fields)
        return {kind: number}


NEWS = (
    "The {good} is ready.", "Your {good} is here.", "The {ship} comes on {day}.",
    "I need {some}.", "I come to the harbour on {day}.", "I have {some} for sale.",
    "The {ship} lies at berth {n}.", "We meet on {day} at {hour}.", "The {goods} cost {n} coins.",
    "The {shop} is open on {day}.", "I took {some} to the {shop}.", "The {good} is too old.",
    "I owe you {n} coins.", "The {ship} carries {some}.", "I wait at the {shop}.",
)  # fmt: skip
WISHES = (
    "Tell {name}: the {good} is ready.", "Send {name} this message: come at {hour}.",
    "Please let {name} know: your {good} is here.", "Please tell {name}: bring the {good}.",
    "Order {order} for {name} from the {seller}.", "Please pay {name} {n} coins.",
    "Pay {n} coins to {name}.", "Please order {order} from the {seller} for {name}.",
    "Book a berth for the {ship}, captain {name}, {stay}.",
    "Message for {name}: the {ship} is in.",
)  # fmt: skip


def mail_text(
    rng: random.Random, office: Office, people: Sequence[str], asks: bool, template: str = ""
) -> str:
    """Return the text of a letter: news, or if `asks`, a wish that a call can carry out.

    template: use this template instead of a random choice.
    """
    item = rng.choice(list(GOODS))
    seller = rng.choice(office.sellers(item))
    count, nights = rng.randint(2, 20), rng.randint(1, 9)
    quantity = max(1, min(count, office.stock[seller][item]))
    slots = {
        "good": item, "goods": GOODS[item][0], "some": some(count, item), "seller": seller,
        "order": some(quantity, item), "ship": rng.choice(SHIPS), "day": rng.choice(DAYS),
        "shop": rng.choice(list(SHOPS)), "n": rng.randint(2, 20), "hour": rng.randint(6, 20),
        "name": rng.choice(people), "stay": "1 night" if nights == 1 else f"{nights} nights",
    }  # fmt: skip
    return (template or rng.choice(WISHES if asks else NEWS)).format(**slots)
