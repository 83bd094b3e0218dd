"""Pictures for a model of Qwen2.5-VL's class: PIL images to patches and placeholder tokens.

A picture keeps its shape: it is resized to whole squares of 28 x 28 pixels, and each square
becomes one token. The library's processor needs torchvision for its video half; this one gives the
same tensors for pictures.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    BatchFeature,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
)

from openmodels.minis.images import CONFIG, as_rgb

START, END, PLACE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
TOKENS = (START, END, PLACE, VIDEO)  # after the shared tokenizer's entries, in this order
MARK = START + PLACE + END  # what the chat template writes for a picture
SQUARE = 28  # pixels a side of what becomes one token: 2 x 2 patches of 14
MODEL_TYPE = "qwen2_5_vl"  # in config.json
LONGEST_RATIO = 200  # of the longer to the shorter side, as in the library


@dataclass(frozen=True)
class Shape:
    """What a picture becomes. patch_size: pixels a side; merge_size: patches a side per token.

    min_pixels, max_pixels: a picture with fewer or more is scaled up or down. mean, std: per
    channel, for values from 0 to 1 (CLIP's, as in the full-size model).
    """

    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    min_pixels: int = 8 * SQUARE**2
    max_pixels: int = 256 * SQUARE**2
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) after resizing: multiples of 28 within the limits of pixels.

        Raises ValueError for a picture more than 200 times as long as it is wide.
        """
        if max(width, height) > LONGEST_RATIO * min(width, height):
            raise ValueError(
                f"a picture of {width} x {height} pixels: one side is more than "
                f"{LONGEST_RATIO} times the other"
            )
        unit = self.patch_size * self.merge_size
        across, down = round(width / unit) * unit, round(height / unit) * unit
        if across * down > self.max_pixels:
            scale = sqrt(width * height / self.max_pixels)
            across = max(unit, floor(width / scale / unit) * unit)
            down = max(unit, floor(height / scale / unit) * unit)
        elif across * down < self.min_pixels:
            scale = sqrt(self.min_pixels / (width * height))
            across = ceil(width * scale / unit) * unit
            down = ceil(height * scale / unit) * unit
        return across, down

    def tokens(self, width: int, height: int) -> int:
        """Return how many tokens a picture of this size costs, without its two markers."""
        across, down = self.size(width, height)
        return across * down // (self.patch_size * self.merge_size) ** 2

    def resize(self, image: Image.Image | str | Path) -> Image.Image:
        """Return the picture in RGB and in the size the model reads (bicubic, as the library)."""
        picture = as_rgb(image)
        size = self.size(*picture.size)
        return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float32 pixels around 0 from (..., height, width, 3) of 0 to 255."""
        mean = torch.tensor(self.mean, device=pixels.device)
        std = torch.tensor(self.std, device=pixels.device)
        return (pixels.float() / 255 - mean) / std

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (pictures * patches, 3 * 2 * 14 * 14) from (pictures, height, width, 3), 0-255.

        The four patches of a token follow each other; a picture is two equal frames.
        """
        p, m, frames = self.patch_size, self.merge_size, self.temporal_patch_size
        count, height, width, _ = pixels.shape
        x = self.normalise(pixels)
        x = x.view(count, height // p // m, m, p, width // p // m, m, p, 3)
        x = x.permute(0, 1, 4, 2, 5, 7, 3, 6)  # (n, rows, columns, m, m, 3, p, p)
        x = x.unsqueeze(6).expand(*x.shape[:6], frames, p, p)
        return x.reshape(-1, 3 * frames * p * p)

    def expand(self, text: str, counts: Sequence[int]) -> str:
        """Return the text with each <|image_pad|> repeated once per token of its picture.

        counts: tokens of each picture, in order. Raises ValueError unless the text has exactly as
        many places.
        """
        parts = text.split(PLACE)
        if len(parts) - 1 != len(counts):
            raise ValueError(
                f"the text has {len(parts) - 1} place(s) for a picture ({MARK}), but "
                f"{len(counts)} picture(s) came with it"
            )
        pads = [PLACE * count for count in counts]
        return parts[0] + "".join(pad + part for pad, part in zip(pads, parts[1:], strict=True))


MINI = Shape()


@dataclass(frozen=True)
class Processor:
    """Chat text and pictures to a model's inputs; called like a processor of transformers."""

    tokenizer: PreTrainedTokenizerBase
    shape: Shape = MINI

    def __call__(
        self, text: str | Sequence[str], images: Sequence[Image.Image | str | Path]
        | Image.Image | str | Path | None = None, return_tensors: str = "pt",
    ) -> BatchFeature:  # fmt: skip
        """Return input_ids, attention_mask and mm_token_type_ids, (texts, length), left-padded.

        With pictures also pixel_values, (all patches, 1176), and image_grid_thw, (pictures, 3):
        frames, rows and columns of patches. Raises ValueError if places and pictures differ in
        number, and for pictures that cannot be read.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors={return_tensors!r}: only 'pt' is supported")
        texts = [text] if isinstance(text, str) else list(text)
        if images is None:
            images = []
        elif isinstance(images, (Image.Image, str, Path)):
            images = [images]
        pictures = [self.shape.resize(image) for image in images]
        whole = "\0".join(texts)
        counts = [self.shape.tokens(*picture.size) for picture in pictures]
        encoded = self.tokenizer(
            self.shape.expand(whole, counts).split("\0"),
            return_tensors="pt", padding=True, padding_side="left",
        )  # fmt: skip
        inputs = {key: encoded[key] for key in ("input_ids", "attention_mask")}
        place = self.tokenizer.convert_tokens_to_ids(PLACE)
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == place).int()
        if pictures:
            pixels = [torch.from_numpy(np.array(picture))[None] for picture in pictures]
            inputs["pixel_values"] = torch.cat([self.shape.patches(p) for p in pixels])
            p = self.shape.patch_size
            grids = [[1, picture.height // p, picture.width // p] for picture in pictures]
            inputs["image_grid_thw"] = torch.tensor(grids)
        return BatchFeature(inputs)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer and preprocessor_config.json, under the library's names."""
        self.tokenizer.save_pretrained(folder)
        s = self.shape
        fields = {
            "image_processor_type": "Qwen2VLImageProcessor",
            "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
            "resample": 3, "rescale_factor": 1 / 255, "image_mean": s.mean, "image_std": s.std,
            "min_pixels": s.min_pixels, "max_pixels": s.max_pixels,
            "patch_size": s.patch_size, "temporal_patch_size": s.temporal_patch_size,
            "merge_size": s.merge_size,
        }  # fmt: skip
        (Path(folder) / CONFIG).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Processor":
        """Return the processor of a folder. Raises FileNotFoundError without its config."""
        fields = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        shape = Shape(
            fields["patch_size"], fields["merge_size"], fields["temporal_patch_size"],
            fields["min_pixels"], fields["max_pixels"],
            tuple(fields["image_mean"]), tuple(fields["image_std"]),
        )  # fmt: skip
        return cls(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), shape)


def config(text: dict, vocabulary: int, depth: int = 6, hidden: int = 192, heads: int = 4,
           intermediate: int = 512, full_every: int = 3) -> Qwen2_5_VLConfig:  # fmt: skip
    """Return a Qwen2.5-VL configuration around a Qwen2's.

    text: the fields of the Qwen2 configuration. vocabulary: entries before the picture tokens.
    full_every: each n-th block attends to the whole picture, the others within 112 x 112 pixels.
    """
    width = text["hidden_size"] // text["num_attention_heads"]
    # time, rows and columns turn as many of the rotary pairs as in the full-size model: 2 : 3 : 3
    sections = [width // 8, width // 16 * 3, width // 16 * 3]
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": sections}
    place = {token: vocabulary + number for number, token in enumerate(TOKENS)}
    vision = {
        "depth": depth, "hidden_size": hidden, "intermediate_size": intermediate,
        "num_heads": heads, "out_hidden_size": text["hidden_size"], "in_channels": 3,
        "patch_size": MINI.patch_size, "spatial_merge_size": MINI.merge_size,
        "temporal_patch_size": MINI.temporal_patch_size, "window_size": 112,
        "fullatt_block_indexes": list(range(full_every - 1, depth, full_every)),
    }  # fmt: skip
    return Qwen2_5_VLConfig(
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        text_config=text | {"vocab_size": vocabulary + len(TOKENS), "rope_parameters": rope,
                            "max_position_embeddings": 2048, "tie_word_embeddings": True},
        vision_config=vision,
        vision_start_token_id=place[START], vision_end_token_id=place[END],
        image_token_id=place[PLACE], video_token_id=place[VIDEO],
        tie_word_embeddings=True,
    )  # fmt: skip
