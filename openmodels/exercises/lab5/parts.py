"""Use a learner's parts of the office if they are right, and reference parts if they are not."""

from __future__ import annotations

from collections.abc import Callable

from openmodels.check import find
from openmodels.exercises.lab5 import (
    ex_5_1_route,
    ex_5_2_tools,
    ex_5_3_rules,
    ex_5_4_media,
    ex_5_5_limits,
)
from openmodels.progress_file import CORRECT

REFERENCES: dict[str, tuple[Callable, ...]] = {
    "5.1": (ex_5_1_route.reference_to_english, ex_5_1_route.reference_route),
    "5.2": (ex_5_2_tools.reference_carry_out,),
    "5.3": (ex_5_3_rules.reference_answer_rules,),
    "5.4": (ex_5_4_media.reference_form_call, ex_5_4_media.reference_radio_call),
    "5.5": (ex_5_5_limits.reference_guard, ex_5_5_limits.reference_within),
}


def working(number: str, *functions: Callable) -> tuple[Callable, ...]:
    """Return a learner's functions if the check accepts them, else the reference functions.

    Prints which. So each exercise can be solved on its own. Raises KeyError for a number that is
    not from 5.1 to 5.5.
    """
    references = REFERENCES[number]
    outcome = find(number).load_checker().judge(*functions)
    right = outcome.state == CORRECT
    print(f"{number}: {'your functions' if right else 'the reference, yours: ' + outcome.state}")
    return functions if right else references
