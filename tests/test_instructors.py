"""The rubric of the capstone agrees with the acceptance suite that it gives points for."""

import re
from collections import Counter

import pytest
from notebooks import ROOT

from openmodels.exercises.lab5.cases import draw_suite
from openmodels.exercises.lab5.requirements import CALLS, REQUIREMENTS, TOKENS, required

RUBRIC = (ROOT / "deploy" / "instructors" / "capstone_rubric.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\w+): ([^|]*)\| (\d+) \| (\d+) \| (\d+)([^|]*)\| (\d+)", RUBRIC, re.M)


def test_every_requirement_has_points():
    assert sorted(row[0] for row in ROWS) == sorted(REQUIREMENTS)
    sections = [int(points) for points in re.findall(r"^## \d.*: (\d+) points", RUBRIC, re.M)]
    assert sum(sections) == 100
    assert sum(int(row[3]) for row in ROWS) == sections[0]


@pytest.mark.parametrize("seed", [1, 2031])
def test_the_numbers_of_cases_are_those_of_every_hidden_suite(seed):
    counts = Counter(name for case in draw_suite(seed).cases for name in required(case))
    assert {row[0]: int(row[2]) for row in ROWS} == counts


def test_limits_are_possible():
    for name, _text, count, _points, full, _words, half in ROWS:
        assert int(half) < int(full) <= int(count), name


def test_the_budget_is_the_suites():
    assert f"at most {CALLS} calls and {TOKENS:,} tokens" in RUBRIC
