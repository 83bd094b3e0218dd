"""How often the code a miniature writes does what was asked: pass@k, found by running it.

Everything here is held out: what the docstrings ask for was never trained in that combination.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

import torch

from openmodels.harbour import code
from openmodels.isolation import sandbox
from openmodels.minis.data import code_prompt

Asked = code.Function | code.Gap

LONGEST = 64  # new tokens; the longest right body has about 30
SAMPLES, TEMPERATURE = 5, 0.8  # for pass@5
SCORED = ("function", "function_5", "fim", "fim_5", "function_floor", "fim_floor")


def is_coder(tokenizer) -> bool:
    """Whether a tokenizer has the markers for filling in the middle."""
    return "<|fim_middle|>" in tokenizer.get_vocab()


def draw(task: str, count: int, seed: int) -> list[Asked]:
    """Held-out functions, or functions with a gap, of a scored task."""
    source = code.gaps if task.startswith("fim") else code.functions
    return list(source(count, seed, "test"))


def whole(asked: Asked, written: str) -> str:
    """The function with what was written in its place."""
    if isinstance(asked, code.Function):
        return asked.head + written
    return asked.prefix + written + asked.suffix


def verdicts(asked: Sequence[Asked], written: Sequence[str]) -> list[bool]:
    """Whether each text, in its place, does what its function does on every list it is tried on.

    The same text for the same function is run once.
    """
    programs = [
        (one.function if isinstance(one, code.Gap) else one).test(whole(one, text))
        for one, text in zip(asked, written, strict=True)
    ]
    different = list(dict.fromkeys(programs))
    found = dict(zip(different, sandbox.run_each(different), strict=True))
    return [found[program] for program in programs]


def pass_at(k: int, right: int, n: int) -> float:
    """Chance that of `k` samples at least one is right, when `right` of `n` drawn ones were.

    The unbiased estimator 1 - C(n - right, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374,
    section 2.1). Raises ValueError unless k <= n. Example: pass_at(1, 2, 5) -> 0.4.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {n}")
    return 1 - comb(n - right, k) / comb(n, k)


def floor(asked: Sequence[Asked], seed: int = 0, trained: int = 4000) -> list[str]:
    """What a model would write that does not read what is asked: the floor to compare with.

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
        middle if isinstance(one, code.Gap) else bodies[one.name].most_common(1)[0][0]
        for one in asked
    ]


def solved(answer: Callable[..., list[str]], task: str, count: int, seed: int) -> int:
    """How many of `count` held-out instances of a scored task are solved.

    answer: from prompts, `longest` and `temperature` to texts, as `evaluate.answer` of a model.
    """
    asked = draw(task, count, seed)
    if task.endswith("_floor"):
        return sum(verdicts(asked, floor(asked)))
    samples, temperature = (SAMPLES, TEMPERATURE) if task.endswith("_5") else (1, 0.0)
    asked = [one for one in asked for _ in range(samples)]
    torch.manual_seed(seed)
    prompts = [code_prompt(one) for one in asked]
    right = verdicts(asked, answer(prompts, longest=LONGEST, temperature=temperature))
    groups = [right[start : start + samples] for start in range(0, len(right), samples)]
    # a whole number, as many are drawn as the k of pass@k
    return round(sum(pass_at(samples, sum(group), samples) for group in groups))
