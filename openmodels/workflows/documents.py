"""Read photographed documents: pictures to answers with their probability, OCR lines to a form.

`read` runs a model of transformers on many pictures; a server would answer them one by one.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import median
from typing import NamedTuple

import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from openmodels.harbour import scenes
from openmodels.harbour.scenes import FIELDS, Scene
from openmodels.minis import evaluate_vl
from openmodels.minis.evaluate import Score, score
from openmodels.minis.qwen_vl import Processor

LONGEST = 100  # new tokens of an answer; an order takes about 60
SIMILAR = 0.7  # of a line and a label, see `difflib`
Corners = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Reading:
    """An answer about a picture.

    confidence: the probability that the model gives to exactly this answer, 0 to 1.
    picture_tokens: what the picture costs in the prompt.
    """

    text: str
    confidence: float
    picture_tokens: int


def rescale(scene: Scene, scale: float) -> Image.Image:
    """Return a scene's picture with width and height multiplied by a scale (bicubic)."""
    return evaluate_vl.rescale(scene.image, scale)


@torch.no_grad()
def read(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Processor,
    pictures: Sequence[Image.Image],
    questions: Sequence[str],
    batch: int = 16,
) -> list[Reading]:
    """Return greedy answers to one question per picture, in order.

    Raises ValueError if there are not as many questions as pictures.
    """
    if len(pictures) != len(questions):
        raise ValueError(f"{len(pictures)} pictures and {len(questions)} questions")
    costs = [processor.shape.tokens(*picture.size) for picture in pictures]
    readings: dict[int, Reading] = {}
    order = sorted(range(len(pictures)), key=lambda place: (costs[place], pictures[place].size))
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        answers = _read_batch(
            model, processor, [pictures[n] for n in places], [questions[n] for n in places]
        )
        for place, (text, logprob) in zip(places, answers, strict=True):
            readings[place] = Reading(text, math.exp(logprob), costs[place])
    return [readings[place] for place in range(len(pictures))]


def _read_batch(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Processor,
    pictures: Sequence[Image.Image],
    questions: Sequence[str],
) -> list[tuple[str, float]]:
    """Return (answer, its log-probability) for pictures that are read side by side."""
    tokenizer = processor.tokenizer
    messages = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        for question in questions
    ]
    prompts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(prompts, pictures).to(model.device)
    output = model.generate(
        **inputs, max_new_tokens=LONGEST, do_sample=False, return_dict_in_generate=True,
        output_logits=True,
    )  # fmt: skip
    new = output.sequences[:, inputs["input_ids"].shape[1] :]  # (batch, new tokens)
    logprobs = torch.stack(output.logits, 1).float().log_softmax(-1)
    logprobs = logprobs.gather(-1, new[..., None])[..., 0]  # (batch, new tokens)
    ended = (new == tokenizer.eos_token_id).cumsum(1)
    # tokens after the end of the turn are padding
    answer = (ended == 0) | ((ended == 1) & (new == tokenizer.eos_token_id))
    totals = (logprobs * answer).sum(1).tolist()
    return list(zip(tokenizer.batch_decode(new, skip_special_tokens=True), totals, strict=True))


@dataclass(frozen=True)
class Trial:
    """Held-out pictures of a task, read at one scale.

    score: how many answers are right. tokens: of a picture, on average; 0 if it becomes none.
    seconds: of the processor per picture, summed over its cores.
    """

    task: str
    scale: float
    score: Score
    tokens: float
    seconds: float

    @property
    def interval(self) -> tuple[float, float, float]:
        """Return (share, low, high): the right answers with their 95 % interval, 0 to 1."""
        return self.score.correct / self.score.n, self.score.low, self.score.high

    def __str__(self) -> str:
        tokens = f"{self.tokens:4.0f} tokens  " if self.tokens else ""
        return (
            f"{self.task:16} × {self.scale:<4g} {self.score.correct:3} of {self.score.n}  "
            f"{tokens}{self.seconds:.2f} s of processor time"
        )


def trial(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Processor,
    task: str,
    count: int,
    seed: int,
    scale: float = 1.0,
) -> Trial:
    """Return a model's result on `count` held-out pictures of a task, rescaled before reading.

    Raises ValueError for a task that is not in `scenes.TASKS`.
    """
    cases = list(scenes.questions(task, count, seed))
    pictures = [rescale(scene, scale) for scene, _ in cases]
    start = time.process_time()
    readings = read(model, processor, pictures, [question.text for _, question in cases])
    seconds = (time.process_time() - start) / count
    pairs = zip(cases, readings, strict=True)
    correct = sum(evaluate_vl.is_right(question, r.text) for (_, question), r in pairs)
    tokens = sum(reading.picture_tokens for reading in readings) / count
    return Trial(task, scale, score(correct, count), tokens, seconds)


def parse(text: str) -> dict:
    """Return the JSON object in an answer; an empty one if there is none."""
    fields = evaluate_vl.parsed(text)
    return fields if isinstance(fields, dict) else {}


# --- Lines of OCR to a form -----------------------------------------------------------------------


class Line(NamedTuple):
    """A line of text as OCR returns it. corners: (x, y), clockwise from the upper left."""

    text: str
    corners: Corners


class _Word(NamedTuple):
    text: str
    x: float  # of the left end, along the lines
    y: float  # of the middle, across the lines


def form_fields(lines: Sequence[Line]) -> dict[str, str | int]:
    """Return the fields of an order form: to each label, the text on its right in the same row.

    Rows are found after the tilt of the page is taken out. A label may be misspelled a little, and
    may share its line with its value. A field without a value is left out.
    """
    words = _upright(lines)
    labels: dict[str, _Word] = {}
    for field in FIELDS:
        similar = [(SequenceMatcher(None, field, w.text.lower()).ratio(), -w.x, w) for w in words]
        ratio, _, word = max(similar, default=(0.0, 0.0, None))
        if word is not None and ratio >= SIMILAR:
            labels[field] = word
    values = [word for word in words if word not in labels.values()]
    rows = sorted(word.y for word in labels.values())
    step = median(b - a for a, b in zip(rows, rows[1:], strict=False)) if len(rows) > 1 else 20.0
    fields: dict[str, str | int] = {}
    for field, label in labels.items():
        near = [(abs(w.y - label.y), w.text) for w in values if w.x > label.x]
        distance, text = min(near, default=(math.inf, ""))
        if distance < step / 2:
            fields[field] = int(text) if re.fullmatch(r"\d{1,4}", text) else text
    return fields


def _upright(lines: Sequence[Line]) -> list[_Word]:
    """Return words with the page's tilt taken out; a label and its value become two words."""
    wide = [line for line in lines if _width(line) > 1.5 * _height(line)] or lines
    angle = median(_angle(line) for line in wide) if lines else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    words = []
    for line in lines:
        (x0, y0), _, _, (x3, y3) = line.corners
        x, y = (x0 + x3) / 2, (y0 + y3) / 2
        across, down = cos * x + sin * y, cos * y - sin * x
        first, _, after = line.text.strip().partition(" ")
        if after and first.lower() in FIELDS:
            words.append(_Word(first, across, down))
            share = (len(first) + 1) / len(line.text)
            words.append(_Word(after.strip(), across + share * _width(line), down))
        else:
            words.append(_Word(line.text.strip(), across, down))
    return words


def _width(line: Line) -> float:
    return math.dist(line.corners[0], line.corners[1])


def _height(line: Line) -> float:
    return math.dist(line.corners[0], line.corners[3])


def _angle(line: Line) -> float:
    (x0, y0), (x1, y1) = line.corners[:2]
    return math.atan2(y1 - y0, x1 - x0)


def reading_order(lines: Sequence[Line]) -> str:
    """Return the words of lines from top to bottom and, in a row, from left to right."""
    words = sorted(_upright(lines), key=lambda word: word.y)
    height = median(_height(line) for line in lines) if lines else 1.0
    rows: list[list[_Word]] = []
    for word in words:
        if rows and word.y - rows[-1][-1].y < height / 2:
            rows[-1].append(word)
        else:
            rows.append([word])
    return " ".join(w.text for row in rows for w in sorted(row, key=lambda word: word.x))
