"""Exercise 4.8: measure the bias of a judge, and correct the share that it reports."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.cases import Case
from openmodels.exercises.contracts import Contract, shorten
from openmodels.exercises.known_mistakes import pair_answers
from openmodels.exercises.lab4.intervals import mean_interval, quantile, wilson

Pair = tuple[str, str]  # the verdict with X as A, and the verdict with X as B
Pairs = list[Pair]

# --- The reference solution -----------------------------------------------------------------------


def points_of(pair: Pair) -> float:
    """Return 1 if both orders prefer X, 0 if both prefer Y, else a half."""
    return {("A", "B"): 1.0, ("B", "A"): 0.0}.get(pair, 0.5)


def bias_of(verdicts: Pairs) -> float:
    """Return the share of A among the clear verdicts, minus a half; 0 if no verdict is clear."""
    letters = [verdict for pair in verdicts for verdict in pair]
    clear = letters.count("A") + letters.count("B")
    return letters.count("A") / clear - 0.5 if clear else 0.0


def agreement_of(verdicts: Pairs) -> float:
    """Return the share of pairs whose two orders prefer the same answer."""
    return sum(pair in (("A", "B"), ("B", "A")) for pair in verdicts) / len(verdicts)


@dataclass(frozen=True)
class Rules:
    """The steps of the comparison. A known mistake replaces one of them."""

    bias: Callable[[Pairs], float] = bias_of
    agreement: Callable[[Pairs], float] = agreement_of
    points: Callable[[Pairs], list[float]] = lambda verdicts: list(map(points_of, verdicts))
    interval: Callable[[Sequence[float], float], tuple[float, float]] = mean_interval


def compare_with(rules: Rules, verdicts: Pairs, confidence: float = 0.95) -> dict[str, float]:
    """Return the comparison's numbers. Raises ValueError as `mean_interval` does."""
    mean_interval(list(map(points_of, verdicts)), confidence)
    points = rules.points(verdicts)
    low, high = rules.interval(points, confidence)
    return {
        "position_bias": rules.bias(verdicts),
        "agreement": rules.agreement(verdicts),
        "share": sum(points) / len(points) if points else 0.5,
        "low": low,
        "high": high,
    }


def reference_compare(verdicts: Pairs, confidence: float = 0.95) -> dict[str, float]:
    """Return position bias, agreement, and X's share with its interval."""
    return compare_with(Rules(), verdicts, confidence)


def expect_rates(yes: int, n: int, sensitivity: float, specificity: float) -> None:
    """Raise ValueError for counts or rates that allow no correction."""
    if n < 1 or not 0 <= yes <= n:
        raise ValueError(f"{yes} of {n} is no share")
    if not (0 <= sensitivity <= 1 and 0 <= specificity <= 1) or sensitivity + specificity <= 1:
        raise ValueError("the judge is no better than chance, or its rates are no shares")


def rogan_gladen(share: float, sensitivity: float, specificity: float) -> float:
    """Return the corrected share, cut to 0 to 1."""
    estimate = (share + specificity - 1) / (sensitivity + specificity - 1)
    return min(1.0, max(0.0, estimate))


def correct_with(
    correct: Callable[[float, float, float], float],
    interval: Callable[[int, int, float], tuple[float, float]],
    call: tuple,
) -> tuple[float, ...]:
    """Return the corrected share and the corrected ends of an interval."""
    yes, n, sensitivity, specificity, *more = call
    expect_rates(yes, n, sensitivity, specificity)
    shares = (yes / n, *interval(yes, n, more[0] if more else 0.95))
    return tuple(correct(share, sensitivity, specificity) for share in shares)


def reference_correct(
    yes: int, n: int, sensitivity: float, specificity: float, confidence: float = 0.95
) -> tuple[float, ...]:
    """Return the corrected share with its interval: (estimate, low, high)."""
    return correct_with(rogan_gladen, wilson, (yes, n, sensitivity, specificity, confidence))


# --- Known mistakes of `compare_verdicts` ---------------------------------------------------------


def use(**changes: Any) -> Callable:
    """Return the comparison with other rules."""
    return lambda *call: compare_with(Rules(**changes), *call)


def share_of(letters: Sequence[str], letter: str) -> float:
    clear = [other for other in letters if other in ("A", "B")]
    return clear.count(letter) / len(clear) if clear else 0.5


def letters_of(verdicts: Pairs) -> list[str]:
    return [verdict for pair in verdicts for verdict in pair]


def interval_with(spread: Callable[[Sequence[float]], float], cut: bool = True) -> Callable:
    """Return an interval whose standard error is computed in another way."""

    def interval(points: Sequence[float], confidence: float) -> tuple[float, float]:
        mean, half = sum(points) / len(points), quantile(confidence) * spread(points)
        if not cut:
            return mean - half, mean + half
        return max(0.0, mean - half), min(1.0, mean + half)

    return interval


def variance(points: Sequence[float], less: int = 1) -> float:
    mean = sum(points) / len(points)
    return sum((p - mean) ** 2 for p in points) / (len(points) - less)


def binomial_error(points: Sequence[float]) -> float:
    mean = sum(points) / len(points)
    return math.sqrt(mean * (1 - mean) / len(points))


def consistent_points(verdicts: Pairs) -> list[float]:
    """Return the points of the pairs whose orders agree."""
    return [points_of(pair) for pair in verdicts if points_of(pair) != 0.5]


def interval_of_few(points: Sequence[float], confidence: float) -> tuple[float, float]:
    return mean_interval(points, confidence) if len(points) > 1 else (0.0, 1.0)


def each_order_points(verdicts: Pairs) -> list[float]:
    values = {"A": 1.0, "B": 0.0}
    return [(values.get(a, 0.5) + 1 - values.get(b, 0.5)) / 2 for a, b in verdicts]


def clear_points(verdicts: Pairs) -> list[float]:
    wins = {("A", "B"): 1.0, ("B", "A"): 0.0, ("A", "A"): 0.5, ("B", "B"): 0.5}
    single = {"A": (1.0, 0.0), "B": (0.0, 1.0)}
    return [
        wins.get((a, b), single[a][0] if a in single else single[b][1] if b in single else 0.5)
        for a, b in verdicts
    ]


def first_letters(verdicts: Pairs) -> Pairs:
    return [(a[:1], b[:1]) for a, b in verdicts]


def wilson_of_points(points: Sequence[float], confidence: float) -> tuple[float, float]:
    return wilson(sum(points), len(points), confidence)  # type: ignore[arg-type]


COMPARE_MISTAKES = [
    WrongAnswer("bias of the first order",
                use(bias=lambda v: share_of([a for a, _ in v], "A") - 0.5),
                "Your position bias uses one order only. There the better answer and the first "
                "place are mixed up: count A in both."),
    WrongAnswer("share of A", use(bias=lambda v: share_of(letters_of(v), "A")),
                "You return the share of A. The bias is its difference from a half."),
    WrongAnswer("bias towards B", use(bias=lambda v: share_of(letters_of(v), "B") - 0.5),
                "Your position bias has the wrong sign: above 0 means that A is preferred."),
    WrongAnswer("absolute bias", use(bias=lambda v: abs(bias_of(v))),
                "Your position bias has no sign: below 0 means that B is preferred."),
    WrongAnswer("unclear verdicts in the bias",
                use(bias=lambda v: letters_of(v).count("A") / (2 * len(v)) - 0.5),
                "You divide by all verdicts. Unclear ones are neither A nor B: leave them out of "
                "the bias."),
    WrongAnswer("bias doubled", use(bias=lambda v: 2 * bias_of(v)),
                "You return the share of A minus the share of B, which is twice the bias."),
    WrongAnswer("same letter", use(agreement=lambda v: sum(a == b for a, b in v) / len(v)),
                "The same letter twice is no agreement: the answers changed places, so the judge "
                "preferred another answer."),
    WrongAnswer("different letters", use(agreement=lambda v: sum(a != b for a, b in v) / len(v)),
                "Different verdicts agree only if they are A and B: an unclear one names nothing."),
    WrongAnswer("unclear twice",
                use(agreement=lambda v: sum({a, b} == {"A", "B"} or a == b not in ("A", "B")
                                            for a, b in v) / len(v)),
                "Two unclear verdicts are no agreement on an answer."),
    WrongAnswer("agreement of clear pairs",
                use(agreement=lambda v: sum({*p} == {"A", "B"} for p in v) / max(
                    1, sum({*p} <= {"A", "B"} for p in v))),
                "You leave out pairs with an unclear verdict: agreement is a share of all pairs."),
    WrongAnswer("agreement counted", use(agreement=lambda v: sum({*p} == {"A", "B"} for p in v)),
                "Agreement is a share, not a number of pairs."),
    WrongAnswer("first order only", use(points=lambda v: [
                    {"A": 1.0, "B": 0.0}.get(a, 0.5) for a, _ in v]),
                "Your share uses the first order only: it contains the position bias."),
    WrongAnswer("places not swapped", use(points=lambda v: [
                    {("A", "A"): 1.0, ("B", "B"): 0.0}.get(p, 0.5) for p in v]),
                "In the second order X is B: X wins with (A, B), not with (A, A)."),
    WrongAnswer("share of Y", use(points=lambda v: [1 - points_of(p) for p in v]),
                "You return Y's share. X wins if the verdicts are A, then B."),
    WrongAnswer("disagreement as a loss", use(points=lambda v: [float(p == ("A", "B")) for p in v]),
                "You count a disagreement as a loss of X. Nobody won: it is a half."),
    WrongAnswer("disagreement left out",
                use(points=consistent_points, interval=interval_of_few),
                "You leave out pairs that disagree. Then a judge that guesses seems certain: such "
                "a pair is a half."),
    WrongAnswer("mean of the orders", use(points=each_order_points),
                "You average the two verdicts. With one unclear verdict the pair does not agree, "
                "so it is a half."),
    WrongAnswer("one clear verdict is enough",
                use(points=clear_points,
                    agreement=lambda v: sum(p != 0.5 for p in clear_points(v)) / len(v)),
                "You let one clear verdict decide. If the other is unclear, the orders do not "
                "agree: the pair is a half."),
    WrongAnswer("first letters",
                lambda verdicts, *more: reference_compare(first_letters(verdicts), *more),
                "You read the first letter of a verdict. \"A tie\" is unclear: compare the whole "
                "text."),
    WrongAnswer("wilson for halves", use(interval=wilson_of_points),
                "You use `wilson` for points. They can be halves, and it is for counts: use "
                "`mean_interval`."),
    WrongAnswer("n of all verdicts",
                use(interval=interval_with(lambda p: math.sqrt(variance(p) / (2 * len(p))))),
                "Your n counts verdicts. The two verdicts of a pair are about the same answers: n "
                "is the number of pairs."),
    WrongAnswer("divided by n", use(interval=interval_with(
                    lambda p: math.sqrt(variance(p, 0) / len(p)))),
                "Your standard deviation divides by n; a sample's divides by n - 1."),
    WrongAnswer("binomial", use(interval=interval_with(binomial_error)),
                "You use share * (1 - share). That holds for 0 and 1; with halves the spread is "
                "smaller: use `mean_interval` of the points."),
    WrongAnswer("spread of single points",
                use(interval=interval_with(lambda p: math.sqrt(variance(p)))),
                "You forget to divide by the square root of n: that is the spread of single "
                "pairs."),
    WrongAnswer("interval not cut",
                use(interval=interval_with(lambda p: math.sqrt(variance(p) / len(p)), cut=False)),
                "A share lies between 0 and 1: cut the interval."),
    WrongAnswer("always 95 %", use(interval=lambda points, _: mean_interval(points, 0.95)),
                "Your interval ignores `confidence`."),
    WrongAnswer("one-sided", use(interval=lambda p, c: mean_interval(p, abs(2 * c - 1))),
                "Your z leaves all of 1 - confidence on one side. Half of it lies on each: "
                "`inv_cdf((1 + confidence) / 2)`."),
    WrongAnswer("low and high swapped", use(interval=lambda *call: mean_interval(*call)[::-1]),
                "`low` is above `high`."),
]  # fmt: skip


def compare_unchecked(verdicts: Pairs, confidence: float = 0.95) -> dict[str, float]:
    if len(verdicts) < 2:
        return dict.fromkeys(("position_bias", "agreement", "share", "low", "high"), 0.0)
    return reference_compare(verdicts, confidence)


def compare_any_confidence(verdicts: Pairs, confidence: float = 0.95) -> dict[str, float]:
    return reference_compare(verdicts, min(0.99, max(0.01, confidence)))


def compare_sorting(verdicts: Pairs, confidence: float = 0.95) -> dict[str, float]:
    result = reference_compare(verdicts, confidence)
    verdicts.sort()
    return result


# --- Known mistakes of `corrected_share` ----------------------------------------------------------


def correct_by(
    correct: Callable[[float, float, float], float] = rogan_gladen,
    interval: Callable[[int, int, float], tuple[float, float]] = wilson,
) -> Callable:
    """Return the correction with another formula or another interval."""
    return lambda *call: correct_with(correct, interval, call)


def wald(yes: int, n: int, confidence: float) -> tuple[float, float]:
    half = quantile(confidence) * math.sqrt(yes / n * (1 - yes / n) / n)
    return yes / n - half, yes / n + half


def correct_estimate_only(*call: Any) -> tuple[float, ...]:
    yes, n, *_ = call
    low, high = wilson(yes, n, call[4] if len(call) > 4 else 0.95)
    return reference_correct(*call)[0], low, high


def correct_same_width(*call: Any) -> tuple[float, ...]:
    yes, n, *_ = call
    low, high = wilson(yes, n, call[4] if len(call) > 4 else 0.95)
    estimate = reference_correct(*call)[0]
    return estimate, max(0.0, estimate + low - yes / n), min(1.0, estimate + high - yes / n)


def correct_imperfect(*call: Any) -> tuple[float, ...]:
    if not (0 < call[2] < 1 and 0 < call[3] < 1):
        raise ValueError("a rate is not between 0 and 1")
    return reference_correct(*call)


def correct_unchecked(*call: Any) -> tuple[float, ...]:
    if call[2] + call[3] <= 1:
        share = call[0] / call[1]
        return share, share, share
    return reference_correct(*call)


def correct_negative_skill(*call: Any) -> tuple[float, ...]:
    yes, n, sensitivity, specificity, *_ = call
    if sensitivity + specificity < 1:
        return reference_correct(n - yes, n, 1 - sensitivity, 1 - specificity, *call[4:])
    return reference_correct(*call)


def correct_any_count(*call: Any) -> tuple[float, ...]:
    if not 0 <= call[0] <= call[1]:
        return 0.0, 0.0, 1.0
    return reference_correct(*call)


CORRECT_MISTAKES = [
    WrongAnswer("not cut", correct_by(lambda s, a, b: (s + b - 1) / (a + b - 1)),
                "A corrected share can leave 0 to 1: cut the estimate and both ends."),
    WrongAnswer("rates swapped", correct_by(lambda s, a, b: rogan_gladen(s, b, a)),
                "You swap the rates: specificity + share - 1 stands above the line."),
    WrongAnswer("not divided", correct_by(lambda s, a, b: min(1.0, max(0.0, s + b - 1))),
                "You subtract the false yes verdicts, and do not divide by sensitivity + "
                "specificity - 1."),
    WrongAnswer("divided by the sensitivity", correct_by(lambda s, a, b: min(1.0, s / (a or 1))),
                "You divide by the sensitivity: that ignores the wrong answers that get a yes."),
    WrongAnswer("the judge's own shares", correct_by(lambda s, a, b: s * a + (1 - s) * (1 - b)),
                "You compute what the judge would report for a true share. The correction is the "
                "inverse of that."),
    WrongAnswer("no correction", correct_by(lambda s, a, b: s), "You return the judge's share."),
    WrongAnswer("normal interval", correct_by(interval=wald),
                "That is the normal interval, which has no width at 0 of n. Use Wilson's."),
    WrongAnswer("interval of a mean",
                correct_by(interval=lambda yes, n, confidence: mean_interval(
                    [1] * yes + [0] * (n - yes), confidence)),
                "You use `mean_interval` for a share of verdicts. Use `wilson`: it has a width "
                "at 0 of n, too."),
    WrongAnswer("perfect rates refused", correct_imperfect,
                "You refuse a rate of 0 or 1. A judge can be perfect: the limits are included."),
    WrongAnswer("interval not corrected", correct_estimate_only,
                "You correct the estimate only. The ends of the interval need the same formula."),
    WrongAnswer("interval moved", correct_same_width,
                "You move the interval without stretching it. A poor judge makes it wider: "
                "correct both ends."),
    WrongAnswer("always 95 % in the correction",
                correct_by(interval=lambda yes, n, _: wilson(yes, n, 0.95)),
                "Your interval ignores `confidence`: z depends on it."),
    WrongAnswer("chance accepted", correct_unchecked,
                "A judge with sensitivity + specificity of 1 or less knows nothing: raise "
                "ValueError."),
    WrongAnswer("judge turned round", correct_negative_skill,
                "You turn a judge that is worse than chance round. Something is wrong with its "
                "labels: raise ValueError."),
    WrongAnswer("any count", correct_any_count, "That is no share of n: raise ValueError."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------


def pairs_case(what: str, pairs: str, hint: str = "", *more: float) -> Case:
    """Return a case; the verdicts of a pair are two signs, "-" for an unclear verdict."""
    names = {"A": "A", "B": "B", "-": "neither", "?": "", "!": "A tie", "=": "Both"}
    verdicts = [(names[a], names[b]) for a, b in pairs.split()]
    shown = f", {pairs}" if len(verdicts) < 13 else ""
    return Case(f"{what}{shown}", (verdicts, *more), hint)


EXAMPLE = pairs_case(
    "the example",
    "AB AB AA BA",
    "Five of the eight verdicts are A, and the points are 1, 1, 0.5 and 0.",
)
COMPARE_CASES = [
    EXAMPLE,
    pairs_case("a judge without bias", "AB AB AB BA BA AB BA AB AB"),
    pairs_case("a bias to A", "AA AA AB AA BA AB AA"),
    pairs_case("a bias to B", "BB BB AB BB BA BB AB AB"),
    pairs_case(
        "unclear verdicts",
        "AB A- -B BA AB AA AB AB -- AB",
        "A pair with an unclear verdict is a half.",
    ),
    pairs_case(
        "more unclear verdicts",
        "B- B- AB BB BA -A A- -- ?- AB BA AB !B =A A!",
        'Only "A" and "B" are clear; "A tie" is not.',
    ),
    pairs_case("always X", "AB AB AB AB", "No spread: the interval is a point."),
    pairs_case("nearly always X", "AB AB AB AB AA"),
    pairs_case("nearly always Y", "BA BA BA BA BB BA"),
    pairs_case("always A", "AA AA AA", "Every pair is a half."),
    pairs_case("no clear verdict", "-- -- ??", "Without a clear verdict the bias is 0."),
    pairs_case("a confidence of 0.8", "AB BA AA AB BB AB", "", 0.8),
    pairs_case("a confidence of 0.99", "AB BA AA AB BB AB BA -B", "", 0.99),
    pairs_case("two pairs", "AB BA", ""),
    pairs_case("many pairs", "AB " * 31 + "AA " * 17 + "BA " * 12 + "BB " * 5 + "-A " * 4),
    pairs_case("one pair", "AB", "An interval needs a spread: raise ValueError."),
    Case("no pair", ([],), "Raise ValueError."),
    pairs_case("a confidence of 95", "AB BA", "It lies between 0 and 1.", 95),
    pairs_case("a confidence of 0", "AB BA", "It lies between 0 and 1, both excluded.", 0),
]


def share_case(*call: float, hint: str = "") -> Case:
    """Return a case of the correction."""
    yes, n, sensitivity, specificity, *more = call
    at = f", confidence {more[0]}" if more else ""
    return Case(
        f"{yes} yes of {n}, sensitivity {sensitivity}, specificity {specificity}{at}", call, hint
    )


CORRECT_EXAMPLE = share_case(60, 100, 0.9, 0.7, hint="(0.6 + 0.7 - 1) / (0.9 + 0.7 - 1) is 0.5.")
CORRECT_CASES = [
    CORRECT_EXAMPLE,
    share_case(33, 80, 0.7, 0.95),
    share_case(41, 60, 1.0, 1.0, hint="A perfect judge needs no correction."),
    share_case(12, 100, 0.8, 0.8, hint="The judge says yes less often than its errors alone."),
    share_case(97, 100, 0.9, 0.85),
    share_case(0, 40, 0.95, 0.9),
    share_case(50, 50, 0.6, 0.9),
    share_case(1, 1, 0.9, 0.8),
    share_case(45, 90, 0.75, 0.65, 0.8),
    share_case(45, 90, 0.75, 0.65, 0.99),
    share_case(5, 10, 0.5, 0.5, hint="The judge guesses: raise ValueError."),
    share_case(5, 10, 0.2, 0.4, hint="The judge is worse than chance: raise ValueError."),
    share_case(11, 10, 0.9, 0.8, hint="Raise ValueError."),
    share_case(-1, 10, 0.9, 0.8, hint="Raise ValueError."),
    share_case(0, 0, 0.9, 0.8, hint="Raise ValueError."),
    share_case(4, 10, 1.4, 0.8, hint="Rates lie between 0 and 1: raise ValueError."),
    share_case(4, 10, 0.9, 80, hint="Rates are shares, not percent: raise ValueError."),
    share_case(4, 10, 0.9, 0.8, 1.5, hint="It lies between 0 and 1: raise ValueError."),
]
COMPARE = Contract(reference_compare, COMPARE_CASES, COMPARE_MISTAKES)
CORRECT = Contract(reference_correct, CORRECT_CASES, CORRECT_MISTAKES)
REFERENCES = (reference_compare, reference_correct)


@exercise(
    "4.8",
    wrong=[
        *pair_answers(
            [
                *COMPARE_MISTAKES,
                WrongAnswer("too few pairs", compare_unchecked, "raise ValueError"),
                WrongAnswer("any confidence", compare_any_confidence, "between 0 and 1"),
                WrongAnswer("verdicts sorted", compare_sorting, "changes its input"),
                WrongAnswer("share only", lambda *call: reference_compare(*call)["share"],
                            "expected a dict"),
                WrongAnswer("no return", lambda *call: None, "expected a dict"),
            ],
            second=reference_correct,
        ),
        *pair_answers(
            [
                *CORRECT_MISTAKES,
                WrongAnswer("estimate only", lambda *call: reference_correct(*call)[0],
                            "three numbers"),
                WrongAnswer("no return in the correction", lambda *call: None, "three numbers"),
            ],
            first=reference_compare,
        ),
    ],
)  # fmt: skip
def check_judge(
    compare_verdicts: Callable[..., dict], corrected_share: Callable[..., tuple]
) -> str:
    """Judge `compare_verdicts(verdicts, confidence)` and `corrected_share(yes, n, ...)`."""
    result = compare_verdicts(list(EXAMPLE.arguments[0]))
    if not isinstance(result, dict):
        raise NotYet(f"`compare_verdicts` returns {shorten(result)}, expected a dict of five keys.")
    COMPARE.expect(compare_verdicts)
    result = corrected_share(*CORRECT_EXAMPLE.arguments)
    if not hasattr(result, "__len__") or len(result) != 3:
        raise NotYet(
            f"`corrected_share` returns {shorten(result)}, expected three numbers: estimate, low, "
            "high."
        )
    CORRECT.expect(corrected_share)
    return (
        f"bias, agreement and share are right on {len(COMPARE_CASES)} sets of verdicts, and the "
        f"correction on {len(CORRECT_CASES)} shares."
    )
