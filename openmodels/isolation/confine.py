"""Confine a process before it runs generated code: no network, no signals, one folder to write in.

Linux only, without root and without a container: Landlock (landlock(7)) limits files, and a seccomp
filter (seccomp(2)) rejects system calls. Both are inherited and cannot be removed. They protect
against what generated code does, not against a flaw of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from functools import cache

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on both machines
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE = 38, 22, 2  # prctl(2)
READ = 0b1101  # execute, read files, list folders
OLDEST = 3  # of Landlock's versions; before it, files can be truncated
ACCESS_BITS = {3: 15, 4: 15}  # version -> rights on files that it knows; later versions have 16
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000  # system calls of x86_64 in another numbering
THREAD = 0x10000  # clone(2): a thread of the same process
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000  # seccomp(2): what a filter returns

# Rejected calls with their numbers on x86_64 and aarch64; -1: the machine has no such call.
REJECTED = {
    "socket": (41, 198), "io_uring_setup": (425, 425),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424),
    "fork": (57, -1), "vfork": (58, -1),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "bpf": (321, 280), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "setrlimit": (160, 164), "prlimit64": (302, 261),
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54),
    "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
}  # fmt: skip
CLONE, CLONE3 = (56, 220), 435


class CannotConfine(RuntimeError):
    """This system cannot confine a process, and nothing was run. The message says why."""


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


@cache
def problem() -> str:
    """Return why this system cannot confine a process, or "" if it can."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return f"confinement needs Linux on x86_64 or aarch64, not {sys.platform}"
    version = _landlock_version()
    if version < OLDEST:
        return f"the kernel's Landlock has version {max(version, 0)}, at least {OLDEST} is needed"
    return ""


def _landlock_version() -> int:
    return _libc().syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))


def readable() -> list[str]:
    """Return the files and folders that Python needs in order to start."""
    system = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom"]
    return [path for path in [sys.prefix, sys.base_prefix, *system] if os.path.exists(path)]


def confinement(folder: str) -> Callable[[], None]:
    """Return a function that confines the process that calls it; a child calls it before exec.

    Afterwards the process writes only in `folder` and reads only there and what Python needs. It
    opens no socket, sends no signal, starts no process (threads work), and cannot raise its limits.
    Raises CannotConfine if this system has no such means.
    """
    if problem():
        raise CannotConfine(problem())
    libc, version = _libc(), _landlock_version()
    every = (1 << ACCESS_BITS.get(version, 16)) - 1
    network, scope = 0b11, 0b11  # bind and connect TCP; signals and abstract sockets
    attributes = struct.pack("QQQ", every, network, scope)[: _ruleset_size(version)]
    rules = [(path, READ) for path in readable()] + [(folder, every)]
    program = _filter()
    code = ctypes.create_string_buffer(program, len(program))
    size = struct.calcsize("HxxxxxxP")
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    header_buffer = ctypes.create_string_buffer(header, size)

    def confine() -> None:
        _required(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        ruleset = _required(
            libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
        )
        for path, rights in rules:
            _allow(ruleset, path, rights)
        _required(libc.syscall(RESTRICT_SELF, ruleset, 0))
        os.close(ruleset)
        # the filter comes last, since it may reject what the lines above need
        _required(libc.prctl(SET_SECCOMP, FILTER_MODE, header_buffer, 0, 0) if code else -1)

    return confine


def _ruleset_size(version: int) -> int:
    return 8 if version < 4 else 16 if version < 6 else 24


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule: these rights on a file, or on a folder and all that it contains."""
    file_rights = 0b111 | 1 << 14  # a file has no rights of a folder
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    allowed = rights if os.path.isdir(path) else rights & file_rights
    rule = struct.pack("=Qi", allowed, handle)
    _required(_libc().syscall(ADD_RULE, ruleset, 1, rule, 0))
    os.close(handle)


def _required(result: int) -> int:
    """Return a call's result. Raises OSError if the call failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _filter() -> bytes:
    """Return the seccomp filter for this machine, as instructions of 8 bytes.

    struct sock_filter: code, jump if true, jump if false, constant. A clone is accepted only for a
    thread; clone3 seems to be missing, since a filter cannot read its flags, and libc then clones.
    """
    machine = platform.machine()
    column = list(ARCHITECTURES).index(machine)
    load, equal, at_least, any_bit, leave = 0x20, 0x15, 0x35, 0x45, 0x06
    rejection = (leave, 0, 0, ERROR | errno.EPERM)
    steps = [(load, 0, 0, 4), (equal, 1, 0, ARCHITECTURES[machine]), (leave, 0, 0, KILL)]
    steps += [(load, 0, 0, 0), (at_least, 0, 1, X32), rejection]
    for numbers in REJECTED.values():
        if numbers[column] >= 0:
            steps += [(equal, 0, 1, numbers[column]), rejection]
    steps += [(equal, 0, 1, CLONE3), (leave, 0, 0, ERROR | errno.ENOSYS)]
    steps += [(equal, 0, 3, CLONE[column]), (load, 0, 0, 16), (any_bit, 1, 0, THREAD), rejection]
    steps += [(leave, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
