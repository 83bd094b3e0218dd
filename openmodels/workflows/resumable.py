"""Run a list of items so that an interruption loses nothing: finished items stay finished.

job = ResumableJob("job.db")
job.add({"letter 1": "Who runs the bakery?"})
job.run(lambda key, text: ask(client, MODEL, text))  # call it again after an interruption

An item's work happens *at least once*: a program can be killed after the work and before its result
is stored. An effect outside the job therefore needs the item's key as an *idempotency key*, so that
its second arrival changes nothing. Then each item counts once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_ATTEMPTS = 5
STATES = ("pending", "done", "failed")

_CREATE = """
CREATE TABLE IF NOT EXISTS items (
    key TEXT PRIMARY KEY, input TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0, result TEXT, error TEXT
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Progress:
    """Where a job stands: items per state, and the attempts of all items together."""

    pending: int
    done: int
    failed: int
    attempts: int

    def __str__(self) -> str:
        states = f"{self.done} done, {self.pending} pending, {self.failed} failed"
        return f"{states}; {self.attempts} attempts"


class ResumableJob:
    """A job whose items and results are in a SQLite file; every finished item is on the disk.

    An attempt is counted before the work begins, so an item that kills the program is seen: after
    `max_attempts` it is set to failed. One process at a time may run a job.
    """

    def __init__(self, path: Path | str, max_attempts: int = MAX_ATTEMPTS) -> None:
        self.path, self.max_attempts = Path(path), max_attempts
        self._lock = threading.Lock()
        self._file = sqlite3.connect(
            path, timeout=10, isolation_level=None, check_same_thread=False
        )
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=FULL")  # a commit is on the disk when it returns
        self._file.executescript(_CREATE)

    def add(self, items: Mapping[str, str]) -> int:
        """Add items, by key, in one transaction; return how many are new.

        A key that the job already has stays as it is, so a script may add its items at every start.
        """
        statement = "INSERT INTO items (key, input) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
        with self._lock:
            before = self._file.total_changes
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany(statement, items.items())
                self._file.execute("COMMIT")
            except sqlite3.Error:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise
            return self._file.total_changes - before

    def run(
        self,
        work: Callable[[str, str], str],
        stop_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        limit: int | None = None,
    ) -> Progress:
        """Process the pending items in the order of their keys, and return where the job stands.

        work: from (key, input) to the result. An exception is stored with its item, which stays
        pending for the next run, or fails after `max_attempts`. stop_on: exceptions that end this
        run at once, such as an open breaker: the item's attempt does not count. limit: the most
        items of this run. Raises sqlite3.Error if the file cannot be written; nothing is lost.
        """
        for key, text in self._pending()[:limit]:
            self._set("attempts = attempts + 1", (), key)
            try:
                result = work(key, text)
            except Exception as error:
                message = f"{type(error).__name__}: {error}"[:1_000]
                if stop_on and isinstance(error, stop_on):
                    self._set("attempts = attempts - 1, error = ?", (message,), key)
                    break
                state = "state = CASE WHEN attempts >= ? THEN 'failed' ELSE 'pending' END"
                self._set(f"{state}, error = ?", (self.max_attempts, message), key)
                continue
            self._set("state = 'done', result = ?, error = NULL", (result,), key)
        return self.progress()

    def _pending(self) -> list[tuple[str, str]]:
        with self._lock:
            # an item that killed the program has an attempt and no error
            self._file.execute(
                "UPDATE items SET state = 'failed', error = coalesce(error, 'the program ended') "
                "WHERE state = 'pending' AND attempts >= ?",
                [self.max_attempts],
            )
            query = "SELECT key, input FROM items WHERE state = 'pending' ORDER BY key"
            return self._file.execute(query).fetchall()

    def _set(self, change: str, values: tuple, key: str) -> None:
        with self._lock:
            self._file.execute(f"UPDATE items SET {change} WHERE key = ?", [*values, key])

    def progress(self) -> Progress:
        """Return the items per state and the attempts."""
        query = "SELECT state, count(*), sum(attempts) FROM items GROUP BY state"
        with self._lock:
            rows = {state: row for state, *row in self._file.execute(query)}
        counts = {state: rows.get(state, (0, 0))[0] for state in STATES}
        return Progress(**counts, attempts=sum(row[1] for row in rows.values()))

    def results(self) -> dict[str, str]:
        """Return the results of the finished items, by key."""
        with self._lock:
            query = "SELECT key, result FROM items WHERE state = 'done' ORDER BY key"
            return dict(self._file.execute(query))

    def errors(self) -> dict[str, str]:
        """Return the last error of each item that has one and is not done, by key."""
        with self._lock:
            query = "SELECT key, error FROM items WHERE error IS NOT NULL AND state != 'done'"
            return dict(self._file.execute(f"{query} ORDER BY key"))

    def limit_size(self, kilobytes: int) -> None:
        """Limit the file's size, to rehearse a full disk.

        SQLite then fails as on a full disk, with the same error (SQLITE_FULL), and rolls back the
        same way. The limit cannot be below the file's present size. 0 removes it.
        """
        (page,) = self._file.execute("PRAGMA page_size").fetchone()
        pages = max(1, kilobytes * 1024 // page) if kilobytes else 2**30
        self._file.execute(f"PRAGMA max_page_count = {pages}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()
