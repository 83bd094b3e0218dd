"""The engine: answers, streams, schemas, calls, vectors, and what it does when asked wrongly."""

import json
import threading

import httpx
import pytest

from openmodels import minis
from openmodels.gguf import export
from openmodels.harbour import SCHEMAS
from openmodels.minis import evaluate
from openmodels.serving.engine import HOST, Engine, EngineError

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
        with httpx.Client(base_url=engine.address, timeout=None, trust_env=False) as client:
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


def test_a_wrong_request_says_what_is_wrong_and_does_no_harm(engine):
    with pytest.raises(EngineError, match="prompt") as refused:
        engine.complete(5)
    assert refused.value.status == 400
    with pytest.raises(EngineError, match="context"):
        engine.complete("coat " * 5_000, n_predict=1)
    with pytest.raises(EngineError):
        next(engine.stream("/nowhere", {}))
    assert engine.complete("a", n_predict=1)["tokens_predicted"] == 1


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*missing.gguf"):
        Engine(tmp_path / "missing.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(EngineError, match="does not load broken.gguf"):
        Engine(tmp_path / "broken.gguf")
    whole = export.export(minis.weights_dir("mini-qwen-xs"), tmp_path / "whole.gguf")
    (tmp_path / "cut.gguf").write_bytes(whole.read_bytes()[:-50_000])
    with pytest.raises(EngineError, match="does not load cut.gguf"):
        Engine(tmp_path / "cut.gguf")


def test_closed_is_closed(tmp_path):
    with Engine(export.export(minis.weights_dir("mini-qwen-xs"), tmp_path / "x.gguf")) as engine:
        address = engine.address
        assert httpx.get(f"{address}/health", trust_env=False).status_code == 200
    engine.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health", trust_env=False)
