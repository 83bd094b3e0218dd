"""Exercise 1.3: DeepSeek-V3's router, which sends each token to its experts.

Shapes: logits (tokens, experts), bias (experts,); a router returns experts and weights, both
(tokens, top_k).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import torch

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises import load_quietly
from openmodels.exercises.known_mistakes import agree, as_lists, diagnose, expect_pair
from openmodels.harbour import instances

SETTINGS = (3, 4, 2, 2.5)  # experts per token, groups, open groups, scale, as in mini-deepseek

Routing = tuple[torch.Tensor, torch.Tensor]  # experts and weights, both (tokens, top_k)


class Call(NamedTuple):
    """The arguments of a router."""

    logits: torch.Tensor  # (tokens, experts)
    bias: torch.Tensor  # (experts,)
    top_k: int
    n_groups: int
    top_groups: int
    scale: float


# --- The reference solution -----------------------------------------------------------------------


def closed_experts(call: Call, choice: torch.Tensor, best: int = 2) -> torch.Tensor:
    """Return a mask (tokens, experts) that is True for the experts of the closed groups.

    A group counts by the sum of its `best` highest scores.
    """
    groups = choice.view(len(choice), call.n_groups, -1)  # (tokens, groups, experts of a group)
    strength = groups.topk(best, dim=-1).values.sum(-1)  # (tokens, groups)
    closed = torch.ones(len(choice), call.n_groups, dtype=torch.bool)
    closed = closed.scatter(1, strength.topk(call.top_groups).indices, False)
    return closed.repeat_interleave(groups.shape[-1], dim=1)


def select_experts(call: Call, choice: torch.Tensor, best: int = 2) -> torch.Tensor:
    """Return the experts (tokens, top_k) with the highest scores in the open groups."""
    closed = closed_experts(call, choice, best)
    return choice.masked_fill(closed, -math.inf).topk(call.top_k).indices


def weigh(call: Call, scores: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
    """Return the scores of the experts, divided by their sum and multiplied by the scale."""
    weights = scores.gather(1, experts)
    return weights / weights.sum(-1, keepdim=True) * call.scale


def reference_route(*arguments: Any) -> Routing:
    """Return experts and weights as DeepSeek-V3's router does (DeepSeek-V3 report, 2.1.2)."""
    call = Call(*arguments)
    scores = call.logits.sigmoid()
    experts = select_experts(call, scores + call.bias)
    return experts, weigh(call, scores, experts)


# --- Known mistakes -------------------------------------------------------------------------------


def route_by_softmax(*arguments: Any) -> Routing:
    call = Call(*arguments)
    scores = call.logits.softmax(-1)
    experts = select_experts(call, scores + call.bias)
    return experts, weigh(call, scores, experts)


def route_with_softmax_over_selected(*arguments: Any) -> Routing:
    call = Call(*arguments)
    experts = select_experts(call, call.logits.sigmoid() + call.bias)
    return experts, call.logits.gather(1, experts).softmax(-1) * call.scale


def route_with_biased_weights(*arguments: Any) -> Routing:
    call = Call(*arguments)
    choice = call.logits.sigmoid() + call.bias
    experts = select_experts(call, choice)
    return experts, weigh(call, choice, experts)


def route_without_bias(*arguments: Any) -> Routing:
    call = Call(*arguments)
    scores = call.logits.sigmoid()
    experts = select_experts(call, scores)
    return experts, weigh(call, scores, experts)


def route_without_groups(*arguments: Any) -> Routing:
    call = Call(*arguments)
    scores = call.logits.sigmoid()
    experts = (scores + call.bias).topk(call.top_k).indices
    return experts, weigh(call, scores, experts)


def route_groups_by_best(*arguments: Any) -> Routing:
    call = Call(*arguments)
    scores = call.logits.sigmoid()
    experts = select_experts(call, scores + call.bias, best=1)
    return experts, weigh(call, scores, experts)


def route_without_normalising(*arguments: Any) -> Routing:
    call = Call(*arguments)
    scores = call.logits.sigmoid()
    experts = select_experts(call, scores + call.bias)
    return experts, scores.gather(1, experts) * call.scale


def route_without_scale(*arguments: Any) -> Routing:
    return reference_route(*Call(*arguments)._replace(scale=1))


def route_to_lowest(*arguments: Any) -> Routing:
    call = Call(*arguments)
    scores = call.logits.sigmoid()
    choice = scores + call.bias
    choice = choice.masked_fill(closed_experts(call, choice), math.inf)
    experts = choice.topk(call.top_k, largest=False).indices
    return experts, weigh(call, scores, experts)


MISTAKES = [
    WrongAnswer(
        "softmax", route_by_softmax,
        "Is that a softmax over all experts? Here each expert has a sigmoid of its own.",
    ),
    WrongAnswer(
        "softmax over the chosen", route_with_softmax_over_selected,
        "Is that a softmax over the chosen? Divide their sigmoid scores by the sum instead.",
    ),
    WrongAnswer(
        "bias in the weights", route_with_biased_weights,
        "The bias helps to choose; the weights are the scores without it.",
    ),
    WrongAnswer(
        "bias ignored", route_without_bias,
        "Experts are chosen by score plus bias: where is `bias`?",
    ),
    WrongAnswer(
        "groups ignored", route_without_groups,
        "First choose groups: experts of the others are out, however high they score.",
    ),
    WrongAnswer(
        "groups by their best", route_groups_by_best,
        "A group counts by the sum of its two best, not by its best alone.",
    ),
    WrongAnswer(
        "not normalised", route_without_normalising,
        "Do the weights of one token sum to `scale`? Divide them by their sum first.",
    ),
    WrongAnswer(
        "no scale", route_without_scale,
        "The weights of one token sum to `scale`, not to 1.",
    ),
    WrongAnswer(
        "lowest scores", route_to_lowest,
        "Those are the lowest scores; `topk` takes the highest unless told otherwise.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


class LibraryRouting(NamedTuple):
    """The result of one of the library's routers on a text, with its arguments."""

    layer: int
    arguments: Call
    weights: torch.Tensor  # (tokens, top_k)
    experts: torch.Tensor  # (tokens, top_k)


@cache
def _library_routings() -> list[LibraryRouting]:
    """Return the routing of each mixture layer of mini-deepseek on a held-out dialogue."""
    (model, tokenizer), routings, hooks = load_quietly("mini-deepseek"), [], []
    dialogue = next(iter(instances("dialogue", 1)))
    inputs = tokenizer.apply_chat_template(list(dialogue.messages), return_tensors="pt")

    def record(gate: Any, _: Any, output: tuple, number: int) -> None:
        logits, weights, experts = output
        arguments = Call(
            logits, gate.e_score_correction_bias, gate.top_k, gate.num_group, gate.topk_group,
            gate.routed_scaling_factor,
        )  # fmt: skip
        routings.append(LibraryRouting(number, arguments, weights, experts))

    for number, layer in enumerate(model.model.layers):
        if hasattr(layer.mlp, "gate"):
            hooks.append(layer.mlp.gate.register_forward_hook(partial(record, number=number)))
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return routings


@cache
def _random_call() -> Call:
    """Return arguments with random logits and biases for 64 tokens and 8 experts."""
    generator = torch.Generator().manual_seed(31)
    logits = 1.5 * torch.randn(64, 8, generator=generator)
    return Call(logits, 0.5 * torch.randn(8, generator=generator), *SETTINGS)


def _sort_by_expert(routing: Any) -> list[list[tuple[int, float]]]:
    """Return (expert, weight) pairs per token, by expert: the order in a row has no meaning."""
    experts, weights = (as_lists(part) for part in routing)
    return [
        sorted(zip(row, shares, strict=True)) for row, shares in zip(experts, weights, strict=True)
    ]


def _sorted_results(route: Callable) -> Callable:
    return lambda *call: _sort_by_expert(route(*call))


def _expect_tensors(routing: Any, what: str, shape: tuple[int, ...]) -> tuple:
    """Return experts and weights as tensors; raise NotYet unless both have this shape."""
    experts, weights = expect_pair(routing, "what `route` returned", "experts and weights")
    tensors = []
    for name, part in (("experts", experts), ("weights", weights)):
        try:
            tensors.append(torch.as_tensor(part))
        except (TypeError, ValueError, RuntimeError):
            raise NotYet(
                f"the {name} are {type(part).__name__}, expected a tensor of shape {shape}."
            ) from None
        if tuple(tensors[-1].shape) != shape:
            raise NotYet(
                f"{what}: the {name} have shape {tuple(tensors[-1].shape)}, expected {shape}: "
                "tokens, experts per token."
            )
    if tensors[0].is_floating_point() and not tensors[1].is_floating_point():
        raise NotYet("the first thing returned are the experts, the second the weights.")
    return tuple(tensors)


def _expect_route(route: Callable, what: str, arguments: tuple, expected: Routing) -> None:
    """Raise NotYet unless every token goes to the right experts with the right weights."""
    routing = _expect_tensors(route(*copy.deepcopy(arguments)), what, tuple(expected[0].shape))
    rows = zip(_sort_by_expert(routing), _sort_by_expert(expected), strict=True)
    for token, pair_rows in enumerate(rows):
        for place, name in enumerate(("experts", "weights")):
            actual, right = ([round(pair[place], 3) for pair in row] for row in pair_rows)
            if agree(actual, right, rtol=5e-3):
                continue
            mistakes = [replace(known, answer=_sorted_results(known.answer)) for known in MISTAKES]
            why = diagnose(_sorted_results(route), [_random_call()], mistakes)
            raise NotYet(
                f"{what}, token {token}: the {name} are {actual}, expected {right}. {why}".strip()
            )


@exercise(
    "1.3",
    wrong=[
        *MISTAKES,
        WrongAnswer(
            "the other order",
            lambda *call: reference_route(*call)[::-1],
            "first thing returned are",
        ),
        WrongAnswer(
            "experts only", lambda *call: reference_route(*call)[0], "holds 64 things, expected two"
        ),
        WrongAnswer(
            "a row for all experts",
            lambda *call: (reference_route(*call)[0], torch.sigmoid(call[0])),
            "the weights have shape",
        ),
    ],
)
def check_route(route: Callable[..., Routing]) -> str:
    """Judge `route(logits, bias, top_k, n_groups, top_groups, scale)`."""
    call = _random_call()
    _expect_route(route, "64 invented tokens", call, reference_route(*call))
    routings = _library_routings()
    for layer, arguments, weights, experts in routings:
        what = f"layer {layer + 1} of mini-deepseek"
        _expect_route(route, what, arguments, (experts, weights))
    tokens = len(routings[0].weights)
    busiest = torch.bincount(routings[0].experts.flatten(), minlength=8).max().item()
    return (
        f"and it agrees with the library's router on {len(routings)} × {tokens} hidden states; in "
        f"layer {routings[0].layer + 1} the busiest expert sees {busiest / tokens:.0%} of the "
        "tokens."
    )
