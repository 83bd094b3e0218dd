"""Large pages of Port Lark: boards with several notices, and the tiles a page is cut into."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from PIL import Image

from openmodels.harbour import scenes

Box = tuple[int, int, int, int]
NOTICE = (224, 84)  # pixels of one notice, a size that notices have in training
GAP = 28  # pixels between two notices and at the edges
WOOD = (139, 110, 82)


@dataclass(frozen=True)
class Board:
    """A photographed board of notices.

    boxes: (left, top, right, bottom) of each notice in pixels; texts: what each of them says.
    """

    image: Image.Image
    boxes: tuple[Box, ...]
    texts: tuple[str, ...]
    description: str


def board(seed: int, rows: int = 4, columns: int = 2, split: str = "test") -> Board:
    """Return a board of rows x columns notices, the same for the same seed.

    A held-out board has held-out notices only. Raises ValueError for fewer than one row or column
    and for an unknown split.
    """
    if rows < 1 or columns < 1:
        raise ValueError(f"a board of {rows} x {columns} notices has none")
    (width, height), count = NOTICE, rows * columns
    size = columns * (width + GAP) + GAP, rows * (height + GAP) + GAP
    image = Image.new("RGB", size, WOOD)
    boxes, texts = [], []
    for place in range(count):
        notice = scenes.scene("notice", seed * count + place, split, NOTICE)
        x = GAP + place % columns * (width + GAP)
        y = GAP + place // columns * (height + GAP)
        image.paste(notice.image, (x, y))
        boxes.append((x, y, x + width, y + height))
        texts.append(notice.questions[0].answer)
    listed = "; ".join(texts)
    return Board(image, tuple(boxes), tuple(texts), f"A board of {count} notices: {listed}.")


def tile_boxes(size: tuple[int, int], tile: tuple[int, int], overlap: int = 0) -> list[Box]:
    """Return boxes of one size that cover a page, row by row.

    size, tile: (width, height) in pixels. overlap: pixels that neighbours share at least. The
    tiles are spread evenly, so none reaches over an edge; a tile is cut to the page if the page is
    smaller. Raises ValueError if the overlap is not smaller than the tile.
    """
    (width, height), (tile_width, tile_height) = size, tile
    if not 0 <= overlap < min(tile):
        raise ValueError(f"an overlap of {overlap} pixels in tiles of {tile_width} x {tile_height}")
    return [
        (x, y, min(width, x + tile_width), min(height, y + tile_height))
        for y in _starts(height, tile_height, overlap)
        for x in _starts(width, tile_width, overlap)
    ]


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Return where the fewest tiles begin that cover one side of a page."""
    count = max(1, ceil((side - overlap) / (tile - overlap)))
    room = max(0, side - tile)
    return [round(room * place / max(1, count - 1)) for place in range(count)]


def count_texts(texts: tuple[str, ...], answers: list[str]) -> int:
    """Return how many texts appear in the answers word for word, as whole words."""
    words = f" {' '.join(' '.join(answers).split())} "
    return sum(f" {text} " in words for text in texts)
