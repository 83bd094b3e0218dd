"""An OpenAI client whose answers a function computes: no server, the library's real client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai

TOKENS = (10, 5)  # of the prompt and the completion of every answer


def scripted_client(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> openai.OpenAI:
    """Return a client whose chat completions are messages that `answer` returns for a request.

    Every answer counts TOKENS.
    """

    def respond(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        message = {"role": "assistant", "content": "", **answer(body)}
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        usage = dict(zip(("prompt_tokens", "completion_tokens"), TOKENS, strict=True))
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return httpx.Response(200, json={
            "id": "chat-1", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [choice], "usage": {**usage, "total_tokens": sum(TOKENS)},
        })  # fmt: skip

    return openai.OpenAI(
        base_url="http://127.0.0.1:1/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(transport=httpx.MockTransport(respond)),
    )
