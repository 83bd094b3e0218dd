"""Reinforcement learning on rewards a program can check: group relative policy optimisation.

GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1), as DeepSeek-R1-Zero was trained with:
several answers are drawn to each question, each is scored by a program, and an answer is made
likelier by how much better than its siblings it did. There is no value model. One update is made
per batch of answers, so the probability ratio is 1 and needs no clipping.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import log_softmax

Reward = Callable[[str], float]


@dataclass(frozen=True)
class Step:
    """What one step saw: mean reward (0 to 1), mean length of an answer in tokens, share of the
    questions whose answers did not all score alike (the only ones that teach), seconds so far."""

    number: int
    reward: float
    length: float
    teaching: float
    seconds: float


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """How much better than its siblings each answer did, in standard deviations.

    rewards: (questions, answers), same shape back. Where all answers to a question score alike,
    there is nothing to learn: zeros. Example: [[1, 0, 0, 0]] -> [[1.5, -0.5, -0.5, -0.5]].
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, keepdim=True)
    apart = spread > 1e-6  # the mean of eight times 0.1 is not quite 0.1
    return torch.where(apart, centred / spread.clamp(min=1e-6), torch.zeros_like(centred))


@torch.no_grad()
def draw(model, tokenizer, prompts: Sequence[str], answers: int, temperature: float,
         longest: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:  # fmt: skip
    """`answers` sampled continuations of each prompt.

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
    new = ids[:, start:]
    ended = (new == tokenizer.eos_token_id).long().cumsum(1)
    mask = torch.zeros_like(ids)
    mask[:, start:] = (ended == 0) | ((ended == 1) & (new == tokenizer.eos_token_id))
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return ids, mask, texts


def loss(model, ids: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor,
         temperature: float, pad: int) -> torch.Tensor:  # fmt: skip
    """Minus the mean over tokens of advantage times log-probability, at the temperature drawn with.

    ids, mask: (answers, length) from `draw`. weights: (answers,) advantages.
    """
    seen = (ids != pad).long().cummax(1).values  # padding is on the left; inside, pad is no token
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=seen, position_ids=positions).logits[:, :-1]
    chosen = log_softmax(logits.float() / temperature, -1).gather(-1, ids[:, 1:, None])[..., 0]
    chosen = chosen * mask[:, 1:]
    return -(weights[:, None] * chosen).sum() / mask.sum()


def train(model, tokenizer, questions: Iterator[tuple[str, Reward]], minutes: float = 2.0,
          each: int = 12, answers: int = 8, rate: float = 2e-4, temperature: float = 1.0,
          longest: int = 120, steps: int | None = None) -> Iterator[Step]:  # fmt: skip
    """Improve `model` in place on endless (prompt text, reward function) pairs; yields each step.

    Stops after `minutes` or `steps`, whichever comes first. A reward function takes the answer's
    text and returns 0 to 1. Deterministic for a given torch seed.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    start, number = time.monotonic(), 0
    model.eval()  # no dropout: the answers and their probabilities must be of one model
    while time.monotonic() - start < 60 * minutes and (steps is None or number < steps):
        asked = [next(questions) for _ in range(each)]
        ids, mask, texts = draw(
            model, tokenizer, [prompt for prompt, _ in asked], answers, temperature, longest
        )
        scored = [asked[n // answers][1](text) for n, text in enumerate(texts)]
        rewards = torch.tensor(scored).view(each, answers)
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
