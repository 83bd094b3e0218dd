"""Long runs on worker processes: complete and counted once, whatever dies on the way."""

import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import httpx
import psutil
import pytest
from distributed import Future

from openmodels.workflows import jobs
from openmodels.workflows.jobs import Outcome, Policy, Store

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import this file

LATER = 5_000  # documents that no other test uses


def outcome(number, state="right", attempt=1):
    return Outcome(number, state, "", f"host:{os.getpid()}", attempt)


def light(documents, attempt, faults=None, folder=None):
    """Return outcomes without a model. faults: what to do at a document's first attempt."""
    outcomes = []
    for number in documents:
        fault = (faults or {}).get(number)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "die once" and not (marker := Path(folder) / f"{number}").exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "sleep" and attempt == 1:
            time.sleep(60)
        if fault == "error":
            raise KeyError("no such model")
        if fault == "forget":
            continue
        is_flaky = fault == "always flaky" or (fault == "flaky" and attempt == 1)
        outcomes.append(outcome(number, jobs.RETRY if is_flaky else "right", attempt))
    return outcomes


@pytest.fixture(scope="module")
def cluster():
    with jobs.local_cluster(2) as client:
        yield client


@pytest.fixture
def client(cluster):
    cluster.wait_for_workers(2, timeout=100)  # those that the test before killed come back
    return cluster


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "results.sqlite") as store:
        yield store


def stored(path):
    with sqlite3.connect(path) as database:
        return database.execute("SELECT document, state FROM results").fetchall()


# --- The store ------------------------------------------------------------------------------------


def test_a_document_has_the_result_that_came_first(store):
    assert store.save([outcome(1), outcome(2, "wrong")]) == 2
    assert store.save([outcome(2, "right", attempt=2), outcome(3)]) == 1
    assert store.counts() == {"right": 2, "wrong": 1, "failed": 0}
    assert store.missing([3, 4, 4, 1, 5]) == [4, 5]
    assert store.workers() == {f"host:{os.getpid()}": 3}


def test_a_batch_is_saved_whole_or_not_at_all(store):
    with pytest.raises(ValueError, match="retry"):
        store.save([outcome(1), outcome(2, jobs.RETRY)])
    with pytest.raises(sqlite3.IntegrityError):
        store.save([outcome(1), Outcome(2, "right", None, "host:1", 1)])
    assert store.missing([1, 2]) == [1, 2]


def test_a_store_refuses_the_results_of_another_job(tmp_path):
    path = tmp_path / "results.sqlite"
    Store(path, "evaluate mini-qwen").close()
    Store(path).close()
    with pytest.raises(ValueError, match="'evaluate mini-qwen', not 'evaluate mini-qwen-xs'"):
        Store(path, "evaluate mini-qwen-xs")


WRITER = """
import sys
from openmodels.workflows.jobs import Outcome, Store
store = Store(sys.argv[1])
missing = store.missing(range(100_000))
print("ready", flush=True)
for start in range(0, len(missing), 7):
    store.save([Outcome(n, "right", "", "host:1", 1) for n in missing[start : start + 7]])
"""


def test_the_store_is_whole_after_ten_kills(tmp_path):
    path, saved = tmp_path / "results.sqlite", 0
    for kill in range(10):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as run:
            assert run.stdout.readline() == b"ready\n"
            time.sleep(0.01 + kill / 100)
            run.kill()
        with Store(path) as store:
            remaining = store.missing(range(100_000))
        assert sorted(remaining) == remaining and len(remaining) <= 100_000 - saved
        saved = 100_000 - len(remaining)
        assert saved % 7 == 0  # no part of a batch
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM results").fetchone() == (saved,)
    assert saved


# --- The run --------------------------------------------------------------------------------------


def test_a_run_is_complete_and_a_second_run_has_nothing_to_do(client, store):
    report = jobs.run(client, light, range(500), store, Policy(batch=20))
    assert (report.documents, report.batches, report.repeated) == (500, 25, 0)
    assert store.counts() == {"right": 500, "wrong": 0, "failed": 0}
    assert len(store.workers()) == 2
    again = jobs.run(client, light, range(500), store, Policy(batch=20))
    assert (again.documents, again.batches, again.documents_per_second) == (0, 0, 0)


def test_no_more_batches_are_out_than_the_policy_allows(client, store):
    report = jobs.run(client, light, range(300), store, Policy(batch=1, in_flight=3))
    assert report.most_in_flight <= 3 * 2


def test_a_killed_worker_costs_no_result(client, store, tmp_path):
    work = functools.partial(light, faults={137: "die once"}, folder=str(tmp_path))
    report = jobs.run(client, work, range(400), store, Policy(batch=20))
    assert (tmp_path / "137").exists()
    assert report.documents == 400 and store.counts()["right"] == 400
    assert report.lost == 0  # Dask sent the batch to another worker


def test_a_document_that_always_kills_its_worker_is_recorded(client, store):
    work = functools.partial(light, faults={33: "die"})
    report = jobs.run(client, work, range(40), store, Policy(batch=10))
    assert store.failures() == {33: "the worker process died each time"}
    assert store.counts() == {"right": 39, "wrong": 0, "failed": 1}
    assert report.lost >= 2


def test_an_error_that_may_pass_is_tried_again_but_not_for_ever(client, store):
    faults = {3: "flaky", 11: "always flaky"}
    report = jobs.run(client, functools.partial(light, faults=faults), range(20), store)
    assert report.retried == 3  # once for 3, twice for 11
    assert store.counts() == {"right": 19, "wrong": 0, "failed": 1}
    assert store.failures() == {11: " (3 attempts)"}


def test_a_slow_batch_gets_a_copy_and_counts_once(client, store):
    begin = time.monotonic()
    work = functools.partial(light, faults={59: "sleep"})
    report = jobs.run(client, work, range(60), store, Policy(batch=10, straggler_seconds=0.5))
    assert time.monotonic() - begin < 50, "the run waited for the slow batch"
    assert (report.copies, report.documents) == (1, 60)
    client.restart(wait_for_workers=True)  # ends the sleeping worker


def test_a_batch_that_the_scheduler_lost_is_sent_again(client, store, monkeypatch):
    monkeypatch.setattr(jobs, "FORGOTTEN_SECONDS", 0.5)
    submit, lost = client.submit, []

    def submit_but_lose_the_first(*arguments, **options):
        if lost:
            return submit(*arguments, **options)
        lost.append(client.submit.__name__)
        return Future("never submitted", client)

    monkeypatch.setattr(client, "submit", submit_but_lose_the_first)
    report = jobs.run(client, light, range(30), store, Policy(batch=10))
    assert lost and report.documents == 30 and report.batches >= 4


@pytest.mark.parametrize(
    ("fault", "message"),
    [("error", "the work raised KeyError: 'no such model'"), ("forget", "for each document")],
)
def test_work_that_breaks_its_promise_ends_the_run(fault, message, client, store):
    with pytest.raises(RuntimeError, match=message):
        jobs.run(client, functools.partial(light, faults={3: fault}), range(10), store)


@pytest.mark.parametrize("name", ["batch", "in_flight", "attempts"])
def test_a_policy_without_numbers_is_refused(name):
    with pytest.raises(ValueError, match="at least 1"):
        Policy(**{name: 0})


def test_the_cluster_listens_on_loopback_and_is_encrypted(client):
    info = client.scheduler_info()
    assert info["address"].startswith("tls://127.0.0.1:")
    assert all(address.startswith("tls://127.0.0.1:") for address in info["workers"])
    listening = [c for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"]
    assert {c.laddr.ip for c in listening} <= {"127.0.0.1"}
    [port] = info["services"].values()
    for path in ("/", "/info/main/workers.html", "/json/identity.json", "/metrics", "/health"):
        url = f"http://127.0.0.1:{port}{path}"
        assert httpx.get(url, trust_env=False).status_code == 404


# --- The work -------------------------------------------------------------------------------------


def test_documents_are_distinct_and_always_the_same():
    texts = [jobs.document(number).key for number in range(300)]
    assert len(set(texts)) == 300
    assert texts[7] == jobs.document(7).key


def test_each_document_gets_an_outcome_whatever_is_wrong_with_it(tmp_path):
    drill = jobs.Drill(too_long=frozenset({2}), flaky=frozenset({5}))
    log = tmp_path / "log.jsonl"
    outcomes = jobs.evaluate(range(40), 1, drill=drill, log=log)
    assert [o.document for o in sorted(outcomes)] == list(range(40))
    states = {o.document: o.state for o in outcomes}
    assert (states[2], states[5]) == ("failed", jobs.RETRY)
    assert {"right", "wrong"} <= set(states.values())
    [detail] = [o.detail for o in outcomes if o.document == 2]
    assert detail.endswith("tokens; the model reads 1,024")
    assert [json.loads(line)["document"] for line in log.read_text().splitlines()] == [
        o.document for o in outcomes
    ]
    again = {o.document: o.state for o in jobs.evaluate(range(40), 2)}
    assert again[5] in ("right", "wrong")
    assert {n: s for n, s in again.items() if n not in (2, 5)} == {
        n: s for n, s in states.items() if n not in (2, 5)
    }


# --- The script -----------------------------------------------------------------------------------


def test_the_script_continues_after_kill_9_on_a_scheduler(client, tmp_path):
    (tmp_path / "keys").mkdir(mode=0o700)
    settings = jobs.tls_environment(client.security, tmp_path / "keys")
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "keys").iterdir())
    store = tmp_path / "results.sqlite"
    command = [sys.executable, "-m", "openmodels.workflows.jobs", "--count", "240", "--batch", "8"]
    command += ["--store", str(store), "--scheduler", client.scheduler_info()["address"]]
    options = {"env": os.environ | settings, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **options) as run:
        lines = iter(run.stdout.readline, "")
        assert "240 of 240" in next(lines)
        next(lines)  # ten batches were sent
        run.kill()
    before = len(stored(store))
    assert 0 < before < 240
    finished = subprocess.run(command, check=True, timeout=120, **options)
    assert f"{240 - before} of 240 documents" in finished.stdout
    report = json.loads(finished.stdout.splitlines()[-1])
    assert report["documents"] == 240 - before
    numbers = [number for number, _ in stored(store)]
    assert sorted(numbers) == list(range(240))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://192.0.2.1:8786", "not encrypted"),
        ("http://127.0.0.1:8786", "a scheduler's address"),
        ("tls://127.0.0.1", "a scheduler's address"),
        ("8786", "a scheduler's address"),
    ],
)
def test_other_addresses_are_refused(address, message):
    with pytest.raises(ValueError, match=message), jobs.connect(address):
        pass


def test_without_a_scheduler_there_is_an_error():
    with pytest.raises(OSError, match="127.0.0.1:9"), jobs.connect("tcp://127.0.0.1:9"):
        pass
