"""Find what in the catalogue wants checking again: `python tools/refresh.py [--days N] [--online]`.

By itself it opens no connection: it lists the rows and configs that were last checked more than
`--days` days ago. With `--online`, which it refuses where the variable CI is set, it also asks
every source address whether it is still there and still says the same. What pages said is kept as
hashes in build/refresh.json; `--accept` replaces them by what is there now.

The exit status is 1 when something wants a look.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from openmodels import catalog, licences  # noqa: E402

STATE = ROOT / "build" / "refresh.json"
TIMEOUT = 15.0  # seconds, for the connection, for each wait and for the page
MAX_BYTES = 2_000_000  # of a page; what lies behind is neither fetched nor compared
GONE = (404, 410)
HEADERS = {"User-Agent": "openmodels-refresh", "Accept-Encoding": "identity"}
TOKEN = re.compile(r"<(/?)(script|style)\b[^<>]*>|<[^<>]*>|([^<]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A row or config of the catalogue: where it stands, when it was checked, what it cites."""

    table: str
    name: str
    date_checked: str
    source_urls: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What an address said: ok, new, changed, dead (it says so itself) or unreachable."""

    state: str
    detail: str = ""
    fingerprint: str = ""


def entries() -> list[Entry]:
    """Every row of every table, then every config."""
    tables = {
        "models.csv": (catalog.models(), "id"),
        "benchmarks.csv": (catalog.benchmarks(), "model benchmark reported_by"),
        "prices.csv": (catalog.prices(), "model provider tariff"),
        "hardware.csv": (catalog.hardware(), "id"),
        "claims.csv": (catalog.claims(), "id"),
        "clauses.csv": (licences.clauses(), "id"),
    }
    found = []
    for table, (rows, names) in tables.items():
        for row in rows:
            name = " · ".join(filter(None, (getattr(row, part) for part in names.split())))
            found.append(Entry(table, name, row.date_checked, row.source_urls))
    for path in sorted((catalog.DATA / "configs").glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        found.append(
            Entry("configs", path.stem, stored["date_checked"], tuple(stored["source_urls"]))
        )
    return found


def stale(found: Iterable[Entry], days: int, today: datetime.date) -> list[Entry]:
    """The entries last checked more than `days` days before `today`, oldest first."""
    limit = (today - datetime.timedelta(days=days)).isoformat()
    return sorted(
        (entry for entry in found if entry.date_checked < limit), key=lambda e: e.date_checked
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect from http or https to http or https, and never from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new != "https" and new != old:
            raise urllib.error.URLError(f"redirects from {old} to {new}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https; urllib's own also opens files, FTP and data addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def ask(url: str, known: str = "", timeout: float = TIMEOUT) -> Answer:
    """Fetch an address and compare it with the fingerprint `known` ("" for a new one)."""
    if urlsplit(url).scheme not in ("http", "https"):
        return Answer("dead", "not an http or https address")
    deadline = time.monotonic() + timeout
    try:
        request = urllib.request.Request(url, headers=HEADERS)
        with _opener().open(request, timeout=timeout) as response:
            seen = fingerprint(
                _body(response, deadline), response.headers.get_content_type() == "text/html"
            )
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            detail = f"HTTP {error.code}: {error.reason}"[:200]
            return Answer("dead" if error.code in GONE else "unreachable", detail)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ask the next one
        reason = getattr(error, "reason", error)
        return Answer("unreachable", f"{type(error).__name__}: {reason}"[:200])
    if not known:
        return Answer("new", fingerprint=seen)
    return Answer("ok" if seen == known else "changed", fingerprint=seen)


def _body(response, deadline: float) -> bytes:
    body = bytearray()
    while len(body) < MAX_BYTES and (piece := response.read1(65_536)):
        body += piece
        if time.monotonic() > deadline:
            raise TimeoutError("the page took too long")
    return bytes(body[:MAX_BYTES])


def fingerprint(body: bytes, is_html: bool) -> str:
    """A hash of a file, or of a page's words: scripts, styles, tags and spacing do not count."""
    if is_html:
        words, hidden = [], False
        for closing, name, text in TOKEN.findall(body.decode("utf-8", errors="replace")):
            if name:
                hidden = not closing
            elif not hidden:
                words += text.split()
        body = " ".join(words).encode()
    return hashlib.sha256(body).hexdigest()


def check_online(
    found: list[Entry], state: Path, accept: bool, timeout: float = TIMEOUT
) -> dict[str, Answer]:
    """Ask each address once and print each answer but "ok" and "new", with who cites it.

    Hashes of new addresses go to the file `state`; of changed ones only with `accept`.
    """
    known = json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {}
    cited: dict[str, list[Entry]] = {}
    for entry in found:
        for url in entry.source_urls:
            cited.setdefault(url, []).append(entry)
    answers = {}
    for url, by in cited.items():
        answer = answers[url] = ask(url, known.get(url, ""), timeout)
        if answer.state == "new" or (answer.state == "changed" and accept):
            known[url] = answer.fingerprint
        if answer.state not in ("ok", "new"):
            more = f" and {len(by) - 1} more" if len(by) > 1 else ""
            print(f"{answer.state:12} {url}  {answer.detail}")
            print(f"{'':12} cited by {by[0].table}: {by[0].name}{more}")
    state.parent.mkdir(parents=True, exist_ok=True)
    written = state.with_suffix(".part")
    written.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    written.replace(state)
    return answers


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=90, help="older than this (default: 90)")
    parser.add_argument("--online", action="store_true", help="ask the source addresses too")
    parser.add_argument("--accept", action="store_true", help="with --online: keep the new hashes")
    parser.add_argument("--state", type=Path, default=STATE, metavar="FILE", help="hashes seen")
    options = parser.parse_args(arguments)
    if options.accept and not options.online:
        parser.error("--accept belongs to --online")
    if options.online and os.environ.get("CI"):
        parser.error("--online is for a person's machine: the variable CI is set here")
    found, today = entries(), datetime.date.today()
    old = stale(found, options.days, today)
    for entry in old:
        print(f"{entry.date_checked}  {entry.table:15} {entry.name}")
    print(f"{len(old)} of {len(found)} entries were checked more than {options.days} days ago.")
    if not options.online:
        return 1 if old else 0
    answers = check_online(found, options.state, options.accept)
    count = Counter(answer.state for answer in answers.values())
    print(f"{len(answers)} addresses: {', '.join(f'{n} {state}' for state, n in count.items())}.")
    return 1 if old or count.keys() - {"ok", "new"} else 0


if __name__ == "__main__":
    sys.exit(main())
