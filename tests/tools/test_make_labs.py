"""Labs are made from solutions, hold none of them, and never replace somebody's work."""

import importlib
import json
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
make_labs = importlib.import_module("make_labs")

SOLUTION = '''def mean(values):
    """The mean of values."""
    ### BEGIN SOLUTION
    total = sum(values)
    return total / len(values)
    ### END SOLUTION
'''


def cell(cell_id, source, *tags, kind="code"):
    fields = {"cell_type": kind, "id": cell_id, "metadata": {"tags": list(tags)}, "source": source}
    if kind == "code":
        fields |= {"execution_count": 3, "outputs": []}
    return fields


def demo_cells():
    output = {"output_type": "stream", "name": "stdout", "text": "2.5"}
    return [
        cell("task-90-1", "**90.1** Take a mean — 平均.", kind="markdown"),
        cell("ex-90-1", SOLUTION),
        cell("check-90-1", 'check("90.1", mean)', "check") | {"outputs": [output]},
        cell(
            "talk-90-1", "statistics.mean is the idiomatic form", "solution-only", kind="markdown"
        ),
        cell("setup", "import math", "locked"),
    ]


@pytest.fixture
def course(tmp_path):
    """Folders solutions/ and labs/, and a function that writes a solution notebook of cells."""
    (tmp_path / "solutions").mkdir()

    def write(cells, name="90_demo.ipynb"):
        metadata = {"kernelspec": {"name": "other"}, "widgets": {}}
        notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / "solutions" / name).write_text(json.dumps(notebook), encoding="utf-8")

    write.solutions, write.labs = tmp_path / "solutions", tmp_path / "labs"
    write.lab = write.labs / "90_demo.ipynb"
    write.run = lambda *options: make_labs.main(
        ["--solutions", str(write.solutions), "--labs", str(write.labs), *options]
    )
    write(demo_cells())
    return write


def test_a_lab_is_a_valid_notebook_with_a_stub(course):
    assert course.run() == 0
    lab = nbformat.read(course.lab, 4)
    nbformat.validate(lab)
    assert [c.id for c in lab.cells] == ["task-90-1", "ex-90-1", "check-90-1", "setup"]
    assert lab.cells[1].source == (
        'def mean(values):\n    """The mean of values."""\n    # Your code here\n'
        '    raise NotImplementedError("replace this line with your code")'
    )
    assert all(not c.outputs and c.execution_count is None for c in lab.cells[1:])
    assert lab.cells[2].metadata == {"deletable": False, "editable": False, "tags": ["check"]}
    assert set(lab.metadata) == {"kernelspec", "language_info", "openmodels"}
    assert nbformat.writes(lab) + "\n" == course.lab.read_text(encoding="utf-8")
    assert "sum(values)" not in course.lab.read_text(encoding="utf-8")


def test_check_names_what_is_stale(course, capsys):
    assert course.run("--check") == 1
    assert "90_demo.ipynb is missing" in capsys.readouterr().out
    course.run()
    assert course.run("--check") == 0
    course.lab.write_bytes(course.lab.read_bytes() + b"\n")
    (course.labs / "old.ipynb").write_text("{}")
    assert course.run("--check") == 1
    out = capsys.readouterr().out
    assert "90_demo.ipynb is stale" in out
    assert "old.ipynb has no solution" in out


def test_a_generated_lab_is_renewed(course):
    course.run()
    course([cell("intro", "Another text", kind="markdown"), *demo_cells()])
    assert course.run() == 0
    assert "Another text" in course.lab.read_text()


@pytest.mark.parametrize("work", ["# mine", "not even JSON"])
def test_somebodys_work_is_never_replaced_silently(course, capsys, work):
    course.run()
    lab = json.loads(course.lab.read_text())
    lab["cells"][1]["source"] = [work]
    mine = work if work == "not even JSON" else json.dumps(lab)
    course.lab.write_text(mine)
    assert course.run() == 1
    assert "holds somebody's work and was left alone" in capsys.readouterr().out
    assert course.lab.read_text() == mine
    assert course.run("--force") == 0
    assert course.run("--check") == 0


def without_id():
    nameless = cell("", "x = 1")
    del nameless["id"]
    return nameless


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (cell("e", "### BEGIN SOLUTION\nx = 1"), "cell e: '### BEGIN SOLUTION' without"),
        (cell("e", "x = 1\n### END SOLUTION"), "cell e: unexpected marker"),
        (cell("e", "### BEGIN SOLUTION\n### BEGIN SOLUTION"), "cell e: unexpected marker"),
        (cell("e", "## BEGIN SOLUTION\nx = 1\n## END SOLUTION"), "cell e: unexpected marker"),
        (cell("e", "### BEGIN SOLUTION\nx\n### END SOLUTION", kind="markdown"), "unexpected"),
        (cell("ex-90-1", "x = 1"), "two cells have the id 'ex-90-1'"),
        (without_id(), "cell 6 has no id: 'x = 1'"),
        (cell("e", "    return total / len(values)"), "cell e of the lab shows a line"),
        (cell("e", "`return total / len(values)`", kind="markdown"), "the solution in ex-90-1"),
        (cell("e", "found = check('90.2', mean)", "check"), "cell e must end in check"),
        (cell("e", "check(number, mean)", "check"), "cell e must end in check"),
        (cell("e", "check('90.1', mean)", "check"), "checks 90.1 a second time"),
    ],
)
def test_mistakes_of_an_author_are_named(course, capsys, extra, message):
    course([*demo_cells(), extra])
    assert course.run() == 1
    out = capsys.readouterr().out
    assert "90_demo.ipynb" in out
    assert message in out
    assert not course.labs.exists()


def test_a_file_that_is_no_notebook_is_named(course, capsys):
    (course.solutions / "bad.ipynb").write_text("{")
    assert course.run() == 1
    assert "bad.ipynb is not a notebook" in capsys.readouterr().out


# --- The course itself ----------------------------------------------------------------------------


def test_the_labs_of_the_course_are_fresh():
    assert make_labs.stale_labs(ROOT / "solutions", ROOT / "labs") == []


def test_every_exercise_is_checked_in_one_solution_and_solved_in_its_cell():
    from openmodels.check import all_exercises

    checked, solved = [], set()
    for path in sorted((ROOT / "solutions").glob("*.ipynb")):
        cells = make_labs.read_solution(path)
        checked += make_labs.exercises(cells, path.name).values()
        solved |= {c["id"] for c in cells if make_labs.cut_solution(c, path.name)[1]}
    # lab 0 is the warm-up inside chapters/00_start_here.ipynb, solved before the reader's eyes
    warm_up = (ROOT / "chapters" / "00_start_here.ipynb").read_text(encoding="utf-8")
    labs = [known for known in all_exercises() if not known.number.startswith("0.")]
    assert sorted(checked) == sorted(known.number for known in labs)
    assert {known.solution_cell for known in labs} <= solved
    for known in all_exercises():
        assert known in labs or f'check(\\"{known.number}\\"' in warm_up
