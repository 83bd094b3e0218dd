"""How big a model is, before it is there: parameters, bytes of weights, bytes of KV cache.

1 GB is 10^9 bytes, as on a disk's label and a GPU's data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

GB = 10**9

# ggml stores quantised weights in blocks: 32 weights and one 2-byte scale in q8_0 and q4_0.
# q4_k_m mixes block types by layer; its figure is measured on Llama 3.1 8B.
# Source: https://github.com/ggml-org/llama.cpp/blob/311c2c9f/tools/quantize/README.md
BITS_PER_WEIGHT = {
    "float32": 32.0,
    "bfloat16": 16.0,
    "float16": 16.0,
    "int8": 8.0,
    "q8_0": (32 * 8 + 16) / 32,
    "q4_0": (32 * 4 + 16) / 32,
    "q4_k_m": 4.8944,
}
WORKING_SHARE = 0.1
WORKING_BYTES = 500_000_000


def model_class(config):
    """The transformers class a config names in `architectures`, else the causal LM of its type.

    ValueError when this version of transformers has no such class.
    """
    import transformers

    if config.architectures:
        found = getattr(transformers, config.architectures[0], None)
    else:
        found = transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if found is None:
        raise ValueError(
            f"transformers {transformers.__version__} has no class for "
            f"{config.architectures or config.model_type}: a newer transformers may have it."
        )
    return found


def parameters(config) -> int:
    """Number of parameters of a transformers config, tied weights counted once.

    The model is built on torch's meta device: every shape is there, no number is stored.
    """
    import torch

    with torch.device("meta"):
        model = model_class(config)(config)
    return model.num_parameters()


def weight_bytes(n_parameters: int, kind: str = "bfloat16") -> int:
    """Bytes of the weights stored as `kind`, a key of BITS_PER_WEIGHT (e.g. "q4_0")."""
    if kind not in BITS_PER_WEIGHT:
        raise ValueError(f"unknown kind of weights {kind!r}; known: {', '.join(BITS_PER_WEIGHT)}")
    return round(n_parameters * BITS_PER_WEIGHT[kind] / 8)


def kv_bytes_per_token(config, bytes_per_value: int = 2) -> int:
    """Bytes of KV cache one more token costs, while every layer attends to the whole text.

    Grouped-query attention keeps a key and a value per KV head in each layer (Ainslie et al. 2023,
    arXiv 2305.13245). Latent attention keeps one compressed vector and one rotary key in each layer
    (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    `config`: a transformers config. `bytes_per_value`: 2 for bfloat16 and float16, 4 for float32.
    """
    text = config.get_text_config()
    if getattr(text, "kv_lora_rank", None):
        per_layer = text.kv_lora_rank + text.qk_rope_head_dim
    else:
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        per_layer = 2 * text.num_key_value_heads * head_dim
    return text.num_hidden_layers * per_layer * bytes_per_value


def needed_bytes(weights: int, kv_cache: int = 0) -> int:
    """Memory to hold before loading: weights × 1.1 + KV cache + 0.5 GB.

    The tenth and the half GB cover the tensors in flight while loading, the libraries and the
    activations of a short text. Measured on Qwen2.5-0.5B's shape in float32 on a CPU: 2.43 GB held
    after a text of 512 tokens, where this formula asks for 2.67 GB. All in bytes.
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
    """Would a model of `n_parameters` stored as `kind` run here?

    `kv_cache`: bytes for the text (see kv_bytes_per_token). `available`: bytes; by default this
    machine's free memory. Example: `fits(494_032_768, "bfloat16")`.
    """
    needed = needed_bytes(weight_bytes(n_parameters, kind), kv_cache)
    return Fit(needed, available_memory() if available is None else available)


def available_memory() -> int:
    """Bytes a new process may take: what the system has left, or its cgroup if that is less."""
    return min([psutil.virtual_memory().available, *(left for _, left in cgroup_memory())])


def total_memory() -> int:
    """Bytes of memory of this machine, or of its cgroup (a container's limit) if that is less."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in cgroup_memory())])


def cgroup_memory(
    own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[tuple[int, int]]:
    """(limit, left) in bytes for each memory limit this process is under; empty if there is none.

    Reads Linux cgroups, version 2 and 1, from the process's own group up to the root. File pages
    the kernel can drop (`inactive_file`) count as left. `own` and `root` are arguments for tests.
    """
    if not own.is_file():
        return []
    found = []
    for line in own.read_text().splitlines():
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
                found.append((int(limit), int(limit) - _in_use(folder, usage_file)))
            if folder == base:
                break
    return found


def _in_use(folder: Path, usage_file: str) -> int:
    stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
    droppable = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return int(_read(folder / usage_file)) - int(droppable)


def _read(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""


def gigabytes(n_bytes: int) -> str:
    """`1_235_000_000` -> "1.2 GB"; small sizes keep two digits that matter ("0.0083 GB")."""
    value = n_bytes / GB
    return f"{value:,.1f} GB" if value >= 1 else f"{value:.2g} GB"
