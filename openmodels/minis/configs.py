"""Each miniature's architecture, next to the full-size model it stands for.

Row lengths are multiples of 256, which llama.cpp's k-quants need.
"""

from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Llama4Config,
    PreTrainedConfig,
    Qwen2Config,
)

from openmodels.minis.images import END, MINI, PATCH, START, TOKENS
from openmodels.minis.tokenizer import VOCABULARY


def qwen(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int) -> Qwen2Config:
    """A Qwen2 configuration with Qwen2.5's rotary base and tied embeddings, as in its 0.5B."""
    return Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=2,  # <|im_end|>, pinned by a test
        pad_token_id=0,
    )


def scout() -> Llama4Config:
    """Llama 4 Scout's configuration in small: every ratio that shapes a weight is kept.

    Attention's temperature stays 1, as in Scout below its 8,192 tokens (floor_scale).
    """
    shape = MINI
    width, projected = 96, 192
    text = {
        "vocab_size": VOCABULARY + len(TOKENS),
        "hidden_size": 256,
        "num_hidden_layers": 4,  # three that look back within a chunk, one that looks at all
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 128,
        "intermediate_size_mlp": 256,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 1,
        "use_qk_norm": True,
        # Rows of training text must not be cut where an answer would not be: up to 256 tokens
        # many documents share a row, above that there is one to a row, from its first token on.
        "attention_chunk_size": 256,
        "no_rope_layer_interval": 4,
        "attn_temperature_tuning": True,
        "floor_scale": 8192,
        "attn_scale": 0.1,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
        "initializer_range": 0.05,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": width,
        "num_hidden_layers": 3,  # the fewest that llama.cpp takes
        "num_attention_heads": 4,
        # what four shuffled patches are wide: the adapter's input has this size too
        "intermediate_size": round(width / shape.pixel_shuffle_ratio**2),
        "image_size": shape.size,
        "patch_size": shape.patch_size,
        "pixel_shuffle_ratio": shape.pixel_shuffle_ratio,
        "projector_input_dim": projected,
        "projector_output_dim": projected,
        "vision_output_dim": projected,
        "initializer_range": 0.05,
    }
    return Llama4Config(
        text_config=text,
        vision_config=vision,
        boi_token_index=VOCABULARY + TOKENS.index(START),
        eoi_token_index=VOCABULARY + TOKENS.index(END),
        image_token_index=VOCABULARY + TOKENS.index(PATCH),
    )


CONFIGS = {"mini-qwen": lambda: qwen(6, 256, 512, 4, 2), "mini-scout": scout}
STANDS_FOR = {"mini-qwen": "qwen2.5-0.5b", "mini-scout": "llama-4-scout"}


def sees(config: PreTrainedConfig) -> bool:
    """Whether a model with this configuration reads pictures."""
    return hasattr(config, "vision_config")


def model_class(config: PreTrainedConfig) -> type:
    """The automatic class that makes the whole model, vision tower included."""
    return AutoModelForImageTextToText if sees(config) else AutoModelForCausalLM


def config(name: str) -> PreTrainedConfig:
    """The configuration of a miniature. Raises ValueError for a name that is none."""
    if name not in CONFIGS:
        raise ValueError(f"no miniature {name!r}; there are {', '.join(sorted(CONFIGS))}")
    return CONFIGS[name]()
