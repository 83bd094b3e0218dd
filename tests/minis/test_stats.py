"""Loss, fit, paired test and the number of questions, against values known beforehand."""

import random

import pytest
import torch
from transformers import Qwen2ForCausalLM

from openmodels.harbour import instances
from openmodels.minis import configs, data, evaluate, stats, tokenizer


@pytest.fixture(scope="module")
def words():
    return tokenizer.load()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Qwen2ForCausalLM(configs.qwen(2, 32, 48, 2, 1)).eval()


def test_the_loss_is_the_library_s_own(model, words):
    [one] = instances("fact", 1)
    found = stats.answer_loss(model, words, [one])
    document = data.encode(words, one, 0.0)
    ids, weights = torch.tensor(document.ids), torch.tensor(document.weights)
    labels = torch.where(weights > 0, ids, -100)
    assert found.tokens == int((weights > 0).sum())
    with torch.no_grad():
        assert found.loss == pytest.approx(model(ids[None], labels=labels[None]).loss.item(), 1e-5)
    assert found.right == (False,) and found.correct == 0


def test_batches_change_nothing(model, words):
    asked = list(instances("text_qa", 5)) + list(instances("fact", 4))
    together, apart = (stats.answer_loss(model, words, asked, batch) for batch in (9, 2))
    assert together.loss == pytest.approx(apart.loss, 1e-5)
    assert (together.tokens, together.right) == (apart.tokens, apart.right)


def test_right_in_one_pass_is_right_when_written(words):
    """The shipped model, in the order asked: what counts is what greedy decoding writes."""
    smallest, own = evaluate.load(evaluate.weights_dir("mini-qwen-xs"))
    asked = list(instances("text_qa", 12, seed=3))
    written = evaluate.answer(smallest, own, [evaluate.prompt(own, one) for one in asked])
    right = tuple(evaluate.is_right(*pair) for pair in zip(asked, written, strict=True))
    assert stats.answer_loss(smallest, own, asked, batch=5).right == right
    assert 0 < sum(right) < 12


def test_paired_against_the_binomial():
    first = [True] * 9 + [False] * 1 + [True] * 50
    second = [False] * 9 + [True] * 1 + [True] * 50
    found = stats.paired(first, second)
    assert (found.only_first, found.only_second) == (9, 1)
    assert found.p_value == pytest.approx(2 * (1 + 10) / 2**10)
    assert stats.paired(second, first).p_value == found.p_value
    assert stats.paired([True, False], [True, False]).p_value == 1.0
    with pytest.raises(ValueError):
        stats.paired([True], [])


def test_questions_needed():
    # 0.6 against 0.7, 5 % and 80 %: 354 without continuity correction (1.96 and 0.842)
    assert stats.questions_needed(0.6, 0.7) == pytest.approx(354, abs=1)
    assert stats.questions_needed(0.7, 0.6) == stats.questions_needed(0.6, 0.7)
    assert stats.questions_needed(0.6, 0.7, power=0.9) > stats.questions_needed(0.6, 0.7)


def test_a_power_law_is_found_again():
    law = stats.power_law([1, 10, 100], [8, 4, 2])
    assert law(1000) == pytest.approx(1)
    assert law(10) == pytest.approx(4)


def test_the_paired_interval_is_the_published_one():
    # Newcombe 1998, Table III: 20 both, 12 only the first, 2 only the second, 16 neither
    new, old = [True] * 32 + [False] * 18, [True] * 20 + [False] * 12 + [True] * 2 + [False] * 16
    assert stats.paired_interval(new, old) == pytest.approx((0.2, 0.0562, 0.3292), abs=2e-4)
    difference, low, high = stats.paired_interval(old, new)
    assert (difference, low, high) == pytest.approx((-0.2, -0.3292, -0.0562), abs=2e-4)


def test_the_paired_interval_is_defined_without_differences():
    difference, low, high = stats.paired_interval([True] * 10, [True] * 10)
    assert difference == 0
    assert -0.3 < low < 0 < high < 0.3
    assert stats.paired_interval([True] * 10, [False] * 10)[0] == 1
    with pytest.raises(ValueError, match="no questions"):
        stats.paired_interval([], [])


def test_the_paired_interval_covers_the_true_difference_about_95_times_in_100():
    rng, covered = random.Random(0), 0
    for _ in range(500):
        pairs = [(rng.random() < 0.7, rng.random() < 0.6) for _ in range(200)]
        _, low, high = stats.paired_interval(*zip(*pairs, strict=True))
        covered += low <= 0.1 <= high
    assert 460 <= covered <= 490
