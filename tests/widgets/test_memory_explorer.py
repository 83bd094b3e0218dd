"""Does it fit? Every number of the table is counted, and every gap says why."""

import re

import pytest
from machines import GB, machine

from openmodels import catalog, sizing
from openmodels.widgets import cost_explorer, memory_explorer, model_explorer


def test_the_load_of_a_model_with_a_config_is_counted():
    load = memory_explorer.load_of(catalog.get("qwen2.5-0.5b"), "float32", 1000)
    assert load.weights == 4 * 494_032_768 and load.cache == 1000 * 12_288
    assert load.read == load.weights  # one table at both ends
    apart = memory_explorer.load_of(catalog.get("qwen2.5-7b"), "q4_k_m", 1000)
    parts = sizing.gguf_bytes(catalog.config("qwen2.5-7b"), "q4_k_m")
    assert apart.read == parts["layers"] + parts["head"] < apart.weights
    longest = memory_explorer.load_of(catalog.get("qwen2.5-0.5b"), "q4_0", 10**6)
    assert longest.tokens == 32_768 and longest.cache == 32_768 * 12_288


def test_the_load_of_a_model_without_one_comes_from_its_row():
    row = catalog.get("qwen2.5-coder-0.5b")
    load, sibling = (
        memory_explorer.load_of(model, "bfloat16", 4096)
        for model in (row, catalog.get("qwen2.5-0.5b"))
    )
    assert load.cache == sibling.cache and load.weights == 2 * row.parameters
    latent = memory_explorer.load_of(catalog.get("deepseek-v3.1"), "q4_0", 4096)
    config = memory_explorer.load_of(catalog.get("deepseek-v3"), "q4_0", 4096)
    assert latent.cache == config.cache and latent.read < latent.weights / 10


@pytest.mark.parametrize(
    "id, why",
    [
        ("deepseek-v3.2", "indexer"),
        ("qwen3.5-35b-a3b", "DeltaNet"),
        ("llama-3.2-11b-vision", "cross-attention"),
        ("glm-4.5", "attention not published"),
        ("deepseek-v2", "layers not published"),
        ("gpt-oss-20b", "heads not published"),
    ],
)
def test_a_cache_that_cannot_be_counted_says_why(id, why):
    load = memory_explorer.load_of(catalog.get(id), "q4_0", 4096)
    assert load.cache is None and why in load.cache_from
    explorer = memory_explorer.fit(machine(4000), model=id, weights="q4_0")
    assert "fits: needs" in explorer.text and "not counted: it needs more" in explorer.text
    assert why in explorer.text and "users that fit" not in explorer.text


@pytest.mark.parametrize("id", ["llama-4-behemoth", "muse-spark", "gemma-4-e2b"])
def test_a_model_that_no_machine_runs_says_why(id):
    reason = model_explorer.runs(catalog.get(id), machine(8))[1]
    with pytest.raises(LookupError, match=reason):
        memory_explorer.load_of(catalog.get(id), "q4_0", 4096)
    assert memory_explorer.fit(machine(8), model=id).text == f"{id}: {reason}."


def test_users_that_fit_do_fit_and_one_more_does_not():
    id, kind, tokens = "qwen2.5-7b", "q4_k_m", 8192
    explorer = memory_explorer.fit(machine(12), 30 * GB, id, kind, tokens)
    room = int(re.search(r"users that fit +([\d,]+)", explorer.text)[1].replace(",", ""))
    load = memory_explorer.load_of(catalog.get(id), kind, tokens)
    needed = [sizing.needed_bytes(load.weights, users * load.cache) for users in (room, room + 1)]
    assert needed[0] <= 12 * GB < needed[1]
    users = explorer.controls[-1]
    for crowd in memory_explorer.USERS:
        users.value = crowd
        verdict = "fits" if crowd <= room else "does not fit"
        assert f"{crowd} × 8,192 tokens: {verdict}: needs" in explorer.text
        assert ("tokens a second" in explorer.text) == (crowd <= room)


def test_the_ceiling_is_bandwidth_over_bytes():
    explorer = memory_explorer.fit(machine(24), 30 * GB, "mistral-7b-v0.1", "float32", 4096, 2)
    assert "does not fit" in explorer.text
    here, model, weights, context, users = explorer.controls
    here.value, weights.value = "H100 80GB SXM", "bfloat16"
    load = memory_explorer.load_of(catalog.get("mistral-7b-v0.1"), "bfloat16", 4096)
    assert f"at most {3350e9 / (load.read + 2 * load.cache):.1f} each" in explorer.text
    assert "of 80.0 GB available" in explorer.text
    unmeasured = memory_explorer.fit(machine(24), None, "qwen2.5-0.5b")
    assert "fits: needs" in unmeasured.text and "tokens a second" not in unmeasured.text


@pytest.mark.parametrize("id", ["mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3", "llama-4-scout"])
def test_a_mixture_reads_the_experts_that_a_token_meets(id):
    read = memory_explorer.load_of(catalog.get(id), "bfloat16", 1).read
    assert read == pytest.approx(sizing.decode_bytes(catalog.config(id), 0, "bfloat16"), rel=0.01)


def test_gpt_oss_comes_in_mxfp4_and_nothing_else_does():
    explorer = memory_explorer.fit(machine(80), 3350 * GB, "gpt-oss-120b")
    file = sum(sizing.gguf_bytes(catalog.config("gpt-oss-120b"), "mxfp4_moe").values())
    needed = sizing.needed_bytes(file, sizing.kv_cache_bytes(catalog.config("gpt-oss-120b"), 8192))
    assert f"fits: needs {sizing.gigabytes(needed)} of 80.0 GB" in explorer.text
    _, model, weights, *_ = explorer.controls
    model.value = "qwen2.5-7b"
    assert weights.value == "q4_k_m"
    weights.value, model.value = "q8_0", "gpt-oss-20b"
    assert weights.value == "q8_0"  # a choice stays
    weights.value = "mxfp4"
    assert "× 4.25 bits" in explorer.text
    explorer = memory_explorer.fit(machine(80), None, "qwen2.5-7b", "mxfp4")
    assert explorer.text == "qwen2.5-7b: not published in mxfp4, choose other weights."


@pytest.mark.parametrize(
    "chosen, said",
    [
        ({"users": 3}, "users: '3' is not among the choices: 1, 2, 4"),
        ({"context": 5000}, "context: '5000' is not among the choices: 1024, 2048"),
        ({"weights": "q2_k"}, "weights: 'q2_k' is not among the choices: float32"),
        ({"model": "qwen2.5-8b"}, r"model: 'qwen2.5-8b' .* \d+ choices; closest: qwen2.5-7b"),
    ],
)
def test_a_choice_that_is_not_offered_is_named_with_what_is(chosen, said):
    with pytest.raises(ValueError, match=said):
        memory_explorer.fit(machine(24), **chosen)
    with pytest.raises(ValueError, match="card: 'RTX 4090' .* RTX 5060 Ti 16GB, RTX 5080"):
        cost_explorer.own_or_api("qwen2.5-7b", "Alibaba", "RTX 4090")


def test_the_explorer_of_fits_takes_every_model_and_keyboard():
    explorer = memory_explorer.fit(machine(24))
    here, model, weights, context, users = explorer.controls
    assert set(value for _, value in model.options) == {row.id for row in catalog.models()}
    assert here.value == memory_explorer.HERE and len(here.options) > 10
    assert set(memory_explorer.WEIGHTS.values()) <= set(sizing.BITS_PER_WEIGHT)
    for control in explorer.controls:
        assert control.description and control.tabbable is not False
    context.value = 2**20
    assert "Its context ends at 32,768 tokens." in explorer.text
    assert "status" in explorer.words.value and "KV cache" in explorer.table.value
    for row in catalog.models():
        model.value = row.id
        assert explorer.text.startswith(row.id)
