"""Does a model fit into a machine's memory, and what is the most tokens per second it can reach?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import ipywidgets

from openmodels import catalog, doctor, sizing
from openmodels.tables import Row
from openmodels.widgets.controls import choice
from openmodels.widgets.model_explorer import runs_at_all
from openmodels.widgets.table_explorer import TableExplorer

WEIGHTS = {
    "32 bits (float32)": "float32",
    "16 bits (bfloat16)": "bfloat16",
    "8 bits (q8_0)": "q8_0",
    "6 bits (q6_k)": "q6_k",
    "5 bits (q5_k_m)": "q5_k_m",
    "4 bits (q4_k_m)": "q4_k_m",
    "4 bits, plain (q4_0)": "q4_0",
    "4 bits, as published (mxfp4)": "mxfp4",
}
# These were trained with their experts in mxfp4 and published in it, as OpenAI's README says:
# https://github.com/openai/gpt-oss/blob/7b58334/README.md
MXFP4_FAMILIES = ("gpt-oss",)
CONTEXTS = tuple(2**k for k in range(10, 21))  # tokens
USERS = (1, 2, 4, 8, 16, 32, 64, 128)  # at the same time
HERE = "this machine"


@dataclass(frozen=True)
class Load:
    """What a model puts into memory, in bytes, and how each number was computed."""

    weights: int
    weights_from: str
    read: int | None  # weights read for one token; None: its active parameters are not known
    cache: int | None  # of one user's full context; None: the catalogue does not know its layers
    cache_from: str
    tokens: int  # of that context: the request's, or the longest that the model takes


def load_of(model: catalog.Model, kind: str, tokens: int) -> Load:
    """Return what a model's weights and one context take, and what one token reads.

    kind: a value of WEIGHTS; tokens: of the context. The numbers come from the model's config if
    the course has it, otherwise from the catalogue's row. LookupError, with the reason, if the
    model's size or its weights are not published, or not in mxfp4.
    """
    verdict, reason = runs_at_all(model)
    if verdict:
        raise LookupError(reason)
    if kind == "mxfp4" and model.family not in MXFP4_FAMILIES:
        raise LookupError("not published in mxfp4, choose other weights")
    tokens = min(tokens, model.context_length or tokens)
    try:
        config = catalog.config(model.id)
    except LookupError:
        weights = sizing.weight_bytes(model.parameters, kind)
        bits = f"{model.parameters / 1e9:,.1f} B × {sizing.BITS_PER_WEIGHT[kind]:.3g} bits"
        active = model.params_active_B
        read = sizing.weight_bytes(round(active * 1e9), kind) if active else None
        return Load(weights, bits, read, *_row_cache(model, tokens), tokens)
    cache_bytes = sizing.kv_cache_bytes(config, tokens)
    return Load(*_file(model.id, kind), cache_bytes, "layer by layer", tokens)


@cache
def _file(id: str, kind: str) -> tuple[int, str, int]:
    """Return (bytes, how they were counted, bytes read for one token) of a model's file.

    A token reads the matrices that it is multiplied with: layers and head, without the experts
    that are not routed to. Those experts count at the mean bits of the layers, which consist mostly
    of experts. With mxfp4 experts the other matrices have 8 bits, so experts count at 4.25.
    """
    config = catalog.config(id)
    parts = sizing.gguf_bytes(config, "mxfp4_moe" if kind == "mxfp4" else kind)
    text, everything = config.get_text_config(), sizing.parameters(config)
    tables = text.vocab_size * text.hidden_size * (1 if text.tie_word_embeddings else 2)
    bits = 8 * parts["layers"] / (everything - tables - parts["tower"] // 2)  # a tower: 16 bits
    if kind == "mxfp4":
        bits = sizing.BITS_PER_WEIGHT[kind]
    idle_experts = bits / 8 * (everything - sizing.active_parameters(config))
    read = parts["layers"] + (parts["head"] or parts["embedding"]) - round(idle_experts)
    return sum(parts.values()), f"{kind}, tensor by tensor", read


def _row_cache(model: catalog.Model, tokens: int) -> tuple[int | None, str]:
    """Return (bytes, how they were counted) of a 16-bit cache if every layer keeps every token."""
    kind = model.attention_kind
    if not kind.startswith(("GQA", "MHA", "MLA")) or "indexer" in kind or "cross" in kind:
        return None, f"not known: {kind or 'attention not published'}"
    if not model.n_layers:
        return None, "not known: layers not published"
    if model.kv_lora_rank:
        values = model.kv_lora_rank + model.qk_rope_head_dim
    elif model.n_kv_heads and model.head_dim:
        values = 2 * model.n_kv_heads * model.head_dim
    else:
        return None, "not known: heads not published"
    bound = "window" in kind
    counted = "at most: some layers look back less far" if bound else "every layer in full"
    return 2 * model.n_layers * values * tokens, counted


def machines(here: doctor.Machine) -> dict[str, tuple[int, float | None]]:
    """Return name to (free memory in bytes, bytes per second): this machine, then known hardware.

    This machine's bandwidth is None: it has to be measured.
    """
    hardware = {
        row.id: (round(row.memory_GB * sizing.GB), row.bandwidth_GBps * sizing.GB)
        for row in catalog.hardware()
        if row.memory_GB and row.bandwidth_GBps
    }
    return {HERE: (here.gpu_free + here.memory_free, None)} | hardware


def fit(
    here: doctor.Machine | None = None,
    bandwidth: float | None = None,
    model: str = "qwen2.5-7b",
    weights: str | None = None,
    context: int = 8192,
    users: int = 1,
) -> TableExplorer:
    """Explore whether a model fits into memory, and the most tokens per second it can reach.

    here: this machine; without it, it is examined. bandwidth: of its memory, in bytes per second;
    without it, the table has no speed for this machine. weights: a value of WEIGHTS; without it,
    q4_k_m, or mxfp4 for a model that is published in it. context: a value of CONTEXTS, in tokens.
    users: a value of USERS. ValueError for a value that is not offered.
    """
    known = machines(here or doctor.machine())
    known[HERE] = known[HERE][0], bandwidth

    def look_up(
        machine: str, model: str, weights: str, context: int, users: int
    ) -> tuple[str, list[Row]]:
        available, speed = known[machine]
        try:
            load = load_of(catalog.get(model), weights, context)
        except LookupError as reason:
            return f"{model}: {reason.args[0]}.", []
        needed = sizing.needed_bytes(load.weights, users * (load.cache or 0))
        verdict = sizing.Fit(needed, available)
        words = f"{model} on {machine}, {users} × {load.tokens:,} tokens: {verdict}."
        if load.cache is None:
            words += " Its cache is not counted: it needs more."
        if load.tokens < context:
            words += f" Its context ends at {load.tokens:,} tokens."
        return words, _bill(load, users, verdict, speed)

    model_list = choice("model", [row.id for row in catalog.models()], model)
    weight_list = choice("weights", WEIGHTS, weights or _four_bits(model))
    _follow(model_list, weight_list)
    return TableExplorer(
        look_up,
        choice("machine", list(known)),
        model_list,
        weight_list,
        choice("context", {f"{n:,} tokens": n for n in CONTEXTS}, context),
        choice("users", {str(n): n for n in USERS}, users),
    )


def _follow(model_list: ipywidgets.Dropdown, weight_list: ipywidgets.Dropdown) -> None:
    """Let the four-bit weights change with the model; other weights stay as they were chosen."""

    def update(change) -> None:
        if weight_list.value in (_four_bits(change.old), "mxfp4"):
            weight_list.value = _four_bits(change.new)

    model_list.observe(update, names="value")


def _four_bits(model: str) -> str:
    """Return the kind of four-bit weights: mxfp4 for a model that is published in it."""
    return "mxfp4" if catalog.get(model).family in MXFP4_FAMILIES else "q4_k_m"


def _bill(load: Load, users: int, verdict: sizing.Fit, speed: float | None) -> list[Row]:
    """Return the table: what takes the memory, how many users would fit, how fast it can be."""
    gb = sizing.gigabytes
    alone = sizing.needed_bytes(load.weights)
    rows: list[Row] = [
        ("what", "takes", "how counted"),
        ("weights", gb(load.weights), load.weights_from),
        ("working space", gb(alone - load.weights), "a tenth of the weights, and 0.5 GB"),
    ]
    if load.cache is None:
        return [*rows, ("KV cache", "–", load.cache_from)]
    each = f"{users} × {gb(load.cache)}, in 16 bits, {load.cache_from}"
    room = max(0, (verdict.available - alone) // load.cache)
    rows += [
        ("KV cache", gb(users * load.cache), each),
        ("users that fit", f"{room:,}", "each with a full context"),
    ]
    if speed and load.read and verdict:
        fastest = sizing.decode_bound(load.read + users * load.cache, speed)
        limit = f"{gb(round(speed))} a second ÷ bytes read for a token of each"
        rows.append(("tokens a second", f"at most {fastest:,.1f} each", limit))
    return rows
