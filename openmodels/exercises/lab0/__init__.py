"""The warm-up of `chapters/00_start_here.ipynb`: the number, title and hints of its exercise."""

from openmodels.check import Exercise

EXERCISES = (
    Exercise(
        "0.1",
        "Bill an order",
        hints=(
            "What does one rope cost, and how many are there?",
            "The result is a number of coins: `price * quantity`.",
        ),
    ),
)
