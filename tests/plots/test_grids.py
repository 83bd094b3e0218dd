"""Grids of numbers: every number is drawn, readable on both grounds, and described in words."""

import numpy as np
from matplotlib.text import Text
from test_charts import READABLE, contrast, on_dark_page, text_areas

from openmodels import plots

PANELS = {"row": np.arange(12).reshape(3, 4), "column": np.full((2, 5), 7)}


def test_every_number_is_written_once():
    figure = plots.numbers(PANELS, x="column", y="row")
    for axes, grid in zip(figure.axes, PANELS.values(), strict=True):
        texts = [text.get_text() for text in axes.texts]
        assert texts == [str(value) for value in grid.flatten()]
        assert axes.get_xlabel() == "column" and axes.get_ylim()[0] == len(grid)
    assert figure.axes[0].get_ylabel() == "row"


def test_the_words_have_the_first_and_the_last_row():
    alt = plots.numbers(PANELS, x="column", y="row", conclusion="Rows count up.").alt
    assert alt.startswith("Rows count up. Grid of numbers by row and column.")
    assert "row (3 x 4); row 0: 0 1 2 3; row 2: 8 9 10 11." in alt and "1: 4 5" not in alt


def test_labelled_rows_are_all_in_the_words():
    figure = plots.numbers({"ids": PANELS["row"]}, "token", "part", rows=("t", "h", "w"))
    assert "t: 0 1 2 3; h: 4 5 6 7; w: 8 9 10 11." in figure.alt
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["t", "h", "w"]


def test_the_numbers_are_readable_on_both_pages():
    figure = plots.numbers(PANELS, x="column", y="row")
    assert len(figure.findobj(Text)) > 22
    for text, area in text_areas(figure):
        assert contrast(area) >= READABLE, f"{text!r} on a white page"
        assert contrast(on_dark_page(area)) >= READABLE, f"{text!r} on a dark page"
