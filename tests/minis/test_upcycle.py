"""A trained Qwen2 model carried over into another architecture goes on doing what it did."""

import pytest
import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from openmodels.minis import tokenizer, upcycle

ROTARY = {"rope_type": "default", "rope_theta": 1e6}
SHAPE = {
    "vocab_size": tokenizer.VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "rms_norm_eps": 1e-6,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def source():
    """A Qwen2 model with random weights, read. Its tokens share a direction, as trained ones do."""
    torch.manual_seed(1)
    config = Qwen2Config(
        **SHAPE, intermediate_size=128, num_key_value_heads=1, rope_parameters=ROTARY,
        initializer_range=0.2, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 2.0
    return upcycle.fold_biases(model, tokenizer.load(), each=2)


def mistral() -> MistralForCausalLM:
    return MistralForCausalLM(
        MistralConfig(
            **SHAPE, intermediate_size=128, num_key_value_heads=1, head_dim=32,
            rope_parameters=ROTARY, tie_word_embeddings=False,
        )
    )  # fmt: skip


def llama4(**options) -> Llama4ForCausalLM:
    given = {
        "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 64,
        "intermediate_size_mlp": 128, "use_qk_norm": False, "no_rope_layers": [1, 1],
        "num_local_experts": 4, "moe_layers": [],
    }  # fmt: skip
    return Llama4ForCausalLM(
        Llama4TextConfig(**SHAPE, **(given | options), rope_parameters=ROTARY, bos_token_id=None)
    )


def deepseek(rank: int = 64, dense: int = 2) -> DeepseekV3ForCausalLM:
    return DeepseekV3ForCausalLM(
        DeepseekV3Config(
            **SHAPE, intermediate_size=128, moe_intermediate_size=32, num_key_value_heads=2,
            n_routed_experts=4, num_experts_per_tok=3, n_group=1, topk_group=1,
            first_k_dense_replace=dense, q_lora_rank=64, kv_lora_rank=rank, qk_nope_head_dim=16,
            qk_rope_head_dim=16, v_head_dim=32, rope_parameters=ROTARY | {"rope_theta": 1e3},
        )
    )  # fmt: skip


@torch.no_grad()
def difference(model, source) -> float:
    """Mean difference of log-probabilities over 24 random tokens, a share of their spread."""
    torch.manual_seed(3)
    row = torch.randint(20, 1500, (1, 24))
    ours, theirs = (m.eval()(input_ids=row).logits.log_softmax(-1) for m in (model, source.model))
    return ((ours - theirs).abs().mean() / theirs.std()).item()


def test_a_model_without_its_weights_is_far(source):
    assert difference(mistral(), source) > 0.5


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (mistral, 1e-4),
        (llama4, 1e-4),
        (lambda: deepseek(), 0.15),
        (lambda: llama4(moe_layers=[0, 1]), 0.4),
        (lambda: deepseek(dense=1), 0.4),
        (lambda: deepseek(rank=24), 0.4),
    ],
    ids=["mistral", "llama4", "deepseek", "llama4 experts", "deepseek experts", "deepseek narrow"],
)
def test_what_it_says_stays(source, make, most):
    torch.manual_seed(2)
    model = make()
    upcycle.start_from(model, source)
    assert difference(model, source) < most


def test_biases_are_folded_into_the_weights(source):
    model = source.model
    attention, x = model.model.layers[0].self_attn, source.attention_in[0]
    try:
        with torch.no_grad():
            attention.q_proj.bias.fill_(0.5)
            again = upcycle.fold_biases(model, tokenizer.load(), each=2)
            exact = attention.q_proj(x)
            without = x @ attention.q_proj.weight.T
        folded = x @ again.query[0].T
        assert (folded - exact).abs().mean() < 0.5 * (without - exact).abs().mean()
    finally:
        with torch.no_grad():
            attention.q_proj.bias.zero_()


def test_other_shapes_are_refused(source):
    config = MistralConfig(**(SHAPE | {"hidden_size": 128}), num_key_value_heads=2)
    with pytest.raises(ValueError, match="hidden_size is 128, the source has 64"):
        upcycle.start_from(MistralForCausalLM(config), source)
    with pytest.raises(ValueError, match="cannot initialise a qwen2"):
        upcycle.start_from(source.model, source)
