"""Check notebooks against the course's rules: what an author runs before committing one.

    python tools/check_notebook.py chapters/2_local_deployment/3_quantise.ipynb

prints each problem with the cell's id and what to do about it. The exit code is 1 if there is a
problem, else 0. All notebooks obey the rules for cells; a chapter must also be stored from one
clean run, a lab and a solution without outputs. `tests/test_style.py` applies the same rules to
every notebook of the course.
"""

import argparse
import ast
import contextlib
import copy
import html
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from make_labs import ROOT, LabError, lab_text

sys.path.insert(0, str(ROOT / "tests"))
from notebooks import (  # noqa: E402
    Spread,
    code_cells,
    tags,
    unexpected,
    widget_outputs,
)

LINES, MEDIAN_LINES, WORDS = 20, 5, 80
OPENING = ("You will do", "You will learn", "You need")
UNWANTED = ("leverage", "comprehensive", "cutting-edge", "dive into", "unlock", "seamless")
CHECK_TAG = "nbval-check-output"  # of a cell whose stored output is compared
NBVAL_TAGS = (CHECK_TAG, "nbval-ignore-output", "raises-exception")
ALT_TEXTS = ("alt", "conclusion")  # arguments whose text is a constant
SOLUTION_MARKS = ("### BEGIN SOLUTION", "### END SOLUTION")
TOP_FOLDERS = "home|Users|root|tmp|usr|opt|var|mnt|private|srv|work|workspace|builds?"
MACHINE_PATH = re.compile(rf"(?<![\w.:/-])/(?:{TOP_FOLDERS})/\w|\b[A-Z]:\\{{1,2}}\w")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}", re.IGNORECASE)
PROGRESS_BAR = re.compile(r"\r(?!\n)|\d+%\|")
TRACES = {
    "a path of one machine": MACHINE_PATH,
    "this folder": re.compile(re.escape(str(ROOT))),
    "an address in memory": ADDRESS,
    "a progress bar": PROGRESS_BAR,
}
LOADED = re.compile(
    r"<(?:img|script|iframe|video|audio|source|embed|object|link)\b[^>]*?"
    r"\b(?:src|href|data)\s*=\s*[\"']?(?:https?:)?//|url\(\s*[\"']?(?:https?:)?//",
    re.IGNORECASE,
)
LOADING_CODE = re.compile(r"\b(?:Image|IFrame|SVG|Video|Audio|YouTubeVideo)\([^)]*https?:")

Notebook = nbformat.NotebookNode


def read(path: Path) -> Notebook:
    """Return a notebook; a missing cell id is no error here, `bad_ids` reports it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nbformat.read(path, as_version=4)


def markdown_cells(notebook: Notebook) -> list[Notebook]:
    """Return the text cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


# --- The rules: each returns what breaks it, as "cell id: problem" --------------------------------


def bad_ids(stored: dict) -> list[str]:
    """Return cell ids that are missing, repeated, or random rather than readable.

    stored: the notebook as its file's JSON.
    """
    ids = [cell.get("id") for cell in stored["cells"]]
    problems = [f"cell {place}: has no id" for place, cell_id in enumerate(ids, 1) if not cell_id]
    problems += [
        f"{cell_id}: the id is not unique"
        for cell_id in sorted({i for i in ids if i})
        if ids.count(cell_id) > 1
    ]
    for cell_id in filter(None, ids):
        random = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?", cell_id)
        if random or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", cell_id):
            problems.append(f"{cell_id}: the id is not readable")
    return problems


def bad_format(stored: dict) -> list[str]:
    """Return what keeps the file's JSON from being a notebook of format 4.5."""
    version = stored.get("nbformat"), stored.get("nbformat_minor")
    if None in version or version < (4, 5):
        return [f"notebook: the format is {version[0]}.{version[1]}, expected 4.5"]
    try:
        with warnings.catch_warnings():  # a missing id is for `bad_ids` to report
            warnings.simplefilter("ignore")
            nbformat.validate(copy.deepcopy(stored))
    except nbformat.ValidationError as error:
        if error.validator == "pattern" and list(error.path)[-1:] == ["id"]:
            return []  # `bad_ids` reports it
        return [f"notebook: {str(error).splitlines()[0]}"]
    return []


def parse_cell(cell: Notebook) -> ast.Module:
    """Return a code cell's syntax tree. Raises SyntaxError if it is not plain Python."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(cell.source, cell.id, "exec", flags)


def not_python(notebook: Notebook) -> list[str]:
    """Return cells with a magic, a `!` or anything else that is not plain Python."""
    problems = []
    for cell in code_cells(notebook):
        try:
            tree = parse_cell(cell)
        except SyntaxError as error:
            line = (error.text or "").strip()
            problems.append(f"{cell.id}: not Python in line {error.lineno}: {line}")
            continue
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if "get_ipython" in names:
            problems.append(f"{cell.id}: calls get_ipython()")
    return problems


def composed_alt_text(notebook: Notebook) -> list[str]:
    """Return cells that compose a figure's alt text themselves, rather than leave it to plots."""
    problems = []
    for cell in code_cells(notebook):
        with contextlib.suppress(SyntaxError):  # `not_python` reports it
            problems += [
                f"{cell.id}: composes {keyword.arg}={ast.unparse(keyword.value)[:60]}"
                for node in ast.walk(parse_cell(cell))
                if isinstance(node, ast.Call)
                for keyword in node.keywords
                if keyword.arg in ALT_TEXTS and not isinstance(keyword.value, ast.Constant)
            ]
    return problems


def code_lines(cell: Notebook) -> int:
    """Return the lines of a code cell, without blank lines and the marks of solutions."""
    lines = [line.strip() for line in cell.source.splitlines()]
    return len([line for line in lines if line and line not in SOLUTION_MARKS])


def prose(cell: Notebook) -> str:
    """Return a text cell without code blocks, folded blocks, HTML and addresses of links."""
    text = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<details\b.*?</details>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"<!--.*?-->|</?[a-zA-Z][^>]*>", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    return html.unescape(re.sub(r"\]\([^)]*\)", "]", text))


def text_words(cell: Notebook) -> int:
    """Return the words of a text cell, without headings, tables and what `prose` leaves out."""
    lines = [line.strip() for line in prose(cell).splitlines()]
    text = " ".join(line for line in lines if not line.startswith(("#", "|")))
    return len([word for word in text.split() if re.search(r"\w", word)])


def over_budget(notebook: Notebook) -> list[str]:
    """Return code cells with too many lines and text cells with too many words."""
    lines = [(cell.id, code_lines(cell)) for cell in code_cells(notebook)]
    words = [(cell.id, text_words(cell)) for cell in markdown_cells(notebook)]
    problems = [f"{i}: {count} lines, at most {LINES}" for i, count in lines if count > LINES]
    problems += [f"{i}: {count} words, at most {WORDS}" for i, count in words if count > WORDS]
    median = Spread.of([count for _, count in lines]).median
    if median > MEDIAN_LINES:
        problems.append(
            f"notebook: code cells have {median:g} lines in the median, at most {MEDIAN_LINES}"
        )
    return problems


def bad_opening(notebook: Notebook) -> list[str]:
    """Return what the first cell lacks: a title and the three promises."""
    if not notebook.cells:
        return ["notebook: has no cells"]
    first = notebook.cells[0]
    cell_id = first.get("id", "cell 1")
    problems = [] if first.source.startswith("# ") else [f"{cell_id}: begins without a title"]
    missing = [text for text in OPENING if text.lower() not in first.source.lower()]
    return problems + [f"{cell_id}: does not say {text!r}" for text in missing]


def bad_images(notebook: Notebook, folder: Path) -> list[str]:
    """Return images without alternative text, missing files, and what another machine serves.

    folder: where the notebook is.
    """
    problems = []
    for cell in notebook.cells:
        loading = LOADING_CODE if cell.cell_type == "code" else LOADED
        texts = [(loading, cell.source)]
        for output in cell.get("outputs", ()):
            data = {**output.get("data", {}), "stream": output.get("text", "")}
            texts += [
                (LOADED, as_text(data.get("text/html", ""))),
                (LOADED, as_text(data.get("image/svg+xml", ""))),
            ]
        problems += [
            f"{cell.id}: loads {match[0]}"
            for pattern, text in texts
            if (match := pattern.search(text))
        ]
        if cell.cell_type == "markdown":
            problems += [f"{cell.id}: {problem}" for problem in bad_markdown_images(cell, folder)]
    return problems


def bad_markdown_images(cell: Notebook, folder: Path) -> list[str]:
    """Return a text cell's images that are remote, missing or without alternative text."""
    images = re.findall(r"!\[([^\]]*)\]\(\s*<?([^\s)>]+)", cell.source)
    for tag in re.findall(r"<img\b[^>]*>", cell.source, re.IGNORECASE):
        attributes = dict(re.findall(r"(\w+)\s*=\s*[\"']([^\"']*)", tag))
        images.append((attributes.get("alt", ""), attributes.get("src", "")))
    problems = []
    for alternative, source in images:
        if not alternative.strip():
            problems.append(f"image {source[:60]} has no alternative text")
        if re.match(r"(https?:)?//", source):
            problems.append(f"image {source} comes from another machine")
        elif source.startswith("attachment:"):
            if source.partition(":")[2] not in cell.get("attachments", {}):
                problems.append(f"image {source} is not attached")
        elif not source.startswith("data:") and not (folder / source).is_file():
            problems.append(f"image {source} does not exist")
    return problems


def as_text(value: object) -> str:
    """Return a value of an output's data as one string."""
    if isinstance(value, list):
        return "".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def texts_of(output: dict) -> list[str]:
    """Return everything of an output that is text; pictures are left out."""
    data = [
        as_text(value)
        for mime, value in output.get("data", {}).items()
        if not mime.startswith(("image/", "audio/")) or mime == "image/svg+xml"
    ]
    return [as_text(output.get("text", "")), *output.get("traceback", ()), *data]


def bad_storage(notebook: Notebook) -> list[str]:
    """Return what keeps a chapter's stored outputs from being one clean run."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    clean = counts and counts == list(range(1, len(counts) + 1))
    problems = [] if clean else [f"notebook: execution counts are {counts}"]
    problems += unexpected(notebook)
    outputs = [(cell.id, output) for cell in code_cells(notebook) for output in cell.outputs]
    outputs += [(f"widget {number[:8]}", output) for number, output in widget_outputs(notebook)]
    for place, output in outputs:
        for text in texts_of(output):
            problems += [
                f"{place}: shows {kind}: {match[0]!r}"
                for kind, pattern in TRACES.items()
                if (match := pattern.search(text))
            ]
    return problems


def stored_outputs(notebook: Notebook) -> list[str]:
    """Return cells that are stored with a result of a run."""
    return [
        f"{cell.id}: is stored with a result"
        for cell in code_cells(notebook)
        if cell.outputs or cell.execution_count
    ]


def unwanted_words(notebook: Notebook) -> list[str]:
    """Return words and signs that the course does not use."""
    problems = []
    for cell in notebook.cells:
        text = cell.source if cell.cell_type == "code" else prose(cell)
        lower = " ".join(text.lower().split())
        problems += [f"{cell.id}: {word!r}" for word in UNWANTED if word in lower]
        if cell.cell_type == "markdown":
            without_code = re.sub(r"`[^`]*`|\$[^$]*\$", "", text)
            problems += [f"{cell.id}: an exclamation mark"] if "!" in without_code else []
    return problems


def bad_marks(notebook: Notebook) -> list[str]:
    """Return marks that learners would see, tags nbval does not know, and cells it never runs."""
    problems = []
    for cell in code_cells(notebook):
        if "NBVAL" in cell.source:
            problems.append(f"{cell.id}: a mark for nbval is a tag of the cell: {CHECK_TAG}")
        for tag in tags(cell):
            if tag == "nbval-skip":
                problems.append(f"{cell.id}: is never run")
            elif tag.startswith("nbval") and tag not in NBVAL_TAGS:
                problems.append(f"{cell.id}: nbval knows no tag {tag!r}")
    return problems


def nothing_compared(notebook: Notebook) -> list[str]:
    """Return whether a chapter lacks cells whose stored output is compared, or their outputs."""
    marked = [cell for cell in code_cells(notebook) if CHECK_TAG in tags(cell)]
    if not marked:
        return ["notebook: no stored output is compared"]
    return [f"{cell.id}: is marked, but shows nothing" for cell in marked if not cell.outputs]


# --- One notebook ---------------------------------------------------------------------------------

AGAIN = "Then check again: the other rules come after this one."
ADVICE: dict[Callable, str] = {
    bad_ids: f"Write words with hyphens that say what the cell does: kv-cache-measured. {AGAIN}",
    bad_format: f"Save the notebook with a current JupyterLab. {AGAIN}",
    not_python: "Write plain Python: no %magic, no !command, no get_ipython().",
    over_budget: "Move longer code into openmodels, with a test; split or shorten text.",
    bad_opening: f"Open with a title (# ...) and, in the same cell, {', '.join(OPENING)}.",
    bad_images: "Draw figures by code, keep image files beside the notebook, write alt text.",
    composed_alt_text: "Let openmodels.plots compose it from the values; write conclusion= as a "
    "constant sentence.",
    unwanted_words: "Say it in plain words, without an exclamation mark.",
    bad_marks: f"Mark a cell with the tag {CHECK_TAG}; every cell must run.",
    bad_storage: "Run it from top to bottom: jupyter nbconvert --to notebook --execute --inplace.",
    nothing_compared: f"Give the tag {CHECK_TAG} to cells with a fixed result that matters.",
    stored_outputs: "Clear the outputs: nbstripout --keep-id FILE.",
    lab_text: "Mend the cell: tools/make_labs.py explains how a lab is made from a solution.",
}


@dataclass(frozen=True)
class Problem:
    """What is wrong, "cell id: problem", and what to do about it."""

    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.text}\n    {self.advice}"


def find_problems(path: Path) -> list[Problem]:
    """Return every problem of a notebook.

    Raises OSError if the file cannot be read, ValueError if it is not a notebook.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(stored, dict) or not isinstance(stored.get("cells"), list):
        raise ValueError("it is JSON, but not a notebook")
    problems = list(_with_advice(bad_format, bad_format(stored)))
    problems += _with_advice(bad_ids, bad_ids(stored))
    if problems:  # the other rules need a valid notebook, and name cells by their ids
        return problems
    notebook = read(path)
    rules = (not_python, over_budget, bad_opening, unwanted_words, bad_marks, composed_alt_text)
    for rule in rules:
        problems += _with_advice(rule, rule(notebook))
    problems += _with_advice(bad_images, bad_images(notebook, path.parent))
    for rule in _rules_of_folder(path):
        problems += _with_advice(rule, rule(notebook))
    if path.resolve().parent.name == "solutions":
        problems += _with_advice(lab_text, _bad_solution(path))
    return problems


def _with_advice(rule: Callable, texts: Iterable[str]) -> Iterator[Problem]:
    return (Problem(text, ADVICE[rule]) for text in texts)


def _rules_of_folder(path: Path) -> tuple[Callable, ...]:
    """Return the rules for stored outputs: a chapter has them, a lab and a solution do not."""
    folders = path.resolve().parts[:-1]
    if "chapters" in folders:
        return bad_storage, nothing_compared
    return (stored_outputs,) if {"labs", "solutions"} & set(folders[-1:]) else ()


def _bad_solution(path: Path) -> list[str]:
    """Return what keeps a lab from being made from this solution."""
    try:
        lab_text(path)
    except LabError as error:
        return [str(error)]
    return []


def main(arguments: list[str] | None = None) -> int:
    """Check the notebooks on the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    count = 0
    for path in parser.parse_args(arguments).files:
        try:
            problems: list[Problem] = find_problems(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problems = [Problem(f"{path}: {reason}", "Give the path of a notebook (.ipynb).")]
        for problem in problems:
            print(f"{path.name}, {problem}")
        if not problems:
            print(f"{path.name} obeys the rules.")
        count += len(problems)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
