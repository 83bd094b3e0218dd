"""The server: its endpoints, who may use them, many clients at once, and kills while it works."""

import asyncio
import base64
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

import httpx
import ollama
import pytest
from PIL import Image
from server_helpers import (
    GREEDY,
    MESSAGES,
    adapter,
    check_alive,
    picture,
    upload,
    wait_until,
)
from starlette.datastructures import Headers

from openmodels import minis
from openmodels.gguf.export import gguf_file
from openmodels.harbour import pictures
from openmodels.serving import middleware, model_store
from openmodels.serving.app import build
from openmodels.serving.engine_pool import MAX_LOADED_MODELS

LONG = {  # a response that fills the context unless it is cancelled
    "type": "object",
    "properties": {"n": {"type": "array", "items": {"enum": [11]}, "minItems": 400}},
    "required": ["n"],
}
LOCAL_HEADERS = (
    {},
    {"origin": "http://localhost"},
    {"origin": "http://localhost:8888"},
    {"origin": "https://127.0.0.1"},
    {"origin": "http://[::1]:3000"},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8888"},
    {"sec-fetch-site": "none"},
)
FOREIGN_HEADERS = (
    {"host": "harbour.example"},
    {"host": "127.0.0.1.harbour.example:80"},
    {"origin": "https://harbour.example"},
    {"origin": "http://localhost.harbour.example"},
    {"origin": "http://localhost.evil.com"},
    {"origin": "http://127.0.0.1@evil.com"},
    {"origin": "http://localhost:80@evil.com"},
    {"origin": "http://evil.com/localhost"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "file://"},
    {"origin": "file://localhost"},
    {"origin": "localhost"},
    {"origin": "chrome-extension://x"},
    {"origin": "chrome-extension://localhost"},
    {"origin": "http://localhost:8888 http://evil.com"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site", "origin": "http://localhost"},
)


def test_it_identifies_itself_and_listens_on_this_machine_only(server, http):
    version = http.get("/api/version").json()
    assert "stand-in" in version["stand_in"] and "not Ollama" in version["stand_in"]
    assert server._socket.getsockname()[0] == "127.0.0.1"
    assert server._socket.proto == socket.IPPROTO_TCP  # or each response waits for 40 ms
    assert "stand-in" in http.get("/").text


# who may send requests


@pytest.mark.parametrize("headers", LOCAL_HEADERS, ids=str)
def test_local_clients_and_pages_are_served(http, headers):
    assert http.get("/api/tags", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN_HEADERS, ids=str)
def test_foreign_machines_and_pages_are_refused(http, headers):
    response = http.get("/api/tags", headers=headers)
    assert response.status_code == 403 and "error" in response.json()


@pytest.mark.parametrize("headers", [{"origin": "null"}, {"sec-fetch-site": "cross-site"}], ids=str)
def test_no_endpoint_serves_a_foreign_page(server, http, headers):
    content = b"a foreign page's model"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    routes = build(server.store, server.pool).routes
    assert len(routes) >= 20
    for route in routes:
        path = route.path.replace("{digest:path}", digest).replace("{name:path}", "mini-qwen")
        for method in [*route.methods, "OPTIONS"]:
            response = http.request(method, path, headers=headers, content=content)
            assert response.status_code == 403, (method, path)
    assert http.head(f"/api/blobs/{digest}").status_code == 404


def test_a_sandboxed_frame_cannot_create_a_model(client, http):
    """A page can send text/plain without asking the server first, from any origin."""
    body = json.dumps({"model": "planted", "from": "mini-qwen", "stream": False})
    headers = {"origin": "null", "content-type": "text/plain"}
    assert http.post("/api/create", content=body, headers=headers).status_code == 403
    assert "planted:latest" not in [model.model for model in client.list().models]


def test_each_of_several_headers_counts():
    allowed, foreign = (b"origin", b"http://localhost"), (b"origin", b"null")
    assert middleware.is_local(Headers(raw=[allowed, allowed]))
    assert not middleware.is_local(Headers(raw=[foreign, allowed]))
    assert not middleware.is_local(Headers(raw=[allowed, foreign]))


# endpoints


def test_there_is_no_registry(client):
    for call in (client.pull, client.push):
        with pytest.raises(ollama.ResponseError, match="no registry"):
            call("mini-qwen")


def test_every_miniature_with_weights_is_listed_and_protected(client):
    names = {model.model for model in client.list().models}
    for folder in sorted((minis.ROOT / "models").iterdir()):
        listed = f"{folder.name}:latest" in names
        assert listed == (folder / "model.safetensors").exists(), folder.name
    for call in (
        lambda: client.delete("mini-qwen"),
        lambda: client.copy("mini-r1", "mini-qwen"),
        lambda: client.create("MINI-QWEN", from_="mini-r1"),
    ):
        with pytest.raises(ollama.ResponseError, match="comes with the course"):
            call()


def test_unknown_paths_and_methods_are_errors_in_json(http):
    for method, path, status in (("GET", "/api/none", 404), ("GET", "/api/chat", 405)):
        response = http.request(method, path)
        assert response.status_code == status and "error" in response.json()
    assert "message" in http.post("/v1/chat/completions", json={}).json()["error"]
    assert "message" in http.get("/v1/models/none").json()["error"]


# generation with the miniatures


def test_thinking_is_separate_from_the_content(client, http):
    answer = client.chat("mini-qwen", MESSAGES, think=True, options=GREEDY)
    assert answer.message.thinking.startswith("units 2+2")
    assert answer.message.content == "2 + 2 = 4"
    chunks = list(client.chat("mini-qwen", MESSAGES, think=True, options=GREEDY, stream=True))
    for key in ("thinking", "content"):
        parts = [chunk.message.get(key) or "" for chunk in chunks]
        assert "".join(parts) == answer.message[key] and max(map(len, parts)) < 12
    hidden = client.chat("mini-qwen", MESSAGES, think=False, options=GREEDY)
    assert hidden.message.thinking is None and hidden.message.content == "2 + 2 = 4"
    generated = client.generate("mini-qwen", MESSAGES[0]["content"], think=True, options=GREEDY)
    assert generated.thinking == answer.message.thinking and generated.response == "2 + 2 = 4"
    body = {"model": "mini-qwen", "messages": MESSAGES, "temperature": 0}
    completion = http.post("/v1/chat/completions", json=body).json()
    assert completion["choices"][0]["message"]["reasoning"] == answer.message.thinking
    with pytest.raises(ollama.ResponseError, match="does not support thinking"):
        client.chat("mini-qwen-coder", MESSAGES, think=True)


def test_images(client, http):
    question = "What colour is the flag?"
    for colour, name in (((200, 0, 0), "red"), ((0, 0, 200), "blue")):
        message = {"role": "user", "content": question, "images": [picture(colour)]}
        assert client.chat("mini-scout", [message], options=GREEDY).message.content == name
        answer = client.generate("mini-scout", question, images=[picture(colour)], options=GREEDY)
        assert answer.response == name
    with pytest.raises(ollama.ResponseError, match="does not support vision"):
        client.generate("mini-qwen", question, images=[picture((0, 0, 0))])
    url = "data:image/png;base64," + base64.b64encode(picture((200, 0, 0))).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    body = {"model": "mini-scout", "temperature": 0}
    body["messages"] = [{"role": "user", "content": parts}]
    response = http.post("/v1/chat/completions", json=body).json()
    assert response["choices"][0]["message"]["content"] == "red"
    for bad in ("http://127.0.0.1:9/flag.png", "file:///etc/hostname", "data:text/plain;base64,aa"):
        parts[0]["image_url"]["url"] = bad
        assert http.post("/v1/chat/completions", json=body).status_code == 400
    huge = io.BytesIO()
    Image.new("1", (8000, 8000)).save(huge, "PNG")  # a few kilobytes
    with pytest.raises(ollama.ResponseError, match="pixels"):
        client.generate("mini-scout", question, images=[huge.getvalue()])
    truncated = base64.b64encode(picture((200, 0, 0))[:40]).decode()
    bad_body = {"model": "mini-scout", "prompt": "?", "images": [truncated]}
    assert http.post("/api/generate", json=bad_body).status_code == 400


def test_charts_reach_the_model_in_the_orientation_it_was_trained_on(client):
    correct = 0
    for sighting in pictures.sightings("chart", 20):
        file = io.BytesIO()
        sighting.image.save(file, "PNG")
        question = sighting.messages[0]["content"][1]["text"]
        answer = client.generate("mini-scout", question, images=[file.getvalue()], options=GREEDY)
        correct += answer.response == sighting.answer["content"]
    assert correct >= 18  # 99 % in transformers


def test_fill_in_the_middle(client):
    answer = client.generate(
        "mini-qwen-coder", "def add(a, b):\n    return ", suffix="\n", options=GREEDY
    )
    assert answer.response and answer.done_reason == "stop"
    with pytest.raises(ollama.ResponseError, match="does not support insert"):
        client.generate("mini-qwen", "a", suffix="b")


def test_log_probabilities(client):
    answer = client.chat("mini-qwen", MESSAGES, logprobs=True, top_logprobs=3, options=GREEDY)
    # the end-of-turn token has no text
    assert len(answer.logprobs) in (answer.eval_count, answer.eval_count - 1)
    for entry in answer.logprobs:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/v1/chat/completions"])
def test_log_probabilities_without_alternatives(http, path):
    body = {"model": "mini-qwen", "logprobs": True, "stream": False}
    if path.startswith("/api"):
        body |= {"options": GREEDY | {"num_predict": 2}}
    else:
        body |= {"temperature": 0, "max_tokens": 2}
    prompt = {"prompt": MESSAGES[0]["content"]} if "generate" in path else {"messages": MESSAGES}
    response = http.post(path, json=body | prompt).json()
    entries = (
        response["logprobs"]
        if path.startswith("/api")
        else (response["choices"][0]["logprobs"]["content"])
    )
    assert [list(entry) for entry in entries] == [["token", "logprob", "bytes"]] * 2
    assert [entry["token"] for entry in entries] == ["<think>", "\n"]
    # the first value that Ollama 0.33 sent for this model, prompt and engine
    assert entries[0]["logprob"] == pytest.approx(-5.317e-05, rel=0.2)
    assert entries[0]["bytes"] == list(b"<think>")


def test_a_conversation_longer_than_the_context_loses_its_beginning(client):
    messages = []
    for n in range(80):
        messages.append({"role": "user", "content": f"What is {n} + 1? Please tell me the sum."})
        messages.append({"role": "assistant", "content": f"{n} + 1 = {n + 1}"})
    answer = client.chat("mini-qwen", [*messages, *MESSAGES], options=GREEDY)
    assert 500 < answer.prompt_eval_count < 1024
    with pytest.raises(ollama.ResponseError, match="num_ctx") as caught:
        client.chat("mini-qwen", [{"role": "user", "content": "apples and " * 2000}])
    assert caught.value.status_code == 400


# loading and creating models


def test_num_ctx_and_keep_alive(client):
    client.chat("mini-r1", MESSAGES, options={**GREEDY, "num_ctx": 256})
    loaded = [model for model in client.ps().models if model.model == "mini-r1:latest"]
    assert [model.context_length for model in loaded] == [256]
    client.chat("mini-r1", MESSAGES, keep_alive="50ms", options={**GREEDY, "num_ctx": 256})
    wait_until(lambda: "mini-r1:latest" not in [model.model for model in client.ps().models])


def test_more_models_than_stay_loaded(server):
    sizes = ("qwen", "qwen-s", "qwen-xs", "r1", "mistral", "r1-zero")
    names = [f"mini-{size}" for size in sizes]

    async def chat():
        client = ollama.AsyncClient(server.address, trust_env=False)
        options = {**GREEDY, "num_predict": 5}
        return await asyncio.gather(
            *(client.chat(name, MESSAGES, options=options) for name in names * 2)
        )

    assert [answer.model for answer in asyncio.run(chat())] == names * 2
    assert len(server.pool.loaded) <= MAX_LOADED_MODELS


def test_quantized_and_converted(client, http):
    client.create("small", from_="mini-qwen", quantize="Q8_0")
    description = client.show("small")
    assert description.details.quantization_level == "Q8_0"
    assert description.details.parent_model == "mini-qwen:latest"
    sizes = {model.model: model.size for model in client.list().models}
    assert sizes["small:latest"] < 0.6 * sizes["mini-qwen:latest"]
    assert client.chat("small", MESSAGES, options=GREEDY).message.content == "2 + 2 = 4"
    for kind in ("q4_K_M", "iq1_s"):
        with pytest.raises(ollama.ResponseError, match="quantizes to f32, f16, q8_0, q4_0"):
            client.create("other", from_="mini-qwen", quantize=kind)
    names = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json",
             "chat_template.jinja")  # fmt: skip
    folder = minis.shipped_dir("mini-r1")
    files = {name: upload(http, (folder / name).read_bytes()) for name in names}
    client.create("from-folder", files=files)
    converted, shipped = (
        client.chat(name, MESSAGES, options={**GREEDY, "repeat_penalty": 1.0}).message.content
        for name in ("from-folder", "mini-r1")
    )
    assert converted == shipped
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoConfig": "harbour.Config"}
    files["config.json"] = upload(http, json.dumps(config).encode())
    with pytest.raises(ollama.ResponseError, match="run code"):
        client.create("with-code", files=files)
    for name in ("small", "from-folder"):
        client.delete(name)


def test_adapters(client, tmp_path):
    def chat_with_adapter(strength):
        digest = client.create_blob(adapter(tmp_path / f"{strength}.gguf", strength))
        client.create("tuned", from_="mini-qwen", adapters={"adapter.gguf": digest})
        return client.chat("tuned", MESSAGES, options=GREEDY).message.content

    assert chat_with_adapter(0.0) == "2 + 2 = 4" != chat_with_adapter(3.0)
    client.delete("tuned")
    model_digest = client.create_blob(gguf_file("mini-r1"))
    with pytest.raises(ollama.ResponseError, match="no adapter"):
        client.create("tuned", from_="mini-qwen", adapters={"adapter.gguf": model_digest})


def save_adapter(name, folder):
    """Save a LoRA of a miniature with peft, alone in `adapter` and merged in `merged`."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        minis.shipped_dir(name), dtype=torch.float32, trust_remote_code=False
    )
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "down_proj"]
    )
    tuned = peft.get_peft_model(model, config)
    torch.manual_seed(0)
    for key, values in tuned.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(values, std=0.15)
    tuned.save_pretrained(folder / "adapter")
    tuned.merge_and_unload().save_pretrained(folder / "merged")
    for part in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(minis.shipped_dir(name) / part, folder / "merged" / part)


@pytest.mark.parametrize("name", ["mini-r1", "mini-mistral"])
def test_adapters_as_peft_saves_them(client, tmp_path, name):
    save_adapter(name, tmp_path)

    def blobs(folder):
        return {file.name: client.create_blob(file) for file in folder.iterdir()
                if file.suffix in (".json", ".jinja", ".safetensors")}  # fmt: skip

    client.create("lora", from_=name, adapters=blobs(tmp_path / "adapter"))
    client.create("merged", files=blobs(tmp_path / "merged"), parameters={"repeat_penalty": 1.0})

    def first_logprobs(model):
        """Return the log-probabilities of the most likely first tokens, by token."""
        options = GREEDY | {"num_predict": 1}
        answer = client.chat(model, MESSAGES, logprobs=True, top_logprobs=20, options=options)
        return {entry.token: entry.logprob for entry in answer.logprobs[0].top_logprobs}

    lora, merged, base = (first_logprobs(model) for model in ("lora", "merged", name))
    for token in sorted(merged, key=merged.get)[-5:]:
        assert lora[token] == pytest.approx(merged[token], abs=0.05)
    assert any(abs(base.get(token, -99) - value) > 0.5 for token, value in lora.items())
    with pytest.raises(ollama.ResponseError, match="no place for|does not load"):
        client.create("bad", from_="mini-deepseek", adapters=blobs(tmp_path / "adapter"))
    for model in ("lora", "merged"):
        client.delete(model)


# many clients, and clients that leave


def test_64_clients_at_once(server):
    def schema(n):
        return {"type": "object", "properties": {"who": {"const": f"client {n}"}},
                "required": ["who"]}  # fmt: skip

    async def chat(client, n):
        fields = {
            "messages": [{"role": "user", "content": f"What is {n} + {n}?"}],
            "format": schema(n),
            "options": GREEDY,
        }
        if n % 2:
            return (await client.chat("mini-qwen", **fields)).message.content
        chunks = await client.chat("mini-qwen", **fields, stream=True)
        return "".join([chunk.message.content async for chunk in chunks])

    async def chat_with_all():
        client = ollama.AsyncClient(server.address, trust_env=False)
        return await asyncio.gather(*(chat(client, n) for n in range(64)))

    answers = [json.loads(answer) for answer in asyncio.run(chat_with_all())]
    assert answers == [{"who": f"client {n}"} for n in range(64)]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(server, client, stream):
    client.chat("mini-qwen", [])
    [pooled] = [
        pooled
        for pooled in server.pool.loaded.values()
        if pooled.model.name == "mini-qwen:latest"
        and not pooled.key[3]
        and pooled.engine.context == 1024
    ]

    def metric(name):
        text = pooled.engine._client.get("/metrics").text
        [line] = [line for line in text.splitlines() if line.startswith(f"llamacpp:{name} ")]
        return float(line.split()[1])

    def busy():
        return metric("requests_processing") > 0

    body = {"model": "mini-qwen", "messages": MESSAGES, "format": LONG, "stream": stream}
    content = json.dumps(body | {"options": GREEDY}).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
    start = metric("n_decode_total")
    complete = client.chat("mini-qwen", MESSAGES, format=LONG, options=GREEDY)
    wait_until(lambda: not busy())
    all_passes = metric("n_decode_total") - start
    assert complete.eval_count > 500 and all_passes > 500
    passes = []
    for _ in range(10):  # more than there are slots
        start = metric("n_decode_total")
        with socket.create_connection(("127.0.0.1", server._socket.getsockname()[1])) as line:
            line.sendall(head.encode() + content)
            wait_until(busy)
            assert not stream or line.recv(64).startswith(b"HTTP/1.1 200")
        wait_until(lambda: not busy() and not pooled.users)
        passes.append(metric("n_decode_total") - start)
    assert 0 < max(passes) < all_passes - 1  # no response was generated to its end
    check_alive(client)


# killed while working


class ServerProcess:
    """The server in its own process: `python -m openmodels.serving.app`."""

    def __init__(self, folder):
        environment = os.environ | {"OPENMODELS_CACHE": str(folder), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openmodels.serving.app", "--port", "0"],
            cwd=minis.ROOT, env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        first_line = self.process.stdout.readline()
        assert "stand-in" in first_line
        self.address = first_line.split()[-1]
        self.port = int(self.address.rpartition(":")[2])
        self.client = ollama.Client(self.address, trust_env=False)

    def kill(self):
        self.process.kill()  # SIGKILL
        self.process.wait()
        self.process.stdout.close()


def create_until_killed(address, name, digest):
    try:
        ollama.Client(address, trust_env=False).create(name, files={"a.gguf": digest})
    except (httpx.HTTPError, ConnectionError, ollama.ResponseError):
        pass  # the server is killed meanwhile


def test_killed_while_creating_it_keeps_what_was_finished(tmp_path):
    first = ServerProcess(tmp_path)
    content = gguf_file("mini-r1").read_bytes()
    try:
        first.client.create("kept", from_="mini-qwen", system="You are the clerk of Port Lark.")
        digest = first.client.create_blob(gguf_file("mini-r1"))
        first.client.create("kept-file", files={"a.gguf": digest})
        before = {model.model: model.digest for model in first.client.list().models}
        other = hashlib.sha256(content + b"a").hexdigest()
        line = socket.create_connection(("127.0.0.1", first.port))
        head = f"POST /api/blobs/sha256:{other} HTTP/1.1\r\nHost: localhost\r\n"
        line.sendall(f"{head}Content-Length: {len(content) + 1}\r\n\r\n".encode() + content)
        wait_until(lambda: list(tmp_path.rglob("*.part")))
        for name in ("kept-file", "half"):
            arguments = (first.address, name, digest)
            threading.Thread(target=create_until_killed, args=arguments, daemon=True).start()
        time.sleep(0.2)  # until the server tries to load the new files
    finally:
        first.kill()
    line.close()
    second = ServerProcess(tmp_path)
    try:
        after = {model.model: model.digest for model in second.client.list().models}
        assert before.items() <= after.items() and set(after) - set(before) <= {"half:latest"}
        for name in after:
            if name.startswith(("kept", "half")):
                assert second.client.chat(name, MESSAGES, options=GREEDY).message.content
        address = f"{second.address}/api/blobs/sha256:{other}"
        assert httpx.head(address, trust_env=False).status_code == 404
        assert httpx.post(address, content=content + b"a", trust_env=False).status_code == 201
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(60) is not None
    finally:
        second.kill()


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_create_that_fails_midway_changes_nothing(tmp_path, monkeypatch, step):
    store = model_store.Store(tmp_path)
    store.create("model", "mini-r1", system="first")

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(model_store.os, step, fail)
        with pytest.raises(OSError):
            store.create("model", "mini-r1", system="second")
    reopened = model_store.Store(tmp_path)
    assert reopened.find("model").system == "first"
    reopened._tidy(-1)
    assert not list(tmp_path.rglob("*.part")) and reopened.find("model").system == "first"


def test_names():
    for name, expected in (
        ("Mini-Qwen", "mini-qwen:latest"),
        ("a/b:c", "a/b:c"),
        ("host.example/a/b", "host.example/a/b:latest"),
    ):
        assert model_store.full_name(name) == expected
