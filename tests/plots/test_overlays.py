"""Maps and boxes over pictures: what is drawn, and what the alt text says."""

import numpy as np
import pytest
from PIL import Image

from openmodels import plots

IMAGE = Image.new("RGB", (84, 56), (200, 30, 30))
VALUES = np.array([[0.1, 0.2, 0.0], [0.0, 0.6, -0.3]])


def test_spotlights_fade_small_values_and_frame_the_largest():
    figure = plots.spotlights(IMAGE, {"layer 1": VALUES}, "attention", (30, 30, 50, 50))
    [axis] = figure.axes
    picture, veil = axis.images
    alphas = np.asarray(veil.get_array())[..., 3]
    assert alphas[1, 1] == 0 and alphas.max() == alphas[1, 2] == alphas[0, 2]
    frames = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in axis.patches]
    assert (28, 28, 28, 28) in frames and (30, 30, 20, 20) in frames
    assert figure.photo


def test_spotlights_describe_themselves():
    maps = {"layer 1": VALUES, "occlusion": VALUES[::-1]}
    figure = plots.spotlights(IMAGE, maps, "attention", (30, 30, 50, 50), conclusion="They differ")
    assert figure.alt == (
        "They differ. The same picture 2 times, in 2 x 3 squares: attention. "
        "A dashed frame has its centre in row 2, column 2. "
        "layer 1: most in row 2, column 2. occlusion: most in row 1, column 2."
    )


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (7, 2)])
def test_spotlights_wrap_after_four(count, rows):
    figure = plots.spotlights(IMAGE, {str(n): VALUES for n in range(count)}, "attention")
    assert sum(bool(axis.images) for axis in figure.axes) == count
    assert figure.axes[0].get_gridspec().nrows == rows


def test_a_map_of_zeros_is_drawn():
    figure = plots.spotlights(IMAGE, {"nothing": np.zeros((2, 3))}, "attention")
    assert np.isfinite(np.asarray(figure.axes[0].images[1].get_array())).all()


def test_boxes_draw_true_and_predicted_frames_apart():
    figure = plots.boxes([("a", IMAGE, [(1, 2, 30, 40)], [(5, 6, 20, 30)]), ("b", IMAGE, [], [])])
    first, second = figure.axes
    styles = {p.get_linestyle() for p in first.patches}
    assert len(first.patches) == 4 and len(styles) == 2  # a white line below each frame
    assert not second.patches
    assert figure.alt == (
        "2 picture(s) with boxes (left, top, right, bottom). "
        "a: true (1, 2, 30, 40); model (5, 6, 20, 30). b: true no box; model no box."
    )
