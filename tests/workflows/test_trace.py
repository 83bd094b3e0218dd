"""Traces: what a span records, limits, streams, errors, and files of killed processes."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import httpx
import openai
import pytest
from notebooks import ROOT

from openmodels import catalog
from openmodels.workflows import trace

REQUEST = {
    "model": "mini-qwen",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "Who runs the bakery?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "a", "type": "function",
             "function": {"name": "find", "arguments": '{"who": "baker"}'}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "Mara"},
    ],
    "temperature": 0,
    "extra_headers": {"authorization": "Bearer secret-key"},
}  # fmt: skip
CALL = {"index": 0, "id": "b", "function": {"name": "find", "arguments": ""}}
DELTAS = [
    {"role": "assistant", "content": "Ma"},
    {"content": "ra"},
    {"tool_calls": [CALL]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"x": 1}'}}]},
]
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def stream_text(body: dict) -> str:
    """Return a stream of server-sent events in OpenAI's form, with usage only if requested."""
    base = {"id": "c1", "created": 1, "model": "mini-qwen", "object": "chat.completion.chunk"}
    chunks = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in DELTAS
    ]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**base, "choices": [], "usage": USAGE})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def respond(request: httpx.Request) -> httpx.Response:
    """Return what a server would: an answer, a stream, or an error for the model `missing`."""
    body = json.loads(request.content)
    if body["model"] == "missing":
        return httpx.Response(404, json={"error": {"message": "no such model"}})
    if body.get("stream"):
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, text=stream_text(body), headers=headers)
    message = {"role": "assistant", "content": "Mara."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    response = {"id": "c1", "created": 1, "model": "mini-qwen", "object": "chat.completion"}
    return httpx.Response(200, json={**response, "choices": [choice], "usage": USAGE})


@pytest.fixture
def client():
    http_client = httpx.Client(transport=httpx.MockTransport(respond))
    return openai.OpenAI(
        base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=0, http_client=http_client
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "traces.db"


def only_trace(path):
    (summary,) = trace.summaries(path)
    return summary, trace.read(path, summary.trace_id)


def test_a_tree_of_every_kind_is_read_back(client, path):
    with trace.Recorder(path, cost=lambda model, prompt, answer: prompt + 4 * answer) as recorder:
        traced = recorder.instrument(client)
        with recorder.chain("letter", {"to": "Mara"}) as chain:
            with recorder.retrieval("berth") as search:
                trace.set_documents(search, [("d1", "The Heron lies at berth 7.", 1.5)])
            traced.chat.completions.create(**REQUEST)
            with recorder.tool("get_price", {"item": "rope"}) as tool:
                trace.set_output(tool, {"price": 3})
            trace.set_output(chain, "sent")
    summary, (root,) = only_trace(path)
    assert [(d, node.name, node.kind) for d, node in root.walk()] == [
        (0, "letter", "CHAIN"),
        (1, "retrieval", "RETRIEVER"),
        (1, "chat mini-qwen", "LLM"),
        (1, "execute_tool get_price", "TOOL"),
    ]
    assert (summary.spans, summary.errors, summary.tokens, summary.whole) == (4, 0, 15, True)
    assert summary.cost == root.total("llm.cost.total") == 24
    assert root.attributes["input.value"] == '{"to": "Mara"}'
    assert root.attributes["output.value"] == "sent"
    search, _, tool = root.children
    assert search.attributes["retrieval.documents.0.document.score"] == 1.5
    assert tool.attributes["output.value"] == '{"price": 3}'
    assert root.start_ns <= search.start_ns <= tool.end_ns <= root.end_ns
    rows = trace.as_rows([root])
    assert rows[2][0] == "  retrieval" and rows[3][3:] == ("15", "24.000000", "ok")


def test_a_call_has_the_names_of_both_conventions(client, path):
    with trace.Recorder(path) as recorder:
        recorder.instrument(client).chat.completions.create(**REQUEST)
    _, (node,) = only_trace(path)
    expected = {
        "openinference.span.kind": "LLM",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "mini-qwen",
        "gen_ai.request.temperature": 0,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "llm.model_name": "mini-qwen",
        "llm.token_count.total": 15,
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.output_messages.0.message.content": "Mara.",
    }
    assert expected.items() <= node.attributes.items()
    assert node.messages("input") == [
        ("system", "Be brief."),
        ("user", f"Who runs the bakery?\n[image_url: {len(json.dumps(picture()))} B]"),
        ("assistant", 'find({"who": "baker"})'),
        ("tool", "Mara"),
    ]
    assert node.messages("output") == [("assistant", "Mara.")]
    stored = path.read_bytes()
    assert b"secret-key" not in stored and b"base64" not in stored
    with pytest.raises(ValueError, match="side 'both'"):
        node.messages("both")


def picture() -> dict:
    return REQUEST["messages"][1]["content"][1]


def test_a_message_of_a_response_can_be_sent_back(client, path):
    with trace.Recorder(path) as recorder:
        traced = recorder.instrument(client)
        message = traced.chat.completions.create(**REQUEST).choices[0].message
        traced.chat.completions.create(model="mini-qwen", messages=[message])
    newest = trace.read(path, trace.summaries(path)[0].trace_id)[0]
    assert newest.messages("input") == [("assistant", "Mara.")]


def test_an_asynchronous_client_is_refused(path):
    client = openai.AsyncOpenAI(base_url="http://127.0.0.1:1/v1", api_key="none")
    with trace.Recorder(path) as recorder, pytest.raises(TypeError, match="AsyncOpenAI"):
        recorder.instrument(client)


def test_the_original_client_records_nothing(client, path):
    with trace.Recorder(path) as recorder:
        recorder.instrument(client)
        client.chat.completions.create(**REQUEST)
    assert trace.summaries(path) == []


@pytest.mark.parametrize("show_usage", [False, True])
def test_a_stream_is_joined_and_its_usage_shown_only_if_requested(client, path, show_usage):
    options = {"stream_options": {"include_usage": True}} if show_usage else {}
    with trace.Recorder(path) as recorder:
        create = recorder.instrument(client).chat.completions.create
        chunks = list(create(model="mini-qwen", messages=[], stream=True, **options))
    assert [chunk.choices == [] for chunk in chunks].count(True) == show_usage
    _, (node,) = only_trace(path)
    assert node.messages("output") == [("assistant", 'Mara\nfind({"x": 1})')]
    assert node.attributes["llm.token_count.completion"] == 3
    assert node.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert trace.CLOSED_EARLY not in node.attributes


@pytest.mark.parametrize("how", ["close", "with", "break"])
def test_a_stream_closed_early_keeps_what_arrived(client, path, how):
    with trace.Recorder(path) as recorder:
        create = recorder.instrument(client).chat.completions.create
        stream = create(model="mini-qwen", messages=[], stream=True)
        if how == "with":
            with stream:
                next(iter(stream))
        else:
            for _ in stream:
                break
            stream.close()
    _, (node,) = only_trace(path)
    assert node.messages("output") == [("assistant", "Ma")]
    assert node.attributes[trace.CLOSED_EARLY] is True


def test_an_error_is_recorded_and_raised(client, path):
    with trace.Recorder(path) as recorder:
        create = recorder.instrument(client).chat.completions.create
        with recorder.chain("letter"), pytest.raises(openai.NotFoundError):
            create(model="missing", messages=[])
        with pytest.raises(openai.NotFoundError):
            create(model="missing", messages=[], stream=True)
        with pytest.raises(KeyError), recorder.tool("get_price", {}):
            raise KeyError("rope")
    rows = trace.summaries(path)
    assert [row.errors for row in rows] == [1, 1, 1]
    (tool,) = trace.read(path, rows[0].trace_id)
    assert (tool.status, tool.attributes["error.type"]) == ("ERROR", "KeyError")
    (chain,) = trace.read(path, rows[2].trace_id)
    assert chain.status == "UNSET" and "no such model" in chain.children[0].message


def test_a_price_of_the_catalogue_gives_the_cost():
    price = catalog.get_price("gpt-4o-mini", "OpenAI")
    expected = (1_000 * price.input_per_M + 100 * price.output_per_M) / 1e6
    assert trace.cost_at(price)("any", 1_000, 100) == pytest.approx(expected) and expected > 0


# --- Limits ---------------------------------------------------------------------------------------


def test_long_texts_are_cut_and_the_cut_is_recorded(path):
    with trace.Recorder(path, text_limit=100) as recorder:
        with recorder.chain("long", "x" * 1_000) as span:
            span.add_event("note", {"text": "y" * 150})
    _, (node,) = only_trace(path)
    assert node.attributes["input.value"] == "x" * 100
    assert node.events[0]["attributes"] == {"text": "y" * 100}
    assert node.attributes[trace.CUT] == 950


def test_all_texts_of_a_span_are_limited_together(path):
    with trace.Recorder(path) as recorder, recorder.chain("many") as span:
        for number in range(9):
            span.set_attribute(f"text.{number}", "z" * trace.TEXT_LIMIT)
    _, (node,) = only_trace(path)
    texts = [value for key, value in node.attributes.items() if key.startswith("text.")]
    assert sum(map(len, texts)) <= trace.SPAN_LIMIT
    assert node.attributes[trace.CUT] == 9 * trace.TEXT_LIMIT - sum(map(len, texts))


def test_a_long_conversation_keeps_its_first_and_last_messages(client, path):
    messages = [{"role": "user", "content": str(n)} for n in range(100)]
    with trace.Recorder(path) as recorder:
        recorder.instrument(client).chat.completions.create(model="mini-qwen", messages=messages)
    _, (node,) = only_trace(path)
    texts = [int(text) for _, text in node.messages("input")]
    assert texts == [*range(20), *range(80, 100)]
    assert node.attributes[trace.OMITTED] == 60


def test_the_oldest_traces_are_deleted_beyond_the_limit(path):
    with trace.Recorder(path, max_spans=40) as recorder:
        for number in range(100):
            with recorder.chain(f"chain {number}"):
                pass
    names = [row.name for row in trace.summaries(path)]
    assert names == [f"chain {n}" for n in range(99, 99 - len(names), -1)]
    assert 38 <= len(names) <= 42


def test_texts_are_redacted_before_they_are_stored(path):
    def redact(text: str) -> str:
        return text.replace("hunter2", "…")

    with trace.Recorder(path, redact=redact) as recorder:
        with pytest.raises(ValueError), recorder.chain("hunter2", "password hunter2"):
            raise ValueError("hunter2")
    assert b"hunter2" not in path.read_bytes()


# --- Files ----------------------------------------------------------------------------------------


def test_a_missing_file_a_missing_trace_and_another_schema_are_refused(path):
    with pytest.raises(FileNotFoundError):
        trace.summaries(path)
    assert not path.exists()
    trace.Recorder(path).close()
    with pytest.raises(LookupError, match="no trace abc"):
        trace.read(path, "abc")
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version=9")
    for act in (trace.summaries, trace.Recorder):
        with pytest.raises(ValueError, match="schema 9"):
            act(path)


def test_a_full_disk_loses_spans_and_not_the_workflow(client, path):
    with trace.Recorder(path) as recorder:
        traced = recorder.instrument(client)
        with recorder.chain("before"):
            pass
        # SQLite's own limit of pages: reported and rolled back as a full disk is
        recorder.exporter._file.execute("PRAGMA max_page_count=5")
        for _ in range(30):
            response = traced.chat.completions.create(**REQUEST)
            assert response.choices[0].message.content == "Mara."
        failed = recorder.exporter.failed
    assert failed > 0
    names = [row.name for row in trace.summaries(path)]
    assert names[-1] == "before" and len(names) == 31 - failed
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# The writer imports once and forks a process per kill: 50 starts of Python would take a minute.
KILLS = 50
WRITER = f"""
import os, random, signal, sys
from opentelemetry.sdk.trace import TracerProvider
from openmodels.workflows import trace

def write(number, pipe):
    exporter, tracer = trace.SQLiteExporter(sys.argv[1]), TracerProvider().get_tracer("test")
    batch = 0
    while True:
        group = [tracer.start_span(f"run {{number}} batch {{batch}}") for _ in range(7)]
        for span in group:
            span.end()
        exporter.export(group)
        os.write(pipe, bytes([1]))
        batch += 1

chance = random.Random(0)
for number in range({KILLS}):
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(number, send)
        finally:
            os._exit(1)
    os.close(send)
    acknowledged = 0
    for _ in range(chance.randrange(1, 12)):
        acknowledged += len(os.read(receive, 1))
    for _ in range(chance.randrange(20_000)):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(receive, 4096):
        acknowledged += len(more)
    os.close(receive)
    print(number, acknowledged, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the writer forks")
def test_the_file_is_whole_after_50_kills(path):
    trace.Recorder(path, max_spans=10**6).close()
    command = [sys.executable, "-c", WRITER, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(runs) == KILLS
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        counts = dict(file.execute("SELECT name, count(*) FROM spans GROUP BY name"))
    assert set(counts.values()) == {7}  # each batch is there as a whole or not at all
    for number, acknowledged in runs:
        stored = sum(name.startswith(f"run {number} ") for name in counts)
        # an export that returned is never lost; the kill can fall between the two
        assert acknowledged <= stored <= acknowledged + 1


def test_a_killed_process_leaves_roots_that_say_so(path):
    with trace.Recorder(path) as recorder:
        parent = recorder.tracer.start_span("never ended")
        with trace.use_span(parent), recorder.chain("child"):
            pass
    summary, roots = only_trace(path)
    assert [root.name for root in roots] == ["child"] and roots[0].parent_id
    assert summary.whole is False
