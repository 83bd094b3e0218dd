"""Charts: units, looks that differ without colour, and ink that is readable on both grounds."""

import inspect

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from openmodels import licences, plots
from openmodels.inside.architecture import Part
from openmodels.minis import tokenizer as miniature_tokenizer
from openmodels.plots import charts

LIGHT_PAGE, DARK_PAGE = 255, 0x11
HUE_HALF_TURN = np.array(  # of the CSS filter hue-rotate(180deg), by the Filter Effects module
    [[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]]
)
READABLE = 4.5  # contrast of text by WCAG 2.2, level AA


@pytest.fixture(scope="module")
def tokenizer():
    return miniature_tokenizer.load()


def test_series_and_parts_differ_without_colour():
    looks = [(look["linestyle"], look["marker"]) for look in plots.SERIES]
    assert len(set(looks)) == len(looks)
    hatches = [(part.get("hatch"), part["facecolor"] == plots.DARK) for part in plots.PARTS]
    assert len(set(hatches)) == len(hatches)


def test_lines_have_units_and_a_legend():
    series = {"one": ([1, 2], [3, 4]), "two": ([1, 2], [5, 6])}
    [axes] = plots.lines(series, x="tokens", y="GB", log="x").axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("tokens", "GB", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]
    assert axes.get_ylim()[0] == 0


def test_stacked_shows_shares_of_each_row():
    rows = {"small": {"a": 1, "b": 3}, "large": {"a": 50, "b": 50}}
    [axes] = plots.stacked(rows, x="share (%)").axes
    assert [patch.get_width() for patch in axes.patches] == [25, 50, 75, 50]


def test_chances_tell_the_nucleus_from_the_rest():
    [axes] = plots.chances({"t": (["a", "b", "c"], [0.5, 0.3, 0.2], 2)}).axes
    assert [bar.get_hatch() for bar in axes.patches] == ["", "", "//"]
    assert [bar.get_width() for bar in axes.patches] == [50, 30, 20]


def test_more_series_than_looks_are_refused():
    many = {str(number): ([1], [1]) for number in range(len(plots.SERIES) + 1)}
    with pytest.raises(ValueError, match="at most"):
        plots.lines(many, x="x", y="y")


# --- Readable on a white page and on JupyterLab's dark one ----------------------------------------


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Return the relative luminance (...) of colours (..., 3) from 0 to 255, by WCAG."""
    channels = rgb / 255
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((np.maximum(channels, 0) + 0.055) / 1.055) ** 2.4
    )
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def on_dark_page(rgb: np.ndarray) -> np.ndarray:
    """Return how a dark page shows pixels (..., 3): as little ink as possible, inverted."""
    alpha = 1 - rgb.min(-1, keepdims=True) / 255
    colour = 255 - (255 - rgb) / np.maximum(alpha, 1 / 255)
    inverted = np.clip((255 - colour) @ HUE_HALF_TURN.T, 0, 255)
    return alpha * inverted + (1 - alpha) * DARK_PAGE


def contrast(pixels: np.ndarray) -> float:
    """Return the contrast between the most frequent colour of an area and the farthest from it."""
    values = luminance(pixels.reshape(-1, 3).astype(float)).round(3)
    levels, counts = np.unique(values, return_counts=True)
    ground = levels[counts.argmax()]
    return max((max(ground, level) + 0.05) / (min(ground, level) + 0.05) for level in levels)


def figures(tokenizer) -> dict[str, plots.DescribedFigure]:
    """Return a figure of every kind."""
    shares = np.linspace(0, 1, 10).reshape(2, 5)
    parts = [Part("", "norms", (), 64), Part("mlp: MoE", "experts.up_proj", (4, 8, 8), 256)]
    groups = {name: [("2024-05", 7.0), ("2025-01-02", 70.0)] for name in ("a", "b", "c", "d")}
    verdicts = dict(zip("pqrs", plots.ANSWERS, strict=True))
    return {
        "lines": plots.lines({k: ([1, 2], [3, 4]) for k in "abcd"}, x="tokens", y="GB"),
        "bars": plots.bars({"a": 4.5, "b": 0.02}, x="nats"),
        "intervals": plots.intervals({"a": (0.5, 0.4, 0.6)}, x="right (%)"),
        "stacked": plots.stacked({"a": {"p": 2, "q": 3, "r": 4}}, x="share (%)"),
        "timeline": plots.timeline(groups, "billions", {"x |": ("2024-05", 7.0)}, ("here", 20.0)),
        "answers": plots.answers({"a": verdicts}),
        "tokens": plots.tokens(tokenizer, "Petra pays 47 coins."),
        "chances": plots.chances({"t": (["a", "b"], [0.7, 0.3], 1)}),
        "blocks": plots.blocks({"a": parts, "b": parts}),
        "masks": plots.masks({"full": np.tri(5, dtype=bool)}),
        "heat": plots.heat({"t": shares}, ["r", "s"], "expert", "share (%)"),
    }


def outside_the_view(figure: plots.DescribedFigure) -> set[int]:
    """Return the ids of tick labels that are not drawn, since their tick lies beyond the axis."""
    return {
        id(tick.label1)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }


def text_areas(figure: plots.DescribedFigure) -> list[tuple[str, np.ndarray]]:
    """Return every text of a figure with the pixels (rows, columns, 3) around it."""
    figure.set_dpi(300)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    height = len(pixels)
    areas = []
    for text in figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible()):
        box = text.get_window_extent(canvas.get_renderer())
        area = pixels[
            max(round(height - box.y1), 0) : max(round(height - box.y0), 0),
            max(round(box.x0), 0) : max(round(box.x1), 0),
        ]
        if text.get_text().strip() and area.size and id(text) not in outside_the_view(figure):
            areas.append((text.get_text(), area))
    return areas


PHOTOS = {"images"}  # they keep their colours on dark pages
KINDS = [
    name
    for name, function in inspect.getmembers(charts, inspect.isfunction)
    if function.__module__ == charts.__name__ and name[0] != "_" and name not in PHOTOS
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_is_readable_on_both_pages(kind, tokenizer):
    drawn = figures(tokenizer)
    assert kind in plots.__all__, f"offer {kind} in openmodels/plots/__init__.py"
    assert kind in drawn, f"add plots.{kind} to `figures` in this file"
    areas = text_areas(drawn[kind])
    assert len(areas) >= 3
    for text, area in areas:
        assert contrast(area) >= READABLE, f"{text!r} on a white page"
        assert contrast(on_dark_page(area)) >= READABLE, f"{text!r} on a dark page"


def test_pale_ink_is_found():
    figure = plots.bars({"a": 1}, x="nats")
    figure.axes[0].set_title("title", color="#999999")
    [area] = [area for text, area in text_areas(figure) if text == "title"]
    assert contrast(area) < READABLE


def test_pictures_keep_their_colours():
    flag = Image.new("RGB", (64, 64), "red")
    figure = plots.images({"What colour is the flag?": flag}, ["red"])
    assert figure.alt == "A picture. What colour is the flag? red."
    assert list(figure.get_size_inches()) == [2, 2]
    assert list(plots.images({"a flag": flag, "a sail": flag}, side=4).get_size_inches()) == [8, 4]
    assert plots.images({"a flag": flag, "a sail": flag}).alt.endswith(
        "side by side. a flag. a sail."
    )
    page = plots.html_image(figure, figure.alt, photo=figure.photo)
    assert "invert" not in page


def test_a_timeline_tells_groups_apart_by_marker():
    groups = {"old": [("2024-01", 7.0)], "new": [("2026-10-29", 1000.0), ("2026-02", 30.0)]}
    figure = plots.timeline(groups, "parameters", {"seven |": ("2024-01", 7.0)}, ("here", 20.0))
    [axes] = figure.axes
    assert axes.get_yscale() == "log" and axes.get_ylabel() == "parameters"
    drawn = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in drawn] == [1, 2]
    assert len({look["marker"] for look in plots.POINTS}) == len(plots.POINTS)
    assert {text.get_text() for text in axes.texts} == {"seven", "here"}
    assert plots.png(figure) == plots.png(
        plots.timeline(groups, "parameters", {"seven |": ("2024-01", 7.0)}, ("here", 20.0))
    )
    with pytest.raises(ValueError, match="at most"):
        plots.timeline({str(n): [] for n in range(len(plots.POINTS) + 1)}, "x")


def test_a_grid_of_answers_shows_each_in_its_place():
    rows = {"a": {"q": "yes", "r": "no"}, "b": {"q": "no", "r": "not known"}}
    [axes] = plots.answers(rows).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"yes": [[0, 0]], "yes, if": [], "no": [[1, 0], [0, 1]], "not known": [[1, 1]]}
    assert set(plots.ANSWERS) == set(licences.VERDICTS)
    looks = [(look["marker"], look.get("fillstyle")) for look in plots.ANSWERS.values()]
    assert len(set(looks)) == len(looks)


def test_intervals_show_every_row_in_per_cent():
    [axes] = plots.intervals({"one": (0.5, 0.4, 0.6), "two": (0.9, 0.8, 0.95)}, "share (%)").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert [text.get_text() for text in axes.texts] == ["50.0", "90.0"]
    assert axes.get_xlabel() == "share (%)"
