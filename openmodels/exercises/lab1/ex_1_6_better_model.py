"""Exercise 1.6: decide which of two models is better, from their answers to the same questions."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from openmodels import minis
from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.known_mistakes import diagnose, expect_number, expect_pair, pair_answers

VERDICTS = ("first", "second", "cannot tell")

Bounds = tuple[float, float]
Correct = Sequence[bool]  # for each question, whether a model's answer is right


# --- The reference solution -----------------------------------------------------------------------


def reference_interval(correct: float, n: float, z: float = 1.959964) -> Bounds:
    """Return Wilson's interval of a share (Wilson 1927), 95 % for this z."""
    share = correct / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def disagreements(first: Correct, second: Correct) -> tuple[int, int]:
    """Return on how many questions only the first model is right, and only the second."""
    pairs = list(zip(first, second, strict=True))
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def verdict(low: float, high: float) -> str:
    """Return who wins if the first model's share of the wins is between low and high."""
    return "first" if low > 0.5 else "second" if high < 0.5 else "cannot tell"


def reference_better(first: Correct, second: Correct) -> str:
    """Return which model wins more of the questions on which the two differ."""
    wins, losses = disagreements(first, second)
    return verdict(*reference_interval(wins, wins + losses)) if wins + losses else "cannot tell"


# --- Known mistakes -------------------------------------------------------------------------------


def normal_interval(correct: float, n: float) -> Bounds:
    share = correct / n
    half = 1.959964 * math.sqrt(share * (1 - share) / n)
    return share - half, share + half


def interval_without_n(correct: float, n: float) -> Bounds:
    share = correct / n
    half = 1.959964 * math.sqrt(share * (1 - share))
    return share - half, share + half


def interval_half_undivided(correct: float, n: float) -> Bounds:
    low, high = reference_interval(correct, n)
    middle, half = (low + high) / 2, (high - low) / 2 * (1 + 1.959964**2 / n)
    return middle - half, middle + half


def interval_of_90_percent(correct: float, n: float) -> Bounds:
    return reference_interval(correct, n, z=1.644854)


def interval_in_percent(correct: float, n: float) -> Bounds:
    low, high = reference_interval(correct, n)
    return 100 * low, 100 * high


def better_by_share(first: Correct, second: Correct) -> str:
    difference = sum(first) - sum(second)
    return "first" if difference > 0 else "second" if difference < 0 else "cannot tell"


def better_by_two_intervals(first: Correct, second: Correct) -> str:
    low, high = reference_interval(sum(first), len(first))
    other_low, other_high = reference_interval(sum(second), len(second))
    return "first" if low > other_high else "second" if other_low > high else "cannot tell"


def better_by_wins_of_all(first: Correct, second: Correct) -> str:
    wins, _ = disagreements(first, second)
    return verdict(*reference_interval(wins, len(first)))


def better_swapped(first: Correct, second: Correct) -> str:
    return reference_better(second, first)


def better_dividing_by_zero(first: Correct, second: Correct) -> str:
    wins, losses = disagreements(first, second)
    return verdict(*reference_interval(wins, wins + losses))


INTERVAL_MISTAKES = [
    WrongAnswer(
        "normal interval", normal_interval,
        "That is the normal interval. At 0 and at n it has no width, as if nothing were left to "
        "learn; Wilson's keeps one.",
    ),
    WrongAnswer(
        "no n", interval_without_n,
        "The interval must shrink with more questions: divide the variance by n.",
    ),
    WrongAnswer(
        "half not divided", interval_half_undivided,
        "Both the middle and the half width are divided by 1 + z² / n.",
    ),
    WrongAnswer(
        "90 %", interval_of_90_percent,
        "That is the 90 % interval: for 95 %, z is 1.96.",
    ),
    WrongAnswer("per cent", interval_in_percent, "Return shares, 0 to 1, no per cent."),
]  # fmt: skip
BETTER_MISTAKES = [
    WrongAnswer(
        "higher share", better_by_share,
        "Is a higher share enough? So few disagreements could fall this way by chance.",
    ),
    WrongAnswer(
        "two intervals", better_by_two_intervals,
        "Do you compare two intervals? That forgets that both answered the same questions.",
    ),
    WrongAnswer(
        "wins of all questions", better_by_wins_of_all,
        "Wins are a share of the questions on which the two differ, not of all.",
    ),
    WrongAnswer("swapped", better_swapped, "First and second are swapped."),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


def paired_answers(both: int, first: int, second: int, neither: int) -> tuple[list, list]:
    """Return both models' rows of right and wrong, from the counts of the four combinations."""
    pairs = [(True, True)] * both + [(True, False)] * first
    pairs += [(False, True)] * second + [(False, False)] * neither
    first_row, second_row = zip(*pairs, strict=True)
    return list(first_row), list(second_row)


SHARES = [(0, 20), (20, 20), (15, 20)]  # correct, n
COMPARISONS = {  # description: counts for `paired_answers`, and who is better by any paired test
    "on 100 questions the first is right 13 times alone, the second once": (
        (80, 13, 1, 6), "first",
    ),
    "on 500 questions the first is right 3 times alone, the second 22 times alone": (
        (470, 3, 22, 5), "second",
    ),
    "on 100 questions the first is right 6 times alone, the second 4 times alone": (
        (85, 6, 4, 5), "cannot tell",
    ),
    "both are right on the same 90 of 100 questions": ((90, 0, 0, 10), "cannot tell"),
}  # fmt: skip


@exercise(
    "1.6",
    wrong=[
        *pair_answers(INTERVAL_MISTAKES, second=reference_better),
        *pair_answers(BETTER_MISTAKES, first=reference_interval),
        WrongAnswer(
            "no disagreement",
            (reference_interval, better_dividing_by_zero),
            "never differ ... do not divide",
        ),
        WrongAnswer(
            "another word",
            (reference_interval, lambda *_: "A"),
            "expected 'first', 'second' or",
        ),
    ],
)
def check_better(interval: Callable[..., Bounds], better: Callable[..., str]) -> str:
    """Judge `interval(correct, n)` and `better(first, second)`."""
    rows = _card_rows()
    for correct, n, *expected in rows + [(*call, *reference_interval(*call)) for call in SHARES]:
        low, high = expect_pair(interval(correct, n), "what `interval` returned", "low and high")
        low, high = expect_number(low, "the lower bound"), expect_number(high, "the upper bound")
        if not np.allclose([low, high], expected, rtol=0, atol=2e-3):
            why = diagnose(interval, SHARES, INTERVAL_MISTAKES)
            raise NotYet(
                f"{correct} right of {n}: you say {low:.3f} to {high:.3f}, expected "
                f"{expected[0]:.3f} to {expected[1]:.3f}. {why}".strip()
            )
    for what, (counts, winner) in COMPARISONS.items():
        _expect_verdict(better, what, paired_answers(*counts), winner)
    return f"and your intervals are those of the model cards, in all {len(rows)} rows."


def _expect_verdict(better: Callable, what: str, rows: tuple[list, list], winner: str) -> None:
    """Raise NotYet unless `better` names the winner of one comparison."""
    try:
        result = better(*map(list, rows))
    except ZeroDivisionError as error:
        raise NotYet(
            f"{what}: they never differ, and your code stopped with {error}. Where there is "
            "nothing to compare, do not divide; you cannot tell."
        ) from error
    if result not in VERDICTS:
        raise NotYet(f"`better` returned {result!r}, expected 'first', 'second' or 'cannot tell'.")
    if result != winner:
        why = _explain_verdict(better)
        raise NotYet(f"{what}: you say {result!r}, expected {winner!r}. {why}".strip())


def _explain_verdict(better: Callable) -> str:
    """Return the message of the mistake that gives the same verdicts, "" for none."""
    calls = [paired_answers(*counts) for counts, _ in COMPARISONS.values()]
    results = [better(*call) for call in calls]
    for mistake in BETTER_MISTAKES:
        if results == [mistake.answer(*call) for call in calls]:
            return mistake.message
    return ""


@cache
def _card_rows() -> list[tuple[int, int, float, float]]:
    """Return correct, n and both bounds of every task in the cards of two miniatures."""
    tasks = [minis.scores(name).tasks.values() for name in ("mini-qwen", "mini-qwen-xs")]
    return [(row["correct"], row["n"], row["low"], row["high"]) for rows in tasks for row in rows]
