"""The engine: answers, streams, schemas, calls, vectors, and what it does when asked wrongly."""

import json
import threading

import httpx
import pytest

from openmodels import minis
from openmodels.gguf import export
from openmodels.harbour import SCHEMAS
from openmodels.minis import evaluate
from openmodels.serving.engine import HOST, Engine, EngineError, last_error

SUM = [{"role": "user", "content": "Add 45 and 91."}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENMODELS_CACHE", str(tmp_path_factory.mktemp("cache")))
        with Engine(export.gguf_file("mini-qwen"), slots=2) as started:
            yield started


def test_it_answers_in_the_models_template(engine):
    drawn = evaluate.draw("order", 20, seed=0)
    right = 0
    for one in drawn:
        answer = engine.chat(one.messages[:-1], temperature=0, max_tokens=60)
        right += evaluate.is_right(one, answer["choices"][0]["message"]["content"])
    assert right >= 19
    assert engine.address.startswith(f"http://{HOST}:")


def test_a_stream_is_the_answer_in_pieces(engine):
    how = {"messages": SUM, "temperature": 0, "max_tokens": 60}
    whole = engine.post("/v1/chat/completions", how)["choices"][0]["message"]["content"]
    pieces = list(engine.stream("/v1/chat/completions", how))
    text = "".join(p["choices"][0]["delta"].get("content") or "" for p in pieces if p["choices"])
    assert text == whole and len(pieces) > 5


def test_leaving_a_stream_frees_the_slot(engine):
    endless = {"messages": SUM, "max_tokens": 100_000, "ignore_eos": True}
    for _ in range(4):  # more than there are slots
        for _piece in engine.stream("/v1/chat/completions", endless):
            break
    answer = engine.chat(SUM, temperature=0, max_tokens=60)
    assert answer["choices"][0]["message"]["content"].splitlines()[-1].endswith("136")


def test_a_schema_is_kept_to(engine):
    schema = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}, "sure": {"enum": ["yes", "no"]}},
        "required": ["sum", "sure"],
    }
    kept = {"type": "json_schema", "json_schema": {"schema": schema}}
    answer = engine.chat(SUM, temperature=0, max_tokens=60, response_format=kept)
    found = json.loads(answer["choices"][0]["message"]["content"])
    assert isinstance(found["sum"], int) and found["sure"] in ("yes", "no")


def test_a_call_comes_back_as_one(engine):
    asked = evaluate.draw("tool_call", 1, seed=0)[0]
    answer = engine.chat(asked.messages[:1], tools=list(asked.tools), temperature=0)
    [call] = answer["choices"][0]["message"]["tool_calls"]
    right = asked.answer["tool_calls"][0]["function"]
    assert call["function"]["name"] == right["name"] in SCHEMAS
    assert json.loads(call["function"]["arguments"]) == right["arguments"]


def test_many_at_once_wait_for_a_slot(engine):
    answers = {}

    def ask(n: int) -> None:
        with httpx.Client(
            base_url=engine.address, headers=engine.headers, timeout=None, trust_env=False
        ) as client:
            body = {"messages": [{"role": "user", "content": f"Add {n} and 7."}], "temperature": 0}
            said = client.post("/v1/chat/completions", json=body | {"max_tokens": 60}).json()
            answers[n] = said["choices"][0]["message"]["content"].splitlines()[-1]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(20, 36)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answers[n].endswith(f"= {n + 7}") or answers[n].endswith(f" {n + 7}")
               for n in answers) >= 15, answers  # fmt: skip


def test_vectors_of_length_one(engine):
    with Engine(engine.file, embedding=True) as embedder:
        near, same, far = embedder.embed(["a coat", "a coat", "Who runs the bakery?"])
    assert sum(x * x for x in near) == pytest.approx(1)
    likeness = [sum(x * y for x, y in zip(near, other, strict=True)) for other in (same, far)]
    assert likeness[0] == pytest.approx(1, abs=1e-5)
    assert likeness[1] < 0.99


PRIVATE = ("/v1/models", "/models", "/props", "/metrics", "/slots", "/lora-adapters")
FOREIGN = {"Origin": "https://example.org"}


@pytest.fixture(scope="module")
def stranger(engine):
    """A client without the token."""
    with httpx.Client(base_url=engine.address, trust_env=False) as client:
        yield client


def test_without_the_token_the_port_answers_nothing_but_health(engine, stranger):
    body = {"prompt": "a", "content": "a", "n_predict": 1, "messages": SUM}
    wrong = {"Authorization": "Bearer wrong"}
    for path in ("/completion", "/v1/completions", "/v1/chat/completions", "/tokenize",
                 "/apply-template", "/lora-adapters"):  # fmt: skip
        for headers in ({}, wrong, {"Authorization": ""}, {"X-Api-Key": "wrong"}):
            assert stranger.post(path, json=body, headers=headers).status_code == 401, path
    for path in PRIVATE:
        assert stranger.get(path).status_code == 401, path
        assert stranger.get(path, headers=wrong).status_code == 401, path
    for path in ("/", "/index.html", "/favicon.ico"):  # the web interface
        assert stranger.get(path).status_code == 404, path
    assert stranger.get("/health").json() == {"status": "ok"}


def test_with_the_token_it_answers_and_shows_no_slots(engine, stranger):
    body = {"prompt": "a", "n_predict": 1}
    assert stranger.post("/completion", json=body, headers=engine.headers).status_code == 200
    for path in ("/v1/models", "/metrics"):
        assert stranger.get(path, headers=engine.headers).status_code == 200
    assert stranger.get("/slots", headers=engine.headers).status_code == 501
    assert stranger.get("/", headers=engine.headers).status_code == 404


def test_each_engine_has_its_own_token(engine, stranger):
    with Engine(engine.file, threads=1, context=256) as second:
        assert len(second.token) >= 32 and second.token != engine.token
        assert stranger.get("/v1/models", headers=second.headers).status_code == 401


@pytest.mark.parametrize("origin", ["https://example.org", "http://localhost:8888", "null"])
def test_no_page_may_read_from_the_port(engine, stranger, origin):
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    responses = [
        stranger.options("/completion", headers=asks),
        stranger.get("/health", headers={"Origin": origin}),
        stranger.get("/v1/models", headers={"Origin": origin} | engine.headers),
    ]
    for response in responses:
        # an empty value allows no origin
        assert not response.headers.get("Access-Control-Allow-Origin")
        assert response.headers.get("Access-Control-Allow-Credentials") != "true"


def test_a_wrong_request_says_what_is_wrong_and_does_no_harm(engine):
    with pytest.raises(EngineError, match="prompt") as refused:
        engine.complete(5)
    assert refused.value.status == 400
    with pytest.raises(EngineError, match="context"):
        engine.complete("coat " * 5_000, n_predict=1)
    with pytest.raises(EngineError):
        next(engine.stream("/nowhere", {}))
    assert engine.complete("a", n_predict=1)["tokens_predicted"] == 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small GGUF to damage."""
    file = tmp_path_factory.mktemp("whole") / "whole.gguf"
    return export.export(minis.weights_dir("mini-qwen-xs"), file)


def damaged(whole, what: str) -> bytes:
    data = whole.read_bytes()
    if what == "pre-tokenizer":
        place = data.index(b"qwen2", data.index(b"tokenizer.ggml.pre"))
        return data[:place] + b"qwen9" + data[place + 5 :]
    return {"truncated": data[:-50_000], "version": b"GGUF" + bytes(60), "magic": bytes(64)}[what]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("pre-tokenizer", r"unknown pre-tokenizer type: 'qwen9'$"),
        ("truncated", r"tensor '[\w.]+' data is not within the file bounds"),
        ("version", r"bad GGUF version: 0$"),
        ("magic", r"invalid magic characters"),
    ],
)
def test_a_file_that_does_not_load_is_refused_with_llama_cpps_reason(
    whole, what, reason, tmp_path, capfd
):
    file = tmp_path / f"{what}.gguf"
    file.write_bytes(damaged(whole, what))
    with pytest.raises(EngineError, match=f"^llama.cpp does not load {what}.gguf: {reason}"):
        Engine(file)
    assert capfd.readouterr() == ("", "")  # nothing else reaches a notebook


def test_what_is_no_model_is_refused(whole, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*missing.gguf"):
        Engine(tmp_path / "missing.gguf")
    with pytest.raises(EngineError, match="expect general.type to be 'adapter'"):
        Engine(whole, adapter=whole)
    with pytest.raises(EngineError, match="Failed to load CLIP model"):
        Engine(whole, whole)


def test_files_that_fail_at_the_same_time_keep_their_reasons(whole, tmp_path):
    reasons = {}

    def load(what: str) -> None:
        file = tmp_path / f"{what}.gguf"
        file.write_bytes(damaged(whole, what))
        with pytest.raises(EngineError) as refused:
            Engine(file)
        reasons[what] = str(refused.value)

    threads = [threading.Thread(target=load, args=(what,)) for what in ("version", "magic")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "bad GGUF version" in reasons["version"] and "magic" in reasons["magic"]


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", None),
        ("0.01 I load: all is well\n0.02 W srv init: slow", None),
        (
            "0.1 E srv   init: exiting due to model loading error",
            "exiting due to model loading error",
        ),
        ("0.1 E f: disk full\n0.2 E g: failed to load model\n", "disk full"),
        ("0.1 E f: first\n0.2 E srv  load_model: last: 2\nnot a line", "last: 2"),
        ("0.1 E f: error loading model: error loading model vocabulary: odd: x", "odd: x"),
        ("0.1 E f: " + "a" * 5000, "a" * 300),
    ],
)
def test_the_last_line_of_the_log_that_names_a_cause(log, reason):
    assert last_error(log) == reason


def test_closed_is_closed(tmp_path):
    with Engine(export.export(minis.weights_dir("mini-qwen-xs"), tmp_path / "x.gguf")) as engine:
        address = engine.address
        assert httpx.get(f"{address}/health", trust_env=False).status_code == 200
    engine.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health", trust_env=False)
