"""What a score needs beside its number: a loss, a fit, a paired test and enough questions.

Intervals are in `openmodels.minis.evaluate.score`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, comb, exp, log
from statistics import NormalDist, linear_regression

import torch
from torch.nn.utils.rnn import pad_sequence

from openmodels.harbour import Instance
from openmodels.minis import data


@dataclass(frozen=True)
class Read:
    """A model's reading of right answers, each token guessed after the right beginning."""

    loss: float  # nats per token of the answers
    tokens: int
    right: tuple[bool, ...]  # per instance, in order: every token was the likeliest one

    @property
    def correct(self) -> int:
        return sum(self.right)


@torch.no_grad()
def answer_loss(model, tokenizer, instances: Sequence[Instance], batch: int = 25) -> Read:
    """Loss and right answers of conversations in one pass, without writing a token.

    An answer counts as right when each of its tokens is the likeliest one, which is what greedy
    decoding would write.
    """
    documents = [data.encode(tokenizer, one, context_weight=0.0) for one in instances]
    order = sorted(range(len(documents)), key=lambda n: len(documents[n].ids))
    nats, tokens, right = 0.0, 0, [False] * len(documents)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        ids = [torch.tensor(documents[n].ids) for n in places]
        ids = pad_sequence(ids, True, tokenizer.pad_token_id).to(model.device)  # (batch, seq)
        chosen = [torch.tensor(documents[n].weights) > 0 for n in places]
        chosen = pad_sequence(chosen, True, False).to(model.device)[:, 1:]  # (batch, seq - 1)
        # padded on the right, where a causal model needs no mask
        logits = model(input_ids=ids).logits[:, :-1].float()
        guessed = (logits.argmax(-1) == ids[:, 1:]) | ~chosen
        losses = torch.nn.functional.cross_entropy(
            logits[chosen], ids[:, 1:][chosen], reduction="sum"
        )
        nats, tokens = nats + losses.item(), tokens + int(chosen.sum())
        for place, hit in zip(places, guessed.all(1).tolist(), strict=True):
            right[place] = hit
    return Read(nats / tokens, tokens, tuple(right))


@dataclass(frozen=True)
class Paired:
    """Two models on the same questions: what only one of them got right, and what luck explains."""

    only_first: int
    only_second: int
    p_value: float  # of a split at least as uneven, were the two equally good


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """The exact sign test on the questions that two models answer differently (McNemar 1947).

    ValueError when the two were not asked the same number of questions.
    """
    a = sum(one and not other for one, other in zip(first, second, strict=True))
    b = sum(other and not one for one, other in zip(first, second, strict=True))
    n = a + b
    tail = sum(comb(n, k) for k in range(min(a, b) + 1)) / 2**n
    return Paired(a, b, min(1.0, 2 * tail))


def questions_needed(one: float, other: float, power: float = 0.8) -> int:
    """Questions per model that tell two shares apart at 5 %, in `power` of all such tests.

    one, other: the true shares, from 0 to 1. The usual formula for two independent samples
    (Fleiss, Statistical Methods for Rates and Proportions, ch. 4, without continuity correction).
    """
    z = NormalDist().inv_cdf
    variance = one * (1 - one) + other * (1 - other)
    return ceil((z(0.975) + z(power)) ** 2 * variance / (one - other) ** 2)


def power_law(sizes: Sequence[float], errors: Sequence[float]) -> Callable[[float], float]:
    """The line through logarithms, as a function: error = a · size^b, by least squares."""
    slope, start = linear_regression([log(size) for size in sizes], [log(e) for e in errors])
    return lambda size: exp(start + slope * log(size))
