"""Builds responses: streams of JSON chunks, errors, and the descriptions of stored models."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from openmodels.serving.model_store import ApiError, Store, StoredModel
from openmodels.serving.output import Chunk


@dataclass(frozen=True)
class Dialect:
    """How an API frames the chunks of a stream and reports an error.

    frame: returns the bytes of one chunk. end: the bytes after the last one. error_body: returns
    the JSON of an error.
    """

    media_type: str
    frame: Callable[[Chunk], bytes]
    end: bytes
    error_body: Callable[[ApiError], Chunk]

    def error_response(self, error: ApiError) -> Response:
        """Return an error as a response with its status."""
        return JSONResponse(self.error_body(error), error.status)


def encode_json(value: Chunk) -> bytes:
    """Return JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()


OLLAMA = Dialect(
    media_type="application/x-ndjson",
    frame=lambda chunk: encode_json(chunk) + b"\n",
    end=b"",
    error_body=lambda error: {"error": str(error)},
)


class StreamedResponse(Response):
    """Sends chunks as they are generated, or merged into one body if `stream` is false.

    merge: returns a body for JSON, or a text that is sent as it is.
    Generation is cancelled when the client disconnects. An error before the first chunk sets the
    status of the response; a later error is sent as the last chunk.
    """

    def __init__(
        self,
        chunks: AsyncIterator[Chunk],
        stream: bool,
        merge: Callable[[list[Chunk]], Chunk | str],
        dialect: Dialect = OLLAMA,
    ):
        self._chunks, self._stream, self._merge, self._dialect = chunks, stream, merge, dialect
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; stop when the client disconnects."""
        sending = asyncio.create_task(self._send(scope, receive, send))
        disconnect = asyncio.create_task(wait_for_disconnect(receive))
        try:
            await asyncio.wait({sending, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            disconnect.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.gather(sending, disconnect, return_exceptions=True)
        if not sending.cancelled() and (error := sending.exception()):
            raise error

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._chunks) as chunks:
            try:
                first = await anext(chunks)
                if not self._stream:
                    body = self._merge([first, *[chunk async for chunk in chunks]])
                    response = PlainTextResponse if isinstance(body, str) else JSONResponse
                    await response(body)(scope, receive, send)
                    return
            except ApiError as error:
                await self._dialect.error_response(error)(scope, receive, send)
                return
            await self._send_stream(send, first, chunks)

    async def _send_stream(self, send: Send, first: Chunk, chunks: AsyncIterator[Chunk]) -> None:
        media_type = self._dialect.media_type.encode()
        headers = [(b"content-type", media_type), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send_chunk(send, first)
        try:
            async for chunk in chunks:
                await self._send_chunk(send, chunk)
        except ApiError as error:
            await self._send_chunk(send, self._dialect.error_body(error))
        await send({"type": "http.response.body", "body": self._dialect.end})

    async def _send_chunk(self, send: Send, chunk: Chunk) -> None:
        body = self._dialect.frame(chunk)
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def merge_chunks(chunks: list[Chunk]) -> Chunk:
    """Return the chunks of /api/chat or /api/generate as one body."""
    body = dict(chunks[-1])
    for key in ("response", "thinking"):
        text = "".join(chunk.get(key, "") for chunk in chunks)
        if text or key in body:
            body[key] = text
    if "message" in body:
        body["message"] = _merge_messages([chunk["message"] for chunk in chunks])
    if logprobs := [entry for chunk in chunks for entry in chunk.get("logprobs", [])]:
        body["logprobs"] = logprobs
    return body


def _merge_messages(parts: list[Chunk]) -> Chunk:
    message: Chunk = {"role": "assistant", "content": "".join(part["content"] for part in parts)}
    if thinking := "".join(part.get("thinking", "") for part in parts):
        message["thinking"] = thinking
    if calls := [call for part in parts for call in part.get("tool_calls", [])]:
        message["tool_calls"] = calls
    return message


# descriptions of models


def model_summary(store: Store, model: StoredModel) -> Chunk:
    """Return a model's entry in /api/tags; raises ApiError if its file is missing or invalid."""
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": model.modified_at,
        "size": store.size(model),
        "digest": model.digest(),
        "details": model_details(store, model),
    }


def model_details(store: Store, model: StoredModel) -> Chunk:
    """Return a model's format, family and sizes; raises ApiError for an invalid file."""
    header = store.header(model)
    return {
        "parent_model": model.parent,
        "format": "gguf",
        "family": header.architecture,
        "families": [header.architecture],
        "parameter_size": format_count(store.parameters(model)),
        "quantization_level": header.kind,
    }


def model_description(
    store: Store, model: StoredModel, template: str, capabilities: list[str], verbose: bool
) -> Chunk:
    """Return the body of /api/show; raises ApiError for an invalid file.

    template: the text of the template that applies. verbose: include the lists in the GGUF's
    metadata, such as the vocabulary.
    """
    metadata = store.header(model).metadata
    model_info = {
        key: value if verbose or not isinstance(value, list) else None
        for key, value in metadata.items()
        if key != "tokenizer.chat_template"
    }
    model_info["general.parameter_count"] = store.parameters(model)
    body = {
        "license": "\n".join(model.license),
        "modelfile": modelfile(model),
        "parameters": parameter_lines(model),
        "template": template,
        "system": model.system,
        "details": model_details(store, model),
        "messages": [
            {"role": message["role"], "content": message["content"]} for message in model.messages
        ],
        "model_info": model_info,
        "capabilities": capabilities,
        "modified_at": model.modified_at,
    }
    return {key: value for key, value in body.items() if value not in ("", [])}


def format_count(count: int) -> str:
    """Return a number of parameters as Ollama prints it.

    Examples: 788608 -> "788.61K", 3938560 -> "3.9M", 8000000000 -> "8.0B".
    """
    if count >= 1e9:
        return f"{count / 1e9:.1f}B"
    if count >= 1e6:
        return f"{count / 1e6:.1f}M"
    return f"{count / 1e3:.2f}K"


def parameter_lines(model: StoredModel) -> str:
    """Return a model's parameters as /api/show prints them: one name and value per line."""
    lines = []
    for key, parameter in sorted(model.parameters.items()):
        for value in parameter if isinstance(parameter, list) else [parameter]:
            text = json.dumps(value) if isinstance(value, str) else value
            lines.append(f"{key:<30} {text}")
    return "\n".join(lines)


def modelfile(model: StoredModel) -> str:
    """Return a Modelfile that creates this model again, without what its GGUF already contains."""
    lines = [f"FROM {model.parent or model.name}"]
    if model.template is not None:
        lines.append(f'TEMPLATE """{model.template}"""')
    if model.system:
        lines.append(f'SYSTEM """{model.system}"""')
    for parameter in parameter_lines(model).splitlines():
        lines.append(f"PARAMETER {' '.join(parameter.split(None, 1))}")
    lines += [f"MESSAGE {message['role']} {message['content']}" for message in model.messages]
    return "\n".join(lines) + "\n"
