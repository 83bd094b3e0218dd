"""Programs that try to leave the sandbox, and a measurement of what each of them achieved.

Every attempt is harmless: its target is a file, a port or a process that the measurement made.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from openmodels.isolation import sandbox

CHILDREN = 8  # processes of the small fork bomb
MEMORY_MB = 256
PROGRAMS = {
    "read another file": "print(open({file!r}).read())",
    "change another program's file": "open({file!r}, 'w').write('changed')",
    "connect to a port": "import socket; socket.create_connection(('127.0.0.1', {port}), 1)",
    "end another process": "import os; os.kill({process}, 9)",
    "leave processes behind": (
        "import os, time\nmark = {secret!r}\nfor _ in range({children}):\n"
        "    if os.fork() == 0:\n        os.setsid(); time.sleep(20); os._exit(0)\n"
    ),
    "use all memory": "x = bytearray({memory})\nprint({secret!r})",
    "never end": "while True: pass",
    "fill the disk": "open('big', 'wb').write(bytes({size}))\nprint({secret!r})",
}


@dataclass(frozen=True)
class _Targets:
    """What the attempts aim at: a secret in a file, a listening port, and a sleeping process."""

    secret: str
    file: Path
    listener: socket.socket
    process: subprocess.Popen

    def program(self, name: str) -> str:
        """Return the source of an attempt."""
        return PROGRAMS[name].format(
            secret=self.secret, file=str(self.file), port=self.listener.getsockname()[1],
            process=self.process.pid, children=CHILDREN, memory=4 * MEMORY_MB * 1_000_000,
            size=4 * sandbox.LARGEST_FILE,
        )  # fmt: skip


@contextmanager
def _targets() -> Iterator[_Targets]:
    secret = secrets.token_hex(8)
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-") as folder,
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
    ):
        file = Path(folder) / "program.py"
        file.write_text(secret, encoding="utf-8")
        process = subprocess.Popen(sleep)
        try:
            yield _Targets(secret, file, listener, process)
        finally:
            process.kill()
            process.wait()


def try_to_leave(name: str, confined: bool, seconds: float = 1.0) -> str:
    """Run one of PROGRAMS in the sandbox; return what it achieved, or "" if it was contained.

    seconds: time limit of the program. Raises KeyError for an unknown name, and
    `confine.CannotConfine` if `confined` is not possible here.
    """
    with _targets() as targets:
        result = sandbox.run(targets.program(name), seconds, MEMORY_MB, confined)
        return _achieved(name, targets, result.output, result.state)


def _achieved(name: str, targets: _Targets, output: str, state: str) -> str:
    """Return what an attempt achieved, seen from outside the sandbox."""
    if name == "change another program's file":
        return "changed it" if targets.file.read_text(encoding="utf-8") != targets.secret else ""
    if name == "connect to a port":
        return "connected" if _connected(targets.listener) else ""
    if name == "end another process":
        time.sleep(0.05)  # a signal needs a moment
        return "ended it" if targets.process.poll() is not None else ""
    if name == "leave processes behind":
        count = _end_children(targets.secret)
        return f"{count} still run" if count else ""
    if name == "never end":
        return "ended without an error" if state == "ok" else ""
    return "succeeded" if targets.secret in output else ""


def _connected(listener: socket.socket) -> bool:
    listener.settimeout(0.05)
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return False
    return True


def _end_children(mark: str) -> int:
    """End the processes whose command line has a mark, and return how many there were."""
    children = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and mark in " ".join(process.info["cmdline"] or ()):
            process.kill()
            children.append(process)
    psutil.wait_procs(children, 5)
    return len(children)
