"""A pad to draw a signal flag on, or to load a picture into, and to ask a model about it.

    pad = widgets.DrawingPad(ask)  # ask(png, question) returns the answer's text

draws in the browser (drawing_pad.js) and needs nothing from a network. What the browser sends is
checked (uploads.py) before anything uses it.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image

from openmodels.harbour.pictures import COLOURS, SEA
from openmodels.widgets.scripts import script
from openmodels.widgets.uploads import MAX_SIDE
from openmodels.widgets.uploads import decode_png as decode
from openmodels.widgets.uploads import encode_png as encode

SIZE = (168, 112)  # pixels of an empty pad: width, height
MAX_FILE_BYTES = 20_000_000  # of a file that the browser reads
MAX_QUESTION = 300  # characters
QUESTION = "How many flags are there?"
Ask = Callable[[bytes, str], str]


def _from_browser(value: object, pad: DrawingPad) -> bytes:
    """Return a picture that the browser sent; if it is broken, say so and keep the current one."""
    try:
        decode(value)
    except ValueError as error:
        pad.message = f"The picture was not accepted: {error}"
        return pad.picture
    return bytes(value)


class DrawingPad(anywidget.AnyWidget):
    """A canvas with colours, a brush, a fill, a flag stamp, undo, and a file chooser.

    Attributes:
        picture: the PNG file of what the pad shows. TraitError for anything that `decode` rejects.
        question: what the Ask button asks.
        answer: the text that the model generated last.
        message: what went wrong last, or "".
    """

    _esm = script("drawing_pad")
    _css = Path(__file__).with_suffix(".css")

    picture = traitlets.Bytes().tag(sync=True, from_json=_from_browser)
    question = traitlets.Unicode(QUESTION).tag(sync=True)
    answer = traitlets.Unicode("").tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    can_ask = traitlets.Bool(False).tag(sync=True)
    palette = traitlets.Dict().tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)

    def __init__(self, ask: Ask | None = None, image: Image.Image | None = None,
                 question: str = QUESTION) -> None:  # fmt: skip
        """Open a pad.

        ask: called as ask(png, question) when the learner presses Ask; returns the answer. Without
        it there is no Ask button. image: what the pad shows first, by default the empty sea.
        """
        start = image or Image.new("RGB", SIZE, SEA[0])
        self._ask: Ask | None = None
        super().__init__(
            picture=encode(start),
            question=question,
            palette={name: list(colour) for name, colour in COLOURS.items()} | {"sea": SEA[0]},
            limits={"side": MAX_SIDE, "bytes": MAX_FILE_BYTES, "question": MAX_QUESTION},
        )
        self.on_msg(self._receive)
        if ask is not None:
            self.on_submit(ask)

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Mapping[str, Any]) -> bytes:
        try:
            decode(proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error
        return bytes(proposal["value"])

    @traitlets.validate("question")
    def _check_question(self, proposal: Mapping[str, Any]) -> str:
        return proposal["value"][:MAX_QUESTION]

    @property
    def image(self) -> Image.Image:
        """Return what the pad shows, in RGB."""
        return decode(self.picture)

    def load(self, image: Image.Image) -> None:
        """Show a picture on the pad; a large one is scaled down."""
        self.picture = encode(image)

    def on_submit(self, ask: Ask) -> None:
        """Call `ask(png, question)` when the learner presses Ask, and show what it returns."""
        self._ask = ask
        self.can_ask = True

    def submit(self) -> str:
        """Ask the question about the current picture, as the button does; return the answer.

        An error of the model or its client becomes the pad's message, and the answer is "".
        """
        self.answer, self.message, self.busy = "", "", True
        try:
            if self._ask is not None:
                self.answer = str(self._ask(self.picture, self.question))
        except Exception as error:  # a button has no caller: its learner reads the error here
            self.message = f"The model did not answer: {type(error).__name__}: {error}"
        finally:
            self.busy = False
        return self.answer

    def _receive(self, _pad: object, content: object, buffers: Sequence[object]) -> None:
        """Handle {"kind": "ask", "question": text} with the PNG as its only buffer."""
        if not isinstance(content, dict) or content.get("kind") != "ask":
            self.message = "The browser sent a message that the pad does not know."
            return
        question = content.get("question")
        if not isinstance(question, str) or not question.strip():
            self.message = "Write a question first."
            return
        if len(buffers) != 1:
            self.message = f"The browser sent {len(buffers)} pictures instead of 1."
            return
        try:
            decode(buffers[0])
        except ValueError as error:
            self.message = f"The picture was not accepted: {error}"
            return
        self.picture, self.question = bytes(buffers[0]), question
        self.submit()

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the widget, and for pages without its script the picture and the answer."""
        data, metadata = super()._repr_mimebundle_(**options)
        width, height = self.image.size
        words = f"The drawing pad: {width} x {height} pixels. Question: {self.question}"
        words += f" Answer: {self.answer}" if self.answer else ""
        source = base64.b64encode(self.picture).decode()
        picture = f'<img alt="{html.escape(words)}" src="data:image/png;base64,{source}">'
        page = f"{picture}<p>{html.escape(words)}</p>"
        return data | {"text/plain": words, "text/html": page}, metadata
