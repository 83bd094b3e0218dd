"""pydantic-ai, LangChain and LangGraph run live against the stand-in; nothing leaves the machine.

The model is small, so the tests check the protocol: which requests come, that calls and objects
follow their schemas, that states are kept. `frameworks.py` runs with every other machine out of
reach.
"""

import json
import sys
from pathlib import Path

import notebooks
import pytest

SCRIPT = Path(__file__).with_name("frameworks.py")
BOOKINGS = [{"ship": ship, "nights": nights} for ship in ("Lark", "Heron") for nights in (1, 2, 3)]
TRACED = """
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.langchain import wait_for_all_tracers
print(RunnableLambda(len).invoke("four"))
wait_for_all_tracers()
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What the frameworks did, and which addresses outside they wanted."""
    folder = tmp_path_factory.mktemp("frameworks")
    command = [sys.executable, str(SCRIPT), str(folder / "store")]
    return notebooks.run_offline(command, folder, LANGSMITH_TRACING="false")


@pytest.fixture(scope="module")
def results(ran):
    assert ran.code == 0, ran.output[-3000:]
    return json.loads(ran.output.strip().splitlines()[-1])


def test_pydantic_ai_calls_a_tool_and_reads_its_result(results):
    tools = results["pydantic_ai"]["tools"]
    assert tools["parts"] == ["user-prompt", "tool-call", "tool-return", "text"]
    assert tools["output"]


def test_pydantic_ai_gets_objects_by_a_forced_call_and_by_a_schema(results):
    agents = results["pydantic_ai"]
    assert agents["typed request"] == {"tool_choice": "required", "response_format": None}
    assert agents["typed"] in BOOKINGS
    assert agents["native request"]["response_format"]["json_schema"]["strict"] is True
    assert agents["native"] in BOOKINGS


def test_pydantic_ai_asks_for_json_when_the_schema_is_in_the_prompt(results):
    """There nothing constrains the properties: a weak model may miss them."""
    agents = results["pydantic_ai"]
    assert agents["prompted request"]["response_format"] == {"type": "json_object"}
    assert agents["prompted"] in [*BOOKINGS, "UnexpectedModelBehavior"]


def test_pydantic_ai_streams_and_reports_tokens(results):
    stream = results["pydantic_ai"]["stream"]
    assert stream["text"] and stream["tokens"] > 0


def test_a_model_of_openai_by_name_goes_through_the_responses_api(results):
    agents = results["pydantic_ai"]
    assert agents["responses"]["path"] == "/v1/responses" and agents["responses"]["output"]
    assert agents["responses typed"] in BOOKINGS


def test_langchain_calls_the_named_tool_and_gets_objects(results):
    chain = results["langchain"]
    [call] = chain["named"]
    assert call["name"] == "tide" and call["args"]["day"] in ("Monday", "Tuesday", "Wednesday")
    assert chain["json_schema"] in BOOKINGS and chain["function_calling"] in BOOKINGS


def test_langchain_streams_and_reports_tokens(results):
    stream = results["langchain"]["stream"]
    assert stream["text"] and stream["tokens"] > 0


def test_langgraphs_agent_runs_its_loop(results):
    graph = results["langgraph"]
    assert graph["agent"][:3] == ["HumanMessage", "AIMessage", "ToolMessage"] and graph["final"]
    assert json.loads(graph["results"][0]) == {"high": 4, "low": 11}


def test_a_graph_stops_resumes_and_remembers(results):
    graph = results["langgraph"]
    assert (graph["stopped"], graph["remembered"]) == (1, 2) and graph["resumed"]


def test_the_frameworks_calls_are_counted(results):
    agents, chain = results["pydantic_ai"], results["langchain"]
    assert agents["counted"] == agents["reported"] and agents["counted"][0] == 2
    assert chain["counted"] == [1, chain["stream"]["tokens"]]


def test_the_frameworks_contact_no_other_machine(results, ran):
    assert ran.outside == ""


def test_the_watch_sees_what_tracing_sends(tmp_path):
    command = [sys.executable, "-c", TRACED]
    keys = {"LANGSMITH_API_KEY": "none", "LANGCHAIN_API_KEY": "none"}
    quiet = notebooks.run_offline(command, tmp_path, LANGSMITH_TRACING="false", **keys)
    assert quiet.code == 0 and quiet.outside == "", quiet.output
    traced = notebooks.run_offline(command, tmp_path, LANGSMITH_TRACING="true", **keys)
    assert "langchain.com" in traced.outside
