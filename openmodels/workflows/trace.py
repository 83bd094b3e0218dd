"""Record a workflow as OpenTelemetry spans in one SQLite file, and read the file back as trees.

with trace.Recorder("traces.db") as recorder:
    client = recorder.instrument(client)
    with recorder.chain("answer a letter", letter):
        client.chat.completions.create(...)
trace.summaries("traces.db")

Attributes have the names of OpenTelemetry's GenAI conventions and of OpenInference, so that other
viewers understand them. The file is the only destination: no span leaves the machine.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
from openinference.semconv.trace import (
    DocumentAttributes,
    MessageAttributes,
    OpenInferenceSpanKindValues,
    SpanAttributes,
    ToolCallAttributes,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.trace import Span, Status, StatusCode, use_span

from openmodels.catalog import Price

SCHEMA_VERSION = 1
TEXT_LIMIT = 4_000  # characters of one stored text
SPAN_LIMIT = 20_000  # characters of all texts of one span
MAX_SPANS = 20_000  # of one file, plus at most 5 %; the oldest traces are deleted beyond it
MAX_MESSAGES = 40  # of one recorded request: the first and the last messages
MAX_ATTRIBUTES = 512  # of one span; the SDK counts those it drops
CUT = "openmodels.cut_characters"  # attribute: characters that the limits removed from the span
OMITTED = "openmodels.omitted_messages"  # attribute: messages that MAX_MESSAGES removed
CLOSED_EARLY = "openmodels.stream_closed_early"  # attribute: the consumer stopped a stream
Kind = OpenInferenceSpanKindValues
Cost = Callable[[str, int, int], float | None]  # (model, prompt tokens, completion tokens)

_CREATE = """
CREATE TABLE IF NOT EXISTS spans (
    span_id TEXT PRIMARY KEY, trace_id TEXT NOT NULL, parent_id TEXT, name TEXT NOT NULL,
    start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, status TEXT NOT NULL,
    message TEXT NOT NULL, attributes TEXT NOT NULL, events TEXT NOT NULL, dropped INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_trace ON spans (trace_id, start_ns);
"""


# --- Writing --------------------------------------------------------------------------------------


class SQLiteExporter(SpanExporter):
    """Write finished spans to a SQLite file, one transaction per batch.

    The journal is a write-ahead log: a process that is killed leaves whole batches only. Texts are
    cut at `text_limit` characters, all texts of a span together at SPAN_LIMIT, and the span records
    how many characters were cut. Beyond `max_spans`, the oldest traces are deleted. A failed write
    is counted in `failed` and never reaches the workflow.

    redact: a function applied to every text before it is stored, e.g. to remove passwords.
    """

    def __init__(
        self,
        path: Path | str,
        text_limit: int = TEXT_LIMIT,
        max_spans: int = MAX_SPANS,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.path, self.text_limit, self.max_spans = Path(path), text_limit, max_spans
        self.redact, self.failed = redact, 0
        self._lock, self._unchecked = threading.Lock(), max_spans  # spans since the last deletion
        self._file = sqlite3.connect(
            self.path, timeout=10, isolation_level=None, check_same_thread=False
        )
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=NORMAL")
        _check_version(self._file, self.path)
        self._file.executescript(f"{_CREATE} PRAGMA user_version={SCHEMA_VERSION};")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch of spans; return FAILURE if the file cannot be written."""
        rows = [self._row(span) for span in spans]
        with self._lock:
            try:
                self._write(rows)
            except sqlite3.Error:
                self.failed += len(rows)
                return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _write(self, rows: list[tuple]) -> None:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            marks = ", ".join("?" * 11)
            self._file.executemany(f"INSERT OR REPLACE INTO spans VALUES ({marks})", rows)
            self._unchecked += len(rows)
            if self._unchecked * 20 >= self.max_spans:
                self._delete_oldest()
            self._file.execute("COMMIT")
        except sqlite3.Error:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise

    def _delete_oldest(self) -> None:
        """Delete the oldest traces while the file has more than `max_spans` spans."""
        (count,) = self._file.execute("SELECT count(*) FROM spans").fetchone()
        while count > self.max_spans:
            query = "SELECT trace_id FROM spans GROUP BY trace_id ORDER BY min(start_ns) LIMIT 1"
            oldest = self._file.execute(query).fetchone()
            count -= self._file.execute("DELETE FROM spans WHERE trace_id = ?", oldest).rowcount
        self._unchecked = 0

    def _row(self, span: ReadableSpan) -> tuple:
        attributes, cut = self._shorten(dict(span.attributes or {}))
        events = []
        for event in span.events:
            values, more = self._shorten(dict(event.attributes or {}))
            events.append({"name": event.name, "time_ns": event.timestamp, "attributes": values})
            cut += more
        if cut:
            attributes[CUT] = cut
        dropped = span.dropped_attributes + span.dropped_events
        message = self.redact(span.status.description or "")[: self.text_limit]
        return (
            f"{span.context.span_id:016x}",
            f"{span.context.trace_id:032x}",
            f"{span.parent.span_id:016x}" if span.parent else None,
            self.redact(span.name)[:200],
            *(span.start_time, span.end_time, span.status.status_code.name, message),
            *(json.dumps(attributes), json.dumps(events), dropped),
        )

    def _shorten(self, values: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """Return the values with each text redacted and cut, and the characters cut."""
        cut, room = 0, SPAN_LIMIT
        for name, value in values.items():
            if isinstance(value, str):
                text = self.redact(value)
                values[name] = text[: min(self.text_limit, room)]
                room -= len(values[name])
                cut += len(text) - len(values[name])
        return values, cut

    def shutdown(self) -> None:
        """Close the file. A second call has no effect."""
        with self._lock:
            self._file.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: every batch is in the file when `export` returns."""
        return True


def _check_version(file: sqlite3.Connection, path: Path) -> None:
    """Raise ValueError if the file was written with another schema."""
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version not in (0, SCHEMA_VERSION):
        raise ValueError(f"{path} has schema {version}; this version reads {SCHEMA_VERSION}")


class Recorder:
    """Record spans in a SQLite file: chains, tools, retrievals and the calls of a client.

    path, limits: as for `SQLiteExporter`. cost: the price of a call, from (model, prompt tokens,
    completion tokens); None if unknown. batch_seconds: spans are written in batches this often;
    0 writes each span as it ends. A killed process loses what it has not written yet.
    Use it as a context manager, or call `close`.
    """

    def __init__(
        self,
        path: Path | str,
        cost: Cost | None = None,
        batch_seconds: float = 0,
        **limits: Any,
    ) -> None:
        self.exporter, self.cost = SQLiteExporter(path, **limits), cost
        self.provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource({"service.name": "port-lark"}),
            span_limits=SpanLimits(max_span_attributes=MAX_ATTRIBUTES),
        )
        processor = (
            BatchSpanProcessor(self.exporter, schedule_delay_millis=batch_seconds * 1000)
            if batch_seconds
            else SimpleSpanProcessor(self.exporter)
        )
        self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("openmodels.workflows.trace")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending and close the file."""
        self.provider.shutdown()

    @contextmanager
    def span(self, name: str, kind: Kind, attributes: Mapping[str, Any]) -> Iterator[Span]:
        """Record the block as a span below the current span. An exception sets its status."""
        fields = {SpanAttributes.OPENINFERENCE_SPAN_KIND: kind.value, **attributes}
        span = self.tracer.start_span(name, attributes=fields)
        with use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            try:
                yield span
            except BaseException as error:
                fail(span, error)
                raise

    @contextmanager
    def chain(self, name: str, value: object = "") -> Iterator[Span]:
        """Record a step of a workflow, with its input. Set its output with `set_output`."""
        with self.span(name, Kind.CHAIN, {SpanAttributes.INPUT_VALUE: as_text(value)}) as span:
            yield span

    @contextmanager
    def tool(self, name: str, arguments: Mapping[str, object]) -> Iterator[Span]:
        """Record a tool call with its arguments."""
        attributes = {
            gen_ai.GEN_AI_OPERATION_NAME: "execute_tool",
            gen_ai.GEN_AI_TOOL_NAME: name,
            SpanAttributes.TOOL_NAME: name,
            SpanAttributes.INPUT_VALUE: as_text(arguments),
        }
        with self.span(f"execute_tool {name}", Kind.TOOL, attributes) as span:
            yield span

    @contextmanager
    def retrieval(self, query: str) -> Iterator[Span]:
        """Record a search. Set its results with `set_documents`."""
        with self.span("retrieval", Kind.RETRIEVER, {SpanAttributes.INPUT_VALUE: query}) as span:
            yield span

    def instrument(self, client: openai.OpenAI) -> openai.OpenAI:
        """Return a copy of a client whose `chat.completions.create` records each call.

        Streams are recorded when they end or are closed. The original client stays as it is. Raises
        TypeError for an asynchronous client.
        """
        if not isinstance(client, openai.OpenAI):
            raise TypeError(f"{type(client).__name__} is not recorded; use openai.OpenAI")
        traced = client.copy()
        create = traced.chat.completions.create

        @functools.wraps(create)
        def recorded(**request: Any) -> Any:
            name = f"chat {request.get('model', '')}"
            span = self.tracer.start_span(name, attributes=request_attributes(request))
            try:
                if request.get("stream"):
                    return RecordedStream(self, span, create, request)
                response = create(**request)
                self.finish(span, response.model_dump(), request)
            except BaseException as error:
                fail(span, error)
                span.end()
                raise
            span.end()
            return response

        traced.chat.completions.create = recorded
        return traced

    def finish(self, span: Span, response: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        """Record a response in the form of `ChatCompletion.model_dump()`, and its cost."""
        span.set_attributes(response_attributes(response))
        usage = response.get("usage")
        if usage and self.cost:
            counts = usage["prompt_tokens"], usage["completion_tokens"]
            cost = self.cost(request.get("model", ""), *counts)
            if cost is not None:
                span.set_attribute(SpanAttributes.LLM_COST_TOTAL, cost)


class RecordedStream:
    """Iterate over a stream's chunks; when it ends, record the answer joined from them.

    Usage is always requested. If the caller did not request it, its chunk is not passed on.
    """

    def __init__(
        self, recorder: Recorder, span: Span, create: Callable, request: dict[str, Any]
    ) -> None:
        self.recorder, self.span, self.request = recorder, span, request
        options = request.get("stream_options") or {}
        self.show_usage = bool(options.get("include_usage"))
        self.began = time.perf_counter()
        usage = {"stream_options": {**options, "include_usage": True}}
        self.stream = create(**{**request, **usage})
        self.message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": []}
        self.response: dict[str, Any] = {"choices": [{"message": self.message}]}
        self.ended = False

    def __enter__(self) -> RecordedStream:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        try:
            for number, chunk in enumerate(self.stream):
                if number == 0:
                    seconds = time.perf_counter() - self.began
                    self.span.set_attribute(gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, seconds)
                self._add(chunk)
                if chunk.choices or self.show_usage:
                    yield chunk
            self._end()
        except GeneratorExit:
            self.close()
            raise
        except BaseException as error:
            fail(self.span, error)
            self._end()
            raise

    def close(self) -> None:
        """Stop the stream. If it has not ended, record what arrived, and that it was closed."""
        self.stream.close()
        if not self.ended:
            self.span.set_attribute(CLOSED_EARLY, True)
            self._end()

    def _add(self, chunk: Any) -> None:
        self.response |= {"id": chunk.id, "model": chunk.model}
        if chunk.usage:
            self.response["usage"] = chunk.usage.model_dump()
        for choice in chunk.choices[:1]:
            self.message["content"] += choice.delta.content or ""
            for delta in choice.delta.tool_calls or ():
                self._add_call(delta)
            if choice.finish_reason:
                self.response["choices"][0]["finish_reason"] = choice.finish_reason

    def _add_call(self, delta: Any) -> None:
        calls = self.message["tool_calls"]
        if delta.index == len(calls):
            calls.append({"id": delta.id, "function": {"name": "", "arguments": ""}})
        for name in ("name", "arguments"):
            calls[delta.index]["function"][name] += getattr(delta.function, name) or ""

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self.recorder.finish(self.span, self.response, self.request)
            self.span.end()


def cost_at(price: Price) -> Cost:
    """Return a function that computes what a call's tokens cost at a price of the catalogue."""

    def cost(_model: str, prompt: int, completion: int) -> float:
        return (prompt * price.input_per_M + completion * price.output_per_M) / 1e6

    return cost


# --- Attributes -----------------------------------------------------------------------------------


def as_text(value: object) -> str:
    """Return a text unchanged, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def fail(span: Span, error: BaseException) -> None:
    """Set a span's status to ERROR, with the class of the exception and its message."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, str(error)))


def set_output(span: Span, value: object) -> None:
    """Record the result of a chain or a tool."""
    span.set_attribute(SpanAttributes.OUTPUT_VALUE, as_text(value))


def set_documents(span: Span, documents: Sequence[tuple[str, str, float]]) -> None:
    """Record the results of a search: (id, text, score) each, the best first."""
    for number, (name, text, score) in enumerate(documents[:MAX_MESSAGES]):
        prefix = f"{SpanAttributes.RETRIEVAL_DOCUMENTS}.{number}"
        span.set_attributes({
            f"{prefix}.{DocumentAttributes.DOCUMENT_ID}": name,
            f"{prefix}.{DocumentAttributes.DOCUMENT_CONTENT}": text,
            f"{prefix}.{DocumentAttributes.DOCUMENT_SCORE}": float(score),
        })  # fmt: skip


def request_attributes(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a chat request: model, options, tools and messages."""
    messages = [_as_dict(message) for message in request.get("messages") or ()]
    omitted = max(0, len(messages) - MAX_MESSAGES)
    numbers = [*range(MAX_MESSAGES // 2), *range(MAX_MESSAGES // 2 + omitted, len(messages))]
    numbers = numbers if omitted else range(len(messages))
    skipped = ("messages", "model", "tools", "extra_headers")  # headers can contain keys
    options = {name: value for name, value in request.items() if name not in skipped}
    attributes = {
        SpanAttributes.OPENINFERENCE_SPAN_KIND: Kind.LLM.value,
        gen_ai.GEN_AI_OPERATION_NAME: "chat",
        gen_ai.GEN_AI_PROVIDER_NAME: "openai",  # the protocol, whichever server speaks it
        gen_ai.GEN_AI_REQUEST_MODEL: str(request.get("model", "")),
        SpanAttributes.LLM_MODEL_NAME: str(request.get("model", "")),
        SpanAttributes.LLM_INVOCATION_PARAMETERS: as_text(options),
    }
    for name in ("temperature", "top_p", "max_tokens", "seed"):
        if isinstance(request.get(name), int | float):
            attributes[f"gen_ai.request.{name}"] = request[name]
    for number, tool in enumerate((request.get("tools") or ())[:MAX_MESSAGES]):
        attributes[f"{SpanAttributes.LLM_TOOLS}.{number}.tool.json_schema"] = as_text(tool)
    for number in numbers:
        prefix = f"{SpanAttributes.LLM_INPUT_MESSAGES}.{number}"
        attributes |= message_attributes(prefix, messages[number])
    return attributes | ({OMITTED: omitted} if omitted else {})


def _as_dict(message: Any) -> Mapping[str, Any]:
    """Return a message as a mapping; a response's message can be sent back as it is."""
    return message if isinstance(message, Mapping) else message.model_dump(exclude_none=True)


def response_attributes(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a response in the form of `ChatCompletion.model_dump()`."""
    attributes: dict[str, Any] = {}
    names = {"id": gen_ai.GEN_AI_RESPONSE_ID, "model": gen_ai.GEN_AI_RESPONSE_MODEL}
    attributes |= {key: response[name] for name, key in names.items() if response.get(name)}
    choices = response.get("choices") or ()
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    if reasons:
        attributes[gen_ai.GEN_AI_RESPONSE_FINISH_REASONS] = reasons
    for number, choice in enumerate(choices):
        prefix = f"{SpanAttributes.LLM_OUTPUT_MESSAGES}.{number}"
        attributes |= message_attributes(prefix, choice["message"])
    if usage := response.get("usage"):
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        attributes |= {
            gen_ai.GEN_AI_USAGE_INPUT_TOKENS: prompt,
            gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: completion,
            SpanAttributes.LLM_TOKEN_COUNT_PROMPT: prompt,
            SpanAttributes.LLM_TOKEN_COUNT_COMPLETION: completion,
            SpanAttributes.LLM_TOKEN_COUNT_TOTAL: prompt + completion,
        }
    return attributes


def message_attributes(prefix: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as OpenInference's flat attributes, e.g. `{prefix}.message.role`."""
    attributes = {f"{prefix}.{MessageAttributes.MESSAGE_ROLE}": str(message.get("role", ""))}
    if text := _content(message.get("content")):
        attributes[f"{prefix}.{MessageAttributes.MESSAGE_CONTENT}"] = text
    for number, call in enumerate(message.get("tool_calls") or ()):
        name = f"{prefix}.{MessageAttributes.MESSAGE_TOOL_CALLS}.{number}"
        function = call.get("function") or {}
        attributes |= {
            f"{name}.{ToolCallAttributes.TOOL_CALL_FUNCTION_NAME}": function.get("name", ""),
            f"{name}.{ToolCallAttributes.TOOL_CALL_FUNCTION_ARGUMENTS_JSON}": as_text(
                function.get("arguments", "")
            ),
        }
    return attributes


def _content(content: Any) -> str:
    """Return the text of a message's content. Of a picture or a sound, only its size is stored."""
    if isinstance(content, str) or content is None:
        return content or ""
    parts = []
    for part in content:
        text = part.get("text")
        parts.append(text if text is not None else f"[{part.get('type')}: {len(as_text(part))} B]")
    return "\n".join(parts)


# --- Reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A recorded span with the spans below it, in the order of their starts."""

    span_id: str
    trace_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int
    status: str  # UNSET, OK or ERROR
    message: str  # of the error
    attributes: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    dropped: int  # attributes and events that the SDK did not record
    children: list[Node] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Return OpenInference's kind: LLM, TOOL, RETRIEVER, CHAIN, …, else UNKNOWN."""
        return self.attributes.get(SpanAttributes.OPENINFERENCE_SPAN_KIND, Kind.UNKNOWN.value)

    @property
    def seconds(self) -> float:
        """Return how long the span lasted."""
        return (self.end_ns - self.start_ns) / 1e9

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Node]]:
        """Yield (depth, span) of this span and of all below it, parents first."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)

    def total(self, attribute: str) -> float:
        """Return the sum of a numeric attribute over this span and all below it."""
        return sum(node.attributes.get(attribute, 0) for _, node in self.walk())

    def messages(self, side: str) -> list[tuple[str, str]]:
        """Return (role, text) of the messages on a side: "input" or "output".

        A tool call is written as `name(arguments)`. Raises ValueError for another side.
        """
        if side not in ("input", "output"):
            raise ValueError(f"side {side!r}; it must be input or output")
        grouped: dict[int, dict[str, str]] = {}
        prefix = f"llm.{side}_messages."
        for key, value in self.attributes.items():
            if key.startswith(prefix):
                number, _, name = key.removeprefix(prefix).partition(".")
                grouped.setdefault(int(number), {})[name] = value
        return [_role_and_text(grouped[number]) for number in sorted(grouped)]


def _role_and_text(fields: Mapping[str, str]) -> tuple[str, str]:
    parts = [fields.get(MessageAttributes.MESSAGE_CONTENT, "")]
    number = 0
    while True:
        prefix = f"{MessageAttributes.MESSAGE_TOOL_CALLS}.{number}"
        name = fields.get(f"{prefix}.{ToolCallAttributes.TOOL_CALL_FUNCTION_NAME}")
        if name is None:
            return fields.get(MessageAttributes.MESSAGE_ROLE, ""), "\n".join(filter(None, parts))
        key = f"{prefix}.{ToolCallAttributes.TOOL_CALL_FUNCTION_ARGUMENTS_JSON}"
        parts.append(f"{name}({fields.get(key, '')})")
        number += 1


@dataclass(frozen=True)
class Summary:
    """A trace in one line. An error of any span counts."""

    trace_id: str
    name: str  # of its first span
    start_ns: int
    seconds: float  # from the first start to the last end
    spans: int
    errors: int
    tokens: int
    cost: float
    whole: bool  # a root span was recorded; False if the process was killed before it ended


@contextmanager
def _reading(path: Path | str) -> Iterator[sqlite3.Connection]:
    """Open a file of traces to read it. Raises FileNotFoundError, and ValueError for its schema."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file of traces at {path}")
    with closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=rw", uri=True)) as file:
        _check_version(file, Path(path))
        yield file


def _nodes(file: sqlite3.Connection, where: str = "", values: Sequence = ()) -> list[Node]:
    rows = file.execute(f"SELECT * FROM spans {where} ORDER BY start_ns, end_ns DESC", values)
    names = [column[0] for column in rows.description]
    return [_node(dict(zip(names, row, strict=True))) for row in rows]


def _node(row: dict[str, Any]) -> Node:
    span_id, trace_id, parent_id = (row.pop(name) for name in ("span_id", "trace_id", "parent_id"))
    attributes, events = json.loads(row.pop("attributes")), json.loads(row.pop("events"))
    return Node(span_id, trace_id, parent_id, **row, attributes=attributes, events=events)


def read(path: Path | str, trace_id: str) -> list[Node]:
    """Return the roots of a trace, with their children.

    A span whose parent is not in the file is a root too: a killed process loses the spans that it
    had not finished. Raises LookupError if the file has no such trace, FileNotFoundError without a
    file, and ValueError for another schema.
    """
    with _reading(path) as file:
        nodes = _nodes(file, "WHERE trace_id = ?", [trace_id])
    if not nodes:
        raise LookupError(f"no trace {trace_id} in {path}")
    by_id = {node.span_id: node for node in nodes}
    roots = []
    for node in nodes:
        parent = by_id.get(node.parent_id)
        (parent.children if parent else roots).append(node)
    return roots


def summaries(path: Path | str) -> list[Summary]:
    """Return every trace of a file in a line each, the newest first.

    Raises FileNotFoundError without a file, and ValueError for another schema.
    """
    with _reading(path) as file:
        nodes = _nodes(file)
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.trace_id, []).append(node)
    rows = [_summary(group) for group in groups.values()]
    return sorted(rows, key=lambda row: row.start_ns, reverse=True)


def _summary(nodes: Sequence[Node]) -> Summary:
    start, end = nodes[0].start_ns, max(node.end_ns for node in nodes)

    def total(name: str) -> float:
        return sum(node.attributes.get(name, 0) for node in nodes)

    return Summary(
        trace_id=nodes[0].trace_id,
        name=nodes[0].name,
        start_ns=start,
        seconds=(end - start) / 1e9,
        spans=len(nodes),
        errors=sum(node.status == StatusCode.ERROR.name for node in nodes),
        tokens=int(total(SpanAttributes.LLM_TOKEN_COUNT_TOTAL)),
        cost=total(SpanAttributes.LLM_COST_TOTAL),
        whole=any(node.parent_id is None for node in nodes),
    )


def as_rows(roots: Sequence[Node]) -> list[tuple[str, ...]]:
    """Return a trace as rows of a table, indented by depth; the first row is the header."""
    rows = [("span", "kind", "ms", "tokens", "cost", "status")]
    for root in roots:
        for depth, node in root.walk():
            tokens = node.attributes.get(SpanAttributes.LLM_TOKEN_COUNT_TOTAL)
            cost = node.attributes.get(SpanAttributes.LLM_COST_TOTAL)
            rows.append((
                "  " * depth + node.name,
                node.kind,
                f"{node.seconds * 1000:,.1f}",
                "–" if tokens is None else f"{tokens:,}",
                "–" if cost is None else f"{cost:.6f}",
                "ERROR" if node.status == StatusCode.ERROR.name else "ok",
            ))  # fmt: skip
    return rows
