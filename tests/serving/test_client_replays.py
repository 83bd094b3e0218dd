"""Requests as other clients send them: instructor, litellm, openai-agents, JavaScript's clients.

The bodies are sent raw, with the fields and the history that each client adds. `test_tool_choice`
replays pydantic-ai, LangChain and smolagents; `test_frameworks` runs some of them.
"""

import json

import jsonschema
import pytest

from openmodels.harbour.tools import SCHEMAS

MODEL = "mini-qwen"
TIDE = "What is the tide on Tuesday?"
RESULT = json.dumps({"high": 4, "low": 11})
BOOKING = {
    "type": "object",
    "properties": {"ship": {"enum": ["Lark", "Heron"], "title": "Ship", "type": "string"},
                   "nights": {"enum": [1, 2, 3], "title": "Nights", "type": "integer"}},
    "required": ["ship", "nights"],
    "title": "Booking",
}  # fmt: skip
# zod's schemas name their dialect and close their objects
ZOD = BOOKING | {
    "$schema": "http://json-schema.org/draft-07/schema#", "additionalProperties": False,
}  # fmt: skip
TOOL = SCHEMAS["tide"]
FLAT_TOOL = {
    "type": "function", "name": "tide", "description": TOOL["function"]["description"],
    "parameters": TOOL["function"]["parameters"], "strict": True,
}  # fmt: skip
CALL = {"id": "call_1", "type": "function",
        "function": {"name": "tide", "arguments": '{"day": "Tuesday"}'}}  # fmt: skip


@pytest.fixture
def chat(http):
    """Return a function that posts a body to the chat completions and returns the choice."""

    def post(messages: list, headers: dict | None = None, **fields) -> dict:
        body = {"model": MODEL, "messages": messages, "temperature": 0, **fields}
        response = http.post("/v1/chat/completions", json=body, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]

    return post


@pytest.fixture
def respond(http):
    """Return a function that posts a body to the responses and returns the response."""

    def post(items: list | str, **fields) -> dict:
        body = {"model": MODEL, "input": items, "temperature": 0, **fields}
        response = http.post("/v1/responses", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    return post


def user(text: str) -> dict:
    """Return a message of a user."""
    return {"role": "user", "content": text}


def events(text: str) -> list[dict]:
    """Return the JSON of a stream's events."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def reads_result(text: str) -> bool:
    """Return whether an answer gives both times of RESULT."""
    return "4" in text and "11" in text


# instructor


def test_instructor_with_tools_retries_after_an_error(chat):
    """The retry has the dumped message of the model, with null fields, and the error as result."""
    function = {"name": "Booking", "description": "Correctly extracted `Booking`",
                "parameters": BOOKING}  # fmt: skip
    fields = {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "Booking"}},
    }
    choice = chat([user("Book a berth for the Heron.")], **fields)
    [call] = choice["message"]["tool_calls"]
    jsonschema.validate(json.loads(call["function"]["arguments"]), BOOKING)
    assert choice["finish_reason"] == "tool_calls"
    history = choice["message"] | {
        "refusal": None, "annotations": None, "audio": None, "function_call": None,
    }  # fmt: skip
    error = {"role": "tool", "tool_call_id": call["id"], "name": "Booking",
             "content": "Validation Error found:\nnights\nRecall the function"}  # fmt: skip
    again = chat([user("Book a berth for the Heron."), history, error], **fields)
    jsonschema.validate(
        json.loads(again["message"]["tool_calls"][0]["function"]["arguments"]), BOOKING
    )


@pytest.mark.parametrize("strict", [True, False])
def test_instructor_with_a_schema_or_any_json(chat, strict):
    system = f"Understand the content and provide JSON: {json.dumps(BOOKING)}"
    schema = {"name": "Booking", "schema": BOOKING, "strict": True}
    kinds = {True: {"type": "json_schema", "json_schema": schema}, False: {"type": "json_object"}}
    messages = [{"role": "system", "content": system}, user("Book a berth for the Heron.")]
    choice = chat(messages, response_format=kinds[strict], max_tokens=200)
    value = json.loads(choice["message"]["content"]) if choice["finish_reason"] == "stop" else {}
    assert isinstance(value, dict)
    if strict:
        jsonschema.validate(value, BOOKING)


# litellm


def test_litellm_sends_its_own_history(chat):
    history = {"role": "assistant", "content": None, "tool_calls": [CALL | {"index": 0}],
               "function_call": None, "provider_specific_fields": {"refusal": None}}  # fmt: skip
    result = {"role": "tool", "tool_call_id": "call_1", "name": "tide", "content": RESULT}
    fields = {"tools": [TOOL], "tool_choice": "auto", "drop_params": True, "user": "ada"}
    assert reads_result(chat([user(TIDE), history, result], **fields)["message"]["content"])


def test_litellm_streams_with_usage(http):
    body = {"model": MODEL, "messages": [user(TIDE)], "tools": [TOOL], "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip
    *chunks, last = events(http.post("/v1/chat/completions", json=body).text)
    assert last["choices"] == [] and last["usage"]["completion_tokens"] > 0
    assert all("usage" not in chunk or chunk["usage"] is None for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_litellm_through_ollamas_own_endpoint(http):
    """Its provider `ollama_chat` sends the calls' arguments as objects."""
    call = {"function": {"name": "tide", "arguments": {"day": "Tuesday"}}}
    messages = [
        user(TIDE),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": RESULT, "tool_call_id": "call_1"},
    ]
    body = {"model": MODEL, "messages": messages, "options": {"temperature": 0}, "stream": False,
            "tools": [TOOL]}  # fmt: skip
    assert reads_result(http.post("/api/chat", json=body).json()["message"]["content"])


# openai-agents


def test_openai_agents_sends_the_items_back(respond):
    """The next turn repeats every item of the first response, with ids and status."""
    fields = {"instructions": "You are the clerk of Port Lark.", "tools": [FLAT_TOOL],
              "include": [], "store": False, "stream": False}  # fmt: skip
    first = respond(TIDE, **fields)
    [call] = [item for item in first["output"] if item["type"] == "function_call"]
    assert json.loads(call["arguments"]) == {"day": "Tuesday"} and call["status"] == "completed"
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": RESULT}
    items = [{"role": "user", "content": TIDE}, *first["output"], result]
    second = respond(items, **fields)
    [message] = second["output"]
    assert reads_result(message["content"][0]["text"])
    third = respond(
        [*items, message, {"role": "user", "content": "Who runs the bakery?"}], **fields
    )
    assert third["status"] == "completed" and third["usage"]["input_tokens"] > 0


def test_openai_agents_with_an_output_type(respond):
    output = {"type": "json_schema", "name": "final_output", "strict": True,
              "schema": BOOKING | {"additionalProperties": False}}  # fmt: skip
    response = respond([user("Book a berth.")], text={"format": output}, max_output_tokens=200)
    jsonschema.validate(json.loads(response["output"][-1]["content"][0]["text"]), BOOKING)


# JavaScript


def test_openais_javascript_client_with_zod(chat):
    headers = {"X-Stainless-Lang": "js", "X-Stainless-Helper-Method": "chat.completions.parse"}
    schema = {"name": "booking", "strict": True, "schema": ZOD}
    fields = {"response_format": {"type": "json_schema", "json_schema": schema}}
    choice = chat([user("Book a berth.")], headers, max_completion_tokens=200, **fields)
    jsonschema.validate(json.loads(choice["message"]["content"]), ZOD)


def test_langchain_js_with_a_named_tool(chat):
    function = {"name": "extract", "description": "A berth", "parameters": ZOD}
    fields = {
        "n": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "stream": False,
        "tools": [{"type": "function", "function": function}], "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "extract"}},
    }  # fmt: skip
    [call] = chat([user("Book a berth.")], **fields)["message"]["tool_calls"]
    jsonschema.validate(json.loads(call["function"]["arguments"]), ZOD)


def test_the_ai_sdk_over_chat_completions(http):
    """`@ai-sdk/openai-compatible`: parts for the user, an empty text beside the calls."""
    function = TOOL["function"] | {
        "parameters": TOOL["function"]["parameters"]
        | {"$schema": ZOD["$schema"], "additionalProperties": False}
    }
    body = {
        "model": MODEL, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, "tool_choice": "auto",
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": TIDE}]},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": RESULT},
        ],
    }  # fmt: skip
    response = http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events(response.text)
    assert last["usage"]["prompt_tokens"] > 0
    assert reads_result(
        "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    )


def test_the_ai_sdk_over_responses(http):
    """`@ai-sdk/openai`: input parts, items with ids, the events of a stream."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "tide",
            "arguments": '{"day": "Tuesday"}'}  # fmt: skip
    body = {
        "model": MODEL, "temperature": 0, "stream": True, "tools": [FLAT_TOOL],
        "tool_choice": "auto", "include": ["reasoning.encrypted_content"], "store": False,
        "input": [
            {"role": "developer", "content": "You are the clerk of Port Lark."},
            {"role": "user", "content": [{"type": "input_text", "text": TIDE}]},
            call,
            {"type": "function_call_output", "call_id": "call_1", "output": RESULT},
        ],
    }  # fmt: skip
    stream = events(http.post("/v1/responses", json=body).text)
    kinds = [event["type"] for event in stream]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    deltas = [event["delta"] for event in stream if event["type"] == "response.output_text.delta"]
    assert reads_result("".join(deltas))


# dspy


def test_dspy_falls_back_to_any_json(chat):
    """It asks in fields between brackets first, then for JSON."""
    prompt = (
        "[[ ## question ## ]]\nWho runs the bakery?\n\nRespond with the field `[[ ## answer ## ]]`."
    )
    assert chat([user(prompt)], max_tokens=60)["message"]["content"]
    choice = chat([user(prompt)], max_tokens=100, response_format={"type": "json_object"})
    assert choice["message"]["content"].lstrip().startswith("{")
