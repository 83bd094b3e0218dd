"""Check an answer, say in words what is wrong with it, and remember how far the learner got.

Notebooks call `check`, `hint` and `progress`. The modules of `openmodels.exercises`, one per lab,
register the exercises with `@exercise`; they are imported when the first of their checks runs.
"""

from __future__ import annotations

import functools
import html
import importlib
import inspect
import json
import os
import pkgutil
import re
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from filelock import FileLock

from openmodels import tables

MIME = "application/vnd.openmodels.check+json"  # what tools/grade.py reads
NOT_ATTEMPTED, NOT_YET, CORRECT = "not attempted", "not yet", "correct"

_PACKAGE = Path(__file__).resolve().parent


# --- Exercises ------------------------------------------------------------------------------------


class NotYet(Exception):
    """Raised by a checker: the answer is not right, and the message says why."""


@dataclass(frozen=True)
class Wrong:
    """A known wrong answer and what the checker must say about it.

    make: what the learner would pass to `check`: the wrong function itself, or the wrong value;
    a tuple of them where the exercise takes several. message_part: a regular expression that the
    message must contain.
    """

    name: str
    make: Any
    message_part: str


@dataclass(frozen=True)
class Exercise:
    """One exercise; made by `@exercise`."""

    number: str
    title: str
    hints: tuple[str, ...]
    wrong: tuple[Wrong, ...]
    value: bool
    solution_cell: str
    checker: Callable[..., str] = field(repr=False)

    @property
    def takes(self) -> list[str]:
        """The names of the checker's parameters: what the learner passes to `check`."""
        return list(inspect.signature(self.checker).parameters)

    def judge(self, *answers: Any) -> Outcome:
        """Judge answers without touching the learner's progress; errors as for `check`."""
        problem = self._misuse(answers)
        if problem:
            return Outcome(self.number, *problem)
        watched = [_watch(a) if isinstance(a, FunctionType) else a for a in answers]
        try:
            praise = self.checker(*watched)
        except NotYet as error:
            return Outcome(self.number, NOT_YET, str(error))
        except (Exception, SystemExit) as error:  # a learner's code raises anything
            return Outcome(self.number, *_explain(error, watched))
        if not isinstance(praise, str):
            raise TypeError(f"the checker of {self.number} must return a sentence, not {praise!r}")
        return Outcome(self.number, CORRECT, praise)

    def _misuse(self, answers: tuple) -> tuple[str, str] | None:
        """State and message when `check` was handed something it cannot start from."""
        call = f'`check("{self.number}", {", ".join(self.takes)})`'
        if len(answers) != len(self.takes):
            return NOT_YET, f"write {call}; it was called with {len(answers)} answers."
        if self.value:
            empty = any(answer is None or answer is ... for answer in answers)
            return (NOT_ATTEMPTED, "the answer is still empty.") if empty else None
        for answer in answers:
            if not callable(answer):
                return NOT_YET, (
                    f"the check needs the function itself, and got {_describe(answer)}. "
                    f"Write {call}, with no brackets after the name."
                )
        return None


_registry: dict[str, Exercise] = {}


def exercise(
    number: str,
    *,
    title: str,
    hints: list[str],
    wrong: list[Wrong] | tuple[Wrong, ...] = (),
    value: bool = False,
    solution_cell: str = "",
) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Register the decorated function as the checker of an exercise.

    number: lab and place in it, "2.1". value: the answer is a value, not a function.
    solution_cell: id of the cell that holds the solution; "ex-2-1" unless given.
    The checker takes the learner's answers, returns one sentence when they are right, and raises
    `NotYet` for a mistake it recognises. Raises ValueError for a bad or a taken number.
    """
    if not re.fullmatch(r"\d+\.\d+", number):
        raise ValueError(f'an exercise number looks like "2.1", not {number!r}')

    def register(checker: Callable[..., str]) -> Callable[..., str]:
        taken = _registry.get(number)
        if taken and _identity(taken.checker) != _identity(checker):
            raise ValueError(f"exercise {number} is already registered: {taken.title}")
        cell = solution_cell or "ex-" + number.replace(".", "-")
        _registry[number] = Exercise(
            number, title, tuple(hints), tuple(wrong), value, cell, checker
        )
        return checker

    return register


def _identity(function: Callable) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def all_exercises() -> list[Exercise]:
    """Every exercise of the course, in order. Imports all modules of `openmodels.exercises`."""
    package = importlib.import_module("openmodels.exercises")
    for module in pkgutil.iter_modules(package.__path__):
        if re.fullmatch(r"lab\d+", module.name):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return sorted(_registry.values(), key=lambda e: tuple(map(int, e.number.split("."))))


def find(number: str) -> Exercise:
    """The exercise with this number. Raises LookupError, naming the known ones, if none has it."""
    number = str(number)
    if number not in _registry and re.fullmatch(r"\d+\.\d+", number):
        module = f"openmodels.exercises.lab{number.split('.')[0]}"
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name not in (module, "openmodels.exercises"):
                raise
    if number not in _registry:
        known = ", ".join(e.number for e in all_exercises())
        raise LookupError(f'there is no exercise "{number}". There are: {known}.')
    return _registry[number]


# --- Outcomes -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Outcome:
    """What `check` found: state is "not attempted", "not yet" or "correct"."""

    exercise: str
    state: str
    message: str

    def __repr__(self) -> str:
        verdict = {NOT_ATTEMPTED: "not attempted yet:", NOT_YET: "not yet:", CORRECT: "✓"}
        return f"{self.exercise} {verdict[self.state]} {self.message}"

    def _repr_html_(self) -> str:
        border = {NOT_ATTEMPTED: "#888888", NOT_YET: "#c77700", CORRECT: "#2e8b57"}[self.state]
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(repr(self)))
        return f'<div style="border-left: 4px solid {border}; padding-left: 0.8em">{text}</div>'

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if os.environ.get("OPENMODELS_GRADING"):
            bundle[MIME] = {
                "exercise": self.exercise,
                "state": self.state,
                "message": self.message,
            }
        return bundle


def _watch(function: FunctionType) -> FunctionType:
    """The function, keeping in `.returned` what it returned last: it explains later stumbles."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        call.returned = [result]
        return result

    call.returned = []
    return call


def _explain(error: BaseException, answers: list[Any]) -> tuple[str, str]:
    """State and message for an exception that no checker raised on purpose."""
    frames = traceback.extract_tb(error.__traceback__)[2:]  # below `judge` and the checker
    own = [frame for frame in frames if _is_learners(frame.filename)]
    if own:
        stop = own[-1]
        # Libraries raise NotImplementedError too: only a stub has it in the learner's last line.
        stub = stop is frames[-1] and "NotImplementedError" in (stop.line or "NotImplementedError")
        if stub and isinstance(error, NotImplementedError):
            return NOT_ATTEMPTED, f"`{stop.name}` still raises NotImplementedError."
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if own:
        line = f", `{stop.line}`," if stop.line else ""
        return NOT_YET, f"your code stopped in line {stop.lineno} of its cell{line} with {what}"
    for answer in answers:
        if getattr(answer, "returned", None):
            value = answer.returned[0]
            if value is None:
                return NOT_YET, _none_message(f"what `{answer.__name__}` returned")
            seen = f"`{answer.__name__}` returned {_describe(value)}"
            return NOT_YET, f"{seen}, which could not be checked ({what})."
    return NOT_YET, f"your answer could not be checked ({what})."


def _is_learners(filename: str) -> bool:
    """Whether a traceback's file is neither this package, nor Python, nor a library."""
    paths = sysconfig.get_paths()
    folders = (str(_PACKAGE), paths["stdlib"], paths["purelib"], paths["platlib"])
    return not filename.startswith(tuple(folder + os.sep for folder in folders) + ("<frozen",))


def _none_message(what: str) -> str:
    return f"{what} is None. Is a `return` missing?"


def _describe(value: Any) -> str:
    """A few words for a value: its type, with its shape or its start."""
    if value is None:
        return "None"
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


# --- What a checker expects -----------------------------------------------------------------------


def expect_type(value: Any, kind: type | tuple[type, ...] | str, what: str, hint: str = "") -> None:
    """Raise NotYet unless value is of this type; a string names a class, such as "Tensor"."""
    if isinstance(kind, str):
        right, name = kind in [c.__name__ for c in type(value).__mro__], kind
    else:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        right, name = isinstance(value, kinds), " or ".join(k.__name__ for k in kinds)
    if not right:
        _present(value, what)
        raise NotYet(_sentence(f"{what} is {_describe(value)}, expected {name}", hint))


def expect_shape(value: Any, shape: tuple[int | None, ...], what: str, hint: str = "") -> None:
    """Raise NotYet unless value has this shape; None stands for any size."""
    _present(value, what)
    wanted = str(tuple(shape)).replace("None", "any")
    if not hasattr(value, "shape"):
        raise NotYet(
            _sentence(f"{what} is {_describe(value)}, expected something of shape {wanted}", hint)
        )
    seen = tuple(value.shape)
    same = len(seen) == len(shape) and all(w in (None, s) for s, w in zip(seen, shape, strict=True))
    if not same:
        raise NotYet(_sentence(f"{what} has shape {seen}, expected {wanted}", hint))


def expect_close(actual: Any, expected: Any, what: str, hint: str = "", atol: float = 1e-4) -> None:
    """Raise NotYet, naming the first place, unless all numbers agree within atol.

    actual, expected: numbers, nested lists, arrays or tensors, of the same shape.
    """
    import numpy

    _present(actual, what)
    wanted = _array(expected)
    try:
        seen = _array(actual)
    except (TypeError, ValueError):
        raise NotYet(_sentence(f"{what} is {_describe(actual)}, expected numbers", hint)) from None
    expect_shape(seen, wanted.shape, what, hint)
    wrong = numpy.argwhere(~numpy.isclose(seen, wanted, rtol=0, atol=atol, equal_nan=True))
    if len(wrong):
        place = tuple(wrong[0])
        where = f" at {[int(i) for i in place]}" if place else ""
        raise NotYet(
            _sentence(f"{what} is {seen[place]:.4g}{where}, expected {wanted[place]:.4g}", hint)
        )


def expect_equal(actual: Any, expected: Any, what: str, hint: str = "") -> None:
    """Raise NotYet unless actual equals expected.

    Lists, tuples, arrays and tensors are compared by their elements; where two texts or two lists
    of the same length differ, the message names the first place.
    """
    seen, wanted = _plain(actual), _plain(expected)
    if seen == wanted:
        return
    _present(actual, what)
    for kind in (list, str):
        if isinstance(seen, kind) and isinstance(wanted, kind) and len(seen) == len(wanted) > 8:
            place = next(i for i, (a, b) in enumerate(zip(seen, wanted, strict=True)) if a != b)
            what = f"{what}, at position {place},"
            seen, wanted = seen[place], wanted[place]
            break
    raise NotYet(_sentence(f"{what} is {seen!r}, expected {wanted!r}", hint))


def _present(value: Any, what: str) -> None:
    if value is None:
        raise NotYet(_none_message(what))


def _sentence(text: str, hint: str) -> str:
    return f"{text}. {hint}".strip()


def _array(value: Any) -> Any:
    """A float64 numpy array; tensors are recognised without importing torch."""
    import numpy

    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return numpy.asarray(value, dtype=numpy.float64)


def _plain(value: Any) -> Any:
    """Tuples, arrays and tensors as lists, so that equal contents compare equal."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


# --- What a notebook calls ------------------------------------------------------------------------


def check(number: str, *answers: Any) -> Outcome:
    """Judge the learner's answer to an exercise and record it: `check("2.1", my_function)`.

    Never raises for a mistake in the answer; LookupError for an unknown number.
    """
    outcome = find(number).judge(*answers)

    def note(entry: dict) -> None:
        if entry["state"] != CORRECT and outcome.state != NOT_ATTEMPTED:
            entry["state"] = outcome.state
            entry["attempts"] += 1

    _entries(outcome.exercise, note)
    return outcome


def hint(number: str, which: int | None = None) -> None:
    """Print a hint: the next unseen one, or the one with this number, counted from 1."""
    hints = find(number).hints
    if which is None:
        seen = _entries().get(number, _new_entry())["hints"]
        unseen = [i for i in range(1, len(hints) + 1) if i not in seen]
        which = unseen[0] if unseen else len(hints) + 1
    if which not in range(1, len(hints) + 1):
        first = f' The first: hint("{number}", 1).' if hints else ""
        print(f"{number} has {len(hints)} hint{'' if len(hints) == 1 else 's'}, no more.{first}")
        return
    print(f"Hint {which} of {len(hints)}: {hints[which - 1]}")
    _entries(number, lambda entry: entry.update(hints=sorted({*entry["hints"], which})))


def progress() -> Progress:
    """A table of every exercise: its state, the attempts made and the hints seen."""
    entries = _entries()
    rows = []
    for known in all_exercises():
        entry = entries.get(known.number, _new_entry())
        hints = f"{len(entry['hints'])} of {len(known.hints)}"
        rows.append((known.number, known.title, entry["state"], str(entry["attempts"]), hints))
    return Progress(rows)


@dataclass(frozen=True, repr=False)
class Progress:
    """The table that `progress` shows; rows hold number, title, state, attempts, hints seen."""

    rows: list[tuple[str, str, str, str, str]]
    heads = ("exercise", "title", "state", "attempts", "hints seen")

    @property
    def summary(self) -> str:
        return f"{sum(row[2] == CORRECT for row in self.rows)} of {len(self.rows)} correct."

    def __repr__(self) -> str:
        return f"{tables.as_text([self.heads, *self.rows])}\n{self.summary}"

    def _repr_html_(self) -> str:
        return f"{tables.as_html([self.heads, *self.rows])}<p>{self.summary}</p>"


# --- Progress on disk -----------------------------------------------------------------------------

_last_entries: dict[str, dict] = {}  # what is known when the file cannot be read or written
_warned = False


def _new_entry() -> dict:
    return {"state": NOT_ATTEMPTED, "attempts": 0, "hints": []}


def _entries(number: str = "", change: Callable[[dict], None] | None = None) -> dict[str, dict]:
    """All entries of the progress file, after applying change to the one of this number.

    The file is read, changed and replaced under a lock, so two notebooks do not lose each other's
    entries. Where it cannot be written, entries last as long as the kernel.
    """
    global _last_entries, _warned
    path = Path(os.environ.get("OPENMODELS_PROGRESS") or _PACKAGE.parent / ".progress.json")
    try:
        with FileLock(f"{path}.lock", timeout=5):
            entries = _read(path)
            if change:
                change(entries.setdefault(number, _new_entry()))
                _write(path, entries)
    except OSError as error:
        if not _warned:
            print(f"Your progress cannot be saved in {path} ({error}); everything else works.")
            _warned = True
        entries = _last_entries
        if change:
            change(entries.setdefault(number, _new_entry()))
    _last_entries = entries
    return entries


def _read(path: Path) -> dict[str, dict]:
    """The entries in the file; a file that makes no sense is set aside, with a word about it."""
    try:
        entries = json.loads(path.read_bytes())["exercises"]
        if all(_is_entry(entry) for entry in entries.values()):
            return entries
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass  # not JSON, or JSON of another shape: handled like an entry that makes no sense
    number = 1
    while (aside := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    os.replace(path, aside)
    print(f"Your progress file was damaged; it is kept as {aside.name}, and a new one begins.")
    return {}


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("state") in (NOT_ATTEMPTED, NOT_YET, CORRECT)
        and isinstance(entry.get("attempts"), int)
        and isinstance(entry.get("hints"), list)
        and all(isinstance(number, int) for number in entry["hints"])
    )


def _write(path: Path, entries: dict[str, dict]) -> None:
    """Replace the file in one step: a crash leaves the old one or the new one, never a half."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(json.dumps({"exercises": entries}, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
