"""Draw values and boxes over a picture: where a model looks, and where it says that things are.

Colours of the pictures carry meaning, so a dark page does not invert these figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from PIL import Image

from openmodels.plots import describe
from openmodels.plots.charts import LOOK
from openmodels.plots.figure import DescribedFigure, canvas

Box = Sequence[float]  # left, top, right, bottom in pixels
PANEL_WIDTH = 2.2  # inches
FADED = 0.88  # how far a square with value 0 fades to white
INK, PAPER = "#111111", "white"
TRUE_BOX = {"linestyle": "-", "linewidth": 2.0}
OTHER_BOX = {"linestyle": (0, (3, 2)), "linewidth": 2.0}


@matplotlib.rc_context(LOOK)
def spotlights(
    image: Image.Image,
    maps: Mapping[str, ArrayLike],
    shade: str,
    box: Box | None = None,
    *,
    conclusion: str = "",
) -> DescribedFigure:
    """Show a picture once per map: squares with small values fade to white.

    maps: title to (rows, columns) of values; below 0 counts as 0, and each map has its own
    scale. shade: what a strong square means. A thick frame marks the largest value, and a dashed
    frame marks `box`, in pixels.
    """
    rows = -(-len(maps) // 4)
    columns = min(4, len(maps))
    height = rows * (PANEL_WIDTH * image.height / image.width + 0.3) + 0.25
    figure, _ = canvas(width=columns * PANEL_WIDTH, height=height)
    figure.clear()
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in grid:
        axis.set_axis_off()
    for axis, (title, values) in zip(grid, maps.items(), strict=False):
        _spotlight(axis, image, np.asarray(values, dtype=float))
        axis.set_title(title, fontsize=10)
        if box is not None:
            _frame(axis, box, OTHER_BOX)
    figure.supxlabel(shade, fontsize=9)
    figure.photo = True
    figure.alt = describe.sentences(conclusion, describe.spotlights(maps, shade, box, image.size))
    return figure


def _spotlight(axis: matplotlib.axes.Axes, image: Image.Image, values: np.ndarray) -> None:
    """Draw a picture, its veil, and a frame around the square with the largest value."""
    extent = (0, image.width, image.height, 0)
    axis.imshow(image, extent=extent)
    strength = values.clip(min=0)
    strength = strength / (strength.max() or 1)
    veil = np.ones((*values.shape, 4))
    veil[..., 3] = FADED * (1 - strength)
    axis.imshow(veil, extent=extent, interpolation="nearest")
    row, column = np.unravel_index(values.argmax(), values.shape)
    width, height = image.width / values.shape[1], image.height / values.shape[0]
    box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
    _frame(axis, box, TRUE_BOX | {"linewidth": 2.5})


def _frame(axis: matplotlib.axes.Axes, box: Box, line: Mapping[str, object]) -> None:
    """Draw a frame that is visible on dark and on light pixels: dark on a wider white line."""
    x0, y0, x1, y1 = box
    wide = dict(line) | {"linewidth": line["linewidth"] + 2, "linestyle": "-"}
    for colour, look in ((PAPER, wide), (INK, line)):
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, **look))


@matplotlib.rc_context(LOOK)
def boxes(
    panels: Sequence[tuple[str, Image.Image, Sequence[Box], Sequence[Box]]],
    *,
    conclusion: str = "",
) -> DescribedFigure:
    """Show pictures side by side, each with two lists of boxes: true ones, and a model's.

    panels: (title, picture, true boxes, model's boxes) each, boxes in pixels. True boxes have a
    continuous frame, the model's a dashed frame.
    """
    tallest = max(image.height / image.width for _, image, *_ in panels)
    height = PANEL_WIDTH * tallest + 0.55
    figure, axes = canvas(len(panels), width=PANEL_WIDTH * len(panels), height=height)
    for axis, (title, image, true, predicted) in zip(axes, panels, strict=True):
        axis.imshow(image, extent=(0, image.width, image.height, 0))
        for box in true:
            _frame(axis, box, TRUE_BOX)
        for box in predicted:
            _frame(axis, box, OTHER_BOX)
        axis.set(xlim=(0, image.width), ylim=(image.height, 0))
        axis.set_axis_off()
        axis.set_title(title, fontsize=10)
    figure.supxlabel("continuous frame: true box; dashed frame: the model's box", fontsize=9)
    figure.photo = True
    figure.alt = describe.sentences(conclusion, describe.boxes(panels))
    return figure
