"""Run an agent within limits, give it a memory or a plan, and score what it did.

run = run_agent(client, MODEL, "What does rope cost?", office.schemas(), office.call)
run.stopped, run.answer  # why the loop ended, and the last text
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from math import comb
from typing import Any

import openai

from openmodels.harbour import code, errands
from openmodels.harbour.desk_tasks import PLAN_SYSTEM
from openmodels.harbour.errand_talk import Request, calling
from openmodels.harbour.tools import OFFICE_SCHEMAS, WRITES
from openmodels.isolation import sandbox
from openmodels.workflows import calls
from openmodels.workflows.calls import Budget, BudgetExceeded, Usage, count_usage

LONGEST = 220  # new tokens of one step; four calls side by side have about 190
REPEATS = 2  # times that an agent may make the same call
WORKERS = 8  # errands at the same time: as many as the stand-in generates in one batch
Message = dict[str, Any]
Ask = Callable[[list[Message], list[dict]], Message]
Memory = Callable[[list[Message]], list[Message]]


def reply(
    client: openai.OpenAI, model: str, messages: Sequence[Message], tools: Sequence[dict],
    **options: Any,
) -> Message:  # fmt: skip
    """Return the assistant's next message as a dictionary: text, or tool calls.

    options: fields of the request, over temperature 0, seed 0 and LONGEST new tokens.
    """
    request = {"temperature": 0, "seed": 0, "max_tokens": LONGEST, **options}
    request |= {"tools": list(tools)} if tools else {}
    answer = client.chat.completions.create(model=model, messages=list(messages), **request)
    return answer.choices[0].message.model_dump(exclude_none=True)


def requests(message: Message) -> list[Request]:
    """Return a message's calls: name and arguments, {} for arguments that are not an object."""
    return [_request(call["function"]) for call in message.get("tool_calls") or []]


def _request(function: dict) -> Request:
    try:
        arguments = json.loads(function["arguments"])
    except (TypeError, ValueError):
        arguments = function["arguments"]
    return function["name"], arguments if isinstance(arguments, dict) else {}


# --- The loop -------------------------------------------------------------------------------------


@dataclass
class AgentRun:
    """What an agent did. stopped: "answer", "repeated call", or the limit that ended the run."""

    messages: list[Message]
    usage: Usage = field(default_factory=Usage)
    stopped: str = ""

    @property
    def answer(self) -> str | None:
        """Return the final answer, or None if a limit ended the run before it."""
        return self.messages[-1].get("content", "") if self.stopped == "answer" else None


def run_agent(
    client: openai.OpenAI, model: str, request: str, tools: Sequence[dict],
    call: Callable[[str, dict], Any], budget: Budget | None = None,
) -> AgentRun:  # fmt: skip
    """Run a model with tools until it answers, repeats itself or would exceed its budget.

    call: takes a tool's name and arguments and returns a value for JSON. budget: limits of calls to
    the model, tokens, seconds and coins, checked before each call; by default 8 calls.
    """
    run, counts = AgentRun([{"role": "user", "content": request}]), Counter()
    private = client.copy()  # so that only this run's calls count
    with count_usage(private, budget or Budget(calls=8)) as run.usage:
        while not run.stopped:
            try:
                message = reply(private, model, run.messages, tools)
            except BudgetExceeded as limit:
                run.stopped = str(limit)
                break
            run.messages.append(message)
            pending = requests(message)
            counts.update(json.dumps(pair, sort_keys=True) for pair in pending)
            if not pending:
                run.stopped = "answer"
            elif max(counts.values()) > REPEATS:
                run.stopped = "repeated call"
            else:
                results = [call(*pair) for pair in pending]
                run.messages += results_of(message, results)
    return run


def results_of(message: Message, results: Iterable[Any]) -> list[Message]:
    """Return the messages that carry the results of a message's calls, in their order."""
    return [
        {"role": "tool", "tool_call_id": request.get("id", ""), "content": json.dumps(result)}
        for request, result in zip(message["tool_calls"], results, strict=True)
    ]


# --- Memory ---------------------------------------------------------------------------------------


def everything(messages: list[Message]) -> list[Message]:
    """Return all messages."""
    return messages


def answers_only(messages: list[Message]) -> list[Message]:
    """Return the messages without the calls and results of earlier turns: a short summary."""
    place = _last_user(messages)
    earlier = [m for m in messages[:place] if m["role"] != "tool" and not m.get("tool_calls")]
    return earlier + messages[place:]


def last_turn(messages: list[Message]) -> list[Message]:
    """Return the messages from the user's last one: no memory of earlier turns."""
    return messages[_last_user(messages) :]


def _last_user(messages: list[Message]) -> int:
    return max(n for n, message in enumerate(messages) if message["role"] == "user")


def remembering(ask: Ask, memory: Memory) -> Ask:
    """Return an agent that sends the messages that a memory selects."""
    return lambda messages, tools: ask(memory(messages), tools)


# --- Plans ----------------------------------------------------------------------------------------


def parse_plan(text: str, tools: Sequence[dict]) -> list[Request]:
    """Return the calls of a plan such as '["get_price: rope, chandlery"]' that the tools can run.

    Steps with an unknown tool, or with another number of arguments than the tool has, are dropped.
    Text that is not a JSON list of strings has no steps.
    """
    try:
        steps = json.loads(text)
    except ValueError:
        return []
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    plan = []
    for step in steps if isinstance(steps, list) else []:
        name, _, values = str(step).partition(": ")
        names = schemas.get(name, {}).get("required", [])
        parts = values.split(", ", len(names) - 1) if names else []
        if names and len(parts) == len(names):
            plan.append((name, dict(zip(names, parts, strict=True))))
    return plan


def planning(ask: Ask, plan: Callable[[str], str], tools_of_plan: Sequence[str]) -> Ask:
    """Return an agent that plans first: the reading steps run without a call of the model.

    plan: takes the user's request and returns a JSON list of steps. tools_of_plan: the reading
    tools that may run from a plan. Writes, and steps that need an earlier result, stay with the
    model, which sees the results of the plan's steps.
    """

    def planned(messages: list[Message], tools: list[dict]) -> Message:
        if messages[-1]["role"] == "user":
            steps = parse_plan(plan(messages[-1]["content"]), tools)
            reads = [step for step in steps if step[0] in tools_of_plan]
            if reads:
                return numbered(calling(*reads))
        return ask(messages, tools)

    return planned


def numbered(message: Message) -> Message:
    """Return an assistant message whose calls have ids and arguments as JSON text."""
    tool_calls = [
        {
            "id": f"plan_{number}",
            "type": "function",
            "function": {**c["function"], "arguments": json.dumps(c["function"]["arguments"])},
        }
        for number, c in enumerate(message["tool_calls"])
    ]
    return {**message, "tool_calls": tool_calls}


def planner(client: openai.OpenAI, model: str) -> Callable[[str], str]:
    """Return a function that asks a model for a plan of a request."""
    return lambda request: calls.ask(client, model, request, PLAN_SYSTEM, max_tokens=120)


# --- Scores ---------------------------------------------------------------------------------------


def stream(
    names: Sequence[str],
    seed: int = 0,
    kinds: Sequence[str] = ("chain", "parallel"),
    scenarios: Sequence[str] = (),
) -> Iterator[errands.Errand]:
    """Yield held-out errands that need no other tools than these, and have exactly these.

    The same tools in the same order let a server process their schemas once. scenarios: the only
    ones to yield, by default all of these kinds.
    """
    source = errands.Errands(seed, "test")
    schemas = tuple(OFFICE_SCHEMAS[name] for name in names)
    while True:
        errand = source.errand(source.rng.choice(list(kinds)))
        steps = [step for exchange in errand.turns for step in exchange.calls]
        fits = all(name in names for step in steps for name, _ in step)
        if fits and (not scenarios or errand.scenario in scenarios):
            yield replace(errand, tools=schemas)


def drawn(
    count: int,
    names: Sequence[str],
    seed: int = 0,
    kinds: Sequence[str] = ("chain", "parallel"),
    scenarios: Sequence[str] = (),
    turns: int = 1,
) -> list[errands.Errand]:
    """Return `count` errands of `stream` with this many user messages."""
    source = stream(names, seed, kinds, scenarios)
    return list(islice((e for e in source if len(e.turns) == turns), count))


def run_errands(
    samples: Sequence[errands.Errand], ask: Ask, workers: int = WORKERS
) -> list[errands.Result]:
    """Return the result of each errand, several at the same time."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda errand: errands.score(errand, ask), samples))


@dataclass(frozen=True)
class Trajectory:
    """What an agent did in an errand, compared with what was right.

    recall: share of the right calls that it made. in_order: they came in the order of the steps.
    extra, extra_writes: calls that no step contains. complete: all of it, and a right answer.
    """

    recall: float
    in_order: bool
    extra: int
    extra_writes: int
    complete: bool


def trajectory(errand: errands.Errand, result: errands.Result) -> Trajectory:
    """Return how an errand's calls differ from the right ones.

    Calls of one step are side by side, so their order is free.
    """
    performed = [pair for message in result.messages for pair in requests(message)]
    texts = [_text(pair) for pair in performed]
    steps = [[_text(pair) for pair in step] for exchange in errand.turns for step in exchange.calls]
    required = Counter(text for step in steps for text in step)
    common = sum((required & Counter(texts)).values())
    extra = Counter(texts) - required
    writes = sum(n for text, n in extra.items() if text.split("{")[0] in WRITES)
    firsts = [[texts.index(t) for t in step if t in texts] for step in steps]
    firsts = [places for places in firsts if places]
    in_order = all(max(a) < min(b) for a, b in zip(firsts, firsts[1:], strict=False))
    share = common / required.total() if required else 1.0
    return Trajectory(share, in_order, extra.total(), writes, result.complete)


def path_scores(
    samples: Sequence[errands.Errand], results: Sequence[errands.Result]
) -> dict[str, list[bool]]:
    """Return what a list of runs achieved, a value for each errand."""
    paths = list(map(trajectory, samples, results))
    return {
        "complete": [path.complete for path in paths],
        "all right calls": [path.recall == 1 for path in paths],
        "right order": [path.in_order for path in paths],
        "no extra write": [path.extra_writes == 0 for path in paths],
    }


def successes(
    samples: Sequence[errands.Errand], ask: Callable[..., Message], runs: int, temperature: float
) -> list[int]:
    """Return how many of `runs` runs at a temperature succeed, for each errand.

    ask: takes messages, tools, and the options temperature and seed; each run has its own seed.
    """
    counts = [0] * len(samples)
    for seed in range(runs):
        sampled = partial(ask, temperature=temperature, seed=seed)
        results = run_errands(samples, sampled)
        counts = [count + r.complete for count, r in zip(counts, results, strict=True)]
    return counts


def _text(pair: Request) -> str:
    return f"{pair[0]}{json.dumps(pair[1], sort_keys=True)}"


def pass_hat(k: int, correct: int, n: int) -> float:
    """Return the chance that all of `k` runs succeed, if `correct` of `n` runs did.

    The unbiased estimator C(correct, k) / C(n, k) of tau-bench (arXiv 2406.12045, section 3).
    Raises ValueError unless 1 <= k <= n. Example: pass_hat(2, 3, 4) -> 0.5.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass^{k} needs at least {k} runs, not {n}")
    return comb(correct, k) / comb(n, k)


# --- An agent that generates code -----------------------------------------------------------------


@dataclass(frozen=True)
class CodeRun:
    """A function that an agent completed: its source, the attempts, and the last error or ""."""

    source: str
    attempts: int
    error: str = ""


def complete_function(
    client: openai.OpenAI, model: str, function: code.Function, attempts: int = 3,
    show_error: bool = False, temperature: float = 0.8, confined: bool = True,
) -> CodeRun:  # fmt: skip
    """Complete a function and run its tests in the sandbox, until they pass or attempts are used.

    Each attempt is a sample with its own seed. show_error: the next prompt starts with the failed
    body and its error as a comment. confined: see `sandbox.run`. The tests are the
    function's own: pass one with half of the lists, and judge the source with the other half.
    """
    comment, source, error = "", "", ""
    for attempt in range(attempts):
        answer = client.completions.create(
            model=model, prompt=comment + function.head, max_tokens=64, seed=attempt,
            temperature=temperature, top_p=1.0,
        )  # fmt: skip
        body = answer.choices[0].text
        source = function.head + body
        result = sandbox.run(function.test(source), confined=confined)
        if result.ok:
            return CodeRun(source, attempt + 1)
        error = (result.output.strip().splitlines() or [result.state])[-1][:100]
        if show_error:
            wrong = " ".join(body.split())[:80]
            comment = f"# {re.sub(r'[^ -~]', '?', f'{wrong} -> {error}')}\n"
    return CodeRun(source, attempts, error)


def complete_all(
    client: openai.OpenAI, model: str, functions: Sequence[code.Function], **options: Any
) -> tuple[list[bool], int]:
    """Complete functions; return which pass the tests that the agent did not see, and the attempts.

    options: those of `complete_function`.
    """
    split = [split_tests(function) for function in functions]
    runs = [complete_function(client, model, visible, **options) for visible, _ in split]
    programs = [judge.test(run.source) for run, (_, judge) in zip(runs, split, strict=True)]
    return sandbox.run_each(programs), sum(run.attempts for run in runs)


def split_tests(function: code.Function) -> tuple[code.Function, code.Function]:
    """Return the function with the tests that an agent sees, and with those that judge it."""
    return (
        replace(function, calls=function.calls[::2]),
        replace(function, calls=function.calls[1::2]),
    )
