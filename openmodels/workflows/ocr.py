"""Read pictures with a small OCR program, RapidOCR, if it is installed.

RapidOCR finds lines of text with one network and reads each line with another; its wheel contains
both, so it needs no network. `pip install rapidocr onnxruntime` installs it. The course does not
need it: its scores are in `openmodels/data/ocr_scores.csv`.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from openmodels.harbour.scenes import Question
from openmodels.minis.evaluate import score
from openmodels.workflows.documents import Line, Trial, form_fields, parse, reading_order

Reader = Callable[[Image.Image], list[Line]]
SCORES = Path(__file__).parents[1] / "data" / "ocr_scores.csv"
PACKAGES = ("rapidocr", "onnxruntime")


def installed() -> bool:
    """Return whether RapidOCR and its runtime can be imported."""
    return all(importlib.util.find_spec(package) for package in PACKAGES)


def reader() -> Reader:
    """Return a function from a picture to its lines of text. Raises ImportError without RapidOCR.

    The step that turns lines upside down is off: photographed forms stand upright, and it takes
    "good" for an upside-down "poob".
    """
    rapidocr = importlib.import_module("rapidocr")
    engine = rapidocr.RapidOCR(params={"Global.log_level": "error", "Global.use_cls": False})

    def read_lines(image: Image.Image) -> list[Line]:
        result = engine(image.convert("RGB"))
        if result.txts is None:
            return []
        boxes = [[(float(x), float(y)) for x, y in box] for box in result.boxes]
        return [Line(text, box) for text, box in zip(result.txts, boxes, strict=True)]

    return read_lines


def answer(task: str, lines: list[Line]) -> str:
    """Return what rules make of the lines for a task: "form", "gauge", or a notice's words."""
    if task == "form":
        return json.dumps(form_fields(lines))
    text = reading_order(lines)
    if task == "gauge":
        number = re.fullmatch(r"\d+\.\d", text)
        return f"{text} m" if number else text
    return text


def is_right(question: Question, text: str) -> bool:
    """Return whether an answer is exactly right; a form's fields may stand in any order."""
    if question.task == "form":
        return parse(text) == json.loads(question.answer)
    return text.strip() == question.answer


def rows() -> list[dict[str, str]]:
    """Return the rows of the stored table: a task and a scale each, with versions and date."""
    with SCORES.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def trials() -> list[Trial]:
    """Return RapidOCR's stored scores, in the form of a model's trials."""
    return [
        Trial(
            row["task"], float(row["scale"]), score(int(row["correct"]), int(row["n"])), 0.0,
            float(row["cpu_seconds_per_page"]),
        )
        for row in rows()
    ]  # fmt: skip


def versions() -> str:
    """Return the versions and the date of the stored scores in one line."""
    row = rows()[0]
    return ", ".join([*(f"{name} {row[name]}" for name in PACKAGES), row["measured"]])
