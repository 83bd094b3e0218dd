"""Calls are counted once, however they are made, and a budget holds before a call is sent."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from openmodels import catalog
from openmodels.workflows.calls import Budget, BudgetExceeded, Usage, ask, ask_async, count_usage

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
RESPONSE_USAGE = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
MESSAGES = [{"role": "user", "content": "Hello"}]
PRICE = catalog.get_price("gpt-4o")  # 2.50 and 10 dollars per million


class Endpoint(ThreadingHTTPServer):
    """Answers like an OpenAI-compatible server with fixed counts, and keeps the bodies."""

    request_queue_size = 128  # connections that wait

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.status = [], 200
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.options = {
            "base_url": f"http://127.0.0.1:{self.server_port}/v1", "api_key": "none",
            "max_retries": 0,
        }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({"object": "list", "data": []})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if self.path == "/v1/embeddings":
            usage = {"prompt_tokens": 4, "total_tokens": 4}
            data = [{"object": "embedding", "index": 0, "embedding": [0.0]}]
            return self.reply({"object": "list", "data": data, "model": "m", "usage": usage})
        if self.path == "/v1/responses" and body.get("stream"):
            response = {"id": "r", "object": "response", "usage": RESPONSE_USAGE}
            return self.events([{"type": "response.completed", "response": response}])
        if self.path == "/v1/responses":
            return self.reply({"id": "r", "object": "response", "usage": RESPONSE_USAGE})
        if body.get("stream"):
            chunk = {"id": "c", "object": "chat.completion.chunk", "choices": []}
            asks = body.get("stream_options", {}).get("include_usage")
            return self.events([chunk, chunk | {"usage": USAGE}] if asks else [chunk])
        message = {"role": "assistant", "content": "Hello"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        completion = {"id": "c", "object": "chat.completion", "choices": choices, "usage": USAGE}
        return self.reply(completion)

    def events(self, events):
        lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
        self.send("text/event-stream", "".join(lines))

    def reply(self, body):
        self.send("application/json", json.dumps(body))

    def send(self, kind, text):
        self.send_response(self.server.status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    with Endpoint() as endpoint:
        yield endpoint
        endpoint.shutdown()


@pytest.fixture
def client(endpoint):
    with openai.OpenAI(**endpoint.options) as client:
        yield client


def figures(usage: Usage) -> tuple[int, int, int]:
    return usage.calls, usage.prompt_tokens, usage.completion_tokens


# --- Calls ----------------------------------------------------------------------------------------


def test_ask_sends_greedy_defaults_that_options_override(client, endpoint):
    assert ask(client, "m", "Hello", "Be brief.", max_tokens=5) == "Hello"
    assert ask(client, "m", "Hello") == "Hello"
    first, second = endpoint.bodies
    assert first["messages"] == [{"role": "system", "content": "Be brief."}, *MESSAGES]
    assert (first["temperature"], first["seed"], first["max_tokens"]) == (0, 0, 5)
    assert second["messages"] == MESSAGES and second["max_tokens"] == 200


# --- Counts ---------------------------------------------------------------------------------------


def test_every_kind_of_call_counts_and_a_look_up_does_not(client):
    with count_usage(client) as usage:
        ask(client, "m", "Hello")
        assert figures(usage) == (1, 7, 3)
        client.embeddings.create(model="m", input="Hello")
        assert figures(usage) == (2, 11, 3)
        client.responses.create(model="m", input="Hello")
        assert figures(usage) == (3, 16, 5)
        client.models.list()
        client.with_options(timeout=9).chat.completions.create(model="m", messages=MESSAGES)
        assert figures(usage) == (4, 23, 8)
        raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert figures(usage) == (5, 30, 11)
        assert raw.parse().choices[0].message.content == "Hello"
    assert usage.tokens == 41 and usage.uncounted == usage.failed == 0
    assert str(usage).startswith("5 calls, 30 + 11 tokens, ")
    assert 0 < usage.call_seconds <= usage.seconds


def test_streams_count_at_their_end(client):
    options = {"model": "m", "messages": MESSAGES, "stream": True}
    with count_usage(client) as usage:
        stream = client.chat.completions.create(**options, stream_options={"include_usage": True})
        assert figures(usage) == (1, 0, 0)
        assert len(list(stream)) == 2
        assert figures(usage) == (1, 7, 3)
        list(client.responses.create(model="m", input="Hello", stream=True))
        assert figures(usage) == (2, 12, 5)
        list(client.chat.completions.create(**options))
        unread = client.chat.completions.create(**options)
    assert figures(usage) == (4, 12, 5) and usage.uncounted == 2
    unread.close()


def test_blocks_nest_and_leave_the_client_as_it_was(client):
    before = dict(client.__dict__)
    with count_usage(client) as outer:
        ask(client, "m", "Hello")
        with count_usage(client) as inner:
            ask(client, "m", "Hello")
        ask(client, "m", "Hello")
    assert (outer.calls, inner.calls) == (3, 1)
    assert {*client.__dict__} - {"chat"} == {*before} - {"chat"}
    ask(client, "m", "Hello")
    assert (outer.calls, inner.calls) == (3, 1)
    ended = inner.seconds
    assert inner.seconds == ended < outer.seconds


def test_threads_and_asyncio_tasks_are_counted_exactly(client, endpoint):
    with count_usage(client) as usage, ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda number: ask(client, "m", str(number)), range(40)))) == 40
    assert figures(usage) == (40, 280, 120)

    async def run() -> Usage:
        async with openai.AsyncOpenAI(**endpoint.options) as client:
            with count_usage(client) as usage:
                await asyncio.gather(*(ask_async(client, "m", str(n)) for n in range(20)))
                stream = await client.chat.completions.create(
                    model="m", messages=MESSAGES, stream=True,
                    stream_options={"include_usage": True},
                )  # fmt: skip
                assert [event async for event in stream]
        return usage

    assert figures(asyncio.run(run())) == (21, 147, 63)


def test_a_call_that_fails_counts_as_failed(client, endpoint):
    endpoint.status = 500
    with count_usage(client) as usage, pytest.raises(openai.InternalServerError):
        ask(client, "m", "Hello")
    assert figures(usage) == (1, 0, 0) and usage.failed == 1


def test_what_the_tokens_cost_at_a_price_of_the_catalogue():
    usage = Usage(prompt_tokens=2_000_000, completion_tokens=500_000)
    assert usage.dollars(PRICE) == pytest.approx(2 * 2.5 + 0.5 * 10)
    with pytest.raises(ValueError, match="DeepSeek charges in CNY"):
        usage.dollars(catalog.get_price("deepseek-v4.1-flash", tariff="peak"))


# --- Budgets --------------------------------------------------------------------------------------


def test_a_call_beyond_the_budget_is_not_sent(client, endpoint):
    with count_usage(client, Budget(calls=2)) as usage:
        for _ in range(2):
            ask(client, "m", "Hello")
        with pytest.raises(BudgetExceeded, match="the budget is 2 calls, .* total to 3; used"):
            ask(client, "m", "Hello")
    assert usage.calls == len(endpoint.bodies) == 2


def test_tokens_that_a_call_may_need_count_before_it_is_sent(client, endpoint):
    with count_usage(client, Budget(tokens=100)) as usage:
        with pytest.raises(BudgetExceeded, match="the budget is 100 tokens"):
            ask(client, "m", "Hello", max_tokens=100)
        with pytest.raises(BudgetExceeded, match="the budget is 100 tokens"):
            ask(client, "m", "word " * 100, max_tokens=10)
        ask(client, "m", "Hello", max_tokens=80)
        assert usage.tokens == 10
        ask(client, "m", "Hello", max_tokens=70)  # what was reserved is free again
    assert len(endpoint.bodies) == 2


def test_calls_side_by_side_cannot_exceed_a_budget_together(client, endpoint):
    def call(_: int) -> bool:
        try:
            return bool(ask(client, "m", "Hello"))
        except BudgetExceeded:
            return False

    with count_usage(client, Budget(calls=5)) as usage, ThreadPoolExecutor(8) as pool:
        sent = sum(pool.map(call, range(30)))
    assert sent == usage.calls == len(endpoint.bodies) == 5


def test_time_and_money_are_limited(client, endpoint):
    with count_usage(client, Budget(seconds=0.05)):
        time.sleep(0.06)
        with pytest.raises(BudgetExceeded, match="the budget of 0.05 s is used up"):
            ask(client, "m", "Hello")
    with count_usage(client, Budget(coins=1, price=PRICE)) as usage:
        usage.spend(0.9)
        with pytest.raises(BudgetExceeded, match="the budget is 1 coins"):
            usage.spend(0.2)
        with pytest.raises(BudgetExceeded, match="the budget is 1 coins"):
            ask(client, "m", "Hello", max_tokens=20_000)
        ask(client, "m", "Hello")
        assert usage.coins == pytest.approx(0.9 + (7 * 2.5 + 3 * 10) / 1e6)
    assert len(endpoint.bodies) == 1


def test_an_inner_budget_that_refuses_leaves_the_outer_count(client):
    with count_usage(client) as outer, count_usage(client, Budget(calls=0)):
        with pytest.raises(BudgetExceeded):
            ask(client, "m", "Hello")
    assert outer.calls == 0


def test_a_budget_holds_for_asynchronous_calls(endpoint):
    async def run() -> None:
        async with openai.AsyncOpenAI(**endpoint.options) as client:
            with count_usage(client, Budget(calls=3)):
                calls = (ask_async(client, "m", "Hello") for _ in range(9))
                results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, BudgetExceeded) for result in results) == 6

    asyncio.run(run())
    assert len(endpoint.bodies) == 3


@pytest.mark.parametrize("limits", [{"calls": -1}, {"seconds": float("nan")}, {"coins": -0.1}])
def test_a_negative_budget_is_refused(limits):
    with pytest.raises(ValueError, match="must be at least 0"):
        Budget(**limits)
