"""What the notebook on reasoning measures, without a model where none is needed."""

import json

import pytest

from openmodels import plots
from openmodels.harbour import instances
from openmodels.inside import reasoning
from openmodels.minis import evaluate, rl

SUMS = list(instances("sums", 40))


def test_sums_beyond_training_have_their_numbers_and_digits():
    three, four = reasoning.beyond(3, 2, 5), reasoning.beyond(2, 4, 5)
    for some, numbers, digits in ((three, 3, 2), (four, 2, 4)):
        for one in some:
            terms = one.key.split("+")
            assert [len(term) for term in terms] == [digits] * numbers
            assert rl.result(one.answer["content"]) == sum(map(int, terms))
            assert evaluate.is_right(one, "<think>\n\n</think>\n\n" + one.answer["content"])
    assert reasoning.beyond(3, 2, 5) == three  # a function of its seed
    assert reasoning.beyond(3, 2, 5, seed=1) != three


@pytest.mark.parametrize("one", SUMS, ids=lambda one: one.key)
def test_a_misleading_thought_differs_in_the_units_only(one):
    thought, leads_to = reasoning.misled(one)
    right, wrong = one.answer["content"].splitlines(), thought.splitlines()
    assert [a == b for a, b in zip(right, wrong, strict=False)][:2] == [True, False]
    assert right[2:-2] == wrong[2:-1]  # up to the blank line and the answer
    assert thought.endswith("\n</think>\n\n")
    assert abs(leads_to - rl.result(one.answer["content"])) == 1
    assert wrong[1].endswith(f"write {leads_to % 10}")


@pytest.mark.parametrize(
    "found, elected",
    [([7, None, 8, 8], 8), ([7, 8], 7), ([None, 3], 3), ([None, None], None), ([], None)],
)
def test_a_vote_is_for_the_commonest_result(found, elected):
    assert reasoning.vote(found) == elected


def test_votes_are_counted_over_groups():
    right = rl.result(SUMS[0].answer["content"])
    drawn = [[0, right, right, right]]
    assert reasoning.voted(SUMS[:1], drawn, 1) == 75
    assert reasoning.voted(SUMS[:1], drawn, 2) == 50  # the first of equals counts
    assert reasoning.voted(SUMS[:1], drawn, 3) == 100
    assert reasoning.voted(SUMS[:1], drawn, 4) == 100


def test_results_come_in_groups_of_one_instance(monkeypatch):
    def write(model, tokenizer, prompts, batch, temperature):
        return [f"<think>\n9\n</think>\n\n{prompt}" if prompt else "no idea" for prompt in prompts]

    monkeypatch.setattr(evaluate, "prompt", lambda _, one: one)
    monkeypatch.setattr(evaluate, "answer", write)
    assert reasoning.results(None, None, ["4", "", "x 5"], 2) == [[4, 4], [None, None], [5, 5]]


def test_a_start_is_put_before_the_answer(monkeypatch):
    asked = []

    def write(model, tokenizer, prompts, batch):
        asked.extend(prompts)
        return [one.answer["content"] for one in SUMS[:3]] + ["17"]

    monkeypatch.setattr(evaluate, "prompt", lambda _, one: one.key)
    monkeypatch.setattr(evaluate, "answer", write)
    found = reasoning.score(None, None, SUMS[:4], reasoning.SILENT)
    assert (found.correct, found.n) == (3, 4)
    assert asked == [one.key + reasoning.SILENT for one in SUMS[:4]]


def test_a_log_is_read_by_stage(tmp_path):
    score = {"correct": 3, "n": 4, "low": 0.3, "high": 0.95}
    records = [
        {"stage": "before", "sums": score | {"correct": 0}},
        {"stage": "grpo", "number": 1, "reward": 0.5, "seconds": 1.0},
        {"stage": "after", "sums": score | {"correct": 2}},
        {"stage": "grpo", "number": 2, "reward": 0.6, "seconds": 2.0},  # resumed
        {"stage": "after", "sums": score},
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert reasoning.log(tmp_path) == records
    assert reasoning.steps(records) == [records[1], records[3]]
    assert reasoning.scored(records, "before").correct == 0
    assert reasoning.scored(records, "after") == evaluate.Score(3, 4, 0.3, 0.95)


def test_steps_are_smoothed_in_windows():
    taken = [{"seconds": n, "reward": n % 2} for n in range(1, 51)]
    assert reasoning.smooth(taken, "reward", 20) == ([20, 40, 50], [0.5, 0.5, 0.5])
    assert reasoning.smooth(taken[:45], "reward", 20)[0] == [20, 40]  # 5 left: too few
    assert reasoning.smooth(taken[:3], "reward", 20) == ([3], [pytest.approx(2 / 3)])


def test_shares_are_what_a_figure_of_intervals_takes():
    found = reasoning.shares({"half": evaluate.Score(30, 60, 0.38, 0.62)})
    assert found == {"half\n30 of 60": (0.5, 0.38, 0.62)}
    assert plots.intervals(found, x="right (%)").axes[0].get_xlabel() == "right (%)"
