"""Start the loopback interface of an empty network namespace, then become the given command.

    unshare --user --map-root-user --net python tests/offline/loopback.py COMMAND ...

There is no other interface in there: whatever the command and its children are written in, no
packet of theirs leaves the machine. Linux only.
"""

import fcntl
import os
import socket
import struct
import sys

GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 0x1  # netdevice(7)
REQUEST = "16sH14x"  # struct ifreq: the interface's name, its flags


def start_loopback() -> None:
    """Bring `lo` up. Raise OSError where another interface is up: this is no empty namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:

        def flags(name: str) -> int:
            request = struct.pack(REQUEST, name.encode(), 0)
            return struct.unpack(REQUEST, fcntl.ioctl(any_socket, GET_FLAGS, request))[1]

        others = [name for _, name in socket.if_nameindex() if name != "lo" and flags(name) & UP]
        if others:
            raise OSError(f"not an empty network namespace: {', '.join(others)} is up")
        request = struct.pack(REQUEST, b"lo", flags("lo") | UP)
        fcntl.ioctl(any_socket, SET_FLAGS, request)


if __name__ == "__main__":
    start_loopback()
    os.execvp(sys.argv[1], sys.argv[1:])
