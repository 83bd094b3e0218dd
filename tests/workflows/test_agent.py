"""The agent's loop ends for a stated reason, memories and plans change what is sent, scores."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import openai
import pytest

from openmodels import catalog
from openmodels.harbour import code, errands
from openmodels.harbour.errand_talk import calling
from openmodels.isolation import confine
from openmodels.workflows import agent
from openmodels.workflows.agent import Budget, run_agent

TOOLS = list(errands.OFFICE_SCHEMAS.values())
PRICE = ("get_price", {"item": "rope", "shop": "chandlery"})


class Endpoint(ThreadingHTTPServer):
    """Answers each request with the next entry of a script: text, or calls."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.bodies = [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        entry = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        message = {"role": "assistant", "content": entry if isinstance(entry, str) else ""}
        if not isinstance(entry, str):
            message = agent.numbered(calling(*entry))
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
        body = {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint():
    server = Endpoint()
    yield server
    server.shutdown()
    server.server_close()


def run(endpoint, *script, budget=None, call=lambda name, arguments: {"price": 30}):
    endpoint.script[:] = script
    url = f"http://127.0.0.1:{endpoint.server_port}/v1"
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    return run_agent(client, "m", "What does rope cost?", TOOLS, call, budget)


# --- The loop -------------------------------------------------------------------------------------


def test_an_answer_ends_the_loop_and_the_result_is_sent_back(endpoint):
    result = run(endpoint, [PRICE], "30 coins.")
    assert (result.stopped, result.answer) == ("answer", "30 coins.")
    assert endpoint.bodies[1]["messages"][-1]["content"] == '{"price": 30}'
    assert (result.usage.calls, result.usage.tokens) == (2, 120)


def test_a_call_that_is_repeated_is_not_run_a_third_time(endpoint):
    performed = []
    result = run(endpoint, [PRICE], call=lambda *pair: performed.append(pair))
    assert result.stopped == "repeated call" and len(performed) == agent.REPEATS
    assert result.answer is None


@pytest.mark.parametrize(
    ("budget", "unit"),
    [
        (Budget(calls=2), "2 calls"),
        (Budget(tokens=1_000), "1000 tokens"),
        (Budget(seconds=0), "0 s"),
        (Budget(coins=0.0001, price=catalog.get_price("gpt-4o")), "coins"),
    ],
)
def test_each_limit_ends_the_loop_before_the_next_call(endpoint, budget, unit):
    script = [[("get_price", {"item": str(n), "shop": "market"})] for n in range(9)]
    result = run(endpoint, *script, budget=budget)
    assert unit in result.stopped and result.answer is None
    assert len(endpoint.bodies) < 9


def test_arguments_that_are_not_an_object_are_empty():
    for text in ("[1]", "{", None):
        message = {"tool_calls": [{"function": {"name": "tide", "arguments": text}}]}
        assert agent.requests(message) == [("tide", {})]


# --- Memory and plans -----------------------------------------------------------------------------

TALK = [
    {"role": "user", "content": "one"},
    calling(PRICE),
    {"role": "tool", "content": "30"},
    {"role": "assistant", "content": "30 coins."},
    {"role": "user", "content": "two"},
    calling(PRICE),
    {"role": "tool", "content": "31"},
]


def test_memories():
    assert agent.everything(TALK) == TALK
    assert agent.last_turn(TALK) == TALK[4:]
    assert agent.answers_only(TALK) == [TALK[0], *TALK[3:]]


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ('["get_price: rope, chandlery"]', [PRICE]),
        ('["tide: Monday", "fly: rope", "get_price: rope"]', [("tide", {"day": "Monday"})]),
        (
            '["send_message: Ada, come, now"]',
            [("send_message", {"to": "Ada", "text": "come, now"})],
        ),
        ("nonsense", []),
        ("3", []),
    ],
)  # fmt: skip
def test_plans(text, plan):
    assert agent.parse_plan(text, TOOLS) == plan


def test_reads_run_from_the_plan_and_writes_stay_with_the_model():
    plan = '["get_price: rope, chandlery", "send_message: Ada, the price of rope"]'
    sent = []

    def ask(messages, tools):
        sent.append(messages)
        return {"role": "assistant", "content": "done"}

    planned = agent.planning(ask, lambda request: plan, ["get_price"])
    first = planned([TALK[0]], TOOLS)
    assert agent.requests(first) == [PRICE] and not sent
    planned([TALK[0], first, TALK[2]], TOOLS)
    assert len(sent) == 1
    unplanned = agent.planning(ask, lambda request: "?", ["get_price"])
    assert unplanned([TALK[0]], TOOLS)["content"] == "done"


def test_drawn_errands_have_exactly_these_tools():
    names = ("get_price", "tide", "ferry_times")
    samples = agent.drawn(6, names, kinds=("parallel",))
    assert all([t["function"]["name"] for t in e.tools] == list(names) for e in samples)
    called = {name for e in samples for turn in e.turns for step in turn.calls for name, _ in step}
    assert called <= set(names) and all(len(e.turns) == 1 for e in samples)


# --- Scores ---------------------------------------------------------------------------------------


def errand():
    return next(e for e in errands.instances("chain", 60, seed=3) if e.scenario == "captain")


def replay(messages):
    script = iter([m for m in messages if m["role"] == "assistant"])
    return lambda context, tools: next(script)


def test_the_right_trajectory_is_complete():
    sample = errand()
    [result] = agent.run_errands([sample], replay(sample.messages))
    assert agent.trajectory(sample, result) == agent.Trajectory(1.0, True, 0, 0, True)


def test_extra_writes_and_a_wrong_order_are_seen():
    sample = errand()
    first, second = (m for m in sample.messages if m.get("tool_calls"))
    extra = calling(("pay", {"name": "Nobody", "coins": 1}))
    [result] = agent.run_errands(
        [sample], replay([second, first, extra, {"role": "assistant", "content": "done"}])
    )
    scored = agent.trajectory(sample, result)
    assert scored == agent.Trajectory(1.0, False, 1, 1, False)


def test_pass_hat():
    assert [agent.pass_hat(k, 3, 4) for k in (1, 2, 3, 4)] == [0.75, 0.5, 0.25, 0]
    with pytest.raises(ValueError, match="at least 5 runs"):
        agent.pass_hat(5, 3, 4)


# --- An agent that generates code -----------------------------------------------------------------


class Coder:
    """A client whose completions are a script of bodies."""

    def __init__(self, *bodies):
        self.bodies, self.prompts = list(bodies), []
        self.completions = SimpleNamespace(create=self.create)

    def create(self, **request):
        self.prompts.append(request["prompt"])
        body = self.bodies[min(len(self.prompts), len(self.bodies)) - 1]
        return SimpleNamespace(choices=[SimpleNamespace(text=body)])


def function():
    return next(iter(code.functions(1, seed=4)))


def complete(coder, sample, **options):
    confined = not confine.problem()
    return agent.complete_function(coder, "m", sample, confined=confined, **options)


def test_a_failed_body_is_tried_again_with_its_error():
    sample = function()
    coder = Coder("    return nothing\n", sample.body)
    result = complete(coder, sample, show_error=True)
    assert (result.attempts, result.error, result.source) == (2, "", sample.source)
    assert coder.prompts[0] == sample.head
    assert "return nothing -> NameError" in coder.prompts[1].splitlines()[0]


def test_attempts_are_bounded():
    result = complete(Coder("    while True: pass\n"), function(), attempts=1)
    assert result.attempts == 1 and result.error


def test_the_tests_that_judge_are_not_the_tests_that_the_agent_sees():
    sample = function()
    visible, hidden = agent.split_tests(sample)
    assert sorted(visible.calls + hidden.calls) == sorted(sample.calls)
    assert len(visible.calls) >= 3 and len(hidden.calls) >= 3


def test_completed_functions_are_judged_by_the_other_tests():
    sample = function()
    confined = not confine.problem()
    right = agent.complete_all(Coder(sample.body), "m", [sample], confined=confined)
    assert right == ([True], 1)
    wrong = agent.complete_all(Coder("    return None\n"), "m", [sample], confined=confined)
    assert wrong == ([False], 3)


def test_successes_are_counted_over_runs_with_their_own_seeds():
    sample, seeds = errand(), []

    def ask(messages, tools, temperature, seed):
        seeds.append((temperature, seed))
        step = sum(m["role"] == "assistant" for m in messages)
        replies = [m for m in sample.messages if m["role"] == "assistant"]
        return replies[step] if seed else {"role": "assistant", "content": "no"}

    assert agent.successes([sample], ask, 3, 0.7) == [2]
    assert set(seeds) == {(0.7, 0), (0.7, 1), (0.7, 2)}


def test_path_scores_have_a_value_for_each_errand():
    sample = errand()
    results = agent.run_errands([sample], replay(sample.messages))
    assert set(map(tuple, agent.path_scores([sample], results).values())) == {(True,)}
