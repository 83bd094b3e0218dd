"""Measure reasoning: sums beyond the training range, misleading thoughts, votes, training runs.

The models, the reward and the training itself are in `openmodels.minis.rl` and `grpo`.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from openmodels.harbour import Instance
from openmodels.harbour.text import think_sum
from openmodels.minis import evaluate, rl, weights_dir

SILENT = "<think>\n\n</think>\n\n"  # an empty thought: how servers switch thinking off
UNITS = re.compile(r"(units \d\+\d\+0=)(\d+), write (\d)")


def beyond(numbers: int, digits: int, count: int, seed: int = 0) -> list[Instance]:
    """Return `count` sums of `numbers` numbers with `digits` digits each.

    Their right answers contain no worked thought.
    """
    rng, result = random.Random(f"beyond/{numbers}/{digits}/{seed}"), []
    for _ in range(count):
        terms = [rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in range(numbers)]
        expression = " + ".join(map(str, terms))
        messages = (
            {"role": "user", "content": f"What is {expression}?"},
            {"role": "assistant", "content": f"{expression} = {sum(terms)}"},
        )
        result.append(Instance("sums", messages, key=expression.replace(" ", "")))
    return result


def misled(instance: Instance) -> tuple[str, int]:
    """Return the right thought about a sum of two with a wrong units digit, and its wrong result.

    Example: for 14 + 3 the thought says "units 4+3+0=8, write 8", which leads to 18.
    """
    first, second = map(int, instance.key.split("+"))
    shift = 1 if (first + second) % 10 < 9 else -1  # off by one, with the same carry
    thought = think_sum(first, second).rpartition("\n")[0] + "\n"
    units = UNITS.search(thought)
    line = f"{units[1]}{int(units[2]) + shift}, write {int(units[3]) + shift}"
    return thought.replace(units[0], line, 1), first + second + shift


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    instances: Sequence[Instance],
    start: str = "",
) -> evaluate.Score:
    """Return the score of greedy answers by their last line; each answer begins with `start`."""
    answers = evaluate.marked(model, tokenizer, instances, start, batch=len(instances))
    return evaluate.score(sum(ok for _, ok in answers), len(instances))


def results(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    instances: Sequence[Instance],
    times: int,
    temperature: float = 1.0,
) -> list[list[int | None]]:
    """Return the results of `times` sampled answers to each instance; None without a result."""
    prompts = [evaluate.prompt(tokenizer, instance) for instance in instances for _ in range(times)]
    texts = evaluate.answer(model, tokenizer, prompts, batch=240, temperature=temperature)
    numbers = [rl.result(text) for text in texts]
    return [numbers[first : first + times] for first in range(0, len(numbers), times)]


def vote(answers: Sequence[int | None]) -> int | None:
    """Return the most frequent result, first if tied; None is ignored. [7, None, 8, 8] -> 8."""
    ballot = Counter(result for result in answers if result is not None)
    return ballot.most_common(1)[0][0] if ballot else None


def voted(
    instances: Sequence[Instance], samples: Sequence[Sequence[int | None]], votes: int
) -> float:
    """Return the accuracy in per cent of a majority vote over `votes` answers.

    samples: from `results`. The mean is over all disjoint groups of `votes` answers.
    """
    correct = total = 0
    for instance, group in zip(instances, samples, strict=True):
        target = rl.result(instance.answer["content"])
        for first in range(0, len(group) - votes + 1, votes):
            correct += vote(group[first : first + votes]) == target
            total += 1
    return 100 * correct / total


def log(name: str) -> list[dict]:
    """Return the log of a miniature's training run: one record per step, and one per score."""
    lines = (weights_dir(name) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def steps(records: Sequence[Mapping]) -> list[dict]:
    """Return the GRPO steps among a log's records, in order."""
    return [record for record in records if record.get("stage") == "grpo"]


def scored(records: Sequence[Mapping], stage: str) -> evaluate.Score:
    """Return the last score on held-out sums in a log for a stage, "before" or "after"."""
    return [evaluate.Score(**r["sums"]) for r in records if r.get("stage") == stage][-1]


def shares(scores: Mapping[str, evaluate.Score]) -> dict[str, tuple[float, float, float]]:
    """Return {label with counts: (share, low, high)}, as `plots.intervals` draws them."""
    return {
        f"{name}\n{s.correct} of {s.n}": (s.correct / s.n, s.low, s.high)
        for name, s in scores.items()
    }


def smooth(
    records: Sequence[Mapping], field: str, window: int = 10
) -> tuple[list[float], list[float]]:
    """Return (seconds, mean of a field) over every `window` steps: single steps are noisy.

    An incomplete window at the end counts if it is at least half full.
    """
    parts = [records[first : first + window] for first in range(0, len(records), window)]
    parts = [part for part in parts if 2 * len(part) >= window] or parts
    return (
        [part[-1]["seconds"] for part in parts],
        [sum(step[field] for step in part) / len(part) for part in parts],
    )
