"""What the notebook on reasoning measures: sums beyond training, misleading thoughts, votes, runs.

The models, the reward and the training itself are `openmodels.minis.rl` and `grpo`.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from openmodels.harbour import Instance
from openmodels.harbour.text import think_sum
from openmodels.minis import evaluate, rl, weights_dir

SILENT = "<think>\n\n</think>\n\n"  # a thought already over: how served models switch thinking off
UNITS = re.compile(r"(units \d\+\d\+0=)(\d+), write (\d)")


def beyond(numbers: int, digits: int, count: int, seed: int = 0) -> list[Instance]:
    """Sums of so many numbers of so many digits each, right answers without a worked thought."""
    rng, found = random.Random(f"beyond/{numbers}/{digits}/{seed}"), []
    for _ in range(count):
        terms = [rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in range(numbers)]
        asked = " + ".join(map(str, terms))
        turns = (
            {"role": "user", "content": f"What is {asked}?"},
            {"role": "assistant", "content": f"{asked} = {sum(terms)}"},
        )
        found.append(Instance("sums", turns, key=asked.replace(" ", "")))
    return found


def misled(instance: Instance) -> tuple[str, int]:
    """The right thought about a sum of two, its units digit spoiled, and the result it leads to.

    Example: for 14 + 3 the thought says "units 4+3+0=8, write 8", which leads to 18.
    """
    one, two = map(int, instance.key.split("+"))
    shift = 1 if (one + two) % 10 < 9 else -1  # by one, without touching the carry
    thought = think_sum(one, two).rpartition("\n")[0] + "\n"
    found = UNITS.search(thought)
    line = f"{found[1]}{int(found[2]) + shift}, write {int(found[3]) + shift}"
    return thought.replace(found[0], line, 1), one + two + shift


def score(model, tokenizer, instances: Sequence[Instance], start: str = "") -> evaluate.Score:
    """Greedy answers that are right to the last line; `start` is put into the model's mouth."""
    found = evaluate.marked(model, tokenizer, instances, start, batch=len(instances))
    return evaluate.score(sum(ok for _, ok in found), len(instances))


def results(model, tokenizer, instances: Sequence[Instance], times: int, temperature: float = 1.0
            ) -> list[list[int | None]]:  # fmt: skip
    """The results of `times` sampled answers to each instance; None where an answer has none."""
    prompts = [evaluate.prompt(tokenizer, one) for one in instances for _ in range(times)]
    written = evaluate.answer(model, tokenizer, prompts, batch=240, temperature=temperature)
    found = [rl.result(text) for text in written]
    return [found[at : at + times] for at in range(0, len(found), times)]


def vote(found: Sequence[int | None]) -> int | None:
    """The result named most often, the first of equals; no vote for None. [7, None, 8, 8] -> 8."""
    ballot = Counter(one for one in found if one is not None)
    return ballot.most_common(1)[0][0] if ballot else None


def voted(
    instances: Sequence[Instance], drawn: Sequence[Sequence[int | None]], votes: int
) -> float:
    """Share of right results, in per cent, where so many answers vote.

    drawn: from `results`. Mean over the groups of `votes` answers that it holds, one after another.
    """
    right = total = 0
    for instance, found in zip(instances, drawn, strict=True):
        wanted = rl.result(instance.answer["content"])
        for at in range(0, len(found) - votes + 1, votes):
            right += vote(found[at : at + votes]) == wanted
            total += 1
    return 100 * right / total


def log(name: str) -> list[dict]:
    """The log of a miniature's training run: one record per step, and one per score."""
    lines = (weights_dir(name) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def steps(records: Sequence[Mapping]) -> list[dict]:
    """The steps of GRPO among a log's records, in order."""
    return [record for record in records if record.get("stage") == "grpo"]


def scored(records: Sequence[Mapping], stage: str) -> evaluate.Score:
    """The last score on held-out sums a log holds for a stage, "before" or "after"."""
    return [evaluate.Score(**r["sums"]) for r in records if r.get("stage") == stage][-1]


def shares(scores: Mapping[str, evaluate.Score]) -> dict[str, tuple[float, float, float]]:
    """Label with the counts to (share, low, high), as `plots.intervals` draws them."""
    return {
        f"{name}\n{one.correct} of {one.n}": (one.correct / one.n, one.low, one.high)
        for name, one in scores.items()
    }


def smooth(taken: Sequence[Mapping], what: str, each: int = 10) -> tuple[list[float], list[float]]:
    """(seconds, mean of a field) over every `each` steps: single steps are mostly noise.

    What is left over at the end counts where it is at least half as long.
    """
    parts = [taken[at : at + each] for at in range(0, len(taken), each)]
    parts = [part for part in parts if 2 * len(part) >= each] or parts
    return (
        [part[-1]["seconds"] for part in parts],
        [sum(step[what] for step in part) / len(part) for part in parts],
    )
