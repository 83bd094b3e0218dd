"""The endpoints of Ollama's and OpenAI's APIs, and the table of routes that lead to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from openmodels.serving import multipart, openai, openai_responses
from openmodels.serving.engine_pool import Pool
from openmodels.serving.generation import Generator
from openmodels.serving.model_store import ApiError, Store
from openmodels.serving.output import Chunk
from openmodels.serving.requests import (
    UNSUPPORTED_IN_CREATE,
    Fields,
    parse_body,
    parse_messages,
    parse_options,
    refuse_unsupported,
)
from openmodels.serving.responses import (
    OLLAMA,
    Dialect,
    StreamedResponse,
    merge_chunks,
    model_description,
    model_summary,
)

MAX_BODY = 64 * 2**20  # bytes of a JSON body or a form, images and sounds included
VERSION = {
    "version": "0.1.0-openmodels",
    "stand_in": "This is the course's stand-in for Ollama, over llama.cpp; it is not Ollama.",
}


def route_table(store: Store, pool: Pool) -> list[Route]:
    """Return the server's routes. deploy/stand_in.md documents each of them."""
    api, v1 = OllamaEndpoints(store, pool), OpenAIEndpoints(store, pool)
    return [
        Route("/", api.root, methods=["GET"]),
        Route("/api/version", api.version, methods=["GET"]),
        Route("/api/tags", api.tags, methods=["GET"]),
        Route("/api/ps", api.ps, methods=["GET"]),
        Route("/api/chat", api.chat, methods=["POST"]),
        Route("/api/generate", api.generate, methods=["POST"]),
        Route("/api/embed", api.embed, methods=["POST"]),
        Route("/api/embeddings", api.embeddings, methods=["POST"]),
        Route("/api/show", api.show, methods=["POST"]),
        Route("/api/create", api.create, methods=["POST"]),
        Route("/api/copy", api.copy, methods=["POST"]),
        Route("/api/delete", api.delete, methods=["DELETE"]),
        Route("/api/pull", api.refuse_registry, methods=["POST"]),
        Route("/api/push", api.refuse_registry, methods=["POST"]),
        Route("/api/blobs/{digest:path}", api.blob, methods=["HEAD", "POST"]),
        Route("/v1/chat/completions", v1.chat_completions, methods=["POST"]),
        Route("/v1/responses", v1.responses, methods=["POST"]),
        Route("/v1/completions", v1.completions, methods=["POST"]),
        Route("/v1/embeddings", v1.embeddings, methods=["POST"]),
        Route("/v1/audio/transcriptions", v1.transcriptions, methods=["POST"]),
        Route("/v1/models", v1.models, methods=["GET"]),
        Route("/v1/models/{name:path}", v1.model, methods=["GET"]),
    ]


async def handle_api_error(request: Request, error: ApiError) -> Response:
    """Return an ApiError in the dialect of the request's API."""
    return _dialect(request).error_response(error)


async def handle_disconnect(request: Request, error: Exception) -> Response:
    """Return an empty response for a client that left while it was sending its body."""
    return Response(status_code=400)


async def handle_server_error(request: Request, error: Exception) -> Response:
    """Return an unknown path, a wrong method or an unexpected exception as an error in JSON."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = error.detail if isinstance(error, HTTPException) else "the server failed"
    if status == 404:
        message = f"{request.url.path} is not in this stand-in for Ollama"
    return _dialect(request).error_response(ApiError(status, message))


def _dialect(request: Request) -> Dialect:
    return openai.OPENAI if request.url.path.startswith("/v1/") else OLLAMA


async def read_fields(request: Request) -> Fields:
    """Return the fields of a JSON body.

    Raises ApiError(413) for a body larger than MAX_BODY, and ApiError(400) unless it is a JSON
    object.
    """
    return parse_body(await read_body(request))


async def read_body(request: Request) -> bytes:
    """Return a body. Raises ApiError(413) as soon as it is larger than MAX_BODY."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise ApiError(413, f"the body is larger than {MAX_BODY:,} bytes")
        parts.append(part)
    return b"".join(parts)


class OllamaEndpoints:
    """The endpoints of Ollama's API.

    Each reads the request and returns a response. All but the lists and `version` raise ApiError
    for a wrong request.
    """

    def __init__(self, store: Store, pool: Pool):
        self.store, self.pool, self.generator = store, pool, Generator(store, pool)

    async def root(self, request: Request) -> Response:
        """GET /: say what runs here."""
        return PlainTextResponse("The course's stand-in for Ollama is running")

    async def version(self, request: Request) -> Response:
        """GET /api/version: the version, and that this is not Ollama."""
        return JSONResponse(VERSION)

    # generation

    async def chat(self, request: Request) -> Response:
        """POST /api/chat: continue a conversation."""
        fields = await read_fields(request)
        stream = fields.boolean("stream") is not False
        return StreamedResponse(self.generator.chat(fields), stream, merge_chunks)

    async def generate(self, request: Request) -> Response:
        """POST /api/generate: continue a prompt."""
        fields = await read_fields(request)
        stream = fields.boolean("stream") is not False
        return StreamedResponse(self.generator.generate(fields), stream, merge_chunks)

    async def embed(self, request: Request) -> Response:
        """POST /api/embed: embed texts."""
        fields = await read_fields(request)
        return StreamedResponse(_single(self.generator.embed(fields)), False, _first)

    async def embeddings(self, request: Request) -> Response:
        """POST /api/embeddings: embed one text, in the older form."""
        fields = await read_fields(request)
        return StreamedResponse(_single(self.generator.embeddings(fields)), False, _first)

    # models

    async def tags(self, request: Request) -> Response:
        """GET /api/tags: list the stored models."""

        def summaries() -> list[Chunk]:
            return [
                model_summary(self.store, model)
                | {"capabilities": self.generator.capabilities(model)}
                for model in self.store.all()
            ]

        return JSONResponse({"models": await asyncio.to_thread(summaries)})

    async def ps(self, request: Request) -> Response:
        """GET /api/ps: list the loaded models."""

        def summaries() -> list[Chunk]:
            return [
                model_summary(self.store, pooled.model)
                | {
                    "size": pooled.size,
                    "size_vram": 0,
                    "expires_at": pooled.expires_at,
                    "context_length": pooled.engine.context,
                }
                for pooled in list(self.pool.loaded.values())
            ]

        return JSONResponse({"models": await asyncio.to_thread(summaries)})

    async def show(self, request: Request) -> Response:
        """POST /api/show: describe a model."""
        fields = await read_fields(request)
        name, verbose = fields.model(), bool(fields.boolean("verbose"))

        def description() -> Chunk:
            model = self.store.find(name)
            template = self.generator.template_text(model)
            capabilities = self.generator.capabilities(model)
            return model_description(self.store, model, template, capabilities, verbose)

        return JSONResponse(await asyncio.to_thread(description))

    async def create(self, request: Request) -> Response:
        """POST /api/create: store a model made from another model or from blobs."""
        fields = await read_fields(request)
        name, stream = fields.model(), fields.boolean("stream") is not False
        messages = fields.objects("messages")
        refuse_unsupported(fields, UNSUPPORTED_IN_CREATE)
        steps = await asyncio.to_thread(
            self.store.create,
            name,
            fields.string("from"),
            fields.string_map("files"),
            fields.string_map("adapters"),
            fields.string("quantize"),
            fields.string("template"),
            fields.string("system"),
            parse_options(fields.object("parameters")),
            None if messages is None else parse_messages(messages),
            fields.strings("license", 100),
        )
        return StreamedResponse(_statuses(steps), stream, lambda chunks: chunks[-1])

    async def copy(self, request: Request) -> Response:
        """POST /api/copy: give a model a second name; ApiError(400) unless both are given."""
        fields = await read_fields(request)
        source, destination = fields.string("source"), fields.string("destination")
        if not source or not destination:
            raise ApiError(400, "source and destination are required")
        await asyncio.to_thread(self.store.copy, source, destination)
        return Response()

    async def delete(self, request: Request) -> Response:
        """DELETE /api/delete: delete a model and unload its engines."""
        fields = await read_fields(request)
        model = await asyncio.to_thread(self.store.find, fields.model())
        await asyncio.to_thread(self.store.delete, model.name)
        await self.pool.unload(model.name)
        return Response()

    async def refuse_registry(self, request: Request) -> Response:
        """POST /api/pull and /api/push: raise ApiError(400), because there is no registry."""
        (await read_fields(request)).model()
        raise ApiError(400, "this stand-in has no registry: it cannot pull or push models")

    async def blob(self, request: Request) -> Response:
        """HEAD: return whether a blob is stored. POST: store it if its digest is the stated one.

        Raises ApiError(400) for a wrong digest and ApiError(413) for a file that is too large.
        """
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
            async for part in request.stream():
                incoming.write(part)
            await asyncio.to_thread(incoming.finish)
        finally:
            incoming.drop()
        return Response(status_code=201)


class OpenAIEndpoints:
    """The endpoints of OpenAI's API, translated to Ollama's.

    Each reads the request and returns a response. All but `models` raise ApiError for a wrong
    request.
    """

    def __init__(self, store: Store, pool: Pool):
        self.store, self.generator = store, Generator(store, pool)

    async def chat_completions(self, request: Request) -> Response:
        """POST /v1/chat/completions: continue a conversation."""
        fields = await read_fields(request)
        stream, usage = bool(fields.boolean("stream")), openai.wants_usage(fields)
        metadata = openai.chat_metadata(fields)
        chunks = self.generator.chat(*openai.chat_request(fields))
        if stream:
            chunks = openai.chat_completion_chunks(chunks, metadata, usage)

        def merge(parts: list[Chunk]) -> Chunk:
            return openai.chat_completion(merge_chunks(parts), metadata)

        return StreamedResponse(chunks, stream, merge, openai.OPENAI)

    async def responses(self, request: Request) -> Response:
        """POST /v1/responses: continue a conversation in the form of the Responses API."""
        fields = await read_fields(request)
        stream = bool(fields.boolean("stream"))
        chunks = self.generator.chat(*openai_responses.chat_request(fields))
        events = openai_responses.response_events(chunks, fields)
        merge, dialect = openai_responses.last_response, openai_responses.RESPONSES
        return StreamedResponse(events, stream, merge, dialect)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions: continue a prompt."""
        fields = await read_fields(request)
        stream, usage = bool(fields.boolean("stream")), openai.wants_usage(fields)
        metadata = openai.completion_metadata(fields)
        chunks = self.generator.generate(openai.completion_request(fields))
        if stream:
            chunks = openai.text_completion_chunks(chunks, metadata, usage)

        def merge(parts: list[Chunk]) -> Chunk:
            return openai.text_completion(merge_chunks(parts), metadata)

        return StreamedResponse(chunks, stream, merge, openai.OPENAI)

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings: embed texts."""
        fields = await read_fields(request)
        as_base64 = fields.string("encoding_format") == "base64"
        chunks = _single(self.generator.embed(openai.embedding_request(fields)))

        def merge(parts: list[Chunk]) -> Chunk:
            return openai.embedding_list(parts[0], fields.model(), as_base64)

        return StreamedResponse(chunks, False, merge, openai.OPENAI)

    async def transcriptions(self, request: Request) -> Response:
        """POST /v1/audio/transcriptions: return what is said in an uploaded WAV file."""
        content = await read_body(request)
        form = multipart.parse(content, request.headers.get("content-type", ""))
        fields, as_text = openai.transcription_request(form)
        chunks = self.generator.chat(fields)

        def merge(parts: list[Chunk]) -> Chunk | str:
            text = merge_chunks(parts)["message"]["content"]
            return text if as_text else {"text": text}

        return StreamedResponse(chunks, False, merge, openai.OPENAI)

    async def models(self, request: Request) -> Response:
        """GET /v1/models: list the stored models."""
        models = await asyncio.to_thread(self.store.all)
        return JSONResponse({"object": "list", "data": [openai.model_object(m) for m in models]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/NAME: describe a model."""
        model = await asyncio.to_thread(self.store.find, request.path_params["name"])
        return JSONResponse(openai.model_object(model))


async def _single(response: Awaitable[Chunk]) -> AsyncIterator[Chunk]:
    """Yield the only chunk of a response that is not streamed."""
    yield await response


async def _statuses(steps: list[str]) -> AsyncIterator[Chunk]:
    """Yield the steps of a finished creation as Ollama reports them."""
    for step in steps:
        yield {"status": step}


def _first(chunks: list[Chunk]) -> Chunk:
    return chunks[0]
