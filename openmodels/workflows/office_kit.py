"""The desk of the harbour office: everything that an office may use to answer one request.

desk = connect_models().desk(harbour, archive, recorder)
office = build_office(desk)
office(Request("What does a rope cost at the chandlery?"), approve)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import openai

from openmodels.harbour import world
from openmodels.harbour.documents import SENTENCE_END, Document, passages
from openmodels.harbour.office import Office as Harbour
from openmodels.harbour.tools import OFFICE_SCHEMAS
from openmodels.harbour.wordings import DECLARERS
from openmodels.serving.media_models import connect_model
from openmodels.serving.model_client import client as connect_client
from openmodels.workflows.office_request import Source
from openmodels.workflows.trace import Recorder, set_output

Read = Callable[[bytes, str], str]  # a picture or a sound, and a question -> the model's answer

# Which words of a request name a handler; the first row with a word of the request decides.
ROUTES = {
    "rules": ("duty", "customs", "declare", "declares", "declared", "free"),
    "send_message": ("tell", "message"),
    "place_order": ("order",),
    "book_berth": ("night", "nights"),
    "pay": ("pay",),
    "read_mail": ("mail", "letter"),
    "ferry_times": ("ferry", "ferries"),
    "tide": ("tide", "tides", "water"),
    "get_stock": ("stock", "many"),
    "get_price": ("price", "cost", "costs", "much"),
    "find_ship": ("berth", "captain", "lie", "lies", "where"),
}

# Chinese phrases of requests, in English. The longest phrase that fits is the right one.
GLOSSARY = (
    {shop.zh: f"the {name}" for name, shop in world.SHOPS.items()}
    | {chinese: good for good, (_, chinese, _) in world.GOODS.items()}
    | {chinese: day for day, chinese in world.DAYS_ZH.items()}
    | {
        "多少钱": "costs how much", "有多少": "has how many", "在哪里能找到": "where do I find the",
        "的泊位": "berth", "船长是谁": "captain is who", "高潮": "high water", "低潮": "low water",
        "几点": "at what hour", "去": "to", "的渡船": "ferry", "请": "please", "为": "for",
        "在": "at", "订": "order", "付给": "pay", "硬币": "coins", "告诉": "tell",
        "大船": "the ship", "来": "comes", "和": "and", "有": "has",
    }
)  # fmt: skip

# Words of a sentence that speaks to the office instead of stating a rule.
MARKERS = (
    "assistant", "clerk", "system", "model", "ignore", "forget", "answer only", "write only",
    "say only", "reply",
)  # fmt: skip

GOODS_BY_WORD = {
    word: good for good, (plural, *_) in world.GOODS.items() for word in (good, plural)
}
PLACES = (*world.ISLANDS, *world.SHIPS, *world.SHOPS)


def subjects(text: str) -> set[str]:
    """Return the goods, in singular, and the islands, ships and shops that a text names.

    Example: "two ropes off the Heron" -> {"rope", "Heron"}.
    """
    words = re.findall(r"\w+", text.lower())
    goods = {GOODS_BY_WORD[word] for word in words if word in GOODS_BY_WORD}
    return goods | {place for place in PLACES if re.search(rf"\b{place}\b", text, re.IGNORECASE)}


def topic(question: str) -> str:
    """Return what a question about customs asks for: "declarer", "allowance" or "duty"."""
    if re.search(r"\bdeclare", question, re.IGNORECASE):
        return "declarer"
    return "allowance" if re.search(r"\bfree\b|without duty", question, re.IGNORECASE) else "duty"


def claims(text: str, about: str) -> set[str]:
    """Return what a text claims about a topic: numbers of coins or of goods, or who declares.

    Examples: "Each lamp is taxed: 40 coins.", "duty" -> {"40"}; "2 lamps are free.", "allowance" ->
    {"2"}; "The cook reports lamps.", "declarer" -> {"cook"}.
    """
    words = re.findall(r"\w+", text.lower())
    if about == "declarer":
        return set(words) & set(DECLARERS)
    units = {"coin", "coins"} if about == "duty" else set(GOODS_BY_WORD)
    return {number for number, unit in pairwise(words) if number.isdigit() and unit in units}


@dataclass(frozen=True)
class Archive:
    """Sentences of documents, searched by the subjects and words that they share with a text."""

    sources: tuple[Source, ...]

    def search(self, text: str, k: int = 5) -> list[Source]:
        """Return the k sentences that share most subjects, then most words, with a text."""
        named, words = subjects(text), set(re.findall(r"\w+", text.lower()))
        scores = [
            (len(named & subjects_of(source)), len(words & words_of(source)))
            for source in self.sources
        ]
        order = sorted(range(len(scores)), key=lambda place: scores[place], reverse=True)
        return [self.sources[place] for place in order[:k] if any(scores[place])]


@lru_cache(maxsize=20_000)
def subjects_of(source: Source) -> frozenset[str]:
    """Return the subjects of a source."""
    return frozenset(subjects(source.text))


@lru_cache(maxsize=20_000)
def words_of(source: Source) -> frozenset[str]:
    """Return the words of a source in lower case."""
    return frozenset(re.findall(r"\w+", source.text.lower()))


def sentences(documents: Iterable[Document]) -> tuple[Source, ...]:
    """Return the sentences of documents, each as a source."""
    return tuple(
        Source(document.id, sentence)
        for document in documents
        for paragraph in passages(document)
        for sentence in SENTENCE_END.split(paragraph)
    )


@dataclass(frozen=True)
class Desk:
    """What an office may use for one request.

    client, model: the language model. see, hear: take a PNG or WAV file and a question, and return
    the text of the vision or the audio model. harbour: the simulated harbour whose tools `call`
    runs. archive: the customs rules. recorder: stores traces.
    """

    client: openai.OpenAI
    model: str
    see: Read
    hear: Read
    harbour: Harbour
    archive: Archive
    recorder: Recorder

    def schemas(self, *names: str) -> list[dict]:
        """Return the schemas of tools for a request to the model. Raises KeyError for others."""
        return [OFFICE_SCHEMAS[name] for name in names]

    def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a tool, record it in the trace, and return its result or {"error": reason}."""
        with self.recorder.tool(name, arguments) as span:
            result = self.harbour.call(name, arguments)
            set_output(span, result)
        return result

    def search(self, question: str, k: int = 5) -> list[Source]:
        """Return the k sentences of the customs rules that fit a question best."""
        with self.recorder.retrieval(question) as span:
            results = self.archive.search(question, k)
            set_output(span, " | ".join(source.text for source in results))
        return results


@dataclass(frozen=True)
class Models:
    """Connections to the three models of an office; each desk gets its own client."""

    client: openai.OpenAI
    model: str
    see: Read
    hear: Read

    def desk(self, harbour: Harbour, archive: Archive, recorder: Recorder) -> Desk:
        """Return a desk at which these models work."""
        client = recorder.instrument(self.client.copy())
        return Desk(client, self.model, self.see, self.hear, harbour, archive, recorder)


def connect_models(name: str | None = None) -> Models:
    """Return connections to the three models, and print which they are.

    name: the language model as for `openmodels.client`; pictures and sounds are read by the models
    that `connect_model` chooses.
    """
    client, model = connect_client(name)
    return Models(client, model, reader("vision", 90), reader("audio", 60))


def reader(capability: str, longest: int) -> Read:
    """Return a function that asks a model about a file. longest: new tokens of an answer."""
    client, model = connect_model(capability)
    options = {"temperature": 0, "seed": 0, "num_predict": longest}

    def read(file: bytes, question: str) -> str:
        message = {"role": "user", "content": question, "images": [file]}
        return client.chat(model, [message], options=options).message.content or ""

    return read


def cited_passages(sources: Sequence[Source]) -> str:
    """Return sources as the numbered lines that mini-qwen-agent reads."""
    return "\n".join(f"[{number}] {source.text}" for number, source in enumerate(sources, 1))
