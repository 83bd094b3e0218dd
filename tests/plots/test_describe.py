"""Alt text: the sentence holds the chart's kind, its axes and the key values of its data."""

import numpy as np
import pytest

from openmodels import plots
from openmodels.inside.architecture import Part
from openmodels.plots import describe


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01884, "0.0188"), (4.4712, "4.47"), (131072, "131,072"), (5.23e-5, "5.23e-05")],
)
def test_numbers_have_three_digits(value, text):
    assert describe.number(value) == text


@pytest.mark.parametrize(
    ("xs", "ys", "text"),
    [
        ([16, 8.5, 4.5], [6e-8, 5e-5, 0.006], "6e-08 at 16, 5e-05 at 8.5, 0.006 at 4.5"),
        (range(6), [1, 2, 4, 4, 8, 16], "rises from 1 at 0 to 16 at 5"),
        (range(6), [9, 8, 7, 6, 5, 4], "falls from 9 at 0 to 4 at 5"),
        (range(6), [3] * 6, "3 from 0 to 5"),
        (range(6), [3, 1, 5, 2, 9, 4], "from 3 at 0 to 4 at 5, lowest 1 at 1, highest 9 at 4"),
        (range(6), [3, 1, 5, 2, 4, 9], "from 3 at 0 to 9 at 5, lowest 1 at 1"),
        ([1, 2], np.array([0.5, 0.25]), "0.5 at 1, 0.25 at 2"),
    ],
)
def test_a_line_gives_its_points_or_its_ends_and_extremes(xs, ys, text):
    assert describe.curve(xs, ys) == text


def test_lines_name_axes_scales_and_series():
    series = {"dense": ([1, 2], [3, 4]), "mixture": ([1, 2], [5, 6])}
    figure = plots.lines(series, x="tokens", y="GB", log="x", conclusion="Both grow")
    assert figure.alt == (
        "Both grow. Line chart of GB by tokens; logarithmic x axis. "
        "dense: 3 at 1, 4 at 2. mixture: 5 at 1, 6 at 2."
    )
    nameless = plots.lines({"": ([1, 2], [3, 4])}, x="tokens", y="GB").alt
    assert nameless == "Line chart of GB by tokens. 3 at 1, 4 at 2."


def test_bars_give_every_value():
    alt = plots.bars({"8 bits\none scale": 1.234, "4 bits": -20}, x="error (%)").alt
    assert alt == "Bar chart of error (%). 8 bits, one scale 1.23; 4 bits -20."


def test_intervals_give_both_bounds():
    alt = plots.intervals({"f16": (0.991, 0.97, 1), "q4": (0.5, 0.4, 0.6)}, x="right (%)").alt
    assert "f16 99.1 (97.0 to 100.0); q4 50.0 (40.0 to 60.0)" in alt


def test_stacked_gives_shares_of_each_row():
    alt = plots.stacked({"small": {"a": 1, "b": 3}, "large": {"a": 2, "b": 1}}, x="share (%)").alt
    assert "small: a 25 %; b 75 %. large: a 66.7 %; b 33.3 %." in alt


def test_a_timeline_gives_ranges_names_and_the_level():
    groups = {"Apache": [("2024-05", 7.0), ("2023-09-27", 7.3)], "none": []}
    names = {"mistral |": ("2023-09-27", 7.3)}
    alt = plots.timeline(groups, "billions", names, ("this machine", 20.0)).alt
    assert "Apache: 2 from 2023-09-27 to 2024-05, 7 to 7.3." in alt
    assert "mistral 7.3 in 2023-09-27" in alt and "Line at 20: this machine." in alt


def test_answers_group_the_questions_of_a_row():
    row = {"sell": "yes", "host": "no", "pass on": "yes"}
    alt = plots.answers({"kimi": row | {"train": "not known"}, "qwen": row | {"train": "yes"}}).alt
    assert "kimi, yes: sell, pass on; no: host; not known: train." in alt
    assert "qwen, yes: sell, pass on, train; no: host." in alt


def test_tokens_are_listed():
    assert describe.tokens("a rope", ["a", "␣rope"]) == "'a rope' in 2 tokens: a|␣rope."


def test_chances_give_the_likeliest_and_the_nucleus():
    panels = {
        "cold": (["a", "b", "c", "d"], [0.9, 0.05, 0.03, 0.02], 1),
        "hot": (["a"], [0.2], 1536),
    }
    assert "cold: a 90 %; b 5 %; c 3 %; 1 token in the nucleus." in describe.chances(panels)
    assert "hot: a 20 %; 1,536 tokens in the nucleus." in describe.chances(panels)


def test_blocks_give_sizes_and_the_largest_group():
    parts = [
        Part("", "norms", (), 1_000_000),
        Part("mlp: MoE", "experts.up_proj", (4, 8, 8), 2_000_000),
        Part("mlp: MoE", "experts.down_proj", (4, 8, 8), 1_000_000),
    ]
    assert "Scout: 3 tensors, 4 M, 75 % in mlp: MoE." in plots.blocks({"Scout": parts}).alt


def test_masks_give_the_reach_of_the_last_token():
    full = np.tri(6, dtype=bool)
    window = full & ~np.tri(6, k=-2, dtype=bool)
    chunk = full & (np.arange(6)[:, None] // 4 == np.arange(6) // 4)
    alt = plots.masks({"full": full, "window": window, "chunk": chunk}).alt
    assert "full: token 6 reaches 6 tokens." in alt
    assert "window: token 6 reaches 2 tokens." in alt
    assert "chunk: token 6 reaches 2 tokens, and none more than 4." in alt


def test_heat_gives_the_extremes_with_their_places():
    alt = plots.heat({"layer 1": [[0.1, 0.2], [0.65, 0.05]]}, ["digit", "word"], "expert", "%").alt
    assert "layer 1: highest 65 in word, expert 0; lowest 5 in word, expert 1." in alt


def test_a_heat_map_can_name_its_columns_and_share_a_scale():
    panels = {"t": [[0.1, 0.5]]}
    figure = plots.heat(panels, ["r"], "place", "%", columns=["start", "end"], full=1)
    assert "highest 50 in r, place end" in figure.alt
    [mesh] = figure.axes[0].collections
    assert mesh.get_clim() == (0, 1)
    [mesh] = plots.heat(panels, ["r"], "place", "%").axes[0].collections
    assert mesh.get_clim() == (0, 0.5)


def test_numbers_of_parameters():
    numbers = (671e9, 62_914_560, 81_920, 64)
    assert [describe.short(n) for n in numbers] == ["671 B", "62.9 M", "81.9 K", "64"]
