"""Lab 4's exercises 4.4, 4.5, 4.6, 4.8 and 4.9 accept right answers of other forms."""

import heapq
import math
import re
from collections import Counter, defaultdict
from fractions import Fraction
from statistics import NormalDist, mean, stdev

import numpy as np
import pytest

from openmodels.check import find
from openmodels.exercises.lab4 import (
    ex_4_4_hybrid,
    ex_4_5_citations,
    ex_4_6_injection,
    ex_4_8_judge,
    ex_4_9_gate,
    number_words,
)


def correct(number, *answers) -> bool:
    outcome = find(number).load_checker().judge(*answers)
    assert outcome.state == "correct", outcome.message
    return True


@pytest.mark.parametrize("number", ["4.4", "4.5", "4.6", "4.8", "4.9"])
def test_an_exercise_has_twelve_wrong_answers_with_messages_of_their_own(number):
    wrong = find(number).load_checker().wrong_answers
    assert len(wrong) >= 12
    assert len({answer.message for answer in wrong}) >= 12


# --- 4.4, hybrid retrieval ------------------------------------------------------------------------


def test_example_of_fusion():
    pairs = ex_4_4_hybrid.reference_fuse(*ex_4_4_hybrid.EXAMPLE.arguments)
    assert pairs == [("b", 1 / 62 + 1 / 61), ("a", 1 / 61), ("c", 1 / 62)]


def test_the_fusion_beats_both_parts_on_the_held_out_questions():
    keyword, vector, both = ex_4_4_hybrid.measure(ex_4_4_hybrid.reference_search)
    assert both > max(keyword, vector) + 0.1


def fuse_in_fractions(rankings, k=60, top=None):
    if k < 0 or (top or 1) < 1 or top == 0:
        raise ValueError(top)
    scores = defaultdict(Fraction)
    for ranking in rankings:
        seen = []
        for name in ranking:
            if name not in seen:
                seen.append(name)
                scores[name] += Fraction(1, k + len(seen))
    names = sorted(sorted(scores), key=scores.get, reverse=True)  # stable
    return [(name, scores[name]) for name in names[:top]]


def fuse_by_heap(rankings, k=60, top=None):
    if k < 0:
        raise ValueError(k)
    if top is not None and top <= 0:
        raise ValueError(top)
    unique = [sorted(set(ranking), key=ranking.index) for ranking in rankings]
    names = {name for ranking in unique for name in ranking}
    heap = [
        (-sum(1 / (k + r.index(name) + 1) for r in unique if name in r), name) for name in names
    ]
    return tuple([name, -score] for score, name in heapq.nsmallest(top or len(heap), heap))


def search_with_lists(question, keyword, vector, k=60, top=5, depth=20):
    first, second = keyword(question, depth), vector(question, depth)
    pairs = fuse_in_fractions([dict(first), dict(second)], k)
    return tuple(name for name, _ in pairs)[:top]


def search_with_zip(question, keyword, vector, k=60, top=5, depth=20):
    parts = [part(question, depth) for part in (vector, keyword)]
    names = [next(zip(*part, strict=True)) if part else () for part in parts]
    best = fuse_by_heap([list(n) for n in names], k, top)
    return [name for name, _ in best]


@pytest.mark.parametrize("fuse", [fuse_in_fractions, fuse_by_heap])
@pytest.mark.parametrize("search", [search_with_lists, search_with_zip])
def test_hybrid_by_other_ways(fuse, search):
    assert correct("4.4", fuse, search)


# --- 4.5, citations -------------------------------------------------------------------------------


def test_example_of_citations():
    verdicts = ex_4_5_citations.reference_check(*ex_4_5_citations.EXAMPLE.arguments)
    assert verdicts == ["supported", "unsupported"]


def spell(value):
    """Return a number from 2 to 99 in words."""
    if value < 20:
        return number_words.SMALL[value - 2]
    tens, units = divmod(value, 10)
    words = [number_words.TENS[tens - 2]]
    return "-".join(words + (["one", *number_words.SMALL][units - 1 : units] if units else []))


def in_digits(text):
    """Return the text with number words replaced by digits and without thousands separators."""
    words = {spell(value): str(value) for value in range(2, 100)}
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    return re.sub(r"[A-Za-z-]+", lambda match: words.get(match[0].lower(), match[0]), text)


def numbers_of(text):
    return Counter(map(float, re.findall(r"\d+(?:\.\d+)?", in_digits(text)))).keys()


def citations_by_replacement(answer, passages, judge):
    """Move each mark before the sign that ends its sentence, then split."""
    text = re.sub(r"([.!?])((?:\s*\[\d+\])+)", r"\2\1", answer)
    verdicts = []
    for part in re.split(r"(?<=[.!?])\s+", text.strip()):
        marks = {int(n) for n in re.findall(r"\[(\d+)\]", part)}
        claim = re.sub(r"\s*\[\d+\]", "", part).strip()
        known = dict(enumerate(passages, 1))
        if not claim:
            continue
        if not marks:
            verdicts.append("refusal" if claim == "The documents do not say." else "uncited")
        elif marks - known.keys():
            verdicts.append("no such passage")
        else:
            source = " ".join(known[n] for n in sorted(marks))
            right = not numbers_of(claim) - numbers_of(source) and judge(claim, source)
            verdicts.append(("unsupported", "supported")[bool(right)])
    return tuple(verdicts)


def citations_by_characters(answer, passages, judge):
    """Walk through the answer sign by sign; the marks behind a sign belong to the sentence."""
    sentences, i = [""], 0
    while i < len(answer):
        mark = re.match(r"\s*\[\d+\]", answer[i:])
        ended = sentences[-1].rstrip().endswith((".", "!", "?", "]"))
        plain = re.sub(r"\s*\[\d+\]", "", sentences[-1]).rstrip()
        if mark:
            sentences[-1] += mark[0]
            i += mark.end()
        elif answer[i].isspace() and ended and plain.endswith((".", "!", "?")):
            sentences.append("")
            i += 1
        else:
            sentences[-1] += answer[i]
            i += 1
    results = [citations_by_replacement(s, passages, judge) for s in sentences if s.strip()]
    return [verdict for result in results for verdict in result]


def citations_with_lazy_judge(answer, passages, judge):
    return ex_4_5_citations.reference_check(
        answer, passages, lambda claim, text: bool(int(judge(f" {claim}", f"{text}\n")))
    )


def citations_in_a_generator(answer, passages, judge):
    def verdicts():
        for claim, cited in ex_4_5_citations.split_sentences(answer):
            rules = ex_4_5_citations.Rules()
            yield ex_4_5_citations.verdict_on(rules, claim, cited[::-1], passages, judge)

    return list(verdicts())


@pytest.mark.parametrize(
    "answer",
    [
        citations_by_replacement, citations_by_characters, citations_with_lazy_judge,
        citations_in_a_generator,
    ],
)  # fmt: skip
def test_citations_by_other_ways(answer):
    assert correct("4.5", answer)


# --- 4.6, injection -------------------------------------------------------------------------------

TRUSTED, PEOPLE, NUMBERS = (
    ex_4_6_injection.TRUSTED, ex_4_6_injection.RECIPIENTS, ex_4_6_injection.AMOUNTS
)  # fmt: skip


def test_scores_of_the_policy_and_of_two_that_are_not():
    assert ex_4_6_injection.score(ex_4_6_injection.reference_allow) == (1.0, 0.0)
    assert ex_4_6_injection.score(lambda *call: (True, "")) == (1.0, 1.0)
    utility, success = ex_4_6_injection.score(ex_4_6_injection.refuse_any_taint)
    assert success == 0 and 0.2 < utility < 0.8


def allow_by_reasons(call, task, taint):
    """Collect every broken rule."""

    def clean(sources):
        return bool(sources) and all(source in TRUSTED for source in sources)

    name, reasons = call["name"], []
    if name not in set(task["tools"]) or not clean(taint["tool"]):
        reasons.append(name)
    people = {a: v for a, v in call["arguments"].items() if a in PEOPLE.get(name, ())}
    numbers = {a: v for a, v in call["arguments"].items() if a in NUMBERS.get(name, ())}
    for argument, value in people.items():
        names = {value} if isinstance(value, str) else {*value}
        if names - {*task["recipients"]} or not clean(taint["arguments"].get(argument, ())):
            reasons.append(argument)
    for argument, value in numbers.items():
        top = task["limits"].get(argument, 0)
        small = isinstance(value, (int, float)) and 0 < value <= top
        if not small and not clean(taint["arguments"].get(argument, ())):
            reasons.append(argument)
    return not reasons, "; ".join(reasons)


def allow_by_exceptions(call, task, taint):
    name = call["name"]
    dirty = {a for a in call["arguments"] if not taint["arguments"].get(a)
             or taint["arguments"][a] - set(TRUSTED)}  # fmt: skip
    try:
        assert name in task["tools"], name
        assert taint["tool"] and not taint["tool"] - set(TRUSTED), name
        for argument, value in call["arguments"].items():
            if argument in PEOPLE.get(name, []):
                names = [value] if isinstance(value, str) else value
                assert argument not in dirty, argument
                assert set(names) <= set(task["recipients"]), argument
            if argument in NUMBERS.get(name, []) and argument in dirty:
                assert isinstance(value, (int, float)), argument
                assert 0 < value <= task["limits"].get(argument, -1), argument
    except AssertionError as error:
        return [False, str(error)]
    return [True, ""]


def allow_by_match(call, task, taint):
    allowed, reason = allow_by_reasons(call, task, taint)
    match allowed:
        case True:
            return True, ""
        case _:
            return False, f"refused because of {reason}"


class Policy:
    def allow(self, call, task, taint):
        return allow_by_exceptions({**call}, {**task}, {**taint})


@pytest.mark.parametrize(
    "allow", [allow_by_reasons, allow_by_exceptions, allow_by_match, Policy().allow]
)
def test_policies_of_other_forms(allow):
    assert correct("4.6", allow)


# --- 4.8, a judge's bias --------------------------------------------------------------------------


def test_examples_of_the_judge():
    result = ex_4_8_judge.reference_compare(*ex_4_8_judge.EXAMPLE.arguments)
    assert [result[key] for key in ("position_bias", "agreement", "share")] == [0.125, 0.75, 0.625]
    estimate, *_ = ex_4_8_judge.reference_correct(*ex_4_8_judge.CORRECT_EXAMPLE.arguments)
    assert estimate == pytest.approx(0.5)


def compare_by_statistics(verdicts, confidence=0.95):
    if not 0 < confidence < 1 or len(verdicts) <= 1:
        raise ValueError
    points = []
    for first, second in verdicts:
        points.append(1 if first + second == "AB" else 0 if first + second == "BA" else 0.5)
    half = NormalDist(0, stdev(points) / len(points) ** 0.5 or 1e-12).inv_cdf((1 + confidence) / 2)
    counts = Counter(verdict for pair in verdicts for verdict in pair)
    a, b = counts["A"], counts["B"]
    middle = mean(points)
    return {
        "share": middle, "low": max(middle - half, 0), "high": min(middle + half, 1),
        "agreement": 1 - points.count(0.5) / len(points),
        "position_bias": (a - b) / (2 * (a + b) or 1),
    }  # fmt: skip


def compare_by_arrays(verdicts, confidence=0.95):
    if not 0 < confidence < 1 or len(verdicts) < 2:
        raise ValueError(verdicts)
    table = np.array(verdicts)
    x = (table == ["A", "B"]).all(1).astype(float)
    y = (table == ["B", "A"]).all(1).astype(float)
    points = (1 + x - y) / 2
    z = -NormalDist().inv_cdf((1 - confidence) / 2)
    ends = points.mean() + np.array([-z, z]) * points.std(ddof=1) / np.sqrt(len(points))
    low, high = ends.clip(0, 1)
    is_a, is_b = (table == "A").sum(), (table == "B").sum()
    bias = is_a / (is_a + is_b) - 0.5 if is_a + is_b else np.float64(0)
    return dict(
        position_bias=bias, agreement=(x + y).mean(), share=points.mean(), low=low, high=high
    )


def correct_by_roots(yes, n, sensitivity, specificity, confidence=0.95):
    """Return the correction; the ends solve (share - p)^2 = z^2 p (1 - p) / n."""
    if not (n > 0 and yes in range(n + 1) and 0 < confidence < 1):
        raise ValueError(n)
    if not (0 <= sensitivity <= 1 and 0 <= specificity <= 1 and sensitivity > 1 - specificity):
        raise ValueError(sensitivity)
    share, square = yes / n, NormalDist().inv_cdf(0.5 + confidence / 2) ** 2 / n
    low, high = sorted(np.roots([1 + square, -(2 * share + square), share**2]).real)
    line = np.interp([share, low, high], [1 - specificity, sensitivity], [0, 1])
    return line.tolist()


def correct_as_array(*call, **options):
    return np.array(ex_4_8_judge.reference_correct(*call, **options)).tolist()


@pytest.mark.parametrize("compare", [compare_by_statistics, compare_by_arrays])
@pytest.mark.parametrize("correction", [correct_by_roots, correct_as_array])
def test_judges_by_other_ways(compare, correction):
    assert correct("4.8", compare, correction)


# --- 4.9, the gate --------------------------------------------------------------------------------


def test_example_of_the_gate():
    code, reasons, p_values = ex_4_9_gate.reference_gate(*ex_4_9_gate.EXAMPLE.arguments)
    assert (code, reasons, p_values) == (1, ["all", "a"], {"all": 1 / 64, "a": 1 / 64})


def test_the_reference_stops_the_planted_faults_only():
    for what, (base, run, expected) in ex_4_9_gate.scenarios().items():
        code, reasons, _ = ex_4_9_gate.reference_gate(base, run)
        assert code == expected, what
        if "refusals" in what:
            assert reasons == ["refusal"]


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
        return [2, ("cannot compare", *sorted(wrong)), {}]
    after, groups = {row[0]: row[2] for row in run}, {"all": []}
    for i, kind, right in sorted(baseline, key=lambda row: row[1]):
        for name in ("all", kind):
            groups.setdefault(name, []).append((int(right), int(after[i])))
    p_values, bad = decide(groups, margin, alpha)
    return 1 if bad else 0, tuple(bad), dict(reversed(p_values.items()))


def gate_with_booleans(baseline, run, margin=0.02, alpha=0.05):
    code, reasons, p_values = ex_4_9_gate.reference_gate(baseline, run, margin, alpha)
    return code if code == 2 else len(reasons) > 0, reasons, p_values


def gate_by_arrays(baseline, run, margin=0.02, alpha=0.05):
    """Return the gate's decision with numpy's numbers."""
    code, reasons, p_values = ex_4_9_gate.reference_gate(list(baseline), tuple(run), margin, alpha)
    if code == 2:
        return np.int64(2), [f"look at {', '.join(reasons)}"], {}
    table = dict(zip([row[0] for row in run], np.array([row[2] for row in run]), strict=True))
    old, new = np.array([[row[2], table[row[0]]] for row in baseline]).T
    broken, n = int((old & ~new).sum()), int((old != new).sum())
    tails = np.cumsum([math.comb(n, k) for k in range(n, broken - 1, -1)])
    return np.int64(code), reasons, p_values | {"all": np.float64(tails[-1] / 2**n)}


class GateOfRows:
    def __call__(self, baseline, run, margin=0.02, alpha=0.05):
        return ex_4_9_gate.gate_with(ex_4_9_gate.Rules())(baseline, run, margin, alpha)


@pytest.mark.parametrize(
    "gate", [gate_by_counters, gate_with_booleans, gate_by_arrays, GateOfRows().__call__]
)
def test_gates_of_other_forms(gate):
    assert correct("4.9", gate)
