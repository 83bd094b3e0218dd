"""Generate every text task of Port Lark from a seed, with train and held-out splits.

An *instance* is one conversation with one right answer. What is held out is a combination (a name
with a shop, a fact with a phrasing of its question, two numbers of a sum), chosen by its hash, so
no seed can bring a held-out instance into training.
"""

import json
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from openmodels.harbour import world
from openmodels.harbour.templates import (
    ASIDES,
    CLOSINGS,
    ENDINGS,
    GREETINGS,
    HELD_OUT_PHRASINGS,
    MIDDLES,
    NAMED,
    ONSETS,
    OPENERS,
    ORDERS,
    REQUESTS,
    SENTENCES,
    SHOP_FACTS,
    TEXT_FACTS,
    value_first,
)
from openmodels.harbour.tools import SCHEMAS
from openmodels.harbour.world import GOODS, NAMES, SHIPS, SHOPS, a, some

INTENTS = ("price", "order", "hours", "tide", "berth", "complaint")
INTENT_SYSTEM = "Name the intent: price, order, hours, tide, berth or complaint."
ORDER_SYSTEM = "Write the order as JSON."
UNKNOWN = "The text does not say."
HELD_OUT_SHARE = 8  # one combination in eight is held out

Message = dict


@dataclass(frozen=True)
class Instance:
    """One conversation with one right answer.

    task: a name in `TASKS`. messages: chat messages, the last one the right answer. tools: schemas
    the model is given, or None. key: identifies this instance; splits share no key.
    """

    task: str
    messages: tuple[Message, ...]
    key: str
    tools: tuple[dict, ...] | None = field(default=None)

    @property
    def answer(self) -> Message:
        """Return the right answer, the last message."""
        return self.messages[-1]


def held_out(*parts: object) -> bool:
    """Return whether a combination is held out, by a hash that is equal on every machine."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % HELD_OUT_SHARE == 0


def is_test(split: str) -> bool:
    """Return whether a split is the held-out one. Raises ValueError for an unknown split."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    return split == "test"


def user(text: str) -> Message:
    """Return a chat message with the role "user"."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """Return a chat message with the role "assistant"."""
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    """Return a chat message with the role "system"."""
    return {"role": "system", "content": text}


class Harbour:
    """A seeded source of instances: the same seed and split give the same bytes everywhere.

    split is "train" or "test". In "test" every combination that an instance depends on is held out.
    invented is the share of names made from syllables, which are several tokens each.
    """

    def __init__(self, seed: int, split: str = "train", invented: float = 0.0):
        self.test = is_test(split)
        self.rng = random.Random(f"{split}/{seed}")
        self.invented = invented

    # ------------------------------------------------------------------ drawing
    def draw(self, make: Callable[[], object]) -> object:
        """Call `make` until the combination it returns belongs to this split."""
        while True:
            parts = make()
            if held_out(*parts) == self.test:
                return parts

    def name(self) -> str:
        """Return a listed name, or with probability `invented` one made from syllables."""
        rng = self.rng
        if rng.random() >= self.invented:
            return rng.choice(NAMES)
        while True:
            ending = rng.choice(ENDINGS) if rng.random() < 0.7 else ""
            name = rng.choice(ONSETS) + rng.choice(MIDDLES) + ending
            if name not in NAMES:
                return name

    def name_with(self, part: str) -> str:
        """Return a name whose combination with `part` belongs to this split."""
        return self.draw(lambda: (self.name(), part))[0]

    def opener(self) -> str:
        """Return a phrase that can precede a question; often empty."""
        return self.rng.choice(OPENERS)

    # ------------------------------------------------------------------ questions about a text
    def record(self, kind: str, subject: str) -> dict:
        """Return one subject of a text with all its slots filled."""
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
        """Return `count` different subjects of one kind."""
        if kind == "person":
            names = {self.name() for _ in range(2 * count)}
            return self.rng.sample(sorted(names), min(count, len(names)))
        return self.rng.sample(
            {"shop": list(SHOPS), "good": list(GOODS), "ship": list(SHIPS)}[kind], count
        )

    def notice(
        self, records: int, shared: int = 0, values_first: bool = False
    ) -> tuple[str, list[tuple[dict, str]], list[tuple[dict, str]]]:
        """Return a text, the (record, attribute) pairs it states, and pairs that it does not state.

        shared: give all records one kind and state the same attributes of each, this many.
        values_first: use sentences with the value before the subject, if there are any.
        """
        rng = self.rng
        kinds = [rng.choice(list(TEXT_FACTS)) for _ in range(records)]
        if shared or rng.random() < 0.6:  # one kind: only the subject tells records apart
            kinds = [kinds[0]] * records
        stated, sentences, absent, unused = [], [], [], {}
        for kind in dict.fromkeys(kinds):  # in order of appearance: a set's order is not fixed
            count = kinds.count(kind)
            subjects = self.subjects(kind, count + 1)
            unused[kind] = subjects[-1]
            attributes = list(TEXT_FACTS[kind])
            rng.shuffle(attributes)
            one_wording = shared and rng.random() < 0.5  # the same wording for each record
            choices = {
                a: value_first(kind, a) if values_first else TEXT_FACTS[kind][a][0]
                for a in attributes
            }
            wordings = {a: rng.choice(choices[a]) for a in attributes}
            for subject in subjects[:-1]:
                record = self.record(kind, subject)
                n_stated = min(shared, len(attributes))
                if not shared:
                    rng.shuffle(attributes)
                    n_stated = rng.randint(1, min(3, len(attributes)))
                for attribute in attributes[:n_stated]:
                    stated.append((record, attribute))
                    template = rng.choice(choices[attribute])
                    template = wordings[attribute] if one_wording else template
                    sentences.append(template.format(**record))
                absent += [(record, attribute) for attribute in attributes[n_stated:]]
            stranger = self.record(kind, unused[kind])
            absent += [(stranger, attribute) for attribute in TEXT_FACTS[kind]]
        if rng.random() < 0.5:
            rng.shuffle(sentences)
        if rng.random() < 0.4:
            for aside in rng.sample(ASIDES, rng.randint(1, 2)):
                sentences.insert(rng.randint(0, len(sentences)), aside)
        return " ".join(sentences), stated, absent

    def ask(self, record: dict, attribute: str) -> tuple[str, str]:
        """Return a question about an attribute of a record, and its answer."""
        _, questions, answer = TEXT_FACTS[record["kind"]][attribute]
        return self.rng.choice(questions).format(**record), answer.format(**record)

    def text_questions(
        self,
        questions: int,
        records: int | None = None,
        shared: int = 0,
        values_first: bool = False,
    ) -> Instance:
        """Return a text of 1–5 records with `questions` questions; one in seven has no answer."""
        rng = self.rng
        while True:
            text, stated, absent = self.notice(records or rng.randint(1, 5), shared, values_first)
            # a held-out text must state a held-out combination: a name with a shop, good or ship
            if not self.test or any(attribute in NAMED for _, attribute in stated):
                break
        rng.shuffle(stated)
        messages: list[Message] = []
        for number in range(questions):
            if rng.random() < 1 / 7:
                record, attribute = rng.choice(absent)
                question, answer = self.ask(record, attribute)[0], UNKNOWN
            else:
                record, attribute = stated[number % len(stated)]
                question, answer = self.ask(record, attribute)
            prefix = f"Text: {text}\n" if number == 0 else ""
            messages += [user(f"{prefix}Question: {question}"), assistant(answer)]
        task = "text_qa" if questions == 1 else "dialogue"
        return Instance(task, tuple(messages), key=messages[0]["content"])

    def text_qa(self) -> Instance:
        """Return a text with new names, numbers and places, and one question about it."""
        return self.text_questions(1)

    def dialogue(self) -> Instance:
        """Return a text and three to five questions about it; the last one is scored."""
        return self.text_questions(self.rng.randint(3, 5))

    # ------------------------------------------------------------------ requests and orders
    def request(self, phrasings: slice, task: str) -> Instance:
        """Return a trader's request, phrased by one of these phrasings, and its intent."""
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
        """Return a request and its intent: a trained phrasing in a held-out sentence."""
        return self.request(slice(None, -HELD_OUT_PHRASINGS), "intent")

    def intent_phrasing(self) -> Instance:
        """Return a request in a phrasing that no training sentence uses, and its intent."""
        return self.request(slice(-HELD_OUT_PHRASINGS, None), "intent_phrasing")

    def order(self) -> Instance:
        """Return an order and the same order as JSON; the name with this good is held out."""
        rng = self.rng
        name, item = self.draw(lambda: (self.name(), rng.choice(list(GOODS))))
        quantity, price, day = rng.randint(1, 40), rng.randint(2, 99), rng.choice(world.DAYS)
        text = rng.choice(ORDERS).format(
            name=name, goods=some(quantity, item), price=price, day=day
        )
        fields = {"name": name, "item": item, "quantity": quantity, "price": price, "day": day}
        messages = (system(ORDER_SYSTEM), user(text), assistant(json.dumps(fields)))
        return Instance("order", messages, key=text)

    # ------------------------------------------------------------------ tools
    def call(self, function: str) -> tuple[str, dict, dict, str]:
        """Return a request, the call's arguments, the tool's response and the final answer."""
        rng = self.rng
        day = rng.choice(world.DAYS)
        if function == "get_price":
            item, shop = self.draw(lambda: (rng.choice(list(GOODS)), rng.choice(list(SHOPS))))
            price = rng.randint(2, 99)
            questions = (f"How much is {a(item)} at the {shop}?",
                         f"What does the {shop} ask for {a(item)}?",
                         f"What is the price of {a(item)} at the {shop}?",
                         f"I want {a(item)} from the {shop}. What does it cost?")  # fmt: skip
            answer = f"{a(item).capitalize()} at the {shop} costs {price} coins."
            return rng.choice(questions), {"item": item, "shop": shop}, {"price": price}, answer
        if function == "ferry_times":
            to, day = self.draw(lambda: (rng.choice(world.ISLANDS), rng.choice(world.DAYS)))
            early, late = sorted(rng.sample(range(5, 22), 2))
            questions = (f"When does the ferry to {to} leave on {day}?",
                         f"On {day} I want to go to {to}. When is the ferry?",
                         f"Ferry times to {to} on {day}?",
                         f"Is there a ferry to {to} on {day}?")  # fmt: skip
            answer = f"On {day} the ferry to {to} leaves at {early} and {late}."
            return rng.choice(questions), {"to": to, "day": day}, {"times": [early, late]}, answer
        if function == "tide":
            day, high, low = self.draw(lambda: (rng.choice(world.DAYS), *rng.sample(range(24), 2)))
            questions = (f"When is high water on {day}?", f"What is the tide on {day}?",
                         f"Tell me the tides of {day}.", f"When is low tide on {day}?")  # fmt: skip
            if self.test:  # too few days to hold some out, so phrasings are held out
                questions = (f"At what hour is high tide on {day}?", f"When is low water on {day}?")
            answer = f"On {day} high water is at {high} and low water at {low}."
            return rng.choice(questions), {"day": day}, {"high": high, "low": low}, answer
        if function == "book_berth":
            captain, ship = self.draw(lambda: (self.name(), rng.choice(SHIPS)))
            nights, berth = rng.randint(1, 14), rng.randint(1, 24)
            stay = "1 night" if nights == 1 else f"{nights} nights"
            questions = (f"Book a berth for the {ship}, captain {captain}, for {stay}.",
                         f"Captain {captain} needs a berth for the {ship}, {stay}.",
                         f"The {ship} under {captain} wants to stay {stay}.",
                         f"{stay} for the {ship} please. The captain is {captain}.")  # fmt: skip
            answer = f"The {ship} has berth {berth} for {stay}."
            arguments = {"ship": ship, "captain": captain, "nights": nights}
            return rng.choice(questions), arguments, {"berth": berth}, answer
        to, good = self.draw(lambda: (self.name(), rng.choice(list(GOODS))))
        related = (f"the {good} is ready", f"bring the {good}", f"your {good} is here")
        unrelated = (f"come at {rng.randint(6, 20)}", f"the {rng.choice(SHIPS)} is in")
        # a message of the test split names the held-out good
        text = rng.choice(related if self.test else related + unrelated)
        questions = (f"Tell {to}: {text}.", f"Send {to} this message: {text}.",
                     f"Message for {to}: {text}.", f"Let {to} know: {text}.")  # fmt: skip
        arguments, response = {"to": to, "text": text}, {"sent": True}
        return rng.choice(questions), arguments, response, f"I told {to}: {text}."

    def tool_conversation(self, functions: list[str], available: list[str]) -> Instance:
        """Return requests that each need one available function: call, response, answer."""
        messages: list[Message] = []
        for function in functions:
            question, arguments, response, answer = self.call(function)
            call = {"type": "function", "function": {"name": function, "arguments": arguments}}
            messages += [
                user(self.opener() + question),
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": json.dumps(response)},
                assistant(answer),
            ]
        key = json.dumps([messages[0], messages[2]])
        tools = tuple(SCHEMAS[name] for name in available)
        return Instance("tool", tuple(messages), key, tools)

    def tool(self) -> Instance:
        """Return a request with one to three tools: the right call, then the final answer."""
        available = self.rng.sample(list(SCHEMAS), self.rng.randint(1, 3))
        return self.tool_conversation([self.rng.choice(available)], available)

    # ------------------------------------------------------------------ closed world
    def sums(self) -> Instance:
        """Return two numbers of one to three digits, added digit by digit inside <think>."""
        rng = self.rng

        def number() -> int:
            digits = rng.choice((1, 2, 2, 3, 3, 3))
            return rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)

        first, second = self.draw(lambda: (number(), number()))
        question = rng.choice(
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
        messages = (user(question.format(first, second)), assistant(think_sum(first, second)))
        return Instance("sums", messages, key=f"{first}+{second}")

    def fact(self) -> Instance:
        """Return a question about the closed world, in a held-out phrasing for this fact."""
        question, answer = self.draw(self._fact)
        text = self.opener() + question
        return Instance("fact", (user(text), assistant(answer)), key=text)

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
        """Return one word to translate, English to Chinese or back, in a held-out phrasing."""
        rng = self.rng

        def pair() -> tuple[str, str]:
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

        question, answer = self.draw(pair)
        text = self.opener() + question
        return Instance("words", (user(text), assistant(answer)), key=text)

    def sentences(self) -> Instance:
        """Return a held-out sentence to translate, English to Chinese or back."""
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
            messages = user(f"Translate to Chinese: {english}"), assistant(chinese)
        else:
            messages = user(f"Translate to English: {chinese}"), assistant(english)
        return Instance("sentences", messages, key=messages[0]["content"])

    # ------------------------------------------------------------------ several at once
    def several(self, task: str, count: int) -> Instance:
        """Return `count` instances of one task as one conversation: more answers per token read."""
        instances = [getattr(self, task)() for _ in range(count)]
        head, *following = instances
        messages = list(head.messages)
        for instance in following:
            messages += [m for m in instance.messages if m["role"] != "system"]
        return Instance(task, tuple(messages), "\n".join(i.key for i in instances), head.tools)

    def lesson(
        self, mix: dict[str, float], level: float = 1.0, value_first_share: float = 0.0
    ) -> Instance:
        """Return a training conversation: a task drawn from the mix, several times over.

        level, from 0 to 1, limits the length of texts: from two records to five. Half of the texts,
        and all of them below level 1, state the same attributes of every record, so that only its
        subject identifies the right answer. value_first_share is the share of these with values
        first.
        """
        rng = self.rng
        task = rng.choices(list(mix), list(mix.values()))[0]
        if task in ("text_qa", "dialogue"):
            records = rng.randint(1, 2 + round(3 * level))
            shared = 0
            if level < 1 or rng.random() < 0.5:
                shared, records = rng.randint(1, 1 + round(2 * level)), max(2, records)
            count = rng.randint(records, 2 * records + 2)
            values_first = shared > 0 and rng.random() < value_first_share
            return self.text_questions(count, records, shared, values_first)
        if task == "tool":
            available = rng.sample(list(SCHEMAS), rng.choice((1, 1, 2, 2, 3)))
            functions = [rng.choice(available) for _ in range(rng.randint(2, 4))]
            return self.tool_conversation(functions, available)
        largest = {"intent": 6, "order": 4, "sums": 2, "fact": 5, "words": 8, "sentences": 4}
        return self.several(task, rng.randint(1, largest[task]))


TASKS = (
    "fact", "intent", "intent_phrasing", "order", "tool", "text_qa", "dialogue", "sums", "words",
    "sentences",
)  # fmt: skip


def think_sum(first: int, second: int) -> str:
    """Return the worked sum: digit by digit from the units, then the answer."""
    names = ("units", "tens", "hundreds")
    digits_of_first, digits_of_second = str(first)[::-1], str(second)[::-1]
    lines, carry = [], 0
    for position in range(max(len(digits_of_first), len(digits_of_second))):
        x = int(digits_of_first[position]) if position < len(digits_of_first) else 0
        y = int(digits_of_second[position]) if position < len(digits_of_second) else 0
        total = x + y + carry
        lines.append(f"{names[position]} {x}+{y}+{carry}={total}, write {total % 10}")
        carry = total // 10
    if carry:
        lines.append(f"then write {carry}")
    return "<think>\n" + "\n".join(lines) + f"\n</think>\n\n{first} + {second} = {first + second}"


def instances(
    task: str, count: int, seed: int = 0, split: str = "test", invented: float = 0.0
) -> Iterator[Instance]:
    """Yield `count` instances of one task, no two with the same key.

    Raises ValueError for an unknown task, and if a closed world has fewer than `count` instances.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; the tasks are {', '.join(TASKS)}")
    source, keys = Harbour(seed, split, invented), set()
    for _ in range(200 * count):
        if len(keys) == count:
            return
        instance = getattr(source, task)()
        if instance.key not in keys:
            keys.add(instance.key)
            yield instance
    if len(keys) < count:
        raise ValueError(f"{task} has only {len(keys)} different {split} instances, not {count}")
