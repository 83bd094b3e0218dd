"""Grade a folder of submitted labs: one line per submission, one column per exercise.

A submission is FOLDER/<learner>.ipynb or FOLDER/<learner>/<any name>.ipynb. Its check cells and
locked cells are put back as the solution has them, by cell id; then it runs in a kernel of its
own, in an empty folder, with limits on time and memory.

    python start.py grade submissions --out grades.csv

Each line is written to grades.csv.part as soon as it is graded; grades.csv is replaced at the end.
A grader that is stopped leaves the previous grades.csv whole, and its finished lines in the part.

The check of a lab's acceptance suite runs on hidden cases, drawn from --hidden-seed: the same cases
for every submission of a run. Its column "points" has the share of the requirements that are met.

An exercise is `correct`, `not yet`, `not attempted`, `error` (the check could not run), `time
limit`, or `not run` (the kernel was gone by then). The limits contain accidents, not attacks: the
learner's code runs with your rights and shares a process with the checks. Grade strangers' work in
a container.
"""

import argparse
import csv
import json
import os
import queue
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL
from typing import NoReturn, Self

import psutil
from jupyter_client import KernelManager
from make_labs import ROOT, LabError, exercises, read_solution, tags

from openmodels import files

MIME = "application/vnd.openmodels.check+json"  # what openmodels.check adds while grading
LARGEST_FILE = 20_000_000  # bytes
KERNEL_START = 60  # seconds until a kernel must answer
INTERRUPTED = 3  # seconds an interrupted cell has to stop
SUITE_TAG = "suite"  # of a check cell that runs an acceptance suite
MEMORY_EVERY = 0.2  # seconds between two looks at the memory
HIDDEN_SEED = "OPENMODELS_HIDDEN_SEED"  # what openmodels.exercises.lab5.suite reads
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet runs
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")

stopping = threading.Event()  # set while the grader ends before all submissions are graded


class BrokenFile(Exception):
    """A submission that cannot be run; the message says why."""


class Stopped(Exception):
    """The kernel is gone or has to go; the message is the submission's status."""


# --- Labs and submissions -------------------------------------------------------------------------


@dataclass
class Lab:
    """A solution notebook as the grader uses it."""

    name: str
    cells: list[dict]  # the lab's cells, in order, solutions included
    exercises: dict[str, str]  # exercise number by id of its check cell

    @property
    def suites(self) -> list[str]:
        """Return the numbers of the exercises whose check runs an acceptance suite."""
        suites = [cell["id"] for cell in self.cells if SUITE_TAG in tags(cell)]
        return [number for cell_id, number in self.exercises.items() if cell_id in suites]

    @property
    def columns(self) -> list[str]:
        """Return the columns of the lab: its exercises, and points after those with a suite."""
        return [
            column
            for number in self.exercises.values()
            for column in ([number, points_of(number)] if number in self.suites else [number])
        ]

    @property
    def ids(self) -> list[str]:
        """Return the ids of the lab's cells, in order."""
        return [cell["id"] for cell in self.cells]

    @property
    def restored(self) -> dict[str, dict]:
        """Return the cells taken from the solution whatever the learner made of them, by id."""
        return {c["id"]: c for c in self.cells if {"check", "locked"} & set(tags(c))}


def points_of(number: str) -> str:
    """Return the name of the column with an exercise's points."""
    return f"{number} points"


def load_lab(path: Path) -> Lab:
    """Read a solution notebook. Raises LabError."""
    cells = [cell for cell in read_solution(path) if "solution-only" not in tags(cell)]
    return Lab(path.stem, cells, exercises(cells, path.name))


@dataclass
class Grade:
    """One line of the CSV."""

    learner: str
    file: str
    status: str = "ok"
    lab: Lab | None = None
    results: dict[str, str] = field(default_factory=dict)  # by exercise number

    @property
    def score(self) -> int:
        """Return the number of correct exercises."""
        return list(self.results.values()).count("correct")


def find_submissions(folder: Path) -> list[Path]:
    """Return the notebooks in the folder and in its subfolders, hidden ones left out."""
    notebooks = sorted([*folder.glob("*.ipynb"), *folder.glob("*/*.ipynb")])
    return [
        path
        for path in notebooks
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def read_submission(path: Path, folder: Path) -> list[dict]:
    """Return the submission's cells, each with id ("" if it has none), cell_type and source.

    Raises BrokenFile for anything that is not a notebook inside the folder.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BrokenFile("it is a link that leads out of the folder")
    if not path.is_file():
        raise BrokenFile("it is not a file")
    if path.stat().st_size > LARGEST_FILE:
        raise BrokenFile(f"it is larger than {LARGEST_FILE // 1_000_000} MB")
    try:
        cells = json.loads(path.read_bytes())["cells"]
        return [
            {
                # Colab moves the id into the metadata.
                "id": str(cell.get("id") or cell.get("metadata", {}).get("id", "")),
                "cell_type": cell["cell_type"],
                "source": "".join(cell["source"]),
            }
            for cell in cells
        ]
    except (ValueError, RecursionError):
        raise BrokenFile("it is not JSON") from None
    except (KeyError, TypeError, AttributeError):
        raise BrokenFile("it is JSON, but not a notebook") from None


def choose_lab(cells: list[dict], labs: list[Lab]) -> Lab:
    """Return the lab that shares most cell ids with the submission; raises BrokenFile if none."""
    ids = {cell["id"] for cell in cells}
    best = max(labs, key=lambda lab: len(ids & set(lab.ids)))
    if not ids & set(best.ids):
        raise BrokenFile("it has no cell of a lab")
    return best


def restore(cells: list[dict], lab: Lab) -> list[dict]:
    """Return the submission with the lab's own check and locked cells in their places.

    A restored cell stays where the learner has it, as long as that is after the cells it follows
    in the lab; otherwise it goes right behind them. Copies of it are dropped.
    """
    cells = list(cells)
    follows: set[str] = set()
    for cell_id in lab.ids:
        if cell_id in lab.restored:
            places = [i for i, cell in enumerate(cells) if cell["id"] == cell_id]
            before = [i for i, cell in enumerate(cells) if cell["id"] in follows]
            after = before[-1] + 1 if before else 0
            at = max([after, *places])
            cells.insert(at, lab.restored[cell_id])
            cells = [c for i, c in enumerate(cells) if c["id"] != cell_id or i == at]
        follows.add(cell_id)
    return cells


# --- Running --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds per cell and per notebook, MB of memory, threads.

    suite: seconds of a cell that runs an acceptance suite. hidden_seed: draws the suite's cases.
    """

    cell: float
    notebook: float
    memory: float
    threads: int
    suite: float = 240
    hidden_seed: int = 1


class Kernel:
    """A kernel in an empty folder, held to its limits; a context manager that leaves nothing."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.token = secrets.token_hex(16)  # in the environment of the kernel and its children
        self.folder = tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        top = Path(self.folder.name)
        home = top / "home"
        home.mkdir()
        self.manager = KernelManager(
            kernel_name="python3", connection_file=str(top / "connection.json")
        )
        try:
            self.manager.start_kernel(
                cwd=str(home), env=self._environment(home), stdout=DEVNULL, stderr=DEVNULL
            )
            self.client = self.manager.blocking_client()
            self.client.start_channels()
            self.client.wait_for_ready(timeout=KERNEL_START)
        except BaseException:
            self.__exit__()
            raise
        self.process = psutil.Process(self.manager.provisioner.pid)
        self.ends = time.monotonic() + self.limits.notebook
        self.memory_seen = 0.0  # when the memory was looked at last
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "client"):
            self.client.stop_channels()
        for process in psutil.process_iter():
            if _token(process) == self.token:
                _kill(process)
        self.manager.shutdown_kernel(now=True)
        self.folder.cleanup()

    def _environment(self, home: Path) -> dict[str, str]:
        """Return few of the grader's variables, so that no key of the instructor's gets in."""
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return passed_on | {
            "PYTHONUTF8": "1",
            "HOME": str(home),
            "USERPROFILE": str(home),
            "IPYTHONDIR": str(home / ".ipython"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(self.limits.threads),
            "OPENMODELS_PROGRESS": str(home / "progress.json"),
            "OPENMODELS_GRADING": self.token,
            HIDDEN_SEED: str(self.limits.hidden_seed),
        }

    def run(self, source: str, seconds: float | None = None) -> tuple[dict | None, bool]:
        """Run a cell; returns the check's result, if its value was one, and whether it was late.

        seconds: the cell's limit, by default that of every cell.

        Raises Stopped when the kernel died or broke a limit it does not come back from.
        """
        if time.monotonic() > self.ends:
            raise Stopped("time limit")
        request = self.client.execute(source, allow_stdin=False, stop_on_error=False)
        deadline = min(time.monotonic() + (seconds or self.limits.cell), self.ends)
        late, result = False, None
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=0.1)
            except queue.Empty:
                message = {"parent_header": {}}
            if message["parent_header"].get("msg_id") == request:
                content = message["content"]
                if message["msg_type"] == "execute_result":
                    result = content["data"].get(MIME)
                elif content.get("execution_state") == "idle":
                    return result, late
            self._watch()
            if time.monotonic() > deadline:
                if late:
                    raise Stopped("time limit")
                self.manager.interrupt_kernel()
                late, deadline = True, time.monotonic() + INTERRUPTED

    def _watch(self) -> None:
        """Raise Stopped if the kernel died, uses too much memory, or the grader is ending."""
        if stopping.is_set():
            raise Stopped("the grader was stopped")
        if not self.manager.is_alive():
            raise Stopped("kernel died")
        if time.monotonic() - self.memory_seen > MEMORY_EVERY:
            if _memory(self.process) > self.limits.memory * 1e6:
                raise Stopped("memory limit")
            self.memory_seen = time.monotonic()


def _memory(process: psutil.Process) -> int:
    """Return the bytes held by a process and its children."""
    total = 0
    try:
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_info().rss
    except psutil.Error:
        pass  # it ended while it was counted, or the system hides it
    return total


def _token(process: psutil.Process) -> str | None:
    """Return the grading token in a process's environment; None if it has none or hides it."""
    try:
        return process.environ().get("OPENMODELS_GRADING")
    except (psutil.Error, OSError):
        return None  # somebody else's process, or one that just ended


def _kill(process: psutil.Process) -> None:
    """Kill a process; one that has ended, or that Windows protects while it ends, is left alone."""
    try:
        process.kill()
    except (psutil.Error, OSError):
        pass


def run_submission(cells: list[dict], lab: Lab, limits: Limits) -> tuple[str, dict[str, str]]:
    """Run restored cells; returns the status and each exercise's result by its number."""
    results = dict.fromkeys(lab.exercises.values(), "not run")
    status = "ok"
    late_before = False  # whether a cell since the last check ran into the time limit
    with Kernel(limits) as kernel:
        for place, cell in enumerate(cells):
            if cell["cell_type"] != "code":
                continue
            number = lab.exercises.get(cell["id"])
            source = cell["source"]
            if number:  # a learner's own `check` must not stand in for the real one
                source = f"from openmodels.check import check\n{source}"
            try:
                limit = limits.suite if number in lab.suites else limits.cell
                outcome, late = kernel.run(source, limit)
            except Stopped as stop:
                status = str(stop)
                later = [c["id"] for c in cells[place:] if c["id"] in lab.exercises]
                if later:  # the next check is that of the exercise the kernel was lost in
                    lost = "time limit" if status == "time limit" else "error"
                    results[lab.exercises[later[0]]] = lost
                break
            late_before |= late
            status = "time limit" if late else status
            if number:
                results[number] = _result(outcome, number, late_before)
                if number in lab.suites:
                    results[points_of(number)] = _points(outcome, number)
                late_before = False
    return status, results


def _result(outcome: object, number: str, late: bool) -> str:
    """Return an exercise's column: the result of its check, or why there is none."""
    state = "error"
    if isinstance(outcome, dict) and outcome.get("exercise") == number:
        state = str(outcome.get("state"))
    return "time limit" if late and state != "correct" else state


def _points(outcome: object, number: str) -> str:
    """Return an exercise's points as its check reports them, "" without any."""
    if isinstance(outcome, dict) and outcome.get("exercise") == number and "points" in outcome:
        return str(outcome["points"])
    return ""


# --- Grading --------------------------------------------------------------------------------------


def grade(path: Path, folder: Path, labs: list[Lab], limits: Limits) -> Grade:
    """Grade one submission; every way it can fail ends up in the status."""
    inside = path.relative_to(folder)
    learner = inside.parts[0] if len(inside.parts) > 1 else path.stem
    line = Grade(learner, inside.as_posix())
    try:
        cells = read_submission(path, folder)
        line.lab = choose_lab(cells, labs)
        line.status, line.results = run_submission(restore(cells, line.lab), line.lab, limits)
    except BrokenFile as error:
        line.status = f"broken file: {error}"
    except Exception as error:  # one submission must not stop the others
        line.status = f"not graded: {type(error).__name__}: {error}"
    total = len(line.lab.exercises) if line.lab and line.results else 0
    print(f"{line.learner:24} {line.score}/{total}  {line.status}", flush=True)
    return line


def chosen_lab(path: Path, folder: Path, labs: list[Lab]) -> Lab | None:
    """Return the lab of a submission; None for a file that cannot be graded."""
    try:
        return choose_lab(read_submission(path, folder), labs)
    except (BrokenFile, OSError):
        return None


def header(labs: list[Lab | None]) -> list[str]:
    """Return the columns for submissions of these labs: five of the learner, then the exercises."""
    names = {lab.name: lab for lab in labs if lab}
    numbers = [column for _, lab in sorted(names.items()) for column in lab.columns]
    return ["learner", "file", "status", "score", "max", *numbers]


def row(line: Grade, columns: list[str]) -> list[object]:
    """Return a line of the CSV; a name that a spreadsheet takes for a formula gets a quote."""
    texts = [line.learner, line.file, line.status]
    safe = ["'" + text if text.startswith(FORMULA) else text for text in texts]
    total = len(line.lab.exercises) if line.lab else ""
    return [*safe, line.score, total, *(line.results.get(number, "") for number in columns[5:])]


def write_csv(path: Path, lines: Iterable[Grade], columns: list[str]) -> Iterator[Grade]:
    """Write the grades to `path`, each as soon as it is there, and yield them."""
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for line in lines:
            writer.writerow(row(line, columns))
            file.flush()  # a grader that is killed leaves this line
            yield line


def grade_all(
    submissions: list[Path], folder: Path, labs: list[Lab], limits: Limits, jobs: int
) -> Iterator[Grade]:
    """Grade submissions, `jobs` at a time, and yield the lines in the order they are finished.

    If the caller stops early, the running kernels end and the waiting submissions are dropped.
    """
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(grade, path, folder, labs, limits) for path in submissions]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            if not all(task.done() for task in tasks):
                stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
                stopping.clear()


def publish(lines: list[Grade], columns: list[str], part: Path, out: Path) -> None:
    """Replace `out` by the sorted grades in one step, and remove the part file.

    Raises OSError if `out` cannot be replaced; on Windows, because another program has it open.
    """
    complete = out.with_name(out.name + ".new")
    for _ in write_csv(complete, sorted(lines, key=lambda line: line.file), columns):
        pass
    try:
        files.replace(complete, out)
    except OSError:
        complete.unlink(missing_ok=True)
        raise
    part.unlink(missing_ok=True)


def interrupt(signal_number: int, frame: object) -> NoReturn:
    """Handle SIGTERM as Ctrl-C is handled: kernels end, finished lines stay."""
    raise KeyboardInterrupt


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python start.py grade", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--lab", help="name of the lab; found from the cell ids if not given")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), metavar="FILE")
    parser.add_argument("--timeout", type=float, default=60, metavar="S", help="seconds per cell")
    parser.add_argument(
        "--notebook-timeout", type=float, default=300, metavar="S", help="seconds per notebook"
    )
    parser.add_argument(
        "--suite-timeout", type=float, default=240, metavar="S", help="seconds of a suite's check"
    )
    parser.add_argument(
        "--hidden-seed", type=int, metavar="N", help="of the hidden cases; random if not given"
    )
    parser.add_argument("--memory", type=float, default=3000, metavar="MB", help="per notebook")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="notebooks at a time")
    parser.add_argument("--solutions", type=Path, default=ROOT / "solutions", metavar="DIR")
    return parser


def find_labs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Lab]:
    """Return the labs to grade by; ends the program with a message if there is none."""
    try:
        labs = [load_lab(path) for path in sorted(options.solutions.glob("*.ipynb"))]
    except LabError as error:
        parser.error(str(error))
    names = [lab.name for lab in labs]
    if options.lab:
        labs = [lab for lab in labs if lab.name == options.lab.removesuffix(".ipynb")]
    if not labs:
        parser.error(f"no such lab in {options.solutions}; there are: {', '.join(names) or 'none'}")
    return labs


def main(arguments: list[str] | None = None) -> int:
    """Grade the folder of the command line and return the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    submissions = find_submissions(options.folder)
    if not submissions:
        parser.error(f"no notebook in {options.folder} or in a folder of it")
    labs = find_labs(parser, options)
    sys.stdout.reconfigure(errors="replace")  # file names can hold any bytes
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    seed = options.hidden_seed or 1 + secrets.randbelow(10**9)
    limits = Limits(
        options.timeout, options.notebook_timeout, options.memory, threads, options.suite_timeout,
        seed,
    )  # fmt: skip
    columns = header([chosen_lab(path, options.folder, labs) for path in submissions])
    part = options.out.with_name(options.out.name + ".part")
    lines: list[Grade] = []
    signal.signal(signal.SIGTERM, interrupt)
    try:
        graded = grade_all(submissions, options.folder, labs, limits, options.jobs)
        with closing(graded), closing(write_csv(part, graded, columns)) as written:
            lines.extend(written)
        publish(lines, columns, part, options.out)
    except KeyboardInterrupt:
        print(f"Stopped: the finished lines are in {part}; {options.out} is as it was.")
        return 130
    except OSError as error:
        where = f"; the grades are in {part}" if part.is_file() else ""
        print(f"{options.out} cannot be written ({error}){where}.", file=sys.stderr)
        return 1
    print(f"{len(lines)} submissions, grades in {options.out}")
    if any(line.lab and line.lab.suites for line in lines):
        print(f"Hidden cases of seed {seed}; repeat them with --hidden-seed {seed}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
