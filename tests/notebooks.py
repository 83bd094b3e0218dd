"""The course's notebooks, and one way to run something with every other machine out of reach.

    python tests/notebooks.py IN.ipynb OUT.ipynb

runs a notebook in a fresh kernel, in its own folder, and prints the seconds and the memory it took.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = ROOT / "tests" / "offline"
FOLDERS = ("chapters", "solutions", "labs")
CELL_TIMEOUT = 300  # seconds until a cell counts as hanging, on a busy machine too
MEMORY_EVERY = 0.1  # seconds between two looks at the memory
OUTPUT_WIDGETS = "application/vnd.jupyter.widget-state+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
CHECK_TAG = "nbval-check-output"  # of a cell whose stored output is compared; nbval reads it too
CHECK = "application/vnd.openmodels.check+json"  # what a check shows while grading


def notebooks(*folders: str, root: Path = ROOT) -> list[Path]:
    """The notebooks below these folders of the course, in the order a learner meets them."""
    found = (path for folder in folders for path in sorted((root / folder).rglob("*.ipynb")))
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def name(path: Path) -> str:
    """A notebook's path below the course folder: its name in reports."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells of a notebook, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return cell.metadata.get("tags", [])


def check_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that check an exercise, as make_labs.py knows them."""
    return [cell for cell in code_cells(notebook) if "check" in tags(cell)]


# --- What went wrong in an executed notebook ------------------------------------------------------


def widget_outputs(notebook: NotebookNode) -> list[tuple[str, dict]]:
    """Return (widget id, output) for everything shown inside ipywidgets' Output widgets."""
    widgets = notebook.metadata.get("widgets", {}).get(OUTPUT_WIDGETS, {}).get("state", {})
    return [
        (widget_id, output)
        for widget_id, widget in widgets.items()
        for output in widget["state"].get("outputs", ())
    ]


def complaint(output: dict) -> str | None:
    """Return what an output says went wrong, in one line; None when it says nothing of the kind."""
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    if output["output_type"] == "stream":
        text = "".join(output["text"])
        for sign in ("Traceback (most recent call last)", "UsageError:"):
            if sign in text:
                return text[text.index(sign) :].strip().splitlines()[-1]
    return None


def complaints(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Return (cell or widget id, what went wrong) for the outputs of cells and of widgets.

    A widget's callback cannot fail its cell: the exception ends up as text inside the widget.
    """
    shown = [(cell.id, output) for cell in code_cells(notebook) for output in cell.outputs]
    shown += [(f"widget {widget_id[:8]}", output) for widget_id, output in widget_outputs(notebook)]
    found = [(place, complaint(output)) for place, output in shown]
    return [(place, text) for place, text in found if text is not None]


def unexpected(notebook: NotebookNode) -> list[str]:
    """Return complaints of cells not there to fail, and cells there to fail that did not."""
    to_fail = {cell.id for cell in code_cells(notebook) if "raises-exception" in tags(cell)}
    found = complaints(notebook)
    lines = [f"{place}: {text}" for place, text in found if place not in to_fail]
    silent = to_fail - {place for place, _ in found}
    return lines + [f"{place}: tagged raises-exception, but raised none" for place in silent]


def figures(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Return (cell id, HTML) for every figure that the cells show."""
    pages = [
        (cell.id, "".join(output.get("data", {}).get("text/html", "")))
        for cell in code_cells(notebook)
        for output in cell.outputs
    ]
    return [(cell_id, page) for cell_id, page in pages if "data:image/" in page]


def shown(cell: NotebookNode) -> dict[str, list[str]]:
    """Return what a cell shows, as nbval compares it: by kind, without pictures or widget ids."""
    found: dict[str, list[str]] = {}
    for output in cell.outputs:
        if output["output_type"] == "stream":
            found[output["name"]] = ["".join([*found.get(output["name"], ()), output["text"]])]
        elif output["output_type"] == "error":
            found.setdefault("error", []).append(f"{output['ename']}: {output['evalue']}")
        else:
            for kind, value in output["data"].items():
                if not kind.startswith("image/") and kind != WIDGET:
                    found.setdefault(kind, []).append(value)
    return found


def changed(stored: NotebookNode, executed: NotebookNode) -> list[str]:
    """Return the cells tagged CHECK_TAG that now show something other than what is stored."""
    lines = []
    for before, after in zip(code_cells(stored), code_cells(executed), strict=True):
        if CHECK_TAG in tags(before) and shown(before) != shown(after):
            lines.append(f"{before.id}: stored {shown(before)}, now {shown(after)}")
    return lines


def check_states(notebook: NotebookNode) -> dict[str, str]:
    """Return exercise number to the state its check reported; for notebooks run by `run`."""
    results = [
        output["data"][CHECK]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if CHECK in output.get("data", {})
    ]
    return {result["exercise"]: result["state"] for result in results}


# --- Figures of style -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Median and largest of some sizes."""

    median: float
    largest: int

    @classmethod
    def of(cls, sizes: list[int]) -> Spread:
        return cls(statistics.median(sizes), max(sizes)) if sizes else cls(0, 0)

    def __str__(self) -> str:
        return f"{self.median:g} / {self.largest}"


# --- Out of reach of every other machine ----------------------------------------------------------


@functools.cache
def namespace() -> tuple[str, ...]:
    """What to put before a command to run it with a loopback interface only; () where it can't."""
    prefix = ("unshare", "--user", "--map-root-user", "--net", "--")
    prefix += (sys.executable, str(OFFLINE / "loopback.py"))
    try:
        works = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    except FileNotFoundError:  # not Linux
        return ()
    return () if works.returncode else prefix


def proof() -> str:
    """How the notebooks are kept from the network on this machine."""
    guard = "every Python socket but loopback is refused"
    return f"{guard}, in an empty network namespace" if namespace() else guard


@dataclass(frozen=True)
class Ran:
    """A finished program: its exit code, its output, and the outside addresses it asked for."""

    code: int
    output: str
    outside: str


def offline_environment(folder: Path) -> dict[str, str]:
    """This environment with the socket guard on, and what Jupyter writes kept in `folder`."""
    own = ("OPENMODELS_", "PYTEST_", "JPY_")  # settings of the developer, of this test run
    values = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    paths = [str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return values | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONIOENCODING": "utf-8",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "OPENMODELS_OUTSIDE": str(folder / "outside.log"),
        "OPENMODELS_PROGRESS": str(folder / "progress.json"),
    }


def outside(folder: Path) -> str:
    """What the guard of `offline_environment(folder)` has written down; "" when nothing."""
    log = folder / "outside.log"
    return log.read_text(encoding="utf-8") if log.exists() else ""


def run_offline(command: list[str], folder: Path, **variables: str) -> Ran:
    """Run a command from the course folder, out of reach of every other machine."""
    done = subprocess.run(
        [*namespace(), *command],
        cwd=ROOT,
        env=offline_environment(folder) | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return Ran(done.returncode, done.stdout, outside(folder))


# --- Running one notebook -------------------------------------------------------------------------


def children_memory() -> int:
    """Bytes held now by the programs this process has started, and by theirs."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended while it was counted
    return total


def execute(source: Path, target: Path) -> dict[str, float]:
    """Run a notebook as JupyterLab would and write it with its outputs; an error stops no cell.

    Returns the seconds and the kernel's peak memory in MB. Raises nbclient's errors for a cell that
    hangs and for a kernel that dies.
    """
    notebook = nbformat.read(source, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(source.parent)}},
    )
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(MEMORY_EVERY):
            peak = max(peak, children_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        client.execute()
    finally:
        seconds = time.monotonic() - began
        over.set()
        watcher.join()
    nbformat.write(notebook, target)
    return {"seconds": round(seconds, 1), "peak_mb": round(peak / 1e6)}


def run(source: Path, folder: Path) -> tuple[NotebookNode, dict[str, float]]:
    """Run a notebook offline in a kernel of its own; returns (executed notebook, measurements).

    Raises:
        AssertionError: with the program's output if a cell hung, the kernel died, or anything
            connected to another machine.
    """
    target = folder / source.name
    command = [sys.executable, str(Path(__file__).resolve()), str(source), str(target)]
    # an engine with more threads than free cores waits for them most of the time
    threads = os.environ.get("OPENMODELS_THREADS", "")
    ran = run_offline(command, folder, OPENMODELS_GRADING="1", OPENMODELS_THREADS=threads)
    assert ran.code == 0, ran.output
    assert ran.outside == "", f"asked for another machine: {ran.outside}"
    return nbformat.read(target, as_version=4), json.loads(ran.output.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(execute(Path(sys.argv[1]), Path(sys.argv[2]))))
