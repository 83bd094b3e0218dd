"""Show what leaves this machine: a watch on Python's sockets, and a sandbox without a network.

`watch()` records what Python code of this process requests from other machines, on any system,
and can block it. `run_without_network(command)` runs a program whose only interface is loopback;
Linux only. `FakeRemote` plays a remote machine on a second loopback address, so that a leak can
be shown without one.

Each has gaps, and the tests show them. The watch does not see sockets opened by C code (ctypes,
extension modules), other processes, older connections, and on Windows those of asyncio, which
connects with ConnectEx, without an audit event. The sandbox does not block Unix sockets that have
a path, nor files: a program outside can pass on what it finds there.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

LOOPBACK = ("127.0.0.1",)
EVENTS = {
    "socket.connect": "connect",
    "socket.sendto": "datagram",
    "socket.sendmsg": "datagram",
    "socket.bind": "listen",
    "socket.getaddrinfo": "look-up",
    "socket.gethostbyname": "look-up",
    "socket.gethostbyaddr": "look-up",
    "socket.getnameinfo": "look-up",
}
LOCAL_FAMILIES = [
    getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG") if hasattr(socket, name)
]
OWN_FILE = os.path.normcase(os.path.abspath(__file__))
STANDARD_LIBRARY = os.path.normcase(os.path.dirname(os.__file__))

_watches: tuple[Watch, ...] = ()
_changing = threading.Lock()
_installed = False
_elsewhere: set[int] = set()  # threads of a FakeRemote


class ConnectionBlocked(PermissionError):
    """A connection, datagram or look-up that a watch blocked; the message names it."""


class CannotSeal(RuntimeError):
    """This system has no sandbox without a network, and nothing was run. The message says why."""


# --- The watch ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """One request of Python code to the network."""

    kind: str  # connect, datagram, look-up, or listen: an address others may connect to
    host: str
    port: int | str | None  # None for a look-up of a name alone
    where: str  # the line of code, outside the standard library and installed packages
    through: tuple[str, ...]  # the packages that line went through, the first one called first
    outside: bool  # not on the list of the watch
    refused: bool

    @property
    def address(self) -> str:
        """Return `127.0.0.1:8080`, `[::1]:8080`, or a name."""
        host = f"[{self.host}]" if ":" in self.host else self.host or "every address"
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        through = f", through {', '.join(self.through)}" if self.through else ""
        refused = ", refused" if self.refused else ""
        return f"{self.kind} {self.address}{refused}: {self.where}{through}"


@dataclass
class Watch:
    """What a watch has recorded so far; `outside` holds the attempts to leave this machine."""

    allow: frozenset[str]
    block: bool
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def outside(self) -> list[Attempt]:
        """Return the attempts to reach an address that does not count as this machine."""
        return [attempt for attempt in self.attempts if attempt.outside]

    def __str__(self) -> str:
        count = f"{len(self.attempts)} noted, {len(self.outside)} to the outside"
        return "\n".join([count, *map(str, self.attempts)])


@contextmanager
def watch(block: bool = False, allow: Sequence[str] = LOOPBACK) -> Iterator[Watch]:
    """Record what Python code of this process, in any thread, requests from the network.

    allow: addresses, and names, that count as this machine; by default only 127.0.0.1. "localhost"
    is a name to look up: for a client that uses it, allow ("127.0.0.1", "::1", "localhost"). block:
    raise `ConnectionBlocked`, an OSError, for every other address before a packet is sent; if a
    library catches it, the attempt is still recorded.

    A look-up of a numeric address needs no network and is not recorded. For the gaps see the
    module. Example: `with watch() as watched: answer()`, then `watched.outside`.
    """
    global _watches
    new_watch = Watch(frozenset(map(_plain, allow)), block)
    with _changing:
        _install()
        _watches += (new_watch,)
    try:
        yield new_watch
    finally:
        with _changing:
            _watches = tuple(active for active in _watches if active is not new_watch)


def _install() -> None:
    """Hook into Python once; an audit hook cannot be removed, so it idles without watches."""
    global _installed
    if _installed:
        return
    for name, address_index in {
        "connect": 0,
        "connect_ex": 0,
        "bind": 0,
        "sendto": -1,
        "sendmsg": 3,
    }.items():
        if hasattr(socket.socket, name):  # Windows has no sendmsg
            method = _before_lookup(getattr(socket.socket, name), address_index)
            setattr(socket.socket, name, method)
    sys.addaudithook(_hook)
    _installed = True


def _before_lookup(method: Callable, address_index: int) -> Callable:
    """Wrap a socket method: record a name in its address before C code looks it up."""

    @functools.wraps(method)
    def checked(self, *arguments):
        if _watches and self.family in (socket.AF_INET, socket.AF_INET6):
            address = arguments[address_index] if len(arguments) > max(address_index, 0) else None
            host = _text(address[0]) if isinstance(address, tuple) and address else ""
            if _is_name(host):
                _record("look-up", host, None)
        return method(self, *arguments)

    return checked


def _hook(event: str, arguments: tuple) -> None:
    """Record each audit event that names another party."""
    if not _watches or event not in EVENTS:
        return
    kind = EVENTS[event]
    if kind != "look-up":
        sock, address = arguments
        if sock.family in LOCAL_FAMILIES or address is None:
            return
        if isinstance(address, tuple) and len(address) > 1:
            _record(kind, _text(address[0]), address[1])
        else:
            _record(kind, str(address), None)
    elif event == "socket.getnameinfo":
        _record(kind, _text(arguments[0][0]), None)
    else:
        host = _text(arguments[0])
        if _is_name(host) or event == "socket.gethostbyaddr" and host:
            _record(kind, host, None)


def _record(kind: str, host: str, port: int | str | None) -> None:
    """Add an attempt to every watch; raise ConnectionBlocked if one of them blocks it."""
    if threading.get_ident() in _elsewhere:
        return
    location, through = _caller()
    refusals = []
    for active in _watches:
        # an empty address means this machine to a client, and every interface to a listener
        is_local = kind != "listen" if host == "" else _plain(host) in active.allow
        refused = active.block and not is_local
        attempt = Attempt(kind, host, port, location, through, not is_local, refused)
        active.attempts.append(attempt)
        refusals += [attempt] * refused
    if refusals:
        request = f"{kind} {refusals[0].address}"
        message = f"the watch lets nothing leave this machine: {request}"
        raise ConnectionBlocked(errno.EACCES, message)


def _text(host: object) -> str:
    if isinstance(host, (bytes, bytearray)):
        return host.decode(errors="replace")
    return "" if host is None else str(host)


def _plain(host: str) -> str:
    """Normalise an address: no zone, IPv4 inside IPv6 as IPv4, names in lower case."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower().rstrip(".")
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_name(host: str) -> bool:
    """Return whether a host is a name that needs a look-up."""
    if host in ("", "<broadcast>"):
        return False
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False


def _caller() -> tuple[str, tuple[str, ...]]:
    """Return the running line of the user's own code and the packages it went through."""
    packages: list[str] = []
    fallback = "unknown"
    frame = sys._getframe(1)
    while frame is not None:
        code, file = frame.f_code, os.path.normcase(frame.f_code.co_filename)
        package = _package(file)
        if package:
            packages[:0] = [package] if package not in packages else []
            fallback = f"{package}, {_line(file, frame.f_lineno, code.co_name)}"
        elif not (file.startswith((OWN_FILE, STANDARD_LIBRARY, "<frozen")) or _wraps(file)):
            return _line(file, frame.f_lineno, code.co_name), tuple(packages)
        frame = frame.f_back
    return fallback, tuple(packages)


def _wraps(file: str) -> bool:
    """Return whether a file is a site's own hook, which wraps calls but makes none."""
    return os.path.basename(file) in ("sitecustomize.py", "usercustomize.py")


def _package(file: str) -> str:
    """Return the installed package a file belongs to; "" for other files."""
    parts = file.replace("\\", "/").split("/")
    for directory in ("site-packages", "dist-packages"):
        if directory in parts[:-1]:
            return parts[parts.index(directory) + 1].removesuffix(".py")
    return ""


def _line(file: str, number: int, function: str) -> str:
    within = "" if function.startswith("<") else f", in {function}"
    if "ipykernel_" in file or file.startswith("<ipython-input"):
        return f"line {number} of a cell{within}"
    return f"{'/'.join(Path(file).parts[-2:])}:{number}{within}"


# --- The sandbox without a network ----------------------------------------------------------------

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000  # unshare(2)
GET_FLAGS, SET_FLAGS, IS_UP = 0x8913, 0x8914, 0x1  # netdevice(7)
SECUREBITS, NO_NEW_PRIVILEGES = 28, 38  # prctl(2)
ROOT_IS_NOBODY = 0x1 | 0x2  # capabilities(7): SECBIT_NOROOT, and locked
READY = b"ready\n"  # the network is gone, and the command comes next
LONGEST_OUTPUT = 10_000  # bytes of a command's output that are returned
LARGEST_FILE = 100_000_000  # bytes


@dataclass(frozen=True)
class RunResult:
    """The result of a run: state "ok", "error" or "time limit", and the end of the output."""

    state: str
    output: str

    @property
    def ok(self) -> bool:
        """Return whether the run ended without an error."""
        return self.state == "ok"


def run_without_network(
    command: Sequence[str],
    seconds: float = 60.0,
    memory_mb: int = 16_000,
    environment: Mapping[str, str] | None = None,
) -> RunResult:
    """Run a command with no network except a loopback interface of its own; wait for it.

    The command and its children, in any language, cannot send a packet out of the sandbox, nor
    reach this machine's ports. They run with your rights to files, without standard input and
    without root's capabilities. seconds: wall-clock limit. memory_mb: limit on address space, which
    is several times the memory in use, and far more if a GPU's driver starts. environment: by
    default this process's. Only the end of the output is returned.

    Raises CannotSeal if the system has no such sandbox; nothing is run then. Raises ValueError if
    the command is not a list of words, and FileNotFoundError or PermissionError if it cannot start.
    """
    if isinstance(command, str) or not command:
        raise ValueError(f"a command must be a list of words, not {command!r}")
    if sys.platform != "linux":
        raise CannotSeal(
            f"this sandbox needs Linux's network namespaces, and this is {sys.platform}. "
            "Nothing was run. watch() works here, with the gaps listed in its module"
        )
    limits = json.dumps({"seconds": int(seconds) + 1, "memory": memory_mb * 1_000_000})
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output_file:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", OWN_FILE, str(writing), limits, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output_file,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            with os.fdopen(reading, "rb") as pipe:
                report = pipe.read()  # READY alone once the command has taken over
            state = wait_for(process, seconds)
        finally:
            end_process(process)
        output = read_end(output_file)
    if report != READY:
        failure = report.removeprefix(READY) or json.dumps(
            {"step": "start", "number": 0, "words": f"it ended early: {output[-500:]}"}
        )
        _raise_failure(**json.loads(failure))
    return RunResult(state, output)


def wait_for(process: subprocess.Popen, seconds: float) -> str:
    """Return how a process ended within `seconds`: "ok", "error" or "time limit"."""
    try:
        return "ok" if process.wait(seconds) == 0 else "error"
    except subprocess.TimeoutExpired:
        return "time limit"


def end_process(process: subprocess.Popen) -> None:
    """Kill a process and, if the system has process groups, every child in its group."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # all of them had ended
    else:
        process.kill()
    process.wait()


def read_end(output_file: BinaryIO) -> str:
    """Return the last LONGEST_OUTPUT bytes of a file as text."""
    size = output_file.seek(0, os.SEEK_END)
    output_file.seek(max(0, size - LONGEST_OUTPUT))
    return output_file.read().decode("utf-8", "replace")


def _raise_failure(step: str, number: int, words: str) -> None:
    """Raise CannotSeal if the sandbox failed, or OSError if the command did not start."""
    if step == "command":
        raise OSError(number, os.strerror(number), words)
    reason = {
        ("namespace", errno.EPERM): "this system forbids new namespaces: a container's rules, or "
        "kernel.unprivileged_userns_clone = 0",
        ("namespace", errno.ENOSPC): "user.max_user_namespaces is reached, or 0",
        ("identity", errno.EPERM): "AppArmor allows a namespace and no use of it: "
        "kernel.apparmor_restrict_unprivileged_userns = 1",
    }.get((step, number), f"{words} ({step})")
    raise CannotSeal(f"no sandbox without a network here: {reason}. Nothing was run")


def _enter(writing: int, limits: dict, command: list[str]) -> None:
    """Leave every network in the new process, then become the command."""
    os.set_inheritable(writing, False)
    step, user, group = "namespace", os.getuid(), os.getgid()
    try:
        _leave_networks()
        step = "identity"
        _keep_identity(user, group)
        _start_loopback()
        _give_up_powers()
        step = "limits"
        _limit(limits)
        step = "command"
        os.write(writing, READY)
        os.execvp(command[0], command)
    except OSError as error:
        words = command[0] if step == "command" else str(error)
        failure = {"step": step, "number": error.errno, "words": words}
        os.write(writing, json.dumps(failure).encode())
    os._exit(1)


def _leave_networks() -> None:
    """Move this process into a new user namespace and an empty network namespace."""
    before = os.readlink("/proc/self/ns/net")
    if _libc().unshare(NEW_USER | NEW_NETWORK):
        raise _c_error()
    if os.readlink("/proc/self/ns/net") == before:
        raise OSError(errno.EINVAL, "the network namespace is still the old one")


def _keep_identity(user: int, group: int) -> None:
    """Map the same user and group, and no others, into the new namespace."""
    settings = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    for name, text in settings.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _start_loopback() -> None:
    """Bring `lo` up; raise OSError if any other interface is up."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:

        def flags(name: str, new: int | None = None) -> int:
            request = struct.pack("16sH14x", name.encode(), new or 0)  # struct ifreq
            reply = fcntl.ioctl(any_socket, GET_FLAGS if new is None else SET_FLAGS, request)
            return struct.unpack("16sH14x", reply)[1]

        flags("lo", flags("lo") | IS_UP)
        up = [name for _, name in socket.if_nameindex() if flags(name) & IS_UP]
        if up != ["lo"]:
            raise OSError(errno.ENOTEMPTY, f"interfaces that are up: {', '.join(up)}")


def _give_up_powers() -> None:
    """From the next exec on, take every capability from root's user id and from files."""
    libc = _libc()
    for option in ((SECUREBITS, ROOT_IS_NOBODY), (NO_NEW_PRIVILEGES, 1)):
        if libc.prctl(*option, 0, 0, 0):
            raise _c_error()


def _limit(limits: dict) -> None:
    import resource

    cores = os.cpu_count() or 1
    for kind, value in {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CPU: limits["seconds"] * cores,
        resource.RLIMIT_FSIZE: LARGEST_FILE,
        resource.RLIMIT_CORE: 0,
    }.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


# --- C's connect, and a remote machine ------------------------------------------------------------

LONGEST_MESSAGE = 65_536  # bytes
TIMEOUT = 5.0  # seconds for one message
SECOND_ADDRESSES = ("127.0.0.2", "::1")  # macOS has no 127.0.0.2 of its own


def _libc():
    import ctypes

    if os.name == "nt":
        return ctypes.WinDLL("ws2_32", use_last_error=True)
    return ctypes.CDLL(None, use_errno=True)


def _c_error() -> OSError:
    import ctypes

    number = ctypes.get_last_error() if os.name == "nt" else ctypes.get_errno()
    return OSError(number, os.strerror(number))


def connect_with_ctypes(host: str, port: int, message: bytes) -> None:
    """Post a message with C's connect through ctypes, which raises no audit event.

    It shows what a watch misses, so it accepts loopback addresses only. Raises ValueError for other
    addresses, and OSError if nothing listens.
    """
    address = ipaddress.ip_address(host)
    if not address.is_loopback:
        raise ValueError(f"{host} is no loopback address; this function is for loopback only")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    if address.version == 4:
        address_bytes = struct.pack("!H4s8x", port, address.packed)
    else:
        address_bytes = struct.pack("!HI16sI", port, 0, address.packed, 0)
    size = 2 + len(address_bytes)
    with_size = sys.platform not in ("linux", "win32")  # BSD's sockaddr, macOS's too
    header = struct.pack("BB", size, family) if with_size else struct.pack("=H", family)
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(None)
        if _libc().connect(connection.fileno(), header + address_bytes, size):
            raise _c_error()
        request_head = f"POST / HTTP/1.0\r\nContent-Length: {len(message)}\r\n\r\n"
        connection.sendall(request_head.encode() + message)
        connection.recv(1024)  # the message has arrived


class FakeRemote:
    """A remote machine played by a listener on this machine: `with FakeRemote() as remote: ...`.

    It listens on a second loopback address, which `watch` counts as outside although no packet
    leaves this machine. host, port: its address, for HTTP and for datagrams. heard: the messages
    that arrived, as text: the body of a request, or its path if it has no body. Raises OSError if
    the system has no second loopback address.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.host, self.port, self._tcp, self._udp = _listen()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeRemote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Return its address for HTTP, e.g. "http://127.0.0.2:8080"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop listening. Closing twice is safe."""
        self._over.set()
        self._thread.join()
        self._tcp.close()
        self._udp.close()

    def _serve(self) -> None:
        thread_id = threading.get_ident()
        _elsewhere.add(thread_id)
        while not self._over.is_set():
            for ready in select.select([self._tcp, self._udp], [], [], 0.05)[0]:
                try:
                    if ready is self._udp:
                        message, sender = ready.recvfrom(LONGEST_MESSAGE)
                        self.heard.append(message.decode(errors="replace"))
                        ready.sendto(b"heard", sender)
                    else:
                        self._answer(ready.accept()[0])
                except (OSError, ValueError):
                    continue  # a bad client does not stop the listener
        _elsewhere.discard(thread_id)

    def _answer(self, connection: socket.socket) -> None:
        """Read one HTTP request, record it and respond with 204."""
        connection.settimeout(TIMEOUT)
        with connection, connection.makefile("rb") as stream:
            request_line = stream.readline(LONGEST_MESSAGE).split()
            length = 0
            while (line := stream.readline(LONGEST_MESSAGE)).strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = min(int(value), LONGEST_MESSAGE)
            body = stream.read(length) or b" ".join(request_line[1:2])
            self.heard.append(body.decode(errors="replace"))
            connection.sendall(b"HTTP/1.0 204 Heard\r\n\r\n")


def _listen() -> tuple[str, int, socket.socket, socket.socket]:
    """Return (host, port, listener, datagram socket) on the first available second address."""
    last_error: OSError | None = None
    for host in SECOND_ADDRESSES:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for _ in range(10):  # a port that is free for TCP may be taken for datagrams
            tcp = socket.socket(family, socket.SOCK_STREAM)
            udp = socket.socket(family, socket.SOCK_DGRAM)
            try:
                tcp.bind((host, 0))
                udp.bind((host, tcp.getsockname()[1]))
                tcp.listen()
                return host, tcp.getsockname()[1], tcp, udp
            except OSError as error:
                last_error = error
                tcp.close()
                udp.close()
    raise OSError(
        errno.EADDRNOTAVAIL,
        f"no second loopback address on this machine, of {', '.join(SECOND_ADDRESSES)}",
    ) from last_error


if __name__ == "__main__":
    _enter(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
