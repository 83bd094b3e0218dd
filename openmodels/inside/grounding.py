"""Boxes in a model's answer: Qwen2.5-VL generates them as JSON, in pixels of the picture it reads.

An answer looks like `[{"bbox_2d": [left, top, right, bottom], "label": "red flag"}]`, often inside
a Markdown code block.
"""

import json
import re
from typing import NamedTuple

MAX_BOXES = 100  # of one answer
CODE_BLOCK = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


class LabelledBox(NamedTuple):
    """A box in pixels, (left, top, right, bottom), with what is said to be in it."""

    label: str
    box: tuple[float, float, float, float]


def parse_boxes(answer: str) -> list[LabelledBox]:
    """Return the boxes of an answer, in order; an answer without readable boxes has none.

    Entries without four finite numbers, and boxes whose sides are out of order, are left out.
    """
    block = CODE_BLOCK.search(answer)
    try:
        entries = json.loads(block[1] if block else answer)
    except (ValueError, RecursionError):
        return []
    entries = entries if isinstance(entries, list) else [entries]
    boxes = [_box(entry) for entry in entries[:MAX_BOXES]]
    return [box for box in boxes if box is not None]


def _box(entry: object) -> LabelledBox | None:
    """Return an entry's box, or None."""
    sides = entry.get("bbox_2d") if isinstance(entry, dict) else None
    if not isinstance(sides, list) or len(sides) != 4:
        return None
    if not all(type(side) in (int, float) and abs(side) < 1e6 for side in sides):
        return None
    x0, y0, x1, y1 = map(float, sides)
    return (
        LabelledBox(str(entry.get("label", "")), (x0, y0, x1, y1)) if x0 < x1 and y0 < y1 else None
    )
