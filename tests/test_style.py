"""Notebooks and code keep the course's rules of style; the figures are printed after the tests.

The rules themselves are in `tools/check_notebook.py`, so that an author can apply them alone.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import notebooks
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import ROOT, Spread, code_cells

sys.path.insert(0, str(ROOT / "tools"))
import check_notebook  # noqa: E402
from check_notebook import (  # noqa: E402
    LINES,
    MEDIAN_LINES,
    WORDS,
    bad_format,
    bad_ids,
    bad_images,
    bad_marks,
    bad_opening,
    bad_storage,
    code_lines,
    composed_alt_text,
    markdown_cells,
    not_python,
    nothing_compared,
    over_budget,
    read,
    stored_outputs,
    text_words,
    unwanted_words,
)

CHAPTERS = notebooks.notebooks("chapters")
UNEXECUTED = notebooks.notebooks("solutions", "labs")
EVERY = CHAPTERS + UNEXECUTED

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
MODELS_MB = 70  # mini-qwen-agent and mini-embed came after the plan of 64


def every(rule):
    """Run a test for each notebook."""
    return pytest.mark.parametrize("path", EVERY, ids=notebooks.name)(rule)


# --- Every notebook -------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", notebooks.FOLDERS)
def test_there_are_notebooks(folder):
    assert notebooks.notebooks(folder), f"no notebook in {folder}/"


@every
def test_the_file_is_valid_and_its_ids_are_readable(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert bad_ids(stored) == []
    assert bad_format(stored) == []


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
    notebook = read(path)
    assert bad_images(notebook, path.parent) == []
    assert composed_alt_text(notebook) == []


@every
def test_words(path):
    assert unwanted_words(read(path)) == []


@every
def test_marks_for_nbval(path):
    notebook = read(path)
    assert bad_marks(notebook) == []
    if path in CHAPTERS:
        assert nothing_compared(notebook) == []


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


def test_no_ignored_file_is_tracked():
    folders = {folder for path in course_files() for folder in path.relative_to(ROOT).parts[:-1]}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert "__pycache__/" in ignored
    if (ROOT / ".git").exists():  # a zip file's folder has what running the course adds
        assert not folders & {line.rstrip("/") for line in ignored}


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


def test_alt_text_composed_in_a_cell_is_found():
    bars = 'plots.bars({"a": best}, x="GB", '
    assert composed_alt_text(notebook_of(code(bars + 'conclusion=f"the best is {best}")')))
    assert composed_alt_text(notebook_of(code("plots.show(figure, alt=words)")))
    constant = bars + 'conclusion="Four bits are "\n    "enough.")'
    assert composed_alt_text(notebook_of(code(constant), code("!ls"))) == []


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


def tagged(source, *names):
    cell = code(source)
    cell.metadata["tags"] = list(names)
    return cell


def test_marks_that_learners_see_or_nbval_misses_are_found():
    assert bad_marks(notebook_of(tagged("x", "nbval-check-outputs")))
    assert bad_marks(notebook_of(tagged("x", "nbval-skip")))
    assert bad_marks(notebook_of(tagged("x", "nbval-check-output", "check"))) == []
    assert bad_marks(notebook_of(code("# NBVAL_CHECK_OUTPUT\nx")))
    assert bad_marks(notebook_of(tagged("x", "raises-exception"))) == []


def test_a_chapter_that_compares_nothing_is_found():
    output = new_output("stream", text="3")
    assert nothing_compared(notebook_of(code("x", output)))
    assert nothing_compared(notebook_of(tagged("x", "nbval-check-output")))
    marked = tagged("x", "nbval-check-output")
    marked.outputs = [output]
    assert nothing_compared(notebook_of(marked)) == []


@pytest.mark.parametrize("key", ["nbformat", "nbformat_minor", "metadata"])
def test_files_of_another_format_are_found(key):
    stored = json.loads(json.dumps(notebook_of(text("# x"))))
    assert bad_format(stored) == []
    del stored[key]
    assert bad_format(stored)
    assert bad_format({"nbformat": 3, "nbformat_minor": 0})


# --- One notebook on the command line -------------------------------------------------------------


GOOD = "# Weights fit in a file\n*You will do* this. *You will learn* that. *You need* 5 min."


def write(folder: Path, *cells) -> Path:
    """Write a notebook and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "1_draft.ipynb"
    path.write_text(json.dumps(notebook_of(*cells)), encoding="utf-8")
    return path


def test_a_good_notebook_passes(tmp_path, capsys):
    path = write(tmp_path, text(GOOD), code("x = 1"))
    assert check_notebook.main([str(path)]) == 0
    assert capsys.readouterr().out == "1_draft.ipynb obeys the rules.\n"


@pytest.mark.parametrize(
    ("folder", "cell", "problem", "advice"),
    [
        (".", code("!ls"), "not Python in line 1", "Write plain Python"),
        (".", code("x = 1\n" * (LINES + 1)), "21 lines, at most 20", "Move longer code"),
        (".", code("show(x, alt=str(x))"), "composes alt=str(x)", "Let openmodels.plots"),
        (".", text("We dive into it."), "'dive into'", "plain words"),
        (".", tagged("x", "nbval-skip"), "is never run", "every cell must run"),
        ("solutions", code("x"), "is stored with a result", "nbstripout --keep-id"),
        ("labs", code("x"), "is stored with a result", "nbstripout --keep-id"),
        ("chapters/1_x", code("x", count=7), "execution counts are", "from top to bottom"),
        ("chapters/1_x", code("x"), "no stored output is compared", "nbval-check-output"),
    ],
)
def test_a_problem_is_printed_with_its_cell_and_a_cure(
    tmp_path, capsys, folder, cell, problem, advice
):
    path = write(tmp_path / folder, text(GOOD), cell)
    assert check_notebook.main([str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    place = next(place for place, line in enumerate(lines) if problem in line)
    assert lines[place].startswith((f"1_draft.ipynb, {cell.id}: ", "1_draft.ipynb, notebook: "))
    assert lines[place + 1].startswith("    ") and advice in lines[place + 1]


def test_a_solution_that_makes_no_lab_is_reported(tmp_path, capsys):
    cell = tagged("x = 1", "check")
    cell.execution_count = None
    path = write(tmp_path / "solutions", text(GOOD), cell)
    assert check_notebook.main([str(path)]) == 1
    assert 'must end in check("2.1", ...)' in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "{", "[]", '{"cells": 3}', '{"cells": [{}]}'])
def test_a_file_that_is_no_notebook_is_reported(tmp_path, capsys, content):
    path = tmp_path / "1_draft.ipynb"
    if content is not None:
        path.write_text(content)
    assert check_notebook.main([str(path)]) == 1
    assert "1_draft.ipynb" in capsys.readouterr().out


@pytest.mark.parametrize("cell_id", ["Bad ID", "bad_id", "x" * 65])
def test_a_bad_id_is_reported_once_and_before_the_other_rules(tmp_path, capsys, recwarn, cell_id):
    path = write(tmp_path, text(GOOD), code("!ls"))
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["cells"][1]["id"] = cell_id
    path.write_text(json.dumps(stored), encoding="utf-8")
    assert check_notebook.main([str(path)]) == 1
    problem, advice = capsys.readouterr().out.splitlines()
    assert cell_id in problem and "check again" in advice
    assert not recwarn.list


def test_several_notebooks_are_checked(tmp_path, capsys):
    good = write(tmp_path / "a", text(GOOD), code("x"))
    bad = write(tmp_path / "b", text("no title"))
    assert check_notebook.main([str(good), str(bad)]) == 1
    assert capsys.readouterr().out.count("1_draft.ipynb") > 1
