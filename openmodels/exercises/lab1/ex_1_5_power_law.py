"""Exercise 1.5: fit a power law, y = scale · x ** -exponent + offset, to measured points."""

import copy
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from openmodels import minis
from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.known_mistakes import agree, diagnose, expect_pair

SETTLED = 2.9e6  # tokens: before this many mini-qwen's loss still rises and falls
HELD_OUT = 4  # points that the law must predict

Law = tuple[float, float]  # scale and exponent


def curve(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a miniature's training log: tokens in millions, and the smoothed loss.

    The first points, before the loss has settled, are left out.
    """
    rows = (minis.shipped_dir(name) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    points = [(row["tokens"] / 1e6, row["loss"]) for row in map(json.loads, rows)]
    tokens, losses = np.array([point for point in points if point[0] * 1e6 > SETTLED]).T
    return tokens, losses


# --- The reference solution and known mistakes ----------------------------------------------------


def fit_line(u: Any, v: Any) -> tuple[float, float]:
    """Return start and slope of the straight line v over u."""
    slope, start = np.polyfit(np.asarray(u, dtype=float), np.asarray(v, dtype=float), 1)
    return float(start), float(slope)


def reference_fit(x: Any, y: Any, offset: float = 0.0) -> Law:
    """Return scale and exponent, by a straight line through the logarithms."""
    start, slope = fit_line(np.log(x), np.log(np.asarray(y, dtype=float) - offset))
    return float(np.exp(start)), -slope


def fit_without_logarithms(x: Any, y: Any, offset: float = 0.0) -> Law:
    start, slope = fit_line(x, np.asarray(y, dtype=float) - offset)
    return start, -slope


def fit_logarithm_of_y(x: Any, y: Any, offset: float = 0.0) -> Law:
    start, slope = fit_line(x, np.log(np.asarray(y, dtype=float) - offset))
    return float(np.exp(start)), -slope


def fit_logarithm_of_x(x: Any, y: Any, offset: float = 0.0) -> Law:
    start, slope = fit_line(np.log(x), np.asarray(y, dtype=float) - offset)
    return start, -slope


def fit_with_sign_of_slope(x: Any, y: Any, offset: float = 0.0) -> Law:
    scale, exponent = reference_fit(x, y, offset)
    return scale, -exponent


def fit_logarithm_of_scale(x: Any, y: Any, offset: float = 0.0) -> Law:
    scale, exponent = reference_fit(x, y, offset)
    return float(np.log(scale)), exponent


def fit_without_offset(x: Any, y: Any, offset: float = 0.0) -> Law:
    return reference_fit(x, y)


def fit_with_added_offset(x: Any, y: Any, offset: float = 0.0) -> Law:
    return reference_fit(x, y, -offset)


def fit_in_other_order(x: Any, y: Any, offset: float = 0.0) -> Law:
    return reference_fit(x, y, offset)[::-1]


def fit_with_mixed_logarithms(x: Any, y: Any, offset: float = 0.0) -> Law:
    start, slope = fit_line(np.log10(x), np.log10(np.asarray(y, dtype=float) - offset))
    return float(np.exp(start)), -slope


MISTAKES = [
    WrongAnswer(
        "no logarithms", fit_without_logarithms,
        "That is a straight line through the points themselves; take the logarithm of both.",
    ),
    WrongAnswer(
        "logarithm of the loss only", fit_logarithm_of_y,
        "That is an exponential: take the logarithm of x too.",
    ),
    WrongAnswer(
        "logarithm of x only", fit_logarithm_of_x,
        "Take the logarithm of y - offset too.",
    ),
    WrongAnswer(
        "exponent with the slope's sign", fit_with_sign_of_slope,
        "The slope is minus the exponent: the law has the minus already.",
    ),
    WrongAnswer(
        "logarithm of the scale", fit_logarithm_of_scale,
        "The line starts at the logarithm of the scale: undo it.",
    ),
    WrongAnswer(
        "offset ignored", fit_without_offset,
        "Subtract the offset from y before you take logarithms.",
    ),
    WrongAnswer(
        "offset added", fit_with_added_offset,
        "The offset is what remains for ever: subtract it, do not add it.",
    ),
    WrongAnswer(
        "the other order", fit_in_other_order,
        "The scale comes first, then the exponent.",
    ),
    WrongAnswer(
        "decimal and natural mixed", fit_with_mixed_logarithms,
        "The logarithms are decimal: undo them with 10 ** start, not with exp.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


@cache
def _laws() -> dict[str, tuple]:
    """Return arguments of `fit_power_law` by description."""
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    return {
        "the example": ([1, 2, 4], [8, 4, 2]),
        "6 / x ** 0.5 + 1, offset 1": (x, 6 * x**-0.5 + 1, 1.0),
        "0.2 / x ** 1.5 + 3, offset 3": (x, 0.2 * x**-1.5 + 3, 3.0),
    }


@exercise("1.5", wrong=MISTAKES)
def check_fit_power_law(fit_power_law: Callable[..., Law]) -> str:
    """Judge `fit_power_law(x, y, offset=0.0)` on exact laws and on a training log."""
    tokens, losses = curve("mini-qwen")
    log = {"mini-qwen's log": (tokens[:-HELD_OUT], losses[:-HELD_OUT])}
    for what, call in (_laws() | log).items():
        law = expect_pair(
            fit_power_law(*copy.deepcopy(call)), "what you returned", "scale and exponent"
        )
        names = ("scale", "exponent")
        for name, number, expected in zip(names, law, reference_fit(*call), strict=True):
            if not agree(number, expected, rtol=1e-2):
                why = diagnose(fit_power_law, list(_laws().values()), MISTAKES)
                text = f"{number:.4g}" if isinstance(number, (int, float)) else repr(number)
                raise NotYet(f"{what}: {name} {text}, expected {expected:.4g}. {why}".strip())
    scale, exponent = law
    predicted = scale * tokens[-1] ** -exponent
    return (
        f"from {len(tokens) - HELD_OUT} points up to {tokens[-HELD_OUT - 1]:.1f} million tokens of "
        f"mini-qwen's log the law says {predicted:.3f} at {tokens[-1]:.1f} million; measured: "
        f"{losses[-1]:.3f}."
    )
