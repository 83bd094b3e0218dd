"""A new exercise is complete, formatted and fails its test until its author writes it.

The numbers from 90 on stay free in every lab, so that a new exercise of the course breaks no test.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
new_exercise = importlib.import_module("new_exercise")
make_labs = importlib.import_module("make_labs")
check_notebook = importlib.import_module("check_notebook")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Return a copy of what an exercise touches, and of what its checker imports."""
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "solutions", root / "solutions")
    package = root / "openmodels"
    shutil.copytree(
        ROOT / "openmodels" / "exercises",
        package / "exercises",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("__init__.py", "check.py", "progress_file.py"):
        shutil.copy(ROOT / "openmodels" / name, package)
    (root / "tests" / "exercises").mkdir(parents=True)
    return root


@pytest.fixture
def course(original, tmp_path):
    """Return a fresh copy of the course folder."""
    return shutil.copytree(original, tmp_path / "course")


def create(course: Path, *arguments: str) -> int:
    return new_exercise.main([*arguments, "--root", str(course)])


def contents(course: Path) -> dict[str, bytes]:
    """Return every file of the course by its path."""
    paths = [path for path in course.rglob("*") if path.is_file()]
    return {path.relative_to(course).as_posix(): path.read_bytes() for path in paths}


def run(course: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(course), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and they load slowly
    return subprocess.run(
        [sys.executable, *command],
        cwd=course,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_exercise_has_cells_a_module_an_entry_and_a_test(course, capsys):
    before = contents(course)
    assert create(course, "2.90", "Count the bells") == 0
    after = contents(course)
    assert sorted(set(after) - set(before)) == [
        "openmodels/exercises/lab2/ex_2_90_count_the_bells.py",
        "tests/exercises/test_ex_2_90_count_the_bells.py",
    ]
    changed = sorted(name for name in before if before[name] != after[name])
    assert changed == [
        "openmodels/exercises/lab2/__init__.py",
        "solutions/2_local_deployment.ipynb",
    ]
    text = capsys.readouterr().out
    assert "Exercise 2.90 is created." in text
    for name in (*changed, *set(after) - set(before)):
        assert name in text


def test_its_cells_make_a_lab_and_obey_the_rules(course):
    create(course, "2.90", "Count the bells")
    path = course / "solutions" / "2_local_deployment.ipynb"
    cells = make_labs.read_solution(path)
    ids = [cell["id"] for cell in cells]
    place = ids.index("task-2-90")
    names = ["task-2-90", "ex-2-90", "check-2-90", "help-2-90", "talk-2-90", "recap"]
    assert ids[place : place + 6] == names
    tags = [make_labs.tags(cell) for cell in cells[place : place + 5]]
    assert tags == [[], [], ["check"], [], ["solution-only"]]
    assert make_labs.exercises(cells, path.name)["check-2-90"] == "2.90"
    lab = json.loads(make_labs.lab_text(path))
    stub = "".join(next(cell["source"] for cell in lab["cells"] if cell["id"] == "ex-2-90"))
    assert stub.startswith("def count_the_bells(value: int) -> int:")
    assert stub.endswith('raise NotImplementedError("replace this line with your code")')
    assert check_notebook.find_problems(path) == []


def test_an_exercise_goes_to_its_place(course):
    assert create(course, "2.92", "Count the bells") == 0
    assert create(course, "2.90", "Ring the bells") == 0
    listing = (course / "openmodels/exercises/lab2/__init__.py").read_text(encoding="utf-8")
    places = [place for place, _, _ in new_exercise.listed_exercises(listing)]
    assert places[:3] == [1, 2, 3] and places[-2:] == [90, 92]
    cells = make_labs.read_solution(course / "solutions" / "2_local_deployment.ipynb")
    ids = [cell["id"] for cell in cells]
    assert ids.index("task-2-9") < ids.index("talk-2-90") < ids.index("task-2-92")


def test_the_new_files_are_formatted(course):
    assert create(course, "2.90", "Count the bells") == 0
    assert create(course, "1.90", "Size an ensemble of many", "--topic", "a" * 24) == 0
    written = [*course.rglob("*ex_2_90_*.py"), *course.rglob("*ex_1_90_*.py")]
    written += course.glob("openmodels/exercises/lab?/__init__.py")
    paths = [str(path) for path in written]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = run(course, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), *paths)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_test_fails_until_the_solution_is_written(course):
    create(course, "2.90", "Count the bells")
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/exercises"]
    failed = run(course, *command)
    assert failed.returncode == 1, failed.stdout
    assert "NotImplementedError: write the reference solution of exercise 2.90" in failed.stdout
    module = course / "openmodels/exercises/lab2/ex_2_90_count_the_bells.py"
    source = module.read_text(encoding="utf-8")
    line = 'raise NotImplementedError("write the reference solution of exercise 2.90")'
    module.write_text(source.replace(line, "return 2 * value"), encoding="utf-8")
    passed = run(course, *command)
    assert passed.returncode == 0, passed.stdout
    code = (
        "from openmodels.check import check\n"
        "def count_the_bells(value): raise NotImplementedError\n"
        "print(check('2.90', count_the_bells), check('2.90', lambda value: value))"
    )
    done = run(course, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "2.90 not attempted yet" in done.stdout
    assert "2.90 not yet: for (1,) you return 1, expected 2." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["2.9", "Count"], "Exercise 2.9 is taken: Size a server for a workshop."),
        (["7.1", "Count"], "There is no lab 7: "),
        (["7.1", "Count"], "There are: 1, 2"),
        (["0.2", "Count"], '"0.2" is not an exercise number: write lab and place'),
        (["2", "Count"], '"2" is not an exercise number'),
        (["2.010", "Count"], '"2.010" is not an exercise number'),
        (["2.90.1", "Count"], '"2.90.1" is not an exercise number'),
        (["two", "Count"], '"two" is not an exercise number'),
        (["2.90", " "], "A title is one line of at most 60 characters."),
        (["2.90", "Count\nbells"], "A title is one line"),
        (["2.90", "x" * 61], "A title is one line"),
        (["2.90", 'Count "bells"'], "no double quotes"),
        (["2.90", "数钟声"], "give one with --topic"),
        (["2.90", "Count", "--topic", "class"], '"class" cannot be the name'),
        (["2.90", "Count", "--topic", "Count-it"], '"Count-it" cannot be the name'),
        (["2.90", "Count", "--topic", "c" * 25], "of at most 24 characters"),
    ],
)
def test_what_cannot_be_created_is_refused_with_a_reason(course, capsys, arguments, message):
    before = contents(course)
    assert create(course, *arguments) == 1
    assert message in capsys.readouterr().out
    assert contents(course) == before


@pytest.mark.parametrize(
    "leftover",
    [
        "openmodels/exercises/lab2/ex_2_90_other.py",
        "tests/exercises/test_ex_2_90_count.py",
    ],
)
def test_a_file_of_the_same_number_is_not_replaced(course, capsys, leftover):
    (course / leftover).write_text("# somebody's work\n")
    before = contents(course)
    assert create(course, "2.90", "Count") == 1
    assert f"is taken: there is {Path(leftover).name}" in capsys.readouterr().out
    assert contents(course) == before


def test_cells_of_the_same_number_are_not_doubled(course, capsys):
    create(course, "2.90", "Count")
    for path in (*course.rglob("*ex_2_90_count*"),):
        path.unlink()
    listing = course / "openmodels/exercises/lab2/__init__.py"
    listing.write_text(
        (ROOT / "openmodels/exercises/lab2/__init__.py").read_text(encoding="utf-8"),
        encoding="utf-8",
    )
    capsys.readouterr()
    assert create(course, "2.90", "Count") == 1
    assert "2_local_deployment.ipynb has check-2-90" in capsys.readouterr().out
