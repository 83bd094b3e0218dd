"""Call a model, count what the calls cost, and stop before a budget is exceeded.

with count_usage(client, Budget(calls=10)) as usage:
    ask(client, MODEL, "Who runs the bakery?")
print(usage)  # 1 call, 27 + 9 tokens, 0.1 s
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import openai

from openmodels.catalog import Price

DEFAULTS = {"temperature": 0, "seed": 0, "max_tokens": 200}
RAW_HEADER = "X-Stainless-Raw-Response"  # how the client marks `with_raw_response`
CHARACTERS_PER_TOKEN = 4  # an estimate for prompts, before a server has counted them
Client = openai.OpenAI | openai.AsyncOpenAI

_installing = threading.Lock()
_numbers = count()  # identify calls


# --- Calls ----------------------------------------------------------------------------------------


def ask(
    client: openai.OpenAI, model: str, user: str, system: str | None = None, **options: Any
) -> str:
    """Return a model's answer to one message, "" if it has no text.

    options: fields of the request, over temperature 0, seed 0 and at most 200 tokens. Raises
    openai's errors, and BudgetExceeded inside `count_usage`.
    """
    answer = client.chat.completions.create(**_request(model, user, system, options))
    return answer.choices[0].message.content or ""


async def ask_async(
    client: openai.AsyncOpenAI, model: str, user: str, system: str | None = None, **options: Any
) -> str:
    """Return a model's answer as `ask` does, through an asynchronous client."""
    answer = await client.chat.completions.create(**_request(model, user, system, options))
    return answer.choices[0].message.content or ""


def _request(
    model: str, user: str, system: str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages.append({"role": "user", "content": user})
    return {"model": model, "messages": messages, **DEFAULTS, **options}


# --- Budgets and counts ---------------------------------------------------------------------------


class BudgetExceeded(RuntimeError):
    """A call that was not sent, because it would exceed a budget. The message says which limit."""


@dataclass(frozen=True)
class Budget:
    """Limits of a task; None means no limit.

    calls: requests to the model. tokens: of prompts and completions together. seconds: wall time.
    coins: money, in the currency of `price`: the tokens at that price, and what `Usage.spend` adds.
    Without a price, tokens cost nothing. Raises ValueError for a limit below 0.
    """

    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    coins: float | None = None
    price: Price | None = None

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "seconds", "coins"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise ValueError(f"a budget of {limit} {name} must be at least 0")


@dataclass
class Usage:
    """What a client's calls have used so far; threads may share it.

    calls: requests sent. failed: those of them that raised an error. uncounted: those whose
    response has no token counts, such as a stream without `include_usage`. call_seconds: the sum of
    the calls' times; calls side by side can add up to more than `seconds`. spent: coins that
    `spend` added.
    """

    budget: Budget = field(default_factory=Budget)
    calls: int = 0
    failed: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    call_seconds: float = 0.0
    spent: float = 0.0
    _reserved: dict[int, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)
    _started: float = field(default_factory=time.monotonic, init=False, repr=False)
    _ended: float | None = field(default=None, init=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False)

    def __str__(self) -> str:
        calls = f"{self.calls:,} call{'' if self.calls == 1 else 's'}"
        tokens = f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens"
        return f"{calls}, {tokens}, {self.seconds:.1f} s"

    @property
    def tokens(self) -> int:
        """Return the tokens of prompts and completions together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def seconds(self) -> float:
        """Return the wall seconds since counting began, until it ended."""
        return (time.monotonic() if self._ended is None else self._ended) - self._started

    @property
    def coins(self) -> float:
        """Return the money so far: the tokens at the budget's price, and what `spend` added."""
        return self.spent + _cost(self.budget.price, self.prompt_tokens, self.completion_tokens)

    def dollars(self, price: Price) -> float:
        """Return what the tokens cost at a price of the catalogue; cached input counts in full.

        Raises ValueError for a price in another currency.
        """
        if price.currency != "USD":
            raise ValueError(f"{price.provider} charges in {price.currency}, not in USD")
        return _cost(price, self.prompt_tokens, self.completion_tokens)

    def spend(self, coins: float) -> None:
        """Add what something other than a model costs, such as a tool.

        Raises BudgetExceeded, and adds nothing, if it would exceed the budget.
        """
        with self._lock:
            self._check(0, 0, 0, coins)
            self.spent += coins

    def reserve(self, call: int, prompt: int, completion: int) -> None:
        """Count a call that is about to be sent. call: a number that identifies it.

        prompt, completion: the tokens that it may need. They stay reserved until `settle`, so that
        calls side by side cannot exceed the budget together. Raises BudgetExceeded.
        """
        with self._lock:
            self._check(1, prompt, completion, 0.0)
            self.calls += 1
            self._reserved[call] = prompt, completion

    def release(self, call: int) -> None:
        """Forget a reserved call that was not sent."""
        with self._lock:
            if self._reserved.pop(call, None) is not None:
                self.calls -= 1

    def settle(
        self, call: int, counts: tuple[int, int] | None, seconds: float, failed: bool = False
    ) -> None:
        """Replace what a call reserved by what it used: tokens of prompt and completion."""
        with self._lock:
            if self._reserved.pop(call, None) is None:
                return
            self.call_seconds += seconds
            self.failed += failed
            self.uncounted += counts is None and not failed
            prompt, completion = counts or (0, 0)
            self.prompt_tokens += prompt
            self.completion_tokens += completion

    def end(self) -> None:
        """Stop the clock; a stream that is still open has reported no tokens."""
        with self._lock:
            self._ended = time.monotonic()
            self.uncounted += len(self._reserved)
            self._reserved.clear()

    def _check(self, calls: int, prompt: int, completion: int, coins: float) -> None:
        """Raise BudgetExceeded if this much more would exceed a limit."""
        limits = self.budget
        prompt += self.prompt_tokens + sum(pair[0] for pair in self._reserved.values())
        completion += self.completion_tokens + sum(pair[1] for pair in self._reserved.values())
        needs = {
            "calls": (limits.calls, self.calls + calls),
            "tokens": (limits.tokens, prompt + completion),
            "coins": (limits.coins, self.spent + coins + _cost(limits.price, prompt, completion)),
        }
        for unit, (limit, needed) in needs.items():
            if limit is not None and needed > limit:
                raise BudgetExceeded(
                    f"the budget is {limit:g} {unit}, and this step may bring the total to "
                    f"{needed:g}; used so far: {self}"
                )
        if limits.seconds is not None and self.seconds >= limits.seconds:
            raise BudgetExceeded(f"the budget of {limits.seconds:g} s is used up: {self}")


def _cost(price: Price | None, prompt: int, completion: int) -> float:
    if price is None:
        return 0.0
    return (prompt * price.input_per_M + completion * price.output_per_M) / 1e6


@contextmanager
def count_usage(client: Client, budget: Budget | None = None) -> Iterator[Usage]:
    """Count every call that a client sends inside the block, from any thread or asyncio task.

    Works for `openai.OpenAI` and `openai.AsyncOpenAI`, for copies made inside the block by
    `with_options`, and for streams: those report tokens if the request asks for `include_usage`.
    Blocks can be nested; each counts all calls inside it.

    With a budget, a call that would exceed it raises BudgetExceeded before it is sent. A call's
    tokens are known only afterwards: until then it counts with `max_tokens` and an estimate of its
    prompt, a token per four characters.
    """
    usage = Usage(budget or Budget())
    with _installing:
        recorder = client.__dict__.get("request")
        if not isinstance(recorder, _Recorder):
            recorder = _Recorder(client, [])
        recorder.usages.append(usage)
    try:
        yield usage
    finally:
        with _installing:
            recorder.usages[:] = [other for other in recorder.usages if other is not usage]
            if not recorder.usages:
                recorder.remove()
        usage.end()


# --- Between a client and its server --------------------------------------------------------------


class _Recorder:
    """Stands in front of a client's `request` method, through which every call goes.

    usages: the counters of the open blocks; copies of the client share the list.
    """

    def __init__(self, client: Client, usages: list[Usage]):
        self.client, self.usages = client, usages
        self._send, self._copy = client.request, client.copy
        client.request, client.copy, client.with_options = self, self.copy, self.copy

    def remove(self) -> None:
        """Give the client its methods back."""
        for name in ("request", "copy", "with_options"):
            self.client.__dict__.pop(name, None)

    def copy(self, *arguments: Any, **options: Any) -> Client:
        """Return a copy of the client whose calls count too."""
        copied = self._copy(*arguments, **options)
        _Recorder(copied, self.usages)
        return copied

    def __call__(self, cast_to: Any, options: Any, **more: Any) -> Any:
        """Send a request and count it; for an asynchronous client, return an awaitable."""
        send = partial(self._send, cast_to, options, **more)
        if options.method.lower() != "post":  # a look-up, such as the list of models
            return send()
        if isinstance(self.client, openai.AsyncOpenAI):
            return self._send_async(send, options)
        call = _Call(self.usages, options.json_data)
        with call.failing():
            return call.finish(send())

    async def _send_async(self, send: Callable[[], Any], options: Any) -> Any:
        call = _Call(self.usages, options.json_data)
        with call.failing():
            return call.finish(await send())


class _Call:
    """One request: reserved in every counter when it is made, settled when its response is read."""

    def __init__(self, usages: list[Usage], body: Any):
        self._usages, self._number, self._started = list(usages), next(_numbers), time.monotonic()
        for place, usage in enumerate(self._usages):
            try:
                usage.reserve(self._number, *_estimate(body))
            except BudgetExceeded:
                for earlier in self._usages[:place]:
                    earlier.release(self._number)
                raise

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Settle the call as failed if the block raises."""
        try:
            yield
        except BaseException:
            self._settle(None, failed=True)
            raise

    def finish(self, response: Any) -> Any:
        """Settle the call, for a stream at its end; return the response."""
        result = response
        request = getattr(response, "http_request", None)
        if request is not None and request.headers.get(RAW_HEADER) == "true":
            result = response.parse()  # kept by the response, which parses only once
        if isinstance(result, openai.Stream):
            result._iterator = self._watch(result._iterator)
        elif isinstance(result, openai.AsyncStream):
            result._iterator = self._watch_async(result._iterator)
        else:
            self._settle(_counts(result))
        return response

    def _watch(self, events: Iterator[Any]) -> Iterator[Any]:
        counts = None
        try:
            for event in events:
                counts = _counts(event) or counts
                yield event
        except Exception:
            self._settle(counts, failed=True)
            raise
        finally:
            self._settle(counts)  # changes nothing after a failure

    async def _watch_async(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        counts = None
        try:
            async for event in events:
                counts = _counts(event) or counts
                yield event
        except Exception:
            self._settle(counts, failed=True)
            raise
        finally:
            self._settle(counts)  # changes nothing after a failure

    def _settle(self, counts: tuple[int, int] | None, failed: bool = False) -> None:
        seconds = time.monotonic() - self._started
        for usage in self._usages:
            usage.settle(self._number, counts, seconds, failed)


def _estimate(body: Any) -> tuple[int, int]:
    """Return the tokens that a request may need: of its prompt, estimated, and its completion."""
    if not isinstance(body, Mapping):
        return 0, 0
    parts = [body.get(name) for name in ("messages", "input", "prompt", "instructions", "tools")]
    text = json.dumps([part for part in parts if part], ensure_ascii=False, default=str)
    limits = (body.get(name) for name in ("max_completion_tokens", "max_tokens"))
    limit = next((value for value in limits if isinstance(value, int)), 0)
    return len(text) // CHARACTERS_PER_TOKEN, limit or body.get("max_output_tokens") or 0


def _counts(result: Any) -> tuple[int, int] | None:
    """Return the tokens of prompt and completion that a response or an event of a stream reports.

    The Responses API calls them input and output, and reports them inside its last event.
    """
    usage = getattr(result, "usage", None) or getattr(
        getattr(result, "response", None), "usage", None
    )
    if usage is None:
        return None
    prompt = getattr(usage, "prompt_tokens", None)
    if prompt is None:
        prompt = getattr(usage, "input_tokens", None)
    completion = getattr(usage, "completion_tokens", None)
    if completion is None:
        completion = getattr(usage, "output_tokens", None)
    return None if prompt is None else (prompt, completion or 0)
