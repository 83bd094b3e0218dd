"""Exercise 2.2: count the bytes of a KV cache from a config."""

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache, MistralConfig

from openmodels import catalog, sizing
from openmodels.check import NotYet, WrongAnswer, exercise, expect_type
from openmodels.exercises.lab2.fixtures import load_miniature

# Every factor is different, and heads are wider than hidden_size / heads (160), so that different
# mistakes give different numbers.
PROBE = MistralConfig(
    num_hidden_layers=40, hidden_size=5120, num_attention_heads=32, num_key_value_heads=8,
    head_dim=128,
)  # fmt: skip
PROBE_CALL = (PROBE, 7, 8)  # config, tokens, bytes per number
PROBE_BYTES = 2 * 40 * 8 * 128 * 7 * 8
MESSAGES = {  # by how many times too much or too little an answer is
    1 / 2: "A token leaves a key and a value in each layer: count both.",
    32 / 8: "Keys and values exist per KV head, `num_key_value_heads`; the query heads share them.",
    5120 / 1024: "`hidden_size` is what a layer passes on. A key is as wide as the KV heads: "
    "`num_key_value_heads` times the width of one head.",
    1 / 40: "Every layer keeps keys and values of its own: where is `num_hidden_layers`?",
    160 / 128: "This config gives `head_dim`; only where it is missing is it `hidden_size` divided "
    "by the number of heads.",
    1 / 7: "Every token costs the same again: where is `tokens`?",
    1 / 4: "`bytes_per_number` is an argument: it is 2 only where the cache is bfloat16.",
    1 / 8: "Those are numbers, not bytes: where is `bytes_per_number`?",
    8: "Are those bits? `bytes_per_number` is in bytes already.",
}


# --- Known mistakes -------------------------------------------------------------------------------


def head_dim(config: Any) -> int:
    """Return the width of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def without_values(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    numbers = config.num_hidden_layers * config.num_key_value_heads * head_dim(config)
    return numbers * tokens * bytes_per_number


def per_query_head(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    per_layer = 2 * config.num_attention_heads * head_dim(config)
    return config.num_hidden_layers * per_layer * tokens * bytes_per_number


def of_hidden_size(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    return 2 * config.num_hidden_layers * config.hidden_size * tokens * bytes_per_number


def of_single_layer(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    return 2 * config.num_key_value_heads * head_dim(config) * tokens * bytes_per_number


def head_dim_required(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    per_layer = 2 * config.num_key_value_heads * config.head_dim
    return config.num_hidden_layers * per_layer * tokens * bytes_per_number


def head_dim_may_be_none(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    per_layer = 2 * config.num_key_value_heads * getattr(config, "head_dim", None)
    return config.num_hidden_layers * per_layer * tokens * bytes_per_number


def head_dim_ignored(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    per_layer = 2 * config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
    return config.num_hidden_layers * per_layer * tokens * bytes_per_number


def always_two_bytes(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    return sizing.kv_cache_bytes_per_token(config) * tokens


def numbers_not_bytes(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    return sizing.kv_cache_bytes_per_token(config, 1) * tokens


def of_single_token(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    return sizing.kv_cache_bytes_per_token(config, bytes_per_number)


def in_bits(config: Any, tokens: int, bytes_per_number: int = 2) -> int:
    return sizing.kv_cache_bytes_per_token(config, 8 * bytes_per_number) * tokens


# --- The checker ----------------------------------------------------------------------------------


def _filled_bytes(tokens: int) -> int:
    """Return the bytes of the keys and values that mini-qwen leaves in a cache, in float32."""
    filled = DynamicCache()
    with torch.no_grad():
        load_miniature().model(torch.arange(20, 20 + tokens)[None], past_key_values=filled)
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in filled.layers)


def _expect_bytes(kv_cache_bytes: Callable, what: str, expected: int, *call: Any) -> None:
    """Raise NotYet unless a call gives the expected bytes. call: config, tokens, number's bytes."""
    config, tokens, width = call
    what = f"{what}, {tokens:,} token{'s' if tokens > 1 else ''}, {width} bytes a number"
    try:
        size = kv_cache_bytes(*call)
    except (AttributeError, TypeError) as error:
        none = isinstance(error, TypeError) and "NoneType" in str(error)
        if getattr(config, "head_dim", None) is None and (none or "head_dim" in str(error)):
            raise NotYet(
                f"{what}: this config has no `head_dim` ({error}). Where it is missing, a head is "
                "as wide as `hidden_size` divided by the number of heads."
            ) from error
        raise
    expect_type(size, (int, float), f"the cache of {what}")
    if size != expected:
        why = _explain(kv_cache_bytes)
        raise NotYet(f"{what}: you say {size:,} bytes, expected {expected:,}. {why}".strip())


def _explain(kv_cache_bytes: Callable) -> str:
    """Return the message for the factor by which an answer is wrong, "" if it is not known."""
    try:
        factor = kv_cache_bytes(*PROBE_CALL) / PROBE_BYTES
    except Exception:  # a wrong answer may raise anything; then no mistake is recognised
        return ""
    return next((text for known, text in MESSAGES.items() if math.isclose(factor, known)), "")


@exercise(
    "2.2",
    wrong=[
        WrongAnswer("query heads", per_query_head, "the query heads share them"),
        WrongAnswer("keys without values", without_values, "a key and a value"),
        WrongAnswer("hidden_size", of_hidden_size, "`hidden_size` is what a layer passes on"),
        WrongAnswer("one layer", of_single_layer, "where is `num_hidden_layers`"),
        WrongAnswer(
            "head_dim must exist", head_dim_required, "has no `head_dim` ... divided by the"
        ),
        WrongAnswer(
            "head_dim may be None", head_dim_may_be_none, "has no `head_dim` ... divided by the"
        ),
        WrongAnswer("head_dim ignored", head_dim_ignored, "This config gives `head_dim`"),
        WrongAnswer("always 2 bytes", always_two_bytes, "`bytes_per_number` is an argument"),
        WrongAnswer("numbers, not bytes", numbers_not_bytes, "numbers, not bytes"),
        WrongAnswer("one token", of_single_token, "where is `tokens`"),
        WrongAnswer("bits", in_bits, "Are those bits"),
    ],
)
def check_kv_cache_bytes(kv_cache_bytes: Callable[..., int]) -> str:
    """Judge `kv_cache_bytes(config, tokens, bytes_per_number=2)`."""
    filled = _filled_bytes(24)
    model = load_miniature().model
    _expect_bytes(kv_cache_bytes, "the cache mini-qwen filled", filled, model.config, 24, 4)
    _expect_bytes(kv_cache_bytes, "a config with head_dim", PROBE_BYTES, *PROBE_CALL)
    for name in ("qwen2.5-0.5b", "qwen2.5-72b", "mistral-large-2-2407"):
        config = catalog.config(name)
        expected = sizing.kv_cache_bytes_per_token(config)
        _expect_bytes(kv_cache_bytes, name, expected, config, 1, 2)
    return (
        f"mini-qwen filled a cache of {filled:,} bytes with 24 tokens, as you said; at full size a "
        f"token costs {kv_cache_bytes(catalog.config('qwen2.5-0.5b'), 1):,} bytes in qwen2.5-0.5b "
        f"and {kv_cache_bytes(config, 1):,} in {name}."
    )
