"""Every formula of openmodels.sizing is held against something counted or measured."""

import json
import math
import struct

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    DeepseekV3Config,
    DynamicCache,
    GptOssConfig,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
)

from openmodels import catalog, sizing

CONFIGS = sorted(path.stem for path in (catalog.DATA / "configs").glob("*.json"))
TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MIXTURE = {"num_local_experts": 8, "num_experts_per_tok": 2}
LATENT = {
    **{**TINY, "num_key_value_heads": 4, "moe_intermediate_size": 16},
    **{"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    **{"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 16},
    **{"q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12},
}
LLAMA_4 = {
    **{**TINY, "num_hidden_layers": 4, "num_local_experts": 8, "num_experts_per_tok": 1},
    **{"intermediate_size_mlp": 40, "interleave_moe_layer_step": 2, "attention_chunk_size": 6},
    **{"head_dim": 8, "pad_token_id": 0},
}
SHAPES = {
    "qwen2": lambda: Qwen2Config(**TINY),
    "qwen2 tied": lambda: Qwen2Config(**TINY, tie_word_embeddings=True),
    "qwen2, a window not in use": lambda: Qwen2Config(**TINY, sliding_window=4),
    "qwen2, a window from layer 1": lambda: Qwen2Config(
        **TINY, use_sliding_window=True, sliding_window=4, max_window_layers=1
    ),
    "mistral": lambda: MistralConfig(**TINY, sliding_window=None),
    "mistral, a window": lambda: MistralConfig(**TINY, sliding_window=5),
    "mixtral": lambda: MixtralConfig(**TINY, **MIXTURE),
    "qwen3 moe": lambda: Qwen3MoeConfig(
        **TINY, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=8
    ),
    "gpt-oss": lambda: GptOssConfig(
        **{**TINY, "num_hidden_layers": 4}, **MIXTURE, head_dim=8, sliding_window=5
    ),
    "deepseek": lambda: DeepseekV3Config(**LATENT),
    "llama 4": lambda: Llama4TextConfig(**LLAMA_4),
}
every_shape = pytest.mark.parametrize("name", SHAPES)


def build(name: str):
    """A tiny model of this shape whose matrix products are all visible to a counter."""
    torch.manual_seed(0)
    config = SHAPES[name]()
    config._attn_implementation = config._experts_implementation = "eager"
    return sizing.model_class(config)(config).eval()


def cache_bytes(model, tokens: int, steps: int = 0) -> int:
    """Bytes a real DynamicCache holds after a prompt of `tokens` tokens and `steps` more."""
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        for length in (tokens, *[1] * steps):
            model(torch.ones(1, length, dtype=torch.long), past_key_values=cache, use_cache=True)
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def counted_flops(model, tokens: int, context: int = 0, **options) -> int:
    """Operations of torch's counter for `tokens` tokens, after `context` others were cached."""
    cache = DynamicCache(config=model.config)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode():
        if context:
            model(torch.ones(1, context, dtype=torch.long), past_key_values=cache)
        with counter:
            model(torch.ones(1, tokens, dtype=torch.long), past_key_values=cache, **options)
    return counter.get_total_flops()


@pytest.mark.parametrize("id", CONFIGS)
def test_parameters_of_the_full_size_shapes(id):
    counted = sizing.parameters(catalog.config(id))
    row = catalog.get(id)
    assert counted == row.params_computed
    if id == "qwen2-audio-7b":  # 8.2 B is the paper's figure, remembered; the shape has 2.4 % more
        assert "params_total_B" in row.unverified_fields
        assert counted / (row.params_total_B * 1e9) == pytest.approx(1.024, abs=0.0005)
    else:
        assert counted == pytest.approx(row.params_total_B * 1e9, rel=0.01)


def test_parameters_count_tied_weights_once():
    for tied in (True, False):
        config = Qwen2Config(**TINY, tie_word_embeddings=tied)
        assert sizing.parameters(config) == Qwen2ForCausalLM(config).num_parameters()


@pytest.mark.parametrize("dtype, width", [(torch.float32, 4), (torch.bfloat16, 2)])
def test_kv_cache_against_a_real_one(dtype, width):
    model = Qwen2ForCausalLM(Qwen2Config(**TINY)).to(dtype).eval()
    assert cache_bytes(model, 7) == 7 * sizing.kv_cache_bytes_per_token(model.config, width)


def test_latent_cache_against_a_real_one():
    model = build("deepseek")
    assert cache_bytes(model, 5) == 5 * sizing.kv_cache_bytes_per_token(model.config, 4)


@every_shape
def test_the_cache_of_a_text_against_a_real_one(name):
    model = build(name)
    for tokens, steps in [(1, 0), (3, 0), (4, 1), (5, 0), (6, 2), (13, 3)]:
        formula = sizing.kv_cache_bytes(model.config, tokens + steps, 4)
        assert cache_bytes(model, tokens, steps) == formula, (tokens, steps)
        assert formula <= (tokens + steps) * sizing.kv_cache_bytes_per_token(model.config, 4)


def test_only_windows_in_use_shorten_the_cache():
    at_32k = {id: sizing.kv_cache_bytes(catalog.config(id), 32_768) for id in CONFIGS}
    shorter = {
        id
        for id in CONFIGS
        if at_32k[id] < 32_768 * sizing.kv_cache_bytes_per_token(catalog.config(id))
    }
    assert shorter == {"mistral-7b-v0.1", "gpt-oss-120b", "llama-4-scout", "llama-4-maverick"}
    per_layer = 2 * 8 * 128 * 2  # key and value, heads, width, bytes
    assert at_32k["mistral-7b-v0.1"] == 32 * 4095 * per_layer
    assert at_32k["llama-4-scout"] == (12 * 32_768 + 36 * 8191) * per_layer
    assert at_32k["gpt-oss-120b"] == 18 * (32_768 + 127) * 2 * 8 * 64 * 2
    assert at_32k["deepseek-v3"] == 32_768 * 61 * (512 + 64) * 2


def test_a_kind_of_layer_without_a_formula():
    config = Qwen2Config(**TINY)
    config.layer_types = ["linear_attention", "full_attention", "full_attention"]
    with pytest.raises(ValueError, match="no formula for layers of kind linear_attention"):
        sizing.kv_cache_bytes(config, 10)


def test_spans_say_how_far_each_layer_looks_back():
    scout = sizing.spans(catalog.config("llama-4-scout"))
    assert scout[:4] * 12 == scout
    assert scout[:4] == [8192, 8192, 8192, None]
    assert set(sizing.spans(catalog.config("mistral-7b-v0.1"))) == {4096}
    assert sizing.spans(catalog.config("deepseek-v3")) == [None] * 61


def test_kv_cache_of_the_full_size_shapes():
    per_token = {id: sizing.kv_cache_bytes_per_token(catalog.config(id)) for id in CONFIGS}
    assert per_token["qwen2.5-0.5b"] == 2 * 24 * 2 * 64 * 2
    assert per_token["mistral-large-2-2407"] == 2 * 88 * 8 * 128 * 2
    assert per_token["deepseek-v3"] == 61 * (512 + 64) * 2
    assert per_token["llama-4-scout"] == 2 * 48 * 8 * 128 * 2


@every_shape
def test_active_parameters_are_those_one_token_moves(name):
    """An expert that was not asked has a gradient of zero: one token shows which were."""
    model = build(name)
    model(torch.tensor([[7]])).logits.logsumexp(-1).sum().backward()
    moved = 0
    for key, parameter in model.named_parameters():
        if "experts" in key.split("."):
            asked = parameter.grad.flatten(1).ne(0).any(1).sum().item()
            moved += asked * parameter[0].numel()
        else:
            moved += parameter.numel()
    assert moved == sizing.active_parameters(model.config)
    dense = not any(word in name for word in ("mixtral", "moe", "gpt-oss", "deepseek", "llama 4"))
    assert (moved == model.num_parameters()) == dense


@pytest.mark.parametrize(
    "id, experts, published, rounded",
    [
        # layers, experts, left out, weights of one: the last column is from params_check's 0.001 B
        ("llama-4-scout", (48, 16, 15, 3 * 5120 * 8192), None, 18_044_606_036),
        ("llama-4-maverick", (24, 128, 127, 3 * 5120 * 8192), None, 18_056_679_814),
        ("deepseek-v3", (58, 256, 248, 3 * 7168 * 2048), 37, 37_552_060_602),
        ("mixtral-8x7b", (32, 8, 6, 3 * 4096 * 14336), 12.9, 12_880_042_704),
        ("qwen3-30b-a3b", (48, 128, 120, 3 * 2048 * 768), 3.3, 3_353_060_124),
    ],
)
def test_active_parameters_of_the_full_size_shapes(id, experts, published, rounded):
    row, counted = catalog.get(id), sizing.active_parameters(catalog.config(id))
    layers, n_experts, left_out, weights = experts
    assert counted == row.params_computed - layers * left_out * weights
    assert (row.n_experts, n_experts - row.experts_per_token) == (n_experts, left_out)
    assert counted == pytest.approx(rounded, rel=2e-5)
    if published:
        assert row.params_active_B == published
        assert counted == pytest.approx(published * 1e9, rel=0.02)


def test_active_parameters_that_vendors_count_otherwise():
    """Meta's 17 B leave out a tower and a table of embeddings, OpenAI's 5.1 B the table."""
    for id in ("llama-4-scout", "llama-4-maverick"):
        without = sizing.active_parameters(catalog.config(id)) - 202_048 * 5120
        assert without == pytest.approx(catalog.get(id).params_active_B * 1e9, rel=0.01)
    without = sizing.active_parameters(catalog.config("gpt-oss-120b")) - 201_088 * 2880
    assert without == pytest.approx(catalog.get("gpt-oss-120b").params_active_B * 1e9, rel=0.01)


def test_weight_bytes():
    assert sizing.weight_bytes(1_000_000) == 2_000_000
    assert sizing.weight_bytes(1_000_000, "q4_0") == 562_500
    assert sizing.weight_bytes(1_000_000, "q8_0") == 1_062_500
    assert sizing.weight_bytes(1_000_000, "q6_k") == 820_312
    assert sizing.weight_bytes(1_000_000, "mxfp4") == 531_250
    with pytest.raises(ValueError, match="unknown kind of weights 'q3'; known: float32"):
        sizing.weight_bytes(1, "q3")


@pytest.mark.parametrize("dtype, stored", [("float32", "F32"), ("bfloat16", "BF16")])
def test_weight_bytes_against_a_file(dtype, stored, tmp_path):
    model = build("qwen2 tied").to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    file = (tmp_path / "model.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", file[:8])[0]
    tensors = json.loads(file[8:start])
    tensors.pop("__metadata__")
    assert {tensor["dtype"] for tensor in tensors.values()} == {stored}
    assert len(file) - start == sizing.weight_bytes(model.num_parameters(), dtype)


def test_blocks_against_their_layout_in_memory():
    """The fields of ggml-common.h's blocks, each written out as a record of numpy."""
    half, byte = "<f2", "u1"
    layouts = {
        "q4_0": [("d", half), ("qs", byte, 16)],
        "q5_0": [("d", half), ("qh", byte, 4), ("qs", byte, 16)],
        "q5_1": [("d", half), ("m", half), ("qh", byte, 4), ("qs", byte, 16)],
        "q8_0": [("d", half), ("qs", "i1", 32)],
        "mxfp4": [("e", byte), ("qs", byte, 16)],
        "q4_k": [("d", half), ("dmin", half), ("scales", byte, 12), ("qs", byte, 128)],
        "q5_k": [("d", half), ("dmin", half), ("scales", byte, 12), ("qh", byte, 32)],
        "q6_k": [("ql", byte, 128), ("qh", byte, 64), ("scales", "i1", 16), ("d", half)],
    }
    layouts["q5_k"].append(("qs", byte, 128))
    for kind, layout in layouts.items():
        assert np.dtype(layout).itemsize == sizing.BLOCKS[kind][1], kind


def test_blocks_against_the_gguf_package():
    gguf = pytest.importorskip("gguf")
    other = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}
    for kind, block in sizing.BLOCKS.items():
        name = other.get(kind) or kind.upper()
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] == block, kind
    weights = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    for kind in ("q4_0", "q5_0", "q5_1", "q8_0"):
        stored = gguf.quantize(weights, gguf.GGMLQuantizationType[kind.upper()])
        assert stored.nbytes == sizing.weight_bytes(weights.size, kind), kind


@pytest.mark.parametrize(
    "kind, bits, gib",
    [
        ("q4_k_m", 4.8944, 4.58),
        ("q5_k_m", 5.7036, 5.33),
        ("q6_k", 6.5633, 6.14),
        ("q8_0", 8.5008, 7.95),
        ("float16", 16.0005, 14.96),
    ],
)
def test_files_of_llama_3_1_8b_against_llama_cpp(kind, bits, gib):
    """The table in llama.cpp's tools/quantize/README.md, at commit 311c2c9f."""
    config = LlamaConfig(
        **{"vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336},
        **{"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
    )
    size = sum(sizing.gguf_bytes(config, kind).values())
    assert round(8 * size / sizing.parameters(config), 4) == bits
    assert round(size / 2**30, 2) == gib


@pytest.mark.parametrize(
    "id, kind, gib",
    [
        # sizes that llama-bench printed: pull request 4406 of ggml-org/llama.cpp (2023-12-16) and
        # pull request 259 of ikawrakow/ik_llama.cpp (2025-03-16)
        ("mixtral-8x7b", "q6_k", 35.74),
        ("mixtral-8x7b", "q8_0", 46.22),
        ("deepseek-r1", "q4_k_m", 376.65),
    ],
)
def test_files_of_mixtures_against_llama_cpp(id, kind, gib):
    size = sum(sizing.gguf_bytes(catalog.config(id), kind).values())
    assert size / 2**30 == pytest.approx(gib, rel=0.0005)


@pytest.mark.parametrize(
    "id, kind",
    [
        ("deepseek-r1-distill-qwen-1.5b", "q4_k_m"),
        ("deepseek-r1-distill-qwen-7b", "q4_k_m"),
        ("deepseek-r1", "q4_k_m"),
        ("llama-4-scout", "q4_k_m"),
        ("llama-4-maverick", "q4_k_m"),
        ("llama-3.2-1b", "q8_0"),
        ("mistral-large-2-2407", "q4_0"),
    ],
)
def test_files_against_the_downloads_of_the_catalogue(id, kind):
    size = sum(sizing.gguf_bytes(catalog.config(id), kind).values())
    assert size / 1e9 == pytest.approx(catalog.get(id).ollama_GB, rel=0.012)


def test_the_parts_of_a_file():
    config = catalog.config("qwen2.5-0.5b")  # rows of 896: no block of 256 fits
    parts = sizing.gguf_bytes(config, "q4_k_m")
    assert parts["embedding"] == 151_936 * 896 // 32 * 34  # tied to the head: 8 bits
    assert (parts["head"], parts["tower"]) == (0, 0)
    untied = sizing.gguf_bytes(catalog.config("deepseek-r1-distill-qwen-1.5b"), "q4_k_m")
    assert untied["embedding"] == 151_936 * 1536 // 256 * 144
    assert untied["head"] == 151_936 * 1536 // 256 * 210
    vision = sizing.gguf_bytes(catalog.config("qwen2.5-vl-7b"), "q4_k_m")
    text = sizing.gguf_bytes(catalog.config("qwen2.5-7b"), "q4_k_m")
    tower = sizing.parameters(catalog.config("qwen2.5-vl-7b")) - sizing.parameters(
        catalog.config("qwen2.5-7b")
    )
    assert vision == {**text, "tower": 2 * tower}
    with pytest.raises(ValueError, match="unknown kind of llama.cpp file 'int8'; known: float32"):
        sizing.gguf_bytes(config, "int8")


def test_a_file_in_mxfp4_fits_a_card_of_80_gb():
    """As OpenAI says of gpt-oss-120b: https://github.com/openai/gpt-oss/blob/7b58334/README.md"""
    parts = sizing.gguf_bytes(catalog.config("gpt-oss-120b"), "mxfp4_moe")
    experts = 36 * 128 * 3 * 2880 * 2880
    assert experts * 17 // 32 < parts["layers"] < experts * 17 // 32 * 1.03
    assert sizing.needed_bytes(sum(parts.values())) < 80e9


@every_shape
@pytest.mark.parametrize("tokens", [1, 4, 5, 17])
def test_prefill_against_torch_s_counter(name, tokens):
    model = build(name)
    idle = 0
    if name == "llama 4":  # transformers runs the experts a token did not ask, on zeros
        idle = 2 * tokens * (model.num_parameters() - sizing.active_parameters(model.config))
    for n_logits in (1, tokens):
        formula = sizing.prefill_flops(model.config, tokens, n_logits, skip_masked=False) + idle
        counted = counted_flops(model, tokens, logits_to_keep=n_logits)
        assert formula == pytest.approx(counted, rel=0.01)
        assert formula <= counted  # the counter sees the rotary angles too


@every_shape
@pytest.mark.parametrize("context", [2, 5, 18, 20])
def test_decoding_against_torch_s_counter(name, context):
    model = build(name)
    more = 0
    if name == "llama 4":  # idle experts, and chunks of 6 kept like windows of 6
        more = 2 * (model.num_parameters() - sizing.active_parameters(model.config))
        in_window, in_chunk = min(context, 6), (context - 1) % 6 + 1
        more += 2 * 3 * (in_window - in_chunk) * 4 * (8 + 8)
    formula = sizing.decode_flops(model.config, context, absorbed=False) + more
    counted = counted_flops(model, 1, context - 1)
    assert formula == pytest.approx(counted, rel=0.01)
    assert formula <= counted


@every_shape
@pytest.mark.parametrize("tokens", [1, 4, 23])
def test_reading_a_prompt_is_decoding_it_token_by_token(name, tokens):
    """With a logit for each place; expanded keys and values aside, which only decoding repeats."""
    config = SHAPES[name]()
    one_by_one = sum(sizing.decode_flops(config, n, absorbed=False) for n in range(1, tokens + 1))
    if name == "deepseek":
        expansion = config.num_hidden_layers * 16 * 4 * (8 + 12)
        one_by_one -= 2 * expansion * sum(range(tokens))
    assert sizing.prefill_flops(config, tokens, n_logits=tokens) == one_by_one


def test_absorbed_latent_attention_is_the_same_attention():
    """Computed in the latent space on real weights: equal output, and the operations counted."""
    layer = build("deepseek").model.layers[0].self_attn
    heads, nope, rank, context = 4, 8, 16, 50
    query, rotary_query = torch.randn(heads, nope), torch.randn(heads, 8)
    latent, rotary_key = torch.randn(context, rank), torch.randn(context, 8)
    up_keys, up_values = layer.kv_b_proj.weight.view(heads, nope + 12, rank).split([nope, 12], 1)
    with torch.inference_mode():
        keys, values = layer.expand_kv(latent[None, None], rotary_key[None, None])
        scores = torch.cat([query, rotary_query], -1)[:, None] @ keys[0].mT  # (heads, 1, context)
        expected = scores.softmax(-1) @ values[0]  # (heads, 1, 12)
        with FlopCounterMode(display=False) as counter:
            absorbed = query[:, None] @ up_keys  # (heads, 1, rank)
            scores = absorbed @ latent.T + rotary_query[:, None] @ rotary_key.T
            result = scores.softmax(-1) @ latent.expand(heads, -1, -1) @ up_values.mT
    assert torch.allclose(result, expected, atol=1e-6)
    config = SHAPES["deepseek"]()
    projections = 2 * layer.kv_b_proj.weight.numel()  # read by one query instead of one key
    more = sizing.decode_flops(config, context) - sizing.decode_flops(config, 1)
    one_key = 2 * heads * (2 * rank + 8)
    assert counter.get_total_flops() == projections + context * one_key
    assert more == config.num_hidden_layers * (context - 1) * one_key
    assert sizing.decode_flops(config, context) < sizing.decode_flops(config, context, False)


def test_operations_of_a_full_size_shape_by_hand():
    config = catalog.config("qwen2.5-0.5b")
    layer = 2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864  # q and o, k and v, the MLP
    head = 151_936 * 896
    pairs = 1000 * 1001 // 2 * 24 * 14 * (64 + 64)
    assert sizing.prefill_flops(config, 1000) == 2 * (1000 * 24 * layer + head + pairs)
    assert sizing.decode_flops(config, 1000) == 2 * (24 * layer + head + 1000 * 24 * 14 * 128)
    assert sizing.decode_flops(config, 1) == pytest.approx(2 * sizing.parameters(config), rel=0.001)


def test_bytes_read_per_token():
    small = catalog.config("qwen2.5-0.5b")  # tied: the table is read as the head
    assert sizing.decode_bytes(small, 1000) == pytest.approx(
        sizing.weight_bytes(sizing.parameters(small)) + 1000 * 12_288, rel=0.001
    )
    scout = catalog.config("llama-4-scout")  # left out: a row of the table, and the tower
    tower = sizing.gguf_bytes(scout, "float16")["tower"] // 2
    text = sizing.active_parameters(scout) - tower - 202_048 * 5120
    assert sizing.decode_bytes(scout, 0, "q4_0") == pytest.approx(text * 4.5 / 8, rel=0.001)


def test_measured_speeds_stay_below_the_bound():
    """Llama 3 70B in q4_k_m on two RTX 3090, layers split between them, decodes 16.95 tokens/s:
    https://huggingface.co/datasets/rigbase/rigbase-local-llm-benchmarks, read 2026-11-23."""
    card = catalog.get_hardware("RTX 3090").bandwidth_GBps * sizing.GB
    bound = sizing.decode_bound(catalog.get("llama-3.3-70b").ollama_GB * sizing.GB, card)
    assert bound == pytest.approx(936 / 43)
    assert 0.6 * bound < 16.95 < bound
    with pytest.raises(ValueError, match="bandwidth must be above 0, but is 0"):
        sizing.decode_bound(1, 0)


HOME = {
    **{"price": 2000, "years": 4, "power_W": 450, "price_per_kWh": 0.30},
    "tokens_per_second": 50,
}


def test_cost_of_your_own_hardware_by_hand():
    """50 tokens/s are 0.18 million an hour and 6311.52 million in 4 years of 8766 hours."""
    hardware = 2000 / 6311.52  # 0.3169
    electricity = 0.45 * 0.30 / 0.18  # 0.75
    assert sizing.cost_per_million(**HOME) == pytest.approx(hardware + electricity)
    assert round(sizing.cost_per_million(**HOME), 2) == 1.07
    idle = sizing.cost_per_million(**HOME, utilisation=0.1)
    assert idle == pytest.approx(10 * hardware + electricity)
    for wrong in (0, 1.5):
        with pytest.raises(ValueError, match="utilisation"):
            sizing.cost_per_million(**HOME, utilisation=wrong)
    with pytest.raises(ValueError, match="years must be above 0, but is 0"):
        sizing.cost_per_million(**{**HOME, "years": 0})


def test_cost_of_an_api_by_hand():
    assert sizing.api_cost_per_million(0.10, 0.30, ratio=3) == pytest.approx(0.15)
    assert sizing.api_cost_per_million(2.5, 10, ratio=0) == 10
    assert sizing.api_cost_per_million(2.5, 10, ratio=1) == 6.25
    with pytest.raises(ValueError, match="at least 0; got -1"):
        sizing.api_cost_per_million(1, 1, ratio=-1)


def test_break_even_by_hand():
    """2000 over 48 months is 41.67 a month; each million saves 4.375 - 0.75 = 3.625."""
    api = sizing.api_cost_per_million(2.5, 10, ratio=3)
    assert api == 4.375
    tokens = sizing.break_even(api, **HOME)
    assert tokens == pytest.approx(41.6667 / 3.625 * 1e6, rel=1e-4)
    share = tokens / (50 * 3600 * 8766 / 12)
    assert sizing.cost_per_million(**HOME, utilisation=share) == pytest.approx(api)


def test_some_hardware_never_breaks_even():
    assert sizing.break_even(0.75, **HOME) == math.inf  # electricity alone costs as much
    assert sizing.break_even(0.76, **HOME) == math.inf  # one machine cannot make that many tokens
    full = sizing.cost_per_million(**HOME)
    assert sizing.break_even(full * 1.0001, **HOME) == pytest.approx(
        50 * 3600 * 8766 / 12, rel=0.01
    )


def test_four_bits_agree_with_the_downloads_of_the_catalogue():
    sizes = {"deepseek-r1": 404, "llama-4-scout": 67, "llama-4-maverick": 245, "llama-3.3-70b": 43}
    for id, gigabytes in sizes.items():
        row = catalog.get(id)
        assert row.ollama_GB == gigabytes
        assert sizing.weight_bytes(row.parameters, "q4_k_m") / 1e9 == pytest.approx(
            gigabytes, rel=0.03
        )


def test_fits():
    small = sizing.fits(1_000_000_000, "bfloat16", available=3_000_000_000)
    assert small and small.needed == 2_700_000_000
    large = sizing.fits(1_000_000_000, "float32", available=3_000_000_000)
    assert not large
    assert str(large) == "does not fit: needs 4.9 GB of 3.0 GB available"
    assert not sizing.fits(1_000_000_000, kv_cache=400_000_000, available=3_000_000_000)


def test_memory_of_this_machine():
    assert 0 < sizing.available_memory() <= sizing.total_memory()


def test_a_container_limit_is_found(tmp_path):
    own, group = tmp_path / "own", tmp_path / "fs" / "pods" / "lark"
    own.write_text("0::/pods/lark\n")
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text("1000\n")
    (group.parent / "memory.current").write_text("700\n")
    (group.parent / "memory.stat").write_text("anon 600\ninactive_file 50\n")
    assert sizing.cgroup_memory(own, tmp_path / "fs") == [(1000, 350)]


def test_an_old_container_limit_is_found(tmp_path):
    own, base = tmp_path / "own", tmp_path / "fs" / "memory"
    own.write_text("5:cpu,cpuacct:/x\n4:memory:/not/mounted/here\n0::/\n")
    base.mkdir(parents=True)
    (base / "memory.limit_in_bytes").write_text("1000\n")
    (base / "memory.usage_in_bytes").write_text("400\n")
    (base / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 100\n")
    assert sizing.cgroup_memory(own, tmp_path / "fs") == [(1000, 700)]


def test_no_cgroups_no_limit(tmp_path):
    assert sizing.cgroup_memory(tmp_path / "absent", tmp_path) == []


def test_a_class_this_transformers_lacks():
    config = Qwen2Config(**TINY, architectures=["Qwen9ForCausalLM"])
    with pytest.raises(ValueError, match="has no class for .*Qwen9.*newer transformers"):
        sizing.parameters(config)


# --- Several texts at once ------------------------------------------------------------------------


def test_one_text_reads_what_a_step_reads():
    for name in ("qwen2.5-7b", "llama-4-scout", "mixtral-8x7b"):
        config = catalog.config(name)
        alone = sizing.decode_bytes(config, 1000, "q4_0")
        assert sizing.step_bytes(config, 1, 1000, "q4_0") == pytest.approx(alone, rel=1e-9)


def test_texts_share_the_weights_and_not_the_cache():
    dense = catalog.config("qwen2.5-7b")
    more = sizing.step_bytes(dense, 9, 1000) - sizing.step_bytes(dense, 1, 1000)
    assert more == 8 * sizing.kv_cache_bytes(dense, 1000)
    with pytest.raises(ValueError, match="at least 1"):
        sizing.step_bytes(dense, 0, 1000)


def test_the_experts_that_are_read_are_those_that_draws_meet():
    mixture = catalog.config("mixtral-8x7b")
    one, all_of_them = (sizing.step_bytes(mixture, texts, 0) for texts in (1, 10_000))
    draw = np.random.default_rng(1)
    met = [len({e for _ in range(5) for e in draw.permutation(8)[:2]}) for _ in range(4000)]
    share = (np.mean(met) - 2) / (8 - 2)
    read = (sizing.step_bytes(mixture, 5, 0) - one) / (all_of_them - one)
    assert read == pytest.approx(share, abs=0.01)
    whole = sizing.weight_bytes(sizing.parameters(mixture))
    assert all_of_them == pytest.approx(whole, rel=0.005)
