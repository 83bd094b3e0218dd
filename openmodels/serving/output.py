"""Parses llama.cpp's output: thinking, tool calls, log-probabilities and token counts.

A piece is a dict with `text` and, if there is any, `thinking`, `tool_calls` and `logprobs`. The
last piece of a response also has `done`, `done_reason` and the counts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Chunk = dict[str, Any]
OPEN, CLOSE = "<think>", "</think>"


class ThinkTagParser:
    """Splits generated text, fed in pieces, into a leading <think>...</think> and the content."""

    def __init__(self) -> None:
        self._buffer, self._state, self._has_thought = "", "before", False

    def feed(self, text: str, last: bool = False) -> tuple[str, str]:
        """Return the (thinking, content) that is certain so far; with `last`, all of it."""
        self._buffer += text
        if self._state == "before":
            self._find_open_tag(last)
        thinking = self._read_thinking(last) if self._state == "within" else ""
        if self._state == "closed":
            self._buffer = self._buffer.lstrip()
            if self._buffer:
                self._state = "after"
        if self._state != "after":
            return thinking, ""
        content, self._buffer = self._buffer, ""
        return thinking, content

    def _find_open_tag(self, last: bool) -> None:
        start = self._buffer.lstrip()
        if start.startswith(OPEN):
            self._buffer, self._state = start.removeprefix(OPEN), "within"
        elif not OPEN.startswith(start) or last:
            self._state = "after"

    def _read_thinking(self, last: bool) -> str:
        """Return the thinking that cannot be part of a closing tag; strip spaces at both ends."""
        if not self._has_thought:
            self._buffer = self._buffer.lstrip()
            self._has_thought = bool(self._buffer)
        thought, closed, content = self._buffer.partition(CLOSE)
        if closed:
            self._buffer, self._state = content, "closed"
            return thought.rstrip()
        if last:
            self._buffer = ""
            return thought.rstrip()
        thinking = thought[: len(thought) - _overlap(thought, CLOSE)].rstrip()
        self._buffer = self._buffer[len(thinking) :]
        return thinking


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a tag."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)


class ToolCallCollector:
    """Joins the deltas of llama.cpp's tool calls into whole calls."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}

    def feed(self, deltas: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the calls that are complete because the next one has begun."""
        complete = []
        for delta in deltas:
            if delta["index"] not in self._calls:
                complete += self.finish()
            call = self._calls.setdefault(delta["index"], {"id": "", "name": "", "arguments": ""})
            call["id"] += delta.get("id") or ""
            for key in ("name", "arguments"):
                call[key] += delta.get("function", {}).get(key) or ""
        return complete

    def finish(self) -> list[dict[str, Any]]:
        """Return the remaining calls; a call whose arguments were cut off is dropped."""
        complete = []
        for call in self._calls.values():
            try:
                arguments = json.loads(call["arguments"] or "{}")
            except ValueError:
                continue
            function = {"name": call["name"], "arguments": arguments}
            complete.append({"id": call["id"], "function": function})
        self._calls.clear()
        return complete


class PieceParser:
    """Turns generated text into pieces: splits off the thinking and attaches log-probabilities.

    think: whether to report the thinking; None if the model does not think. top_logprobs: the
    alternatives to report for each token; None reports no log-probabilities.
    """

    def __init__(self, think: bool | None, top_logprobs: int | None):
        self._parser = ThinkTagParser() if think is not None else None
        self._think, self._top_logprobs = bool(think), top_logprobs
        self._logprobs: list[dict[str, Any]] = []

    def add_logprobs(self, tokens: Sequence[Mapping[str, Any]] | None) -> None:
        """Hold llama.cpp's log-probabilities for the next piece, if the request wants them."""
        if self._top_logprobs is not None:
            self._logprobs += format_logprobs(tokens or [], self._top_logprobs)

    def feed(self, text: str, thinking: str = "", last: bool = False) -> Chunk | None:
        """Return the piece of a generated text; None if it has nothing to show yet.

        thinking: what llama.cpp has split off already. last: no text follows.
        """
        content = text
        if self._parser is not None:
            thought, content = self._parser.feed(text, last)
            thinking += thought
        piece: Chunk = {"text": content}
        if thinking and self._think:
            piece["thinking"] = thinking
        if piece == {"text": ""}:
            return None
        if self._logprobs:
            piece["logprobs"], self._logprobs = self._logprobs, []
        return piece

    def final_piece(self, reason: str) -> Chunk:
        """Return the last piece, with the log-probabilities that no other piece has."""
        piece: Chunk = {"text": "", "done": True, "done_reason": reason}
        return piece | ({"logprobs": self._logprobs} if self._logprobs else {})


def token_counts(
    prompt_tokens: int, generated_tokens: int, timings: Mapping[str, float]
) -> dict[str, int]:
    """Return Ollama's counts of tokens, and nanoseconds from llama.cpp's milliseconds."""
    return {
        "prompt_eval_count": prompt_tokens,
        "prompt_eval_duration": round(timings.get("prompt_ms", 0) * 1e6),
        "eval_count": generated_tokens,
        "eval_duration": round(timings.get("predicted_ms", 0) * 1e6),
    }


def format_logprobs(tokens: Sequence[Mapping[str, Any]], top: int) -> list[dict[str, Any]]:
    """Return llama.cpp's log-probabilities in Ollama's form.

    top: alternatives of each token. Like Ollama, 0 leaves `top_logprobs` out.
    """

    def entry(token: Mapping[str, Any]) -> dict[str, Any]:
        return {key: token.get(key) for key in ("token", "logprob", "bytes")}

    if not top:
        return [entry(token) for token in tokens]
    return [
        entry(token) | {"top_logprobs": [entry(other) for other in token["top_logprobs"][:top]]}
        for token in tokens
    ]
