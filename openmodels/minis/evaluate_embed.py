"""Measure how often a search finds the right passage, and write the scores of mini-embed.

`python -m openmodels.minis.evaluate_embed models/mini-embed` repeats the measurement: 500 held-out
questions over 2,000 held-out passages, against keyword search (BM25) and against the mean of
mini-qwen's hidden states.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from openmodels.harbour import documents
from openmodels.minis import embed, embed_card
from openmodels.minis.evaluate import Score, score
from openmodels.paths import shipped_dir

QUESTIONS, PASSAGES = 500, 2000
RANKS = (1, 5, 10)
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Collection:
    """Passages, questions, and the place of the passage that answers each question."""

    passages: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[int, ...]


def collection(
    questions: int = QUESTIONS, passages: int = PASSAGES, seed: int = 0, split: str = "test"
) -> Collection:
    """Return the first passages of a corpus and questions that one of them answers.

    Raises ValueError if the corpus has too few questions.
    """
    size, texts = 100, []
    while len(texts) < passages:
        size += 50
        corpus = documents.corpus(seed, size, split)
        texts = [text for document in corpus for text in documents.passages(document)]
    places = {text: number for number, text in enumerate(texts[:passages])}
    drawn = documents.passage_questions(2 * questions, seed, seed, split, size)
    drawn = [(question.text, places[text]) for question, text in drawn if text in places]
    if len(drawn) < questions:
        raise ValueError(f"{passages} passages answer only {len(drawn)} of the questions drawn")
    queries, answers = zip(*drawn[:questions], strict=True)
    return Collection(tuple(texts[:passages]), queries, answers)


def ranks(similarity: torch.Tensor, answers: Sequence[int]) -> list[int]:
    """Return the rank of each question's answer, from 1, ties at their worst.

    similarity: (questions, passages).
    """
    right = similarity[torch.arange(len(answers)), torch.tensor(answers)]
    return (similarity >= right[:, None]).sum(1).tolist()


def recall(places: Sequence[int], k: int) -> Score:
    """Return how many ranks are at most k, with Wilson's interval."""
    return score(sum(place <= k for place in places), len(places))


# --- Three searches ----------------------------------------------------------------------------
def similarities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Collection
) -> dict[int, torch.Tensor]:
    """Return the cosine similarities by number of dimensions, each (questions, passages)."""
    queries, passages = (
        embed.encode(model, tokenizer, texts)
        for texts in (list(map(embed.query, data.questions)), data.passages)
    )
    return {n: embed.cut(queries, n) @ embed.cut(passages, n).T for n in embed.DIMENSIONS}


def mean_pooled(folder: Path, data: Collection) -> torch.Tensor:
    """Return the similarities of a generating model's mean hidden states."""
    model, tokenizer = embed.load(folder)
    vectors = []
    with torch.no_grad():
        for texts in (data.questions, data.passages):
            rows = [embed.token_ids(tokenizer, text)[:-1] for text in texts]
            vectors.append(embed.cut(embed.pool(model, rows, mean=True), model.config.hidden_size))
    return vectors[0] @ vectors[1].T


def bm25(data: Collection) -> torch.Tensor:
    """Return the scores of BM25 by bm25s, whole words in lower case, no stemming."""
    import bm25s

    def split(texts: Sequence[str]) -> list[list[str]]:
        return [WORD.findall(text.lower()) for text in texts]

    index = bm25s.BM25()
    index.index(split(data.passages), show_progress=False)
    return torch.stack([torch.tensor(index.get_scores(words)) for words in split(data.questions)])


def fts5(data: Collection) -> torch.Tensor:
    """Return the scores of BM25 by SQLite's FTS5 with Porter stemming; higher is better."""
    store = sqlite3.connect(":memory:")
    store.execute("CREATE VIRTUAL TABLE passages USING fts5(text, tokenize='porter')")
    store.executemany("INSERT INTO passages(text) VALUES (?)", [(text,) for text in data.passages])
    scores = torch.zeros(len(data.questions), len(data.passages))
    for number, question in enumerate(data.questions):
        words = " OR ".join(f'"{word}"' for word in WORD.findall(question))
        hits = "SELECT rowid, bm25(passages) FROM passages WHERE passages MATCH ?"
        for row, value in store.execute(hits, [words]):
            scores[number, row - 1] = -value
    store.close()
    return scores


def measure(folder: Path, seed: int = 0) -> dict:
    """Return the recall of all searches with intervals, ready for scores.json."""
    data = collection(seed=seed)
    model, tokenizer = embed.load(folder)
    tables = {f"mini-embed, {n} numbers": scores
              for n, scores in similarities(model, tokenizer, data).items()}  # fmt: skip
    tables["BM25 (bm25s)"] = bm25(data)
    tables["BM25 with stemming (SQLite FTS5)"] = fts5(data)
    tables["mini-qwen, mean of its hidden states"] = mean_pooled(shipped_dir("mini-qwen"), data)
    recalls = {}
    for name, scores in tables.items():
        places = ranks(scores, data.answers)
        recalls[name] = {f"recall@{k}": asdict(recall(places, k)) for k in RANKS}
    return {
        "questions": len(data.questions),
        "passages": len(data.passages),
        "seed": seed,
        "date": date.today().isoformat(),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "recalls": recalls,
        # the form of the other miniatures' scores
        "tasks": {"recall_5": recalls[f"mini-embed, {embed.DIMENSIONS[0]} numbers"]["recall@5"]},
    }


def write(folder: Path, results: dict) -> None:
    """Write the scores and the card into a folder; the run's record moves into the scores."""
    record, stored = folder / "train.json", folder / "scores.json"
    before = json.loads(stored.read_text(encoding="utf-8"))["run"] if stored.exists() else {}
    results["run"] = before
    if record.exists():
        results["run"] = json.loads(record.read_text(encoding="utf-8"))
        if results["run"]["recipe"]["start"] == "mini-embed":
            results["run"]["first_run"] = before
    text = json.dumps(results, indent=1, ensure_ascii=False)
    stored.write_text(text + "\n", encoding="utf-8")
    card = embed_card.render("mini-embed", results)
    (folder / "README.md").write_text(card, encoding="utf-8")
    record.unlink(missing_ok=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write scores.json and the card")
    options = parser.parse_args()
    results = measure(options.folder, options.seed)
    if options.write:
        write(options.folder, results)
    for name, rows in results["recalls"].items():
        cells = (f"{k} {row['correct'] / row['n']:.1%} ({row['low']:.1%} – {row['high']:.1%})"
                 for k, row in rows.items())  # fmt: skip
        print(f"{name}: {', '.join(cells)}")


if __name__ == "__main__":
    main()
