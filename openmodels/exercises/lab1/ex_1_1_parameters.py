"""Exercise 1.1: count the parameters of a mixture of experts, in total and active per token.

The models are Llama 4's text models. Full-size models are counted on their configs alone.
"""

import inspect
import math
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

from transformers import Llama4TextConfig

from openmodels import catalog, sizing
from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.known_mistakes import diagnose, expect_number, expect_pair

# The example of the docstring, and a config in which no two parts have the same size, so that
# different mistakes give different numbers.
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
FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "intermediate_size_mlp", "num_local_experts", "num_experts_per_tok",
    "vocab_size", "moe_layers",
)  # fmt: skip


# --- The reference solution -----------------------------------------------------------------------


def part_sizes(config: Any) -> dict[str, int]:
    """Return the parameters of each part of a model, summed over its layers.

    "routed" has all experts, "selected" those that one token uses; the other parts serve every
    token.
    """
    width, layers, mixtures = config.hidden_size, config.num_hidden_layers, len(config.moe_layers)
    heads = config.num_attention_heads + config.num_key_value_heads
    expert = 3 * width * config.intermediate_size
    return {
        "attention": layers * 2 * heads * config.head_dim * width,
        "norms": (2 * layers + 1) * width,
        "dense": (layers - mixtures) * 3 * width * config.intermediate_size_mlp,
        "router": mixtures * config.num_local_experts * width,
        "shared": mixtures * expert,
        "embedding": config.vocab_size * width,
        "head": config.vocab_size * width,
        "routed": mixtures * config.num_local_experts * expert,
        "selected": mixtures * config.num_experts_per_tok * expert,
    }


def add_parts(sizes: dict[str, int]) -> tuple[int, int]:
    """Return total and active parameters."""
    common = sum(size for part, size in sizes.items() if part not in ("routed", "selected"))
    return common + sizes["routed"], common + sizes["selected"]


def reference_count(config: Any) -> tuple[int, int]:
    """Return total and active parameters of a Llama 4 text model."""
    return add_parts(part_sizes(config))


# --- Known mistakes -------------------------------------------------------------------------------


def count_with(config: Any, **changes: Any) -> tuple[int, int]:
    """Count as if the config had other values in some fields."""
    fields = {name: getattr(config, name) for name in FIELDS}
    return reference_count(SimpleNamespace(**fields | changes))


def count_without(part: str, config: Any) -> tuple[int, int]:
    """Forget one part."""
    return add_parts(part_sizes(config) | {part: 0})


def count_two_matrices(parts: tuple[str, ...], config: Any) -> tuple[int, int]:
    """Count two matrices instead of three in some parts."""
    sizes = part_sizes(config)
    return add_parts(sizes | {part: sizes[part] * 2 // 3 for part in parts})


def count_experts_in_every_layer(config: Any) -> tuple[int, int]:
    return count_with(config, moe_layers=range(config.num_hidden_layers))


def count_with_computed_head_dim(config: Any) -> tuple[int, int]:
    return count_with(config, head_dim=config.hidden_size // config.num_attention_heads)


def count_keys_per_query_head(config: Any) -> tuple[int, int]:
    return count_with(config, num_key_value_heads=config.num_attention_heads)


def count_narrow_dense_layers(config: Any) -> tuple[int, int]:
    return count_with(config, intermediate_size_mlp=config.intermediate_size)


def count_all_experts_active(config: Any) -> tuple[int, int]:
    total, _ = reference_count(config)
    return total, total


def count_one_expert_active(config: Any) -> tuple[int, int]:
    return count_with(config, num_experts_per_tok=1)


def count_share_of_everything(config: Any) -> tuple[int, int]:
    total, _ = reference_count(config)
    return total, total * config.num_experts_per_tok // config.num_local_experts


def count_shared_as_routed(config: Any) -> tuple[int, int]:
    return count_with(config, num_experts_per_tok=config.num_experts_per_tok - 1)


def count_by_sizing(config: Any) -> tuple[int, int]:
    return sizing.parameters(config), sizing.active_parameters(config)


EXPERT_PARTS = ("shared", "routed", "selected")
MISTAKES = [
    WrongAnswer(
        "experts in every layer", count_experts_in_every_layer,
        "Not every layer has experts: `config.moe_layers` lists those that do, the others are "
        "dense.",
    ),
    WrongAnswer(
        "two matrices", partial(count_two_matrices, EXPERT_PARTS),
        "An expert has three matrices: gate, up and down.",
    ),
    WrongAnswer(
        "two matrices everywhere", partial(count_two_matrices, (*EXPERT_PARTS, "dense")),
        "Experts and MLPs have three matrices: gate, up and down.",
    ),
    WrongAnswer(
        "width of a head computed", count_with_computed_head_dim,
        "The width of a head is in the config, `head_dim`; width by heads need not give it.",
    ),
    WrongAnswer(
        "no shared expert", partial(count_without, "shared"),
        "Beside the routed experts, each of these layers has a shared one that sees every token.",
    ),
    WrongAnswer(
        "no router", partial(count_without, "router"),
        "The router is a matrix too: `hidden_size` times `num_local_experts` in each mixture.",
    ),
    WrongAnswer(
        "no norms", partial(count_without, "norms"),
        "The norms are missing: two vectors a layer and one at the end.",
    ),
    WrongAnswer(
        "no head", partial(count_without, "head"),
        "`tie_word_embeddings` is false: the head is a second matrix of the embedding's size.",
    ),
    WrongAnswer(
        "keys for every query head", count_keys_per_query_head,
        "Keys and values have `num_key_value_heads` heads, fewer than the queries.",
    ),
    WrongAnswer(
        "dense as wide as an expert", count_narrow_dense_layers,
        "A dense layer is wider than an expert: `intermediate_size_mlp`.",
    ),
    WrongAnswer(
        "all experts active", count_all_experts_active,
        "A token meets `num_experts_per_tok` of the routed experts, not all of them.",
    ),
    WrongAnswer(
        "one expert active", count_one_expert_active,
        "How many routed experts a token meets is in the config: `num_experts_per_tok`.",
    ),
    WrongAnswer(
        "a share of everything", count_share_of_everything,
        "Only the routed experts are chosen from; attention, embeddings and the rest see every "
        "token.",
    ),
    WrongAnswer(
        "shared counted as routed", count_shared_as_routed,
        "The shared expert comes on top of the `num_experts_per_tok` routed ones.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


@exercise(
    "1.1",
    wrong=[
        *MISTAKES,
        WrongAnswer("calls `sizing`", count_by_sizing, "`sizing` counts for you"),
        WrongAnswer("one number", lambda config: reference_count(config)[0], "expected tuple or"),
        WrongAnswer(
            "in billions",
            lambda config: tuple(number / 1e9 for number in reference_count(config)),
            "no billions",
        ),
        WrongAnswer(
            "the other order",
            lambda config: reference_count(config)[::-1],
            "The total comes first",
        ),
    ],
)
def check_count(count: Callable[[Any], tuple[int, int]]) -> str:
    """Judge `count(config)`, total and active parameters, on two small and two full configs."""
    if "sizing" in getattr(getattr(inspect.unwrap(count), "__code__", None), "co_names", ()):
        raise NotYet("`sizing` counts for you, and is what you are compared with: count yourself.")
    for what, config in _configs().items():
        counts = expect_pair(count(config), f"what you count for {what}", "total and active")
        expected = sizing.parameters(config), sizing.active_parameters(config)
        for name, number, right in zip(("total", "active"), counts, expected, strict=True):
            number = expect_number(number, f"the {name} number for {what}")
            if number != right:
                why = _explain(count, counts, expected, (number, right))
                raise NotYet(
                    f"{what} has {right:,} {name} parameters, you count {number:,}: "
                    f"{number - right:+,}. {why}".strip()
                )
    return (
        f"to the last parameter: a token of {what}, {expected[0] / 1e9:.0f} billion parameters, "
        f"passes through {expected[1] / 1e9:.1f} billion of them."
    )


def _explain(count: Callable, counts: tuple, expected: tuple, differing: tuple) -> str:
    """Return the message for the mistake behind a wrong count, "" if none is recognised."""
    number, right = differing
    if math.isclose(number * 1e9, right, rel_tol=1e-3):
        return "Return the count itself, no billions."
    if counts == expected[::-1]:
        return "The total comes first."
    return diagnose(count, [(TINY,), (MIXTURE,)], MISTAKES, rtol=1e-9)


@cache
def _configs() -> dict[str, Any]:
    """Return the configs that the checker counts, by description."""
    names = ("llama-4-scout", "llama-4-maverick")
    full = {f"{name} (text part)": catalog.config(name).get_text_config() for name in names}
    small = "a small mixture (2 of 13 experts a token, in every third layer)"
    return {"the example": TINY, small: MIXTURE, **full}
