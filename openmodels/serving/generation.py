"""From a checked request to what a model writes: prompts, pieces of an answer, embeddings.

`Writer.chat` and `Writer.generate` yield the lines of Ollama's API, with all counts and durations
in the last; the server sends them as they come, or joined.
"""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gguf

from openmodels.gguf.go_template import DEFAULT, Template
from openmodels.serving import requests as checks
from openmodels.serving.engine_pool import Pool, PooledEngine, TooLong
from openmodels.serving.model_store import ApiError, Store, StoredModel, now
from openmodels.serving.requests import Fields

Line = dict[str, Any]
FILLING = (
    gguf.Keys.Tokenizer.FIM_PRE_ID,
    gguf.Keys.Tokenizer.FIM_SUF_ID,
    gguf.Keys.Tokenizer.FIM_MID_ID,
)
# to llguidance, which follows a schema here: one space after a colon or comma, none elsewhere
SPACES = {
    "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
}
OPEN, CLOSE = "<think>", "</think>"


@dataclass
class GenerationRequest:
    """What chat and generate have in common."""

    model: StoredModel
    keep_alive: float | None
    options: dict[str, Any]
    schema: dict[str, Any] | None
    think: bool | None
    top_logprobs: int | None
    truncate: bool  # old messages may go where a slot is too small
    begun: int  # nanoseconds


class ThinkTagParser:
    """Text that comes in pieces, divided into a leading <think>…</think> and the rest."""

    def __init__(self) -> None:
        self._held, self._state, self._begun = "", "before", False

    def feed(self, text: str, last: bool = False) -> tuple[str, str]:
        """(thinking, content) of what is certain by now; with `last`, of all that was held."""
        self._held += text
        thinking = ""
        if self._state == "before":
            start = self._held.lstrip()
            if start.startswith(OPEN):
                self._held, self._state = start.removeprefix(OPEN), "within"
            elif not OPEN.startswith(start) or last:
                self._state = "after"
        if self._state == "within":
            if not self._begun:
                self._held = self._held.lstrip()
                self._begun = bool(self._held)
            thought, closed, rest = self._held.partition(CLOSE)
            if closed:
                thinking, self._held, self._state = thought.rstrip(), rest, "closed"
            elif last:
                thinking, self._held = thought.rstrip(), ""
            else:
                sure = self._held[: len(thought) - _overlap(thought, CLOSE)].rstrip()
                thinking, self._held = sure, self._held[len(sure) :]
        if self._state == "closed":
            self._held = self._held.lstrip()
            if self._held:
                self._state = "after"
        if self._state == "after":
            content, self._held = self._held, ""
            return thinking, content
        return thinking, ""


def _overlap(text: str, mark: str) -> int:
    """How many of the last characters may be the beginning of a mark."""
    return next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)


class Generator:
    """Answers requests with a pool's engines."""

    def __init__(self, store: Store, pool: Pool):
        self.store, self.pool = store, pool

    def capabilities(self, model: StoredModel) -> list[str]:
        """In Ollama's words: completion, tools, vision, insert, thinking."""
        header = self.store.header(model)
        jinja = header.metadata.get("tokenizer.chat_template", "")
        found = {
            "completion": True,
            "tools": model.template is None and "tools" in jinja,
            "vision": model.template is None and self.store.mmproj_path(model) is not None,
            "insert": all(key in header.metadata for key in FILLING),
            "thinking": header.has_token(OPEN) and header.has_token(CLOSE),
        }
        return [name for name, there in found.items() if there]

    def template(self, model: StoredModel) -> Template | None:
        """The template in Go's language that applies; None: the one in Jinja within the file."""
        if model.template is not None:
            return Template(model.template)
        if self.store.header(model).metadata.get("tokenizer.chat_template"):
            return None
        return Template(DEFAULT)

    async def _wish(self, asked: Fields) -> GenerationRequest:
        begun = time.perf_counter_ns()
        schema, think, top = (
            checks.response_schema(asked),
            checks.think(asked),
            checks.top_logprobs(asked),
        )
        truncate = asked.flag("truncate") is not False
        keep_alive, options = checks.keep_alive(asked), checks.options(asked.object("options"))
        model = await asyncio.to_thread(self.store.find, asked.model())
        options = {**model.parameters, **options}
        return GenerationRequest(model, keep_alive, options, schema, think, top, truncate, begun)

    async def _able(self, wish: GenerationRequest, needs: Mapping[str, bool]) -> None:
        """Refuse what the model cannot do."""
        able = await asyncio.to_thread(self.capabilities, wish.model)
        for name, needed in needs.items():
            if needed and name not in able:
                short = wish.model.name.removesuffix(":latest")
                raise ApiError(400, f"{short!r} does not support {name}")
        if "thinking" not in able:
            wish.think = None
        elif wish.think is None:
            wish.think = True

    async def _only_load(self, wish: GenerationRequest, **empty: Any) -> AsyncIterator[Line]:
        """A request without words: load the model, or unload it with keep_alive 0."""
        if wish.keep_alive == 0:
            await self.pool.unload(wish.model.name)
        else:
            async with self.pool.use(
                wish.model, wish.options.get("num_ctx"), keep_alive=wish.keep_alive
            ):
                pass
        reason = "unload" if wish.keep_alive == 0 else "load"
        yield _line(wish, **empty, done=True, done_reason=reason)

    async def chat(self, asked: Fields) -> AsyncIterator[Line]:
        """The lines of /api/chat."""
        messages = checks.messages(asked.objects("messages") or [])
        tools = checks.tools(asked)
        wish = await self._wish(asked)
        if not messages:
            empty = {"role": "assistant", "content": ""}
            async for line in self._only_load(wish, message=empty):
                yield line
            return
        pictures = any(one["images"] for one in messages)
        needs = {"tools": bool(tools), "vision": pictures, "thinking": wish.think is True}
        await self._able(wish, needs)
        messages = list(wish.model.messages) + messages
        if wish.model.system and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": wish.model.system})
        template = await asyncio.to_thread(self.template, wish.model)
        async with self.pool.use(
            wish.model, wish.options.get("num_ctx"), keep_alive=wish.keep_alive
        ) as loaded:
            ready = time.perf_counter_ns()
            if template is None:
                messages = await _seen(wish.model, messages)
                pieces = self._converse(loaded, wish, messages, tools)
            else:
                pieces = _shortened(
                    wish,
                    messages,
                    lambda kept: self._continue(loaded, wish, [template.render(kept)]),
                )
            async with aclosing(pieces):
                async for piece in pieces:
                    piece.pop("written", None)
                    message = {"role": "assistant", "content": piece.pop("text")}
                    for key in ("thinking", "tool_calls"):
                        if piece.get(key):
                            message[key] = piece.pop(key)
                    yield _line(wish, ready, message=message, **piece)

    async def generate(self, asked: Fields) -> AsyncIterator[Line]:
        """The lines of /api/generate."""
        checks.refuse(asked, checks.DRAWING)
        prompt, suffix = asked.text("prompt") or "", asked.text("suffix") or ""
        system, own = asked.text("system"), asked.text("template")
        raw, images = bool(asked.flag("raw")), checks.pictures(asked)
        past = asked.list("context", 1_000_000) or []
        if not all(type(one) is int and 0 <= one < 2**31 for one in past):
            raise ApiError(400, '"context" must be a list of tokens')
        wish = await self._wish(asked)
        if not prompt and not suffix and not images:
            async for line in self._only_load(wish, response=""):
                yield line
            return
        if raw and (system or own or past):
            raise ApiError(400, "raw mode does not support template, system, or context")
        if images and (raw or own or suffix or past):
            raise ApiError(400, "images go with neither raw, template, suffix nor context here")
        needs = {"vision": bool(images), "insert": bool(suffix), "thinking": wish.think is True}
        await self._able(wish, needs)
        if raw or suffix:
            wish.think = None
        try:
            template = Template(own) if own else None
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        template = template or await asyncio.to_thread(self.template, wish.model)
        system = wish.model.system if system is None else system
        messages = [{"role": "system", "content": system}] if system else []
        messages += [*wish.model.messages, {"role": "user", "content": prompt, "images": images}]
        async with self.pool.use(
            wish.model, wish.options.get("num_ctx"), keep_alive=wish.keep_alive
        ) as loaded:
            ready = time.perf_counter_ns()
            if images:
                messages = await _seen(wish.model, messages)
                pieces = self._converse(loaded, wish, messages, [])
                whole = None
            else:
                if raw:
                    whole = prompt
                elif suffix:
                    whole = None
                elif template is not None:
                    whole = template.render(messages)
                else:
                    told = {"messages": _openai(messages)}
                    whole = (await self.pool.post(loaded, "/apply-template", told))["prompt"]
                tokens = [*past, whole] if whole else past
                if suffix:
                    tell = self.store.header(wish.model).metadata
                    first, second, third = (tell[key] for key in FILLING)
                    tokens = [first, *([prompt] if prompt else []), second, suffix, third]
                pieces = self._continue(loaded, wish, tokens)
            written = ""
            async with aclosing(pieces):
                async for piece in pieces:
                    written += piece.pop("written", "")
                    text = piece.pop("text")
                    if piece.get("done") and whole is not None and not raw:
                        told = {"content": whole + written, "parse_special": True}
                        found = await self.pool.post(loaded, "/tokenize", told)
                        piece["context"] = past + found["tokens"]
                    yield _line(wish, ready, response=text, **piece)

    def _converse(
        self,
        loaded: PooledEngine,
        wish: GenerationRequest,
        messages: Sequence[dict],
        tools: list[dict],
    ) -> AsyncIterator[dict]:
        """An answer in the model's own template; old messages go where a slot is too small."""
        told: dict[str, Any] = checks.sampling(wish.options, loaded.engine.context)
        told["stream_options"] = {"include_usage": True}
        if tools:
            told["tools"] = tools
        if wish.schema is not None:
            told["response_format"] = (
                {"type": "json_schema", "json_schema": {"schema": wish.schema}}
                if wish.schema
                else {"type": "json_object"}
            )
        if wish.top_logprobs is not None:
            told["logprobs"], told["top_logprobs"] = True, wish.top_logprobs

        def spoken(kept: list[dict]) -> AsyncIterator[dict]:
            return self._spoken(loaded, wish, told | {"messages": _openai(kept)})

        return _shortened(wish, messages, spoken)

    async def _spoken(
        self, loaded: PooledEngine, wish: GenerationRequest, told: dict
    ) -> AsyncIterator[dict]:
        """llama.cpp's chunks as pieces: text, thinking, tool_calls, at last done."""
        thoughts = ThinkTagParser() if wish.think is not None else None
        calls: dict[int, dict[str, str]] = {}
        reason, labels = "stop", []
        stream = self.pool.stream(loaded, "/v1/chat/completions", told)
        async with aclosing(stream):
            async for chunk in stream:
                if "usage" in chunk:
                    usage, timings = chunk["usage"], chunk.get("timings", {})
                    continue
                choice = chunk["choices"][0]
                delta = choice.get("delta", {})
                reason = choice.get("finish_reason") or reason
                if wish.top_logprobs is not None and choice.get("logprobs"):
                    labels += _labels(choice["logprobs"].get("content"), wish.top_logprobs)
                for call in delta.get("tool_calls") or []:
                    if call["index"] not in calls and calls:
                        yield {"text": "", "tool_calls": _calls(calls)}
                        calls.clear()
                    begun = calls.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
                    begun["id"] += call.get("id") or ""
                    for key in ("name", "arguments"):
                        begun[key] += call.get("function", {}).get(key) or ""
                piece = _piece(thoughts, wish, delta.get("content") or "")
                if delta.get("reasoning_content") and wish.think:
                    piece["thinking"] = delta["reasoning_content"] + piece.get("thinking", "")
                if piece["text"] or piece.get("thinking"):
                    if labels:
                        piece["logprobs"], labels = labels, []
                    yield piece
        rest = _piece(thoughts, wish, "", last=True)
        if rest["text"] or rest.get("thinking"):
            yield rest
        found = _calls(calls)
        if found:
            yield {"text": "", "tool_calls": found}
        counts = _counts(usage["prompt_tokens"], usage["completion_tokens"], timings)
        yield _end(reason == "length", labels) | counts

    async def _continue(
        self, loaded: PooledEngine, wish: GenerationRequest, prompt: list
    ) -> AsyncIterator[dict]:
        """A continued prompt, of tokens and texts, in pieces; `written` is the text unparted."""
        told: dict[str, Any] = checks.sampling(wish.options, loaded.engine.context)
        told["prompt"] = prompt[0] if len(prompt) == 1 and isinstance(prompt[0], str) else prompt
        if wish.schema is not None:
            await self._check(loaded, wish.schema)
            told["json_schema"] = (wish.schema or {"type": "object"}) | SPACES
        if wish.top_logprobs is not None:
            told["n_probs"] = max(wish.top_logprobs, 1)
        thoughts = ThinkTagParser() if wish.think is not None else None
        labels: list[dict] = []
        opening = {"object": "{", "array": "["}.get(told.get("json_schema", {}).get("type"), "")
        stream = self.pool.stream(loaded, "/completion", told)
        async with aclosing(stream):
            async for chunk in stream:
                if opening and chunk["content"]:
                    if not chunk["content"].startswith(opening):  # it writes as it likes
                        raise ApiError(400, "llama.cpp cannot follow this schema")
                    opening = ""
                if wish.top_logprobs is not None:
                    labels += _labels(chunk.get("completion_probabilities"), wish.top_logprobs)
                end = chunk if chunk.get("stop") else None
                piece = _piece(thoughts, wish, chunk["content"], last=end is not None)
                piece["written"] = chunk["content"]
                if piece["text"] or piece.get("thinking"):
                    if labels:
                        piece["logprobs"], labels = labels, []
                    yield piece
        counts = _counts(end["tokens_evaluated"], end["tokens_predicted"], end["timings"])
        yield _end(end.get("stop_type") == "limit", labels) | counts

    async def _check(self, loaded: PooledEngine, schema: dict) -> None:
        """Refuse a schema that is none: the continuing of a prompt would silently go without it."""
        shape = {"type": "json_schema", "json_schema": {"schema": schema}}
        told = {"messages": [{"role": "user", "content": ""}], "response_format": shape}
        await self.pool.post(loaded, "/apply-template", told)

    async def embed(self, asked: Fields) -> Line:
        """The answer of /api/embed: a vector of length 1 for each input."""
        texts = asked.strings("input", checks.MOST_INPUTS)
        if texts is None:
            raise ApiError(400, "input is required")
        wish = await self._wish(asked)
        width = asked.whole("dimensions", 0, 2**31)
        texts = [] if texts == [""] else texts
        async with self.pool.use(
            wish.model, wish.options.get("num_ctx"), embedding=True, keep_alive=wish.keep_alive
        ) as loaded:
            loading = time.perf_counter_ns() - wish.begun
            told = {"input": [await self._fit(loaded, one, wish.truncate) for one in texts]}
            found: dict[str, Any] = {"data": [], "usage": {"prompt_tokens": 0}}
            if texts:
                async with loaded.slots:
                    found = await self.pool.post(loaded, "/v1/embeddings", told)
        rows = sorted(found["data"], key=lambda one: one["index"])
        return {
            "model": wish.model.name.removesuffix(":latest"),
            "embeddings": [_narrow(one["embedding"], width) for one in rows],
            "total_duration": time.perf_counter_ns() - wish.begun,
            "load_duration": loading,
            "prompt_eval_count": found["usage"]["prompt_tokens"],
        }

    async def embeddings(self, asked: Fields) -> Line:
        """The answer of the older /api/embeddings: one vector, as long as it comes."""
        text, wish = asked.text("prompt") or "", await self._wish(asked)
        async with self.pool.use(
            wish.model, wish.options.get("num_ctx"), embedding=True, keep_alive=wish.keep_alive
        ) as loaded:
            if not text:
                return {"embedding": []}
            told = {"content": [await self._fit(loaded, text, True)], "embd_normalize": -1}
            async with loaded.slots:
                found = await self.pool.post(loaded, "/embedding", told)
        return {"embedding": found[0]["embedding"][0]}

    async def _fit(self, loaded: PooledEngine, text: str, cut: bool) -> str | list[int]:
        """A text as it is, or its first tokens where it has more than a slot."""
        most = loaded.engine.context
        if len(text.encode()) < most:  # a token is a byte at least
            return text
        told = {"content": text, "add_special": True, "parse_special": True}
        tokens = (await self.pool.post(loaded, "/tokenize", told))["tokens"]
        if len(tokens) >= most and not cut:
            raise ApiError(400, f"the input has {len(tokens)} tokens, more than {most - 1}")
        return tokens[: most - 1]


def _line(wish: GenerationRequest, ready: int | None = None, **fields: Any) -> Line:
    """A line of an answer; the last gets the durations that are not the engine's."""
    line = {"model": wish.model.name.removesuffix(":latest"), "created_at": now(), "done": False}
    line |= fields
    if line["done"]:
        ended = time.perf_counter_ns()
        line["total_duration"] = ended - wish.begun
        line["load_duration"] = (ready or ended) - wish.begun
    return line


def _piece(
    thoughts: ThinkTagParser | None, wish: GenerationRequest, text: str, last: bool = False
) -> dict:
    """A piece of text, parted from thoughts where the model has any; unasked ones are dropped."""
    if thoughts is None:
        return {"text": text}
    thinking, content = thoughts.feed(text, last)
    return {"text": content} | ({"thinking": thinking} if thinking and wish.think else {})


def _counts(prompt: int, written: int, timings: Mapping[str, float]) -> dict[str, int]:
    """Tokens, and nanoseconds from llama.cpp's milliseconds."""
    return {
        "prompt_eval_count": prompt,
        "prompt_eval_duration": round(timings.get("prompt_ms", 0) * 1e6),
        "eval_count": written,
        "eval_duration": round(timings.get("predicted_ms", 0) * 1e6),
    }


def _end(limited: bool, labels: list[dict]) -> dict:
    """The last piece, with the log-probabilities of what was held back."""
    end: dict = {"text": "", "done": True, "done_reason": "length" if limited else "stop"}
    return end | ({"logprobs": labels} if labels else {})


def _calls(calls: Mapping[int, Mapping[str, str]]) -> list[dict]:
    """Tool calls with their arguments as objects; one that was cut off is none."""
    found = []
    for call in calls.values():
        try:
            arguments = json.loads(call["arguments"] or "{}")
        except ValueError:
            continue
        function = {"name": call["name"], "arguments": arguments}
        found.append({"id": call["id"], "function": function})
    return found


def _labels(tokens: Sequence[Mapping] | None, most: int) -> list[dict]:
    """Log-probabilities in Ollama's form, with `most` alternatives."""

    def plain(one: Mapping) -> dict:
        return {"token": one["token"], "logprob": one["logprob"], "bytes": one.get("bytes")}

    return [
        plain(one) | {"top_logprobs": [plain(other) for other in one["top_logprobs"][:most]]}
        for one in tokens or []
    ]


def _narrow(vector: list[float], width: int | None) -> list[float]:
    """The first `width` entries, again of length 1."""
    if not width or width >= len(vector):
        return vector
    length = math.sqrt(sum(one * one for one in vector[:width])) or 1.0
    return [one / length for one in vector[:width]]


async def _shortened(
    wish: GenerationRequest,
    messages: list[dict],
    write: Callable[[list[dict]], AsyncIterator[dict]],
) -> AsyncIterator[dict]:
    """What is written to messages; where a slot is too small for them, the oldest go."""
    kept = list(messages)
    while True:
        pieces = write(kept)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
            return
        except TooLong:
            if not wish.truncate:
                raise
            kept = _without_oldest(kept)


def _without_oldest(messages: list[dict]) -> list[dict]:
    """Messages without the oldest that is no system message; raises where only the last is left."""
    for place, one in enumerate(messages[:-1]):
        if one["role"] != "system":
            return messages[:place] + messages[place + 1 :]
    raise ApiError(400, "the last message is longer than the context: raise num_ctx or shorten it")


async def _seen(model: StoredModel, messages: list[dict]) -> list[dict]:
    """Return messages with their pictures as the vision tower wants them (`Store.mmproj_path`)."""
    if not model.miniature:
        return messages

    def turned() -> list[dict]:
        return [
            one | {"images": [checks.transposed(image) for image in one.get("images", ())]}
            for one in messages
        ]

    return await asyncio.to_thread(turned)


def _openai(messages: Sequence[Mapping]) -> list[dict]:
    """Messages as llama.cpp takes them: pictures as parts, arguments as text."""
    found = []
    for one in messages:
        told: dict[str, Any] = {"role": one["role"], "content": one["content"]}
        if one.get("images"):
            urls = [f"data:image/png;base64,{data}" for data in one["images"]]
            parts: list[dict] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            told["content"] = [*parts, {"type": "text", "text": one["content"]}]
        if one.get("tool_calls"):
            told["tool_calls"] = [
                {
                    "id": str(place),
                    "type": "function",
                    "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
                }
                for place, call in enumerate(one["tool_calls"])
            ]
        if one["role"] == "tool":
            told["tool_call_id"], told["name"] = "0", one.get("tool_name") or "tool"
        found.append(told)
    return found
