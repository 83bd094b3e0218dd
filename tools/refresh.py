"""List what in the catalogue needs checking: `python tools/refresh.py [--days N] [--online]`.

By default it opens no connection: it lists the rows and configs that were last checked more than
`--days` days ago. With `--online`, it also fetches every source address and reports whether the
page still exists and still has the same text; it refuses to do so if the variable CI is set.
Hashes of the pages are stored in build/refresh.json; `--accept` replaces them with the current
ones.

The exit status is 1 if anything needs attention.
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
    """A row or config of the catalogue: its table, date of the last check, and sources."""

    table: str
    name: str
    date_checked: str
    source_urls: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The state of an address: ok, new, changed, dead (the server says so) or unreachable."""

    state: str
    detail: str = ""
    fingerprint: str = ""


def entries() -> list[Entry]:
    """Return every row of every table, then every config."""
    tables = {
        "models.csv": (catalog.models(), "id"),
        "benchmarks.csv": (catalog.benchmarks(), "model benchmark reported_by"),
        "prices.csv": (catalog.prices(), "model provider tariff"),
        "hardware.csv": (catalog.hardware(), "id"),
        "claims.csv": (catalog.claims(), "id"),
        "clauses.csv": (licences.clauses(), "id"),
    }
    result = []
    for table, (rows, names) in tables.items():
        for row in rows:
            name = " · ".join(filter(None, (getattr(row, part) for part in names.split())))
            result.append(Entry(table, name, row.date_checked, row.source_urls))
    for path in sorted((catalog.DATA / "configs").glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        result.append(
            Entry("configs", path.stem, stored["date_checked"], tuple(stored["source_urls"]))
        )
    return result


def stale(candidates: Iterable[Entry], days: int, today: datetime.date) -> list[Entry]:
    """Return the entries last checked more than `days` days before `today`, oldest first."""
    limit = (today - datetime.timedelta(days=days)).isoformat()
    return sorted(
        (entry for entry in candidates if entry.date_checked < limit), key=lambda e: e.date_checked
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects between http and https only, and never from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        old_scheme, new_scheme = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new_scheme != "https" and new_scheme != old_scheme:
            raise urllib.error.URLError(
                f"redirects from {old_scheme} to {new_scheme}, which is not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https; urllib's default also opens files and FTP."""
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


def ask(url: str, stored_hash: str = "", timeout: float = TIMEOUT) -> Answer:
    """Fetch an address and compare it with `stored_hash` ("" for a new address)."""
    if urlsplit(url).scheme not in ("http", "https"):
        return Answer("dead", "not an http or https address")
    deadline = time.monotonic() + timeout
    try:
        request = urllib.request.Request(url, headers=HEADERS)
        with _opener().open(request, timeout=timeout) as response:
            page_hash = fingerprint(
                _body(response, deadline), response.headers.get_content_type() == "text/html"
            )
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            detail = f"HTTP {error.code}: {error.reason}"[:200]
            return Answer("dead" if error.code in GONE else "unreachable", detail)
    except (OSError, http.client.HTTPException, ValueError) as error:  # go on with the next address
        reason = getattr(error, "reason", error)
        return Answer("unreachable", f"{type(error).__name__}: {reason}"[:200])
    if not stored_hash:
        return Answer("new", fingerprint=page_hash)
    return Answer("ok" if page_hash == stored_hash else "changed", fingerprint=page_hash)


def _body(response: http.client.HTTPResponse, deadline: float) -> bytes:
    body = bytearray()
    while len(body) < MAX_BYTES and (chunk := response.read1(65_536)):
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("reading the page took too long")
    return bytes(body[:MAX_BYTES])


def fingerprint(body: bytes, is_html: bool) -> str:
    """Return a hash of a file, or of a page's words without scripts, styles, tags and spacing."""
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
    candidates: list[Entry], state: Path, accept: bool, timeout: float = TIMEOUT
) -> dict[str, Answer]:
    """Fetch each address once and print every state except "ok" and "new", with who cites it.

    Hashes of new addresses are written to the file `state`; changed ones only with `accept`.
    """
    hashes = json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {}
    citing: dict[str, list[Entry]] = {}
    for entry in candidates:
        for url in entry.source_urls:
            citing.setdefault(url, []).append(entry)
    answers = {}
    for url, citations in citing.items():
        answer = answers[url] = ask(url, hashes.get(url, ""), timeout)
        if answer.state == "new" or (answer.state == "changed" and accept):
            hashes[url] = answer.fingerprint
        if answer.state not in ("ok", "new"):
            more = f" and {len(citations) - 1} more" if len(citations) > 1 else ""
            print(f"{answer.state:12} {url}  {answer.detail}")
            print(f"{'':12} cited by {citations[0].table}: {citations[0].name}{more}")
    state.parent.mkdir(parents=True, exist_ok=True)
    part_file = state.with_suffix(".part")
    part_file.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part_file.replace(state)
    return answers


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=90, help="maximum age in days (default: 90)")
    parser.add_argument("--online", action="store_true", help="also fetch the source addresses")
    parser.add_argument("--accept", action="store_true", help="with --online: store the new hashes")
    parser.add_argument("--state", type=Path, default=STATE, metavar="FILE", help="stored hashes")
    options = parser.parse_args(arguments)
    if options.accept and not options.online:
        parser.error("--accept needs --online")
    if options.online and os.environ.get("CI"):
        parser.error("--online is not allowed here: the variable CI is set")
    checked, today = entries(), datetime.date.today()
    outdated = stale(checked, options.days, today)
    for entry in outdated:
        print(f"{entry.date_checked}  {entry.table:15} {entry.name}")
    total, days = len(checked), options.days
    print(f"{len(outdated)} of {total} entries were checked more than {days} days ago.")
    if not options.online:
        return 1 if outdated else 0
    answers = check_online(checked, options.state, options.accept)
    count = Counter(answer.state for answer in answers.values())
    print(f"{len(answers)} addresses: {', '.join(f'{n} {state}' for state, n in count.items())}.")
    return 1 if outdated or count.keys() - {"ok", "new"} else 0


if __name__ == "__main__":
    sys.exit(main())
