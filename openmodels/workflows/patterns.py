"""Run a workflow over tasks, count what it costs, and compare it with one call.

run = measure(client, workflow, pattern_tasks.judgements(200))
comparison = Comparison("voting", one_call, run)
print(comparison.verdict)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import openai

from openmodels.minis.evaluate import Score, score
from openmodels.minis.stats import paired_interval, verdict
from openmodels.workflows.calls import DEFAULTS, count_usage
from openmodels.workflows.pattern_tasks import Task
from openmodels.workflows.structured import points

WORKERS = 8  # tasks in flight; the course's server generates them in one batch
Item = TypeVar("Item")
Result = TypeVar("Result")


# --- Parts of workflows ---------------------------------------------------------------------------


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return the results of a function for all items, computed in threads, in the items' order."""
    items = list(items)
    with ThreadPoolExecutor(max(1, len(items))) as pool:
        return list(pool.map(function, items))


def majority(texts: Sequence[str]) -> str:
    """Return the most frequent text; of equally frequent ones the first."""
    return Counter(texts).most_common(1)[0][0]


def strings(text: str) -> list[str]:
    """Return a JSON list of strings, [] for any other text."""
    try:
        values = json.loads(text)
    except ValueError:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return []
    return values


def tool_call(
    client: openai.OpenAI, model: str, user: str, tools: Sequence[dict], **options: Any
) -> str:
    """Return the first tool call of a model's answer as JSON, else the answer's text.

    options: fields of the request. The JSON is {"name": ..., "arguments": {...}}.
    """
    body = {"model": model, "messages": [{"role": "user", "content": user}], "tools": list(tools)}
    message = client.chat.completions.create(**body, **{**DEFAULTS, **options}).choices[0].message
    if not message.tool_calls:
        return message.content or ""
    function = message.tool_calls[0].function
    try:
        arguments = json.loads(function.arguments)
    except ValueError:
        return function.arguments
    return json.dumps({"name": function.name, "arguments": arguments})


# --- Measurement ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What a workflow did on a list of tasks.

    right: per task. calls, tokens: in total, tokens of prompts and answers. seconds: wall time of
    all tasks.
    """

    answers: tuple[str, ...]
    right: tuple[bool, ...]
    calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float

    @property
    def score(self) -> Score:
        """Return how many answers are right, with Wilson's 95 % interval."""
        return score(sum(self.right), len(self.right))

    @property
    def tokens_per_task(self) -> float:
        """Return the mean tokens of a task, prompts and answers together."""
        return (self.prompt_tokens + self.completion_tokens) / len(self.right)

    def __str__(self) -> str:
        result, count = self.score, len(self.right)
        return (
            f"{result.correct} of {count} right, {percent(result)}; per task "
            f"{self.calls / count:.1f} calls, {self.tokens_per_task:.0f} tokens"
        )


def percent(result: Score) -> str:
    """Return a share with its 95 % interval, such as "62 % (55 to 68)"."""
    share = 100 * result.correct / result.n
    return f"{share:.0f} % ({100 * result.low:.0f} to {100 * result.high:.0f})"


def measure(
    client: openai.OpenAI,
    workflow: Callable[[Task], str],
    tasks: Sequence[Task],
    workers: int = WORKERS,
) -> Run:
    """Run a workflow on all tasks, some at a time, and count calls, tokens and seconds.

    Raises what the workflow raises.
    """
    with count_usage(client) as usage, ThreadPoolExecutor(workers) as pool:
        answers = tuple(pool.map(workflow, tasks))
    right = tuple(task.is_right(answer) for task, answer in zip(tasks, answers, strict=True))
    return Run(
        answers, right, usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.seconds
    )


# --- Comparison -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """A workflow against one call. same_tokens: one call's prompt, sampled until it costs as much.

    None means that the workflow costs about as much as one call, or less.
    """

    name: str
    one_call: Run
    workflow: Run
    same_tokens: Run | None = None

    @property
    def rival(self) -> Run:
        """Return the run that the workflow is compared with: the one at the same cost, if any."""
        return self.same_tokens or self.one_call

    @property
    def difference(self) -> tuple[float, float, float]:
        """Return the workflow's gain over its rival, with its paired 95 % interval."""
        return paired_interval(self.workflow.right, self.rival.right)

    @property
    def verdict(self) -> str:
        """Return "better" or "worse" if the interval excludes 0, else "not clear"."""
        return verdict(self.difference)

    @property
    def points(self) -> str:
        """Return the gain over the rival in words, as `structured.points` does."""
        return points(self.workflow.right, self.rival.right)


HEADER = (
    "pattern", "one call", "same tokens", "workflow", "verdict", "tokens per task",
    "calls per task",
)  # fmt: skip


def rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Return a table with a row per pattern: scores with intervals, verdict, cost per task.

    Tokens give one call, the same tokens ("–" if there is no such run), the workflow; calls give
    the workflow.
    """
    table = [HEADER]
    for comparison in comparisons:
        runs = (comparison.one_call, comparison.same_tokens, comparison.workflow)
        shares = [percent(run.score) if run else "–" for run in runs]
        tokens = " / ".join(f"{run.tokens_per_task:.0f}" if run else "–" for run in runs)
        calls = f"{comparison.workflow.calls / len(comparison.workflow.right):.1f}"
        table.append((comparison.name, *shares, comparison.verdict, tokens, calls))
    return table
