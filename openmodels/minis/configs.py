"""The architecture of each miniature, and the full-size model it stands for.

Two hidden sizes keep all miniatures together below 40 MB: 256, the minimum for llama.cpp's
k-quants, and 128.
"""

from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    DeepseekV3Config,
    Llama4Config,
    Llama4TextConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2AudioConfig,
    Qwen2Config,
)

from openmodels.minis import qwen_vl
from openmodels.minis.images import END, MINI, PATCH, START, TOKENS
from openmodels.minis.tokenizer import CODE_VOCABULARY, VOCABULARY

# shared by all miniatures; 2 is <|im_end|>, checked by a test
COMMON = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 1024,
    "initializer_range": 0.05,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def rotary(base: float) -> dict:
    """Return the rotary position settings for a base frequency."""
    return {"rope_type": "default", "rope_theta": base}


def qwen(
    layers: int,
    hidden: int,
    intermediate: int,
    heads: int,
    kv_heads: int,
    vocabulary: int = VOCABULARY,
    end: int = 2,
) -> Qwen2Config:
    """Return a Qwen2 configuration with Qwen2.5's rotary base and tied embeddings, as in its 0.5B.

    end: the token that ends an answer, by default <|im_end|>; checked by a test.
    """
    return Qwen2Config(
        **COMMON | {"vocab_size": vocabulary, "eos_token_id": end},
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rope_parameters=rotary(1_000_000.0),
        tie_word_embeddings=True,
    )


def smallest() -> Qwen2Config:
    """Return the smallest configuration of the ladder, also used by the reasoning models."""
    return qwen(4, 128, 256, 4, 2)


def agent() -> Qwen2Config:
    """Return mini-qwen's configuration with twice its context, for conversations with tools."""
    config = qwen(6, 256, 512, 4, 2)
    config.max_position_embeddings = 2 * COMMON["max_position_embeddings"]
    return config


def acts(config: PreTrainedConfig) -> bool:
    """Return whether a miniature with this configuration is trained for an agent's tasks."""
    return config.model_type == "qwen2" and config.max_position_embeddings == 2048


def mistral() -> MistralConfig:
    """Return Mistral Large 2 in small: grouped-query attention, no biases, no window."""
    return MistralConfig(
        **COMMON,
        hidden_size=128,
        num_hidden_layers=4,
        intermediate_size=256,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        rms_norm_eps=1e-5,
        sliding_window=None,
        rope_parameters=rotary(1_000_000.0),
        tie_word_embeddings=False,
    )


def deepseek() -> DeepseekV3Config:
    """Return DeepSeek-V3 in small: a dense layer, then eight experts, three of them per token.

    The rotary base is the square root of mini-qwen's; `upcycle.deepseek` explains why.
    """
    return DeepseekV3Config(
        **COMMON,
        hidden_size=128,
        num_hidden_layers=4,
        intermediate_size=256,
        moe_intermediate_size=32,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_shared_experts=1,
        n_routed_experts=8,
        num_experts_per_tok=3,
        n_group=4,
        topk_group=2,
        first_k_dense_replace=1,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        q_lora_rank=96,
        kv_lora_rank=64,
        qk_nope_head_dim=16,
        qk_rope_head_dim=32,
        v_head_dim=32,
        num_mtp_layers=0,
        rope_parameters=rotary(1_000.0),
        tie_word_embeddings=False,
    )


def llama4(
    layers: int, hidden: int, experts: int, expert: int, dense: int, every: int, qk_norm: bool
) -> Llama4TextConfig:
    """Return the text part of a Llama 4: chunked rotary layers, each fourth without positions.

    expert, dense: intermediate sizes of an expert and of a layer without experts. every: which
    layers have experts (1: all, as in Scout; 2: every second, as in Maverick).
    """
    return Llama4TextConfig(
        **COMMON,
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=expert,
        intermediate_size_mlp=dense,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        num_local_experts=experts,
        num_experts_per_tok=1,
        interleave_moe_layer_step=every,
        use_qk_norm=qk_norm,
        attention_chunk_size=256,
        no_rope_layer_interval=4,
        attn_temperature_tuning=True,
        rope_parameters=rotary(1_000_000.0),
        tie_word_embeddings=False,
    )


def scout() -> Llama4Config:
    """Return Llama 4 Scout in small, with its vision tower: ratios that shape a weight are equal.

    Attention chunks are counted from the start of a row. Rows of up to 256 tokens hold many
    documents; longer rows hold one document, so training cuts where generation would cut.
    Attention's temperature stays 1, as in Scout below 8,192 tokens (floor_scale).
    """
    text = llama4(4, 128, experts=4, expert=128, dense=256, every=1, qk_norm=True)
    text.vocab_size += len(TOKENS)
    width, projected = 96, 192
    vision = {
        "hidden_size": width,
        "num_hidden_layers": 3,  # the minimum for llama.cpp
        "num_attention_heads": 4,
        # the width of four shuffled patches, which is also the adapter's input size
        "intermediate_size": round(width / MINI.pixel_shuffle_ratio**2),
        "image_size": MINI.size,
        "patch_size": MINI.patch_size,
        "pixel_shuffle_ratio": MINI.pixel_shuffle_ratio,
        "projector_input_dim": projected,
        "projector_output_dim": projected,
        "vision_output_dim": projected,
        "initializer_range": 0.05,
    }
    return Llama4Config(
        architectures=["Llama4ForConditionalGeneration"],
        text_config=text,
        vision_config=vision,
        boi_token_index=VOCABULARY + TOKENS.index(START),
        eoi_token_index=VOCABULARY + TOKENS.index(END),
        image_token_index=VOCABULARY + TOKENS.index(PATCH),
    )


def seeing_qwen() -> Qwen2_5_VLConfig:
    """Return Qwen2.5-VL in small: mini-qwen's text model behind a vision tower.

    As in the full-size models, one block in a few attends to the whole picture, the others within
    windows of 112 x 112 pixels.
    """
    text = qwen(6, 256, 512, 4, 2)
    fields = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "rms_norm_eps", "initializer_range", "bos_token_id",
              "eos_token_id", "pad_token_id")  # fmt: skip
    return qwen_vl.config({name: getattr(text, name) for name in fields}, VOCABULARY)


def hearing_qwen() -> Qwen2AudioConfig:
    """Return Qwen2-Audio in small: mini-qwen-s's text model behind a sound encoder."""
    from openmodels.minis import audio  # which needs this module

    return audio.config()


def maverick() -> Llama4TextConfig:
    """Return Llama 4 Maverick's text part in small: more experts, in every second layer."""
    return llama4(4, 128, experts=8, expert=128, dense=256, every=2, qk_norm=False)


def behemoth() -> Llama4TextConfig:
    """Return a teacher for mini-maverick. Which layers of Behemoth have experts is unpublished."""
    return llama4(6, 256, experts=4, expert=256, dense=512, every=2, qk_norm=False)


CONFIGS = {
    "mini-qwen": lambda: qwen(6, 256, 512, 4, 2),
    "mini-qwen-agent": agent,
    "mini-qwen-s": lambda: qwen(4, 256, 256, 4, 2),
    "mini-qwen-xs": smallest,
    "mini-r1-base": smallest,
    "mini-r1-zero": smallest,
    "mini-r1": smallest,
    "mini-r1-distill": lambda: qwen(3, 128, 256, 4, 2),
    "mini-qwen-coder": lambda: qwen(3, 256, 256, 4, 1, CODE_VOCABULARY, end=0),
    "mini-mistral": mistral,
    "mini-deepseek": deepseek,
    "mini-scout": scout,
    "mini-qwen-vl": seeing_qwen,
    "mini-qwen-audio": hearing_qwen,
    "mini-behemoth": behemoth,
    "mini-maverick": maverick,
}
EMBEDDERS = {"mini-embed": smallest}  # return vectors instead of text
STANDS_FOR = {
    "mini-qwen": "qwen2.5-0.5b",
    "mini-qwen-agent": "qwen2.5-0.5b",
    "mini-qwen-s": "qwen2.5-0.5b",
    "mini-qwen-xs": "qwen2.5-0.5b",
    "mini-r1-base": "qwen2.5-0.5b",
    "mini-r1-zero": "qwen2.5-0.5b",
    "mini-r1": "qwen2.5-0.5b",
    "mini-r1-distill": "qwen2.5-0.5b",
    "mini-qwen-coder": "qwen2.5-coder-0.5b",
    "mini-mistral": "mistral-large-2-2407",
    "mini-deepseek": "deepseek-v3",
    "mini-scout": "llama-4-scout",
    "mini-qwen-vl": "qwen2.5-vl-7b",
    "mini-qwen-audio": "qwen2-audio-7b",
    "mini-behemoth": "llama-4-behemoth",
    "mini-maverick": "llama-4-maverick",
}
# Named after the models whose training they repeat, not after their architecture.
TAUGHT_AS = {
    "mini-r1-zero": "DeepSeek-R1-Zero",
    "mini-r1": "DeepSeek-R1",
    "mini-r1-distill": "DeepSeek-R1-Distill-Qwen",
}


def sees(config: PreTrainedConfig) -> bool:
    """Return whether a model with this configuration has a vision tower."""
    return hasattr(config, "vision_config")


def hears(config: PreTrainedConfig) -> bool:
    """Return whether a model with this configuration has a sound encoder."""
    return hasattr(config, "audio_config")


def model_class(config: PreTrainedConfig) -> type:
    """Return the Auto class that builds the whole model, vision tower or sound encoder included."""
    if hears(config):
        return AutoModelForMultimodalLM
    return AutoModelForImageTextToText if sees(config) else AutoModelForCausalLM


def config(name: str) -> PreTrainedConfig:
    """Return the configuration of a miniature. Raises ValueError for an unknown name."""
    known = CONFIGS | EMBEDDERS
    if name not in known:
        raise ValueError(f"unknown miniature {name!r}; known: {', '.join(sorted(known))}")
    return known[name]()
