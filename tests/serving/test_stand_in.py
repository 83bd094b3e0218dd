"""Checks deploy/stand_in.md against the server: each field, option and route that it lists."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from media_cases import whole
from server_helpers import adapter, picture

from openmodels.gguf.export import gguf_file
from openmodels.serving.app import build
from openmodels.serving.requests import DEFAULTS, OPTIONS

TEXT = (Path(__file__).parents[2] / "deploy" / "stand_in.md").read_text(encoding="utf-8")
FIELD = re.compile(r"`([a-z_]+)(?:: (.*?))?`(?=[,. |]|$)", re.MULTILINE)
DEFAULT = re.compile(r"`([a-z_]+)=(\S+)`")
CALL = re.compile(r"`(GET|POST|HEAD|DELETE) (/\S*)`")
TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}
SHORT = {"num_predict": 4, "temperature": 0}
MESSAGES = [{"role": "user", "content": "Hello"}]
BODIES = {
    "/api/generate": {"prompt": "Hello", "stream": False, "options": SHORT},
    "/api/chat": {"messages": MESSAGES, "stream": False, "options": SHORT},
    "/api/embed": {"input": "Hello"},
    "/api/embeddings": {"prompt": "Hello"},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 4},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 4},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/audio/transcriptions": {},
    "/api/show": {},
    "/api/create": {"model": "created", "from": "mini-qwen", "stream": False},
    "/api/pull": {},
    "/api/push": {},
}
# fields that need another model than mini-qwen
MODELS = {"suffix": "mini-qwen-coder", "think": "mini-r1", "reasoning_effort": "mini-r1"}


def section(start: str, end: str) -> str:
    """Return the document's text between two marks, on one line."""
    return TEXT.split(start)[1].split(end)[0].replace("\n", " ")


def documented_options(kind: str) -> list[tuple[str, str]]:
    """Return (name, value in JSON) for each option in a paragraph of the document."""
    return FIELD.findall(section("## Options", "## Who").split(f"{kind}:")[1].split(". ")[0])


def documented_routes() -> set[tuple[str, str]]:
    """Return (method, path) for each endpoint that the document says is there."""
    table = {CALL.search(line).groups() for line in TEXT.splitlines() if line.startswith("| `")}
    return table | set(CALL.findall(section("Other endpoints:", "Missing endpoints")))


def sample(path: str, name: str, blobs: dict[str, str]) -> dict:
    """Return a body's fields for a field that the document lists without a value."""
    if name == "images":
        data = base64.b64encode(picture((200, 0, 0))).decode()
        url = {"url": f"data:image/png;base64,{data}"}
        text = {"type": "text", "text": "What colour?"}
        message = {"role": "user", "content": "What colour?", "images": [data]}
        if path.startswith("/v1"):
            message = {"role": "user", "content": [{"type": "image_url", "image_url": url}, text]}
        fields = {"images": [data]} if path == "/api/generate" else {"messages": [message]}
        return {"model": "mini-scout"} | fields
    if name == "input_audio":
        sound = {"data": base64.b64encode(whole()).decode(), "format": "wav"}
        content = [{"type": "input_audio", "input_audio": sound}]
        return {"model": "mini-qwen-audio", "messages": [{"role": "user", "content": content}]}
    if name == "files":
        return {"from": None, "files": {"mini.gguf": blobs["files"]}}
    if name == "file":
        return {}
    if name == "adapters":
        return {"adapters": {"lora.gguf": blobs["adapters"]}}
    values = {"tools": [TOOL], "options": SHORT, "messages": MESSAGES, "suffix": "return x"}
    return {name: values[name]}


def post(http, path: str, body: dict):
    """Return the response to a body, sent as a form with a sound if the endpoint takes one."""
    if path != "/v1/audio/transcriptions":
        return http.post(path, json=body)
    form = {k: v if isinstance(v, str) else json.dumps(v) for k, v in body.items()}
    form["model"] = "mini-qwen-audio"
    return http.post(path, data=form, files={"file": ("call.wav", whole())})


def rows() -> list[tuple[str, str, str, str]]:
    """Return (path, verdict, name, value in JSON or "") for every field of the document."""
    fields = []
    for line in TEXT.splitlines():
        if line.startswith("| `POST"):
            head, *cells = line.strip("|").split(" |")
            path = CALL.search(head)[2]
            for verdict, cell in zip(("supported", "ignored", "refused"), cells, strict=True):
                fields += [(path, verdict, name, value) for name, value in FIELD.findall(cell)]
    for verdict in ("supported", "ignored"):
        for name, value in documented_options(verdict.capitalize()):
            fields.append(("/api/generate", verdict, f"options.{name}", value))
    return fields


@pytest.fixture
def blobs(http, tmp_path) -> dict[str, str]:
    """Upload a model and an adapter; return their digests."""
    digests = {}
    for file in (gguf_file("mini-qwen"), adapter(tmp_path / "lora.gguf", 0.1)):
        content = file.read_bytes()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        http.post(f"/api/blobs/{digest}", content=content).raise_for_status()
        digests["adapters" if file.name == "lora.gguf" else "files"] = digest
    return digests


def test_each_field_is_accepted_or_refused_as_documented(http, blobs):
    fields = rows()
    assert len(fields) > 100
    wrong = []
    for path, verdict, name, value in fields:
        outer, _, inner = name.partition(".")
        changes = sample(path, name, blobs) if not value else {outer: json.loads(value)}
        if inner:
            changes = {"options": SHORT | {inner: json.loads(value)}}
        body = {"model": MODELS.get(name, "mini-qwen")} | BODIES[path] | changes
        if name == "top_logprobs":
            body["logprobs"] = True
        if name == "tool_choice":
            body["tools"] = [TOOL]
        response = post(http, path, body)
        if verdict == "refused":
            correct = 400 <= response.status_code < 500 and response.json()["error"]
        else:
            correct = response.status_code == 200 and "error" not in response.text[:20]
        if not correct:
            wrong.append((path, name, value, response.status_code, response.text[:200]))
    assert wrong == []


def test_the_other_endpoints_exist_or_not_as_documented(http):
    for method, path in documented_routes():
        path = path.replace("{digest}", "sha256:" + "0" * 64).replace("{name}", "mini-qwen")
        body = {} if method in ("POST", "DELETE") else None
        response = http.request(method, path, json=body)
        assert "not in this stand-in" not in response.text, path
        assert response.status_code != 405, path
    missing = CALL.findall(section("Missing endpoints", "## Options"))
    assert len(missing) == 6
    for method, path in missing:
        response = http.request(method, path, json={"model": "mini-qwen"})
        assert response.status_code == 404
        assert f"{path} is not in this stand-in" in response.text


def test_every_route_is_documented(server):
    routes = set()
    for route in build(server.store, server.pool).routes:
        methods = route.methods - {"HEAD"} if "GET" in route.methods else route.methods
        routes |= {(method, route.path.replace(":path}", "}")) for method in methods}
    documented = documented_routes()
    missing, extra = sorted(routes - documented), sorted(documented - routes)
    assert not missing, f"describe {missing} in deploy/stand_in.md"
    assert not extra, f"deploy/stand_in.md describes {extra}, which the server lacks"


def test_every_option_and_default_is_documented():
    supported, ignored = (
        {name for name, _ in documented_options(kind)} for kind in ("Supported", "Ignored")
    )
    missing, extra = sorted(set(OPTIONS) - supported), sorted(supported - set(OPTIONS))
    assert not missing, f"list {missing} as supported in deploy/stand_in.md"
    assert not extra, f"deploy/stand_in.md lists {extra} as supported, which OPTIONS lacks"
    both = sorted(ignored & set(OPTIONS))
    assert not both, f"deploy/stand_in.md lists {both} as ignored, but OPTIONS has them"
    defaults = {name: json.loads(value) for name, value in DEFAULT.findall(TEXT)}
    assert defaults == DEFAULTS, "deploy/stand_in.md states other defaults than DEFAULTS"
