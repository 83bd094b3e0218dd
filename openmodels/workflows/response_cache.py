"""Cache a model's responses in SQLite, under a key that contains everything that matters.

cache = ResponseCache("responses.db", digests(client))
cache.create(client, model=MODEL, messages=messages, temperature=0)  # the second time from the file
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletion
from opentelemetry.trace import get_current_span

KEY_VERSION = 1  # change it when the key or the stored form changes: old entries then miss
MAX_ENTRIES = 10_000
MAX_BODY = 200_000  # characters of a response that is stored
# Fields that cannot change the answer. Every other field is part of the key, known or not.
IGNORED = ("stream_options", "user", "metadata", "timeout", "extra_headers", "store")

_CREATE = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, body TEXT NOT NULL, seconds REAL NOT NULL,
    stored REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
"""


def cache_key(
    request: Mapping[str, Any], *, digest: str, version: int = KEY_VERSION, forget: Sequence = ()
) -> str:
    """Return the key of a request: a SHA-256 of all fields that can change the answer.

    digest: identifies the weights, adapter, template and system prompt behind the model's name. The
    default of a field that is left out is part of the model, so it is covered by the digest too.
    forget: parts to leave out, by name ("digest", "model", "temperature", …). It exists to measure
    what a forgotten part costs.
    """
    parts = {name: value for name, value in request.items() if name not in IGNORED}
    parts |= {"digest": digest, "version": version}
    parts = {name: value for name, value in parts.items() if name not in forget}
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    """Return a pydantic object, such as a response's message, as a dictionary.

    Raises TypeError for any other object: its text could differ from run to run.
    """
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    raise TypeError(f"a request with a {type(value).__name__} has no key; use plain values")


def digests(client: openai.OpenAI) -> Callable[[str], str]:
    """Return a function from a model's name to its digest, as Ollama's `/api/tags` lists it.

    The list is read again on every call, because a name can get other weights at any time. Raises
    LookupError if the server lists no such model: without a digest, nothing should be cached.
    """
    root = str(client.base_url).rstrip("/").removesuffix("/v1")
    session = httpx.Client(trust_env=False, timeout=60)

    def digest(model: str) -> str:
        try:
            listed = session.get(f"{root}/api/tags").raise_for_status().json()["models"]
        except httpx.HTTPStatusError:
            raise LookupError(f"{root} is not Ollama: pass your own function for digests") from None
        by_name = {row["model"]: row["digest"] for row in listed}
        name = model if ":" in model else f"{model}:latest"
        if name not in by_name:
            raise LookupError(f"{root} lists no model {name!r}, so its responses have no key")
        return by_name[name]

    return digest


def is_repeatable(request: Mapping[str, Any]) -> bool:
    """Return whether a request asks for one certain answer: temperature 0, or a seed.

    Other requests ask for samples. A cache would return the same sample each time, which breaks
    voting over several samples.
    """
    return request.get("temperature") == 0 or request.get("seed") is not None


class ResponseCache:
    """Stores responses in a SQLite file. Threads and processes may share the file.

    digest: a function from a model's name to the digest of what it stands for. max_age: seconds
    after which an entry no longer counts. At most `max_entries` are stored; those not used for the
    longest time are deleted. forget: see `cache_key`. clock: seconds since the epoch.
    hits, misses, bypassed, failed_writes and seconds_saved count what happened in this process.
    """

    def __init__(
        self,
        path: Path | str,
        digest: Callable[[str], str],
        *,
        max_age: float | None = None,
        max_entries: int = MAX_ENTRIES,
        forget: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.digest, self.max_age, self.max_entries = digest, max_age, max_entries
        self.forget, self.clock = tuple(forget), clock
        self.hits = self.misses = self.bypassed = self.failed_writes = 0
        self.seconds_saved = 0.0
        self._lock = threading.Lock()
        self._file = sqlite3.connect(
            path, timeout=10, isolation_level=None, check_same_thread=False
        )
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=NORMAL")
        self._file.executescript(_CREATE)

    def create(self, client: openai.OpenAI, **request: Any) -> ChatCompletion:
        """Return the stored response to a request, else send the request and store its response.

        A request for samples (`is_repeatable`) is sent each time. Errors are never stored. A file
        that cannot be written costs the entry, not the response. Raises ValueError for a stream,
        and what the client raises.
        """
        if request.get("stream"):
            raise ValueError("a stream is not cached; send the request without stream=True")
        if not is_repeatable(request):
            self.bypassed += 1
            return client.chat.completions.create(**request)
        key = cache_key(request, digest=self.digest(request["model"]), forget=self.forget)
        stored = self._read(key)
        get_current_span().add_event("cache", {"hit": stored is not None})
        if stored is not None:
            self.hits += 1
            self.seconds_saved += stored[1]
            return ChatCompletion.model_validate_json(stored[0])
        self.misses += 1
        began = time.perf_counter()
        response = client.chat.completions.create(**request)
        self._write(key, response.model_dump_json(), time.perf_counter() - began)
        return response

    @property
    def hit_rate(self) -> float:
        """Return the share of the requests with a key that were answered from the file."""
        return self.hits / max(1, self.hits + self.misses)

    def __len__(self) -> int:
        with self._lock:
            return self._file.execute("SELECT count(*) FROM responses").fetchone()[0]

    def _read(self, key: str) -> tuple[str, float] | None:
        with self._lock:
            query = "SELECT body, seconds, stored FROM responses WHERE key = ?"
            row = self._file.execute(query, [key]).fetchone()
            if row is None or (self.max_age is not None and self.clock() - row[2] > self.max_age):
                return None
            self._change([("UPDATE responses SET used = ? WHERE key = ?", [self.clock(), key])])
        return row[:2]

    def _write(self, key: str, body: str, seconds: float) -> None:
        if len(body) > MAX_BODY:
            self.failed_writes += 1
            return
        now = self.clock()
        delete = (
            "DELETE FROM responses WHERE key IN (SELECT key FROM responses "
            "ORDER BY used DESC, stored DESC LIMIT -1 OFFSET ?)"
        )
        insert = "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?)"
        with self._lock:
            self._change([(insert, [key, body, seconds, now, now]), (delete, [self.max_entries])])

    def _change(self, statements: Sequence[tuple[str, Sequence]]) -> None:
        """Run statements in one transaction; count it in `failed_writes` if the file refuses."""
        try:
            self._file.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._file.execute(statement, values)
            self._file.execute("COMMIT")
        except sqlite3.OperationalError:  # such as a full disk
            self.failed_writes += 1
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def stale_answers(
    cache: ResponseCache,
    client: openai.OpenAI,
    requests: Sequence[Mapping[str, Any]],
    change: Mapping[str, Any],
) -> int:
    """Return how many changed requests the cache answers with another message than the model.

    Each request is sent through the cache as it is and then with `change`; the changed request is
    also sent directly. change: fields of the request. A complete key gives 0.
    """
    count = 0
    for request in requests:
        changed = {**request, **change}
        cache.create(client, **request)
        cached = cache.create(client, **changed).choices[0].message
        count += cached != client.chat.completions.create(**changed).choices[0].message
    return count
