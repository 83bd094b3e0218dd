"""A desk to send requests to an office and read its replies, sources, tool calls and traces.

    widgets.OfficeDesk(office)               # in JupyterLab: a chat with pictures and sounds
    ask(office, text="Where is the Heron?")  # anywhere: print the reply

An office is a function of openmodels.workflows.office_request: office(request, approve) -> Reply.
"""

from __future__ import annotations

import html
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from openmodels.widgets import uploads
from openmodels.widgets.plain_text import as_json, call_line, cut, printable
from openmodels.workflows.office_request import Approve, Call, Office, Reply, Request

if TYPE_CHECKING:
    from openmodels.widgets.approval import Approval
    from openmodels.widgets.office_page import Page

MAX_REQUEST = 2_000  # characters of a request's text
MAX_TEXT = 8_000  # characters of a reply, a passage, a result or an error that are shown
MAX_CALL = 4_000  # characters of a call that a person can still judge; a longer call is denied
MAX_ITEMS = 30  # sources and tool calls of a reply that are shown
MAX_ENTRIES = 40  # messages of the conversation that are shown
MAX_FILE_BYTES = 20_000_000  # of a picture that the browser reads and scales down
MAX_SECONDS = 30.0  # of a recording
THUMBNAIL = 120  # pixels a side of a picture in the conversation
APPROVAL_SECONDS = 600  # until a call without a decision is denied
TRACES = "traces.db"  # the file of traces, if neither the desk nor the office states another
HELP = """The office desk needs JupyterLab and a running kernel. Everywhere else, call `ask`:
  from openmodels.widgets.office_desk import ask
  ask(office, text="Where does the Heron lie?")
  ask(office, text="What does this flag mean?", image="flag.png")
  ask(office, sound="call.wav", approve=lambda name, arguments: True)  # allow tools that write"""
Picture = bytes | str | Path | Image.Image
Sound = bytes | str | Path | np.ndarray


# --- Without a front end --------------------------------------------------------------------------


def ask(
    office: Office,
    text: str = "",
    image: Picture | None = None,
    sound: Sound | None = None,
    approve: Approve | None = None,
) -> None:
    """Send a request to an office and print the reply, its sources, tool calls and cost.

    image: a PNG file, its bytes or a PIL picture. sound: a WAV file, its bytes or samples at
    16 kHz, shape (samples,). approve: decides on each tool that writes; without it, all are denied.
    Raises ValueError for an empty request and for files that cannot be read, and whatever the
    office raises.
    """
    request = make_request(text, image, sound)

    def decide(name: str, arguments: dict[str, Any]) -> bool:
        allowed = approve is not None and bool(approve(name, arguments))
        print(f"{'approved' if allowed else 'denied'}: {call_line(name, arguments)}")
        if approve is None:
            print("  Pass approve=lambda name, arguments: True to allow tools that write.")
        return allowed

    print(reply_text(checked_reply(office(request, decide))))


def make_request(
    text: str = "", image: Picture | None = None, sound: Sound | None = None
) -> Request:
    """Return a request whose picture and sound are verified: PNG in RGB; WAV, 16 kHz, mono.

    Raises ValueError for a request without content, a text over MAX_REQUEST characters, and files
    that are not whole PNG and WAV files within the limits of openmodels.widgets.uploads.
    """
    text = text.encode("utf-8", "replace").decode().replace("\0", "")
    if len(text) > MAX_REQUEST:
        raise ValueError(f"the text has {len(text):,} characters; at most {MAX_REQUEST:,} fit")
    if not text.strip() and image is None and sound is None:
        raise ValueError("the request is empty: write a text or add a picture or a sound")
    return Request(
        text.strip(),
        None if image is None else checked_picture(image),
        None if sound is None else checked_sound(sound),
    )


def checked_picture(image: Picture) -> bytes:
    """Return a picture as a PNG file in RGB without metadata. Raises ValueError if it is damaged.

    Files and bytes must be PNG, at most uploads.MAX_SIDE pixels a side; a PIL picture is scaled.
    """
    if isinstance(image, Image.Image):
        return uploads.encode_png(image)
    return uploads.encode_png(uploads.decode_png(_bytes_of(image, uploads.MAX_PNG_BYTES)))


def checked_sound(sound: Sound) -> bytes:
    """Return a sound as a WAV file, 16 kHz, mono. Raises ValueError if it is damaged or too long.

    Samples are float32 at 16 kHz, from -1 to 1.
    """
    from openmodels.serving import wav  # loads torch

    if isinstance(sound, np.ndarray):
        sound = wav.encode(sound)
    return wav.encode(uploads.decode_wav(_bytes_of(sound, uploads.MAX_WAV_BYTES)))


def _bytes_of(file: bytes | memoryview | str | Path, limit: int) -> bytes:
    """Return a file's bytes, at most one more than the limit, so that a check sees the excess."""
    if isinstance(file, str | Path):
        with Path(file).open("rb") as stream:
            return stream.read(limit + 1)
    return bytes(file)


def checked_reply(reply: object) -> Reply:
    """Return the reply. Raises TypeError if the office returned something else."""
    if not isinstance(reply, Reply):
        raise TypeError(f"the office returned {type(reply).__name__}, not a Reply")
    if not isinstance(reply.text, str):
        raise TypeError(f"the reply's text is {type(reply.text).__name__}, not str")
    return reply


def reply_text(reply: Reply) -> str:
    """Return a reply as plain text: answer, sources, tool calls, cost and the id of its trace."""
    entry = reply_entry(reply)
    lines = [entry["text"] or "(no text)"]
    lines += [f"Source {source['document']}: {source['text']}" for source in entry["sources"]]
    for call in entry["calls"]:
        result = f": {call['result']}" if call["result"] else ""
        lines.append(f"Tool {call['line']} - {call['state']}{result}")
    lines += [f"Not shown: {entry['hidden']}"] if entry["hidden"] else []
    trace = f"; trace {entry['trace']}" if entry["trace"] else ""
    return "\n".join([*lines, f"Cost {entry['cost']}{trace}"])


def reply_entry(reply: Reply) -> dict[str, Any]:
    """Return what the desk shows of a reply, every text bounded and without invisible characters.

    Keys: text, sources (document, text), calls (line, state, result), hidden, cost, trace.
    """
    sources = [
        {"document": shown(source.document, 200), "text": shown(source.text)}
        for source in reply.sources[:MAX_ITEMS]
    ]
    hidden = {"sources": len(reply.sources), "tool calls": len(reply.calls)}
    more = [f"{n - MAX_ITEMS} {name}" for name, n in hidden.items() if n > MAX_ITEMS]
    return {
        "text": shown(reply.text),
        "sources": sources,
        "calls": [_call_entry(call) for call in reply.calls[:MAX_ITEMS]],
        "hidden": " and ".join(more),
        "cost": str(reply.usage),
        "trace": shown(reply.trace or "", 64),
    }


def _call_entry(call: Call) -> dict[str, str]:
    result = "" if call.result is None else as_json(call.result)
    if isinstance(call.result, str):
        result = call.result
    line = cut(call_line(call.name, call.arguments), MAX_CALL)
    return {"line": line, "state": call.state, "result": shown(result)}


def shown(value: object, limit: int = MAX_TEXT) -> str:
    """Return a value as a text of bounded length, in which invisible characters are escapes."""
    return printable(cut(str(value), limit))


def request_entry(request: Request, sound: str) -> dict[str, Any]:
    """Return what the desk shows of a request: its text, a small picture, the sound's length."""
    entry: dict[str, Any] = {"kind": "request", "text": shown(request.text), "sound": sound}
    if request.image is not None:
        picture = uploads.decode_png(request.image)
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        entry["picture"] = uploads.encode_png(picture)
    return entry


def error_entry(error: BaseException) -> dict[str, Any]:
    """Return what the desk shows of an error of the office: its message and its traceback."""
    lines = "".join(traceback.format_exception(error))
    text = f"{type(error).__name__}: {shown(error, 1_000)}"
    return {"kind": "error", "text": text, "detail": printable(lines[-MAX_TEXT:])}


# --- In a notebook --------------------------------------------------------------------------------


class OfficeDesk:
    """A chat with an office: texts, pictures and sounds, and every reply's sources, tools and cost.

    The office runs in a thread, so that the page stays usable. A tool that writes waits until a
    person presses Approve or Deny. An error of the office is shown with its traceback. Without a
    front end, the desk prints how to use `ask`.

    Attributes:
        replies: the last replies, for a closer look in another cell.
        page: the widget; None if anywidget is not installed.
    """

    def __init__(self, office: Office, traces: str | Path | None = None) -> None:
        """Open a desk.

        traces: the file of the office's traces (openmodels.workflows.trace); by default the
        office's attribute `traces`, or else traces.db. Raises TypeError if the office cannot be
        called.
        """
        if not callable(office):
            raise TypeError(f"an office is a function, not {type(office).__name__}")
        self.office = office
        self.traces = Path(traces or getattr(office, "traces", None) or TRACES)
        self.replies: list[Reply] = []
        self.entries: list[dict[str, Any]] = []
        self._image: bytes | None = None
        self._sound: bytes | None = None
        self._count = 0
        self._worker: threading.Thread | None = None
        self._busy = False
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self.page = self._open_page()

    def _open_page(self) -> Page | None:
        try:
            from openmodels.widgets.office_page import Page
        except ImportError:  # no front end: the desk is a text
            return None
        limits = {
            "text": MAX_REQUEST,
            "side": uploads.MAX_SIDE,
            "bytes": MAX_FILE_BYTES,
            "sound": uploads.MAX_WAV_BYTES,
            "seconds": MAX_SECONDS,
        }
        return Page(limits, self._receive)

    # --- What the page sends ----------------------------------------------------------------------

    def _receive(self, content: object, buffers: Sequence[memoryview]) -> None:
        """Handle a message of the page. Ignore unknown messages; report what cannot be used."""
        kind = content.get("kind") if isinstance(content, dict) else None
        try:
            if kind in ("picture", "sound"):
                if len(buffers) > 1:
                    raise ValueError(f"the page sent {len(buffers)} files instead of 1")
                self.attach(**{kind: bytes(buffers[0]) if buffers else None})
            elif kind == "send" and isinstance(content.get("text"), str):
                self.submit(content["text"])
            elif kind == "trace":
                self.open_trace(str(content.get("id"))[:64])
        except Exception as error:  # a message has no caller who could read the exception
            self._say(f"{type(error).__name__}: {shown(error, 300)}")
        self.page.form.send({"kind": "done"})  # the page waits for this

    def attach(self, **files: bytes | None) -> None:
        """Add a picture or a sound to the next request: picture=PNG, sound=WAV; None removes it.

        A damaged file is not added, and the desk says why.
        """
        checks = {"picture": checked_picture, "sound": checked_sound}
        problems = []
        for kind, content in files.items():
            checked = None
            try:
                checked = None if content is None else checks[kind](content)
            except ValueError as error:
                problems.append(f"This {kind} cannot be read: {shown(error, 300)}.")
            setattr(self, "_image" if kind == "picture" else "_sound", checked)
        self._show(attached=self._attached(), message=" ".join(problems))

    def _attached(self) -> dict[str, str]:
        """Return what is attached, in words: {"picture": "168 x 112 pixels", "sound": "1.6 s"}."""
        words = {}
        if self._image is not None:
            width, height = uploads.decode_png(self._image).size
            words["picture"] = f"{width} x {height} pixels"
        if self._sound is not None:
            words["sound"] = f"{(len(self._sound) - 44) / 32_000:.1f} s"  # 2 bytes a sample
        return words

    def submit(self, text: str) -> None:
        """Send a text with what is attached, as the button does; the reply is shown when it comes.

        An empty request, or a request while another runs, is not sent, and the desk says why.
        """
        with self._lock:
            if self._busy:
                return self._say("The office still works on your last request.")
            try:
                request = make_request(text, self._image, self._sound)
            except ValueError as error:
                return self._say(f"Not sent: {error}.")
            words = self._attached()
            self._image = self._sound = None
            self._busy = True
            self._add(request_entry(request, words.get("sound", "")))
            self._show(attached={}, message="", state="busy")
            self._worker = threading.Thread(target=self._work, args=(request,), daemon=True)
            self._worker.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the office has replied, at most this many seconds.

        A notebook's buttons do not work while a cell waits.
        """
        if self._worker is not None:
            self._worker.join(seconds)

    def close(self) -> None:
        """Close the desk: what waits for approval is denied, and no more buttons are shown."""
        self._closed.set()
        if self.page is not None:
            self.page.approvals.children = ()

    # --- The office's thread ----------------------------------------------------------------------

    def _work(self, request: Request) -> None:
        try:
            reply = checked_reply(self.office(request, self._approve))
            entry = {"kind": "reply", **reply_entry(reply)}
            self.replies = [*self.replies, reply][-MAX_ENTRIES:]
        except BaseException as error:  # this thread's exceptions would only reach a log
            entry = error_entry(error)
        with self._lock:
            self._add(entry)
            self._busy = False
            self._show(state="ready")

    def _approve(self, name: str, arguments: Mapping[str, Any]) -> bool:
        """Show a call with Approve and Deny, and return a person's decision.

        False as well without a page, if the desk is closed, if nobody decides within
        APPROVAL_SECONDS, and if the call is too long to be read.
        """
        line = call_line(name, arguments)
        if self.page is None:
            return False
        if len(line) > MAX_CALL:
            self._add({"kind": "note", "text": f"Denied, too long to read: {line[:200]}…"})
            return False
        from openmodels.widgets.approval import Approval
        from openmodels.workflows import tools

        decided, decision = threading.Event(), []

        def decide(_call: object, allowed: bool) -> None:
            decision.append(allowed)
            decided.set()

        call = tools.Call(f"{id(decided)}", name, as_json(arguments), "")
        row = Approval([call], on_decision=decide)
        self._set_approvals(add=row)
        for _ in range(APPROVAL_SECONDS * 5):
            if decided.wait(0.2) or self._closed.is_set():
                break
        self._set_approvals(remove=row)
        allowed = bool(decision and decision[0])
        if not decision:
            self._add({"kind": "note", "text": f"Denied, nobody decided: {line}"})
        return allowed

    # --- What the page shows ----------------------------------------------------------------------

    def _add(self, entry: dict[str, Any]) -> None:
        """Add a message to the conversation; beyond MAX_ENTRIES the oldest is dropped."""
        with self._lock:
            self._count += 1
            self.entries = [*self.entries, {"id": self._count, **entry}][-MAX_ENTRIES:]
            self._show(entries=self.entries)

    def _set_approvals(self, add: Approval | None = None, remove: Approval | None = None) -> None:
        """Show a pending call, or remove a decided one."""
        with self._lock:
            rows = [row for row in self.page.approvals.children if row is not remove]
            rows += [] if add is None or self._closed.is_set() else [add]
            self.page.approvals.children = rows
            self._show(state="waiting" if rows else "busy" if self._busy else "ready")

    def _show(self, **values: object) -> None:
        if self.page is not None:
            with self._lock:
                self.page.set(**values)

    def _say(self, text: str) -> None:
        self._show(message=text)

    def open_trace(self, trace_id: str) -> None:
        """Show the trace of a reply below the form. Without the file or the trace, say why."""
        from openmodels.widgets.trace_viewer import TraceViewer

        if not self.traces.is_file():
            return self._say(
                f"No file {self.traces}: open the desk with OfficeDesk(office, traces=PATH)."
            )
        viewer = TraceViewer(self.traces)
        try:
            viewer.show_trace(trace_id)
        except LookupError:
            return self._say(f"{self.traces} has no trace {shown(trace_id, 64)} among its newest.")
        self.page.show_trace(viewer)
        self._say("The trace is open below the form.")

    def __repr__(self) -> str:
        """Return how to use `ask`, and the conversation so far as text."""
        return "\n".join([HELP, *map(_entry_line, self.entries)])

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the page, and for places without a front end the text."""
        data, metadata = {}, {}
        if self.page is not None:
            bundle = self.page._repr_mimebundle_(**options)
            data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        words = repr(self)
        texts = {"text/plain": words, "text/html": f"<pre>{html.escape(words)}</pre>"}
        return dict(data) | texts, metadata


def _entry_line(entry: dict[str, Any]) -> str:
    """Return a message of the conversation as a line of text."""
    added = ["a picture"] if entry.get("picture") else []
    added += [f"a sound of {entry['sound']}"] if entry.get("sound") else []
    text = " ".join([entry["text"], *(f"[{words}]" for words in added)])
    return f"{entry['kind']}: {text}"
