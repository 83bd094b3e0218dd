"""Controls above a figure: moving a control draws the figure again."""

import pytest

from openmodels import plots
from openmodels.widgets import controls
from openmodels.widgets.figure_explorer import live


def test_moving_a_control_draws_the_figure_again():
    def draw(days: float, knots: float):
        return plots.bars({"miles": 24 * days * knots}, x="miles"), f"<{days * knots:.0f}>"

    sliders = controls.slider("days", 1, 7, 3, 1), controls.slider("knots", 1, 9, 2, 1)
    explorer = live(draw, *sliders)
    assert "&lt;6&gt;" in explorer.children[-1].value
    sliders[0].value = 4
    assert "&lt;8&gt;" in explorer.children[-1].value


def test_without_a_kernel_the_words_stay_as_text():
    explorer = live(
        lambda days_out: (plots.bars({"a": days_out}, x="x"), f"<{days_out:.0f}> & more"),
        controls.slider("days out", 1, 7, 3, 1),
    )
    assert explorer._repr_mimebundle_()["text/plain"] == "<3> & more"


def test_an_error_while_drawing_is_not_hidden():
    slider = controls.slider("days", 1, 7, 3, 1)
    live(lambda days: (plots.bars({"a": 1 / (days - 5)}, x="x"), "a"), slider)
    with pytest.raises(ZeroDivisionError):
        slider.value = 5
