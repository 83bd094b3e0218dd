"""OpenAI's Responses API through the official client, which parses every object and event."""

import asyncio
import base64
import json
import socket
from typing import Literal

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel
from server_helpers import MESSAGES, check_alive, picture, wait_until

from openmodels.harbour.tools import SCHEMAS
from openmodels.serving import openai_responses
from openmodels.serving.generation import Generator
from openmodels.serving.model_store import ApiError
from openmodels.serving.requests import Fields

MODEL = "mini-qwen"
QUESTION = MESSAGES[0]["content"]
TIDE = {"role": "user", "content": "What is the tide on Tuesday?"}
TIDE_RESULT = json.dumps({"high": 4, "low": 11})
TIDE_TOOL = {"type": "function", **SCHEMAS["tide"]["function"]}
CALL = {"type": "function_call", "call_id": "call_1", "name": "tide", "arguments": "{}"}
CALL_OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": TIDE_RESULT}


class Digit(BaseModel):
    """The schema of a response."""

    n: Literal[3, 4]


@pytest.fixture(scope="module")
def openai_client(server):
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def create(openai_client):
    def create_greedily(**fields):
        return openai_client.responses.create(**{"model": MODEL, "temperature": 0} | fields)

    return create_greedily


@pytest.fixture(scope="module")
def complete(openai_client):
    """Return a function that sends messages to /v1/chat/completions."""

    def complete_greedily(messages, **fields):
        return openai_client.chat.completions.create(
            model=MODEL, messages=messages, temperature=0, **fields
        )

    return complete_greedily


def check_types(parsed):
    """Check that an object or event of the client has all fields that its type requires."""
    type(parsed).model_validate(parsed.to_dict())


def test_a_response_agrees_with_the_chat_completion(create, complete):
    response, completion = create(input=QUESTION), complete(MESSAGES)
    check_types(response)
    message = completion.choices[0].message
    assert response.output_text == message.content == "2 + 2 = 4"
    assert response.status == "completed" and response.incomplete_details is None
    assert response.model == MODEL and response.temperature == 0 and response.error is None
    reasoning, output = response.output
    assert (reasoning.type, output.type, output.role) == ("reasoning", "message", "assistant")
    assert reasoning.summary[0].text == message.reasoning
    assert response.usage.input_tokens == completion.usage.prompt_tokens
    assert response.usage.output_tokens == completion.usage.completion_tokens
    assert response.usage.total_tokens == completion.usage.total_tokens
    assert create(input=QUESTION).id != response.id


def test_thinking_can_be_switched_off(create):
    [output] = create(input=QUESTION, reasoning={"effort": "none"}).output
    assert output.type == "message" and output.content[0].text == "2 + 2 = 4"


TURNS = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Good day."},
    {"role": "user", "content": QUESTION},
]
FORMS = {
    "text parts": (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]},
        MESSAGES,
    ),
    "instructions": (
        {"input": QUESTION, "instructions": "Be short."},
        [{"role": "system", "content": "Be short."}, *MESSAGES],
    ),
    "a developer's message": (
        {"input": [{"type": "message", "role": "developer", "content": "Be short."}, *MESSAGES]},
        [{"role": "system", "content": "Be short."}, *MESSAGES],
    ),
    "earlier turns": (
        {
            "input": [
                TURNS[0],
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {
                    "type": "message",
                    "id": "msg_1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "Good day.", "annotations": []}],
                },
                TURNS[2],
            ]
        },
        TURNS,
    ),
    "two calls and their results": (
        {
            "input": [
                TIDE,
                {"role": "assistant", "content": "I look."},
                CALL,
                CALL | {"call_id": "call_2"},
                CALL_OUTPUT,
                CALL_OUTPUT
                | {
                    "call_id": "call_2",
                    "output": [{"type": "input_text", "text": TIDE_RESULT}],
                },
            ]
        },
        [
            TIDE,
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [
                    {
                        "id": call_id,
                        "type": "function",
                        "function": {"name": "tide", "arguments": "{}"},
                    }
                    for call_id in ("call_1", "call_2")
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "name": "tide", "content": TIDE_RESULT},
            {"role": "tool", "tool_call_id": "call_2", "name": "tide", "content": TIDE_RESULT},
        ],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_input_gives_the_prompt_of_its_messages(create, complete, form):
    fields, messages = FORMS[form]
    response, completion = create(**fields), complete(messages)
    assert response.output_text == completion.choices[0].message.content
    assert response.usage.input_tokens == completion.usage.prompt_tokens


def test_a_result_gets_the_name_of_its_tool():
    fields = Fields({"model": MODEL, "input": [TIDE, CALL, CALL_OUTPUT]})
    request, _ = openai_responses.chat_request(fields)
    question, call, result = request.body["messages"]
    assert question["role"] == "user" and call["tool_calls"][0]["function"]["name"] == "tide"
    assert (result["role"], result["tool_name"]) == ("tool", "tide")


# streams


def event_types(events):
    """Return the types of events, with repeated deltas as one."""
    types = [event.type.removeprefix("response.") for event in events]
    return [
        name
        for index, name in enumerate(types)
        if not (name.endswith("delta") and name == types[index - 1])
    ]


def test_a_stream_has_the_events_of_each_item(create):
    events = list(create(input=QUESTION, stream=True))
    for event in events:
        check_types(event)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert event_types(events) == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert events[0].response.status == "in_progress" and events[0].response.output == []
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 1 and "".join(deltas) == "2 + 2 = 4"
    final = events[-1].response
    assert final.id == events[0].response.id and final.output_text == "2 + 2 = 4"
    items = [event.item for event in events if event.type == "response.output_item.done"]
    assert final.output == items
    whole = create(input=QUESTION)
    assert final.usage == whole.usage
    assert final.output[0].summary == whole.output[0].summary


def test_the_clients_own_accumulation_agrees(openai_client):
    fields = {"model": MODEL, "temperature": 0}
    with openai_client.responses.stream(input=QUESTION, **fields) as stream:
        texts = [event.text for event in stream if event.type == "response.output_text.done"]
        assert stream.get_final_response().output_text == "2 + 2 = 4" == texts[0]
    with openai_client.responses.stream(input=[TIDE], tools=[TIDE_TOOL], **fields) as stream:
        [call] = stream.get_final_response().output
    assert json.loads(call.arguments) == {"day": "Tuesday"}


def test_the_raw_stream_names_its_events(http):
    body = {"model": MODEL, "input": QUESTION, "max_output_tokens": 2, "stream": True}
    response = http.post("/v1/responses", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"


def test_a_response_that_reaches_the_limit_is_incomplete(create):
    fields = {"input": QUESTION, "max_output_tokens": 2, "reasoning": {"effort": "none"}}
    response = create(**fields)
    check_types(response)
    assert response.status == "incomplete" and response.usage.output_tokens == 2
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[-1].status == "incomplete"
    last = list(create(**fields, stream=True))[-1]
    check_types(last)
    assert last.type == "response.incomplete" and last.response.status == "incomplete"


def test_an_error_within_a_stream_reaches_the_client(create, client, monkeypatch):
    async def fail(self, *arguments):
        yield {"message": {"role": "assistant", "content": "2 + "}, "done": False}
        raise ApiError(500, "the engine stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Generator, "chat", fail)
        events = []
        with pytest.raises(openai.APIError, match="the engine stopped"):
            events += create(input=QUESTION, stream=True)
        with pytest.raises(openai.InternalServerError, match="the engine stopped"):
            create(input=QUESTION)
    check_alive(client)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_generation(server, client, monkeypatch, stream):
    chunks = []

    async def count_up(self, *arguments):
        try:
            while True:
                chunks.append({"message": {"role": "assistant", "content": "1 "}, "done": False})
                yield chunks[-1]
                await asyncio.sleep(0.01)
        finally:
            chunks.append("closed")

    body = json.dumps({"model": MODEL, "input": QUESTION, "stream": stream}).encode()
    head = f"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with monkeypatch.context() as patch:
        patch.setattr(Generator, "chat", count_up)
        with socket.create_connection(("127.0.0.1", server._socket.getsockname()[1])) as line:
            line.sendall(head.encode() + body)
            wait_until(lambda: len(chunks) > 3)
        wait_until(lambda: chunks[-1] == "closed")
    check_alive(client)


def test_closing_the_events_closes_the_generation():
    closed = []

    async def chunks():
        try:
            while True:
                yield {"message": {"role": "assistant", "content": "1 "}, "done": False}
        finally:
            closed.append(True)

    async def read_the_first_event():
        fields = Fields({"model": MODEL, "input": QUESTION})
        events = openai_responses.response_events(chunks(), fields)
        assert (await anext(events))["type"] == "response.created"
        await events.aclose()
        return list(closed)

    assert asyncio.run(read_the_first_event()) == [True]


def test_a_response_without_any_text_still_has_a_message(create, monkeypatch):
    async def stop(self, *arguments):
        yield {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}

    monkeypatch.setattr(Generator, "chat", stop)
    response = create(input=QUESTION)
    check_types(response)
    assert [item.type for item in response.output] == ["message"] and response.output_text == ""


# formats


def test_parse_returns_an_object_of_the_schema(openai_client):
    for input_text in (QUESTION, "What is 1 + 2?"):
        parsed = openai_client.responses.parse(
            model=MODEL, input=input_text, text_format=Digit, temperature=0
        )
        assert isinstance(parsed.output_parsed, Digit)
        assert json.loads(parsed.output_text) == {"n": parsed.output_parsed.n}


def test_json_object_and_the_echo_of_the_format(create):
    text = {"format": {"type": "json_object"}}
    response = create(input=QUESTION, text=text, max_output_tokens=40)
    check_types(response)
    assert response.output_text.startswith("{") and response.text.format.type == "json_object"
    assert create(input=QUESTION, max_output_tokens=1).text.format.type == "text"


# tools


def test_a_tool_is_called_and_its_result_is_read(create):
    response = create(input=[TIDE], tools=[TIDE_TOOL])
    check_types(response)
    [call] = response.output
    assert (call.type, call.name, call.status) == ("function_call", "tide", "completed")
    assert json.loads(call.arguments) == {"day": "Tuesday"} and call.call_id != call.id
    assert response.tools[0].name == "tide" and response.tool_choice == "auto"
    output = {"type": "function_call_output", "call_id": call.call_id, "output": TIDE_RESULT}
    answer = create(input=[TIDE, *response.output, output], tools=[TIDE_TOOL])
    assert "11" in answer.output_text and answer.output[-1].type == "message"
    refusal = create(input=[TIDE], tools=[TIDE_TOOL], tool_choice="none")
    assert all(item.type != "function_call" for item in refusal.output)


@pytest.mark.parametrize("tool", ["get_price", "send_message"])
def test_a_named_tool_is_called_or_refused_but_never_ignored(http, tool):
    """The question is about the tide, so another tool shows that the choice was enforced."""
    body = {
        "model": MODEL,
        "input": [TIDE],
        "tools": [{"type": "function", **schema["function"]} for schema in SCHEMAS.values()],
        "tool_choice": {"type": "function", "name": tool},
    }
    response = http.post("/v1/responses", json=body)
    if response.status_code == 400:
        assert '"tool_choice" is not supported' in response.json()["error"]["message"]
    else:
        [call] = response.json()["output"]
        assert (call["type"], call["name"]) == ("function_call", tool)


def test_a_streamed_tool_call_has_its_events(create):
    events = list(create(input=[TIDE], tools=[TIDE_TOOL], stream=True))
    for event in events:
        check_types(event)
    assert event_types(events) == [
        "created", "in_progress", "output_item.added", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done", "completed",
    ]  # fmt: skip
    added, delta, done = events[2:5]
    assert added.item.arguments == "" and delta.delta == done.arguments
    assert delta.item_id == done.item_id == added.item.id
    [call] = events[-1].response.output
    assert call.arguments == done.arguments and call == events[5].item


# pictures, limits and refusals


def test_a_picture_is_read(create):
    question = "What colour is the flag?"
    for colour, name in (((200, 0, 0), "red"), ((0, 0, 200), "blue")):
        url = "data:image/png;base64," + base64.b64encode(picture(colour)).decode()
        parts = [
            {"type": "input_image", "image_url": url, "detail": "auto"},
            {"type": "input_text", "text": question},
        ]
        message = {"role": "user", "content": parts}
        assert create(model="mini-scout", input=[message]).output_text == name
    with pytest.raises(openai.BadRequestError, match="does not support vision"):
        create(input=[message])


def test_a_long_conversation_is_cut_unless_truncation_is_disabled(create):
    turns = [{"role": "user", "content": f"What is {n} + 1? " * 10} for n in range(60)]
    conversation = [*turns, {"role": "user", "content": QUESTION}]
    assert create(input=conversation, max_output_tokens=1).truncation == "auto"
    with pytest.raises(openai.BadRequestError, match="context"):
        create(input=conversation, max_output_tokens=1, truncation="disabled")


def test_unknown_and_harmless_fields_are_ignored(create):
    response = create(
        input=QUESTION,
        store=True,
        user="a",
        metadata={"berth": "4"},
        parallel_tool_calls=False,
        include=["reasoning.encrypted_content"],
        text={"verbosity": "low"},
        extra_body={"a_field_of_tomorrow": {"b": 1}, "stream_options": None},
    )
    check_types(response)
    assert response.output_text == "2 + 2 = 4" and response.metadata == {"berth": "4"}
    assert response.store is False and response.parallel_tool_calls is False


def user(content):
    """Return the fields of a request with one message of a user."""
    return {"input": [{"role": "user", "content": content}]}


REFUSED = [
    ({"previous_response_id": "resp_1"}, "stores no responses"),
    ({"conversation": "conv_1"}, "stores no responses"),
    ({"background": True}, "stores no responses"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "stores no responses"),
    ({"input": [CALL_OUTPUT]}, "no function_call before it has"),
    ({"input": None}, '"input" must be'),
    ({"input": []}, '"input" must be'),
    ({"input": 3}, '"input" must be'),
    ({"input": [3]}, '"input" must be a list of objects'),
    ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "at least one message"),
    ({"input": [{"type": "computer_call"}]}, "must be a message"),
    ({"input": [{"type": ["message"]}]}, "must be a string"),
    ({"input": [{"role": "tool", "content": "4"}]}, "invalid role"),
    ({"input": [{"role": "user", "content": 3}]}, "must be a string"),
    ({"input": [CALL | {"name": None}]}, "needs a name"),
    ({"input": [CALL | {"arguments": "{"}]}, "invalid JSON"),
    ({"input": [CALL | {"arguments": "[1]"}]}, "must be an object"),
    ({"input": [CALL, CALL_OUTPUT | {"output": [{"type": "input_image"}]}]}, "only text"),
    (user([{"type": "input_file", "file_id": "file_1"}]), "must be input_text"),
    (user([{"type": "input_image", "image_url": "http://127.0.0.1:9/flag.png"}]), "image URL"),
    (user([{"type": "input_image", "file_id": "file_1"}]), "image URL"),
    (user([{"type": "input_audio", "input_audio": {"data": "%", "format": "wav"}}]), "base64"),
    ({"instructions": 3}, "must be a string"),
    ({"tools": [{"type": "web_search"}]}, "only tools of the type"),
    ({"tools": [{"type": "function"}]}, "needs a function with a name"),
    ({"tool_choice": {"type": "web_search"}}, '"tool_choice"'),
    ({"text": {"format": {"type": "xml"}}}, '"text.format.type"'),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, '"text.format.schema"'),
    ({"text": {"format": {"type": "json_schema", "schema": {"$ref": "a.json"}}}}, "outside of it"),
    ({"include": ["message.output_text.logprobs"]}, '"include"'),
    ({"top_logprobs": 2}, '"top_logprobs"'),
    ({"prompt": {"id": "pmpt_1"}}, '"prompt"'),
    ({"truncation": "middle"}, '"truncation"'),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": "warm"}, '"temperature"'),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"stream": "yes"}, "true or false"),
    ({"store": "yes"}, "true or false"),
    ({"model": None}, "model is required"),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_requests_are_refused_in_words(http, fields, words, stream):
    body = {"model": MODEL, "input": QUESTION, "stream": stream} | fields
    response = http.post("/v1/responses", json=body)
    error = response.json()["error"]
    assert response.status_code == 400 and error["type"] == "invalid_request_error"
    assert words in error["message"]


def test_missing_models_and_stored_responses_are_not_found(create, openai_client):
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        create(model="no-such-model", input=QUESTION)
    response = create(input=QUESTION, store=True, max_output_tokens=1)
    assert isinstance(response, Response)
    with pytest.raises(openai.NotFoundError, match="not in this stand-in"):
        openai_client.responses.retrieve(response.id)
