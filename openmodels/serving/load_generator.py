"""Puts a server on this machine under load, measures latencies, and computes them for a queue.

`crowd` runs a fixed number of clients (a closed loop); `stream` sends requests at given times,
whether or not earlier ones are answered (an open loop). Both record when each chunk of each
response arrives. `queued` computes the waiting times for slots of constant speed. The server
speaks OpenAI's protocol: an `Engine`, or an address of this machine.
"""

import asyncio
import heapq
import json
import math
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from openmodels.serving.engine import NO_KEEPALIVE, Engine

HOSTS = ("127.0.0.1", "localhost", "::1")
MAX_REQUESTS = 2000
MAX_READERS = 256
MAX_CHUNKS = 4096  # of one response
TIMEOUT = 60.0  # seconds without a chunk

Result = TypeVar("Result")


class LoadError(RuntimeError):
    """The server rejected a request, stopped responding, or sent no valid stream of chunks."""


@dataclass(frozen=True)
class RequestTiming:
    """The times of one request, in seconds since the start of the run.

    sent_at: when it was sent. chunk_times: when each chunk of the response arrived.
    """

    sent_at: float
    chunk_times: tuple[float, ...]

    @property
    def time_to_first_token(self) -> float:
        """Return the seconds until the first chunk (TTFT)."""
        return self.chunk_times[0] - self.sent_at

    @property
    def latency(self) -> float:
        """Return the seconds until the last chunk."""
        return self.chunk_times[-1] - self.sent_at

    @property
    def inter_token_latency(self) -> float:
        """Return the mean seconds between two chunks; 0 for a single chunk."""
        return (self.chunk_times[-1] - self.chunk_times[0]) / max(len(self.chunk_times) - 1, 1)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed.

    Raises ValueError without values, and for a share outside (0, 1].
    """
    if not values or not 0 < share <= 1:
        raise ValueError("needs values, and a share above 0 and up to 1")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def throughput(timings: Sequence[RequestTiming]) -> float:
    """Return the chunks per second of all requests, from the first request to the last chunk."""
    begin = min(timing.sent_at for timing in timings)
    end = max(timing.chunk_times[-1] for timing in timings)
    return sum(len(timing.chunk_times) for timing in timings) / (end - begin)


def arrivals(count: int, rate: float, seed: int = 0) -> list[float]:
    """Return the times, in seconds, at which `count` independent requests arrive.

    rate: requests per second. The pauses are exponential (a Poisson process); the first request
    arrives after the first pause. Raises ValueError for a rate that is not positive and finite.
    """
    if not rate > 0 or not math.isfinite(rate):
        raise ValueError(f"a rate of {rate} a second brings nobody")
    rng, time_now = random.Random(seed), 0.0
    return [time_now := time_now + rng.expovariate(rate) for _ in range(count)]


def queued(moments: Sequence[float], seconds: Sequence[float], slots: int = 1) -> list[float]:
    """Return the seconds that each request waits for a slot, first come, first served.

    moments: arrival times in order. seconds: how long each request occupies a slot. The number of
    busy slots does not change their speed. Example: queued([0, 1], [3, 3]) -> [0.0, 2.0].
    Raises ValueError without a slot, and for lists of unequal length.
    """
    if slots < 1 or len(moments) != len(seconds):
        raise ValueError("needs a slot, and as many seconds as moments")
    free_at, waits = [0.0] * slots, []
    for moment, duration in zip(moments, seconds, strict=True):
        begin = max(moment, heapq.heappop(free_at))
        heapq.heappush(free_at, begin + duration)
        waits.append(float(begin - moment))
    return waits


def counters(server: Engine | str) -> dict[str, float]:
    """Return llama.cpp's counters since it started, from its /metrics.

    The names are llama.cpp's: n_decode_total counts forward passes, n_busy_slots_per_decode is the
    mean number of busy slots in one, requests_processing and requests_deferred count the requests
    that are being answered and that wait. Raises ValueError for an address of another machine and
    LoadError for a server without counters.
    """
    address, headers = _connection(server)
    with httpx.Client(
        base_url=address, headers=headers, timeout=TIMEOUT, trust_env=False
    ) as client:
        response = client.get("/metrics")
    if response.status_code != 200:
        raise LoadError(f"status {response.status_code}: no counters here")
    lines = (line.split() for line in response.text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("llamacpp:"): float(value) for name, value in lines}


async def crowd(
    server: Engine | str, bodies: Sequence[dict[str, Any]], readers: int
) -> list[RequestTiming]:
    """Send all bodies, `readers` at a time; a reader sends the next when it has a response.

    bodies: of /v1/chat/completions or, if they have a "prompt", of /v1/completions. Returns the
    timings in the order of the bodies. Raises ValueError for an address of another machine or too
    many requests, LoadError if the server fails.
    """
    if not 1 <= readers <= MAX_READERS:
        raise ValueError(f"from 1 to {MAX_READERS} readers, not {readers}")
    pending, timings = iter(enumerate(bodies)), {}
    async with _client(server, bodies) as client:
        start = time.perf_counter()

        async def read_next() -> None:
            for index, body in pending:
                timings[index] = await _send(client, body, start)

        await _gather([read_next() for _ in range(readers)])
    return [timings[index] for index in sorted(timings)]


async def stream(
    server: Engine | str, bodies: Sequence[dict[str, Any]], moments: Sequence[float]
) -> list[RequestTiming]:
    """Send each body at its moment, in seconds from now, even if others are not answered yet.

    bodies, result and errors: as for `crowd`. Raises ValueError unless each body has a moment.
    """
    if len(bodies) != len(moments) or not all(0 <= moment < math.inf for moment in moments):
        raise ValueError("needs a moment, 0 or later, for each body")
    async with _client(server, bodies) as client:
        start = time.perf_counter()

        async def send_at(body: dict[str, Any], moment: float) -> RequestTiming:
            await asyncio.sleep(start + moment - time.perf_counter())
            return await _send(client, body, start)

        return await _gather([send_at(*pair) for pair in zip(bodies, moments, strict=True)])


async def _gather(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return all results; the first error cancels the other tasks."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _connection(server: Engine | str) -> tuple[str, dict[str, str]]:
    """Return the address without its path, and the headers. Raises ValueError if it is remote."""
    if isinstance(server, Engine):
        return server.address, server.headers
    parts = urlsplit(server)
    if parts.scheme != "http" or parts.hostname not in HOSTS or "@" in parts.netloc:
        raise ValueError(f"{server} is not on this machine; only that is put under load")
    return f"http://{parts.netloc}", {}


def _client(server: Engine | str, bodies: Sequence[dict[str, Any]]) -> httpx.AsyncClient:
    if not 1 <= len(bodies) <= MAX_REQUESTS:
        raise ValueError(f"from 1 to {MAX_REQUESTS} requests in a run, not {len(bodies)}")
    address, headers = _connection(server)
    return httpx.AsyncClient(
        base_url=address, headers=headers, timeout=TIMEOUT, trust_env=False, limits=NO_KEEPALIVE
    )


async def _send(client: httpx.AsyncClient, body: dict[str, Any], start: float) -> RequestTiming:
    """Send a request and read its response. start: the run's start by `perf_counter`."""
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    sent_at = time.perf_counter() - start
    try:
        async with client.stream("POST", path, json=body | {"stream": True}) as response:
            chunk_times = await _chunk_times(response, start)
    except httpx.HTTPError as error:
        raise LoadError(f"{type(error).__name__}: {error}") from error
    if not chunk_times:
        raise LoadError("a response without text")
    return RequestTiming(sent_at, tuple(chunk_times))


async def _chunk_times(response: httpx.Response, start: float) -> list[float]:
    """Return when each chunk with text arrives, in seconds since `start`. Raises LoadError."""
    if response.status_code != 200:
        message = (await response.aread()).decode(errors="replace")[:200]
        raise LoadError(f"status {response.status_code}: {message}")
    times: list[float] = []
    async for line in response.aiter_lines():
        if line.startswith("data: ") and _has_text(line[6:]):
            times.append(time.perf_counter() - start)
        if len(times) > MAX_CHUNKS:
            raise LoadError(f"a response of more than {MAX_CHUNKS} chunks")
    return times


def _has_text(data: str) -> bool:
    """Return whether an event contains text; the last events contain counts and [DONE]."""
    if data == "[DONE]":
        return False
    try:
        event = json.loads(data)
        if "error" in event:
            raise LoadError(f"the server failed: {str(event['error'])[:200]}")
        choice = next(iter(event["choices"]), {})
        return bool(choice.get("text") or choice.get("delta", {}).get("content"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"not a chunk of a response: {data[:100]}") from error
