"""Datasets as files, scorers, runs, and statistics against known values and simulations."""

import json
import random

import pytest

from openmodels.minis import stats
from openmodels.workflows import evals
from openmodels.workflows.evals import Dataset, Sample


def samples(count=4, **fields):
    return tuple(Sample(f"S{n}", f"question {n}", f"answer {n}", **fields) for n in range(count))


@pytest.fixture
def dataset():
    return Dataset(samples())


# --- Datasets -------------------------------------------------------------------------------------


def test_a_dataset_survives_its_file(tmp_path):
    dataset = Dataset((Sample("a", "Wo?\nÜber", "da", ("x", "y"), "g"), Sample("b", "?", "!")))
    evals.write_dataset(tmp_path / "deep" / "d.jsonl", dataset)
    again = evals.read_dataset(tmp_path / "deep" / "d.jsonl")
    assert again == dataset and again.digest == dataset.digest
    assert len((tmp_path / "deep" / "d.jsonl").read_text("utf-8").splitlines()) == 2


def test_the_digest_changes_with_content_and_not_with_order(dataset):
    assert Dataset(dataset.samples[::-1]).digest == dataset.digest
    for field in ("input", "target", "group"):
        changed = Sample(**{**vars(dataset.samples[0]), field: "another"})
        assert Dataset((changed, *dataset.samples[1:])).digest != dataset.digest


GOOD = {"id": "a", "input": "q", "target": "t"}
BROKEN = {
    "not JSON": ("{'id': 1}", "line 2"),
    "a list": ("[1]", "line 2: a sample is a JSON object"),
    "no target": ({"id": "b", "input": "q2"}, "line 2: 'target' must be"),
    "empty input": ({**GOOD, "id": "b", "input": " "}, "'input' must be"),
    "number as id": ({**GOOD, "id": 3}, "'id' must be"),
    "unknown field": ({**GOOD, "id": "b", "answer": "t"}, "unknown field 'answer'"),
    "tags": ({**GOOD, "id": "b", "tags": "x"}, "'tags' must be a list"),
    "group": ({**GOOD, "id": "b", "group": 1}, "'group' must be"),
    "same id": ({**GOOD, "input": "q2"}, "same id: 'a'"),
    "same input": ({**GOOD, "id": "b"}, "same input: 'q'"),
    "deep": ("[" * 100_000, "line 2"),
}


@pytest.mark.parametrize(("line", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_dataset_is_a_clear_error(tmp_path, line, message):
    text = line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(GOOD)}\n{text}\n", "utf-8")
    with pytest.raises(ValueError, match=message):
        evals.read_dataset(tmp_path / "d.jsonl")


def test_an_empty_and_a_huge_file_are_errors(tmp_path, monkeypatch):
    (tmp_path / "d.jsonl").write_text("\n\n", "utf-8")
    with pytest.raises(ValueError, match="at least one sample"):
        evals.read_dataset(tmp_path / "d.jsonl")
    monkeypatch.setattr(evals, "MAX_BYTES", 1)
    with pytest.raises(ValueError, match="larger than 1 bytes"):
        evals.read_dataset(tmp_path / "d.jsonl")


# --- Scorers and runs -----------------------------------------------------------------------------

SCORED = [  # output, target: exact, normalised, includes
    ("At berth 7. ", "At berth 7.", (True, True, True)),
    ("at  Berth 7", "At the berth 7.", (False, True, False)),
    ("It is at berth 7.", "berth 7", (False, False, True)),
    ("It is at berth 17.", "berth 7", (False, False, False)),
    ("It is at berth 70.", "berth 7", (False, False, True)),
    ("At berth 7. [2]", "At berth 7. [1]", (False, False, False)),
    ("At berth 7. (2)", "At berth 7. [2]", (False, True, False)),
]


@pytest.mark.parametrize(("output", "target", "scores"), SCORED)
def test_scorers(output, target, scores):
    scorers = (evals.exact, evals.normalised, evals.includes)
    assert tuple(scorer(output, target) for scorer in scorers) == scores


def test_a_run_scores_every_sample_and_counts_a_failed_call_as_wrong(dataset):
    def solver(sample):
        if sample.id == "S2":
            raise TimeoutError("slow")
        return sample.target if sample.id != "S1" else "no idea"

    run = evals.evaluate(dataset, solver, evals.exact, prompt="v1")
    assert run.scores == {"S0": True, "S1": False, "S2": False, "S3": True}
    assert run.errors == {"S2": "TimeoutError: slow"} and run.outputs["S1"] == "no idea"
    assert run.settings == {"prompt": "v1"} and run.dataset == dataset.digest
    assert run.groups["S0"] == "S0"  # a sample without a group is alone


def test_an_empty_target_does_not_make_a_failed_call_right():
    dataset = Dataset((Sample("a", "q", ""), Sample("b", "r", "x")))
    run = evals.evaluate(dataset, lambda sample: {"b": "x"}[sample.id], evals.exact)
    assert run.scores == {"a": False, "b": True}


def test_if_every_call_fails_there_is_no_run(dataset):
    def solver(sample):
        raise ConnectionError("refused")

    with pytest.raises(RuntimeError, match="4 calls in a row failed.*ConnectionError: refused"):
        evals.evaluate(dataset, solver, evals.exact)


def test_a_server_that_dies_ends_the_run_instead_of_lowering_its_score():
    dataset, calls = Dataset(samples(60)), []

    def solver(sample):
        calls.append(sample.id)
        if len(calls) > 20:
            raise ConnectionError("refused")
        return sample.target

    with pytest.raises(RuntimeError, match="10 calls in a row failed"):
        evals.evaluate(dataset, solver, evals.exact)
    assert len(calls) == 30


def test_a_run_survives_its_file(dataset, tmp_path):
    run = evals.evaluate(dataset, lambda sample: sample.target, evals.exact, temperature=0)
    evals.save_run(tmp_path / "run.json", run)
    assert evals.read_run(tmp_path / "run.json") == run
    assert run.flags == [True] * 4


RUN = {"dataset": "d", "scores": {"a": True}, "outputs": {"a": "x"}, "groups": {"a": "a"}}


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", json.dumps(RUN | {"scores": {"a": 1}}), json.dumps(RUN | {"groups": {}}),
     json.dumps(RUN | {"scores": {}}), json.dumps(RUN | {"more": 1}),
     json.dumps(RUN | {"dataset": None}), json.dumps(RUN | {"outputs": []})],
)  # fmt: skip
def test_another_file_is_not_a_run(tmp_path, content):
    (tmp_path / "run.json").write_text(content, "utf-8")
    with pytest.raises(ValueError, match="run.json is not a stored run"):
        evals.read_run(tmp_path / "run.json")


# --- Statistics -----------------------------------------------------------------------------------


def test_an_interval_without_groups_is_the_usual_one():
    interval = evals.clustered([1] * 70 + [0] * 30)
    half = 1.959964 * (0.7 * 0.3 / 100) ** 0.5
    assert interval.estimate == 0.7
    assert interval.low == pytest.approx(0.7 - half) and interval.high == pytest.approx(0.7 + half)
    assert str(interval) == "70.0 (61.0 to 79.0) %"


def test_the_clustered_error_is_the_papers_formula():
    rng = random.Random(1)
    groups = [n // 4 for n in range(120)]
    values = [float(rng.random() < 0.3 + 0.5 * (group % 2)) for group in groups]
    mean, n = sum(values) / 120, 120
    cross = sum(
        (values[i] - mean) * (values[j] - mean)
        for i in range(n)
        for j in range(n)
        if i != j and groups[i] == groups[j]
    )
    naive = sum((v - mean) ** 2 for v in values) / n**2
    half = 1.959964 * (naive + cross / n**2) ** 0.5
    assert evals.clustered(values, groups).high - mean == pytest.approx(half)


def test_copies_of_one_question_add_nothing():
    values = [1, 0, 1, 1, 0, 1, 1, 1] * 10
    copies = [value for value in values for _ in range(5)]
    groups = [n // 5 for n in range(len(copies))]
    single = evals.clustered(values)
    repeated = evals.clustered(copies, groups)
    assert repeated.low == pytest.approx(single.low)
    assert evals.clustered(copies).low > single.low  # too narrow


def test_an_interval_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one value"):
        evals.clustered([])
    with pytest.raises(ValueError, match="zip"):
        evals.clustered([1, 0], ["a"])


def test_the_bootstrap_agrees_with_the_formula():
    rng = random.Random(2)
    old = [rng.random() < 0.8 for _ in range(300)]
    new = [rng.random() < 0.7 for _ in range(300)]
    groups = list(range(300))
    interval = evals.bootstrap_difference(old, new, groups)
    formula = evals.clustered([b - a for a, b in zip(old, new, strict=True)], groups)
    assert interval.estimate == pytest.approx(formula.estimate)
    assert interval.low == pytest.approx(formula.low, abs=0.01)
    assert interval.high == pytest.approx(formula.high, abs=0.01)


@pytest.mark.parametrize(("broken", "fixed"), [(9, 2), (5, 5), (12, 0), (1, 4)])
def test_flips_of_single_cases_approximate_mcnemars_test(broken, fixed):
    old = [True] * broken + [False] * fixed + [True] * 40
    new = [False] * broken + [True] * fixed + [True] * 40
    p_value = evals.loss_p_value(old, new, list(range(len(old))))
    n = broken + fixed
    exact = sum(stats.comb(n, k) for k in range(fixed + 1)) / 2**n  # one-sided
    assert p_value == pytest.approx(exact, abs=0.015)


def test_the_sign_test_is_that_of_the_course():
    for first, second in ((9, 2), (0, 0), (3, 3), (0, 7)):
        outcomes = [True] * first + [False] * second
        expected = stats.paired(outcomes, [not x for x in outcomes]).p_value
        assert evals.sign_test(first, second) == pytest.approx(expected)


def test_cases_of_one_group_are_weaker_evidence():
    old, new = [True] * 12 + [True] * 30, [False] * 12 + [True] * 30
    alone = evals.loss_p_value(old, new, list(range(42)))
    together = evals.loss_p_value(old, new, ["one"] * 12 + list(range(30)))
    assert alone < 0.001 and together == pytest.approx(0.5, abs=0.02)


def test_the_formula_for_cases_agrees_with_simulation():
    for only_old, only_new in ((0.10, 0.03), (0.2, 0.1), (0.06, 0.01)):
        n = evals.cases_needed(only_old, only_new)
        assert 0.7 < evals.simulated_power(n, only_old, only_new) < 0.86
        assert evals.simulated_power(n // 3, only_old, only_new) < 0.5


def test_a_one_sided_test_detects_more():
    two_sided, one_sided = (evals.simulated_power(90, 0.1, 0.03, alpha=a) for a in (0.05, 0.1))
    assert two_sided < 0.42 < one_sided < 0.6


def test_more_discordant_cases_need_more_cases():
    assert evals.cases_needed(0.2, 0.1) > evals.cases_needed(0.12, 0.02)
    assert evals.cases_needed(0.1, 0.2) == evals.cases_needed(0.2, 0.1)
    with pytest.raises(ValueError, match="equally good"):
        evals.cases_needed(0.1, 0.1)


def test_only_the_clustered_interval_covers_what_it_promises():
    naive = evals.simulated_coverage(30, 10, clusters=False, trials=300)
    clustered = evals.simulated_coverage(30, 10, clusters=True, trials=300)
    assert naive < 0.87 and 0.91 < clustered < 0.98
