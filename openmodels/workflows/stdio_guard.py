"""Run an MCP server over stdio with limits on its memory and on the length of its lines.

    python stdio_guard.py MAX_LINE MEMORY_MB COMMAND [ARGUMENT ...]

The SDK's client stores a line until it ends, so a server that never ends one fills the client's
memory. This program stands between the two: it passes lines on, and ends the server at the first
line that is too long. It imports the standard library only, so that it starts fast.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from mcp import StdioServerParameters

MEMORY_MB = 1_024
CHUNK = 65_536  # bytes read at a time


def guarded(
    parameters: StdioServerParameters, max_line: int, memory_mb: int = MEMORY_MB
) -> StdioServerParameters:
    """Return parameters that start the same server behind this program."""
    command = [__file__, str(max_line), str(memory_mb), parameters.command, *parameters.args]
    return parameters.model_copy(update={"command": sys.executable, "args": ["-I", *command]})


def relay(source: BinaryIO, target: BinaryIO, max_line: int) -> bool:
    """Copy lines until the source ends; return whether all were short enough.

    max_line: bytes. Holds at most one line in memory.
    """
    line = bytearray()
    while chunk := os.read(source.fileno(), CHUNK):
        line += chunk
        complete, newline, remainder = bytes(line).rpartition(b"\n")
        if len(remainder) > max_line or any(len(x) > max_line for x in complete.split(b"\n")):
            return False
        target.write(complete + newline)
        target.flush()
        line = bytearray(remainder)
    return True


def _limit_memory(memory_mb: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    size = memory_mb * 1_000_000
    try:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (ValueError, OSError):
        pass  # macOS refuses it


def _forward_input(target: BinaryIO) -> None:
    """Copy this program's input to the server's, and close it at the end."""
    try:
        while chunk := os.read(sys.stdin.fileno(), CHUNK):
            target.write(chunk)
            target.flush()
    except (OSError, ValueError):
        pass  # the server is gone
    finally:
        try:
            target.close()
        except OSError:
            pass


def main(arguments: list[str]) -> int:
    """Run a server and return its exit code, or 1 after a line that was too long."""
    max_line, memory_mb = int(arguments[0]), int(arguments[1])
    limit = (lambda: _limit_memory(memory_mb)) if os.name == "posix" else None
    process = subprocess.Popen(
        arguments[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=limit, bufsize=0
    )
    threading.Thread(target=_forward_input, args=(process.stdin,), daemon=True).start()
    try:
        if not relay(process.stdout, sys.stdout.buffer, max_line):
            print(f"the MCP server sent a line of more than {max_line} bytes", file=sys.stderr)
            return 1
        return process.wait()
    except BrokenPipeError:  # the client is gone
        return 1
    finally:
        process.kill()
        process.wait()
        if os.name == "posix" and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # the server's children too, and this program


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # a thread that waits for input must not hold up the end
