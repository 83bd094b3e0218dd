"""Write the parts of a Qwen2.5-VL that a plain Qwen2 does not have, under llama.cpp's names.

The text model is llama.cpp's architecture "qwen2vl": Qwen2 with three position numbers per token
(M-RoPE). The vision tower goes into a second file, the mmproj, with the projector
"qwen2.5vl_merger".
"""

import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from transformers import PreTrainedConfig

PREFIXES = ("model.visual.", "visual.")  # of the vision tower's tensors
MODEL_TYPE = "qwen2_5_vl"
WINDOW = 112  # pixels a side: llama.cpp computes with this window for every Qwen2.5-VL


def describe_text(writer: gguf.GGUFWriter, text: PreTrainedConfig) -> None:
    """Write how many rotary pairs turn with time, row and column (M-RoPE)."""
    sections = list(text.rope_parameters["mrope_section"])
    writer.add_rope_dimension_sections([*sections, 0])


def describe_vision(writer: gguf.GGUFWriter, config: PreTrainedConfig, home: Path) -> None:
    """Write the shape of the vision tower and what its pictures must look like.

    Raises ValueError for a tower that llama.cpp cannot compute: another window, or full attention
    in other blocks than each n-th.
    """
    vision = config.vision_config
    period = vision.fullatt_block_indexes[0] + 1
    expected = list(range(period - 1, vision.depth, period))
    if vision.window_size != WINDOW or list(vision.fullatt_block_indexes) != expected:
        raise ValueError(
            f"llama.cpp needs a window of {WINDOW} pixels and full attention in each {period}. "
            f"block; {home} has {vision.window_size} and {vision.fullatt_block_indexes}"
        )
    picture = json.loads((home / "preprocessor_config.json").read_text(encoding="utf-8"))
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN25VL)
    writer.add_vision_projection_dim(config.get_text_config().hidden_size)
    writer.add_vision_image_size(560)  # llama.cpp requires the key; pictures keep their own size
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_block_count(vision.depth)
    writer.add_vision_head_count(vision.num_heads)
    writer.add_vision_attention_layernorm_eps(1e-6)  # fixed in the library's code
    writer.add_vision_spatial_merge_size(vision.spatial_merge_size)
    writer.add_vision_n_wa_pattern(period)
    writer.add_vision_use_silu(True)
    writer.add_vision_image_mean(picture["image_mean"])
    writer.add_vision_image_std(picture["image_std"])
    writer.add_vision_min_pixels(picture["min_pixels"])
    writer.add_vision_max_pixels(picture["max_pixels"])


def vision_tensors(
    tensors: Iterator[tuple[str, np.ndarray]], blocks: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the vision tower's tensors under llama.cpp's names.

    One matrix for queries, keys and values becomes three; the patch embedding, a convolution over
    two frames, becomes one matrix per frame.
    """
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, blocks)
    for name, values in tensors:
        prefix = next((p for p in PREFIXES if name.startswith(p)), None)
        if prefix is None:
            continue
        name = "visual." + name.removeprefix(prefix)
        if name == "visual.patch_embed.proj.weight":  # (hidden, 3, frames, 14, 14)
            yield "v.patch_embd.weight", values[:, :, 0]
            yield "v.patch_embd.weight.1", values[:, :, 1]
        elif ".attn.qkv." in name:
            for part, matrix in zip("qkv", np.split(values, 3), strict=True):
                yield gguf_name_of(names, name.replace(".qkv.", f".{part}.")), matrix
        else:
            yield gguf_name_of(names, name), values


def gguf_name_of(names: gguf.TensorNameMap, name: str) -> str:
    """Return llama.cpp's name of a tensor. Raises ValueError if it has none."""
    gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if gguf_name is None:
        raise ValueError(f"llama.cpp has no name for the tensor {name}")
    return gguf_name
