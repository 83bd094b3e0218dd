"""The course's figures: each is drawn by code, describes itself in words and is readable in grey.

`plots.bars(values, x="GB")` as the last line of a cell shows the figure. Its alt text is composed
from the values drawn, with an optional `conclusion` in front.
"""

from openmodels.plots.charts import (
    ANSWERS,
    DARK,
    LIGHT,
    LOOK,
    PARTS,
    POINTS,
    SERIES,
    answers,
    bars,
    blocks,
    chances,
    heat,
    images,
    intervals,
    lines,
    masks,
    stacked,
    timeline,
    tokens,
)
from openmodels.plots.describe import short
from openmodels.plots.figure import DescribedFigure, canvas, html_image, png, show
from openmodels.plots.grids import numbers
from openmodels.plots.overlays import boxes, spotlights

__all__ = [
    "ANSWERS",
    "DARK",
    "LIGHT",
    "LOOK",
    "PARTS",
    "POINTS",
    "SERIES",
    "DescribedFigure",
    "answers",
    "bars",
    "blocks",
    "boxes",
    "canvas",
    "chances",
    "heat",
    "html_image",
    "images",
    "intervals",
    "lines",
    "masks",
    "numbers",
    "png",
    "short",
    "show",
    "spotlights",
    "stacked",
    "timeline",
    "tokens",
]
