"""What the office desk shows in a notebook: the conversation and the form for a request.

Both parts are drawn by office_desk.js. They hold no logic: `OfficeDesk` fills them and reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anywidget
import ipywidgets
import traitlets

from openmodels.widgets.scripts import script

Receive = Callable[[dict, Sequence[memoryview]], None]


class Part(anywidget.AnyWidget):
    """A part of the desk: "chat" (the conversation) or "form" (the request to send).

    entries: messages of the conversation, as office_desk.py makes them. attached: the picture and
    the sound that Python has accepted, in words. state: "ready", "busy" or "waiting".
    """

    _esm = script("office_desk")
    _css = Path(__file__).with_name("office_desk.css")

    part = traitlets.Unicode("chat").tag(sync=True)
    entries = traitlets.List(read_only=True).tag(sync=True)
    attached = traitlets.Dict(read_only=True).tag(sync=True)
    state = traitlets.Unicode("ready", read_only=True).tag(sync=True)
    message = traitlets.Unicode("", read_only=True).tag(sync=True)
    limits = traitlets.Dict(read_only=True).tag(sync=True)


class Page(ipywidgets.VBox):
    """The desk from top to bottom: conversation, pending approvals, form, an opened trace."""

    def __init__(self, limits: dict[str, float], receive: Receive) -> None:
        """Build the page. receive: called with each message of the browser and its buffers."""
        self.chat, self.form = Part(part="chat"), Part(part="form")
        self.approvals, self.trace = ipywidgets.VBox(), ipywidgets.VBox()
        self.form.set_trait("limits", limits)
        super().__init__(
            [self.chat, self.approvals, self.form, self.trace], layout={"max_width": "860px"}
        )
        for part in (self.chat, self.form):
            part.on_msg(lambda _part, content, buffers: receive(content, buffers))
        self.add_class("office-desk")
        self.approvals.add_class("office-approvals")
        self.trace.add_class("office-trace")

    def set(self, **values: object) -> None:
        """Set traits of both parts, e.g. state="busy"."""
        for name, value in values.items():
            for part in (self.chat, self.form):
                part.set_trait(name, value)

    def show_trace(self, viewer: ipywidgets.DOMWidget) -> None:
        """Show a viewer below the form, with a button that closes it."""
        close = ipywidgets.Button(description="Close the trace", layout={"width": "max-content"})
        close.on_click(lambda _button: setattr(self.trace, "children", ()))
        self.trace.children = (close, viewer)
