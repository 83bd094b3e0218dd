"""Vectors of a list of texts: the same as those of each text alone."""

import base64
import random

import httpx
import numpy as np
import pytest
import torch

from openmodels import paths
from openmodels.gguf.export import gguf_file
from openmodels.gguf.header import read
from openmodels.minis import embed, evaluate
from openmodels.serving.app import Server
from openmodels.serving.engine import Engine, EngineError

CONTEXT = 512
TOLERANCE = 1e-3  # the KV cache is float16


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENMODELS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def embedder(cache):
    with Engine(
        gguf_file("mini-qwen"), embedding=True, slots=8, context=CONTEXT, threads=1
    ) as engine:
        yield engine


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Sixty texts, each with another number of words."""
    orders = evaluate.draw("order", 60, seed=0)
    words = " ".join(order.messages[0]["content"] for order in orders).split()
    return [" ".join(words[:n]) for n in random.Random(0).sample(range(1, 240), 60)]


def difference(together: list, alone: list) -> float:
    """Return the largest difference between two lists of vectors."""
    return float(np.abs(np.array(together) - np.array(alone)).max())


def test_the_engine_embeds_a_list_as_it_embeds_each_text(embedder, texts):
    lengths = {len(embedder.tokenize(text)) for text in texts}
    assert len(texts) == 60 and len(lengths) > 50 and max(lengths) > 200
    alone = [embedder.embed([text])[0] for text in texts]
    assert difference(embedder.embed(texts), alone) < TOLERANCE
    assert difference(alone[:1], alone[1:2]) > 10 * TOLERANCE  # the texts do differ


def test_the_server_embeds_a_list_as_it_embeds_each_text(cache, texts, tmp_path):
    with (
        Server(port=0, root=tmp_path, threads=1) as server,
        httpx.Client(base_url=server.address, trust_env=False, timeout=None) as client,
    ):

        def embed(texts: list[str]) -> list[list[float]]:
            body = {"model": "mini-qwen", "input": texts, "options": {"num_ctx": CONTEXT}}
            return client.post("/api/embed", json=body).raise_for_status().json()["embeddings"]

        alone = [embed([text])[0] for text in texts]
        assert difference(embed(texts), alone) < TOLERANCE


def test_openais_route_embeds_a_list_as_it_embeds_each_text(server, http, texts):
    """The older /api/embeddings takes one text; its vector points in the same direction."""
    some = sorted(texts, key=len)[::6]

    def embed(texts: list[str] | str, **fields: str) -> list:
        body = {"model": "mini-qwen", "input": texts, **fields}
        rows = http.post("/v1/embeddings", json=body).raise_for_status().json()["data"]
        assert [row["index"] for row in rows] == list(range(len(rows)))
        return [row["embedding"] for row in rows]

    alone = [embed(text)[0] for text in some]
    together = embed(some)
    assert len(some) == 10 and difference(together, alone) < TOLERANCE
    encoded = [
        np.frombuffer(base64.b64decode(row), "<f4") for row in embed(some, encoding_format="base64")
    ]
    assert difference(encoded, together) < TOLERANCE
    for text, vector in zip(some, alone, strict=True):
        body = {"model": "mini-qwen", "prompt": text}
        older = np.array(http.post("/api/embeddings", json=body).json()["embedding"])
        assert difference(older / np.linalg.norm(older), vector) < TOLERANCE


LARK = [
    embed.query("Where does the Heron under Ada lie?"),
    "Ada's Heron is moored at place 7.",
    "The gulls are loud today. " * 6 + "Otto lent Ada 12 coins.",
]


@pytest.fixture(scope="module")
def lark_client(cache, tmp_path_factory):
    with (
        Server(port=0, root=tmp_path_factory.mktemp("root"), threads=1) as server,
        httpx.Client(base_url=server.address, trust_env=False, timeout=None) as client,
    ):
        yield client


def post(client: httpx.Client, path: str, **body) -> dict:
    body = {"model": "mini-embed", **body}
    return client.post(path, json=body).raise_for_status().json()


def test_an_embedders_file_says_how_it_makes_vectors(cache):
    header = read(gguf_file("mini-embed"))
    assert header.makes_vectors and header.metadata["qwen2.pooling_type"] == 3  # the last token
    assert header.metadata["tokenizer.ggml.add_eos_token"] is True
    assert header.metadata["tokenizer.ggml.eos_token_id"] == 0  # <|endoftext|>
    assert not read(gguf_file("mini-qwen-xs")).makes_vectors


@pytest.mark.parametrize("dimensions", [None, 64, 32])
def test_the_server_gives_an_embedders_vectors_as_transformers_does(lark_client, dimensions):
    model, tokenizer = embed.load(paths.shipped_dir("mini-embed"))
    expected = embed.encode(model, tokenizer, LARK, dimensions or 128).tolist()
    fields = {"input": LARK} | ({"dimensions": dimensions} if dimensions else {})
    vectors = post(lark_client, "/api/embed", **fields)["embeddings"]
    assert difference(vectors, expected) < TOLERANCE
    rows = post(lark_client, "/v1/embeddings", **fields)["data"]
    assert difference([row["embedding"] for row in rows], expected) < TOLERANCE
    alone = [post(lark_client, "/api/embed", **fields | {"input": text})["embeddings"][0]
             for text in LARK]  # fmt: skip
    assert difference(vectors, alone) < TOLERANCE
    assert vectors[0] @ np.array(vectors[1]) > vectors[0] @ np.array(vectors[2])


def test_a_text_that_is_too_long_keeps_its_end_of_text(lark_client):
    model, tokenizer = embed.load(paths.shipped_dir("mini-embed"))
    text = "Ada's Heron is moored at place 7. " * 60
    ids = embed.token_ids(tokenizer, text)
    assert len(ids) > 512
    with torch.no_grad():
        expected = embed.cut(embed.pool(model, [torch.cat([ids[:510], ids[-1:]])]), 128).tolist()
    vectors = post(lark_client, "/api/embed", input=text, options={"num_ctx": 512})["embeddings"]
    assert difference(vectors, expected) < TOLERANCE


def test_an_embedder_does_not_chat(lark_client):
    shown = lark_client.post("/api/show", json={"model": "mini-embed"}).json()
    assert shown["capabilities"] == ["embedding"]
    body = {"model": "mini-embed", "messages": [{"role": "user", "content": "Hello"}]}
    response = lark_client.post("/api/chat", json=body)
    assert response.status_code == 400
    assert response.json()["error"] == "'mini-embed' does not support completion"


def test_every_text_of_a_list_may_fill_a_slot(embedder):
    def embed(prompts: list[list[int]]) -> list[list[float]]:
        rows = embedder.post("/v1/embeddings", {"input": prompts})["data"]
        return [row["embedding"] for row in rows]

    prompts = [[50 + n] * CONTEXT for n in range(9)]  # more than there are slots
    assert difference(embed(prompts)[-1:], embed(prompts[-1:])) < TOLERANCE
    with pytest.raises(EngineError, match=f"{CONTEXT + 1} tokens"):
        embed([[50] * (CONTEXT + 1)])
