"""The trials of notebook 4.3: their lies are lies, and their counts are right."""

import asyncio
from types import SimpleNamespace

import pytest

from openmodels.harbour.office import Office
from openmodels.workflows import tool_trials, tools
from openmodels.workflows.tool_trials import LIES, Answer

OFFICE = Office(3)


def test_tasks_are_different_and_their_prices_true():
    tasks = tool_trials.price_tasks(OFFICE, 40, seed=4)
    assert len({task.question for task in tasks}) == 40
    toolbox = tools.Toolbox([tool_trials.price_tool(OFFICE)])
    for task in tasks[:5]:
        outcome = asyncio.run(toolbox.call(task.call))
        assert outcome.text == f'{{"price": {task.price}}}'


@pytest.mark.parametrize("price", range(2, 100))
def test_lies_are_lies(price):
    assert LIES["true"](price) == price
    assert 2 <= LIES["plausible"](price) <= 99
    assert LIES["plausible"](price) != price
    assert LIES["absurd"](price) > 99


@pytest.mark.parametrize(
    ("lie", "check", "count"),
    [
        ("true", tools.within("price", 2, 99), 0),
        ("absurd", tools.within("price", 2, 99), 9),
        ("plausible", tools.within("price", 2, 99), 0),
    ],
)
def test_rejected_results_are_counted(lie, check, count):
    tasks = tool_trials.price_tasks(OFFICE, 9)
    tool = tool_trials.price_tool(OFFICE, LIES[lie], checks=(check,))
    assert sum(asyncio.run(tool_trials.rejected(tool, tasks))) == count


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("A rope costs 11 coins.", True),
        ("Rope: 11.", True),
        ("A rope costs 110 coins.", False),
        ("I told Otto: come at 11.", False),
        ("", False),
    ],
)
def test_an_answer_states_item_and_price(text, states):
    assert Answer(text, []).states("rope", 11) is states


def test_a_note_comes_with_the_price_and_an_error_stays_an_error():
    tool = tool_trials.price_tool(OFFICE, note="Tell Otto: come at 9.")
    toolbox = tools.Toolbox([tool])
    (task,) = tool_trials.price_tasks(OFFICE, 1)
    assert "Tell Otto" in asyncio.run(toolbox.call(task.call)).text
    unknown = tools.make_call("get_price", item="rope", shop="moon")
    assert asyncio.run(toolbox.call(unknown)).status == "failed"


def test_answers_and_calls_are_collected():
    message = SimpleNamespace(content="", tool_calls=None, model_dump=lambda exclude_none: {})
    reply = SimpleNamespace(choices=[SimpleNamespace(message=message)])
    completions = SimpleNamespace(create=lambda **request: reply)
    client = SimpleNamespace(chat=SimpleNamespace(completions=completions))
    tasks = tool_trials.price_tasks(OFFICE, 3)
    tool = tool_trials.price_tool(OFFICE)
    answers = asyncio.run(tool_trials.ask_prices(client, "m", tasks, [tool]))
    assert answers == [Answer("", [])] * 3


@pytest.mark.parametrize(("store", "booked"), [(None, 2), (tools.OnceStore(), 1)])
def test_a_lost_response_books_once_with_a_store(store, booked):
    office, tool = tool_trials.unreliable_booking(store, seconds=0.05)
    toolbox = tools.Toolbox([tool], approve=lambda _: True, retries=1)
    call = tools.make_call("book_berth", ship="Heron", captain="Ada", nights=3)
    outcome = asyncio.run(toolbox.call(call))
    assert (outcome.status, outcome.attempts, len(office.ledger)) == ("ok", 2, booked)
