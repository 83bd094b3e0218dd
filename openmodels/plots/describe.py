"""Alt text composed from the values a figure shows: its kind, axes with units, and key values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from openmodels.inside.architecture import Part

LISTED = 5  # points of a line that are all written out; a longer line gives its ends and extremes

LOGARITHMIC = {
    "": "",
    "x": "; logarithmic x axis",
    "y": "; logarithmic y axis",
    "xy": "; logarithmic axes",
}


def sentences(*parts: str) -> str:
    """Join the parts that are not empty, each ending in a full stop."""
    stripped = [part.strip() for part in parts if part.strip()]
    return " ".join(part if part[-1] in ".?" else f"{part}." for part in stripped)


def number(value: float) -> str:
    """Return a value in three digits, or with thousands separators: 0.0188, 4.47, 131,072."""
    value = float(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def short(count: float) -> str:
    """Return a number of parameters in three digits: 62,914,560 is "62.9 M"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def listed(pairs: Iterable[tuple[str, str]]) -> str:
    """Return labels with their values, as "a 1; b 2": labels may hold commas."""
    return "; ".join(f"{_flat(label)} {value}" for label, value in pairs)


def _flat(label: str) -> str:
    """Return a label in one line."""
    return ", ".join(str(label).splitlines())


def _percent(share: float) -> str:
    """Return a share from 0 to 1 in per cent."""
    return f"{100 * float(share):.1f}".removesuffix(".0") + " %"


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, log: str
) -> str:
    """Describe lines: every point of a short one, ends and extremes of a longer one."""
    return sentences(
        f"Line chart of {y} by {x}{LOGARITHMIC[''.join(sorted(log))]}",
        *(f"{label}: {curve(xs, ys)}".lstrip(": ") for label, (xs, ys) in series.items()),
    )


def curve(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Describe one line by its points."""
    points = [(number(x), number(y)) for x, y in zip(xs, ys, strict=True)]
    if len(points) <= LISTED:
        return ", ".join(f"{y} at {x}" for x, y in points)
    steps = [after - before for before, after in pairwise(map(float, ys))]
    (first_x, first_y), (last_x, last_y) = points[0], points[-1]
    ends = f"from {first_y} at {first_x} to {last_y} at {last_x}"
    if all(step == 0 for step in steps):
        return f"{first_y} from {first_x} to {last_x}"
    if all(step >= 0 for step in steps):
        return f"rises {ends}"
    if all(step <= 0 for step in steps):
        return f"falls {ends}"
    low, high = int(np.argmin(ys)), int(np.argmax(ys))
    inner = [
        f"{name} {points[place][1]} at {points[place][0]}"
        for name, place in (("lowest", low), ("highest", high))
        if place not in (0, len(points) - 1)
    ]
    return ", ".join([ends, *inner])


def bars(values: Mapping[str, float], x: str) -> str:
    """Describe bars: every label with its value, from top to bottom."""
    pairs = [(label, number(value)) for label, value in values.items()]
    return sentences(f"Bar chart of {x}", listed(pairs))


def intervals(rows: Mapping[str, tuple[float, float, float]], x: str) -> str:
    """Describe points with whiskers: every value with its interval, in per cent."""
    texts = [
        f"{_flat(label)} {100 * share:.1f} ({100 * low:.1f} to {100 * high:.1f})"
        for label, (share, low, high) in rows.items()
    ]
    return sentences(f"Points with intervals, {x}", "; ".join(texts))


def stacked(rows: Mapping[str, Mapping[str, float]], x: str) -> str:
    """Describe stacked bars: the share of every part in every row."""
    texts = []
    for label, parts in rows.items():
        total = sum(parts.values())
        pairs = [(part, _percent(value / total)) for part, value in parts.items()]
        texts.append(f"{_flat(label)}: {listed(pairs)}")
    return sentences(f"Stacked bars of {x}", *texts)


def timeline(
    groups: Mapping[str, Sequence[tuple[str, float]]],
    y: str,
    names: Mapping[str, tuple[str, float]],
    level: tuple[str, float] | None,
) -> str:
    """Describe points in time: each group's dates and range, the named points, the level."""
    texts = []
    for label, points in groups.items():
        if points:
            days, values = sorted(day for day, _ in points), [value for _, value in points]
            texts.append(
                f"{label}: {len(points)} from {days[0]} to {days[-1]}, "
                f"{number(min(values))} to {number(max(values))}"
            )
    marked = [
        (name.removesuffix(" |"), f"{number(value)} in {day}")
        for name, (day, value) in names.items()
    ]
    return sentences(
        f"Timeline of {y}; logarithmic y axis",
        *texts,
        f"Named: {listed(marked)}" if marked else "",
        f"Line at {number(level[1])}: {level[0]}" if level else "",
    )


def answers(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Describe a grid of answers: for every row, the questions by their answer."""
    texts = []
    for label, row in rows.items():
        by_answer: dict[str, list[str]] = {}
        for question, answer in row.items():
            by_answer.setdefault(answer, []).append(_flat(question))
        groups = [f"{answer}: {', '.join(uses)}" for answer, uses in by_answer.items()]
        texts.append(f"{_flat(label)}, {'; '.join(groups)}")
    return sentences("Grid of answers", *texts)


def tokens(text: str, pieces: Sequence[str]) -> str:
    """Describe a text cut into tokens; a bar stands between two."""
    return sentences(f"{text!r} in {len(pieces)} tokens: {'|'.join(pieces)}")


def chances(panels: Mapping[str, tuple[Sequence[str], Sequence[float], int]]) -> str:
    """Describe next-token chances: the three likeliest per panel, and the size of the nucleus."""
    texts = []
    for title, (labels, shares, kept) in panels.items():
        top = zip(labels[:3], map(_percent, shares[:3]), strict=True)
        nucleus = f"{kept:,} tokens in the nucleus" if kept != 1 else "1 token in the nucleus"
        texts.append(f"{_flat(title)}: {listed(top)}; {nucleus}")
    return sentences("Bars of the likeliest next tokens by chance", *texts)


def blocks(layers: Mapping[str, Sequence[Part]]) -> str:
    """Describe layers: parameters of each, and the share of its largest group or tensor."""
    texts = []
    for title, parts in layers.items():
        sizes: dict[str, int] = {}
        for part in parts:
            name = part.group or part.name
            sizes[name] = sizes.get(name, 0) + part.parameters
        total, largest = sum(sizes.values()), max(sizes, key=lambda name: sizes[name])
        share = _percent(sizes[largest] / total)
        texts.append(f"{_flat(title)}: {len(parts)} tensors, {short(total)}, {share} in {largest}")
    return sentences("The tensors of one decoder layer per model, with their parameters", *texts)


def masks(panels: Mapping[str, ArrayLike], x: str, y: str, first: int) -> str:
    """Describe masks: how many tokens the last one reaches, and the most that any reaches."""
    texts = []
    for title, mask in panels.items():
        seen = np.asarray(mask, dtype=bool)  # (tokens, tokens)
        last, most = int(seen[-1].sum()), int(seen.sum(1).max())
        text = f"{_flat(title)}: token {first + len(seen) - 1} reaches {last} tokens"
        texts.append(text if most == last else f"{text}, and none more than {most}")
    return sentences(f"Squares: each row is a {y}, each column a {x}", *texts)


def heat(
    panels: Mapping[str, ArrayLike],
    rows: Sequence[str],
    x: str,
    shade: str,
    columns: Sequence[str] = (),
) -> str:
    """Describe shades: the highest and lowest share of every panel, with row and column."""
    texts = []
    for title, panel in panels.items():
        values = np.asarray(panel, dtype=float)  # (rows, columns)
        ends = []
        for name, place in (("highest", values.argmax()), ("lowest", values.argmin())):
            row, column = np.unravel_index(place, values.shape)
            share = f"{100 * values[row, column]:.0f}"
            label = columns[column] if columns else column
            ends.append(f"{name} {share} in {rows[row]}, {x} {label}")
        texts.append(f"{_flat(title)}: {'; '.join(ends)}")
    return sentences(f"Heat map with {len(rows)} rows: {shade}", *texts)


def images(titles: Sequence[str], contents: Sequence[str] = ()) -> str:
    """Describe pictures side by side by their titles, each with what its picture shows."""
    count = f"{len(titles)} pictures side by side" if len(titles) > 1 else "A picture"
    return sentences(count, *map(" ".join, zip_longest(titles, contents, fillvalue="")))


def spotlights(
    maps: Mapping[str, ArrayLike],
    shade: str,
    box: Sequence[float] | None,
    size: tuple[int, int],
) -> str:
    """Describe maps over a picture of (width, height): the square with each largest value."""
    texts = []
    for title, values in maps.items():
        rows, columns = np.shape(values)
        row, column = np.unravel_index(int(np.argmax(values)), (rows, columns))
        texts.append(f"{_flat(title)}: most in row {row + 1}, column {column + 1}")
    where = f"The same picture {len(maps)} times, in {rows} x {columns} squares: {shade}"
    if box is None:
        return sentences(where, *texts)
    width, height = size
    x, y = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
    centre = f"row {int(y * rows) + 1}, column {int(x * columns) + 1}"
    return sentences(where, f"A dashed frame has its centre in {centre}", *texts)


def boxes(panels: Sequence[tuple[str, object, Sequence, Sequence]]) -> str:
    """Describe pictures with boxes: the coordinates of the true boxes and of the model's."""
    texts = []
    for title, _, true, predicted in panels:
        lists = (_coordinates(true), _coordinates(predicted))
        texts.append(f"{_flat(title)}: true {lists[0]}; model {lists[1]}")
    return sentences(f"{len(panels)} picture(s) with boxes (left, top, right, bottom)", *texts)


def _coordinates(values: Sequence[Sequence[float]]) -> str:
    """Return boxes as text, or "no box"."""
    texts = ["(" + ", ".join(f"{side:.0f}" for side in box) + ")" for box in values]
    return " and ".join(texts) or "no box"
