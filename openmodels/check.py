"""Check an answer, explain in words what is wrong with it, and record the learner's progress.

Notebooks call `check`, `hint` and `progress`. The exercises are in `openmodels.exercises`: the
package `labN` lists its exercises (number, title, hints), and a module such as
`labN/ex_N_4_topic.py` registers the checker of exercise N.4 with `@exercise`. `progress` and
`hint` read the lists only; `check` imports the module of its exercise and no other.

Environment variables:

- `OPENMODELS_PROGRESS`: path of the progress file; default: `.progress.json` in the course folder.
  Set it if that folder is read-only or if several people share it. The file is JSON; a second
  file, with `.lock` added to the name, protects it while a notebook writes.
- `OPENMODELS_GRADING`: set by `tools/grade.py`; each result then has a machine-readable form too.
- `JPY_SESSION_NAME`: set by Jupyter, the path of the notebook. `progress` uses it to list the
  exercises of the notebook's lab first.
"""

from __future__ import annotations

import functools
import html
import importlib
import inspect
import os
import pkgutil
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import FunctionType
from typing import Any

from openmodels import tables
from openmodels.progress_file import (
    CORRECT,
    NOT_ATTEMPTED,
    NOT_YET,
    new_entry,
    read_entries,
    update_entries,
)

MIME = "application/vnd.openmodels.check+json"  # what tools/grade.py reads

_PACKAGE = Path(__file__).resolve().parent
_LABS = "openmodels.exercises"  # the package that holds lab0, lab1, ...


# --- Exercises ------------------------------------------------------------------------------------


class NotYet(Exception):
    """Raised by a checker if the answer is not right; the message explains what is wrong.

    points: the share of the task that is right, 0 to 1, if the checker scores it.
    """

    def __init__(self, message: str = "", points: float | None = None):
        super().__init__(message)
        self.points = points


@dataclass(frozen=True)
class WrongAnswer:
    """A wrong answer that learners give, and what the checker must say about it.

    answer: what the learner would pass to `check`: the wrong function itself, or the wrong value;
    a tuple of them if the exercise takes several. message: text that the checker's message must
    contain; " ... " in it stands for any text.
    """

    name: str
    answer: Any
    message: str

    def matches(self, text: str) -> bool:
        """Return whether a checker's message contains the message of this wrong answer."""
        parts = map(re.escape, self.message.split(" ... "))
        return re.search(".*".join(parts), text, re.DOTALL) is not None


@dataclass(frozen=True)
class Exercise:
    """An exercise as its lab lists it; the checker is loaded when it is needed.

    number: lab and place in it, "2.4". hints: from a nudge to most of the solution.
    """

    number: str
    title: str
    hints: tuple[str, ...] = ()

    @property
    def lab(self) -> int:
        """Return the number of the lab."""
        return int(self.number.split(".")[0])

    @property
    def solution_cell(self) -> str:
        """Return the id of the notebook cell that holds the solution, "ex-2-4"."""
        return "ex-" + self.number.replace(".", "-")

    def load_checker(self) -> Checker:
        """Return the checker, importing the exercise's module. Raises LookupError if none is."""
        if self.number not in _checkers and (module := _checker_module(self.number)):
            importlib.import_module(module)
        if self.number not in _checkers:
            raise LookupError(f"exercise {self.number} has no checker: see {_LABS}.lab{self.lab}")
        return _checkers[self.number]


@dataclass(frozen=True)
class Checker:
    """The checker of one exercise and its known wrong answers; created by `@exercise`."""

    number: str
    wrong_answers: tuple[WrongAnswer, ...]
    value: bool
    function: Callable[..., str] = field(repr=False)

    @property
    def parameters(self) -> list[str]:
        """Return the names of the function's parameters: what the learner passes to `check`."""
        return list(inspect.signature(self.function).parameters)

    def judge(self, *answers: Any) -> Outcome:
        """Judge answers without recording progress. Raises TypeError for a faulty checker."""
        problem = self._misuse(answers)
        if problem:
            return Outcome(self.number, *problem)
        watched = [_watch(a) if isinstance(a, FunctionType) else a for a in answers]
        try:
            praise = self.function(*watched)
        except NotYet as error:
            return Outcome(self.number, NOT_YET, str(error), error.points)
        except (Exception, SystemExit) as error:  # a learner's code raises anything
            return Outcome(self.number, *_explain(error, watched))
        praise, points = praise if isinstance(praise, tuple) else (praise, None)
        if not isinstance(praise, str):
            raise TypeError(f"the checker of {self.number} must return a sentence, not {praise!r}")
        return Outcome(self.number, CORRECT, praise, points)

    def _misuse(self, answers: tuple) -> tuple[str, str] | None:
        """Return state and message if `check` was called with something it cannot judge."""
        call = f'`check("{self.number}", {", ".join(self.parameters)})`'
        if len(answers) != len(self.parameters):
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


_checkers: dict[str, Checker] = {}  # by number, as far as their modules are imported
_unlisted: dict[str, Exercise] = {}  # exercises that belong to no lab, by number


def exercise(
    number: str,
    *,
    wrong: Iterable[WrongAnswer] = (),
    value: bool = False,
    title: str | None = None,
    hints: Sequence[str] = (),
) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Register the decorated function as the checker of an exercise.

    number: lab and place in it, "2.1". value: the answer is a value, not a function. title, hints:
    only for an exercise that no lab lists, such as an instructor's own in a notebook; a lab's
    exercises have theirs in the lab's `__init__`.

    The checker takes the learner's answers, returns one sentence if they are right, or a pair of
    sentence and points (see `NotYet`), and raises `NotYet` for a mistake it recognises. Raises ValueError for a bad number, for a number that
    another function has registered, and if title and hints are in both places or in neither.
    """
    if not re.fullmatch(r"\d+\.\d+", number):
        raise ValueError(f'an exercise number looks like "2.1", not {number!r}')
    lab = f"{_LABS}.lab{number.split('.')[0]}"
    if any(known.number == number for known in _listed(lab)):
        if title is not None or hints:
            raise ValueError(f"title and hints of exercise {number} belong in {lab} only")
    elif title is None:
        raise ValueError(f"exercise {number} is not listed: add its title and hints to {lab}")

    def register(function: Callable[..., str]) -> Callable[..., str]:
        registered = _checkers.get(number)
        if registered and _identity(registered.function) != _identity(function):
            raise ValueError(f"exercise {number} is already registered: {find(number).title}")
        if title is not None:
            _unlisted[number] = Exercise(number, title, tuple(hints))
        _checkers[number] = Checker(number, tuple(wrong), value, function)
        return function

    return register


def _identity(function: Callable) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _listed(lab: str) -> tuple[Exercise, ...]:
    """Return the exercises that a lab's package lists; () if there is no such package."""
    try:
        return importlib.import_module(lab).EXERCISES
    except ModuleNotFoundError as error:
        if error.name not in (lab, _LABS):
            raise
        return ()


def _checker_module(number: str) -> str | None:
    """Return the name of the module that registers an exercise's checker; None if none does."""
    lab, place = number.split(".")
    if not _listed(f"{_LABS}.lab{lab}"):
        return None
    package = importlib.import_module(f"{_LABS}.lab{lab}")
    pattern = re.compile(rf"ex_{lab}_{place}(_\w+)?")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return next((f"{package.__name__}.{name}" for name in names if pattern.fullmatch(name)), None)


def all_exercises() -> list[Exercise]:
    """Return every exercise of the course in order, without importing any checker."""
    package = importlib.import_module(_LABS)
    exercises = dict(_unlisted)
    for module in pkgutil.iter_modules(package.__path__):
        if re.fullmatch(r"lab\d+", module.name):
            exercises |= {known.number: known for known in _listed(f"{_LABS}.{module.name}")}
    return sorted(exercises.values(), key=_place)


def _place(known: Exercise) -> tuple[int, ...]:
    return tuple(map(int, known.number.split(".")))


def find(number: str) -> Exercise:
    """Return the exercise with this number. Raises LookupError, naming the known ones."""
    number = str(number)
    if re.fullmatch(r"\d+\.\d+", number):
        for known in (*_unlisted.values(), *_listed(f"{_LABS}.lab{number.split('.')[0]}")):
            if known.number == number:
                return known
    numbers = ", ".join(known.number for known in all_exercises())
    raise LookupError(f'there is no exercise "{number}". There are: {numbers}.')


# --- Outcomes -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Outcome:
    """The result of `check`: state is "not attempted", "not yet" or "correct".

    points: the share of the task that is right, 0 to 1; None if the checker does not score it.
    """

    exercise: str
    state: str
    message: str
    points: float | None = None

    def __repr__(self) -> str:
        _mark_displayed(self)
        return self._text()

    def _text(self) -> str:
        verdict = {NOT_ATTEMPTED: "not attempted yet:", NOT_YET: "not yet:", CORRECT: "✓"}
        return f"{self.exercise} {verdict[self.state]} {self.message}"

    def _repr_html_(self) -> str:
        border = {NOT_ATTEMPTED: "#888888", NOT_YET: "#c77700", CORRECT: "#2e8b57"}[self.state]
        style = f"border-left: 4px solid {border}; padding-left: 0.8em"
        return f'<div style="{style}">{_code_spans(self._text())}</div>'

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
    ) -> dict[str, Any]:
        _mark_displayed(self)
        bundle: dict[str, Any] = {"text/plain": self._text(), "text/html": self._repr_html_()}
        if os.environ.get("OPENMODELS_GRADING"):
            bundle[MIME] = {
                "exercise": self.exercise,
                "state": self.state,
                "message": self.message,
            }
            if self.points is not None:
                bundle[MIME]["points"] = round(self.points, 3)
        return bundle


def _code_spans(text: str) -> str:
    """Return text as HTML, with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


# A notebook displays the value of a cell's last line only. Results of checks that stand before it
# wait here until the cell ends, unless something displays them first.
_undisplayed: list[Outcome] = []


def _shell() -> Any:
    """Return IPython's shell, or None under plain Python."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _display_later(outcome: Outcome) -> None:
    """Make sure that a notebook displays an outcome, wherever in its cell the check stands.

    A plain script prints it; an interactive prompt shows what `check` returns.
    """
    shell = _shell()
    if shell is not None:
        shell.events.register("post_run_cell", _display_undisplayed)  # a second time does nothing
        _undisplayed.append(outcome)
    elif not hasattr(sys, "ps1"):
        print(outcome)


def _mark_displayed(outcome: Outcome) -> None:
    """Note that an outcome is being displayed, and display the earlier ones of its cell first."""
    if any(waiting is outcome for waiting in _undisplayed):
        while (waiting := _undisplayed.pop(0)) is not outcome:
            _display(waiting)


def _display_undisplayed(_result: Any = None) -> None:
    while _undisplayed:
        _display(_undisplayed.pop(0))


def _display(value: Any) -> None:
    from IPython.display import display

    display(value)


def _watch(function: FunctionType) -> FunctionType:
    """Return the function, wrapped to store its latest result in `.returned` for `_explain`."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        call.returned = [result]
        return result

    call.returned = []
    return call


def _explain(error: BaseException, answers: list[Any]) -> tuple[str, str]:
    """Return state and message for an exception that no checker raised on purpose."""
    frames = traceback.extract_tb(error.__traceback__)[2:]  # below `judge` and the checker
    learner_frames = [frame for frame in frames if _is_learners(frame.filename)]
    if learner_frames:
        stop = learner_frames[-1]
        # Libraries raise NotImplementedError too: only a stub has it in the learner's last line.
        stub = stop is frames[-1] and "NotImplementedError" in (stop.line or "NotImplementedError")
        if stub and isinstance(error, NotImplementedError):
            return NOT_ATTEMPTED, f"`{stop.name}` still raises NotImplementedError."
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if learner_frames:
        line = f", `{stop.line}`," if stop.line else ""
        return NOT_YET, f"your code stopped in line {stop.lineno} of its cell{line} with {what}"
    for answer in answers:
        if getattr(answer, "returned", None):
            value = answer.returned[0]
            if value is None:
                return NOT_YET, _none_message(f"what `{answer.__name__}` returned")
            result = f"`{answer.__name__}` returned {_describe(value)}"
            return NOT_YET, f"{result}, which could not be checked ({what})."
    return NOT_YET, f"your answer could not be checked ({what})."


def _is_learners(filename: str) -> bool:
    """Return whether a traceback's file is neither this package, nor Python, nor a library."""
    paths = sysconfig.get_paths()
    folders = (str(_PACKAGE), paths["stdlib"], paths["purelib"], paths["platlib"])
    return not filename.startswith(tuple(folder + os.sep for folder in folders) + ("<frozen",))


def _none_message(what: str) -> str:
    return f"{what} is None. Is a `return` missing?"


def _describe(value: Any) -> str:
    """Return a value's type with its shape, or with the start of its text."""
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
        matches, name = kind in [c.__name__ for c in type(value).__mro__], kind
    else:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        matches, name = isinstance(value, kinds), " or ".join(k.__name__ for k in kinds)
    if not matches:
        _expect_not_none(value, what)
        raise NotYet(_sentence(f"{what} is {_describe(value)}, expected {name}", hint))


def expect_shape(value: Any, shape: tuple[int | None, ...], what: str, hint: str = "") -> None:
    """Raise NotYet unless value has this shape; None stands for any size."""
    _expect_not_none(value, what)
    expected = str(tuple(shape)).replace("None", "any")
    if not hasattr(value, "shape"):
        raise NotYet(
            _sentence(f"{what} is {_describe(value)}, expected something of shape {expected}", hint)
        )
    actual = tuple(value.shape)
    same = len(actual) == len(shape) and all(
        size in (None, length) for length, size in zip(actual, shape, strict=True)
    )
    if not same:
        raise NotYet(_sentence(f"{what} has shape {actual}, expected {expected}", hint))


def expect_close(actual: Any, expected: Any, what: str, hint: str = "", atol: float = 1e-4) -> None:
    """Raise NotYet, naming the first place, unless all numbers agree within atol.

    actual, expected: numbers, nested lists, arrays or tensors, of the same shape.
    """
    import numpy

    _expect_not_none(actual, what)
    target = _array(expected)
    try:
        values = _array(actual)
    except (TypeError, ValueError):
        raise NotYet(_sentence(f"{what} is {_describe(actual)}, expected numbers", hint)) from None
    expect_shape(values, target.shape, what, hint)
    wrong = numpy.argwhere(~numpy.isclose(values, target, rtol=0, atol=atol, equal_nan=True))
    if len(wrong):
        place = tuple(wrong[0])
        where = f" at {[int(i) for i in place]}" if place else ""
        raise NotYet(
            _sentence(f"{what} is {values[place]:.4g}{where}, expected {target[place]:.4g}", hint)
        )


def expect_equal(actual: Any, expected: Any, what: str, hint: str = "") -> None:
    """Raise NotYet unless actual equals expected.

    Lists, tuples, arrays and tensors are compared by their elements. If two long texts or lists of
    the same length differ, the message names the first place.
    """
    values, target = _as_lists(actual), _as_lists(expected)
    if values == target:
        return
    _expect_not_none(actual, what)
    for kind in (list, str):
        if not isinstance(values, kind) or not isinstance(target, kind):
            continue
        if len(values) == len(target) > 8:
            pairs = enumerate(zip(values, target, strict=True))
            place = next(i for i, (a, b) in pairs if a != b)
            what = f"{what}, at position {place},"
            values, target = values[place], target[place]
            break
    raise NotYet(_sentence(f"{what} is {values!r}, expected {target!r}", hint))


def _expect_not_none(value: Any, what: str) -> None:
    if value is None:
        raise NotYet(_none_message(what))


def _sentence(text: str, hint: str) -> str:
    return f"{text}. {hint}".strip()


def _array(value: Any) -> Any:
    """Return value as a float64 numpy array; torch is not imported to recognise a tensor."""
    import numpy

    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return numpy.asarray(value, dtype=numpy.float64)


def _as_lists(value: Any) -> Any:
    """Return tuples, arrays and tensors as lists, so that equal contents compare equal."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_as_lists(item) for item in value]
    return value


# --- What a notebook calls ------------------------------------------------------------------------

_latest_lab: int | None = None  # of the latest `check` or `hint` in this kernel


def check(number: str, *answers: Any) -> Outcome:
    """Judge the learner's answer to an exercise and record it: `check("2.1", my_function)`.

    A notebook displays the result once, even if the call is not the last line of its cell. Never
    raises for a mistake in the answer; raises LookupError for an unknown number.
    """
    known = find(number)
    outcome = known.load_checker().judge(*answers)
    _remember_lab(known)

    def record(entry: dict) -> None:
        if entry["state"] != CORRECT and outcome.state != NOT_ATTEMPTED:
            entry["state"] = outcome.state
            entry["attempts"] += 1

    update_entries(known.number, record)
    _display_later(outcome)
    return outcome


def hint(number: str, which: int | None = None) -> None:
    """Show a hint: the next unseen one, or the one with this number, counted from 1.

    Raises LookupError for an unknown exercise.
    """
    known = find(number)
    number, hints = known.number, known.hints
    _remember_lab(known)
    if which is None:
        used = read_entries().get(number, new_entry())["hints"]
        unused = [i for i in range(1, len(hints) + 1) if i not in used]
        which = unused[0] if unused else len(hints) + 1
    if which not in range(1, len(hints) + 1):
        first = f' The first: hint("{number}", 1).' if hints else ""
        _show(f"{number} has {len(hints)} hint{'' if len(hints) == 1 else 's'}, no more.{first}")
        return
    _show(f"Hint {which} of {len(hints)}: {hints[which - 1]}")
    update_entries(number, lambda entry: entry.update(hints=sorted({*entry["hints"], which})))


def _show(text: str) -> None:
    """Display text with its code spans in a notebook; print it under plain Python."""
    if _shell() is None:
        print(text)
    else:
        _display(_Rendered(text))


@dataclass(frozen=True, repr=False)
class _Rendered:
    """Text whose parts between backticks a notebook shows as code."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<div>{_code_spans(self.text)}</div>"


def progress() -> Progress:
    """Return a table of every exercise: its state, the attempts made and the hints seen.

    The exercises of the current lab come first: the lab of the latest `check` or `hint` in this
    kernel, otherwise the lab of the notebook's path. Nothing but the lists of exercises is loaded.
    """
    entries = read_entries()
    current = _latest_lab if _latest_lab is not None else _lab_of_notebook()
    rows = []
    for known in sorted(all_exercises(), key=lambda known: (known.lab != current, _place(known))):
        entry = entries.get(known.number, new_entry())
        hints = f"{len(entry['hints'])} of {len(known.hints)}"
        rows.append((known.number, known.title, entry["state"], str(entry["attempts"]), hints))
    return Progress(rows)


def _remember_lab(known: Exercise) -> None:
    global _latest_lab
    _latest_lab = known.lab


def _lab_of_notebook() -> int | None:
    """Return the lab of the notebook that runs this kernel; None if its path does not tell.

    Jupyter gives the path in JPY_SESSION_NAME, VS Code in a variable of the notebook. Both
    `labs/2_local_deployment.ipynb` and `chapters/2_local_deployment/3_quantise.ipynb` are lab 2.
    """
    variables = getattr(_shell(), "user_ns", {})
    path = str(variables.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", ""))
    parts = PurePath(path.replace("\\", "/")).parts
    for folder in ("chapters", "labs", "solutions"):
        if folder in parts[:-1]:
            parts = parts[len(parts) - parts[::-1].index(folder) :]
    numbers = [int(match[1]) for part in parts if (match := re.match(r"(\d{1,2})_", part))]
    return numbers[0] if numbers else None


@dataclass(frozen=True, repr=False)
class Progress:
    """The table that `progress` returns; rows hold number, title, state, attempts, hints seen."""

    rows: list[tuple[str, str, str, str, str]]
    heads = ("exercise", "title", "state", "attempts", "hints seen")

    @property
    def summary(self) -> str:
        """Return a sentence that counts the correct answers."""
        return f"{sum(row[2] == CORRECT for row in self.rows)} of {len(self.rows)} correct."

    def __repr__(self) -> str:
        return f"{tables.as_text([self.heads, *self.rows])}\n{self.summary}"

    def _repr_html_(self) -> str:
        return f"{tables.as_html([self.heads, *self.rows])}<p>{self.summary}</p>"
