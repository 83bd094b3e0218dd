"""Store passages and their vectors, and search both: in a SQLite file or in PostgreSQL.

with SqliteStore("harbour.db", dimensions=128) as store:
    store.add(passages, vectors)
    store.search_words("Where does the Heron lie?", 5), store.search_vectors(vector, 5)
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import sqlite_vec

WORD = re.compile(r"\w+")
BUSY_MS = 5000  # how long a connection waits for another's lock
MAX_DIMENSIONS = 2000  # of pgvector's index; Qwen3-Embedding-8B has 4,096 and is cut
Vector = np.ndarray | Sequence[float]


@dataclass(frozen=True, order=True)
class Passage:
    """A piece of a document. number: its place in the document, from 0. date: ISO."""

    document: str
    number: int
    date: str
    text: str


@dataclass(frozen=True)
class Hit:
    """A passage that a search returned, and its score; a higher score is a better match."""

    passage: Passage
    score: float


class DamagedStore(RuntimeError):
    """A store whose tables do not fit together. The message says which."""


def words(question: str) -> list[str]:
    """Return the different words of a question in lower case, in order."""
    return list(dict.fromkeys(WORD.findall(question.lower())))


class Store(ABC):
    """Passages that can be searched by words and by vectors.

    dimensions: the length of the vectors, or None for a store that is searched by words alone.
    Raises ValueError for dimensions that are not from 1 to 2,000.
    """

    def __init__(self, dimensions: int | None):
        if dimensions is not None and not 1 <= dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"a vector has 1 to {MAX_DIMENSIONS} dimensions, not {dimensions}")
        self.dimensions = dimensions

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, passages: Sequence[Passage], vectors: Sequence[Vector] | None = None) -> None:
        """Store all passages of some documents in one transaction: all of them or none.

        Passages that the store had of these documents are replaced. vectors: one per passage,
        None if the store has no vectors. Raises ValueError if they do not fit the store.
        """
        if (self.dimensions is None) != (vectors is None):
            raise ValueError("a store with dimensions needs vectors, a store without has none")
        if vectors is not None:
            if len(vectors) != len(passages):
                raise ValueError(f"{len(vectors)} vectors for {len(passages)} passages")
            vectors = [self._checked(vector) for vector in vectors]
        self._replace(passages, vectors)

    def search_words(self, question: str, k: int) -> list[Hit]:
        """Return the at most k best passages that share a word with the question.

        Raises ValueError if k is below 1.
        """
        self._check_count(k)
        terms = words(question)
        return self._search_words(terms, k) if terms else []

    def search_vectors(self, vector: Vector, k: int) -> list[Hit]:
        """Return the k passages with the most similar vectors; the score is the cosine.

        Raises ValueError if k is below 1, or if the vector does not fit the store.
        """
        self._check_count(k)
        if self.dimensions is None:
            raise ValueError("this store has no vectors; open it with dimensions=...")
        return self._search_vectors(self._checked(vector), k)

    def _checked(self, vector: Vector) -> np.ndarray:
        """Return a vector as float32, shape (dimensions,)."""
        array = np.asarray(vector, dtype=np.float32)
        if array.shape != (self.dimensions,):
            raise ValueError(f"a vector of shape {array.shape}, not ({self.dimensions},)")
        if not np.isfinite(array).all() or not array.any():
            raise ValueError("a vector with infinite numbers, or of length 0, has no cosine")
        return array

    @staticmethod
    def _check_count(k: int) -> None:
        if k < 1:
            raise ValueError(f"a search returns at least 1 passage, not {k}")

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def count(self) -> int:
        """Return how many passages the store has."""

    @abstractmethod
    def documents(self) -> dict[str, int]:
        """Return how many passages each document has, sorted by document."""

    @abstractmethod
    def check(self) -> None:
        """Raise DamagedStore unless each passage is in every index once."""

    @abstractmethod
    def _replace(self, passages: Sequence[Passage], vectors: list[np.ndarray] | None) -> None: ...

    @abstractmethod
    def _search_words(self, terms: list[str], k: int) -> list[Hit]: ...

    @abstractmethod
    def _search_vectors(self, vector: np.ndarray, k: int) -> list[Hit]: ...


def _hits(rows: Sequence[tuple[Any, ...]]) -> list[Hit]:
    """Return rows of (document, number, date, text, score) as hits."""
    return [Hit(Passage(*row[:-1]), float(row[-1])) for row in rows]


# --- SQLite ---------------------------------------------------------------------------------------
SQLITE_WORDS = """
SELECT document, number, date, passages.text, -bm25(words) FROM words
JOIN passages ON passages.id = words.rowid WHERE words MATCH ? ORDER BY bm25(words), id LIMIT ?
"""
SQLITE_VECTORS = """
SELECT document, number, date, text, 1 - distance
FROM (SELECT rowid, distance FROM vectors WHERE embedding MATCH ? AND k = ?)
JOIN passages ON passages.id = rowid ORDER BY distance, id
"""


class SqliteStore(Store):
    """A store in one SQLite file: FTS5 for words (BM25, Porter's stemmer), sqlite-vec for vectors.

    path: the file, or ":memory:". apsw brings its own SQLite, because Python's `sqlite3` is often
    built without extensions. A write is durable when `add` returns.
    """

    def __init__(self, path: str | Path, dimensions: int | None):
        super().__init__(dimensions)
        self.connection = apsw.Connection(str(path))
        self.connection.set_busy_timeout(BUSY_MS)
        self.connection.enable_load_extension(True)
        self.connection.load_extension(sqlite_vec.loadable_path())
        self.connection.enable_load_extension(False)
        self._rows("PRAGMA journal_mode = WAL")
        self._rows("PRAGMA synchronous = FULL")
        with self.connection:
            self._create()

    def _create(self) -> None:
        self._rows(
            "CREATE TABLE IF NOT EXISTS passages(id INTEGER PRIMARY KEY, document TEXT NOT NULL, "
            "number INTEGER NOT NULL, date TEXT NOT NULL, text TEXT NOT NULL, "
            "UNIQUE(document, number))"
        )
        self._rows(
            "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, content='passages', "
            "content_rowid='id', tokenize='porter')"
        )
        if self.dimensions is not None:
            self._rows(
                "CREATE VIRTUAL TABLE IF NOT EXISTS vectors USING "
                f"vec0(embedding float[{self.dimensions}] distance_metric=cosine)"
            )

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def count(self) -> int:
        """Return how many passages the store has."""
        return self._rows("SELECT count(*) FROM passages")[0][0]

    def documents(self) -> dict[str, int]:
        """Return how many passages each document has, sorted by document."""
        return dict(self._rows("SELECT document, count(*) FROM passages GROUP BY 1 ORDER BY 1"))

    def check(self) -> None:
        """Raise DamagedStore unless each passage is in every index once."""
        [(report,)] = self._rows("PRAGMA integrity_check(1)")
        if report != "ok":
            raise DamagedStore(f"SQLite reports: {report}")
        try:
            self._rows("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)")
        except apsw.CorruptError as error:
            raise DamagedStore("the index of words differs from the passages") from error
        if self.dimensions is not None:
            sides = ("SELECT id FROM passages", "SELECT rowid FROM vectors")
            for first, second in (sides, sides[::-1]):
                if self._rows(f"{first} EXCEPT {second}"):
                    raise DamagedStore("the vectors are not those of the passages")

    def _replace(self, passages: Sequence[Passage], vectors: list[np.ndarray] | None) -> None:
        with self.connection:  # a transaction: rolled back after an error
            for document in {passage.document for passage in passages}:
                self._remove(document)
            for place, passage in enumerate(passages):
                [(number,)] = self._rows(
                    "INSERT INTO passages(document, number, date, text) VALUES (?, ?, ?, ?) "
                    "RETURNING id",
                    (passage.document, passage.number, passage.date, passage.text),
                )
                self._rows("INSERT INTO words(rowid, text) VALUES (?, ?)", (number, passage.text))
                if vectors is not None:
                    self._rows(
                        "INSERT INTO vectors(rowid, embedding) VALUES (?, ?)",
                        (number, vectors[place].tobytes()),
                    )

    def _remove(self, document: str) -> None:
        for number, text in self._rows(
            "SELECT id, text FROM passages WHERE document = ?", (document,)
        ):
            self._rows(
                "INSERT INTO words(words, rowid, text) VALUES ('delete', ?, ?)", (number, text)
            )
            if self.dimensions is not None:
                self._rows("DELETE FROM vectors WHERE rowid = ?", (number,))
        self._rows("DELETE FROM passages WHERE document = ?", (document,))

    def _search_words(self, terms: list[str], k: int) -> list[Hit]:
        query = " OR ".join(f'"{term}"' for term in terms)  # quoted: no operators of FTS5
        return _hits(self._rows(SQLITE_WORDS, (query, k)))

    def _search_vectors(self, vector: np.ndarray, k: int) -> list[Hit]:
        return _hits(self._rows(SQLITE_VECTORS, (vector.tobytes(), k)))


# --- PostgreSQL -----------------------------------------------------------------------------------
POSTGRES_TABLE = """
CREATE TABLE IF NOT EXISTS passages(
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, document text NOT NULL,
    number integer NOT NULL, date text NOT NULL, text text NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', text)) STORED,
    UNIQUE(document, number))
"""
POSTGRES_WORDS = """
SELECT document, number, date, text, ts_rank(words, query) AS score
FROM passages, to_tsquery('english', %s) AS query
WHERE words @@ query ORDER BY score DESC, id LIMIT %s
"""
POSTGRES_VECTORS = """
SELECT document, number, date, text, 1 - (embedding <=> %s) FROM passages
ORDER BY embedding <=> %s LIMIT %s
"""


class PostgresStore(Store):
    """The same store in PostgreSQL: tsvector for words, the extension pgvector for vectors.

    url: such as "postgresql://user@127.0.0.1:5432/harbour". PostgreSQL's `ts_rank` is not BM25: it
    does not count how rare a word is. Without dimensions, the server needs no extension. Raises
    psycopg's errors, among them OperationalError if no server responds.
    """

    def __init__(self, url: str, dimensions: int | None):
        import psycopg

        super().__init__(dimensions)
        self.connection = psycopg.connect(url, autocommit=True, connect_timeout=5)
        try:
            self._create()
        except BaseException:
            self.close()
            raise

    def _create(self) -> None:
        execute = self.connection.execute
        execute(POSTGRES_TABLE)
        execute("CREATE INDEX IF NOT EXISTS passages_words ON passages USING gin(words)")
        if self.dimensions is not None:
            from pgvector.psycopg import register_vector

            execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(self.connection)
            execute(
                "ALTER TABLE passages ADD COLUMN IF NOT EXISTS "
                f"embedding vector({self.dimensions}) NOT NULL"
            )
            execute(
                "CREATE INDEX IF NOT EXISTS passages_embedding ON passages "
                "USING hnsw (embedding vector_cosine_ops)"
            )

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def count(self) -> int:
        """Return how many passages the store has."""
        return self.connection.execute("SELECT count(*) FROM passages").fetchone()[0]

    def documents(self) -> dict[str, int]:
        """Return how many passages each document has, sorted by document."""
        rows = self.connection.execute(
            'SELECT document, count(*) FROM passages GROUP BY 1 ORDER BY document COLLATE "C"'
        )
        return dict(rows.fetchall())

    def check(self) -> None:
        """Raise DamagedStore unless each document's passages are numbered from 0 without gaps.

        The indexes are columns of the same rows, which the server keeps together.
        """
        rows = self.connection.execute("SELECT document, number FROM passages ORDER BY 1, 2")
        for document, group in groupby(rows.fetchall(), key=lambda row: row[0]):
            numbers = [number for _, number in group]
            if numbers != list(range(len(numbers))):
                raise DamagedStore(f"{document} has the passages {numbers}")

    def _replace(self, passages: Sequence[Passage], vectors: list[np.ndarray] | None) -> None:
        names = "document, number, date, text" + (", embedding" if vectors is not None else "")
        places = ", ".join(["%s"] * (4 if vectors is None else 5))
        rows = [
            (passage.document, passage.number, passage.date, passage.text)
            + (() if vectors is None else (vectors[place],))
            for place, passage in enumerate(passages)
        ]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM passages WHERE document = ANY(%s)",
                (sorted({passage.document for passage in passages}),),
            )
            cursor.executemany(f"INSERT INTO passages({names}) VALUES ({places})", rows)

    def _search_words(self, terms: list[str], k: int) -> list[Hit]:
        query = " | ".join(f"'{term}'" for term in terms)  # quoted: no operators of tsquery
        return _hits(self.connection.execute(POSTGRES_WORDS, (query, k)).fetchall())

    def _search_vectors(self, vector: np.ndarray, k: int) -> list[Hit]:
        return _hits(self.connection.execute(POSTGRES_VECTORS, (vector, vector, k)).fetchall())
