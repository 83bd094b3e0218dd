"""Create an exercise: its cells in the lab's solution, its module, its entry in the lab, a test.

    python tools/new_exercise.py 2.10 "Count the bells"

The new test fails until the author has written the reference solution in the module; the course's
own tests fail until there are hints and wrong answers. The tool prints what to write, and where.
It changes nothing if the number is malformed or taken, or if there is no such lab.
"""

import argparse
import ast
import json
import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from make_labs import ROOT

LONGEST_TITLE, LONGEST_TOPIC = 60, 24  # characters; a longer topic makes lines too long


class ExerciseError(ValueError):
    """An exercise that cannot be created; the message says why."""


@dataclass(frozen=True)
class NewExercise:
    """An exercise to create below a course folder."""

    number: str  # "2.10"
    title: str
    topic: str  # "count_the_bells", the name of the learner's function

    @property
    def lab(self) -> int:
        """Return the number of the lab."""
        return int(self.number.split(".")[0])

    @property
    def place(self) -> int:
        """Return the place in the lab."""
        return int(self.number.split(".")[1])

    @property
    def module(self) -> str:
        """Return the name of the module."""
        return f"ex_{self.lab}_{self.place}_{self.topic}"

    @property
    def cell(self) -> str:
        """Return how the ids of its cells end: "2-10"."""
        return f"{self.lab}-{self.place}"


@dataclass(frozen=True)
class Files:
    """The files of a lab that an exercise changes or adds."""

    listing: Path
    solution: Path
    module: Path
    test: Path


# --- Templates ------------------------------------------------------------------------------------

MODULE = '''"""Exercise {number}: {title}."""

from collections.abc import Callable

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.known_mistakes import diagnose

CALLS = [(1,), (7,)]  # arguments that the checker tries


def reference_{topic}(value: int) -> int:
    """Return the right result."""
    raise NotImplementedError("write the reference solution of exercise {number}")


# A wrong answer has a name, the wrong function (define it above), and the sentence that its learner
# must read: WrongAnswer("one too many", one_too_many, "The last one is counted twice.").
MISTAKES: list[WrongAnswer] = []


@exercise("{number}", wrong=MISTAKES)
def check_{topic}({topic}: Callable[[int], int]) -> str:
    """Judge `{topic}(value)`."""
    for call in CALLS:
        result = {topic}(*call)
        expected = reference_{topic}(*call)
        if result != expected:
            why = diagnose({topic}, CALLS, MISTAKES)
            text = f"for {{call}} you return {{result!r}}, expected {{expected!r}}. {{why}}"
            raise NotYet(text.strip())
    return f"your function agrees with the reference solution on {{len(CALLS)}} values."
'''
TEST = '''"""Exercise {number} accepts a right answer."""

from openmodels.check import find
from openmodels.exercises.lab{lab} import {module}


def test_the_reference_solution_is_accepted():
    answer = {module}.reference_{topic}
    outcome = find("{number}").load_checker().judge(answer)
    assert outcome.state == "correct", outcome.message
'''
ENTRY = """    Exercise(
        "{number}",
        {title_literal},
        hints=(),
    ),
"""
TASK = """**Exercise {number} ●○○ · 10 min: {title}.** Say what to write and what it is for, in one
paragraph. Ask for a guess before the result is shown."""
STUB = '''def {topic}(value: int) -> int:
    """Return what the task asks for.

    value: its meaning, shape and unit. Example: {topic}(1) -> 2.
    """
    ### BEGIN SOLUTION
    raise NotImplementedError("write the solution of exercise {number}")
    ### END SOLUTION'''
HELP = 'Stuck? `hint("{number}")` in a new cell shows the next hint.'
TALK = "Show the library's own way, then the common mistake and why it is a mistake."
NEXT_STEPS = """Exercise {number} is created. Now write:
  {solution}: the task, the solution and the discussion (task-{cell}, ex-{cell}, talk-{cell})
  {module}: the reference solution, the checker and the wrong answers
  {listing}: two or three hints
  {test}: more right answers, written in other ways
Then: python tools/make_labs.py
      python tools/check_notebook.py {solution}
      python -m pytest {test} tests/test_check.py -k "{number} or {module_name}"
"""


def new_cells(new: NewExercise) -> list[dict]:
    """Return the notebook cells of an exercise, in their order."""
    fields = {"number": new.number, "title": new.title, "topic": new.topic}
    return [
        _markdown(f"task-{new.cell}", TASK.format(**fields)),
        _code(f"ex-{new.cell}", STUB.format(**fields)),
        _code(f"check-{new.cell}", f'check("{new.number}", {new.topic})', "check"),
        _markdown(f"help-{new.cell}", HELP.format(**fields)),
        _markdown(f"talk-{new.cell}", TALK, "solution-only"),
    ]


def _markdown(cell_id: str, source: str, *tags: str) -> dict:
    return {
        "cell_type": "markdown",
        "id": cell_id,
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source.splitlines(keepends=True),
    }


def _code(cell_id: str, source: str, *tags: str) -> dict:
    cell = _markdown(cell_id, source, *tags) | {"cell_type": "code"}
    return dict(sorted((cell | {"execution_count": None, "outputs": []}).items()))


# --- The lab --------------------------------------------------------------------------------------


def parse(number: str, title: str, topic: str | None) -> NewExercise:
    """Return the exercise to create. Raises ExerciseError for a bad number, title or topic."""
    if not re.fullmatch(r"[1-9]\d?\.[1-9]\d?", number):
        raise ExerciseError(
            f'"{number}" is not an exercise number: write lab and place, such as 2.10.'
        )
    title = title.strip().rstrip(".")
    if not title or len(title) > LONGEST_TITLE or not title.isprintable():
        raise ExerciseError(f"A title is one line of at most {LONGEST_TITLE} characters.")
    if '"' in title or "\\" in title:
        raise ExerciseError("A title has no double quotes and no backslashes.")
    topic = topic or _topic(title)
    name = re.fullmatch(r"[a-z][a-z0-9_]*", topic)
    if not name or keyword.iskeyword(topic) or len(topic) > LONGEST_TOPIC:
        raise ExerciseError(
            f'"{topic}" cannot be the name of the function: give one with --topic, in small '
            f"letters, of at most {LONGEST_TOPIC} characters."
        )
    return NewExercise(number, title, topic)


def _topic(title: str) -> str:
    """Return the first words of a title as a name."""
    topic = ""
    for word in re.findall(r"[a-z0-9]+", title.lower()):
        longer = f"{topic}_{word}" if topic else word
        if len(longer) > LONGEST_TOPIC:
            break
        topic = longer
    return topic


def locate(root: Path, new: NewExercise) -> Files:
    """Return the files of an exercise. Raises ExerciseError if there is no such lab."""
    solutions = {path.name.split("_")[0]: path for path in (root / "solutions").glob("*_*.ipynb")}
    labs = root / "openmodels" / "exercises"
    listing = labs / f"lab{new.lab}" / "__init__.py"
    if str(new.lab) not in solutions or not listing.exists():
        known = [number for number in solutions if (labs / f"lab{number}").exists()]
        raise ExerciseError(
            f"There is no lab {new.lab}: a lab has a notebook in solutions/ and a package in "
            f"openmodels/exercises/. There are: {', '.join(sorted(known, key=int))}."
        )
    return Files(
        listing,
        solutions[str(new.lab)],
        listing.with_name(f"{new.module}.py"),
        root / "tests" / "exercises" / f"test_{new.module}.py",
    )


def listed_exercises(source: str) -> Iterator[tuple[int, str, int]]:
    """Yield place, title and last line of each entry in the source of a lab's `__init__`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Name("Exercise"), args=[ast.Constant(number), ast.Constant(title), *_]
            ):
                yield int(number.split(".")[1]), title, node.end_lineno or node.lineno


def expect_free(new: NewExercise, files: Files, cells: list[dict]) -> None:
    """Raise ExerciseError if the number or the name is in use."""
    for place, title, _ in listed_exercises(files.listing.read_text(encoding="utf-8")):
        if place == new.place:
            raise ExerciseError(f"Exercise {new.number} is taken: {title}.")
    ids = {cell["id"] for cell in cells} & {cell["id"] for cell in new_cells(new)}
    if ids:
        names = ", ".join(sorted(ids))
        raise ExerciseError(f"Exercise {new.number} is taken: {files.solution.name} has {names}.")
    modules = files.module.parent.glob(f"ex_{new.lab}_{new.place}_*.py")
    for path in (*modules, files.test):
        if path.exists():
            raise ExerciseError(f"Exercise {new.number} is taken: there is {path.name}.")


def add_entry(source: str, new: NewExercise) -> str:
    """Return the source of a lab's `__init__` with the exercise in its place."""
    title = json.dumps(new.title, ensure_ascii=False)
    entry = ENTRY.format(number=new.number, title_literal=title)
    lines = source.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith("EXERCISES"))
    ends = [end for place, _, end in listed_exercises(source) if place < new.place]
    line = max(ends, default=start + 1)
    return "".join([*lines[:line], entry, *lines[line:]])


def add_cells(cells: list[dict], new: NewExercise) -> list[dict]:
    """Return a notebook's cells with the exercise before the next one, or before the recap."""
    place = len(cells)
    for index, cell in enumerate(cells):
        match = re.match(rf"[a-z]+-{new.lab}-(\d+)(-|$)", cell["id"])
        if cell["id"] == "recap" or (match and int(match[1]) > new.place):
            place = index
            break
    return [*cells[:place], *new_cells(new), *cells[place:]]


def create(root: Path, new: NewExercise) -> str:
    """Write the files of a new exercise; return what the author writes next.

    Raises ExerciseError, with nothing written, if the lab is unknown or the number is taken.
    """
    files = locate(root, new)
    notebook = json.loads(files.solution.read_text(encoding="utf-8"))
    expect_free(new, files, notebook["cells"])
    notebook["cells"] = add_cells(notebook["cells"], new)
    fields = {"number": new.number, "title": new.title, "topic": new.topic}
    fields |= {"module": new.module, "lab": str(new.lab)}
    texts = {
        files.module: MODULE.format(**fields),
        files.test: TEST.format(**fields),
        files.listing: add_entry(files.listing.read_text(encoding="utf-8"), new),
        files.solution: json.dumps(notebook, ensure_ascii=False, indent=1) + "\n",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    paths = {name: path.relative_to(root).as_posix() for name, path in vars(files).items()}
    names = {"number": new.number, "cell": new.cell, "module_name": new.module}
    return NEXT_STEPS.format(**names, **paths)


def main(arguments: list[str] | None = None) -> int:
    """Create the exercise on the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("number", help="lab and place in it, such as 2.10")
    parser.add_argument("title", help='what the learner does, such as "Count the bells"')
    parser.add_argument("--topic", help="name of the learner's function; from the title if absent")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="the course folder")
    options = parser.parse_args(arguments)
    try:
        print(create(options.root, parse(options.number, options.title, options.topic)), end="")
    except ExerciseError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
