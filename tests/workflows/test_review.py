"""The threshold below which a person checks an answer."""

import math

import pytest

from openmodels.workflows import review
from openmodels.workflows.review import Point

CONFIDENCE = [0.9, 0.2, 0.8, 0.4, 0.8]
RIGHT = [True, False, True, True, False]


def test_the_curve_accepts_the_most_certain_first():
    curve = review.risk_curve(CONFIDENCE, RIGHT)
    assert curve == [Point(0.9, 1, 0), Point(0.8, 3, 1), Point(0.4, 4, 1), Point(0.2, 5, 2)]
    with pytest.raises(ValueError):
        review.risk_curve(CONFIDENCE, RIGHT[:2])


def test_the_threshold_is_the_lowest_with_the_risk():
    assert review.choose_threshold(CONFIDENCE, RIGHT, 0.0) == 0.9
    assert review.choose_threshold(CONFIDENCE, RIGHT, 0.25) == 0.4
    assert review.choose_threshold(CONFIDENCE, RIGHT, 1.0) == 0.2
    assert review.choose_threshold([0.9], [False], 0.1) == math.inf


def test_cost_adds_reviews_and_errors():
    assert review.cost(Point(0.4, 4, 1), 5, review_cost=2.0, error_cost=10.0) == 12.0
    assert review.cost(Point(math.inf, 0, 0), 5, 2.0, 10.0) == 10.0


def test_a_share_has_its_interval():
    assert review.share([True] * 96 + [False] * 24) == "96 of 120 (72 to 86 %)"
    assert review.share([]) == "0 of 0"


def test_a_difference_says_what_its_interval_decides():
    right, wrong = [True] * 40, [False] * 40
    assert review.difference(right, wrong).endswith(": higher")
    assert review.difference(wrong, right).endswith(": lower")
    assert review.difference(right, right).startswith("+0 points (")
    assert review.difference(right, [*right[1:], False]).endswith(": not clear")


def test_methods_are_compared_with_the_first():
    lines = review.compare_shares({"a": [True] * 9, "b": [False] * 9, "c": [True] * 9})
    assert [line.partition(":")[0] for line in lines.split("\n")] == [
        "b - a", "c - a"
    ]  # fmt: skip
    assert lines.startswith("b - a: -100 points (")
