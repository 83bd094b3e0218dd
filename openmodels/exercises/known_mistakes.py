"""Compare an answer with known wrong answers, and expect what most checkers expect.

A checker that meets a wrong result looks for the known mistake that gives the same result, and
adds that mistake's message to its own.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from openmodels.check import NotYet, WrongAnswer, expect_type


def pair_answers(
    mistakes: Iterable[WrongAnswer],
    *,
    first: Callable | None = None,
    second: Callable | None = None,
) -> list[WrongAnswer]:
    """Return mistakes in one of two functions as answers of both: the other function is right.

    first, second: the correct function for the place that the mistakes leave open.
    """
    return [
        replace(
            mistake, answer=(first, mistake.answer) if second is None else (mistake.answer, second)
        )
        for mistake in mistakes
    ]


def agree(result: Any, expected: Any, rtol: float = 1e-3) -> bool:
    """Return whether two nested results have the same shape and close numbers.

    Lists, arrays and tensors may be mixed. Results that are not numbers never agree.
    """
    try:
        first, second = (np.asarray(as_lists(value), dtype=float) for value in (result, expected))
    except (TypeError, ValueError):
        return False
    return first.shape == second.shape and np.allclose(first, second, rtol=rtol, atol=1e-6)


def as_lists(value: Any) -> Any:
    """Return tensors and arrays as lists, also within lists and tuples."""
    if hasattr(value, "tolist"):
        value = value.detach() if hasattr(value, "detach") else value
        return value.tolist()
    return [as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def diagnose(
    answer: Callable, probes: Sequence[tuple], mistakes: Iterable[WrongAnswer], rtol: float = 1e-3
) -> str:
    """Return the message of the mistake that agrees with the answer on every probe, or "".

    probes: arguments of one call each; the answer gets copies of them.
    """
    try:
        results = [answer(*copy.deepcopy(probe)) for probe in probes]
    except Exception:  # a wrong answer may raise anything; then no mistake is recognised
        return ""
    for mistake in mistakes:
        if all(
            agree(result, mistake.answer(*probe), rtol)
            for result, probe in zip(results, probes, strict=True)
        ):
            return mistake.message
    return ""


def expect_number(value: Any, what: str) -> int | float:
    """Return a result that must be a number, also if it is an array or a tensor of one element.

    A Fraction is returned as a float. Raises NotYet for anything else.
    """
    if isinstance(value, Fraction):
        return float(value)
    if getattr(value, "size", None) == 1 or (hasattr(value, "numel") and value.numel() == 1):
        value = value.item()
    expect_type(value, (int, float), what)
    return value


def expect_pair(value: Any, what: str, names: str) -> tuple[Any, Any]:
    """Return both parts of a result that must have two; an array or a tensor of two rows will do.

    names: what the two parts are, for the message. Raises NotYet for anything else.
    """
    if not getattr(value, "shape", ()):
        expect_type(value, (tuple, list), what, f"It returns two things: {names}.")
    if len(value) != 2:
        raise NotYet(f"{what} holds {len(value)} things, expected two: {names}.")
    return value[0], value[1]
