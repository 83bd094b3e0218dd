"""A stand-in for Ollama: its HTTP interface on this machine, over llama.cpp and the miniatures.

`python -m openmodels.serving.app` serves until it is stopped; `with Server(port=0) as server:`
serves within this process, at `server.address`. It listens on 127.0.0.1 alone, fetches nothing
from anywhere, and says in /api/version what it is.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from openmodels.serving import requests as checks
from openmodels.serving.engine import HOST
from openmodels.serving.engine_pool import Pool
from openmodels.serving.generation import Generator, Line
from openmodels.serving.model_store import MAX_BLOB, ApiError, Store, StoredModel
from openmodels.serving.requests import Fields

PORT = 11435  # beside Ollama's 11434, which stays free for a real one
MAX_HEAD = 2**16  # bytes of a request before its body
MAX_BODY = 64 * 2**20  # bytes of a request in JSON, pictures included
VERSION = {
    "version": "0.1.0-openmodels",
    "stand_in": "This is the course's stand-in for Ollama, over llama.cpp; it is not Ollama.",
}
NO_REGISTRY = "this stand-in for Ollama has no registry: it neither pulls nor pushes models"
HOSTS = ("127.0.0.1", "localhost", "[::1]")
KINDS = {400: "invalid_request_error", 404: "not_found_error"}

Work = Callable[[Fields], Awaitable[Response]]


class LimitedHeadProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end to the head of a request: httptools sets none."""

    unread = 0  # bytes that are no body and end no head

    def data_received(self, data: bytes) -> None:
        self.unread += len(data)
        super().data_received(data)
        if self.unread > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        self.unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.unread = 0
        super().on_message_complete()


class LocalOnlyMiddleware:
    """Middleware: only pages and clients of this machine are answered."""

    def __init__(self, app: ASGIApp):
        self.app, self.asked, self.busy = app, time.monotonic(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = scope["type"] == "http"  # the other one lasts as long as the server
        self.busy += request
        try:
            await self._answer(scope, receive, send)
        finally:
            self.busy -= request
            self.asked = time.monotonic()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
            host = headers.get(b"host", HOST)
            origin = headers.get(b"origin", "null").partition("://")[2] or HOST
            if any(one.rpartition(":")[0] not in HOSTS and one not in HOSTS
                   for one in (host, origin)):  # fmt: skip
                answer = _problem(ApiError(403, "this server answers only its own machine"))
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


class StreamedResponse(Response):
    """An answer in lines, sent as they come; without `stream`, joined by `join` and sent as one.

    Its work ends when the client leaves. An error before the first line has a status; after it,
    a line of its own.
    """

    def __init__(self, lines: AsyncIterator[Line], stream: bool, join: Callable[[list], Line],
                 openai: bool = False):  # fmt: skip
        self._lines, self._stream, self._join, self._openai = lines, stream, join, openai
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self._send(scope, receive, send))
        gone = asyncio.create_task(wait_for_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if not work.cancelled() and work.exception():
            raise work.exception()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._lines) as lines:
            try:
                first = await anext(lines)
                if not self._stream:
                    told = self._join([first, *[line async for line in lines]])
                    await JSONResponse(told)(scope, receive, send)
                    return
            except ApiError as error:
                await _problem(error, self._openai)(scope, receive, send)
                return
            kind = b"text/event-stream" if self._openai else b"application/x-ndjson"
            headers = [(b"content-type", kind), (b"cache-control", b"no-cache")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._line(send, first)
            try:
                async for line in lines:
                    await self._line(send, line)
            except ApiError as error:
                await self._line(send, _words(error, self._openai))
            last = b"data: [DONE]\n\n" if self._openai else b""
            await send({"type": "http.response.body", "body": last})

    async def _line(self, send: Send, line: Line) -> None:
        text = json.dumps(line, ensure_ascii=False).encode()
        text = b"data: " + text + b"\n\n" if self._openai else text + b"\n"
        await send({"type": "http.response.body", "body": text, "more_body": True})


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _words(error: ApiError, openai: bool = False) -> Line:
    if not openai:
        return {"error": str(error)}
    kind = KINDS.get(error.status, "api_error")
    return {"error": {"message": str(error), "type": kind, "param": None, "code": None}}


def _problem(error: ApiError, openai: bool = False) -> Response:
    return JSONResponse(_words(error, openai), error.status)


def merge_chunks(lines: list[Line]) -> Line:
    """A streamed answer of /api/chat or /api/generate as one object."""
    last = dict(lines[-1])
    for key in ("response", "thinking"):
        text = "".join(line.get(key, "") for line in lines)
        if text or key in last:
            last[key] = text
    if "message" in last:
        message = {"role": "assistant"}
        parts = [line["message"] for line in lines]
        message["content"] = "".join(part["content"] for part in parts)
        if thinking := "".join(part.get("thinking", "") for part in parts):
            message["thinking"] = thinking
        if calls := [call for part in parts for call in part.get("tool_calls", [])]:
            message["tool_calls"] = calls
        last["message"] = message
    if labels := [label for line in lines for label in line.get("logprobs", [])]:
        last["logprobs"] = labels
    return last


class App:
    """The endpoints. Each takes a checked body and returns a response, or raises Refused."""

    def __init__(self, store: Store, pool: Pool):
        self.store, self.pool, self.writer = store, pool, Generator(store, pool)

    # writing

    async def chat(self, asked: Fields) -> Response:
        stream = asked.flag("stream") is not False
        return StreamedResponse(self.writer.chat(asked), stream, merge_chunks)

    async def generate(self, asked: Fields) -> Response:
        stream = asked.flag("stream") is not False
        return StreamedResponse(self.writer.generate(asked), stream, merge_chunks)

    async def embed(self, asked: Fields) -> Response:
        return StreamedResponse(_once(self.writer.embed(asked)), False, _only)

    async def embeddings(self, asked: Fields) -> Response:
        return StreamedResponse(_once(self.writer.embeddings(asked)), False, _only)

    # models

    async def tags(self) -> Response:
        def told() -> list[Line]:
            return [self._short(model) for model in self.store.all()]

        return JSONResponse({"models": await asyncio.to_thread(told)})

    def _short(self, model: StoredModel) -> Line:
        return {
            "name": model.name,
            "model": model.name,
            "modified_at": model.modified_at,
            "size": self.store.size(model),
            "digest": model.digest(),
            "details": self._details(model),
        }

    def _details(self, model: StoredModel) -> Line:
        header = self.store.header(model)
        return {
            "parent_model": model.parent,
            "format": "gguf",
            "family": header.architecture,
            "families": [header.architecture],
            "parameter_size": _short_number(self.store.parameters(model)),
            "quantization_level": header.kind,
        }

    async def show(self, asked: Fields) -> Response:
        name, verbose = asked.model(), bool(asked.flag("verbose"))

        def told() -> Line:
            model = self.store.find(name)
            header = self.store.header(model)
            info = {
                key: value if verbose or not isinstance(value, list) else None
                for key, value in header.metadata.items()
                if key != "tokenizer.chat_template"
            }
            info["general.parameter_count"] = self.store.parameters(model)
            own = self.writer.template(model)
            jinja = header.metadata.get("tokenizer.chat_template", "")
            found = {
                "license": "\n".join(model.license),
                "modelfile": _modelfile(model),
                "parameters": _parameters(model),
                "template": own.text if own else jinja,
                "system": model.system,
                "details": self._details(model),
                "messages": [
                    {"role": one["role"], "content": one["content"]} for one in model.messages
                ],
                "model_info": info,
                "capabilities": self.writer.capabilities(model),
                "modified_at": model.modified_at,
            }
            return {key: value for key, value in found.items() if value not in ("", [])}

        return JSONResponse(await asyncio.to_thread(told))

    async def ps(self) -> Response:
        def told() -> list[Line]:
            return [
                self._short(one.model)
                | {
                    "size": one.size,
                    "size_vram": 0,
                    "expires_at": one.expires_at,
                    "context_length": one.engine.context,
                }
                for one in list(self.pool.loaded.values())
            ]

        return JSONResponse({"models": await asyncio.to_thread(told)})

    async def create(self, asked: Fields) -> Response:
        name, stream = asked.model(), asked.flag("stream") is not False
        messages = asked.objects("messages")
        checks.refuse(asked, checks.BUILDING)
        work = asyncio.to_thread(
            self.store.create,
            name,
            asked.text("from"),
            asked.texts("files"),
            asked.texts("adapters"),
            asked.text("quantize"),
            asked.text("template"),
            asked.text("system"),
            checks.options(asked.object("parameters")),
            None if messages is None else checks.messages(messages),
            asked.strings("license", 100),
        )
        steps = [{"status": status} for status in await work]
        return StreamedResponse(_each(steps), stream, lambda lines: lines[-1])

    async def copy(self, asked: Fields) -> Response:
        source, destination = asked.text("source"), asked.text("destination")
        if not source or not destination:
            raise ApiError(400, "source and destination are required")
        await asyncio.to_thread(self.store.copy, source, destination)
        return Response()

    async def delete(self, asked: Fields) -> Response:
        model = await asyncio.to_thread(self.store.find, asked.model())
        await asyncio.to_thread(self.store.delete, model.name)
        await self.pool.unload(model.name)
        return Response()

    async def no_registry(self, asked: Fields) -> Response:
        asked.model()
        raise ApiError(400, NO_REGISTRY)

    async def blob(self, request: Request) -> Response:
        """HEAD: whether a file is here. POST: a file, kept if its digest is the one announced."""
        digest = request.path_params["digest"]
        file = self.store.blob(digest)
        if request.method == "HEAD":
            return Response(status_code=200 if file.is_file() else 404)
        if file.is_file():
            return Response(status_code=200)
        if int(request.headers.get("content-length", 0)) > self.store.max_blob:
            raise ApiError(413, f"the file is larger than {self.store.max_blob:,} bytes")
        incoming = self.store.incoming(digest)
        try:
            async for piece in request.stream():
                incoming.write(piece)
            await asyncio.to_thread(incoming.finish)
        finally:
            incoming.drop()
        return Response(status_code=201)

    # OpenAI's interface, by way of Ollama's

    async def openai_chat(self, asked: Fields) -> Response:
        stream = bool(asked.flag("stream"))
        usage = bool((asked.object("stream_options") or Fields({})).flag("include_usage"))
        lines = self.writer.chat(Fields(checks.chat_from_openai(asked)))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex[:12]}", "created": int(time.time()),
                "model": asked.model(), "system_fingerprint": "fp_openmodels"}  # fmt: skip
        if stream:
            return StreamedResponse(
                _chat_chunks(lines, head, usage), True, merge_chunks, openai=True
            )
        return StreamedResponse(
            lines, False, lambda lines: _chat_whole(merge_chunks(lines), head), openai=True
        )

    async def openai_completions(self, asked: Fields) -> Response:
        stream = bool(asked.flag("stream"))
        usage = bool((asked.object("stream_options") or Fields({})).flag("include_usage"))
        checks.refuse(asked, checks.COMPLETING)
        prompt = asked.strings("prompt", 1)
        told = checks.from_openai(asked) | {"prompt": prompt[0] if prompt else None}
        lines = self.writer.generate(Fields(told | {"suffix": asked.text("suffix"), "think": None}))
        head = {"id": f"cmpl-{uuid.uuid4().hex[:12]}", "created": int(time.time()),
                "model": asked.model(), "object": "text_completion",
                "system_fingerprint": "fp_openmodels"}  # fmt: skip
        if stream:
            return StreamedResponse(
                _text_chunks(lines, head, usage), True, merge_chunks, openai=True
            )
        return StreamedResponse(
            lines, False, lambda lines: _text_whole(merge_chunks(lines), head), openai=True
        )

    async def openai_embeddings(self, asked: Fields) -> Response:
        packed = asked.text("encoding_format") == "base64"
        fields = ("model", "input", "dimensions")
        told = {key: asked.body.get(key) for key in fields}

        def whole(lines: list[Line]) -> Line:
            count = lines[0]["prompt_eval_count"]
            return {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": place, "embedding": _packed(one, packed)}
                    for place, one in enumerate(lines[0]["embeddings"])
                ],
                "model": asked.model(),
                "usage": {"prompt_tokens": count, "total_tokens": count},
            }

        return StreamedResponse(_once(self.writer.embed(Fields(told))), False, whole, openai=True)

    async def openai_models(self) -> Response:
        found = await asyncio.to_thread(self.store.all)
        return JSONResponse({"object": "list", "data": [_openai_model(one) for one in found]})

    async def openai_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse(_openai_model(await asyncio.to_thread(self.store.find, name)))


async def _once(work: Awaitable[Line]) -> AsyncIterator[Line]:
    yield await work


async def _each(lines: list[Line]) -> AsyncIterator[Line]:
    for line in lines:
        yield line


def _only(lines: list[Line]) -> Line:
    return lines[0]


def _short_number(count: int) -> str:
    """Ollama's way: 788608 -> "788.61K", 3938560 -> "3.9M", 8000000000 -> "8.0B"."""
    if count >= 1e9:
        return f"{count / 1e9:.1f}B"
    if count >= 1e6:
        return f"{count / 1e6:.1f}M"
    return f"{count / 1e3:.2f}K"


def _parameters(model: StoredModel) -> str:
    rows = []
    for key, value in sorted(model.parameters.items()):
        for one in value if isinstance(value, list) else [value]:
            told = json.dumps(one) if isinstance(one, str) else one
            rows.append(f"{key:<30} {told}")
    return "\n".join(rows)


def _modelfile(model: StoredModel) -> str:
    """How the model would be written again, as far as it is not the file's own."""
    rows = [f"FROM {model.parent or model.name}"]
    if model.template is not None:
        rows.append(f'TEMPLATE """{model.template}"""')
    if model.system:
        rows.append(f'SYSTEM """{model.system}"""')
    rows += [f"PARAMETER {' '.join(row.split(None, 1))}" for row in _parameters(model).split("\n")
             if row]  # fmt: skip
    rows += [f"MESSAGE {one['role']} {one['content']}" for one in model.messages]
    return "\n".join(rows) + "\n"


def _usage(line: Line) -> Line:
    prompt, written = line.get("prompt_eval_count", 0), line.get("eval_count", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }


def _message(told: Line, place: int = 0) -> Line:
    """Ollama's message in OpenAI's words; arguments become text again."""
    found: Line = {"role": "assistant", "content": told["content"]}
    if told.get("thinking"):
        found["reasoning"] = told["thinking"]
    if told.get("tool_calls"):
        found["tool_calls"] = [
            {
                "index": place + n,
                "id": call["id"] or f"call_{place + n}",
                "type": "function",
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                },
            }
            for n, call in enumerate(told["tool_calls"])
        ]
    return found


def _logprobs(line: Line) -> Line | None:
    return {"content": line["logprobs"]} if line.get("logprobs") else None


def _chat_whole(line: Line, head: Line) -> Line:
    message = _message(line["message"])
    for call in message.get("tool_calls", []):
        del call["index"]
    reason = "tool_calls" if "tool_calls" in message else line["done_reason"]
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": _logprobs(line)}
    return head | {"object": "chat.completion", "choices": [choice], "usage": _usage(line)}


async def _chat_chunks(lines: AsyncIterator[Line], head: Line, usage: bool) -> AsyncIterator[Line]:
    head = head | {"object": "chat.completion.chunk"}
    calls = 0
    async with aclosing(lines):
        async for line in lines:
            delta = _message(line["message"], calls)
            calls += len(delta.get("tool_calls", []))
            reason = None
            if line["done"]:
                reason = "tool_calls" if calls else line["done_reason"]
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            yield head | {"choices": [choice | {"logprobs": _logprobs(line)}]}
            if line["done"] and usage:
                yield head | {"choices": [], "usage": _usage(line)}


def _text_whole(line: Line, head: Line) -> Line:
    choice = {"index": 0, "text": line["response"], "finish_reason": line["done_reason"]}
    return head | {"choices": [choice | {"logprobs": None}], "usage": _usage(line)}


async def _text_chunks(lines: AsyncIterator[Line], head: Line, usage: bool) -> AsyncIterator[Line]:
    async with aclosing(lines):
        async for line in lines:
            reason = line["done_reason"] if line["done"] else None
            choice = {"index": 0, "text": line["response"], "finish_reason": reason}
            yield head | {"choices": [choice | {"logprobs": None}]}
            if line["done"] and usage:
                yield head | {"choices": [], "usage": _usage(line)}


def _packed(vector: list[float], packed: bool) -> list[float] | str:
    """OpenAI's base64: the numbers as little-endian float32."""
    if not packed:
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _openai_model(model: StoredModel) -> Line:
    created = int(datetime.fromisoformat(model.modified_at).timestamp())
    name = model.name.removesuffix(":latest")
    return {"id": name, "object": "model", "created": created, "owned_by": "library"}


def build(store: Store, pool: Pool) -> Starlette:
    """The web application over a store and a pool."""
    app = App(store, pool)

    def post(path: str, work: Work, method: str = "POST", openai: bool = False) -> Route:
        async def handle(request: Request) -> Response:
            return await work(checks.body(await _body(request)))

        return route(path, handle, [method], openai)

    def get(path: str, work: Callable[[], Awaitable[Response]]) -> Route:
        async def handle(request: Request) -> Response:
            return await work()

        return route(path, handle, ["GET"])

    def route(path: str, work: Callable, methods: list[str], openai: bool = False) -> Route:
        async def handle(request: Request) -> Response:
            try:
                return await work(request)
            except ApiError as error:
                return _problem(error, openai)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody reads it

        return Route(path, handle, methods=methods)

    async def greet() -> Response:
        return PlainTextResponse("The course's stand-in for Ollama is running")

    async def version() -> Response:
        return JSONResponse(VERSION)

    async def failed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = error.detail if isinstance(error, HTTPException) else "the server failed"
        if status == 404:
            words = f"{request.url.path} is not in this stand-in for Ollama"
        return _problem(ApiError(status, words), request.url.path.startswith("/v1/"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await pool.close()

    return Starlette(
        routes=[
            get("/", greet),
            get("/api/version", version),
            get("/api/tags", app.tags),
            get("/api/ps", app.ps),
            post("/api/chat", app.chat),
            post("/api/generate", app.generate),
            post("/api/embed", app.embed),
            post("/api/embeddings", app.embeddings),
            post("/api/show", app.show),
            post("/api/create", app.create),
            post("/api/copy", app.copy),
            post("/api/delete", app.delete, "DELETE"),
            post("/api/pull", app.no_registry),
            post("/api/push", app.no_registry),
            route("/api/blobs/{digest:path}", app.blob, ["HEAD", "POST"]),
            post("/v1/chat/completions", app.openai_chat, openai=True),
            post("/v1/completions", app.openai_completions, openai=True),
            post("/v1/embeddings", app.openai_embeddings, openai=True),
            get("/v1/models", app.openai_models),
            route("/v1/models/{name:path}", app.openai_model, ["GET"], openai=True),
        ],
        exception_handlers={HTTPException: failed, Exception: failed},
        lifespan=lifespan,
    )


async def _body(request: Request) -> bytes:
    """A request's body, refused as soon as it is too large."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise ApiError(413, f"the body is larger than {MAX_BODY:,} bytes")
        parts.append(part)
    return b"".join(parts)


class Server:
    """The server within this process: `with Server(port=0) as server: server.address`.

    port: 0 for a free one. root: the data folder. threads: of each engine. idle: seconds after
    which a server that nobody asks stops by itself. Raises OSError where the port is taken.
    """

    def __init__(self, port: int = PORT, root: Path | str | None = None,
                 threads: int | None = None, max_blob: int = MAX_BLOB,
                 idle: float | None = None):  # fmt: skip
        self.store = Store(root, max_blob)
        self.pool = Pool(self.store, threads=threads)
        # told that it is TCP, asyncio sends small answers at once instead of 40 ms later
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if os.name == "posix":  # elsewhere it would let two servers share a port
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError as error:
            self._socket.close()
            raise OSError(f"port {port} on {HOST} is taken: choose another, or 0") from error
        self.address = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._own, self._idle = LocalOnlyMiddleware(build(self.store, self.pool)), idle
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._own,
                http=LimitedHeadProtocol,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until stopped, on this thread."""
        if self._idle is not None:
            threading.Thread(target=self._stop_when_idle, daemon=True).start()
        self._uvicorn.run(sockets=[self._socket])

    def _stop_when_idle(self) -> None:
        while (
            not self._uvicorn.started
            or self._own.busy
            or time.monotonic() - self._own.asked < self._idle
        ):
            time.sleep(min(1.0, self._idle / 4))
        self._uvicorn.should_exit = True

    def __enter__(self) -> "Server":
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        while not self._uvicorn.started and self._thread.is_alive():
            time.sleep(0.01)
        if not self._uvicorn.started:
            raise RuntimeError("the server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._uvicorn.should_exit = True
        if self._thread:
            self._thread.join()
        self._socket.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="The course's stand-in for Ollama.")
    parser.add_argument("--port", type=int, default=PORT, help="0: any free one")
    parser.add_argument("--idle", type=float, metavar="MINUTES",
                        help="stop after so many minutes without a request")  # fmt: skip
    told = parser.parse_args()
    server = Server(told.port, idle=told.idle and 60 * told.idle)
    print(f"{VERSION['stand_in']} It listens on {server.address}", flush=True)
    print(f"For clients of Ollama: OLLAMA_HOST={server.address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


if __name__ == "__main__":
    main()
