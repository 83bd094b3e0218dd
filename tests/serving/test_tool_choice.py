"""Tool choice and messages on /v1/chat/completions, as agent libraries send them.

The bodies have the shapes that pydantic-ai, LangChain, LangGraph and smolagents were recorded to
send. They go through the official `openai` client.
"""

import base64
import json

import httpx
import jsonschema
import openai
import pytest
from server_helpers import GREEDY, check_refused, picture

from openmodels.harbour.tools import SCHEMAS
from openmodels.serving.model_store import ApiError
from openmodels.serving.requests import Fields
from openmodels.serving.tool_choice import (
    EXAMPLE_ARGUMENTS,
    EXAMPLE_NAME,
    CallFormat,
    bound_schema,
    find_call_format,
    move_references,
    parse_tool_choice,
)

MODEL = "mini-qwen"
TIDE = "What is the tide on Tuesday?"
TIDE_RESULT = json.dumps({"high": 4, "low": 11})
TOOLS = [SCHEMAS["tide"], SCHEMAS["get_price"], SCHEMAS["book_berth"]]
BERTH = {
    "type": "object",
    "properties": {"ship": {"enum": ["Lark", "Heron"]}, "nights": {"enum": [1, 2, 3]}},
    "required": ["ship", "nights"],
}
# pydantic's schema of a class with fields of another class
BOOKINGS = {
    "$defs": {"Berth": BERTH | {"title": "Berth", "additionalProperties": False}},
    "type": "object",
    "title": "Bookings",
    "properties": {
        "bookings": {"type": "array", "items": {"$ref": "#/$defs/Berth"}, "minItems": 1,
                     "maxItems": 2},
        "paid": {"type": "boolean"},
    },
    "required": ["bookings", "paid"],
    "additionalProperties": False,
}  # fmt: skip
FINAL_RESULT = {
    "type": "function",
    "function": {
        "name": "final_result",
        "description": "The final response which ends this conversation",
        "parameters": BOOKINGS,
        "strict": True,
    },
}


def named(name: str) -> dict:
    """Return the tool choice that names a tool."""
    return {"type": "function", "function": {"name": name}}


def part(text: str) -> list[dict]:
    """Return content as a list with one text."""
    return [{"type": "text", "text": text}]


def user(text: str) -> list[dict]:
    """Return a conversation with one question."""
    return [{"role": "user", "content": text}]


def check_call(call, tools: list[dict]) -> str:
    """Check that a call names one of these tools and follows its schema; return the name."""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    assert call.type == "function" and call.id
    jsonschema.validate(json.loads(call.function.arguments), schemas[call.function.name])
    return call.function.name


@pytest.fixture(scope="module")
def chat(server):
    """Return a function that sends a body with the official client."""
    http_client = httpx.Client(trust_env=False, timeout=None)
    base_url = f"{server.address}/v1"
    with openai.OpenAI(base_url=base_url, api_key="none", http_client=http_client) as client:

        def create(messages: list, **fields):
            body = {"model": MODEL, "temperature": 0} | fields
            return client.chat.completions.create(messages=messages, **body)

        yield create


# what the libraries send


def test_pydantic_ai_with_tools(chat):
    tools = [{"type": "function", "function": SCHEMAS["tide"]["function"] | {"strict": True}}]
    fields = {"tools": tools, "tool_choice": "auto", "stream": False}
    messages = [{"role": "system", "content": "You are the clerk of Port Lark."}, *user(TIDE)]
    [choice] = chat(messages, **fields).choices
    [call] = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert json.loads(call.function.arguments) == {"day": "Tuesday"}
    history = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call.id, "type": "function",
                        "function": {"name": "tide", "arguments": call.function.arguments}}],
    }  # fmt: skip
    result = {"role": "tool", "tool_call_id": call.id, "content": TIDE_RESULT}
    [choice] = chat([*messages, history, result], **fields).choices
    assert choice.finish_reason == "stop" and not choice.message.tool_calls
    assert "4" in choice.message.content and "11" in choice.message.content


@pytest.mark.parametrize("others", [[], TOOLS], ids=["alone", "with others"])
def test_pydantic_ai_with_typed_output(chat, others):
    tools = [FINAL_RESULT, *others]
    fields = {"tools": tools, "tool_choice": "required", "stream": False}
    [choice] = chat(user("What is 2 + 2?"), **fields).choices
    assert choice.finish_reason == "tool_calls" and not choice.message.content
    [call] = choice.message.tool_calls
    check_call(call, tools)
    if not others:
        assert call.function.name == "final_result"


def test_langchain_with_function_calling(chat):
    fields = {"tools": TOOLS, "parallel_tool_calls": False, "stream": False}
    for tool in TOOLS:
        name = tool["function"]["name"]
        [choice] = chat(user(TIDE), tool_choice=named(name), **fields).choices
        [call] = choice.message.tool_calls
        assert check_call(call, TOOLS) == name
        assert choice.finish_reason == "tool_calls"


def test_smolagents(chat):
    messages = [
        {"role": "system", "content": part("You are the clerk of Port Lark.")},
        {"role": "user", "content": part("New task:") + part(TIDE)},
        {"role": "assistant", "content": part("Calling tools: tide")},
        {"role": "user", "content": part("Observation: 4 and 11")},
    ]
    answer = {"type": "function", "function": {
        "name": "final_answer", "description": "Provides a final answer.", "parameters": {
            "type": "object", "properties": {"answer": {"enum": ["4 and 11", "none"]}},
            "required": ["answer"]}}}  # fmt: skip
    tools = [answer, SCHEMAS["tide"]]
    stop = ["Observation:", "Calling tools:"]
    [choice] = chat(messages, tools=tools, tool_choice="required", stop=stop).choices
    [call] = choice.message.tool_calls
    check_call(call, tools)


def test_langgraph_history(chat):
    """Two calls in one turn, their results, content as null and as lists."""
    calls = [
        {"id": f"call_{day}", "type": "function",
         "function": {"name": "tide", "arguments": json.dumps({"day": day})}}
        for day in ("Monday", "Tuesday")
    ]  # fmt: skip
    messages = [
        *user("What is the tide on Monday, and on Tuesday?"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_Monday", "content": '{"high": 3, "low": 9}'},
        {"role": "tool", "tool_call_id": "call_Tuesday", "content": part(TIDE_RESULT)},
    ]
    answer = chat(messages, tools=[SCHEMAS["tide"]]).choices[0].message
    assert answer.role == "assistant" and (answer.content or answer.tool_calls)
    plain = [messages[0], messages[1], messages[2], messages[3] | {"content": TIDE_RESULT}]
    assert chat(plain, tools=[SCHEMAS["tide"]]).choices[0].message.content == answer.content


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
def test_a_list_of_texts_equals_a_string_in_every_role(chat, role):
    earlier = [{"role": "user", "content": "Hello"}] if role in ("assistant", "tool") else []

    def answer(content):
        messages = [*earlier, {"role": role, "content": content}, *user("What is 2 + 2?")]
        completion = chat(messages)
        return completion.choices[0].message.content, completion.usage.prompt_tokens

    expected = answer("Be brief.\nBe kind.")
    assert answer(part("Be brief.") + part("Be kind.")) == expected != answer("Be brief.")
    assert answer(None)[1] == answer([])[1] == answer("")[1] < expected[1]


def test_unknown_fields_are_ignored(chat):
    plain = chat(user("What is 2 + 2?"))
    extra = {"store": False, "metadata": {"run": "1"}, "service_tier": "auto", "unknown": [1]}
    strange = [user("What is 2 + 2?")[0] | {"annotations": [], "refusal": None}]
    assert chat(strange, extra_body=extra).choices[0].message.content == (
        plain.choices[0].message.content
    )


# a forced call


def test_a_forced_call_in_a_stream(chat):
    fields = {"tools": TOOLS, "tool_choice": named("tide"), "temperature": 0}
    chunks = list(chat(user(TIDE), stream=True, stream_options={"include_usage": True}, **fields))
    *parts, last = chunks
    assert last.choices == [] and last.usage.completion_tokens > 5
    assert parts[-1].choices[0].finish_reason == "tool_calls"
    deltas = [call for chunk in parts for call in chunk.choices[0].delta.tool_calls or []]
    [call] = deltas
    assert call.index == 0 and json.loads(call.function.arguments) == {"day": "Tuesday"}
    assert not any(chunk.choices[0].delta.content for chunk in parts)
    whole = chat(user(TIDE), **fields).choices[0].message.tool_calls[0]
    assert whole.function.arguments == call.function.arguments


def test_every_forced_call_is_valid(chat):
    """At a high temperature the constraint alone decides what a call looks like."""
    names = set()
    tools = [FINAL_RESULT, {"type": "function", "function": {"name": "ring", "strict": True}}]
    rules = [FINAL_RESULT, {"function": {"name": "ring", "parameters": {"maxProperties": 0}}}]
    for seed in range(30):
        [choice] = chat(
            user("Hello"), tools=tools, tool_choice="required", temperature=2, seed=seed
        ).choices
        [call] = choice.message.tool_calls
        names.add(check_call(call, rules))
    assert names == {"final_result", "ring"}


def test_a_question_that_asks_for_the_tool_gets_its_arguments(chat):
    tools = list(SCHEMAS.values())
    [call] = chat(user(TIDE), tools=tools, tool_choice="required").choices[0].message.tool_calls
    assert call.function.name == "tide"
    assert json.loads(call.function.arguments) == {"day": "Tuesday"}


@pytest.mark.parametrize("tool_choice", ["required", named("tide"), "auto"], ids=str)
def test_a_call_that_is_cut_off_is_not_reported(chat, tool_choice):
    fields = {"tools": TOOLS, "tool_choice": tool_choice, "max_tokens": 3}
    [choice] = chat(user(TIDE), **fields).choices
    assert choice.finish_reason == "length" and not choice.message.tool_calls
    *_, last = chat(user(TIDE), stream=True, **fields)
    assert last.choices[0].finish_reason == "length" and not last.choices[0].delta.tool_calls


def test_a_call_gets_room_in_a_long_conversation(chat):
    """The prompt that fits without the oldest messages may leave too few tokens for a call."""
    sums = [
        {"role": role, "content": f"What is {n} + 1? Please tell me the sum."}
        for n in range(24)
        for role in ("user", "assistant")
    ]
    for padding in range(0, 24, 4):
        question = user("apple " * padding + TIDE)
        [choice] = chat([*sums, *question], tools=TOOLS, tool_choice="required").choices
        [call] = choice.message.tool_calls
        check_call(call, TOOLS)


def test_strings_and_lists_of_a_forced_call_end(chat):
    """Without a bound mini-qwen fills the context with one string in some of these."""
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    parameters = {
        "type": "object",
        "properties": {"title": text, "tags": texts, "extra": {"anyOf": [text, {"type": "null"}]}},
        "required": ["title", "tags", "extra"],
    }
    note = {"type": "function", "function": {"name": "note", "parameters": parameters}}
    fields = {"tools": [note], "tool_choice": "required", "temperature": 0.8}
    for question in ("Hello", "What is 2 + 2?"):
        for seed in range(6):
            [choice] = chat(user(question), seed=seed, **fields).choices
            [call] = choice.message.tool_calls
            check_call(call, [note])


def test_log_probabilities_come_with_a_forced_call(chat):
    completion = chat(
        user(TIDE), tools=TOOLS, tool_choice="required", logprobs=True, top_logprobs=2
    )
    entries = completion.choices[0].logprobs.content
    assert '"Tuesday"' in "".join(entry.token for entry in entries)


def test_other_forms(chat):
    form = {"type": "function", "name": "get_price"}  # as in /v1/responses
    [call] = chat(user(TIDE), tools=TOOLS, tool_choice=form).choices[0].message.tool_calls
    assert call.function.name == "get_price"
    allowed = {"mode": "required", "tools": [named("book_berth"), named("get_price")]}
    form = {"type": "allowed_tools", "allowed_tools": allowed}
    [call] = chat(user(TIDE), tools=TOOLS, tool_choice=form).choices[0].message.tool_calls
    assert call.function.name in ("book_berth", "get_price")
    form["allowed_tools"] = {"mode": "auto", "tools": [named("tide")]}
    prompt_tokens = chat(user(TIDE), tools=TOOLS, tool_choice=form).usage.prompt_tokens
    assert prompt_tokens == chat(user(TIDE), tools=TOOLS[:1]).usage.prompt_tokens
    none = chat(user(TIDE), tools=TOOLS, tool_choice="none")
    assert not none.choices[0].message.tool_calls
    assert none.usage.prompt_tokens == chat(user(TIDE)).usage.prompt_tokens


def test_several_calls_are_forbidden_in_the_grammar(server, chat, monkeypatch):
    bodies, stream = [], server.pool.stream

    def record(pooled, path, body):
        bodies.append(body)
        return stream(pooled, path, body)

    monkeypatch.setattr(server.pool, "stream", record)
    for parallel in ({}, {"parallel_tool_calls": False}, {"parallel_tool_calls": True}):
        chat(user(TIDE), tools=TOOLS, **parallel)
        assert {key: bodies[-1][key] for key in parallel} == parallel
    assert "parallel_tool_calls" not in bodies[0]


def test_results_carry_the_name_and_the_id_of_their_call(server, chat, monkeypatch):
    bodies, stream = [], server.pool.stream

    def record(pooled, path, body):
        bodies.append(body)
        return stream(pooled, path, body)

    monkeypatch.setattr(server.pool, "stream", record)
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for call_id, name in (("a", "tide"), ("b", "get_price"))
    ]
    results = [
        {"role": "tool", "tool_call_id": call_id, "content": call_id} for call_id in ("a", "b")
    ]
    chat([*user(TIDE), {"role": "assistant", "tool_calls": calls}, *results], tools=TOOLS)
    assistant, *sent = bodies[0]["messages"][1:]
    assert [result["name"] for result in sent] == ["tide", "get_price"]
    assert [result["tool_call_id"] for result in sent] == [
        call["id"] for call in assistant["tool_calls"]
    ]


def test_results_are_matched_to_their_calls_by_the_id(server, chat, monkeypatch):
    bodies, stream = [], server.pool.stream

    def record(pooled, path, body):
        bodies.append(body)
        return stream(pooled, path, body)

    monkeypatch.setattr(server.pool, "stream", record)

    def calls(*names: str) -> dict:
        """Return a turn of calls; like some servers' ids, theirs repeat in each turn."""
        return {"role": "assistant", "content": None, "tool_calls": [
            {"id": f"call_{index}", "type": "function",
             "function": {"name": name, "arguments": "{}"}} for index, name in enumerate(names)
        ]}  # fmt: skip

    def result(call_id: str) -> dict:
        return {"role": "tool", "tool_call_id": call_id, "content": f"of {call_id}"}

    turn = [calls("tide", "get_price"), result("call_1"), result("call_0"), *user("And?")]
    again = [calls("book_berth"), result("call_0"), result("call_9")]
    answers = [
        chat([*user(TIDE), *messages], tools=TOOLS).choices[0].message.content
        for messages in (turn, [turn[0], turn[2], turn[1], turn[3]])
    ]
    assert answers[0] == answers[1]
    chat([*user(TIDE), *turn, *again], tools=TOOLS)
    sent = [
        (message["content"], message["tool_call_id"], message["name"])
        for message in bodies[-1]["messages"]
        if message["role"] == "tool"
    ]
    assert sent == [
        ("of call_0", "0", "tide"), ("of call_1", "1", "get_price"),
        ("of call_0", "0", "book_berth"), ("of call_9", "1", "tool"),
    ]  # fmt: skip


def test_a_call_is_forced_with_a_picture(chat):
    """The schema allows every colour, so the picture decides."""
    colours = {"enum": ["red", "green", "blue"]}
    parameters = {"type": "object", "properties": {"colour": colours}, "required": ["colour"]}
    tools = [{"type": "function", "function": {"name": "report", "parameters": parameters}}]
    fields = {"model": "mini-qwen-vl", "tools": tools, "tool_choice": named("report")}

    def called(colour: tuple[int, int, int]) -> str:
        url = "data:image/png;base64," + base64.b64encode(picture(colour)).decode()
        image = {"type": "image_url", "image_url": {"url": url}}
        messages = [{"role": "user", "content": [image, *part("What colour is this?")]}]
        completion = chat(messages, **fields)
        [call] = completion.choices[0].message.tool_calls
        check_call(call, tools)
        text = chat(user("What colour is this?"), **fields)
        assert completion.usage.prompt_tokens > text.usage.prompt_tokens
        return call.function.arguments

    assert called((200, 0, 0)) == '{"colour": "red"}'
    assert called((0, 0, 200)) == '{"colour": "blue"}'


def test_ollamas_own_endpoint_has_no_tool_choice(client, http):
    body = {"model": MODEL, "messages": user(TIDE), "tools": TOOLS, "stream": False}
    body |= {"options": GREEDY, "tool_choice": named("book_berth")}
    [call] = http.post("/api/chat", json=body).json()["message"]["tool_calls"]
    assert call["function"] == {"name": "tide", "arguments": {"day": "Tuesday"}}


# what is refused


@pytest.mark.parametrize(("choice", "tools", "words"), [
    ("required", [], "no tool"),
    (named("tide"), None, "'tide'"),
    (named("ring"), TOOLS, "'ring', but \"tools\" has tide, get_price, book_berth"),
    ("any", TOOLS, "must be"),
    (True, TOOLS, "must be"),
    ([], TOOLS, "must be"),
    ({}, TOOLS, "must be"),
    ({"type": "function"}, TOOLS, "must be"),
    ({"type": "function", "function": {"name": 3}}, TOOLS, "a string"),
    ({"type": "custom", "name": "tide"}, TOOLS, "must be"),
    ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, TOOLS, "needs"),
    ({"type": "allowed_tools", "mode": "never", "tools": [named("tide")]}, TOOLS, "needs"),
    ("required", [{"function": {"name": "a", "parameters": {"type": "string"}}}], "an object"),
    ("required", [{"function": {"name": "a", "parameters": {
        "type": "object", "properties": {"x": {"$ref": "#/$defs/None"}}}}}], ""),
], ids=str)  # fmt: skip
def test_wrong_choices_are_refused_with_words(http, choice, tools, words):
    body = {"model": MODEL, "messages": user(TIDE), "tools": tools, "tool_choice": choice}
    response = http.post("/v1/chat/completions", json=body)
    check_refused(response)
    assert words in response.json()["error"]["message"]


def test_a_call_cannot_be_forced_without_tools_in_the_template_or_with_unreadable_media(http):
    body = {"model": "mini-qwen-coder", "tools": TOOLS, "tool_choice": "required"}
    response = http.post("/v1/chat/completions", json=body | {"messages": user(TIDE)})
    check_refused(response)
    assert "does not support tools" in response.json()["error"]["message"]
    url = "data:image/png;base64," + base64.b64encode(picture((200, 0, 0))).decode()
    image = {"type": "image_url", "image_url": {"url": url}}
    body |= {"model": MODEL, "messages": [{"role": "user", "content": [image]}]}
    response = http.post("/v1/chat/completions", json=body)
    check_refused(response)
    assert "does not support vision" in response.json()["error"]["message"]


# formats of calls in other templates


ARGUMENTS = json.dumps(EXAMPLE_ARGUMENTS)
CALL = f'"name": "{EXAMPLE_NAME}"'


@pytest.mark.parametrize(("before", "call", "after", "keys"), [
    ("<tool_call>\n", f'{{{CALL}, "arguments": {ARGUMENTS}}}', "\n</tool_call>",
     ("name", "arguments")),
    ("", f'{{{CALL}, "parameters": {ARGUMENTS}}}', "<|eot_id|>", ("name", "parameters")),
    ("[TOOL_CALLS][", f'{{{CALL}, "arguments": {ARGUMENTS}, "id": "000000000"}}', "]",
     ("name", "arguments")),
    ('{"type": "function", "function": ', f'{{"arguments":{ARGUMENTS},{CALL}}}', "}",
     ("name", "arguments")),
], ids=["qwen", "llama", "mistral", "openai"])  # fmt: skip
def test_the_prompt_ends_where_a_call_begins(before, call, after, keys):
    question = f"<user>Is {call} a call? {{</user><assistant>"
    ending = f'<tool>{{"name": "{EXAMPLE_NAME}", "content": ""}}</tool>'
    call_format = find_call_format(question + before + call + after + ending)
    assert call_format == CallFormat(question + before, *keys)
    parsed = call_format.parse(call)["function"]
    assert parsed == {"name": EXAMPLE_NAME, "arguments": EXAMPLE_ARGUMENTS}


@pytest.mark.parametrize("rendered", [
    "", "{" * 100, EXAMPLE_NAME,
    f"<function={EXAMPLE_NAME}><parameter=openmodels_example_key>openmodels_example_value",
    f'{{{CALL}, "arguments": {json.dumps(ARGUMENTS)}}}',
    "{" * 5000 + "openmodels_example_value",
], ids=range(6))  # fmt: skip
def test_a_template_without_json_calls_is_refused(rendered):
    with pytest.raises(ApiError, match="does not write tool calls as JSON"):
        find_call_format(rendered)


def test_text_that_is_no_call_is_refused():
    for text in ("", "hello", "[]", "{}", '{"name": "tide"}', "3", '"name"'):
        with pytest.raises(ApiError, match="cannot follow"):
            CallFormat("", "name", "arguments").parse(text)


def test_references_move_with_their_schema():
    moved = move_references({"a": [{"$ref": "#/$defs/B"}, {"$ref": "#"}]}, "#/properties/c")
    assert moved == {"a": [{"$ref": "#/properties/c/$defs/B"}, {"$ref": "#/properties/c"}]}
    assert move_references({"properties": {"$ref": {"type": "string"}}}, "#/x") == {
        "properties": {"$ref": {"type": "string"}}
    }


def test_only_what_has_no_bound_is_bounded():
    free = {"type": "array", "items": {"type": ["string", "null"], "minLength": 300}}
    bounded_items = free["items"] | {"maxLength": 300}
    bounded = {"type": "array", "maxItems": 32, "items": bounded_items}
    assert bound_schema({"anyOf": [free]}, 1024) == {"anyOf": [bounded]}
    assert bound_schema({"type": "string"}, 10**6) == {"type": "string", "maxLength": 1000}
    for unchanged in (
        {"type": "string", "maxLength": 9000}, {"type": "string", "enum": ["a"]},
        {"type": "string", "pattern": "a"}, {"type": "array", "maxItems": 1}, {"type": "object"},
        {"const": {"type": "string"}}, {"type": "integer"}, True,
    ):  # fmt: skip
        assert bound_schema(unchanged, 1024) == unchanged


def test_a_body_without_a_choice_changes_nothing():
    choice = parse_tool_choice(Fields({"tools": TOOLS}))
    assert choice == parse_tool_choice(Fields({"tools": TOOLS, "tool_choice": "auto"}))
    assert choice.select(TOOLS) == TOOLS and choice.select(None) is None and not choice.forced
