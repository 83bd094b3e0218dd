"""Llama 4's half of exercise 3.2: the reference solution and the known mistakes.

Sources: transformers, `get_best_fit` and `_prompt_split_image` in models/llama4.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from openmodels.check import WrongAnswer

MARKERS_OF_LLAMA = 3


# --- The reference solution -----------------------------------------------------------------------


def canvases(width: int, height: int, max_tiles: int, tile: int) -> list[tuple[float, int, int]]:
    """Return (factor, rows, columns) of every canvas."""
    return [
        (min(columns * tile / width, rows * tile / height), rows, columns)
        for rows in range(1, max_tiles + 1)
        for columns in range(1, max_tiles // rows + 1)
    ]


def best_canvas(width: int, height: int, max_tiles: int, tile: int) -> tuple[int, int]:
    """Return rows and columns of the canvas that Llama 4 takes."""
    known = canvases(width, height, max_tiles, tile)
    best = min((factor for factor, *_ in known if factor >= 1), default=max(known)[0])
    fitting = [(rows, columns) for factor, rows, columns in known if factor == best]
    return min(fitting, key=math.prod)


def per_tile(tile: int, patch: int, shuffle: int) -> int:
    """Return the tokens of a tile."""
    return (tile // patch) ** 2 // shuffle**2


def canvas_tokens(rows: int, columns: int, each: int) -> int:
    """Return the tokens of a canvas whose tiles have `each` tokens."""
    tiles = rows * columns
    return MARKERS_OF_LLAMA + each + (tiles * (each + 1) if tiles > 1 else 0)


def reference_llama(
    width: int, height: int, max_tiles: int = 16, tile: int = 336, patch: int = 14, shuffle: int = 2
) -> int:
    """Return the tokens of a picture in Llama 4."""
    rows, columns = best_canvas(width, height, max_tiles, tile)
    return canvas_tokens(rows, columns, per_tile(tile, patch, shuffle))


# --- Known mistakes in Llama 4's count: all take the arguments of `reference_llama` --------------


class LlamaCall(NamedTuple):
    """The arguments of a count, with their defaults."""

    width: int
    height: int
    max_tiles: int = 16
    tile: int = 336
    patch: int = 14
    shuffle: int = 2

    def count(self, rule: Callable[[int, int, int], int]) -> int:
        """Count the right canvas by another rule, from rows, columns and tokens per tile."""
        return rule(*best_canvas(*self[:4]), per_tile(*self[3:]))

    def choose(self, rule: Callable[[list[tuple[float, int, int]]], tuple]) -> int:
        """Count another canvas, chosen from (factor, rows, columns)."""
        _, rows, columns = rule(canvases(*self[:4]))
        return canvas_tokens(rows, columns, per_tile(*self[3:]))


def tiles_of(canvas: tuple[float, int, int]) -> int:
    """Return the number of tiles of (factor, rows, columns)."""
    return canvas[1] * canvas[2]


def several(rows: int, columns: int) -> int:
    """Return 1 for a canvas of several tiles, else 0."""
    return int(rows * columns > 1)


def _without_markers(*call: int) -> int:
    return reference_llama(*call) - MARKERS_OF_LLAMA


def _two_markers(*call: int) -> int:
    return reference_llama(*call) - 1


def _without_global(*call: int) -> int:
    return LlamaCall(*call).count(
        lambda r, c, each: canvas_tokens(r, c, each) - each * several(r, c)
    )


def _always_global(*call: int) -> int:
    return LlamaCall(*call).count(lambda r, c, each: 3 + each + r * c * (each + 1))


def _without_separators(*call: int) -> int:
    return LlamaCall(*call).count(lambda r, c, each: 3 + each * (r * c + several(r, c)))


def _separators_between(*call: int) -> int:
    return LlamaCall(*call).count(lambda r, c, each: canvas_tokens(r, c, each) - several(r, c))


def _separators_in_rows(*call: int) -> int:
    return LlamaCall(*call).count(lambda r, c, each: canvas_tokens(r, c, each) - r * several(r, c))


def _global_separator(*call: int) -> int:
    return LlamaCall(*call).count(lambda r, c, each: canvas_tokens(r, c, each) + several(r, c))


def _largest_factor(*call: int) -> int:
    return LlamaCall(*call).choose(lambda known: max(known, key=lambda c: (c[0], -tiles_of(c))))


def _most_tiles(*call: int) -> int:
    def choose(known: list) -> tuple:
        best = min((c[0] for c in known if c[0] >= 1), default=max(known)[0])
        return max((c for c in known if c[0] == best), key=tiles_of)

    return LlamaCall(*call).choose(choose)


def _most_tiles_if_shrunk(*call: int) -> int:
    def choose(known: list) -> tuple:
        enlarged = [canvas for canvas in known if canvas[0] >= 1]
        if not enlarged:
            return max(known, key=lambda c: (c[0], tiles_of(c)))
        return min(enlarged, key=lambda c: (c[0], tiles_of(c)))

    return LlamaCall(*call).choose(choose)


def _fewer_than_max(*call: int) -> int:
    fields = LlamaCall(*call)
    return reference_llama(*fields._replace(max_tiles=max(1, fields.max_tiles - 1)))


def _inverted_factor(*call: int) -> int:
    width, height, _, tile, *_ = LlamaCall(*call)

    def choose(known: list) -> tuple:
        other = [(min(width / (c * tile), height / (r * tile)), r, c) for _, r, c in known]
        best = min((c[0] for c in other if c[0] >= 1), default=max(other)[0])
        return min((c for c in other if c[0] == best), key=tiles_of)

    return LlamaCall(*call).choose(choose)


def _more_than_one(*call: int) -> int:
    def choose(known: list) -> tuple:
        best = min((c[0] for c in known if c[0] > 1), default=max(known)[0])
        return min((c for c in known if c[0] == best), key=tiles_of)

    return LlamaCall(*call).choose(choose)


def _smallest_factor(*call: int) -> int:
    return LlamaCall(*call).choose(lambda known: min(known, key=lambda c: (c[0], tiles_of(c))))


def _nearest_factor(*call: int) -> int:
    return LlamaCall(*call).choose(
        lambda known: min(known, key=lambda c: (abs(c[0] - 1), tiles_of(c)))
    )


def _covering(*call: int) -> int:
    width, height, max_tiles, tile, *sizes = LlamaCall(*call)
    rows, columns = math.ceil(height / tile), math.ceil(width / tile)
    while rows * columns > max_tiles:
        rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
    return canvas_tokens(rows, columns, per_tile(tile, *sizes))


def _covering_cut_off(*call: int) -> int:
    width, height, max_tiles, tile, *sizes = LlamaCall(*call)
    tiles = min(max_tiles, math.ceil(height / tile) * math.ceil(width / tile))
    return canvas_tokens(tiles, 1, per_tile(tile, *sizes))


def _by_ratio(*call: int) -> int:
    def distance(canvas: tuple) -> tuple[float, int]:
        _, rows, columns = canvas
        return abs(columns / rows - call[0] / call[1]), -rows * columns

    return LlamaCall(*call).choose(lambda known: min(known, key=distance))


def _larger_factor_of_sides(*call: int) -> int:
    width, height, _, tile, *_ = LlamaCall(*call)

    def choose(known: list) -> tuple:
        other = [(max(c * tile / width, r * tile / height), r, c) for _, r, c in known]
        best = min((c[0] for c in other if c[0] >= 1), default=max(other)[0])
        return min((c for c in other if c[0] == best), key=tiles_of)

    return LlamaCall(*call).choose(choose)


def _fixed_sizes(*call: int) -> int:
    return reference_llama(*call[:2])


def _144_per_tile(*call: int) -> int:
    return LlamaCall(*call).count(lambda r, c, _: canvas_tokens(r, c, 144))


def _unshuffled(*call: int) -> int:
    return reference_llama(*LlamaCall(*call)._replace(shuffle=1))


def _shuffled_once(*call: int) -> int:
    _, _, _, tile, patch, shuffle = LlamaCall(*call)
    return LlamaCall(*call).count(
        lambda r, c, _: canvas_tokens(r, c, (tile // patch) ** 2 // shuffle)
    )


def _shuffled_sides(*call: int) -> int:
    _, _, _, tile, patch, shuffle = LlamaCall(*call)
    return LlamaCall(*call).count(
        lambda r, c, _: canvas_tokens(r, c, (tile // patch // shuffle) ** 2)
    )


def _any_number_of_tiles(*call: int) -> int:
    return reference_llama(*LlamaCall(*call)._replace(max_tiles=16))


LLAMA_MISTAKES = [
    WrongAnswer(
        "no markers", _without_markers,
        "The three markers are missing: start, image and end.",
    ),
    WrongAnswer(
        "two markers", _two_markers,
        "Your count misses a marker. There are three: start, image and end.",
    ),
    WrongAnswer(
        "no whole picture", _without_global,
        "If there are several tiles, the whole picture comes last, as one more tile.",
    ),
    WrongAnswer(
        "whole picture always", _always_global,
        "A canvas of one tile has no separator and no second tile for the whole picture.",
    ),
    WrongAnswer("no separators", _without_separators, "A separator follows each tile."),
    WrongAnswer(
        "separators between tiles", _separators_between,
        "A separator follows each tile, the last tile of the canvas too.",
    ),
    WrongAnswer(
        "separators in rows only", _separators_in_rows,
        "A separator follows each tile, also at the end of a row.",
    ),
    WrongAnswer(
        "separator after the whole picture", _global_separator,
        "No separator follows the whole picture, only the tiles of the canvas.",
    ),
    WrongAnswer(
        "largest factor", _largest_factor,
        "Your canvas has the largest factor. If factors of at least 1 exist, take the smallest of "
        "them.",
    ),
    WrongAnswer(
        "most tiles", _most_tiles,
        "Several canvases have this factor: take the one with the fewest tiles.",
    ),
    WrongAnswer(
        "most tiles if shrunk", _most_tiles_if_shrunk,
        "Several canvases have the largest factor: take the one with the fewest tiles. `max` of "
        "pairs takes the most.",
    ),
    WrongAnswer(
        "fewer than max_tiles", _fewer_than_max,
        "A canvas may have `max_tiles` tiles; yours always have fewer.",
    ),
    WrongAnswer(
        "factor inverted", _inverted_factor,
        "Your factor is inverted: it is the canvas's side / the picture's side.",
    ),
    WrongAnswer(
        "more than 1", _more_than_one,
        "A factor of exactly 1 counts: the picture then fills the canvas as it is.",
    ),
    WrongAnswer(
        "smallest factor of all", _smallest_factor,
        "The smallest factor of all shrinks the picture. Look at the factors of at least 1 first.",
    ),
    WrongAnswer(
        "nearest factor", _nearest_factor,
        "A factor below 1 may be nearer to 1, but it shrinks the picture. Look at the factors of "
        "at least 1 first.",
    ),
    WrongAnswer(
        "covering", _covering,
        "Dividing and rounding up covers the picture only while the tiles suffice. A picture that "
        "is too large is shrunk as a whole: compare the factors of all canvases.",
    ),
    WrongAnswer(
        "covering, cut off", _covering_cut_off,
        "Cutting the number of tiles off at `max_tiles` leaves no canvas. If no factor is at least "
        "1, take the canvas with the largest factor.",
    ),
    WrongAnswer(
        "nearest aspect ratio", _by_ratio,
        "Llama 4 does not compare aspect ratios but factors.",
    ),
    WrongAnswer(
        "the larger of the two factors", _larger_factor_of_sides,
        "The factor is the smaller of the two: with the larger one the picture does not fit.",
    ),
    WrongAnswer(
        "fixed sizes", _fixed_sizes,
        "Your count ignores the arguments after width and height.",
    ),
    WrongAnswer(
        "144 per tile", _144_per_tile,
        "A tile does not always have 144 tokens: compute them from tile, patch and shuffle.",
    ),
    WrongAnswer(
        "not shuffled", _unshuffled,
        "You count patches: shuffle x shuffle of them become one token.",
    ),
    WrongAnswer(
        "shuffle not squared", _shuffled_once,
        "shuffle x shuffle patches become one token: divide by the square.",
    ),
    WrongAnswer(
        "shuffled sides", _shuffled_sides,
        "Divide the number of patches, not the sides, by shuffle: 21 x 21 // 4 is 110, not 10 x "
        "10.",
    ),
    WrongAnswer(
        "max_tiles ignored", _any_number_of_tiles,
        "Your count ignores `max_tiles`.",
    ),
]  # fmt: skip
