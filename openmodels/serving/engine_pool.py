"""Loads engines when a request needs them, and unloads them when they have been idle for a while.

The pool runs on the server's event loop. Loading and closing take time and run on threads.
"""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httptools
import httpx

from openmodels.serving.engine import NO_KEEPALIVE, Engine, EngineError, problem
from openmodels.serving.media import AUDIO, encoder_of
from openmodels.serving.model_store import ApiError, Store, StoredModel

DEFAULT_KEEP_ALIVE = 300.0  # seconds
SLOTS = 8
MAX_LOADED_MODELS = 4
MIN_CONTEXT = 256  # tokens per slot
AUDIO_CONTEXT = 2048  # tokens per slot of a model that hears: a sound takes 750
DEFAULT_CONTEXT = 4096  # tokens per slot, unless a request sets num_ctx
MAX_PENDING = 512  # requests; Ollama's limit
NEVER = datetime(2318, 1, 1, tzinfo=UTC)  # when a model expires that stays loaded

Key = tuple[str, str, int, bool]  # name, digest, context, embedding


class PooledEngine:
    """An engine with its users. `slots` admits as many requests as the engine has slots.

    size: bytes of its files. `keep_alive` and `expires_in` are seconds.
    """

    def __init__(self, key: Key, model: StoredModel, engine: Engine, size: int):
        self.key, self.model, self.engine, self.size = key, model, engine, size
        self.slots = asyncio.Semaphore(engine.slots)
        self.users, self.keep_alive, self.idle_since = 0, DEFAULT_KEEP_ALIVE, time.monotonic()

    @property
    def expires_in(self) -> float:
        """Return the seconds until it is unloaded if no request arrives; inf for never."""
        if self.users:
            return self.keep_alive
        return self.idle_since + self.keep_alive - time.monotonic()

    @property
    def expires_at(self) -> str:
        """Return the time of unloading in ISO 8601, UTC."""
        seconds = self.expires_in
        at = NEVER if math.isinf(seconds) else datetime.now(UTC) + timedelta(seconds=seconds)
        return at.isoformat().replace("+00:00", "Z")


class Pool:
    """The engines of a server.

    max_loaded: engines at the same time; a further model waits until another is idle.
    threads: as for `Engine`.
    """

    def __init__(
        self, store: Store, max_loaded: int = MAX_LOADED_MODELS, threads: int | None = None
    ):
        self.store, self._max_loaded, self._threads = store, max_loaded, threads
        self.loaded: dict[Key, PooledEngine] = {}
        self._loading: dict[Key, asyncio.Task] = {}
        self._waiting: Counter[Key] = Counter()  # requests that wait for an engine to load
        self._starting = 0  # engines that hold a place and are still loading
        self._changed = asyncio.Condition()
        self._pending = 0  # requests in all
        self._tasks: set[asyncio.Task] = set()
        self._client = httpx.AsyncClient(timeout=None, trust_env=False, limits=NO_KEEPALIVE)

    @asynccontextmanager
    async def use(
        self, model: StoredModel, num_ctx: int | None = None, embedding: bool = False,
        keep_alive: float | None = None,
    ) -> AsyncIterator[PooledEngine]:  # fmt: skip
        """Yield the engine of a model for one request, loading it first if necessary.

        num_ctx: tokens per slot, limited to the model's. keep_alive: seconds it then stays loaded.
        Raises ApiError(503) if too many requests are pending, ApiError(500) if it does not load.
        """
        if self._pending >= MAX_PENDING:
            raise ApiError(503, "server busy, please try again: maximum pending requests exceeded")
        self._pending += 1
        try:
            pooled = await self._get(model, num_ctx, embedding)
            pooled.users += 1
            if keep_alive is not None:
                pooled.keep_alive = keep_alive
            try:
                yield pooled
            finally:
                pooled.users -= 1
                pooled.idle_since = time.monotonic()
                self._schedule_unload(pooled)
        finally:
            self._pending -= 1

    async def _get(self, model: StoredModel, num_ctx: int | None, embedding: bool) -> PooledEngine:
        header = await asyncio.to_thread(self.store.header, model)
        encoder = await asyncio.to_thread(encoder_of, self.store, model)
        hears = encoder is not None and AUDIO in encoder.capabilities
        context = max(num_ctx or DEFAULT_CONTEXT, AUDIO_CONTEXT if hears else MIN_CONTEXT)
        context = min(context, header.context or DEFAULT_CONTEXT)
        key = (model.name, model.digest(), context, embedding)
        self._waiting[key] += 1
        try:
            while key not in self.loaded:
                task = self._loading.get(key)
                if task is None:
                    task = self._start_task(self._load(key, model))
                    self._loading[key] = task
                # a client that disconnects does not stop the loading for other clients
                await asyncio.shield(task)
            return self.loaded[key]
        finally:
            self._waiting[key] -= 1

    async def _load(self, key: Key, model: StoredModel) -> None:
        try:
            await self._reserve_place()
            try:
                engine, size = await asyncio.to_thread(self._start, model, key[2], key[3])
                self.loaded[key] = PooledEngine(key, model, engine, size)
                self._schedule_unload(self.loaded[key])
            finally:
                self._starting -= 1
        except EngineError as error:
            raise ApiError(500, str(error)) from error
        finally:
            del self._loading[key]
            self._start_task(self._notify())

    async def _reserve_place(self) -> None:
        """Return when another engine may load; close the engine that is idle longest for it."""
        async with self._changed:
            while len(self.loaded) + self._starting >= self._max_loaded:
                idle = [
                    pooled
                    for pooled in self.loaded.values()
                    if not pooled.users and not self._waiting[pooled.key]
                ]
                if idle:
                    await self._close(min(idle, key=lambda pooled: pooled.idle_since))
                else:
                    await self._changed.wait()
            self._starting += 1

    def _start(self, model: StoredModel, context: int, embedding: bool) -> tuple[Engine, int]:
        """Return a loaded engine and the bytes of its files."""
        mmproj = None if embedding else self.store.mmproj_path(model)
        # a miniature's encoder is so small that two threads mostly wait for each other
        threads = 1 if model.miniature and mmproj else None
        engine = Engine(
            self.store.path(model),
            mmproj,
            context=context,
            slots=SLOTS,
            threads=self._threads or threads,
            embedding=embedding,
            adapter=self.store.adapter(model),
        )
        return engine, self.store.size(model)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # waiting requests receive the error; reading it here silences asyncio if none waits
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return task

    def _schedule_unload(self, pooled: PooledEngine) -> None:
        """Check an idle engine now, for requests that wait for a place, and when it expires."""

        def check() -> None:
            self._start_task(self._unload_if_expired(pooled))

        if pooled.users == 0:
            asyncio.get_running_loop().call_soon(check)
            if not math.isinf(pooled.keep_alive):
                asyncio.get_running_loop().call_later(max(pooled.expires_in, 0), check)

    async def _unload_if_expired(self, pooled: PooledEngine) -> None:
        async with self._changed:
            if not pooled.users and pooled.expires_in <= 0:
                await self._close(pooled)
            self._changed.notify_all()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _close(self, pooled: PooledEngine) -> None:
        if self.loaded.get(pooled.key) is pooled:
            del self.loaded[pooled.key]
            await asyncio.to_thread(pooled.engine.close)

    async def unload(self, name: str) -> None:
        """Close the engines of a model, now or when their last request is answered."""
        for pooled in [pooled for pooled in self.loaded.values() if pooled.model.name == name]:
            pooled.keep_alive = 0.0
            await self._unload_if_expired(pooled)

    async def close(self) -> None:
        """Close every engine and cancel what is still loading."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pooled in list(self.loaded.values()):
            await self._close(pooled)
        await self._client.aclose()

    # requests to an engine

    async def post(self, pooled: PooledEngine, path: str, body: dict[str, Any]) -> Any:
        """Return llama.cpp's response to a short request. Raises ApiError."""
        engine = pooled.engine
        try:
            response = await self._client.post(
                engine.address + path, json=body, headers=engine.headers
            )
        except httpx.HTTPError as error:
            raise await self._lost(pooled, error) from error
        if response.status_code != 200:
            raise _api_error(response.status_code, response.content)
        return response.json()

    async def stream(
        self, pooled: PooledEngine, path: str, body: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield llama.cpp's response in chunks. Closing the iterator frees the slot.

        Raises ApiError.
        """
        content = json.dumps(body | {"stream": True}).encode()
        async with pooled.slots:
            try:
                async with aclosing(_response_events(pooled.engine, path, content)) as events:
                    async for event in events:
                        yield _chunk(event)
            except (OSError, EOFError, httptools.HttpParserError) as error:
                raise await self._lost(pooled, error) from error

    async def _lost(self, pooled: PooledEngine, error: Exception) -> ApiError:
        """Close an engine that does not respond; the next request loads it again."""
        await self._close(pooled)
        return ApiError(500, f"the engine stopped: {type(error).__name__}")


class _ResponseBody:
    """Collects what httptools parses: the body so far, and whether it is complete."""

    def __init__(self) -> None:
        self.content, self.complete = b"", False

    def on_body(self, body: bytes) -> None:
        """Append a part of the body."""
        self.content += body

    def on_message_complete(self) -> None:
        """Note the end of the response."""
        self.complete = True


async def _response_events(engine: Engine, path: str, content: bytes) -> AsyncIterator[bytes]:
    """Yield the events of llama.cpp's response to a JSON body as they arrive, without "data: ".

    Written without httpx, which takes 0.1 ms per chunk; a miniature generates a token in 0.5 ms.
    Raises ApiError, OSError or EOFError.
    """
    host, port = engine.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in engine.headers.items())
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        body = _ResponseBody()
        parser = httptools.HttpResponseParser(body)
        while not body.complete:
            data = await reader.read(2**16)
            if not data:
                raise EOFError("llama.cpp closed the connection")
            parser.feed_data(data)
            if parser.get_status_code() == 200:
                *lines, body.content = body.content.split(b"\n")
                for event in _events(lines):
                    yield event
        if parser.get_status_code() != 200:
            raise _api_error(parser.get_status_code(), body.content)
    finally:
        writer.close()


def _events(lines: list[bytes]) -> list[bytes]:
    """Return the data of the events in a stream's lines, without the last, [DONE]."""
    data = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
    return [event for event in data if event != b"[DONE]"]


def _chunk(event: bytes) -> dict[str, Any]:
    """Return an event as JSON. Raises ApiError for an error."""
    chunk = json.loads(event)
    if "error" in chunk:
        raise _api_error(chunk["error"].get("code", 500), event)
    return chunk


class TooLong(ApiError):
    """The prompt has more tokens than a slot."""


def _api_error(status: int, content: bytes) -> ApiError:
    """Return llama.cpp's error response as the error that the server raises."""
    message, kind = problem(content)
    if kind == "exceed_context_size_error":
        return TooLong(400, message)
    return ApiError(status, message)
