"""Chat messages: which one to drop when the context is full, and the form llama.cpp expects."""

import json
from collections.abc import Sequence
from typing import Any

from openmodels.serving.model_store import ApiError

Message = dict[str, Any]


def drop_oldest(messages: list[Message]) -> list[Message]:
    """Return messages without the oldest that is not a system message.

    Raises ApiError(400) if only the last message and system messages remain.
    """
    index = droppable_index(messages)
    if index is None:
        raise ApiError(
            400, "the last message is longer than the context: raise num_ctx or shorten it"
        )
    return messages[:index] + messages[index + 1 :]


def droppable_index(messages: Sequence[Message]) -> int | None:
    """Return the index of the oldest message that is neither the last nor a system message."""
    indices = (n for n, message in enumerate(messages[:-1]) if message["role"] != "system")
    return next(indices, None)


def llama_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as llama.cpp expects them: media as parts, arguments as text."""
    converted, result_index = [], 0
    for message in messages:
        converted.append(_llama_message(message, result_index))
        result_index = result_index + 1 if message["role"] == "tool" else 0
    return converted


def _llama_message(message: Message, result_index: int) -> dict[str, Any]:
    """Return a message for llama.cpp.

    result_index: for a tool's result, the index of its call: results follow in the calls' order.
    """
    body: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if message.get("parts"):
        body["content"] = [*message["parts"], {"type": "text", "text": message["content"]}]
    if message.get("tool_calls"):
        body["tool_calls"] = [
            {
                "id": str(index),
                "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
            }
            for index, call in enumerate(message["tool_calls"])
        ]
    if message["role"] == "tool":
        body["tool_call_id"], body["name"] = str(result_index), message.get("tool_name") or "tool"
    return body
