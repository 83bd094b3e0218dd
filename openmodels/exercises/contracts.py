"""Judge a function by its contract: a reference solution, cases in order, and known mistakes.

A case whose reference raises an error expects that error. Every case also checks that the function
leaves its arguments unchanged.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openmodels.check import NotYet, WrongAnswer
from openmodels.exercises.cases import Case, call_case, equal, name_mistake, result_of

SHOWN = 160  # characters of a result in a message


@dataclass(frozen=True)
class Contract:
    """What a function must do. mistakes: known wrong answers, whose messages name them.

    problem: returns what is wrong with a result, given the expected result, or "". Without it, the
    two must be equal, numbers up to rounding.
    """

    reference: Callable
    cases: Sequence[Case]
    mistakes: Sequence[WrongAnswer] = ()
    problem: Callable[[Any, Any], str] | None = None

    def expect(self, function: Callable) -> None:
        """Raise NotYet at the first case that a function gets wrong."""
        for number in range(len(self.cases)):
            self._expect_case(function, number)

    def _expect_case(self, function: Callable, number: int) -> None:
        case = self.cases[number]
        state, expected = result_of(self.reference, case.arguments)
        if state == "error":
            problem = _error_problem(function, case, expected)
        else:
            result = call_case(function, number, self.cases, self.mistakes)
            problem = (self.problem or describe_difference)(result, expected)
        if problem:
            why = name_mistake(function, self.cases, number, self.mistakes) or case.hint
            raise NotYet(f"{case.what}: {problem}. {why}".strip())
        _expect_unchanged(function, case)


def _error_problem(function: Callable, case: Case, expected: str) -> str:
    """Return what is wrong with a call that must raise the error of this name, or ""."""
    state, result = _raised(function, case)
    if state == "error" and expected in result:
        return ""
    actual = f"raises {result[0]}" if state == "error" else f"returns {shorten(result)}"
    return f"your function {actual}, expected a {expected}"


def _raised(function: Callable, case: Case) -> tuple[str, Any]:
    """Return ("error", names of the error's classes) or ("value", result)."""
    try:
        return "value", function(*copy.deepcopy(case.arguments))
    except NotImplementedError:
        raise
    except Exception as error:  # wrong answers raise anything
        return "error", [kind.__name__ for kind in type(error).__mro__]


def _expect_unchanged(function: Callable, case: Case) -> None:
    """Raise NotYet if a call changes an argument."""
    passed = copy.deepcopy(case.arguments)
    try:
        function(*passed)
    except Exception:  # a case that expects an error
        return
    for before, after in zip(case.arguments, passed, strict=True):
        if not callable(before) and before != after:
            raise NotYet(
                f"{case.what}: your function changes its input to {shorten(after)}. The caller "
                "still needs it: work on a copy."
            )


def describe_difference(result: Any, expected: Any) -> str:
    """Return how a result differs from the expected result, or ""."""
    if equal(result, expected):
        return ""
    if result is None:
        return "your function returns None. Is a `return` missing"
    if isinstance(expected, dict) and isinstance(result, dict):
        return _dict_difference(result, expected)
    return f"your function returns {shorten(result)}, expected {shorten(expected)}"


def _dict_difference(result: dict, expected: dict) -> str:
    if missing := [key for key in expected if key not in result]:
        return f"the dict has no {' and no '.join(map(repr, missing))}"
    for key, value in expected.items():
        if not equal(result[key], value):
            return f"{key!r} is {shorten(result[key])}, expected {shorten(value)}"
    surplus = [key for key in result if key not in expected]
    return f"the dict has the surplus key {surplus[0]!r}"


def shorten(value: Any) -> str:
    """Return a value for a message, numbers with four digits, cut to `SHOWN` characters."""
    text = repr(_rounded(value))
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_rounded, value)) if type(value) in (list, tuple) else value
    return value
