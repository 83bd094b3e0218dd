"""Every exercise is listed in its lab and has one module that a newcomer finds by its number."""

import ast
import importlib
import re

import nbformat
import new_exercise
import notebooks
import pytest

from openmodels import check, exercises

LABS = sorted({known.lab for known in check.all_exercises()})
FOLDER = check._PACKAGE / "exercises"
MOST_FLAGS = 4
TEMPLATES = (  # what a cell says until its author writes it
    new_exercise.TASK.split("** ", 1)[1],
    new_exercise.TALK,
    "Return what the task asks for.",
    "its meaning, shape and unit.",
)


def modules(lab: int) -> list[str]:
    """Return the names of a lab's exercise modules."""
    return sorted(path.stem for path in (FOLDER / f"lab{lab}").glob("ex_*.py"))


@pytest.mark.parametrize("lab", LABS)
def test_each_listed_exercise_has_one_module(lab):
    listed = importlib.import_module(f"{exercises.__name__}.lab{lab}").EXERCISES
    numbers = [re.match(r"ex_(\d+)_(\d+)_[a-z0-9_]+$", name).groups() for name in modules(lab)]
    assert sorted(".".join(parts) for parts in numbers) == sorted(e.number for e in listed)
    assert {known.lab for known in listed} == {lab}


@pytest.mark.parametrize("known", check.all_exercises(), ids=lambda known: known.number)
def test_the_module_registers_the_number_in_its_name(known):
    function = known.load_checker().function
    name = function.__module__.rsplit(".", 1)[1]
    assert name.startswith("ex_" + known.number.replace(".", "_") + "_")
    assert importlib.import_module(function.__module__).__doc__.startswith(
        f"Exercise {known.number}"
    )


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_functions_have_few_optional_parameters(path):
    """A function with many switches is many functions: each mistake gets a name of its own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            optional = len(node.args.defaults) + len(
                [default for default in node.args.kw_defaults if default is not None]
            )
            assert optional <= MOST_FLAGS, f"{path.name}, line {node.lineno}: {optional} options"


@pytest.mark.parametrize("path", notebooks.notebooks("solutions"), ids=notebooks.name)
def test_no_cell_is_left_as_the_template_wrote_it(path):
    for cell in nbformat.read(path, as_version=4).cells:
        templates = [words for words in TEMPLATES if words in cell.source]
        assert not templates, f"write cell {cell.id} of {notebooks.name(path)}: {templates}"


def test_the_template_has_the_words_that_are_looked_for():
    written = new_exercise.TASK + new_exercise.STUB + new_exercise.TALK
    assert all(words in written for words in TEMPLATES)
