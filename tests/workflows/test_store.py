"""Both stores: search by words and vectors, replacement, and whole tables after a kill.

PostgreSQL with pgvector is tested if OPENMODELS_POSTGRES names a server. Its SQL without vectors is
also tested against a temporary server if PostgreSQL is installed.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile

import notebooks
import numpy as np
import pytest
import yaml

from openmodels.workflows.store import DamagedStore, Passage, PostgresStore, SqliteStore, words

DIMENSIONS = 8
TEXTS = {
    "D1": ["The Heron lies at berth 7.", "Ada lent Otto 12 coins."],
    "D2": ["The Gull lies at berth 9. The Gull carries ropes."],
    "D3": ["It rained all night."],
}
PASSAGES = [
    Passage(document, number, "2031-01-0" + document[1], text)
    for document, texts in TEXTS.items()
    for number, text in enumerate(texts)
]


def vectors(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def local_server(tmp_path_factory):
    """A PostgreSQL of this machine on a socket in a temporary folder; it has no pgvector."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    with tempfile.TemporaryDirectory() as folder:
        account = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            import pwd

            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data, log = f"{folder}/data", f"{folder}/log"
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"

        def run(*command):
            subprocess.run(
                command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120, **account
            )

        run("initdb", "-D", data, "-A", "trust", "-U", "lark", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield f"postgresql://lark@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def emptied(url, dimensions):
    store = PostgresStore(url, dimensions)
    store.connection.execute("DROP TABLE passages")
    store.close()
    return PostgresStore(url, dimensions)


@pytest.fixture(params=["sqlite", "sqlite without vectors", "postgres without vectors", "postgres"])
def store(request, tmp_path):
    """An empty store; PostgreSQL with vectors needs a server with the extension."""
    dimensions = None if "without" in request.param else DIMENSIONS
    if request.param.startswith("sqlite"):
        opened = SqliteStore(tmp_path / "store.db", dimensions)
    elif dimensions is None:
        opened = emptied(request.getfixturevalue("local_server"), None)
    else:
        url = os.environ.get("OPENMODELS_POSTGRES")
        if not url:
            pytest.skip("OPENMODELS_POSTGRES names no PostgreSQL with pgvector")
        opened = emptied(url, dimensions)
    with opened:
        yield opened


def add(store, passages, seed=0):
    store.add(passages, vectors(len(passages), seed) if store.dimensions else None)


def test_a_search_by_words_ranks_the_passage_with_more_of_them_first(store):
    add(store, PASSAGES)
    hits = store.search_words("Where does the Heron lie?", 5)
    assert hits[0].passage == PASSAGES[0]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].score > 0
    assert "rained" not in " ".join(hit.passage.text for hit in hits)
    assert len(store.search_words("berth OR lies", 1)) == 1


def test_a_stemmer_joins_forms_of_a_word(store):
    add(store, PASSAGES)
    assert store.search_words("raining", 5)[0].passage.document == "D3"


@pytest.mark.parametrize(
    "question", ["\"'); DROP TABLE passages; --", "berth' | 'x & !(", "NEAR(*"]
)
def test_a_question_is_never_read_as_a_query(store, question):
    add(store, PASSAGES)
    store.search_words(question, 3)
    assert store.count() == len(PASSAGES)
    assert store.search_words("?!", 3) == []


def test_a_search_by_vectors_orders_by_cosine(store):
    if store.dimensions is None:
        add(store, PASSAGES)
        with pytest.raises(ValueError, match="no vectors"):
            store.search_vectors([1.0] * DIMENSIONS, 3)
        return
    rows = vectors(len(PASSAGES))
    store.add(PASSAGES, rows)
    target = 3 * rows[2] + rows[0]  # the length does not matter
    cosines = rows @ (target / np.linalg.norm(target))
    hits = store.search_vectors(target, 3)
    assert [hit.passage for hit in hits] == [PASSAGES[n] for n in np.argsort(-cosines)[:3]]
    assert np.allclose([hit.score for hit in hits], np.sort(cosines)[::-1][:3], atol=1e-5)


def test_a_document_is_replaced_in_every_index(store):
    add(store, PASSAGES)
    add(store, [Passage("D1", 0, "2031-02-02", "The Osprey lies at berth 3.")], seed=1)
    assert store.documents() == {"D1": 1, "D2": 1, "D3": 1}
    assert store.search_words("Heron coins", 5) == []
    assert store.search_words("Osprey", 5)[0].passage.date == "2031-02-02"
    store.check()


def test_an_error_leaves_the_store_as_it_was(store):
    add(store, PASSAGES)
    twice = [Passage("D2", 0, "2031-02-02", "A new text."), Passage("D2", 0, "2031-02-02", "Again")]
    with pytest.raises(Exception, match="(?i)unique"):
        add(store, twice)
    assert store.documents() == {"D1": 2, "D2": 1, "D3": 1}
    assert store.search_words("ropes", 3)
    store.check()


def test_vectors_that_do_not_fit_are_refused(store):
    wrong = [None, vectors(1)] if store.dimensions else [vectors(len(PASSAGES))]
    for rows in wrong:
        with pytest.raises(ValueError, match="vector"):
            store.add(PASSAGES, rows)
    if store.dimensions:
        for vector in ([0.0] * DIMENSIONS, [float("nan")] * DIMENSIONS, [1.0]):
            with pytest.raises(ValueError, match="vector"):
                store.search_vectors(vector, 1)
    with pytest.raises(ValueError, match="at least 1"):
        store.search_words("Heron", 0)
    assert store.count() == 0


def test_check_reports_a_passage_without_its_vector_or_words(tmp_path):
    for damage in ("DELETE FROM vectors WHERE rowid = 1", "DELETE FROM passages WHERE id = 1"):
        with SqliteStore(":memory:", DIMENSIONS) as store:
            add(store, PASSAGES)
            store.check()
            store._rows(damage)
            with pytest.raises(DamagedStore):
                store.check()


def test_dimensions_have_limits():
    for dimensions in (0, -1, 5000):
        with pytest.raises(ValueError, match="dimensions"):
            SqliteStore(":memory:", dimensions)


def test_words_are_lower_case_and_different():
    assert words("Where, where does Ada's Heron lie?") == [
        "where",
        "does",
        "ada",
        "s",
        "heron",
        "lie",
    ]


def test_the_compose_file_opens_the_server_to_this_machine_alone():
    file = notebooks.ROOT / "deploy" / "pgvector" / "compose.yaml"
    [service] = yaml.safe_load(file.read_text(encoding="utf-8"))["services"].values()
    assert service["ports"] and all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not service["image"].endswith(":latest") and ":" in service["image"]
    assert service["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


WRITER = """
import os, signal, sys, time, random
import numpy as np
from openmodels.workflows.store import Passage, SqliteStore

path, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
vectors = np.eye(8, dtype=np.float32)[:3]

def write(run, out):
    store = SqliteStore(path, 8)
    for number in range(10_000):
        name = f"D{run}-{number % 40}"
        store.add([Passage(name, n, "2031-01-01", f"{name} says {n}") for n in range(3)], vectors)
        os.write(out, f"{name}\\n".encode())

for run in range(kills):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        write(run, writing)
    os.close(writing)
    first = os.read(reading, 64)  # it has begun
    time.sleep(rng.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pieces = b""
    while piece := os.read(reading, 65536):
        pieces += piece
    os.close(reading)
    acknowledged = set((first + pieces).decode().split("\\n")) - {""}
    with SqliteStore(path, 8) as store:
        store.check()
        stored = store.documents()
        assert acknowledged <= set(stored), acknowledged - set(stored)
        assert set(stored.values()) == {3}
        assert len(store.search_words("says", 5)) == len(store.search_vectors(vectors[0], 5)) == 5
print("whole", kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_store_is_whole_after_fifty_kills(tmp_path):
    """Every acknowledged document is there with all its passages, in both indexes."""
    seed = random.Random(4).randrange(1000)
    arguments = [sys.executable, "-c", WRITER, str(tmp_path / "store.db"), "50", str(seed)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split() == ["whole", "50"]
