"""Translates OpenAI's API to Ollama's and back.

A request to /v1/... becomes a body of the Ollama endpoint that does the same. The chunks that this
endpoint returns become OpenAI's objects.
"""

import base64
import json
import struct
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

from openmodels.harbour import sounds
from openmodels.serving import media
from openmodels.serving.model_store import ApiError, StoredModel
from openmodels.serving.multipart import Form
from openmodels.serving.output import Chunk
from openmodels.serving.requests import Fields, parse_json, refuse_unsupported
from openmodels.serving.responses import Dialect, encode_json
from openmodels.serving.tool_choice import ToolChoice, parse_tool_choice

# Fields that would change the response but are not supported, with the values that change nothing
UNSUPPORTED = {"n": (1,), "logit_bias": ({},)}
UNSUPPORTED_IN_COMPLETIONS = {"best_of": (1,), "echo": (False,), "logprobs": (0, False)}
UNSUPPORTED_IN_TRANSCRIPTIONS = {"stream": ("false",), "chunking_strategy": ()}
TRANSCRIBE = sounds.HEAR  # the question that asks for a transcript
SAMPLING = ("temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty")
ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


def error_body(error: ApiError) -> Chunk:
    """Return an error as OpenAI's clients expect it."""
    kind = ERROR_TYPES.get(error.status, "api_error")
    return {"error": {"message": str(error), "type": kind, "param": None, "code": None}}


OPENAI = Dialect(
    media_type="text/event-stream",
    frame=lambda chunk: b"data: " + encode_json(chunk) + b"\n\n",
    end=b"data: [DONE]\n\n",
    error_body=error_body,
)


# requests


def wants_usage(fields: Fields) -> bool:
    """Return whether a stream ends with a chunk of token counts; raises ApiError(400)."""
    stream_options = fields.object("stream_options") or Fields({})
    return bool(stream_options.boolean("include_usage"))


def chat_request(fields: Fields) -> tuple[Fields, ToolChoice]:
    """Return a body of /v1/chat/completions as one of /api/chat, and its tool choice.

    Raises ApiError(400).
    """
    body = _common_request(fields)
    messages = fields.objects("messages") or []
    if not messages:
        raise ApiError(400, '"messages" must be a list with at least one message')
    body["messages"] = _message_requests(messages)
    choice = parse_tool_choice(fields)
    body["tools"] = choice.select(fields.body.get("tools"))
    body["format"] = _format_request(fields)
    body["think"] = _think_request(fields)
    body["logprobs"] = fields.body.get("logprobs")
    body["top_logprobs"] = fields.body.get("top_logprobs")
    return Fields(body), choice


def completion_request(fields: Fields) -> Fields:
    """Return a body of /v1/completions as one of /api/generate; raises ApiError(400)."""
    refuse_unsupported(fields, UNSUPPORTED_IN_COMPLETIONS)
    prompts = fields.strings("prompt", 1)
    body = _common_request(fields)
    body["prompt"] = prompts[0] if prompts else None
    body["suffix"] = fields.string("suffix")
    return Fields(body)


def embedding_request(fields: Fields) -> Fields:
    """Return a body of /v1/embeddings as one of /api/embed."""
    return Fields({key: fields.body.get(key) for key in ("model", "input", "dimensions")})


def transcription_request(form: Form) -> tuple[Fields, bool]:
    """Return a form of /v1/audio/transcriptions as a body of /api/chat, and whether text is wanted.

    Text is the alternative to JSON. Raises ApiError(400).
    """
    texts = Fields(form.texts)
    refuse_unsupported(texts, UNSUPPORTED_IN_TRANSCRIPTIONS)
    if repeated := [name for name in form.texts if name.endswith("[]")]:
        raise ApiError(400, f'"{repeated[0][:80]}" is not supported by this stand-in: leave it out')
    response_format = form.texts.get("response_format", "json")
    if response_format not in ("json", "text"):
        raise ApiError(400, '"response_format" must be json or text')
    file = form.files.get("file")
    if file is None:
        raise ApiError(400, '"file" is required: a WAV file')
    media.check_size(len(file))
    if media.capability_of(file) != media.AUDIO:
        raise ApiError(400, '"file" is an image; a WAV file is needed')
    try:
        temperature = float(form.texts.get("temperature") or 0)
    except ValueError as error:
        raise ApiError(400, '"temperature" must be a number') from error
    if not 0 <= temperature <= 2:
        raise ApiError(400, '"temperature" must be between 0 and 2')
    message = {
        "role": "user",
        "content": TRANSCRIBE,
        "images": [base64.b64encode(file).decode()],
    }
    options = {"temperature": temperature}
    body = {"model": texts.model(), "messages": [message], "options": options}
    return Fields(body), response_format == "text"


def _common_request(fields: Fields) -> dict[str, Any]:
    """Return the model and options of /v1/chat/completions and /v1/completions."""
    options = {key: fields.body.get(key) for key in SAMPLING}
    limit = fields.body.get("max_completion_tokens")
    options["num_predict"] = fields.body.get("max_tokens") if limit is None else limit
    refuse_unsupported(fields, UNSUPPORTED)
    return {"model": fields.model(), "options": options}


def _format_request(fields: Fields) -> str | dict[str, Any] | None:
    response_format = fields.object("response_format")
    if response_format is None:
        return None
    kind = response_format.string("type")
    if kind == "json_object":
        return "json"
    if kind == "json_schema":
        json_schema = response_format.object("json_schema") or Fields({})
        schema = json_schema.object("schema") or Fields({})
        return dict(schema.body) or "json"
    if kind != "text":
        raise ApiError(400, '"response_format.type" must be text, json_object or json_schema')
    return None


def _think_request(fields: Fields) -> bool | None:
    effort = fields.string("reasoning_effort")
    if effort is None:
        effort = (fields.object("reasoning") or Fields({})).string("effort")
    return None if effort is None else effort != "none"


def _message_requests(messages: list[Fields]) -> list[dict[str, Any]]:
    """Return messages as those of /api/chat, with tools' results in the order of their calls.

    There a result has the name of its tool and no id, so its place says which call it belongs to.
    """
    bodies, results, names = [], [], {}
    places: dict[str, int] = {}  # of the calls in the last message that has some, by their ids
    for message in messages:
        call_id = message.string("tool_call_id") or ""
        body = _message_request(message, names.get(call_id))
        if message.string("role") == "tool":
            results.append((places.get(call_id, len(places)), body))
            continue
        bodies += _in_order(results)
        bodies.append(body)
        if calls := message.objects("tool_calls", 100):
            ids = [call.string("id") or "" for call in calls]
            places = {call_id: place for place, call_id in enumerate(ids)}
            names |= zip(
                ids, (call["function"]["name"] for call in body["tool_calls"]), strict=True
            )
        results = []
    return bodies + _in_order(results)


def _in_order(results: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return results by the places of their calls; those without a place come last."""
    return [body for _, body in sorted(results, key=lambda result: result[0])]


def _message_request(message: Fields, tool_name: str | None) -> dict[str, Any]:
    """Return a message as one of /api/chat. tool_name: of the call whose result it is."""
    role = message.string("role")
    body: dict[str, Any] = {"role": "system" if role == "developer" else role}
    if isinstance(message.body.get("content"), list):
        body |= _content_parts(message.objects("content", 1000) or [])
    else:
        body["content"] = message.string("content")
    body["tool_name"] = message.string("name") or tool_name
    if calls := message.objects("tool_calls", 100):
        body["tool_calls"] = [_call_request(call) for call in calls]
    return body


def _content_parts(parts: list[Fields]) -> dict[str, Any]:
    """Return the texts, images and sounds of a message whose content is a list of parts."""
    texts, images = [], []
    for part in parts:
        kind = part.string("type")
        if kind == "text":
            texts.append(part.string("text") or "")
        elif kind == "image_url":
            images.append(_image_data(part.object("image_url") or Fields({})))
        elif kind == "input_audio":
            images.append(_sound_data(part.object("input_audio") or Fields({})))
        else:
            raise ApiError(400, "a part of a message must be text, image_url or input_audio")
    return {"content": "\n".join(texts), "images": images}


def _image_data(image_url: Fields) -> str:
    """Return the base64 of a data URL; the server fetches no other URL."""
    head, comma, data = (image_url.string("url") or "").partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64") and comma):
        raise ApiError(400, "an image URL must have the form data:image/...;base64,...")
    return data


def _sound_data(input_audio: Fields) -> str:
    """Return the base64 of a sound; its leading bytes say what it is, whatever `format` says."""
    data = input_audio.string("data")
    input_audio.string("format")
    if not data:
        raise ApiError(400, "an input_audio part needs data: a WAV file in base64")
    return data


def _call_request(call: Fields) -> dict[str, Any]:
    """Return a tool call with its arguments parsed: OpenAI sends them as text."""
    function = call.object("function") or Fields({})
    arguments = parse_json(function.string("arguments") or "{}")
    return {"function": {"name": function.string("name"), "arguments": arguments}}


# responses


def chat_metadata(fields: Fields) -> Chunk:
    """Return what every chunk of a chat completion repeats; ApiError(400) without a model."""
    return _metadata("chatcmpl", fields)


def completion_metadata(fields: Fields) -> Chunk:
    """Return what every chunk of a text completion repeats; ApiError(400) without a model."""
    return _metadata("cmpl", fields) | {"object": "text_completion"}


def _metadata(prefix: str, fields: Fields) -> Chunk:
    return {
        "id": f"{prefix}-{uuid.uuid4().hex[:12]}",
        "created": int(time.time()),
        "model": fields.model(),
        "system_fingerprint": "fp_openmodels",
    }


def chat_completion(chunk: Chunk, metadata: Chunk) -> Chunk:
    """Return a merged response of /api/chat as a chat completion."""
    message = _delta(chunk["message"])
    for call in message.get("tool_calls", []):
        del call["index"]
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": "tool_calls" if "tool_calls" in message else chunk["done_reason"],
        "logprobs": _logprobs(chunk),
    }
    return metadata | {"object": "chat.completion", "choices": [choice], "usage": _usage(chunk)}


async def chat_completion_chunks(
    chunks: AsyncIterator[Chunk], metadata: Chunk, usage: bool
) -> AsyncIterator[Chunk]:
    """Yield chunks of /api/chat as chunks of a chat completion; `usage` adds the counts."""
    metadata = metadata | {"object": "chat.completion.chunk"}
    call_count = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            delta = _delta(chunk["message"], call_count)
            call_count += len(delta.get("tool_calls", []))
            reason = None
            if chunk["done"]:
                reason = "tool_calls" if call_count else chunk["done_reason"]
            choice = {
                "index": 0,
                "delta": delta,
                "finish_reason": reason,
                "logprobs": _logprobs(chunk),
            }
            yield metadata | {"choices": [choice]}
            if chunk["done"] and usage:
                yield metadata | {"choices": [], "usage": _usage(chunk)}


def text_completion(chunk: Chunk, metadata: Chunk) -> Chunk:
    """Return a merged response of /api/generate as a text completion."""
    choices = [_text_choice(chunk, chunk["done_reason"])]
    return metadata | {"choices": choices, "usage": _usage(chunk)}


async def text_completion_chunks(
    chunks: AsyncIterator[Chunk], metadata: Chunk, usage: bool
) -> AsyncIterator[Chunk]:
    """Yield chunks of /api/generate as chunks of a text completion; `usage` adds the counts."""
    async with aclosing(chunks):
        async for chunk in chunks:
            reason = chunk["done_reason"] if chunk["done"] else None
            yield metadata | {"choices": [_text_choice(chunk, reason)]}
            if chunk["done"] and usage:
                yield metadata | {"choices": [], "usage": _usage(chunk)}


def embedding_list(chunk: Chunk, model: str, as_base64: bool) -> Chunk:
    """Return a response of /api/embed as OpenAI's list of embeddings.

    as_base64: encode each vector as little-endian float32 in base64.
    """
    count = chunk["prompt_eval_count"]
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _float32_base64(vector) if as_base64 else vector,
            }
            for index, vector in enumerate(chunk["embeddings"])
        ],
        "model": model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def model_object(model: StoredModel) -> Chunk:
    """Return a stored model as OpenAI's object."""
    created = int(datetime.fromisoformat(model.modified_at).timestamp())
    name = model.name.removesuffix(":latest")
    return {"id": name, "object": "model", "created": created, "owned_by": "library"}


def _text_choice(chunk: Chunk, reason: str | None) -> Chunk:
    return {"index": 0, "text": chunk["response"], "finish_reason": reason, "logprobs": None}


def _usage(chunk: Chunk) -> Chunk:
    prompt_tokens = chunk.get("prompt_eval_count", 0)
    completion_tokens = chunk.get("eval_count", 0)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _delta(message: Chunk, first_index: int = 0) -> Chunk:
    """Return Ollama's message with OpenAI's names and the arguments of tool calls as text.

    first_index: the index of its first tool call, after those of earlier chunks.
    """
    delta: Chunk = {"role": "assistant", "content": message["content"]}
    if message.get("thinking"):
        delta["reasoning"] = message["thinking"]
    if message.get("tool_calls"):
        delta["tool_calls"] = [
            _call_delta(call, first_index + offset)
            for offset, call in enumerate(message["tool_calls"])
        ]
    return delta


def _call_delta(call: Chunk, index: int) -> Chunk:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {
        "index": index,
        "id": call["id"] or f"call_{index}",
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _logprobs(chunk: Chunk) -> Chunk | None:
    return {"content": chunk["logprobs"]} if chunk.get("logprobs") else None


def _float32_base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
