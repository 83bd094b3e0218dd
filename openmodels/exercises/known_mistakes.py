"""Known mistakes of the exercises: what each lacks in words, and which of them an answer makes."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from openmodels.check import NotYet, Wrong, expect_type


class Mistake(NamedTuple):
    """A wrong answer and what it lacks, in words for the learner."""

    name: str
    make: Any
    why: str


def wrongs(mistakes: Sequence[Mistake]) -> list[Wrong]:
    """Each mistake must be met with its own words."""
    return [Wrong(one.name, one.make, re.escape(one.why)) for one in mistakes]


def agree(seen: Any, expected: Any, rtol: float = 1e-3) -> bool:
    """Whether two nested results agree, whatever they are made of; False where they can't be."""
    try:
        one, other = (np.asarray(plain(value), dtype=float) for value in (seen, expected))
    except (TypeError, ValueError):
        return False
    return one.shape == other.shape and np.allclose(one, other, rtol=rtol, atol=1e-6)


def plain(value: Any) -> Any:
    """Tensors and arrays as lists, also within lists and tuples."""
    if hasattr(value, "tolist"):
        value = value.detach() if hasattr(value, "detach") else value
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def explain(answer: Callable, probes: Sequence[tuple], mistakes: Sequence[Mistake], **how) -> str:
    """The words for the mistake that gives what the answer gives on every probe, "" for none."""
    try:
        seen = [answer(*copy.deepcopy(probe)) for probe in probes]
    except Exception:  # a wrong answer may raise anything; then there is nothing to add
        return ""
    for mistake in mistakes:
        if all(
            agree(one, mistake.make(*probe), **how) for one, probe in zip(seen, probes, strict=True)
        ):
            return mistake.why
    return ""


def a_number(value: Any, what: str) -> int | float:
    """A result that must be one number, also out of an array or a tensor."""
    if getattr(value, "size", None) == 1 or (hasattr(value, "numel") and value.numel() == 1):
        value = value.item()
    expect_type(value, (int, float), what)
    return value


def a_pair(value: Any, what: str, names: str) -> tuple[Any, Any]:
    """A result that must hold two things; an array or a tensor of two rows will do."""
    if not getattr(value, "shape", ()):
        expect_type(value, (tuple, list), what, f"It returns two things: {names}.")
    if len(value) != 2:
        raise NotYet(f"{what} holds {len(value)} things, expected two: {names}.")
    return value[0], value[1]
