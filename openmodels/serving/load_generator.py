"""Readers for a server on this machine: how long each waits, and a queue to compare with.

`crowd` keeps a number of readers busy, `stream` sends them in at random moments; both ask an
OpenAI-compatible server and note when each piece of each answer came. `queued` computes the same
waits for slots of equal speed. Only addresses of this machine are asked.
"""

import asyncio
import heapq
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from openmodels.serving.engine import NONE_KEPT

HOSTS = ("127.0.0.1", "localhost", "::1")
MOST_REQUESTS = 2000
MOST_READERS = 256
MOST_PIECES = 4096  # of one answer
PATIENCE = 60.0  # seconds without a piece


class LoadError(RuntimeError):
    """The server refused a reader, fell silent, or wrote what is no stream of pieces."""


@dataclass(frozen=True)
class Reader:
    """One request. asked: seconds since the start of the run; came: the same for each piece."""

    asked: float
    came: tuple[float, ...]

    @property
    def first(self) -> float:
        """Seconds until the first piece."""
        return self.came[0] - self.asked

    @property
    def whole(self) -> float:
        """Seconds until the last piece."""
        return self.came[-1] - self.asked

    @property
    def gap(self) -> float:
        """Seconds between two pieces, on average; 0 where there is one piece only."""
        return (self.came[-1] - self.came[0]) / max(len(self.came) - 1, 1)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed."""
    if not values or not 0 < share <= 1:
        raise ValueError("needs values, and a share above 0 and up to 1")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def throughput(readers: Sequence[Reader]) -> float:
    """Pieces per second, all readers together, from the first request to the last piece."""
    span = max(one.came[-1] for one in readers) - min(one.asked for one in readers)
    return sum(len(one.came) for one in readers) / span


def arrivals(count: int, rate: float, seed: int = 0) -> list[float]:
    """Seconds at which `count` readers come who know nothing of each other, `rate` a second.

    The pauses are exponential: a Poisson process. The first comes after the first pause.
    """
    if not rate > 0 or not math.isfinite(rate):
        raise ValueError(f"a rate of {rate} a second brings nobody")
    drawn, at = random.Random(seed), 0.0
    return [at := at + drawn.expovariate(rate) for _ in range(count)]


def queued(moments: Sequence[float], seconds: Sequence[float], slots: int = 1) -> list[float]:
    """Seconds each reader waits for a slot, first come, first served.

    moments: when each comes, in order. seconds: how long each keeps a slot. All slots write at one
    speed, however many write. Example: queued([0, 1], [3, 3]) -> [0.0, 2.0].
    """
    if slots < 1 or len(moments) != len(seconds):
        raise ValueError("needs a slot, and as many seconds as moments")
    free, waits = [0.0] * slots, []
    for moment, taken in zip(moments, seconds, strict=True):
        begin = max(moment, heapq.heappop(free))
        heapq.heappush(free, begin + taken)
        waits.append(float(begin - moment))
    return waits


def counters(address: str) -> dict[str, float]:
    """What the engine has counted since it started, from its /metrics.

    Names as llama.cpp's: n_decode_total is passes, n_busy_slots_per_decode the slots that wrote in
    one on average, requests_processing and requests_deferred who is answered and who waits now.
    """
    with httpx.Client(base_url=_own(address), timeout=PATIENCE, trust_env=False) as client:
        answer = client.get("/metrics")
    if answer.status_code != 200:
        raise LoadError(f"status {answer.status_code}: no counters here")
    lines = (line.split() for line in answer.text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("llamacpp:"): float(value) for name, value in lines}


async def crowd(address: str, bodies: Sequence[dict], readers: int) -> list[Reader]:
    """Ask all bodies, `readers` at a time: who has an answer asks the next.

    bodies: of /v1/chat/completions or, where they have a "prompt", of /v1/completions. Raises
    ValueError for an address elsewhere or too many requests, LoadError where the server fails.
    """
    if not 1 <= readers <= MOST_READERS:
        raise ValueError(f"from 1 to {MOST_READERS} readers, not {readers}")
    waiting, done = iter(enumerate(bodies)), {}
    async with _client(address, bodies) as client:
        start = time.perf_counter()

        async def work() -> None:
            for place, body in waiting:
                done[place] = await _read(client, body, start)

        await _all([work() for _ in range(readers)])
    return [done[place] for place in sorted(done)]


async def stream(address: str, bodies: Sequence[dict], moments: Sequence[float]) -> list[Reader]:
    """Ask each body at its moment, in seconds from now, whether or not others are answered.

    bodies and errors as in `crowd`.
    """
    if len(bodies) != len(moments) or not all(0 <= one < math.inf for one in moments):
        raise ValueError("needs a moment, 0 or later, for each body")
    async with _client(address, bodies) as client:
        start = time.perf_counter()

        async def come(body: dict, moment: float) -> Reader:
            await asyncio.sleep(start + moment - time.perf_counter())
            return await _read(client, body, start)

        return await _all([come(*pair) for pair in zip(bodies, moments, strict=True)])


async def _all(works: list) -> list:
    """What all return; the first error ends the others."""
    tasks = [asyncio.create_task(one) for one in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _own(address: str) -> str:
    """The address without its path; ValueError where it is not one of this machine."""
    parts = urlsplit(address)
    if parts.scheme != "http" or parts.hostname not in HOSTS or "@" in parts.netloc:
        raise ValueError(f"{address} is not on this machine; only that is put under load")
    return f"http://{parts.netloc}"


def _client(address: str, bodies: Sequence[dict]) -> httpx.AsyncClient:
    if not 1 <= len(bodies) <= MOST_REQUESTS:
        raise ValueError(f"from 1 to {MOST_REQUESTS} requests in a run, not {len(bodies)}")
    return httpx.AsyncClient(
        base_url=_own(address), timeout=PATIENCE, trust_env=False, limits=NONE_KEPT
    )


async def _read(client: httpx.AsyncClient, body: dict, start: float) -> Reader:
    """One request from its sending to its last piece."""
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    asked, came = time.perf_counter() - start, []
    try:
        async with client.stream("POST", path, json=body | {"stream": True}) as answer:
            if answer.status_code != 200:
                words = (await answer.aread()).decode(errors="replace")[:200]
                raise LoadError(f"status {answer.status_code}: {words}")
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and _has_text(line[6:]):
                    came.append(time.perf_counter() - start)
                if len(came) > MOST_PIECES:
                    raise LoadError(f"an answer of more than {MOST_PIECES} pieces")
    except httpx.HTTPError as error:
        raise LoadError(f"{type(error).__name__}: {error}") from error
    if not came:
        raise LoadError("an answer without text")
    return Reader(asked, tuple(came))


def _has_text(data: str) -> bool:
    """Whether an event of a stream brings text; the last ones bring counts and [DONE]."""
    if data == "[DONE]":
        return False
    try:
        event = json.loads(data)
        if "error" in event:
            raise LoadError(f"the server gave up: {str(event['error'])[:200]}")
        choice = next(iter(event["choices"]), {})
        return bool(choice.get("text") or choice.get("delta", {}).get("content"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"not a piece of an answer: {data[:100]}") from error
