"""Use a model as a judge, measure its biases, and correct what it reports.

Zheng et al. (arXiv 2306.05685) describe the biases by position and by length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import openai

from openmodels.harbour import desk
from openmodels.workflows import calls
from openmodels.workflows.evals import Interval

VERDICTS = {"yes": True, "no": False}
VERDICT_TOKENS = 4  # "yes" and the end of the turn
NEITHER = "neither"


def supports(client: openai.OpenAI, model: str, prompt: str) -> bool | None:
    """Return whether the judge says that a text supports an answer; None for no clear verdict.

    prompt: "Text: ...", "Question: ..." and "Answer: ..." on three lines.
    """
    reply = calls.ask(client, model, prompt, desk.JUDGE_SYSTEM, max_tokens=VERDICT_TOKENS)
    return VERDICTS.get(reply.strip(" .\n").lower())


def preferred(
    client: openai.OpenAI, model: str, text: str, question: str, first: str, second: str
) -> str:
    """Return which of two answers the judge calls right: "A" (first), "B" (second) or "neither"."""
    prompt = f"Text: {text}\nQuestion: {question}\nA: {first}\nB: {second}"
    reply = calls.ask(client, model, prompt, desk.PREFER_SYSTEM, max_tokens=VERDICT_TOKENS)
    letter = reply.strip(" .\n").upper()
    return letter if letter in ("A", "B") else NEITHER


def both_orders(
    client: openai.OpenAI, model: str, text: str, question: str, right: str, wrong: str
) -> tuple[str, str]:
    """Return the verdicts with the right answer as A, and with the right answer as B."""
    return (
        preferred(client, model, text, question, right, wrong),
        preferred(client, model, text, question, wrong, right),
    )


def consistency(verdicts: tuple[str, str]) -> str:
    """Return "right" or "wrong" for verdicts of `both_orders` that agree, else what they follow.

    That is "always A", "always B" or "neither".
    """
    names = {("A", "B"): "right", ("B", "A"): "wrong", ("A", "A"): "always A",
             ("B", "B"): "always B"}  # fmt: skip
    return names.get(verdicts, NEITHER)


def kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Return Cohen's kappa: agreement beyond chance, 1 if perfect, 0 as by chance (Cohen 1960).

    0 if both use a single label, which they agree on by necessity. Raises ValueError for lists of
    different lengths and for empty ones.
    """
    pairs = list(zip(first, second, strict=True))
    if not pairs:
        raise ValueError("agreement needs at least one pair of labels")
    observed = sum(a == b for a, b in pairs) / len(pairs)
    counts, other_counts = Counter(first), Counter(second)
    chance = sum(counts[label] * other_counts[label] for label in counts) / len(pairs) ** 2
    return 0.0 if chance == 1 else (observed - chance) / (1 - chance)


class JudgeRates(NamedTuple):
    """sensitivity: share of right answers that get "yes"; specificity: of wrong ones, "no"."""

    sensitivity: float
    specificity: float


def rates(verdicts: Sequence[bool], labels: Sequence[bool]) -> JudgeRates:
    """Return the judge's two rates on labelled answers.

    Raises ValueError if the answers are all right or all wrong.
    """
    pairs = list(zip(verdicts, labels, strict=True))
    right, wrong = ([bool(v) for v, label in pairs if label is kind] for kind in (True, False))
    if not right or not wrong:
        raise ValueError("the judge's rates need right and wrong answers")
    return JudgeRates(sum(right) / len(right), 1 - sum(wrong) / len(wrong))


def _corrected(share: np.ndarray, sensitivity: np.ndarray, specificity: np.ndarray) -> np.ndarray:
    """Return Rogan and Gladen's estimate, cut to 0 to 1; nan for a judge no better than chance."""
    skill = sensitivity + specificity - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = (share + specificity - 1) / skill
    return np.where(skill > 0, np.clip(estimate, 0, 1), np.nan)


def corrected_share(
    verdicts: Sequence[bool],
    labelled_verdicts: Sequence[bool],
    labels: Sequence[bool],
    trials: int = 4000,
    seed: int = 0,
) -> Interval:
    """Return the share of right answers behind a judge's verdicts, with a 95 % interval.

    verdicts: on answers without labels. labelled_verdicts, labels: on a sample with labels, which
    gives the judge's rates. The estimate is Rogan and Gladen's (Am. J. Epidemiol. 107, 1978); the
    interval draws all three shares from their posteriors, Beta(k + 0.5, n - k + 0.5). If a draw's
    judge is no better than chance, it counts as any share, so a poor judge gives a wide interval.

    Raises ValueError for no verdicts, and as `rates` does.
    """
    if not len(verdicts):
        raise ValueError("a share needs at least one verdict")
    judge = rates(labelled_verdicts, labels)
    right, rng = sum(map(bool, labels)), np.random.default_rng(seed)
    wrong = len(labels) - right

    def draws(share: float, n: int) -> np.ndarray:
        return rng.beta(share * n + 0.5, (1 - share) * n + 0.5, trials)

    share = sum(map(bool, verdicts)) / len(verdicts)
    drawn = _corrected(
        draws(share, len(verdicts)), draws(judge.sensitivity, right),
        draws(judge.specificity, wrong),
    )  # fmt: skip
    drawn = np.where(np.isnan(drawn), rng.random(trials), drawn)
    low, high = np.quantile(drawn, (0.025, 0.975))
    estimate = float(_corrected(*map(np.array, (share, *judge))))
    return Interval(
        float(np.median(drawn)) if np.isnan(estimate) else estimate, float(low), float(high)
    )
