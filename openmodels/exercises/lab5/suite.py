"""Run an office on the acceptance suite, and report the share of cases that it passes.

results = run_suite(build_office, draw_suite(0), connect_models())
table(results)
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openmodels import tables
from openmodels.exercises.lab5.cases import KINDS, VISIBLE, Case, Suite
from openmodels.exercises.lab5.requirements import REQUIREMENTS, Record, Result, score
from openmodels.minis.evaluate import score as wilson
from openmodels.workflows import trace
from openmodels.workflows.calls import count_usage
from openmodels.workflows.office_kit import Archive, Desk, Models, sentences
from openmodels.workflows.office_request import Approve, Office, Reply, Request

HIDDEN_SEED = "OPENMODELS_HIDDEN_SEED"  # set by tools/grade.py
WORKERS = 6  # cases at the same time
Build = Callable[[Desk], Office]
ModelsFor = Callable[[Case], Models]


def hidden_seed() -> int:
    """Return the seed of the hidden cases that a grader set, else that of the visible cases."""
    return int(os.environ.get(HIDDEN_SEED) or VISIBLE)


def run_suite(
    build: Build, suite: Suite, models: Models | ModelsFor, workers: int = WORKERS,
    cases: Sequence[Case] | None = None,
) -> list[Result]:  # fmt: skip
    """Return the result of each case, in order; an office that raises an error fails its case.

    build: called once per case with a fresh desk, so that cases do not share state. models: the
    connections, or a function that returns them for a case. cases: by default all of the suite.
    """
    documents = {document.id: document for document in suite.documents}
    archive = Archive(sentences(d for d in suite.documents if d.kind == "rules"))
    with tempfile.TemporaryDirectory(prefix="office-") as folder:
        path = Path(folder) / "traces.db"
        with trace.Recorder(path) as recorder:

            def run(case: Case) -> Record:
                connected = models(case) if callable(models) else models
                harbour = case.open_harbour()
                desk = connected.desk(harbour, archive, recorder)
                return run_case(build, desk, case, documents, path)

            chosen = list(suite.cases if cases is None else cases)
            with ThreadPoolExecutor(workers) as pool:
                records = list(pool.map(run, chosen))
    return [score(case, record) for case, record in zip(chosen, records, strict=True)]


def open_office(build: Build, suite: Suite, models: Models, folder: Path) -> Office:
    """Return an office for `widgets.OfficeDesk`, in the harbour of the suite's first case.

    build: called for each request, so that an office that is not written yet answers with its
    error. folder: gets the file of traces, which the office names in its attribute `traces`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "traces.db"
    archive = Archive(sentences(d for d in suite.documents if d.kind == "rules"))
    harbour = suite.cases[0].open_harbour()
    desk = models.desk(harbour, archive, trace.Recorder(path))

    def office(request: Request, approve: Approve) -> Reply:
        return build(desk)(request, approve)

    office.traces = path
    return office


def run_case(build: Build, desk: Desk, case: Case, documents: dict, path: Path) -> Record:
    """Return what an office did with one case."""
    approvals: list[tuple[str, dict[str, Any]]] = []

    def approve(name: str, arguments: dict[str, Any]) -> bool:
        approvals.append((name, dict(arguments)))
        return case.approved

    reply, error, began = None, "", time.monotonic()
    with count_usage(desk.client) as usage:
        try:
            reply = build(desk)(case.request, approve)
            if not isinstance(reply, Reply):
                reply, error = None, f"nothing: it returned {type(reply).__name__}, not a Reply"
        except NotImplementedError:
            raise
        except Exception as problem:  # a learner's office raises anything
            error = f"{type(problem).__name__}: {problem}"
    spans = trace_spans(path, reply.trace) if reply else None
    seconds = time.monotonic() - began
    return Record(reply, desk.harbour, approvals, usage, spans, documents, error, seconds)


def trace_spans(path: Path, trace_id: str) -> list[str] | None:
    """Return the names of a trace's spans; None if the file has no such trace."""
    try:
        roots = trace.read(path, trace_id)
    except (LookupError, ValueError):
        return None
    names: list[str] = []
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        names.append(node.name)
        waiting += node.children
    return names or None


# --- Reports --------------------------------------------------------------------------------------


def share(flags: Iterable[bool]) -> str:
    """Return a share with Wilson's 95 % interval: "57 of 60 (86 to 98 %)"."""
    flags = list(flags)
    if not flags:
        return "0 of 0"
    result = wilson(sum(flags), len(flags))
    low, high = 100 * result.low, 100 * result.high
    return f"{result.correct} of {result.n} ({low:.0f} to {high:.0f} %)"


def by_requirement(results: Sequence[Result]) -> list[list[str]]:
    """Return a table: for each requirement, how many of the cases that have it meet it."""
    rows = [["requirement", "met (95 % interval)"]]
    for name in REQUIREMENTS:
        flags = [not r.problems[name] for r in results if name in r.problems]
        rows.append([name, share(flags)])
    return rows


def by_kind(results: Sequence[Result]) -> list[list[str]]:
    """Return a table: how many cases of each kind pass, and the total."""
    rows = [["kind of case", "passed (95 % interval)"]]
    for kind in KINDS:
        rows.append([kind, share(r.passed for r in results if r.case.kind == kind)])
    return [*rows, ["all", share(r.passed for r in results)]]


def show(*tables_: list[list[str]]) -> None:
    """Print tables, an empty line between them."""
    print("\n\n".join(tables.as_text(rows) for rows in tables_))


def failures(results: Sequence[Result]) -> list[str]:
    """Return the message of every case that does not pass."""
    return [result.message() for result in results if not result.passed]


def points(results: Sequence[Result]) -> float:
    """Return the mean share of requirements that cases meet: the score with partial credit."""
    return sum(result.points for result in results) / len(results)
