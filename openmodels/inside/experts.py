"""Observe a mixture of experts: which experts a token selects, and the loss without one.

The library's own routers are read through hooks; those of DeepSeek-V3 and Llama 4 are supported.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.llama4.modeling_llama4 import Llama4Router

from openmodels import sizing
from openmodels.harbour import Instance, pictures
from openmodels.harbour.world import GOODS, NAMES
from openmodels.inside import architecture
from openmodels.minis import data, images, tokenizer

KINDS = (
    "digit", "name", "goods", "other word", "Chinese", "punctuation", "JSON sign", "space",
    "chat markup", "picture",
)  # fmt: skip
GOODS_WORDS = {*GOODS, *(plural for plural, *_ in GOODS.values())}
CHINESE = re.compile("[\u3000-\u9fff\ufffd]")  # \ufffd: part of a character


# --- Routers --------------------------------------------------------------------------------------


def routers(model: torch.nn.Module) -> dict[int, torch.nn.Module]:
    """Return the routers of a mixture by layer number, counted from 1.

    Raises LookupError for a model without a router that is supported here.
    """
    result = {}
    for number, layer in enumerate(architecture.decoder_layers(model), start=1):
        for module in layer.modules():
            if isinstance(module, (DeepseekV3TopkRouter, Llama4Router)):
                result[number] = module
    if not result:
        raise LookupError(f"{type(model).__name__} has no router that is supported here")
    return result


def chosen(router: torch.nn.Module, output: tuple) -> torch.Tensor:
    """Return the selected experts, (tokens, top_k), from a router's output."""
    if isinstance(router, DeepseekV3TopkRouter):
        return output[2]  # (logits, weights, experts)
    return output[1].topk(router.top_k, dim=1).indices  # (scores, logits)


def route(
    router: torch.nn.Module, logits: torch.Tensor, off: Sequence[int] = (), bias: bool = True
) -> tuple:
    """Return a router's output for these logits, with the experts in `off` disabled.

    logits: (tokens, experts). A token whose expert is disabled gets its next best expert. `bias`:
    apply DeepSeek's bias to the choice; Llama 4 has none. As in transformers' modeling files, and
    equal to them if no expert is disabled.
    """
    disabled = list(off)
    if isinstance(router, Llama4Router):
        logits = logits.index_fill(1, torch.tensor(disabled, dtype=torch.long), float("-inf"))
        value, experts = logits.topk(router.top_k, dim=1)
        scores = torch.full_like(logits, float("-inf")).scatter(1, experts, value)
        return scores.sigmoid(), logits
    scores = logits.sigmoid()
    choice = scores + router.e_score_correction_bias * bias
    choice[:, disabled] = 0  # its group loses a member but stays eligible
    groups = choice.view(len(choice), router.num_group, -1)
    best_groups = groups.topk(2, dim=-1).values.sum(-1).topk(router.topk_group).indices
    closed_groups = torch.ones_like(groups[..., 0], dtype=torch.bool).scatter(1, best_groups, False)
    choice = choice.masked_fill(closed_groups.repeat_interleave(groups.shape[-1], 1), float("-inf"))
    choice[:, disabled] = float("-inf")
    experts = choice.topk(router.top_k, dim=1, sorted=False).indices
    weights = scores.gather(1, experts)
    if router.norm_topk_prob:
        weights = weights / (weights.sum(1, keepdim=True) + 1e-20)
    return logits, weights * router.routed_scaling_factor, experts


@contextmanager
def without(model: torch.nn.Module, *experts: tuple[int, int]) -> Iterator[None]:
    """Disable experts, given as (layer, expert), within the context.

    Layers count from 1, experts from 0. Raises ValueError if a layer would have too few experts.
    """
    disabled = defaultdict(list)
    for layer, expert in experts:
        disabled[layer].append(expert)
    hooks = []
    for layer, router in routers(model).items():
        if router.num_experts - len(disabled[layer]) < router.top_k:
            raise ValueError(f"layer {layer} needs {router.top_k} experts per token; disable fewer")
        if disabled[layer]:
            hooks.append(router.register_forward_hook(_rerouted(disabled[layer])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _rerouted(disabled: list[int]) -> Callable:
    def hook(router, _inputs, output):
        deepseek = isinstance(router, DeepseekV3TopkRouter)
        return route(router, output[0] if deepseek else output[1], disabled)

    return hook


# --- Watching -------------------------------------------------------------------------------------


def kinds(reader: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Return the kind of each token, one of KINDS. The role after <|im_start|> is chat markup."""
    result = []
    for position, token in enumerate(ids):
        role = position and reader.convert_ids_to_tokens(ids[position - 1]) == tokenizer.SPECIAL[1]
        result.append("chat markup" if role else _kind(reader.decode([token])))
    return result


def _kind(text: str) -> str:
    stripped = text.strip()
    if text in images.TOKENS:
        return "picture"
    if text in tokenizer.SPECIAL + tokenizer.MARKERS or (not stripped and "\n" in text):
        return "chat markup"
    if not stripped:
        return "space"
    if stripped.isdecimal():
        return "digit"
    if stripped in NAMES:
        return "name"
    if CHINESE.search(stripped):
        return "Chinese"
    if stripped.lower() in GOODS_WORDS:
        return "goods"
    if any(letter.isalpha() for letter in stripped):
        return "other word"
    return "JSON sign" if any(sign in '{}[]"' for sign in stripped) else "punctuation"


@dataclass(frozen=True)
class Trace:
    """What a mixture's routers selected for each token of some conversations.

    tokens, kinds, tasks, texts: one entry per token; `texts` numbers the conversations. experts:
    (tokens, top_k) for each layer with a router; logits: (tokens, experts) for each.
    """

    tokens: list[int]
    kinds: list[str]
    tasks: list[str]
    texts: list[int]
    experts: dict[int, torch.Tensor]
    logits: dict[int, torch.Tensor]

    def load(self, layer: int) -> torch.Tensor:
        """Return each expert's share of the layer's choices, (experts,); the sum is 1."""
        return shares(self.experts[layer], self.logits[layer].shape[1])

    def by(self, layer: int, keys: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """Return the load of each expert per kind of token (or per other keys, one per token)."""
        keys = self.kinds if keys is None else keys
        order = [kind for kind in KINDS if kind in keys] or sorted(set(keys))
        masks = {key: torch.tensor([key == k for k in keys]) for key in order}
        count = self.logits[layer].shape[1]
        return {key: shares(self.experts[layer][mask], count) for key, mask in masks.items()}


def shares(experts: torch.Tensor, count: int) -> torch.Tensor:
    """Return each expert's share of these choices, (count,)."""
    return experts.flatten().bincount(minlength=count) / experts.numel()


@torch.no_grad()
def watch(
    model: torch.nn.Module,
    reader: PreTrainedTokenizerBase,
    samples: Iterable[Instance | pictures.Sighting],
) -> Trace:
    """Run a model on conversations with their answers and record each router's choices.

    samples: instances of the harbour, or sightings for a model with vision.
    """
    rows, hooks = {n: [] for n in routers(model)}, []
    for number, router in routers(model).items():
        hooks.append(router.register_forward_hook(_noting(rows[number])))
    tokens, tasks, texts = [], [], []
    try:
        for number, sample in enumerate(samples):
            inputs = _inputs(model, reader, sample)
            model(**inputs)
            ids = inputs["input_ids"][0].tolist()
            tokens += ids
            tasks += [sample.task] * len(ids)
            texts += [number] * len(ids)
    finally:
        for hook in hooks:
            hook.remove()
    experts = {n: torch.cat([choice for choice, _ in layer_rows]) for n, layer_rows in rows.items()}
    logits = {n: torch.cat([logit for _, logit in layer_rows]) for n, layer_rows in rows.items()}
    return Trace(tokens, kinds(reader, tokens), tasks, texts, experts, logits)


def _noting(rows: list) -> Callable:
    def hook(router, _inputs, output):
        deepseek = isinstance(router, DeepseekV3TopkRouter)
        rows.append((chosen(router, output), output[0] if deepseek else output[1]))

    return hook


def _inputs(
    model: torch.nn.Module, reader: PreTrainedTokenizerBase, sample: Instance | pictures.Sighting
) -> dict:
    text = data.render(reader, sample)
    if isinstance(sample, pictures.Sighting):
        return dict(images.Processor(reader, images.Shape.of(model.config))(text, sample.image))
    return dict(reader(text, return_tensors="pt"))


def predictability(trace: Trace, layer: int, keys: Sequence) -> float:
    """Return the share of a router's choices that a key predicts, e.g. the token or the task.

    keys: one per token. The table is fitted on every second conversation: for each key, the experts
    selected most often, as many as a token gets. It is scored on the other conversations. For an
    unknown key it predicts the busiest experts.
    """
    experts = trace.experts[layer].tolist()
    counts: dict = defaultdict(Counter)
    for key, text, selected in zip(keys, trace.texts, experts, strict=True):
        if text % 2 == 0:
            counts[key].update(selected)
            counts[None].update(selected)
    top_k = len(experts[0])
    table = {key: {e for e, _ in count.most_common(top_k)} for key, count in counts.items()}
    hits = [
        len(table.get(key, table[None]).intersection(selected)) / top_k
        for key, text, selected in zip(keys, trace.texts, experts, strict=True)
        if text % 2
    ]
    return sum(hits) / len(hits)


# --- Many texts at once ---------------------------------------------------------------------------


def distinct_experts(
    trace: Trace, layer: int, texts: int, draws: int = 400, seed: int = 0
) -> float:
    """Return the mean number of different experts a layer uses for one token of each text.

    The tokens of the `texts` texts are sampled from the trace, `draws` times.
    """
    generator = torch.Generator().manual_seed(seed)
    experts = trace.experts[layer]
    sampled = torch.randint(len(experts), (draws, texts), generator=generator)
    return sum(len(experts[row].unique()) for row in sampled) / draws


def expected(experts: int, top_k: int, texts: int) -> float:
    """Return the same if experts are equally likely: experts × (1 - (1 - top_k / experts)^texts).

    Example: `expected(16, 1, 1)` is 1, `expected(16, 1, 16)` is 10.3.
    """
    return experts * (1 - (1 - top_k / experts) ** texts)


def step_bytes(config: PreTrainedConfig, texts: Sequence[int], kind: str = "q4_0") -> list[float]:
    """Return the bytes of weights read to decode one token in each text, for each batch size.

    Weights that every token uses are read once per batch; experts are assumed to be equally likely.
    KV caches are not included. `kind`: as for `sizing.weight_bytes`.
    """
    text = config.get_text_config()
    count = getattr(text, "n_routed_experts", None) or text.num_local_experts
    top_k = text.num_experts_per_tok
    idle = sizing.parameters(config) - sizing.active_parameters(config)
    routed = sizing.weight_bytes(round(idle / (count - top_k)), kind)  # one expert of each layer
    single = sizing.decode_bytes(config, 1, kind) - sizing.kv_cache_bytes(config, 1)
    return [single + routed * (expected(count, top_k, n) - top_k) for n in texts]
