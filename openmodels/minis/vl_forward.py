"""Qwen2.5-VL's forward pass for many pictures of one size, with the library's own weights.

The library computes each window of each picture apart, which is slow for a batch. Here a batch has
one size of picture, so windows are a mask and every product covers the whole batch. Results equal
the library's.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, Qwen2_5_VLForConditionalGeneration

from openmodels.minis.qwen_vl import MINI

EPS = 1e-6  # of the vision tower's norms, fixed in the library


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Return x divided by its root mean square over the last axis, times the weight."""
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps)


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return queries or keys, (..., length, head_dim), turned by their positions."""
    half = x.shape[-1] // 2
    back = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * cos.to(x.dtype) + back * sin.to(x.dtype)


@lru_cache(maxsize=256)
def grid(rows: int, columns: int, window: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ((patches, 2) rows and columns, (patches, patches) which share a window).

    rows, columns: of patches. window: patches a side. Patches are in the model's order: the four
    of a token follow each other.
    """
    m = MINI.merge_size
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([row, column], -1).view(rows // m, m, columns // m, m, 2)
    places = places.transpose(1, 2).reshape(-1, 2)
    windows = places // window
    same = (windows[:, None] == windows[None]).all(-1)
    return places.to(device), same.to(device)


def see(visual: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (pictures, tokens, width) for the text model and (pictures, patches, hidden) before.

    pixels: (pictures, height, width, 3), 0 to 255, height and width multiples of 28.
    """
    config = visual.config
    count, height, width, _ = pixels.shape
    rows, columns = height // config.patch_size, width // config.patch_size
    places, same = grid(rows, columns, config.window_size // config.patch_size, str(pixels.device))
    embed = visual.patch_embed.proj.weight
    x = F.linear(MINI.patches(pixels).to(embed.dtype), embed.flatten(1))
    x = x.view(count, rows * columns, -1).float()
    cos, sin = vision_angles(config, places)
    for number, block in enumerate(visual.blocks):
        mask = None if number in config.fullatt_block_indexes else same
        x = x + vision_attention(block.attn, norm(x, block.norm1.weight), cos, sin, mask)
        h, mlp = norm(x, block.norm2.weight), block.mlp
        x = x + mlp.down_proj(F.silu(mlp.gate_proj(h)) * mlp.up_proj(h))
    merged = norm(x, visual.merger.ln_q.weight).view(count, rows * columns // 4, -1)
    return visual.merger.mlp(merged), x


def vision_angles(
    config: PreTrainedConfig, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (patches, head_dim) cosines and sines: half of the pairs turn by row."""
    half = config.hidden_size // config.num_heads // 2
    steps = torch.arange(0, half, 2, device=places.device, dtype=torch.float)
    inverse = 1.0 / (10_000.0 ** (steps / half))
    angles = (places[:, :, None].float() * inverse).flatten(1)  # (patches, head_dim / 2)
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def vision_attention(attention: nn.Module, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
                     mask: torch.Tensor | None) -> torch.Tensor:  # fmt: skip
    """Return attention's output for (pictures, patches, hidden); mask: which patches see which."""
    count, length, _ = x.shape
    qkv = attention.qkv(x).view(count, length, 3, attention.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (pictures, heads, patches, head_dim)
    out = F.scaled_dot_product_attention(turn(q, cos, sin), turn(k, cos, sin), v, attn_mask=mask)
    return attention.proj(out.transpose(1, 2).reshape(count, length, -1))


@dataclass
class Cache:
    """Keys and values of each layer, (rows, heads, length, head_dim), and which are real."""

    valid: torch.Tensor  # (rows, length)
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


def read(language: nn.Module, x: torch.Tensor, positions: torch.Tensor,
         cache: Cache | None = None) -> torch.Tensor:  # fmt: skip
    """Return the text model's last hidden states, (rows, length, hidden).

    x: (rows, length, hidden) embeddings. positions: (3, rows, length), of time, row and column.
    cache: filled and extended; its `valid` covers what was read before and x itself.
    """
    config = language.config
    cos, sin = text_angles(config, positions)
    mask = None
    if cache is not None:
        length, total = x.shape[1], cache.valid.shape[1]
        causal = torch.ones(length, total, dtype=torch.bool, device=x.device).tril(total - length)
        mask = causal & cache.valid[:, None, None, :]
        # a row of padding sees itself, so that no row of the softmax is empty
        mask = mask | torch.eye(total, dtype=torch.bool, device=x.device)[-length:]
    for number, layer in enumerate(language.layers):
        h = norm(x, layer.input_layernorm.weight, config.rms_norm_eps)
        x = x + text_attention(layer.self_attn, h, cos, sin, mask, cache, number)
        h, mlp = norm(x, layer.post_attention_layernorm.weight, config.rms_norm_eps), layer.mlp
        x = x + mlp.down_proj(F.silu(mlp.gate_proj(h)) * mlp.up_proj(h))
    return norm(x, language.norm.weight, config.rms_norm_eps)


def text_angles(
    config: PreTrainedConfig, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (rows, 1, length, head_dim) cosines and sines of M-RoPE."""
    width = config.hidden_size // config.num_attention_heads
    steps = torch.arange(0, width, 2, device=positions.device, dtype=torch.float) / width
    inverse = 1.0 / (config.rope_parameters["rope_theta"] ** steps)
    angles = positions[..., None].float() * inverse  # (3, rows, length, width / 2)
    parts = angles.split(list(config.rope_parameters["mrope_section"]), -1)
    angles = torch.cat([part[n] for n, part in enumerate(parts)], -1)
    angles = torch.cat([angles, angles], -1)[:, None]
    return angles.cos(), angles.sin()


def text_attention(
    attention: nn.Module, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
    mask: torch.Tensor | None, cache: Cache | None, number: int,
) -> torch.Tensor:  # fmt: skip
    """Return attention's output; without a mask it is causal. number: of the layer."""
    rows, length, _ = x.shape
    width = attention.head_dim
    q, k, v = (
        project(x).view(rows, length, -1, width).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    q, k = turn(q, cos, sin), turn(k, cos, sin)
    if cache is not None:
        if number in cache.layers:
            before_k, before_v = cache.layers[number]
            k, v = torch.cat([before_k, k], 2), torch.cat([before_v, v], 2)
        cache.layers[number] = k, v
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return attention.o_proj(out.transpose(1, 2).reshape(rows, length, -1))


def embed(model: Qwen2_5_VLForConditionalGeneration, ids: torch.Tensor,
          seen: torch.Tensor | None) -> torch.Tensor:  # fmt: skip
    """Return (rows, length, hidden): token embeddings, with pictures at their places.

    ids: (rows, length). seen: (rows, tokens, hidden), one picture per row, or None.
    """
    x = F.embedding(ids, model.model.language_model.embed_tokens.weight).float()
    if seen is None:
        return x
    place = (ids == model.config.image_token_id)[..., None]
    return x.masked_scatter(place, seen.float())


def logits(model: Qwen2_5_VLForConditionalGeneration, hidden: torch.Tensor) -> torch.Tensor:
    """Return float32 scores of the vocabulary, with the embeddings as the output matrix."""
    return F.linear(hidden, model.model.language_model.embed_tokens.weight).float()


@torch.no_grad()
def generate(model: Qwen2_5_VLForConditionalGeneration, pixels: torch.Tensor | None,
             ids: torch.Tensor, valid: torch.Tensor, positions: torch.Tensor, longest: int,
             end: int) -> list[list[int]]:  # fmt: skip
    """Return the greedy continuation of each row, without the token that ends it.

    pixels: one picture per row. ids, valid: (rows, length), padded on the left. positions:
    (3, rows, length).
    """
    language = model.model.language_model
    seen = see(model.model.visual, pixels)[0] if pixels is not None else None
    cache = Cache(valid)
    hidden = read(language, embed(model, ids, seen), positions, cache)
    following = positions[:, :, -1:].amax(0, keepdim=True).expand(3, -1, -1) + 1
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    written = []
    for step in range(longest):
        token = logits(model, hidden[:, -1:]).argmax(-1)  # (rows, 1)
        done |= token[:, 0] == end
        written.append(token)
        if step % 8 == 7 and bool(done.all()):
            break
        cache.valid = F.pad(cache.valid, (0, 1), value=True)
        hidden = read(language, embed(model, token, None), following, cache)
        following = following + 1
    rows = torch.cat(written, 1).tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]
