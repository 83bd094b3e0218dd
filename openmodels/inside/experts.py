"""A mixture of experts watched at work: which experts a token gets, and what is lost without one.

The library's own routers are read through hooks; DeepSeek-V3's and Llama 4's are known.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.llama4.modeling_llama4 import Llama4Router

from openmodels import sizing
from openmodels.harbour import pictures
from openmodels.harbour.world import GOODS, NAMES
from openmodels.inside import architecture
from openmodels.minis import data, images, tokenizer

KINDS = (
    "digit", "name", "goods", "other word", "Chinese", "punctuation", "JSON sign", "space",
    "chat markup", "picture",
)  # fmt: skip
GOODS_WORDS = {*GOODS, *(plural for plural, *_ in GOODS.values())}
CHINESE = re.compile("[\u3000-\u9fff\ufffd]")  # \ufffd: a piece of a character


# --- Routers --------------------------------------------------------------------------------------


def routers(model: torch.nn.Module) -> dict[int, torch.nn.Module]:
    """The routers of a mixture by the number of their layer, the first layer being 1.

    LookupError for a model that has none.
    """
    found = {}
    for number, layer in enumerate(architecture.decoder_layers(model), start=1):
        for module in layer.modules():
            if isinstance(module, (DeepseekV3TopkRouter, Llama4Router)):
                found[number] = module
    if not found:
        raise LookupError(f"{type(model).__name__} has no router that is known here")
    return found


def chosen(router: torch.nn.Module, output: tuple) -> torch.Tensor:
    """(tokens, top_k) experts, from what a router returned."""
    if isinstance(router, DeepseekV3TopkRouter):
        return output[2]  # (logits, weights, experts)
    return output[1].topk(router.top_k, dim=1).indices  # (scores, logits)


def route(
    router: torch.nn.Module, logits: torch.Tensor, off: Sequence[int] = (), bias: bool = True
) -> tuple:
    """What a router returns for these logits, without the experts that are `off`.

    logits: (tokens, experts). A token whose expert is off gets its next best. `bias`: with
    DeepSeek's bias on the choice; Llama 4 has none. As in transformers' modeling files, and equal
    to them with nothing off.
    """
    off = list(off)
    if isinstance(router, Llama4Router):
        logits = logits.index_fill(1, torch.tensor(off, dtype=torch.long), float("-inf"))
        value, experts = logits.topk(router.top_k, dim=1)
        scores = torch.full_like(logits, float("-inf")).scatter(1, experts, value)
        return scores.sigmoid(), logits
    scores = logits.sigmoid()
    choice = scores + router.e_score_correction_bias * bias
    choice[:, off] = 0  # its group loses a member, not its place
    groups = choice.view(len(choice), router.num_group, -1)
    best = groups.topk(2, dim=-1).values.sum(-1).topk(router.topk_group).indices
    shut = torch.ones_like(groups[..., 0], dtype=torch.bool).scatter(1, best, False)
    choice = choice.masked_fill(shut.repeat_interleave(groups.shape[-1], 1), float("-inf"))
    choice[:, off] = float("-inf")
    experts = choice.topk(router.top_k, dim=1, sorted=False).indices
    weights = scores.gather(1, experts)
    if router.norm_topk_prob:
        weights = weights / (weights.sum(1, keepdim=True) + 1e-20)
    return logits, weights * router.routed_scaling_factor, experts


@contextmanager
def without(model: torch.nn.Module, *experts: tuple[int, int]) -> Iterator[None]:
    """Switch experts off, given as (layer, expert): inside, no token is sent to them.

    Layers count from 1, experts from 0. ValueError where a layer would have too few left.
    """
    off = defaultdict(list)
    for layer, expert in experts:
        off[layer].append(expert)
    hooks = []
    for layer, router in routers(model).items():
        if router.num_experts - len(off[layer]) < router.top_k:
            raise ValueError(f"layer {layer} needs {router.top_k} experts a token; some must stay")
        if off[layer]:
            hooks.append(router.register_forward_hook(_rerouted(off[layer])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _rerouted(off: list[int]) -> Callable:
    def hook(router, _inputs, output):
        deepseek = isinstance(router, DeepseekV3TopkRouter)
        return route(router, output[0] if deepseek else output[1], off)

    return hook


# --- Watching -------------------------------------------------------------------------------------


def kinds(reader, ids: Sequence[int]) -> list[str]:
    """The kind of each token, one of KINDS. The role after <|im_start|> is chat markup."""
    found = []
    for place, token in enumerate(ids):
        role = place and reader.convert_ids_to_tokens(ids[place - 1]) == tokenizer.SPECIAL[1]
        found.append("chat markup" if role else _kind(reader.decode([token])))
    return found


def _kind(text: str) -> str:
    bare = text.strip()
    if text in images.TOKENS:
        return "picture"
    if text in tokenizer.SPECIAL + tokenizer.MARKERS or (not bare and "\n" in text):
        return "chat markup"
    if not bare:
        return "space"
    if bare.isdecimal():
        return "digit"
    if bare in NAMES:
        return "name"
    if CHINESE.search(bare):
        return "Chinese"
    if bare.lower() in GOODS_WORDS:
        return "goods"
    if any(letter.isalpha() for letter in bare):
        return "other word"
    return "JSON sign" if any(sign in '{}[]"' for sign in bare) else "punctuation"


@dataclass(frozen=True)
class Trace:
    """What a mixture's routers chose for each token of some conversations.

    tokens, kinds, tasks, texts: one entry a token; `texts` numbers the conversations. experts:
    (tokens, top_k) for each layer with a router; logits: (tokens, experts), likewise.
    """

    tokens: list[int]
    kinds: list[str]
    tasks: list[str]
    texts: list[int]
    experts: dict[int, torch.Tensor]
    logits: dict[int, torch.Tensor]

    def load(self, layer: int) -> torch.Tensor:
        """(experts,) each expert's share of the layer's choices; they sum to 1."""
        return shares(self.experts[layer], self.logits[layer].shape[1])

    def by(self, layer: int, keys: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """The load of each expert per kind of token (or other keys, one a token), in order."""
        keys = self.kinds if keys is None else keys
        order = [kind for kind in KINDS if kind in keys] or sorted(set(keys))
        places = {key: torch.tensor([key == k for k in keys]) for key in order}
        count = self.logits[layer].shape[1]
        return {key: shares(self.experts[layer][at], count) for key, at in places.items()}


def shares(experts: torch.Tensor, count: int) -> torch.Tensor:
    """(count,) each expert's share of these choices."""
    return experts.flatten().bincount(minlength=count) / experts.numel()


@torch.no_grad()
def watch(model: torch.nn.Module, reader, seen: Iterable) -> Trace:
    """Read conversations, right answers included, and note each router's choices.

    seen: instances of the harbour, or sightings for a model that reads pictures.
    """
    found, hooks = {n: [] for n in routers(model)}, []
    for number, router in routers(model).items():
        hooks.append(router.register_forward_hook(_noting(found[number])))
    tokens, tasks, texts = [], [], []
    try:
        for number, one in enumerate(seen):
            inputs = _inputs(model, reader, one)
            model(**inputs)
            ids = inputs["input_ids"][0].tolist()
            tokens += ids
            tasks += [one.task] * len(ids)
            texts += [number] * len(ids)
    finally:
        for hook in hooks:
            hook.remove()
    experts = {n: torch.cat([choice for choice, _ in rows]) for n, rows in found.items()}
    logits = {n: torch.cat([logit for _, logit in rows]) for n, rows in found.items()}
    return Trace(tokens, kinds(reader, tokens), tasks, texts, experts, logits)


def _noting(rows: list) -> Callable:
    def hook(router, _inputs, output):
        deepseek = isinstance(router, DeepseekV3TopkRouter)
        rows.append((chosen(router, output), output[0] if deepseek else output[1]))

    return hook


def _inputs(model, reader, one) -> dict:
    text = data.render(reader, one)
    if isinstance(one, pictures.Sighting):
        return dict(images.Processor(reader, images.Shape.of(model.config))(text, one.image))
    return dict(reader(text, return_tensors="pt"))


def predictability(trace: Trace, layer: int, keys: Sequence) -> float:
    """Share of a router's choices that can be told from a key alone, e.g. the token or the task.

    keys: one a token. Learned on every second conversation as the experts most often chosen for
    that key, as many as a token gets; measured on the others. A key not met before is told the
    busiest experts.
    """
    experts = trace.experts[layer].tolist()
    counts: dict = defaultdict(Counter)
    for key, text, mine in zip(keys, trace.texts, experts, strict=True):
        if text % 2 == 0:
            counts[key].update(mine)
            counts[None].update(mine)
    top = len(experts[0])
    told = {key: {e for e, _ in count.most_common(top)} for key, count in counts.items()}
    right = [
        len(told.get(key, told[None]).intersection(mine)) / top
        for key, text, mine in zip(keys, trace.texts, experts, strict=True)
        if text % 2
    ]
    return sum(right) / len(right)


# --- Many texts at once ---------------------------------------------------------------------------


def distinct_experts(
    trace: Trace, layer: int, texts: int, draws: int = 400, seed: int = 0
) -> float:
    """How many different experts a layer needs for one token each of `texts` texts, on average.

    The tokens are drawn from the trace.
    """
    dice = torch.Generator().manual_seed(seed)
    experts = trace.experts[layer]
    drawn = torch.randint(len(experts), (draws, texts), generator=dice)
    return sum(len(experts[row].unique()) for row in drawn) / draws


def expected(experts: int, top_k: int, texts: int) -> float:
    """The same where every expert is equally likely: experts × (1 - (1 - top_k / experts)^texts).

    Example: `expected(16, 1, 1)` is 1, `expected(16, 1, 16)` is 10.3.
    """
    return experts * (1 - (1 - top_k / experts) ** texts)


def step_bytes(config, texts: Sequence[int], kind: str = "q4_0") -> list[float]:
    """Bytes of weights read to write one more token in each of so many texts, for each number.

    What every token needs is read once, however many texts there are; experts are taken as equally
    likely. Without the caches. `kind`: as for `sizing.weight_bytes`.
    """
    text = config.get_text_config()
    count = getattr(text, "n_routed_experts", None) or text.num_local_experts
    top_k = text.num_experts_per_tok
    idle = sizing.parameters(config) - sizing.active_parameters(config)
    routed = sizing.weight_bytes(round(idle / (count - top_k)), kind)  # one expert of each layer
    alone = sizing.decode_bytes(config, 1, kind) - sizing.kv_cache_bytes(config, 1)
    return [alone + routed * (expected(count, top_k, n) - top_k) for n in texts]
