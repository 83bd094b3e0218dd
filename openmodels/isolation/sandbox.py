"""Run code that a model wrote: in a process of its own, with limits, in an empty folder.

The limits stop accidents (endless loops, full memory, full disks, stray children), not attacks:
the code runs with your rights. Memory, file size and processor time are limited on Linux and
macOS; on Windows only the clock is.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

try:
    import resource
except ImportError:  # Windows
    resource = None

LONGEST_OUTPUT = 10_000  # characters kept of what the code printed
LARGEST_FILE = 1_000_000  # bytes


# Runs programs one after the other and says of each how it ended; one that ends the process stays
# without a word. The clock, where there is one, counts the time the process computes.
_EACH = """
import builtins, os, sys
try:
    from signal import ITIMER_VIRTUAL, SIGVTALRM, setitimer, signal
except ImportError:
    def clock(seconds): pass
else:
    class TooLong(BaseException): pass
    def ended(*_): raise TooLong
    signal(SIGVTALRM, ended)
    def clock(seconds): setitimer(ITIMER_VIRTUAL, seconds)
out = os.fdopen(os.dup(1), "w")
sys.stdout = sys.stderr = open(os.devnull, "w")
original = dict(vars(builtins))
for number, program in enumerate({programs!r}):
    ok = False
    try:
        clock({seconds!r})
        exec(compile(program, "program", "exec"), {{"__name__": "program"}})
        ok = True
    except BaseException:
        pass
    finally:
        clock(0)
    vars(builtins).update(original)
    out.write(f"\\n{mark} {{number}} {{ok}}\\n")
    out.flush()
"""
_TOGETHER = 50  # programs in one process
_LONGEST = 60_000  # characters of them: they travel as one argument


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


def run_each(programs: Sequence[str], seconds: float = 0.5, memory_mb: int = 512) -> list[bool]:
    """Whether each program reaches its end without an error; dozens share one process.

    Same limits as `run`. A program that computes longer than `seconds`, exits, or takes the
    process down is False; what it prints is thrown away. A program is never blamed for another:
    where a process ends early, the one it was at is run again, alone, and then the others.
    """
    found: dict[int, bool] = {}
    waiting, together = list(range(len(programs))), _TOGETHER
    while waiting:
        size = sum(
            total <= _LONGEST for total in accumulate(len(programs[n]) for n in waiting[:together])
        )
        group = waiting[: max(1, size)]
        mark = secrets.token_hex(8)
        code = _EACH.format(programs=[programs[n] for n in group], seconds=seconds, mark=mark)
        lines = run(code, 2 + seconds, memory_mb).output.splitlines()
        said = [line.split()[1:] for line in lines if line.startswith(mark)]
        found |= {group[int(number)]: ok == "True" for number, ok in said}
        ended_early = len(said) < len(group)
        if ended_early and len(group) == 1:
            found[group[0]] = False
        together = 1 if ended_early and len(group) > 1 else _TOGETHER
        waiting = [n for n in waiting if n not in found]
    return [found[n] for n in range(len(programs))]


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
