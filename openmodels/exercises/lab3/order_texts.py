"""The first half of exercise 3.6: read an order strictly, and the mistakes that repair one."""

import ast
import json
import math
import re
from collections.abc import Callable
from typing import Any

from openmodels.check import WrongAnswer
from openmodels.exercises.cases import Case
from openmodels.exercises.lab3.scripted_forms import ORDER, PRICES, QUANTITIES, A, Record, write
from openmodels.harbour import world
from openmodels.harbour.scenes import FIELDS

# What `json.loads` raises: JSONDecodeError is a ValueError, and so is the error for a number with
# thousands of digits; text that is nested too deeply is a RecursionError.
UNREADABLE = (ValueError, RecursionError)

# --- The reference solution -----------------------------------------------------------------------


def reference_read(text: str) -> Record | None:
    """Return the order that a model wrote as JSON, or None if it breaks a rule of the form."""
    try:
        order = json.loads(text)
    except UNREADABLE:
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


# --- Known mistakes in reading --------------------------------------------------------------------


def parse(text: str) -> Any:
    """Return what a text says in JSON, valid or not; None if it is no JSON."""
    try:
        return json.loads(text)
    except UNREADABLE:
        return None


def _read_unguarded(text: str) -> Record | None:
    return reference_read(text) if isinstance(json.loads(text), dict) else None


def _read_list_as_dict(text: str) -> Record | None:
    try:
        order = json.loads(text)
    except UNREADABLE:
        return None
    if set(order.keys()) != set(FIELDS):
        return None
    return reference_read(text)


def _read_with(
    change: Callable[[Record], Record], text: str, any_fields: bool = False
) -> Record | None:
    """Return an order that is valid, or that is valid after a change."""
    order = parse(text)
    if not isinstance(order, dict) or (set(order) != set(FIELDS) and not any_fields):
        return None
    try:
        return order if reference_read(text) or reference_read(write(change(order))) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _read_texts_as_numbers(text: str) -> Record | None:
    return _read_with(
        lambda order: order | {key: int(order[key]) for key in ("quantity", "price")}, text
    )


def _read_text_digits(text: str) -> Record | None:
    def change(order: Record) -> Record:
        numbers = {key: order[key] for key in ("quantity", "price")}
        return order | {k: int(v) if isinstance(v, str) else v for k, v in numbers.items()}

    return _read_with(change, text)


def _read_booleans(text: str) -> Record | None:
    def change(order: Record) -> Record:
        return order | {"quantity": order["quantity"] + 0} if order["quantity"] is True else order

    return _read_with(change, text)


def _read_fractions(text: str) -> Record | None:
    def change(order: Record) -> Record:
        numbers = {key: order[key] for key in ("quantity", "price")}
        whole = {k: int(v) if isinstance(v, float) else v for k, v in numbers.items()}
        return order | whole

    return _read_with(change, text)


def _read_more_fields(text: str) -> Record | None:
    return _read_with(lambda order: {key: order[key] for key in FIELDS}, text, True)


def _read_other_fields(text: str) -> Record | None:
    return _read_with(lambda order: ORDER | order, text, True)


def _read_any_good(text: str) -> Record | None:
    return _read_with(lambda order: order | {"good": "net"}, text)


def _read_any_day(text: str) -> Record | None:
    return _read_with(lambda order: order | {"day": "Friday"}, text)


def _read_any_case(text: str) -> Record | None:
    return _read_with(
        lambda order: order | {"good": order["good"].lower(), "day": order["day"].title()}, text
    )


def _read_any_number(text: str) -> Record | None:
    def change(order: Record) -> Record:
        numbers = {key: 5 for key in ("quantity", "price") if type(order[key]) is int}
        return order | numbers

    return _read_with(change, text)


def _read_no_last_number(text: str) -> Record | None:
    order = reference_read(text)
    return None if order and (order["quantity"] == 40 or order["price"] == 99) else order


def _read_no_first_number(text: str) -> Record | None:
    order = reference_read(text)
    return None if order and (order["quantity"] == 1 or order["price"] == 2) else order


def _read_blank_customer(text: str) -> Record | None:
    return _read_with(
        lambda order: order | {"customer": "x"} if order["customer"].strip() == "" else order, text
    )


def _read_any_customer(text: str) -> Record | None:
    return _read_with(lambda order: order | {"customer": "x"}, text)


def _read_listed_customers_only(text: str) -> Record | None:
    order = reference_read(text)
    return order if order and order["customer"] in world.NAMES else None


def _read_json_in_a_sentence(text: str) -> Record | None:
    start, end = text.find("{"), text.rfind("}")
    return reference_read(text[start : end + 1])


def _read_decode_errors_only(text: str) -> Record | None:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return None
    return reference_read(text)


def _read_value_errors_only(text: str) -> Record | None:
    try:
        json.loads(text)
    except ValueError:
        return None
    return reference_read(text)


def _read_without_fence(text: str) -> Record | None:
    return reference_read(re.sub(r"^\s*```\w*|```\s*$", "", text))


def _read_python_literal(text: str) -> Record | None:
    try:
        return reference_read(json.dumps(ast.literal_eval(text.strip())))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return reference_read(text)


def _read_single_quotes(text: str) -> Record | None:
    return reference_read(text) or reference_read(text.replace("'", '"'))


def _read_double_quotes_only(text: str) -> Record | None:
    return reference_read(text.replace("'", '"'))


def _read_trailing_comma(text: str) -> Record | None:
    return reference_read(re.sub(r",\s*([}\]])", r"\1", text))


def _read_first_object(text: str) -> Record | None:
    try:
        order, _ = json.JSONDecoder().raw_decode(text.strip())
    except UNREADABLE:
        return None
    return reference_read(json.dumps(order))


def _read_list_of_one_order(text: str) -> Record | None:
    order = parse(text)
    single = isinstance(order, list) and len(order) == 1
    return reference_read(json.dumps(order[0]) if single else text)


def _read_text_in_a_text(text: str) -> Record | None:
    order = parse(text)
    return reference_read(order if isinstance(order, str) else text)


def _read_any_field_case(text: str) -> Record | None:
    order = parse(text)
    if not isinstance(order, dict):
        return None
    return reference_read(write({key.strip().lower(): value for key, value in order.items()}))


def _read_spaced_words(text: str) -> Record | None:
    return _read_with(
        lambda order: order | {key: order[key].strip() for key in ("good", "day")}, text
    )


def _change_customer(change: Callable[[str], str], text: str) -> Record | None:
    order = reference_read(text)
    return order and order | {"customer": change(order["customer"])}


def _read_stripped_customer(text: str) -> Record | None:
    return _change_customer(str.strip, text)


def _read_titled_customer(text: str) -> Record | None:
    return _change_customer(str.title, text)


def _read_capitalised_customer(text: str) -> Record | None:
    return _change_customer(str.capitalize, text)


def _read_lower_customer(text: str) -> Record | None:
    return _change_customer(str.lower, text)


def _expect_customer(valid: Callable[[str], bool], text: str) -> Record | None:
    order = reference_read(text)
    return order if order and valid(order["customer"]) else None


def _read_one_word_customer(text: str) -> Record | None:
    return _expect_customer(lambda name: len(name.split()) == 1, text)


def _read_letters_only_customer(text: str) -> Record | None:
    return _expect_customer(str.isalpha, text)


def _read_letters_and_spaces_customer(text: str) -> Record | None:
    return _expect_customer(lambda name: name.replace(" ", "").isalpha(), text)


def _read_long_customer(text: str) -> Record | None:
    return _expect_customer(lambda name: len(name) > 1, text)


def _read_titled_customers_only(text: str) -> Record | None:
    return _expect_customer(lambda name: name[:1] == name[:1].upper() != name[:1].lower(), text)


def _read_unspaced_customers_only(text: str) -> Record | None:
    return _expect_customer(lambda name: name == name.strip(), text)


def _read_floats(text: str) -> Record | None:
    order = reference_read(text)
    return order and order | {key: float(order[key]) for key in ("quantity", "price")}


def _read_first_of_repeated(text: str) -> Record | None:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
        return reference_read(json.dumps(dict(reversed(pairs))))
    except (*UNREADABLE, TypeError):
        return None


def _read_no_repeated(text: str) -> Record | None:
    return reference_read(text) if text.count('"quantity"') == 1 else None


READING_MISTAKES = [
    WrongAnswer("JSON errors escape", _read_unguarded,
                "A model's text need not be JSON: catch the error and return None."),
    WrongAnswer("a list as a dict", _read_list_as_dict,
                "JSON can be a list, a number or null: ask `isinstance(..., dict)` first."),
    WrongAnswer("int() of everything", _read_texts_as_numbers,
                "`int(...)` makes numbers of texts and fractions: a rule that repairs a reading "
                "hides that it was wrong. Ask for the type."),
    WrongAnswer("digits in quotes", _read_text_digits,
                '"12" is a text: the number must be a JSON number.'),
    WrongAnswer("true as a number", _read_booleans,
                "`True` is an int to Python: `type(x) is int`, or refuse bool."),
    WrongAnswer("fractions", _read_fractions,
                "12.5 and 12.0 are not whole numbers, and `12.0 in range(...)` is true."),
    WrongAnswer("more fields", _read_more_fields,
                "A sixth field breaks the rules: exactly five fields."),
    WrongAnswer("missing fields", _read_other_fields,
                "A field is missing there, and you fill it in: nobody ordered that."),
    WrongAnswer("any good", _read_any_good, "`good` must be one of `world.GOODS`."),
    WrongAnswer("any day", _read_any_day, "`day` must be one of `world.DAYS`."),
    WrongAnswer("any case", _read_any_case, "The closed lists are exact: `Net` is not `net`."),
    WrongAnswer("any number", _read_any_number,
                "A number outside its range breaks the rules."),
    WrongAnswer("the last number refused", _read_no_last_number,
                "The largest quantity is 40 and the highest price 99, both included."),
    WrongAnswer("the first number refused", _read_no_first_number,
                "The smallest quantity is 1 and the lowest price 2, both included."),
    WrongAnswer("blank customer", _read_blank_customer,
                "A customer without a letter is nobody: ask for `.strip()`."),
    WrongAnswer("any customer", _read_any_customer, "A customer is a text."),
    WrongAnswer("listed customers only", _read_listed_customers_only,
                "There is no list of customers: strangers order too."),
    WrongAnswer("JSONDecodeError only", _read_decode_errors_only,
                "`json.loads` also raises a plain ValueError, for a number of thousands of digits. "
                "Catch `ValueError`: JSONDecodeError is a kind of it."),
    WrongAnswer("ValueError only", _read_value_errors_only,
                "`json.loads` raises RecursionError for text that is nested too deeply: catch it "
                "next to `ValueError`."),
    WrongAnswer("the fence removed", _read_without_fence,
                "You remove the fence around the JSON, which is a repair: the whole text must be "
                "JSON."),
    WrongAnswer("a Python literal", _read_python_literal,
                "A Python literal is not JSON: `ast.literal_eval` accepts single quotes, trailing "
                "commas and `True`."),
    WrongAnswer("single quotes", _read_single_quotes,
                "You replace single quotes, which is a repair: JSON has double quotes only."),
    WrongAnswer("every single quote", _read_double_quotes_only,
                "You replace single quotes everywhere. That changes names such as O'Neil, and it "
                "is a repair: JSON has double quotes only."),
    WrongAnswer("a trailing comma", _read_trailing_comma,
                "You remove a comma before a bracket, which is a repair: JSON has none there."),
    WrongAnswer("the first object", _read_first_object,
                "You ignore the text after the first JSON value, which is a repair: the whole text "
                "must be JSON."),
    WrongAnswer("a list of one order", _read_list_of_one_order,
                "You take an order out of a list, which is a repair: the text is one JSON object."),
    WrongAnswer("JSON in a JSON text", _read_text_in_a_text,
                "You parse a text within the JSON again, which is a repair: the text is one JSON "
                "object."),
    WrongAnswer("fields in any case", _read_any_field_case,
                "You change the names of fields, which is a repair: `Good` is not `good`."),
    WrongAnswer("spaces around words", _read_spaced_words,
                "You remove spaces around a good or a day, which is a repair: the closed lists are "
                "exact."),
    WrongAnswer("customer stripped", _read_stripped_customer,
                "You remove spaces around the customer. Return the text as it is: nothing is "
                "repaired."),
    WrongAnswer("customer in title case", _read_titled_customer,
                "You change the customer's capital letters. Return the text as it is: nothing is "
                "repaired."),
    WrongAnswer("customer capitalised", _read_capitalised_customer,
                "You change the customer's capital letters. Return the text as it is: nothing is "
                "repaired."),
    WrongAnswer("customer in small letters", _read_lower_customer,
                "You change the customer's capital letters. Return the text as it is: nothing is "
                "repaired."),
    WrongAnswer("customers of one word", _read_one_word_customer,
                "A customer may have several words, such as Mary Ann: any text that is not blank "
                "is valid."),
    WrongAnswer("customers of letters", _read_letters_only_customer,
                "`isalpha()` is false for names with a space or a sign, such as Mary Ann: any text "
                "that is not blank is valid."),
    WrongAnswer("customers of letters and spaces", _read_letters_and_spaces_customer,
                "Names contain signs and digits, such as O'Neil: any text that is not blank is "
                "valid."),
    WrongAnswer("customers of two letters", _read_long_customer,
                "A customer may have a single letter: any text that is not blank is valid."),
    WrongAnswer("customers with a capital", _read_titled_customers_only,
                "A customer needs no capital letter: any text that is not blank is valid."),
    WrongAnswer("customers without outer spaces", _read_unspaced_customers_only,
                "Spaces around a customer break no rule: any text that is not blank is valid."),
    WrongAnswer("numbers as floats", _read_floats,
                "You convert the numbers. Return what `json.loads` returns, with integers."),
    WrongAnswer("the first of a repeated field", _read_first_of_repeated,
                "Of a repeated field the last value counts, as in `json.loads`."),
    WrongAnswer("repeated fields refused", _read_no_repeated,
                "A repeated field breaks no rule: its last value counts, as in `json.loads`."),
    WrongAnswer("JSON in a sentence", _read_json_in_a_sentence,
                "The whole text must be JSON: what else the model wrote is a sign that it did "
                "not read the form as it was trained to."),
]  # fmt: skip


def _order(**fields: Any) -> tuple[str]:
    return (write(ORDER | fields),)


# --- Texts and what to look at -------------------------------------------------------------------

WHOLE = "The whole text must be JSON, with nothing before or after it: nothing is repaired."
STRICT = "That is not JSON, and nothing is repaired."
LISTED_GOOD = "`good` is exactly a name in `world.GOODS`."
LISTED_DAY = "`day` is exactly a name in `world.DAYS`."
INTEGER = "A number is a JSON integer: ask for the type."
UNCHANGED = "Any text that is not blank is a customer, and is returned as it is."
ANY_ERROR = (
    "`json.loads` raises a plain ValueError for a number of thousands of digits, and "
    "RecursionError for text that is nested too deeply: catch both."
)
READINGS = [
    Case("a valid order", (A,), "Is a `return` missing, or is a rule too strict?"),
    Case("a sentence", ("I see an order.",), "Text that is not JSON is no order."),
    Case("an empty text", ("",), "Text that is not JSON is no order."),
    Case("JSON that is cut off", (A[:-7],), STRICT),
    *(Case("JSON that is no object", (text,), "Only an object has fields.")
      for text in ("[]", "12", "null", '"net"', "NaN")),
    Case("a missing field", (write({k: v for k, v in ORDER.items() if k != "day"}),),
         "Exactly five fields."),
    Case("an empty object", ("{}",), "Exactly five fields."),
    Case("a sixth field", _order(total=360), "Exactly five fields."),
    Case("a field of another name", (write({k: v for k, v in ORDER.items() if k != "day"}
                                           | {"date": "Friday"}),),
         "The fields have exactly these names."),
    Case("a good that is not sold", _order(good="fishnet"), LISTED_GOOD),
    Case("a good in capitals", _order(good="Net"), LISTED_GOOD),
    Case("a good that is a number", _order(good=7), LISTED_GOOD),
    Case("a good that is a list", _order(good=["net"]), "`in` a dict or a set needs a hashable "
         "value; a list has none. Ask `isinstance(..., str)` first, or search a list."),
    Case("a day that is none", _order(day="Fryday"), LISTED_DAY),
    Case("a day in small letters", _order(day="friday"), LISTED_DAY),
    Case("a day that is null", _order(day=None), LISTED_DAY),
    Case("digits in quotes", _order(quantity="12"), INTEGER),
    Case("a price in quotes", _order(price="30"), INTEGER),
    Case("a fraction", _order(quantity=12.5), INTEGER),
    Case("a whole number with a point", _order(price=30.0), INTEGER),
    Case("true as a quantity", _order(quantity=True), INTEGER),
    *(Case(f"{key} {value}", _order(**{key: value}), f"{key} runs from {low} to {high}.")
      for key, (low, high) in {"quantity": (1, 40), "price": (2, 99)}.items()
      for value in (low - 1, low, high, high + 1, -5)),
    Case("quantity null", _order(quantity=None), INTEGER),
    Case("a blank customer", _order(customer="  "), "A customer is not blank."),
    Case("an empty customer", _order(customer=""), "A customer is not blank."),
    Case("a customer that is a number", _order(customer=5), "A customer is a text."),
    Case("a customer on no list", _order(customer="Quibble"), UNCHANGED),
    Case("a Chinese customer", _order(customer="李明"), UNCHANGED),
    Case("JSON with spaces and another order of fields",
         (write(dict(reversed(ORDER.items())), "  "),), "Spaces and order mean nothing in JSON."),
    Case("JSON within blank lines", (f"\n  {A}\n\n",), "JSON may have spaces around it."),
    Case("JSON within a sentence", (f"Here it is: {A}",), WHOLE),
    Case("JSON with a comment behind it", (f"{A} Done.",), WHOLE),
    Case("an order written twice", (f"{A}\n{A}",), WHOLE),
    Case("JSON in a fence", (f"```json\n{A}\n```",), WHOLE),
    Case("JSON in a fence without a language", (f"```\n{A}\n```",), WHOLE),
    Case("JSON between backticks", (f"`{A}`",), WHOLE),
    Case("an order in single quotes", (A.replace('"', "'"),), STRICT),
    Case("a trailing comma", (A[:-1] + ",}",), STRICT),
    Case("JSON with a comment inside", (A[:-1] + " /* paid */}",), STRICT),
    Case("JSON without its last bracket", (A[:-1],), STRICT),
    Case("JSON without its brackets", (A[1:-1],), STRICT),
    Case("a list of one order", (f"[{A}]",), "The text is one JSON object, not a list."),
    Case("an order within a field", (f'{{"order": {A}}}',), "The five fields are not inside."),
    Case("an order as a JSON text", (json.dumps(A),), "The text is one JSON object, not a text."),
    Case("fields in capitals", (write({k.title(): v for k, v in ORDER.items()}),),
         "The fields have exactly these names."),
    Case("a good with a space behind it", _order(good="net "), "The closed lists are exact."),
    Case("a day with a space before it", _order(day=" Friday"), "The closed lists are exact."),
    Case("a day that is a list", _order(day=["Friday"]), "A list is no day, and has no hash."),
    Case("a good that is an object", _order(good={"net": 1}), "An object is no good."),
    Case("a price that is a list", _order(price=[30]), "A list is no number."),
    Case("a price that is no number", _order(price=math.nan), "NaN is no integer."),
    Case("an infinite quantity", _order(quantity=math.inf), "Infinity is no integer."),
    Case("a customer that is null", _order(customer=None), "A customer is a text."),
    Case("a customer that is a list", _order(customer=["Mara"]), "A customer is a text."),
    Case("a customer of a tab and a line break", _order(customer="\t\n"), "It is blank."),
    *(Case(f"the customer {name!r}", _order(customer=name), UNCHANGED)
      for name in (" Mara ", "mara", "VAN DYCK", "Mary Ann", "O'Neil & Sons 2", "Q", ",}", "7")),
    Case("a quantity written twice", (A.replace('"quantity"', '"quantity": 41, "quantity"'),),
         "The last value of a repeated field counts, as in `json.loads`."),
    Case("a quantity written twice, last out of range",
         (A.replace('"day"', '"quantity": 41, "day"'),),
         "The last value of a repeated field counts, as in `json.loads`."),
    Case("a quantity of 5,000 digits", (A.replace("12", "1" * 5000),), ANY_ERROR),
    Case("a number of 5,000 digits", ("1" * 5000,), ANY_ERROR),
    Case("100,000 brackets", ("[" * 100_000,), ANY_ERROR),
    Case("100,000 objects in each other", ('{"customer":' * 100_000,), ANY_ERROR),
]  # fmt: skip
