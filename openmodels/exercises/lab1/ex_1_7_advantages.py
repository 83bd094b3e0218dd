"""Exercise 1.7: the advantage of an answer over the other answers to the same question (GRPO)."""

from collections.abc import Callable

import torch

from openmodels.check import NotYet, WrongAnswer, exercise, expect_close
from openmodels.exercises.known_mistakes import agree, diagnose
from openmodels.minis import grpo

REWARDS = {  # by description, (questions, answers)
    "three questions": [[1.0, 0.0, 0.5, 0.5], [1.0, 1.0, 0.0, 1.0], [0.25, 0.0, 0.0, 0.75]],
    "two of five answers": [[1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]],
}
SETTLED_QUESTIONS = [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]


# --- The reference solution and known mistakes ----------------------------------------------------


def centre(rewards: torch.Tensor) -> torch.Tensor:
    """Return the distance of each reward from the mean of its question."""
    return rewards - rewards.mean(1, keepdim=True)


def spread(rewards: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of each question, never 0: (questions, 1)."""
    return rewards.std(1, keepdim=True).clamp(min=1e-6)


def reference_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Return advantages (questions, answers)."""
    return centre(rewards) / spread(rewards)


def advantages_divided_by_n(rewards: torch.Tensor) -> torch.Tensor:
    return centre(rewards) / rewards.std(1, keepdim=True, correction=0).clamp(min=1e-6)


def advantages_not_centred(rewards: torch.Tensor) -> torch.Tensor:
    return rewards / spread(rewards)


def advantages_over_the_batch(rewards: torch.Tensor) -> torch.Tensor:
    return (rewards - rewards.mean()) / rewards.std().clamp(min=1e-6)


def advantages_across_questions(rewards: torch.Tensor) -> torch.Tensor:
    return reference_advantages(rewards.T).T


def advantages_with_nan(rewards: torch.Tensor) -> torch.Tensor:
    return centre(rewards) / rewards.std(1, keepdim=True)


def advantages_of_one_if_equal(rewards: torch.Tensor) -> torch.Tensor:
    return torch.where(rewards.std(1, keepdim=True) > 0, reference_advantages(rewards), 1.0)


MISTAKES = [
    WrongAnswer(
        "not divided", centre,
        "That is the distance from the mean; it is measured in standard deviations.",
    ),
    WrongAnswer(
        "divided by n", advantages_divided_by_n,
        "The standard deviation is the one that divides by n - 1, torch's own.",
    ),
    WrongAnswer(
        "not centred", advantages_not_centred,
        "Subtract the mean of the question's answers first.",
    ),
    WrongAnswer(
        "over the whole batch", advantages_over_the_batch,
        "Mean and spread are those of one question's answers, not of the whole batch.",
    ),
    WrongAnswer(
        "across questions", advantages_across_questions,
        "Compare along a row: the answers to one question.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


@exercise(
    "1.7",
    wrong=[
        *MISTAKES,
        WrongAnswer("0 / 0", advantages_with_nan, "nan ... all answers score alike"),
        WrongAnswer(
            "ones where all are equal",
            advantages_of_one_if_equal,
            "all answers score alike ... nothing to learn",
        ),
        WrongAnswer(
            "one per question", lambda rewards: reference_advantages(rewards)[:, 0], "has shape"
        ),
    ],
)
def check_advantages(advantages: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """Judge `advantages(rewards)`, both (questions, answers)."""
    calls = [(torch.tensor(rewards),) for rewards in REWARDS.values()]
    for what, (rewards,) in zip(REWARDS, calls, strict=True):
        result = advantages(rewards.clone())
        expected = grpo.advantages(rewards)
        if agree(result, expected, rtol=5e-3):
            continue
        why = diagnose(advantages, calls, MISTAKES, rtol=5e-3)
        expect_close(result, expected, f"{what}: the advantage", why, atol=5e-3)
    rewards = torch.tensor(SETTLED_QUESTIONS)
    result = torch.as_tensor(advantages(rewards.clone()))
    if result[:2].isnan().any() or not agree(result, grpo.advantages(rewards), rtol=5e-3):
        raise NotYet(
            f"rewards {SETTLED_QUESTIONS[0]} give {result[0].tolist()}, expected zeros: where all "
            "answers score alike there is nothing to learn, and no spread to divide by."
        )
    return "and it is what the course's own trainer computes, question by question."
