"""Write labs/*.ipynb from solutions/*.ipynb: the same notebooks without their solutions.

In a solution notebook, `### BEGIN SOLUTION` and `### END SOLUTION` enclose what a learner writes;
a cell tagged `solution-only` discusses it and is left out of the lab. A cell tagged `check` ends
in one call `check("2.1", ...)`; check cells and cells tagged `locked` are made read-only.

    python tools/make_labs.py            write every lab
    python tools/make_labs.py --check    only say which labs are stale; exit 1 if there are any
"""

import argparse
import ast
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ["# Your code here", 'raise NotImplementedError("replace this line with your code")']
GUARDED = 20  # a solution line this long must not stand anywhere else in the lab
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class LabError(ValueError):
    """A solution notebook that makes no lab; the message says which cell and why."""


# --- Reading --------------------------------------------------------------------------------------


def read_solution(path: Path) -> list[dict]:
    """Return the cells of a solution notebook, each with its source as one string.

    Raises LabError for a file that is no notebook, and for a missing or repeated cell id.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path.name} is not a notebook: {error}") from error
    ids = set()
    for place, cell in enumerate(cells, start=1):
        cell["source"] = "".join(cell["source"])
        if "id" not in cell:
            raise LabError(f"{path.name}, cell {place} has no id: {cell['source'][:60]!r}")
        if cell["id"] in ids:
            raise LabError(f"{path.name}: two cells have the id {cell['id']!r}")
        ids.add(cell["id"])
    return cells


def tags(cell: dict) -> list[str]:
    """Return the tags of a cell."""
    return cell["metadata"].get("tags", [])


def exercises(cells: list[dict], name: str) -> dict[str, str]:
    """Return the exercise number by id of its check cell, in the order of the notebook.

    Raises LabError unless each check cell ends in a call `check("2.1", ...)`, once per number.
    """
    numbers: dict[str, str] = {}
    for cell in cells:
        if "check" not in tags(cell):
            continue
        number = _checked_number(cell["source"])
        if number is None:
            raise LabError(f'{name}, cell {cell["id"]} must end in check("2.1", ...)')
        if number in numbers.values():
            raise LabError(f"{name}, cell {cell['id']} checks {number} a second time")
        numbers[cell["id"]] = number
    return numbers


def _checked_number(source: str) -> str | None:
    try:
        last = ast.parse(source).body[-1]
    except (SyntaxError, IndexError):
        return None
    match last:
        case ast.Expr(ast.Call(func=ast.Name("check"), args=[ast.Constant(str(number)), *_])):
            return number
    return None


# --- From solution to lab -------------------------------------------------------------------------


def lab_text(path: Path) -> str:
    """Return the text of the lab that a solution notebook gives. Raises LabError."""
    cells = [c for c in read_solution(path) if "solution-only" not in tags(c)]
    exercises(cells, path.name)
    lab, hidden = [], []
    for cell in cells:
        source, solution = cut_solution(cell, path.name)
        hidden += [(cell["id"], line) for line in solution]
        lab.append(_lab_cell(cell, source))
    for cell_id, line in hidden:
        _guard(line, cell_id, lab, path.name)
    return _file_text({"cells": lab, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def cut_solution(cell: dict, name: str) -> tuple[str, list[str]]:
    """Return the cell's source with stubs for solutions, and the solutions' lines.

    Raises LabError for a marker without its partner or outside a code cell.
    """
    public: list[str] = []
    solution: list[str] = []
    inside = False
    for line in cell["source"].split("\n"):
        marker = line.strip()
        if "BEGIN SOLUTION" in line or "END SOLUTION" in line:
            expected = END if inside else BEGIN
            if marker != expected or cell["cell_type"] != "code":
                raise LabError(f"{name}, cell {cell['id']}: unexpected marker {marker!r}")
        if marker == BEGIN:
            inside = True
            indent = line[: line.index("#")]
            public += [indent + stub for stub in STUB]
        elif marker == END:
            inside = False
        else:
            (solution if inside else public).append(line)
    if inside:
        raise LabError(f"{name}, cell {cell['id']}: {BEGIN!r} without {END!r}")
    return "\n".join(public).rstrip("\n"), solution


def _lab_cell(cell: dict, source: str) -> dict:
    metadata: dict = {"tags": tags(cell)} if tags(cell) else {}
    if {"check", "locked"} & set(tags(cell)):
        metadata |= {"deletable": False, "editable": False}
    lab = {
        "cell_type": cell["cell_type"],
        "id": cell["id"],
        "metadata": metadata,
        "source": source.splitlines(keepends=True),
    }
    if cell["cell_type"] == "code":
        lab |= {"execution_count": None, "outputs": []}
    return lab


def _guard(line: str, cell_id: str, lab: list[dict], name: str) -> None:
    """Raise LabError if a line of a solution can be read somewhere in the lab."""
    line = line.strip()
    if len(line) < GUARDED or line.startswith(("import ", "from ")):
        return
    for cell in lab:
        if line in "".join(cell["source"]):
            raise LabError(
                f"{name}: cell {cell['id']} of the lab shows a line of the solution "
                f"in {cell_id}: {line}"
            )


# --- Writing --------------------------------------------------------------------------------------


def _file_text(notebook: dict) -> str:
    """Return the notebook as a file's text, with a fingerprint of itself in its metadata.

    The fingerprint distinguishes a generated lab from a lab that somebody has worked in.
    """
    mark = {"openmodels": {"generated": _fingerprint(notebook)}}
    notebook = {**notebook, "metadata": {**notebook["metadata"], **mark}}
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _fingerprint(notebook: dict) -> str:
    return hashlib.sha256(json.dumps(notebook, sort_keys=True).encode()).hexdigest()[:16]


def is_generated(path: Path) -> bool:
    """Return whether the lab is exactly as this tool wrote it: nobody has worked in it."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        mark = notebook["metadata"].pop("openmodels")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return mark == {"generated": _fingerprint(notebook)}


def write_labs(solutions: Path, labs: Path, *, force: bool = False) -> list[str]:
    """Write a lab for every solution; return a sentence for each edited lab, which stays."""
    texts = {labs / path.name: lab_text(path) for path in sorted(solutions.glob("*.ipynb"))}
    labs.mkdir(exist_ok=True)
    refused = []
    for lab, text in texts.items():
        if lab.exists() and not is_generated(lab) and not force:
            refused.append(
                f"{lab.name} holds somebody's work and was left alone. Save it under another "
                "name, or replace it with --force."
            )
        else:
            lab.write_text(text, encoding="utf-8", newline="\n")
    return refused


def stale_labs(solutions: Path, labs: Path) -> list[str]:
    """Return a sentence for each lab that is missing, stale or without a solution."""
    names = {path.name for path in solutions.glob("*.ipynb")}
    problems = [
        f"{path.name} has no solution"
        for path in sorted(labs.glob("*.ipynb"))
        if path.name not in names
    ]
    for name in sorted(names):
        expected = lab_text(solutions / name).encode()
        if not (labs / name).exists():
            problems.append(f"{name} is missing")
        elif (labs / name).read_bytes() != expected:
            problems.append(f"{name} is stale")
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Write or check the labs on the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    parser.add_argument("--force", action="store_true", help="replace labs somebody worked in")
    parser.add_argument("--solutions", type=Path, default=ROOT / "solutions", metavar="DIR")
    parser.add_argument("--labs", type=Path, default=ROOT / "labs", metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            problems = stale_labs(options.solutions, options.labs)
        else:
            problems = write_labs(options.solutions, options.labs, force=options.force)
    except LabError as error:
        problems = [str(error)]
    print("\n".join(problems) if problems else "The labs match their solutions.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
