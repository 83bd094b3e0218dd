"""Keep a workflow running when a model's server fails: retries, breaker, fallbacks and a router.

Every clock, sleep and random source can be replaced, so that tests need no waiting. What happens is
added as an event to the current span of `openmodels.workflows.trace`, if there is one.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import openai
import tenacity
from aiolimiter import AsyncLimiter
from openai.types.chat import ChatCompletion
from opentelemetry.trace import get_current_span

from openmodels import sizing
from openmodels.catalog import Price

Result = TypeVar("Result")
Create = Callable[..., ChatCompletion]  # such as client.chat.completions.create
RETRYABLE = (408, 409, 429)  # time-out, conflict, too many requests; and 500 and above


# --- Retries --------------------------------------------------------------------------------------


def is_retryable(error: BaseException) -> bool:
    """Return whether the same request may succeed later.

    Connection errors, time-outs, 408, 409, 429 and 5xx are retryable. A used-up quota is not, nor
    is any other 4xx: the same request would fail again.
    """
    if isinstance(error, openai.APIConnectionError):  # time-outs too
        return True
    if not isinstance(error, openai.APIStatusError) or error.code == "insufficient_quota":
        return False
    return error.status_code in RETRYABLE or error.status_code >= 500


def retry_after(error: BaseException | None, now: Callable[[], datetime]) -> float | None:
    """Return the seconds that a response's Retry-After asks to wait, or None without one.

    The header holds seconds or a date (RFC 9110, section 10.2.3); an invalid one counts as none.
    """
    response = getattr(error, "response", None)
    value = response.headers.get("retry-after") if response is not None else None
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now()).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


@dataclass
class Retry:
    """Call a function again after a retryable error, with exponential backoff and full jitter.

    Before attempt n + 1 it waits a random time between 0 and min(cap, base · 2^(n-1)) seconds
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), but at least what
    Retry-After asks for. It gives up after `attempts`, or if the wait would end after `total`
    seconds. It then raises the last error. waits: the seconds waited so far.
    """

    attempts: int = 4
    base: float = 0.5
    cap: float = 30.0
    total: float | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    chance: random.Random = field(default_factory=random.Random)
    waits: list[float] = field(default_factory=list)

    def wait(self, attempt: int, error: BaseException | None) -> float:
        """Return the seconds to wait after this attempt, counted from 1."""
        longest = min(self.cap, self.base * 2 ** min(attempt - 1, 60))
        return max(self.chance.uniform(0, longest), retry_after(error, self.now) or 0.0)

    def __call__(self, function: Callable[..., Result], *values: Any, **options: Any) -> Result:
        """Call the function until it returns. Raises its last error."""
        began = self.clock()

        def stop(state: tenacity.RetryCallState) -> bool:
            if self.total is None:
                return state.attempt_number >= self.attempts
            end = self.clock() - began + state.upcoming_sleep
            return state.attempt_number >= self.attempts or end > self.total

        def report(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception()
            self.waits.append(state.upcoming_sleep)
            fields = {"attempt": state.attempt_number, "wait": round(state.upcoming_sleep, 3)}
            add_event("retry", reason=describe(error), **fields)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_retryable),
            wait=lambda state: self.wait(state.attempt_number, state.outcome.exception()),
            stop=stop,
            sleep=self.sleep,
            before_sleep=report,
            reraise=True,
        )
        return retrying(function, *values, **options)


def outcomes(
    call: Callable[..., Any], create: Create, request: Mapping[str, Any], count: int
) -> list[bool]:
    """Send a request `count` times through a policy, such as `Retry`; return which succeeded."""
    results = []
    for _ in range(count):
        try:
            call(create, **request)
            results.append(True)
        except (openai.APIError, CircuitOpen):
            results.append(False)
    return results


def describe(error: BaseException | None) -> str:
    """Return an error in a few words, such as "503 InternalServerError"."""
    code = getattr(error, "status_code", None)
    name = type(error).__name__
    if isinstance(error, CircuitOpen):
        return str(error)
    return f"{code} {name}" if code else name


def add_event(name: str, **fields: object) -> None:
    """Add an event to the current span; without a span, it has no effect."""
    get_current_span().add_event(name, fields)


def with_timeout(
    function: Callable[..., Result], seconds: float, *values: Any, **options: Any
) -> Result:
    """Return the function's result, or raise TimeoutError after this many seconds.

    The function runs in a thread, which Python cannot stop: after a time-out it goes on, and its
    result is discarded. Its effects may still happen, so they need an idempotency key.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function(*values, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # the function itself raised it
            raise
        add_event("timeout", seconds=seconds)
        raise TimeoutError(f"no result within {seconds:g} s") from None


# --- Circuit breaker ------------------------------------------------------------------------------


class CircuitOpen(RuntimeError):
    """A call that was not made, because the breaker is open. The message says for how long."""


class CircuitBreaker:
    """Stop calls to a server that keeps failing, and test it again after a pause.

    closed: calls pass. After `failures` retryable errors in a row the breaker is open: calls raise
    CircuitOpen at once. After `reset_seconds` it is half-open: one call passes as a test, and
    closes or opens the breaker. Threads may share it. opened: how often it opened.
    """

    def __init__(
        self,
        failures: int = 5,
        reset_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures, self.reset_seconds, self.clock = failures, reset_seconds, clock
        self.opened, self._count, self._since, self._testing = 0, 0, None, False
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """Return "closed", "open" or "half-open"."""
        if self._since is None:
            return "closed"
        return "half-open" if self.clock() - self._since >= self.reset_seconds else "open"

    def __call__(self, function: Callable[..., Result], *values: Any, **options: Any) -> Result:
        """Call the function if the breaker lets it pass. Raises CircuitOpen or its error."""
        testing = self._enter()
        try:
            result = function(*values, **options)
        except Exception as error:
            self._leave(testing, failed=is_retryable(error) or isinstance(error, TimeoutError))
            raise
        except BaseException:  # an interruption says nothing about the server
            self._leave(testing, failed=None)
            raise
        self._leave(testing, failed=False)
        return result

    def _enter(self) -> bool:
        """Return whether this call is the test of a half-open breaker. Raises CircuitOpen."""
        with self._lock:
            state = self.state
            if state == "closed":
                return False
            if state == "open" or self._testing:
                remaining = max(0.0, self.reset_seconds - (self.clock() - self._since))
                raise CircuitOpen(f"the breaker is {state}; next test in {remaining:.1f} s")
            self._testing = True
            return True

    def _leave(self, testing: bool, failed: bool | None) -> None:
        """Count the outcome of a call; None means that it is unknown."""
        with self._lock:
            if testing:
                self._testing = False
            elif self._since is not None:
                return  # a call from before the breaker opened: its outcome is old
            if failed is None:
                return
            self._count = self._count + 1 if failed else 0
            if failed and (testing or self._count >= self.failures):
                self._since, self.opened = self.clock(), self.opened + 1
                add_event("breaker", state="open")
            elif not failed:
                self._since = None


# --- Fallbacks ------------------------------------------------------------------------------------


class AllFailed(RuntimeError):
    """No candidate answered. The message lists the reason of each."""


@dataclass(frozen=True)
class Reply:
    """A response, the candidate that gave it, and why each earlier candidate did not."""

    response: Any
    name: str
    reasons: tuple[tuple[str, str], ...] = ()


def with_fallbacks(candidates: Mapping[str, Callable[..., Any]], **request: Any) -> Reply:
    """Return the reply of the first candidate that answers, with the reasons of the others.

    A candidate is skipped after a retryable error, an open breaker or a time-out. Any other error
    is raised: a wrong request is wrong for every candidate. Raises AllFailed if none answers.
    """
    reasons: list[tuple[str, str]] = []
    for name, call in candidates.items():
        try:
            response = call(**request)
        except (openai.APIError, CircuitOpen, TimeoutError) as error:
            if isinstance(error, openai.APIError) and not is_retryable(error):
                raise
            reasons.append((name, describe(error)))
            add_event("fallback", candidate=name, reason=describe(error))
            continue
        return Reply(response, name, tuple(reasons))
    raise AllFailed("; ".join(f"{name}: {reason}" for name, reason in reasons))


# --- Rate limit -----------------------------------------------------------------------------------


class RateLimit:
    """Wait before calls so that a provider's limits hold: requests and tokens per period.

    Uses aiolimiter's leaky buckets. Each starts empty, so a full period's amount can pass at once
    in the beginning: set the limit below the provider's.
    """

    def __init__(self, requests: float, tokens: float | None = None, seconds: float = 60.0) -> None:
        self._requests = AsyncLimiter(requests, seconds)
        self._tokens = AsyncLimiter(tokens, seconds) if tokens else None

    async def acquire(self, tokens: float = 0) -> None:
        """Wait until a call with this many tokens may be sent.

        Raises ValueError if the tokens alone exceed a period's limit.
        """
        if self._tokens is not None:
            await self._tokens.acquire(tokens)
        await self._requests.acquire()

    async def run(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Start the asynchronous calls at the limit's rate; return results and exceptions."""

        async def start(call: Callable[[], Any]) -> Any:
            await self.acquire()
            return await call()

        return await asyncio.gather(*map(start, calls), return_exceptions=True)


# --- Router ---------------------------------------------------------------------------------------


def confidence(response: ChatCompletion) -> float:
    """Return the lowest probability of an answer's tokens, from 0 to 1.

    The request needs `logprobs=True`. Raises ValueError for a response without them.
    """
    logprobs = response.choices[0].logprobs
    if logprobs is None or not logprobs.content:
        raise ValueError("the response has no log-probabilities; request them with logprobs=True")
    return math.exp(min(token.logprob for token in logprobs.content))


def price_of(response: ChatCompletion, price: Price) -> float:
    """Return what a response costs behind an API, in the currency of the price."""
    prompt, completion = response.usage.prompt_tokens, response.usage.completion_tokens
    return (prompt * price.input_per_M + completion * price.output_per_M) / 1e6


def cost_per_second(
    price: float, years: float, power_W: float, price_per_kWh: float, utilisation: float
) -> float:
    """Return the cost of a second of a machine's work, by the terms of `sizing.cost_per_million`.

    Raises ValueError as that function does.
    """
    return sizing.cost_per_million(
        price=price,
        years=years,
        power_W=power_W,
        price_per_kWh=price_per_kWh,
        utilisation=utilisation,
        tokens_per_second=1e6,  # a million units in a second: the cost of that second
    )


@dataclass(frozen=True)
class Routed:
    """A routed answer: its text, the model that gave it, why, and what all calls for it cost."""

    text: str
    route: str  # "local" or "api"
    reason: str
    cost: float
    seconds: float


@dataclass
class Router:
    """Ask the local model; if it is not confident, ask the API too (a cascade, FrugalGPT,
    arXiv 2305.05176).

    local, api: functions from a request to a response. threshold: of `confidence`. price: of the
    API. second: the cost of a second of the local machine. An API that fails costs its answer: the
    local one is returned, with the reason.
    """

    local: Create
    api: Create
    threshold: float
    price: Price
    second: float = 0.0
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, **request: Any) -> Routed:
        """Return the answer to a request. Raises what the local model raises."""
        began = self.clock()
        first = self.local(**request, logprobs=True)
        cost, sure = (self.clock() - began) * self.second, confidence(first)
        if sure >= self.threshold:
            reason = f"confidence {sure:.2f} is at least {self.threshold:.2f}"
            return self._routed(first, "local", reason, cost, began)
        reason = f"confidence {sure:.2f} is below {self.threshold:.2f}"
        try:
            second = self.api(**request)
        except (openai.APIError, CircuitOpen) as error:
            reason += f", and the API failed: {describe(error)}"
            return self._routed(first, "local", reason, cost, began)
        return self._routed(second, "api", reason, cost + price_of(second, self.price), began)

    def _routed(
        self, response: ChatCompletion, route: str, reason: str, cost: float, began: float
    ) -> Routed:
        add_event("route", route=route, reason=reason)
        text = response.choices[0].message.content or ""
        return Routed(text, route, reason, cost, self.clock() - began)


def direct(
    create: Create,
    name: str,
    price: Price | None = None,
    second: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[..., Routed]:
    """Return a function that sends every request to one model, to compare a router with.

    price: of an API. second: the cost of a second of the machine. Both are 0 by default.
    """

    def route(**request: Any) -> Routed:
        began = clock()
        response = create(**request)
        seconds = clock() - began
        cost = seconds * second + (price_of(response, price) if price else 0.0)
        text = response.choices[0].message.content or ""
        return Routed(text, name, "the only model", cost, seconds)

    return route


@dataclass(frozen=True)
class RoutePoint:
    """What a threshold would give: the share of right answers, and of requests to the API."""

    threshold: float
    accuracy: float
    api_share: float


def route_curve(
    confidences: Sequence[float], local_right: Sequence[bool], api_right: Sequence[bool]
) -> list[RoutePoint]:
    """Return a point per threshold, from "all local" (0) to "all to the API".

    Each sequence has an entry per request; both models must have answered all. Raises ValueError
    for sequences of different lengths or without entries.
    """
    rows = sorted(zip(confidences, local_right, api_right, strict=True))
    if not rows:
        raise ValueError("no requests: a curve needs answers of both models")
    right = sum(local for _, local, _ in rows)
    points = [RoutePoint(0.0, right / len(rows), 0.0)]
    for place, (sure, local, api) in enumerate(rows, start=1):
        right += api - local
        following = rows[place][0] if place < len(rows) else math.inf
        if following > sure:  # requests with equal confidence go the same way
            points.append(RoutePoint(following, right / len(rows), place / len(rows)))
    return points


def choose_threshold(points: Sequence[RoutePoint], accuracy: float) -> RoutePoint:
    """Return the point with the fewest requests to the API that reaches an accuracy.

    Raises LookupError if no threshold reaches it.
    """
    enough = [point for point in points if point.accuracy >= accuracy]
    if not enough:
        best = max(point.accuracy for point in points)
        raise LookupError(f"no threshold reaches {accuracy:.1%}; the best reaches {best:.1%}")
    return min(enough, key=lambda point: point.api_share)
