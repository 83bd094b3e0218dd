"""Lab 1, the landscape: sizes, caches, routers, masks, scaling, scores, rewards and licences.

Where an answer is wrong, the check looks for a known mistake that gives the same result, and says
which it is. Full-size models are counted on their shapes; the miniatures run on the CPU.
"""

import copy
import inspect
import json
import math
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import Llama4TextConfig

from openmodels import catalog, licences, minis, sizing
from openmodels.check import NotYet, Wrong, exercise, expect_close
from openmodels.exercises import quietly
from openmodels.exercises.known_mistakes import (
    Mistake,
    a_number,
    a_pair,
    agree,
    explain,
    plain,
    wrongs,
)
from openmodels.harbour import instances
from openmodels.inside import architecture
from openmodels.minis import grpo

# --- 1.1 The parameters of a mixture --------------------------------------------------------------

# The example of the docstring, and one in which no two parts are alike: mistakes tell apart.
TINY = Llama4TextConfig(
    hidden_size=4, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=2,
    intermediate_size=3, intermediate_size_mlp=5, num_local_experts=4, num_experts_per_tok=1,
    interleave_moe_layer_step=2, vocab_size=10, pad_token_id=0,
)  # fmt: skip
MIXTURE = Llama4TextConfig(
    hidden_size=40, num_hidden_layers=6, num_attention_heads=7, num_key_value_heads=3, head_dim=8,
    intermediate_size=11, intermediate_size_mlp=29, num_local_experts=13, num_experts_per_tok=2,
    interleave_moe_layer_step=3, vocab_size=100, pad_token_id=0,
)  # fmt: skip


def _count(
    config, *, every_layer=False, matrices=3, dense_matrices=3, without=(), kv_heads=0,
    dense_width=0, divided=False, active="routed",
) -> tuple[int, int]:  # fmt: skip
    """Total and active parameters of a Llama 4 text model, with a choice of mistakes."""
    width, layers = config.hidden_size, config.num_hidden_layers
    mixtures = layers if every_layer else len(config.moe_layers)
    heads = config.num_attention_heads + (kv_heads or config.num_key_value_heads)
    of_a_head = width // config.num_attention_heads if divided else config.head_dim
    expert = matrices * width * config.intermediate_size
    parts = {
        "attention": layers * 2 * heads * of_a_head * width,
        "norms": (2 * layers + 1) * width,
        "dense": (layers - mixtures)
        * (dense_matrices * width * (dense_width or config.intermediate_size_mlp)),
        "router": mixtures * config.num_local_experts * width,
        "shared": mixtures * expert,
        "embedding": config.vocab_size * width,
        "head": config.vocab_size * width,
    }
    rest = sum(number for part, number in parts.items() if part not in without)
    total = rest + mixtures * config.num_local_experts * expert
    used = {
        "routed": rest + mixtures * config.num_experts_per_tok * expert,
        "all": total,
        "one": rest + mixtures * expert,
        "share": total * config.num_experts_per_tok // config.num_local_experts,
        "unshared": rest + mixtures * (config.num_experts_per_tok - 1) * expert,
    }
    return total, used[active]


COUNT_MISTAKES = [
    Mistake(
        "experts in every layer", partial(_count, every_layer=True),
        "Not every layer has experts: `config.moe_layers` lists those that do, the others are "
        "dense.",
    ),
    Mistake(
        "two matrices", partial(_count, matrices=2),
        "An expert has three matrices: gate, up and down.",
    ),
    Mistake(
        "two matrices everywhere", partial(_count, matrices=2, dense_matrices=2),
        "Experts and MLPs have three matrices: gate, up and down.",
    ),
    Mistake(
        "width of a head computed", partial(_count, divided=True),
        "The width of a head is in the config, `head_dim`; width by heads need not give it.",
    ),
    Mistake(
        "no shared expert", partial(_count, without=("shared",)),
        "Beside the routed experts, each of these layers has a shared one that sees every token.",
    ),
    Mistake(
        "no router", partial(_count, without=("router",)),
        "The router is a matrix too: `hidden_size` times `num_local_experts` in each mixture.",
    ),
    Mistake(
        "no norms", partial(_count, without=("norms",)),
        "The norms are missing: two vectors a layer and one at the end.",
    ),
    Mistake(
        "no head", partial(_count, without=("head",)),
        "`tie_word_embeddings` is false: the head is a second matrix of the embedding's size.",
    ),
    Mistake(
        "keys for every query head", lambda config: _count(
            config, kv_heads=config.num_attention_heads
        ),
        "Keys and values have `num_key_value_heads` heads, fewer than the queries.",
    ),
    Mistake(
        "dense as wide as an expert", lambda config: _count(
            config, dense_width=config.intermediate_size
        ),
        "A dense layer is wider than an expert: `intermediate_size_mlp`.",
    ),
    Mistake(
        "all experts active", partial(_count, active="all"),
        "A token meets `num_experts_per_tok` of the routed experts, not all of them.",
    ),
    Mistake(
        "one expert active", partial(_count, active="one"),
        "How many routed experts a token meets is in the config: `num_experts_per_tok`.",
    ),
    Mistake(
        "a share of everything", partial(_count, active="share"),
        "Only the routed experts are chosen from; attention, embeddings and the rest see every "
        "token.",
    ),
    Mistake(
        "shared counted as routed", partial(_count, active="unshared"),
        "The shared expert comes on top of the `num_experts_per_tok` routed ones.",
    ),
]  # fmt: skip


def _asks_sizing(config) -> tuple[int, int]:
    return sizing.parameters(config), sizing.active_parameters(config)


@exercise(
    "1.1",
    title="Count a mixture's parameters",
    hints=[
        "Five kinds of parts: attention, the experts with their router, dense layers, norms, and "
        "what lies outside the layers. Count each for one layer, then say how many layers have it.",
        "Attention has four matrices: queries and output on `num_attention_heads` heads, keys and "
        "values on `num_key_value_heads`. An expert has three: `hidden_size` times "
        "`intermediate_size` each.",
        "Only one term differs between the two numbers: `num_local_experts` experts in a mixture "
        "layer, or `num_experts_per_tok`. Compute the rest once.",
    ],
    wrong=[
        *wrongs(COUNT_MISTAKES),
        Wrong("asks `sizing`", _asks_sizing, "`sizing` counts for you"),
        Wrong("one number", lambda config: _count(config)[0], "expected tuple or list"),
        Wrong("in billions", lambda config: tuple(n / 1e9 for n in _count(config)), "no billions"),
        Wrong(
            "the other order", lambda config: _count(config)[::-1], "The total comes first"
        ),
    ],
)  # fmt: skip
def check_count(count) -> str:
    if "sizing" in getattr(getattr(inspect.unwrap(count), "__code__", None), "co_names", ()):
        raise NotYet("`sizing` counts for you, and is what you are compared with: count yourself.")
    for what, config in _mixtures().items():
        total, active = a_pair(count(config), f"what you count for {what}", "total and active")
        expected = sizing.parameters(config), sizing.active_parameters(config)
        for name, seen, right in zip(("total", "active"), (total, active), expected, strict=True):
            seen = a_number(seen, f"the {name} number for {what}")
            if seen == right:
                continue
            why = explain(count, [(TINY,), (MIXTURE,)], COUNT_MISTAKES, rtol=1e-9)
            if (total, active) == expected[::-1]:
                why = "The total comes first."
            elif math.isclose(seen * 1e9, right, rel_tol=1e-3):
                why = "Return the count itself, no billions."
            raise NotYet(
                f"{what} has {right:,} {name} parameters, you count {seen:,}: "
                f"{seen - right:+,}. {why}".strip()
            )
    return (
        f"to the last parameter: a token of {what}, {expected[0] / 1e9:.0f} billion parameters, "
        f"passes through {expected[1] / 1e9:.1f} billion of them."
    )


@cache
def _mixtures() -> dict[str, Llama4TextConfig]:
    names = ("llama-4-scout", "llama-4-maverick")
    full = {f"{name} (text part)": catalog.config(name).get_text_config() for name in names}
    small = "a small mixture (2 of 13 experts a token, in every third layer)"
    return {"the example": TINY, small: MIXTURE, **full}


# --- 1.2 The cache of four kinds of attention -----------------------------------------------------

SCOUT = "chunked, with full layers between"
CACHES = {  # a model to each kind of attention
    "grouped": "qwen2.5-0.5b",
    "sliding window": "mistral-7b-v0.1",
    SCOUT: "llama-4-scout",
    "latent": "deepseek-v3",
}
LENGTHS = (1_000, 8_192, 100_000)


def _kv(
    config, spans, tokens, bytes_per_number=2, *, spans_ignored=False, first_span=False,
    whole_span=False, begun_chunk=False, heads="num_key_value_heads", tensors=2, latent="both",
) -> int:  # fmt: skip
    """Bytes of a cache, with a choice of mistakes."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    numbers = tensors * getattr(config, heads) * width
    if getattr(config, "kv_lora_rank", None):
        rank, rotary = config.kv_lora_rank, config.qk_rope_head_dim
        full = config.qk_nope_head_dim + rotary + config.v_head_dim
        numbers = {
            "both": rank + rotary, "rank": rank, "twice": 2 * (rank + rotary),
            "ignored": numbers, "expanded": config.num_attention_heads * full,
        }[latent]  # fmt: skip
    kept = 0
    for span in [spans[0]] * len(spans) if first_span else spans:
        if span is None or spans_ignored:
            kept += tokens
        elif begun_chunk:
            kept += tokens % span
        else:
            kept += min(tokens, span if whole_span else span - 1)
    return kept * numbers * bytes_per_number


KV_MISTAKES = [
    Mistake(
        "spans ignored", partial(_kv, spans_ignored=True),
        "A layer that looks back over a span keeps no more than that: where are the `spans`?",
    ),
    Mistake(
        "all layers alike", partial(_kv, first_span=True),
        "The layers differ: each entry of `spans` speaks for one of them.",
    ),
    Mistake(
        "one token too many", partial(_kv, whole_span=True),
        "A layer of span W keeps W - 1 tokens: the token to come is the Wth it may see.",
    ),
    Mistake(
        "the begun chunk only", partial(_kv, begun_chunk=True),
        "The begun chunk would be enough, but a cache keeps a full span: the last W - 1 tokens.",
    ),
    Mistake(
        "query heads", partial(_kv, heads="num_attention_heads"),
        "Keys and values exist per KV head, `num_key_value_heads`; the query heads share them.",
    ),
    Mistake(
        "keys without values", partial(_kv, tensors=1),
        "Grouped attention keeps a key and a value of each token: count both.",
    ),
    Mistake(
        "latent as grouped", partial(_kv, latent="ignored"),
        "Latent attention keeps no keys and values: where `kv_lora_rank` is set, count what it "
        "keeps instead.",
    ),
    Mistake(
        "latent expanded", partial(_kv, latent="expanded"),
        "Those are the keys and values computed from the latent; they are never stored.",
    ),
    Mistake(
        "no rotary key", partial(_kv, latent="rank"),
        "Beside the latent vector one rotary key is kept, `qk_rope_head_dim` numbers for all "
        "heads.",
    ),
    Mistake(
        "the latent twice", partial(_kv, latent="twice"),
        "One latent serves for keys and values: it is not doubled.",
    ),
    Mistake(
        "always 2 bytes", lambda config, spans, tokens, width=2: _kv(config, spans, tokens),
        "`bytes_per_number` is an argument: 2 for bfloat16, 4 for float32.",
    ),
    Mistake(
        "numbers, not bytes", lambda config, spans, tokens, width=2: _kv(config, spans, tokens, 1),
        "Those are numbers, not bytes: where is `bytes_per_number`?",
    ),
]  # fmt: skip


@cache
def _cache_calls() -> dict[str, tuple]:
    """Arguments by what they are: each kind of attention at several lengths, two widths."""
    calls = {}
    for kind, name in CACHES.items():
        config = catalog.config(name).get_text_config()
        for tokens, width in zip(LENGTHS, (2, 2, 4), strict=True):
            what = f"{name} ({kind}), {tokens:,} tokens, {width} bytes a number"
            calls[what] = (config, sizing.spans(config), tokens, width)
    return calls


@exercise(
    "1.2",
    title="Count the cache of four kinds of attention",
    hints=[
        "Two questions, apart: how many tokens does each layer keep, and how many numbers does "
        "one layer keep of one token? Multiply at the end.",
        "A layer without a span keeps all tokens, one with a span W the last W - 1, or all if "
        "there are fewer. Sum that over `spans`.",
        "Of a token, latent attention keeps `kv_lora_rank + qk_rope_head_dim` numbers. The others "
        'keep a key and a value per KV head. `getattr(config, "kv_lora_rank", None)` tells which.',
    ],
    wrong=wrongs(KV_MISTAKES),
)
def check_kv_cache_bytes(kv_cache_bytes) -> str:
    calls = _cache_calls()
    for what, (config, spans, tokens, width) in calls.items():
        seen = a_number(kv_cache_bytes(config, spans, tokens, width), f"the cache of {what}")
        expected = sizing.kv_cache_bytes(config, tokens, width)
        if seen != expected:
            why = explain(kv_cache_bytes, list(calls.values()), KV_MISTAKES, rtol=1e-9)
            raise NotYet(f"{what}: you say {seen:,} bytes, expected {expected:,}. {why}".strip())
    long = {kind: kv_cache_bytes(*calls[what][:3]) for kind, what in zip(
        CACHES, [what for what in calls if f"{LENGTHS[-1]:,} tokens" in what], strict=True
    )}  # fmt: skip
    least, most = min(long, key=long.get), max(long, key=long.get)
    each = {
        kind: kv_cache_bytes(catalog.config(name).get_text_config(), [None], 1)
        for kind, name in CACHES.items()
    }
    return (
        f"and the library's formula agrees at {len(calls)} points; at {LENGTHS[-1]:,} tokens they "
        f"range from {long[least] / 1e9:.1f} GB ({CACHES[least]}) to {long[most] / 1e9:.1f} GB "
        f"({CACHES[most]}). Per token and layer the latent keeps {each['latent']:,} bytes, Scout "
        f"{each[SCOUT]:,}: what DeepSeek pays for are its layers, and that it forgets nothing."
    )


# --- 1.3 The router -------------------------------------------------------------------------------

ROUTER = (3, 4, 2, 2.5)  # experts per token, groups, open groups, scale, as in mini-deepseek


class Routed(NamedTuple):
    """What one of the library's routers made of a text, and what it needed for that."""

    layer: int
    arguments: tuple  # logits, bias, top_k, n_groups, top_groups, scale
    weights: torch.Tensor  # (tokens, top_k)
    experts: torch.Tensor  # (tokens, top_k)


@cache
def _routed() -> list[Routed]:
    """The library's choice in every mixture layer, on the hidden states of a held-out dialogue."""
    (model, tokenizer), found, hooks = quietly("mini-deepseek"), [], []
    dialogue = next(iter(instances("dialogue", 1)))
    read = tokenizer.apply_chat_template(list(dialogue.messages), return_tensors="pt")

    def note(gate, _, output, number):
        logits, weights, experts = output
        arguments = (
            logits, gate.e_score_correction_bias, gate.top_k, gate.num_group, gate.topk_group,
            gate.routed_scaling_factor,
        )  # fmt: skip
        found.append(Routed(number, arguments, weights, experts))

    for number, layer in enumerate(model.model.layers):
        if hasattr(layer.mlp, "gate"):
            hooks.append(layer.mlp.gate.register_forward_hook(partial(note, number=number)))
    with torch.no_grad():
        model(**read)
    for hook in hooks:
        hook.remove()
    return found


def _route(
    logits, bias, top_k, n_groups, top_groups, scale, *, squash=torch.sigmoid, biased=False,
    bias_used=True, groups=True, best=2, normalised=True, scaled=True, largest=True,
    softmax_chosen=False,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """DeepSeek-V3's router, with a choice of mistakes. Returns experts and weights."""
    scores = squash(logits)
    choice = scores + bias if bias_used else scores
    if groups:
        each = choice.view(len(choice), n_groups, -1)  # (tokens, groups, experts of a group)
        strongest = each.topk(best, dim=-1).values.sum(-1).topk(top_groups).indices
        shut = torch.ones(len(choice), n_groups, dtype=torch.bool).scatter(1, strongest, False)
        shut = shut.repeat_interleave(each.shape[-1], dim=1)
        choice = choice.masked_fill(shut, -math.inf if largest else math.inf)
    experts = choice.topk(top_k, largest=largest).indices
    weights = (scores + bias if biased else scores).gather(1, experts)
    if softmax_chosen:
        weights = logits.gather(1, experts).softmax(-1)
    elif normalised:
        weights = weights / weights.sum(-1, keepdim=True)
    return experts, weights * (scale if scaled else 1)


def _sorted(answer: Any) -> list[list[tuple[int, float]]]:
    """(expert, weight) pairs per token, by expert: the order in a row says nothing."""
    experts, weights = (plain(part) for part in answer)
    return [
        sorted(zip(row, shares, strict=True)) for row, shares in zip(experts, weights, strict=True)
    ]


ROUTE_MISTAKES = [
    Mistake(
        "softmax", partial(_route, squash=partial(torch.softmax, dim=-1)),
        "Is that a softmax over all experts? Here each expert has a sigmoid of its own.",
    ),
    Mistake(
        "softmax over the chosen", partial(_route, softmax_chosen=True),
        "Is that a softmax over the chosen? Divide their sigmoid scores by the sum instead.",
    ),
    Mistake(
        "bias in the weights", partial(_route, biased=True),
        "The bias helps to choose; the weights are the scores without it.",
    ),
    Mistake(
        "bias ignored", partial(_route, bias_used=False),
        "Experts are chosen by score plus bias: where is `bias`?",
    ),
    Mistake(
        "groups ignored", partial(_route, groups=False),
        "First choose groups: experts of the others are out, however high they score.",
    ),
    Mistake(
        "groups by their best", partial(_route, best=1),
        "A group counts by the sum of its two best, not by its best alone.",
    ),
    Mistake(
        "not normalised", partial(_route, normalised=False),
        "Do the weights of one token sum to `scale`? Divide them by their sum first.",
    ),
    Mistake(
        "no scale", partial(_route, scaled=False),
        "The weights of one token sum to `scale`, not to 1.",
    ),
    Mistake(
        "lowest scores", partial(_route, largest=False),
        "Those are the lowest scores; `topk` takes the highest unless told otherwise.",
    ),
]  # fmt: skip


@cache
def _router_probe() -> tuple:
    dice = torch.Generator().manual_seed(31)
    logits = 1.5 * torch.randn(64, 8, generator=dice)
    return logits, 0.5 * torch.randn(8, generator=dice), *ROUTER


def _expect_route(route: Callable, what: str, arguments: tuple, right: tuple) -> None:
    """Raise NotYet unless every token goes to the right experts with the right weights."""
    experts, weights = a_pair(
        route(*copy.deepcopy(arguments)), "what `route` returned", "experts and weights"
    )
    shape = tuple(right[0].shape)
    parts = {"experts": experts, "weights": weights}
    for name, part in parts.items():
        try:
            parts[name] = torch.as_tensor(part)
        except (TypeError, ValueError, RuntimeError):
            raise NotYet(
                f"the {name} are {type(part).__name__}, expected a tensor of shape {shape}."
            ) from None
        if tuple(parts[name].shape) != shape:
            raise NotYet(
                f"{what}: the {name} have shape {tuple(parts[name].shape)}, expected {shape}: "
                "tokens, experts per token."
            )
    if parts["experts"].is_floating_point() and not parts["weights"].is_floating_point():
        raise NotYet("the first thing returned are the experts, the second the weights.")
    seen, wanted = _sorted(tuple(parts.values())), _sorted(right)
    for token, (mine, theirs) in enumerate(zip(seen, wanted, strict=True)):
        for place, name in enumerate(("experts", "weights")):
            one, other = ([round(pair[place], 3) for pair in row] for row in (mine, theirs))
            if agree(one, other, rtol=5e-3):
                continue
            probe = _router_probe()
            why = explain(
                lambda *call: _sorted(route(*call)), [probe],
                [m._replace(make=_in_order(m.make)) for m in ROUTE_MISTAKES],
            )  # fmt: skip
            raise NotYet(
                f"{what}, token {token}: the {name} are {one}, expected {other}. {why}".strip()
            )


def _in_order(make: Callable) -> Callable:
    return lambda *call: _sorted(make(*call))


@exercise(
    "1.3",
    title="Send each token to its experts",
    hints=[
        "Two rows of numbers from the start: `scores`, the sigmoid of the logits, and what you "
        "choose by, `scores + bias`. The weights come from the first.",
        "`view(tokens, n_groups, -1)` lays the experts out by group. `topk(2).values.sum(-1)` "
        "gives each group its strength; shut the others with `masked_fill(..., -inf)`.",
        "`choice.topk(top_k).indices` are the experts; `scores.gather(1, experts)` their weights. "
        "Divide by the row's sum, multiply by `scale`.",
    ],
    wrong=[
        *wrongs(ROUTE_MISTAKES),
        Wrong("the other order", lambda *call: _route(*call)[::-1], "first thing returned are"),
        Wrong("experts only", lambda *call: _route(*call)[0], "holds 64 things, expected two"),
        Wrong(
            "a row for all experts",
            lambda *call: (_route(*call)[0], torch.sigmoid(call[0])),
            "the weights have shape",
        ),
    ],
)
def check_route(route) -> str:
    probe = _router_probe()
    _expect_route(route, "64 invented tokens", probe, _route(*probe))
    routed = _routed()
    for layer, arguments, weights, experts in routed:
        what = f"layer {layer + 1} of mini-deepseek"
        _expect_route(route, what, arguments, (experts, weights))
    tokens = len(routed[0].weights)
    busiest = torch.bincount(routed[0].experts.flatten(), minlength=8).max().item()
    return (
        f"and it agrees with the library's router on {len(routed)} × {tokens} hidden states; in "
        f"layer {routed[0].layer + 1} the busiest expert sees {busiest / tokens:.0%} of the tokens."
    )


# --- 1.4 Masks ------------------------------------------------------------------------------------

MASKED = ((12, 4), (10, 3), (3, 8), (6, 1))  # tokens, span


def _places(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    place = torch.arange(tokens)
    return place[:, None], place[None, :]  # query down, key across


def _window(tokens: int, window: int, *, off=0, causal=True) -> torch.Tensor:
    q, k = _places(tokens)
    near = k > q - window - off
    return near & (k <= q) if causal else near


def _chunk(tokens: int, chunk: int, *, causal=True, shift=0) -> torch.Tensor:
    q, k = _places(tokens)
    same = (q + shift) // chunk == (k + shift) // chunk
    return same & (k <= q) if causal else same


def _both(name: str, window: Callable, chunk: Callable, why: str) -> Mistake:
    return Mistake(name, (window, chunk), why)


def _transposed(make: Callable) -> Callable:
    return lambda *call: make(*call).T


def _inverted(make: Callable) -> Callable:
    return lambda *call: ~make(*call)


MASK_MISTAKES = [
    _both(
        "window one too wide", partial(_window, off=1), _chunk,
        "A window counts the token itself: with 4, three before it.",
    ),
    _both(
        "window one too narrow", partial(_window, off=-1), _chunk,
        "A window counts the token itself, and then `window - 1` before it.",
    ),
    _both(
        "window sees the future", partial(_window, causal=False), _chunk,
        "A token never looks at later ones: the causal condition is missing.",
    ),
    _both(
        "chunk sees the future", _window, partial(_chunk, causal=False),
        "Inside a chunk, too, a token never looks at later ones.",
    ),
    _both(
        "chunk as window", _window, _window,
        "That is a window. Chunks have walls at fixed places: a token sees its own chunk only.",
    ),
    _both(
        "chunks one off", _window, partial(_chunk, shift=1),
        "The first chunk begins at token 0: number tokens from 0 before you divide.",
    ),
    _both(
        "rows and columns", _transposed(_window), _transposed(_chunk),
        "Rows and columns are swapped: row q says whom token q looks at.",
    ),
    _both(
        "inverted", _inverted(_window), _inverted(_chunk),
        "True means may look; yours marks what is hidden.",
    ),
]  # fmt: skip


def _additive(tokens: int, window: int) -> torch.Tensor:
    return torch.zeros(tokens, tokens).masked_fill(~_window(tokens, window), -math.inf)


@cache
def _library_masks(tokens: int, span: int) -> dict[str, torch.Tensor]:
    window = architecture.masks(catalog.config("mistral-7b-v0.1"), tokens, span)
    chunk = architecture.masks(catalog.config("llama-4-scout"), tokens, span)
    return {
        "window_mask": window["sliding_attention"],
        "chunk_mask": chunk["chunked_attention"],
    }


@exercise(
    "1.4",
    title="Draw the masks of windows and chunks",
    hints=[
        "`place = torch.arange(tokens)`. Then `place[:, None]` is the token that looks and "
        "`place[None, :]` the one looked at; comparing them gives a square.",
        "Both masks share the condition that nobody looks ahead, `k <= q`. Join conditions with "
        "`&`, not with `and`.",
        "Window: the distance `q - k` is less than `window`. Chunk: `q // chunk` and `k // chunk` "
        "are the same number.",
    ],
    wrong=[
        *wrongs(MASK_MISTAKES),
        Wrong("0.0 and 1.0", (lambda *c: _window(*c).float(), _chunk), "True and False"),
        Wrong("0 and -inf", (_additive, _chunk), "those are numbers to add to scores"),
        Wrong("one row", (lambda t, w: _window(t, w)[-1], _chunk), "has shape .*a row and a"),
    ],
)
def check_masks(window_mask, chunk_mask) -> str:
    answers = {"window_mask": window_mask, "chunk_mask": chunk_mask}
    for tokens, span in MASKED:
        for place, (name, answer) in enumerate(answers.items()):
            given = answer(tokens, span)
            _expect_mask(given, f"`{name}({tokens}, {span})`", tokens)
            right = _library_masks(tokens, span)[name]
            if agree(given, right):
                continue
            mistakes = [m._replace(make=m.make[place]) for m in MASK_MISTAKES]
            why = explain(answer, MASKED, mistakes)
            mine = np.asarray(plain(given), dtype=float) != 0
            q, k = (int(i) for i in np.argwhere(mine != right.numpy())[0])
            sees = "may look" if right[q, k] else "may not look"
            raise NotYet(
                f"`{name}({tokens}, {span})`: token {q} {sees} at token {k}. {why}".strip()
            )
    return f"and both are what transformers makes of {len(MASKED)} pairs of length and span."


def _expect_mask(given: Any, what: str, tokens: int) -> None:
    """Raise NotYet unless this is a square of truth values, or of zeros and ones."""
    if given is None:
        raise NotYet(f"{what} is None. Is a `return` missing?")
    try:
        square = np.asarray(plain(given), dtype=float)
    except (TypeError, ValueError):
        raise NotYet(f"{what} is {type(given).__name__}, expected a boolean tensor.") from None
    if square.shape != (tokens, tokens):
        raise NotYet(
            f"{what} has shape {square.shape}, expected {(tokens, tokens)}: a row and a column "
            "for each token."
        )
    if not np.isin(square, (0, 1)).all():
        raise NotYet(
            f"{what} holds {square.min():g}: those are numbers to add to scores; return True where "
            "a token may look."
        )
    if "float" in str(getattr(given, "dtype", "")):
        raise NotYet(f"{what} holds {given.dtype}, expected True and False: what `<` and `&` give.")


# --- 1.5 A law through measured points ------------------------------------------------------------

SETTLED = 2.9e6  # tokens: before this many mini-qwen's loss still rises and falls
LAST = 4  # points that the law must predict


def curve(name: str) -> tuple[np.ndarray, np.ndarray]:
    """What a miniature's training log holds: tokens in millions, and the smoothed loss.

    Left out are the first points, where the loss has not settled.
    """
    rows = (minis.shipped_dir(name) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    points = [(row["tokens"] / 1e6, row["loss"]) for row in map(json.loads, rows)]
    tokens, losses = np.array([point for point in points if point[0] * 1e6 > SETTLED]).T
    return tokens, losses


def _fit(
    x, y, offset=0.0, *, log_x=np.log, log_y=np.log, sign=-1, ignore=False, back=np.exp, swap=False
) -> tuple[float, float]:
    """Scale and exponent of a power law, with a choice of mistakes."""
    rest = np.asarray(y, dtype=float) - (0 if ignore else offset)
    slope, start = np.polyfit(log_x(np.asarray(x, dtype=float)), log_y(rest), 1)
    found = float(back(start)), float(sign * slope)
    return found[::-1] if swap else found


FIT_MISTAKES = [
    Mistake(
        "no logarithms", partial(_fit, log_x=np.array, log_y=np.array, back=float),
        "That is a straight line through the points themselves; take the logarithm of both.",
    ),
    Mistake(
        "logarithm of the loss only", partial(_fit, log_x=np.array),
        "That is an exponential: take the logarithm of x too.",
    ),
    Mistake(
        "logarithm of x only", partial(_fit, log_y=np.array, back=float),
        "Take the logarithm of y - offset too.",
    ),
    Mistake(
        "exponent with the slope's sign", partial(_fit, sign=1),
        "The slope is minus the exponent: the law has the minus already.",
    ),
    Mistake(
        "logarithm of the scale", partial(_fit, back=float),
        "The line starts at the logarithm of the scale: undo it.",
    ),
    Mistake(
        "offset ignored", partial(_fit, ignore=True),
        "Subtract the offset from y before you take logarithms.",
    ),
    Mistake(
        "offset added", lambda x, y, offset=0.0: _fit(x, y, -offset),
        "The offset is what remains for ever: subtract it, do not add it.",
    ),
    Mistake(
        "the other order", partial(_fit, swap=True),
        "The scale comes first, then the exponent.",
    ),
    Mistake(
        "decimal and natural mixed",
        partial(_fit, log_x=np.log10, log_y=np.log10),
        "The logarithms are decimal: undo them with 10 ** start, not with exp.",
    ),
]  # fmt: skip


@cache
def _laws() -> dict[str, tuple]:
    """Arguments of `fit_power_law`, by what they are."""
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    return {
        "the example": ([1, 2, 4], [8, 4, 2]),
        "6 / x ** 0.5 + 1, offset 1": (x, 6 * x**-0.5 + 1, 1.0),
        "0.2 / x ** 1.5 + 3, offset 3": (x, 0.2 * x**-1.5 + 3, 3.0),
    }


@exercise(
    "1.5",
    title="Fit a power law and hold it to a point it has not seen",
    hints=[
        "Take the logarithm of both sides of y - offset = scale · x ** -exponent. Which two "
        "quantities now lie on a straight line?",
        "`numpy.polyfit(u, v, 1)` returns slope and start of the straight line v over u.",
        "The slope is minus the exponent, the start the logarithm of the scale. `numpy.asarray` "
        "turns lists into arrays that can be subtracted from.",
    ],
    wrong=wrongs(FIT_MISTAKES),
)
def check_fit_power_law(fit_power_law) -> str:
    tokens, losses = curve("mini-qwen")
    real = {"mini-qwen's log": (tokens[:-LAST], losses[:-LAST])}
    for what, call in (_laws() | real).items():
        scale, exponent = a_pair(
            fit_power_law(*copy.deepcopy(call)), "what you returned", "scale and exponent"
        )
        right = _fit(*call)
        for name, seen, wanted in zip(("scale", "exponent"), (scale, exponent), right, strict=True):
            if not agree(seen, wanted, rtol=1e-2):
                why = explain(fit_power_law, list(_laws().values()), FIT_MISTAKES)
                shown = f"{seen:.4g}" if isinstance(seen, (int, float)) else repr(seen)
                raise NotYet(f"{what}: {name} {shown}, expected {wanted:.4g}. {why}".strip())
    ahead = scale * tokens[-1] ** -exponent
    return (
        f"from {len(tokens) - LAST} points up to {tokens[-LAST - 1]:.1f} million tokens of "
        f"mini-qwen's log the law says {ahead:.3f} at {tokens[-1]:.1f} million; measured: "
        f"{losses[-1]:.3f}."
    )


# --- 1.6 Which of two is better -------------------------------------------------------------------


def _interval(correct, n, *, kind="wilson", z=1.959964, percent=False) -> tuple[float, float]:
    """The interval of a share, with a choice of mistakes."""
    share = correct / n
    if kind == "normal":
        middle, half = share, z * math.sqrt(share * (1 - share) / n)
    elif kind == "count":
        middle, half = share, z * math.sqrt(share * (1 - share))
    else:
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        root = math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        half = z * root / (1 if kind == "undivided" else 1 + z * z / n)
    low, high = middle - half, middle + half
    return (100 * low, 100 * high) if percent else (low, high)


def _verdict(wins: float, all_: float) -> str:
    low, high = _interval(wins, all_) if all_ else (0, 1)
    return "first" if low > 0.5 else "second" if high < 0.5 else "cannot tell"


def _better(first, second) -> str:
    wins, losses = _disagreements(first, second)
    return _verdict(wins, wins + losses)


def _disagreements(first, second) -> tuple[int, int]:
    pairs = list(zip(first, second, strict=True))
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def _higher_share(first, second) -> str:
    one, two = sum(first), sum(second)
    return "first" if one > two else "second" if two > one else "cannot tell"


def _apart(first, second) -> str:
    (low, high), (below, above) = (_interval(sum(row), len(row)) for row in (first, second))
    return "first" if low > above else "second" if below > high else "cannot tell"


def _wins_of_all(first, second) -> str:
    return _verdict(_disagreements(first, second)[0], len(first))


def _swapped(first, second) -> str:
    return _better(second, first)


def _divides_by_none(first, second) -> str:
    wins, losses = _disagreements(first, second)
    low, high = _interval(wins, wins + losses)
    return "first" if low > 0.5 else "second" if high < 0.5 else "cannot tell"


INTERVAL_MISTAKES = [
    Mistake(
        "normal interval", partial(_interval, kind="normal"),
        "That is the normal interval. At 0 and at n it has no width, as if nothing were left to "
        "learn; Wilson's keeps one.",
    ),
    Mistake(
        "no n", partial(_interval, kind="count"),
        "The interval must shrink with more questions: divide the variance by n.",
    ),
    Mistake(
        "half not divided", partial(_interval, kind="undivided"),
        "Both the middle and the half width are divided by 1 + z² / n.",
    ),
    Mistake(
        "90 %", partial(_interval, z=1.644854),
        "That is the 90 % interval: for 95 %, z is 1.96.",
    ),
    Mistake("per cent", partial(_interval, percent=True), "Return shares, 0 to 1, no per cent."),
]  # fmt: skip
BETTER_MISTAKES = [
    Mistake(
        "higher share", _higher_share,
        "Is a higher share enough? So few disagreements could fall this way by chance.",
    ),
    Mistake(
        "two intervals", _apart,
        "Do you compare two intervals? That forgets that both answered the same questions.",
    ),
    Mistake(
        "wins of all questions", _wins_of_all,
        "Wins are a share of the questions on which the two differ, not of all.",
    ),
    Mistake("swapped", _swapped, "First and second are swapped."),
]  # fmt: skip


def _answers(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Two rows of right and wrong: on both, on one of them only, on neither."""
    rows = [(True, True)] * both + [(True, False)] * first
    rows += [(False, True)] * second + [(False, False)] * neither
    one, two = zip(*rows, strict=True)
    return list(one), list(two)


INTERVALS = [(0, 20), (20, 20), (15, 20)]
PAIRED = {  # what it is, and who is better by any paired test
    "on 100 questions the first is right 13 times alone, the second once": (
        (80, 13, 1, 6), "first",
    ),
    "on 500 questions the first is right 3 times alone, the second 22 times alone": (
        (470, 3, 22, 5), "second",
    ),
    "on 100 questions the first is right 6 times alone, the second 4 times alone": (
        (85, 6, 4, 5), "cannot tell",
    ),
    "both are right on the same 90 of 100 questions": ((90, 0, 0, 10), "cannot tell"),
}  # fmt: skip


@exercise(
    "1.6",
    title="Say which of two models is better",
    hints=[
        "The middle is (p + z²/2n) / (1 + z²/n), and the half width is divided by the same. "
        "Squares are `z**2`; a root is `** 0.5`.",
        "A question that both answer, or that neither does, says nothing about who is better. "
        "Count the others: how often is only the first right, how often only the second?",
        "If the two were equally good, the first would win half of those. Is 1/2 inside the "
        "interval of its share? And what if there are none?",
    ],
    wrong=[
        *[
            Wrong(one.name, (one.make, _better), re.escape(one.why))
            for one in INTERVAL_MISTAKES
        ],
        *[Wrong(one.name, (_interval, one.make), re.escape(one.why)) for one in BETTER_MISTAKES],
        Wrong("no disagreement", (_interval, _divides_by_none), "never differ.*do not divide"),
        Wrong("another word", (_interval, lambda *_: "A"), "expected 'first', 'second' or"),
    ],
)  # fmt: skip
def check_better(interval, better) -> str:
    cards = _cards()
    for correct, n, *card in cards + [(*call, *_interval(*call)) for call in INTERVALS]:
        low, high = a_pair(interval(correct, n), "what `interval` returned", "low and high")
        low, high = a_number(low, "the lower bound"), a_number(high, "the upper bound")
        if not np.allclose([low, high], card, rtol=0, atol=2e-3):
            why = explain(interval, INTERVALS, INTERVAL_MISTAKES)
            raise NotYet(
                f"{correct} right of {n}: you say {low:.3f} to {high:.3f}, expected "
                f"{card[0]:.3f} to {card[1]:.3f}. {why}".strip()
            )
    rows = {what: (_answers(*counts), winner) for what, (counts, winner) in PAIRED.items()}
    for what, ((first, second), winner) in rows.items():
        try:
            seen = better(list(first), list(second))
        except ZeroDivisionError as error:
            raise NotYet(
                f"{what}: they never differ, and your code stopped with {error}. Where there is "
                "nothing to compare, do not divide; you cannot tell."
            ) from error
        if seen not in ("first", "second", "cannot tell"):
            raise NotYet(
                f"`better` returned {seen!r}, expected 'first', 'second' or 'cannot tell'."
            )
        if seen != winner:
            why = next(
                (
                    one.why
                    for one in BETTER_MISTAKES
                    if all(better(*pair) == one.make(*pair) for pair, _ in rows.values())
                ),
                "",
            )
            raise NotYet(f"{what}: you say {seen!r}, expected {winner!r}. {why}".strip())
    return f"and your intervals are those of the model cards, in all {len(cards)} rows."


@cache
def _cards() -> list[tuple[int, int, float, float]]:
    """Correct, n and both bounds of every task in the cards of the two models."""
    rows = [minis.scores(name).tasks.values() for name in ("mini-qwen", "mini-qwen-xs")]
    return [(row["correct"], row["n"], row["low"], row["high"]) for tasks in rows for row in tasks]


# --- 1.7 The advantage of an answer ---------------------------------------------------------------

REWARDS = {
    "three questions": [[1.0, 0.0, 0.5, 0.5], [1.0, 1.0, 0.0, 1.0], [0.25, 0.0, 0.0, 0.75]],
    "two of five answers": [[1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]],
}  # fmt: skip
SETTLED_QUESTIONS = [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]


def _advantage(
    rewards, *, dim=1, divide=True, correction=1, centre=True, guard=True, whole=False
) -> torch.Tensor:
    """Advantages, with a choice of mistakes."""
    rewards = torch.as_tensor(rewards)
    keep = {} if whole else {"dim": dim, "keepdim": True}
    centred = rewards - rewards.mean(**keep) if centre else rewards
    if not divide:
        return centred
    spread = rewards.std(correction=correction, **keep)
    return centred / (spread.clamp(min=1e-6) if guard else spread)


ADVANTAGE_MISTAKES = [
    Mistake(
        "not divided", partial(_advantage, divide=False),
        "That is the distance from the mean; it is measured in standard deviations.",
    ),
    Mistake(
        "divided by n", partial(_advantage, correction=0),
        "The standard deviation is the one that divides by n - 1, torch's own.",
    ),
    Mistake(
        "not centred", partial(_advantage, centre=False),
        "Subtract the mean of the question's answers first.",
    ),
    Mistake(
        "over the whole batch", partial(_advantage, whole=True),
        "Mean and spread are those of one question's answers, not of the whole batch.",
    ),
    Mistake(
        "across questions", partial(_advantage, dim=0),
        "Compare along a row: the answers to one question.",
    ),
]  # fmt: skip


@exercise(
    "1.7",
    title="Reward an answer for beating its siblings",
    hints=[
        "A row is one question. Mean and standard deviation go along dimension 1; with "
        "`keepdim=True` they can be subtracted from the row and divide it.",
        "`rewards.std(1, keepdim=True)` divides by n - 1, which is what is wanted.",
        "Where the spread is 0, so is every distance from the mean: 0 / 0 is nan. `torch.where` or "
        "`spread.clamp(min=1e-6)`, keeps it out.",
    ],
    wrong=[
        *wrongs(ADVANTAGE_MISTAKES),
        Wrong("0 / 0", partial(_advantage, guard=False), "nan.*all answers score alike"),
        Wrong(
            "ones where all are equal",
            lambda r: torch.where(r.std(1, keepdim=True) > 0, _advantage(r), 1.0),
            "all answers score alike.*nothing to learn",
        ),
        Wrong("one per question", lambda r: _advantage(r)[:, 0], "has shape"),
    ],
)
def check_advantages(advantages) -> str:
    probes = [(torch.tensor(rewards),) for rewards in REWARDS.values()]
    for what, (rewards,) in zip(REWARDS, probes, strict=True):
        seen = advantages(rewards.clone())
        right = grpo.advantages(rewards)
        if agree(seen, right, rtol=5e-3):
            continue
        why = explain(advantages, probes, ADVANTAGE_MISTAKES, rtol=5e-3)
        expect_close(seen, right, f"{what}: the advantage", why, atol=5e-3)
    equal = torch.tensor(SETTLED_QUESTIONS)
    seen = torch.as_tensor(advantages(equal.clone()))
    if seen[:2].isnan().any() or not agree(seen, grpo.advantages(equal), rtol=5e-3):
        raise NotYet(
            f"rewards {SETTLED_QUESTIONS[0]} give {seen[0].tolist()}, expected zeros: where all "
            "answers score alike there is nothing to learn, and no spread to divide by."
        )
    return "and it is what the course's own trainer computes, question by question."


# --- 1.8 A question to the licences ---------------------------------------------------------------

SHELVES = (  # use, tokens of context, bytes of memory
    ("product", 128_000, 24 * sizing.GB),
    ("share", 32_768, 8 * sizing.GB),
    ("product", 131_072, 2_000 * sizing.GB),
)


def _suits(
    row, use, context, available, *, in_eu=True, verdicts=("yes", "yes, if"), image=True,
    longer=False, parameters="parameters", kind="q4_k_m", other_use=None, licence=None,
) -> bool:  # fmt: skip
    """Whether a model is on the shelf, with a choice of mistakes."""
    number = getattr(row, parameters)
    if number is None or row.context_length is None:
        return False
    number = number * 1e9 if parameters != "parameters" else number
    allowed = licences.may_i(row.id, other_use or use, in_eu=in_eu).verdict in verdicts
    if licence:
        allowed = row.licence in licence and row.status == "released"
    long = row.context_length > context if longer else row.context_length >= context
    fits = kind is None or bool(sizing.fits(round(number), kind, available=available))
    return allowed and long and fits and ("image" in row.modality_in or not image)


def _none_compared(row, use, context, available) -> bool:
    return row.context_length >= context and _suits(row, use, context, available)


def _none_sized(row, use, context, available) -> bool:
    return sizing.fits(row.parameters, "q4_k_m", available=available) and _suits(
        row, use, context, available
    )


SUIT_MISTAKES = [
    Mistake(
        "Lyon forgotten", partial(_suits, in_eu=False),
        "The firm is in the European Union: `in_eu`.",
    ),
    Mistake(
        "only a plain yes", partial(_suits, verdicts=("yes",)),
        "'yes, if' is a yes with duties: the firm may, and keeps them.",
    ),
    Mistake(
        "not known taken for yes", partial(_suits, verdicts=("yes", "yes, if", "not known")),
        "'not known' is no yes: nobody here has seen a clause that allows it.",
    ),
    Mistake(
        "by the licence's name", partial(_suits, licence=licences.PERMISSIVE),
        "Ask `licences.may_i`: other licences than Apache and MIT say yes too.",
    ),
    Mistake(
        "any input", partial(_suits, image=False),
        "It must take images: look into `row.modality_in`.",
    ),
    Mistake(
        "longer than asked", partial(_suits, longer=True),
        "At least `context` tokens: exactly as many are enough.",
    ),
    Mistake(
        "active parameters", partial(_suits, parameters="params_active_B"),
        "All parameters must be in memory, not only the active ones.",
    ),
    Mistake(
        "in 16 bits", partial(_suits, kind="bfloat16"),
        "The weights are stored in 4 bits: \"q4_k_m\".",
    ),
    Mistake(
        "no memory asked", partial(_suits, kind=None),
        "It must fit into `available`: ask `sizing.fits`.",
    ),
    Mistake(
        "another use", partial(_suits, other_use="research"),
        "Ask for the use that is asked for: `use`.",
    ),
    Mistake(
        "always for a product", partial(_suits, other_use="product"),
        "The shelves are asked for more than one use: hand `use` on to `may_i`.",
    ),
]  # fmt: skip


@exercise(
    "1.8",
    title="Ask the licences a question in code",
    hints=[
        "Four conditions, joined by `and`: it takes images, its context is long enough, it fits, "
        "and the licence allows it.",
        '`licences.may_i(row.id, use, in_eu=True).verdict` is "yes", "yes, if", "no" or '
        '"not known". Which two of them let the firm go on?',
        "`row.context_length` and `row.parameters` are None where nobody tells. Ask for that "
        'before you compare; then `sizing.fits(row.parameters, "q4_k_m", available=available)`.',
    ],
    wrong=[
        *wrongs(SUIT_MISTAKES),
        Wrong("context is None", _none_compared, "no known `context_length`"),
        Wrong("parameters is None", _none_sized, "no known `parameters`"),
        Wrong("nothing suits", lambda *_: False, "you leave out"),
        Wrong("None", lambda *_: None, "Is a `return` missing"),
    ],
)
def check_suits(suits) -> str:
    for use, context, available in SHELVES:
        for row in catalog.models():
            seen, right = (
                _asked(suits, row, use, context, available),
                _suits(row, use, context, available),
            )
            if bool(seen) == right:
                continue
            mistakes = [
                one
                for one in SUIT_MISTAKES
                if all(_agrees(suits, one.make, *shelf) for shelf in SHELVES)
            ]
            does = "you take in" if seen else "you leave out"
            raise NotYet(
                f"for {use!r}, {context:,} tokens and {sizing.gigabytes(available)}, {does} "
                f"{row.id}. "
                f"{mistakes[0].why if mistakes else _reason(row, use, available)}"
            )
    counts = [sum(_suits(row, *shelf) for row in catalog.models()) for shelf in SHELVES]
    return (
        f"of {len(catalog.models())} models {counts[0]} are left for {SHELVES[0][1]:,} tokens in "
        f"{sizing.gigabytes(SHELVES[0][2])}, {counts[2]} in {sizing.gigabytes(SHELVES[2][2])}."
    )


def _asked(suits: Callable, row: catalog.Model, *shelf) -> Any:
    """What the answer says to one row; NotYet where it stumbles over what is not known."""
    try:
        seen = suits(row, *shelf)
    except TypeError as error:
        unknown = [f for f in ("context_length", "parameters") if getattr(row, f) is None]
        if unknown and "NoneType" in str(error):
            raise NotYet(
                f"{row.id} has no known {' and no known '.join(f'`{f}`' for f in unknown)}: None, "
                f"and your code stopped with TypeError: {error}. What is not known is no yes."
            ) from error
        raise
    if seen is None and row.parameters and row.context_length:  # `row.parameters and …` gives None
        raise NotYet(f"`suits` gives None for {row.id}. Is a `return` missing?")
    return seen


def _agrees(suits: Callable, mistake: Callable, *shelf) -> bool:
    rows = catalog.models()
    try:
        return all(bool(suits(row, *shelf)) == mistake(row, *shelf) for row in rows)
    except Exception:  # a wrong answer may raise anything; then it is none of the known ones
        return False


def _reason(row: catalog.Model, use: str, available: int) -> str:
    """Each condition and what this row says to it."""
    verdict = licences.may_i(row.id, use, in_eu=True).verdict
    size = row.parameters and sizing.fits(row.parameters, "q4_k_m", available=available)
    return (
        f"It takes {', '.join(row.modality_in)}; context {row.context_length}; the licence "
        f"says {verdict}; in 4 bits: {size or 'size not known'}."
    )
