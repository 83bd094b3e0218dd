"""The warm-up of `chapters/00_start_here.ipynb`: an exercise that shows what a check says."""

from openmodels.check import Wrong, exercise, expect_equal


@exercise(
    "0.1",
    title="Bill an order",
    hints=[
        "What does one rope cost, and how many are there?",
        "The result is a number of coins: `price * quantity`.",
    ],
    wrong=[
        Wrong("one good only", lambda price, quantity: price, "quantity"),
        Wrong("sum", lambda price, quantity: price + quantity, "add"),
        Wrong("text", lambda price, quantity: f"{price * quantity} coins", "number"),
    ],
)
def check_bill(bill) -> str:
    what, seen = "the bill for 5 ropes at 12 coins", bill(12, 5)
    if isinstance(seen, str):
        expect_equal(seen, 60, what, "Return a number, not a text.")
    if seen == 17:
        expect_equal(seen, 60, what, "Did you add the two instead?")
    expect_equal(seen, 60, what, "Does the quantity count?")
    expect_equal(bill(7, 1), 7, "the bill for 1 rope at 7 coins")
    return "5 ropes at 12 coins cost 60, and the ledger agrees."
