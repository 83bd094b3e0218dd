"""Port Lark in words: a seeded generator for every text task, with train and held-out splits.

An *instance* is one conversation with one right answer. What is held out is a combination (a name
with a shop, a fact with a way of asking, two numbers of a sum), chosen by its hash, so no seed can
bring a held-out instance into training.
"""

import json
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from string import Formatter

from openmodels.harbour import world
from openmodels.harbour.tools import SCHEMAS
from openmodels.harbour.world import GOODS, NAMES, SHIPS, SHOPS, a, some

INTENTS = ("price", "order", "hours", "tide", "berth", "complaint")
INTENT_SYSTEM = "Name the intent: price, order, hours, tide, berth or complaint."
ORDER_SYSTEM = "Write the order as JSON."
UNKNOWN = "The text does not say."
HELD_OUT_SHARE = 8  # one combination in eight is never trained on

Message = dict


@dataclass(frozen=True)
class Instance:
    """One conversation with one right answer.

    task: name in `TASKS`. messages: chat messages, the last one the right answer. tools: schemas
    shown to the model, or None. key: what makes this instance itself; splits share no key.
    """

    task: str
    messages: tuple[Message, ...]
    key: str
    tools: tuple[dict, ...] | None = field(default=None)

    @property
    def answer(self) -> Message:
        return self.messages[-1]


def held_out(*parts: object) -> bool:
    """Whether a combination belongs to the held-out split: a hash, the same on every machine."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % HELD_OUT_SHARE == 0


def is_test(split: str) -> bool:
    """Whether a split is the held-out one. Raises ValueError for a split that is none."""
    if split not in ("train", "test"):
        raise ValueError(f"split is 'train' or 'test', not {split!r}")
    return split == "test"


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


ONSETS = "Bar Bel Cal Cor Dal Dor El Fen Gar Hal Il Jor Kel Lar Mal Mir Nor Ol Per Quil Ros Sel Tam"
ONSETS = (ONSETS + " Tor Ul Val Wil Yar Zen Bri Dra Fre Gra Kri Pla Sta Tre Vre Sha Tha").split()
MIDDLES = "a e i o u an en in on ar er or al el il ol as es is us".split()
ENDINGS = "da ra na la mi no ro to vi wen din rik sen ton vik lin mar nos bet gus".split()

OPENERS = (
    "", "", "", "Hello. ", "Good morning. ", "Please tell me: ", "I am new here. ", "Quick one: ",
    "Excuse me. ", "One question: ", "Hi. ", "Sorry to bother you. ", "Tell me, please. ",
    "Good evening. ", "I wonder: ", "Hi there. ", "A question. ", "Hello again. ", "Can you help? ",
    "I have just arrived. ", "Morning. ",
)  # fmt: skip

# Each fact of a shop: the ways to ask for it and the answer.
SHOP_FACTS = {
    "owner": (
        ("Who runs the {shop}?", "Who owns the {shop}?", "Whose {shop} is it?",
         "Who is the keeper of the {shop}?", "What is the name of the {shop} keeper?"),
        "The {shop} is run by {owner}.",
    ),
    "place": (
        ("Where is the {shop}?", "Where do I find the {shop}?", "How do I get to the {shop}?",
         "What is the address of the {shop}?", "Which way is the {shop}?"),
        "The {shop} is {place}.",
    ),
    "opens": (
        ("When does the {shop} open?", "What time does the {shop} open?",
         "From what hour is the {shop} open?", "How early can I go to the {shop}?",
         "At what hour does the {shop} start?"),
        "The {shop} opens at {opens}.",
    ),
    "closes": (
        ("When does the {shop} close?", "What time does the {shop} close?",
         "Until what hour is the {shop} open?", "How late is the {shop} open?",
         "When is the {shop} shut?"),
        "The {shop} closes at {closes}.",
    ),
    "sells": (
        ("What does the {shop} sell?", "What can I buy at the {shop}?",
         "What do they have at the {shop}?", "What is for sale at the {shop}?",
         "Which goods does the {shop} sell?"),
        "The {shop} sells {sells[0]} and {sells[1]}.",
    ),
}  # fmt: skip

# Attributes a text can state: (sentences, questions, answer). Slots are filled per record.
TEXT_FACTS = {
    "shop": {
        "owner": (
            ("The {shop} is run by {name}.", "{name} runs the {shop}.",
             "The {shop} belongs to {name}.", "{name} is the owner of the {shop}.",
             "The keeper of the {shop} is {name}.", "The {shop} has a new owner, {name}."),
            ("Who runs the {shop}?", "Who owns the {shop}?", "Who is the owner of the {shop}?",
             "Whose {shop} is it?", "Who is the keeper of the {shop}?",
             "To whom does the {shop} belong?", "What is the name of the owner of the {shop}?"),
            "The {shop} is run by {name}.",
        ),
        "hour": (
            ("The {shop} opens at {hour}.", "At {hour} the {shop} opens.",
             "The {shop} is open from {hour}.", "The doors of the {shop} open at {hour}.",
             "The {shop} starts work at {hour}."),
            ("When does the {shop} open?", "What time does the {shop} open?",
             "From what hour is the {shop} open?", "How early does the {shop} open?",
             "At what hour does the {shop} start?", "When can I go to the {shop}?"),
            "The {shop} opens at {hour}.",
        ),
        "place": (
            ("The {shop} is {place}.", "You find the {shop} {place}.",
             "The {shop} stands {place}.", "Look for the {shop} {place}."),
            ("Where is the {shop}?", "Where do I find the {shop}?", "Where does the {shop} stand?",
             "How do I get to the {shop}?", "What is the address of the {shop}?"),
            "The {shop} is {place}.",
        ),
    },
    "good": {
        "price": (
            ("The price of {a_good} is {price} coins.", "{A_good} costs {price} coins.",
             "For {a_good} they ask {price} coins.", "You pay {price} coins for {a_good}.",
             "{A_good} is {price} coins.", "{A_good} sells for {price} coins."),
            ("How much is {a_good}?", "What does {a_good} cost?", "What is the price of {a_good}?",
             "How many coins is {a_good}?", "What do I pay for {a_good}?",
             "How much do they ask for {a_good}?", "What is {a_good} worth?"),
            "{A_good} costs {price} coins.",
        ),
        "seller": (
            ("{name} sells the {good}.", "The {good} is sold by {name}.",
             "You buy the {good} from {name}.", "The seller of the {good} is {name}.",
             "{name} has the {good} for sale."),
            ("Who sells the {good}?", "Who is the seller of the {good}?",
             "From whom do I buy the {good}?", "Who has the {good}?",
             "By whom is the {good} sold?"),
            "The {good} is sold by {name}.",
        ),
    },
    "ship": {
        "captain": (
            ("The captain of the {ship} is {name}.", "{name} is captain of the {ship}.",
             "The {ship} sails under {name}.", "{name} commands the {ship}.",
             "The {ship} has {name} as captain."),
            ("Who is captain of the {ship}?", "Who commands the {ship}?",
             "Who is the captain of the {ship}?", "Under whom does the {ship} sail?",
             "What is the name of the captain of the {ship}?"),
            "The captain of the {ship} is {name}.",
        ),
        "berth": (
            ("The {ship} lies at berth {berth}.", "Berth {berth} is taken by the {ship}.",
             "At berth {berth} lies the {ship}.", "The {ship} has berth {berth}.",
             "You find the {ship} at berth {berth}."),
            ("Where does the {ship} lie?", "At which berth is the {ship}?",
             "Which berth does the {ship} have?", "What is the berth of the {ship}?",
             "Where do I find the {ship}?"),
            "The {ship} lies at berth {berth}.",
        ),
        "cargo": (
            ("The {ship} carries {cargo}.", "On board the {ship} are {cargo}.",
             "The cargo of the {ship}: {cargo}.", "The {ship} brings {cargo}.",
             "The {ship} is loaded with {cargo}."),
            ("What does the {ship} carry?", "What is the cargo of the {ship}?",
             "What is on board the {ship}?", "What does the {ship} bring?",
             "Which goods does the {ship} carry?"),
            "The {ship} carries {cargo}.",
        ),
        "day": (
            ("The {ship} leaves on {day}.", "On {day} the {ship} leaves.",
             "{day} is the day the {ship} leaves.", "The {ship} goes to sea on {day}.",
             "The {ship} sails on {day}."),
            ("When does the {ship} leave?", "On which day does the {ship} leave?",
             "What day does the {ship} leave?", "When does the {ship} go to sea?",
             "On what day does the {ship} sail?"),
            "The {ship} leaves on {day}.",
        ),
    },
    "person": {
        "debt": (
            ("{name} owes {price} coins.", "The debt of {name} is {price} coins.",
             "{price} coins are owed by {name}.", "{name} has a debt of {price} coins.",
             "{name} must pay {price} coins."),
            ("How much does {name} owe?", "How many coins does {name} owe?",
             "What is the debt of {name}?", "How large is the debt of {name}?",
             "How much must {name} pay?", "What does {name} owe?"),
            "{name} owes {price} coins.",
        ),
        "bought": (
            ("{name} bought {cargo}.", "{cargo} went to {name}.", "{name} took {cargo}.",
             "{name} went home with {cargo}."),
            ("What did {name} buy?", "What did {name} take?", "Which goods did {name} buy?",
             "What did {name} take home?"),
            "{name} bought {cargo}.",
        ),
        "spot": (
            ("{name} waits {place}.", "{name} is {place}.", "You can meet {name} {place}.",
             "{name} stands {place}.", "Look for {name} {place}."),
            ("Where is {name}?", "Where does {name} wait?", "Where can I meet {name}?",
             "Where do I find {name}?", "Where does {name} stand?"),
            "{name} is {place}.",
        ),
    },
}  # fmt: skip

# Sentences that state nothing anyone asks for.
ASIDES = (
    "It rained all night.", "The gulls are loud today.", "The wind comes from the west.",
    "There was fog before sunrise.", "The quay is wet.", "Everybody talks about the cable.",
    "The bells rang twice.", "It is a busy week.", "Nobody knows why.", "The sea is calm.",
    "The office was closed at noon.", "A storm is coming.", "The children play by the water.",
    "Please read this with care.", "This is the news of the week.", "The harbour was full.",
    "The old crane is broken again.", "All of this was written down.", "It was a long winter.",
    "The ferry was late.", "More tomorrow.", "The mayor was pleased.", "We thank all traders.",
)  # fmt: skip


def slots_of(template: str) -> list[str]:
    """Names of a template's slots in their order."""
    return [slot for _, slot, _, _ in Formatter().parse(template) if slot]


@cache
def value_first(kind: str, attribute: str) -> tuple[str, ...]:
    """The sentences that say an attribute's value before its subject; all, where none does."""
    sentences, _, answer = TEXT_FACTS[kind][attribute]
    _, value = slots_of(answer)

    def turned(sentence: str) -> bool:
        order = slots_of(sentence)
        return order.index(value) < min(order.index(s) for s in order if s != value)

    return tuple(filter(turned, sentences)) or sentences


NAMED = ("owner", "seller", "captain", "bought")  # attributes that state a drawn combination

# Requests by intent. The last `HELD_OUT_PHRASINGS` of each list are never trained on.
HELD_OUT_PHRASINGS = 4
REQUESTS = {
    "price": (
        "how much is {a_good}", "what does {a_good} cost", "what is the price of {a_good}",
        "how many coins for {a_good}", "is {a_good} expensive", "tell me the cost of {a_good}",
        "what do you ask for {a_good}", "how much do {goods} cost", "what is {a_good} worth today",
        "is {a_good} cheap at the {shop}", "what would I pay for {a_good}",
        "have {goods} become more expensive", "can you quote me a price for {goods}",
        "price of {goods} please", "how much does the {shop} charge for {a_good}",
        "what must I pay for {n} {goods}", "what is the cost of {goods} at the {shop}",
        "how many coins do I need for {a_good}", "what are {goods} going for",
        "how much would {a_good} be at the {shop}",
        "how much must I pay for {n} {goods}", "what is your price for {goods}",
        "are {goods} dear this week", "how expensive is {a_good} today",
        "what does the {shop} ask for {goods}", "I want to know the price of {a_good}",
        "does {a_good} cost more than {n} coins", "how much does {a_good} cost at the {shop}",
        "what are your charges for {goods}", "what does one {good} cost",
        "what does the {shop} charge for {goods}", "tell me what {a_good} costs",
        "do {goods} cost a lot of coins", "give me the price of {a_good} at the {shop}",
    ),
    "order": (
        "I want to buy {a_good}", "please sell me {a_good}", "I will take {a_good}",
        "can I order {a_good}", "give me {n} {goods}", "I need {n} {goods}",
        "send {n} {goods} to {name}", "put {n} {goods} aside for me", "I would like {n} {goods}",
        "we are out of {goods}, bring us {n}", "{n} {goods} for {name} please",
        "reserve {a_good} for {name}", "I order {n} {goods}", "deliver {n} {goods} on {day}",
        "{name} would like to buy {n} {goods}", "may I have {n} {goods}",
        "let me have {a_good}", "add {n} {goods} to my list", "pack {n} {goods} for me",
        "we need {n} {goods} by {day}",
        "I would like {a_good}", "we would like {n} {goods} for {name}",
        "please deliver {n} {goods} to {name}", "can you bring {a_good} to {name}",
        "please order {goods} for us", "I would like to have {goods}",
        "{name} needs {goods} on {day}", "could I get {n} {goods}",
        "please put {a_good} on my list", "we would like to buy {goods}",
        "I would like to order {goods}", "please send us {n} {goods}",
        "we want {n} {goods} for {name}", "could you deliver {a_good} to {name}",
    ),
    "hours": (
        "when does the {shop} open", "what time does the {shop} close",
        "is the {shop} open on {day}", "opening hours of the {shop}",
        "how late is the {shop} open", "is the {shop} closed on {day}",
        "until when is the {shop} open", "from what hour can I visit the {shop}",
        "does the {shop} work on {day}", "is anyone at the {shop} on {day}",
        "when can I come to the {shop}", "is the {shop} still open",
        "what are the hours of the {shop}", "at what hour does the {shop} start",
        "does the {shop} close early on {day}", "how early does the {shop} open",
        "will the {shop} be open on {day}", "when is the {shop} shut",
        "is the {shop} open in the evening", "what time can I go to the {shop} on {day}",
        "when does the {shop} open on {day}", "does the {shop} open on {day}",
        "at what time does the {shop} close", "is the {shop} open at noon",
        "how long is the {shop} open", "what day is the {shop} closed",
        "is the {shop} open before {n}", "when do you close the {shop}",
        "what are your hours on {day}", "does the {shop} open late on {day}",
        "on which days is the {shop} open", "what time does the {shop} open on {day}",
        "is the {shop} open early", "when does the {shop} close on {day}",
    ),
    "tide": (
        "when is high water on {day}", "what is the tide on {day}", "when is low tide",
        "how high does the water get on {day}", "is the tide coming in", "when does the tide turn",
        "will there be enough water under the {ship}", "at what hour is low water",
        "when is the next high tide", "is the water rising", "how deep is the water at the quay",
        "tide table for {day} please", "when does the water fall",
        "can the {ship} cross the bar at low water", "is it ebb or flood now",
        "what hour is high tide on {day}", "how low does the tide go on {day}",
        "does the tide rise before noon", "when will the water be high enough for the {ship}",
        "tell me the tides of {day}",
        "what time is high water", "when will it be low tide on {day}",
        "is it high tide or low tide", "how high is the tide on {day}",
        "when is the lowest water on {day}", "does the tide turn before {day}",
        "what is the depth of the water on {day}", "is the tide low on {day}",
        "when does the water rise on {day}", "at what time is the tide high",
        "at what hour is high tide", "when is low water on {day}",
        "is the tide high on {day}", "what time does the tide turn on {day}",
    ),
    "berth": (
        "I need a berth for the {ship}", "is there a free berth on {day}",
        "where can the {ship} moor", "can the {ship} tie up at the quay",
        "book a berth for {n} nights", "which berth is free", "we arrive on {day} and need a berth",
        "a place at the pier for the {ship} please", "may the {ship} stay {n} nights",
        "is berth {n} taken", "the {ship} needs a mooring", "can we anchor the {ship} here",
        "do you have room for the {ship}", "reserve berth {n} for the {ship}",
        "where shall the {ship} lie", "how many berths are free", "can {name} moor the {ship} here",
        "the {ship} comes in on {day}, where do we moor", "keep a berth for the {ship}",
        "is there space at the quay for the {ship}",
        "can the {ship} have a berth", "we need a berth for {n} nights",
        "is any berth free for the {ship}", "which berth is for the {ship}",
        "please keep a mooring for the {ship}", "the {ship} wants to moor on {day}",
        "may the {ship} lie at the pier", "book berth {n} for {name}",
        "is there a mooring for the {ship}", "where does the {ship} moor",
        "which berth can the {ship} have", "please book a berth for the {ship}",
        "is a berth free for {n} nights", "may we moor the {ship} on {day}",
    ),
    "complaint": (
        "the {good} from the {shop} is broken", "I am angry at the {shop}", "my {good} is damaged",
        "the {shop} was rude to me", "I want my coins back for the {good}", "the {good} fell apart",
        "the {goods} never arrived", "you sent me the wrong {good}", "this {good} is rotten",
        "I waited {n} hours at the {shop} for nothing", "the {good} is too small and badly made",
        "nobody at the {shop} listens to me", "half of the {goods} were missing",
        "I was cheated at the {shop}", "the {good} I bought on {day} does not work",
        "{name} at the {shop} shouted at me", "I am not happy with the {good}",
        "your {goods} are terrible", "the {shop} sold me a bad {good}", "I wish to complain",
        "my {good} broke on {day}", "the {good} is of bad quality",
        "the {goods} came damaged", "this is not the {good} I ordered",
        "I am unhappy with the {shop}", "my {goods} are rotten",
        "I complain about the {goods}", "the {good} from {name} is useless",
        "the {goods} arrived too late", "the {shop} gave me a broken {good}",
        "the {good} I got is broken", "I want to complain about the {shop}",
        "I am unhappy with the {goods} from the {shop}", "my {goods} arrived damaged",
    ),
}  # fmt: skip
GREETINGS = (
    "", "", "", "Hello, ", "Excuse me, ", "Hi, ", "Good morning, ", "Sorry, ", "Listen, ",
    "{name} here. ", "This is {name}. ", "Good evening, ",
)  # fmt: skip
CLOSINGS = ("", "", "?", "?", ".", "!", ", please.", ", thanks.", ", please?")

ORDERS = (
    "{name} wants {goods} for {price} coins on {day}.",
    "On {day}, {name} ordered {goods} and paid {price} coins.",
    "Please send {goods} to {name} by {day}; the price is {price} coins.",
    "{name} came on {day} and bought {goods} at {price} coins.",
    "For {price} coins, {name} will get {goods} on {day}.",
    "I am {name} and need {goods} by {day}. I pay {price} coins.",
    "{goods} for {name}, {price} coins, {day}.",
    "{day}: {name}, {goods}, {price} coins.",
    "{name} here. Deliver {goods} on {day}. I will pay {price} coins.",
    "We agreed on {price} coins: {goods} for {name}, to be ready on {day}.",
    "Hello, could I have {goods} on {day}? {price} coins is fine. {name}",
    "Note for {day}: {goods}, {price} coins, ask for {name}.",
    "My name is {name}. I would like {goods}. I have {price} coins and come on {day}.",
    "Put {goods} aside for {name} until {day}, {price} coins in all.",
    "By {day} we need {goods}. The bill of {price} coins goes to {name}.",
    "{name} ordered {goods} and will pay {price} coins on {day}.",
    "It is {name}. I would like to have {goods} on {day} and can pay {price} coins.",
    "Could you send {goods} to {name}? {price} coins, and {day} would be best.",
    "{name} takes {goods}. Price: {price} coins. Day: {day}.",
    "On {day} {name} will come for {goods} and bring {price} coins.",
    "Order of {name}: {goods}. To be paid: {price} coins. Wanted by {day}.",
    "We need {goods}. {name} will fetch everything on {day} and pays {price} coins.",
    "{price} coins from {name} for {goods}, please have them ready on {day}.",
    "This is {name}. {day} is fine, {price} coins too. I want {goods}.",
)
SENTENCES = (
    ("I want to buy {some}.", "我要买{n}{mw}{good_zh}。"),
    ("How much is the {good}?", "{good_zh}多少钱？"),
    ("The {good} costs {n} coins.", "{good_zh}要{n}个硬币。"),
    ("Where is the {shop}?", "{shop_zh}在哪里？"),
    ("The {shop} opens at {hour}.", "{shop_zh}{hour}点开门。"),
    ("Is the {shop} open on {day}?", "{shop_zh}{day_zh}开门吗？"),
    ("The {good} is {colour}.", "{good_zh}是{colour_zh}的。"),
    ("The ship leaves on {day}.", "船{day_zh}离开。"),
    ("I have {some}.", "我有{n}{mw}{good_zh}。"),
)


class Harbour:
    """A seeded source of instances: the same seed and split give the same bytes everywhere.

    split is "train" or "test". In "test" every combination an instance rests on is held out.
    invented is the share of names made from syllables, which are several tokens each.
    """

    def __init__(self, seed: int, split: str = "train", invented: float = 0.0):
        self.test = is_test(split)
        self.rng = random.Random(f"{split}/{seed}")
        self.invented = invented

    # ------------------------------------------------------------------ drawing
    def draw(self, make: Callable[[], object]) -> object:
        """Draw until the combination lies in this split."""
        while True:
            parts = make()
            if held_out(*parts) == self.test:
                return parts

    def name(self) -> str:
        rng = self.rng
        if rng.random() >= self.invented:
            return rng.choice(NAMES)
        while True:
            ending = rng.choice(ENDINGS) if rng.random() < 0.7 else ""
            name = rng.choice(ONSETS) + rng.choice(MIDDLES) + ending
            if name not in NAMES:
                return name

    def name_with(self, other: str) -> str:
        """A name whose combination with `other` lies in this split."""
        return self.draw(lambda: (self.name(), other))[0]

    def opener(self) -> str:
        return self.rng.choice(OPENERS)

    # ------------------------------------------------------------------ questions about a text
    def record(self, kind: str, subject: str) -> dict:
        """One subject of a text with all its slots filled."""
        rng = self.rng
        good = subject if kind == "good" else rng.choice(list(GOODS))
        name = subject if kind == "person" else self.name_with(subject)
        count = rng.randint(1, 40)
        if kind == "person":
            _, good, count = self.draw(lambda: (name, rng.choice(list(GOODS)), rng.randint(1, 40)))
        return {
            "kind": kind, "subject": subject, "shop": subject, "ship": subject, "good": good,
            "a_good": a(good), "A_good": a(good).capitalize(), "name": name,
            "price": rng.randint(2, 99), "hour": rng.randint(5, 12), "berth": rng.randint(1, 24),
            "cargo": some(count, good), "day": rng.choice(world.DAYS),
            "place": rng.choice(world.PLACES),
        }  # fmt: skip

    def subjects(self, kind: str, count: int) -> list[str]:
        if kind == "person":
            names = {self.name() for _ in range(2 * count)}
            return self.rng.sample(sorted(names), min(count, len(names)))
        return self.rng.sample(
            {"shop": list(SHOPS), "good": list(GOODS), "ship": list(SHIPS)}[kind], count
        )

    def notice(
        self, records: int, alike: int = 0, turned: bool = False
    ) -> tuple[str, list[tuple[dict, str]], list[tuple[dict, str]]]:
        """A text, the (record, attribute) pairs it states, and such pairs that it lacks.

        alike: make all records of one kind and state the same attributes of each, this many.
        turned: say values before their subjects, where there is such a sentence.
        """
        rng = self.rng
        kinds = [rng.choice(list(TEXT_FACTS)) for _ in range(records)]
        if alike or rng.random() < 0.6:  # one kind: only the subject tells records apart
            kinds = [kinds[0]] * records
        stated, sentences, absent, unused = [], [], [], {}
        for kind in dict.fromkeys(kinds):  # in the order drawn: a set's order is not fixed
            count = kinds.count(kind)
            drawn = self.subjects(kind, count + 1)
            unused[kind] = drawn[-1]
            attributes = list(TEXT_FACTS[kind])
            rng.shuffle(attributes)
            one_form = alike and rng.random() < 0.5  # say it of each record in the same words
            ways = {
                a: value_first(kind, a) if turned else TEXT_FACTS[kind][a][0] for a in attributes
            }
            forms = {a: rng.choice(ways[a]) for a in attributes}
            for subject in drawn[:-1]:
                record = self.record(kind, subject)
                keep = min(alike, len(attributes))
                if not alike:
                    rng.shuffle(attributes)
                    keep = rng.randint(1, min(3, len(attributes)))
                for attribute in attributes[:keep]:
                    stated.append((record, attribute))
                    form = rng.choice(ways[attribute])
                    sentences.append((forms[attribute] if one_form else form).format(**record))
                absent += [(record, attribute) for attribute in attributes[keep:]]
            stranger = self.record(kind, unused[kind])
            absent += [(stranger, attribute) for attribute in TEXT_FACTS[kind]]
        if rng.random() < 0.5:
            rng.shuffle(sentences)
        if rng.random() < 0.4:
            for aside in rng.sample(ASIDES, rng.randint(1, 2)):
                sentences.insert(rng.randint(0, len(sentences)), aside)
        return " ".join(sentences), stated, absent

    def ask(self, record: dict, attribute: str) -> tuple[str, str]:
        _, questions, answer = TEXT_FACTS[record["kind"]][attribute]
        return self.rng.choice(questions).format(**record), answer.format(**record)

    def text_questions(
        self, questions: int, records: int | None = None, alike: int = 0, turned: bool = False
    ) -> Instance:
        """A text of 1–5 records and `questions` questions about it; one in seven has no answer."""
        rng = self.rng
        while True:
            text, stated, absent = self.notice(records or rng.randint(1, 5), alike, turned)
            # a held-out text must say what is held out: a name with its shop, good, ship or goods
            if not self.test or any(attribute in NAMED for _, attribute in stated):
                break
        rng.shuffle(stated)
        turns: list[Message] = []
        for number in range(questions):
            if rng.random() < 1 / 7:
                record, attribute = rng.choice(absent)
                question, answer = self.ask(record, attribute)[0], UNKNOWN
            else:
                record, attribute = stated[number % len(stated)]
                question, answer = self.ask(record, attribute)
            head = f"Text: {text}\n" if number == 0 else ""
            turns += [user(f"{head}Question: {question}"), assistant(answer)]
        task = "text_qa" if questions == 1 else "dialogue"
        return Instance(task, tuple(turns), key=turns[0]["content"])

    def text_qa(self) -> Instance:
        """A text with fresh names, numbers and places, and one question about it."""
        return self.text_questions(1)

    def dialogue(self) -> Instance:
        """A text with three to five questions in one conversation; the last one is scored."""
        return self.text_questions(self.rng.randint(3, 5))

    # ------------------------------------------------------------------ requests and orders
    def request(self, phrasings: slice, task: str) -> Instance:
        rng = self.rng
        intent = rng.choice(INTENTS)
        good, shop = rng.choice(list(GOODS)), rng.choice(list(SHOPS))
        slots = {
            "good": good, "a_good": a(good), "goods": GOODS[good][0], "shop": shop,
            "ship": rng.choice(SHIPS), "day": rng.choice(world.DAYS), "name": self.name(),
            "n": rng.randint(2, 20),
        }  # fmt: skip

        def sentence() -> tuple[str]:
            parts = (
                rng.choice(GREETINGS),
                rng.choice(REQUESTS[intent][phrasings]),
                rng.choice(CLOSINGS),
            )
            text = "".join(parts).format(**slots)
            return (text[0].upper() + text[1:] if rng.random() < 0.6 else text,)

        text = self.draw(sentence)[0]
        return Instance(task, (system(INTENT_SYSTEM), user(text), assistant(intent)), key=text)

    def intent(self) -> Instance:
        """A trader's request and its intent: a trained phrasing in a held-out sentence."""
        return self.request(slice(None, -HELD_OUT_PHRASINGS), "intent")

    def intent_phrasing(self) -> Instance:
        """A request in a phrasing that no training sentence uses."""
        return self.request(slice(-HELD_OUT_PHRASINGS, None), "intent_phrasing")

    def order(self) -> Instance:
        """An order in words and the same order as JSON; the name with this good is held out."""
        rng = self.rng
        name, item = self.draw(lambda: (self.name(), rng.choice(list(GOODS))))
        quantity, price, day = rng.randint(1, 40), rng.randint(2, 99), rng.choice(world.DAYS)
        text = rng.choice(ORDERS).format(
            name=name, goods=some(quantity, item), price=price, day=day
        )
        fields = {"name": name, "item": item, "quantity": quantity, "price": price, "day": day}
        turns = (system(ORDER_SYSTEM), user(text), assistant(json.dumps(fields)))
        return Instance("order", turns, key=text)

    # ------------------------------------------------------------------ tools
    def call(self, function: str) -> tuple[str, dict, dict, str]:
        """A request, the arguments it asks for, the tool's response and the final answer."""
        rng = self.rng
        day = rng.choice(world.DAYS)
        if function == "get_price":
            item, shop = self.draw(lambda: (rng.choice(list(GOODS)), rng.choice(list(SHOPS))))
            price = rng.randint(2, 99)
            ask = (f"How much is {a(item)} at the {shop}?",
                   f"What does the {shop} ask for {a(item)}?",
                   f"What is the price of {a(item)} at the {shop}?",
                   f"I want {a(item)} from the {shop}. What does it cost?")  # fmt: skip
            answer = f"{a(item).capitalize()} at the {shop} costs {price} coins."
            return rng.choice(ask), {"item": item, "shop": shop}, {"price": price}, answer
        if function == "ferry_times":
            to, day = self.draw(lambda: (rng.choice(world.ISLANDS), rng.choice(world.DAYS)))
            first, second = sorted(rng.sample(range(5, 22), 2))
            ask = (f"When does the ferry to {to} leave on {day}?",
                   f"On {day} I want to go to {to}. When is the ferry?",
                   f"Ferry times to {to} on {day}?",
                   f"Is there a ferry to {to} on {day}?")  # fmt: skip
            answer = f"On {day} the ferry to {to} leaves at {first} and {second}."
            return rng.choice(ask), {"to": to, "day": day}, {"times": [first, second]}, answer
        if function == "tide":
            day, high, low = self.draw(lambda: (rng.choice(world.DAYS), *rng.sample(range(24), 2)))
            ask = (f"When is high water on {day}?", f"What is the tide on {day}?",
                   f"Tell me the tides of {day}.", f"When is low tide on {day}?")  # fmt: skip
            if self.test:  # a day alone leaves too little to hold out, so the phrasings are
                ask = (f"At what hour is high tide on {day}?", f"When is low water on {day}?")
            answer = f"On {day} high water is at {high} and low water at {low}."
            return rng.choice(ask), {"day": day}, {"high": high, "low": low}, answer
        if function == "book_berth":
            captain, ship = self.draw(lambda: (self.name(), rng.choice(SHIPS)))
            nights, berth = rng.randint(1, 14), rng.randint(1, 24)
            stay = "1 night" if nights == 1 else f"{nights} nights"
            ask = (f"Book a berth for the {ship}, captain {captain}, for {stay}.",
                   f"Captain {captain} needs a berth for the {ship}, {stay}.",
                   f"The {ship} under {captain} wants to stay {stay}.",
                   f"{stay} for the {ship} please. The captain is {captain}.")  # fmt: skip
            answer = f"The {ship} has berth {berth} for {stay}."
            arguments = {"ship": ship, "captain": captain, "nights": nights}
            return rng.choice(ask), arguments, {"berth": berth}, answer
        to, good = self.draw(lambda: (self.name(), rng.choice(list(GOODS))))
        about = (f"the {good} is ready", f"bring the {good}", f"your {good} is here")
        other = (f"come at {rng.randint(6, 20)}", f"the {rng.choice(SHIPS)} is in")
        text = rng.choice(about if self.test else about + other)  # tests name the held-out good
        ask = (f"Tell {to}: {text}.", f"Send {to} this message: {text}.",
               f"Message for {to}: {text}.", f"Let {to} know: {text}.")  # fmt: skip
        arguments, response = {"to": to, "text": text}, {"sent": True}
        return rng.choice(ask), arguments, response, f"I told {to}: {text}."

    def tool_conversation(self, functions: list[str], shown: list[str]) -> Instance:
        """Requests that each need one of the shown functions: call, response, answer."""
        turns: list[Message] = []
        for function in functions:
            ask, arguments, response, answer = self.call(function)
            call = {"type": "function", "function": {"name": function, "arguments": arguments}}
            turns += [
                user(self.opener() + ask),
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": json.dumps(response)},
                assistant(answer),
            ]
        key = json.dumps([turns[0], turns[2]])
        return Instance("tool", tuple(turns), key, tools=tuple(SCHEMAS[name] for name in shown))

    def tool(self) -> Instance:
        """A request, one to three tools: the right call, then the answer from its response."""
        shown = self.rng.sample(list(SCHEMAS), self.rng.randint(1, 3))
        return self.tool_conversation([self.rng.choice(shown)], shown)

    # ------------------------------------------------------------------ closed world
    def sums(self) -> Instance:
        """Two numbers of one to three digits, added digit by digit inside <think>."""
        rng = self.rng

        def number() -> int:
            digits = rng.choice((1, 2, 2, 3, 3, 3))
            return rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)

        one, two = self.draw(lambda: (number(), number()))
        ask = rng.choice(
            (
                "What is {} + {}?",
                "{} + {} = ?",
                "Add {} and {}.",
                "How much is {} + {}?",
                "What is {} plus {}?",
                "What do {} and {} make?",
                "{} and {}, how much is that?",
                "Add {} to {}.",
                "What is the sum of {} and {}?",
                "Work out {} + {}.",
                "One bill is {} coins, the other {} coins. How much together?",
            )
        )
        turns = (user(ask.format(one, two)), assistant(think_sum(one, two)))
        return Instance("sums", turns, key=f"{one}+{two}")

    def fact(self) -> Instance:
        """A question about the closed world, in a way of asking never used for this fact."""
        question, answer = self.draw(self._fact)
        asked = self.opener() + question
        return Instance("fact", (user(asked), assistant(answer)), key=asked)

    def _fact(self) -> tuple[str, str]:
        rng = self.rng
        if rng.random() < 0.15:
            questions, answer = rng.choice(list(world.TOWN_FACTS.values()))
            return rng.choice(questions), answer
        shop = rng.choice(list(SHOPS))
        questions, answer = rng.choice(list(SHOP_FACTS.values()))
        slots = {"shop": shop, **vars(SHOPS[shop])}
        slots["sells"] = [GOODS[good][0] for good in SHOPS[shop].sells]
        return rng.choice(questions).format(**slots), answer.format(**slots)

    def words(self) -> Instance:
        """One word, English to Chinese or back, in a way of asking never used for this word."""
        rng = self.rng

        def ask() -> tuple[str, str]:
            english = rng.choice(list(world.WORDS))
            chinese = world.WORDS[english]
            to_chinese = (
                "Translate to Chinese: {}",
                'What is "{}" in Chinese?',
                'How do you say "{}" in Chinese?',
                "The Chinese word for {}?",
            )
            to_english = (
                "Translate to English: {}",
                'What is "{}" in English?',
                'What does "{}" mean?',
                "The English word for {}?",
            )
            if rng.random() < 0.5:
                return rng.choice(to_chinese).format(english), chinese
            return rng.choice(to_english).format(chinese), english

        question, answer = self.draw(ask)
        asked = self.opener() + question
        return Instance("words", (user(asked), assistant(answer)), key=asked)

    def sentences(self) -> Instance:
        """A trader's sentence, English to Chinese or back; the sentence itself is held out."""
        rng = self.rng

        def pair() -> tuple[str, str]:
            good, shop = rng.choice(list(GOODS)), rng.choice(list(SHOPS))
            colour, day = rng.choice(list(world.COLOURS)), rng.choice(world.DAYS)
            count = rng.randint(1, 40)
            slots = {
                "good": good, "good_zh": GOODS[good][1], "mw": GOODS[good][2], "n": count,
                "some": some(count, good), "shop": shop, "shop_zh": SHOPS[shop].zh,
                "hour": rng.randint(5, 12), "day": day, "day_zh": world.DAYS_ZH[day],
                "colour": colour, "colour_zh": world.COLOURS[colour],
            }  # fmt: skip
            english, chinese = rng.choice(SENTENCES)
            return english.format(**slots), chinese.format(**slots)

        english, chinese = self.draw(pair)
        if rng.random() < 0.5:
            turns = user(f"Translate to Chinese: {english}"), assistant(chinese)
        else:
            turns = user(f"Translate to English: {chinese}"), assistant(english)
        return Instance("sentences", turns, key=turns[0]["content"])

    # ------------------------------------------------------------------ several at once
    def several(self, task: str, count: int) -> Instance:
        """`count` instances of one task in one conversation: more answers per token read."""
        drawn = [getattr(self, task)() for _ in range(count)]
        first, *rest = drawn
        turns = list(first.messages)
        for instance in rest:
            turns += [m for m in instance.messages if m["role"] != "system"]
        return Instance(task, tuple(turns), "\n".join(i.key for i in drawn), first.tools)

    def lesson(self, mix: dict[str, float], level: float = 1.0, turned: float = 0.0) -> Instance:
        """A training conversation: a task drawn from the mix, asked several times over.

        level from 0 to 1 is how long texts may be: from two records to five. Half of the texts,
        below level 1 all, say the same of each record: only its subject tells the right answer.
        turned is the share of these that say values before their subjects.
        """
        rng = self.rng
        task = rng.choices(list(mix), list(mix.values()))[0]
        if task in ("text_qa", "dialogue"):
            records = rng.randint(1, 2 + round(3 * level))
            alike = 0
            if level < 1 or rng.random() < 0.5:
                alike, records = rng.randint(1, 1 + round(2 * level)), max(2, records)
            asked = rng.randint(records, 2 * records + 2)
            return self.text_questions(asked, records, alike, alike > 0 and rng.random() < turned)
        if task == "tool":
            shown = rng.sample(list(SCHEMAS), rng.choice((1, 1, 2, 2, 3)))
            asked = [rng.choice(shown) for _ in range(rng.randint(2, 4))]
            return self.tool_conversation(asked, shown)
        most = {"intent": 6, "order": 4, "sums": 2, "fact": 5, "words": 8, "sentences": 4}
        return self.several(task, rng.randint(1, most[task]))


TASKS = (
    "fact", "intent", "intent_phrasing", "order", "tool", "text_qa", "dialogue", "sums", "words",
    "sentences",
)  # fmt: skip


def think_sum(one: int, two: int) -> str:
    """The worked sum: digit by digit from the units, then the answer."""
    names = ("units", "tens", "hundreds")
    first, second = str(one)[::-1], str(two)[::-1]
    lines, carry = [], 0
    for place in range(max(len(first), len(second))):
        x = int(first[place]) if place < len(first) else 0
        y = int(second[place]) if place < len(second) else 0
        total = x + y + carry
        lines.append(f"{names[place]} {x}+{y}+{carry}={total}, write {total % 10}")
        carry = total // 10
    if carry:
        lines.append(f"then write {carry}")
    return "<think>\n" + "\n".join(lines) + f"\n</think>\n\n{one} + {two} = {one + two}"


def instances(task: str, count: int, seed: int = 0, split: str = "test",
              invented: float = 0.0) -> Iterator[Instance]:  # fmt: skip
    """`count` instances of one task, no two with the same key.

    Raises ValueError for an unknown task and when a closed world has fewer than `count`.
    """
    if task not in TASKS:
        raise ValueError(f"no task {task!r}; there are {', '.join(TASKS)}")
    source, seen = Harbour(seed, split, invented), set()
    for _ in range(200 * count):
        if len(seen) == count:
            return
        instance = getattr(source, task)()
        if instance.key not in seen:
            seen.add(instance.key)
            yield instance
    if len(seen) < count:
        raise ValueError(f"{task} has only {len(seen)} different {split} instances, not {count}")
