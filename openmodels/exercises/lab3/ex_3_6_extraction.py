"""Exercise 3.6: extract order forms within a token budget.

Models that read by a script are in `scripted_forms`. The notebook then runs the learner's
functions on mini-qwen-vl.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image

from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.known_mistakes import pair_answers
from openmodels.exercises.lab3.cases import Case, equal, name_mistake, result_of
from openmodels.exercises.lab3.scripted_forms import (
    FORMS,
    ORDER,
    PRICES,
    QUANTITIES,
    SCRIPTS,
    A,
    Record,
    Run,
    draw_script,
    run_script,
    share_forms,
    write,
)
from openmodels.harbour import world
from openmodels.harbour.scenes import FIELDS

View = Callable[[Image.Image], Image.Image]
Ask = Callable[[Image.Image], str]
Cost = Callable[[Image.Image], int]

# --- The reference solution -----------------------------------------------------------------------


def reference_read(text: str) -> Record | None:
    """Return the order that a model wrote as JSON, or None if it breaks a rule of the form."""
    try:
        order = json.loads(text)
    except ValueError:
        return None
    if not isinstance(order, dict) or set(order) != set(FIELDS):
        return None
    customer, quantity, price = order["customer"], order["quantity"], order["price"]
    valid = (
        isinstance(customer, str)
        and customer.strip() != ""
        and order["good"] in list(world.GOODS)
        and order["day"] in world.DAYS
        and type(quantity) is int
        and quantity in QUANTITIES
        and type(price) is int
        and price in PRICES
    )
    return order if valid else None


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


# --- Known mistakes in reading --------------------------------------------------------------------


def _parsed(text: str) -> Any:
    """Return what JSON says, valid or not; None if it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def read_unguarded(text: str) -> Record | None:
    return reference_read(text) if isinstance(json.loads(text), dict) else None


def read_list_as_dict(text: str) -> Record | None:
    try:
        order = json.loads(text)
    except ValueError:
        return None
    if set(order.keys()) != set(FIELDS):
        return None
    return reference_read(text)


def _read_with(
    change: Callable[[Record], Record], text: str, any_fields: bool = False
) -> Record | None:
    """Return an order that is valid, or that is valid after a change."""
    order = _parsed(text)
    if not isinstance(order, dict) or (set(order) != set(FIELDS) and not any_fields):
        return None
    try:
        return order if reference_read(text) or reference_read(write(change(order))) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def read_texts_as_numbers(text: str) -> Record | None:
    return _read_with(
        lambda order: order | {key: int(order[key]) for key in ("quantity", "price")}, text
    )


def read_text_digits(text: str) -> Record | None:
    def change(order: Record) -> Record:
        numbers = {key: order[key] for key in ("quantity", "price")}
        return order | {k: int(v) if isinstance(v, str) else v for k, v in numbers.items()}

    return _read_with(change, text)


def read_booleans(text: str) -> Record | None:
    def change(order: Record) -> Record:
        return order | {"quantity": order["quantity"] + 0} if order["quantity"] is True else order

    return _read_with(change, text)


def read_fractions(text: str) -> Record | None:
    def change(order: Record) -> Record:
        numbers = {key: order[key] for key in ("quantity", "price")}
        whole = {k: int(v) if isinstance(v, float) else v for k, v in numbers.items()}
        return order | whole

    return _read_with(change, text)


def read_more_fields(text: str) -> Record | None:
    return _read_with(lambda order: {key: order[key] for key in FIELDS}, text, True)


def read_other_fields(text: str) -> Record | None:
    return _read_with(lambda order: ORDER | order, text, True)


def read_any_good(text: str) -> Record | None:
    return _read_with(lambda order: order | {"good": "net"}, text)


def read_any_day(text: str) -> Record | None:
    return _read_with(lambda order: order | {"day": "Friday"}, text)


def read_any_case(text: str) -> Record | None:
    return _read_with(
        lambda order: order | {"good": order["good"].lower(), "day": order["day"].title()}, text
    )


def read_any_number(text: str) -> Record | None:
    def change(order: Record) -> Record:
        numbers = {key: 5 for key in ("quantity", "price") if type(order[key]) is int}
        return order | numbers

    return _read_with(change, text)


def read_no_last_number(text: str) -> Record | None:
    order = reference_read(text)
    return None if order and (order["quantity"] == 40 or order["price"] == 99) else order


def read_no_first_number(text: str) -> Record | None:
    order = reference_read(text)
    return None if order and (order["quantity"] == 1 or order["price"] == 2) else order


def read_blank_customer(text: str) -> Record | None:
    return _read_with(
        lambda order: order | {"customer": "x"} if order["customer"].strip() == "" else order, text
    )


def read_any_customer(text: str) -> Record | None:
    return _read_with(lambda order: order | {"customer": "x"}, text)


def read_listed_customers_only(text: str) -> Record | None:
    order = reference_read(text)
    return order if order and order["customer"] in world.NAMES else None


def read_json_in_a_sentence(text: str) -> Record | None:
    start, end = text.find("{"), text.rfind("}")
    return reference_read(text[start : end + 1])


READING_MISTAKES = [
    WrongAnswer("JSON errors escape", read_unguarded,
                "A model's text need not be JSON: catch the error and return None."),
    WrongAnswer("a list as a dict", read_list_as_dict,
                "JSON can be a list, a number or null: ask `isinstance(..., dict)` first."),
    WrongAnswer("int() of everything", read_texts_as_numbers,
                "`int(...)` makes numbers of texts and fractions: a rule that repairs a reading "
                "hides that it was wrong. Ask for the type."),
    WrongAnswer("digits in quotes", read_text_digits,
                '"12" is a text: the number must be a JSON number.'),
    WrongAnswer("true as a number", read_booleans,
                "`True` is an int to Python: `type(x) is int`, or refuse bool."),
    WrongAnswer("fractions", read_fractions,
                "12.5 and 12.0 are not whole numbers, and `12.0 in range(...)` is true."),
    WrongAnswer("more fields", read_more_fields,
                "A sixth field breaks the rules: exactly five fields."),
    WrongAnswer("missing fields", read_other_fields,
                "A field is missing there, and you fill it in: nobody ordered that."),
    WrongAnswer("any good", read_any_good, "`good` must be one of `world.GOODS`."),
    WrongAnswer("any day", read_any_day, "`day` must be one of `world.DAYS`."),
    WrongAnswer("any case", read_any_case, "The closed lists are exact: `Net` is not `net`."),
    WrongAnswer("any number", read_any_number,
                "A number outside its range breaks the rules."),
    WrongAnswer("the last number refused", read_no_last_number,
                "The largest quantity is 40 and the highest price 99, both included."),
    WrongAnswer("the first number refused", read_no_first_number,
                "The smallest quantity is 1 and the lowest price 2, both included."),
    WrongAnswer("blank customer", read_blank_customer,
                "A customer without a letter is nobody: ask for `.strip()`."),
    WrongAnswer("any customer", read_any_customer, "A customer is a text."),
    WrongAnswer("listed customers only", read_listed_customers_only,
                "There is no list of customers: strangers order too."),
    WrongAnswer("JSON in a sentence", read_json_in_a_sentence,
                "The whole text must be JSON: what else the model wrote is a sign that it did "
                "not read the form as it was trained to."),
]  # fmt: skip


def _order(**fields: Any) -> tuple[str]:
    return (write(ORDER | fields),)


READINGS = [
    Case("a valid order", (A,)),
    Case("a sentence", ("I see an order.",), "Text that is not JSON is no order."),
    Case("an empty text", ("",)),
    Case("JSON that is cut off", (A[:-7],)),
    *(Case("JSON that is no object", (text,), "Only an object has fields.")
      for text in ("[]", "12", "null", '"net"', "NaN")),
    Case("a missing field", (write({k: v for k, v in ORDER.items() if k != "day"}),),
         "Exactly five fields."),
    Case("an empty object", ("{}",)),
    Case("a sixth field", _order(total=360)),
    Case("a field of another name", (write({k: v for k, v in ORDER.items() if k != "day"}
                                           | {"date": "Friday"}),)),
    Case("a good that is not sold", _order(good="fishnet")),
    Case("a good in capitals", _order(good="Net")),
    Case("a good that is a number", _order(good=7)),
    Case("a good that is a list", _order(good=["net"]), "`in` a dict or a set needs a hashable "
         "value; a list has none. Ask `isinstance(..., str)` first, or search a list."),
    Case("a day that is none", _order(day="Fryday")),
    Case("a day in small letters", _order(day="friday")),
    Case("a day that is null", _order(day=None)),
    Case("digits in quotes", _order(quantity="12")),
    Case("a price in quotes", _order(price="30")),
    Case("a fraction", _order(quantity=12.5)),
    Case("a whole number with a point", _order(price=30.0)),
    Case("true as a quantity", _order(quantity=True)),
    *(Case(f"{key} {value}", _order(**{key: value}), f"{key} runs from {low} to {high}.")
      for key, (low, high) in {"quantity": (1, 40), "price": (2, 99)}.items()
      for value in (low - 1, low, high, high + 1, -5)),
    Case("quantity null", _order(quantity=None)),
    Case("a blank customer", _order(customer="  ")),
    Case("an empty customer", _order(customer="")),
    Case("a customer that is a number", _order(customer=5), "A customer is a text."),
    Case("a customer on no list", _order(customer="Quibble")),
    Case("a Chinese customer", _order(customer="李明")),
    Case("JSON with spaces and another order of fields",
         (write(dict(reversed(ORDER.items())), "  "),)),
    Case("JSON within a sentence", (f"Here it is: {A}",)),
    Case("JSON with a comment behind it", (f"{A} Done.",)),
]  # fmt: skip

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
    return _first_repeated(_readings(*call, read=_parsed))


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


def _expect_readings(read_order: Callable) -> None:
    """Raise NotYet unless a function reads every text of READINGS as the reference does."""
    for number, case in enumerate(READINGS):
        if number == 0:
            expect_type(read_order(*case.arguments), dict, "what `read_order` returned")
        state, result = result_of(read_order, case.arguments)
        expected = reference_read(*case.arguments)
        if state == "value" and type(result) is type(expected) and result == expected:
            continue
        verdict = f"raises {result}" if state == "error" else f"returns {result!r}"
        why = name_mistake(read_order, READINGS, number, READING_MISTAKES) or case.hint
        raise NotYet(
            f"{case.what}, {case.arguments[0]!r}: `read_order` {verdict}, expected {expected!r}. "
            f"{why}".strip()
        )


def _describe(run: Run) -> str:
    record = "None" if run.record is None else f"{run.record!r}"
    views = ", ".join(str(place + 1) if place >= 0 else "of a view" for place in run.places)
    return f"{record} after the views {views or 'none'} ({run.tokens} tokens)"


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
        runner(*case.arguments)  # shows the line of the learner's code that raised the error
    verdict = f"`extract` raises {result}" if state == "error" else _describe(result)
    if state == "value" and result.changed:
        why = "`extract` draws on the caller's picture: work on a copy."
    raise NotYet(f"{case.what}: {verdict}, expected {_describe(expected)}. {why}".strip())


@exercise(
    "3.6",
    wrong=[
        *pair_answers(READING_MISTAKES, second=reference_extract),
        *pair_answers(EXTRACTION_MISTAKES, first=reference_read),
        WrongAnswer("reads nothing", (lambda text: None, reference_extract), "is None"),
        WrongAnswer("JSON only", (_parsed, reference_extract), "expected None"),
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
