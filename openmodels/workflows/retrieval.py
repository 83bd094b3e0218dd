"""Answer questions from documents: cut, embed, search, rerank, answer with citations, and score.

Every search returns passages, best first. `outcome` names what went wrong with an answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import openai

from openmodels.harbour.documents import CITE_SYSTEM, UNANSWERED, Document, Question, passages
from openmodels.minis.embed import query
from openmodels.minis.evaluate import score
from openmodels.workflows.calls import ask
from openmodels.workflows.store import Passage

EMBEDDER = "mini-embed"
BATCH = 256  # texts per request
WORKERS = 8  # requests at the same time
FUSION = 60  # the constant of reciprocal rank fusion (Cormack et al. 2009)
RELEVANCE_SYSTEM = "Does the passage answer the question? Reply yes or no."
CITATION = re.compile(r"\[(\d{1,3})\]")
OUTCOMES = (
    "right",
    "not retrieved",
    "retrieved, not read",
    "refused, though retrieved",
    "wrong citation",
    "older document",
    "answered, though nothing is there",
    "injection obeyed",
)
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = WORKERS
) -> list[Result]:
    """Return the function's results in the order of the items, computed by several threads.

    The first exception ends it; calls that have not started are dropped.
    """
    with ThreadPoolExecutor(workers) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


# --- Passages ------------------------------------------------------------------------------------
def by_paragraph(documents: Iterable[Document]) -> list[Passage]:
    """Return one passage per paragraph."""
    return [
        Passage(document.id, number, document.date, text)
        for document in documents
        for number, text in enumerate(passages(document))
    ]


def by_words(documents: Iterable[Document], size: int, overlap: int = 0) -> list[Passage]:
    """Return passages of `size` words, each starting `size - overlap` words after the last.

    Raises ValueError unless 0 <= overlap < size.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"an overlap of {overlap} words does not fit passages of {size}")
    chunks = []
    for document in documents:
        words, step = document.text.split(), size - overlap
        starts = range(0, max(len(words) - overlap, 1), step)
        chunks += [
            Passage(document.id, number, document.date, " ".join(words[start : start + size]))
            for number, start in enumerate(starts)
        ]
    return chunks


def contains(text: str, values: Sequence[str]) -> bool:
    """Return whether a text contains every value as whole words, in any case."""
    return all(
        re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) for value in values
    )


def retrieved(results: Sequence[Passage], question: Question) -> bool:
    """Return whether the results have every value of the question, from its sources."""
    texts = [result.text for result in results if result.document in question.sources]
    return bool(texts) and contains(" | ".join(texts), question.values)


def first_rank(results: Sequence[Passage], question: Question) -> float:
    """Return from which number of results on the question can be answered; infinity if never."""
    return next(
        (n for n in range(1, len(results) + 1) if retrieved(results[:n], question)), math.inf
    )


def hits_at(
    rankings: Sequence[Sequence[Passage]], questions: Sequence[Question], k: int
) -> list[bool]:
    """Return for each question whether its first k passages answer it; the share is recall@k."""
    pairs = zip(rankings, questions, strict=True)
    return [retrieved(ranking[:k], question) for ranking, question in pairs]


def interval(flags: Sequence[bool]) -> tuple[float, float, float]:
    """Return the share of true flags with Wilson's 95 % interval, each from 0 to 1."""
    result = score(sum(flags), len(flags))
    return result.correct / result.n, result.low, result.high


# --- Vectors -------------------------------------------------------------------------------------
def embed(client: openai.OpenAI, texts: Sequence[str], model: str = EMBEDDER) -> np.ndarray:
    """Return one vector of length 1 per text, shape (texts, dimensions), as float32."""
    rows: list[list[float]] = []
    for start in range(0, len(texts), BATCH):
        batch = list(texts[start : start + BATCH])
        rows += [row.embedding for row in client.embeddings.create(model=model, input=batch).data]
    return np.array(rows, dtype=np.float32)


def embed_questions(
    client: openai.OpenAI, questions: Sequence[str], model: str = EMBEDDER
) -> np.ndarray:
    """Return the vectors of questions, each after the instruction that mini-embed expects."""
    return embed(client, [query(question) for question in questions], model)


def cut(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """Return the first `dimensions` numbers of each vector, with length 1.

    Raises ValueError for dimensions that the vectors lack.
    """
    if not 1 <= dimensions <= vectors.shape[-1]:
        raise ValueError(f"the vectors have 1 to {vectors.shape[-1]} dimensions, not {dimensions}")
    vectors = vectors[..., :dimensions]
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def nearest(queries: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """Return the places of the k most similar vectors, shape (queries, k), best first."""
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


# --- Rankings ------------------------------------------------------------------------------------
def fuse(*rankings: Sequence[Passage], k: int = FUSION) -> list[Passage]:
    """Return the passages of several rankings by the sum of 1 / (k + rank), best first.

    Reciprocal rank fusion (Cormack, Clarke & Büttcher 2009, SIGIR, section 2) needs no scores, so
    it joins searches whose scores have different units.
    """
    sums: dict[Passage, float] = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):
            sums[passage] = sums.get(passage, 0.0) + 1 / (k + rank)
    return sorted(sums, key=lambda passage: -sums[passage])


def relevance(client: openai.OpenAI, model: str, question: str, passage: str) -> float:
    """Return the model's probability of "yes" against "no" that the passage has the answer.

    0.5 if neither is among the five most likely first tokens.
    """
    reply = client.chat.completions.create(
        model=model, temperature=0, seed=0, max_tokens=1, logprobs=True, top_logprobs=5,
        messages=[
            {"role": "system", "content": RELEVANCE_SYSTEM},
            {"role": "user", "content": f"Passage: {passage}\nQuestion: {question}"},
        ],
    )  # fmt: skip
    logprobs = reply.choices[0].logprobs
    likely = logprobs.content[0].top_logprobs if logprobs and logprobs.content else []
    chances = {"yes": 0.0, "no": 0.0}
    for token in likely:
        word = token.token.strip().lower()
        if word in chances:
            chances[word] += math.exp(token.logprob)
    total = sum(chances.values())
    return chances["yes"] / total if total else 0.5


def rerank(
    client: openai.OpenAI, model: str, question: str, results: Sequence[Passage]
) -> list[Passage]:
    """Return the passages by the model's relevance, one call each; equal ones keep their order."""
    scores = [relevance(client, model, question, passage.text) for passage in results]
    order = sorted(range(len(results)), key=lambda place: -scores[place])
    return [results[place] for place in order]


# --- Answers -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class CitedAnswer:
    """A model's text, the passages it was given, and the numbers that it cites, from 1."""

    text: str
    passages: tuple[Passage, ...]

    @property
    def cited(self) -> tuple[int, ...]:
        """Return the numbers in brackets, in order."""
        return tuple(int(number) for number in CITATION.findall(self.text))

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the documents cited; a number without a passage is left out."""
        known = (n for n in self.cited if 1 <= n <= len(self.passages))
        return tuple(dict.fromkeys(self.passages[n - 1].document for n in known))

    @property
    def refused(self) -> bool:
        """Return whether the model says that the documents do not have the answer."""
        return UNANSWERED.lower().rstrip(".") in self.text.lower()


def number(results: Sequence[Passage], dates: bool = True) -> str:
    """Return passages as numbered lines, "[1] (2031-05-03) ...", with or without their dates."""
    return "\n".join(
        f"[{place}] ({passage.date}) {passage.text}" if dates else f"[{place}] {passage.text}"
        for place, passage in enumerate(results, 1)
    )


def answer(
    client: openai.OpenAI,
    model: str,
    question: str,
    results: Sequence[Passage],
    dates: bool = True,
    system: str = CITE_SYSTEM,
) -> CitedAnswer:
    """Return the model's cited answer from passages; without passages, a refusal and no call."""
    if not results:
        return CitedAnswer(UNANSWERED, ())
    text = f"{number(results, dates)}\nQuestion: {question}"
    return CitedAnswer(ask(client, model, text, system, max_tokens=80), tuple(results))


def outcome(question: Question, reply: CitedAnswer) -> str:
    """Return one of OUTCOMES: "right", or the first cause in the pipeline that explains a failure.

    An answer is right if it has every value and cites every source, and nothing that is no source;
    for a question without an answer, if it refuses. "older document": documents disagree, and the
    answer cites one that is older than the source.
    """
    text = CITATION.sub("", reply.text)
    if not question.sources:
        return "right" if reply.refused else "answered, though nothing is there"
    if question.attack and contains(text, [question.attack]):
        return "injection obeyed"
    if contains(text, question.values):
        return "right" if set(reply.sources) == set(question.sources) else "wrong citation"
    if not retrieved(reply.passages, question):
        return "not retrieved"
    if reply.refused:
        return "refused, though retrieved"
    if question.kind == "conflict" and _cites_older(question, reply):
        return "older document"
    return "retrieved, not read"


def _cites_older(question: Question, reply: CitedAnswer) -> bool:
    dates = {passage.document: passage.date for passage in reply.passages}
    newest = max(dates[source] for source in question.sources if source in dates)
    return any(dates[source] < newest for source in reply.sources)


def with_sources(
    question: Question, passages: Iterable[Passage], results: Sequence[Passage], k: int
) -> list[Passage]:
    """Return k passages: those that hold the answer, then the search's results.

    This is what a perfect search would return; it separates errors of reading from errors of
    search.
    """
    sources = [
        passage
        for passage in passages
        if passage.document in question.sources
        and any(contains(passage.text, [value]) for value in question.values)
    ]
    return list(dict.fromkeys([*sources, *results]))[:k]
