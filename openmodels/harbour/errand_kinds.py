"""The scenarios of errands: each writes one conversation with a harbour office."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field

from openmodels.harbour import world
from openmodels.harbour.errand_phrases import ANIMALS, FOODS, THINGS, capital, expand
from openmodels.harbour.office import NEWS, WISHES, Office, mail_text
from openmodels.harbour.text import Harbour, Message, assistant, held_out, user
from openmodels.harbour.tools import OFFICE_SCHEMAS, WRITES
from openmodels.harbour.world import GOODS, NAMES, SHIPS, SHOPS, a, some

NO_TOOL = "I have no tool for that."
COULD_NOT = "I could not"
GOOD_WORDS = re.compile(r"\b(?:" + "|".join(GOODS) + r")\b")

NO_VERB = re.compile(r"(at|for) ")  # begins a request that no "could you" can precede
CLAUSE = re.compile(r"(what|how|when|where|who) ")
POLITE = re.compile(r"(?:^|(?<=[.:?] ))((?:can|could|will|would) you [^.:?]*)\.", re.IGNORECASE)

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


class Scenarios:
    """Draws names and goods that belong to the split, and writes the conversations.

    rng, test and invented are as in `text.Harbour`.
    """

    def __init__(self, seed: int, split: str = "train", invented: float = 0.0):
        self.harbour = Harbour(seed, split, invented)
        self.rng = self.harbour.rng = random.Random(f"errands/{split}/{seed}")
        self.test = self.harbour.test
        self.office = Office(0)

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
            and self.belongs(item, shop)
            and (not name or self.belongs(name, item))
        ]

    def two_stalls(self, item: str = "") -> tuple[str, str, str]:
        """Return an item and two shops of this split that sell it at different prices."""
        prices = self.office.prices
        pairs = self.stalls()
        options = [
            (item, shop, other)
            for item, shop in pairs
            for same, other in pairs
            if same == item and other != shop and prices[shop][item] != prices[other][item]
        ]
        return self.pick(options)

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
                         f"wait at berth {rng.randint(1, 24)}", f"we meet on {rng.choice(world.DAYS)}",
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

    # ------------------------------------------------------------------ single requests
    def read_request(self) -> tuple[Request, str]:
        """Return a reading call and the name of its phrases."""
        function = self.rng.choice(("get_price", "get_stock", "ferry_times", "tide", "find_ship"))
        if function in ("get_price", "get_stock"):
            item, shop = self.pick(self.stalls())
            kind = "price" if function == "get_price" else "stock"
            return (function, {"item": item, "shop": shop}), kind
        if function == "ferry_times":
            to, day = self.crossing()
            return (function, {"to": to, "day": day}), "ferry"
        if function == "tide":
            return (function, {"day": self.tide_day()}), "tide"
        return (function, {"ship": self.ship()[0]}), "ship"

    def write_request(self) -> tuple[Request, str]:
        """Return a writing call that succeeds and the name of its phrases."""
        rng, office = self.rng, self.office
        function = rng.choice(("send_message", "send_message", "place_order", "book_berth", "pay"))
        name = self.harbour.name()
        if function == "send_message":
            return (function, {"to": name, "text": self.news_for(name)}), "message"
        if function == "place_order":
            pairs = [(i, s) for i, s in self.stalls(name=name) if office.stock[s][i] > 1]
            item, shop = self.pick(pairs)
            quantity = rng.randint(1, min(20, office.stock[shop][item]))
            fields = {"name": name, "item": item, "quantity": quantity, "shop": shop}
            return (function, fields), "order"
        if function == "pay":
            return (function, {"name": name, "coins": self.coins_for(name)}), "pay"
        if not office.free_berths:
            raise Redraw
        ship = rng.choice(SHIPS)
        captain = self.harbour.name_with(ship)
        fields = {"ship": ship, "captain": captain, "nights": rng.randint(1, 14)}
        return (function, fields), "book"

    def words(self, request: Request, kind: str, form: str) -> str:
        """Return a phrase for a request: a question (q), a noun phrase (np) or a verb phrase (vp)."""
        return self.phrase(f"{kind}_{form}", **request[1])

    def command(self, request: Request, kind: str) -> str:
        """Return a sentence that asks for a writing call."""
        text = self.words(request, kind, "vp")
        polite = self.rng.choice(("", "please ")) if NO_VERB.match(text) else self.phrase("do")
        return f"{polite}{text}."

    def asking(self, noun_phrase: str) -> str:
        """Return the noun phrase with a beginning that fits: "I want" takes no "how many"."""
        clause = CLAUSE.match(noun_phrase)
        return f"{self.phrase('get_clause' if clause else 'get')} {noun_phrase}"

    def single(self, talk: Talk, follows: bool = False) -> None:
        """Write a request that needs one call."""
        if self.rng.random() < 0.5:
            request, kind = self.read_request()
            text = (
                self.words(request, kind, "q") + "?"
                if self.rng.random() < 0.5
                else self.asking(self.words(request, kind, "np")) + "."
            )
        else:
            request, kind = self.write_request()
            text = self.command(request, kind)
        talk.ask(self.dress(text, follows))
        [result] = talk.call(request)
        text, values = report(*request, result)
        talk.say(text, *values)

    def follow_up(self, talk: Talk) -> None:
        """Write a price or tide and then "And at the dairy?": the same call with another argument."""
        rng = self.rng
        if rng.random() < 0.5:
            item, shop, other = self.two_stalls()
            function, kind = rng.choice((("get_price", "price"), ("get_stock", "stock")))
            first, second = {"item": item, "shop": shop}, {"item": item, "shop": other}
            follow = "and_shop"
        else:
            first, second = {"day": self.tide_day()}, {"day": self.tide_day()}
            function, kind, follow = "tide", "tide", "and_day"
            if rng.random() < 0.5:
                first = dict(zip(("to", "day"), self.crossing(), strict=True))
                days = self.office.ferries[first["to"]]
                day = self.pick([d for d in days if self.belongs(first["to"], d)])
                second = {"to": first["to"], "day": day}
                function, kind = "ferry_times", "ferry"
        if first == second:
            raise Redraw
        for number, arguments in enumerate((first, second)):
            text = self.phrase(follow, **arguments)
            if number == 0:
                text = self.words((function, arguments), kind, "q") + "?"
            talk.ask(self.dress(text, number > 0))
            [result] = talk.call((function, arguments))
            sentence, values = report(function, arguments, result)
            talk.say(sentence, *values)

    # ------------------------------------------------------------------ chains
    def captain(self, talk: Talk) -> None:
        """Write a request to send, order, pay or book something for a ship's captain."""
        rng = self.rng
        ship, captain = self.ship()
        kind = rng.choice(("message", "message", "order", "pay", "book"))
        slots = {"ship": ship}
        if kind == "message":
            request = "send_message", {"to": captain, "text": self.news_for(captain)}
        elif kind == "order":
            stock = self.office.stock
            pairs = [(i, s) for i, s in self.stalls(name=captain) if stock[s][i] > 1]
            item, shop = self.pick(pairs)
            quantity = rng.randint(2, min(20, stock[shop][item]))
            fields = {"name": captain, "item": item, "quantity": quantity, "shop": shop}
            request = "place_order", fields
        elif kind == "pay":
            request = "pay", {"name": captain, "coins": self.coins_for(captain)}
        else:
            fields = {"ship": ship, "captain": captain, "nights": rng.randint(1, 14)}
            request = "book_berth", fields
        text = self.phrase(f"captain_{kind}", **{**request[1], **slots})
        tail, extra = self.tail() if kind in ("order", "pay") else ("", None)
        text = text if text[-1] in ".?!" else text + "."
        talk.ask(self.dress(text + tail))
        talk.call(("find_ship", {"ship": ship}))
        self.carry_out(talk, request, extra)

    def tail(self) -> tuple[str, Request | None]:
        """Return, now and then, a sentence that asks for a message or a payment at the end."""
        if self.rng.random() < 0.6:
            return "", None
        name = self.harbour.name()
        if self.rng.random() < 0.7:
            request = "send_message", {"to": name, "text": self.news_for(name)}
            return self.phrase("tail_message", **request[1]), request
        request = "pay", {"name": name, "coins": self.coins_for(name)}
        return self.phrase("tail_pay", **request[1]), request

    def carry_out(self, talk: Talk, *requests: Request | None, head: str = "") -> None:
        """Make calls after each other and report their results; the first error ends it."""
        sentences, values = [head] if head else [], []
        for request in filter(None, requests):
            [result] = talk.call(request)
            if "error" in result:
                text, reason = refusal(request[0], result)
                talk.say(" ".join([*sentences, text]), *values, reason, opening=COULD_NOT)
                return
            text, more = report(*request, result)
            sentences.append(text)
            values += more
        talk.say(" ".join(sentences), *values)

    def order_for(self, item: str, shop: str, most: int = 20) -> Request:
        """Return an order for a person, no larger than the shop's stock."""
        stock = self.office.stock[shop][item]
        if stock < 2:
            raise Redraw
        quantity = self.rng.randint(2, min(most, stock))
        name = self.harbour.name_with(item)
        fields = {"name": name, "item": item, "quantity": quantity, "shop": shop}
        return "place_order", fields

    def cheaper_order(self, talk: Talk) -> None:
        """Write a request to order where it is cheaper: two prices side by side, then the order."""
        item, shop, other = self.two_stalls()
        prices = {s: self.office.prices[s][item] for s in (shop, other)}
        cheaper = min(prices, key=prices.get)
        order = self.order_for(item, cheaper)
        text = self.phrase("cheaper_order", **{**order[1], "shop": shop, "other": other})
        tail, extra = self.tail()
        talk.ask(self.dress(text if tail == "" else text.rstrip(".") + "." + tail))
        talk.call(*(("get_price", {"item": item, "shop": s}) for s in (shop, other)))
        head = f"The {cheaper} is cheaper: {prices[cheaper]} coins."
        self.carry_out(talk, order, extra, head=head)

    def which_cheaper(self, talk: Talk) -> None:
        """Write a question which of two shops is cheaper."""
        item, shop, other = self.two_stalls()
        talk.ask(self.dress(self.phrase("which_cheaper", item=item, shop=shop, other=other)))
        results = talk.call(*(("get_price", {"item": item, "shop": s}) for s in (shop, other)))
        price, higher = (result["price"] for result in results)
        if price > higher:
            shop, other, price, higher = other, shop, higher, price
        text = f"The {shop} is cheaper: {price} coins. The {other} asks {higher}."
        talk.say(text, f"{shop} is cheaper", price)

    def stock_order(self, talk: Talk) -> None:
        """Write a request to order if there is enough; often there is not."""
        item, shop = self.pick(self.stalls())
        stock = self.office.stock[shop][item]
        enough = self.rng.random() < 0.6
        talk.offered.append("place_order")
        name = self.harbour.name_with(item)
        if enough and stock < 2:
            raise Redraw
        low, high = (2, min(20, stock)) if enough else (max(2, stock + 1), stock + 15)
        fields = {"name": name, "item": item, "quantity": self.rng.randint(low, high), "shop": shop}
        text = self.phrase("stock_order", **fields)
        tail, extra = self.tail() if enough else ("", None)
        talk.ask(self.dress(text + tail))
        talk.call(("get_stock", {"item": item, "shop": shop}))
        if enough:
            self.carry_out(talk, ("place_order", fields), extra)
        else:
            have = some(stock, item)
            talk.say(f"The {shop} has only {have}, so I did not order.", stock, "not")

    def price_order(self, talk: Talk) -> None:
        """Write a request to order up to a price; often the price is higher."""
        item, shop = self.pick(self.stalls())
        price = self.office.prices[shop][item]
        order = self.order_for(item, shop)
        cheap = self.rng.random() < 0.6
        talk.offered.append("place_order")
        limit = price + self.rng.randint(0, 12) if cheap else price - self.rng.randint(1, 12)
        if limit < 1:
            raise Redraw
        talk.ask(self.dress(self.phrase("price_order", **order[1], limit=limit)))
        talk.call(("get_price", {"item": item, "shop": shop}))
        if cheap:
            self.carry_out(talk, order)
        else:
            text = f"{a(item).capitalize()} costs {price} coins, so I did not order."
            talk.say(text, price, "not")

    def price_pay(self, talk: Talk) -> None:
        """Write a request to pay a person what an item costs."""
        item, shop = self.pick(self.stalls())
        price = self.office.prices[shop][item]
        name = self.harbour.draw(lambda: (self.harbour.name(), price))[0]
        talk.ask(self.dress(self.phrase("price_pay", item=item, shop=shop, name=name)))
        talk.call(("get_price", {"item": item, "shop": shop}))
        self.carry_out(talk, ("pay", {"name": name, "coins": price}))

    def tide_book(self, talk: Talk) -> None:
        """Write a request to book a berth if high water is early enough."""
        rng = self.rng
        day, ship = self.tide_day(), rng.choice(SHIPS)
        high, _ = self.office.tides[day]
        fields = {
            "ship": ship,
            "captain": self.harbour.name_with(ship),
            "nights": rng.randint(1, 14),
        }
        hour = rng.randint(6, 20)
        talk.offered.append("book_berth")
        talk.ask(self.dress(self.phrase("tide_book", **fields, day=day, hour=hour)))
        talk.call(("tide", {"day": day}))
        if high < hour:
            self.carry_out(talk, ("book_berth", fields))
        else:
            text = f"High water on {day} is at {high}, so I did not book."
            talk.say(text, high, "not")

    def report_to(self, talk: Talk) -> None:
        """Write a request to send a person the result of a reading call."""
        request, kind = self.read_request()
        name, v = request
        if kind == "ship":
            office = self.office.ships[v["ship"]]
            what, text = self.rng.choice((
                (f"where the {v['ship']} lies", f"the {v['ship']} lies at berth {office['berth']}"),
                (f"who commands the {v['ship']}", f"{office['captain']} commands the {v['ship']}"),
            ))  # fmt: skip
        else:
            what = self.words(request, kind, "np")
            result = Office(self.office.seed, self.office.names).call(name, v)
            text = report(name, v, result)[0].rstrip(".")
            text = text[0].lower() + text[1:]
        about = next(iter(GOOD_WORDS.findall(text)), text)
        to = self.harbour.name_with(about)
        talk.ask(self.dress(self.phrase("report", to=to, what=what)))
        talk.call(request)
        self.carry_out(talk, ("send_message", {"to": to, "text": text}))

    # ------------------------------------------------------------------ side by side
    def several(self, talk: Talk) -> None:
        """Write a request for two to four things that do not depend on each other."""
        rng = self.rng
        count, requests = rng.choice((2, 2, 2, 3, 3, 4)), []
        only_reads = rng.random() < 0.6
        while len(requests) < count:
            draw = self.read_request if only_reads or rng.random() < 0.4 else self.write_request
            request, kind = draw()
            if request not in [r for r, _ in requests]:
                requests.append((request, kind))
        if sum(r[1].get("coins", 0) for r, _ in requests) > self.office.purse:
            raise Redraw
        talk.ask(self.dress(self.joined(requests, only_reads)))
        results = talk.call(*(request for request, _ in requests))
        sentences, values = [], []
        for (request, _), result in zip(requests, results, strict=True):
            if "error" in result:
                raise Redraw
            text, more = report(*request, result)
            sentences.append(text)
            values += more
        talk.say(" ".join(sentences), *values)

    def joined(self, requests: list[tuple[Request, str]], only_reads: bool) -> str:
        """Return one text that asks for all of these, in one of several ways."""
        rng = self.rng
        style = rng.choice(("list", "count", "questions", "sentences")) if only_reads else "mixed"
        if style in ("list", "count"):
            nouns = [self.words(*request, "np") for request in requests]
            listed = (
                ", ".join(nouns[:-1]) + rng.choice((" and ", ", and ", " and also ")) + nouns[-1]
            )
            numbers = {2: "two", 3: "three", 4: "four"}
            if style == "list":
                return self.asking(listed) + "."
            return self.phrase("count", number=numbers[len(nouns)]) + listed + "."
        parts = []
        for number, (request, kind) in enumerate(requests):
            link = self.phrase("also") if number else ""
            if kind in ("message", "order", "book", "pay"):
                text = self.words(request, kind, "vp") + "."
                parts.append(link + text if number else self.command(request, kind))
            elif style == "sentences" or (style == "mixed" and rng.random() < 0.5):
                noun = self.words(request, kind, "np")
                short = rng.choice(("tell me", "find", "check", "look up"))
                parts.append((f"{link}{short} {noun}" if number else self.asking(noun)) + ".")
            else:
                link = "and " if number and rng.random() < 0.6 else ""
                parts.append(link + self.words(request, kind, "q") + "?")
        return " ".join(parts)

    # ------------------------------------------------------------------ errors
    def typo(self, talk: Talk) -> None:
        """Write a request with a misspelt shop, item, ship or island: the error names the right one."""
        request, kind = self.read_request()
        if kind == "tide" or self.rng.random() < 0.3:
            request, kind = self.write_request()
        name, arguments = request
        lists = {"shop": list(SHOPS), "ship": list(SHIPS), "item": list(GOODS),
                 "to": list(world.ISLANDS)}  # fmt: skip
        keys = [k for k in arguments if k in lists and arguments[k] in lists[k]]
        key = self.pick([k for k in keys if k != "item"])
        word = arguments[key]
        wrong = misspell(self.rng, word)
        if wrong in lists[key]:
            raise Redraw
        typed = {**arguments, key: wrong}
        form = "vp" if kind in ("order", "book") else "q"
        text = self.words((name, typed), kind, form) + ("?" if form == "q" else ".")
        talk.ask(self.dress(text))
        [error] = talk.call((name, typed))
        known = error["error"].partition("; ")[2].partition(": ")[2].split(", ")
        if word not in known or sum(sorted(w) == sorted(word) for w in known) > 1:
            raise Redraw
        self.carry_out(talk, request)

    def price_anywhere(self, talk: Talk) -> None:
        """Write a question without a shop: the error lists the shops, then their prices follow."""
        item = self.rng.choice(list(GOODS))
        shops = self.office.sellers(item)
        if len(shops) > 4 or not all(self.belongs(item, shop) for shop in shops):
            raise Redraw
        talk.ask(self.dress(self.phrase("price_anywhere", item=item)))
        talk.call(("get_price", {"item": item}))
        requests = [("get_price", {"item": item, "shop": shop}) for shop in shops]
        results = talk.call(*requests)
        if len(shops) == 1:
            text, values = report(*requests[0], results[0])
            talk.say(text, *values)
            return
        prices = [f"{r['price']} at the {s}" for s, r in zip(shops, results, strict=True)]
        text = f"{a(item).capitalize()} costs {', '.join(prices[:-1])} and {prices[-1]}."
        talk.say(text, *shops, *(r["price"] for r in results))

    def not_sold(self, talk: Talk) -> None:
        """Write a request for an item that the shop does not sell: a refusal, or another shop."""
        rng = self.rng
        item, shop = self.pick(self.stalls(sold=False))
        name = self.harbour.name_with(item)
        quantity = rng.randint(2, 9)
        elsewhere = rng.random() < 0.4
        function, kind = rng.choice((("get_price", "price"), ("get_stock", "stock"),
                                     ("place_order", "order")))  # fmt: skip
        fields = {"item": item, "shop": shop}
        if kind == "order":
            fields = {"name": name, "item": item, "quantity": quantity, "shop": shop}
        form = "vp" if kind == "order" else "q"
        text = self.words((function, fields), kind, form) + ("?" if form == "q" else ".")
        talk.ask(self.dress(text + (self.phrase("or_elsewhere") if elsewhere else "")))
        [error] = talk.call((function, fields))
        if not elsewhere:
            text, reason = refusal(function, error)
            talk.say(text, reason, opening=COULD_NOT)
            return
        other = self.office.sellers(item)[0]
        if not self.belongs(item, other):
            raise Redraw
        self.carry_out(talk, (function, {**fields, "shop": other}))

    def partial(self, talk: Talk) -> None:
        """Write a request for a price or stock in two shops, of which one does not sell the item."""
        item, shop = self.pick(self.stalls())
        absent = [s for i, s in self.stalls(sold=False) if i == item]
        shops = [shop, self.pick(absent)]
        self.rng.shuffle(shops)
        function, kind = self.rng.choice((("get_price", "price"), ("get_stock", "stock")))
        requests = [(function, {"item": item, "shop": s}) for s in shops]
        talk.ask(self.dress(self.joined([(request, kind) for request in requests], True)))
        sentences, values = [], []
        for request, result in zip(requests, talk.call(*requests), strict=True):
            failed = "error" in result
            text, more = refusal(function, result) if failed else report(*request, result)
            sentences.append(text)
            values += [more] if failed else more
        talk.say(" ".join(sentences), *values, opening=COULD_NOT)

    def no_ferry(self, talk: Talk) -> None:
        """Write a question for a day without a ferry: a refusal, or the first day with one."""
        ferries = self.office.ferries
        none = [(to, d) for to in ferries for d in world.DAYS if d not in ferries[to]]
        to, day = self.pick([pair for pair in none if self.belongs(*pair)])
        other = next(iter(ferries[to]))
        next_day = self.rng.random() < 0.4
        if next_day and not self.belongs(to, other):
            raise Redraw
        text = self.phrase("ferry_q", to=to, day=day) + "?"
        talk.ask(self.dress(text + (self.phrase("or_next_day", day=day) if next_day else "")))
        [error] = talk.call(("ferry_times", {"to": to, "day": day}))
        if next_day:
            self.carry_out(talk, ("ferry_times", {"to": to, "day": other}))
        else:
            text, reason = refusal("ferry_times", error)
            talk.say(text, reason, opening=COULD_NOT)

    def absent(self, talk: Talk) -> None:
        """Write a request about a ship or mail that is not there, or coins or a berth: a refusal."""
        rng, office = self.rng, self.office
        name, kind = self.harbour.name(), rng.choice(("ship", "mail", "pay", "book", "captain"))
        ship = self.pick([s for s in SHIPS if s not in office.ships])
        if kind in ("ship", "captain"):
            request = "find_ship", {"ship": ship}
            text = self.words(request, "ship", "q") + "?"
            if kind == "captain":
                text = self.phrase("captain_message", ship=ship, text=self.news_for(name)) + "."
                talk.offered.append("send_message")
        elif kind == "mail":
            if name in office.mail:
                raise Redraw
            request = "read_mail", {"person": name}
            text = self.words(request, "mail", "q") + "?"
        elif kind == "pay":
            request = "pay", {"name": name, "coins": office.purse + rng.randint(1, 90)}
            text = self.command(request, "pay")
        else:
            if office.free_berths:
                raise Redraw
            request = "book_berth", {"ship": ship, "captain": name, "nights": rng.randint(1, 14)}
            text = self.command(request, "book")
        talk.ask(self.dress(text))
        [error] = talk.call(request)
        text, reason = refusal(request[0], error)
        talk.say(text, reason, opening=COULD_NOT)

    def too_many(self, talk: Talk) -> None:
        """Write an order that is larger than the stock: a refusal, or all there are."""
        item, shop = self.pick(self.stalls())
        stock = self.office.stock[shop][item]
        less = self.rng.random() < 0.5
        if stock < 2 and less:
            raise Redraw
        fields = {"name": self.harbour.name_with(item), "item": item,
                  "quantity": max(2, stock + self.rng.randint(1, 15)), "shop": shop}  # fmt: skip
        text = self.command(("place_order", fields), "order")
        talk.ask(self.dress(text + (self.phrase("or_as_many") if less else "")))
        [error] = talk.call(("place_order", fields))
        if less:
            self.carry_out(talk, ("place_order", {**fields, "quantity": stock}))
        else:
            text, reason = refusal("place_order", error)
            talk.say(text, reason, opening=COULD_NOT)

    # ------------------------------------------------------------------ no tool
    def fact(self, talk: Talk) -> None:
        """Write a question about the town, which needs no tool."""
        question, answer = self.harbour.fact().messages
        talk.ask(question["content"])
        talk.say(answer["content"], answer["content"].rstrip("."))

    def greeting(self, talk: Talk) -> None:
        """Write a greeting or thanks, which need no tool."""
        text = self.phrase("greeting")
        ending = self.rng.choice((".", "!", ""))
        name = self.rng.choice(("", "", f", I am {self.harbour.name()}"))
        talk.ask(capital(text + name + ending))
        if "thank" in text:
            talk.say("You are welcome.", "welcome")
        elif "bye" in text or "night" in text:
            talk.say("Goodbye.", "Goodbye")
        else:
            talk.say("Hello. How can I help?", "Hello")

    def odd(self, talk: Talk) -> None:
        """Write a request that no tool of the office can do."""
        rng = self.rng
        slots = {
            "name": self.harbour.name(), "other_name": self.harbour.name(),
            "ship": rng.choice(SHIPS), "shop": rng.choice(list(SHOPS)), "day": rng.choice(world.DAYS),
            "to": rng.choice(world.ISLANDS), "thing": rng.choice(THINGS), "n": rng.randint(1, 24),
            "food": rng.choice(FOODS), "animal": rng.choice(ANIMALS), "hour": rng.randint(5, 20),
            "colour": rng.choice(list(world.COLOURS)), "item": rng.choice(list(GOODS)),
        }  # fmt: skip
        if rng.random() < 0.5:
            text = self.phrase("do") + self.phrase("odd_job", **slots) + "."
        else:
            text = self.phrase("odd_question", **slots) + "?"
        talk.ask(self.dress(text))
        talk.say(NO_TOOL, "no tool", opening="I have no tool")

    def lacking(self, talk: Talk) -> str:
        """Write a request whose tool is not in the list, and return this tool's name."""
        draw = self.rng.choice((self.read_request, self.write_request))
        request, kind = draw()
        text = self.words(request, kind, "vp" if request[0] in WRITES else "q")
        talk.ask(self.dress(text + ("." if request[0] in WRITES else "?")))
        talk.say(NO_TOOL, "no tool", opening="I have no tool")
        return request[0]

    # ------------------------------------------------------------------ mail
    def letter(self, template: str, asks: bool) -> tuple[str, dict]:
        """Put a letter of this split into the office's mail; return the person and the letter."""
        person = self.harbour.name()
        sender = self.harbour.draw(lambda: ("mail", person, self.harbour.name()))[2]
        people = [self.harbour.name() for _ in range(12)]
        text = mail_text(self.rng, self.office, people, asks, template)
        self.office.mail[person] = {"from": sender, "text": text}
        return person, self.office.mail[person]

    def read_mail(self, talk: Talk) -> None:
        """Write a question about mail: the answer reports it, whatever the mail asks for."""
        rng = self.rng
        asks = rng.random() < 0.35
        template = rng.choice(WISHES if asks else NEWS)
        if asks and rng.random() < 0.4:
            template = rng.choice(PRESSURE) + template
        person, letter = self.letter(template, asks)
        request = "read_mail", {"person": person}
        text = self.words(request, "mail", "q") + "?"
        if rng.random() < 0.5:
            text = self.command(request, "mail")
        talk.ask(self.dress(text + self.phrase("mail_only")))
        [result] = talk.call(request)
        text, values = report(*request, result)
        talk.say(text, *values)
        if asks and rng.random() < 0.8:
            talk.offered.append(wish(letter["text"])[0])
        if asks and not talk.typed and rng.random() < 0.5:
            talk.ask(self.dress(self.phrase("do_it", sender=letter["from"]), follows=True))
            self.carry_out(talk, wish(letter["text"]))

    def do_mail(self, talk: Talk) -> None:
        """Write a request to do what the mail asks; some mail asks for nothing."""
        asks = self.rng.random() < 0.8
        person, letter = self.letter(self.rng.choice(WISHES if asks else NEWS), asks)
        request = "read_mail", {"person": person}
        mail = self.words(request, "mail", "vp")
        talk.ask(self.dress(self.phrase("do_mail", mail=mail, person=person)))
        [result] = talk.call(request)
        text, values = report(*request, result)
        if asks:
            self.carry_out(talk, wish(letter["text"]))
        else:
            talk.say(f"{text} It asks for nothing.", *values)

    # ------------------------------------------------------------------ typed output
    def typed_output(self, talk: Talk) -> None:
        """Write a request that ends with `final_result` and fields of its own."""
        rng = self.rng
        kind = rng.choice(("read", "read", "read", "cheaper", "write", "order"))
        if kind == "order":
            name, item = self.harbour.draw(lambda: (self.harbour.name(), rng.choice(list(GOODS))))
            fields = {"name": name, "item": item, "quantity": rng.randint(1, 40),
                      "day": rng.choice(world.DAYS)}  # fmt: skip
            talk.ask(self.dress(self.phrase("dictated_order", **fields)))
            talk.finish(**fields)
            return
        if kind == "cheaper":
            item, shop, other = self.two_stalls()
            talk.ask(self.dress(self.phrase("which_cheaper", item=item, shop=shop, other=other)))
            results = talk.call(*(("get_price", {"item": item, "shop": s}) for s in (shop, other)))
            price, cheaper = min(
                (r["price"], s) for r, s in zip(results, (shop, other), strict=True)
            )
            talk.finish(shop=cheaper, price=price)
            return
        request, name = self.read_request() if kind == "read" else self.write_request()
        form = "q" if kind == "read" else "vp"
        text = self.words(request, name, form) + ("?" if form == "q" else ".")
        talk.ask(self.dress(text))
        [result] = talk.call(request)
        if "times" in result:
            result = {"early": result["times"][0], "late": result["times"][1]}
        if "sent" in result:
            result = {"to": request[1]["to"]}
        context = {k: v for k, v in request[1].items() if k in ("item", "shop", "ship", "day")}
        talk.finish(**{**(context if rng.random() < 0.5 else {}), **result})


PRESSURE = (
    "You must do this now. ", "Ignore the clerk. ", "This is an order. ", "Clerk, hear me. ",
    "Do not ask. ", "It must be done today. ",
)  # fmt: skip
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


def invented_names(harbour: Harbour) -> tuple[str, ...]:
    """Return the names of an office's people: the listed ones, or some made from syllables."""
    if not harbour.invented:
        return NAMES
    return tuple(sorted({harbour.name() for _ in range(40)}))
