"""mini-qwen-audio: Qwen2-Audio in small. Its shape, tokenizer, features and forward pass.

The classes are transformers' own. What stands here is what training needs beside them: log-mel
features on any device, an encoder pass for windows shorter than 30 seconds, and rows that mix text
with the sound's vectors. Sound reaches the text model in one of two ways: `masked`, as transformers
does it (about 25 tokens a second of sound), or `full`, as llama.cpp does it (750 tokens for each
started 30 seconds, silence included).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import AddedToken
from transformers import (
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2Tokenizer,
    WhisperFeatureExtractor,
)

from openmodels.minis import configs, tokenizer

START, AUDIO, END = TOKENS = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
RATE = 16_000
HOP = 160  # samples between two mel frames
WINDOW = 3000  # mel frames of 30 s
FULL = 750  # tokens of a full window: two convolution steps and a pooling step of two each
MEL_BINS = 128
# The smallest power of a mel bin. Silence becomes -1.5 everywhere with the first, -0.806 with the
# second, so a model must have heard both.
LIBRARY_FLOOR, LLAMA_FLOOR = 1e-10, 2.0**-24
# Sounds as parts of a message, numbered as in Qwen2-Audio's template
PARTS = """\
{%- set sounds = namespace(count=0) %}
{%- macro words(content) %}
    {%- if content is string %}
        {%- for piece in content.split("<__media_") %}
            {%- if loop.first %}
                {{- piece }}
            {%- else %}
                {%- set sounds.count = sounds.count + 1 %}
                {%- set bits = piece.split("__>") %}
                {{- "Audio " ~ sounds.count ~ ": <__media_" ~ bits[0] ~ "__>\\n" }}
                {{- bits[1:] | join("__>") }}
            {%- endif %}
        {%- endfor %}
    {%- else %}
        {%- for part in content or [] %}
            {%- if part.type in ("audio", "input_audio") or "audio_url" in part %}
                {%- set sounds.count = sounds.count + 1 %}
                {{- "Audio " ~ sounds.count ~ ": <|audio_bos|><|AUDIO|><|audio_eos|>\\n" }}
            {%- else %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
"""


def load_tokenizer() -> Qwen2Tokenizer:
    """Return the shared tokenizer with Qwen2-Audio's audio tokens after its own entries."""
    audio_tokenizer = tokenizer.load()
    audio_tokenizer.add_tokens([AddedToken(token, special=True) for token in TOKENS])
    shared = audio_tokenizer.chat_template
    audio_tokenizer.chat_template = PARTS + re.sub(
        r"message(s\[0\])?\.content", r"words(message\g<1>.content)", shared
    )
    audio_tokenizer.model_max_length = 2048
    return audio_tokenizer


def config(parent: str = "mini-qwen-s") -> Qwen2AudioConfig:
    """Return the miniature's configuration; its text part is that of `parent`, a miniature."""
    text = configs.config(parent)
    text.vocab_size += len(TOKENS)
    text.max_position_embeddings = 2048
    text.tie_word_embeddings = False
    encoder = Qwen2AudioEncoderConfig(
        d_model=192,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=576,
        num_mel_bins=MEL_BINS,
        max_source_positions=WINDOW // 2,
        init_std=0.02,
    )
    return Qwen2AudioConfig(
        architectures=["Qwen2AudioForConditionalGeneration"],
        audio_config=encoder,
        text_config=text,
        audio_token_index=text.vocab_size - 2,
    )


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Return Whisper's positions, shape (length, width) (Radford et al. 2022, section 2.2)."""
    scale = np.log(10_000) / (width // 2 - 1)
    rates = torch.exp(-scale * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@dataclass
class Parts:
    """A Qwen2-Audio model's modules, wherever this version of transformers keeps them."""

    encoder: torch.nn.Module
    projector: torch.nn.Module
    text: torch.nn.Module
    head: torch.nn.Module

    @classmethod
    def of(cls, model: Qwen2AudioForConditionalGeneration) -> Parts:
        """Return the modules of a model."""
        body = getattr(model, "model", model)
        text = body.language_model
        head = model.lm_head if hasattr(model, "lm_head") else text.lm_head
        text = text.model if hasattr(text, "lm_head") else text
        return cls(body.audio_tower, body.multi_modal_projector, text, head)


def new_model(parent: torch.nn.Module) -> Qwen2AudioForConditionalGeneration:
    """Return an untrained miniature (float32) whose text part has the weights of `parent`.

    parent: a Qwen2ForCausalLM with the miniature's text shape. New tokens start at the mean
    embedding; the positions of the encoder are Whisper's sinusoids.
    """
    model = Qwen2AudioForConditionalGeneration(config())
    parts, vocabulary = Parts.of(model), parent.config.vocab_size
    with torch.no_grad():
        weights = {k: v for k, v in parent.model.state_dict().items() if "embed_tokens" not in k}
        parts.text.load_state_dict(weights, strict=False)
        table = parts.text.embed_tokens.weight
        table[:vocabulary] = parent.model.embed_tokens.weight
        table[vocabulary:] = parent.model.embed_tokens.weight.mean(0)
        parts.head.weight.copy_(table)  # a matrix of its own, as in Qwen2-Audio
        positions = parts.encoder.embed_positions.weight
        positions.copy_(sinusoids(*positions.shape))
    return model


# --- From samples to vectors ----------------------------------------------------------------------


class LogMel(torch.nn.Module):
    """Log-mel features as `WhisperFeatureExtractor` computes them, on any device and in batches."""

    def __init__(self) -> None:
        super().__init__()
        library = WhisperFeatureExtractor(feature_size=MEL_BINS, sampling_rate=RATE)
        filters = torch.tensor(np.asarray(library.mel_filters), dtype=torch.float32)
        self.register_buffer("filters", filters.T.contiguous())  # (mel bins, 201)
        self.register_buffer("window", torch.hann_window(400))

    def forward(self, samples: torch.Tensor, floor: float = LIBRARY_FLOOR) -> torch.Tensor:
        """Return features, shape (batch, mel bins, frames), of samples (batch, frames * 160).

        floor: the smallest power of a mel bin: transformers' LIBRARY_FLOOR, or llama.cpp's
        LLAMA_FLOOR.
        """
        spectrum = torch.stft(samples, 400, HOP, window=self.window, return_complex=True)
        power = spectrum[..., :-1].abs() ** 2
        mel = (self.filters @ power).clamp(min=floor).log10()
        mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0)
        return (mel + 4.0) / 4.0


def token_count(frames: torch.Tensor) -> torch.Tensor:
    """Return how many tokens so many mel frames become in transformers' masked form."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def encode(
    parts: Parts, features: torch.Tensor, frames: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the text model's vectors for sounds, and the encoder's last layer before pooling.

    features: (batch, mel bins, frames), at most 3,000 frames. frames: valid mel frames of each
    sound, masked beyond them; None for no mask. Shapes (batch, frames // 4, hidden) and
    (batch, frames // 2, encoder width). The library's encoder takes windows of 3,000 frames only.
    """
    encoder = parts.encoder
    gelu = torch.nn.functional.gelu
    hidden = gelu(encoder.conv2(gelu(encoder.conv1(features)))).transpose(1, 2)
    size = hidden.shape[1]
    hidden = hidden + encoder.embed_positions.weight[:size]
    mask = None
    if frames is not None:
        valid = torch.arange(size, device=hidden.device) < ((frames - 1) // 2 + 1)[:, None]
        mask = torch.zeros(valid.shape, dtype=hidden.dtype, device=hidden.device)
        mask = mask.masked_fill(~valid, -1e4)[:, None, None, :]
        mask = mask.expand(-1, 1, size, -1)
    for layer in encoder.layers:
        output = layer(hidden, mask)
        hidden = output[0] if isinstance(output, tuple) else output
    pooled = encoder.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2)
    return parts.projector(encoder.layer_norm(pooled)), hidden


def rows(prompts: Sequence[tuple[list[int], list[int], list[int]]], counts: Sequence[int],
         audio: int, pad: int) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return padded token ids and targets, both (batch, seq); targets are -100 but in answers.

    prompts: (before the sound, after it, answer) of each row. counts: audio tokens of each.
    """
    lines = [
        (before + [audio] * count + after, answer)
        for (before, after, answer), count in zip(prompts, counts, strict=True)
    ]
    longest = max(len(prompt) + len(answer) for prompt, answer in lines)
    ids = torch.full((len(lines), longest), pad)
    targets = torch.full((len(lines), longest), -100)
    for row, (prompt, answer) in enumerate(lines):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        targets[row, len(prompt) : end] = torch.tensor(answer)
    return ids, targets


def embed(parts: Parts, ids: torch.Tensor, vectors: torch.Tensor, counts: torch.Tensor,
          audio: int) -> torch.Tensor:  # fmt: skip
    """Return input embeddings (batch, seq, hidden) with sound vectors at the audio tokens.

    vectors: (batch, longest, hidden), of which the first `counts` of each row are used.
    """
    table = parts.text.embed_tokens(ids.clamp(max=parts.text.embed_tokens.num_embeddings - 1))
    used = torch.arange(vectors.shape[1], device=ids.device) < counts[:, None]
    return table.masked_scatter((ids == audio)[..., None], vectors[used].to(table.dtype))
