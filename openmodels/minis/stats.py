"""Statistics for scores: a loss, a power law, a paired test and the number of questions needed.

Intervals are in `openmodels.minis.evaluate.score`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, comb, exp, log, sqrt
from statistics import NormalDist, linear_regression

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from openmodels.harbour import Instance
from openmodels.minis import data
from openmodels.minis.evaluate import score


@dataclass(frozen=True)
class AnswerLoss:
    """A model's loss on right answers, and which of them greedy decoding would generate."""

    loss: float  # nats per token of the answers
    tokens: int
    right: tuple[bool, ...]  # per instance, in order: every token was the most likely

    @property
    def correct(self) -> int:
        """Return how many answers are right."""
        return sum(self.right)


@torch.no_grad()
def answer_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    instances: Sequence[Instance],
    batch: int = 25,
) -> AnswerLoss:
    """Return loss and correctness of conversations in one pass, without generating.

    An answer is right if each of its tokens is the most likely one after the right prefix, which is
    what greedy decoding would generate.
    """
    documents = [data.encode(tokenizer, instance, context_weight=0.0) for instance in instances]
    order = sorted(range(len(documents)), key=lambda n: len(documents[n].ids))
    nats, tokens, correct = 0.0, 0, [False] * len(documents)
    for start in range(0, len(order), batch):
        indices = order[start : start + batch]
        ids = [torch.tensor(documents[n].ids) for n in indices]
        ids = pad_sequence(ids, True, tokenizer.pad_token_id).to(model.device)  # (batch, seq)
        targets = [torch.tensor(documents[n].weights) > 0 for n in indices]
        targets = pad_sequence(targets, True, False).to(model.device)[:, 1:]  # (batch, seq - 1)
        # padded on the right, so a causal model needs no mask
        logits = model(input_ids=ids).logits[:, :-1].float()
        matches = (logits.argmax(-1) == ids[:, 1:]) | ~targets
        losses = torch.nn.functional.cross_entropy(
            logits[targets], ids[:, 1:][targets], reduction="sum"
        )
        nats, tokens = nats + losses.item(), tokens + int(targets.sum())
        for index, is_right in zip(indices, matches.all(1).tolist(), strict=True):
            correct[index] = is_right
    return AnswerLoss(nats / tokens, tokens, tuple(correct))


@dataclass(frozen=True)
class Paired:
    """Two models on the same questions: those that only one got right, and the p-value."""

    only_first: int
    only_second: int
    p_value: float  # of a split at least as uneven, were the two equally good


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Return the exact sign test on the questions with different outcomes (McNemar 1947).

    Raises ValueError if the two have different numbers of questions.
    """
    outcomes = list(zip(first, second, strict=True))
    a = sum(x and not y for x, y in outcomes)
    b = sum(y and not x for x, y in outcomes)
    n = a + b
    tail = sum(comb(n, k) for k in range(min(a, b) + 1)) / 2**n
    return Paired(a, b, min(1.0, 2 * tail))


def paired_interval(new: Sequence[bool], old: Sequence[bool]) -> tuple[float, float, float]:
    """Return how much higher a share is on the same questions, with its 95 % interval.

    Each of the three is from -1 to 1 (Newcombe 1998, Statistics in Medicine 17:2635, method 10).
    Raises ValueError without questions, and if the two have different numbers of them.
    """
    outcomes = list(zip(new, old, strict=True))
    if not outcomes:
        raise ValueError("no questions, so no interval")
    n = len(outcomes)
    both = sum(x and y for x, y in outcomes)
    only_new = sum(x and not y for x, y in outcomes)
    only_old = sum(y and not x for x, y in outcomes)
    neither = n - both - only_new - only_old
    spread = sqrt(
        (both + only_new) * (both + only_old) * (neither + only_new) * (neither + only_old)
    )
    product = both * neither - only_new * only_old
    if product > 0:
        product = max(product - n / 2, 0)  # continuity correction
    phi = product / spread if spread else 0.0
    p, q = score(both + only_new, n), score(both + only_old, n)
    share, old_share = p.correct / n, q.correct / n
    down = _paired_width(share - p.low, q.high - old_share, phi)
    up = _paired_width(p.high - share, old_share - q.low, phi)
    return share - old_share, share - old_share - down, share - old_share + up


def verdict(
    interval: tuple[float, float, float], higher: str = "better", lower: str = "worse"
) -> str:
    """Return what a paired interval shows: `higher`, `lower`, or "not clear" if it contains 0."""
    _, low, high = interval
    return higher if low > 0 else lower if high < 0 else "not clear"


def _paired_width(first: float, second: float, phi: float) -> float:
    return sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))


def questions_needed(p: float, q: float, power: float = 0.8) -> int:
    """Return the questions per model needed to detect a difference of two shares at 5 %.

    p, q: the true shares, from 0 to 1. power: the probability of detecting it. The usual formula
    for two independent samples (Fleiss, Statistical Methods for Rates and Proportions, ch. 4,
    without continuity correction).
    """
    z = NormalDist().inv_cdf
    variance = p * (1 - p) + q * (1 - q)
    return ceil((z(0.975) + z(power)) ** 2 * variance / (p - q) ** 2)


def power_law(sizes: Sequence[float], errors: Sequence[float]) -> Callable[[float], float]:
    """Return the fitted function error = a · size^b: least squares on logarithms."""
    slope, start = linear_regression([log(size) for size in sizes], [log(e) for e in errors])
    return lambda size: exp(start + slope * log(size))
