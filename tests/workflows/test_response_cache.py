"""The response cache: what its key contains, what is never cached, limits and full disks."""

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
from openai.types.chat import ChatCompletion

from openmodels.workflows import trace
from openmodels.workflows.response_cache import (
    ResponseCache,
    cache_key,
    digests,
    is_repeatable,
    stale_answers,
)

TOOL = {"type": "function", "function": {"name": "get_price", "parameters": {"type": "object"}}}
REQUEST = {
    "model": "mini-qwen",
    "messages": [{"role": "user", "content": "Who runs the bakery?"}],
    "temperature": 0,
}
# One change per part that can change the answer.
CHANGES = {
    "model": {"model": "mini-qwen-s"},
    "text": {"messages": [{"role": "user", "content": "Who runs the forge?"}]},
    "role": {"messages": [{"role": "system", "content": "Who runs the bakery?"}]},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, *REQUEST["messages"]]},
    "order": {"messages": [*REQUEST["messages"], {"role": "system", "content": "Be brief."}]},
    "tools": {"tools": [TOOL]},
    "tool_choice": {"tools": [TOOL], "tool_choice": "required"},
    "response_format": {"response_format": {"type": "json_object"}},
    "max_tokens": {"max_tokens": 5},
    "temperature": {"temperature": 0.7, "seed": 1},
    "seed": {"temperature": 0.7, "seed": 2},
    "top_p": {"top_p": 0.5},
    "stop": {"stop": ["."]},
    "logprobs": {"logprobs": True},
    "n": {"n": 2},
    "extra_body": {"extra_body": {"num_ctx": 512}},
    "a field of the future": {"reasoning_depth": "deep"},
}


class Server:
    """A server whose answers are numbered, so that a stored answer can be recognised."""

    def __init__(self):
        self.sent, self.digest, self.status = [], "d1", 200

    def respond(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(json.loads(request.content))
        if self.status != 200:
            return httpx.Response(self.status, json={"error": {"message": "no"}})
        message = {"role": "assistant", "content": f"answer {len(self.sent)}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "c", "created": 1, "model": "mini-qwen", "object": "chat.completion"}
        return httpx.Response(200, json={**body, "choices": [choice]})


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def client(server):
    http_client = httpx.Client(transport=httpx.MockTransport(server.respond))
    return openai.OpenAI(
        base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=0, http_client=http_client
    )


@pytest.fixture
def cache(server, tmp_path):
    return ResponseCache(tmp_path / "responses.db", lambda model: server.digest)


def text(response) -> str:
    return response.choices[0].message.content


# --- The key --------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", CHANGES)
def test_every_part_changes_the_key(part):
    assert cache_key(REQUEST | CHANGES[part], digest="d") != cache_key(REQUEST, digest="d")


def test_all_changed_requests_have_different_keys():
    keys = {cache_key(REQUEST | change, digest="d") for change in CHANGES.values()}
    assert len(keys) == len(CHANGES)


def test_the_digest_and_the_version_change_the_key():
    key = cache_key(REQUEST, digest="d")
    assert cache_key(REQUEST, digest="e") != key
    assert cache_key(REQUEST, digest="d", version=2) != key


def test_what_cannot_change_the_answer_leaves_the_key():
    key = cache_key(REQUEST, digest="d")
    backwards = dict(reversed(REQUEST.items()))
    assert cache_key(backwards, digest="d") == key
    assert cache_key(REQUEST | {"user": "ada", "timeout": 5}, digest="d") == key


def test_a_message_object_has_the_key_of_its_dictionary(client):
    message = client.chat.completions.create(**REQUEST).choices[0].message
    plain = REQUEST | {"messages": [{"role": "assistant", "content": "answer 1"}]}
    assert cache_key(REQUEST | {"messages": [message]}, digest="d") == cache_key(plain, digest="d")
    with pytest.raises(TypeError, match="a request with a object"):
        cache_key(REQUEST | {"tools": [object()]}, digest="d")


@pytest.mark.parametrize("part", ["model", "response_format", "temperature", "digest"])
def test_a_forgotten_part_makes_different_requests_equal(part):
    change = CHANGES.get(part, {})
    change = {"temperature": 0.7} if part == "temperature" else change
    keys = {
        cache_key(REQUEST | change, digest="e", forget=[part]),
        cache_key(REQUEST, digest="d" if part == "digest" else "e", forget=[part]),
    }
    assert len(keys) == 1


def test_stale_answers_are_counted(client, tmp_path, monkeypatch):
    def respond(**request):
        message = f"answer to {request['messages'][0]['content']} at {request['max_tokens']}"
        choice = {"index": 0, "message": {"role": "assistant", "content": message}}
        choice["finish_reason"] = "stop"
        fields = {"id": "c", "created": 1, "model": "m", "object": "chat.completion"}
        return ChatCompletion.model_validate({**fields, "choices": [choice]})

    monkeypatch.setattr(client.chat.completions, "create", respond)
    requests = [
        REQUEST | {"messages": [{"role": "user", "content": str(n)}], "max_tokens": 9}
        for n in range(4)
    ]
    change = {"max_tokens": 3}
    for forget, expected in (((), 0), (("max_tokens",), 4)):
        cache = ResponseCache(tmp_path / f"{expected}.db", lambda model: "d", forget=forget)
        assert stale_answers(cache, client, requests, change) == expected


# --- Hits and misses ------------------------------------------------------------------------------


def test_the_second_request_is_answered_from_the_file(cache, client, server):
    first, second = (cache.create(client, **REQUEST) for _ in range(2))
    assert first == second and text(second) == "answer 1"
    assert (len(server.sent), cache.hits, cache.misses, cache.hit_rate) == (1, 1, 1, 0.5)
    assert cache.seconds_saved > 0


def test_other_weights_behind_the_same_name_are_a_miss(cache, client, server):
    cache.create(client, **REQUEST)
    server.digest = "d2"
    assert text(cache.create(client, **REQUEST)) == "answer 2"


def test_a_key_without_the_digest_returns_a_stale_answer(server, client, tmp_path):
    cache = ResponseCache(tmp_path / "r.db", lambda model: server.digest, forget=["digest"])
    cache.create(client, **REQUEST)
    server.digest = "d2"
    assert text(cache.create(client, **REQUEST)) == "answer 1"


def test_samples_are_sent_each_time(cache, client):
    request = REQUEST | {"temperature": 0.7}
    assert [text(cache.create(client, **request)) for _ in range(2)] == ["answer 1", "answer 2"]
    assert (cache.bypassed, len(cache)) == (2, 0)
    assert is_repeatable(request | {"seed": 0}) and not is_repeatable({"model": "m"})


def test_errors_are_not_stored(cache, client, server):
    server.status = 503
    with pytest.raises(openai.InternalServerError):
        cache.create(client, **REQUEST)
    server.status = 200
    assert text(cache.create(client, **REQUEST)) == "answer 2"


def test_a_stream_and_an_unknown_model_are_refused(cache, client, server):
    with pytest.raises(ValueError, match="a stream is not cached"):
        cache.create(client, stream=True, **REQUEST)
    assert server.sent == []


def test_old_entries_are_a_miss(server, client, tmp_path):
    now = [100.0]
    options = {"max_age": 10, "clock": lambda: now[0]}
    cache = ResponseCache(tmp_path / "r.db", lambda model: "d", **options)
    cache.create(client, **REQUEST)
    now[0] = 110.0
    assert text(cache.create(client, **REQUEST)) == "answer 1"
    now[0] = 110.1
    assert text(cache.create(client, **REQUEST)) == "answer 2"


def test_the_entries_not_used_for_the_longest_time_are_deleted(server, client, tmp_path):
    ticks = iter(range(1_000))
    options = {"max_entries": 3, "clock": lambda: next(ticks)}
    cache = ResponseCache(tmp_path / "r.db", lambda model: "d", **options)

    def send(seed: int) -> str:
        return text(cache.create(client, **REQUEST, seed=seed))

    for seed in (1, 2, 3, 1, 4):  # 2 is now the oldest use
        send(seed)
    assert len(cache) == 3
    assert [send(1), send(3), send(4)] == ["answer 1", "answer 3", "answer 4"]
    assert send(2) == "answer 5"


def test_a_full_disk_costs_the_entry_and_not_the_response(cache, client):
    cache._file.execute("PRAGMA max_page_count=3")
    answers = [text(cache.create(client, **REQUEST, seed=seed)) for seed in range(40)]
    assert answers == [f"answer {n}" for n in range(1, 41)]
    assert cache.failed_writes > 0 and len(cache) < 40
    assert cache._file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_hit_is_an_event_of_the_current_span(cache, client, tmp_path):
    path = tmp_path / "traces.db"
    with trace.Recorder(path) as recorder, recorder.chain("ask"):
        cache.create(client, **REQUEST)
        cache.create(client, **REQUEST)
    (node,) = trace.read(path, trace.summaries(path)[0].trace_id)
    assert [event["attributes"] for event in node.events] == [{"hit": False}, {"hit": True}]


def test_digests_come_from_the_servers_list(monkeypatch, client):
    rows = [{"model": "mini-qwen:latest", "digest": "abc"}]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"models": rows}))
    original = httpx.Client
    monkeypatch.setattr(
        "openmodels.workflows.response_cache.httpx.Client",
        lambda **options: original(transport=transport, **options),
    )
    digest = digests(client)
    assert digest("mini-qwen") == digest("mini-qwen:latest") == "abc"
    with pytest.raises(LookupError, match="no model 'other:latest'"):
        digest("other")


WRITER = """
import os, sys
from openmodels.workflows.response_cache import ResponseCache

receive = []
for number in range(50):
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        cache = ResponseCache(sys.argv[1], lambda model: "d")
        for entry in range(10_000):
            cache._write(f"{number} {entry}", "x" * 500, 0.1)
            os.write(done, b".")
        os._exit(0)
    os.close(done)
    for _ in range(1 + number % 7):
        os.read(ready, 1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(ready)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the writer forks")
def test_the_file_is_whole_after_50_kills(tmp_path):
    path = tmp_path / "responses.db"
    command = [sys.executable, "-c", WRITER, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = file.execute("SELECT count(*), min(length(body)), max(length(body)) FROM responses")
        count, shortest, longest = rows.fetchone()
    assert count >= sum(1 + number % 7 for number in range(50)) and shortest == longest == 500
