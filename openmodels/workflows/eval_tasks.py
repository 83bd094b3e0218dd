"""The cases that the chapter's evaluation uses: questions with passages, and answers to judge."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai

from openmodels.harbour import desk, documents
from openmodels.harbour.grammar import capital
from openmodels.harbour.text import Message, system, user
from openmodels.workflows import calls
from openmodels.workflows.evals import Dataset, Sample

KINDS = ("single", "conflict", "none")  # questions about each document's passages
FACTS = 5  # of the passages, in addition to a conflict
LONGEST = 80  # tokens of an answer
PASSAGE = re.compile(r"^\[(\d+)\] ")
CITATION = re.compile(r"\[(\d+)\]")
AFTER = (  # sentences that add length and no content
    "That is what the text says about it, as far as I can see.",
    "I hope this helps. Ask me more if you like.",
    "That is all the text says about it.",
)


# --- Questions with passages ----------------------------------------------------------------------


def office_dataset(readings: int = 30, seed: int = 0) -> Dataset:
    """Return three held-out questions on each of some sets of passages; a set is a group.

    A question is answered by one passage, by the newer of two in conflict, or by none: its tag.
    """
    reader = documents.Reader(seed, "test")
    samples = []
    for number in range(1, readings + 1):
        for place, (kind, prompt, target) in enumerate(_questions(reader), 1):
            identifier, group = f"R{number:02d}-{place}", f"R{number:02d}"
            samples.append(Sample(identifier, prompt, target, (kind,), group))
    return Dataset(tuple(samples))


def _questions(reader: documents.Reader) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the prompt and the answer of three questions about new passages."""
    reading = reader.reading(FACTS, conflicts=1)
    head = "\n".join(reading.lines)
    for kind in KINDS:
        question, answer = reader.ask_reading(reading, kind)
        yield kind, f"{head}\nQuestion: {question}", answer


@dataclass(frozen=True)
class Office:
    """A solver: answers from passages, with citations. Its fields are what a change may touch.

    system: the system prompt; None sends none. shuffle: the passages are sent in another order.
    renumber: the citations in the answer get the passages' original numbers again. first: only so
    many passages are sent, the first ones; by default all.
    """

    client: openai.OpenAI
    model: str
    system: str | None = documents.CITE_SYSTEM
    temperature: float = 0.0
    max_tokens: int = LONGEST
    shuffle: bool = False
    renumber: bool = True
    first: int | None = None

    def __call__(self, sample: Sample) -> str:
        """Return the model's answer to a sample of `office_dataset`."""
        prompt, numbers = shuffled(sample) if self.shuffle else (sample.input, {})
        if self.first is not None:
            *passages, question = prompt.split("\n")
            prompt = "\n".join([*passages[: self.first], question])
        options: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        answer = calls.ask(self.client, self.model, prompt, self.system, **options)
        if self.renumber:
            return CITATION.sub(lambda m: f"[{numbers.get(m[1], m[1])}]", answer)
        return answer


def shuffled(sample: Sample) -> tuple[str, dict[str, str]]:
    """Return a sample's prompt with its passages in another order, numbered from 1 again.

    Also returns the original number of each new one. The order is the same in every call and
    differs from the original.
    """
    *passages, question = sample.input.split("\n")
    numbers = [PASSAGE.match(passage)[1] for passage in passages]
    order = list(range(len(passages)))
    rng = random.Random(sample.input)
    while order == sorted(order):
        rng.shuffle(order)
    lines = [f"[{n}] {PASSAGE.sub('', passages[place])}" for n, place in enumerate(order, 1)]
    originals = {str(n): numbers[place] for n, place in enumerate(order, 1)}
    return "\n".join([*lines, question]), originals


# --- Answers to judge -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """A text with a question and an answer; label: whether the text supports the answer."""

    prompt: str
    label: bool

    @property
    def messages(self) -> list[Message]:
        """Return the request to the judge."""
        return [system(desk.JUDGE_SYSTEM), user(self.prompt)]


def judgements(count: int, seed: int = 0, supported: float = 0.5) -> list[Judgement]:
    """Return answers with labels that are true by construction.

    supported: the share of supported answers, rounded to whole answers. Raises ValueError for a
    share outside 0 to 1.
    """
    if not 0 <= supported <= 1:
        raise ValueError(f"a share lies between 0 and 1, not at {supported}")
    goal = {True: round(count * supported)}
    goal[False] = count - goal[True]
    source, chosen = desk.Desk(seed, "test"), []
    while len(chosen) < count:
        _, prompt, verdict = source.judge().messages
        label = verdict["content"] == desk.LABELS[True]
        if goal[label]:
            goal[label] -= 1
            chosen.append(Judgement(prompt["content"], label))
    return chosen


@dataclass(frozen=True)
class Pair:
    """A text, a question, and a right and a wrong answer, each in a short and a long form."""

    text: str
    question: str
    right: dict[str, str]
    wrong: dict[str, str]


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """Return held-out pairs whose answers differ in one value.

    The short form is the value, the long one a sentence with it and a sentence without content.
    """
    source = desk.Desk(seed, "test")
    return [_pair(source) for _ in range(count)]


def _pair(source: desk.Desk) -> Pair:
    text, stated, _ = source.free_text(source.rng.randint(1, 4))
    record, attribute = source.rng.choice(stated)
    after = source.rng.choice(AFTER)

    def forms(values: dict) -> dict[str, str]:
        short = capital(desk.MARKS[attribute].format(**values))
        return {"short": f"{short}.", "long": f"{source.statement_of(values, attribute)} {after}"}

    wrong = source.wrong(record, attribute, stated)
    question = source.question(record, attribute, 0.1)
    return Pair(text, question, forms(record), forms(wrong))
