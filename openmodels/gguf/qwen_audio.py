"""Write the sound encoder of a Qwen2-Audio under llama.cpp's names, as the second file, the mmproj.

The text model is a plain Qwen2 (llama.cpp's architecture "qwen2"). The encoder is Whisper's, with
the projector "qwen2a". llama.cpp computes the log-mel features itself; the file only states how
many mel bins there are.
"""

from collections.abc import Iterator

import gguf
import numpy as np
from transformers import PreTrainedConfig

MODEL_TYPE = "qwen2_audio"
PREFIXES = ("audio_tower.", "model.audio_tower.", "multi_modal_projector.")  # of its tensors
POSITIONS = 1500  # half of the 3,000 mel frames of 30 s
LAYER_NORM_EPSILON = 1e-5  # torch's default, which the library's encoder uses


def describe_audio(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    """Write the shape of the sound encoder.

    Raises ValueError for an encoder that llama.cpp cannot compute: fewer positions than 30 s need,
    or scaled embeddings.
    """
    encoder = config.audio_config
    if encoder.max_source_positions < POSITIONS or encoder.scale_embedding:
        raise ValueError(
            f"llama.cpp needs {POSITIONS} positions, and embeddings without a scale, not "
            f"{encoder.max_source_positions} and scale_embedding={encoder.scale_embedding}"
        )
    writer.add_clip_has_audio_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN2A)
    writer.add_audio_projection_dim(config.get_text_config().hidden_size)
    writer.add_audio_num_mel_bins(encoder.num_mel_bins)
    writer.add_audio_embedding_length(encoder.d_model)
    writer.add_audio_feed_forward_length(encoder.encoder_ffn_dim)
    writer.add_audio_block_count(encoder.encoder_layers)
    writer.add_audio_head_count(encoder.encoder_attention_heads)
    writer.add_audio_attention_layernorm_eps(LAYER_NORM_EPSILON)


def audio_tensors(
    tensors: Iterator[tuple[str, np.ndarray]], blocks: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the encoder's and projector's tensors under llama.cpp's names.

    The biases of the two convolutions become columns, shape (channels, 1). Raises ValueError for a
    tensor without a name.
    """
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, blocks)
    for name, values in tensors:
        if not name.startswith(PREFIXES):
            continue
        name = name.removeprefix("model.")
        if name.startswith("multi_modal_projector.linear."):
            yield name.replace("multi_modal_projector.linear", "mm.a.fc"), values
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise ValueError(f"llama.cpp has no name for the tensor {name}")
        column = known.startswith("a.conv1d.") and values.ndim == 1
        yield known, values[:, None] if column else values


def tensor_kind(name: str, kind: str) -> str:
    """Return the kind that llama.cpp needs for a tensor in a file of another kind."""
    if name.startswith("a.conv1d."):
        return "f16" if name.endswith(".weight") else "f32"
    return "f32" if name == "a.position_embd.weight" else kind
