"""Generate the office's older tasks in free phrasings: requests, orders, tool calls, texts."""

import json
import re
from collections.abc import Sequence
from itertools import combinations

from openmodels.harbour import phrasing, phrasing_requests, world
from openmodels.harbour.grammar import Grammar, capital, casual, in_words
from openmodels.harbour.templates import OPENERS, SHOP_FACTS, TEXT_FACTS
from openmodels.harbour.text import (
    INTENT_SYSTEM,
    INTENTS,
    ORDER_SYSTEM,
    SCHEMAS,
    UNKNOWN,
    Harbour,
    Instance,
    Message,
    assistant,
    held_out,
    system,
    user,
)
from openmodels.harbour.world import GOODS, SHIPS, SHOPS, a

Pair = tuple[dict, str]  # a record and one of its attributes
VALUES = {
    "owner": "name", "hour": "hour", "place": "place", "price": "price", "seller": "name",
    "captain": "name", "berth": "berth", "cargo": "cargo", "day": "day", "debt": "price",
    "bought": "cargo", "spot": "place",
}  # fmt: skip
VARIED = ("varied_intent", "varied_order", "varied_tool", "varied_fact", "varied_text_qa")


def statement(grammar: Grammar, record: dict, attribute: str) -> str:
    """Return a sentence about an attribute, in lower case and without a full stop."""
    return grammar.expand(phrasing.STATEMENTS[record["kind"]][attribute]).format(**record)


def tidy(text: str) -> str:
    """Return a text with its spaces right and a capital after each full stop."""
    text = re.sub(r" +(?=[ .,;!?]|'d |'ll |$)", "", text)
    return re.sub(r"([.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def with_gender(question: str, name: str) -> str:
    """Return a question about "they" with the pronoun of a name, if the name's is known."""
    if name in phrasing.MEN:
        he, him, his = "he", "him", "his"
    elif name.endswith("a") and name not in ("Arda", "Mika"):
        he, him, his = "she", "her", "her"
    else:
        return question
    question = question.replace("do they", f"does {he}").replace("are they", f"is {he}")
    question = re.sub(r"\bthey\b", he, question)
    return re.sub(r"\btheir\b", his, re.sub(r"\bthem\b", him, question))


def subject(record: dict) -> str:
    """Return the subject of a record as a noun phrase: "the Heron", "Ada"."""
    return record["name"] if record["kind"] == "person" else f"the {record['subject']}"


class Varied(Harbour):
    """A `Harbour` whose sentences are composed from grammars.

    An instance belongs to a split by the hash of its whole text, and only the test split uses the
    alternatives that its grammar holds out.
    """

    def __init__(self, seed: int, split: str = "train", invented: float = 0.0):
        super().__init__(seed, split, invented)
        rules = phrasing.RULES | phrasing_requests.RULES
        self.grammar = Grammar(self.rng, self.test, rules)

    def belongs(self, text: str) -> bool:
        """Return whether a text belongs to this split."""
        return held_out(text) == self.test

    def finish(self, sentence: str, mark: str, share: float = 0.2) -> str:
        """Return a sentence with a capital and a final mark, or as typed in a hurry."""
        sentence = tidy(sentence)
        mark = "" if sentence[-1] in ".?!" else mark
        return casual(self.rng, capital(sentence) + mark, share)

    def hello(self) -> str:
        """Return a greeting that can precede a question; often empty."""
        return self.grammar.expand("<hello>")

    # ------------------------------------------------------------------ texts
    def record(self, kind: str, subject: str) -> dict:
        """Return one subject of a text with its slots, outdated values among them."""
        rng, record = self.rng, super().record(kind, subject)
        record["goods"], record["other"] = GOODS[record["good"]][0], rng.choice(world.NAMES)
        for slot, values in (
            ("hour", range(5, 13)), ("price", range(2, 100)), ("berth", range(1, 25)),
            ("day", world.DAYS),
        ):  # fmt: skip
            record[f"old_{slot}"] = rng.choice([v for v in values if v != record[slot]])
        while record["other"] == record["name"]:
            record["other"] = rng.choice(world.NAMES)
        return record

    def sentences_about(self, record: dict, attributes: Sequence[str]) -> list[str]:
        """Return sentences, without full stops, that state these attributes of one record."""
        rng, kind, grammar = self.rng, record["kind"], self.grammar
        attributes = list(attributes)
        for pair in combinations(list(TEXT_FACTS[kind]), 2):
            templates = phrasing.PAIRS.get((kind, *pair))
            if templates and set(pair) <= set(attributes) and rng.random() < 0.4:
                joined = grammar.expand(templates).format(**record)
                remaining = [a for a in attributes if a not in pair]
                return [joined, *self.sentences_about(record, remaining)]
        if len(attributes) < 2 or rng.random() < 0.5:
            return [statement(grammar, record, attribute) for attribute in attributes]
        first, second = (
            grammar.expand(phrasing.PREDICATES[kind][attribute]).format(**record)
            for attribute in attributes[:2]
        )
        who, pronoun = subject(record), "who" if kind == "person" else "which"
        joined = rng.choice(
            (f"{who} {first} and {second}", f"{who}, {pronoun} {first}, {second}",
             f"{who} {first}; it {second}" if kind != "person" else f"{who} {first} and {second}")
        )  # fmt: skip
        return [joined, *(statement(grammar, record, attribute) for attribute in attributes[2:])]

    def prose(self, sentences: list[str]) -> str:
        """Return sentences as one text, some of them joined and some remarks among them."""
        rng, grammar = self.rng, self.grammar
        text, index = [], 0
        while index < len(sentences):
            sentence, index = sentences[index], index + 1
            if index < len(sentences) and len(sentence) < 60 and rng.random() < 0.3:
                joints = (", and ", ", and ", "; ")
                if sentences[index].split(" ")[0] in ("the", "a", "an"):
                    joints += (", while ", ", whereas " if self.test else ", while ")
                sentence += rng.choice(joints) + sentences[index]
                index += 1
            text.append(sentence)
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            remark = grammar.expand(phrasing.REMARKS).format(other=self.stranger)
            text.insert(rng.randint(0, len(text)), remark)
        return " ".join(capital(tidy(sentence)) + rng.choice(".......!") for sentence in text)

    def free_text(self, records: int, most: int = 3) -> tuple[str, list[Pair], list[Pair]]:
        """Return a text, the (record, attribute) pairs it states, and pairs it does not state.

        most: the largest number of attributes that are stated of one record.
        """
        rng = self.rng
        while True:
            kinds = [rng.choice(list(TEXT_FACTS)) for _ in range(records)]
            if rng.random() < 0.6:  # one kind: only the subject tells records apart
                kinds = [kinds[0]] * records
            stated, absent, sentences, names, people = [], [], [], set(), []
            for kind in dict.fromkeys(kinds):
                subjects = self.subjects(kind, kinds.count(kind) + 1)
                for name in subjects[:-1]:
                    record = self.record(kind, name)
                    attributes = list(TEXT_FACTS[kind])
                    rng.shuffle(attributes)
                    count = rng.randint(1, min(most, len(attributes)))
                    stated += [(record, attribute) for attribute in attributes[:count]]
                    absent += [(record, attribute) for attribute in attributes[count:]]
                    sentences.append(self.sentences_about(record, attributes[:count]))
                    people.append(record["name"])
                    names |= {record["name"], record["other"]}
                unused = self.record(kind, subjects[-1])
                names.add(unused["name"])
                absent += [(unused, attribute) for attribute in TEXT_FACTS[kind]]
            if len(set(people)) < len(people):  # a name stands for one person
                continue
            if rng.random() < 0.5:
                rng.shuffle(sentences)
            self.stranger = rng.choice([name for name in world.NAMES if name not in names])
            text = self.prose([sentence for group in sentences for sentence in group])
            if self.belongs(text):
                return text, stated, absent

    def question(self, record: dict, attribute: str, share: float = 0.2) -> str:
        """Return a free question about an attribute; `share` of them typed in a hurry."""
        kind, rng, grammar = record["kind"], self.rng, self.grammar
        if rng.random() < 0.2:
            text = (
                grammar.expand("<tell>") + " " + grammar.expand(phrasing.INDIRECT[kind][attribute])
            )
        else:
            text = grammar.expand(phrasing.QUESTIONS[kind][attribute])
        return self.finish(text.format(**record), "?", share)

    def pronoun(self, record: dict, attribute: str) -> tuple[str, str]:
        """Return a question about an attribute with a pronoun, and the same with the noun."""
        rng = self.rng
        follow, full = rng.choice(phrasing.FOLLOW_UPS[record["kind"]][attribute])
        match = re.search(r"\[(.*?)\]", follow)
        word = rng.choice(match[1].split("|")) if match else ""
        follow = follow.replace(match[0], word) if match else follow
        if record["kind"] == "person":
            follow = with_gender(follow, record["name"]) if rng.random() < 0.8 else follow
        return follow, full.format(word, **record)

    def statement_of(self, record: dict, attribute: str) -> str:
        """Return the short statement of an attribute that answers use."""
        return TEXT_FACTS[record["kind"]][attribute][2].format(**record)

    def free_questions(self, questions: int, task: str, records: int | None = None) -> Instance:
        """Return a free text with `questions` questions; one in seven has no answer."""
        rng = self.rng
        text, stated, absent = self.free_text(records or rng.randint(1, 4))
        if task != "conversation_qa":  # a conversation stays with a subject, so "it" is clear
            rng.shuffle(stated)
        else:
            start = rng.randrange(len(stated))
            stated = stated[start:] + stated[:start]
        messages: list[Message] = []
        previous = None
        for number in range(questions):
            known = rng.random() >= 1 / 7
            record, attribute = stated[number % len(stated)] if known else rng.choice(absent)
            prefix = f"Text: {text}\n" if number == 0 else ""
            question = self.question(record, attribute)
            if task == "conversation_qa" and record is previous and rng.random() < 0.6:
                follow = rng.choice(("", "and ", "and ")) + self.pronoun(record, attribute)[0]
                question = self.finish(follow, "?")
            previous = record
            messages += [
                user(f"{prefix}Question: {question}"),
                assistant(self.statement_of(record, attribute) if known else UNKNOWN),
            ]
        return Instance(task, tuple(messages), key=messages[0]["content"])

    def varied_text_qa(self) -> Instance:
        """Return a freely phrased text and one question about it."""
        return self.free_questions(1, "varied_text_qa")

    def conversation_qa(self) -> Instance:
        """Return a freely phrased text and two to five questions; the last one is scored."""
        return self.free_questions(self.rng.randint(2, 5), "conversation_qa")

    # ------------------------------------------------------------------ requests
    def slots(self) -> dict:
        """Return values for every slot of a request."""
        rng = self.rng
        good, count, shop = rng.choice(list(GOODS)), rng.randint(2, 20), rng.choice(list(SHOPS))
        nights = rng.randint(1, 14)
        name, other = rng.sample(world.NAMES, 2)
        if self.invented:
            name = self.name()
        quantity = rng.choice((1, *range(1, 41)))
        written = in_words(rng, quantity)
        if quantity == 1:
            written = rng.choice(("1", "1", "one", "a"))
        if quantity == 12 and rng.random() < 0.3:
            written = "a dozen"
        item = good if quantity == 1 else GOODS[good][0]
        return {
            "good": good, "a_good": a(good), "goods": GOODS[good][0], "shop": shop,
            "ship": rng.choice(SHIPS), "day": rng.choice(world.DAYS), "name": name, "other": other,
            "n": in_words(rng, count), "n2": count - 1, "hour": rng.randint(5, 21),
            "kin_n": rng.choice(phrasing_requests.NEUTRAL_KIN),
            "kin": rng.choice(phrasing_requests.KIN), "to": rng.choice(world.ISLANDS),
            "price": rng.randint(2, 99), "quantity": quantity, "nights": nights,
            "some": a(good) if written == "a" else f"{written} {item}",
            "stay": "1 night" if nights == 1 else f"{in_words(rng, nights)} nights",
        }  # fmt: skip

    def varied_intent(self) -> Instance:
        """Return a freely phrased request and its intent."""
        intent = self.rng.choice(INTENTS)
        while True:
            parts = ("<greet>", phrasing_requests.INTENTS[intent], "<end>")
            greeting, request, end = map(self.grammar.expand, parts)
            polite = request.startswith(("can", "could", "may", "might"))
            mark = "." if intent in ("order", "complaint") and not polite else "?"
            if end.startswith("."):  # a remark follows the request
                end, mark = mark + end[1:], "."
            text = self.finish((greeting + request + end).format(**self.slots()), mark, 0.35)
            if self.belongs(text):
                break
        messages = (system(INTENT_SYSTEM), user(text), assistant(intent))
        return Instance("varied_intent", messages, key=text)

    def free_order(self) -> tuple[str, dict]:
        """Return a freely phrased order and its fields."""
        while True:
            slots = self.slots()
            template = self.grammar.expand(phrasing_requests.ORDERS)
            if slots["quantity"] == 1:
                template = template.replace("[them|it|everything]", "it")
            text = template.format(**slots | {"goods": slots["some"]})
            if not held_out(slots["name"], slots["good"]) == self.test:
                continue
            text = self.finish(text, ".", 0.25)
            if self.belongs(text):
                break
        keys = ("name", "good", "quantity", "price", "day")
        fields = {"item" if key == "good" else key: slots[key] for key in keys}
        return text, fields

    def varied_order(self) -> Instance:
        """Return a freely phrased order and the same order as JSON."""
        text, fields = self.free_order()
        messages = (system(ORDER_SYSTEM), user(text), assistant(json.dumps(fields)))
        return Instance("varied_order", messages, key=text)

    def free_call(self, function: str) -> tuple[str, dict, dict, str]:
        """Return a free request, the call's arguments, the tool's response and the answer."""
        rng, grammar = self.rng, self.grammar
        while True:
            slots = self.slots()
            wish = rng.random() < 0.4
            text = grammar.expand(
                phrasing_requests.WISHES if wish else phrasing_requests.MESSAGES
            ).format(**slots)
            templates = phrasing_requests.TOOLS[function]
            if function == "send_message" and not wish and rng.random() < 0.3:
                templates = phrasing_requests.THAT
            request = grammar.expand(templates).format(**slots | {"text": text})
            if function == "send_message":  # a message keeps its letters, so the request does too
                request = capital(self.hello() + request) + rng.choice((".", "", "."))
                request = re.sub(r" 'd ", "'d ", request)
            else:
                request = self.finish(self.hello() + request, "?", 0.25)
            if self.belongs(request):
                break
        item, shop, day, to = slots["good"], slots["shop"], slots["day"], slots["to"]
        name, ship, nights = slots["name"], slots["ship"], slots["nights"]
        if function == "get_price":
            price = slots["price"]
            answer = f"{capital(a(item))} at the {shop} costs {price} coins."
            return request, {"item": item, "shop": shop}, {"price": price}, answer
        if function == "ferry_times":
            early, late = sorted(rng.sample(range(5, 22), 2))
            answer = f"On {day} the ferry to {to} leaves at {early} and {late}."
            return request, {"to": to, "day": day}, {"times": [early, late]}, answer
        if function == "tide":
            high, low = rng.sample(range(24), 2)
            answer = f"On {day} high water is at {high} and low water at {low}."
            return request, {"day": day}, {"high": high, "low": low}, answer
        if function == "book_berth":
            berth, stay = rng.randint(1, 24), "1 night" if nights == 1 else f"{nights} nights"
            answer = f"The {ship} has berth {berth} for {stay}."
            arguments = {"ship": ship, "captain": name, "nights": nights}
            return request, arguments, {"berth": berth}, answer
        return request, {"to": name, "text": text}, {"sent": True}, f"I told {name}: {text}."

    def free_tools(self, functions: Sequence[str], available: Sequence[str]) -> Instance:
        """Return free requests that each need one available function: call, response, answer."""
        messages: list[Message] = []
        for function in functions:
            request, arguments, response, answer = self.free_call(function)
            call = {"type": "function", "function": {"name": function, "arguments": arguments}}
            messages += [
                user(request),
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": json.dumps(response)},
                assistant(answer),
            ]
        key = json.dumps([messages[0], messages[2]])
        tools = tuple(SCHEMAS[name] for name in available)
        return Instance("varied_tool", tuple(messages), key, tools)

    def varied_tool(self) -> Instance:
        """Return a free request with one to three tools: the right call, then the answer."""
        available = self.rng.sample(list(SCHEMAS), self.rng.randint(1, 3))
        return self.free_tools([self.rng.choice(available)], available)

    # ------------------------------------------------------------------ the town
    def varied_fact(self) -> Instance:
        """Return a freely phrased question about the town and its answer."""
        rng, grammar = self.rng, self.grammar
        while True:
            if rng.random() < 0.2:
                fact = rng.choice(list(world.TOWN_FACTS))
                direct, indirect = phrasing_requests.TOWN_QUESTIONS[fact]
                slots, answer = {}, world.TOWN_FACTS[fact][1]
            else:
                fact, shop = rng.choice(list(SHOP_FACTS)), rng.choice(list(SHOPS))
                direct, indirect = phrasing_requests.SHOP_QUESTIONS[fact]
                slots = {"shop": shop, **vars(SHOPS[shop])}
                slots["sells"] = [GOODS[good][0] for good in SHOPS[shop].sells]
                answer = SHOP_FACTS[fact][1].format(**slots)
            text = grammar.expand(direct)
            if rng.random() < 0.3:
                text = f"{grammar.expand('<tell>')} {grammar.expand(indirect)}"
            opener = rng.choice(OPENERS) if rng.random() < 0.4 else self.hello()
            text = self.finish(opener + text.format(**slots), "?")
            if self.belongs(text):
                return Instance("varied_fact", (user(text), assistant(answer)), key=text)
