"""GRPO on a model of a few thousand weights: what it optimises, and that it does."""

import copy
import itertools

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from openmodels.minis import grpo, tokenizer


@pytest.fixture(scope="module")
def words():
    return tokenizer.load()


@pytest.fixture
def model(words):
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, initializer_range=0.1,
            eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, bos_token_id=None,
        )
    ).eval()  # fmt: skip


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]])
    found = grpo.advantages(rewards)
    half = 0.5 / rewards[3].std().item()
    expected = torch.tensor([[1.5, -0.5, -0.5, -0.5], [0] * 4, [0] * 4, [half, half, -half, -half]])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("reward", [0.1, 0.3, 0.9, 1 / 3])
def test_alike_is_alike_whatever_the_rewards_round_to(reward):
    assert not grpo.advantages(torch.full((12, 8), reward)).any()
    assert not grpo.advantages(torch.full((1, 8), reward)).any()


def test_what_is_drawn_ends_where_the_turn_ends(model, words):
    torch.manual_seed(1)
    prompts = ["Who runs the bakery?", "What is 3 + 4?"]
    ids, mask, texts = grpo.draw(model, words, prompts, answers=5, temperature=1.0, longest=40)
    assert len(texts) == len(ids) == 10
    for row, marks, text in zip(ids, mask, texts, strict=True):
        new = row[marks.bool()].tolist()
        assert words.decode(new, skip_special_tokens=True) == text
        assert words.eos_token_id not in new[:-1]
        rest = row[marks.nonzero()[-1].item() + 1 :]
        assert (rest == words.pad_token_id).all()


def test_the_loss_is_the_policy_gradient(model, words):
    """One answer, advantage 1: minus the mean log-probability of its tokens, padding or not."""
    prompt, answer = words("What is 3 + 4?").input_ids, words("It is 7.").input_ids
    ids = torch.tensor([prompt + answer])
    mask = torch.tensor([[0] * len(prompt) + [1] * len(answer)])
    one = torch.ones(1)
    with torch.no_grad():
        logits = model(ids).logits.log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        expected = -sum(logits[0, p, ids[0, p + 1]] for p in places) / len(answer)
        found = grpo.loss(model, ids, mask, one, 1.0, words.pad_token_id)
        padded = torch.cat([torch.full((1, 3), words.pad_token_id), ids], 1)
        left = torch.cat([torch.zeros(1, 3, dtype=torch.long), mask], 1)
        shifted = grpo.loss(model, padded, left, one, 1.0, words.pad_token_id)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(shifted, expected, rtol=1e-4, atol=1e-5)


def test_a_better_answer_becomes_likelier(model, words):
    """Rewarded for answers that contain a digit, the model writes more of them."""
    torch.manual_seed(2)

    def reward(text: str) -> float:
        return float(any(c.isdigit() for c in text))

    before = copy.deepcopy(model)
    questions = itertools.repeat(("What is 3 + 4?", reward))
    options = dict(each=4, answers=8, rate=1e-2, longest=4)
    seen = list(grpo.train(model, words, questions, minutes=5, steps=40, **options))
    assert [step.number for step in seen] == list(range(1, 41))
    first, last = (sum(s.reward for s in part) / 8 for part in (seen[:8], seen[-8:]))
    assert last > first + 0.3
    assert all(0 <= s.reward <= 1 and 1 <= s.length <= 4 and 0 <= s.teaching <= 1 for s in seen)
    weights = zip(before.parameters(), model.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in weights)


def test_answers_that_all_score_alike_change_nothing(model, words):
    before = copy.deepcopy(model.state_dict())
    questions = itertools.repeat(("Hello.", lambda text: 1.0))
    [step] = grpo.train(model, words, questions, steps=1, each=2, answers=2, longest=3)
    assert (step.reward, step.teaching) == (1, 0)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
