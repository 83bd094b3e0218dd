"""Decide which answers a person checks: a threshold of confidence, its risk and its cost.

Risk is the share of errors among accepted answers, coverage the share that is accepted without a
person (El-Yaniv and Wiener, JMLR 2010).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from openmodels.minis.evaluate import score
from openmodels.minis.stats import paired_interval, verdict


class Point(NamedTuple):
    """What a threshold does. accepted, errors: how many answers, and how many of them are wrong."""

    threshold: float
    accepted: int
    errors: int


def share(flags: Sequence[bool]) -> str:
    """Return how many flags are true, with the 95 % interval: "96 of 120 (72 to 86 %)".

    No flags give "0 of 0".
    """
    if not flags:
        return "0 of 0"
    result = score(sum(flags), len(flags))
    interval = f"{100 * result.low:.0f} to {100 * result.high:.0f} %"
    return f"{result.correct} of {result.n} ({interval})"


def difference(new: Sequence[bool], old: Sequence[bool]) -> str:
    """Return new minus old on the same cases, and what its 95 % interval decides.

    "+7 points (+3 to +12): higher". An interval that contains 0 decides nothing: "not clear".
    """
    values = paired_interval(new, old)
    points, low, high = (f"{round(100 * value):+d}" for value in values)
    return f"{points} points ({low} to {high}): {verdict(values, 'higher', 'lower')}"


def compare_shares(outcomes: Mapping[str, Sequence[bool]]) -> str:
    """Return a line for each method after the first: its difference to the first one.

    outcomes: flags of each method on the same cases.
    """
    (base, old), *methods = outcomes.items()
    return "\n".join(f"{name} - {base}: {difference(new, old)}" for name, new in methods)


def risk_curve(confidence: Sequence[float], right: Sequence[bool]) -> list[Point]:
    """Return a point per distinct confidence, from the strictest threshold to the loosest.

    An answer is accepted if its confidence is at least the threshold. Raises ValueError if the two
    differ in length.
    """
    pairs = sorted(zip(confidence, right, strict=True), reverse=True)
    points: list[Point] = []
    errors = 0
    for accepted, (threshold, is_right) in enumerate(pairs, 1):
        errors += not is_right
        point = Point(threshold, accepted, errors)
        if points and points[-1].threshold == threshold:
            points[-1] = point  # equal confidence is accepted together
        else:
            points.append(point)
    return points


def choose_threshold(confidence: Sequence[float], right: Sequence[bool], risk: float) -> float:
    """Return the lowest threshold whose accepted answers have at most this share of errors.

    risk: 0 to 1. Returns infinity if no threshold qualifies: then a person checks everything.
    Raises ValueError if confidence and right differ in length.
    """
    points = risk_curve(confidence, right)
    allowed = [p.threshold for p in points if p.errors <= risk * p.accepted]
    return min(allowed, default=float("inf"))


def cost(point: Point, total: int, review_cost: float, error_cost: float) -> float:
    """Return what `total` answers cost: a person checks the remaining ones, and errors are paid.

    A person is taken to correct every error. Costs are in one currency.
    """
    return (total - point.accepted) * review_cost + point.errors * error_cost
