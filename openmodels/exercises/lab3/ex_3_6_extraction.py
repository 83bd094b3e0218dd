"""Exercise 3.6: extract order forms within a token budget.

The first half, `read_order`, is in `order_texts`; models that read by a script are in
`scripted_forms`. The notebook then runs the learner's functions on mini-qwen-vl.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.cases import Case, equal, line_of, name_mistake, result_of
from openmodels.exercises.known_mistakes import pair_answers
from openmodels.exercises.lab3.order_texts import READING_MISTAKES, READINGS, parse, reference_read
from openmodels.exercises.lab3.scripted_forms import (
    FORMS,
    SCRIPTS,
    Record,
    Run,
    draw_script,
    run_script,
    share_forms,
    write,
)
from openmodels.harbour.scenes import FIELDS

View = Callable[[Image.Image], Image.Image]
Ask = Callable[[Image.Image], str]
Cost = Callable[[Image.Image], int]

# --- The reference solution -----------------------------------------------------------------------


def reference_extract(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    """Return the record on which two valid readings agree, or None."""
    readings: list[Record] = []
    for view in views:
        picture = view(image)
        budget -= cost(picture)
        if budget < 0:
            return None
        order = reference_read(ask(picture))
        if order is not None and order in readings:
            return order
        if order is not None:
            readings.append(order)
    return None


# --- Known mistakes in extracting -----------------------------------------------------------------

Arguments = tuple[Image.Image, Sequence[View], Ask, Cost, int]


def _readings(
    image: Image.Image, views: Iterable[View], ask: Ask, cost: Cost, budget: float,
    read: Callable = reference_read,
) -> Iterable[Record]:  # fmt: skip
    """Yield valid readings as long as the budget allows."""
    for view in views:
        picture = view(image)
        budget -= cost(picture)
        if budget < 0:
            return
        order = read(ask(picture))
        if order is not None:
            yield order


def _first_repeated(readings: Iterable[Any]) -> Any:
    """Return the first reading that equals an earlier reading, or None."""
    earlier: list = []
    for order in readings:
        if order in earlier:
            return order
        earlier.append(order)
    return None


def extract_first_valid(*call: Any) -> Record | None:
    return next(iter(_readings(*call)), None)


def extract_any_two(*call: Any) -> Record | None:
    return _first_repeated(_readings(*call, read=parse))


def extract_equal_texts(*call: Any) -> Record | None:
    text = _first_repeated(_readings(*call, read=lambda text: reference_read(text) and text))
    return text and json.loads(text)


def extract_two_in_sequence(*call: Any) -> Record | None:
    latest = None
    for order in _readings(*call):
        if order == latest:
            return order
        latest = order
    return None


def extract_two_invalid(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    latest = None
    for view in views:
        picture = view(image)
        budget -= cost(picture)
        if budget < 0:
            return None
        order = reference_read(ask(picture))
        if order == latest:
            return order
        latest = order
    return None


def extract_like_the_first(*call: Any) -> Record | None:
    readings = iter(_readings(*call))
    first = next(readings, None)
    return next((order for order in readings if order == first), None)


def extract_majority(*call: Any) -> Record | None:
    readings = list(_readings(*call))
    most = max(readings, key=readings.count, default=None)
    return most if readings.count(most) > 1 else None


def extract_most_common(*call: Any) -> Record | None:
    readings = list(_readings(*call))
    return max(readings, key=readings.count, default=None)


def extract_latest_at_the_end(*call: Any) -> Record | None:
    readings = []
    for order in _readings(*call):
        if order in readings:
            return order
        readings.append(order)
    return readings[-1] if readings else None


def extract_single_reading(*call: Any) -> Record | None:
    readings: list[Record] = []
    for order in _readings(*call):
        if order in readings:
            return order
        readings.append(order)
    return readings[0] if len(readings) == 1 else None


def extract_only_view(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    if len(views) == 1 and cost(views[0](image)) <= budget:
        return reference_read(ask(views[0](image)))
    return reference_extract(image, views, ask, cost, budget)


def extract_from_two_views(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    if len(views) < 2:
        raise ValueError("two readings need two views")
    return reference_extract(image, views, ask, cost, budget)


def extract_from_a_view(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    views[0]  # IndexError without a view
    return reference_extract(image, views, ask, cost, budget)


def extract_field_by_field(*call: Any) -> Record | None:
    readings = list(_readings(*call))
    if len(readings) < 2:
        return None
    values = {key: [order[key] for order in readings] for key in FIELDS}
    return {key: max(column, key=column.count) for key, column in values.items()}


def extract_without_budget(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    return _first_repeated(_readings(image, views, ask, cost, math.inf))


def extract_budget_afterwards(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    readings = []
    for view in views:
        picture = view(image)
        order = reference_read(ask(picture))
        budget -= cost(picture)
        if budget < 0:
            return None
        if order and order in readings:
            return order
        readings.append(order)
    return None


def extract_budget_for_each(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    affordable = [view for view in views if cost(view(image)) <= budget]
    return _first_repeated(_readings(image, affordable, ask, cost, math.inf))


def extract_below_budget(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    return _first_repeated(_readings(image, views, ask, cost, budget - 1))


def extract_valid_tokens_only(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    readings = []
    for view in views:
        picture = view(image)
        if cost(picture) > budget:
            return None
        order = reference_read(ask(picture))
        if order is None:
            continue
        budget -= cost(picture)
        if order in readings:
            return order
        readings.append(order)
    return None


def extract_most_expensive_first(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    return _first_repeated(_readings(image, views[::-1], ask, cost, budget))


def extract_same_view_twice(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    twice = [view for view in views for _ in range(2)]
    return _first_repeated(_readings(image, twice, ask, cost, budget))


def extract_chained_views(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    readings = []
    for view in views:
        image = view(image)
        budget -= cost(image)
        if budget < 0:
            return None
        order = reference_read(ask(image))
        if order and order in readings:
            return order
        readings.append(order)
    return None


def extract_without_views(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    return reference_read(ask(image))


def extract_text(*call: Any) -> str | None:
    order = reference_extract(*call)
    return order and write(order)


def extract_or_raise(*call: Any) -> Record:
    order = reference_extract(*call)
    if order is None:
        raise ValueError("no two readings agree")
    return order


def extract_three_views(
    image: Image.Image, views: Sequence[View], ask: Ask, cost: Cost, budget: int
) -> Record | None:
    return reference_extract(image, views[:3], ask, cost, budget)


EXTRACTION_MISTAKES = [
    WrongAnswer("the first valid reading", extract_first_valid,
                "You accept the first valid reading. A reading can follow every rule and be wrong: "
                "ask until two agree."),
    WrongAnswer("invalid readings count", extract_any_two,
                "You compare readings that break a rule. Two equal mistakes are still a mistake."),
    WrongAnswer("texts compared", extract_equal_texts,
                "You compare texts. Compare records: spaces and the order of fields mean nothing."),
    WrongAnswer("two in sequence", extract_two_in_sequence,
                "You compare with the latest reading only. Any two readings may agree."),
    WrongAnswer("None agrees with None", extract_two_invalid,
                "`None == None` is true: you take an invalid reading for an agreement."),
    WrongAnswer("like the first", extract_like_the_first,
                "You compare with the first reading only. Any two readings may agree."),
    WrongAnswer("the majority of all", extract_majority,
                "You ask about every view, then count. Stop as soon as two readings agree: the "
                "other questions cost tokens for nothing."),
    WrongAnswer("the most common", extract_most_common,
                "The most common of different readings is the first of them: no two agree."),
    WrongAnswer("the latest at the end", extract_latest_at_the_end,
                "No two readings agree, and you return one of them. None sends the form to a "
                "person; a wrong record goes into the ledger."),
    WrongAnswer("a single reading", extract_single_reading,
                "You return the only valid reading although no other reading confirms it: return "
                "None unless two agree."),
    WrongAnswer("the only view", extract_only_view,
                "You accept the reading of the only view although no other reading confirms it: "
                "return None unless two agree."),
    WrongAnswer("two views needed", extract_from_two_views,
                "With fewer than two views, no two readings can agree: return None, do not raise "
                "an error."),
    WrongAnswer("a view needed", extract_from_a_view,
                "Without views there is no reading: return None, do not raise an error."),
    WrongAnswer("field by field", extract_field_by_field,
                "You vote field by field, which costs every view and can build a record that no "
                "reading has."),
    WrongAnswer("no budget", extract_without_budget, "You ask on when the budget is used up."),
    WrongAnswer("the budget afterwards", extract_budget_afterwards,
                "You compare the sum with the budget after the question: then its tokens are "
                "spent."),
    WrongAnswer("the budget for each", extract_budget_for_each,
                "You compare each question with the whole budget. It is for all questions about a "
                "form together."),
    WrongAnswer("below the budget", extract_below_budget,
                "A sum that equals the budget does not exceed it."),
    WrongAnswer("only valid readings cost", extract_valid_tokens_only,
                "You subtract the tokens of valid readings only. The model was paid for the "
                "invalid ones too."),
    WrongAnswer("the most expensive first", extract_most_expensive_first,
                "You begin with the most expensive view. The cheap views often agree."),
    WrongAnswer("the same view twice", extract_same_view_twice,
                "You ask twice about the same picture. A greedy model repeats its mistake: only "
                "the agreement of different views means something."),
    WrongAnswer("a view of a view", extract_chained_views,
                "You apply a view to the picture of the view before. Each view takes the form."),
    WrongAnswer("no views", extract_without_views,
                "You ask about the form itself. Ask about a view of it: `view(image)`."),
    WrongAnswer("the text", extract_text, "Return the record, a dict, not its text."),
    WrongAnswer("an error for a person", extract_or_raise,
                "That form is for a person: return None, do not raise an error."),
    WrongAnswer("three views at most", extract_three_views,
                "You leave out views at the end: loop over all of them."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------


def _same_record(result: Any, expected: Record | None) -> bool:
    """Return whether a result is None as expected, or a dict with equal values of equal types."""
    if expected is None or not isinstance(result, dict):
        return result is expected
    return result == expected and all(type(result[k]) is type(v) for k, v in expected.items())


def _shorten(text: str) -> str:
    """Return a text in quotes, with its middle left out if it is long."""
    shown = repr(text)
    return shown if len(shown) <= 200 else f"{shown[:60]} ... {shown[-40:]}"


def _expect_readings(read_order: Callable) -> None:
    """Raise NotYet unless a function reads every text of READINGS as the reference does."""
    for number, case in enumerate(READINGS):
        if number == 0:
            read_order(*case.arguments)  # an error here shows the line of the learner's code
        state, result = result_of(read_order, case.arguments)
        expected = reference_read(*case.arguments)
        if state == "value" and _same_record(result, expected):
            continue
        verdict = f"raises {result}" if state == "error" else f"returns {result!r}"
        why = name_mistake(read_order, READINGS, number, READING_MISTAKES) or case.hint
        raise NotYet(
            f"{case.what}, {_shorten(*case.arguments)}: `read_order` {verdict}, expected "
            f"{expected!r}. "
            f"{why}".strip()
        )


def _describe(run: Run) -> str:
    record = "None" if run.record is None else f"{run.record!r}"
    views = ", ".join(str(place + 1) if place >= 0 else "of a view" for place in run.places)
    return f"{record} after the views {views or 'none'} ({run.tokens} tokens)"


def _raise_again(extract: Callable, case: Case) -> None:
    """Raise NotYet for a call that raises an error, with the line of the learner's code.

    The hint is about values: an error of a wrong name or type gets none.
    """
    try:
        run_script(extract, *case.arguments)
    except (NotImplementedError, AttributeError, NameError, TypeError):
        raise
    except Exception as error:
        raise NotYet(
            f"{case.what}: `extract` raises {type(error).__name__} ({error})"
            f"{line_of(error, extract)}. {case.hint}".strip()
        ) from error


def _expect_script(extract: Callable, number: int) -> None:
    """Raise NotYet unless a function treats a script as the reference does."""
    case = SCRIPTS[number]
    runner = partial(run_script, extract)
    expected = run_script(reference_extract, *case.arguments)
    state, result = result_of(runner, case.arguments)
    if state == "value" and equal(result, expected) and not result.changed:
        return
    runs = [replace(m, answer=partial(run_script, m.answer)) for m in EXTRACTION_MISTAKES]
    why = name_mistake(runner, SCRIPTS, number, runs) or case.hint
    if state == "error" and (not why or why == case.hint):
        _raise_again(extract, case)
    verdict = f"`extract` raises {result}" if state == "error" else _describe(result)
    if state == "value" and result.changed:
        why = "`extract` draws on the caller's picture: work on a copy."
    raise NotYet(f"{case.what}: {verdict}, expected {_describe(expected)}. {why}".strip())


@exercise(
    "3.6",
    wrong=[
        *pair_answers(READING_MISTAKES, second=reference_extract),
        *pair_answers(EXTRACTION_MISTAKES, first=reference_read),
        WrongAnswer(
            "reads nothing", (lambda text: None, reference_extract), "Is a `return` missing"
        ),
        WrongAnswer("JSON only", (parse, reference_extract), "expected None"),
    ],
)
def check_extraction(
    read_order: Callable[[str], Record | None], extract: Callable[..., Record | None]
) -> str:
    """Judge `read_order(text)` and `extract(image, views, ask, cost, budget)`."""
    _expect_readings(read_order)
    for number in range(len(SCRIPTS)):
        _expect_script(extract, number)
    for seed in range(FORMS):
        _, script = draw_script(seed)
        run, expected = run_script(extract, script), run_script(reference_extract, script)
        if not equal(run, expected):
            raise NotYet(
                f"an invented form whose views read {list(script.readings)}, at {script.costs} "
                f"tokens with a budget of {script.budget}: {_describe(run)}, expected "
                f"{_describe(expected)}."
            )
    counts = share_forms(extract)
    accepted = counts["right"] + counts["wrong"]
    return (
        f"of {FORMS} invented forms your pipeline accepts {accepted}, {counts['right']} of them "
        f"correctly, sends {counts['review']} to a person, and takes "
        f"{counts['tokens'] / FORMS:.0f} tokens per form."
    )
