"""Notebooks and code keep the course's rules of style; the figures are printed after the tests."""

import ast
import copy
import html
import itertools
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import nbformat
import notebooks
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import ROOT, Spread, code_cells

CHAPTERS = notebooks.notebooks("chapters")
UNEXECUTED = notebooks.notebooks("solutions", "labs")
EVERY = CHAPTERS + UNEXECUTED

LINES, MEDIAN_LINES, WORDS = 20, 5, 80
OPENING = ("You will do", "You will learn", "You need")
UNWANTED = ("leverage", "comprehensive", "cutting-edge", "dive into", "unlock", "seamless")
NBVAL_TAGS = (notebooks.CHECK_TAG, "nbval-ignore-output", "raises-exception")
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
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
MODELS_MB = 40


def read(path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing id is a warning here and an error below
        return nbformat.read(path, as_version=4)


def every(rule):
    """Run a test for each notebook."""
    return pytest.mark.parametrize("path", EVERY, ids=notebooks.name)(rule)


def markdown_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


# --- The rules, each a function from a notebook to what breaks it ---------------------------------


def bad_ids(stored: dict) -> list[str]:
    """Cell ids that are missing, repeated, or random rather than readable."""
    ids = [cell.get("id") for cell in stored["cells"]]
    found = [f"cell {place} has no id" for place, cell_id in enumerate(ids, 1) if not cell_id]
    found += [
        f"{cell_id!r} is not unique"
        for cell_id in sorted({i for i in ids if i})
        if ids.count(cell_id) > 1
    ]
    for cell_id in filter(None, ids):
        random = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?", cell_id)
        if random or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", cell_id):
            found.append(f"{cell_id!r} is not readable: write words-with-hyphens")
    return found


def not_python(notebook) -> list[str]:
    """Cells with a magic, a `!` or anything else that is not plain Python."""
    found = []
    for cell in code_cells(notebook):
        try:
            tree = compile(
                cell.source, cell.id, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            )
        except SyntaxError as error:
            found.append(f"{cell.id}: not Python in line {error.lineno}: {error.text}")
            continue
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if "get_ipython" in names:
            found.append(f"{cell.id}: calls get_ipython()")
    return found


def code_lines(cell) -> int:
    """Lines of a code cell, without blank ones and the marks of solutions."""
    lines = cell.source.strip().splitlines()
    return len([line for line in lines if line.strip() and line.strip() not in SOLUTION_MARKS])


def prose(cell) -> str:
    """A text cell without code blocks, folded blocks, HTML and addresses of links."""
    text = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<details\b.*?</details>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"<!--.*?-->|</?[a-zA-Z][^>]*>", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    return html.unescape(re.sub(r"\]\([^)]*\)", "]", text))


def text_words(cell) -> int:
    """Words of a text cell, without headings, tables and what `prose` leaves out."""
    lines = [line.strip() for line in prose(cell).splitlines()]
    text = " ".join(line for line in lines if not line.startswith(("#", "|")))
    return len([word for word in text.split() if re.search(r"\w", word)])


def over_budget(notebook) -> list[str]:
    """Code cells that are too long, text cells with too many words."""
    lines = [(cell.id, code_lines(cell)) for cell in code_cells(notebook)]
    words = [(cell.id, text_words(cell)) for cell in markdown_cells(notebook)]
    found = [
        f"{cell_id}: {count} lines, at most {LINES}" for cell_id, count in lines if count > LINES
    ]
    found += [
        f"{cell_id}: {count} words, at most {WORDS}" for cell_id, count in words if count > WORDS
    ]
    median = Spread.of([count for _, count in lines]).median
    if median > MEDIAN_LINES:
        found.append(f"code cells have {median:g} lines in the median, at most {MEDIAN_LINES}")
    return found


def bad_opening(notebook) -> list[str]:
    """What the first cell lacks: a title and the three promises."""
    first = notebook.cells[0].source if notebook.cells else ""
    found = [] if first.startswith("# ") else ["the first cell does not begin with a title"]
    return found + [
        f"the first cell does not say {text!r}"
        for text in OPENING
        if text.lower() not in first.lower()
    ]


def bad_images(notebook, folder: Path) -> list[str]:
    """Things loaded from another machine, missing files, images without alternative text."""
    found = []
    for cell in notebook.cells:
        loading = LOADING_CODE if cell.cell_type == "code" else LOADED
        texts = [(loading, cell.source)]
        for output in cell.get("outputs", ()):
            data = {**output.get("data", {}), "stream": output.get("text", "")}
            texts += [
                (LOADED, as_text(data.get("text/html", ""))),
                (LOADED, as_text(data.get("image/svg+xml", ""))),
            ]
        found += [
            f"{cell.id}: loads {match[0]}"
            for pattern, text in texts
            if (match := pattern.search(text))
        ]
        if cell.cell_type == "markdown":
            found += [f"{cell.id}: {problem}" for problem in bad_markdown_images(cell, folder)]
    return found


def bad_markdown_images(cell, folder: Path) -> list[str]:
    """Images of a text cell that come from elsewhere, are missing or have no alternative text."""
    images = re.findall(r"!\[([^\]]*)\]\(\s*<?([^\s)>]+)", cell.source)
    for tag in re.findall(r"<img\b[^>]*>", cell.source, re.IGNORECASE):
        attributes = dict(re.findall(r"(\w+)\s*=\s*[\"']([^\"']*)", tag))
        images.append((attributes.get("alt", ""), attributes.get("src", "")))
    found = []
    for alternative, source in images:
        if not alternative.strip():
            found.append(f"image {source[:60]} has no alternative text")
        if re.match(r"(https?:)?//", source):
            found.append(f"image {source} comes from another machine")
        elif source.startswith("attachment:"):
            if source.partition(":")[2] not in cell.get("attachments", {}):
                found.append(f"image {source} is not attached")
        elif not source.startswith("data:") and not (folder / source).is_file():
            found.append(f"image {source} does not exist")
    return found


def as_text(value: object) -> str:
    """A value of an output's data as one string."""
    if isinstance(value, list):
        return "".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def texts_of(output: dict) -> list[str]:
    """Everything of an output that is text, pictures left out."""
    data = [
        as_text(value)
        for mime, value in output.get("data", {}).items()
        if not mime.startswith(("image/", "audio/")) or mime == "image/svg+xml"
    ]
    return [as_text(output.get("text", "")), *output.get("traceback", ()), *data]


def bad_storage(notebook) -> list[str]:
    """What keeps a chapter's stored outputs from being one clean run from top to bottom."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    clean = counts and counts == list(range(1, len(counts) + 1))
    found = [] if clean else [f"not stored from one clean run: execution counts are {counts}"]
    found += notebooks.unexpected(notebook)
    shown = [(cell.id, output) for cell in code_cells(notebook) for output in cell.outputs]
    shown += [
        (f"widget {number[:8]}", output) for number, output in notebooks.widget_outputs(notebook)
    ]
    for place, output in shown:
        for text in texts_of(output):
            found += [
                f"{place}: shows {kind}: {match[0]!r}"
                for kind, pattern in TRACES.items()
                if (match := pattern.search(text))
            ]
    return found


def stored_outputs(notebook) -> list[str]:
    """Cells that are stored with a result of a run."""
    return [cell.id for cell in code_cells(notebook) if cell.outputs or cell.execution_count]


def unwanted_words(notebook) -> list[str]:
    """Words and signs the course does not use."""
    found = []
    for cell in notebook.cells:
        text = cell.source if cell.cell_type == "code" else prose(cell)
        lower = " ".join(text.lower().split())
        found += [f"{cell.id}: {word!r}" for word in UNWANTED if word in lower]
        if cell.cell_type == "markdown":
            without_code = re.sub(r"`[^`]*`|\$[^$]*\$", "", text)
            found += [f"{cell.id}: an exclamation mark"] if "!" in without_code else []
    return found


def bad_marks(notebook) -> list[str]:
    """Return marks that learners would see, tags nbval does not know, and cells it never runs."""
    found = []
    for cell in code_cells(notebook):
        if "NBVAL" in cell.source:
            found.append(f"{cell.id}: marks for nbval are tags of the cell, e.g. {NBVAL_TAGS[0]}")
        found += [
            f"{cell.id}: the tag {tag!r} is none of {', '.join(NBVAL_TAGS)}"
            for tag in notebooks.tags(cell)
            if "nbval" in tag and tag not in NBVAL_TAGS
        ]
    return found


# --- Every notebook -------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", notebooks.FOLDERS)
def test_there_are_notebooks(folder):
    assert notebooks.notebooks(folder), f"no notebook in {folder}/"


@every
def test_the_file_is_valid_and_its_ids_are_readable(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert bad_ids(stored) == []
    assert (stored["nbformat"], stored["nbformat_minor"]) >= (4, 5)
    nbformat.validate(copy.deepcopy(stored))


@every
def test_cells_are_plain_python(path):
    assert not_python(read(path)) == []


@every
def test_cells_keep_their_budget(path, record_property):
    notebook = read(path)
    figures = {
        "name": notebooks.name(path),
        "cells": len(notebook.cells),
        "code_lines": str(Spread.of([code_lines(cell) for cell in code_cells(notebook)])),
        "text_words": str(Spread.of([text_words(cell) for cell in markdown_cells(notebook)])),
    }
    record_property("notebook", figures)
    assert over_budget(notebook) == []


@every
def test_the_first_cell_has_a_title_and_three_promises(path):
    assert bad_opening(read(path)) == []


@every
def test_images_are_here_and_described(path):
    assert bad_images(read(path), path.parent) == []


@every
def test_words(path):
    assert unwanted_words(read(path)) == []


@every
def test_marks_for_nbval(path):
    notebook = read(path)
    assert bad_marks(notebook) == []
    if path in CHAPTERS:
        marked = [c for c in code_cells(notebook) if notebooks.CHECK_TAG in notebooks.tags(c)]
        assert marked, f"no cell is tagged {notebooks.CHECK_TAG}: no stored output is compared"
        assert [cell.id for cell in marked if not cell.outputs] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=notebooks.name)
def test_a_chapter_is_stored_from_one_clean_run(path):
    assert bad_storage(read(path)) == []


@pytest.mark.parametrize("path", UNEXECUTED, ids=notebooks.name)
def test_labs_and_solutions_are_stored_without_outputs(path):
    assert stored_outputs(read(path)) == []


# --- The repository -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_on_code_and_notebooks(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def course_files() -> list[Path]:
    """The files git tracks; without git, all files but those below hidden folders and build/."""
    if (ROOT / ".git").exists():
        command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [ROOT / line for line in listed.stdout.split("\0") if line]
    below = [(path, path.relative_to(ROOT).parts) for path in ROOT.rglob("*") if path.is_file()]
    return [path for path, parts in below if parts[0] != "build" and parts[0][0] != "."]


def test_nothing_is_pickled():
    files = course_files()
    assert ROOT / "start.py" in files
    assert [path for path in files if path.suffix in PICKLES] == []


def test_the_miniatures_are_small():
    sizes = [path.stat().st_size for path in (ROOT / "models").rglob("*") if path.is_file()]
    assert 0 < sum(sizes) < MODELS_MB * 1e6


# --- That the rules find what they look for -------------------------------------------------------


def notebook_of(*cells):
    return new_notebook(cells=list(cells))


NUMBERS = itertools.count()


def code(source: str, *outputs, count=1):
    cell_id = f"cell-{next(NUMBERS)}"
    return new_code_cell(source, id=cell_id, outputs=list(outputs), execution_count=count)


def text(source: str):
    return new_markdown_cell(source, id=f"cell-{next(NUMBERS)}")


@pytest.mark.parametrize(
    "ids",
    [
        [None],
        ["9f3a1c2e"],
        ["title", "title"],
        ["ex_1"],
        ["Title"],
        ["0a1b2c3d-1111-2222-3333-0a1b2c3d4e5f"],
        ["1"],
    ],
)
def test_bad_ids_are_found(ids):
    assert bad_ids({"cells": [{"id": cell_id} for cell_id in ids]})


def test_good_ids_pass():
    assert bad_ids({"cells": [{"id": name} for name in ("title", "ex-2-1", "read-1st")]}) == []


@pytest.mark.parametrize(
    "source",
    [
        "%timeit 1",
        "%%bash\nls",
        "!ls",
        "x = !ls",
        "len?",
        "get_ipython().system('ls')",
        "get_ipython().run_line_magic('pip', 'x')",
        "for x in y:\n    %time x",
    ],
)
def test_magics_are_found(source):
    assert not_python(notebook_of(code(source)))


def test_plain_python_passes():
    assert not_python(notebook_of(code('await tide()\n"%s!" % 3\nx = (7\n% 3)'))) == []


def test_words_and_lines_are_counted():
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    folded = "<details><summary>Hint</summary>\none two three\n</details>"
    source = (
        f"## A heading\nTwo words — [and a link](https://example.org/x).\n\n{table}\n\n{folded}"
    )
    assert text_words(text(source)) == 5
    assert code_lines(code("### BEGIN SOLUTION\nx = 1\n\nx\n")) == 2
    assert over_budget(notebook_of(text("word " * WORDS), code("x = 1\n" * MEDIAN_LINES))) == []
    assert over_budget(notebook_of(text("word " * (WORDS + 1))))
    assert over_budget(notebook_of(code("x = 1\n" * (LINES + 1)), *[code("x") for _ in range(9)]))
    assert over_budget(notebook_of(code("x = 1\n" * (MEDIAN_LINES + 1))))


def test_openings():
    good = "# Weights fit in a file\n*You will do* this. *You will learn* that. *You need* 5 min."
    assert bad_opening(notebook_of(text(good))) == []
    assert bad_opening(notebook_of(text(good.replace("You need", "Bring"))))
    assert bad_opening(notebook_of(text(good[2:])))
    assert bad_opening(notebook_of())


@pytest.mark.parametrize(
    "cell",
    [
        text("![a quay](https://example.org/quay.png)"),
        text("![](quay.png)"),
        text("![a quay](missing.png)"),
        text("![a quay](attachment:quay.png)"),
        text('<img src="quay.png">'),
        text('<img src="https://example.org/quay.png" alt="a quay">'),
        text('<iframe src="//example.org"></iframe>'),
        code('Image(url="https://example.org/quay.png")'),
        code("x", new_output("display_data", {"text/html": "<script src='https://x.org/a.js'>"})),
    ],
    ids=lambda cell: cell.source,
)
def test_bad_images_are_found(cell, tmp_path):
    (tmp_path / "quay.png").write_bytes(b"")
    assert bad_images(notebook_of(cell), tmp_path)


def test_good_images_and_links_pass(tmp_path):
    (tmp_path / "quay.png").write_bytes(b"")
    good = '![a quay](quay.png) <img src="quay.png" alt="a quay"> [more](https://example.org)'
    output = new_output("display_data", {"text/html": '<a href="https://example.org">more</a>'})
    assert bad_images(notebook_of(text(good), code("x", output)), tmp_path) == []


@pytest.mark.parametrize(
    "shown",
    [
        "/home/ada/course/x.py",
        "in /tmp/x",
        "C:\\Users\\ada",
        "<function f at 0x7f3a2b1c>",
        "a\rb",
        " 40%|####",
        f"{ROOT}/models",
    ],
)
def test_traces_of_a_machine_are_found(shown):
    for output in (
        new_output("stream", text=shown),
        new_output("display_data", {"text/plain": shown}),
    ):
        assert bad_storage(notebook_of(code("x", output)))


def test_stored_runs():
    fine = new_output("stream", text="http://127.0.0.1:11434/v1/models, models/mini-qwen, 3/4\n")
    assert bad_storage(notebook_of(code("x", fine), code("y", count=2))) == []
    assert bad_storage(notebook_of(code("x", count=None)))
    assert bad_storage(notebook_of(code("x", count=2)))
    assert bad_storage(notebook_of())
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    assert bad_storage(notebook_of(code("x", error)))
    meant = code("x", error)
    meant.metadata["tags"] = ["raises-exception"]
    assert bad_storage(notebook_of(meant)) == []
    meant.outputs = []
    assert bad_storage(notebook_of(meant))
    assert stored_outputs(notebook_of(code("x", fine, count=None)))
    assert stored_outputs(notebook_of(code("x")))
    assert stored_outputs(notebook_of(code("x", count=None))) == []


def test_words_of_others_are_found():
    assert unwanted_words(notebook_of(text("We dive\ninto it.")))
    assert unwanted_words(notebook_of(code("# a Comprehensive list")))
    assert unwanted_words(notebook_of(text("Well done!")))
    good = "`x != y`, ![a quay](quay.png), <!-- note -->\n```\nHello!\n```\nDone."
    assert unwanted_words(notebook_of(text(good))) == []


def tagged(tag: str):
    cell = code("x")
    cell.metadata["tags"] = [tag]
    return cell


def test_marks_that_learners_see_or_nbval_misses_are_found():
    assert bad_marks(notebook_of(code("# NBVAL_CHECK_OUTPUT\nx")))
    assert bad_marks(notebook_of(tagged("nbval-skip")))
    assert bad_marks(notebook_of(tagged("nbval_check_output")))
    for tag in (*NBVAL_TAGS, "check"):
        assert bad_marks(notebook_of(tagged(tag))) == []
