"""The simulated API: seeded faults, a rate limit, and a program that can be killed."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import openai
import pytest

from openmodels.workflows import faults
from openmodels.workflows.faults import APIProcess, Faults, SimulatedAPI, local_client

MESSAGES = [{"role": "user", "content": "Who runs the bakery?"}]


class Upstream(BaseHTTPRequestHandler):
    """A model's server: it answers with the model's name and the message."""

    def log_message(self, *_values):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = f"{body['model']}: {body['messages'][0]['content']}"
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        content = json.dumps({"id": "c", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def upstream():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield local_client(f"http://127.0.0.1:{server.server_port}/v1")
    server.shutdown()
    server.server_close()


def send(client, **options) -> str:
    response = client.chat.completions.create(model="gpt-x", messages=MESSAGES, **options)
    return response.choices[0].message.content


def test_every_request_is_answered_by_the_chosen_model(upstream):
    with SimulatedAPI(upstream, "mini-qwen") as api:
        assert send(api.client()) == "mini-qwen: Who runs the bakery?"
        assert (api.requests, api.counts) == (1, {"none": 1})


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("503", openai.InternalServerError),
        ("429", openai.RateLimitError),
        ("reset", openai.APIConnectionError),
        ("slow", openai.APITimeoutError),
    ],
)
def test_each_fault_reaches_the_client(upstream, kind, error):
    plan = Faults(1.0, (kind,), retry_after=7, slow=1.0)
    with SimulatedAPI(upstream, "mini-qwen", plan) as api:
        client = api.client(timeout=0.2 if kind == "slow" else 60)
        with pytest.raises(error) as caught:
            send(client)
        assert api.counts == {kind: 1}
    if kind == "429":
        assert caught.value.response.headers["retry-after"] == "7"


def test_faults_are_seeded_and_have_their_rate():
    def plan(seed):
        chosen = Faults(0.2, seed=seed)
        return [chosen.next() for _ in range(2_000)]

    assert plan(1) == plan(1) != plan(2)
    counts = Counter(plan(1))
    assert 320 < 2_000 - counts[None] < 480
    assert all(80 < counts[kind] < 190 for kind in ("503", "429", "reset"))
    assert set(Faults().next() for _ in range(100)) == {None}


def test_more_requests_than_the_limit_are_refused():
    now = [0.0]
    plan = Faults(limit=2, period=10, clock=lambda: now[0])
    assert [plan.next() for _ in range(3)] == [None, None, "429"]
    now[0] = 9.9
    assert plan.next() == "429"
    now[0] = 10.0
    assert [plan.next() for _ in range(3)] == [None, None, "429"]


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="unknown kinds"):
        Faults(kinds=("teapot",))
    with pytest.raises(ValueError, match="rate of 1.5"):
        Faults(1.5)


@pytest.mark.parametrize(
    ("content", "code"), [(b"{", 400), (b"[1]", 400), (b"", 413), (b"x" * 2_000, 413)]
)
def test_wrong_bodies_are_refused(upstream, monkeypatch, content, code):
    monkeypatch.setattr(faults, "MAX_BODY", 1_000)
    with SimulatedAPI(upstream, "mini-qwen") as api, httpx.Client(trust_env=False) as client:
        response = client.post(f"{api.address}/chat/completions", content=content)
        assert response.status_code == code


def test_a_server_that_is_down_is_reported(upstream):
    down = local_client("http://127.0.0.1:9/v1")
    with SimulatedAPI(down, "mini-qwen") as api, pytest.raises(openai.InternalServerError):
        send(api.client())


def test_a_program_can_be_killed_and_started_again_on_its_port(upstream):
    program = APIProcess(upstream, "mini-qwen")
    try:
        client, address = local_client(program.address), program.address
        assert send(client) == "mini-qwen: Who runs the bakery?"
        program.kill()
        with pytest.raises(openai.APIConnectionError):
            send(client)
        program.start()
        assert program.address == address
        assert send(client) == "mini-qwen: Who runs the bakery?"
    finally:
        program.kill()


def test_a_program_that_does_not_start_is_reported(monkeypatch, upstream):
    monkeypatch.setattr(faults.sys, "executable", "/bin/false")
    with pytest.raises((RuntimeError, OSError)):
        APIProcess(upstream, "mini-qwen")
