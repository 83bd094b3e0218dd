"""Resumable jobs: nothing is lost by errors, kills and full disks, and each item counts once."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from notebooks import ROOT

from openmodels.workflows.resumable import Progress, ResumableJob

ITEMS = {f"letter {n:02}": f"text {n}" for n in range(20)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.db"


@pytest.fixture
def job(path):
    job = ResumableJob(path)
    job.add(ITEMS)
    yield job
    job.close()


def test_finished_items_are_not_done_again(job, path):
    seen = []

    def work(key: str, text: str) -> str:
        seen.append(key)
        return text.upper()

    assert job.run(work, limit=8) == Progress(pending=12, done=8, failed=0, attempts=8)
    assert job.run(work) == Progress(0, 20, 0, 20)
    assert job.run(work) == Progress(0, 20, 0, 20)
    assert seen == sorted(ITEMS)
    other = ResumableJob(path)  # as after a restart
    assert other.add(ITEMS) == 0 and other.add({"new": "text"}) == 1
    assert other.results() == {key: text.upper() for key, text in ITEMS.items()}
    assert str(other.progress()) == "20 done, 1 pending, 0 failed; 20 attempts"
    other.close()


def test_an_error_leaves_its_item_for_the_next_run(job):
    def work(key: str, text: str) -> str:
        if key == "letter 03" and not job.errors():
            raise TimeoutError("slow tool")
        return text

    assert job.run(work) == Progress(1, 19, 0, 20)
    assert job.errors() == {"letter 03": "TimeoutError: slow tool"}
    assert job.run(work) == Progress(0, 20, 0, 21)
    assert job.errors() == {}


def test_an_item_that_always_fails_is_given_up(path):
    job = ResumableJob(path, max_attempts=3)
    job.add({"bad": "x", "good": "y"})

    def work(key: str, text: str) -> str:
        if key == "bad":
            raise ValueError("no JSON")
        return text

    states = [job.run(work) for _ in range(4)]
    assert states[-1] == Progress(pending=0, done=1, failed=1, attempts=4)
    assert job.errors() == {"bad": "ValueError: no JSON"}
    job.close()


def test_an_open_breaker_ends_the_run_without_an_attempt(job):
    def work(key: str, text: str) -> str:
        if key == "letter 05":
            raise ConnectionError("open")
        return text

    assert job.run(work, stop_on=ConnectionError) == Progress(15, 5, 0, 5)
    assert job.run(lambda key, text: text) == Progress(0, 20, 0, 20)


def test_an_interruption_is_not_swallowed(job):
    def work(key: str, text: str) -> str:
        if key == "letter 05":
            raise KeyboardInterrupt
        return text

    with pytest.raises(KeyboardInterrupt):
        job.run(work)
    assert job.progress() == Progress(15, 5, 0, 6)


def test_a_full_file_stops_the_run_and_loses_nothing(job, path):
    job.run(lambda key, text: text, limit=4)
    job.limit_size(1)

    with pytest.raises(sqlite3.OperationalError, match="full"):
        job.run(lambda key, text: "x" * 3_000)
    done = job.progress().done
    assert 4 <= done < 20
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    job.limit_size(0)
    assert job.run(lambda key, text: "x" * 3_000).done == 20
    assert set(job.results()) == set(ITEMS)


# On a real file system of 200 kB, in a namespace of its own. Prints the progress before and after.
FULL_DISK = """
import sqlite3, sys
from openmodels.workflows.resumable import ResumableJob
from openmodels.workflows import trace

job = ResumableJob("/mnt/job.db")
job.add({f"letter {n:02}": "text" for n in range(20)})
job.run(lambda key, text: text, limit=4)
filler = open("/mnt/filler", "wb", buffering=0)
try:
    while True:
        filler.write(bytes(4096))
except OSError as error:
    print(error.strerror)
try:
    job.run(lambda key, text: "x" * 9_000)
except sqlite3.Error as error:
    print(type(error).__name__, error)
filler.truncate(0)
job.close()
job = ResumableJob("/mnt/job.db")
print(4 <= job.progress().done < 20, job.run(lambda key, text: text).done, len(job.results()))
"""
MOUNT = ("unshare", "--user", "--map-root-user", "--mount", "--")


def can_mount() -> bool:
    command = [*MOUNT, "mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", "/mnt"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="this machine cannot mount a small tmpfs as a user")
def test_a_really_full_disk_loses_nothing():
    script = 'mount -t tmpfs -o size=200k tmpfs /mnt && exec "$0" -c "$1"'
    command = [*MOUNT, "sh", "-c", script, sys.executable, FULL_DISK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    strerror, error, *lines = done.stdout.splitlines()
    assert strerror == "No space left on device"
    assert error.startswith("OperationalError")
    assert lines == ["True 20 20"]


# Each effect is written twice: under the item's key, and without one.
WORKER = """
import os, sqlite3, sys
from openmodels.workflows.resumable import ResumableJob

def work(number):
    job = ResumableJob(sys.argv[1], max_attempts=1_000)
    effects = sqlite3.connect(sys.argv[2], isolation_level=None)
    effects.execute("PRAGMA journal_mode=WAL")

    def charge(key, text):
        effects.execute("INSERT INTO once VALUES (?) ON CONFLICT DO NOTHING", [key])
        effects.execute("INSERT INTO again VALUES (?)", [key])
        os.write(done, b".")
        return text
    job.run(charge)
    os.write(done, b"e")

with sqlite3.connect(sys.argv[2]) as file:
    file.execute("CREATE TABLE once (key TEXT PRIMARY KEY)")
    file.execute("CREATE TABLE again (key TEXT)")
file.close()
kills = 0
while True:
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(kills)
        finally:
            os._exit(0)
    os.close(done)
    marks = b"".join(os.read(ready, 1) for _ in range(1 + kills % 3))
    if kills < 50:
        os.kill(child, 9)
        kills += 1
    os.waitpid(child, 0)
    rest = os.read(ready, 65536)
    os.close(ready)
    if b"e" in marks + rest:
        print(kills)
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the worker forks")
def test_each_item_counts_once_after_50_kills(path, tmp_path):
    job = ResumableJob(path, max_attempts=1_000)
    items = {f"letter {n:03}": f"text {n}" for n in range(150)}
    job.add(items)
    effects = tmp_path / "effects.db"
    command = [sys.executable, "-c", WORKER, str(path), str(effects)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    progress = job.progress()
    assert (progress.done, progress.pending, progress.failed) == (150, 0, 0)
    assert job.results() == items
    with closing(sqlite3.connect(effects)) as file:
        once = [key for (key,) in file.execute("SELECT key FROM once ORDER BY key")]
        (again,) = file.execute("SELECT count(*) FROM again").fetchone()
    assert once == sorted(items)
    assert int(done.stdout) >= 10
    assert 150 <= again <= progress.attempts
