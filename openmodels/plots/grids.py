"""Draw small grids of whole numbers, such as the positions or windows of a picture's patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import ArrayLike

from openmodels.plots import describe
from openmodels.plots.charts import LOOK, MIDDLE
from openmodels.plots.figure import DescribedFigure

CELL = 0.29  # inches a side


@matplotlib.rc_context(LOOK)
def numbers(
    panels: Mapping[str, ArrayLike],
    x: str,
    y: str,
    rows: Sequence[str] = (),
    *,
    conclusion: str = "",
) -> DescribedFigure:
    """Draw whole numbers in cells, one grid per title; a stronger shade is a larger number.

    panels: title to a (rows, columns) matrix. rows: their labels; without them, their numbers.
    """
    grids = {title: np.asarray(panel) for title, panel in panels.items()}
    columns = [grid.shape[1] for grid in grids.values()]
    height = max(len(grid) for grid in grids.values())
    figure = DescribedFigure(
        figsize=(sum(columns) * CELL + 0.9 * len(columns), height * CELL + 1.1),
        layout="constrained",
    )
    axes = figure.subplots(1, len(grids), squeeze=False, width_ratios=columns)[0]
    colours = LinearSegmentedColormap.from_list("numbers", ["white", MIDDLE])
    for axis, (title, grid) in zip(axes, grids.items(), strict=True):
        axis.pcolormesh(grid, cmap=colours, edgecolors="#bbbbbb", linewidth=0.4)
        for (row, column), value in np.ndenumerate(grid):
            axis.text(column + 0.5, row + 0.54, str(value), ha="center", va="center", fontsize=8)
        axis.set_xticks(np.arange(grid.shape[1]) + 0.5, range(grid.shape[1]), fontsize=8)
        axis.set_yticks(np.arange(len(grid)) + 0.5, rows or range(len(grid)), fontsize=8)
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=10)
        axis.set(xlabel=x, ylim=(len(grid), 0), aspect="equal")
        axis.grid(visible=False)
    axes[0].set_ylabel(y)
    figure.alt = describe.sentences(conclusion, _described(grids, x, y, rows))
    return figure


def _described(grids: Mapping[str, np.ndarray], x: str, y: str, rows: Sequence[str]) -> str:
    """Return the first and the last row of each grid in words; of labelled rows, all."""
    texts = []
    for title, grid in grids.items():
        labels = list(rows) or [f"{y} {number}" for number in range(len(grid))]
        places = range(len(grid)) if rows else sorted({0, len(grid) - 1})
        lines = [f"{labels[place]}: {' '.join(map(str, grid[place]))}" for place in places]
        texts.append("; ".join([f"{title} ({len(grid)} x {grid.shape[1]})", *lines]))
    return describe.sentences(f"Grid of numbers by {y} and {x}", *texts)
