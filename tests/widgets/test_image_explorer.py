"""Tokens of a picture: the explorer shows what the rules say, for every size of its sliders."""

import html
import re

import pytest

from openmodels.inside import vision
from openmodels.widgets import image_explorer


def test_the_words_and_the_alt_text_have_every_models_tokens():
    explorer = image_explorer.image_tokens(336, 672)
    for model in vision.RULES:
        cost = vision.cost(model, 336, 672)
        expected = f"{model} {cost.total:,} (read as {cost.width:,} x {cost.height:,})"
        assert expected in explorer.text
    assert html.unescape(re.search('alt="(.*?)"', explorer.picture.value)[1]) == explorer.text


def test_moving_a_slider_counts_again():
    explorer = image_explorer.image_tokens()
    assert explorer.text.startswith("1,240 x 1,754 pixels")
    width, height = explorer.controls
    before = explorer.picture.value
    width.value = 300
    assert explorer.text.startswith("300 x 1,754 pixels") and explorer.picture.value != before
    height.value = 28
    assert f"qwen2.5-vl-7b {vision.cost('qwen2.5-vl-7b', 300, 28).total} " in explorer.text
    assert all(control.description and control.tabbable is not False for control in (width, height))


@pytest.mark.parametrize("width, height", [(28, 5000), (5000, 28), (28, 28), (5000, 5000)])
def test_the_ends_of_the_sliders_have_a_cost(width, height):
    explorer = image_explorer.image_tokens(width, height)
    assert explorer.text.count("read as") == len(vision.RULES)


def test_a_side_beyond_the_sliders_is_refused():
    with pytest.raises(ValueError, match="5001 pixels; it must be 28 to 5,000"):
        image_explorer.image_tokens(5001, 100)
