"""Evaluates thousands of documents on worker processes, here or on a cluster, each counted once.

    python -m openmodels.workflows.jobs --count 5000
    python -m openmodels.workflows.jobs --count 5000 --scheduler tls://head:8786

The work per document is `evaluate`: a small model answers a question about a notice, and the answer
is compared with the right one. `run` sends batches to Dask's workers and writes what they return
into a `Store`, a SQLite file with the document as its key. Work may be done twice, after a crash
or by a copy of a slow batch; a document is counted once. A run that ended early continues.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import logging
import os
import queue
import signal
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from openmodels.harbour import Harbour, Instance

if TYPE_CHECKING:
    from distributed import Client, Future
    from distributed.security import Security

MODEL = "mini-qwen-xs"
FIRST_SEED = 1_000_000  # documents start here, far from the seeds of other chapters
CHUNK = 8  # documents in one pass of the model
MEMORY = "1.5GB"  # a worker that uses more is restarted
FINAL = ("right", "wrong", "failed")
RETRY = "retry"  # the state of a document whose error may pass
ENDED = ("finished", "error", "cancelled")  # of a future; a "lost" one is computed again
LOOPBACK = ("127.0.0.1", "::1", "localhost")
POLL = 0.2  # seconds between two looks for slow batches
SETTINGS = {  # of a local cluster
    "distributed.scheduler.http.routes": [],  # Dask opens an HTTP port even without a dashboard
    "distributed.worker.http.routes": [],
    "distributed.scheduler.worker-saturation": "inf",  # `run` limits what is sent, not Dask
    # A worker that restarts slowly on a busy machine would be given up after 15 seconds.
    "distributed.deploy.lost-worker-timeout": "10 minutes",
}
FORGOTTEN_SECONDS = 10.0  # without a returned batch, before looking whether workers are idle
RESULT_SECONDS = 2.0  # limit for fetching a finished batch from its worker
START_SECONDS = 60  # limit for the first worker to connect

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (description TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    document INTEGER PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('right', 'wrong', 'failed')),
    detail TEXT NOT NULL,
    worker TEXT NOT NULL,
    attempt INTEGER NOT NULL
);
"""


class Outcome(NamedTuple):
    """What a worker returns for one document.

    state: "right", "wrong", "failed" (recorded and never tried again) or "retry" (the error may
    pass). detail: the error, or "". worker: host and process. attempt: from 1.
    """

    document: int
    state: str
    detail: str
    worker: str
    attempt: int


Work = Callable[[Sequence[int], int], list[Outcome]]  # (documents, attempt) -> an outcome for each


# --- The work of one document ---------------------------------------------------------------------


@dataclass(frozen=True)
class Drill:
    """Faults to inject, by document number: a run without faults shows nothing about faults.

    too_long: the text exceeds the model's context, always. flaky: reading it fails at the first
    attempt. fatal: it kills its worker process, always. slow: the first attempt takes `delay`
    seconds longer.
    """

    too_long: frozenset[int] = frozenset()
    flaky: frozenset[int] = frozenset()
    fatal: frozenset[int] = frozenset()
    slow: frozenset[int] = frozenset()
    delay: float = 5.0


NO_FAULTS = Drill()


def document(number: int) -> Instance:
    """Return document `number`: a notice with a question and the right answer, from its seed."""
    return Harbour(FIRST_SEED + number, "test").text_qa()


def evaluate(
    documents: Sequence[int],
    attempt: int = 1,
    *,
    model: str = MODEL,
    drill: Drill = NO_FAULTS,
    log: Path | None = None,
) -> list[Outcome]:
    """Return the outcome of each document: does `model` generate the right answer?

    This is the work of a batch; it runs on a worker. An error that concerns one document becomes
    its outcome. log: a file to which each result is also appended as a line of JSON, as a program
    without a key would do it; only for the comparison.
    """
    outcomes: list[Outcome] = []
    for start in range(0, len(documents), CHUNK):
        chunk = _evaluate_chunk(documents[start : start + CHUNK], attempt, model, drill)
        if log is not None:
            lines = "".join(f"{json.dumps(outcome._asdict())}\n" for outcome in chunk)
            with open(log, "a", encoding="utf-8") as file:
                file.write(lines)
        outcomes += chunk
    return outcomes


def _evaluate_chunk(
    documents: Sequence[int], attempt: int, name: str, drill: Drill
) -> list[Outcome]:
    from openmodels.minis import stats

    model, tokenizer = _load(name)
    outcomes, readable = [], {}
    for number in documents:
        try:
            readable[number] = _read(number, attempt, drill, tokenizer, model.config)
        except OSError as error:  # a file server that does not respond may respond later
            outcomes.append(_outcome(number, RETRY, str(error), attempt))
        except ValueError as error:  # the same document gives the same error for ever
            outcomes.append(_outcome(number, "failed", str(error), attempt))
    if readable:
        marks = stats.answer_loss(model, tokenizer, list(readable.values()), CHUNK).right
        for number, is_right in zip(readable, marks, strict=True):
            outcomes.append(_outcome(number, "right" if is_right else "wrong", "", attempt))
    return outcomes


def _read(number: int, attempt: int, drill: Drill, tokenizer: Any, config: Any) -> Instance:
    """Return a document. Raises OSError if reading it fails, ValueError if it is too long."""
    if number in drill.fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    if number in drill.slow and attempt == 1:
        time.sleep(drill.delay)
    if number in drill.flaky and attempt == 1:
        raise OSError(f"document {number} could not be read: connection reset")
    instance = document(number)
    text = instance.key * (20 if number in drill.too_long else 1)
    tokens = len(tokenizer(text, verbose=False).input_ids)
    if tokens > config.max_position_embeddings:
        raise ValueError(f"{tokens:,} tokens; the model reads {config.max_position_embeddings:,}")
    return instance


@functools.cache
def _load(name: str) -> tuple[Any, Any]:
    """Return the model and its tokenizer, loaded once per process and without output."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import transformers

        from openmodels import loading

        transformers.utils.logging.disable_progress_bar()
        return tuple(loading.load(name))


def _outcome(number: int, state: str, detail: str, attempt: int) -> Outcome:
    return Outcome(number, state, detail, worker_name(), attempt)


def worker_name() -> str:
    """Return this process's name: host and process number."""
    return f"{socket.gethostname()}:{os.getpid()}"


# --- The results ----------------------------------------------------------------------------------


class Store:
    """Stores one result per document in a SQLite file. Usable as a context manager.

    A batch is saved in one transaction: after a crash it is there or not there.
    """

    def __init__(self, path: Path | str, description: str = "") -> None:
        """Open or create the file. Raises ValueError if it contains the results of another job.

        description: of the job, such as its model. "" accepts any.
        """
        self._database = sqlite3.connect(path, timeout=30)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(SCHEMA)
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            stored = self._database.execute("SELECT description FROM job").fetchone()
            if stored is None and description:
                self._database.execute("INSERT INTO job VALUES (?)", (description,))
        if stored and description and stored[0] != description:
            self._database.close()
            raise ValueError(f"{path} contains the job {stored[0]!r}, not {description!r}")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def save(self, outcomes: Sequence[Outcome]) -> int:
        """Save final outcomes in one transaction; return how many documents are new.

        A document that has a result keeps it. Raises ValueError for a state that is not final.
        """
        if states := {outcome.state for outcome in outcomes} - set(FINAL):
            raise ValueError(f"the states {sorted(states)} are not final")
        before = self._database.total_changes
        with self._database:
            self._database.executemany(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?) ON CONFLICT (document) DO NOTHING",
                outcomes,
            )
        return self._database.total_changes - before

    def missing(self, documents: Sequence[int]) -> list[int]:
        """Return the documents without a result, in order and each once."""
        stored = {number for [number] in self._database.execute("SELECT document FROM results")}
        return [number for number in dict.fromkeys(documents) if number not in stored]

    def counts(self) -> dict[str, int]:
        """Return the number of documents in each state."""
        rows = self._database.execute("SELECT state, count(*) FROM results GROUP BY state")
        return dict.fromkeys(FINAL, 0) | dict(rows.fetchall())

    def failures(self) -> dict[int, str]:
        """Return the error of each failed document."""
        rows = "SELECT document, detail FROM results WHERE state = 'failed' ORDER BY document"
        return dict(self._database.execute(rows).fetchall())

    def workers(self) -> dict[str, int]:
        """Return how many documents each worker delivered."""
        rows = "SELECT worker, count(*) FROM results GROUP BY worker ORDER BY worker"
        return dict(self._database.execute(rows).fetchall())

    def close(self) -> None:
        """Close the file."""
        self._database.close()


# --- The run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """How a run treats batches, slow workers and errors.

    batch: documents sent together. in_flight: batches sent per worker and not returned yet; the
    others wait here, so that a queue on the cluster never grows. attempts: tries of a document
    whose error may pass. straggler: when nothing is left to send, a batch that is out for this many
    times the median is sent to another worker as well, but not before `straggler_seconds`.
    """

    batch: int = 50
    in_flight: int = 2
    attempts: int = 3
    straggler: float = 4.0
    straggler_seconds: float = 1.0

    def __post_init__(self) -> None:
        if min(self.batch, self.in_flight, self.attempts) < 1:
            raise ValueError("batch, in_flight and attempts must be at least 1")


DEFAULT_POLICY = Policy()


@dataclass
class Report:
    """What a run did, in addition to the results in the store.

    documents: new results. seconds: from the first batch to the last result. batches: sent, with
    copies. copies: batches sent a second time because the first was slow. repeated: outcomes for
    documents that had a result already. retried: documents sent again after an error. lost: batches
    whose workers died too often. most_in_flight: the largest number of batches out at a time.
    """

    documents: int = 0
    seconds: float = 0.0
    batches: int = 0
    copies: int = 0
    repeated: int = 0
    retried: int = 0
    lost: int = 0
    most_in_flight: int = 0

    @property
    def documents_per_second(self) -> float:
        """Return the new results per second; 0 if there are none."""
        return self.documents / self.seconds if self.documents else 0.0


@dataclass(frozen=True)
class _Batch:
    documents: tuple[int, ...]
    attempt: int
    alone: bool = False  # one suspect: nothing else is out with it
    copied: bool = False
    sent_at: float = field(default_factory=time.monotonic)


def run(
    client: Client,
    work: Work,
    documents: Sequence[int],
    store: Store,
    policy: Policy = DEFAULT_POLICY,
    on_batch: Callable[[Report], object] | None = None,
    workers: Sequence[str] | None = None,
) -> Report:
    """Run `work` on the documents that `store` lacks, on the workers of `client`; return a report.

    work: a function the workers can import, or a `functools.partial` of one. It returns an outcome
    for each document; an exception of it ends the run. on_batch: called after each batch.
    workers: the addresses to use, if not all; slow batches then get no copy.

    If a worker dies, Dask sends its batches to another one. A batch that loses several workers is
    suspect: its documents are sent one at a time, and a document that does it again is recorded as
    failed.

    Raises RuntimeError if the work raises or no worker connects.
    """
    run = _Run(client, work, store, policy, on_batch, workers)
    return run.finish(store.missing(documents))


class _Run:
    """The state of one run: batches to send, batches sent, and documents without a result."""

    def __init__(
        self,
        client: Client,
        work: Work,
        store: Store,
        policy: Policy,
        on_batch: Callable[[Report], object] | None = None,
        workers: Sequence[str] | None = None,
    ) -> None:
        self.client, self.work, self.store, self.policy = client, work, store, policy
        self.workers = workers
        self.on_batch, self.report = on_batch, Report()
        self.waiting: deque[_Batch] = deque()
        self.suspects: deque[_Batch] = deque()
        self.sent: dict[Future, _Batch] = {}
        self.returned: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.durations: list[float] = []  # seconds from sending to return
        self.missing: set[int] = set()
        self.last_return = 0.0

    def finish(self, documents: Sequence[int]) -> Report:
        """Run until no document is missing."""
        try:
            self.client.wait_for_workers(1, timeout=START_SECONDS)
        except TimeoutError as error:
            raise RuntimeError(f"no worker connected in {START_SECONDS} seconds") from error
        size = self.policy.batch
        for start in range(0, len(documents), size):
            self.waiting.append(_Batch(tuple(documents[start : start + size]), attempt=1))
        self.missing, begin = set(documents), time.monotonic()
        self.last_return = begin
        try:
            while self.missing:
                self._send_waiting()
                finished = self._finished()
                for future in finished:
                    self._receive(future)
                if finished:
                    self.last_return = time.monotonic()
                elif time.monotonic() - self.last_return > FORGOTTEN_SECONDS:
                    self._send_forgotten()
                self._copy_slow()
        finally:
            self.client.cancel(list(self.sent))
        self.report.seconds = time.monotonic() - begin
        return self.report

    def _send_waiting(self) -> None:
        """Send batches up to the limit; suspects go last, and one at a time."""
        workers = len(self.client.nthreads() if self.workers is None else self.workers)
        limit = self.policy.in_flight * max(1, workers)
        while self.waiting and len(self.sent) < limit:
            self._send(self.waiting.popleft())
        if self.suspects and not self.waiting and not self.sent:
            self._send(self.suspects.popleft())

    def _send(self, batch: _Batch, **options: Any) -> None:
        batch = _Batch(batch.documents, batch.attempt, batch.alone, batch.copied)  # sent now
        options = {"workers": self.workers} | options
        future = self.client.submit(
            self.work, batch.documents, batch.attempt, pure=False, **options
        )
        self.sent[future] = batch
        future.add_done_callback(self.returned.put)
        self.report.batches += 1
        self.report.most_in_flight = max(self.report.most_in_flight, len(self.sent))

    def _finished(self) -> list[Future]:
        """Wait a moment for a batch; return those that are finished or have failed.

        The callback only ends the wait. The status decides, because Dask calls back at most once,
        which may be before the batch's worker dies.
        """
        with contextlib.suppress(queue.Empty):
            self.returned.get(timeout=POLL)
        return [future for future in self.sent if future.status in ENDED]

    def _receive(self, future: Future) -> None:
        """Save the outcomes of a batch, or decide what to do with a batch that brought none."""
        from distributed import TimeoutError as TooLong
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        batch = self.sent.pop(future)
        try:
            outcomes = future.result(timeout=RESULT_SECONDS)
        except TooLong:  # the worker died with the result, and Dask computes it again
            self.sent[future] = batch
            return
        except FutureCancelledError:
            self.waiting.append(batch)
        except KilledWorker:
            self._lose(batch)
        except Exception as error:
            raise RuntimeError(f"the work raised {type(error).__name__}: {error}") from error
        else:
            self.durations.append(time.monotonic() - batch.sent_at)
            self._save(batch, outcomes)
        if self.on_batch:
            self.on_batch(self.report)

    def _save(self, batch: _Batch, outcomes: Sequence[Outcome]) -> None:
        if sorted(outcome.document for outcome in outcomes) != sorted(batch.documents):
            raise RuntimeError("the work must return an outcome for each document of its batch")
        final, again = [], []
        for outcome in outcomes:
            if outcome.state != RETRY:
                final.append(outcome)
            elif outcome.attempt < self.policy.attempts:
                again.append(outcome.document)
            else:
                detail = f"{outcome.detail} ({outcome.attempt} attempts)"
                final.append(outcome._replace(state="failed", detail=detail))
        again = [number for number in again if number in self.missing]
        if again:
            self.report.retried += len(again)
            self.waiting.append(_Batch(tuple(again), batch.attempt + 1))
        new = self.store.save(final)
        self.report.documents += new
        self.report.repeated += len(final) - new
        self.missing -= {outcome.document for outcome in final}

    def _lose(self, batch: _Batch) -> None:
        """Suspect each document of a batch that killed its workers."""
        self.report.lost += 1
        if batch.alone:
            detail = "the worker process died each time"
            self._save(batch, [_outcome(batch.documents[0], "failed", detail, batch.attempt)])
            return
        suspects = [number for number in batch.documents if number in self.missing]
        self.report.retried += len(suspects)
        self.suspects += [_Batch((number,), batch.attempt + 1, alone=True) for number in suspects]

    def _send_forgotten(self) -> None:
        """Send every batch again if all workers are idle: the scheduler lost track of them.

        This happens when workers die while the scheduler moves their batches.
        """
        self.last_return = time.monotonic()
        if not self.client.nthreads() or any(self.client.processing().values()):
            return
        forgotten = list(self.sent.items())
        self.client.cancel([future for future, _ in forgotten])
        self.sent.clear()
        for _, batch in forgotten:
            (self.suspects if batch.alone else self.waiting).append(batch)

    def _copy_slow(self) -> None:
        """Send a copy of each slow batch to other workers, once nothing else waits.

        MapReduce calls them backup tasks (Dean & Ghemawat 2004, section 3.6).
        """
        if self.waiting or self.suspects or not self.durations:
            return
        limit = self.policy.straggler * statistics.median(self.durations)
        limit = max(limit, self.policy.straggler_seconds)
        slow = [
            (future, batch)
            for future, batch in self.sent.items()
            if not batch.copied and time.monotonic() - batch.sent_at > limit
        ]
        if not slow:
            return
        holders = self.client.processing()
        for future, batch in slow:
            others = [worker for worker, keys in holders.items() if future.key not in keys]
            if others and self.workers is None:
                self.sent[future] = _Batch(
                    batch.documents, batch.attempt, batch.alone, True, batch.sent_at
                )
                copy = _Batch(batch.documents, batch.attempt + 1, batch.alone, True)
                self._send(copy, workers=others, allow_other_workers=True)
                self.report.copies += 1


# --- Workers here, workers elsewhere --------------------------------------------------------------


@contextlib.contextmanager
def local_cluster(workers: int = 2) -> Iterator[Client]:
    """Start a scheduler and worker processes on this machine; yield a client, then end them.

    They listen on 127.0.0.1 and use TLS with certificates for this run alone, because whoever can
    talk to a Dask scheduler can run code. There is no dashboard. A batch that loses two workers is
    reported as lost.
    """
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set(SETTINGS),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        LocalCluster(
            host="127.0.0.1",
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            security=True,
            silence_logs=logging.CRITICAL,
            local_directory=scratch,
            memory_limit=MEMORY,
            scheduler_kwargs={"allowed_failures": 1},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def connect(scheduler: str, plain: bool = False) -> Iterator[Client]:
    """Connect to a running scheduler; yield a client.

    For a `tls://` address, Dask reads the certificates from its configuration
    (DASK_DISTRIBUTED__COMM__TLS__CA_FILE and others; see `tls_environment`). A `tcp://` address of
    another machine is refused unless `plain`, for a private network: Dask sends pickled functions,
    and without TLS anybody who reaches the port can send them too.

    Raises ValueError for another kind of address or an unencrypted one, OSError if no scheduler
    responds.
    """
    from distributed import Client
    from distributed.security import Security

    parts = urlsplit(scheduler)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
        raise ValueError(
            f"a scheduler's address is tls://host:port or tcp://host:port: {scheduler}"
        )
    if parts.scheme == "tcp" and parts.hostname not in LOOPBACK and not plain:
        raise ValueError(
            f"{scheduler} is not encrypted; use tls://, or --plain in a private network"
        )
    security = Security(require_encryption=True) if parts.scheme == "tls" else None
    with Client(scheduler, security=security, timeout=10, set_as_default=False) as client:
        yield client


def tls_environment(security: Security, folder: Path) -> dict[str, str]:
    """Write the certificates of a local cluster to `folder`; return the settings that name them.

    With these environment variables another program of the same user can connect to the cluster.
    The folder should be readable by nobody else.
    """
    settings = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}
    contents = {
        "CA_FILE": security.tls_ca_file,
        "CLIENT__CERT": security.tls_client_cert,
        "CLIENT__KEY": security.tls_client_key,
    }
    for name, content in contents.items():
        file = folder / f"{name.lower()}.pem"
        file.touch(mode=0o600)
        file.write_text(content, encoding="utf-8")
        settings[f"DASK_DISTRIBUTED__COMM__TLS__{name}"] = str(file)
    return settings


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(prog="python -m openmodels.workflows.jobs")
    options.add_argument("--store", type=Path, default=Path("results.sqlite"))
    options.add_argument("--count", type=int, default=5000, help="documents 0 to COUNT - 1")
    options.add_argument("--model", default=MODEL)
    options.add_argument("--batch", type=int, default=DEFAULT_POLICY.batch)
    options.add_argument("--workers", type=int, default=2, help="without --scheduler")
    options.add_argument("--scheduler", help="tls://host:port; without it, workers start here")
    options.add_argument("--plain", action="store_true", help="allow tcp:// to another machine")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the evaluation from the command line, print progress, and return the exit status."""
    options = parser().parse_args(arguments)
    work = functools.partial(evaluate, model=options.model)

    printed = 0

    def progress(report: Report) -> None:
        nonlocal printed
        if report.batches >= printed + 10:
            printed = report.batches
            print(f"{report.documents:,} documents", flush=True)

    source = (
        connect(options.scheduler, options.plain)
        if options.scheduler
        else local_cluster(options.workers)
    )
    with Store(options.store, f"evaluate {options.model}") as store, source as client:
        todo = len(store.missing(range(options.count)))
        print(f"{todo:,} of {options.count:,} documents have no result yet", flush=True)
        policy = Policy(batch=options.batch)
        report = run(client, work, range(options.count), store, policy, progress)
        print(json.dumps(asdict(report) | Counter(store.counts())), flush=True)
    return 0


if __name__ == "__main__":
    # The workers import the module by its name, so the functions must come from there.
    from openmodels.workflows import jobs

    sys.exit(jobs.main())
