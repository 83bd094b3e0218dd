"""Pictures for a model of Llama 4's class: PIL images to `pixel_values` and placeholder tokens.

The library's own processor needs torchvision, which the miniatures do without (PyPI's wheel does
not import beside a CPU build of torch). This one gives the same tensors, for pictures of one tile.
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
    """What a picture becomes. size, patch_size: pixels a side; of the patches, each square of
    1 / pixel_shuffle_ratio a side is one token; mean, std: per channel, for values from 0 to 1."""

    size: int = 64
    patch_size: int = 8
    pixel_shuffle_ratio: float = 0.5
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # the library's, for Llama 4
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @classmethod
    def of(cls, config: PreTrainedConfig) -> "Shape":
        """The shape a model with this configuration reads."""
        vision = config.vision_config
        return cls(vision.image_size, vision.patch_size, vision.pixel_shuffle_ratio)

    @property
    def tokens(self) -> int:
        """Placeholder tokens a picture: 16 for 64 x 64 pixels in patches of 8 x 8."""
        return round((self.size // self.patch_size * self.pixel_shuffle_ratio) ** 2)

    def pixels(self, image: Image.Image | str | Path) -> torch.Tensor:
        """(3, size, size), float32, from -1 to 1: scaled to fit, black at the right or below.

        Transparency is laid on white. Raises ValueError for what is no picture, is too large, or
        has channels of more than 8 bits.
        """
        picture = fit(as_rgb(image), self.size)
        values = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (3, size, size)
        # in bfloat16, step by step, as the library does: the same roundings
        mean = torch.tensor(self.mean, dtype=torch.bfloat16).view(3, 1, 1)
        std = torch.tensor(self.std, dtype=torch.bfloat16).view(3, 1, 1)
        return ((values.to(torch.bfloat16) * (1 / 255) - mean) / std).float()

    def expand(self, text: str, count: int) -> str:
        """The text with each <|image|> written out as Llama 4's processor does for one tile.

        Raises ValueError unless the text has exactly `count` of them.
        """
        if (places := text.count(PLACE)) != count:
            raise ValueError(
                f"the text has {places} place(s) for a picture ({PLACE}), but {count} picture(s) "
                "came with it"
            )
        if written := [token for token in (START, PATCH, END) if token in text]:
            raise ValueError(f"the text already holds {written[0]}; write {PLACE} for a picture")
        return text.replace(PLACE, START + PLACE + PATCH * self.tokens + END)


MINI = Shape()  # the miniatures'


def as_rgb(image: Image.Image | str | Path) -> Image.Image:
    """The picture, opened where it is a file, in RGB."""
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
    """size x size pixels: scaled without distortion, the rest black.

    Bilinear over all pixels that a new one covers, in PIL; the library does the same in
    torchvision (`antialias=True`), where single values may come out 1 of 255 off.
    """
    width, height = image.size
    across, down = size / width, size / height
    if across < down:
        scaled = size, min(floor(height * across), size)
    else:
        scaled = min(floor(width * down), size), size
    canvas = Image.new("RGB", (size, size))
    canvas.paste(image.resize((max(1, scaled[0]), max(1, scaled[1])), Image.Resampling.BILINEAR))
    return canvas


@dataclass(frozen=True)
class Processor:
    """Chat text and pictures to a model's inputs; called like a processor of transformers."""

    tokenizer: PreTrainedTokenizerBase
    shape: Shape = MINI

    def __call__(
        self, text: str | Sequence[str], images: Sequence[Image.Image | str | Path]
        | Image.Image | str | Path | None = None, return_tensors: str = "pt",
    ) -> BatchFeature:  # fmt: skip
        """input_ids and attention_mask, (texts, length), padded on the left; with pictures also
        pixel_values, (pictures, 3, size, size), in the order of their places in the texts.

        Raises ValueError when places and pictures differ in number, and for unfit pictures.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors={return_tensors!r}: only 'pt' is made here")
        texts = [text] if isinstance(text, str) else list(text)
        if images is None:
            images = []
        elif isinstance(images, (Image.Image, str, Path)):
            images = [images]
        places = [text.count(PLACE) for text in texts]
        if sum(places) != len(images):
            self.shape.expand("".join(texts), len(images))  # says what is wrong
        encoded = self.tokenizer(
            [self.shape.expand(text, count) for text, count in zip(texts, places, strict=True)],
            return_tensors="pt", padding=True, padding_side="left",
        )  # fmt: skip
        inputs = {key: encoded[key] for key in ("input_ids", "attention_mask")}
        if images:
            inputs["pixel_values"] = torch.stack([self.shape.pixels(image) for image in images])
        return BatchFeature(inputs)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer and preprocessor_config.json, with the library's names in it."""
        self.tokenizer.save_pretrained(folder)
        shape = asdict(self.shape)
        size = shape.pop("size")
        written = {
            "image_processor_type": "Llama4ImageProcessor",
            "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
            "size": {"height": size, "width": size}, "max_patches": 1, "resample": 2,
            "rescale_factor": 1 / 255, "image_mean": shape.pop("mean"),
            "image_std": shape.pop("std"), **shape,
        }  # fmt: skip
        (Path(folder) / CONFIG).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Processor":
        """The processor of a folder. Raises FileNotFoundError without preprocessor_config.json,
        ValueError where that asks for more than one tile."""
        read = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        if read["max_patches"] != 1:
            raise ValueError(f"max_patches is {read['max_patches']}; only one tile is made here")
        shape = Shape(
            read["size"]["height"], read["patch_size"], read["pixel_shuffle_ratio"],
            tuple(read["image_mean"]), tuple(read["image_std"]),
        )  # fmt: skip
        return cls(AutoTokenizer.from_pretrained(folder), shape)


def embed(model: torch.nn.Module, ids: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
    """(rows, length, hidden_size): token embeddings, the pictures' features at their places.

    What `Llama4ForConditionalGeneration.forward` does before its language model; apart from it,
    logits can be taken at the targets only. ids: (rows, length); pixels: (pictures, 3, size, size).
    """
    embeddings = model.get_input_embeddings()(ids)
    if pixels is None:
        return embeddings
    features = model.get_image_features(pixels.to(ids.device, model.dtype)).last_hidden_state
    features = model.multi_modal_projector(features.flatten(0, 1))  # (all patches, hidden)
    mask = model.get_placeholder_mask(ids, embeddings, features)
    return embeddings.masked_scatter(mask, features)
