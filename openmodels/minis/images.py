"""Convert PIL images to `pixel_values` and placeholder tokens for Llama 4's class.

The library's own processor needs torchvision, which the miniatures do not use (PyPI's wheel cannot
be imported with a CPU build of torch). This one gives the same tensors, for pictures of one tile.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import floor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from transformers import AutoTokenizer, BatchFeature, PreTrainedConfig, PreTrainedTokenizerBase

START, END, PLACE, PATCH = "<|image_start|>", "<|image_end|>", "<|image|>", "<|patch|>"
TOKENS = (START, END, PLACE, PATCH)  # in the order of Llama 4's vocabulary
MOST_BYTES, MOST_PIXELS = 20_000_000, 50_000_000
CONFIG = "preprocessor_config.json"


@dataclass(frozen=True)
class Shape:
    """The size of a picture's tensor and its number of tokens.

    size, patch_size: pixels per side. A square of 1 / pixel_shuffle_ratio patches per side becomes
    one token. mean, std: per channel, for values from 0 to 1.
    """

    size: int = 64
    patch_size: int = 8
    pixel_shuffle_ratio: float = 0.5
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # the library's, for Llama 4
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @classmethod
    def of(cls, config: PreTrainedConfig) -> "Shape":
        """Return the shape that a model with this configuration expects."""
        vision = config.vision_config
        return cls(vision.image_size, vision.patch_size, vision.pixel_shuffle_ratio)

    @property
    def tokens(self) -> int:
        """Return the placeholder tokens per picture: 16 for 64 x 64 pixels in 8 x 8 patches."""
        return round((self.size // self.patch_size * self.pixel_shuffle_ratio) ** 2)

    def pixels(self, image: Image.Image | str | Path) -> torch.Tensor:
        """Return (3, size, size), float32, from -1 to 1: scaled to fit, padded with black.

        Transparency becomes white. Raises ValueError for a file that is not a picture, is too
        large, or has channels of more than 8 bits.
        """
        picture = fit(as_rgb(image), self.size)
        values = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (3, size, size)
        # in bfloat16, step by step, for the library's rounding
        mean = torch.tensor(self.mean, dtype=torch.bfloat16).view(3, 1, 1)
        std = torch.tensor(self.std, dtype=torch.bfloat16).view(3, 1, 1)
        return ((values.to(torch.bfloat16) * (1 / 255) - mean) / std).float()

    def expand(self, text: str, count: int) -> str:
        """Replace each <|image|> with the tokens that Llama 4's processor writes for one tile.

        Raises ValueError unless the text has exactly `count` of them.
        """
        if (n_places := text.count(PLACE)) != count:
            raise ValueError(
                f"the text has {n_places} place(s) for a picture ({PLACE}), but {count} picture(s) "
                "came with it"
            )
        if present := [token for token in (START, PATCH, END) if token in text]:
            raise ValueError(f"the text already holds {present[0]}; write {PLACE} for a picture")
        return text.replace(PLACE, START + PLACE + PATCH * self.tokens + END)


MINI = Shape()  # the miniatures'


def as_rgb(image: Image.Image | str | Path) -> Image.Image:
    """Return the picture in RGB; a path is opened.

    Raises ValueError for a file that is too large or not a picture, for an object that is not an
    image, for too many pixels or none, and for channels of more than 8 bits.
    """
    if isinstance(image, (str, Path)):
        if (size := Path(image).stat().st_size) > MOST_BYTES:
            raise ValueError(f"{image} has {size:,} bytes; at most {MOST_BYTES:,} are read")
        try:
            image = Image.open(image)
        except UnidentifiedImageError as error:
            raise ValueError(f"{image} is not a picture that PIL can read") from error
    if not isinstance(image, Image.Image):
        raise ValueError(f"a picture is a PIL image or the path of one, not {type(image).__name__}")
    if 0 in image.size or image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"a picture of {image.width} x {image.height} pixels; it must have some, and at most "
            f"{MOST_PIXELS:,}"
        )
    if image.mode.startswith(("I", "F")):  # PIL would cut these values at 255
        raise ValueError(
            f"a picture of mode {image.mode} has more than 8 bits a channel; scale it to 0-255 "
            "and convert it to RGB first"
        )
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def fit(image: Image.Image, size: int) -> Image.Image:
    """Return the picture in size x size pixels: scaled without distortion, padded with black.

    Bilinear over all pixels that a new one covers, in PIL; the library does the same in
    torchvision (`antialias=True`), where single values may differ by 1 of 255.
    """
    width, height = image.size
    scale_x, scale_y = size / width, size / height
    if scale_x < scale_y:
        scaled = size, min(floor(height * scale_x), size)
    else:
        scaled = min(floor(width * scale_y), size), size
    canvas = Image.new("RGB", (size, size))
    canvas.paste(image.resize((max(1, scaled[0]), max(1, scaled[1])), Image.Resampling.BILINEAR))
    return canvas


@dataclass(frozen=True)
class Processor:
    """Converts chat text and pictures to a model's inputs; called like transformers' processors."""

    tokenizer: PreTrainedTokenizerBase
    shape: Shape = MINI

    def __call__(
        self,
        text: str | Sequence[str],
        images: Sequence[Image.Image | str | Path] | Image.Image | str | Path | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Return input_ids and attention_mask, (texts, length), padded on the left.

        With pictures also pixel_values, (pictures, 3, size, size), in the order of their
        placeholders. Raises ValueError if placeholders and pictures differ in number, and for unfit
        pictures.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors={return_tensors!r}: only 'pt' is supported")
        texts = [text] if isinstance(text, str) else list(text)
        if images is None:
            images = []
        elif isinstance(images, (Image.Image, str, Path)):
            images = [images]
        counts = [text.count(PLACE) for text in texts]
        if sum(counts) != len(images):
            self.shape.expand("".join(texts), len(images))  # raises ValueError
        encoded = self.tokenizer(
            [self.shape.expand(text, count) for text, count in zip(texts, counts, strict=True)],
            return_tensors="pt", padding=True, padding_side="left",
        )  # fmt: skip
        inputs = {key: encoded[key] for key in ("input_ids", "attention_mask")}
        if images:
            inputs["pixel_values"] = torch.stack([self.shape.pixels(image) for image in images])
        return BatchFeature(inputs)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer and preprocessor_config.json, with the library's field names."""
        self.tokenizer.save_pretrained(folder)
        shape = asdict(self.shape)
        size = shape.pop("size")
        settings = {
            "image_processor_type": "Llama4ImageProcessor",
            "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
            "size": {"height": size, "width": size}, "max_patches": 1, "resample": 2,
            "rescale_factor": 1 / 255, "image_mean": shape.pop("mean"),
            "image_std": shape.pop("std"), **shape,
        }  # fmt: skip
        (Path(folder) / CONFIG).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Processor":
        """Return the processor of a folder.

        Raises FileNotFoundError without preprocessor_config.json, and ValueError if that file needs
        more than one tile.
        """
        settings = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        if settings["max_patches"] != 1:
            raise ValueError(
                f"max_patches is {settings['max_patches']}; only one tile is supported"
            )
        shape = Shape(
            settings["size"]["height"], settings["patch_size"], settings["pixel_shuffle_ratio"],
            tuple(settings["image_mean"]), tuple(settings["image_std"]),
        )  # fmt: skip
        return cls(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), shape)


def embed(model: torch.nn.Module, ids: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
    """Return token embeddings with the pictures' features inserted: (rows, length, hidden_size).

    `Llama4ForConditionalGeneration.forward` does the same before its language model; separately,
    the logits can be computed at the targets only. ids: (rows, length); pixels: (pictures, 3, size,
    size).
    """
    embeddings = model.get_input_embeddings()(ids)
    if pixels is None:
        return embeddings
    features = model.get_image_features(pixels.to(ids.device, model.dtype)).last_hidden_state
    features = model.multi_modal_projector(features.flatten(0, 1))  # (all patches, hidden)
    mask = model.get_placeholder_mask(ids, embeddings, features)
    return embeddings.masked_scatter(mask, features)
