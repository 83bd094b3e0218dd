"""The grader on a demo lab with every kind of submission, then on the labs of the course."""

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
grade = importlib.import_module("grade")
make_labs = importlib.import_module("make_labs")

SETUP = """from openmodels.check import NotYet, check, exercise

@exercise("90.1", title="Double", hints=[])
def check_double(double):
    if double(2) != 4:
        raise NotYet("2 doubled is 4.")
    return "right."

@exercise("90.2", title="Half", hints=[])
def check_half(half):
    if half(2) != 1:
        raise NotYet("half of 2 is 1.")
    return "right."
"""
DOUBLE = "def double(x):\n    ### BEGIN SOLUTION\n    return x + x + 0 * x\n    ### END SOLUTION"
HALF = "def half(x):\n    ### BEGIN SOLUTION\n    return x / 2\n    ### END SOLUTION"
RIGHT = {"ex-1": "def double(x):\n    return 2 * x", "ex-2": "def half(x):\n    return x / 2"}
FAKE = {
    "exercise": "90.1",
    "state": "correct",
    "message": "",
}


def cell(cell_id, source, *tags, kind="code"):
    return {"cell_type": kind, "id": cell_id, "metadata": {"tags": list(tags)}, "source": source}


def notebook(cells):
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


SOLUTION = [
    cell("title", "# A lab", kind="markdown"),
    cell("setup", SETUP, "locked"),
    cell("ex-1", DOUBLE),
    cell("check-1", 'check("90.1", double)', "check"),
    cell("talk-1", "raise SystemError('left out of labs')", "solution-only"),
    cell("ex-2", HALF),
    cell("check-2", 'check("90.2", half)', "check"),
]


def submission(changed=RIGHT, without=(), added=()):
    """The lab with some cells' sources changed, some deleted, and cells added after an id."""
    cells = []
    for one in SOLUTION:
        if one["id"] not in (*without, "talk-1"):
            source = make_labs.cut_solution({**one}, "demo")[0]
            cells.append({**one, "source": changed.get(one["id"], source)})
        cells += [new for after, new in added if after == one["id"]]
    return notebook(cells)


DISPLAYED = f"""from IPython.display import display
def fake():
    display({{"{grade.MIME}": {FAKE}, "text/plain": ""}}, raw=True)
"""
CHEATS = {
    "displays": DISPLAYED + "fake()\ndef double(x):\n    fake()\n    return 0",
    "redefines": DISPLAYED + "def double(x): return 0\ndef check(*_): fake()",
}
MOVED = [cell("more", RIGHT["ex-1"]), cell("check-1", "'edited'"), cell("check-1", "'twice'")]
MARK = f"orphan of {os.getpid()}"
ORPHAN = f"""import os, subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)", "{MARK}"]
subprocess.Popen(command, start_new_session=True)
os._exit(1)"""
STUBBORN = """import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True: pass"""
HOG = "import time\nhog = bytearray(10**9)\nhog[::4096] = b'x' * len(hog[::4096])\ntime.sleep(60)"

# name: (text of the file, status, result of 90.1, result of 90.2)
CASES = {
    "correct": (submission(), "ok", "correct", "correct"),
    "untouched": (submission({}), "ok", "not attempted", "not attempted"),
    "wrong": (
        submission({**RIGHT, "ex-1": "def double(x): return x"}),
        "ok",
        "not yet",
        "correct",
    ),
    "syntax": (submission({**RIGHT, "ex-1": "def double(x:"}), "ok", "error", "correct"),
    "no-check": (submission(without=["check-1", "check-2"]), "ok", "correct", "correct"),
    "no-setup": (submission(without=["setup", "title"]), "ok", "correct", "correct"),
    "edited-check": (
        submission({"ex-1": "def double(x): return 0", "check-1": "check('90.1', lambda x: 4)"}),
        "ok",
        "not yet",
        "not attempted",
    ),
    "answer-in-a-new-cell": (
        submission(
            {"ex-2": RIGHT["ex-2"]}, without=["check-1"], added=[("ex-1", new) for new in MOVED]
        ),
        "ok",
        "correct",
        "correct",
    ),
    "cheat-displays": (
        submission({"ex-1": CHEATS["displays"]}),
        "ok",
        "not yet",
        "not attempted",
    ),
    "cheat-redefines": (
        submission({"ex-1": CHEATS["redefines"]}),
        "ok",
        "not yet",
        "not attempted",
    ),
    "dead": (
        submission({**RIGHT, "ex-2": ORPHAN}),
        "kernel died",
        "correct",
        "error",
    ),
    "endless": (
        submission({**RIGHT, "ex-1": "while True: print('x' * 1000)"}),
        "time limit",
        "time limit",
        "correct",
    ),
    "endless-in-check": (
        submission({**RIGHT, "ex-1": "def double(x):\n    while True: pass"}),
        "time limit",
        "time limit",
        "correct",
    ),
    "stubborn": (submission({**RIGHT, "ex-1": STUBBORN}), "time limit", "time limit", "not run"),
    "hog": (submission({**RIGHT, "ex-1": HOG}), "memory limit", "error", "not run"),
    "broken-json": ('{"cells": [', "broken file: it is not JSON", "", ""),
    "deep-json": ("[" * 100_000, "broken file: it is not JSON", "", ""),
    "no-notebook": ('{"cells": 3}', "broken file: it is JSON, but not a notebook", "", ""),
    "other-notebook": (notebook([cell("x", "1")]), "broken file: it has no cell of a lab", "", ""),
    "=formula": ("", "broken file: it is not JSON", "", ""),
}


@pytest.fixture(scope="module")
def solutions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("solutions")
    (folder / "90_demo.ipynb").write_text(notebook(SOLUTION))
    return folder


@pytest.fixture(scope="module")
def graded(tmp_path_factory, solutions):
    """Lines of the CSV by learner, after one run over all cases."""
    folder = tmp_path_factory.mktemp("submissions")
    for name, (text, *_) in CASES.items():
        (folder / f"{name}.ipynb").write_text(text)
    (folder / "ana").mkdir()
    (folder / "ana" / "my lab.ipynb").write_text(CASES["correct"][0])
    (folder / "ana" / ".hidden.ipynb").write_text("")
    (folder / "link.ipynb").symlink_to(solutions / "90_demo.ipynb")
    return run_grader(folder, folder / "grades.csv", "--solutions", solutions)


def run_grader(folder, out, *options):
    command = [sys.executable, ROOT / "tools" / "grade.py", folder, "--out", out]
    limits = ["--timeout", "4", "--memory", "700"] if options else []
    done = subprocess.run(
        [*map(str, command), *map(str, options), *limits],
        env={**os.environ, "SECRET": "of the instructor"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with out.open(encoding="utf-8", newline="") as file:
        return {line["learner"]: line for line in csv.DictReader(file)}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_submission(graded, name):
    _, status, *results = CASES[name]
    line = graded["'" + name if name.startswith("=") else name]
    assert [line["status"], line["90.1"], line["90.2"]] == [status, *results]
    assert int(line["score"]) == results.count("correct")
    assert line["max"] == ("" if status.startswith("broken") else "2")


def test_a_learner_is_named_by_the_folder(graded):
    assert graded["ana"]["file"] == "ana/my lab.ipynb"
    assert graded["ana"]["score"] == "2"


def test_a_link_out_of_the_folder_is_not_followed(graded):
    assert graded["link"]["status"] == "broken file: it is a link that leads out of the folder"


def test_the_children_of_a_dead_kernel_are_gone(graded):
    assert not any(MARK in command_line(process) for process in psutil.process_iter())


def command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "big.ipynb").write_text(CASES["correct"][0])
    monkeypatch.setattr(grade, "LARGEST_FILE", 10)
    with pytest.raises(grade.BrokenFile, match="larger than"):
        grade.read_submission(tmp_path / "big.ipynb", tmp_path)


def test_a_kernel_sees_an_empty_home_and_no_secrets(monkeypatch):
    monkeypatch.setenv("SECRET", "of the instructor")
    source = f"""import os
class Seen:
    def _repr_mimebundle_(self, include=None, exclude=None):
        seen = [os.listdir(), os.getcwd() == os.environ["HOME"], "SECRET" in os.environ]
        return {{"{grade.MIME}": seen}}
Seen()"""
    with grade.Kernel(grade.Limits(cell=30, notebook=60, memory=1000, threads=1)) as kernel:
        (listing, at_home, secret), late = kernel.run(source)
        folder = Path(kernel.folder.name)
    assert (at_home, secret, late) == (True, False, False)
    assert [name for name in listing if not name.startswith(".")] == []
    assert not folder.exists()


def test_an_old_id_of_colab_is_found(tmp_path):
    cells = [{"cell_type": "code", "metadata": {"id": "ex-1"}, "source": ["a\n", "b"]}]
    (tmp_path / "colab.ipynb").write_text(notebook(cells))
    assert grade.read_submission(tmp_path / "colab.ipynb", tmp_path) == [
        {"id": "ex-1", "cell_type": "code", "source": "a\nb"}
    ]


@pytest.mark.parametrize(
    ("order", "restored"),
    [
        ("title setup ex-1 check-1 ex-2 check-2", "title setup ex-1 check-1 ex-2 check-2"),
        ("check-1 ex-1 ex-2", "setup ex-1 check-1 ex-2 check-2"),
        ("ex-1 own check-1 check-1 ex-2 own", "setup ex-1 own check-1 ex-2 check-2 own"),
        ("ex-1 ex-1 ex-2", "setup ex-1 ex-1 check-1 ex-2 check-2"),
        ("own", "setup check-1 check-2 own"),
    ],
)
def test_locked_cells_go_back_to_their_places(solutions, order, restored):
    lab = grade.load_lab(solutions / "90_demo.ipynb")
    cells = [cell(name, "learner's") for name in order.split()]
    result = grade.restore(cells, lab)
    assert " ".join(c["id"] for c in result) == restored
    assert all(c["source"] != "learner's" for c in result if c["id"] in lab.restored)


def test_what_cannot_be_graded_is_said_at_once(tmp_path, solutions, capsys):
    for arguments in ([tmp_path], [solutions, "--lab", "7", "--solutions", solutions]):
        with pytest.raises(SystemExit):
            grade.main([str(argument) for argument in arguments])
    err = capsys.readouterr().err
    assert "no notebook in" in err
    assert "no such lab" in err
    assert "there are: 90_demo" in err


# --- A grader that is stopped ---------------------------------------------------------------------

YESTERDAY = "learner,file,status\nana,ana.ipynb,ok\n"
# It finishes the first submissions, and then waits for the end of the grader in the last one.
WAIT = "import time\ntime.sleep(120)"
KILL_PARENT = "import os\nos.kill(os.getppid(), 9)\n" + WAIT


@pytest.fixture
def stopped(tmp_path, solutions):
    """Start the grader on two right submissions and one that waits, beside yesterday's grades."""
    graders = []

    def start(last: str) -> tuple[subprocess.Popen, Path]:
        for name in ("ana", "ben"):
            (tmp_path / f"{name}.ipynb").write_text(CASES["correct"][0])
        (tmp_path / "zoe.ipynb").write_text(submission({**RIGHT, "ex-1": last}))
        out = tmp_path / "grades.csv"
        out.write_text(YESTERDAY)
        command = [sys.executable, ROOT / "tools" / "grade.py", tmp_path, "--out", out]
        command += ["--solutions", solutions, "--jobs", "1"]
        # a suite that was started in the background passes on that Ctrl-C is ignored
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        grader = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
        )
        signal.signal(signal.SIGINT, before)
        graders.append(grader)
        return grader, out

    yield start
    for grader in graders:
        grader.kill()
        grader.wait()


def finished_lines(out: Path) -> list[dict]:
    """Return the lines of the part file; [] before it exists."""
    part = out.with_name(out.name + ".part")
    if not part.exists():
        return []
    with part.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def wait_for_two(grader: subprocess.Popen, out: Path) -> None:
    """Return once the part file has two lines; the grader must still run."""
    ends = time.monotonic() + 120
    while len(finished_lines(out)) < 2:
        assert grader.poll() is None and time.monotonic() < ends
        time.sleep(0.1)


def check_nothing_is_lost(out: Path) -> None:
    """Fail unless yesterday's grades are whole and the part has the finished lines."""
    assert out.read_text() == YESTERDAY
    lines = finished_lines(out)
    assert [line["learner"] for line in lines] == ["ana", "ben"]
    assert [(line["90.1"], line["90.2"], line["score"]) for line in lines] == [
        ("correct", "correct", "2")
    ] * 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_stopped_grader_loses_nothing(stopped, name):
    grader, out = stopped(WAIT)
    wait_for_two(grader, out)
    grader.send_signal(getattr(signal, name))
    said = grader.communicate(timeout=60)[0]
    check_nothing_is_lost(out)
    if name != "SIGKILL":
        assert grader.returncode == 130
        assert f"finished lines are in {out}.part; {out} is as it was" in said
        assert "Traceback" not in said


@pytest.mark.skipif(os.name == "nt", reason="the submission sends a signal")
def test_a_submission_that_kills_the_grader_takes_no_grades_with_it(stopped):
    grader, out = stopped(KILL_PARENT)
    grader.communicate(timeout=120)
    assert grader.returncode == -signal.SIGKILL
    check_nothing_is_lost(out)


def test_a_complete_run_leaves_no_part(tmp_path, solutions):
    (tmp_path / "ana.ipynb").write_text(CASES["correct"][0])
    out = tmp_path / "grades.csv"
    out.write_text(YESTERDAY)
    (tmp_path / "grades.csv.part").write_text("of a run that was stopped")
    lines = run_grader(tmp_path, out, "--solutions", solutions)
    assert lines["ana"]["score"] == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ana.ipynb", "grades.csv"]


def test_grades_that_are_open_in_a_spreadsheet_stay_and_the_new_ones_are_named(
    tmp_path, solutions, monkeypatch, capsys
):
    """Windows refuses to replace a file that Excel has open."""

    def refuse(draft, target):
        raise PermissionError(13, "The process cannot access the file")

    (tmp_path / "ana.ipynb").write_text(notebook([cell("x", "1")]))
    out = tmp_path / "grades.csv"
    out.write_text(YESTERDAY)
    monkeypatch.setattr(grade.files, "replace", refuse)
    monkeypatch.setattr(grade.signal, "signal", lambda *_: None)
    options = [tmp_path, "--out", out, "--solutions", solutions]
    assert grade.main([str(option) for option in options]) == 1
    assert f"the grades are in {out}.part" in capsys.readouterr().err
    assert out.read_text() == YESTERDAY
    assert [line["learner"] for line in finished_lines(out)] == ["ana"]
    assert not out.with_name("grades.csv.new").exists()


def test_an_unwritable_place_for_the_grades_is_said(tmp_path, solutions, monkeypatch, capsys):
    (tmp_path / "ana.ipynb").write_text(notebook([cell("x", "1")]))
    monkeypatch.setattr(grade.signal, "signal", lambda *_: None)
    options = [tmp_path, "--out", tmp_path / "no" / "grades.csv", "--solutions", solutions]
    assert grade.main([str(option) for option in options]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), psutil.NoSuchProcess(1), OSError(5)])
def test_a_process_that_windows_protects_does_not_stop_the_grader(error):
    class Protected:
        def kill(self):
            raise error

        def children(self, recursive):
            raise error if isinstance(error, psutil.Error) else psutil.AccessDenied(1)

    grade._kill(Protected())
    assert grade._memory(Protected()) == 0


SUITE = """import os
from openmodels.check import NotYet, check, exercise

@exercise("90.3", title="Suite", hints=[])
def check_suite(office):
    seed = int(os.environ["OPENMODELS_HIDDEN_SEED"])
    passed = sum(office(number) == number + seed for number in range(4))
    if passed < 3:
        raise NotYet(f"{passed} of 4 cases.", passed / 4)
    return f"{passed} of 4 cases.", passed / 4
"""
ANSWER = "def office(number):\n    ### BEGIN SOLUTION\n    return number + 31\n    ### END SOLUTION"


def test_a_suite_runs_on_hidden_cases_and_gives_points(tmp_path):
    cells = [
        cell("setup", SUITE, "locked"),
        cell("ex-3", ANSWER),
        cell("check-3", 'check("90.3", office)', "check", "suite"),
    ]
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "90_suite.ipynb").write_text(notebook(cells))
    offices = {"right": "number + 31", "partly": "number + 31 * (number > 2)", "late": "1 / 0"}
    folder = tmp_path / "submissions"
    folder.mkdir()
    for name, value in offices.items():
        source = f"def office(number):\n    return {value}"
        (folder / f"{name}.ipynb").write_text(notebook([cells[0], cell("ex-3", source), cells[2]]))
    lines = run_grader(
        folder, tmp_path / "grades.csv", "--solutions", tmp_path / "solutions",
        "--hidden-seed", 31, "--jobs", 1,
    )  # fmt: skip
    states = {name: (line["90.3"], line["90.3 points"]) for name, line in lines.items()}
    assert states == {
        "right": ("correct", "1.0"), "partly": ("not yet", "0.25"), "late": ("not yet", ""),
    }  # fmt: skip
    assert {line["max"] for line in lines.values()} == {"1"}


def test_the_cell_of_a_suite_has_its_own_time_limit(tmp_path):
    path = tmp_path / "90_suite.ipynb"
    path.write_text(notebook([cell("check-3", 'check("90.3", office)', "check", "suite")]))
    lab = grade.load_lab(path)
    assert lab.suites == ["90.3"]
    assert lab.columns == ["90.3", "90.3 points"]
    limits = grade.build_parser().parse_args(["folder", "--suite-timeout", "9"])
    assert (limits.suite_timeout, limits.hidden_seed) == (9, None)


# --- The course itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "solutions").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_solution_is_accepted_and_its_lab_not_attempted(path, tmp_path):
    folder = tmp_path / "submissions"
    folder.mkdir()
    (folder / "solution.ipynb").write_bytes(path.read_bytes())
    (folder / "lab.ipynb").write_text(make_labs.lab_text(path), encoding="utf-8")
    lines = run_grader(folder, tmp_path / "grades.csv")
    numbers = grade.load_lab(path).exercises.values()
    assert {number: lines["solution"][number] for number in numbers} == dict.fromkeys(
        numbers, "correct"
    )
    assert {number: lines["lab"][number] for number in numbers} == dict.fromkeys(
        numbers, "not attempted"
    )
