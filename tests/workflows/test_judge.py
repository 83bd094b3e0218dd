"""A model as judge: verdicts, biases by construction, agreement and the corrected share."""

import random
import re
from types import SimpleNamespace

import pytest

from openmodels.harbour import desk
from openmodels.workflows import eval_tasks, evals, judge


def client_of(reply):
    """Return a client whose answers are reply(messages)."""

    def create(**request):
        message = SimpleNamespace(content=reply(request["messages"]))
        return SimpleNamespace(choices=[SimpleNamespace(message=message)])

    completions = SimpleNamespace(create=create)
    return SimpleNamespace(chat=SimpleNamespace(completions=completions))


# --- Verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("yes", True),
        ("No.", False),
        (" yes\n", True),
        ("maybe", None),
        ("", None),
        ("yes no", None),
    ],
)
def test_a_verdict_is_yes_no_or_nothing(reply, verdict):
    assert judge.supports(client_of(lambda messages: reply), "m", "Text: x") is verdict


def test_the_prompts_are_those_the_miniature_was_trained_with():
    requests = []
    client = client_of(lambda messages: requests.append(messages) or "A")
    case = eval_tasks.judgements(1)[0]
    judge.supports(client, "m", case.prompt)
    assert requests[0] == [dict(message) for message in case.messages]
    assert judge.preferred(client, "m", "T", "Q?", "x", "y") == "A"
    assert requests[1][0]["content"] == desk.PREFER_SYSTEM
    assert requests[1][1]["content"] == "Text: T\nQuestion: Q?\nA: x\nB: y"


@pytest.mark.parametrize("reply", ["C", "", "A B", "The first"])
def test_another_preference_is_neither(reply):
    assert judge.preferred(client_of(lambda messages: reply), "m", "T", "Q", "x", "y") == "neither"


def test_both_orders_show_what_a_judge_follows():
    def longest(messages):
        first, second = re.findall(r"^[AB]: (.*)$", messages[1]["content"], re.M)
        return "A" if len(first) > len(second) else "B"

    def ask(reply, right, wrong):
        verdicts = judge.both_orders(client_of(reply), "m", "T", "Q", right, wrong)
        return judge.consistency(verdicts)

    assert ask(lambda messages: "A", "x", "y") == "always A"
    assert ask(lambda messages: "B", "x", "y") == "always B"
    assert ask(longest, "long", "s") == "right" and ask(longest, "s", "long") == "wrong"
    assert ask(lambda messages: "?", "x", "y") == "neither"


# --- Cases with known labels ----------------------------------------------------------------------


def test_judgements_have_the_share_of_supported_answers():
    for count, share in ((40, 0.8), (7, 0.0), (5, 1.0), (10, 0.5)):
        cases = eval_tasks.judgements(count, seed=3, supported=share)
        assert sum(case.label for case in cases) == round(count * share)
        assert len(cases) == count and cases == eval_tasks.judgements(count, 3, share)
    with pytest.raises(ValueError, match="between 0 and 1"):
        eval_tasks.judgements(5, supported=1.5)


def test_pairs_differ_in_one_value_and_their_forms_in_length():
    for pair in eval_tasks.pairs(50, seed=1):
        assert pair.right["short"] != pair.wrong["short"]
        assert len(pair.right["long"]) > len(pair.right["short"]) + 10
        assert len(pair.wrong["long"]) > len(pair.wrong["short"]) + 10
        value = pair.right["short"].rstrip(".").lower()
        assert value in pair.right["long"].lower()


def test_the_office_dataset_groups_three_kinds_of_question():
    dataset = eval_tasks.office_dataset(12, seed=4)
    assert len(dataset.samples) == 36 and len({s.group for s in dataset.samples}) == 12
    for sample in dataset.samples:
        assert sample.tags[0] in eval_tasks.KINDS
        assert (sample.target == "The documents do not say.") == (sample.tags == ("none",))
    assert dataset.digest == eval_tasks.office_dataset(12, seed=4).digest
    assert dataset.digest != eval_tasks.office_dataset(12, seed=5).digest


def test_shuffled_passages_keep_their_texts_and_lose_their_order():
    for sample in eval_tasks.office_dataset(10).samples:
        prompt, numbers = eval_tasks.shuffled(sample)
        before, after = sample.input.split("\n"), prompt.split("\n")
        assert before[-1] == after[-1] and before != after
        assert sorted(line[4:] for line in before[:-1]) == sorted(line[4:] for line in after[:-1])
        for new, old in numbers.items():
            assert after[int(new) - 1][4:] == before[int(old) - 1][4:]


def perfect(dataset):
    """Return a client that answers from the prompt's order of passages, rightly."""
    by_question = {s.input.split("\n")[-1] + s.input[:0]: s for s in dataset.samples}

    def reply(messages):
        *passages, question = messages[-1]["content"].split("\n")
        sample = by_question[question]
        number = re.search(r"\[(\d+)\]", sample.target)
        if number is None:
            return sample.target
        source = sample.input.split("\n")[int(number[1]) - 1][4:]
        place = next(n for n, line in enumerate(passages, 1) if line[4:] == source)
        return sample.target.replace(number[0], f"[{place}]")

    return client_of(reply)


def test_a_shuffle_is_harmless_only_with_the_right_numbers():
    dataset = eval_tasks.office_dataset(8, seed=2)
    client = perfect(dataset)
    harmless = eval_tasks.Office(client, "m", shuffle=True)
    assert all(evals.evaluate(dataset, harmless, evals.exact).flags)
    fault = eval_tasks.Office(client, "m", shuffle=True, renumber=False)
    scores = evals.evaluate(dataset, fault, evals.exact).scores
    assert sum(scores.values()) < 0.75 * len(scores)


def test_a_fault_sends_only_the_first_passages():
    sample = eval_tasks.office_dataset(1, seed=2).samples[0]
    *passages, question = sample.input.split("\n")
    sent = []
    client = client_of(lambda messages: sent.append(messages[-1]["content"]) or "no")
    for first in (1, 2, None):
        eval_tasks.Office(client, "m", first=first)(sample)
    expected = [[*passages[:count], question] for count in (1, 2, len(passages))]
    assert [text.split("\n") for text in sent] == expected


# --- Agreement and correction ---------------------------------------------------------------------


def test_kappa_of_known_tables():
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert judge.kappa(first, second) == pytest.approx(0.4)
    assert judge.kappa(first, first) == 1 and judge.kappa([True] * 5, [True] * 5) == 0
    assert judge.kappa([True, False], [False, True]) == -1
    assert judge.kappa([True] * 90 + [False] * 10, [True] * 100) == 0  # 90 % agree
    with pytest.raises(ValueError, match="at least one pair"):
        judge.kappa([], [])


def test_the_rates_need_both_labels():
    assert judge.rates([True, True, False, True], [True, True, False, False]) == (1.0, 0.5)
    with pytest.raises(ValueError, match="right and wrong"):
        judge.rates([True], [True])


def noisy(labels, sensitivity, specificity, rng):
    return [rng.random() < (sensitivity if label else 1 - specificity) for label in labels]


def test_the_corrected_share_covers_the_truth_and_the_raw_share_does_not():
    rng, covered, raw_covered = random.Random(0), 0, 0
    for _ in range(100):
        labels = [n % 2 == 0 for n in range(200)]
        unlabelled = [rng.random() < 0.8 for _ in range(300)]
        labelled = noisy(labels, 0.85, 0.8, rng)
        verdicts = noisy(unlabelled, 0.85, 0.8, rng)
        interval = judge.corrected_share(verdicts, labelled, labels, trials=600)
        covered += interval.low <= 0.8 <= interval.high
        raw = evals.clustered(verdicts)
        raw_covered += raw.low <= 0.8 <= raw.high
    assert covered >= 89 and raw_covered < 60


def test_a_judge_at_chance_gives_an_interval_that_says_so():
    labels = [True, False] * 50
    coin = [n % 4 < 2 for n in range(100)]
    interval = judge.corrected_share([True] * 60 + [False] * 40, coin, labels)
    assert interval.low < 0.1 and interval.high > 0.9
    inverted = judge.corrected_share([True] * 60 + [False] * 40, [not x for x in labels], labels)
    assert 0 <= inverted.low <= inverted.estimate <= inverted.high <= 1


def test_a_perfect_judge_needs_no_correction():
    labels = [True, False] * 100
    interval = judge.corrected_share([True] * 70 + [False] * 30, labels, labels)
    assert interval.estimate == pytest.approx(0.7) and interval.low < 0.7 < interval.high
    with pytest.raises(ValueError, match="at least one verdict"):
        judge.corrected_share([], labels, labels)
