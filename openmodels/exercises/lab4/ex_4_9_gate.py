"""Exercise 4.9: a regression gate that stops planted faults and passes harmless changes."""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.cases import Case
from openmodels.exercises.lab4.contracts import Contract, describe_difference

Row = tuple[str, str, bool]  # id of the case, its kind, whether the answer was right
Rows = list[Row]

# --- The reference solution -----------------------------------------------------------------------


def sign_test(broken: int, fixed: int) -> float:
    """Return the probability of at least `broken` losses among the changed cases, by chance."""
    n = broken + fixed
    return sum(math.comb(n, k) for k in range(broken, n + 1)) / 2**n


@dataclass(frozen=True)
class Rules:
    """The steps of the gate. A known mistake replaces one of them.

    p_value: of numbers of broken, fixed and all cases. regressed: whether (loss, p, margin, alpha)
    is a regression. tests: number of tests for a number of kinds.
    """

    p_value: Callable[[int, int, int], float] = lambda broken, fixed, n: sign_test(broken, fixed)
    regressed: Callable[[float, float, float, float], bool] = lambda loss, p, margin, alpha: (
        loss > margin and p < alpha
    )
    tests: Callable[[int], int] = lambda kinds: 1 + kinds
    loss: Callable[[int, int, int, int], float] = lambda broken, fixed, n, everything: (
        (broken - fixed) / n
    )
    groups: Callable[[list[str]], list[str]] = lambda kinds: ["all", *kinds]


def find_errors(baseline: Iterable[Row], run: Iterable[Row]) -> list[str]:
    """Return why the two runs cannot be compared."""
    before, after = ([case for case, _, _ in rows] for rows in (baseline, run))
    errors = [] if before else ["the baseline has no cases"]
    for name, ids in (("baseline", before), ("run", after)):
        repeated = [case for case, count in Counter(ids).items() if count > 1]
        if repeated:
            errors.append(f"repeated in the {name}: {', '.join(repeated)}")
    present = set(after)
    missing = [case for case in dict.fromkeys(before) if case not in present]
    if missing:
        errors.append(f"missing in the run: {', '.join(missing)}")
    return errors


def empty_result(exit_code: int, reasons: list[str]) -> dict[str, Any]:
    """Return a result without a comparison."""
    return {
        "exit": exit_code, "regressions": [], "p_values": {}, "broken": [], "fixed": [],
        "new": [], "reasons": reasons,
    }  # fmt: skip


def compare(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05, rules: Rules = Rules()
) -> dict[str, Any]:
    """Return the gate's decision for two runs that can be compared."""
    after = {case: right for case, _, right in run}
    before = {case for case, _, _ in baseline}
    kinds = sorted({kind for _, kind, _ in baseline})
    groups = rules.groups(kinds)
    p_values, regressions, reasons = {}, [], []
    for group in groups:
        rows = [row for row in baseline if group in ("all", row[1])]
        broken = sum(right and not after[case] for case, _, right in rows)
        fixed = sum(after[case] and not right for case, _, right in rows)
        p_values[group] = rules.p_value(broken, fixed, len(rows))
        loss = rules.loss(broken, fixed, len(rows), len(baseline))
        if rules.regressed(loss, p_values[group], margin, alpha / rules.tests(len(kinds))):
            regressions.append(group)
            reasons.append(f"{group}: {broken} broken, {fixed} fixed, {100 * loss:.1f} points lost")
    return {
        "exit": int(bool(regressions)),
        "regressions": regressions,
        "p_values": p_values,
        "broken": [case for case, _, right in baseline if right and not after[case]],
        "fixed": [case for case, _, right in baseline if after[case] and not right],
        "new": [case for case in after if case not in before],
        "reasons": reasons,
    }


def reference_gate(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> dict[str, Any]:
    """Return the gate's decision."""
    if errors := find_errors(baseline, run):
        return empty_result(2, errors)
    return compare(baseline, run, margin, alpha)


# --- Known mistakes -------------------------------------------------------------------------------


def gate_with(rules: Rules) -> Callable:
    """Return the gate with other rules."""

    def gate(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
        if errors := find_errors(baseline, run):
            return empty_result(2, errors)
        return compare(baseline, run, margin, alpha, rules)

    return gate


def edit(result: Callable[[dict], dict]) -> Callable:
    """Return the gate with an edited result."""
    return lambda *call: result(reference_gate(*call))


def two_sided(broken: int, fixed: int, n: int) -> float:
    return min(1.0, 2 * sign_test(max(broken, fixed), min(broken, fixed)))


def strict_tail(broken: int, fixed: int, n: int) -> float:
    return sign_test(broken, fixed) - math.comb(broken + fixed, broken) / 2 ** (broken + fixed)


def point_probability(broken: int, fixed: int, n: int) -> float:
    return math.comb(broken + fixed, broken) / 2 ** (broken + fixed)


def other_direction(broken: int, fixed: int, n: int) -> float:
    return sign_test(fixed, broken)


def over_all_cases(broken: int, fixed: int, n: int) -> float:
    return sum(math.comb(n, k) for k in range(broken, n + 1)) / 2**n


def normal_test(broken: int, fixed: int, n: int) -> float:
    z = (broken - fixed) / math.sqrt(broken + fixed) if broken + fixed else 0.0
    return math.erfc(z / math.sqrt(2)) / 2


def gate_filling_missing(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> dict:
    known = {case for case, _, _ in run}
    filled = [*run, *((case, kind, False) for case, kind, _ in baseline if case not in known)]
    return reference_gate(baseline, filled, margin, alpha)


def gate_dropping_missing(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> dict:
    known = {case for case, _, _ in run}
    return reference_gate([row for row in baseline if row[0] in known], run, margin, alpha)


def unique(rows: Rows) -> Rows:
    return list({row[0]: row for row in rows}.values())


def gate_with_last_duplicate(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> dict:
    return reference_gate(unique(baseline), unique(run), margin, alpha)


def gate_ignoring_baseline_duplicates(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> dict:
    return reference_gate(unique(baseline), run, margin, alpha)


def gate_refusing_new(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    known = {case for case, _, _ in baseline}
    if new := [case for case, _, _ in run if case not in known]:
        return empty_result(2, [f"new in the run: {', '.join(new)}"])
    return reference_gate(baseline, run, margin, alpha)


def gate_counting_new(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    known = {case for case, _, _ in baseline}
    wrong = [(case, kind, False) for case, kind, _ in run if case not in known]
    result = reference_gate([*baseline, *wrong], run, margin, alpha)
    return result | {"new": [case for case, _, _ in wrong] if result["exit"] < 2 else []}


def gate_by_position(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    if errors := find_errors(baseline, run):
        return empty_result(2, errors)
    new = [row for row in run if row[0] not in {case for case, _, _ in baseline}]
    pairs = zip(baseline, run, strict=False)
    renamed = [(case, kind, right) for (case, kind, _), (_, _, right) in pairs]
    return compare(baseline, [*renamed, *new], margin, alpha)


def gate_by_totals(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    result = reference_gate(baseline, run, margin, alpha)
    if result["exit"] == 2:
        return result
    after = {case: right for case, _, right in run}
    p_values = {}
    for group in result["p_values"]:
        rows = [row for row in baseline if group in ("all", row[1])]
        old, new = sum(row[2] for row in rows), sum(after[row[0]] for row in rows)
        pooled = (old + new) / (2 * len(rows))
        error = math.sqrt(2 * pooled * (1 - pooled) / len(rows))
        z = (old - new) / len(rows) / error if error else 0.0
        p_values[group] = math.erfc(z / math.sqrt(2)) / 2
    return result | {"p_values": p_values}


def gate_unprotected(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    return compare(baseline, run, margin, alpha)


def gate_sorting(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    result = reference_gate(baseline, run, margin, alpha)
    run.sort()
    return result


def gate_of_empty(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    if not baseline:
        return empty_result(0, [])
    return reference_gate(baseline, run, margin, alpha)


def gate_stopping(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    result = reference_gate(baseline, run, margin, alpha)
    if result["exit"]:
        raise SystemExit(result["exit"])
    return result


def gate_of_one_kind(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> dict:
    result = reference_gate(baseline, run, margin, alpha)
    return result | {"regressions": result["regressions"][:1]}


def swap(result: dict) -> dict:
    return result | {"broken": result["fixed"], "fixed": result["broken"]}


def sort_ids(result: dict) -> dict:
    return result | {key: sorted(result[key]) for key in ("broken", "fixed")}


MISTAKES = [
    WrongAnswer("broken and fixed swapped", edit(swap),
                "You swap the lists: a broken case was right in the baseline."),
    WrongAnswer("ids sorted", edit(sort_ids), "List the ids in the order of the baseline."),
    WrongAnswer("by position", gate_by_position,
                "You pair rows by position. A run may list its cases in any order: pair by id."),
    WrongAnswer("totals", gate_by_totals,
                "You compare two totals. The runs answer the same cases, so only the cases that "
                "changed carry information: compare them case by case."),
    WrongAnswer("two-sided", gate_with(Rules(p_value=two_sided)),
                "Your p-value is two-sided. A gate asks for losses only."),
    WrongAnswer("strict tail", gate_with(Rules(p_value=strict_tail)),
                "Your p-value leaves out the result itself: sum from `broken` on, not from "
                "`broken + 1`."),
    WrongAnswer("probability of one result", gate_with(Rules(p_value=point_probability)),
                "You return the probability of exactly this result. A p-value adds all results "
                "that are at least as bad."),
    WrongAnswer("other direction", gate_with(Rules(p_value=other_direction)),
                "Your p-value is that of a gain: sum from `broken`, not from `fixed`."),
    WrongAnswer("n of all cases", gate_with(Rules(p_value=over_all_cases)),
                "Your test counts unchanged cases. Its n is the number of changed cases, broken + "
                "fixed."),
    WrongAnswer("normal approximation", gate_with(Rules(p_value=normal_test)),
                "That is the normal approximation (McNemar's z). With few changed cases it is too "
                "optimistic: add up the binomial probabilities."),
    WrongAnswer("no correction", gate_with(Rules(tests=lambda kinds: 1)),
                "You test several groups, each at alpha. Then false alarms add up: divide alpha "
                "by the number of tests."),
    WrongAnswer("corrected by kinds alone", gate_with(Rules(tests=lambda kinds: max(kinds, 1))),
                "The number of tests is 1 + the number of kinds: all cases together are a test "
                "too."),
    WrongAnswer("margin ignored",
                gate_with(Rules(regressed=lambda loss, p, margin, alpha: p < alpha)),
                "Your gate stops a loss within the margin. A difference can be significant and "
                "too small to matter."),
    WrongAnswer("significance ignored",
                gate_with(Rules(regressed=lambda loss, p, margin, alpha: loss > margin)),
                "Your gate stops a loss that chance explains: it also needs p < alpha / tests."),
    WrongAnswer("either is enough",
                gate_with(Rules(regressed=lambda loss, p, margin, alpha: (
                    loss > margin or p < alpha))),
                "Both conditions must hold, the loss and the p-value: you join them by `or`."),
    WrongAnswer("loss at the margin",
                gate_with(Rules(regressed=lambda loss, p, margin, alpha: (
                    loss >= margin and p < alpha))),
                "A loss equal to the margin is allowed: compare with `>`."),
    WrongAnswer("p at the level",
                gate_with(Rules(regressed=lambda loss, p, margin, alpha: (
                    loss > margin and p <= alpha))),
                "p must be below alpha / tests: compare with `<`."),
    WrongAnswer("broken share as loss",
                gate_with(Rules(loss=lambda broken, fixed, n, everything: broken / n)),
                "You do not subtract the fixed cases: the loss is (broken - fixed) / n."),
    WrongAnswer("loss of the changed cases",
                gate_with(Rules(loss=lambda broken, fixed, n, everything: (
                    (broken - fixed) / max(broken + fixed, 1)))),
                "The loss is a share of all cases of the group, not of the changed ones."),
    WrongAnswer("loss of all cases",
                gate_with(Rules(loss=lambda broken, fixed, n, everything: (
                    (broken - fixed) / everything))),
                "A kind's loss is a share of that kind's cases, not of all cases."),
    WrongAnswer("all cases only", gate_with(Rules(groups=lambda kinds: ["all"])),
                "You test all cases together only. A kind that breaks can hide behind another "
                "that improves: test each kind too."),
    WrongAnswer("kinds only", gate_with(Rules(groups=lambda kinds: kinds)),
                "You test the kinds only. A loss spread over all kinds shows in `all` first."),
    WrongAnswer("first regression only", gate_of_one_kind,
                "Name every group that regressed, not only the first."),
    WrongAnswer("new cases refused", gate_refusing_new,
                "A new case is no error: list it under `new` and leave it out of the comparison."),
    WrongAnswer("new cases counted", gate_counting_new,
                "You count new cases as fixed. They were never wrong before: leave them out."),
    WrongAnswer("missing cases counted as wrong", gate_filling_missing,
                "You count missing cases as wrong. A run that stopped early cannot be compared: "
                "exit 2."),
    WrongAnswer("missing cases dropped", gate_dropping_missing,
                "You drop missing cases. Then a run that stopped before the hard cases passes: "
                "exit 2."),
    WrongAnswer("last duplicate counts", gate_with_last_duplicate,
                "An id occurs twice and you use its last row. Nobody knows which row is meant: "
                "exit 2."),
    WrongAnswer("duplicates of the baseline", gate_ignoring_baseline_duplicates,
                "You look for repeated ids in the run only; the baseline can have some too."),
    WrongAnswer("nothing checked", gate_unprotected,
                "Check both lists of ids before you compare: repeated, missing, no case at all."),
    WrongAnswer("empty baseline passes", gate_of_empty,
                "A baseline without cases passes. Nothing was compared: exit 2."),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


def rows_of(kinds: str, flags: str, first: int = 1) -> Rows:
    """Return rows from a letter and a mark "+" or "-" per case."""
    numbered = enumerate(zip(kinds, flags, strict=True), first)
    return [(f"case{n}", kind, flag == "+") for n, (kind, flag) in numbered]


def changed(broken: int, fixed: int, right: int, wrong: int, kind: str = "a") -> tuple[str, ...]:
    """Return kinds, old marks and new marks of a group of cases."""
    n = broken + fixed + right + wrong
    old = "+" * broken + "-" * fixed + "+" * right + "-" * wrong
    return kind * n, old, "-" * broken + "+" * fixed + "+" * right + "-" * wrong


def case_of(what: str, *groups: tuple[str, ...], hint: str = "", **options: float) -> Case:
    """Return a case from groups of `changed` cases."""
    kinds, old, new = ("".join(parts) for parts in zip(*groups, strict=True))
    call: tuple = (rows_of(kinds, old), rows_of(kinds, new))
    if options:
        call += (options.get("margin", 0.02), options.get("alpha", 0.05))
    return Case(what, call, hint)


EXAMPLE = case_of(
    "the example", changed(6, 0, 3, 1), hint="All six changed cases broke: p is 1 / 64."
)
TEN = rows_of("aaabbbbbbb", "+-+++--+-+")
OTHER = rows_of("aaabbbbbbb", "-++++--++-")
CASES = [
    case_of("no case changed", changed(0, 0, 5, 2), hint="Without a changed case, p is 1."),
    EXAMPLE,
    case_of("a gain", changed(1, 8, 5, 3), hint="A gain is never a regression."),
    Case("cases of two kinds", (TEN, OTHER), "Keys of `p_values`: \"all\", then sorted kinds."),
    Case("a run in another order", (TEN, OTHER[::-1]), "Pair the rows by id."),
    case_of("11 broken, 3 fixed of 60", changed(11, 3, 40, 6)),
    case_of("12 broken, 2 fixed of 60", changed(12, 2, 40, 6)),
    case_of("a significant loss of 1.75 points", changed(7, 0, 300, 93),
            hint="It is within the margin of 2 points."),
    case_of("the same with a margin of 1 point", changed(7, 0, 300, 93), margin=0.01),
    case_of("a loss of exactly the margin, 12.5 points", changed(9, 1, 44, 10), margin=0.125),
    case_of("a p-value of exactly alpha / tests", changed(6, 0, 20, 4), alpha=1 / 32),
    case_of("an alpha of 0.2", changed(7, 2, 20, 4), alpha=0.2),
    case_of("a kind that breaks and one that improves", changed(9, 0, 20, 4),
            changed(0, 10, 30, 5, "b"), hint="The sum of all cases hides it."),
    case_of("a loss spread over three kinds", changed(4, 0, 20, 4), changed(5, 1, 18, 3, "b"),
            changed(3, 0, 25, 5, "c"), hint="No kind alone is significant."),
    case_of("two kinds that break", changed(9, 0, 12, 4, "c"), changed(10, 1, 19, 4, "b"),
            changed(1, 2, 9, 4)),
    case_of("a small kind that breaks among many cases", changed(8, 0, 3, 1),
            changed(6, 6, 700, 80, "b"), hint="The loss of a kind is relative to the kind."),
    case_of("five broken of a kind, with three kinds", changed(6, 0, 9, 1),
            changed(0, 0, 9, 2, "b"), changed(1, 1, 8, 3, "c"),
            hint="Four tests: alpha / 4 is 0.0125."),
    Case("new cases in the run", (TEN, [*OTHER, *rows_of("ab", "+-", 11)]),
         "They have no partner in the baseline."),
    Case("a missing case", (TEN, OTHER[:-1]), "The run cannot be compared: exit 2."),
    Case("missing and new cases", (TEN, [*OTHER[2:], ("x9", "a", True)]), "Exit 2."),
    Case("a repeated id in the run", (TEN, [*OTHER, OTHER[0]]), "Exit 2."),
    Case("a repeated id in the baseline", ([*TEN, ("case2", "a", True)], OTHER), "Exit 2."),
    Case("a repeated id of a new case", (TEN, [*OTHER, ("x7", "a", True), ("x7", "a", False)]),
         "Exit 2."),
    Case("an empty run", (TEN, []), "Every case is missing: exit 2."),
    Case("an empty baseline", ([], OTHER), "Nothing can be compared: exit 2."),
]  # fmt: skip
KEYS = ("exit", "regressions", "p_values", "broken", "fixed", "new", "reasons")


def find_problem(result: Any, expected: dict) -> str:
    """Return what is wrong with a result, or "". Reasons may have any words."""
    expect_type(result, dict, "what `gate` returned", f"Its keys are {', '.join(KEYS)}.")
    parts = [{key: r[key] for key in KEYS[:-1] if key in r} for r in (result, expected)]
    if "reasons" not in result:
        return "the dict has no 'reasons'"
    if problem := describe_difference(*parts):
        return problem
    reasons = result["reasons"]
    expect_type(reasons, (list, tuple), "`reasons`", "It holds one text per reason.")
    text = "\n".join(map(str, reasons))
    if bool(reasons) != bool(expected["exit"]):
        return (
            f"'reasons' is {list(reasons)!r} for exit {expected['exit']}, but a pass needs none "
            "and a stop needs some"
        )
    unnamed = [name for name in expected["regressions"] if name not in text]
    if expected["exit"] == 2:
        ids = re.findall(r"\b(?:case|x)\d+", "\n".join(expected["reasons"]))
        unnamed = [case for case in ids if case not in text]
    return f"no reason names {unnamed[0]!r}: a stop must say what to look at" if unnamed else ""


CONTRACT = Contract(reference_gate, CASES, MISTAKES, find_problem)
KINDS = ("fact", "order", "refusal")


def draw_baseline(rng: random.Random) -> Rows:
    """Return 400 cases of three kinds, most of them right; few are refusals."""
    kinds = rng.choices(KINDS, (5, 4, 1), k=400)
    return [(f"q{n}", kind, rng.random() < 0.85) for n, kind in enumerate(kinds)]


def flip(rng: random.Random, rows: Rows, broken: dict[str, float], fixed: float) -> Rows:
    """Return rows in which right answers break, by kind, and wrong answers are fixed."""
    return [
        (case, kind, rng.random() >= broken.get(kind, 0.0) if right else rng.random() < fixed)
        for case, kind, right in rows
    ]


def scenarios(seed: int = 49) -> dict[str, tuple[Rows, Rows, int]]:
    """Return three planted faults and two harmless changes: baseline, run, expected exit code."""
    rng = random.Random(f"gate/{seed}")
    base = draw_baseline(rng)
    noisy = flip(rng, base, dict.fromkeys(KINDS, 0.03), 0.15)
    grown = [*flip(rng, base, dict.fromkeys(KINDS, 0.01), 0.05), ("q900", "fact", False)]
    rng.shuffle(grown)
    return {
        "a prompt that loses a tenth of all answers": (
            base, flip(rng, base, dict.fromkeys(KINDS, 0.12), 0.05), 1),
        "a change that breaks refusals and improves the rest": (
            base, flip(rng, base, {"refusal": 0.6}, 0.5), 1),
        "a run that stopped after 300 cases": (base, base[:300], 2),
        "a new wording that changes answers both ways": (base, noisy, 0),
        "a shuffled dataset with a new case": (base, grown, 0),
    }  # fmt: skip


def expect_scenarios(gate: Callable[..., dict]) -> None:
    """Raise NotYet unless the gate stops the faults and passes the harmless changes."""
    for what, (base, run, expected) in scenarios().items():
        actual = gate(list(base), list(run))["exit"]
        if actual != expected:
            raise NotYet(f"{what}: your gate exits with {actual}, expected {expected}.")


@exercise(
    "4.9",
    wrong=[
        *MISTAKES,
        WrongAnswer("sorted lists", gate_sorting, "changes its input"),
        WrongAnswer("exits itself", gate_stopping, "do not call `sys.exit`"),
        WrongAnswer("exit code only", lambda *call: reference_gate(*call)["exit"], "expected dict"),
        WrongAnswer("no reasons", edit(lambda result: result | {"reasons": []}), "a stop needs"),
        WrongAnswer("reasons for a pass", edit(lambda r: r | {"reasons": ["compared"]}),
                    "a pass needs none"),
        WrongAnswer("reasons without names",
                    edit(lambda r: r | {"reasons": ["worse"] if r["exit"] else []}),
                    "no reason names"),
        WrongAnswer("no list of new cases",
                    edit(lambda r: {k: v for k, v in r.items() if k != "new"}), "has no 'new'"),
        WrongAnswer("no return", lambda *call: None, "Is a `return` missing"),
    ],
)  # fmt: skip
def check_gate(gate: Callable[..., dict]) -> str:
    """Judge `gate(baseline, run, margin, alpha)`."""
    try:
        CONTRACT.expect(gate)
        expect_scenarios(gate)
    except SystemExit as error:
        raise NotYet(
            f"your function ends the program with {error.code}: return the code, and do not call "
            "`sys.exit`. The caller may want to print the reasons first."
        ) from error
    return (
        f"your gate decides {len(CASES)} comparisons correctly, stops three planted faults, and "
        "passes two harmless changes."
    )
