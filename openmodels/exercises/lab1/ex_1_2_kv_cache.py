"""Exercise 1.2: count the KV cache of four kinds of attention."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from openmodels import catalog, sizing
from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.known_mistakes import diagnose, expect_number

CHUNKED = "chunked, with full layers between"
MODELS = {  # a model for each kind of attention
    "grouped": "qwen2.5-0.5b",
    "sliding window": "mistral-7b-v0.1",
    CHUNKED: "llama-4-scout",
    "latent": "deepseek-v3",
}
LENGTHS = (1_000, 8_192, 100_000)

Spans = Sequence[int | None]  # a layer's span in tokens; None: it looks back without limit


# --- The reference solution -----------------------------------------------------------------------


def cached_tokens(spans: Spans, tokens: int) -> int:
    """Return the tokens that all layers cache together."""
    return sum(tokens if span is None else min(tokens, span - 1) for span in spans)


def head_dim(config: Any) -> int:
    """Return the width of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def cached_numbers(config: Any) -> int:
    """Return the numbers that a layer caches for one token."""
    if getattr(config, "kv_lora_rank", None):
        return config.kv_lora_rank + config.qk_rope_head_dim
    return 2 * config.num_key_value_heads * head_dim(config)


def cache_bytes(
    config: Any,
    spans: Spans,
    tokens: int,
    bytes_per_number: int = 2,
    *,
    layers: Callable[[Spans, int], int] = cached_tokens,
    numbers: Callable[[Any], int] = cached_numbers,
) -> int:
    """Return the bytes of a cache. layers, numbers: its two factors; a mistake replaces one."""
    return layers(spans, tokens) * numbers(config) * bytes_per_number


# --- Known mistakes -------------------------------------------------------------------------------


def tokens_without_spans(spans: Spans, tokens: int) -> int:
    return len(spans) * tokens


def tokens_by_first_span(spans: Spans, tokens: int) -> int:
    return cached_tokens([spans[0]] * len(spans), tokens)


def tokens_of_whole_spans(spans: Spans, tokens: int) -> int:
    return sum(tokens if span is None else min(tokens, span) for span in spans)


def tokens_of_current_chunk(spans: Spans, tokens: int) -> int:
    return sum(tokens if span is None else tokens % span for span in spans)


def numbers_per_query_head(config: Any) -> int:
    if getattr(config, "kv_lora_rank", None):
        return cached_numbers(config)
    return 2 * config.num_attention_heads * head_dim(config)


def numbers_without_values(config: Any) -> int:
    if getattr(config, "kv_lora_rank", None):
        return cached_numbers(config)
    return config.num_key_value_heads * head_dim(config)


def numbers_as_if_grouped(config: Any) -> int:
    return 2 * config.num_key_value_heads * head_dim(config)


def numbers_expanded(config: Any) -> int:
    if not getattr(config, "kv_lora_rank", None):
        return cached_numbers(config)
    per_head = config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
    return config.num_attention_heads * per_head


def numbers_without_rotary_key(config: Any) -> int:
    return getattr(config, "kv_lora_rank", None) or cached_numbers(config)


def numbers_of_two_latents(config: Any) -> int:
    return cached_numbers(config) * (2 if getattr(config, "kv_lora_rank", None) else 1)


def always_two_bytes(config: Any, spans: Spans, tokens: int, bytes_per_number: int = 2) -> int:
    return cache_bytes(config, spans, tokens, 2)


def numbers_not_bytes(config: Any, spans: Spans, tokens: int, bytes_per_number: int = 2) -> int:
    return cache_bytes(config, spans, tokens, 1)


MISTAKES = [
    WrongAnswer(
        "spans ignored", partial(cache_bytes, layers=tokens_without_spans),
        "A layer that looks back over a span keeps no more than that: where are the `spans`?",
    ),
    WrongAnswer(
        "all layers alike", partial(cache_bytes, layers=tokens_by_first_span),
        "The layers differ: each entry of `spans` speaks for one of them.",
    ),
    WrongAnswer(
        "one token too many", partial(cache_bytes, layers=tokens_of_whole_spans),
        "A layer of span W keeps W - 1 tokens: the token to come is the Wth it may see.",
    ),
    WrongAnswer(
        "the begun chunk only", partial(cache_bytes, layers=tokens_of_current_chunk),
        "The begun chunk would be enough, but a cache keeps a full span: the last W - 1 tokens.",
    ),
    WrongAnswer(
        "query heads", partial(cache_bytes, numbers=numbers_per_query_head),
        "Keys and values exist per KV head, `num_key_value_heads`; the query heads share them.",
    ),
    WrongAnswer(
        "keys without values", partial(cache_bytes, numbers=numbers_without_values),
        "Grouped attention keeps a key and a value of each token: count both.",
    ),
    WrongAnswer(
        "latent as grouped", partial(cache_bytes, numbers=numbers_as_if_grouped),
        "Latent attention keeps no keys and values: where `kv_lora_rank` is set, count what it "
        "keeps instead.",
    ),
    WrongAnswer(
        "latent expanded", partial(cache_bytes, numbers=numbers_expanded),
        "Those are the keys and values computed from the latent; they are never stored.",
    ),
    WrongAnswer(
        "no rotary key", partial(cache_bytes, numbers=numbers_without_rotary_key),
        "Beside the latent vector one rotary key is kept, `qk_rope_head_dim` numbers for all "
        "heads.",
    ),
    WrongAnswer(
        "the latent twice", partial(cache_bytes, numbers=numbers_of_two_latents),
        "One latent serves for keys and values: it is not doubled.",
    ),
    WrongAnswer(
        "always 2 bytes", always_two_bytes,
        "`bytes_per_number` is an argument: 2 for bfloat16, 4 for float32.",
    ),
    WrongAnswer(
        "numbers, not bytes", numbers_not_bytes,
        "Those are numbers, not bytes: where is `bytes_per_number`?",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


@cache
def _calls() -> dict[str, tuple]:
    """Return arguments by description: each kind of attention at several lengths, two widths."""
    calls = {}
    for kind, name in MODELS.items():
        config = catalog.config(name).get_text_config()
        for tokens, width in zip(LENGTHS, (2, 2, 4), strict=True):
            what = f"{name} ({kind}), {tokens:,} tokens, {width} bytes a number"
            calls[what] = (config, sizing.spans(config), tokens, width)
    return calls


@exercise("1.2", wrong=MISTAKES)
def check_kv_cache_bytes(kv_cache_bytes: Callable[..., int]) -> str:
    """Judge `kv_cache_bytes(config, spans, tokens, bytes_per_number=2)`."""
    calls = _calls()
    for what, (config, spans, tokens, width) in calls.items():
        size = expect_number(kv_cache_bytes(config, spans, tokens, width), f"the cache of {what}")
        expected = sizing.kv_cache_bytes(config, tokens, width)
        if size != expected:
            why = diagnose(kv_cache_bytes, list(calls.values()), MISTAKES, rtol=1e-9)
            raise NotYet(f"{what}: you say {size:,} bytes, expected {expected:,}. {why}".strip())
    return _compare_kinds(kv_cache_bytes)


def _compare_kinds(kv_cache_bytes: Callable[..., int]) -> str:
    """Return the praise: the largest and the smallest cache, by the learner's own function."""
    longest, per_token = {}, {}
    for kind, name in MODELS.items():
        config = catalog.config(name).get_text_config()
        longest[kind] = kv_cache_bytes(config, sizing.spans(config), LENGTHS[-1])
        per_token[kind] = kv_cache_bytes(config, [None], 1)
    least, most = min(longest, key=longest.get), max(longest, key=longest.get)
    return (
        f"and the library's formula agrees at {len(_calls())} points; at {LENGTHS[-1]:,} tokens "
        f"they range from {longest[least] / 1e9:.1f} GB ({MODELS[least]}) to "
        f"{longest[most] / 1e9:.1f} GB ({MODELS[most]}). Per token and layer the latent keeps "
        f"{per_token['latent']:,} bytes, Scout {per_token[CHUNKED]:,}: what DeepSeek pays for are "
        "its layers, and that it forgets nothing."
    )
