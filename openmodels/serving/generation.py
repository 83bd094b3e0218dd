"""Runs requests on a pool's engines: chats, continued prompts and embeddings.

`Generator.chat` and `Generator.generate` yield the chunks of Ollama's API; the last one has all
counts and durations. The server sends them as they come, or merged.
"""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from typing import Any

import gguf

from openmodels.gguf.go_template import DEFAULT, Template
from openmodels.serving import media, requests
from openmodels.serving.engine_pool import Pool, PooledEngine, TooLong
from openmodels.serving.model_store import ApiError, Store, StoredModel, now
from openmodels.serving.output import (
    CLOSE,
    OPEN,
    Chunk,
    PieceParser,
    ToolCallCollector,
    token_counts,
)
from openmodels.serving.requests import Fields
from openmodels.serving.tool_choice import AUTO, EXAMPLE_MESSAGES, ToolChoice, find_call_format

Message = dict[str, Any]
# The tokens that mark the prefix, suffix and middle of a fill-in-the-middle prompt
INFILL_KEYS = (
    gguf.Keys.Tokenizer.FIM_PRE_ID,
    gguf.Keys.Tokenizer.FIM_SUF_ID,
    gguf.Keys.Tokenizer.FIM_MID_ID,
)
# llguidance, which enforces a schema, then generates one space after a colon or comma, no others.
JSON_SPACING = {
    "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
}


@dataclass
class GenerationRequest:
    """The fields that chat, generate and embed share, checked.

    schema: {} for any JSON object, None for free text. think: None if the model cannot think.
    top_logprobs: alternatives per token, None for no log-probabilities. truncate: drop the oldest
    messages if they do not fit into a slot. started_ns: `time.perf_counter_ns()` at the start.
    """

    model: StoredModel
    keep_alive: float | None
    options: dict[str, Any]
    schema: dict[str, Any] | None
    think: bool | None
    top_logprobs: int | None
    truncate: bool
    started_ns: int


@dataclass
class GenerateInput:
    """The fields that only /api/generate has. context: token ids of an earlier response."""

    prompt: str
    suffix: str
    system: str | None
    template: str | None
    raw: bool
    images: list[str]
    context: list[int]

    def check_combination(self) -> None:
        """Raise ApiError(400) for fields that exclude each other."""
        if self.raw and (self.system or self.template or self.context):
            raise ApiError(400, "raw mode does not support template, system, or context")
        if self.images and (self.raw or self.template or self.suffix or self.context):
            raise ApiError(
                400, "images cannot be combined with raw, template, suffix or context here"
            )


def parse_generate_input(fields: Fields) -> GenerateInput:
    """Return the fields that only /api/generate has; raises ApiError(400)."""
    requests.refuse_unsupported(fields, requests.UNSUPPORTED_IN_GENERATE)
    context = fields.array("context", 1_000_000) or []
    if not all(type(token) is int and 0 <= token < 2**31 for token in context):
        raise ApiError(400, '"context" must be a list of token ids')
    return GenerateInput(
        prompt=fields.string("prompt") or "",
        suffix=fields.string("suffix") or "",
        system=fields.string("system"),
        template=fields.string("template"),
        raw=bool(fields.boolean("raw")),
        images=requests.parse_images(fields),
        context=context,
    )


class Generator:
    """Runs requests on the engines of a pool."""

    def __init__(self, store: Store, pool: Pool):
        self.store, self.pool = store, pool

    def capabilities(self, model: StoredModel) -> list[str]:
        """Return a model's capabilities under Ollama's names; raises ApiError.

        They are completion, embedding, tools, vision, audio, insert and thinking.
        """
        header = self.store.header(model)
        jinja = header.metadata.get("tokenizer.chat_template", "")
        encoder = media.encoder_of(self.store, model) if model.template is None else None
        readable = encoder.capabilities if encoder else frozenset()
        supported = {
            "completion": not header.makes_vectors,
            "embedding": header.makes_vectors,
            "tools": model.template is None and "tools" in jinja,
            "vision": media.VISION in readable,
            "audio": media.AUDIO in readable,
            "insert": all(key in header.metadata for key in INFILL_KEYS),
            "thinking": not header.makes_vectors
            and header.has_token(OPEN)
            and header.has_token(CLOSE),
        }
        return [name for name, is_supported in supported.items() if is_supported]

    def template(self, model: StoredModel) -> Template | None:
        """Return the Go template that applies; None if the GGUF's Jinja template does.

        Raises ApiError for an invalid file.
        """
        if model.template is not None:
            return Template(model.template)
        if self.store.header(model).metadata.get("tokenizer.chat_template"):
            return None
        return Template(DEFAULT)

    def template_text(self, model: StoredModel) -> str:
        """Return the text of the template that applies, in Go or Jinja; raises ApiError."""
        template = self.template(model)
        if template is not None:
            return template.text
        return self.store.header(model).metadata.get("tokenizer.chat_template", "")

    async def parse_request(self, fields: Fields) -> GenerationRequest:
        """Return the shared fields; ApiError(400) for a wrong value, (404) for no such model."""
        started_ns = time.perf_counter_ns()
        schema, think = requests.parse_format(fields), requests.parse_think(fields)
        top_logprobs = requests.parse_top_logprobs(fields)
        truncate = fields.boolean("truncate") is not False
        keep_alive = requests.parse_keep_alive(fields)
        options = requests.parse_options(fields.object("options"))
        model = await asyncio.to_thread(self.store.find, fields.model())
        return GenerationRequest(
            model=model,
            keep_alive=keep_alive,
            options={**model.parameters, **options},
            schema=schema,
            think=think,
            top_logprobs=top_logprobs,
            truncate=truncate,
            started_ns=started_ns,
        )

    async def check_capabilities(
        self, request: GenerationRequest, needs: Mapping[str, bool]
    ) -> None:
        """Raise ApiError(400) if the model lacks a capability that the request needs.

        Every model that generates text has "completion". Also sets the default of `think`: true
        for a model that can think, else None.
        """
        capabilities = await asyncio.to_thread(self.capabilities, request.model)
        for capability, needed in {"completion": True, **needs}.items():
            if needed and capability not in capabilities:
                raise ApiError(400, f"{_short_name(request)!r} does not support {capability}")
        if "thinking" not in capabilities:
            request.think = None
        elif request.think is None:
            request.think = True

    def _use_engine(
        self, request: GenerationRequest, embedding: bool = False
    ) -> AbstractAsyncContextManager[PooledEngine]:
        return self.pool.use(
            request.model,
            request.options.get("num_ctx"),
            embedding=embedding,
            keep_alive=request.keep_alive,
        )

    async def _load_only(self, request: GenerationRequest, **empty: Any) -> AsyncIterator[Chunk]:
        """Load the model of a request without a prompt, or unload it if keep_alive is 0."""
        if request.keep_alive == 0:
            await self.pool.unload(request.model.name)
        else:
            async with self._use_engine(request):
                pass
        reason = "unload" if request.keep_alive == 0 else "load"
        yield make_chunk(request, **empty, done=True, done_reason=reason)

    async def chat(self, fields: Fields, choice: ToolChoice = AUTO) -> AsyncIterator[Chunk]:
        """Yield the chunks of /api/chat; raises ApiError.

        choice: the tools of which the response must call one, a field of OpenAI's API only.
        """
        messages = requests.parse_messages(fields.objects("messages") or [])
        tools = requests.parse_tools(fields)
        request = await self.parse_request(fields)
        if not messages:
            empty = {"role": "assistant", "content": ""}
            async for chunk in self._load_only(request, message=empty):
                yield chunk
            return
        needs = {
            "tools": bool(tools),
            **media.needed_capabilities(media.all_media(messages)),
            "thinking": request.think is True,
        }
        await self.check_capabilities(request, needs)
        messages = [*request.model.messages, *messages]
        if request.model.system and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": request.model.system})
        template = await asyncio.to_thread(self.template, request.model)
        async with self._use_engine(request) as pooled:
            ready_ns = time.perf_counter_ns()
            pieces = self._chat_pieces(pooled, request, template, messages, tools, choice)
            async with aclosing(pieces):
                async for piece in pieces:
                    yield _chat_chunk(request, ready_ns, piece)

    def _chat_pieces(
        self,
        pooled: PooledEngine,
        request: GenerationRequest,
        template: Template | None,
        messages: list[Message],
        tools: list[dict],
        choice: ToolChoice,
    ) -> AsyncIterator[Chunk]:
        if choice.forced:
            return self.stream_forced(pooled, request, messages, tools, choice.forced)
        if template is None:
            return self.stream_chat(pooled, request, messages, tools, choice.parallel)
        return stream_within_context(
            request,
            messages,
            lambda recent: self.stream_completion(pooled, request, [template.render(recent)]),
        )

    async def generate(self, fields: Fields) -> AsyncIterator[Chunk]:
        """Yield the chunks of /api/generate; raises ApiError."""
        inputs = parse_generate_input(fields)
        request = await self.parse_request(fields)
        if not inputs.prompt and not inputs.suffix and not inputs.images:
            async for chunk in self._load_only(request, response=""):
                yield chunk
            return
        inputs.check_combination()
        needs = {
            **media.needed_capabilities(inputs.images),
            "insert": bool(inputs.suffix),
            "thinking": request.think is True,
        }
        await self.check_capabilities(request, needs)
        if inputs.raw or inputs.suffix:
            request.think = None
        template = await self._generate_template(inputs, request.model)
        async with self._use_engine(request) as pooled:
            ready_ns = time.perf_counter_ns()
            pieces = self._generate_pieces(pooled, request, inputs, template)
            async with aclosing(pieces):
                async for piece in pieces:
                    piece.pop("raw_text", None)
                    yield make_chunk(request, ready_ns, response=piece.pop("text"), **piece)

    async def _generate_template(
        self, inputs: GenerateInput, model: StoredModel
    ) -> Template | None:
        try:
            template = Template(inputs.template) if inputs.template else None
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        return template or await asyncio.to_thread(self.template, model)

    async def _generate_pieces(
        self,
        pooled: PooledEngine,
        request: GenerationRequest,
        inputs: GenerateInput,
        template: Template | None,
    ) -> AsyncIterator[Chunk]:
        """Yield the pieces of a continued prompt; the last has `context` if a template applied."""
        model = request.model
        system = model.system if inputs.system is None else inputs.system
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages += model.messages
        messages.append({"role": "user", "content": inputs.prompt, "images": inputs.images})
        rendered = None
        if inputs.suffix:
            pieces = self.stream_completion(pooled, request, self._infill_prompt(model, inputs))
        elif inputs.raw:
            pieces = self.stream_completion(pooled, request, [inputs.prompt])
        elif template is None and media.all_media(messages):
            pieces = self.stream_chat(pooled, request, messages, [])
        else:
            rendered = await self._render(pooled, template, messages)
            pieces = self.stream_completion(pooled, request, [*inputs.context, rendered])
        generated = ""
        async with aclosing(pieces):
            async for piece in pieces:
                generated += piece.get("raw_text", "")
                if piece.get("done") and rendered is not None:
                    tokens = await self._tokenize(pooled, rendered + generated)
                    piece["context"] = inputs.context + tokens
                yield piece

    def _infill_prompt(self, model: StoredModel, inputs: GenerateInput) -> list[int | str]:
        metadata = self.store.header(model).metadata
        prefix_token, suffix_token, middle_token = (metadata[key] for key in INFILL_KEYS)
        prefix = [inputs.prompt] if inputs.prompt else []
        return [prefix_token, *prefix, suffix_token, inputs.suffix, middle_token]

    async def _render(
        self, pooled: PooledEngine, template: Template | None, messages: list[Message]
    ) -> str:
        """Return the prompt of messages, by a Go template or by the GGUF's Jinja template."""
        if template is not None:
            return template.render(messages)
        body = {"messages": llama_messages(messages)}
        return (await self.pool.post(pooled, "/apply-template", body))["prompt"]

    async def _tokenize(
        self, pooled: PooledEngine, text: str, add_special: bool = False
    ) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return (await self.pool.post(pooled, "/tokenize", body))["tokens"]

    async def stream_chat(
        self,
        pooled: PooledEngine,
        request: GenerationRequest,
        messages: list[Message],
        tools: list[dict],
        parallel: bool | None = None,
    ) -> AsyncIterator[Chunk]:
        """Yield the pieces of a response in the GGUF's own template; raises ApiError.

        parallel: whether it may have several tool calls, None for the template's default. A piece
        has `text`, and may have `thinking`, `tool_calls` and `logprobs`; the last one has `done`,
        `done_reason` and the counts.
        """
        messages = await self._prepare_media(request, messages)
        body: dict[str, Any] = requests.sampling_parameters(request.options, pooled.engine.context)
        body["stream_options"] = {"include_usage": True}
        if tools:
            body["tools"] = tools
            if parallel is not None:
                body["parallel_tool_calls"] = parallel
        if request.schema:
            body["response_format"] = _json_schema_format(request.schema)
        elif request.schema is not None:
            body["response_format"] = {"type": "json_object"}
        if request.top_logprobs is not None:
            # With 0 alternatives llama.cpp would report no log-probabilities at all.
            body["logprobs"], body["top_logprobs"] = True, max(request.top_logprobs, 1)

        def stream(recent: list[Message]) -> AsyncIterator[Chunk]:
            return self._stream_chat(pooled, request, body | {"messages": llama_messages(recent)})

        pieces = stream_within_context(request, messages, stream)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def _prepare_media(
        self, request: GenerationRequest, messages: list[Message]
    ) -> list[Message]:
        """Return messages with their images and sounds as llama.cpp's parts; raises ApiError."""
        if not media.all_media(messages):
            return messages
        encoder = await asyncio.to_thread(media.encoder_of, self.store, request.model)
        return await asyncio.to_thread(media.prepare, messages, encoder)

    async def _stream_chat(
        self, pooled: PooledEngine, request: GenerationRequest, body: dict[str, Any]
    ) -> AsyncIterator[Chunk]:
        """Yield llama.cpp's chunks of a chat completion as pieces."""
        parser = PieceParser(request.think, request.top_logprobs)
        calls = ToolCallCollector()
        reason, usage, timings = "stop", {}, {}
        stream = self.pool.stream(pooled, "/v1/chat/completions", body)
        async with aclosing(stream):
            async for chunk in stream:
                if "usage" in chunk:
                    usage, timings = chunk["usage"], chunk.get("timings", {})
                    continue
                choice = chunk["choices"][0]
                delta = choice.get("delta", {})
                reason = choice.get("finish_reason") or reason
                parser.add_logprobs((choice.get("logprobs") or {}).get("content"))
                if complete := calls.feed(delta.get("tool_calls") or []):
                    yield {"text": "", "tool_calls": complete}
                thinking = delta.get("reasoning_content") or ""
                if piece := parser.feed(delta.get("content") or "", thinking):
                    yield piece
        if piece := parser.feed("", last=True):
            yield piece
        if complete := calls.finish():
            yield {"text": "", "tool_calls": complete}
        counts = token_counts(usage["prompt_tokens"], usage["completion_tokens"], timings)
        yield parser.final_piece("length" if reason == "length" else "stop") | counts

    async def stream_forced(
        self,
        pooled: PooledEngine,
        request: GenerationRequest,
        messages: list[Message],
        tools: list[dict],
        forced: Sequence[str],
    ) -> AsyncIterator[Chunk]:
        """Yield the pieces of `stream_call`, without the oldest messages if they do not fit."""
        pieces = stream_within_context(
            request,
            await self._prepare_media(request, messages),
            lambda recent: self.stream_call(pooled, request, recent, tools, forced),
        )
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def stream_call(
        self,
        pooled: PooledEngine,
        request: GenerationRequest,
        messages: list[Message],
        tools: list[dict],
        forced: Sequence[str],
    ) -> AsyncIterator[Chunk]:
        """Yield the pieces of a response that calls one of the forced tools; raises ApiError.

        The model does not think first, and `stop` and `format` do not apply. There is no call if
        the response reaches its limit of tokens. TooLong: it would fit without older messages.
        """
        body = {"messages": llama_messages([*messages, *EXAMPLE_MESSAGES]), "tools": tools}
        rendered = (await self.pool.post(pooled, "/apply-template", body))["prompt"]
        call_format = find_call_format(rendered)
        allowed = [tool for tool in tools if tool["function"]["name"] in forced]
        options = {key: value for key, value in request.options.items() if key != "stop"}
        constrained = replace(
            request,
            schema=call_format.schema(allowed, pooled.engine.context),
            think=None,
            options=options,
        )
        text, logprobs = "", []
        prompt, data = [call_format.prompt], media.parts_data(messages)
        pieces = self.stream_completion(pooled, constrained, prompt, data)
        async with aclosing(pieces):
            async for piece in pieces:
                text += piece["text"]
                logprobs += piece.pop("logprobs", [])
                if not piece.get("done"):
                    continue
                if piece["done_reason"] == "stop":
                    yield {"text": "", "tool_calls": [call_format.parse(text)]}
                elif is_context_full(request, piece) and droppable_index(messages) is not None:
                    raise TooLong(400, "the conversation leaves no room for a tool call")
                yield piece | ({"logprobs": logprobs} if logprobs else {})

    async def stream_completion(
        self,
        pooled: PooledEngine,
        request: GenerationRequest,
        prompt: Sequence[int | str],
        data: Sequence[str] = (),
    ) -> AsyncIterator[Chunk]:
        """Yield the pieces of a continued prompt; raises ApiError.

        prompt: token ids and texts. data: images and sounds in base64; the prompt is then one text
        with a marker of llama.cpp in place of each. A piece is as in `stream_chat`, with the text
        before it was split from the thinking in `raw_text`.
        """
        body: dict[str, Any] = requests.sampling_parameters(request.options, pooled.engine.context)
        is_text = len(prompt) == 1 and isinstance(prompt[0], str)
        body["prompt"] = prompt[0] if is_text else list(prompt)
        if data:
            body["prompt"] = {"prompt_string": prompt[0], "multimodal_data": list(data)}
        opening = ""
        if request.schema is not None:
            await self.check_grammar(pooled, request.schema)
            schema = request.schema or {"type": "object"}
            body["json_schema"] = schema | JSON_SPACING
            opening = {"object": "{", "array": "["}.get(str(schema.get("type")), "")
        if request.top_logprobs is not None:
            body["n_probs"] = max(request.top_logprobs, 1)
        parser = PieceParser(request.think, request.top_logprobs)
        stream = self.pool.stream(pooled, "/completion", body)
        async with aclosing(stream):
            async for chunk in stream:
                text, last = chunk["content"], bool(chunk.get("stop"))
                if opening and text:
                    # Text that starts otherwise is generated without the grammar.
                    if not text.startswith(opening):
                        raise ApiError(400, "llama.cpp cannot follow this schema")
                    opening = ""
                parser.add_logprobs(chunk.get("completion_probabilities"))
                if piece := parser.feed(text, last=last):
                    yield piece | {"raw_text": text}
                if last:
                    yield _completion_end(parser, chunk)

    async def check_grammar(self, pooled: PooledEngine, schema: dict[str, Any]) -> None:
        """Raise ApiError(400) for an invalid schema: `/completion` would silently ignore it."""
        body = {
            "messages": [{"role": "user", "content": ""}],
            "response_format": _json_schema_format(schema),
        }
        await self.pool.post(pooled, "/apply-template", body)

    async def embed(self, fields: Fields) -> Chunk:
        """Return the response of /api/embed: a unit vector for each input; raises ApiError."""
        texts = fields.strings("input", requests.MAX_INPUTS)
        if texts is None:
            raise ApiError(400, "input is required")
        request = await self.parse_request(fields)
        dimensions = fields.integer("dimensions", 0, 2**31)
        texts = [] if texts == [""] else texts
        async with self._use_engine(request, embedding=True) as pooled:
            load_duration = time.perf_counter_ns() - request.started_ns
            body = {
                "input": [await self._fit_input(pooled, text, request.truncate) for text in texts]
            }
            result: dict[str, Any] = {"data": [], "usage": {"prompt_tokens": 0}}
            if texts:
                async with pooled.slots:
                    result = await self.pool.post(pooled, "/v1/embeddings", body)
        rows = sorted(result["data"], key=lambda row: row["index"])
        return {
            "model": _short_name(request),
            "embeddings": [truncate_embedding(row["embedding"], dimensions) for row in rows],
            "total_duration": time.perf_counter_ns() - request.started_ns,
            "load_duration": load_duration,
            "prompt_eval_count": result["usage"]["prompt_tokens"],
        }

    async def embeddings(self, fields: Fields) -> Chunk:
        """Return the response of the older /api/embeddings: one vector that is not normalised.

        Raises ApiError.
        """
        text, request = fields.string("prompt") or "", await self.parse_request(fields)
        async with self._use_engine(request, embedding=True) as pooled:
            if not text:
                return {"embedding": []}
            content = await self._fit_input(pooled, text, truncate=True)
            body = {"content": [content], "embd_normalize": -1}
            async with pooled.slots:
                result = await self.pool.post(pooled, "/embedding", body)
        return {"embedding": result[0]["embedding"][0]}

    async def _fit_input(self, pooled: PooledEngine, text: str, truncate: bool) -> str | list[int]:
        """Return a text, or its first tokens if it is longer than a slot; raises ApiError(400)."""
        limit = pooled.engine.context
        if len(text.encode()) < limit:  # a token has at least one byte
            return text
        tokens = await self._tokenize(pooled, text, add_special=True)
        if len(tokens) >= limit and not truncate:
            raise ApiError(400, f"the input has {len(tokens)} tokens, more than {limit - 1}")
        header = self.store.header(pooled.model)
        if len(tokens) >= limit and header.metadata.get("tokenizer.ggml.add_eos_token"):
            return [*tokens[: limit - 2], tokens[-1]]  # the last token's state is the vector
        return tokens[: limit - 1]


def _completion_end(parser: PieceParser, chunk: Mapping[str, Any]) -> Chunk:
    """Return the last piece of a continued prompt from llama.cpp's last chunk."""
    counts = token_counts(chunk["tokens_evaluated"], chunk["tokens_predicted"], chunk["timings"])
    return parser.final_piece("length" if chunk.get("stop_type") == "limit" else "stop") | counts


def _short_name(request: GenerationRequest) -> str:
    return request.model.name.removesuffix(":latest")


def make_chunk(request: GenerationRequest, ready_ns: int | None = None, **fields: Any) -> Chunk:
    """Return a chunk of Ollama's API; the last one gets the durations of request and loading.

    ready_ns: `time.perf_counter_ns()` when the engine was loaded.
    """
    chunk = {"model": _short_name(request), "created_at": now(), "done": False} | fields
    if chunk["done"]:
        end_ns = time.perf_counter_ns()
        chunk["total_duration"] = end_ns - request.started_ns
        chunk["load_duration"] = (ready_ns or end_ns) - request.started_ns
    return chunk


def _chat_chunk(request: GenerationRequest, ready_ns: int, piece: Chunk) -> Chunk:
    """Return a piece as a chunk of /api/chat."""
    piece.pop("raw_text", None)
    message = {"role": "assistant", "content": piece.pop("text")}
    for key in ("thinking", "tool_calls"):
        if piece.get(key):
            message[key] = piece.pop(key)
    return make_chunk(request, ready_ns, message=message, **piece)


def truncate_embedding(vector: list[float], dimensions: int | None) -> list[float]:
    """Return the first entries of a unit vector, scaled to length 1 again."""
    if not dimensions or dimensions >= len(vector):
        return vector
    head = vector[:dimensions]
    norm = math.sqrt(sum(value * value for value in head)) or 1.0
    return [value / norm for value in head]


async def stream_within_context(
    request: GenerationRequest,
    messages: list[Message],
    stream: Callable[[list[Message]], AsyncIterator[Chunk]],
) -> AsyncIterator[Chunk]:
    """Yield the pieces that `stream` generates for messages; drop the oldest if they do not fit.

    Raises ApiError(400) if the request forbids that, or if the last message does not fit.
    """
    recent = list(messages)
    while True:
        pieces = stream(recent)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
            return
        except TooLong:
            if not request.truncate:
                raise
            recent = drop_oldest(recent)


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


def is_context_full(request: GenerationRequest, end: Chunk) -> bool:
    """Return whether a response that was cut off reached the end of the context.

    end: its last piece. The other reason is the limit of the request.
    """
    limit = request.options.get("num_predict", -1)
    return limit < 0 or end["eval_count"] < limit


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


def _json_schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"schema": schema}}
