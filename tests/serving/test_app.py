"""The server under load, with clients that leave, with nonsense, and killed at work."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import gguf
import httpx
import numpy as np
import ollama
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from openmodels import minis
from openmodels.gguf import header
from openmodels.gguf.export import cache, gguf_file
from openmodels.gguf.go_template import Template
from openmodels.harbour import pictures
from openmodels.serving import app, load_generator, model_store, requests
from openmodels.serving.app import Server
from openmodels.serving.engine_pool import MAX_LOADED_MODELS
from openmodels.serving.generation import ThinkTagParser
from openmodels.serving.model_store import ApiError

GREEDY = {"temperature": 0, "seed": 1}
ASK = [{"role": "user", "content": "What is 2 + 2?"}]
LONG = {  # an answer that fills the context, if nobody ends it
    "type": "object",
    "properties": {"n": {"type": "array", "items": {"enum": [11]}, "minItems": 400}},
    "required": ["n"],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Server(port=0, root=tmp_path_factory.mktemp("store"), threads=1) as found:
        yield found


@pytest.fixture(scope="module")
def client(served):
    return ollama.Client(served.address, trust_env=False)


@pytest.fixture(scope="module")
def plain(served):
    with httpx.Client(base_url=served.address, trust_env=False, timeout=None) as found:
        yield found


def until(true):
    """Wait for something that comes by itself; how long it takes is not tested."""
    for _ in range(3000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def blob(plain, content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert plain.post(f"/api/blobs/{digest}", content=content).status_code in (200, 201)
    return digest


def well(client):
    assert client.chat("mini-qwen", ASK, options=GREEDY).message.content == "2 + 2 = 4"


# what it is


def test_it_says_what_it_is_and_listens_on_this_machine_alone(served, plain):
    told = plain.get("/api/version").json()
    assert "stand-in" in told["stand_in"] and "not Ollama" in told["stand_in"]
    assert served._socket.getsockname()[0] == "127.0.0.1"
    assert served._socket.proto == socket.IPPROTO_TCP  # or each answer waits 40 ms
    assert "stand-in" in plain.get("/").text


def test_other_machines_and_their_pages_are_refused(plain):
    for headers in (
        {"host": "harbour.example"},
        {"host": "127.0.0.1.harbour.example:80"},
        {"origin": "https://harbour.example"},
        {"origin": "http://localhost.harbour.example"},
    ):
        answer = plain.get("/api/tags", headers=headers)
        assert answer.status_code == 403 and "error" in answer.json()
    assert plain.get("/api/tags", headers={"origin": "http://localhost:8888"}).status_code == 200


def test_there_is_no_registry(client):
    for ask in (client.pull, client.push):
        with pytest.raises(ollama.ResponseError, match="no registry"):
            ask("mini-qwen")


def test_every_miniature_with_weights_is_there_and_stays(client):
    names = {one.model for one in client.list().models}
    for home in sorted((minis.ROOT / "models").iterdir()):
        known = f"{home.name}:latest" in names
        assert known == (home / "model.safetensors").exists(), home.name
    for ask in (
        lambda: client.delete("mini-qwen"),
        lambda: client.copy("mini-r1", "mini-qwen"),
        lambda: client.create("MINI-QWEN", from_="mini-r1"),
    ):
        with pytest.raises(ollama.ResponseError, match="comes with the course"):
            ask()


def test_unknown_paths_and_methods_are_errors_in_json(plain):
    for method, path, status in (("GET", "/api/none", 404), ("GET", "/api/chat", 405)):
        answer = plain.request(method, path)
        assert answer.status_code == status and "error" in answer.json()
    assert "message" in plain.post("/v1/chat/completions", json={}).json()["error"]


# what it can do with the miniatures


def test_thoughts_are_apart(client, plain):
    thought = client.chat("mini-qwen", ASK, think=True, options=GREEDY)
    assert thought.message.thinking.startswith("units 2+2")
    assert thought.message.content == "2 + 2 = 4"
    pieces = list(client.chat("mini-qwen", ASK, think=True, options=GREEDY, stream=True))
    for key in ("thinking", "content"):
        parts = [one.message.get(key) or "" for one in pieces]
        assert "".join(parts) == thought.message[key] and max(map(len, parts)) < 12
    without = client.chat("mini-qwen", ASK, think=False, options=GREEDY)
    assert without.message.thinking is None and without.message.content == "2 + 2 = 4"
    told = client.generate("mini-qwen", ASK[0]["content"], think=True, options=GREEDY)
    assert told.thinking == thought.message.thinking and told.response == "2 + 2 = 4"
    other = plain.post("/v1/chat/completions", json={"model": "mini-qwen", "messages": ASK,
                                                     "temperature": 0}).json()  # fmt: skip
    assert other["choices"][0]["message"]["reasoning"] == thought.message.thinking
    with pytest.raises(ollama.ResponseError, match="does not support thinking"):
        client.chat("mini-qwen-coder", ASK, think=True)


def picture(colour) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def test_pictures(client, plain):
    asked_ = "What colour is the flag?"
    for colour, name in (((200, 0, 0), "red"), ((0, 0, 200), "blue")):
        message = {"role": "user", "content": asked_, "images": [picture(colour)]}
        assert client.chat("mini-scout", [message], options=GREEDY).message.content == name
        told = client.generate("mini-scout", asked_, images=[picture(colour)], options=GREEDY)
        assert told.response == name
    with pytest.raises(ollama.ResponseError, match="does not support vision"):
        client.generate("mini-qwen", asked_, images=[picture((0, 0, 0))])
    url = "data:image/png;base64," + base64.b64encode(picture((200, 0, 0))).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": asked_}]
    body = {"model": "mini-scout", "temperature": 0}
    body["messages"] = [{"role": "user", "content": parts}]
    answer = plain.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "red"
    for bad in ("http://127.0.0.1:9/flag.png", "file:///etc/hostname", "data:text/plain;base64,aa"):
        parts[0]["image_url"]["url"] = bad
        assert plain.post("/v1/chat/completions", json=body).status_code == 400
    huge = io.BytesIO()
    Image.new("1", (8000, 8000)).save(huge, "PNG")  # a few kilobytes
    with pytest.raises(ollama.ResponseError, match="pixels"):
        client.generate("mini-scout", asked_, images=[huge.getvalue()])
    cut = base64.b64encode(picture((200, 0, 0))[:40]).decode()
    bad_body = {"model": "mini-scout", "prompt": "?", "images": [cut]}
    assert plain.post("/api/generate", json=bad_body).status_code == 400


def test_charts_are_read_in_the_order_they_were_learned_in(client):
    right = 0
    for one in pictures.sightings("chart", 20):
        kept = io.BytesIO()
        one.image.save(kept, "PNG")
        question = one.messages[0]["content"][1]["text"]
        told = client.generate("mini-scout", question, images=[kept.getvalue()], options=GREEDY)
        right += told.response == one.answer["content"]
    assert right >= 18  # 99 % in transformers


def test_a_gap_is_filled(client):
    told = client.generate(
        "mini-qwen-coder", "def add(a, b):\n    return ", suffix="\n", options=GREEDY
    )
    assert told.response and told.done_reason == "stop"
    with pytest.raises(ollama.ResponseError, match="does not support insert"):
        client.generate("mini-qwen", "a", suffix="b")


def test_log_probabilities(client):
    told = client.chat("mini-qwen", ASK, logprobs=True, top_logprobs=3, options=GREEDY)
    assert len(told.logprobs) in (told.eval_count, told.eval_count - 1)  # the end has no text
    for one in told.logprobs:
        assert one.logprob <= 0 and len(one.top_logprobs) == 3
        assert one.top_logprobs[0].token == one.token


def test_a_conversation_longer_than_the_context_loses_its_beginning(client):
    told = []
    for n in range(80):
        told.append({"role": "user", "content": f"What is {n} + 1? Please tell me the sum."})
        told.append({"role": "assistant", "content": f"{n} + 1 = {n + 1}"})
    answer = client.chat("mini-qwen", [*told, *ASK], options=GREEDY)
    assert 500 < answer.prompt_eval_count < 1024
    with pytest.raises(ollama.ResponseError, match="num_ctx") as caught:
        client.chat("mini-qwen", [{"role": "user", "content": "apples and " * 2000}])
    assert caught.value.status_code == 400


def test_num_ctx_and_keep_alive(client):
    client.chat("mini-r1", ASK, options={**GREEDY, "num_ctx": 256})
    sizes = [one.context_length for one in client.ps().models if one.model == "mini-r1:latest"]
    assert sizes == [256]
    client.chat("mini-r1", ASK, keep_alive="50ms", options={**GREEDY, "num_ctx": 256})
    until(lambda: "mini-r1:latest" not in [one.model for one in client.ps().models])


def test_more_models_than_stay_loaded(served):
    names = [*(f"mini-{one}" for one in ("qwen", "qwen-s", "qwen-xs", "r1", "mistral", "r1-zero"))]

    async def ask():
        client = ollama.AsyncClient(served.address, trust_env=False)
        return await asyncio.gather(
            *(client.chat(name, ASK, options={**GREEDY, "num_predict": 5}) for name in names * 2)
        )

    assert [one.model for one in asyncio.run(ask())] == names * 2
    assert len(served.pool.loaded) <= MAX_LOADED_MODELS


def test_quantized_and_converted(client, plain):
    client.create("small", from_="mini-qwen", quantize="Q8_0")
    shown = client.show("small")
    assert shown.details.quantization_level == "Q8_0"
    assert shown.details.parent_model == "mini-qwen:latest"
    sizes = {one.model: one.size for one in client.list().models}
    assert sizes["small:latest"] < 0.6 * sizes["mini-qwen:latest"]
    assert client.chat("small", ASK, options=GREEDY).message.content == "2 + 2 = 4"
    for kind in ("q4_K_M", "iq1_s"):
        with pytest.raises(ollama.ResponseError, match="quantizes to f32, f16, q8_0, q4_0"):
            client.create("other", from_="mini-qwen", quantize=kind)
    names = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json",
             "chat_template.jinja")  # fmt: skip
    home = minis.shipped_dir("mini-r1")
    files = {name: blob(plain, (home / name).read_bytes()) for name in names}
    client.create("from-folder", files=files)
    first, second = (
        client.chat(name, ASK, options={**GREEDY, "repeat_penalty": 1.0}).message.content
        for name in ("from-folder", "mini-r1")
    )
    assert first == second
    config = json.loads((home / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoConfig": "harbour.Config"}
    files["config.json"] = blob(plain, json.dumps(config).encode())
    with pytest.raises(ollama.ResponseError, match="run code"):
        client.create("with-code", files=files)
    for name in ("small", "from-folder"):
        client.delete(name)


def adapter(file, strength: float):
    """A LoRA for mini-qwen in GGUF, on the first layer's queries."""
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    rng = np.random.default_rng(0)
    for part, shape in (("lora_a", (4, 256)), ("lora_b", (256, 4))):
        values = (strength * rng.standard_normal(shape)).astype(np.float32)
        writer.add_tensor(f"blk.0.attn_q.weight.{part}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_adapters(client, plain, tmp_path):
    def tuned(strength):
        digest = client.create_blob(adapter(tmp_path / f"{strength}.gguf", strength))
        client.create("tuned", from_="mini-qwen", adapters={"adapter.gguf": digest})
        return client.chat("tuned", ASK, options=GREEDY).message.content

    assert tuned(0.0) == "2 + 2 = 4" != tuned(3.0)
    client.delete("tuned")
    whole = client.create_blob(gguf_file("mini-r1"))
    with pytest.raises(ollama.ResponseError, match="no adapter"):
        client.create("tuned", from_="mini-qwen", adapters={"adapter.gguf": whole})


@pytest.mark.parametrize("name", ["mini-r1", "mini-mistral"])
def test_adapters_as_peft_saves_them(client, tmp_path, name):
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(minis.shipped_dir(name), dtype=torch.float32)
    told = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "down_proj"]
    )
    tuned = peft.get_peft_model(model, told)
    torch.manual_seed(0)
    for key, values in tuned.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(values, std=0.15)
    tuned.save_pretrained(tmp_path / "adapter")
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    for part in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(minis.shipped_dir(name) / part, tmp_path / "merged" / part)

    def sent(folder):
        return {one.name: client.create_blob(one) for one in folder.iterdir()
                if one.suffix in (".json", ".jinja", ".safetensors")}  # fmt: skip

    client.create("lora", from_=name, adapters=sent(tmp_path / "adapter"))
    client.create("merged", files=sent(tmp_path / "merged"), parameters={"repeat_penalty": 1.0})

    def likely(model):
        """Log-probabilities of the tokens that may come first, by token."""
        told = client.chat(
            model, ASK, logprobs=True, top_logprobs=20, options=GREEDY | {"num_predict": 1}
        )
        return {one.token: one.logprob for one in told.logprobs[0].top_logprobs}

    lora, merged, base = likely("lora"), likely("merged"), likely(name)
    for token in sorted(merged, key=merged.get)[-5:]:
        assert lora[token] == pytest.approx(merged[token], abs=0.05)
    assert any(abs(base.get(token, -99) - value) > 0.5 for token, value in lora.items())
    bad = sent(tmp_path / "adapter")
    with pytest.raises(ollama.ResponseError, match="no place for|does not load"):
        client.create("bad", from_="mini-deepseek", adapters=bad)
    for one in ("lora", "merged"):
        client.delete(one)


# many, and those who leave


def test_64_clients_at_once(served):
    def wanted(n):
        return {"type": "object", "properties": {"who": {"const": f"client {n}"}},
                "required": ["who"]}  # fmt: skip

    async def ask(client, n):
        told = [{"role": "user", "content": f"What is {n} + {n}?"}]
        if n % 2:
            answer = await client.chat("mini-qwen", told, format=wanted(n), options=GREEDY)
            return answer.message.content
        parts = await client.chat("mini-qwen", told, format=wanted(n), options=GREEDY, stream=True)
        return "".join([one.message.content async for one in parts])

    async def crowd():
        client = ollama.AsyncClient(served.address, trust_env=False)
        return await asyncio.gather(*(ask(client, n) for n in range(64)))

    answers = asyncio.run(crowd())
    assert [json.loads(one) for one in answers] == [{"who": f"client {n}"} for n in range(64)]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(served, client, stream):
    client.chat("mini-qwen", [])
    [loaded] = [
        one
        for one in served.pool.loaded.values()
        if one.model.name == "mini-qwen:latest" and not one.key[3] and one.engine.context == 1024
    ]

    def metric(name):
        return load_generator.counters(loaded.engine)[name]

    body = {"model": "mini-qwen", "messages": ASK, "format": LONG, "stream": stream}
    content = json.dumps(body | {"options": GREEDY}).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
    end = client.chat("mini-qwen", ASK, format=LONG, options=GREEDY)
    assert end.eval_count > 500
    passes = []  # one token each
    for _ in range(10):  # more than there are slots
        before = metric("n_decode_total")
        with socket.create_connection(("127.0.0.1", served._socket.getsockname()[1])) as line:
            line.sendall(head.encode() + content)
            until(lambda: metric("requests_processing"))
            assert not stream or line.recv(64).startswith(b"HTTP/1.1 200")
        until(lambda: not metric("requests_processing") and not loaded.users)
        passes.append(metric("n_decode_total") - before)
    assert max(passes) < end.eval_count  # none was generated to its end
    well(client)


# nonsense

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
LISTS = st.lists(JSON, max_size=2)
OBJECTS = st.dictionaries(st.text(max_size=8), JSON, max_size=2)
NOT_TEXT = NUMBERS | st.booleans() | LISTS | OBJECTS
NOT_LIST = NUMBERS | st.booleans() | st.text(max_size=20) | OBJECTS
NOT_OBJECT = NUMBERS | st.booleans() | st.text(max_size=20) | LISTS
NOT_FLAG = NUMBERS | st.text(max_size=20) | LISTS | OBJECTS
NOT_FORM = st.sampled_from([0, True, "xml", ["json"], {"$ref": "https://harbour.example/a"},
                            {"type": "array", "maxItems": 10**9}, {"minLength": 5000}])  # fmt: skip
NOT_OPTION = st.sampled_from([
    {"temperature": "warm"}, {"top_k": 1.5}, {"stop": 3}, {"stop": ["a", 1]}, {"seed": []},
    {"num_predict": "all"}, {"num_ctx": 2**40}, {"repeat_penalty": 0}, {"top_p": True},
])  # fmt: skip
NOT_KEEP = st.sampled_from(["soon", "5", "m5", "5 m", "1e3s", "--5m", True, [], {}])
NOT_MESSAGES = st.sampled_from([
    "hi", [3], [{}], [{"role": "pirate"}], [{"role": "user", "content": 3}], [[]],
    [{"role": "user", "images": "a"}], [{"role": "user", "images": ["%"]}],
    [{"role": "user", "images": ["aGFyYm91cg=="]}], [{"role": "assistant", "tool_calls": [{}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "{"}}]}],
])  # fmt: skip
NOT_TOOLS = st.sampled_from([3, "a", [3], [{}], [{"function": 3}], [{"function": {"name": 3}}]])
NOT_NAME = st.sampled_from([
    "", "..", "../mini-qwen", "/etc/hostname", "a/b/c/d", "mini qwen", "a:b:c", "a\\b", ":", "-a",
    "mini-qwen\n", "a\x00b", "%2e%2e", "a" * 300, "C:\\models", "~", "model:../x", "\u202eniwq",
])  # fmt: skip
NOT_OPENAI = st.sampled_from([
    None, [], "hi", [3], [{}], [{"role": "pirate"}], [{"role": "user", "content": 3}],
    [{"role": "user", "content": [{"type": "audio"}]}], [{"role": "user", "content": [3]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "{"}}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "[1]"}}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": {}}}]}],
])  # fmt: skip
NOT_DIGEST = st.sampled_from([
    "", "sha256:", "sha256:12", "sha256:../../x", "md5:" + "0" * 64, "sha256:" + "Z" * 64,
    "sha256:" + "0" * 64, "../../sha256-" + "0" * 64, "sha256:" + "0" * 65,
])  # fmt: skip
ENDPOINTS = {
    "/api/chat": {"model": NOT_TEXT | NOT_NAME, "messages": NOT_MESSAGES, "stream": NOT_FLAG,
                  "format": NOT_FORM, "options": NOT_OBJECT | NOT_OPTION, "keep_alive": NOT_KEEP,
                  "tools": NOT_TOOLS, "think": st.sampled_from([3, "deeply", []])},
    "/api/generate": {"model": NOT_TEXT | NOT_NAME, "prompt": NOT_TEXT, "suffix": NOT_TEXT,
                      "system": NOT_TEXT, "template": NOT_TEXT | st.sampled_from(
                          ["{{ .Messages }}", "{{ if .Prompt }}", "{{", "{{ end }}"]),
                      "context": st.sampled_from([3, ["a"], [-1], [True], [10**12], [999_999]]),
                      "images": NOT_LIST, "raw": NOT_FLAG, "options": NOT_OPTION,
                      "format": NOT_FORM, "keep_alive": NOT_KEEP},
    "/api/embed": {"model": NOT_TEXT | NOT_NAME, "input": st.sampled_from([3, {}, [3], [[]], True]),
                   "dimensions": st.sampled_from(["a", -1, 1.5]), "truncate": NOT_FLAG},
    "/api/embeddings": {"model": NOT_TEXT | NOT_NAME, "prompt": NOT_TEXT, "options": NOT_OPTION},
    "/api/show": {"model": NOT_TEXT | NOT_NAME, "verbose": NOT_FLAG},
    "/api/create": {"model": NOT_TEXT | NOT_NAME | st.just("mini-qwen"),
                    "from": NOT_TEXT | NOT_NAME | st.just("none"),
                    "files": NOT_OBJECT | st.dictionaries(st.just("a"), NOT_DIGEST, min_size=1),
                    "template": st.sampled_from([3, "{{ .Tools }}", "{{ range .A }}"]),
                    "system": NOT_TEXT, "parameters": NOT_OBJECT | NOT_OPTION,
                    "messages": NOT_MESSAGES, "license": st.sampled_from([3, {}, [3]]),
                    "adapters": NOT_OBJECT | st.dictionaries(st.just("a"), NOT_DIGEST, min_size=1),
                    "quantize": NOT_TEXT | st.sampled_from(["q9", "q4_K_M", "../q8_0"])},
    "/api/copy": {"source": NOT_TEXT | NOT_NAME, "destination": NOT_TEXT | NOT_NAME},
    "/api/pull": {"model": NOT_TEXT | NOT_NAME | st.just("mini-qwen")},
    "/api/push": {"model": NOT_TEXT | NOT_NAME | st.just("mini-qwen")},
    "/v1/chat/completions": {"model": NOT_TEXT | NOT_NAME, "messages": NOT_OPENAI,
                             "temperature": st.sampled_from(["warm", True, []]),
                             "stop": st.sampled_from([3, {}, [3]]), "n": st.just(2),
                             "tools": NOT_TOOLS, "stream": NOT_FLAG,
                             "response_format": st.sampled_from([3, {}, {"type": "xml"}])},
    "/v1/completions": {"model": NOT_TEXT | NOT_NAME, "prompt": st.sampled_from([3, {}, [[1]]]),
                        "max_tokens": st.sampled_from(["a", 1.5, []]), "stream": NOT_FLAG},
    "/v1/embeddings": {"model": NOT_TEXT | NOT_NAME, "input": st.sampled_from([3, {}, [3]]),
                       "encoding_format": NOT_TEXT},
}  # fmt: skip
GOOD = {
    "/api/chat": {"model": "mini-qwen", "messages": ASK},
    "/api/generate": {"model": "mini-qwen", "prompt": "hi"},
    "/api/embed": {"model": "mini-qwen", "input": "hi"},
    "/api/embeddings": {"model": "mini-qwen", "prompt": "hi"},
    "/api/show": {"model": "mini-qwen"},
    "/api/create": {"model": "made", "from": "mini-qwen"},
    "/api/copy": {"source": "mini-qwen", "destination": "made"},
    "/api/pull": {"model": "mini-qwen"},
    "/api/push": {"model": "mini-qwen"},
    "/v1/chat/completions": {"model": "mini-qwen", "messages": ASK},
    "/v1/completions": {"model": "mini-qwen", "prompt": "hi"},
    "/v1/embeddings": {"model": "mini-qwen", "input": "hi"},
}


@st.composite
def spoiled(draw):
    """An endpoint and a body that is good but for one field."""
    path = draw(st.sampled_from(sorted(ENDPOINTS)))
    field = draw(st.sampled_from(sorted(ENDPOINTS[path])))
    body = GOOD[path] | {field: draw(ENDPOINTS[path][field])}
    if path == "/api/create" and field == "files":
        del body["from"]
    return path, body


def many(count):
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def check_refused(answer):
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert answer.json()["error"]


def test_spoiled_requests(plain, client):
    sent = 0

    @many(1500)
    @given(spoiled())
    def ask(drawn):
        nonlocal sent
        sent += 1
        path, body = drawn
        check_refused(plain.post(path, json=body))

    ask()
    assert sent >= 1400  # those that hypothesis found no second time
    well(client)


def test_bodies_that_are_no_json_objects(plain, client):
    paths = st.sampled_from(sorted(ENDPOINTS))
    odd = st.sampled_from([
        b"", b"{", b"[]", b"null", b'"a"', b'{"model": NaN}', b'{"model": 1e999}', b"\xff\xfe{}",
        b'{"model": "\\ud800"}', b'{"a":' * 9_000, b"[" * 20_000, b'{"n": ' + b"9" * 5000 + b"}",
        b'{"model": "mini-qwen", "messages": [{"role": "user", "content": "\\udfff"}]}',
    ])  # fmt: skip
    bodies = odd | st.binary(max_size=200) | JSON.filter(lambda one: not isinstance(one, dict)).map(
        lambda one: json.dumps(one).encode())  # fmt: skip

    @many(350)
    @given(paths, bodies)
    def ask(path, body):
        check_refused(plain.post(path, content=body))

    ask()
    well(client)


def test_names_and_digests_with_tricks(plain, client):
    @many(250)
    @given(
        st.sampled_from(["/api/delete", "/api/blobs"]), NOT_NAME | NOT_DIGEST | st.text(max_size=30)
    )
    def ask(path, name):
        if path == "/api/delete":
            return check_refused(plain.request("DELETE", path, json={"model": name}))
        digest = httpx.QueryParams({"a": name})
        answer = plain.post(f"/api/blobs/{str(digest)[2:]}", content=b"not that")
        check_refused(answer)

    ask()
    well(client)


def test_any_value_anywhere_gives_no_server_error(plain, client):
    """Some of these are good requests: only a status of the server's own would be wrong."""
    quick = {"num_predict": 1, "temperature": 0}

    @many(250)
    @given(st.sampled_from(sorted(GOOD)), st.dictionaries(st.sampled_from(
        ["options", "format", "tools", "system", "suffix", "raw", "think", "logprobs", "stream",
         "top_logprobs", "context", "template", "truncate", "dimensions", "stop", "top_p"]),
        JSON, max_size=3), st.dictionaries(st.sampled_from(
            ["temperature", "top_k", "top_p", "min_p", "seed", "repeat_penalty", "repeat_last_n",
             "num_keep", "stop", "typical_p"]),
            st.integers(-3, 2**31) | st.floats(-10, 10) | st.lists(st.text(max_size=4), max_size=2),
            max_size=3))  # fmt: skip
    def ask(path, extra, options):
        body = GOOD[path] | {"options": options | quick, "max_tokens": 1} | extra
        answer = plain.post(path, json=body)
        assert answer.status_code < 500, (path, body, answer.text)

    ask()
    well(client)


def test_schemas_of_all_sorts(plain, client):
    kinds = st.sampled_from(["object", "array", "string", "integer", "nonsense", 3, ["null", "a"]])
    inner = st.fixed_dictionaries({}, optional={
        "type": kinds, "enum": st.lists(JSON, max_size=3), "const": JSON, "minimum": JSON,
        "maxItems": st.integers(-2, 5), "pattern": st.sampled_from(["(((", "^[a-z]+$", "a{9}", 3]),
        "format": st.text(max_size=5), "$ref": st.sampled_from(["#", "#/a", "http://127.0.0.1:9"]),
    })  # fmt: skip
    shapes = inner | st.fixed_dictionaries({"type": st.just("object"), "properties":
        st.dictionaries(st.text(max_size=5), inner, max_size=3) | JSON, "required": JSON},
        optional={"anyOf": st.lists(inner, max_size=2) | JSON, "x-guidance": JSON})  # fmt: skip

    @many(150)
    @given(st.sampled_from(["/api/chat", "/api/generate"]), shapes)
    def ask(path, shape):
        body = GOOD[path] | {"format": shape, "options": {"num_predict": 2}, "stream": False}
        answer = plain.post(path, json=body)
        assert answer.status_code < 500, (shape, answer.text)

    ask()
    well(client)


def test_bodies_and_files_over_the_limit(served, plain, client, monkeypatch):
    monkeypatch.setattr(app, "MAX_BODY", 2000)
    body = {"model": "mini-qwen", "prompt": "a" * 3000}
    assert plain.post("/api/generate", json=body).status_code == 413
    monkeypatch.setattr(served.store, "max_blob", 1000)
    content = b"a" * 2000
    digest = hashlib.sha256(content).hexdigest()

    def pieces():  # without a length announced
        yield content

    for sent in (content, pieces()):
        assert plain.post(f"/api/blobs/sha256:{digest}", content=sent).status_code == 413
    assert plain.head(f"/api/blobs/sha256:{digest}").status_code == 404
    assert not list(served.store.root.rglob("*.part"))
    well(client)


ENDLESS = {
    "a header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 2**22,
    "many headers": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: a\r\n" * 2**20,
    "an address": b"GET /" + b"a" * 2**22,
    "a trailer": b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\nX: " + b"a" * 2**22,
}


@pytest.mark.parametrize("part", ENDLESS)
def test_heads_without_an_end_are_cut_off(served, client, part):
    said = b""
    with socket.create_connection(("127.0.0.1", served._socket.getsockname()[1])) as line:
        line.settimeout(20)
        with contextlib.suppress(ConnectionError):
            line.sendall(ENDLESS[part])  # the end of the request never comes
        with contextlib.suppress(ConnectionError):
            while piece := line.recv(2**16):
                said += piece
    assert said == b"" or said.startswith(b"HTTP/1.1 400")
    well(client)


def test_files_that_are_no_model(plain, client):
    whole = gguf_file("mini-r1").read_bytes()
    key = b"qwen2.attention.head_count" + (4).to_bytes(4, "little")
    at = whole.index(key) + len(key)
    without_heads = whole[:at] + (0).to_bytes(4, "little") + whole[at + 4 :]
    for content in (
        b"", b"GGUF", b"harbour" * 100, whole[:1000], whole[:-1000], whole[: len(whole) // 2],
        b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16, without_heads,
    ):  # fmt: skip
        files = {"a.gguf": blob(plain, content)}
        check_refused(plain.post("/api/create", json={"model": "broken", "files": files}))
    for name in ("../a.gguf", "/a.gguf", "a/b.gguf", "..", ""):
        files = {name: blob(plain, whole)}
        check_refused(plain.post("/api/create", json={"model": "broken", "files": files}))
    assert "broken:latest" not in [one.model for one in client.list().models]
    well(client)


@many(400)
@given(st.data())
def test_a_header_with_any_bytes_is_read_or_refused(data):
    whole = _small_gguf()
    places = st.integers(0, len(whole) - 1)
    changed = bytearray(whole[: data.draw(places) + 1 if data.draw(st.booleans()) else len(whole)])
    for at, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        if at < len(changed):
            changed[at] = byte
    try:
        parsed = header._read(header._Reader(bytes(changed)))
    except ValueError:
        return
    assert parsed.parameters >= 0 and parsed.architecture


def _small_gguf(made=[]) -> bytes:  # noqa: B006  (made once)
    if not made:
        file = cache() / f"test-{os.getpid()}.gguf"
        file.parent.mkdir(parents=True, exist_ok=True)
        made.append(adapter(file, 1.0).read_bytes()[:600] + bytes(20_000))
        file.unlink()
        assert header._read(header._Reader(made[0])).architecture == "qwen2"
    return made[0]


# killed at work


class Apart:
    """The server as a process of its own: `python -m openmodels.serving.app`."""

    def __init__(self, folder):
        told = os.environ | {"OPENMODELS_CACHE": str(folder), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openmodels.serving.app", "--port", "0"],
            cwd=minis.ROOT, env=told, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        words = self.process.stdout.readline()
        assert "stand-in" in words
        self.address = words.split()[-1]
        self.port = int(self.address.rpartition(":")[2])
        self.client = ollama.Client(self.address, trust_env=False)

    def kill(self):
        self.process.kill()  # SIGKILL
        self.process.wait()
        self.process.stdout.close()


def test_killed_while_creating_it_keeps_what_was_finished(tmp_path):
    first = Apart(tmp_path)
    content = gguf_file("mini-r1").read_bytes()
    try:
        first.client.create("kept", from_="mini-qwen", system="You are the clerk of Port Lark.")
        digest = first.client.create_blob(gguf_file("mini-r1"))
        first.client.create("kept-file", files={"a.gguf": digest})
        before = {one.model: one.digest for one in first.client.list().models}
        other = hashlib.sha256(content + b"a").hexdigest()
        line = socket.create_connection(("127.0.0.1", first.port))
        head = f"POST /api/blobs/sha256:{other} HTTP/1.1\r\nHost: localhost\r\n"
        line.sendall(f"{head}Content-Length: {len(content) + 1}\r\n\r\n".encode() + content)
        until(lambda: list(tmp_path.rglob("*.part")))
        creating = [
            threading.Thread(target=create, args=(first.address, name, digest), daemon=True)
            for name in ("kept-file", "half")
        ]
        for one in creating:
            one.start()
        time.sleep(0.2)  # into the loading that every new file is tried with
    finally:
        first.kill()
    line.close()
    second = Apart(tmp_path)
    try:
        after = {one.model: one.digest for one in second.client.list().models}
        assert before.items() <= after.items() and set(after) - set(before) <= {"half:latest"}
        for name in after:
            if name.startswith(("kept", "half")):
                assert second.client.chat(name, ASK, options=GREEDY).message.content
        address = f"{second.address}/api/blobs/sha256:{other}"
        assert httpx.head(address, trust_env=False).status_code == 404
        assert httpx.post(address, content=content + b"a", trust_env=False).status_code == 201
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(60) is not None
    finally:
        second.kill()


def create(address, name, digest):
    try:
        ollama.Client(address, trust_env=False).create(name, files={"a.gguf": digest})
    except (httpx.HTTPError, ConnectionError, ollama.ResponseError):
        pass  # killed: that is the test


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_create_that_fails_midway_changes_nothing(tmp_path, monkeypatch, step):
    kept = model_store.Store(tmp_path)
    kept.create("kept", "mini-r1", system="first")

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(model_store.os, step, fail)
        with pytest.raises(OSError):
            kept.create("kept", "mini-r1", system="second")
    again = model_store.Store(tmp_path)
    assert again.find("kept").system == "first"
    again._tidy(-1)
    assert not list(tmp_path.rglob("*.part")) and again.find("kept").system == "first"


# parts


def test_templates():
    talk = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "V"},
    ]
    template = Template(
        "{{ if .System }}<{{ .System }}>\n{{ end }}{{- if .Prompt }}[{{ .Prompt }}]{{ else }}-"
        "{{ end }}{{/* a comment */}} {{ .Response }}.\n"
    )
    assert template.render(talk) == "<S>\n[U] A.\n[V] "
    assert template.render([talk[2]]) == "- A"
    assert Template("{{ .Prompt }}").render(talk[:2]) == "U"
    chain = Template("{{ if .System }}a{{ else if .Prompt }}b{{ else }}c{{ end }}")
    assert [chain.render(talk[n : n + 1]) for n in range(3)] == ["a", "b", "cA"]
    for bad in (
        "{{ if .Prompt }}", "{{ end }}", "{{ .Prompt", "}}", "{{ .Tools }}", "{{}}",
        "{{ if .Prompt }}{{ else }}{{ else }}{{ end }}", "{{ if .A }}{{ end }}",
        "{{ range .A }}{{ end }}", '{{ printf "%s" .Prompt }}', "{{ if .Prompt }}" * 40,
        "a" * 70_000,
    ):  # fmt: skip
        with pytest.raises(ValueError):
            Template(bad)


@many(200)
@given(st.lists(st.integers(1, 9), min_size=40, max_size=40))
def test_thoughts_however_the_text_is_cut(sizes):
    for whole, thinking, content in (
        (" \n<think>\n a < b </thi x\n</think>\n\nans <think>", "a < b </thi x", "ans <think>"),
        ("<think>abc", "abc", ""),
        ("<thin", "", "<thin"),
        ("no <think>x</think>", "", "no <think>x</think>"),
        ("<think></think>", "", ""),
    ):
        apart, at, found = ThinkTagParser(), 0, ["", ""]
        for size in sizes:
            parts = apart.feed(whole[at : at + size])
            found = [one + more for one, more in zip(found, parts, strict=True)]
            at += size
        parts = apart.feed(whole[at:], last=True)
        found = [one + more for one, more in zip(found, parts, strict=True)]
        assert found == [thinking, content]


def test_durations():
    def keep(value):
        return requests.keep_alive(requests.Fields({"keep_alive": value}))

    assert keep(None) is None and keep(0) == 0 and keep("0") == 0 and keep(1.5) == 1.5
    assert (
        keep("1h30m") == 5400 and keep("300ms") == 0.3 and keep("-1m") == float("inf") == keep(-1)
    )
    for bad in ("", "5", "m", "5x", "5m junk", "nan", True, [], "9" * 400):
        with pytest.raises(ApiError):
            keep(bad)


def test_names():
    for given_, wanted in (
        ("Mini-Qwen", "mini-qwen:latest"),
        ("a/b:c", "a/b:c"),
        ("host.example/a/b", "host.example/a/b:latest"),
    ):
        assert model_store.full_name(given_) == wanted
