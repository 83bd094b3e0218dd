"""Run generated code in a process of its own, with limits, in an empty folder.

The limits stop accidents (endless loops, full memory, full disks, orphaned children), not attacks:
the code runs with your rights, unless it is confined (`confine`, Linux only). Memory, file size and
processor time are limited on Linux and macOS; on Windows only the wall clock is.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import accumulate

from openmodels.isolation.confine import confinement
from openmodels.isolation.network import RunResult, end_process, read_end, wait_for

try:
    import resource
except ImportError:  # Windows
    resource = None

LARGEST_FILE = 1_000_000  # bytes


# Runs programs one after the other and prints how each ended; a program that ends the process has
# no line. The timer, if the system has one, counts processor time.
_EACH = """
import builtins, os, sys
try:
    from signal import ITIMER_VIRTUAL, SIGVTALRM, setitimer, signal
except ImportError:
    def clock(seconds): pass
else:
    class TooLong(BaseException): pass
    def stop(*_): raise TooLong
    signal(SIGVTALRM, stop)
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
_GROUP_SIZE = 50  # programs in one process
_LONGEST = 24_000  # characters of a group: Windows allows 32,767 for the whole command line


def run(code: str, seconds: float = 2.0, memory_mb: int = 512, confined: bool = False) -> RunResult:
    """Run a Python program and wait for it.

    It sees none of your environment variables, only the standard library, an empty working folder,
    and no standard input. Programs that print too much or start children are stopped too. confined:
    no other files, no network, no signals and no children at all.

    Raises `confine.CannotConfine`, and runs nothing, if this system cannot confine a process.
    """

    def limit() -> None:  # in the child, before Python starts
        limits = {
            resource.RLIMIT_CPU: int(seconds) + 1,
            resource.RLIMIT_AS: memory_mb * 1_000_000,
            resource.RLIMIT_FSIZE: LARGEST_FILE,
            resource.RLIMIT_CORE: 0,
        }
        for kind, value in limits.items():
            try:
                resource.setrlimit(kind, (value, value))
            except (ValueError, OSError):
                pass  # macOS refuses some; the time limit still applies
        confine()

    system_variables = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as output_file,
    ):
        confine = confinement(folder) if confined else lambda: None
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", code],
            cwd=folder,
            env=system_variables | {"PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=output_file,
            stderr=subprocess.STDOUT,
            preexec_fn=limit if resource else None,
            start_new_session=True,
        )
        try:
            state = wait_for(process, seconds)
        finally:
            end_process(process)
        return RunResult(state, read_end(output_file))


def run_each(programs: Sequence[str], seconds: float = 0.5, memory_mb: int = 512) -> list[bool]:
    """Return whether each program ends without an error; dozens share one process.

    Same limits as `run`. The result is False for a program that computes longer than `seconds`,
    exits, or crashes the process; its output is discarded. One program cannot fail another: if a
    process ends early, the program it was running is run again alone, and then the others.
    """
    outcomes: dict[int, bool] = {}
    pending, group_size = list(range(len(programs))), _GROUP_SIZE
    while pending:
        lengths = accumulate(_quoted_length(programs[n]) for n in pending[:group_size])
        size = sum(total <= _LONGEST for total in lengths)
        group = pending[: max(1, size)]
        mark = secrets.token_hex(8)
        code = _EACH.format(programs=[programs[n] for n in group], seconds=seconds, mark=mark)
        lines = run(code, 2 + seconds, memory_mb).output.splitlines()
        reports = [line.split()[1:] for line in lines if line.startswith(mark)]
        outcomes |= {group[int(number)]: ok == "True" for number, ok in reports}
        ended_early = len(reports) < len(group)
        if ended_early and len(group) == 1:
            outcomes[group[0]] = False
        group_size = 1 if ended_early and len(group) > 1 else _GROUP_SIZE
        pending = [n for n in pending if n not in outcomes]
    return [outcomes[n] for n in range(len(programs))]


def _quoted_length(program: str) -> int:
    """Return the characters a program takes in a command line of Windows, quotes escaped."""
    return len(subprocess.list2cmdline([repr(program)]))
