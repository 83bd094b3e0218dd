"""An engine beside transformers: the same questions to both, the same rows of log-probabilities.

Prompts go to the engine as token ids from the model's own tokenizer: a GGUF does not carry all of
its rules, and two tokenizers would be compared instead of two sets of weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from openmodels.minis import evaluate

if TYPE_CHECKING:
    from openmodels.serving.engine import Engine

FORCED = 1000.0  # added to a logit: that token is written, whatever the others are


def answers(engine: Engine, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str],
            longest: int = evaluate.LONGEST) -> list[str]:  # fmt: skip
    """Greedy continuations up to the end of the turn, as many at a time as the engine has slots."""

    def ask(prompt: str) -> str:
        ids = tokenizer(prompt).input_ids
        return engine.complete(ids, n_predict=longest, temperature=0)["content"]

    with ThreadPoolExecutor(engine.slots) as pool:
        return list(pool.map(ask, prompts))


def marked(engine: Engine, tokenizer: PreTrainedTokenizerBase, drawn: Sequence,
           longest: int = evaluate.LONGEST) -> list[tuple[str, bool]]:  # fmt: skip
    """What the engine writes for each instance, and whether it is right: `evaluate.marked` here."""
    prompts = [evaluate.prompt(tokenizer, instance) for instance in drawn]
    written = answers(engine, tokenizer, prompts, longest)
    return [(text, evaluate.is_right(one, text)) for one, text in zip(drawn, written, strict=True)]


def engine_logprobs(engine: Engine, ids: Sequence[int], plain: int, vocab: int,
                places: Iterable[int] | None = None) -> np.ndarray:  # fmt: skip
    """Log-probabilities of the next token after each of `ids`, in nats: (places, vocab) float64.

    plain: a token that is complete text. llama.cpp holds the row of a token back that ends inside
    a character, so this one is forced, after the row was computed. places: after which of the ids,
    by default all. ValueError for a row that lacks tokens.
    """
    how = {"n_predict": 1, "n_probs": vocab, "temperature": 0, "logit_bias": [[plain, FORCED]]}
    rows = []
    for place in range(len(ids)) if places is None else places:
        row = np.full(vocab, -np.inf)
        answer = engine.complete(list(ids[: place + 1]), **how)
        for one in answer["completion_probabilities"][0]["top_logprobs"]:
            row[one["id"]] = one["logprob"]
        rows.append(row - np.logaddexp.reduce(row))  # llama.cpp's sum to 1 within a few millionths
    missing = int(np.isinf(rows).sum())
    if missing:
        raise ValueError(f"{missing} log-probabilities of {np.size(rows)} are missing")
    return np.array(rows)


@torch.no_grad()
def model_rows(model, ids: Sequence[int]) -> np.ndarray:
    """The same rows from a transformers model, computed in one pass."""
    logits = model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0]
    return logits.double().log_softmax(-1).cpu().numpy()


def kl_divergence(right: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How much worse `other` guesses than `right`, in nats per token: (rows,), at least 0.

    Kullback-Leibler divergence of two (rows, vocab) arrays of log-probabilities.
    """
    return (np.exp(right) * (right - other)).sum(-1)
