"""Compare an engine with transformers: the same prompts, the same rows of log-probabilities.

Prompts are sent as token ids from the model's own tokenizer: a GGUF file does not contain all of
its rules, so with text the comparison would include two tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from openmodels.minis import evaluate

if TYPE_CHECKING:
    from openmodels.serving.engine import Engine

FORCED = 1000.0  # added to a logit: that token is always generated


def answers(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    longest: int = evaluate.LONGEST,
) -> list[str]:
    """Return greedy continuations up to the end of the turn, in parallel on the engine's slots."""

    def complete(prompt: str) -> str:
        prompt_ids = tokenizer(prompt).input_ids
        return engine.complete(prompt_ids, n_predict=longest, temperature=0)["content"]

    with ThreadPoolExecutor(engine.slots) as pool:
        return list(pool.map(complete, prompts))


def marked(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    instances: Sequence,
    longest: int = evaluate.LONGEST,
) -> list[tuple[str, bool]]:
    """Return the engine's answer to each instance and whether it is right, as `evaluate.marked`."""
    prompts = [evaluate.prompt(tokenizer, instance) for instance in instances]
    texts = answers(engine, tokenizer, prompts, longest)
    return [
        (text, evaluate.is_right(instance, text))
        for instance, text in zip(instances, texts, strict=True)
    ]


def engine_logprobs(
    engine: Engine, ids: Sequence[int], plain: int, vocab: int, places: Iterable[int] | None = None
) -> np.ndarray:
    """Return log-probabilities of the next token after each of `ids`, in nats.

    The result is (places, vocab) float64. plain: a token that is complete text. llama.cpp withholds
    the row of a token that ends inside a character, so this token is forced after the row was
    computed. places: the positions in `ids`, by default all. Raises ValueError if a row lacks
    tokens.
    """
    options = {"n_predict": 1, "n_probs": vocab, "temperature": 0, "logit_bias": [[plain, FORCED]]}
    rows = []
    for position in range(len(ids)) if places is None else places:
        row = np.full(vocab, -np.inf)
        response = engine.complete(list(ids[: position + 1]), **options)
        for candidate in response["completion_probabilities"][0]["top_logprobs"]:
            row[candidate["id"]] = candidate["logprob"]
        # llama.cpp's probabilities sum to 1 within a few millionths
        rows.append(row - np.logaddexp.reduce(row))
    missing = int(np.isinf(rows).sum())
    if missing:
        raise ValueError(f"{missing} log-probabilities of {np.size(rows)} are missing")
    return np.array(rows)


@torch.no_grad()
def model_rows(model: PreTrainedModel, ids: Sequence[int]) -> np.ndarray:
    """Return the same rows, (len(ids), vocab), from a transformers model in one pass."""
    logits = model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0]
    return logits.double().log_softmax(-1).cpu().numpy()


def kl_divergence(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Return the Kullback-Leibler divergence of `candidate` from `reference`: (rows,), in nats.

    reference, candidate: (rows, vocab) log-probabilities. The divergence is at least 0: how much
    worse the candidate predicts than the reference, per token.
    """
    return (np.exp(reference) * (reference - candidate)).sum(-1)
