"""Malformed and hostile requests: each is refused, and the server keeps working."""

import contextlib
import hashlib
import json
import socket

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_helpers import MESSAGES, adapter, check_alive, check_refused, examples, upload

from openmodels.gguf import header
from openmodels.gguf.export import gguf_file
from openmodels.gguf.go_template import Template
from openmodels.serving import requests, routes
from openmodels.serving.model_store import ApiError

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
NOT_STRING = NUMBERS | st.booleans() | LISTS | OBJECTS
NOT_LIST = NUMBERS | st.booleans() | st.text(max_size=20) | OBJECTS
NOT_OBJECT = NUMBERS | st.booleans() | st.text(max_size=20) | LISTS
NOT_BOOLEAN = NUMBERS | st.text(max_size=20) | LISTS | OBJECTS
NOT_FORMAT = st.sampled_from([0, True, "xml", ["json"], {"$ref": "https://harbour.example/a"},
                            {"type": "array", "maxItems": 10**9}, {"minLength": 5000}])  # fmt: skip
NOT_OPTIONS = st.sampled_from([
    {"temperature": "warm"}, {"top_k": 1.5}, {"stop": 3}, {"stop": ["a", 1]}, {"seed": []},
    {"num_predict": "all"}, {"num_ctx": 2**40}, {"repeat_penalty": 0}, {"top_p": True},
])  # fmt: skip
NOT_KEEP_ALIVE = st.sampled_from(["soon", "5", "m5", "5 m", "1e3s", "--5m", True, [], {}])
NOT_MESSAGES = st.sampled_from([
    "hi", [3], [{}], [{"role": "pirate"}], [{"role": "user", "content": 3}], [[]],
    [{"role": "user", "images": "a"}], [{"role": "user", "images": ["%"]}],
    [{"role": "user", "images": ["aGFyYm91cg=="]}], [{"role": "assistant", "tool_calls": [{}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "{"}}]}],
])  # fmt: skip
NOT_TOOLS = st.sampled_from([3, "a", [3], [{}], [{"function": 3}], [{"function": {"name": 3}}]])
NOT_CHOICE = st.sampled_from([3, True, "any", "required", [], {}, {"type": "function"},
                              {"type": "function", "function": {"name": "a"}}])  # fmt: skip
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
NOT_INPUT = st.sampled_from([
    None, [], 3, {}, [3], [{}], [{"role": "pirate"}], [{"role": "user", "content": 3}],
    [{"type": "audio"}], [{"role": "user", "content": [{"type": "input_file"}]}],
    [{"type": "function_call"}], [{"type": "function_call_output", "call_id": "1"}],
    [{"type": "function_call", "call_id": "1", "name": "a", "arguments": "{"}],
])  # fmt: skip
NOT_DIGEST = st.sampled_from([
    "", "sha256:", "sha256:12", "sha256:../../x", "md5:" + "0" * 64, "sha256:" + "Z" * 64,
    "sha256:" + "0" * 64, "../../sha256-" + "0" * 64, "sha256:" + "0" * 65,
])  # fmt: skip
WRONG_VALUES = {
    "/api/chat": {"model": NOT_STRING | NOT_NAME, "messages": NOT_MESSAGES, "stream": NOT_BOOLEAN,
                  "format": NOT_FORMAT, "options": NOT_OBJECT | NOT_OPTIONS,
                  "keep_alive": NOT_KEEP_ALIVE, "tools": NOT_TOOLS,
                  "think": st.sampled_from([3, "deeply", []])},
    "/api/generate": {"model": NOT_STRING | NOT_NAME, "prompt": NOT_STRING, "suffix": NOT_STRING,
                      "system": NOT_STRING, "template": NOT_STRING | st.sampled_from(
                          ["{{ .Messages }}", "{{ if .Prompt }}", "{{", "{{ end }}"]),
                      "context": st.sampled_from([3, ["a"], [-1], [True], [10**12], [999_999]]),
                      "images": NOT_LIST, "raw": NOT_BOOLEAN, "options": NOT_OPTIONS,
                      "format": NOT_FORMAT, "keep_alive": NOT_KEEP_ALIVE},
    "/api/embed": {"model": NOT_STRING | NOT_NAME,
                   "input": st.sampled_from([3, {}, [3], [[]], True]),
                   "dimensions": st.sampled_from(["a", -1, 1.5]), "truncate": NOT_BOOLEAN},
    "/api/embeddings": {"model": NOT_STRING | NOT_NAME, "prompt": NOT_STRING,
                        "options": NOT_OPTIONS},
    "/api/show": {"model": NOT_STRING | NOT_NAME, "verbose": NOT_BOOLEAN},
    "/api/create": {"model": NOT_STRING | NOT_NAME | st.just("mini-qwen"),
                    "from": NOT_STRING | NOT_NAME | st.just("none"),
                    "files": NOT_OBJECT | st.dictionaries(st.just("a"), NOT_DIGEST, min_size=1),
                    "template": st.sampled_from([3, "{{ .Tools }}", "{{ range .A }}"]),
                    "system": NOT_STRING, "parameters": NOT_OBJECT | NOT_OPTIONS,
                    "messages": NOT_MESSAGES, "license": st.sampled_from([3, {}, [3]]),
                    "adapters": NOT_OBJECT | st.dictionaries(st.just("a"), NOT_DIGEST, min_size=1),
                    "quantize": NOT_STRING | st.sampled_from(["q9", "q4_K_M", "../q8_0"])},
    "/api/copy": {"source": NOT_STRING | NOT_NAME, "destination": NOT_STRING | NOT_NAME},
    "/api/pull": {"model": NOT_STRING | NOT_NAME | st.just("mini-qwen")},
    "/api/push": {"model": NOT_STRING | NOT_NAME | st.just("mini-qwen")},
    "/v1/chat/completions": {"model": NOT_STRING | NOT_NAME, "messages": NOT_OPENAI,
                             "temperature": st.sampled_from(["warm", True, []]),
                             "stop": st.sampled_from([3, {}, [3]]), "n": st.just(2),
                             "tools": NOT_TOOLS, "stream": NOT_BOOLEAN,
                             "tool_choice": NOT_CHOICE, "parallel_tool_calls": NOT_BOOLEAN,
                             "response_format": st.sampled_from([3, {}, {"type": "xml"}])},
    "/v1/responses": {"model": NOT_STRING | NOT_NAME, "input": NOT_INPUT, "tools": NOT_TOOLS,
                      "instructions": NOT_STRING, "stream": NOT_BOOLEAN, "metadata": NOT_OBJECT,
                      "temperature": st.sampled_from(["warm", True, []]),
                      "max_output_tokens": st.sampled_from(["a", 1.5, [], 0]),
                      "text": NOT_OBJECT | st.sampled_from([{"format": 3}, {"format": {}}]),
                      "reasoning": NOT_OBJECT, "truncation": NOT_STRING,
                      "previous_response_id": st.just("resp_1"), "store": NOT_BOOLEAN},
    "/v1/completions": {"model": NOT_STRING | NOT_NAME, "prompt": st.sampled_from([3, {}, [[1]]]),
                        "max_tokens": st.sampled_from(["a", 1.5, []]), "stream": NOT_BOOLEAN},
    "/v1/embeddings": {"model": NOT_STRING | NOT_NAME, "input": st.sampled_from([3, {}, [3]]),
                       "encoding_format": NOT_STRING},
}  # fmt: skip
VALID_BODIES = {
    "/api/chat": {"model": "mini-qwen", "messages": MESSAGES},
    "/api/generate": {"model": "mini-qwen", "prompt": "hi"},
    "/api/embed": {"model": "mini-qwen", "input": "hi"},
    "/api/embeddings": {"model": "mini-qwen", "prompt": "hi"},
    "/api/show": {"model": "mini-qwen"},
    "/api/create": {"model": "created", "from": "mini-qwen"},
    "/api/copy": {"source": "mini-qwen", "destination": "created"},
    "/api/pull": {"model": "mini-qwen"},
    "/api/push": {"model": "mini-qwen"},
    "/v1/chat/completions": {"model": "mini-qwen", "messages": MESSAGES},
    "/v1/responses": {"model": "mini-qwen", "input": "hi"},
    "/v1/completions": {"model": "mini-qwen", "prompt": "hi"},
    "/v1/embeddings": {"model": "mini-qwen", "input": "hi"},
}


@st.composite
def invalid_requests(draw):
    """Return a path and a body with one wrong field."""
    path = draw(st.sampled_from(sorted(WRONG_VALUES)))
    field = draw(st.sampled_from(sorted(WRONG_VALUES[path])))
    body = VALID_BODIES[path] | {field: draw(WRONG_VALUES[path][field])}
    if path == "/api/create" and field == "files":
        del body["from"]
    return path, body


def test_requests_with_one_wrong_field(http, client):
    sent = 0

    @examples(1500)
    @given(invalid_requests())
    def send(request):
        nonlocal sent
        sent += 1
        path, body = request
        check_refused(http.post(path, json=body))

    send()
    assert sent >= 1400  # hypothesis does not repeat a request
    check_alive(client)


def test_bodies_that_are_no_json_objects(http, client):
    paths = st.sampled_from(sorted(WRONG_VALUES))
    odd = st.sampled_from([
        b"", b"{", b"[]", b"null", b'"a"', b'{"model": NaN}', b'{"model": 1e999}', b"\xff\xfe{}",
        b'{"model": "\\ud800"}', b'{"a":' * 9_000, b"[" * 20_000, b'{"n": ' + b"9" * 5000 + b"}",
        b'{"model": "mini-qwen", "messages": [{"role": "user", "content": "\\udfff"}]}',
    ])  # fmt: skip
    other_json = JSON.filter(lambda value: not isinstance(value, dict))
    other_bodies = other_json.map(lambda value: json.dumps(value).encode())
    bodies = odd | st.binary(max_size=200) | other_bodies

    @examples(350)
    @given(paths, bodies)
    def send(path, body):
        check_refused(http.post(path, content=body))

    send()
    check_alive(client)


def test_names_and_digests_with_tricks(http, client):
    @examples(250)
    @given(
        st.sampled_from(["/api/delete", "/api/blobs"]), NOT_NAME | NOT_DIGEST | st.text(max_size=30)
    )
    def send(path, name):
        if path == "/api/delete":
            return check_refused(http.request("DELETE", path, json={"model": name}))
        digest = str(httpx.QueryParams({"a": name})).removeprefix("a=")
        check_refused(http.post(f"/api/blobs/{digest}", content=b"another content"))

    send()
    check_alive(client)


def test_any_value_anywhere_gives_no_server_error(http, client):
    """Some of these requests are valid, so only a server error is wrong."""
    quick = {"num_predict": 1, "temperature": 0}

    @examples(250)
    @given(st.sampled_from(sorted(VALID_BODIES)), st.dictionaries(st.sampled_from(
        ["options", "format", "tools", "system", "suffix", "raw", "think", "logprobs", "stream",
         "top_logprobs", "context", "template", "truncate", "dimensions", "stop", "top_p", "input",
         "text", "tool_choice", "metadata", "truncation"]),
        JSON, max_size=3), st.dictionaries(st.sampled_from(
            ["temperature", "top_k", "top_p", "min_p", "seed", "repeat_penalty", "repeat_last_n",
             "num_keep", "stop", "typical_p"]),
            st.integers(-3, 2**31) | st.floats(-10, 10) | st.lists(st.text(max_size=4), max_size=2),
            max_size=3))  # fmt: skip
    def send(path, extra, options):
        limits = {"options": options | quick, "max_tokens": 1, "max_output_tokens": 1}
        body = VALID_BODIES[path] | limits | extra
        response = http.post(path, json=body)
        assert response.status_code < 500, (path, body, response.text)

    send()
    check_alive(client)


def test_schemas_of_all_sorts(http, client):
    kinds = st.sampled_from(["object", "array", "string", "integer", "nonsense", 3, ["null", "a"]])
    inner = st.fixed_dictionaries({}, optional={
        "type": kinds, "enum": st.lists(JSON, max_size=3), "const": JSON, "minimum": JSON,
        "maxItems": st.integers(-2, 5), "pattern": st.sampled_from(["(((", "^[a-z]+$", "a{9}", 3]),
        "format": st.text(max_size=5), "$ref": st.sampled_from(["#", "#/a", "http://127.0.0.1:9"]),
    })  # fmt: skip
    shapes = inner | st.fixed_dictionaries({"type": st.just("object"), "properties":
        st.dictionaries(st.text(max_size=5), inner, max_size=3) | JSON, "required": JSON},
        optional={"anyOf": st.lists(inner, max_size=2) | JSON, "x-guidance": JSON})  # fmt: skip

    @examples(225)
    @given(st.sampled_from(["/api/chat", "/api/generate", "/v1/chat/completions"]), shapes)
    def send(path, shape):
        changes = {"format": shape, "options": {"num_predict": 2}, "stream": False}
        if path.startswith("/v1"):
            tool = {"type": "function", "function": {"name": "a", "parameters": shape}}
            changes = {"tools": [tool], "tool_choice": "required", "max_tokens": 2}
        body = VALID_BODIES[path] | changes
        response = http.post(path, json=body)
        assert response.status_code < 500, (shape, response.text)

    send()
    check_alive(client)


def test_bodies_and_files_over_the_limit(server, http, client, monkeypatch):
    monkeypatch.setattr(routes, "MAX_BODY", 2000)
    body = {"model": "mini-qwen", "prompt": "a" * 3000}
    assert http.post("/api/generate", json=body).status_code == 413
    monkeypatch.setattr(server.store, "max_blob", 1000)
    content = b"a" * 2000
    digest = hashlib.sha256(content).hexdigest()

    def chunks():  # sent without a content-length
        yield content

    for upload_content in (content, chunks()):
        path = f"/api/blobs/sha256:{digest}"
        assert http.post(path, content=upload_content).status_code == 413
    assert http.head(f"/api/blobs/sha256:{digest}").status_code == 404
    assert not list(server.store.root.rglob("*.part"))
    check_alive(client)


ENDLESS_HEADS = {
    "a header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 2**22,
    "many headers": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: a\r\n" * 2**20,
    "an address": b"GET /" + b"a" * 2**22,
    "a trailer": b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\nX: " + b"a" * 2**22,
}


@pytest.mark.parametrize("part", ENDLESS_HEADS)
def test_endless_heads_are_cut_off(server, client, part):
    response = b""
    with socket.create_connection(("127.0.0.1", server._socket.getsockname()[1])) as line:
        line.settimeout(20)
        with contextlib.suppress(ConnectionError):
            line.sendall(ENDLESS_HEADS[part])  # the end of the request never comes
        with contextlib.suppress(ConnectionError):
            while received := line.recv(2**16):
                response += received
    assert response == b"" or response.startswith(b"HTTP/1.1 400")
    check_alive(client)


def test_files_that_are_no_model(http, client):
    model = gguf_file("mini-r1").read_bytes()
    key = b"qwen2.attention.head_count" + (4).to_bytes(4, "little")
    end = model.index(key) + len(key)
    without_heads = model[:end] + (0).to_bytes(4, "little") + model[end + 4 :]
    for content in (
        b"", b"GGUF", b"harbour" * 100, model[:1000], model[:-1000], model[: len(model) // 2],
        b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16, without_heads,
    ):  # fmt: skip
        files = {"a.gguf": upload(http, content)}
        check_refused(http.post("/api/create", json={"model": "broken", "files": files}))
    for name in ("../a.gguf", "/a.gguf", "a/b.gguf", "..", ""):
        files = {name: upload(http, model)}
        check_refused(http.post("/api/create", json={"model": "broken", "files": files}))
    assert "broken:latest" not in [model.model for model in client.list().models]
    check_alive(client)


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory) -> bytes:
    """Return a small GGUF file: a header and some bytes of data."""
    file = adapter(tmp_path_factory.mktemp("gguf") / "adapter.gguf", 1.0)
    content = file.read_bytes()[:600] + bytes(20_000)
    file.write_bytes(content)
    assert header.read(file).architecture == "qwen2"
    return content


def test_a_header_with_any_bytes_is_read_or_refused(small_gguf, tmp_path):
    places = st.integers(0, len(small_gguf) - 1)
    changes = st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)

    @examples(400)
    @given(st.none() | places, changes)
    def read(last, changes):
        content = bytearray(small_gguf if last is None else small_gguf[: last + 1])
        for place, byte in changes:
            if place < len(content):
                content[place] = byte
        file = tmp_path / "changed.gguf"
        file.write_bytes(content)
        try:
            parsed = header.read(file)
        except ValueError:
            return
        assert parsed.parameters >= 0 and parsed.architecture

    read()


def test_templates():
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "V"},
    ]
    template = Template(
        "{{ if .System }}<{{ .System }}>\n{{ end }}{{- if .Prompt }}[{{ .Prompt }}]{{ else }}-"
        "{{ end }}{{/* a comment */}} {{ .Response }}.\n"
    )
    assert template.render(messages) == "<S>\n[U] A.\n[V] "
    assert template.render([messages[2]]) == "- A"
    assert Template("{{ .Prompt }}").render(messages[:2]) == "U"
    chain = Template("{{ if .System }}a{{ else if .Prompt }}b{{ else }}c{{ end }}")
    assert [chain.render(messages[n : n + 1]) for n in range(3)] == ["a", "b", "cA"]
    for bad in (
        "{{ if .Prompt }}", "{{ end }}", "{{ .Prompt", "}}", "{{ .Tools }}", "{{}}",
        "{{ if .Prompt }}{{ else }}{{ else }}{{ end }}", "{{ if .A }}{{ end }}",
        "{{ range .A }}{{ end }}", '{{ printf "%s" .Prompt }}', "{{ if .Prompt }}" * 40,
        "a" * 70_000,
    ):  # fmt: skip
        with pytest.raises(ValueError):
            Template(bad)


def test_durations():
    def seconds(value):
        return requests.parse_keep_alive(requests.Fields({"keep_alive": value}))

    assert seconds(None) is None and seconds(0) == 0 and seconds("0") == 0 and seconds(1.5) == 1.5
    assert seconds("1h30m") == 5400 and seconds("300ms") == 0.3
    assert seconds("-1m") == float("inf") == seconds(-1)
    for bad in ("", "5", "m", "5x", "5m junk", "nan", True, [], "9" * 400):
        with pytest.raises(ApiError):
            seconds(bad)


def test_default_sampling_parameters_are_ollamas():
    parameters = requests.sampling_parameters({}, context=1024)
    assert parameters["repeat_penalty"] == 1.0  # since Ollama 0.32.10
    assert parameters["temperature"] == 0.8 and parameters["repeat_last_n"] == 64
    assert requests.sampling_parameters({"repeat_last_n": -1}, 1024)["repeat_last_n"] == 1024
