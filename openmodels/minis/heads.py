"""Initialise attention heads by hand, so that a miniature copies and reads from the first step.

Learning these circuits from random weights takes more tokens than a miniature's whole training run.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from openmodels.harbour import world


@torch.no_grad()
def start_copying(model: torch.nn.Module) -> None:
    """Initialise an induction head, the circuit of copying (Olsson et al. 2022), in place.

    Without it, the loss on recalled random tokens had not moved after 2 M tokens. Layer 0,
    key-value head 0: each token attends to the previous token, and in the second query head to
    itself, through a bias that RoPE rotates; the second head stores a copy that later layers do not
    overwrite. Layer 1, key-value head 0: attend to positions whose previous token equals the
    current one, and output the token there. Every other output starts at zero, and all weights are
    trained further. The model needs query and key biases, as Qwen2 has.
    """
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    hidden, width = model.config.hidden_size, first.head_dim
    half, fast, slow = width // 2, 6, width // 4
    angle = model.config.rope_parameters["rope_theta"] ** (-torch.arange(fast) / half)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    for attention in (first, second):  # scale down the content of the heads set below
        attention.q_proj.weight[: attention.num_key_value_groups * width] *= 0.1
        attention.k_proj.weight[:width] *= 0.1
    directions = torch.linalg.qr(torch.randn(hidden, hidden))[0].T  # orthonormal rows
    content, one_back, self_direction = directions[: 3 * width - 4].split([width, width, width - 4])
    first.k_proj.bias[:fast] = 8.0
    for head, distance in ((0, 1), (1, 0)):
        bias = first.q_proj.bias[head * width : (head + 1) * width]
        bias[:fast] = 8.0 * torch.cos(distance * angle)
        bias[half : half + fast] = -8.0 * torch.sin(distance * angle)
    first.v_proj.weight[:width] = content
    first.o_proj.weight[:, :width] = 0.1 * one_back.T
    first.o_proj.weight[:, width : width + len(self_direction)] = 0.1 * self_direction.T
    # the slow rotary pairs hardly rotate over a few hundred tokens: compare there
    slow_pairs = torch.cat([torch.arange(slow, half), torch.arange(half + slow, width)])
    second.k_proj.weight[slow_pairs] = 2.0 * one_back[: len(slow_pairs)]
    second.q_proj.weight[slow_pairs] = 2.0 * content[: len(slow_pairs)]
    second.v_proj.weight[:width] = content
    second.o_proj.weight[:, :width] = content.T


@dataclass(frozen=True)
class Directions:
    """Directions in the hidden space that the initialised heads read and write, as rows."""

    content: torch.Tensor  # (width, hidden): the token at this position
    one_back: torch.Tensor  # (width, hidden): the previous token
    itself: torch.Tensor  # (width - 4, hidden): a copy of the token that is not overwritten
    subject: torch.Tensor  # (width, hidden): the last thing or stop
    thing: torch.Tensor  # (hidden,): shared by the embeddings of things
    stop: torch.Tensor  # (hidden,): shared by the embeddings of stops
    every: torch.Tensor  # (hidden,): shared by all embeddings


@torch.no_grad()
def start_reading(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Initialise heads that bind a value to its subject, in place, after `start_copying`.

    With induction alone, 9 M tokens of texts did not teach the miniature to distinguish two shops
    of one text: it answered with either keeper. Here the embeddings of things (people, shops,
    goods, ships, days) share a direction, those of stops another. Layer 1, key-value head 1: find
    the last thing or stop before this token. Layer 2, key-value head 0: attend to positions after
    the same thing ("The bakery is run by Tove"), and output the token there. Layer 2, key-value
    head 1: attend to that thing itself, and output what came before it ("Tove runs the bakery").
    The constants are the best of some hundred sets: with two to four keepers, captains or sellers,
    four answers in five are right before the first step. The first thing a model learns, token
    frequency, would destroy this within 25 steps, so these layers and the embeddings are frozen at
    first and then thawed slowly (`Recipe.frozen_tokens`, `Recipe.thaw_tokens`).
    """
    first = model.model.layers[0].self_attn
    directions = _reading_directions(model, first.head_dim)
    content, width = directions.content, first.head_dim
    at_stop, at_thing = width - 6, width - 5  # components of a copied token that mark its kind
    content[at_stop], content[at_thing] = directions.stop, directions.thing
    first.v_proj.weight[:width] = content
    # token frequency is learned first, along the direction all share: keep it out of the heads
    things, stops = things_and_stops(tokenizer)
    table = model.model.embed_tokens.weight
    for direction, ids in (
        (directions.thing, things), (directions.stop, stops), (directions.every, slice(None))
    ):  # fmt: skip
        table -= torch.outer(table @ direction, direction)
        table[ids] += 0.5 * direction
    model.model.norm.weight.fill_(0.5)  # small logits: large wrong ones destroy the heads
    _start_subject_head(model.model.layers[1].self_attn, directions, at_stop, at_thing)
    _start_value_heads(model.model.layers[2].self_attn, directions, at_stop)


def _reading_directions(model: torch.nn.Module, width: int) -> Directions:
    """Return the directions of `start_copying`, with new ones orthogonal to them."""
    first = model.model.layers[0].self_attn
    content = first.v_proj.weight[:width].clone()
    one_back, itself = first.o_proj.weight[:, : 2 * width - 4].T.div(0.1).split([width, width - 4])
    used = torch.cat([content, one_back, itself])
    random_rows = torch.randn(model.config.hidden_size - len(used), used.shape[1])
    free = torch.linalg.qr(torch.cat([used, random_rows]).T)[0].T[len(used) :]  # orthonormal rows
    return Directions(content, one_back, itself, free[:width], *free[width : width + 3])


def _scale_down(attention: torch.nn.Module, kv: int) -> tuple[int, int]:
    """Scale down a key-value head and its query heads; return (query row, key row) of the first."""
    width, groups = attention.head_dim, attention.num_key_value_groups
    query, key = kv * groups * width, kv * width
    for projection, row, rows in (
        (attention.q_proj, query, groups * width), (attention.k_proj, key, width)
    ):  # fmt: skip
        projection.weight[row : row + rows] *= 0.1
    return query, key


def _start_subject_head(
    attention: torch.nn.Module, directions: Directions, at_stop: int, at_thing: int
) -> None:
    """Set key-value head 1 of layer 1: which thing or stop came last before this token?"""
    width = attention.head_dim
    query, key = _scale_down(attention, 1)
    near = torch.arange(3, 8)  # rotary pairs that weigh distant positions less
    attention.q_proj.bias[query + near] = 8.0
    marked = directions.one_back[at_thing] + directions.one_back[at_stop]
    attention.k_proj.weight[key + near] += 0.4 * marked
    attention.v_proj.weight[key : key + width] = directions.one_back
    attention.o_proj.weight[:, query : query + width] = 0.15 * directions.subject.T
    attention.o_proj.weight[:, :width] *= 0.7  # copying must not dominate reading


def _start_value_heads(attention: torch.nn.Module, directions: Directions, at_stop: int) -> None:
    """Set key-value heads 0 and 1 of layer 2: the value after a subject, and before it."""
    width = attention.head_dim
    half, slow = width // 2, width // 4
    slow_pairs = torch.cat([torch.arange(slow, half), torch.arange(half + slow, width)])
    output = 0.3 * directions.content.T
    output[:, at_stop] *= -1.0
    far = torch.arange(4, 9)  # not the sentence being generated
    constant = torch.arange(slow - 4, slow)
    subject, itself = directions.subject, directions.itself
    for kv, compared, value in ((0, subject, itself), (1, itself, subject)):
        query, key = _scale_down(attention, kv)
        attention.q_proj.weight[query + slow_pairs] = 3.5 * subject[: len(slow_pairs)]
        attention.k_proj.weight[key + slow_pairs] = 3.5 * compared[: len(slow_pairs)]
        attention.q_proj.bias[query + far], attention.k_proj.bias[key + far] = -4.0, 4.0
        attention.v_proj.weight[key : key + width] = 0.0
        attention.v_proj.weight[key : key + len(value)] = value
        attention.o_proj.weight[:, query : query + width] = output
        if value is itself:  # of the sentence's tokens, prefer a thing
            attention.q_proj.bias[query + constant] = 2.0
            attention.k_proj.weight[key + constant] += 6.0 * directions.thing


def things_and_stops(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids of tokens that end a person, shop, good, ship or day, and those of stops."""
    plurals = [plural for plural, *_ in world.GOODS.values()]
    words = [*world.NAMES, *world.SHOPS, *world.SHIPS, *world.GOODS, *plurals, *world.DAYS]
    things = {tokenizer(prefix + word).input_ids[-1] for word in words for prefix in ("", " ")}
    stops = {tokenizer(stop).input_ids[-1] for stop in (".", ".\n", "?", "<|im_end|>")}
    return sorted(things), sorted(stops)
