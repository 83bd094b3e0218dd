"""How many tokens does a picture cost in each family of models?"""

from __future__ import annotations

from matplotlib.figure import Figure

from openmodels import plots
from openmodels.inside import vision
from openmodels.widgets.controls import slider
from openmodels.widgets.figure_explorer import FigureExplorer, live

SMALLEST, LARGEST = 28, 5_000  # pixels a side: from one patch to a page at 400 dpi


def image_tokens(width: int = 1240, height: int = 1754) -> FigureExplorer:
    """Explore how many tokens a picture costs in each model of `vision.RULES`, by its size.

    width, height: the first values, in pixels; by default an A4 page at 150 dpi. Markers count.
    ValueError for a side outside of 28 to 5,000 pixels.
    """
    for side in (width, height):
        if not SMALLEST <= side <= LARGEST:
            raise ValueError(f"a side of {side} pixels; it must be {SMALLEST} to {LARGEST:,}")
    return live(
        _plot,
        slider("width", SMALLEST, LARGEST, width, 1),
        slider("height", SMALLEST, LARGEST, height, 1),
    )


def _plot(width: float, height: float) -> tuple[Figure, str]:
    across, down = round(width), round(height)
    costs = {model: vision.cost(model, across, down) for model in vision.RULES}
    thousands = {model: cost.total / 1000 for model, cost in costs.items()}
    sizes = [
        f"{model} {cost.total:,} (read as {cost.width:,} x {cost.height:,})"
        for model, cost in costs.items()
    ]
    words = f"{across:,} x {down:,} pixels, in tokens: {'; '.join(sizes)}."
    return plots.bars(thousands, x="tokens (thousands)"), words
