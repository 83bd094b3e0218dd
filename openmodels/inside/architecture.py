"""Take a model apart: the tensors of its decoder layers, and which token attends to which.

A module tree on torch's meta device is enough: nothing here reads a weight.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig
from transformers.masking_utils import create_masks_for_generate


@dataclass(frozen=True)
class Part:
    """One tensor of a decoder layer, or all of the layer's norms together (shape ())."""

    group: str  # the layer's child that holds it, with its class: "mlp: MistralMLP"; "" for norms
    name: str  # inside that child, without ".weight"
    shape: tuple[int, ...]  # as stored; a Linear keeps (out, in)
    parameters: int


def decoder_layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    """Return the decoder layers of a language model, also inside a vision-language model.

    They are the `layers` next to the token embedding `embed_tokens`. Raises LookupError if there
    are none.
    """
    for module in model.modules():
        if hasattr(module, "embed_tokens") and hasattr(module, "layers"):
            return module.layers
    raise LookupError(f"{type(model).__name__} has no module with embed_tokens and layers")


def parts(layer: torch.nn.Module) -> list[Part]:
    """Return the tensors of one decoder layer, in the order of its module tree; norms come last.

    The parameters of the parts sum to those of the layer.
    """
    result, norms = [], []
    for child, module in layer.named_children():
        for name, tensor in module.named_parameters():
            if tensor.ndim == 1 and name.endswith("weight"):
                norms.append(tensor)
                continue
            group = f"{child}: {type(module).__name__}"
            short = name.removesuffix(".weight")
            short = child if short == "weight" else short
            result.append(Part(group, short, tuple(tensor.shape), tensor.numel()))
    vectors = sum(tensor.numel() for tensor in norms)
    return [*result, Part("", f"{len(norms)} norms", (), vectors)] if norms else result


def attention(model: torch.nn.Module, index: int) -> str:
    """Describe how layer `index` attends, e.g. "chunks of 8,192, RoPE"."""
    text, module = model.config.get_text_config(), decoder_layers(model)[index].self_attn
    kinds = getattr(text, "layer_types", None)
    kind = kinds[index] if kinds else _only_kind(text)
    view = {
        "full_attention": "full",
        "sliding_attention": f"window of {getattr(text, 'sliding_window', None) or 0:,}",
        "chunked_attention": f"chunks of {getattr(text, 'attention_chunk_size', None) or 0:,}",
    }[kind]
    return f"{view}, {'RoPE' if getattr(module, 'use_rope', True) else 'no RoPE'}"


def heads(config: PreTrainedConfig) -> str:
    """Describe the attention heads of a config, e.g. "96 query heads on 8 KV heads"."""
    text = config.get_text_config()
    if getattr(text, "kv_lora_rank", None):
        cached = f"one latent of {text.kv_lora_rank} + {text.qk_rope_head_dim}"
    else:
        cached = f"{text.num_key_value_heads} KV heads"
    return f"{text.num_attention_heads} query heads on {cached}"


def masks(
    config: PreTrainedConfig, tokens: int = 16, span: int | None = None
) -> dict[str, torch.Tensor]:
    """Return which token attends to which, per kind of layer, as transformers decides it.

    The values are boolean (tokens, tokens) tensors: row q is true at the tokens k that q attends
    to. `span`: a window or chunk of this many tokens instead of the config's, to show it on a short
    text. From `create_masks_for_generate` in transformers' masking_utils.py.
    """
    text = copy.deepcopy(config.get_text_config())
    text._attn_implementation = "eager"  # it always returns the whole mask
    for name in ("sliding_window", "attention_chunk_size"):
        if span and getattr(text, name, None):
            setattr(text, name, span)
    embeds = torch.zeros(1, tokens, 1)
    created = create_masks_for_generate(text, embeds, attention_mask=None, past_key_values=None)
    by_kind = created if isinstance(created, dict) else {_only_kind(text): created}
    return {kind: mask[0, 0] >= 0 for kind, mask in by_kind.items()}  # 0: visible, -max: masked


def reach(layers: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return which token can receive information from which after several layers.

    layers: the mask of each layer, lowest first. Masks and result: boolean (tokens, tokens). A
    token receives what the tokens it attends to have received. Raises ValueError without any mask.
    """
    reached = None
    for mask in layers:
        reached = mask if reached is None else (mask.float() @ reached.float()) > 0
    if reached is None:
        raise ValueError("reach needs the mask of at least one layer")
    return reached


def _only_kind(text: PreTrainedConfig) -> str:
    """Return the kind of every layer, for a config that does not list them."""
    if getattr(text, "sliding_window", None):
        return "sliding_attention"
    return "chunked_attention" if getattr(text, "attention_chunk_size", None) else "full_attention"
