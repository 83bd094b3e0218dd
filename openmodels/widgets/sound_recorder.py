"""A recorder: sound from the microphone or from a WAV file becomes samples in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from openmodels.widgets.scripts import script
from openmodels.widgets.uploads import MAX_WAV_BYTES as MAX_BYTES
from openmodels.widgets.uploads import decode_wav as decode

LONGEST = 30.0  # seconds: a Whisper encoder's window
MAX_ANSWER = 2_000  # characters of an answer that are shown
HELP = "Record a sentence, or load a WAV file."


class SoundRecorder(anywidget.AnyWidget):
    """Buttons to record, to play, to load a WAV file, and to ask a function about the sound.

    ask: gets the samples and returns a text, which is shown below; without it the button Ask is
    not there. The page records at most 30 seconds and sends a WAV file of 16 kHz, mono, 16 bits.
    Bytes from the page are checked like any other file. The sound is not stored in the notebook.
    """

    _esm = script("sound_recorder")
    _css = Path(__file__).with_suffix(".css")
    longest = traitlets.Float(LONGEST, read_only=True).tag(sync=True)
    max_bytes = traitlets.Int(MAX_BYTES, read_only=True).tag(sync=True)
    can_ask = traitlets.Bool(read_only=True).tag(sync=True)
    seconds = traitlets.Float(0.0, read_only=True).tag(sync=True)
    message = traitlets.Unicode(HELP, read_only=True).tag(sync=True)
    answer = traitlets.Unicode(read_only=True).tag(sync=True)

    def __init__(self, ask: Callable[[np.ndarray], str] | None = None) -> None:
        self._ask = ask
        self._samples = np.zeros(0, np.float32)
        super().__init__()
        self.set_trait("can_ask", ask is not None)
        self.on_msg(self._receive)

    @property
    def samples(self) -> np.ndarray:
        """Return the sound: float32, shape (samples,), 16 kHz, from -1 to 1; empty at first."""
        return self._samples

    def load(self, content: bytes | memoryview) -> None:
        """Load a WAV file's bytes; any other bytes leave no sound, and `message` says why."""
        self._samples = np.zeros(0, np.float32)
        self.set_trait("answer", "")
        try:
            self._samples = decode(content)
            self.set_trait("message", f"{len(self._samples) / 16_000:.1f} s of sound.")
        except ValueError as error:
            self.set_trait("message", f"This sound cannot be read: {error}")
        self.set_trait("seconds", len(self._samples) / 16_000)

    def ask(self) -> str:
        """Return and show the answer about the sound; without a sound, "" and a message."""
        if self._ask is None or not len(self._samples):
            self.set_trait("message", HELP)
            return ""
        self.set_trait("answer", "")
        try:
            answer = str(self._ask(self._samples))[:MAX_ANSWER]
        except Exception as error:  # a callback's exception would be lost
            self.set_trait("message", f"No answer: {type(error).__name__}: {str(error)[:300]}")
            return ""
        self.set_trait("answer", answer)
        self.set_trait("message", f"{len(self._samples) / 16_000:.1f} s of sound.")
        return answer

    def _receive(self, _widget: object, content: object, buffers: Sequence[memoryview]) -> None:
        """Handle a message of the page: a sound, or the button Ask. Ignore anything else."""
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind == "sound" and len(buffers) == 1:
            self.load(buffers[0])
        elif kind == "ask":
            self.ask()
        self.send({"kind": "done"})  # the page waits, and equal messages send no change

    def _repr_mimebundle_(self, **options) -> tuple[dict, dict] | dict | None:
        bundle = super()._repr_mimebundle_(**options)
        text = f"Sound recorder: {self.message} It needs a running kernel."
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = text
        return bundle
