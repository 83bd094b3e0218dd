"""Reinforcement learning on rewards that a program checks: group relative policy optimisation.

GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1), the method of DeepSeek-R1-Zero: several
answers are sampled for each question, a program scores each, and an answer becomes more likely
in proportion to its advantage within the group. There is no value model. Each batch of answers
gives one update, so the probability ratio is 1 and needs no clipping.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Reward = Callable[[str], float]


@dataclass(frozen=True)
class Step:
    """The record of one step.

    reward: mean, 0 to 1. length: mean tokens per answer. teaching: share of the questions whose
    answers have different rewards; the others have no gradient. seconds: since the start.
    """

    number: int
    reward: float
    length: float
    teaching: float
    seconds: float


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Return how much better each answer is than its group, in standard deviations.

    rewards: (questions, answers), same shape back. If all answers to a question have the same
    reward, its advantages are zero. Example: [[1, 0, 0, 0]] -> [[1.5, -0.5, -0.5, -0.5]].
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, keepdim=True)
    differ = spread > 1e-6  # the mean of eight times 0.1 is not quite 0.1
    return torch.where(differ, centred / spread.clamp(min=1e-6), torch.zeros_like(centred))


@torch.no_grad()
def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: int,
    temperature: float,
    longest: int,
) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Sample `answers` continuations of each prompt.

    Returns ids (prompts x answers, prompt + new tokens), a mask of the same shape that is 1 on the
    new tokens up to and including the end of turn, and the texts. Prompts are padded on the left.
    """
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
    inputs = inputs.to(model.device)
    ids = model.generate(
        **inputs, do_sample=True, temperature=temperature, top_k=0, top_p=1.0,
        max_new_tokens=longest, num_return_sequences=answers,
    )  # fmt: skip
    start = inputs["input_ids"].shape[1]
    new_ids = ids[:, start:]
    ends = (new_ids == tokenizer.eos_token_id).long().cumsum(1)
    mask = torch.zeros_like(ids)
    mask[:, start:] = (ends == 0) | ((ends == 1) & (new_ids == tokenizer.eos_token_id))
    texts = tokenizer.batch_decode(new_ids, skip_special_tokens=True)
    return ids, mask, texts


def loss(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    temperature: float,
    pad: int,
) -> torch.Tensor:
    """Return minus the mean over tokens of advantage times log-probability, a scalar.

    ids, mask: (answers, length) from `draw`. weights: (answers,) advantages. temperature: the one
    used for sampling.
    """
    attention_mask = (
        (ids != pad).long().cummax(1).values
    )  # padding is on the left; inside, pad is no token
    positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=attention_mask, position_ids=positions).logits[
        :, :-1
    ]
    log_probs = log_softmax(logits.float() / temperature, -1).gather(-1, ids[:, 1:, None])[..., 0]
    log_probs = log_probs * mask[:, 1:]
    return -(weights[:, None] * log_probs).sum() / mask.sum()


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Iterator[tuple[str, Reward]],
    minutes: float = 2.0,
    each: int = 12,
    answers: int = 8,
    rate: float = 2e-4,
    temperature: float = 1.0,
    longest: int = 120,
    steps: int | None = None,
) -> Iterator[Step]:
    """Train `model` in place on endless (prompt text, reward function) pairs; yield each step.

    Stops after `minutes` or `steps`, whichever comes first. A reward function maps the answer's
    text to 0 to 1. Deterministic for a fixed torch seed.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    start, number = time.monotonic(), 0
    model.eval()  # no dropout: the answers and their probabilities must be of one model
    while time.monotonic() - start < 60 * minutes and (steps is None or number < steps):
        pairs = [next(questions) for _ in range(each)]
        ids, mask, texts = draw(
            model, tokenizer, [prompt for prompt, _ in pairs], answers, temperature, longest
        )
        scores = [pairs[n // answers][1](text) for n, text in enumerate(texts)]
        rewards = torch.tensor(scores).view(each, answers)
        weights = advantages(rewards).view(-1).to(ids.device)
        teach = weights != 0
        if teach.any():
            optimizer.zero_grad()
            loss(
                model, ids[teach], mask[teach], weights[teach], temperature, tokenizer.pad_token_id
            ).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        number += 1
        yield Step(
            number,
            rewards.mean().item(),
            mask.sum().item() / len(texts),
            teach.view(each, answers).any(1).float().mean().item(),
            time.monotonic() - start,
        )
