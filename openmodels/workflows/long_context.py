"""Texts of any length with facts at known positions: can a model still find and follow them?

The tasks are those of RULER (Hsieh et al. 2024, arXiv 2404.06654, section 3) in Port Lark's words:
one needle, one of many keys, and a variable that takes its value from another one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from openmodels.harbour.facts import Fact, FactSource
from openmodels.harbour.templates import ASIDES
from openmodels.harbour.wordings import FACT_KINDS, REMARKS
from openmodels.harbour.world import SHIPS
from openmodels.minis import evaluate
from openmodels.workflows.store import Passage, SqliteStore

BATCH, ANSWER_TOKENS = 4, 24
KEYS = 12  # facts of the same kind in a text with many keys
NEEDLE_KINDS = ("debt", "price", "purchase")
FILLER = ASIDES + REMARKS


@dataclass(frozen=True)
class Haystack:
    """A text as sentences, a question about it, and the strings that a right answer contains."""

    sentences: tuple[str, ...]
    question: str
    values: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """Return text and question in the form in which the miniatures read a text."""
        return f"Text: {' '.join(self.sentences)}\nQuestion: {self.question}"


def _fill(
    statements: Sequence[str], places: Sequence[float], words: int, rng: random.Random
) -> tuple[str, ...]:
    """Return the statements at their places, each from 0 to 1, between sentences of filler.

    The text has about `words` words. Raises ValueError if the statements alone have more.
    """
    missing = words - sum(len(statement.split()) for statement in statements)
    if missing < 0:
        raise ValueError(f"the statements do not fit a text of {words} words")
    filler: list[str] = []
    while missing > 0:
        filler.append(rng.choice(FILLER))
        missing -= len(filler[-1].split())
    for place, statement in sorted(zip(places, statements, strict=True), reverse=True):
        filler.insert(round(place * len(filler)), statement)
    return tuple(filler)


def _facts(seed: int, count: int) -> tuple[random.Random, list[Fact]]:
    """Return facts of one kind and one attribute, about subjects held out from training."""
    source = FactSource(seed, "test")
    source.rng = rng = random.Random(f"haystack/{seed}")
    kind = rng.choice(NEEDLE_KINDS)
    attribute = rng.choice(list(FACT_KINDS[kind].attributes))
    facts: dict[tuple[str, ...], Fact] = {}
    while len(facts) < count:
        subject = source.subject(kind)
        facts.setdefault(subject, source.fact(kind, subject, attribute))
    return rng, list(facts.values())


def needle(words: int, place: float, seed: int) -> Haystack:
    """Return a text of about `words` words with one fact at a place from 0, the start, to 1."""
    rng, [fact] = _facts(seed, 1)
    text = _fill([fact.statement(rng)], [place], words, rng)
    return Haystack(text, fact.direct_question(rng), fact.values)


def multi_key(words: int, place: float, seed: int, keys: int = KEYS) -> Haystack:
    """Return a text with `keys` facts of one kind; the question is about the one at `place`."""
    rng, facts = _facts(seed, keys)
    places = [place, *(rng.random() for _ in facts[1:])]
    text = _fill([fact.statement(rng) for fact in facts], places, words, rng)
    return Haystack(text, facts[0].direct_question(rng), facts[0].values)


def variable_tracking(words: int, hops: int, seed: int) -> Haystack:
    """Return a text in which a ship's berth is stated after `hops` references to other ships.

    A second chain of the same length leads to another berth. Raises ValueError if the ships do not
    suffice.
    """
    if not 0 <= 2 * (hops + 1) <= len(SHIPS):
        raise ValueError(f"{len(SHIPS)} ships do not suffice for two chains of {hops} hops")
    rng = random.Random(f"chains/{seed}")
    ships = rng.sample(list(SHIPS), 2 * (hops + 1))
    berths = rng.sample(range(1, 25), 2)
    statements: list[str] = []
    for chain, berth in zip((ships[: hops + 1], ships[hops + 1 :]), berths, strict=True):
        statements.append(f"The {chain[0]} lies at berth {berth}.")
        pairs = zip(chain, chain[1:], strict=False)
        statements += [f"The {after} lies at the berth of the {before}." for before, after in pairs]
    places = sorted(rng.random() for _ in statements)
    text = _fill(statements, places, words, rng)
    return Haystack(text, f"Where does the {ships[hops]} lie?", (f"berth {berths[0]}",))


def read(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, haystacks: Sequence[Haystack]
) -> list[str]:
    """Return a model's answers to texts, read with its weights, so no server limits the length."""
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": haystack.prompt}],
            tokenize=False, add_generation_prompt=True,
        )
        for haystack in haystacks
    ]  # fmt: skip
    return evaluate.answer(model, tokenizer, prompts, batch=BATCH, longest=ANSWER_TOKENS)


def shorten(haystack: Haystack, k: int) -> Haystack:
    """Return the k sentences that a search by words ranks first, in the order of the text."""
    with SqliteStore(":memory:", None) as store:
        store.add([Passage("T", n, "", text) for n, text in enumerate(haystack.sentences)])
        hits = store.search_words(haystack.question, k)
    places = sorted(hit.passage.number for hit in hits)
    return replace(haystack, sentences=tuple(haystack.sentences[place] for place in places))
