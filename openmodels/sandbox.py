"""Run code that a model wrote: in a process of its own, with limits, in an empty folder.

The limits stop accidents (endless loops, full memory, full disks, stray children), not attacks:
the code runs with your rights. Memory, file size and processor time are limited on Linux and
macOS; on Windows only the clock is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

try:
    import resource
except ImportError:  # Windows
    resource = None

LONGEST_OUTPUT = 10_000  # characters kept of what the code printed
LARGEST_FILE = 1_000_000  # bytes


@dataclass(frozen=True)
class Ran:
    """How a run ended: "ok", "error" or "time limit"; and the end of what it printed."""

    state: str
    output: str

    @property
    def ok(self) -> bool:
        return self.state == "ok"


def run(code: str, seconds: float = 2.0, memory_mb: int = 512) -> Ran:
    """Run a Python program and wait for it.

    It sees no environment variable of yours, no module but the standard library, an empty working
    folder, and no standard input. A program that prints much or starts children is cut off too.
    """

    def limit() -> None:  # in the child, before Python starts
        wanted = {
            resource.RLIMIT_CPU: int(seconds) + 1,
            resource.RLIMIT_AS: memory_mb * 1_000_000,
            resource.RLIMIT_FSIZE: LARGEST_FILE,
            resource.RLIMIT_CORE: 0,
        }
        for kind, value in wanted.items():
            try:
                resource.setrlimit(kind, (value, value))
            except (ValueError, OSError):
                pass  # macOS refuses some; the clock still holds

    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as printed,
    ):
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", code],
            cwd=folder,
            env=kept | {"PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            preexec_fn=limit if resource else None,
            start_new_session=True,
        )
        try:
            state = "ok" if process.wait(seconds) == 0 else "error"
        except subprocess.TimeoutExpired:
            state = "time limit"
        finally:
            _end(process)
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(0, size - LONGEST_OUTPUT))
        return Ran(state, printed.read().decode("utf-8", "replace"))


def _end(process: subprocess.Popen) -> None:
    """Kill the process and, where the system has process groups, every child it left."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, 9)
        except (ProcessLookupError, PermissionError):
            pass  # all of them had ended
    else:
        process.kill()
    process.wait()
