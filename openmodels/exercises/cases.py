"""Judge a function on a list of cases, and name the known mistake that it makes.

The cases are in order: each adds one clause of the contract to those before it. At the first case
that fails, a known wrong answer with the same results so far names the mistake.
"""

import copy
import inspect
import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from openmodels.check import NotYet, WrongAnswer


@dataclass(frozen=True)
class Case:
    """Arguments of one call. what: for the message; hint: what the case is about, one sentence."""

    what: str
    arguments: tuple
    hint: str = ""


def result_of(function: Callable, arguments: tuple) -> tuple[str, Any]:
    """Return ("value", result) or ("error", name of the exception's class) of a call on copies."""
    try:
        return "value", function(*copy.deepcopy(arguments))
    except Exception as error:  # wrong answers raise anything
        return "error", type(error).__name__


def equal(first: Any, second: Any) -> bool:
    """Return whether two results are equal; numbers may differ by a millionth of their size."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    try:
        return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-9)
    except TypeError:
        return type(first) is type(second) and first == second


def name_mistake(
    function: Callable, cases: Sequence[Case], failed: int, mistakes: Iterable[WrongAnswer]
) -> str:
    """Return the message of a mistake with the same results up to the failed case, or "".

    A mistake that agrees on every case is preferred to one that agrees on the first cases only.
    """
    results = [result_of(function, case.arguments) for case in cases]
    best, message = failed, ""
    for mistake in mistakes:
        same = 0
        for case, result in zip(cases, results, strict=True):
            if not equal(result_of(mistake.answer, case.arguments), result):
                break
            same += 1
        if same > best:
            best, message = same, mistake.message
    return message


def call_case(
    function: Callable, number: int, cases: Sequence[Case], mistakes: Iterable[WrongAnswer]
) -> Any:
    """Return what a function returns for a case.

    Raises NotYet if it raises an error that a known mistake raises too; else the function's error.
    """
    case = cases[number]
    state, result = result_of(function, case.arguments)
    if state == "value":
        return result
    if result != "NotImplementedError":
        message = name_mistake(function, cases, number, mistakes)
        if message:
            raise NotYet(f"{case.what}: your function raises {result}. {message}")
    return function(*copy.deepcopy(case.arguments))  # raises again, from the learner's own line


def expect_unchanged(function: Callable, arguments: tuple, names: str) -> None:
    """Raise NotYet if a call changes its arguments. names: of the arguments, for the message."""
    passed = copy.deepcopy(arguments)
    function(*passed)
    if passed != arguments:
        raise NotYet(f"your function changes {names}: the caller still needs them. Work on a copy.")


def expect_error(
    function: Callable, arguments: tuple, error: type[Exception], what: str, hint: str
) -> None:
    """Raise NotYet unless a call raises an error of this class."""
    state, result = result_of(function, arguments)
    if state == "error" and result == error.__name__:
        return
    result = f"raises {result}" if state == "error" else f"returns {result!r}"
    raise NotYet(f"for {what} your function {result}, expected {error.__name__}. {hint}")


def line_of(error: Exception, function: Callable) -> str:
    """Return where in the function's cell an error was raised, "" if its source is not known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if code and frame.filename == code.co_filename and frame.line
    ]
    return f" in line {frames[-1].lineno}, `{frames[-1].line}`" if frames else ""


def raise_again(run: Callable, function: Callable, name: str, case: Case, why: str) -> None:
    """Call `run` with a case's arguments, and raise NotYet for the error that it raises.

    The message has the line of the learner's function, and `why` or else the case's hint. An
    unwritten function's error, and one that `check` explains better, are raised as they are.
    """
    try:
        run(*case.arguments)
    except NotImplementedError:
        raise
    except Exception as error:
        if why in ("", case.hint) and isinstance(error, (AttributeError, NameError, TypeError)):
            raise
        place = line_of(error, function)
        raise NotYet(
            f"{case.what}: `{name}` raises {type(error).__name__} ({error}){place}. "
            f"{why or case.hint}".strip()
        ) from error
