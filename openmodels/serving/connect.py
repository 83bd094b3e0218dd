"""Connect to a real Ollama if there is one, else to the course's stand-in for it.

client = connect()  # prints which server it is, and why
client.chat("mini-qwen", [{"role": "user", "content": "Who runs the bakery?"}])
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import ollama
import psutil
from filelock import FileLock

from openmodels import ollama_host
from openmodels.gguf.export import cache

DEFAULT = "http://127.0.0.1:11434"
IDLE_MINUTES = 30  # after which a stand-in that nobody asks ends by itself
START_SECONDS = 60
BUSY_SECONDS = 10.0  # limit for the answer of a stand-in that is already running
CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW = 0x200, 0x8000000  # subprocess has them on Windows only


class Found(NamedTuple):
    """A server that responded: its address, its version, whether it is the stand-in."""

    address: str
    version: str
    stand_in: bool


def connect(host: str | None = None) -> ollama.Client:
    """Return a client for the server that responds, and print one line: which server, and why.

    host: an address, such as "http://127.0.0.1:11434"; else `OLLAMA_HOST`, else Ollama's own port.
    If no server responds there, the stand-in is started once for this machine and shared by all
    notebooks; it exits after half an hour without a request. The client ignores proxies.

    Raises ConnectionError if a host is named and does not respond, ValueError if it is no address,
    and RuntimeError with the stand-in's last lines of output if it does not start.
    """
    server, reason = find_server(host)
    print(f"{describe(server)}: {reason}")
    return ollama_client(server)


def find_server(host: str | None = None) -> tuple[Found, str]:
    """Return the server that `connect` uses, and why; the stand-in is started if none responds.

    Raises ConnectionError, ValueError and RuntimeError as `connect` does.
    """
    named = host or ollama_host.clean(os.environ.get("OLLAMA_HOST"))
    server = ask(ollama_host.address(named) if named else DEFAULT)
    if server is None and named:
        raise ConnectionError(
            f"{named} does not answer; start Ollama there, or do without OLLAMA_HOST: then the "
            "course's stand-in serves"
        )
    if server and not server.stand_in:
        return server, "it answered"
    return server or shared(), "asked for by its address" if named else "no Ollama answered"


def describe(server: Found) -> str:
    """Return what a server is, and its address."""
    if server.stand_in:
        return f"the course's stand-in for Ollama at {server.address}"
    return f"Ollama {server.version} at {server.address}"


def ollama_client(server: Found) -> ollama.Client:
    """Return a client of a server that ignores proxies."""
    return ollama.Client(host=server.address, trust_env=False)


def ask(address: str, seconds: float = 1.0) -> Found | None:
    """Return the server that responds at an address, or None."""
    try:
        with httpx.Client(timeout=seconds, trust_env=False) as client:
            body = client.get(f"{address}/api/version").json()
        return Found(address, body["version"], "stand_in" in body)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return None


def detached(windows: bool = os.name == "nt") -> dict[str, Any]:
    """Return the options with which `Popen` starts a program that outlives the one that starts it.

    A Ctrl-C in the terminal of JupyterLab does not reach it: on Windows, which has no sessions, it
    gets a process group of its own and no window.
    """
    if windows:
        return {"creationflags": CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW}
    return {"start_new_session": True}


def shared() -> Found:
    """Return the stand-in of this machine, started if it does not run.

    Raises RuntimeError with its last lines of output if it does not start.
    """
    note = cache() / "stand-in.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{note}.lock"):
        return _noted(note) or _start(note)


def _start(note: Path) -> Found:
    """Start the stand-in, wait until it responds, and write its address to `note`."""
    log = note.with_suffix(".log")
    command = [sys.executable, "-m", "openmodels.serving.app", "--port", "0"]
    command += ["--idle", str(IDLE_MINUTES)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUTF8": "1"},  # the log is read as UTF-8
            **detached(),
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        address = re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8", "replace"))
        if address and (server := ask(address[0])):
            note.write_text(json.dumps({"address": address[0], "pid": process.pid}), "utf-8")
            return server
        time.sleep(0.05)
    process.kill()
    lines = log.read_text("utf-8", "replace").strip().splitlines()[-5:]
    raise RuntimeError("\n".join(["the stand-in did not start:", *lines]))


def _noted(note: Path) -> Found | None:
    """Return the stand-in that `note` names, if it still responds."""
    try:
        address = json.loads(note.read_text("utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not re.fullmatch(r"http://127\.0\.0\.1:\d{1,5}", str(address)):
        return None
    server = ask(address, BUSY_SECONDS)  # a dead one refuses at once, a busy one answers late
    return server if server and server.stand_in else None


def stop() -> bool:
    """End the stand-in that the note names; return whether it ran."""
    note = cache() / "stand-in.json"
    if _noted(note) is None:
        return False
    try:
        process = psutil.Process(int(json.loads(note.read_text("utf-8"))["pid"]))
        if "openmodels.serving.app" not in process.cmdline():
            return False
        process.terminate()
        process.wait(10)
    except (psutil.Error, ValueError, KeyError, TypeError):
        return False
    note.unlink(missing_ok=True)
    return True
