"""The tool that finds old rows and dead or changed sources, on a web server of this machine."""

import datetime
import importlib
import json
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
refresh = importlib.import_module("refresh")

PAGE = "<html><head><style>p {{}}</style><script>if (1<2) n = {nonce}</script></head>{body}</html>"


class Site(BaseHTTPRequestHandler):
    """A web site whose pages a test can change."""

    pages: dict[str, tuple[int, dict, bytes]] = {}
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        if self.path == "/drip":  # a byte now and then, for ever
            return self.drip()
        status, headers, body = self.pages.get(self.path, (404, {}, b"no such page"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drip(self):
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass  # the reader has had enough

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CI", raising=False)
    Site.pages, Site.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def page(body: str, nonce: int = 1) -> tuple[int, dict, bytes]:
    text = PAGE.format(body=body, nonce=nonce)
    return 200, {"Content-Type": "text/html; charset=utf-8"}, text.encode()


def entry(*urls: str, name: str = "a row", day: str = "2026-01-01"):
    return refresh.Entry("models.csv", name, day, urls)


def test_every_row_and_config_is_an_entry():
    found = refresh.entries()
    assert {e.table for e in found} == {
        *("models.csv", "benchmarks.csv", "prices.csv", "hardware.csv", "claims.csv"),
        *("clauses.csv", "configs"),
    }
    assert "llama-4-scout · Groq" in [e.name for e in found]
    assert all(e.name and e.date_checked for e in found)


def test_old_entries_come_oldest_first():
    rows = [entry(day=day, name=day) for day in ("2026-08-01", "2026-05-01", "2026-08-02")]
    day = datetime.date(2026, 10, 31)
    assert [e.name for e in refresh.stale(rows, 90, day)] == ["2026-05-01", "2026-08-01"]
    assert refresh.stale(rows, 365, day) == []


def test_it_opens_no_connection_unless_told(monkeypatch, capsys):
    def refused(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    assert refresh.main(["--days", "100000"]) == 0
    assert f"0 of {len(refresh.entries())} entries" in capsys.readouterr().out
    assert refresh.main(["--days", "-100000"]) == 1  # as if long ago: everything is old
    assert "claims.csv      a2" in capsys.readouterr().out


def test_never_online_in_ci(monkeypatch, capsys):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(refresh, "check_online", lambda *_, **__: pytest.fail("went online"))
    with pytest.raises(SystemExit) as stopped:
        refresh.main(["--online"])
    assert stopped.value.code == 2
    assert "the variable CI is set" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        refresh.main(["--accept"])


def test_ok_changed_and_dead(site, tmp_path, capsys):
    Site.pages = {
        "/same": page("<p>Scout has 109B parameters.</p>"),
        "/moving": page("<p>5 dollars</p>"),
        "/file": (200, {"Content-Type": "text/csv"}, b"a,b\n1,2\n"),
        "/gone": (410, {}, b""),
        "/tired": (503, {}, b""),
    }
    names = ["same", "moving", "file", "gone", "tired", "absent"]
    rows = [entry(*(f"{site}/{name}" for name in names)), entry(f"{site}/gone", name="another")]
    state = tmp_path / "build" / "refresh.json"

    def states(accept=False):
        answers = refresh.check_online(rows, state, accept)
        return {url.rsplit("/", 1)[1]: answer.state for url, answer in answers.items()}

    bad = {"gone": "dead", "tired": "unreachable", "absent": "dead"}
    assert states() == {"same": "new", "moving": "new", "file": "new", **bad}
    assert set(json.loads(state.read_text())) == {f"{site}/{n}" for n in names[:3]}
    assert Site.asked.count("/gone") == 1  # cited twice, asked once
    shown = capsys.readouterr().out
    assert f"dead         {site}/gone  HTTP 410: Gone" in shown
    assert "cited by models.csv: a row and 1 more" in shown

    Site.pages["/same"] = page("\n <div>Scout has\n109B  parameters. </div>", nonce=2)
    Site.pages["/moving"] = page("<p>6 dollars</p>")
    Site.pages["/file"] = (200, {"Content-Type": "text/csv"}, b"a,b\n1,3\n")
    expected = {"same": "ok", "moving": "changed", "file": "changed", **bad}
    assert states() == expected
    assert states(accept=True) == expected  # still told, and taken as it is now
    assert states() == {"same": "ok", "moving": "ok", "file": "ok", **bad}


def test_online_from_the_command_line(site, monkeypatch, tmp_path, capsys):
    Site.pages = {"/here": page("<p>here</p>")}
    rows = [entry(f"{site}/here", day="2999-01-01")]
    monkeypatch.setattr(refresh, "entries", lambda: rows)
    options = ["--online", "--state", str(tmp_path / "refresh.json")]
    assert refresh.main(options) == 0
    assert "1 addresses: 1 new." in capsys.readouterr().out
    assert refresh.main(options) == 0
    assert "1 addresses: 1 ok." in capsys.readouterr().out
    Site.pages = {}
    assert refresh.main(options) == 1
    assert "1 addresses: 1 dead." in capsys.readouterr().out


def test_a_long_page_is_read_to_a_limit(site, monkeypatch):
    monkeypatch.setattr(refresh, "MAX_BYTES", 1000)
    plain = {"Content-Type": "text/plain"}
    Site.pages = {"/long": (200, plain, b"a" * 5000)}
    first = refresh.ask(f"{site}/long")
    assert first.fingerprint == refresh.fingerprint(b"a" * 1000, is_html=False)
    Site.pages = {"/long": (200, plain, b"a" * 1000 + b"b")}
    assert refresh.ask(f"{site}/long", first.fingerprint).state == "ok"


def test_a_page_that_never_ends_is_left(site):
    start = time.monotonic()
    answer = refresh.ask(f"{site}/drip", timeout=0.3)
    assert answer.state == "unreachable"
    assert answer.detail == "TimeoutError: reading the page took too long"
    assert time.monotonic() - start < 3


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answer = refresh.ask(f"http://127.0.0.1:{port}/", timeout=2)
    assert answer.state == "unreachable"


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://127.0.0.1/x", "data:,x", "nothing"])
def test_other_schemes_are_not_opened(url):
    assert refresh.ask(url) == refresh.Answer("dead", "not an http or https address")


@pytest.mark.parametrize("target", ["file:///etc/hosts", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_to_other_schemes_are_not_followed(site, target):
    Site.pages = {"/away": (302, {"Location": target}, b"")}
    answer = refresh.ask(f"{site}/away")
    assert answer.state == "unreachable"
    assert re.search("is not (followed|allowed)", answer.detail)


def test_redirects_to_a_page_are_followed(site):
    Site.pages = {
        "/old": (301, {"Location": "/new"}, b""),
        "/new": page("<p>moved</p>"),
        "/circle": (302, {"Location": "/circle"}, b""),
    }
    assert refresh.ask(f"{site}/old").fingerprint == refresh.ask(f"{site}/new").fingerprint != ""
    assert refresh.ask(f"{site}/circle").state == "unreachable"


def test_https_never_becomes_http():
    request = refresh.urllib.request.Request("https://example.org/a")
    with pytest.raises(refresh.urllib.error.URLError, match="from https to http, which is not"):
        refresh._Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/b")


def test_words_of_a_page_in_linear_time():
    for hostile in (b"<" * 500_000, b"<script" * 100_000, b"<script>" * 100_000):
        start = time.monotonic()
        refresh.fingerprint(hostile, is_html=True)
        assert time.monotonic() - start < 5
