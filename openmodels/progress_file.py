"""Store the learner's progress in a JSON file that several notebooks may use at once.

The file is `.progress.json` in the course folder, or the path in `OPENMODELS_PROGRESS`. It holds
an entry for each exercise: state, attempts, and the numbers of the hints seen.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from openmodels import files

NOT_ATTEMPTED, NOT_YET, CORRECT = "not attempted", "not yet", "correct"  # the states of an answer

_last_entries: dict[str, dict] = {}  # used if the file cannot be read or written
_warned = False


def new_entry() -> dict[str, Any]:
    """Return the entry of an exercise that nobody has tried."""
    return {"state": NOT_ATTEMPTED, "attempts": 0, "hints": []}


def read_entries() -> dict[str, dict]:
    """Return all entries by exercise number."""
    return update_entries()


def update_entries(
    number: str = "", change: Callable[[dict], None] | None = None
) -> dict[str, dict]:
    """Return all entries, after applying change to the entry of this number and storing it.

    The file is read, changed and replaced under a lock, so two notebooks do not lose each other's
    entries. If it cannot be written, entries last as long as the kernel.
    """
    global _last_entries, _warned
    path = Path(
        os.environ.get("OPENMODELS_PROGRESS")
        or Path(__file__).resolve().parent.parent / ".progress.json"
    )
    try:
        with FileLock(f"{path}.lock", timeout=5):
            entries = _read(path)
            if change:
                change(entries.setdefault(number, new_entry()))
                _write(path, entries)
    except OSError as error:
        if not _warned:
            print(
                f"Your progress cannot be saved in {path} ({error}); everything else works. To "
                "save it, set OPENMODELS_PROGRESS to a file in a folder that can be written to."
            )
            _warned = True
        entries = _last_entries
        if change:
            change(entries.setdefault(number, new_entry()))
    _last_entries = entries
    return entries


def _read(path: Path) -> dict[str, dict]:
    """Return the valid entries of the file.

    If anything in it is damaged, the whole file is copied to `.broken-1` (or the next free
    number), a message says so, and the file is written again with the valid entries only.
    """
    try:
        stored = json.loads(path.read_bytes())["exercises"]
        entries = {number: entry for number, entry in stored.items() if _is_entry(entry)}
        damaged = [number for number in stored if number not in entries]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        entries, damaged = {}, None  # not JSON, or JSON of another shape
    if damaged == []:
        return entries
    number = 1
    while (copy := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    shutil.copyfile(path, copy)
    _write(path, entries)
    if entries:
        print(
            f"Your progress file was damaged at {', '.join(damaged)}; a copy is kept as "
            f"{copy.name}. The entries of all other exercises are still there."
        )
    else:
        print(f"Your progress file was damaged; it is kept as {copy.name}, and a new one begins.")
    return entries


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("state") in (NOT_ATTEMPTED, NOT_YET, CORRECT)
        and isinstance(entry.get("attempts"), int)
        and isinstance(entry.get("hints"), list)
        and all(isinstance(number, int) for number in entry["hints"])
    )


def _write(path: Path, entries: dict[str, dict]) -> None:
    """Replace the file in one step: a crash leaves the old file or the new one, never a part."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(json.dumps({"exercises": entries}, indent=1) + "\n", encoding="utf-8")
    files.replace(unfinished, path)
