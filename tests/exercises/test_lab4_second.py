"""Lab 4's exercises 4.4, 4.5, 4.6, 4.8 and 4.9 accept right answers of other forms."""

import math
from collections import Counter, defaultdict

import pytest

from openmodels.check import find
from openmodels.exercises.lab4 import ex_4_9_gate


def correct(number, *answers) -> bool:
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state == "correct", outcome.message
    return True


@pytest.mark.parametrize("number", ["4.9"])
def test_an_exercise_has_twelve_wrong_answers_with_messages_of_their_own(number):
    wrong = find(number).load_checker().wrong_answers
    assert len(wrong) >= 12
    assert len({answer.message for answer in wrong}) >= 12


# --- 4.9, the gate --------------------------------------------------------------------------------


def test_example_of_the_gate():
    result = ex_4_9_gate.reference_gate(*ex_4_9_gate.EXAMPLE.arguments)
    assert result["exit"] == 1 and result["regressions"] == ["all", "a"]
    assert result["p_values"] == {"all": 1 / 64, "a": 1 / 64}
    assert result["broken"] == [f"case{n}" for n in range(1, 7)] and result["fixed"] == []


def test_the_reference_stops_the_planted_faults_only():
    for what, (base, run, expected) in ex_4_9_gate.scenarios().items():
        result = ex_4_9_gate.reference_gate(base, run)
        assert result["exit"] == expected, what
        if "refusals" in what:
            assert result["regressions"] == ["refusal"]


def stopped(reasons):
    return dict(exit=2, regressions=(), p_values={}, broken=(), fixed=(), new=(), reasons=reasons)


def decide(groups, margin, alpha):
    """Return groups that regress, and p-values, from lists of (before, after)."""
    p_values, bad = {}, []
    for name, pairs in groups.items():
        b, f = (sum(pair == kind for pair in pairs) for kind in ((1, 0), (0, 1)))
        p_values[name] = 1 - sum(math.comb(b + f, k) for k in range(b)) / 2 ** (b + f)
        if b - f > margin * len(pairs) and p_values[name] * len(groups) < alpha:
            bad.append(name)
    return p_values, bad


def gate_by_counters(baseline, run, margin=0.02, alpha=0.05):
    counts = [Counter(row[0] for row in rows) for rows in (baseline, run)]
    wrong = {i for c in counts for i, n in c.items() if n > 1} | (counts[0] - counts[1]).keys()
    if wrong or not counts[0]:
        return stopped(["cannot compare", *sorted(wrong)])
    after, groups = {row[0]: row[2] for row in run}, {"all": []}
    for i, kind, right in sorted(baseline, key=lambda row: row[1]):
        for name in ("all", kind):
            groups.setdefault(name, []).append((int(right), int(after[i])))
    p_values, bad = decide(groups, margin, alpha)
    lists = defaultdict(list)
    for i, _, right in baseline:
        lists[right, after.pop(i)].append(i)
    return {
        "reasons": tuple(f"{name} regressed" for name in bad),
        "new": list(after),
        "fixed": lists[False, True],
        "broken": lists[True, False],
        "p_values": p_values,
        "regressions": bad,
        "exit": 1 if bad else 0,
        "margin": margin,
    }


def gate_with_booleans(baseline, run, margin=0.02, alpha=0.05):
    result = ex_4_9_gate.reference_gate(baseline, run, margin, alpha)
    code = result["exit"]
    return result | {"exit": code if code == 2 else len(result["regressions"]) > 0}


def gate_recursive(baseline, run, margin=0.02, alpha=0.05):
    def tail(n, k):
        return 1.0 if k <= 0 else 0.0 if k > n else (tail(n - 1, k - 1) + tail(n - 1, k)) / 2

    result = ex_4_9_gate.reference_gate(list(baseline), tuple(run), margin, alpha)
    if result["exit"] < 2:
        n, k = len(result["broken"] + result["fixed"]), len(result["broken"])
        if n < 15:
            result["p_values"]["all"] = tail(n, k)
    return result


class GateOfRows:
    def __call__(self, baseline, run, margin=0.02, alpha=0.05):
        return ex_4_9_gate.gate_with(ex_4_9_gate.Rules())(baseline, run, margin, alpha)


@pytest.mark.parametrize(
    "gate", [gate_by_counters, gate_with_booleans, gate_recursive, GateOfRows().__call__]
)
def test_gates_of_other_forms(gate):
    assert correct("4.9", gate)
