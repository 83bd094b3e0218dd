"""Which server a notebook gets: a real one, the stand-in, one for all; and clear words."""

import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import openmodels
from openmodels.gguf import export
from openmodels.serving import app, connect


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of one's own, no Ollama on its usual port, and no stand-in left behind."""
    monkeypatch.setenv("OPENMODELS_CACHE", str(tmp_path))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    monkeypatch.setattr(connect, "DEFAULT", "http://127.0.0.1:9")
    yield
    connect.stop()


@pytest.fixture
def ollama_like():
    """Something that answers as Ollama does."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"version": "0.32.1"}')

        def log_message(self, *_):
            pass

    answering = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=answering.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{answering.server_port}"
    answering.shutdown()
    answering.server_close()


def test_a_busy_stand_in_is_waited_for(monkeypatch):
    class Late(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(1.5)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"version": "0.1", "stand_in": "yes"}')

        def log_message(self, *_):
            pass

    busy = HTTPServer(("127.0.0.1", 0), Late)
    threading.Thread(target=busy.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{busy.server_port}"
    note = export.cache() / "stand-in.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f'{{"address": "{address}", "pid": 0}}')
    monkeypatch.setattr(connect, "_start", lambda note: pytest.fail("started a second one"))
    assert connect.shared().address == address
    busy.shutdown()
    busy.server_close()
    note.unlink()


def test_a_real_ollama_is_used_where_it_answers(ollama_like, monkeypatch, capsys):
    monkeypatch.setenv("OLLAMA_HOST", ollama_like.removeprefix("http://"))
    openmodels.connect()
    assert capsys.readouterr().out == f"Ollama 0.32.1 at {ollama_like}: it answered\n"
    assert not (export.cache() / "stand-in.json").exists()


def test_without_one_the_stand_in_answers_and_is_shared(capsys):
    client = connect.connect()
    answer = client.chat(
        "mini-qwen", [{"role": "user", "content": "Who runs the bakery?"}],
        options={"temperature": 0, "num_predict": 20},
    )  # fmt: skip
    assert answer.message.content and answer.done
    first = (export.cache() / "stand-in.json").read_text("utf-8")
    connect.connect()
    assert (export.cache() / "stand-in.json").read_text("utf-8") == first
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1]
    assert lines[0].startswith("the course's stand-in for Ollama at http://127.0.0.1:")


def test_the_stand_in_can_be_stopped():
    assert connect.stop() is False
    started = connect.shared()
    assert connect.stop() is True
    assert connect.ask(started.address) is None and connect.stop() is False


def test_the_stand_in_asked_for_by_its_address_is_not_called_the_last_resort(capsys):
    address = connect.shared().address
    connect.connect(address)
    said = capsys.readouterr().out
    assert said == f"the course's stand-in for Ollama at {address}: asked for by its address\n"


def test_notebooks_that_start_at_once_share_one(capsys):
    found = []
    threads = [threading.Thread(target=lambda: found.append(connect.shared())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 3


@pytest.mark.parametrize("left", ["", "{}", "[1]", '{"address": "http://example.org:80"}',
                                  '{"address": "http://127.0.0.1:9", "pid": 1}'])  # fmt: skip
def test_a_note_left_behind_leads_nowhere(left):
    note = export.cache() / "stand-in.json"
    note.write_text(left, "utf-8")
    assert connect._noted(note) is None
    note.unlink()


def test_a_named_host_that_is_silent_is_an_error(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with pytest.raises(ConnectionError, match="127.0.0.1:9 does not answer; start Ollama there"):
        connect.connect()


def test_a_stand_in_that_dies_leaves_its_last_words(monkeypatch):
    monkeypatch.setattr(connect, "IDLE_MINUTES", "not a number")
    with pytest.raises(RuntimeError, match="did not start:(.|\n)*not a number"):
        connect.shared()


@pytest.mark.parametrize("host, address", {
    "127.0.0.1:11434": "http://127.0.0.1:11434", "localhost": "http://localhost:11434",
    "0.0.0.0": "http://127.0.0.1:11434", "http://127.0.0.1:8080/": "http://127.0.0.1:8080",
    "https://box": "https://box:443", ":8080": "http://127.0.0.1:8080", "::1": "http://[::1]:11434",
    "https://box/prefix/": "https://box:443/prefix", '" 127.0.0.1 "': "http://127.0.0.1:11434",
}.items())  # fmt: skip
def test_what_ollama_host_may_hold(host, address, monkeypatch):
    asked = []
    monkeypatch.setattr(connect, "ask", lambda url: asked.append(url))
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(ConnectionError):
        connect.connect()
    assert asked == [address]


@pytest.mark.parametrize("host", ["", " ", '""'])
def test_an_empty_ollama_host_names_no_server(host, monkeypatch, capsys):
    monkeypatch.setenv("OLLAMA_HOST", host)
    connect.connect()
    assert capsys.readouterr().out.endswith(": no Ollama answered\n")


def test_a_host_that_is_no_address_is_an_error_with_examples():
    with pytest.raises(ValueError, match="':abc' is not the address of a server .* Examples"):
        connect.connect(":abc")


def test_the_stand_in_outlives_ctrl_c_on_every_system():
    assert connect.detached(windows=False) == {"start_new_session": True}
    flags = connect.detached(windows=True)["creationflags"]
    names = {"CREATE_NEW_PROCESS_GROUP": 0x200, "CREATE_NO_WINDOW": 0x8000000}
    assert flags == sum(getattr(subprocess, name, value) for name, value in names.items())


def test_a_home_that_cannot_be_written_to_is_named_with_the_cure(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.delenv("OPENMODELS_CACHE")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "file" / "home"))
    with pytest.raises(OSError, match="Set OPENMODELS_CACHE to a folder of yours"):
        connect.connect()
    monkeypatch.setenv("OPENMODELS_CACHE", str(tmp_path / "cache"))  # for the fixture's end


def test_a_stand_in_that_nobody_asks_ends_by_itself(tmp_path):
    with app.Server(port=0, root=tmp_path, idle=0.2) as started:
        started._thread.join(30)
        assert not started._thread.is_alive()
        assert connect.ask(started.address) is None
