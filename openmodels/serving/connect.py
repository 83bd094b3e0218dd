"""One line for every notebook: a real Ollama where one answers, else the course's stand-in.

client = connect()  # prints which of them it is, and why
client.chat("mini-qwen", [{"role": "user", "content": "Who runs the bakery?"}])
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import httpx
import ollama
import psutil
from filelock import FileLock

from openmodels.gguf.export import cache

DEFAULT = "http://127.0.0.1:11434"
IDLE_MINUTES = 30  # after which a stand-in that nobody asks ends by itself
START_SECONDS = 60


class Found(NamedTuple):
    """A server that answered: its address, what it calls itself, whether it is the stand-in."""

    address: str
    version: str
    stand_in: bool


def connect(host: str | None = None) -> ollama.Client:
    """A client for the server that is there, after one line that says which and why.

    host: an address, such as "http://127.0.0.1:11434"; else `OLLAMA_HOST`, else Ollama's own port.
    Where none answers, the stand-in is started once for this machine and shared by all notebooks;
    it ends when nobody has asked it for half an hour. Raises ConnectionError for a host that was
    named and does not answer, and RuntimeError with its last words if the stand-in does not start.
    """
    named = host or os.environ.get("OLLAMA_HOST")
    found = ask(_address(named or DEFAULT))
    if found is None and named:
        raise ConnectionError(
            f"{named} does not answer; start Ollama there, or do without OLLAMA_HOST: then the "
            "course's stand-in serves"
        )
    if found and not found.stand_in:
        print(f"Ollama {found.version} at {found.address}: it answered")
    else:
        why = "asked for by its address" if named else "no Ollama answered"
        found = found or shared()
        print(f"the course's stand-in for Ollama at {found.address}: {why}")
    return ollama.Client(host=found.address, trust_env=False)


def ask(address: str, seconds: float = 1.0) -> Found | None:
    """Who answers at an address, or None."""
    try:
        with httpx.Client(timeout=seconds, trust_env=False) as client:
            told = client.get(f"{address}/api/version").json()
        return Found(address, told["version"], "stand_in" in told)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return None


def shared() -> Found:
    """The stand-in of this machine, started if it is not there."""
    note = cache() / "stand-in.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{note}.lock"):
        if found := _noted(note):
            return found
        log = note.with_suffix(".log")
        command = [sys.executable, "-m", "openmodels.serving.app", "--port", "0"]
        command += ["--idle", str(IDLE_MINUTES)]
        with log.open("wb") as out:
            started = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and started.poll() is None:
            told = re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8", "replace"))
            if told and (found := ask(told[0])):
                note.write_text(json.dumps({"address": told[0], "pid": started.pid}), "utf-8")
                return found
            time.sleep(0.05)
        started.kill()
        last = log.read_text("utf-8", "replace").strip().splitlines()[-5:]
        raise RuntimeError("\n".join(["the stand-in did not start:", *last]))


def _noted(note: Path) -> Found | None:
    """The stand-in that the note tells of, if it still answers."""
    try:
        address = json.loads(note.read_text("utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not re.fullmatch(r"http://127\.0\.0\.1:\d{1,5}", str(address)):
        return None
    found = ask(address)
    return found if found and found.stand_in else None


def _address(host: str) -> str:
    """A whole address of what `OLLAMA_HOST` may hold: "10.0.0.2", "localhost:11434", a URL."""
    scheme, _, rest = host.rpartition("://")
    rest = rest.rstrip("/").replace("0.0.0.0", "127.0.0.1")
    port = "" if re.search(r":\d+$", rest) else f":{443 if scheme == 'https' else 11434}"
    return f"{scheme or 'http'}://{rest}{port}"


def stop() -> bool:
    """End the stand-in of this machine, if it is the one that was noted; whether it was there."""
    note = cache() / "stand-in.json"
    if _noted(note) is None:
        return False
    try:
        running = psutil.Process(int(json.loads(note.read_text("utf-8"))["pid"]))
        if "openmodels.serving.app" not in running.cmdline():
            return False
        running.terminate()
        running.wait(10)
    except (psutil.Error, ValueError, KeyError, TypeError):
        return False
    note.unlink(missing_ok=True)
    return True
