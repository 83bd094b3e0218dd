"""Exercise 4.9: a regression gate that stops planted faults and passes harmless changes."""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.cases import Case, equal
from openmodels.exercises.contracts import Contract, describe_difference, shorten

Row = tuple[str, str, bool]  # id of the case, its kind, whether the answer was right
Rows = list[Row]
Result = tuple[int, list[str], dict[str, float]]  # exit code, reasons, p-values by group

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


def find_problems(baseline: Iterable[Row], run: Iterable[Row]) -> list[str]:
    """Return why two runs cannot be compared."""
    before, after = ([case for case, _, _ in rows] for rows in (baseline, run))
    problems = [] if before else ["the baseline has no cases"]
    for name, ids in (("baseline", before), ("run", after)):
        repeated = [case for case, count in Counter(ids).items() if count > 1]
        problems += [f"repeated in the {name}: {case}" for case in repeated]
    present = set(after)
    missing = [case for case in dict.fromkeys(before) if case not in present]
    return problems + [f"missing in the run: {case}" for case in missing]


def compare(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05, rules: Rules = Rules()
) -> Result:
    """Return the gate's decision for two runs that can be compared."""
    after = {case: right for case, _, right in run}
    kinds = sorted({kind for _, kind, _ in baseline})
    p_values, regressions = {}, []
    for group in rules.groups(kinds):
        rows = [row for row in baseline if group in ("all", row[1])]
        broken = sum(right and not after[case] for case, _, right in rows)
        fixed = sum(after[case] and not right for case, _, right in rows)
        p_values[group] = rules.p_value(broken, fixed, len(rows))
        loss = rules.loss(broken, fixed, len(rows), len(baseline))
        if rules.regressed(loss, p_values[group], margin, alpha / rules.tests(len(kinds))):
            regressions.append(group)
    return int(bool(regressions)), regressions, p_values


def reference_gate(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> Result:
    """Return the gate's decision."""
    if problems := find_problems(baseline, run):
        return 2, problems, {}
    return compare(baseline, run, margin, alpha)


# --- Known mistakes -------------------------------------------------------------------------------


def gate_with(rules: Rules) -> Callable:
    """Return the gate with other rules."""

    def gate(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> Result:
        if problems := find_problems(baseline, run):
            return 2, problems, {}
        return compare(baseline, run, margin, alpha, rules)

    return gate


def edit(change: Callable[[int, list[str], dict], Any]) -> Callable:
    """Return the gate with a changed result. change: of exit code, reasons and p-values."""
    return lambda *call: change(*reference_gate(*call))


def two_sided(broken: int, fixed: int, n: int) -> float:
    return min(1.0, 2 * sign_test(max(broken, fixed), min(broken, fixed)))


def strict_tail(broken: int, fixed: int, n: int) -> float:
    return sign_test(broken, fixed) - math.comb(broken + fixed, broken) / 2 ** (broken + fixed)


def zero_without_changes(broken: int, fixed: int, n: int) -> float:
    return sign_test(broken, fixed) if broken + fixed else 0.0


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
) -> Result:
    known = {case for case, _, _ in run}
    filled = [*run, *((case, kind, False) for case, kind, _ in baseline if case not in known)]
    return reference_gate(baseline, filled, margin, alpha)


def gate_dropping_missing(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    known = {case for case, _, _ in run}
    return reference_gate([row for row in baseline if row[0] in known], run, margin, alpha)


def unique(rows: Rows) -> Rows:
    return list({row[0]: row for row in rows}.values())


def gate_with_last_duplicate(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    return reference_gate(unique(baseline), unique(run), margin, alpha)


def gate_ignoring_baseline_duplicates(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    return reference_gate(unique(baseline), run, margin, alpha)


def gate_refusing_new(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    known = {case for case, _, _ in baseline}
    if new := [case for case, _, _ in run if case not in known]:
        return 2, [f"new in the run: {', '.join(new)}"], {}
    return reference_gate(baseline, run, margin, alpha)


def gate_counting_new(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    known = {case for case, _, _ in baseline}
    wrong = [(case, kind, False) for case, kind, _ in run if case not in known]
    return reference_gate([*baseline, *wrong], run, margin, alpha)


def gate_of_new_kinds(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    code, reasons, p_values = reference_gate(baseline, run, margin, alpha)
    return (
        code,
        reasons,
        p_values | ({k: p_values.get(k, 1.0) for _, k, _ in run} if p_values else {}),
    )


def gate_dividing_by_zero(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    result = reference_gate(baseline, run, margin, alpha)
    if result[0] < 2 and {kind for _, kind, _ in run} - {kind for _, kind, _ in baseline}:
        raise ZeroDivisionError
    return result


def gate_by_position(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    if problems := find_problems(baseline, run):
        return 2, problems, {}
    pairs = zip(baseline, run, strict=False)
    renamed = [(case, kind, right) for (case, kind, _), (_, _, right) in pairs]
    return compare(baseline, renamed, margin, alpha)


def gate_by_totals(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> Result:
    code, reasons, old_values = reference_gate(baseline, run, margin, alpha)
    if code == 2:
        return code, reasons, old_values
    after = {case: right for case, _, right in run}
    p_values = {}
    for group in old_values:
        rows = [row for row in baseline if group in ("all", row[1])]
        old, new = sum(row[2] for row in rows), sum(after[row[0]] for row in rows)
        pooled = (old + new) / (2 * len(rows))
        error = math.sqrt(2 * pooled * (1 - pooled) / len(rows))
        z = (old - new) / len(rows) / error if error else 0.0
        p_values[group] = math.erfc(z / math.sqrt(2)) / 2
    return code, reasons, p_values


def gate_unprotected(
    baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05
) -> Result:
    return compare(baseline, run, margin, alpha)


def gate_sorting(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> Result:
    result = reference_gate(baseline, run, margin, alpha)
    run.sort()
    return result


def gate_of_empty(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> Result:
    if not baseline:
        return 0, [], {}
    return reference_gate(baseline, run, margin, alpha)


def gate_stopping(baseline: Rows, run: Rows, margin: float = 0.02, alpha: float = 0.05) -> Result:
    result = reference_gate(baseline, run, margin, alpha)
    if result[0]:
        raise SystemExit(result[0])
    return result


def first_only(code: int, reasons: list[str], p_values: dict) -> Result:
    return code, reasons[:1] if code == 1 else reasons, p_values


def kinds_first(code: int, reasons: list[str], p_values: dict) -> Result:
    return code, sorted(reasons, key=lambda group: group == "all"), p_values


def keep_p_values_of_regressions(code: int, reasons: list[str], p_values: dict) -> Result:
    return code, reasons, {group: p for group, p in p_values.items() if group in reasons}


def pass_what_cannot_be_compared(code: int, reasons: list[str], p_values: dict) -> Result:
    return (1 if code == 2 else code), reasons, p_values


MISTAKES = [
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
    WrongAnswer("first regression only", edit(first_only),
                "Name every group that regressed, not only the first."),
    WrongAnswer("kinds before all", edit(kinds_first),
                "The reasons have another order: \"all\" first, then the kinds, sorted."),
    WrongAnswer("p-values of regressions only", edit(keep_p_values_of_regressions),
                "You return the p-values of groups that regress only. Return those of all groups."),
    WrongAnswer("exit 1 for everything", edit(pass_what_cannot_be_compared),
                "You exit with 1 if the runs cannot be compared. That is no regression: exit 2."),
    WrongAnswer("new cases refused", gate_refusing_new,
                "A new case is no problem: leave it out of the comparison."),
    WrongAnswer("new cases counted", gate_counting_new,
                "You count new cases as fixed. They were never wrong before: leave them out."),
    WrongAnswer("kinds of the run", gate_of_new_kinds,
                "You test a kind that only the run has. It has no cases to compare: use the "
                "baseline's kinds."),
    WrongAnswer("kinds of the run, divided", gate_dividing_by_zero,
                "A kind that only the run has leads to a division by 0: take the kinds from the "
                "baseline."),
    WrongAnswer("no changed case", gate_with(Rules(p_value=zero_without_changes)),
                "Without changed cases p is 1: then nothing suggests a loss."),
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
    Case("cases of two kinds", (TEN, OTHER), "The groups are \"all\" and each kind."),
    Case("a run in another order", (TEN, OTHER[::-1]), "Pair the rows by id."),
    case_of("11 broken, 3 fixed of 60", changed(11, 3, 40, 6)),
    case_of("12 broken, 2 fixed of 60", changed(12, 2, 40, 6)),
    case_of("a significant loss of 1.75 points", changed(7, 0, 300, 93),
            hint="It is within the margin of 2 points."),
    case_of("the same with a margin of 1 point", changed(7, 0, 300, 93), margin=0.01),
    case_of("20 broken, 6 fixed of 800", changed(20, 6, 600, 174),
            hint="The loss is 14 of 800: within the margin."),
    case_of("12 broken, 2 fixed of 60, margin 75 points", changed(12, 2, 40, 6), margin=0.75),
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
    Case("new cases in the run", (TEN, [*OTHER, *rows_of("ab", "+-", 11), ("x5", "z", True)]),
         "They have no partner in the baseline."),
    Case("a missing case", (TEN, OTHER[:-1]), "The run cannot be compared: exit 2."),
    Case("missing and new cases", (TEN, [*OTHER[2:], ("x9", "a", True)]),
         "Two cases are missing: exit 2."),
    Case("a repeated id in the run", (TEN, [*OTHER, OTHER[0]]),
         "An id of the run occurs twice: exit 2."),
    Case("a repeated id in the baseline", ([*TEN, ("case2", "a", True)], OTHER),
         "An id of the baseline occurs twice: exit 2."),
    Case("a repeated id of a new case", (TEN, [*OTHER, ("x7", "a", True), ("x7", "a", False)]),
         "A new id of the run occurs twice: exit 2."),
    Case("an empty run", (TEN, []), "Every case is missing: exit 2."),
    Case("an empty baseline", ([], OTHER), "Nothing can be compared: exit 2."),
]  # fmt: skip


def find_difference(result: Any, expected: Result) -> str:
    """Return what is wrong with a result, or "". The reasons of exit 2 may have any words."""
    expect_type(result, (tuple, list), "what `gate` returned", PARTS)
    if len(result) != 3:
        return f"`gate` returns {len(result)} values. {PARTS}"
    (code, reasons, p_values), (right_code, right_reasons, right_values) = result, expected
    expect_type(reasons, (list, tuple), "the second value", "It holds the reasons, as texts.")
    if not equal(code, right_code):
        return f"the exit code is {shorten(code)}, expected {right_code}"
    if problem := describe_difference(p_values, right_values):
        return f"p_values: {problem}"
    if right_code < 2:
        problem = describe_difference(list(reasons), right_reasons)
        return f"reasons: {problem}" if problem else ""
    ids = re.findall(r"\b(?:case|x)\d+", "\n".join(right_reasons))
    words = set(re.findall(r"\w+", "\n".join(map(str, reasons))))
    unnamed = [case for case in ids if case not in words]
    if not reasons or unnamed:
        what = f"names {unnamed[0]!r}" if unnamed else "says why"
        return f"no reason {what}: a stop must say what to look at"
    return ""


PARTS = "Return three: the exit code, the list of reasons and the dict of p-values."
CONTRACT = Contract(reference_gate, CASES, MISTAKES, find_difference)
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


def expect_scenarios(gate: Callable[..., Result]) -> None:
    """Raise NotYet unless the gate stops the faults and passes the harmless changes."""
    for what, (base, run, expected) in scenarios().items():
        actual, *_ = gate(list(base), list(run))
        if actual != expected:
            raise NotYet(f"{what}: your gate exits with {actual}, expected {expected}.")


@exercise(
    "4.9",
    wrong=[
        *MISTAKES,
        WrongAnswer("sorted lists", gate_sorting, "changes its input"),
        WrongAnswer("exits itself", gate_stopping, "do not call `sys.exit`"),
        WrongAnswer("exit code only", edit(lambda code, *_: code), "expected tuple"),
        WrongAnswer("no p-values", edit(lambda code, reasons, p: (code, reasons)),
                    "returns 2 values"),
        WrongAnswer("one text of reasons",
                    edit(lambda code, reasons, p: (code, "; ".join(reasons), p)),
                    "It holds the reasons"),
        WrongAnswer("no reasons", edit(lambda code, reasons, p: (code, [], p)), "expected ['all'"),
        WrongAnswer("reasons for a pass",
                    edit(lambda code, reasons, p: (code, reasons or ["compared"], p)),
                    "expected []"),
        WrongAnswer("problems without ids",
                    edit(lambda code, reasons, p: (code, reasons if code < 2 else ["missing"], p)),
                    "no reason names"),
        WrongAnswer("no return", lambda *call: None, "Is a `return` missing"),
    ],
)  # fmt: skip
def check_gate(gate: Callable[..., Result]) -> str:
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
