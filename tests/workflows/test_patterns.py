"""Workflow patterns are scored on held-out tasks, and compared at equal cost with intervals."""

import json
import threading

import httpx
import openai
import pytest

from openmodels.harbour.tools import OFFICE_SCHEMAS
from openmodels.workflows import calls, patterns
from openmodels.workflows import pattern_tasks as tasks

MAKERS = (
    tasks.text_questions, tasks.broken_orders, tasks.compound_questions, tasks.follow_ups,
    tasks.tool_requests, tasks.readings,
)  # fmt: skip


# --- Tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", MAKERS)
def test_tasks_are_seeded_different_and_accept_their_own_answer(maker):
    drawn = maker(8, seed=1)
    assert drawn == maker(8, seed=1)
    assert drawn != maker(8, seed=2)
    assert len({tasks.transcript(task) for task in drawn if not task.system}) in (0, 8)
    assert all(task.is_right(task.answer) for task in drawn)
    assert not any(task.is_right("The weather is fine.") for task in drawn)


def test_sentences_are_right_in_any_order_and_without_citations():
    task = tasks.Task("", "The bakery opens at 6. Otto runs the fishmonger.")
    assert task.is_right("Otto runs the fishmonger. [2] The bakery opens at 6. [1]")
    assert not task.is_right("The bakery opens at 6.")
    assert not task.is_right(f"{task.answer} The teahouse opens at 10.")


def test_json_is_right_if_it_has_the_same_value():
    task = tasks.Task("", '{"a": 1, "b": "x"}')
    assert task.is_right('{"b":"x","a":1}')
    assert not task.is_right('{"a": "1", "b": "x"}')
    assert not task.is_right('{"a": 1')


def test_broken_orders_have_a_second_error_behind_the_first():
    for task in tasks.broken_orders(20):
        [text] = task.parts
        with pytest.raises(ValueError, match="line"):
            json.loads(text)
        assert tasks.order_problem(text) in task.user
        assert tasks.order_problem(task.answer) is None
        assert task.hidden and task.hidden not in task.user


def test_a_follow_up_names_no_shop_and_its_answer_does():
    for task in tasks.follow_ups(20):
        shop = task.answer.split()[1]
        assert shop not in task.user
        assert shop in task.earlier[0]["content"]
        assert task.messages == [*task.earlier, {"role": "user", "content": task.user}]
        assert tasks.transcript(task).endswith(f"Question: {task.user}")


def test_a_reading_has_its_answer_in_one_passage_or_none():
    drawn = tasks.readings(40)
    unanswered = [task for task in drawn if task.answer == tasks.UNANSWERED]
    assert 0 < len(unanswered) < 20
    for task in drawn:
        *passages, question = task.parts
        assert len(passages) == tasks.PASSAGES
        assert task.user == tasks.cited_prompt(tuple(passages), question)


# --- Parts of workflows ---------------------------------------------------------------------------


def test_side_by_side_runs_all_items_at_once_and_in_order():
    barrier = threading.Barrier(3, timeout=20)

    def wait(item):
        barrier.wait()
        return 2 * item

    assert patterns.side_by_side(wait, [1, 2, 3]) == [2, 4, 6]
    assert patterns.side_by_side(wait, []) == []


def test_the_majority_is_the_most_frequent_text_or_the_first():
    assert patterns.majority(["b", "a", "a"]) == "a"
    assert patterns.majority(["b", "a", "c"]) == "b"


@pytest.mark.parametrize("text", ["", "no JSON", '{"a": 1}', '["a", 1]', "3"])
def test_strings_rejects_everything_but_a_list_of_strings(text):
    assert patterns.strings(text) == []
    assert patterns.strings('["a", "b"]') == ["a", "b"]


def server(reply):
    """Return a client whose server answers each request with `reply(body)` as the message."""

    def respond(request):
        message = {"role": "assistant", **reply(json.loads(request.content))}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
        return httpx.Response(200, json=body | {"choices": choices, "usage": usage})

    transport = httpx.Client(transport=httpx.MockTransport(respond))
    return openai.OpenAI(api_key="none", base_url="http://server/v1", http_client=transport)


def calling(arguments):
    function = {"name": "tide", "arguments": arguments}
    return {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (calling('{"day":"Sunday"}'), '{"name": "tide", "arguments": {"day": "Sunday"}}'),
        (calling('{"day":'), '{"day":'),
        ({"content": "I have no tool for that."}, "I have no tool for that."),
    ],
)
def test_a_tool_call_becomes_json_and_other_answers_stay_text(message, expected):
    bodies = []
    client = server(lambda body: bodies.append(body) or message)
    tools = [OFFICE_SCHEMAS["tide"]]
    assert patterns.tool_call(client, "m", "Tide?", tools, max_tokens=9) == expected
    assert bodies[0]["tools"] == tools
    assert bodies[0]["max_tokens"] == 9


# --- Measurement ----------------------------------------------------------------------------------


def test_measure_scores_each_task_and_counts_every_call():
    client = server(lambda body: {"content": body["messages"][-1]["content"].upper()})
    drawn = [tasks.Task("a", "A"), tasks.Task("b", "wrong"), tasks.Task("c", "C")]

    def twice(task):
        calls.ask(client, "m", "draft")
        return calls.ask(client, "m", task.user)

    run = patterns.measure(client, twice, drawn, workers=2)
    assert run.answers == ("A", "B", "C")
    assert run.right == (True, False, True)
    assert (run.calls, run.prompt_tokens, run.completion_tokens) == (6, 42, 18)
    assert run.tokens_per_task == 20
    assert str(run) == "2 of 3 right, 67 % (21 to 94); per task 2.0 calls, 20 tokens"


def test_measure_raises_what_the_workflow_raises():
    def fail(task):
        raise RuntimeError("no server")

    with pytest.raises(RuntimeError, match="no server"):
        patterns.measure(server(lambda body: {}), fail, [tasks.Task("a", "A")])


# --- Comparison -----------------------------------------------------------------------------------


def run_of(right, tokens=10):
    return patterns.Run(("",) * len(right), tuple(right), len(right), tokens, 0, 1.0)


def test_a_comparison_uses_the_run_with_the_same_tokens():
    bad, good = run_of([False] * 20, 200), run_of([True] * 20, 300)
    gained = patterns.Comparison("a", bad, good)
    assert gained.verdict == "better"
    assert patterns.Comparison("b", good, bad).verdict == "worse"
    assert patterns.Comparison("c", bad, good, same_tokens=good).verdict == "not clear"
    header, row = patterns.rows([gained])
    assert len(header) == len(row)
    assert row[:4] == ("a", "0 % (0 to 16)", "–", "100 % (84 to 100)")
    assert row[4:] == ("better", "10 / – / 15", "1.0")
    assert gained.points.startswith("+100.0 points (") and gained.points.endswith(", better")
