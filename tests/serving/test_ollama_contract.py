"""Ollama's interface through the official clients, `ollama` and `openai`.

The same tests run against the course's stand-in or, if OLLAMA_HOST is set, against the Ollama at
that address. A test that passes here and fails there shows a mistake of the stand-in.
"""

import asyncio
import hashlib
import json
import math
import os
from datetime import datetime

import httpx
import ollama
import openai
import pytest

from openmodels.gguf.export import gguf_file
from openmodels.harbour.tools import SCHEMAS
from openmodels.serving.app import Server

OLLAMA_HOST = os.environ.get("OLLAMA_HOST")
MODEL = "contract-qwen"
TEMPLATE = (
    "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
    "{{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n{{ .Response }}<|im_end|>\n"
)
SYSTEM = "You are the clerk of Port Lark."
# what only a real Ollama reads: the miniatures' own template, tools included
TOOL_TEMPLATE = """<|im_start|>system
You are the clerk of Port Lark.

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>{{ range .Tools }}
{"type": "function", "function": {{ .Function }}}{{ end }}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{{ range .Messages }}{{ if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ .Content }}{{ range .ToolCalls }}<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}<|im_end|>
{{ else if eq .Role "tool" }}<|im_start|>user
<tool_response>
{{ .Content }}
</tool_response><|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""
GREEDY = {"temperature": 0, "seed": 1}
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
TIDE = [{"role": "user", "content": "What is the tide on Tuesday?"}]
TIDE_RESULT = json.dumps({"high": 4, "low": 11})  # what the harbour's function answers


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    if OLLAMA_HOST:
        yield ollama.Client(OLLAMA_HOST)._client.base_url
        return
    with Server(port=0, root=tmp_path_factory.mktemp("store"), threads=1) as server:
        yield server.address


@pytest.fixture(scope="module")
def client(host):
    client = ollama.Client(str(host), trust_env=False)
    digest = client.create_blob(gguf_file("mini-qwen"))
    assert digest == client.create_blob(gguf_file("mini-qwen"))
    response = client.create(
        MODEL,
        files={"mini-qwen.gguf": digest},
        template=TEMPLATE,
        system=SYSTEM,
        parameters={"repeat_penalty": 1.0, "stop": ["<|im_end|>"]},
        license="Apache-2.0",
    )
    assert response.status == "success"
    yield client
    client.delete(MODEL)


@pytest.fixture(scope="module")
def http(client, host):
    with httpx.Client(base_url=str(host), trust_env=False, timeout=None) as http:
        yield http


@pytest.fixture(scope="module")
def openai_client(client, host):
    http_client = httpx.Client(trust_env=False, timeout=None)
    base_url = f"{host}/v1"
    with openai.OpenAI(base_url=base_url, api_key="none", http_client=http_client) as client:
        yield client


@pytest.fixture(scope="module")
def with_tools(client):
    if not OLLAMA_HOST:
        yield "mini-qwen"
        return
    client.create("contract-tools", from_=MODEL, template=TOOL_TEMPLATE)
    yield "contract-tools"
    client.delete("contract-tools")


def check_end(answer):
    """The last line says why, how many and how long."""
    assert answer.done and answer.done_reason in ("stop", "length")
    assert answer.prompt_eval_count > 0 and answer.eval_count > 0
    assert answer.prompt_eval_duration > 0 and answer.eval_duration >= 0
    assert answer.total_duration >= answer.load_duration >= 0
    assert datetime.fromisoformat(answer.created_at).tzinfo


# models


def test_list_and_show(client):
    [listed] = [model for model in client.list().models if model.model == f"{MODEL}:latest"]
    assert listed.details.format == "gguf" and listed.details.family == "qwen2"
    assert listed.details.quantization_level == "F16"
    assert listed.size >= gguf_file("mini-qwen").stat().st_size
    assert len(listed.digest) == 64
    description = client.show(MODEL)
    assert description.template == TEMPLATE and description.license == "Apache-2.0"
    assert "repeat_penalty" in description.parameters and '"<|im_end|>"' in description.parameters
    assert "completion" in description.capabilities
    assert description.modelinfo["general.architecture"] == "qwen2"
    assert description.modelinfo["qwen2.context_length"] == 1024
    assert description.modelinfo["general.parameter_count"] == 3_938_560
    assert SYSTEM in description.modelfile


def test_create_from_another(client):
    steps = list(
        client.create("contract-pirate", from_=MODEL, system="Arr.", parameters=GREEDY, stream=True)
    )
    assert steps[-1].status == "success"
    description = client.show("contract-pirate:latest")
    assert "Arr." in description.modelfile and "temperature" in description.parameters
    assert "repeat_penalty" in description.parameters  # what was there stays
    assert description.template == TEMPLATE
    assert client.copy("contract-pirate", "contract-copy:two").status == "success"
    assert client.delete("contract-pirate").status == "success"
    names = [model.model for model in client.list().models]
    assert "contract-copy:two" in names and "contract-pirate:latest" not in names
    assert client.chat("contract-copy:two", MESSAGES).message.content
    client.delete("contract-copy:two")
    assert client.chat(MODEL, MESSAGES).done  # the file it shares is still there


def test_messages_of_a_model_come_first(client):
    before = [
        {"role": "user", "content": "What is 3 + 3?"},
        {"role": "assistant", "content": "3 + 3 = 6"},
    ]
    client.create("contract-shots", from_=MODEL, messages=before)
    without = client.chat(MODEL, MESSAGES, options=GREEDY).prompt_eval_count
    with_messages = client.chat("contract-shots", MESSAGES, options=GREEDY).prompt_eval_count
    assert with_messages > without
    client.delete("contract-shots")


def test_what_is_missing_is_404(client):
    for call in (
        lambda: client.chat("contract-none", MESSAGES),
        lambda: list(client.chat("contract-none", MESSAGES, stream=True)),
        lambda: client.generate("contract-none", "hi"),
        lambda: client.embed("contract-none", "hi"),
        lambda: client.show("contract-none"),
        lambda: client.delete("contract-none"),
        lambda: client.copy("contract-none", "contract-other"),
    ):
        with pytest.raises(ollama.ResponseError, match="not found") as caught:
            call()
        assert caught.value.status_code == 404


def test_blobs_are_verified(client, http):
    digest = f"sha256:{hashlib.sha256(b'harbour').hexdigest()}"
    assert http.head(f"/api/blobs/{digest}").status_code == 404
    wrong = http.post(f"/api/blobs/{digest}", content=b"another harbour")
    assert wrong.status_code == 400 and "error" in wrong.json()
    assert http.head(f"/api/blobs/{digest}").status_code == 404
    assert http.post(f"/api/blobs/{digest}", content=b"harbour").status_code == 201
    assert http.head(f"/api/blobs/{digest}").status_code == 200
    with pytest.raises(ollama.ResponseError) as caught:
        client.create("contract-no-model", files={"model.gguf": digest})
    assert caught.value.status_code in (-1, 400)
    assert "contract-no-model:latest" not in [model.model for model in client.list().models]


# answers


def test_chat(client):
    answer = client.chat(MODEL, MESSAGES, options=GREEDY)
    assert answer.message.role == "assistant" and answer.message.content
    assert answer.model == MODEL
    check_end(answer)


def test_chat_streams_the_same(client):
    answer = client.chat(MODEL, MESSAGES, options=GREEDY)
    chunks = list(client.chat(MODEL, MESSAGES, options=GREEDY, stream=True))
    *parts, last = chunks
    assert len(parts) > 3 and not any(chunk.done for chunk in parts)
    check_end(last)
    assert "".join(chunk.message.content for chunk in chunks) == answer.message.content
    assert last.eval_count == answer.eval_count


def test_a_stream_is_ndjson(http):
    body = {"model": MODEL, "messages": MESSAGES, "options": GREEDY}
    with http.stream("POST", "/api/chat", json=body) as response:
        assert response.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in response.iter_lines()]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert all(datetime.fromisoformat(line["created_at"]) for line in lines)


def test_generate(client):
    answer = client.generate(MODEL, MESSAGES[0]["content"], options=GREEDY)
    check_end(answer)
    chunks = list(client.generate(MODEL, MESSAGES[0]["content"], options=GREEDY, stream=True))
    assert "".join(chunk.response for chunk in chunks) == answer.response
    assert answer.response == client.chat(MODEL, MESSAGES, options=GREEDY).message.content
    assert len(answer.context) >= answer.prompt_eval_count


def test_generate_raw_and_with_another_template(client):
    prompt = "2 + 2 ="
    raw = client.generate(MODEL, prompt, raw=True, options=GREEDY)
    other = client.generate(MODEL, prompt, template="{{ .Prompt }}", options=GREEDY)
    assert raw.response == other.response
    assert raw.prompt_eval_count == other.prompt_eval_count
    usual = client.generate(MODEL, prompt, options=GREEDY)
    system = client.generate(MODEL, prompt, system="Be brief.", options=GREEDY)
    assert usual.prompt_eval_count != system.prompt_eval_count > raw.prompt_eval_count


def test_context_continues(client):
    first = client.generate(MODEL, "What is 2 + 2?", options=GREEDY)
    second = client.generate(MODEL, "What is 3 + 3?", context=first.context, options=GREEDY)
    assert second.prompt_eval_count > first.prompt_eval_count
    assert len(second.context) > len(first.context)


def test_options(client):
    short = client.generate(MODEL, "Hello", options={**GREEDY, "num_predict": 2})
    assert short.eval_count == 2 and short.done_reason == "length"
    options = {**GREEDY, "num_predict": 30}
    text = client.generate(MODEL, "2 + 2 =", raw=True, options=options).response
    assert len(text) > 4
    stop = text[3:5]
    stopped = client.generate(MODEL, "2 + 2 =", raw=True, options={**options, "stop": [stop]})
    assert stopped.response == text[: text.index(stop)] and stopped.done_reason == "stop"
    warm = {"temperature": 1.5, "seed": 7, "num_predict": 20}
    texts = {client.generate(MODEL, "2 + 2 =", raw=True, options=warm).response for _ in range(3)}
    assert len(texts) == 1
    seeds = {
        client.generate(MODEL, "2 + 2 =", raw=True, options=warm | {"seed": seed}).response
        for seed in range(5)
    }
    assert len(seeds) > 1


def test_a_model_without_parameters_has_no_repeat_penalty(client):
    files = {"mini-qwen.gguf": client.create_blob(gguf_file("mini-qwen"))}
    client.create("contract-plain", files=files, template=TEMPLATE)

    def text(**options):
        options |= {**GREEDY, "num_predict": 60}
        prompt = "What is 22 + 22?"
        return client.generate("contract-plain", prompt, raw=True, options=options).response

    assert text() == text(repeat_penalty=1.0) != text(repeat_penalty=1.1)
    client.delete("contract-plain")


def test_log_probabilities_without_alternatives(client):
    chat = client.chat(MODEL, MESSAGES, logprobs=True, options=GREEDY).logprobs
    prompt = MESSAGES[0]["content"]
    generated = client.generate(MODEL, prompt, logprobs=True, options=GREEDY).logprobs
    for logprobs in (chat, generated):
        assert logprobs and all(entry.logprob <= 0 for entry in logprobs)
        assert not any(entry.top_logprobs for entry in logprobs)
    assert client.chat(MODEL, MESSAGES, options=GREEDY).logprobs is None
    with_top = client.chat(MODEL, MESSAGES, logprobs=True, top_logprobs=1, options=GREEDY).logprobs
    assert [entry.token for entry in with_top] == [entry.token for entry in chat]
    assert all(len(entry.top_logprobs) == 1 for entry in with_top)


def test_the_fields_of_a_log_probability(http):
    """The keys are those that Ollama 0.33 sends."""
    options = GREEDY | {"num_predict": 2}
    body = {"model": MODEL, "messages": MESSAGES, "options": options, "stream": False}
    [first, _] = http.post("/api/chat", json=body | {"logprobs": True}).json()["logprobs"]
    assert list(first) == ["token", "logprob", "bytes"]
    assert bytes(first["bytes"]).decode() == first["token"]
    assert "logprobs" not in http.post("/api/chat", json=body).json()


def test_answers_in_a_format(client):
    schema = {
        "type": "object",
        "properties": {"sum": {"enum": [3, 4, 5]}, "unit": {"enum": ["coins", "apples"]}},
        "required": ["sum", "unit"],
    }
    answer = json.loads(client.chat(MODEL, MESSAGES, format=schema, options=GREEDY).message.content)
    assert answer["sum"] in (3, 4, 5) and answer["unit"] in ("coins", "apples")
    text = client.generate(MODEL, MESSAGES[0]["content"], format=schema, options=GREEDY).response
    assert set(json.loads(text)) == {"sum", "unit"}
    free = client.chat(MODEL, MESSAGES, format="json", options={**GREEDY, "num_predict": 200})
    if free.done_reason == "stop":
        assert isinstance(json.loads(free.message.content), dict)
    assert free.message.content.lstrip().startswith("{")


def test_tool_calls(client, with_tools):
    request = client.chat(with_tools, TIDE, tools=[SCHEMAS["tide"]], options=GREEDY)
    [call] = request.message.tool_calls
    assert call.function.name == "tide" and dict(call.function.arguments) == {"day": "Tuesday"}
    result = {"role": "tool", "content": TIDE_RESULT}
    messages = [*TIDE, request.message, result | {"tool_name": "tide"}]
    answer = client.chat(with_tools, messages, tools=[SCHEMAS["tide"]], options=GREEDY)
    assert "4" in answer.message.content and "11" in answer.message.content
    chunks = list(
        client.chat(with_tools, TIDE, tools=[SCHEMAS["tide"]], options=GREEDY, stream=True)
    )
    streamed_calls = [call for chunk in chunks for call in chunk.message.tool_calls or []]
    assert [streamed.function for streamed in streamed_calls] == [call.function]


def test_a_model_without_tools_says_so(client):
    with pytest.raises(ollama.ResponseError, match="does not support tools") as caught:
        client.chat(MODEL, TIDE, tools=[SCHEMAS["tide"]])
    assert caught.value.status_code == 400


def test_loading_and_unloading(client):
    def running():
        return [model.model for model in client.ps().models]

    unloaded = client.generate(MODEL, keep_alive=0)
    assert unloaded.done and unloaded.done_reason == "unload" and unloaded.response == ""
    assert f"{MODEL}:latest" not in running()
    loaded = client.chat(MODEL, [], keep_alive="5m")
    assert loaded.done_reason == "load" and loaded.message.content == ""
    [running_model] = [model for model in client.ps().models if model.model == f"{MODEL}:latest"]
    assert running_model.expires_at > datetime.fromisoformat(loaded.created_at)
    assert running_model.context_length > 0 and running_model.size > 0


def test_embeddings(client):
    single = client.embed(MODEL, "a boat")
    pair = client.embed(MODEL, ["a boat", "three apples"])
    assert len(single.embeddings) == 1 and len(pair.embeddings) == 2
    assert pair.prompt_eval_count > single.prompt_eval_count > 0
    for vector in pair.embeddings:
        assert len(vector) == 256 and math.isclose(math.hypot(*vector), 1, rel_tol=1e-3)
    assert single.embeddings[0] == pytest.approx(pair.embeddings[0], abs=1e-3)
    assert pair.embeddings[0] != pair.embeddings[1]
    short = client.embed(MODEL, "a boat", dimensions=16).embeddings[0]
    assert len(short) == 16 and math.isclose(math.hypot(*short), 1, rel_tol=1e-3)
    legacy = client.embeddings(MODEL, "a boat").embedding
    length = math.hypot(*legacy)
    assert [value / length for value in legacy] == pytest.approx(single.embeddings[0], abs=1e-3)


def test_a_long_input_is_cut_unless_forbidden(client):
    long = "an apple and " * 2000
    assert len(client.embed(MODEL, long).embeddings) == 1
    with pytest.raises(ollama.ResponseError):
        client.embed(MODEL, long, truncate=False)


def test_wrong_types_are_400(client, http):
    for path, body in (
        ("/api/chat", {"model": 3}),
        ("/api/chat", {"model": MODEL, "messages": "hello"}),
        ("/api/generate", {"model": MODEL, "prompt": ["hello"]}),
        ("/api/generate", {"model": MODEL, "prompt": "hi", "options": {"temperature": "warm"}}),
        ("/api/embed", {"model": MODEL, "input": {"a": 1}}),
    ):
        response = http.post(path, json=body)
        assert response.status_code == 400 and "error" in response.json(), (path, body)
    assert http.post("/api/chat", content=b'{"model": ').status_code == 400


# the asynchronous client


def test_asynchronously(client, host):
    async def chat():
        async_client = ollama.AsyncClient(str(host), trust_env=False)
        calls = [async_client.chat(MODEL, MESSAGES, options=GREEDY) for _ in range(4)]
        answers = await asyncio.gather(*calls)
        stream = await async_client.chat(MODEL, MESSAGES, options=GREEDY, stream=True)
        parts = [item.message.content async for item in stream]
        names = [item.model for item in (await async_client.list()).models]
        return answers, "".join(parts), names

    answers, text, names = asyncio.run(chat())
    assert {item.message.content for item in answers} == {text}
    assert f"{MODEL}:latest" in names


# OpenAI's client


def test_openai_chat(openai_client):
    answer = openai_client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0)
    assert answer.object == "chat.completion" and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    chunks = list(
        openai_client.chat.completions.create(
            model=MODEL, messages=MESSAGES, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answer.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_openai_limits_and_formats(openai_client):
    short = openai_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=2
    )
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 2
    shape = {"type": "object", "properties": {"n": {"enum": [3, 4]}}, "required": ["n"]}
    answer = openai_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": shape}},
    )  # fmt: skip
    assert json.loads(answer.choices[0].message.content)["n"] in (3, 4)


def test_openai_log_probabilities(openai_client):
    fields = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "logprobs": True}
    content = openai_client.chat.completions.create(**fields).choices[0].logprobs.content
    assert content and all(entry.logprob <= 0 for entry in content)
    assert not any(entry.top_logprobs for entry in content)
    chunks = openai_client.chat.completions.create(**fields, stream=True)
    streamed = [chunk.choices[0].logprobs for chunk in chunks]
    assert [entry.token for part in streamed if part for entry in part.content] == [
        entry.token for entry in content
    ]
    fields["top_logprobs"] = 2
    content = openai_client.chat.completions.create(**fields).choices[0].logprobs.content
    assert all(len(entry.top_logprobs) == 2 for entry in content)


def test_openai_tools(openai_client, with_tools):
    tool = SCHEMAS["tide"]
    completion = openai_client.chat.completions.create(
        model=with_tools, messages=TIDE, tools=[tool], temperature=0
    )
    [choice] = completion.choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"day": "Tuesday"}
    result = {"role": "tool", "tool_call_id": call.id, "content": TIDE_RESULT}
    answer = openai_client.chat.completions.create(
        model=with_tools, messages=[*TIDE, choice.message, result], tools=[tool], temperature=0
    )
    assert "11" in answer.choices[0].message.content


def test_openai_completions_models_embeddings(openai_client):
    answer = openai_client.completions.create(model=MODEL, prompt="What is 2 + 2?", temperature=0)
    assert answer.object == "text_completion" and answer.choices[0].text
    chunks = openai_client.completions.create(
        model=MODEL, prompt="What is 2 + 2?", temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert any(model.id.startswith(MODEL) for model in openai_client.models.list())
    assert openai_client.models.retrieve(MODEL).object == "model"
    packed = openai_client.embeddings.create(model=MODEL, input=["a boat", "apples"])
    plain = openai_client.embeddings.create(model=MODEL, input="a boat", encoding_format="float")
    assert [len(row.embedding) for row in packed.data] == [256, 256]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-3)
    with pytest.raises(openai.NotFoundError):
        openai_client.chat.completions.create(model="contract-none", messages=MESSAGES)
