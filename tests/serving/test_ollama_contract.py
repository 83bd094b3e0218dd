"""Ollama's interface through the official clients, `ollama` and `openai`.

The same tests run against the course's stand-in and, where OLLAMA_HOST is set, against the Ollama
that answers there: what passes here and fails there is the stand-in's mistake.
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

REAL = os.environ.get("OLLAMA_HOST")
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
ASK = [{"role": "user", "content": "What is 2 + 2?"}]
TIDE = [{"role": "user", "content": "What is the tide on Tuesday?"}]
WATER = json.dumps({"high": 4, "low": 11})  # what the harbour's function answers


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    if REAL:
        yield ollama.Client(REAL)._client.base_url
        return
    with Server(port=0, root=tmp_path_factory.mktemp("store"), threads=1) as server:
        yield server.address


@pytest.fixture(scope="module")
def client(host):
    client = ollama.Client(str(host), trust_env=False)
    digest = client.create_blob(gguf_file("mini-qwen"))
    assert digest == client.create_blob(gguf_file("mini-qwen"))
    made = client.create(
        MODEL,
        files={"mini-qwen.gguf": digest},
        template=TEMPLATE,
        system=SYSTEM,
        parameters={"repeat_penalty": 1.0, "stop": ["<|im_end|>"]},
        license="Apache-2.0",
    )
    assert made.status == "success"
    yield client
    client.delete(MODEL)


@pytest.fixture(scope="module")
def plain(client, host):
    with httpx.Client(base_url=str(host), trust_env=False, timeout=None) as found:
        yield found


@pytest.fixture(scope="module")
def like_openai(client, host):
    found = httpx.Client(trust_env=False, timeout=None)
    with openai.OpenAI(base_url=f"{host}/v1", api_key="none", http_client=found) as made:
        yield made


@pytest.fixture(scope="module")
def with_tools(client):
    if not REAL:
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
    [listed] = [one for one in client.list().models if one.model == f"{MODEL}:latest"]
    assert listed.details.format == "gguf" and listed.details.family == "qwen2"
    assert listed.details.quantization_level == "F16"
    assert listed.size >= gguf_file("mini-qwen").stat().st_size
    assert len(listed.digest) == 64
    shown = client.show(MODEL)
    assert shown.template == TEMPLATE and shown.license == "Apache-2.0"
    assert "repeat_penalty" in shown.parameters and '"<|im_end|>"' in shown.parameters
    assert "completion" in shown.capabilities
    assert shown.modelinfo["general.architecture"] == "qwen2"
    assert shown.modelinfo["qwen2.context_length"] == 1024
    assert shown.modelinfo["general.parameter_count"] == 3_938_560
    assert SYSTEM in shown.modelfile


def test_create_from_another(client):
    told = list(
        client.create("contract-pirate", from_=MODEL, system="Arr.", parameters=GREEDY, stream=True)
    )
    assert told[-1].status == "success"
    shown = client.show("contract-pirate:latest")
    assert "Arr." in shown.modelfile and "temperature" in shown.parameters
    assert "repeat_penalty" in shown.parameters  # what was there stays
    assert shown.template == TEMPLATE
    assert client.copy("contract-pirate", "contract-copy:two").status == "success"
    assert client.delete("contract-pirate").status == "success"
    names = [one.model for one in client.list().models]
    assert "contract-copy:two" in names and "contract-pirate:latest" not in names
    assert client.chat("contract-copy:two", ASK).message.content
    client.delete("contract-copy:two")
    assert client.chat(MODEL, ASK).done  # the file it shares is still there


def test_messages_of_a_model_come_first(client):
    before = [
        {"role": "user", "content": "What is 3 + 3?"},
        {"role": "assistant", "content": "3 + 3 = 6"},
    ]
    client.create("contract-shots", from_=MODEL, messages=before)
    alone = client.chat(MODEL, ASK, options=GREEDY).prompt_eval_count
    after = client.chat("contract-shots", ASK, options=GREEDY).prompt_eval_count
    assert after > alone
    client.delete("contract-shots")


def test_what_is_missing_is_404(client):
    for ask in (
        lambda: client.chat("contract-none", ASK),
        lambda: list(client.chat("contract-none", ASK, stream=True)),
        lambda: client.generate("contract-none", "hi"),
        lambda: client.embed("contract-none", "hi"),
        lambda: client.show("contract-none"),
        lambda: client.delete("contract-none"),
        lambda: client.copy("contract-none", "contract-other"),
    ):
        with pytest.raises(ollama.ResponseError, match="not found") as caught:
            ask()
        assert caught.value.status_code == 404


def test_blobs_are_verified(client, plain):
    digest = f"sha256:{hashlib.sha256(b'harbour').hexdigest()}"
    assert plain.head(f"/api/blobs/{digest}").status_code == 404
    wrong = plain.post(f"/api/blobs/{digest}", content=b"another harbour")
    assert wrong.status_code == 400 and "error" in wrong.json()
    assert plain.head(f"/api/blobs/{digest}").status_code == 404
    assert plain.post(f"/api/blobs/{digest}", content=b"harbour").status_code == 201
    assert plain.head(f"/api/blobs/{digest}").status_code == 200
    with pytest.raises(ollama.ResponseError) as caught:
        client.create("contract-no-model", files={"model.gguf": digest})
    assert caught.value.status_code in (-1, 400)
    assert "contract-no-model:latest" not in [one.model for one in client.list().models]


# answers


def test_chat(client):
    answer = client.chat(MODEL, ASK, options=GREEDY)
    assert answer.message.role == "assistant" and answer.message.content
    assert answer.model == MODEL
    check_end(answer)


def test_chat_streams_the_same(client):
    whole = client.chat(MODEL, ASK, options=GREEDY)
    pieces = list(client.chat(MODEL, ASK, options=GREEDY, stream=True))
    *parts, last = pieces
    assert len(parts) > 3 and not any(one.done for one in parts)
    check_end(last)
    assert "".join(one.message.content for one in pieces) == whole.message.content
    assert last.eval_count == whole.eval_count


def test_a_stream_is_ndjson(plain):
    told = {"model": MODEL, "messages": ASK, "options": GREEDY}
    with plain.stream("POST", "/api/chat", json=told) as answer:
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert all(datetime.fromisoformat(line["created_at"]) for line in lines)


def test_generate(client):
    answer = client.generate(MODEL, ASK[0]["content"], options=GREEDY)
    check_end(answer)
    pieces = list(client.generate(MODEL, ASK[0]["content"], options=GREEDY, stream=True))
    assert "".join(one.response for one in pieces) == answer.response
    assert answer.response == client.chat(MODEL, ASK, options=GREEDY).message.content
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
    told = {**GREEDY, "num_predict": 30}
    whole = client.generate(MODEL, "2 + 2 =", raw=True, options=told).response
    assert len(whole) > 4
    mark = whole[3:5]
    stopped = client.generate(MODEL, "2 + 2 =", raw=True, options={**told, "stop": [mark]})
    assert stopped.response == whole[: whole.index(mark)] and stopped.done_reason == "stop"
    warm = {"temperature": 1.5, "seed": 7, "num_predict": 20}
    texts = {client.generate(MODEL, "2 + 2 =", raw=True, options=warm).response for _ in range(3)}
    assert len(texts) == 1
    seeds = {
        client.generate(MODEL, "2 + 2 =", raw=True, options=warm | {"seed": seed}).response
        for seed in range(5)
    }
    assert len(seeds) > 1


def test_answers_in_a_format(client):
    wanted = {
        "type": "object",
        "properties": {"sum": {"enum": [3, 4, 5]}, "unit": {"enum": ["coins", "apples"]}},
        "required": ["sum", "unit"],
    }
    told = json.loads(client.chat(MODEL, ASK, format=wanted, options=GREEDY).message.content)
    assert told["sum"] in (3, 4, 5) and told["unit"] in ("coins", "apples")
    text = client.generate(MODEL, ASK[0]["content"], format=wanted, options=GREEDY).response
    assert set(json.loads(text)) == {"sum", "unit"}
    free = client.chat(MODEL, ASK, format="json", options={**GREEDY, "num_predict": 200})
    if free.done_reason == "stop":
        assert isinstance(json.loads(free.message.content), dict)
    assert free.message.content.lstrip().startswith("{")


def test_tool_calls(client, with_tools):
    asked = client.chat(with_tools, TIDE, tools=[SCHEMAS["tide"]], options=GREEDY)
    [call] = asked.message.tool_calls
    assert call.function.name == "tide" and dict(call.function.arguments) == {"day": "Tuesday"}
    told = {"role": "tool", "content": WATER}
    messages = [*TIDE, asked.message, told | {"tool_name": "tide"}]
    answer = client.chat(with_tools, messages, tools=[SCHEMAS["tide"]], options=GREEDY)
    assert "4" in answer.message.content and "11" in answer.message.content
    pieces = list(
        client.chat(with_tools, TIDE, tools=[SCHEMAS["tide"]], options=GREEDY, stream=True)
    )
    calls = [one for piece in pieces for one in piece.message.tool_calls or []]
    assert [one.function for one in calls] == [call.function]


def test_a_model_without_tools_says_so(client):
    with pytest.raises(ollama.ResponseError, match="does not support tools") as caught:
        client.chat(MODEL, TIDE, tools=[SCHEMAS["tide"]])
    assert caught.value.status_code == 400


def test_loading_and_unloading(client):
    def running():
        return [one.model for one in client.ps().models]

    gone = client.generate(MODEL, keep_alive=0)
    assert gone.done and gone.done_reason == "unload" and gone.response == ""
    assert f"{MODEL}:latest" not in running()
    loaded = client.chat(MODEL, [], keep_alive="5m")
    assert loaded.done_reason == "load" and loaded.message.content == ""
    [one] = [one for one in client.ps().models if one.model == f"{MODEL}:latest"]
    assert one.expires_at > datetime.fromisoformat(loaded.created_at)
    assert one.context_length > 0 and one.size > 0


def test_embeddings(client):
    one = client.embed(MODEL, "a boat")
    two = client.embed(MODEL, ["a boat", "three apples"])
    assert len(one.embeddings) == 1 and len(two.embeddings) == 2
    assert two.prompt_eval_count > one.prompt_eval_count > 0
    for vector in two.embeddings:
        assert len(vector) == 256 and math.isclose(math.hypot(*vector), 1, rel_tol=1e-3)
    assert one.embeddings[0] == pytest.approx(two.embeddings[0], abs=1e-3)
    assert two.embeddings[0] != two.embeddings[1]
    short = client.embed(MODEL, "a boat", dimensions=16).embeddings[0]
    assert len(short) == 16 and math.isclose(math.hypot(*short), 1, rel_tol=1e-3)
    old = client.embeddings(MODEL, "a boat").embedding
    length = math.hypot(*old)
    assert [value / length for value in old] == pytest.approx(one.embeddings[0], abs=1e-3)


def test_a_long_input_is_cut_unless_forbidden(client):
    long = "an apple and " * 2000
    assert len(client.embed(MODEL, long).embeddings) == 1
    with pytest.raises(ollama.ResponseError):
        client.embed(MODEL, long, truncate=False)


def test_wrong_types_are_400(client, plain):
    for path, told in (
        ("/api/chat", {"model": 3}),
        ("/api/chat", {"model": MODEL, "messages": "hello"}),
        ("/api/generate", {"model": MODEL, "prompt": ["hello"]}),
        ("/api/generate", {"model": MODEL, "prompt": "hi", "options": {"temperature": "warm"}}),
        ("/api/embed", {"model": MODEL, "input": {"a": 1}}),
    ):
        answer = plain.post(path, json=told)
        assert answer.status_code == 400 and "error" in answer.json(), (path, told)
    assert plain.post("/api/chat", content=b'{"model": ').status_code == 400


# the asynchronous client


def test_asynchronously(client, host):
    async def ask():
        found = ollama.AsyncClient(str(host), trust_env=False)
        answers = await asyncio.gather(*(found.chat(MODEL, ASK, options=GREEDY) for _ in range(4)))
        stream = await found.chat(MODEL, ASK, options=GREEDY, stream=True)
        pieces = [one.message.content async for one in stream]
        names = [one.model for one in (await found.list()).models]
        return answers, "".join(pieces), names

    answers, text, names = asyncio.run(ask())
    assert {one.message.content for one in answers} == {text}
    assert f"{MODEL}:latest" in names


# OpenAI's client


def test_openai_chat(like_openai):
    answer = like_openai.chat.completions.create(model=MODEL, messages=ASK, temperature=0)
    assert answer.object == "chat.completion" and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    chunks = list(
        like_openai.chat.completions.create(
            model=MODEL, messages=ASK, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == answer.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_openai_limits_and_formats(like_openai):
    short = like_openai.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0, max_tokens=2
    )
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 2
    shape = {"type": "object", "properties": {"n": {"enum": [3, 4]}}, "required": ["n"]}
    answer = like_openai.chat.completions.create(
        model=MODEL, messages=ASK, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": shape}},
    )  # fmt: skip
    assert json.loads(answer.choices[0].message.content)["n"] in (3, 4)


def test_openai_tools(like_openai, with_tools):
    tool = SCHEMAS["tide"]
    asked = like_openai.chat.completions.create(
        model=with_tools, messages=TIDE, tools=[tool], temperature=0
    )
    [choice] = asked.choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"day": "Tuesday"}
    told = {"role": "tool", "tool_call_id": call.id, "content": WATER}
    answer = like_openai.chat.completions.create(
        model=with_tools, messages=[*TIDE, choice.message, told], tools=[tool], temperature=0
    )
    assert "11" in answer.choices[0].message.content


def test_openai_completions_models_embeddings(like_openai):
    answer = like_openai.completions.create(model=MODEL, prompt="What is 2 + 2?", temperature=0)
    assert answer.object == "text_completion" and answer.choices[0].text
    chunks = like_openai.completions.create(
        model=MODEL, prompt="What is 2 + 2?", temperature=0, stream=True
    )
    assert "".join(one.choices[0].text for one in chunks) == answer.choices[0].text
    assert any(one.id.startswith(MODEL) for one in like_openai.models.list())
    assert like_openai.models.retrieve(MODEL).object == "model"
    packed = like_openai.embeddings.create(model=MODEL, input=["a boat", "apples"])
    plain = like_openai.embeddings.create(model=MODEL, input="a boat", encoding_format="float")
    assert [len(one.embedding) for one in packed.data] == [256, 256]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-3)
    with pytest.raises(openai.NotFoundError):
        like_openai.chat.completions.create(model="contract-none", messages=ASK)
