"""Keeps a Python process, and every Python it starts, from reaching any other machine.

Put this folder first on PYTHONPATH: Python imports a module of this name as it starts. A connection
to anything but this machine raises `Blocked` before a packet is sent, and its address goes to the
file named by OPENMODELS_OUTSIDE, so that a caught exception does not hide it.

An audit hook sees every socket of Python code, but not those of C++ libraries and other programs:
`loopback.py` is the proof for them.
"""

import ipaddress
import os
import socket
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

LOG = os.environ.get("OPENMODELS_OUTSIDE")
LOCAL_FAMILIES = [getattr(socket, name, None) for name in ("AF_UNIX", "AF_NETLINK")]


class Blocked(OSError):
    """A connection to another machine; the message names the address."""


def is_here(host: object) -> bool:
    """Whether a host's name or address means this machine itself, over loopback."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode(errors="replace")
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def refuse(address: object) -> None:
    """Write the address down and raise Blocked."""
    if LOG:
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(f"{address} from {' '.join(sys.orig_argv)[:200]}\n")
    raise Blocked(f"this test blocks every connection but loopback: {address}")


def check_address(used: socket.socket, address: object) -> None:
    """Raise Blocked unless a socket's address lies on this machine."""
    if used.family in LOCAL_FAMILIES or not isinstance(address, tuple) or is_here(address[0]):
        return
    refuse(f"{address[0]}:{address[1]}")


def check_host(host: object) -> None:
    """Raise Blocked for a look-up of anything but this machine: it would ask a name server."""
    if not is_here(host):
        refuse(host)


def hook(event: str, arguments: tuple) -> None:
    """Look at each audit event that names another party."""
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        check_address(*arguments)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        check_host(arguments[0])
    elif event == "socket.getnameinfo":
        check_host(arguments[0][0])


def before_lookup(method):
    """The socket's method, with its address checked before C code looks a name up for it."""

    def checked(self, *arguments):
        check_address(self, arguments[-1])
        return method(self, *arguments)

    return checked


def run_the_next_one() -> None:
    """Import the sitecustomize that this one hides, where there is one."""
    here = os.path.realpath(os.path.dirname(__file__))
    rest = [folder for folder in sys.path if os.path.realpath(folder) != here]
    spec = PathFinder.find_spec("sitecustomize", rest)
    if spec:
        spec.loader.exec_module(module_from_spec(spec))


for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, before_lookup(getattr(socket.socket, name)))
sys.addaudithook(hook)
run_the_next_one()
