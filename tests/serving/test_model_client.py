"""One string gives a client and a model: miniatures, Ollama, any endpoint, the hub, a folder."""

import asyncio
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest
from test_connect import alone, ollama_like  # noqa: F401
from transformers import AutoConfig

import openmodels
from openmodels import loading, paths, sizing
from openmodels.serving import connect, model_client, model_sources

QUESTION = [{"role": "user", "content": "Who runs the bakery?"}]
ANSWER = "The bakery is run by Mara."


def ask(client: openai.OpenAI, model: str, limit: int = 20) -> str:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=limit
    )
    return answer.choices[0].message.content


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("OPENMODELS_MODEL", "OLLAMA_HOST", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stand_in(server, monkeypatch):
    """The module's stand-in takes the place of the machine's, and no Ollama runs."""
    running = connect.Found(server.address, "0.0", True)
    monkeypatch.setattr(connect, "shared", lambda: running)
    monkeypatch.setattr(connect, "DEFAULT", "http://127.0.0.1:9")
    return server.address


class Endpoint(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint: a list of models, and answers that repeat the request."""

    def __init__(self, models: list[str], key: str | None = None, status: int = 200):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models, self.key, self.status, self.requests = models, key, status, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers["Authorization"]))
        if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
            return self.reply(401, {"error": {"message": "no"}})
        data = [{"id": name, "object": "model"} for name in self.server.models]
        return self.reply(self.server.status, {"object": "list", "data": data})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": f"{body['model']} here"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.reply(200, {"id": "1", "object": "chat.completion", "choices": [choice]})

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


# --- Miniatures -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("alone")
def test_by_default_the_miniature_answers_and_one_line_says_where(capsys):
    client, model = openmodels.client()
    assert model == model_client.default_model()
    assert capsys.readouterr().out == (
        f"{model} on the course's stand-in for Ollama at "
        f"{str(client.base_url).removesuffix('/v1/')}: the default\n"
    )
    assert ask(client, "mini-qwen") == ANSWER


def test_the_agent_is_the_default_as_soon_as_it_has_weights(monkeypatch):
    monkeypatch.setattr(model_client, "miniatures", lambda: ("mini-qwen", "mini-qwen-agent"))
    assert model_client.default_model() == "mini-qwen-agent"
    monkeypatch.setattr(model_client, "miniatures", lambda: ("mini-qwen", "mini-r1"))
    assert model_client.default_model() == "mini-qwen"


def test_the_environment_moves_the_default_and_a_name_overrides_it(stand_in, monkeypatch, capsys):
    monkeypatch.setenv("OPENMODELS_MODEL", " mini-r1 ")
    assert openmodels.client()[1] == "mini-r1"
    assert openmodels.client("mini-qwen")[1] == "mini-qwen"
    place = f"on the course's stand-in for Ollama at {stand_in}"
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"mini-r1 {place}: OPENMODELS_MODEL names it", f"mini-qwen {place}"]


def test_a_stand_in_elsewhere_is_used_if_ollama_host_names_it(server, monkeypatch, capsys):
    monkeypatch.setattr(connect, "shared", lambda: pytest.fail("started another stand-in"))
    monkeypatch.setenv("OLLAMA_HOST", server.address)
    client, model = openmodels.client("mini-qwen")
    assert str(client.base_url) == f"{server.address}/v1/"
    assert capsys.readouterr().out.endswith(": OLLAMA_HOST names this server\n")
    assert ask(client, model) == ANSWER


def test_an_ollama_without_the_miniature_leaves_it_to_the_stand_in(
    stand_in, ollama_like, monkeypatch, capsys  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(model_client, "_model_names", lambda client: ["llama3.2"])
    monkeypatch.setenv("OLLAMA_HOST", ollama_like)
    client, _ = openmodels.client("mini-qwen")
    assert str(client.base_url) == f"{stand_in}/v1/"
    assert f"{ollama_like} does not have it" in capsys.readouterr().out


def test_time_limits_retries_and_proxies(stand_in, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    client, model = openmodels.client("mini-qwen")
    assert (client.timeout.connect, client.timeout.read, client.max_retries) == (5, 120, 0)
    assert client.api_key == "none"  # a key for another endpoint stays here
    assert ask(client, model) == ANSWER


def test_an_asynchronous_client_reaches_the_same_model(stand_in, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client, model = openmodels.client("mini-qwen")

    async def answer() -> str:
        async with model_client.async_client(client) as other:
            assert (other.base_url, other.timeout) == (client.base_url, client.timeout)
            done = await other.chat.completions.create(
                model=model, messages=QUESTION, temperature=0, max_tokens=20
            )
        return done.choices[0].message.content

    assert asyncio.run(answer()) == ANSWER


# --- Ollama ---------------------------------------------------------------------------------------


def test_a_model_of_ollama_must_be_there(stand_in, monkeypatch, capsys):
    monkeypatch.setattr(sizing, "available_memory", lambda: 999 * 10**9)
    with pytest.raises(loading.NotDownloaded, match=r"run `ollama pull qwen2.5:0.5b`"):
        openmodels.client("ollama:qwen2.5:0.5b")
    client, model = openmodels.client("ollama:mini-qwen:latest")
    assert model == "mini-qwen:latest"
    assert capsys.readouterr().out.endswith(": no Ollama answered\n")
    assert ask(client, model) == ANSWER


def test_a_model_of_ollama_that_does_not_fit_is_refused_with_sizes(stand_in, monkeypatch):
    monkeypatch.setattr(sizing, "available_memory", lambda: 8 * 10**9)
    with pytest.raises(loading.DoesNotFit, match="108.6 B parameters as q4_k_m need"):
        openmodels.client("ollama:llama4:scout")


def test_a_named_ollama_that_is_silent_is_an_error(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    for string in ("mini-qwen", "ollama:qwen2.5:0.5b"):
        with pytest.raises(ConnectionError, match="127.0.0.1:9 does not answer; start Ollama"):
            openmodels.client(string)


# --- Endpoints ------------------------------------------------------------------------------------


def test_an_endpoint_with_one_model_needs_no_name(monkeypatch, capsys):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Endpoint(["tugboat-7b"]) as endpoint:
        for string in (endpoint.url, endpoint.url + "/", endpoint.url.removesuffix("/v1")):
            client, model = openmodels.client(string)
            assert model == "tugboat-7b"
            assert ask(client, model) == "tugboat-7b here"
        assert endpoint.requests == [("/v1/models", "Bearer none")] * 3
    assert capsys.readouterr().out == f"tugboat-7b on {endpoint.url}\n" * 3


def test_an_endpoint_with_several_models_needs_a_name(capsys):
    with Endpoint(["tug", "ferry"]) as endpoint:
        with pytest.raises(ValueError, match=r"lists tug, ferry\. Write http://.*/v1#model"):
            openmodels.client(endpoint.url)
        assert openmodels.client(f"{endpoint.url}#ferry")[1] == "ferry"
        assert openmodels.client(f"{endpoint.url}#org/barge:free")[1] == "org/barge:free"
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("/v1: the endpoint lists tug, ferry instead")


def test_an_endpoint_may_have_no_list_of_models():
    with Endpoint([], status=404) as endpoint:
        assert openmodels.client(f"{endpoint.url}#tug")[1] == "tug"
        with pytest.raises(ValueError, match="it lists no models"):
            openmodels.client(endpoint.url)


def test_an_endpoint_gets_the_key_of_the_environment(monkeypatch):
    with Endpoint(["tug"], key="secret") as endpoint:
        with pytest.raises(PermissionError, match="refuses the API key .*set OPENAI_API_KEY"):
            openmodels.client(endpoint.url)
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        assert openmodels.client(endpoint.url)[1] == "tug"


def test_an_endpoint_that_fails_or_is_silent_is_an_error(monkeypatch, ollama_like):  # noqa: F811
    with pytest.raises(ConnectionError, match="http://127.0.0.1:9/v1 does not answer: start the"):
        openmodels.client("http://127.0.0.1:9/v1#tug")
    with Endpoint(["tug"], status=503) as endpoint:
        with pytest.raises(ConnectionError, match="fails with status 503"):
            openmodels.client(endpoint.url)
        assert len(endpoint.requests) == 1  # no retries
    with pytest.raises(ConnectionError, match="no OpenAI-compatible endpoint"):
        openmodels.client(f"{ollama_like}/v1#tug")


# --- The hub and folders --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Qwen2 model with random weights and mini-qwen's tokenizer."""
    home, folder = paths.shipped_dir("mini-qwen"), tmp_path_factory.mktemp("models") / "Random 1"
    config = AutoConfig.from_pretrained(home, trust_remote_code=False)
    config.num_hidden_layers, config.layer_types = 1, config.layer_types[:1]
    sizing.model_class(config)(config).save_pretrained(folder)
    for file in home.glob("*tok*.json"):
        shutil.copy(file, folder)
    shutil.copy(home / "chat_template.jinja", folder)
    return folder


def test_a_folder_is_converted_and_served(stand_in, folder, capsys):
    client, model = openmodels.client(str(folder))
    assert model == "local/random-1"
    assert capsys.readouterr().out.endswith("B parameters, served as local/random-1\n")
    assert ask(client, model, limit=3)


def test_a_snapshot_of_the_hub_is_served(stand_in, folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--lark--small" / "snapshots" / ("0123456789" * 4)
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setattr(model_sources.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("OPENMODELS_MODEL", "hf:lark/small")
    client, model = openmodels.client()
    assert model == "local/small"
    assert ask(client, model, limit=3)
    with pytest.raises(loading.NotDownloaded, match="With network: hf download lark/large"):
        openmodels.client("hf:lark/large")


def test_what_does_not_fit_is_refused_before_anything_starts(folder, monkeypatch):
    monkeypatch.setattr(connect, "shared", lambda: pytest.fail("started the stand-in"))
    monkeypatch.setattr(sizing, "available_memory", lambda: 10**6)
    for string in (str(folder), "hf:Qwen/Qwen2.5-7B-Instruct"):
        with pytest.raises(loading.DoesNotFit, match="parameters as float16 need") as refused:
            openmodels.client(string)
        assert refused.value.available_bytes == 10**6


def test_a_folder_that_cannot_be_served_is_refused_in_words(stand_in, folder, tmp_path):
    pickled, foreign, own_code = (tmp_path / name for name in ("pickled", "foreign", "code"))
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match="Weights must be safetensors"):
        openmodels.client(str(pickled))
    shutil.copytree(folder, foreign)
    (foreign / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="the stand-in cannot serve .*Serve it with vLLM"):
        openmodels.client(str(foreign))
    own_code.mkdir()
    fields = {"model_type": "tug", "auto_map": {"AutoConfig": "code.Config"}}
    (own_code / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="the course never runs such code"):
        openmodels.client(str(own_code))


@pytest.mark.parametrize(
    ("string", "expected"),
    [
        ("mini-owl", "no model 'mini-owl'. Give a miniature .*Miniatures here: .*mini-qwen"),
        ("hf:mini", "written hf:org/name"),
        ("ollama:", "names no model"),
        ("http://", "no address of an endpoint; an endpoint is written http://host:port/v1#model"),
        ("http://127.0.0.1:port/v1", "is no address"),
        ("https://ada:secret@host/v1", "must hold no password: set OPENAI_API_KEY"),
    ],
)
def test_a_string_that_stands_for_no_model_is_refused_in_words(string, expected):
    with pytest.raises(ValueError, match=expected) as refused:
        openmodels.client(string)
    assert "secret" not in str(refused.value)
