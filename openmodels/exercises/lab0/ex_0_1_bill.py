"""Exercise 0.1: bill an order. It shows what a check says about an answer."""

from collections.abc import Callable

from openmodels.check import WrongAnswer, exercise, expect_equal


@exercise(
    "0.1",
    wrong=[
        WrongAnswer("price of one good", lambda price, quantity: price, "quantity"),
        WrongAnswer("sum", lambda price, quantity: price + quantity, "add"),
        WrongAnswer("text", lambda price, quantity: f"{price * quantity} coins", "number"),
    ],
)
def check_bill(bill: Callable[[int, int], int]) -> str:
    """Judge `bill(price, quantity)`."""
    what, result = "the bill for 5 ropes at 12 coins", bill(12, 5)
    if isinstance(result, str):
        expect_equal(result, 60, what, "Return a number, not a text.")
    if result == 17:
        expect_equal(result, 60, what, "Did you add the two instead?")
    expect_equal(result, 60, what, "Does the quantity count?")
    expect_equal(bill(7, 1), 7, "the bill for 1 rope at 7 coins")
    return "5 ropes at 12 coins cost 60, and the ledger agrees."
