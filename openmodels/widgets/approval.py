"""Pending tool calls, each with the buttons Approve and Deny."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence

import ipywidgets

from openmodels.widgets.controls import status
from openmodels.widgets.plain_text import call_line
from openmodels.workflows.tools import Call


def call_text(call: Call) -> str:
    """Return a call as one line: book_berth(ship="Heron", nights=3).

    Shows every argument in full and with quotes, because a person approves what this line says.
    """
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return f"{call.name}({call.arguments!r})"
    if not isinstance(arguments, dict):
        return f"{call.name}({call.arguments!r})"
    return call_line(call.name, arguments)


class Approval(ipywidgets.VBox):
    """A row per pending call: the call, the buttons Approve and Deny, and what was decided.

    calls: e.g. the `pending` of a run. on_decision: called with the call and the decision at each
    click. A decision can be changed until the calls run. Where no kernel runs, the calls remain as
    text.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        on_decision: Callable[[Call, bool], object] | None = None,
    ) -> None:
        self.calls, self.on_decision = list(calls), on_decision
        self._decisions: dict[str, bool] = {}
        self.words = ipywidgets.HTML()
        super().__init__([*map(self._row, self.calls), self.words])
        self._update()

    def _row(self, call: Call) -> ipywidgets.Box:
        text = f'<code style="white-space:pre-wrap">{html.escape(call_text(call))}</code>'
        buttons = [self._button("Approve", True, call), self._button("Deny", False, call)]
        layout = {"flex_flow": "row wrap", "align_items": "center"}
        return ipywidgets.Box([*buttons, ipywidgets.HTML(text)], layout=layout)

    def _button(self, name: str, decision: bool, call: Call) -> ipywidgets.Button:
        button = ipywidgets.Button(
            description=name,
            tooltip=f"{name} {call_text(call)}",
            button_style="success" if decision else "danger",
            layout={"width": "6em"},
        )

        def decide(_button: object) -> None:
            self._decisions[call.id] = decision
            self._update()
            if self.on_decision is not None:
                self.on_decision(call, decision)

        button.on_click(decide)
        return button

    def decisions(self, policy: Callable[[Call], bool | None]) -> dict[str, bool]:
        """Return a decision per call's id: a person's, else the policy's.

        A call on which both are silent has no entry, so it stays pending.
        """
        chosen = {call.id: self._decisions.get(call.id, policy(call)) for call in self.calls}
        return {name: decision for name, decision in chosen.items() if decision is not None}

    def _update(self) -> None:
        words = {True: "approved", False: "denied", None: "waits for you"}
        lines = [f"{call.name}: {words[self._decisions.get(call.id)]}" for call in self.calls]
        self.words.value = status("; ".join(lines) or "no call waits")

    def _repr_mimebundle_(self, **options) -> dict[str, object]:
        text = "\n".join(f"waits for approval: {call_text(call)}" for call in self.calls)
        return super()._repr_mimebundle_(**options) | {"text/plain": text or "no call waits"}
