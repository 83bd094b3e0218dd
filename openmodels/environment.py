"""Repair environment variables with which `import ollama` or `import openai` would raise.

Both packages build an HTTP client of httpx while they are imported, and httpx reads the proxies and
the certificate files then; the client of Ollama reads `OLLAMA_HOST`. The course itself talks to
127.0.0.1 only and needs no proxy. `import openmodels` applies the repairs to its own process.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from openmodels import ollama_host

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
HTTP_SCHEMES = ("http", "https")
SOCKS_SCHEMES = ("socks5", "socks5h")


class Repair(NamedTuple):
    """A variable to change: its new value, or None to remove it, and the reason in words."""

    name: str
    value: str | None
    reason: str


def repairs(values: Mapping[str, str]) -> list[Repair]:
    """Return what has to change in the environment `values`; empty if nothing has to."""
    return [
        repair
        for name, value in values.items()
        for repair in (*_proxy(name, value), *_no_proxy(name, value), *_ollama(name, value))
    ] + list(_certificates(values))


def apply(values: MutableMapping[str, str] = os.environ) -> list[str]:
    """Repair `values` in place and return one line for each variable that changed."""
    lines = []
    for name, value, reason in repairs(values):
        if value is None:
            values.pop(name, None)
            lines.append(f"{name} is ignored here: {reason}")
        else:
            values[name] = value
            lines.append(f"{name} is {value!r} here: {reason}")
    return lines


def report(values: MutableMapping[str, str] = os.environ) -> None:
    """Repair `values` in place and print what changed to standard error."""
    for line in apply(values):
        print(line, file=sys.stderr)


def _proxy(name: str, value: str) -> Iterator[Repair]:
    if name.lower() not in PROXIES or not value:
        return
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        scheme, _ = parts.scheme, parts.port
    except ValueError as error:
        yield Repair(name, None, f"it is not the address of a proxy ({error})")
        return
    if scheme in SOCKS_SCHEMES and importlib.util.find_spec("socksio") is None:
        reason = "a SOCKS proxy needs the package socksio (pip install socksio)"
        yield Repair(name, None, reason)
    elif scheme not in HTTP_SCHEMES + SOCKS_SCHEMES:
        yield Repair(name, None, f"httpx does not support {scheme}:// proxies")


def _no_proxy(name: str, value: str) -> Iterator[Repair]:
    if name.lower() != "no_proxy":
        return
    entries = [entry.strip() for entry in value.split(",")]
    if "*" in entries:
        return
    readable = [_no_proxy_entry(entry) for entry in entries]
    if readable != entries:
        reason = f"httpx cannot read {value!r}"
        yield Repair(name, ",".join(filter(None, readable)) or None, reason)


def _no_proxy_entry(entry: str) -> str:
    """Return an entry of NO_PROXY as httpx reads it; "" if it cannot."""
    inside = entry.removeprefix("[").removesuffix("]").removesuffix("/128")
    if ollama_host.is_ipv6(inside):
        return inside
    if ollama_host.is_ipv6(inside.split("/")[0]):
        return ""  # a range of IPv6 addresses
    if "://" not in entry and "[" in entry:
        return ""
    try:
        _ = urlsplit(entry if "://" in entry else f"all://{entry}").port
    except ValueError:
        return ""
    return entry


def _ollama(name: str, value: str) -> Iterator[Repair]:
    if name == "OLLAMA_API_KEY" and not value.isascii():
        yield Repair(name, None, "an HTTP header cannot carry its characters")
    if name != "OLLAMA_HOST":
        return
    try:
        ollama_host.address(value)
    except ValueError as error:
        yield Repair(name, None, str(error))
        return
    text = ollama_host.clean(value)
    if text != value:
        yield Repair(name, text or None, "Ollama's client cannot read it as it is written")


def _certificates(values: Mapping[str, str]) -> Iterator[Repair]:
    file = values.get("SSL_CERT_FILE")
    if file and not Path(file).is_file():
        yield Repair("SSL_CERT_FILE", None, f"there is no file {file}")
    log = values.get("SSLKEYLOGFILE")
    if log and not Path(log).parent.is_dir():
        yield Repair("SSLKEYLOGFILE", None, f"there is no folder {Path(log).parent}")
