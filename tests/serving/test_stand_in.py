"""What deploy/stand_in.md says of the stand-in for Ollama: each field is sent and answered so."""

import base64
import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest
from test_app import adapter, picture

from openmodels.gguf.export import gguf_file
from openmodels.serving.app import Server

TEXT = (Path(__file__).parents[2] / "deploy" / "stand_in.md").read_text(encoding="utf-8")
FIELD = re.compile(r"`([a-z_]+)(?:: (.*?))?`(?=[,. |]|$)", re.MULTILINE)
CALL = re.compile(r"`(GET|POST|HEAD|DELETE) (/\S+)`")
TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}
SHORT = {"num_predict": 4, "temperature": 0}
ASK = [{"role": "user", "content": "Hello"}]
BODIES = {
    "/api/generate": {"prompt": "Hello", "stream": False, "options": SHORT},
    "/api/chat": {"messages": ASK, "stream": False, "options": SHORT},
    "/api/embed": {"input": "Hello"},
    "/api/embeddings": {"prompt": "Hello"},
    "/v1/chat/completions": {"messages": ASK, "max_tokens": 4},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 4},
    "/v1/embeddings": {"input": "Hello"},
    "/api/show": {},
    "/api/create": {"model": "made", "from": "mini-qwen", "stream": False},
    "/api/pull": {},
    "/api/push": {},
}
# what a field needs beside itself
MODELS = {"suffix": "mini-qwen-coder", "think": "mini-r1", "reasoning_effort": "mini-r1"}


def sample(path: str, name: str, blobs: dict[str, str]) -> dict:
    """A field that the table gives without a value, with what it needs."""
    if name == "images":
        seen = base64.b64encode(picture((200, 0, 0))).decode()
        url = {"url": f"data:image/png;base64,{seen}"}
        text = {"type": "text", "text": "What colour?"}
        message = {"role": "user", "content": "What colour?", "images": [seen]}
        if path.startswith("/v1"):
            message = {"role": "user", "content": [{"type": "image_url", "image_url": url}, text]}
        told = {"images": [seen]} if path == "/api/generate" else {"messages": [message]}
        return {"model": "mini-scout"} | told
    known = {"tools": [TOOL], "options": SHORT, "messages": ASK, "suffix": "return x"}
    if name == "files":
        return {"from": None, "files": {"mini.gguf": blobs["files"]}}
    if name == "adapters":
        return {"adapters": {"lora.gguf": blobs["adapters"]}}
    return {name: known[name]}


def rows() -> list[tuple[str, str, str, str]]:
    """(path, verdict, name, value in JSON or "") for every field of the table."""
    found = []
    for line in TEXT.splitlines():
        if line.startswith("| `POST"):
            head, *cells = line.strip("|").split(" |")
            path = CALL.search(head)[2]
            for verdict, cell in zip(("does", "nothing", "refuses"), cells, strict=True):
                found += [(path, verdict, name, value) for name, value in FIELD.findall(cell)]
    options, others = TEXT.split("## Options")[1].split("##")[0].split("Others")
    for verdict, part in (("does", options), ("nothing", others)):
        for name, value in FIELD.findall(part.replace("\n", " ")):
            found.append(("/api/generate", verdict, f"options.{name}", value))
    return found


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("stand-in")
    with (
        Server(port=0, root=root) as server,
        httpx.Client(base_url=server.address, timeout=None, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def blobs(asked, tmp_path) -> dict[str, str]:
    """Digests of a model and of an adapter that the server has got."""
    found = {}
    for file in (gguf_file("mini-qwen"), adapter(tmp_path / "lora.gguf", 0.1)):
        content = file.read_bytes()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        asked.post(f"/api/blobs/{digest}", content=content).raise_for_status()
        found["adapters" if file.name == "lora.gguf" else "files"] = digest
    return found


def test_every_field_is_answered_as_the_table_says(asked, blobs):
    found = rows()
    assert len(found) > 100
    wrong = []
    for path, verdict, name, value in found:
        outer, _, inner = name.partition(".")
        told = sample(path, name, blobs) if not value else {outer: json.loads(value)}
        if inner:
            told = {"options": SHORT | {inner: json.loads(value)}}
        body = {"model": MODELS.get(name, "mini-qwen")} | BODIES[path] | told
        if name == "top_logprobs":
            body["logprobs"] = True
        answer = asked.post(path, json=body)
        if verdict == "refuses":
            fine = 400 <= answer.status_code < 500 and answer.json()["error"]
        else:
            fine = answer.status_code == 200 and "error" not in answer.text[:20]
        if not fine:
            wrong.append((path, name, value, answer.status_code, answer.text[:200]))
    assert wrong == []


def test_the_other_endpoints_are_there_or_not_as_it_says(asked):
    there, missing = TEXT.split("Also there:")[1].split("## Options")[0].split("Not there")
    for method, path in CALL.findall(there.replace("\n", " ")):
        path = path.replace("{digest}", "sha256:" + "0" * 64).replace("{name}", "mini-qwen")
        answer = asked.request(method, path, json={} if method in ("POST", "DELETE") else None)
        assert "not in this stand-in" not in answer.text, path
        assert answer.status_code != 405, path
    missing = CALL.findall(missing.replace("\n", " "))
    assert len(missing) == 8
    for method, path in missing:
        answer = asked.request(method, path, json={"model": "mini-qwen"})
        assert answer.status_code == 404
        assert f"{path} is not in this stand-in" in answer.text
