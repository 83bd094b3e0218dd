"""Draw the course's charts. Each function returns a figure that carries its alt text.

Colour is never the only difference: series differ in dash and marker too, bars in hatching.
Every chart takes `conclusion`, a sentence that its alt text begins with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike
from PIL import Image

from openmodels.plots import describe
from openmodels.plots.figure import DescribedFigure, canvas

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from openmodels.inside.architecture import Part

DARK, LIGHT = "#17406d", "#c9d6e3"
MIDDLE = "#6b97c6"  # black on it is readable, and white on its inverse
LOOK = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": "#dddddd",
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
}
SERIES = (
    {"color": DARK, "linestyle": "-", "marker": "o"},
    {"color": "#c2571a", "linestyle": "--", "marker": "s"},
    {"color": "#4f7f3a", "linestyle": ":", "marker": "^"},
    {"color": "#777777", "linestyle": "-.", "marker": "D"},
)
POINTS = (  # markers alone tell them apart, in grey too
    {"marker": "o", "markersize": 6, "color": DARK},
    {"marker": "s", "markersize": 7, "markerfacecolor": "white", "color": "#c2571a", "mew": 1.6},
    {"marker": "x", "markersize": 7, "color": "#333333", "mew": 1.8},
    {"marker": "^", "markersize": 7, "markerfacecolor": LIGHT, "color": "#4f7f3a"},
)
ANSWERS = {
    "yes": {"marker": "o"},
    "yes, if": {"marker": "o", "fillstyle": "bottom", "markerfacecoloralt": "white"},
    "no": {"marker": "x", "mew": 2},
    "not known": {"marker": "$?$"},
}
PARTS = (
    {"facecolor": DARK},
    {"facecolor": LIGHT, "hatch": "//"},
    {"facecolor": "white", "hatch": ".."},
)


@matplotlib.rc_context(LOOK)
def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    log: str = "",
    *,
    conclusion: str = "",
) -> DescribedFigure:
    """Draw one line per label, from (x values, y values). `log`: logarithmic axes, e.g. "xy".

    Raises:
        ValueError: for more series than can be told apart.
    """
    if len(series) > len(SERIES):
        raise ValueError(
            f"{len(series)} lines in one figure; at most {len(SERIES)} can be told apart"
        )
    figure, [axes] = canvas(height=3.4)
    for (label, (across, up)), look in zip(series.items(), SERIES, strict=False):
        axes.plot(across, up, label=label, markersize=5, **look)
    axes.set(xlabel=x, ylabel=y)
    if "x" in log:
        axes.set_xscale("log")
        ticks = max((across for across, _ in series.values()), key=len)
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    if "y" in log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high / low < 100:  # too few powers of ten to read by
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    if len(series) > 1:
        axes.legend(handlelength=4)
    figure.alt = describe.sentences(conclusion, describe.lines(series, x, y, log))
    return figure


@matplotlib.rc_context(LOOK)
def bars(values: Mapping[str, float], x: str, *, conclusion: str = "") -> DescribedFigure:
    """Draw one horizontal bar per label, the first on top, each with its value."""
    figure, [axes] = canvas(height=0.5 + 0.4 * len(values))
    rectangles = axes.barh(list(values), list(values.values()), color=DARK, height=0.6)
    axes.bar_label(rectangles, fmt="%.3g", padding=4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    axes.set(xlabel=x)
    if min(values.values()) < 0:
        axes.margins(x=0.12)  # room for the numbers on the left
    axes.grid(visible=False, axis="y")
    figure.alt = describe.sentences(conclusion, describe.bars(values, x))
    return figure


@matplotlib.rc_context(LOOK)
def intervals(
    rows: Mapping[str, tuple[float, float, float]], x: str, *, conclusion: str = ""
) -> DescribedFigure:
    """Draw one point with whiskers per row, from (share, low, high), each 0 to 1; in per cent."""
    figure, [axes] = canvas(height=0.8 + 0.36 * len(rows))
    for place, (share, low, high) in enumerate(rows.values()):
        whiskers = [[100 * (share - low)], [100 * (high - share)]]
        axes.errorbar(
            100 * share, place, xerr=whiskers, fmt="o", color=DARK, capsize=4, markersize=5
        )
        axes.annotate(
            f"{100 * share:.1f}", (100 * share, place), (0, 5), textcoords="offset points",
            ha="center", fontsize=8.5,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel=x, ylim=(len(rows) - 0.5, -0.7))
    axes.margins(x=0.06)
    figure.alt = describe.sentences(conclusion, describe.intervals(rows, x))
    return figure


@matplotlib.rc_context(LOOK)
def stacked(
    rows: Mapping[str, Mapping[str, float]], x: str, *, conclusion: str = ""
) -> DescribedFigure:
    """Draw one horizontal bar per row, made of the same parts (at most 3), in per cent."""
    figure, [axes] = canvas(height=1.2 + 0.5 * len(rows))
    start = dict.fromkeys(rows, 0.0)
    for part, look in zip(next(iter(rows.values())), PARTS, strict=False):
        share = {row: 100 * parts[part] / sum(parts.values()) for row, parts in rows.items()}
        rectangles = axes.barh(
            list(rows), list(share.values()), left=list(start.values()), label=part,
            edgecolor=DARK, height=0.6, **look,
        )  # fmt: skip
        colour = "white" if look["facecolor"] == DARK else "black"
        box = {"facecolor": look["facecolor"], "edgecolor": "none", "pad": 1}
        axes.bar_label(rectangles, fmt="%.0f %%", label_type="center", color=colour, bbox=box)
        start = {row: start[row] + share[row] for row in rows}
    axes.invert_yaxis()
    axes.set(xlabel=x, xlim=(0, 100))
    axes.grid(visible=False)
    axes.legend(ncols=len(PARTS), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.alt = describe.sentences(conclusion, describe.stacked(rows, x))
    return figure


@matplotlib.rc_context(LOOK)
def timeline(
    groups: Mapping[str, Sequence[tuple[str, float]]],
    y: str,
    names: Mapping[str, tuple[str, float]] | None = None,
    level: tuple[str, float] | None = None,
    *,
    conclusion: str = "",
) -> DescribedFigure:
    """Draw points in time, from (date as YYYY-MM-DD or YYYY-MM, value) per group.

    The values stand on a logarithmic axis. `names`: points to label, from name to (date, value); a
    name with " |" at its end stands to the left of its point. `level`: a named horizontal line.

    Raises:
        ValueError: for more groups than POINTS has markers.
    """
    if len(groups) > len(POINTS):
        raise ValueError(f"{len(groups)} groups in one figure; at most {len(POINTS)} differ")
    figure, [axes] = canvas(width=8, height=4.2)
    for (label, points), look in zip(groups.items(), POINTS, strict=False):
        days = [np.datetime64(day, "D") for day, _ in points]
        axes.plot(days, [v for _, v in points], label=label, linestyle="", alpha=0.9, **look)
    for name, (day, value) in (names or {}).items():
        offset, side = (-7, "right") if name.endswith(" |") else (7, "left")
        axes.annotate(
            name.removesuffix(" |"), (np.datetime64(day, "D"), value), (offset, 0),
            textcoords="offset points", ha=side, va="center", fontsize=8.5,
        )  # fmt: skip
    if level:
        name, value = level
        axes.axhline(value, color="#555555", linestyle="--", linewidth=1)
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate(name, (0.995, value), **place, fontsize=8.5)
    axes.set(ylabel=y, yscale="log")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.margins(x=0.04)
    axes.legend(ncols=len(POINTS), loc="lower center", bbox_to_anchor=(0.5, 1.0), handletextpad=0)
    text = describe.timeline(groups, y, names or {}, level)
    figure.alt = describe.sentences(conclusion, text)
    return figure


@matplotlib.rc_context(LOOK)
def answers(rows: Mapping[str, Mapping[str, str]], *, conclusion: str = "") -> DescribedFigure:
    """Draw a grid of answers, each a key of ANSWERS: a line per row, a column per question."""
    questions = list(next(iter(rows.values())))
    figure, [axes] = canvas(width=8, height=1.1 + 0.34 * len(rows))
    for answer, look in ANSWERS.items():
        places = [
            (column, line)
            for line, row in enumerate(rows.values())
            for column, question in enumerate(questions)
            if row[question] == answer
        ]
        across, down = zip(*places, strict=True) if places else ((), ())
        axes.plot(across, down, linestyle="", markersize=11, label=answer, color=DARK, **look)
    axes.set_xticks(range(len(questions)), questions)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlim=(-0.5, len(questions) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.legend(ncols=len(ANSWERS), loc="upper center", bbox_to_anchor=(0.5, 0.0))
    figure.alt = describe.sentences(conclusion, describe.answers(rows))
    return figure


@matplotlib.rc_context(LOOK)
def tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, *, conclusion: str = ""
) -> DescribedFigure:
    """Draw the text cut into its tokens, each with its id below; a space shows as ␣."""
    ids = tokenizer(text)["input_ids"]
    pieces = [tokenizer.decode([token]).replace(" ", "␣") for token in ids]
    figure, [axes] = canvas(height=0.9)
    start = 0.0
    for piece, token in zip(pieces, ids, strict=True):
        width = max(len(piece), 3) + 1
        axes.barh(0, width - 0.2, left=start, height=1, color=LIGHT, edgecolor=DARK)
        middle = start + width / 2 - 0.1
        axes.text(middle, 0, piece, family="monospace", ha="center", va="center", fontsize=11)
        axes.text(middle, -0.85, token, ha="center", va="center", color="#444444", fontsize=8.5)
        start += width
    axes.set(xlim=(-0.3, start), ylim=(-1.1, 0.7))
    axes.axis("off")
    figure.alt = describe.sentences(conclusion, describe.tokens(text, pieces))
    return figure


@matplotlib.rc_context(LOOK)
def chances(
    panels: Mapping[str, tuple[Sequence[str], Sequence[float], int]], *, conclusion: str = ""
) -> DescribedFigure:
    """Draw the chances of the likeliest next tokens, one panel per title.

    panels: title to (labels, shares, kept).

    The first `kept` bars are full, the others hatched: outside the nucleus. Shares are 0 to 1.
    """
    figure, axes = canvas(len(panels), height=3.4)
    for axis, (title, (labels, shares, kept)) in zip(axes, panels.items(), strict=True):
        percent = [100 * share for share in shares]
        rectangles = axis.barh(range(len(labels)), percent, height=0.7, edgecolor=DARK)
        for place, bar in enumerate(rectangles):
            bar.set(facecolor=DARK if place < kept else "white", hatch="" if place < kept else "//")
        axis.set_yticks(range(len(labels)), labels, family="monospace")
        axis.set(title=title, xlabel="chance (%)", xlim=(0, max(percent) * 1.05))
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
    figure.alt = describe.sentences(conclusion, describe.chances(panels))
    return figure


@matplotlib.rc_context(LOOK)
def blocks(layers: Mapping[str, Sequence[Part]], *, conclusion: str = "") -> DescribedFigure:
    """Draw decoder layers side by side, two in a row, each a stack of its tensors.

    layers: title to the `inside.architecture.Part`s of a layer. The filled part of a row is the
    tensor's share of its layer's parameters.
    """
    rows = -(-len(layers) // 2)
    deepest = max(len(parts) + len(_groups(parts)) for parts in layers.values())
    figure = DescribedFigure(figsize=(8, rows * (0.5 + 0.19 * deepest)), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for axis, (title, parts) in zip(axes, layers.items(), strict=False):
        _stack(axis, parts, deepest)
        axis.set_title(title, fontsize=9.5, loc="left")
    for axis in axes:
        axis.axis("off")
    figure.supxlabel("filled: share of the layer's parameters", fontsize=9)
    figure.alt = describe.sentences(conclusion, describe.blocks(layers))
    return figure


def _groups(parts: Sequence[Part]) -> dict[str, int]:
    """Return the parameters by group, in order; parts without a group have no heading."""
    inside: dict[str, int] = {}
    for part in parts:
        inside[part.group] = inside.get(part.group, 0) + part.parameters
    inside.pop("", None)
    return inside


def _stack(axis: Axes, parts: Sequence[Part], rows: int) -> None:
    """Draw the tensors of a layer from top to bottom, on axes with room for `rows` of them."""
    total, inside = sum(part.parameters for part in parts), _groups(parts)
    at, group = 0, ""
    for part in parts:
        if part.group != group:
            group = part.group
            if group:
                _row(axis, at, group, inside[group], weight="bold")
                at += 1
        axis.barh(at + 0.5, part.parameters / total, height=0.86, color=LIGHT)
        axis.barh(at + 0.5, 1, height=0.86, color="none", edgecolor=DARK, linewidth=0.6)
        shape = " × ".join(map(str, part.shape))
        _row(axis, at, f"{part.name}   {shape}", part.parameters)
        at += 1
    axis.set(xlim=(-0.01, 1.01), ylim=(rows + 0.4, 0))


def _row(axis: Axes, at: float, text: str, parameters: int, **font: object) -> None:
    """Write a text and its number of parameters in the row that starts at `at`."""
    font |= {"va": "center", "fontsize": 8}
    axis.text(0.015, at + 0.53, text, **font)
    axis.text(0.985, at + 0.53, describe.short(parameters), ha="right", **font)


@matplotlib.rc_context(LOOK)
def masks(
    panels: Mapping[str, ArrayLike],
    x: str = "token looked at",
    y: str = "token that looks",
    first: int = 1,
    *,
    conclusion: str = "",
) -> DescribedFigure:
    """Draw which token (row) looks at which (column), a square per title; a full cell: it does.

    panels: title to a boolean (tokens, tokens) matrix. first: the number of the first token.
    """
    figure, axes = canvas(len(panels), width=2.5 * len(panels), height=2.9)
    for axis, (title, mask) in zip(axes, panels.items(), strict=True):
        n = len(mask)
        edges = [first + place - 0.5 for place in range(n + 1)]
        colours = ListedColormap(["white", DARK])
        axis.pcolormesh(
            edges, edges, mask, cmap=colours, vmin=0, vmax=1, edgecolors="#bbbbbb", linewidth=0.4
        )
        ticks = [first, *range(4, first + n, 4)]
        axis.set(xticks=ticks, yticks=ticks, aspect="equal", xlabel=x)
        axis.set_title(title, fontsize=10)
        axis.invert_yaxis()
        axis.grid(visible=False)
    axes[0].set_ylabel(y)
    figure.alt = describe.sentences(conclusion, describe.masks(panels, x, y, first))
    return figure


@matplotlib.rc_context(LOOK)
def heat(
    panels: Mapping[str, ArrayLike],
    rows: Sequence[str],
    x: str,
    shade: str,
    numbers: bool = True,
    *,
    columns: Sequence[str] = (),
    full: float | None = None,
    conclusion: str = "",
) -> DescribedFigure:
    """Draw shares as shades of one colour, one panel per title; a stronger shade is more.

    panels: title to a (rows, columns) matrix of shares, 0 to 1. rows: their labels, drawn once.
    shade: what a shade means. numbers: write each share into its cell, in per cent. columns: their
    labels, by default their numbers. full: the share with the strongest shade, by default the
    largest; set it if figures are compared.
    """
    inches = 0.6 if columns else 0.38  # of a column
    width = 1.6 + sum(inches * len(panel[0]) + 0.2 for panel in panels.values())
    height = 1.25 + 0.27 * len(rows)
    figure, axes = canvas(len(panels), width=width, height=height)
    colours = LinearSegmentedColormap.from_list("shares", ["white", MIDDLE if numbers else DARK])
    most = full or max(float(np.asarray(panel).max()) for panel in panels.values())
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        values = np.asarray(panel, dtype=float)  # (rows, columns)
        axis.pcolormesh(values, cmap=colours, vmin=0, vmax=most, edgecolors="white", linewidth=0.6)
        axis.set_xticks(np.arange(values.shape[1]) + 0.5, columns or range(values.shape[1]))
        axis.set_yticks(np.arange(len(rows)) + 0.5, rows if axis is axes[0] else [""] * len(rows))
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=10)
        axis.set(xlabel=x, ylim=(len(rows), 0))
        axis.grid(visible=False)
        if numbers:
            for (row, column), value in np.ndenumerate(values):
                axis.text(
                    column + 0.5, row + 0.52, f"{100 * value:.0f}",
                    ha="center", va="center", fontsize=8,
                )  # fmt: skip
    figure.supxlabel(shade, fontsize=9)
    figure.alt = describe.sentences(conclusion, describe.heat(panels, rows, x, shade, columns))
    return figure


def images(
    panels: Mapping[str, Image.Image],
    contents: Sequence[str] = (),
    *,
    side: float = 2,
    conclusion: str = "",
) -> DescribedFigure:
    """Show pictures side by side in their own colours, from title to picture.

    contents: what each picture shows, e.g. the answer to the question in its title. Titles and
    contents become the alt text; they are not drawn. side: inches of the square around a picture.
    """
    figure, axes = canvas(len(panels), width=side * len(panels), height=side)
    for axis, picture in zip(axes, panels.values(), strict=True):
        axis.imshow(picture)
        axis.set_axis_off()
    figure.photo = True
    figure.alt = describe.sentences(conclusion, describe.images(list(panels), contents))
    return figure
