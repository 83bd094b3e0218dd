"""What leaves this machine: a watch on Python's sockets, and a room that has no network.

`watch()` notes what Python code of this process asks of other machines, on any system, and refuses
it if told to. `sealed(command)` runs a program where there is no interface but loopback; Linux
only. `FakeRemote` plays the outside world on a second loopback address, so that a leak can be shown
without one.

Each misses something, and the tests show what. The watch does not see sockets of C code (ctypes,
extension modules), other processes, connections older than itself, and on Windows those of asyncio,
which connects by ConnectEx, without an audit event. The sealed room does not close Unix sockets
that have a path, nor files: a program outside can pass on what it finds there.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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
_elsewhere: set[int] = set()  # threads that play another machine


class ConnectionBlocked(PermissionError):
    """A connection, datagram or look-up that a watch did not let pass; the message names it."""


class CannotSeal(RuntimeError):
    """This system gives no room without a network, and nothing was run. The message says why."""


# --- The watch ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """One thing that Python code asked of the network."""

    kind: str  # connect, datagram, look-up, or listen: an address others may connect to
    host: str
    port: int | str | None  # None for a look-up of a name alone
    where: str  # the line of code, outside the standard library and installed packages
    through: tuple[str, ...]  # the packages that line went through, the first one called first
    outside: bool  # not on the list of the watch
    refused: bool

    @property
    def address(self) -> str:
        """`127.0.0.1:8080`, `[::1]:8080`, or a name."""
        host = f"[{self.host}]" if ":" in self.host else self.host or "every address"
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        through = f", through {', '.join(self.through)}" if self.through else ""
        refused = ", refused" if self.refused else ""
        return f"{self.kind} {self.address}{refused}: {self.where}{through}"


@dataclass
class Watch:
    """What a watch has noted so far; `outside` is the part that did not mean this machine."""

    allow: frozenset[str]
    block: bool
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def outside(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.outside]

    def __str__(self) -> str:
        count = f"{len(self.attempts)} noted, {len(self.outside)} to the outside"
        return "\n".join([count, *map(str, self.attempts)])


@contextmanager
def watch(block: bool = False, allow: Sequence[str] = LOOPBACK) -> Iterator[Watch]:
    """Note what Python code of this process, in any thread, asks of the network meanwhile.

    allow: addresses, and names, that count as this machine; by default 127.0.0.1 and nothing else,
    not even "localhost", which is a name to look up: for a client that uses it, allow
    ("127.0.0.1", "::1", "localhost"). block: refuse everything else with `ConnectionBlocked`, an
    OSError, before a packet is sent; a library may swallow it, the note stays.

    A look-up of a numeric address asks nobody and is not noted. What is missed: see the module.
    Example: `with watch() as seen: answer()`, then `seen.outside`.
    """
    global _watches
    mine = Watch(frozenset(map(_plain, allow)), block)
    with _changing:
        _install()
        _watches += (mine,)
    try:
        yield mine
    finally:
        with _changing:
            _watches = tuple(one for one in _watches if one is not mine)


def _install() -> None:
    """Hook into Python once; an audit hook cannot be taken out again, and rests without watches."""
    global _installed
    if _installed:
        return
    for name, place in {
        "connect": 0,
        "connect_ex": 0,
        "bind": 0,
        "sendto": -1,
        "sendmsg": 3,
    }.items():
        if hasattr(socket.socket, name):  # Windows has no sendmsg
            setattr(socket.socket, name, _before_lookup(getattr(socket.socket, name), place))
    sys.addaudithook(_hook)
    _installed = True


def _before_lookup(method, place: int):
    """The socket's method; a name in its address is noted before C code looks it up unheard."""

    @functools.wraps(method)
    def checked(self, *arguments):
        if _watches and self.family in (socket.AF_INET, socket.AF_INET6):
            address = arguments[place] if len(arguments) > max(place, 0) else None
            host = _text(address[0]) if isinstance(address, tuple) and address else ""
            if _is_name(host):
                _note("look-up", host, None)
        return method(self, *arguments)

    return checked


def _hook(event: str, arguments: tuple) -> None:
    """Note each audit event that names another party."""
    if not _watches or event not in EVENTS:
        return
    kind = EVENTS[event]
    if kind != "look-up":
        used, address = arguments
        if used.family in LOCAL_FAMILIES or address is None:
            return
        if isinstance(address, tuple) and len(address) > 1:
            _note(kind, _text(address[0]), address[1])
        else:
            _note(kind, str(address), None)
    elif event == "socket.getnameinfo":
        _note(kind, _text(arguments[0][0]), None)
    else:
        host = _text(arguments[0])
        if _is_name(host) or event == "socket.gethostbyaddr" and host:
            _note(kind, host, None)


def _note(kind: str, host: str, port: int | str | None) -> None:
    """Write an attempt into every watch; raise Refused if one of them blocks it."""
    if threading.get_ident() in _elsewhere:
        return
    where, through = _caller()
    refusals = []
    for one in _watches:
        # an empty address means this machine to a client, and every interface to a listener
        inside = kind != "listen" if host == "" else _plain(host) in one.allow
        refused = one.block and not inside
        attempt = Attempt(kind, host, port, where, through, not inside, refused)
        one.attempts.append(attempt)
        refusals += [attempt] * refused
    if refusals:
        what = f"{kind} {refusals[0].address}"
        raise ConnectionBlocked(errno.EACCES, f"the watch lets nothing leave this machine: {what}")


def _text(host: object) -> str:
    if isinstance(host, (bytes, bytearray)):
        return host.decode(errors="replace")
    return "" if host is None else str(host)


def _plain(host: str) -> str:
    """One spelling for each address: no zone, IPv4 inside IPv6 as IPv4, names in lower case."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower().rstrip(".")
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_name(host: str) -> bool:
    """Whether somebody may have to be asked which address this is."""
    if host in ("", "<broadcast>"):
        return False
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False


def _caller() -> tuple[str, tuple[str, ...]]:
    """(the line of one's own code that is running, the packages it went through)."""
    packages: list[str] = []
    last = "unknown"
    frame = sys._getframe(1)
    while frame is not None:
        code, file = frame.f_code, os.path.normcase(frame.f_code.co_filename)
        package = _package(file)
        if package:
            packages[:0] = [package] if package not in packages else []
            last = f"{package}, {_line(file, frame.f_lineno, code.co_name)}"
        elif not (file.startswith((OWN_FILE, STANDARD_LIBRARY, "<frozen")) or _wraps(file)):
            return _line(file, frame.f_lineno, code.co_name), tuple(packages)
        frame = frame.f_back
    return last, tuple(packages)


def _wraps(file: str) -> bool:
    """Whether a file is a site's own hook: it wraps others' calls and makes none."""
    return os.path.basename(file) in ("sitecustomize.py", "usercustomize.py")


def _package(file: str) -> str:
    """The installed package a file belongs to; "" for other files."""
    parts = file.replace("\\", "/").split("/")
    for place in ("site-packages", "dist-packages"):
        if place in parts[:-1]:
            return parts[parts.index(place) + 1].removesuffix(".py")
    return ""


def _line(file: str, number: int, function: str) -> str:
    within = "" if function.startswith("<") else f", in {function}"
    if "ipykernel_" in file or file.startswith("<ipython-input"):
        return f"line {number} of a cell{within}"
    return f"{'/'.join(Path(file).parts[-2:])}:{number}{within}"


# --- The sealed room ------------------------------------------------------------------------------

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000  # unshare(2)
GET_FLAGS, SET_FLAGS, IS_UP = 0x8913, 0x8914, 0x1  # netdevice(7)
SECUREBITS, NO_NEW_PRIVILEGES = 28, 38  # prctl(2)
ROOT_IS_NOBODY = 0x1 | 0x2  # capabilities(7): SECBIT_NOROOT, and locked
READY = b"ready\n"  # the room is closed, and the command comes next
LONGEST_OUTPUT = 10_000  # characters kept of what a command printed
LARGEST_FILE = 100_000_000  # bytes


@dataclass(frozen=True)
class Sealed:
    """How a command ended in the sealed room: "ok", "error" or "time limit"; what it printed."""

    state: str
    output: str

    @property
    def ok(self) -> bool:
        return self.state == "ok"


def run_without_network(
    command: Sequence[str],
    seconds: float = 60.0,
    memory_mb: int = 16_000,
    environment: Mapping[str, str] | None = None,
) -> Sealed:
    """Run a command where the only network is a loopback interface of its own; wait for it.

    It and its children, whatever they are written in, have no way to a packet that leaves, nor to
    this machine's own ports. They run with your rights to files, without standard input and without
    any of root's powers. seconds: by the clock. memory_mb: of addresses, which are several times
    the memory in use, and far more where a GPU's driver starts. environment: this process's where
    left out. Of the output the end is kept.

    Raises CannotSeal where the system allows no such room, and then runs nothing; FileNotFoundError
    or PermissionError for a command that cannot be started.
    """
    if isinstance(command, str) or not command:
        raise ValueError(f"a command is a list of words, not {command!r}")
    if sys.platform != "linux":
        raise CannotSeal(
            f"a sealed room needs Linux's network namespaces, and this is {sys.platform}. "
            "Nothing was run. watch() works here, with the gaps it names"
        )
    wishes = json.dumps({"seconds": int(seconds) + 1, "memory": memory_mb * 1_000_000})
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as printed:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", OWN_FILE, str(writing), wishes, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            with os.fdopen(reading, "rb") as pipe:
                told = pipe.read()  # READY alone once the command has taken over
            state = "ok" if process.wait(seconds) == 0 else "error"
        except subprocess.TimeoutExpired:
            state = "time limit"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # all of them had ended
            process.wait()
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(0, size - LONGEST_OUTPUT))
        output = printed.read().decode("utf-8", "replace")
    if told != READY:
        trouble = told.removeprefix(READY) or json.dumps(
            {"step": "start", "number": 0, "words": f"it ended early: {output[-500:]}"}
        )
        _complain(**json.loads(trouble))
    return Sealed(state, output)


def _complain(step: str, number: int, words: str) -> None:
    """Raise what kept the room from opening, or the command from starting."""
    if step == "command":
        raise OSError(number, os.strerror(number), words)
    why = {
        ("namespace", errno.EPERM): "this system forbids new namespaces: a container's rules, or "
        "kernel.unprivileged_userns_clone = 0",
        ("namespace", errno.ENOSPC): "user.max_user_namespaces is reached, or 0",
        ("identity", errno.EPERM): "AppArmor allows a namespace and no use of it: "
        "kernel.apparmor_restrict_unprivileged_userns = 1",
    }.get((step, number), f"{words} ({step})")
    raise CannotSeal(f"no room without a network here: {why}. Nothing was run")


def _enter(writing: int, wishes: dict, command: list[str]) -> None:
    """In the new process: leave every network behind, then become the command."""
    os.set_inheritable(writing, False)
    step, user, group = "namespace", os.getuid(), os.getgid()
    try:
        _leave_networks()
        step = "identity"
        _keep_identity(user, group)
        _start_loopback()
        _give_up_powers()
        step = "limits"
        _limit(wishes)
        step = "command"
        os.write(writing, READY)
        os.execvp(command[0], command)
    except OSError as error:
        words = command[0] if step == "command" else str(error)
        told = {"step": step, "number": error.errno, "words": words}
        os.write(writing, json.dumps(told).encode())
    os._exit(1)


def _leave_networks() -> None:
    """Move this process into a user namespace and an empty network namespace of its own."""
    before = os.readlink("/proc/self/ns/net")
    if _libc().unshare(NEW_USER | NEW_NETWORK):
        raise _c_error()
    if os.readlink("/proc/self/ns/net") == before:
        raise OSError(errno.EINVAL, "the network namespace is still the old one")


def _keep_identity(user: int, group: int) -> None:
    """Be the same user and group in the new namespace, and nobody else in it."""
    told = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    for name, text in told.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _start_loopback() -> None:
    """Bring `lo` up; OSError where any other interface is up."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:

        def flags(name: str, new: int | None = None) -> int:
            request = struct.pack("16sH14x", name.encode(), new or 0)  # struct ifreq
            answer = fcntl.ioctl(any_socket, GET_FLAGS if new is None else SET_FLAGS, request)
            return struct.unpack("16sH14x", answer)[1]

        flags("lo", flags("lo") | IS_UP)
        up = [name for _, name in socket.if_nameindex() if flags(name) & IS_UP]
        if up != ["lo"]:
            raise OSError(errno.ENOTEMPTY, f"interfaces that are up: {', '.join(up)}")


def _give_up_powers() -> None:
    """From the next exec on, root's number gives no capability, and no file does."""
    libc = _libc()
    for wish in ((SECUREBITS, ROOT_IS_NOBODY), (NO_NEW_PRIVILEGES, 1)):
        if libc.prctl(*wish, 0, 0, 0):
            raise _c_error()


def _limit(wishes: dict) -> None:
    import resource

    cores = os.cpu_count() or 1
    for kind, value in {
        resource.RLIMIT_AS: wishes["memory"],
        resource.RLIMIT_CPU: wishes["seconds"] * cores,
        resource.RLIMIT_FSIZE: LARGEST_FILE,
        resource.RLIMIT_CORE: 0,
    }.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


# --- Ways past Python, and the outside world ------------------------------------------------------

LONGEST_MESSAGE = 65_536  # bytes
PATIENCE = 5.0  # seconds for one message
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
    """Post a message by calling C's connect through ctypes, which no audit event announces.

    Here to show what a watch misses, so it takes a loopback address only: ValueError for others.
    OSError where nobody listens.
    """
    address = ipaddress.ip_address(host)
    if not address.is_loopback:
        raise ValueError(f"{host} is no loopback address, and this is for showing only")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    if address.version == 4:
        rest = struct.pack("!H4s8x", port, address.packed)
    else:
        rest = struct.pack("!HI16sI", port, 0, address.packed, 0)
    size = 2 + len(rest)
    with_size = sys.platform not in ("linux", "win32")  # BSD's sockaddr, macOS's too
    begin = struct.pack("BB", size, family) if with_size else struct.pack("=H", family)
    with socket.socket(family, socket.SOCK_STREAM) as plain:
        plain.settimeout(None)
        if _libc().connect(plain.fileno(), begin + rest, size):
            raise _c_error()
        head = f"POST / HTTP/1.0\r\nContent-Length: {len(message)}\r\n\r\n"
        plain.sendall(head.encode() + message)
        plain.recv(1024)  # it has been heard


class FakeRemote:
    """The outside world, played by a listener on this machine: `with Outside() as outside: ...`.

    It stands on a second loopback address, which `watch` counts as outside and no packet leaves.
    host, port: where it listens, for HTTP and for datagrams. heard: the messages that arrived, as
    text: the body of a request, or its path if it has none. OSError where the system has no second
    loopback address.
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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop listening. Closing twice does no harm."""
        self._over.set()
        self._thread.join()
        self._tcp.close()
        self._udp.close()

    def _serve(self) -> None:
        me = threading.get_ident()
        _elsewhere.add(me)
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
                    continue  # one bad caller is not the end of the world
        _elsewhere.discard(me)

    def _answer(self, caller: socket.socket) -> None:
        """Hear one HTTP request and answer it with 204."""
        caller.settimeout(PATIENCE)
        with caller, caller.makefile("rb") as text:
            first = text.readline(LONGEST_MESSAGE).split()
            length = 0
            while (line := text.readline(LONGEST_MESSAGE)).strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = min(int(value), LONGEST_MESSAGE)
            body = text.read(length) or b" ".join(first[1:2])
            self.heard.append(body.decode(errors="replace"))
            caller.sendall(b"HTTP/1.0 204 Heard\r\n\r\n")


def _listen() -> tuple[str, int, socket.socket, socket.socket]:
    """(host, port, listener, datagram socket) on the first second address this system has."""
    problem: OSError | None = None
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
                problem = error
                tcp.close()
                udp.close()
    raise OSError(
        errno.EADDRNOTAVAIL,
        f"no second loopback address on this machine, of {', '.join(SECOND_ADDRESSES)}",
    ) from problem


if __name__ == "__main__":
    _enter(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
