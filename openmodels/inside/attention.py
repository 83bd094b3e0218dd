"""Where a model looks: attention over a picture's tokens, and occlusion, the causal test.

Attention says which tokens a layer mixes together. Occlusion changes the picture, one square at a
time, and measures what that does to the answer. Both work for models of Qwen2.5-VL's class: a
picture becomes rows and columns of squares, and each square is one token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import BatchFeature, PreTrainedModel

from openmodels.harbour import scenes
from openmodels.inside.grounding import parse_boxes

GREY = (128, 128, 128)  # what covers a square
BATCH = 32  # pictures of one pass
Box = Sequence[float]  # left, top, right, bottom in pixels


class LookMaps(NamedTuple):
    """Maps of one picture and one question, each of (rows, columns) squares.

    attention: (layers, rows, columns), the shares of attention that the position which generates
    the answer's first token gives to each square. occlusion: (rows, columns), the fall of the
    answer's log-probability in nats if the square is grey; below 0 if that helps.
    """

    attention: torch.Tensor
    occlusion: torch.Tensor


class PointingCase(NamedTuple):
    """A picture of several flags, a question about one of them, and where that flag is.

    box: left, top, right, bottom in pixels.
    """

    image: Image.Image
    question: str
    answer: str
    box: tuple[float, float, float, float]


def pointing_cases(
    count: int, seed: int = 0, size: tuple[int, int] = (168, 112)
) -> Iterator[PointingCase]:
    """Yield held-out pictures of at least two flags: "What is on the red flag?", and its box.

    size: (width, height) in pixels.
    """
    number = seed * 1_000_000
    while count > 0:
        number += 1
        scene = scenes.scene("flags", number, size=size)
        pattern = next((q for q in scene.questions if q.task == "pattern"), None)
        flags = next(q.answer for q in scene.questions if q.text == "How many flags are there?")
        if pattern is None or int(flags) < 2:
            continue
        flag = pattern.text.removeprefix("What is on the ").removesuffix("?")
        where = next(q for q in scene.questions if q.text == f"Where is the {flag}?")
        [(_, box)] = parse_boxes(where.answer)
        yield PointingCase(scene.image, pattern.text, pattern.answer, box)
        count -= 1


def chat_inputs(
    processor: Any, images: Image.Image | Sequence[Image.Image], question: str, last: bool = False
) -> BatchFeature:
    """Return a model's inputs for one question about each picture: one row per picture.

    processor: `openmodels.minis.qwen_vl.Processor`, or the library's for a full-size model.
    images: of one size. last: put the picture after the question, as Ollama does.
    """
    pictures = [images] if isinstance(images, Image.Image) else list(images)
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content[::-1] if last else content}]
    template = getattr(processor, "apply_chat_template", None)
    template = template or processor.tokenizer.apply_chat_template
    text = template(messages, tokenize=False, add_generation_prompt=True)
    return processor(text=[text] * len(pictures), images=pictures, return_tensors="pt")


def grid(model: PreTrainedModel, inputs: BatchFeature) -> tuple[int, int]:
    """Return (rows, columns) of the first picture's squares: each is one token."""
    merge = model.config.vision_config.spatial_merge_size
    _, rows, columns = inputs["image_grid_thw"][0].tolist()  # of patches
    return rows // merge, columns // merge


@torch.no_grad()
def attention_maps(model: PreTrainedModel, inputs: BatchFeature) -> torch.Tensor:
    """Return (layers, rows, columns): attention from the last position to the picture's squares.

    The last position of a prompt generates the answer's first token. Values are means over the
    heads of a layer. They sum to at most 1: text tokens receive the remaining attention.

    inputs: one picture. Raises ValueError if the model does not return its attention; load it
    with `attn_implementation="eager"`.
    """
    layers = model(**inputs, output_attentions=True).attentions
    if not layers or layers[0] is None:
        raise ValueError(
            "the model returned no attention: load it with attn_implementation='eager'"
        )
    places = inputs["input_ids"][0] == model.config.image_token_id  # (length,)
    rows = torch.stack([layer[0].mean(0)[-1, places] for layer in layers])
    return rows.float().reshape(len(layers), *grid(model, inputs))


@torch.no_grad()
def answer_logprobs(
    model: PreTrainedModel, inputs: BatchFeature, answer: Sequence[int]
) -> torch.Tensor:
    """Return (rows,): the log-probability, in nats, of an answer's token ids after each prompt.

    Prompts have one length, without padding. Raises ValueError for an empty answer.
    """
    if not len(answer):
        raise ValueError("an empty answer has no log-probability")
    prompts = inputs["input_ids"]
    ids = torch.tensor([list(answer)], device=prompts.device).expand(len(prompts), -1)
    full = dict(inputs) | {"input_ids": torch.cat([prompts, ids], 1)}
    full["attention_mask"] = torch.ones_like(full["input_ids"])
    if "mm_token_type_ids" in full:
        types = full["mm_token_type_ids"]
        full["mm_token_type_ids"] = torch.cat([types, torch.zeros_like(ids).to(types.dtype)], 1)
    logits = model(**full, logits_to_keep=ids.shape[1] + 1).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0].sum(-1)


def square_box(place: tuple[int, int], grid: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return a square's (left, top, right, bottom) in pixels of a picture of (width, height).

    place: (row, column) of the square. grid: how many rows and columns there are.
    """
    (row, column), (rows, columns), (width, height) = place, grid, size
    step_x, step_y = width / columns, height / rows
    return column * step_x, row * step_y, (column + 1) * step_x, (row + 1) * step_y


def cover(image: Image.Image, box: Box, fill: tuple[int, int, int] = GREY) -> Image.Image:
    """Return a copy of a picture in RGB whose box is filled with a colour."""
    copy = image.convert("RGB").copy()
    inclusive = box[0], box[1], box[2] - 1, box[3] - 1
    ImageDraw.Draw(copy).rectangle(tuple(map(round, inclusive)), fill=fill)
    return copy


def occlusion_map(
    model: PreTrainedModel,
    processor: Any,
    image: Image.Image,
    question: str,
    answer: str,
    last: bool = False,
) -> torch.Tensor:
    """Return (rows, columns): the fall of the answer's log-probability if a square is grey.

    In nats: 1 means that the answer becomes e = 2.7 times less likely (Zeiler and Fergus 2014,
    arXiv 1311.2901, section 4.2). last: put the picture after the question.
    """
    inputs = chat_inputs(processor, image, question, last)
    rows, columns = grid(model, inputs)
    ids = processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
    boxes = [
        square_box((row, column), (rows, columns), image.size)
        for row in range(rows)
        for column in range(columns)
    ]
    pictures = [image.convert("RGB"), *(cover(image, box) for box in boxes)]
    parts = [
        answer_logprobs(
            model, chat_inputs(processor, pictures[start : start + BATCH], question, last), ids
        )
        for start in range(0, len(pictures), BATCH)
    ]
    logprobs = torch.cat(parts)
    return (logprobs[0] - logprobs[1:]).reshape(rows, columns)


def look_maps(
    model: PreTrainedModel,
    processor: Any,
    image: Image.Image,
    question: str,
    answer: str,
    last: bool = False,
) -> LookMaps:
    """Return attention and occlusion for a question, its right answer, and a picture."""
    attention = attention_maps(model, chat_inputs(processor, image, question, last))
    return LookMaps(attention, occlusion_map(model, processor, image, question, answer, last))


def touched(box: Box, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Return (rows, columns) of bool: which squares of a picture a box overlaps.

    size: (width, height) of the picture in pixels.
    """
    result = np.zeros(grid, dtype=bool)
    for place in np.ndindex(grid):
        x0, y0, x1, y1 = square_box(place, grid, size)
        result[place] = x0 < box[2] and box[0] < x1 and y0 < box[3] and box[1] < y1
    return result


def points_at(values: torch.Tensor, box: Box, size: tuple[int, int]) -> bool:
    """Return whether the square with the largest value overlaps a box: the pointing game.

    values: (rows, columns). Zhang et al. 2016, arXiv 1608.00507, section 4.1.
    """
    place = np.unravel_index(int(values.argmax()), tuple(values.shape))
    return bool(touched(box, tuple(values.shape), size)[place])
