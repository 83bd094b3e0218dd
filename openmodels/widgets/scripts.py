"""Join a widget's script with the scripts that it imports: a page gets one module per widget."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def script(name: str) -> str:
    """Return the script `name`.js of this folder, after the scripts that it imports by name.

    Each script is in the result once. All of them share the module's names, so no two may declare
    the same name.
    """
    parts: dict[str, str] = {}
    _collect(name, parts)
    main = parts.pop(name)
    return "\n".join([*(_EXPORT.sub("", part) for part in parts.values()), main])


def _collect(name: str, parts: dict[str, str]) -> None:
    """Add a script to the parts, after those that it imports."""
    source = (FOLDER / f"{name}.js").read_text(encoding="utf-8")
    for imported in _IMPORT.findall(source):
        if imported not in parts:
            _collect(imported, parts)
    parts[name] = _IMPORT.sub("", source)
