"""Estimate what a model needs before you load it: parameters, bytes, operations, money.

1 GB is 10^9 bytes, as on a disk's label and a GPU's data sheet. Parameters are counted on the
transformers class of a config, built on torch's meta device: shapes without values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

GB = 10**9

# ggml stores quantised weights in blocks of one row: (weights, bytes) of a block, scales included.
# Source: https://github.com/ggml-org/llama.cpp/blob/01243c58/ggml/src/ggml-common.h
BLOCKS = {
    "float32": (1, 4),
    "bfloat16": (1, 2),
    "float16": (1, 2),
    "int8": (1, 1),
    "q8_0": (32, 2 + 32),
    "q5_1": (32, 2 + 2 + 4 + 16),
    "q5_0": (32, 2 + 4 + 16),
    "q4_0": (32, 2 + 16),
    "mxfp4": (32, 1 + 16),
    "q6_k": (256, 2 + 16 + 64 + 128),
    "q5_k": (256, 2 + 2 + 12 + 32 + 128),
    "q4_k": (256, 2 + 2 + 12 + 128),
}
# q4_k_m and q5_k_m mix block types by layer; their figures are measured on Llama 3.1 8B.
# Source: https://github.com/ggml-org/llama.cpp/blob/311c2c9f/tools/quantize/README.md
BITS_PER_WEIGHT = {kind: 8 * n_bytes / weights for kind, (weights, n_bytes) in BLOCKS.items()} | {
    "q4_k_m": 4.8944,
    "q5_k_m": 5.7036,
}
HOURS_PER_YEAR = 365.25 * 24
WORKING_SHARE = 0.1
WORKING_BYTES = 500_000_000


# --- Parameters and bytes -------------------------------------------------------------------------


def model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the transformers class named in `architectures`, else the causal LM of its type.

    Raises ValueError if this version of transformers has no such class.
    """
    import transformers

    if config.architectures:
        result = getattr(transformers, config.architectures[0], None)
    else:
        result = transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if result is None:
        raise ValueError(
            f"transformers {transformers.__version__} has no class for "
            f"{config.architectures or config.model_type}: a newer transformers may have it."
        )
    return result


def parameters(config: PreTrainedConfig) -> int:
    """Return the number of parameters of a transformers config; tied weights count once."""
    return _on_meta(config).num_parameters()


def active_parameters(config: PreTrainedConfig) -> int:
    """Return the number of parameters used for one token; tied weights count once.

    These are all parameters except the experts that a router does not select: a token uses
    `num_experts_per_tok` of a layer's routed experts (Shazeer et al. 2017, arXiv 1701.06538,
    section 2). Shared experts, routers, embeddings and a vision or audio tower count in full, so
    the figure is above that of a vendor who leaves one of them out.
    """
    text = config.get_text_config()
    return sum(_used(text, name, parameter) for _, name, parameter in _weights(config))


def weight_bytes(n_parameters: int, kind: str = "bfloat16") -> int:
    """Return the bytes of the weights stored as `kind`, a key of BITS_PER_WEIGHT (e.g. "q4_0").

    All weights are assumed to have the same type; `gguf_bytes` counts tensor by tensor.
    Raises ValueError for an unknown kind.
    """
    if kind not in BITS_PER_WEIGHT:
        raise ValueError(f"unknown kind of weights {kind!r}; known: {', '.join(BITS_PER_WEIGHT)}")
    return round(n_parameters * BITS_PER_WEIGHT[kind] / 8)


def gguf_bytes(config: PreTrainedConfig, kind: str = "q4_k_m") -> dict[str, int]:
    """Return the bytes of a llama.cpp file of this kind, by part: embedding, layers, head, tower.

    The sum is the file without its header and vocabulary. The rules are those of `llama-quantize`
    without an importance matrix (https://github.com/ggml-org/llama.cpp, commit 007dbbf3,
    src/llama-quant.cpp): the head, and an embedding tied to it, have 6 bits or more; q4_k_m and
    q5_k_m give 6 bits to the values and down projections of some layers; rows that do not fill a
    block of 256 get a type with blocks of 32; norms, biases and routers stay in float32.
    "mxfp4_moe" is mxfp4 for experts and 8 bits for everything else.

    Assumptions: a vision or audio tower stays in 16 bits, as in llama.cpp's second file for it, and
    DeepSeek's `kv_b_proj` is stored as two tensors.

    Raises ValueError if llama.cpp has no file of this kind.
    """
    if kind not in _GGUF_BASE:
        raise ValueError(f"unknown kind of llama.cpp file {kind!r}; known: {', '.join(_GGUF_BASE)}")
    text = config.get_text_config()
    size = {"embedding": 0, "layers": 0, "head": 0, "tower": 0}
    for part, name, parameter in _weights(config):
        if part == "tower":
            size[part] += _stored(parameter.numel(), parameter.shape[-1], "float16")
            continue
        for row, weights in _gguf_rows(text, name, parameter):
            size[part] += _stored(weights, row, _gguf_type(text, kind, part, name, parameter, row))
    return size


def kv_cache_bytes_per_token(config: PreTrainedConfig, bytes_per_value: int = 2) -> int:
    """Return the bytes of KV cache per token, if every layer attends to the whole text.

    Grouped-query attention stores a key and a value per KV head in each layer (Ainslie et al. 2023,
    arXiv 2305.13245). Latent attention stores one compressed vector and one rotary key in each
    layer (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    `config`: a transformers config. `bytes_per_value`: 2 for bfloat16 and float16, 4 for float32.
    """
    text = config.get_text_config()
    return text.num_hidden_layers * _kv_values(text) * bytes_per_value


def kv_cache_bytes(config: PreTrainedConfig, tokens: int, bytes_per_value: int = 2) -> int:
    """Return the bytes of KV cache for a text of `tokens` tokens, counted layer by layer.

    A layer with a sliding window W stores the last W - 1 tokens: the next token is the Wth it can
    attend to (Mistral 7B, arXiv 2310.06825, section 2, whose rolling buffer also has a slot for the
    next token). A layer with chunked attention (Llama 4; `chunked_overlay` in transformers'
    masking_utils.py) is counted the same way, because transformers fills it so; it needs only the
    `tokens % chunk` tokens of the current chunk and never reads the others. Every other layer,
    including Llama 4's layers without rotary positions, stores every token; latent attention stores
    `kv_cache_bytes_per_token` for each. A window counts only in the layers that use it.

    The result equals transformers' `DynamicCache(config=config)` between two steps. During the
    prefill of a long prompt, each layer briefly holds keys and values for the whole prompt.

    Raises ValueError for a kind of layer this formula does not cover.
    """
    text = config.get_text_config()
    cached_tokens = sum(
        tokens if span is None else min(tokens, span - 1) for _, span in _layers(text)
    )
    return cached_tokens * _kv_values(text) * bytes_per_value


def spans(config: PreTrainedConfig) -> list[int | None]:
    """Return how far each layer attends: its window or chunk in tokens, None for the whole text.

    Raises ValueError for an unknown kind of layer.
    """
    return [span for _, span in _layers(config.get_text_config())]


# --- Operations and speed -------------------------------------------------------------------------


def prefill_flops(
    config: PreTrainedConfig, tokens: int, n_logits: int = 1, skip_masked: bool = True
) -> int:
    """Return the floating-point operations to prefill a prompt of `tokens` text tokens.

    2 per weight and token, a multiplication and an addition, over the active weights (Kaplan et al.
    2020, arXiv 2001.08361, section 2.1), the head for `n_logits` positions (`generate` needs one),
    and 2 per component of a query's key and value for each pair of query and key. The embedding is
    a lookup; norms and softmax are ignored.

    `skip_masked`: count only the pairs that the mask allows, as optimised kernels do. False counts
    every pair of the prompt in every layer, as torch's FlopCounterMode does.
    Latent attention is counted as transformers computes it, with keys and values expanded.
    Transformers' Llama 4 costs more: it runs every expert on every token, mostly on zeros.
    """
    text = config.get_text_config()
    layers, head = _multiplied(config)
    pairs = sum(
        _pairs(kind, span, tokens) if skip_masked else tokens**2 for kind, span in _layers(text)
    )
    return 2 * (tokens * layers + n_logits * head) + 2 * pairs * _pair_width(text)


def decode_flops(config: PreTrainedConfig, context: int, absorbed: bool = True) -> int:
    """Return the floating-point operations to decode one token that attends to `context` tokens.

    `context` includes the token itself. Counted as in `prefill_flops`, for one query and with the
    head. Latent attention is counted `absorbed`, as serving engines compute it: queries are
    projected into the latent space, and keys and values are never expanded (DeepSeek-V2, arXiv
    2405.04434, section 2.1.2). With `absorbed=False` the whole context is expanded again for each
    token, as transformers does.
    """
    text = config.get_text_config()
    layers, head = _multiplied(config)
    visible = sum(_visible(kind, span, context) for kind, span in _layers(text))
    flops = 2 * (layers + head)
    if not _latent(text):
        return flops + 2 * visible * _pair_width(text)
    if absorbed:
        width = 2 * text.kv_lora_rank + text.qk_rope_head_dim
        return flops + 2 * visible * text.num_attention_heads * width
    expanded = text.num_attention_heads * (text.qk_nope_head_dim + text.v_head_dim)
    re_expanded = (context - 1) * text.num_hidden_layers * text.kv_lora_rank * expanded
    return flops + 2 * re_expanded + 2 * visible * _pair_width(text)


def decode_bytes(
    config: PreTrainedConfig, context: int, kind: str = "bfloat16", bytes_per_value: int = 2
) -> int:
    """Return the bytes read from memory to decode one token of one text: weights and KV cache.

    Ignored: the embedding, of which one row is read, and a vision or audio tower, which processes
    only the prompt.
    `kind`: as for `weight_bytes`. `bytes_per_value`: of the cache, as for `kv_cache_bytes`.
    """
    return weight_bytes(sum(_multiplied(config)), kind) + kv_cache_bytes(
        config, context, bytes_per_value
    )


def step_bytes(
    config: PreTrainedConfig,
    texts: int,
    context: int,
    kind: str = "bfloat16",
    bytes_per_value: int = 2,
) -> int:
    """Return the bytes read from memory for a batched step: one token for each of `texts` texts.

    The weights are read once for the batch, each text's KV cache once. Of a mixture's experts, only
    those that some text selects are read: a share 1 - (1 - k/n)^texts, with k of n experts per
    token and every expert equally likely. With one text, equal to `decode_bytes`. Raises ValueError
    if `texts` is below 1.
    """
    if texts < 1:
        raise ValueError(f"texts is {texts}; it must be at least 1")
    text = config.get_text_config()
    weights = float(text.vocab_size * text.hidden_size)  # the head
    for part, name, parameter in _weights(config):
        if part == "layers" and parameter.ndim == (3 if _is_expert(name) else 2):
            share = 1.0
            if _is_expert(name):
                share -= (1 - text.num_experts_per_tok / parameter.shape[0]) ** texts
            weights += parameter.numel() * share
    cache = texts * kv_cache_bytes(config, context, bytes_per_value)
    return weight_bytes(round(weights), kind) + cache


def decode_bound(bytes_read_per_token: float, bandwidth: float) -> float:
    """Return an upper bound on decoding speed of one text, in tokens per second.

    Bandwidth divided by the bytes read per token: every weight in use is read once per token, so
    memory bandwidth limits a single text (Pope et al. 2022, arXiv 2211.05102, section 2).
    `bandwidth`: bytes per second, e.g. `catalog.get_hardware("RTX 4090").bandwidth_GBps * GB`.
    Measured: Llama 3 70B in q4_k_m on two RTX 3090, which work alternately, decodes 16.95 tokens/s;
    the bound is 22 (https://huggingface.co/datasets/rigbase/rigbase-local-llm-benchmarks).
    """
    _positive(bytes_read_per_token=bytes_read_per_token, bandwidth=bandwidth)
    return bandwidth / bytes_read_per_token


# --- Money ----------------------------------------------------------------------------------------


def cost_per_million(
    *,
    price: float,
    years: float,
    power_W: float,
    price_per_kWh: float,
    tokens_per_second: float,
    utilisation: float = 1.0,
) -> float:
    """Return the cost of a million tokens on your own hardware, in the currency of the prices.

    The price is spread evenly over all tokens of the hardware's life; electricity is paid for the
    working hours. `years`: of life. `utilisation`: share of the hours it works, in (0, 1]. Ignored:
    idle power, interest, repairs, and staff. Raises ValueError if years or tokens per second are
    not above 0, and if utilisation is not in (0, 1].

    Example: 2,000 for 4 years, 450 W at 0.30 per kWh, 50 tokens/s all day: 0.32 + 0.75 = 1.07.
    """
    _positive(years=years, tokens_per_second=tokens_per_second, utilisation=utilisation)
    if utilisation > 1:
        raise ValueError(f"utilisation is a share of the hours, at most 1; got {utilisation}")
    millions = tokens_per_second * 3600 / 1e6  # tokens per hour
    hardware = price / (years * HOURS_PER_YEAR * utilisation * millions)
    return hardware + power_W / 1000 * price_per_kWh / millions


def api_cost_per_million(input_per_M: float, output_per_M: float, ratio: float = 3.0) -> float:
    """Return the cost of a million tokens behind an API, `ratio` of input per token of output.

    Raises ValueError if `ratio` is negative.
    Example: `api_cost_per_million(0.10, 0.30, ratio=3)` is (3 × 0.10 + 0.30) / 4 = 0.15.
    """
    if ratio < 0:
        raise ValueError(f"ratio is input tokens per output token, at least 0; got {ratio}")
    return (ratio * input_per_M + output_per_M) / (ratio + 1)


def break_even(
    api_per_million: float,
    *,
    price: float,
    years: float,
    power_W: float,
    price_per_kWh: float,
    tokens_per_second: float,
) -> float:
    """Return the tokens per month above which your own hardware is cheaper than an API.

    Below it the hardware's price is spread over too few tokens. The result is inf if the hardware
    costs more even when it works all day. `api_per_million` and `tokens_per_second` must be for the
    same mix of input and output. Arguments as for `cost_per_million`.
    """
    _positive(years=years, tokens_per_second=tokens_per_second)
    millions = tokens_per_second * 3600 / 1e6  # tokens per hour
    electricity = power_W / 1000 * price_per_kWh / millions
    if api_per_million <= electricity:
        return math.inf
    needed = price / (years * 12) / (api_per_million - electricity) * 1e6
    capacity = millions * HOURS_PER_YEAR / 12 * 1e6
    return needed if needed <= capacity else math.inf


# --- Whether it fits ------------------------------------------------------------------------------


def needed_bytes(weights: int, kv_cache: int = 0) -> int:
    """Return the free memory required before loading: weights × 1.1 + KV cache + 0.5 GB.

    The 10 % and the 0.5 GB cover temporary tensors while loading, the libraries and the activations
    of a short text. Measured on Qwen2.5-0.5B's shape in float32 on a CPU: 2.43 GB in use after a
    text of 512 tokens; this formula gives 2.67 GB. All sizes in bytes.
    """
    return round(weights * (1 + WORKING_SHARE)) + kv_cache + WORKING_BYTES


@dataclass(frozen=True)
class Fit:
    """Whether a model fits: true when `needed` bytes are at most `available` bytes."""

    needed: int
    available: int

    def __bool__(self) -> bool:
        return self.needed <= self.available

    def __str__(self) -> str:
        verdict = "fits" if self else "does not fit"
        return f"{verdict}: needs {gigabytes(self.needed)} of {gigabytes(self.available)} available"


def fits(
    n_parameters: int, kind: str = "bfloat16", kv_cache: int = 0, available: int | None = None
) -> Fit:
    """Return whether a model of `n_parameters` stored as `kind` fits in memory here.

    `kv_cache`: bytes for the text (see kv_cache_bytes). `available`: bytes; by default this
    machine's free memory. Example: `fits(494_032_768, "bfloat16")`.
    """
    needed = needed_bytes(weight_bytes(n_parameters, kind), kv_cache)
    return Fit(needed, available_memory() if available is None else available)


def available_memory() -> int:
    """Return the bytes a new process can use: the system's free memory or the cgroup's, if less."""
    return min(
        [psutil.virtual_memory().available, *(available for _, available in cgroup_memory())]
    )


def total_memory() -> int:
    """Return this machine's memory in bytes, or its cgroup's (a container's) limit if less."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in cgroup_memory())])


def cgroup_memory(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[tuple[int, int]]:
    """Return (limit, available) in bytes for each memory limit on this process; empty if none.

    Reads Linux cgroups, version 2 and 1, from the process's own group up to the root. File pages
    the kernel can drop (`inactive_file`) count as available. `membership` and `root` are parameters
    for tests.
    """
    if not membership.is_file():
        return []
    limits = []
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit_file, usage_file = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base = root / "memory"
            limit_file, usage_file = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in [group, *group.parents]:
            limit = _read(folder / limit_file)
            if limit.isdigit():
                limits.append((int(limit), int(limit) - _in_use(folder, usage_file)))
            if folder == base:
                break
    return limits


def _in_use(folder: Path, usage_file: str) -> int:
    stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
    droppable = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return int(_read(folder / usage_file)) - int(droppable)


def _read(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""


def gigabytes(n_bytes: int) -> str:
    """Format a size: `1_235_000_000` -> "1.2 GB"; below 1 GB, two digits ("0.0083 GB")."""
    value = n_bytes / GB
    return f"{value:,.1f} GB" if value >= 1 else f"{value:.2g} GB"


# --- What is counted ------------------------------------------------------------------------------


def _weights(config: PreTrainedConfig) -> Iterator[tuple[str, str, torch.nn.Parameter]]:
    """Yield (part, name, parameter) of each weight; part is embedding, layers, head or tower.

    The text model is the module that holds `embed_tokens`; everything outside it is a tower.
    """
    named = dict(_on_meta(config).named_parameters())
    embedding = next(name for name in named if name.endswith("embed_tokens.weight"))
    for name, parameter in named.items():
        if name == embedding:
            yield "embedding", name, parameter
        elif name.endswith("lm_head.weight"):
            yield "head", name, parameter
        elif name.startswith(embedding.removesuffix("embed_tokens.weight")):
            yield "layers", name, parameter
        else:
            yield "tower", name, parameter


def _on_meta(config: PreTrainedConfig) -> torch.nn.Module:
    import torch

    with torch.device("meta"):
        return model_class(config)(config)


def _is_expert(name: str) -> bool:
    """Return whether a weight is the tensor (experts, …) of a layer's routed experts."""
    return "experts" in name.split(".")


def _used(text: PreTrainedConfig, name: str, parameter: torch.nn.Parameter) -> int:
    """Return how many values of this parameter are used for one token."""
    if not _is_expert(name):
        return parameter.numel()
    return parameter.numel() // parameter.shape[0] * text.num_experts_per_tok


def _multiplied(config: PreTrainedConfig) -> tuple[int, int]:
    """Return the weights multiplied with one token: (in the layers, in the head).

    Norms and biases are left out.
    """
    text, layers = config.get_text_config(), 0
    for part, name, parameter in _weights(config):
        if part == "layers" and parameter.ndim == (3 if _is_expert(name) else 2):
            layers += _used(text, name, parameter)
    return layers, text.vocab_size * text.hidden_size


def _latent(text: PreTrainedConfig) -> bool:
    return bool(getattr(text, "kv_lora_rank", None))


def _head_dim(text: PreTrainedConfig) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def _kv_values(text: PreTrainedConfig) -> int:
    """Return how many values one layer stores per token."""
    if _latent(text):
        return text.kv_lora_rank + text.qk_rope_head_dim
    return 2 * text.num_key_value_heads * _head_dim(text)


def _pair_width(text: PreTrainedConfig) -> int:
    """Return the multiplications for one query and one key: the score and the value."""
    if _latent(text):
        width = text.qk_nope_head_dim + text.qk_rope_head_dim + text.v_head_dim
    else:
        width = 2 * _head_dim(text)
    return text.num_attention_heads * width


def _layers(text: PreTrainedConfig) -> list[tuple[str, int | None]]:
    """Return (kind, span) of each layer's attention; the span of a full layer is None."""
    window = getattr(text, "sliding_window", None)
    chunk = getattr(text, "attention_chunk_size", None)
    spans = {"full_attention": None, "sliding_attention": window, "chunked_attention": chunk}
    kinds = getattr(text, "layer_types", None)
    if not kinds:
        kind = "sliding" if window else "chunked" if chunk else "full"
        kinds = [f"{kind}_attention"] * text.num_hidden_layers
    unknown = sorted(set(kinds) - set(spans))
    if unknown:
        raise ValueError(f"there is no formula for layers of kind {', '.join(unknown)}")
    return [(kind, spans[kind]) for kind in kinds]


def _visible(kind: str, span: int | None, position: int) -> int:
    """Return how many keys the query at this position (from 1) attends to, including its own."""
    if kind == "chunked_attention":
        return (position - 1) % span + 1
    return position if span is None else min(position, span)


def _pairs(kind: str, span: int | None, tokens: int) -> int:
    """Return the sum of `_visible` over the first `tokens` positions."""
    if kind == "chunked_attention":
        full_chunks, remainder = divmod(tokens, span)
        return full_chunks * _triangle(span) + _triangle(remainder)
    if span is None or tokens <= span:
        return _triangle(tokens)
    return _triangle(span) + (tokens - span) * span


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


# What llama-quantize gives a tensor that no rule names; what it takes for rows that do not fit.
_GGUF_BASE = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "q8_0": "q8_0",
    "q4_0": "q4_0",
    "mxfp4_moe": "q8_0",
    "q4_k_m": "q4_k",
    "q5_k_m": "q5_k",
    "q6_k": "q6_k",
}
_GGUF_FALLBACK = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}


def _gguf_rows(
    text: PreTrainedConfig, name: str, parameter: torch.nn.Parameter
) -> list[tuple[int, int]]:
    """Return (row length, weights) of the tensors that a parameter is stored as."""
    role = _role(name)
    if role == "kv_b_proj":
        per_row = text.num_attention_heads * text.kv_lora_rank
        keys, values = text.qk_nope_head_dim, text.v_head_dim
        return [(keys, per_row * keys), (text.kv_lora_rank, per_row * values)]
    if not _is_expert(name) or role.endswith("bias"):
        return [(parameter.shape[-1], parameter.numel())]
    if role == "down_proj":
        row = parameter.numel() // parameter.shape[0] // text.hidden_size
        return [(row, parameter.numel())]
    return [(text.hidden_size, parameter.numel())]


def _gguf_type(
    text: PreTrainedConfig, kind: str, part: str, name: str, parameter: torch.nn.Parameter, row: int
) -> str:
    """Return the block type of a tensor in a file of this kind; a key of BLOCKS."""
    base, role = _GGUF_BASE[kind], _role(name)
    if parameter.ndim == 1 or role.endswith("bias") or role in ("gate", "router"):
        return "float32"
    if BLOCKS[base][0] == 1:
        return base
    block_type = base
    if part == "head" or (part == "embedding" and text.tie_word_embeddings):
        if base != "q8_0":
            block_type = "q6_k" if row % BLOCKS[base][0] == 0 else "q8_0"
    elif kind == "mxfp4_moe":
        block_type = "mxfp4" if _is_expert(name) else base
    elif part == "layers":
        block_type = _gguf_layer_type(text, kind, name)
    if row % BLOCKS[block_type][0]:
        block_type = _GGUF_FALLBACK.get(block_type, "float16")
    return block_type if row % BLOCKS[block_type][0] == 0 else "float16"


def _gguf_layer_type(text: PreTrainedConfig, kind: str, name: str) -> str:
    base, role = _GGUF_BASE[kind], _role(name)
    eight_experts = getattr(text, "num_local_experts", None) == 8
    if role in ("v_proj", "k_proj") and eight_experts:
        return "q8_0"
    if role == "o_proj" and eight_experts and kind == "q4_k_m":
        return "q5_k"
    layer, layers = int(name.split("layers.")[1].split(".")[0]), text.num_hidden_layers
    eighth = layers // 8
    more_bits = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    if role in ("v_proj", "down_proj") and more_bits and kind in ("q4_k_m", "q5_k_m"):
        return "q6_k"
    grouped = text.num_key_value_heads < text.num_attention_heads
    if role == "v_proj" and base == "q4_k" and layers == 80 and grouped:
        return "q5_k"  # the shape of the 70B models
    return base


def _role(name: str) -> str:
    return name.removesuffix(".weight").split(".")[-1]


def _stored(weights: int, row: int, kind: str) -> int:
    per_block, n_bytes = BLOCKS[kind]
    return weights // row * (row // per_block) * n_bytes


def _positive(**values: float) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, but is {value}")
