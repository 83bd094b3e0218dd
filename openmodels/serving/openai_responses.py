"""Translates OpenAI's Responses API to Ollama's and back.

A request to /v1/responses becomes a body of /api/chat, by way of /v1/chat/completions. The chunks
of /api/chat become the events of a response; the last event contains the whole response. Nothing is
stored, so each request must contain its whole conversation.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from openmodels.serving import openai
from openmodels.serving.model_store import ApiError
from openmodels.serving.output import Chunk
from openmodels.serving.requests import Fields, refuse_unsupported
from openmodels.serving.responses import Dialect
from openmodels.serving.tool_choice import ToolChoice

# Fields that would change the response but are not supported, with the values that change nothing
UNSUPPORTED = {"top_logprobs": (0,), "prompt": ()}
STORED_STATE = ("previous_response_id", "conversation")  # fields that refer to stored responses
LOG_PROBABILITIES = "message.output_text.logprobs"  # a value of `include`
ROLES = ("user", "assistant", "system", "developer")
TEXT_PARTS = ("input_text", "output_text", "text")
FORMATS = ("text", "json_object", "json_schema")
MAX_TOKENS = 2**31 - 1


def frame_event(event: Chunk) -> bytes:
    """Return the bytes of an event: its name and its JSON. An error has no type of its own."""
    return f"event: {event.get('type', 'error')}\n".encode() + openai.OPENAI.frame(event)


RESPONSES = Dialect(
    media_type="text/event-stream",
    frame=frame_event,
    end=b"",
    error_body=openai.error_body,
)


# requests


def chat_request(fields: Fields) -> tuple[Fields, ToolChoice]:
    """Return a body of /v1/responses as one of /api/chat, and its tool choice.

    Raises ApiError(400).
    """
    truncation = fields.string("truncation") or "auto"
    if truncation not in ("auto", "disabled"):
        raise ApiError(400, '"truncation" must be auto or disabled')
    request, choice = openai.chat_request(completion_request(fields))
    return Fields({**request.body, "truncate": truncation == "auto"}), choice


def completion_request(fields: Fields) -> Fields:
    """Return a body of /v1/responses as one of /v1/chat/completions; raises ApiError(400)."""
    _refuse_stored_state(fields)
    refuse_unsupported(fields, UNSUPPORTED)
    if LOG_PROBABILITIES in (fields.strings("include", 100) or []):
        raise ApiError(400, f'"include" cannot contain {LOG_PROBABILITIES} in this stand-in')
    tools = fields.objects("tools", 128) or []
    body = {
        "model": fields.model(),
        "messages": _messages(fields),
        "tools": [_tool(tool) for tool in tools] or None,
        "tool_choice": fields.body.get("tool_choice"),
        "parallel_tool_calls": fields.boolean("parallel_tool_calls"),
        "response_format": _response_format(fields),
        "reasoning": fields.body.get("reasoning"),
        "temperature": fields.body.get("temperature"),
        "top_p": fields.body.get("top_p"),
        "max_completion_tokens": fields.integer("max_output_tokens", 1, MAX_TOKENS),
    }
    return Fields(body)


def _refuse_stored_state(fields: Fields) -> None:
    """Raise ApiError(400) for a field that needs stored responses.

    `store` itself is accepted: the response reports that it is not stored.
    """
    for key in STORED_STATE:
        if fields.body.get(key) is not None:
            raise ApiError(
                400,
                f'"{key}" is not supported, because this stand-in stores no responses: send the '
                'whole conversation in "input"',
            )
    if fields.boolean("background"):
        raise ApiError(
            400, '"background" is not supported, because this stand-in stores no responses'
        )
    fields.boolean("store")


def _messages(fields: Fields) -> list[dict[str, Any]]:
    """Return `instructions` and `input` as the messages of a chat completion."""
    conversation = _Conversation()
    if instructions := fields.string("instructions"):
        conversation.messages.append({"role": "system", "content": instructions})
    value = fields.body.get("input")
    if not value or not isinstance(value, str | list):
        raise ApiError(400, '"input" must be a text or a list with at least one item')
    if isinstance(value, str):
        return [*conversation.messages, {"role": "user", "content": value}]
    for item in fields.objects("input") or []:
        conversation.add(item)
    if not conversation.messages:
        raise ApiError(400, '"input" must contain at least one message')
    return conversation.messages


class _Conversation:
    """Collects the items of `input` as the messages of a chat completion."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._call_names: dict[str, str] = {}  # of the functions, by the id of the call

    def add(self, item: Fields) -> None:
        """Add an item; raises ApiError(400)."""
        kind = item.string("type") or "message"
        if kind == "message":
            self._add_message(item)
        elif kind == "function_call":
            self._add_call(item)
        elif kind == "function_call_output":
            self._add_call_output(item)
        elif kind == "item_reference":
            raise ApiError(
                400, "an item_reference is not supported, because this stand-in stores no "
                "responses: send the item itself",
            )  # fmt: skip
        elif kind != "reasoning":  # the thinking of earlier turns is not shown to the model
            raise ApiError(
                400, 'an item of "input" must be a message, function_call, function_call_output '
                "or reasoning",
            )  # fmt: skip

    def _add_message(self, item: Fields) -> None:
        role = item.string("role")
        if role not in ROLES:
            raise ApiError(400, f"invalid role {role!r}: use one of {', '.join(ROLES)}")
        if isinstance(item.body.get("content"), list):
            content = [_content_part(part) for part in item.objects("content", 1000) or []]
            self.messages.append({"role": role, "content": content})
        else:
            self.messages.append({"role": role, "content": item.string("content")})

    def _add_call(self, item: Fields) -> None:
        """Add a function call to the assistant's message that it belongs to."""
        name, call_id = item.string("name"), item.string("call_id")
        if not name or not call_id:
            raise ApiError(400, "a function_call needs a name and a call_id")
        self._call_names[call_id] = name
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": None})
        function = {"name": name, "arguments": item.string("arguments")}
        call = {"id": call_id, "type": "function", "function": function}
        self.messages[-1].setdefault("tool_calls", []).append(call)

    def _add_call_output(self, item: Fields) -> None:
        call_id = item.string("call_id") or ""
        if call_id not in self._call_names:
            raise ApiError(
                400, f"a function_call_output has the call_id {call_id[:80]!r}, which no "
                'function_call before it has: send the whole conversation in "input"',
            )  # fmt: skip
        message = {"role": "tool", "tool_call_id": call_id, "name": self._call_names[call_id]}
        if isinstance(item.body.get("output"), list):
            parts = [_content_part(part) for part in item.objects("output", 1000) or []]
            if any(part["type"] != "text" for part in parts):
                raise ApiError(400, "a function_call_output can contain only text here")
            message["content"] = "\n".join(part["text"] for part in parts)
        else:
            message["content"] = item.string("output")
        self.messages.append(message)


def _content_part(part: Fields) -> dict[str, Any]:
    """Return a part of a message as a chat completion's part."""
    kind = part.string("type")
    if kind in TEXT_PARTS:
        return {"type": "text", "text": part.string("text") or ""}
    if kind == "input_image":
        return {"type": "image_url", "image_url": {"url": part.string("image_url")}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.body.get("input_audio")}
    raise ApiError(
        400, "a part of a message must be input_text, output_text, input_image or input_audio"
    )


def _tool(tool: Fields) -> dict[str, Any]:
    """Return a tool with its function nested, as chat completions have it."""
    if tool.string("type") != "function":
        raise ApiError(400, 'this stand-in supports only tools of the type "function"')
    keys = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool.body.get(key) for key in keys}}


def _response_format(fields: Fields) -> dict[str, Any] | None:
    """Return `text.format` as the `response_format` of a chat completion."""
    text_format = (fields.object("text") or Fields({})).object("format")
    if text_format is None:
        return None
    kind = text_format.string("type")
    if kind not in FORMATS:
        raise ApiError(400, f'"text.format.type" must be one of {", ".join(FORMATS)}')
    if kind != "json_schema":
        return {"type": kind}
    schema = text_format.object("schema")
    if schema is None:
        raise ApiError(400, '"text.format.schema" is required')
    return {"type": kind, "json_schema": {"schema": schema.body}}


# responses


@dataclass(frozen=True)
class TextForm:
    """How OpenAI streams an item that consists of one text.

    item: the item's fixed fields. prefix: of its id. part: the fixed fields of its text. parts,
    index: the names of the list with the text, and of the place in it. part_event, text_event: the
    beginnings of the events' names. text_fields: further fields of the text's events.
    """

    item: Chunk
    prefix: str
    part: Chunk
    parts: str
    index: str
    part_event: str
    text_event: str
    text_fields: Chunk


MESSAGE = TextForm(
    item={"type": "message", "role": "assistant"},
    prefix="msg",
    part={"type": "output_text", "annotations": [], "logprobs": []},
    parts="content",
    index="content_index",
    part_event="response.content_part",
    text_event="response.output_text",
    text_fields={"logprobs": []},
)
REASONING = TextForm(
    item={"type": "reasoning"},
    prefix="rs",
    part={"type": "summary_text"},
    parts="summary",
    index="summary_index",
    part_event="response.reasoning_summary_part",
    text_event="response.reasoning_summary_text",
    text_fields={},
)


@dataclass
class _OpenText:
    """An item whose text is still being generated."""

    form: TextForm
    place: Chunk  # the fields of its events that say where it is in the output
    item: Chunk
    texts: list[str] = field(default_factory=list)


async def response_events(chunks: AsyncIterator[Chunk], fields: Fields) -> AsyncIterator[Chunk]:
    """Yield chunks of /api/chat as the events of a response; raises ApiError.

    fields: of the request. The last event contains the whole response.
    """
    builder = EventBuilder(fields)
    async with aclosing(chunks):
        async for chunk in chunks:
            for event in builder.feed(chunk):
                yield event


def last_response(events: list[Chunk]) -> Chunk:
    """Return the response of the last event."""
    return events[-1]["response"]


class EventBuilder:
    """Builds the events of a response from the chunks of /api/chat.

    fields: the request, whose settings the response repeats.
    """

    def __init__(self, fields: Fields):
        self._response = _new_response(fields)
        self._output: list[Chunk] = []
        self._open: _OpenText | None = None
        self._count = 0

    def feed(self, chunk: Chunk) -> Iterator[Chunk]:
        """Yield the events of a chunk; the first chunk opens the response, the last closes it."""
        if not self._count:
            yield self._event("response.created", response=self._response)
            yield self._event("response.in_progress", response=self._response)
        message = chunk["message"]
        if message.get("thinking"):
            yield from self._add_text(REASONING, message["thinking"])
        if message["content"]:
            yield from self._add_text(MESSAGE, message["content"])
        for call in message.get("tool_calls", []):
            yield from self._close_text("completed")
            yield from self._add_call(call)
        if chunk["done"]:
            yield from self._finish(chunk)

    def _event(self, name: str, **fields: Any) -> Chunk:
        event = {"type": name, "sequence_number": self._count, **fields}
        self._count += 1
        return event

    def _add_text(self, form: TextForm, text: str) -> Iterator[Chunk]:
        """Yield the events of a text: of a new item, unless one of its form is open."""
        if self._open is None or self._open.form is not form:
            yield from self._close_text("completed")
            yield from self._open_text(form)
        self._open.texts.append(text)
        place = self._open.place
        yield self._event(f"{form.text_event}.delta", **place, delta=text, **form.text_fields)

    def _open_text(self, form: TextForm) -> Iterator[Chunk]:
        item = {**form.item, "id": _new_id(form.prefix), "status": "in_progress", form.parts: []}
        position = len(self._output)
        place = {"item_id": item["id"], "output_index": position, form.index: 0}
        self._open = _OpenText(form, place, item)
        yield self._event("response.output_item.added", output_index=position, item=item)
        yield self._event(f"{form.part_event}.added", **place, part={**form.part, "text": ""})

    def _close_text(self, status: str) -> Iterator[Chunk]:
        """Yield the events that end the open text, if there is one."""
        if self._open is None:
            return
        form, place, text = self._open.form, self._open.place, "".join(self._open.texts)
        part = {**form.part, "text": text}
        item = {**self._open.item, "status": status, form.parts: [part]}
        yield self._event(f"{form.text_event}.done", **place, text=text, **form.text_fields)
        yield self._event(f"{form.part_event}.done", **place, part=part)
        self._open = None
        yield self._end_item(item)

    def _add_call(self, call: Chunk) -> Iterator[Chunk]:
        """Yield the events of a tool call, whose arguments come whole."""
        function = call["function"]
        arguments = json.dumps(function["arguments"], ensure_ascii=False)
        item = {
            "type": "function_call",
            "id": _new_id("fc"),
            "call_id": call["id"] or _new_id("call"),
            "name": function["name"],
            "arguments": "",
            "status": "in_progress",
        }
        position = len(self._output)
        place = {"item_id": item["id"], "output_index": position}
        events = "response.function_call_arguments"
        yield self._event("response.output_item.added", output_index=position, item=item)
        yield self._event(f"{events}.delta", **place, delta=arguments)
        yield self._event(f"{events}.done", **place, arguments=arguments)
        yield self._end_item({**item, "arguments": arguments, "status": "completed"})

    def _end_item(self, item: Chunk) -> Chunk:
        self._output.append(item)
        position = len(self._output) - 1
        return self._event("response.output_item.done", output_index=position, item=item)

    def _finish(self, chunk: Chunk) -> Iterator[Chunk]:
        """Yield the events that end a response; its status says whether it was cut off."""
        is_cut_off = chunk["done_reason"] == "length"
        status = "incomplete" if is_cut_off else "completed"
        if self._open is None and not self._output:
            yield from self._open_text(MESSAGE)  # clients expect an item even without any text
        yield from self._close_text(status)
        changes = {"status": status, "output": list(self._output), "usage": _usage(chunk)}
        if is_cut_off:
            changes["incomplete_details"] = {"reason": "max_output_tokens"}
        yield self._event(f"response.{status}", response={**self._response, **changes})


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


def _new_response(fields: Fields) -> Chunk:
    """Return a response without output, with the settings of its request."""
    body = fields.body
    return {
        "id": _new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": fields.string_map("metadata") or {},
        "model": fields.model(),
        "output": [],
        "parallel_tool_calls": fields.boolean("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": body.get("reasoning"),
        "store": False,
        "temperature": body.get("temperature"),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p"),
        "truncation": body.get("truncation") or "auto",
        "usage": None,
    }


def _usage(chunk: Chunk) -> Chunk:
    """Return the counts of tokens. Cached and reasoning tokens are not counted separately."""
    input_tokens, output_tokens = chunk.get("prompt_eval_count", 0), chunk.get("eval_count", 0)
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }
