"""Controls above an answer in words and a table: changing a control looks the answer up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets

from openmodels import tables
from openmodels.widgets.controls import align, argument_name, status

SCROLL = "auto hidden"  # of a wide table: sideways only
LookUp = Callable[..., tuple[str, Sequence[tables.Row]]]


class TableExplorer(ipywidgets.VBox):
    """Controls above the words and the table that `look_up` returns for their values.

    look_up: gets each control's value under its label, with _ for spaces. It returns the words and
    the table's rows, the first row the header; no rows mean no table.
    Where no kernel runs, the answer to the first values remains as text.
    Example: `TableExplorer(lambda ship: (f"The {ship} sails.", []), choice("ship", ["Heron"]))`.
    """

    def __init__(self, look_up: LookUp, *controls: ipywidgets.DOMWidget) -> None:
        self.look_up, self.controls = look_up, controls
        self.words, self.table = ipywidgets.HTML(), ipywidgets.HTML(layout={"overflow": SCROLL})
        align(controls)
        for control in controls:
            control.observe(self._update, names="value")
        self._update()
        super().__init__([*controls, self.words, self.table])

    def _update(self, _change: object = None) -> None:
        values = {argument_name(control): control.value for control in self.controls}
        words, rows = self.look_up(**values)
        self.text = "\n\n".join(filter(None, [words, tables.as_text(rows)]))
        self.table.value = tables.as_html(rows)
        self.words.value = status(words)

    def _repr_mimebundle_(self, **options) -> dict[str, object]:
        return super()._repr_mimebundle_(**options) | {"text/plain": self.text}
