"""What the checkers of exercises 3.1 to 3.4 share: promised errors, inputs, libraries."""

import copy
import dis
import inspect
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from openmodels.check import NotYet, WrongAnswer
from openmodels.exercises.cases import line_of
from openmodels.exercises.known_mistakes import as_lists, diagnose

# A function of these packages that solves the exercise is what the answer is compared with.
LIBRARIES = ("transformers", "openmodels", "librosa", "torchaudio", "whisper")
GLOBAL_NAMES = ("LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME")


def expect_no_library(answer: Callable) -> None:
    """Raise NotYet if an answer is or uses a function of a library.

    Functions and classes that the answer's own notebook or package defines are followed.
    """
    functions, known = [inspect.unwrap(answer)], set()
    if not (getattr(functions[0], "__module__", None) or "").startswith(__package__):
        _expect_no_origin(name_of(answer).strip("`"), functions[0])
    while functions:
        function = functions.pop()
        if not isinstance(function, FunctionType) or function in known:
            continue
        known.add(function)
        for name in _global_names(function.__code__):
            value = function.__globals__.get(name)
            if not _are_neighbours(function, value):
                _expect_no_origin(name, value)
            elif isinstance(value, FunctionType):
                functions.append(value)


def _are_neighbours(function: FunctionType, value: Any) -> bool:
    """Return whether a value is defined in the function's notebook, module or package."""
    places = [getattr(part, "__module__", None) or "" for part in (function, value)]
    packages = [place.rpartition(".")[0] for place in places]
    return places[0] == places[1] or (packages[0] == packages[1] != "")


def _expect_no_origin(name: str, value: Any) -> None:
    """Raise NotYet if a value, or what a name imports, comes from a library."""
    if library := next((known for known in LIBRARIES if known in _origins(name, value)), ""):
        raise NotYet(
            f"your function uses `{name}` of {library}. Write the rule yourself, with Python, "
            "numpy and torch only."
        )


def _global_names(code: CodeType) -> Iterator[str]:
    """Yield the global names and imports that code uses, also in its inner functions."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in GLOBAL_NAMES:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _origins(name: str, value: Any) -> set[str]:
    """Return the top packages that a name and its value come from."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    names = (name, module or "", type(value).__module__)
    return {text.split(".")[0] for text in names if isinstance(text, str)}


def name_of(function: Callable) -> str:
    """Return a function's name for a message."""
    name = getattr(function, "__name__", "<lambda>")
    return "your function" if name == "<lambda>" else f"`{name}`"


def expect_result(function: Callable, call: tuple, what: str, hint: str = "") -> Any:
    """Return what a function returns for valid arguments.

    Raises NotYet if it raises an error, naming the line, or if it changes an argument.
    """
    arguments = copy.deepcopy(call)
    try:
        result = function(*arguments)
    except NotImplementedError:
        raise
    except Exception as error:
        text = f"for {what} {name_of(function)} raised {type(error).__name__} ({error})"
        place = line_of(error, function)
        hint = "" if isinstance(error, (AttributeError, NameError, TypeError)) else hint
        raise NotYet(f"{text}{place}, but the input is valid. {hint}".strip()) from error
    for before, after in zip(call, arguments, strict=True):
        if np.shape(before) != np.shape(after) or as_lists(before) != as_lists(after):
            raise NotYet(
                f"for {what} {name_of(function)} changed its input. Work on a copy, or on the "
                "result of an operation that does not change the original."
            )
    return result


def as_array(result: Any, what: str) -> Any:
    """Return a list or tuple as an array; anything else as it is. what: for the message.

    Raises NotYet if the list is no array, because its rows have different lengths.
    """
    if not isinstance(result, (list, tuple)):
        return result
    if any(hasattr(item, "detach") for item in result):  # tensors
        result = as_lists(result)
    try:
        return np.asarray(result)
    except ValueError as error:
        raise NotYet(f"{what} has rows whose lengths are not the same.") from error


def explain(
    answer: Callable, probes: Sequence[tuple], wrong: int, mistakes: Sequence[WrongAnswer],
    rtol: float = 1e-3,
) -> str:  # fmt: skip
    """Return the message of a known mistake that the answer makes, or "".

    wrong: the first probe with a wrong result. If no mistake agrees with the answer on every
    probe, the answer may have several; then the only one that agrees up to this probe is named.
    """
    if message := diagnose(answer, probes, mistakes, rtol):
        return message
    begin = probes[: wrong + 1]
    messages = {diagnose(answer, begin, [mistake], rtol) for mistake in mistakes} - {""}
    return messages.pop() if len(messages) == 1 else ""


def expect_value_error(function: Callable, call: tuple, what: str, hint: str = "") -> None:
    """Raise NotYet unless a function raises ValueError for these arguments."""
    try:
        result = function(*copy.deepcopy(call))
    except ValueError:
        return
    except NotImplementedError:
        raise
    except Exception as error:
        text = f"for {what} {name_of(function)} raised {type(error).__name__} ({error}), "
        raise NotYet(f"{text}expected a ValueError. {hint}".strip()) from error
    shape = getattr(result, "shape", None)
    shown = f"an array of shape {tuple(shape)}" if shape else repr(result)[:60]
    raise NotYet(
        f"for {what} {name_of(function)} returned {shown}, expected a ValueError. {hint}".strip()
    )
