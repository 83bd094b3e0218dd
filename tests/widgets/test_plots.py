"""The figures of the course, as `plots` draws them."""

import pytest

from openmodels import licences, plots
from openmodels.minis import tokenizer as miniature_tokenizer

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def tokenizer():
    return miniature_tokenizer.load()


def test_a_figure_is_the_same_file_every_time(tokenizer):
    first, second = (plots.png(plots.tokens(tokenizer, "Petra pays 47 coins.")) for _ in range(2))
    assert first == second
    assert first.startswith(PNG)


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


def test_show_carries_the_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda data, **options: shown.append((data, options)))
    plots.show(plots.bars({"a": 1}, x="x"), alt="One bar.")
    [(data, options)] = shown
    assert data["image/png"].startswith(PNG)
    assert data["text/plain"] == "One bar."
    assert options["metadata"]["image/png"]["alt"] == "One bar."


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
