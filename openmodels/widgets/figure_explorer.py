"""Controls above a figure: moving a control draws the figure again."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

import ipywidgets
from matplotlib.figure import Figure

from openmodels import plots
from openmodels.widgets.controls import align, argument_name, status

Draw = Callable[..., tuple[Figure, str]]


class FigureExplorer(ipywidgets.VBox):
    """Controls, the figure that `draw` returns for their values, and the figure in words.

    draw: gets each control's value under its label, with _ for spaces and signs. It returns the
    figure and what the figure shows; these words stand below it and are its alternative text.
    Where no kernel runs, the words for the first values remain as text.
    """

    def __init__(self, draw: Draw, controls: Sequence[ipywidgets.DOMWidget]) -> None:
        self.draw, self.controls = draw, tuple(controls)
        self.picture, self.words = ipywidgets.HTML(), ipywidgets.HTML()
        align(self.controls)
        for control in self.controls:
            control.observe(self._update, names="value")
        self._update()
        super().__init__([*self.controls, self.picture, self.words])

    def _update(self, _change: object = None) -> None:
        values = {argument_name(control): control.value for control in self.controls}
        figure, text = self.draw(**values)
        self.picture.value = plots.html_image(figure, text)
        self.words.value = status(text)

    @property
    def text(self) -> str:
        """Return the words below the figure."""
        return html.unescape(re.sub("<.*?>", "", self.words.value))

    def _repr_mimebundle_(self, **options) -> dict[str, object]:
        return super()._repr_mimebundle_(**options) | {"text/plain": self.text}


def live(draw: Draw, *controls: ipywidgets.DOMWidget) -> FigureExplorer:
    """Return the controls above the figure that `draw` returns, as `FigureExplorer` explains.

    Example: `live(lambda days: (plot(days), f"{days:.0f} days"), slider("days", 1, 7, 3, 1))`.
    """
    return FigureExplorer(draw, controls)
