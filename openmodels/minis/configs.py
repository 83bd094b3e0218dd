"""Each miniature's architecture, next to the full-size model it stands for.

Row lengths are multiples of 256, which llama.cpp's k-quants need.
"""

from transformers import PreTrainedConfig, Qwen2Config

from openmodels.minis.tokenizer import CODE_VOCABULARY, VOCABULARY


def qwen(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int,
         vocabulary: int = VOCABULARY, end: int = 2) -> Qwen2Config:  # fmt: skip
    """A Qwen2 configuration with Qwen2.5's rotary base and tied embeddings, as in its 0.5B.

    end: the token that ends an answer, here <|im_end|>; pinned by a test.
    """
    return Qwen2Config(
        vocab_size=vocabulary,
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
        eos_token_id=end,
        pad_token_id=0,
    )


CONFIGS = {
    "mini-qwen": lambda: qwen(6, 256, 512, 4, 2),
    "mini-qwen-coder": lambda: qwen(3, 256, 256, 4, 1, CODE_VOCABULARY, end=0),
}
STANDS_FOR = {"mini-qwen": "qwen2.5-0.5b", "mini-qwen-coder": "qwen2.5-coder-0.5b"}


def config(name: str) -> PreTrainedConfig:
    """The configuration of a miniature. Raises ValueError for a name that is none."""
    if name not in CONFIGS:
        raise ValueError(f"no miniature {name!r}; there are {', '.join(sorted(CONFIGS))}")
    return CONFIGS[name]()
