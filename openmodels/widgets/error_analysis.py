"""Read failed cases one at a time, and store a person's codes and notes in a file.

    analysis = widgets.ErrorAnalysis(traces, "notes.json", ["wrong value", "wrong source"])

shows a case in the browser (error_analysis.js). Every change is stored at once, in one step, and
merged with what other notebooks stored in the meantime.
"""

from __future__ import annotations

import html
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from filelock import FileLock, Timeout

from openmodels import files
from openmodels.paths import ROOT
from openmodels.widgets.scripts import script

FIELDS = ("id", "input", "output", "target")  # of a trace
MAX_TRACES = 200
MAX_TEXT = 20_000  # characters of a field
MAX_CODE, MAX_CODES = 40, 20  # characters of a code; codes
MAX_NOTE = 4000  # characters
LOCK_SECONDS = 5
Note = dict[str, Any]  # {"codes": [text], "note": text}


def count_codes(notes: Mapping[str, Note]) -> Counter[str]:
    """Return how many cases have each code, the most frequent first."""
    counts = Counter(code for note in notes.values() for code in note["codes"])
    return Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def checked_note(value: object) -> Note:
    """Return a note with its codes in order and without repetitions.

    Raises ValueError, with what is wrong, for anything that is not {"codes": [...], "note": ...}
    within the limits.
    """
    if not isinstance(value, Mapping) or value.keys() != {"codes", "note"}:
        raise ValueError("a note has codes and a note, nothing else")
    codes, note = value["codes"], value["note"]
    if not isinstance(note, str) or len(note) > MAX_NOTE:
        raise ValueError(f"a note is a text of at most {MAX_NOTE} characters")
    if not isinstance(codes, list | tuple) or len(codes) > MAX_CODES:
        raise ValueError(f"a case has at most {MAX_CODES} codes")
    return {"codes": list(dict.fromkeys(map(checked_code, codes))), "note": note}


def checked_code(value: object) -> str:
    """Return a code without spaces at its ends. Raises ValueError for an empty or long one."""
    code = value.strip() if isinstance(value, str) else ""
    if not 0 < len(code) <= MAX_CODE:
        raise ValueError(f"a code is a text of 1 to {MAX_CODE} characters")
    return code


def read_notes(path: Path) -> dict[str, Note]:
    """Return the notes of a file by case; none if it does not exist.

    A damaged file is copied to `.broken-1` (or the next free number) before the valid notes are
    returned, so nothing is lost when it is written again.
    """
    notes: dict[str, Note] = {}
    try:
        stored = json.loads(path.read_bytes())["notes"]
        damaged = not isinstance(stored, dict)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, RecursionError):
        stored, damaged = {}, True
    for identifier, value in stored.items() if isinstance(stored, dict) else ():
        try:
            notes[identifier] = checked_note(value)
        except ValueError:
            damaged = True
    if damaged:
        number = 1
        while (copy := path.with_name(f"{path.name}.broken-{number}")).exists():
            if copy.read_bytes() == path.read_bytes():
                return notes
            number += 1
        shutil.copyfile(path, copy)
    return notes


def store_note(path: Path, identifier: str, note: Note) -> dict[str, Note]:
    """Store the note of one case and return all notes of the file.

    The file is read, changed and replaced under a lock: two notebooks do not lose each other's
    notes, and a crash leaves the old file or the new one. Raises OSError if that is impossible.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
            notes = read_notes(path) | {identifier: note}
            draft = path.with_name(f"{path.name}.new")
            text = json.dumps({"notes": notes}, ensure_ascii=False, indent=1)
            with draft.open("w", encoding="utf-8", newline="\n") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(file.fileno())
            files.replace(draft, path)
    except Timeout as error:
        raise OSError(f"another program has locked {path} for {LOCK_SECONDS} s") from error
    return notes


def shown_place(path: Path) -> Path:
    """Return a path relative to the course, if it is inside: a stored page names no machine."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


class ErrorAnalysis(anywidget.AnyWidget):
    """Cases with buttons for codes, a field for a note and a table of counts.

    Keys, outside of text fields: arrows for the next and the previous case, 1 to 9 for a code.

    Attributes:
        notes: codes and note of each case, as stored in the file.
        position: the case that is shown, from 0.
        message: why the last change was not stored, or "".
    """

    _esm = script("error_analysis")
    _css = Path(__file__).with_suffix(".css")

    traces = traitlets.List().tag(sync=True)
    codes = traitlets.List().tag(sync=True)
    notes = traitlets.Dict().tag(sync=True)
    position = traitlets.Int(0).tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    place = traitlets.Unicode("").tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)

    def __init__(
        self, traces: Sequence[Mapping[str, str]], path: str | Path, codes: Sequence[str] = ()
    ) -> None:
        """Open an analysis.

        traces: at most MAX_TRACES cases, each with the texts id, input, output and target. path:
        the file of the notes; it is made by the first note. codes: offered at first; the learner
        can add more. Raises ValueError for other traces and for repeated ids.
        """
        cases = [_checked_trace(trace) for trace in traces]
        if not 1 <= len(cases) <= MAX_TRACES:
            raise ValueError(f"an analysis shows 1 to {MAX_TRACES} traces, not {len(cases)}")
        self._ids = {case["id"] for case in cases}
        if len(self._ids) < len(cases):
            raise ValueError("two traces have the same id")
        self.path = Path(path)
        stored = read_notes(self.path)
        notes = {i: note for i, note in stored.items() if i in self._ids}
        offered = [checked_code(code) for code in codes] + list(count_codes(notes))
        super().__init__(
            traces=cases,
            codes=list(dict.fromkeys(offered)),
            notes=notes,
            place=str(shown_place(self.path)),
            limits={"code": MAX_CODE, "note": MAX_NOTE, "codes": MAX_CODES},
        )
        self.on_msg(self._receive)

    @property
    def counts(self) -> Counter[str]:
        """Return how many of the cases have each code, the most frequent first."""
        return count_codes(self.notes)

    def code(self, identifier: str, codes: Sequence[str], note: str = "") -> None:
        """Store codes and a note for a case, as the browser does.

        Raises ValueError for an unknown case or an invalid note, OSError if it cannot be stored.
        """
        if identifier not in self._ids:
            raise ValueError(f"no case {str(identifier)[:80]!r} in this analysis")
        checked = checked_note({"codes": list(codes), "note": note})
        self.notes = self.notes | {identifier: checked}  # stays here if the file cannot be written
        self.codes = list(dict.fromkeys([*self.codes, *checked["codes"]]))
        stored = store_note(self.path, identifier, checked)
        self.notes = self.notes | {i: value for i, value in stored.items() if i in self._ids}

    def _receive(self, _widget: object, content: object, _buffers: object) -> None:
        """Handle {"kind": "note", "id": case, "codes": [...], "note": text}."""
        self.message = ""
        try:
            if not isinstance(content, dict) or content.get("kind") != "note":
                raise ValueError("the browser sent an unknown message")
            note = checked_note({"codes": content.get("codes"), "note": content.get("note")})
            self.code(content.get("id"), note["codes"], note["note"])
        except (ValueError, TypeError) as error:
            self.message = f"Not stored: {error}"
        except OSError as error:
            self.message = f"Not stored in the file, only in this notebook: {error}"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the widget, and for pages without its script the counts as text."""
        data, metadata = super()._repr_mimebundle_(**options)
        coded = sum(bool(note["codes"]) for note in self.notes.values())
        words = f"Error analysis: {coded} of {len(self.traces)} cases have a code."
        counts = [f"{code}: {count}" for code, count in self.counts.items()]
        words = "\n".join([words, *counts])
        return data | {
            "text/plain": words,
            "text/html": f"<pre>{html.escape(words)}</pre>",
        }, metadata


def _checked_trace(trace: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a trace; long texts are cut. Raises ValueError if one is missing."""
    for name in FIELDS:
        if not isinstance(trace.get(name), str):
            raise ValueError(f"a trace needs the text {name!r}; it has {', '.join(trace)}")
    return {name: trace[name][:MAX_TEXT] for name in FIELDS}
