"""Score generated code by running it: pass@k on held-out functions and gaps.

Everything here is held out: training never contains these combinations of docstring phrases.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

import torch
from transformers import PreTrainedTokenizerBase

from openmodels.harbour import code
from openmodels.isolation import sandbox
from openmodels.minis.data import code_prompt

Problem = code.Function | code.Gap

LONGEST = 64  # new tokens; the longest right body has about 30
SAMPLES, TEMPERATURE = 5, 0.8  # for pass@5
SCORED = ("function", "function_5", "fim", "fim_5", "function_floor", "fim_floor")


def is_coder(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer has the markers for filling in the middle."""
    return "<|fim_middle|>" in tokenizer.get_vocab()


def draw(task: str, count: int, seed: int) -> list[Problem]:
    """Return held-out functions, or functions with a gap, of a scored task."""
    source = code.gaps if task.startswith("fim") else code.functions
    return list(source(count, seed, "test"))


def whole(problem: Problem, text: str) -> str:
    """Return the function with the generated text in its place."""
    if isinstance(problem, code.Function):
        return problem.head + text
    return problem.prefix + text + problem.suffix


def verdicts(problems: Sequence[Problem], texts: Sequence[str]) -> list[bool]:
    """Return whether each text, in its place, makes its function right on every test list.

    The same text for the same function is run once.
    """
    programs = [
        (problem.function if isinstance(problem, code.Gap) else problem).test(whole(problem, text))
        for problem, text in zip(problems, texts, strict=True)
    ]
    unique = list(dict.fromkeys(programs))
    outcomes = dict(zip(unique, sandbox.run_each(unique), strict=True))
    return [outcomes[program] for program in programs]


def pass_at(k: int, correct: int, n: int) -> float:
    """Return the chance that at least one of `k` samples is right, if `correct` of `n` were.

    The unbiased estimator 1 - C(n - correct, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374,
    section 2.1). Raises ValueError unless k <= n. Example: pass_at(1, 2, 5) -> 0.4.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {n}")
    return 1 - comb(n - correct, k) / comb(n, k)


def floor(problems: Sequence[Problem], seed: int = 0, trained: int = 4000) -> list[str]:
    """Return answers that ignore the prompt: a floor to compare scores with.

    For a function, the most frequent body trained under its name (the docstring ignored); for a
    gap, the most frequent middle.
    """
    ledger = code.Ledger(seed, "train")
    middles = Counter(ledger.gap().middle for _ in range(trained))
    bodies: dict[str, Counter] = {}
    for function in (ledger.function() for _ in range(trained)):
        bodies.setdefault(function.name, Counter())[function.body] += 1
    [(middle, _)] = middles.most_common(1)
    return [
        middle if isinstance(problem, code.Gap) else bodies[problem.name].most_common(1)[0][0]
        for problem in problems
    ]


def solved(answer: Callable[..., list[str]], task: str, count: int, seed: int) -> int:
    """Return how many of `count` held-out instances of a scored task are solved.

    answer: maps prompts, `longest` and `temperature` to texts, like `evaluate.answer` of a model.
    """
    problems = draw(task, count, seed)
    if task.endswith("_floor"):
        return sum(verdicts(problems, floor(problems)))
    samples, temperature = (SAMPLES, TEMPERATURE) if task.endswith("_5") else (1, 0.0)
    problems = [problem for problem in problems for _ in range(samples)]
    torch.manual_seed(seed)
    prompts = [code_prompt(problem) for problem in problems]
    outcomes = verdicts(problems, answer(prompts, longest=LONGEST, temperature=temperature))
    groups = [outcomes[start : start + samples] for start in range(0, len(outcomes), samples)]
    # a whole number, because k is the number of samples
    return round(sum(pass_at(samples, sum(group), samples) for group in groups))
