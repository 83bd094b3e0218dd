"""Engines by need: loaded when first asked for, kept for a while, unloaded when idle.

All of it runs on the server's event loop; loading and closing, which take time, on threads.
"""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httptools
import httpx

from openmodels.serving.engine import NONE_KEPT, Engine, EngineError, problem
from openmodels.serving.model_store import ApiError, Store, StoredModel

KEEP = 300.0  # seconds
SLOTS = 8
MOST_LOADED = 4
MOST_CONTEXT = 4096  # tokens a slot has unless a request asks for more
MOST_WAITING = 512  # as in Ollama

Key = tuple[str, str, int, bool]


class PooledEngine:
    """An engine and who uses it. `turn` lets in as many texts as there are slots."""

    def __init__(self, key: Key, model: StoredModel, engine: Engine, size: int):
        self.key, self.model, self.engine, self.size = key, model, engine, size
        self.slots = asyncio.Semaphore(engine.slots)
        self.users, self.keep_alive, self.since = 0, KEEP, time.monotonic()

    @property
    def expires_in(self) -> float:
        """Seconds until it is unloaded, if nobody comes."""
        return self.keep_alive if self.users else self.since + self.keep_alive - time.monotonic()

    @property
    def expires_at(self) -> str:
        far = datetime(2318, 1, 1, tzinfo=UTC)
        at = (
            far
            if math.isinf(self.expires_in)
            else datetime.now(UTC) + timedelta(seconds=self.expires_in)
        )
        return at.isoformat().replace("+00:00", "Z")


class Pool:
    """The engines of a server. `most`: how many at once; further models wait for an idle one."""

    def __init__(self, store: Store, most: int = MOST_LOADED, threads: int | None = None):
        self.store, self._most, self._threads = store, most, threads
        self.loaded: dict[Key, PooledEngine] = {}
        self._loading: dict[Key, asyncio.Task] = {}
        self._wanted: Counter[Key] = Counter()  # requests that wait for an engine
        self._starting = 0  # engines that have a place and are not there yet
        self._changed = asyncio.Condition()
        self._waiting = 0
        self._tasks: set[asyncio.Task] = set()
        self._client = httpx.AsyncClient(timeout=None, trust_env=False, limits=NONE_KEPT)

    @asynccontextmanager
    async def use(
        self, model: StoredModel, num_ctx: int | None = None, embedding: bool = False,
        keep_alive: float | None = None,
    ) -> AsyncIterator[PooledEngine]:  # fmt: skip
        """The engine of a model, for one request. Raises Refused."""
        if self._waiting >= MOST_WAITING:
            raise ApiError(503, "server busy, please try again: maximum pending requests exceeded")
        self._waiting += 1
        try:
            loaded = await self._get(model, num_ctx, embedding)
            loaded.users += 1
            if keep_alive is not None:
                loaded.keep_alive = keep_alive
            try:
                yield loaded
            finally:
                loaded.users -= 1
                loaded.since = time.monotonic()
                self._watch(loaded)
        finally:
            self._waiting -= 1

    async def _get(self, model: StoredModel, num_ctx: int | None, embedding: bool) -> PooledEngine:
        trained = (await asyncio.to_thread(self.store.header, model)).context or MOST_CONTEXT
        context = min(max(num_ctx or MOST_CONTEXT, 256), trained)
        key = (model.name, model.digest(), context, embedding)
        self._wanted[key] += 1
        try:
            while key not in self.loaded:
                task = self._loading.get(key)
                if task is None:
                    task = self._task(self._load(key, model))
                    self._loading[key] = task
                await asyncio.shield(task)  # one who leaves does not stop it for the others
            return self.loaded[key]
        finally:
            self._wanted[key] -= 1

    async def _load(self, key: Key, model: StoredModel) -> None:
        try:
            async with self._changed:
                while len(self.loaded) + self._starting >= self._most:
                    idle = [
                        one
                        for one in self.loaded.values()
                        if not one.users and not self._wanted[one.key]
                    ]
                    if idle:
                        await self._close(min(idle, key=lambda one: one.since))
                    else:
                        await self._changed.wait()
                self._starting += 1
            try:
                engine, size = await asyncio.to_thread(self._start, model, key[2], key[3])
                self.loaded[key] = PooledEngine(key, model, engine, size)
                self._watch(self.loaded[key])
            finally:
                self._starting -= 1
        except EngineError as error:
            raise ApiError(500, str(error)) from error
        finally:
            del self._loading[key]
            self._task(self._notify())

    def _start(self, model: StoredModel, context: int, embedding: bool) -> tuple[Engine, int]:
        engine = Engine(
            self.store.path(model),
            None if embedding else self.store.mmproj_path(model),
            context=context,
            slots=SLOTS,
            threads=self._threads,
            embedding=embedding,
            adapter=self.store.adapter(model),
        )
        return engine, self.store.size(model)

    def _task(self, work: Any) -> asyncio.Task:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # an error goes to those who wait; when all have left, to nobody
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return task

    def _watch(self, loaded: PooledEngine) -> None:
        """Come back when its time is over; others may wait for an idle engine now."""

        def look() -> None:
            self._task(self._look(loaded))

        if loaded.users == 0:
            asyncio.get_running_loop().call_soon(look)
            if not math.isinf(loaded.keep_alive):
                asyncio.get_running_loop().call_later(max(loaded.expires_in, 0), look)

    async def _look(self, loaded: PooledEngine) -> None:
        async with self._changed:
            if not loaded.users and loaded.expires_in <= 0:
                await self._close(loaded)
            self._changed.notify_all()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _close(self, loaded: PooledEngine) -> None:
        if self.loaded.get(loaded.key) is loaded:
            del self.loaded[loaded.key]
            await asyncio.to_thread(loaded.engine.close)

    async def unload(self, name: str) -> None:
        """Close the engines of a model: now, or when their last request is answered."""
        for loaded in [one for one in self.loaded.values() if one.model.name == name]:
            loaded.keep_alive = 0.0
            await self._look(loaded)

    async def close(self) -> None:
        """Close everything."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for loaded in list(self.loaded.values()):
            await self._close(loaded)
        await self._client.aclose()

    # asking an engine

    async def post(self, loaded: PooledEngine, path: str, told: dict[str, Any]) -> Any:
        """llama.cpp's answer to a short question."""
        try:
            answer = await self._client.post(loaded.engine.address + path, json=told)
        except httpx.HTTPError as error:
            raise await self._lost(loaded, error) from error
        if answer.status_code != 200:
            raise _refusal(answer.status_code, answer.content)
        return answer.json()

    async def stream(
        self, loaded: PooledEngine, path: str, told: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Its answer in pieces. Whoever stops reading ends the engine's work as well."""
        content = json.dumps(told | {"stream": True}).encode()
        async with loaded.slots:
            try:
                async with aclosing(_lines(loaded.engine.address, path, content)) as lines:
                    async for line in lines:
                        if not line.startswith(b"data: ") or line == b"data: [DONE]":
                            continue
                        data = line.removeprefix(b"data: ")
                        piece = json.loads(data)
                        if "error" in piece:
                            raise _refusal(piece["error"].get("code", 500), data)
                        yield piece
            except (OSError, EOFError, httptools.HttpParserError) as error:
                raise await self._lost(loaded, error) from error

    async def _lost(self, loaded: PooledEngine, error: Exception) -> ApiError:
        """An engine that does not answer is closed, and loaded anew when asked for again."""
        await self._close(loaded)
        return ApiError(500, f"the engine stopped: {type(error).__name__}")


class _Body:
    """What httptools finds in an answer: its body so far, and whether that is all."""

    def __init__(self) -> None:
        self.held, self.ended = b"", False

    def on_body(self, body: bytes) -> None:
        self.held += body

    def on_message_complete(self) -> None:
        self.ended = True


async def _lines(address: str, path: str, content: bytes) -> AsyncIterator[bytes]:
    """The lines that llama.cpp answers to a body in JSON, as they come.

    By hand, because httpx takes a tenth of a millisecond for each piece, and a miniature's token
    half a one. Raises Refused, OSError or EOFError.
    """
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        body = _Body()
        parser = httptools.HttpResponseParser(body)
        while not body.ended:
            data = await reader.read(2**16)
            if not data:
                raise EOFError("it closed the connection")
            parser.feed_data(data)
            if parser.get_status_code() == 200:
                *whole, body.held = body.held.split(b"\n")
                for line in whole:
                    yield line
        if parser.get_status_code() != 200:
            raise _refusal(parser.get_status_code(), body.held)
    finally:
        writer.close()


class TooLong(ApiError):
    """More tokens than a slot has."""


def _refusal(status: int, content: bytes) -> ApiError:
    words, kind = problem(content)
    if kind == "exceed_context_size_error":
        return TooLong(400, words)
    return ApiError(status, words)
