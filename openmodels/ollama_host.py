"""Parse `OLLAMA_HOST`: the address at which a client reaches an Ollama server.

`parse` follows the official Python client (`ollama._client._parse_host`, ollama 0.6.3). `address`
also accepts what Ollama's own server accepts and the client does not: quotes and spaces around the
value, and a bare IPv6 address.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

DEFAULT_PORT = 11434
SCHEME_PORTS = {"http": 80, "https": 443}
# A server listens on these to be reached on every interface; Windows cannot connect to them.
ANY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def parse(host: str | None) -> str:
    """Return the URL that the official client derives from `host`; None and "" mean the default.

    Raises ValueError for a port that is no number below 65,536 and for unbalanced brackets.
    """
    host = host or ""
    scheme, _, location = host.partition("://")
    if not location:
        scheme, location = "http", host
        port = DEFAULT_PORT
    else:
        port = SCHEME_PORTS.get(scheme, DEFAULT_PORT)
    parts = urlsplit(f"{scheme}://{location}")
    name = parts.hostname or "127.0.0.1"
    path = parts.path.strip("/")
    return join(scheme, name, parts.port or port) + (f"/{path}" if path else "")


def join(scheme: str, name: str, port: int) -> str:
    """Return a URL of its parts; an IPv6 address gets its brackets."""
    location = f"[{name}]" if is_ipv6(name) else name
    return f"{scheme}://{location}:{port}"


def clean(host: str | None) -> str:
    """Return `host` without the quotes and spaces around it, a bare IPv6 address in brackets."""
    text = (host or "").strip("\"' \t\r\n")
    return f"[{text}]" if is_ipv6(text) else text


def address(host: str | None) -> str:
    """Return the URL at which a client reaches `host`, the value of `OLLAMA_HOST`.

    It equals `parse(clean(host))`, except that 0.0.0.0 and :: become the loopback address: a
    server listens on them, a client cannot connect to them on every system.

    Raises ValueError, with examples, for a value that is no address.
    """
    text = clean(host)
    try:
        url = parse(text)
        parts = urlsplit(url)
        loopback = ANY_INTERFACE.get(parts.hostname or "")
        if loopback is None:
            return url
        return join(parts.scheme, loopback, parts.port or DEFAULT_PORT) + parts.path
    except ValueError as error:
        raise ValueError(
            f"{host!r} is not the address of a server ({error}). Examples: 127.0.0.1:11434, "
            ":11434, [::1]:11434, https://ollama.example.org/prefix"
        ) from None


def is_loopback(url: str) -> bool:
    """Return whether the host of `url` is this machine: localhost, 127.0.0.0/8 or ::1."""
    name = urlsplit(url).hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_ipv6(name: str) -> bool:
    """Return whether `name` is an IPv6 address without brackets."""
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False
