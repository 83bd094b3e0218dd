"""The office desk: requests, replies, approvals and errors with a scripted office."""

import io
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from notebooks import ROOT
from PIL import Image
from test_drawing_pad import HOSTILE

from openmodels.harbour import sounds
from openmodels.serving import wav
from openmodels.widgets import OfficeDesk, office_desk, uploads
from openmodels.workflows import trace
from openmodels.workflows.calls import Usage
from openmodels.workflows.office_request import Call, Reply, Request, Source

NASTY = "<img src=x onerror=alert(1)>"
BERTH = {"ship": "Heron", "nights": 3}
CLIP = (sounds.CLIPS / "call-01.wav").read_bytes()


def png(size=(40, 30), mode="RGB") -> bytes:
    output = io.BytesIO()
    Image.new(mode, size).save(output, "PNG")
    return output.getvalue()


def echo(request: Request, _approve) -> Reply:
    """Return a reply with a source, a call, a cost and a trace."""
    return Reply(
        f"You sent: {request.text}",
        (Source("notice-0012", "The Heron lies at berth 7."),),
        (Call("get_berth", {"ship": "Heron"}, {"berth": 7}),),
        Usage(calls=2, prompt_tokens=310, completion_tokens=41),
        "ab" * 16,
    )


def booking(_request: Request, approve) -> Reply:
    """Book a berth if it is approved."""
    allowed = approve("book_berth", BERTH)
    state = "done" if allowed else "denied"
    return Reply(f"The booking is {state}.", calls=(Call("book_berth", BERTH, None, state),))


@pytest.fixture
def desk():
    return OfficeDesk(echo)


def send(desk: OfficeDesk, text: str, *buffers: bytes) -> None:
    desk._receive({"kind": "send", "text": text}, list(buffers))


def until(condition) -> None:
    """Wait until a thread has made a condition true."""
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "it never became true"
        time.sleep(0.01)


def approval(desk: OfficeDesk):
    until(lambda: desk.page.approvals.children)
    return desk.page.approvals.children[0]


def click(row, name: str) -> None:
    next(b for b in row.children[0].children[:2] if b.description == name).click()


# --- Requests and replies -------------------------------------------------------------------------


def test_a_reply_shows_text_sources_calls_cost_and_trace(desk):
    send(desk, "Where is the Heron? 苹果在哪里？")
    desk.wait()
    request, reply = desk.page.chat.entries
    assert (request["kind"], request["text"]) == ("request", "Where is the Heron? 苹果在哪里？")
    assert reply["text"] == "You sent: Where is the Heron? 苹果在哪里？"
    source = {"document": "notice-0012", "text": "The Heron lies at berth 7."}
    assert reply["sources"] == [source]
    call = {"line": 'get_berth(ship="Heron")', "state": "done", "result": '{"berth": 7}'}
    assert reply["calls"] == [call]
    assert reply["cost"].startswith("2 calls, 310 + 41 tokens, ")
    assert reply["trace"] == "ab" * 16 and desk.page.form.state == "ready"
    assert desk.replies[0].text == reply["text"]


def test_pictures_and_sounds_reach_the_office_verified():
    requests = []
    desk = OfficeDesk(lambda request, approve: requests.append(request) or Reply("seen"))
    desk._receive({"kind": "picture"}, [memoryview(png((400, 300), "RGBA"))])
    desk._receive({"kind": "sound"}, [memoryview(CLIP)])
    assert desk.page.form.attached == {"picture": "400 x 300 pixels", "sound": "1.6 s"}
    send(desk, "")
    desk.wait()
    [request] = requests
    assert uploads.decode_png(request.image).size == (400, 300)
    assert np.allclose(wav.decode(request.sound), wav.decode(CLIP), atol=1e-4)
    entry = desk.page.chat.entries[0]
    assert max(uploads.decode_png(entry["picture"]).size) == office_desk.THUMBNAIL
    assert entry["sound"] == "1.6 s"
    assert desk.page.form.attached == {}
    send(desk, "again")
    desk.wait()
    assert requests[1] == Request("again")


@pytest.mark.parametrize("value", [v for v, _ in HOSTILE.values() if isinstance(v, bytes)])
def test_a_broken_picture_is_not_added_and_the_desk_says_why(desk, value):
    desk._receive({"kind": "picture"}, [memoryview(png())])
    desk._receive({"kind": "picture"}, [memoryview(value)])
    assert desk.page.form.attached == {}
    assert desk.page.form.message.startswith("This picture cannot be read: ")


@pytest.mark.parametrize("content", [b"", b"RIFF", CLIP[:1000], png(), b"x" * 8_000_001])
def test_a_broken_sound_is_not_added_and_the_desk_says_why(desk, content):
    desk._receive({"kind": "sound"}, [memoryview(content)])
    assert desk.page.form.attached == {}
    assert desk.page.form.message.startswith("This sound cannot be read: ")


def test_what_is_attached_can_be_removed(desk):
    desk._receive({"kind": "picture"}, [memoryview(png())])
    desk._receive({"kind": "picture"}, [])
    assert desk.page.form.attached == {}
    send(desk, "")
    assert "the request is empty" in desk.page.form.message and desk.entries == []


@pytest.mark.parametrize(
    "content", [None, [], "send", {}, {"kind": "other"}, {"kind": ["send"]}, {"kind": "send"},
                {"kind": "send", "text": 7}, {"kind": "send", "text": " \n"},
                {"kind": "send", "text": "x" * 2_001}],
)  # fmt: skip
def test_broken_messages_send_nothing(desk, content):
    desk._receive(content, [])
    desk._receive({"kind": "sound"}, [memoryview(b"a"), memoryview(b"b")])
    assert desk.entries == [] and desk.page.form.state == "ready"
    assert "2 files instead of 1" in desk.page.form.message


def test_a_text_with_halves_of_characters_is_repaired(desk):
    send(desk, "a\ud800b\0c\u202ed")
    desk.wait()
    assert desk.entries[0]["text"] == "a?bc\\u202ed"


def test_a_long_reply_is_bounded():
    reply = Reply(
        "x" * 100_000,
        tuple(Source("d" * 1_000, "y" * 100_000) for _ in range(100)),
        tuple(Call("t", {"a": "z" * 100_000}, "r" * 100_000) for _ in range(50)),
    )
    entry = office_desk.reply_entry(reply)
    assert "92,000 characters are not shown" in entry["text"]
    assert len(entry["sources"]) == len(entry["calls"]) == office_desk.MAX_ITEMS
    assert entry["hidden"] == "70 sources and 20 tool calls"
    assert len(str(entry)) < 1_000_000


def test_the_oldest_messages_are_dropped(desk):
    for number in range(office_desk.MAX_ENTRIES):
        send(desk, f"request {number}")
        desk.wait()
    assert len(desk.page.chat.entries) == office_desk.MAX_ENTRIES
    assert desk.page.chat.entries[0]["text"] == f"request {office_desk.MAX_ENTRIES // 2}"


def test_the_page_cannot_set_what_python_shows(desk):
    desk.page.chat.set_state({"entries": [{"id": 1, "kind": "reply", "text": "forged"}]})
    send(desk, "true")
    desk.wait()
    assert [entry["kind"] for entry in desk.page.chat.entries] == ["request", "reply"]
    assert "forged" not in str(desk.page.chat.entries)


# --- A slow office, errors ------------------------------------------------------------------------


def test_a_slow_office_does_not_block_and_takes_one_request_at_a_time():
    gate = threading.Event()
    desk = OfficeDesk(lambda request, approve: Reply("done" if gate.wait(60) else "never"))
    send(desk, "slow")
    assert desk.page.form.state == "busy"
    send(desk, "second")
    assert "still works" in desk.page.form.message
    gate.set()
    desk.wait()
    assert [entry["text"] for entry in desk.entries] == ["slow", "done"]
    assert desk.page.form.state == "ready"


@pytest.mark.parametrize(
    ("office", "message"),
    [
        (lambda request, approve: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda request, approve: None, "TypeError: the office returned NoneType"),
        (lambda request, approve: "text", "TypeError: the office returned str"),
        (lambda request, approve: Reply(None), "TypeError: the reply's text is NoneType"),
        (lambda request, approve: Reply("a", calls=("no call",)), "AttributeError: "),
        (lambda request: Reply("a"), "TypeError: "),
        (lambda request, approve: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_an_error_of_the_office_is_shown_and_the_desk_goes_on(office, message):
    desk = OfficeDesk(office)
    send(desk, "hello")
    desk.wait()
    entry = desk.page.chat.entries[-1]
    assert entry["kind"] == "error" and entry["text"].startswith(message)
    assert "Traceback" in entry["detail"] and desk.page.form.state == "ready"
    desk.office = echo
    send(desk, "again")
    desk.wait()
    assert desk.entries[-1]["kind"] == "reply"


def test_an_office_is_a_function():
    with pytest.raises(TypeError, match="an office is a function, not str"):
        OfficeDesk("office")


# --- Approvals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "state"), [("Approve", "done"), ("Deny", "denied")])
def test_a_write_waits_for_a_person(name, state):
    desk = OfficeDesk(booking)
    send(desk, "Book a berth.")
    row = approval(desk)
    assert "book_berth(ship=&quot;Heron&quot;, nights=3)" in row.children[0].children[2].value
    assert desk.page.form.state == "waiting" and len(desk.entries) == 1
    click(row, name)
    desk.wait()
    assert desk.page.approvals.children == () and desk.page.form.state == "ready"
    assert desk.entries[-1]["text"] == f"The booking is {state}."
    assert desk.entries[-1]["calls"][0]["state"] == state


def test_the_first_decision_counts():
    desk = OfficeDesk(booking)
    send(desk, "Book a berth.")
    row = approval(desk)
    click(row, "Deny")
    click(row, "Approve")
    desk.wait()
    assert desk.entries[-1]["text"] == "The booking is denied."


def test_what_nobody_decides_is_denied(monkeypatch):
    monkeypatch.setattr(office_desk, "APPROVAL_SECONDS", 0)
    desk = OfficeDesk(booking)
    send(desk, "Book a berth.")
    desk.wait()
    assert desk.entries[-2]["text"].startswith("Denied, nobody decided: book_berth(")
    assert desk.entries[-1]["text"] == "The booking is denied."


def test_a_closed_desk_denies():
    desk = OfficeDesk(booking)
    send(desk, "Book a berth.")
    approval(desk)
    desk.close()
    desk.wait()
    assert desk.entries[-1]["text"] == "The booking is denied."


def test_a_call_that_is_too_long_to_read_is_denied():
    desk = OfficeDesk(lambda request, approve: Reply(str(approve("pay", {"a": "x" * 5_000}))))
    send(desk, "Pay.")
    desk.wait()
    assert desk.entries[-2]["text"].startswith("Denied, too long to read: pay(")
    assert desk.entries[-1]["text"] == "False"


def test_calls_side_by_side_wait_each_for_itself():
    def office(_request, approve):
        results = {}
        threads = [
            threading.Thread(target=lambda n=n: results.update({n: approve("pay", {"n": n})}))
            for n in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Reply(str(sorted(results.items())))

    desk = OfficeDesk(office)
    send(desk, "Pay twice.")
    until(lambda: len(desk.page.approvals.children) == 2)
    for row in desk.page.approvals.children:
        click(row, "Approve" if "n=1" in row.children[0].children[2].value else "Deny")
    desk.wait()
    assert desk.entries[-1]["text"] == "[(0, False), (1, True)]"


# --- Traces ---------------------------------------------------------------------------------------


@pytest.fixture
def traces(tmp_path):
    path = tmp_path / "office.db"
    with trace.Recorder(path) as recorder, recorder.chain("answer", "where?"):
        pass
    return path


def test_a_trace_opens_and_closes(traces):
    [summary] = trace.summaries(traces)
    desk = OfficeDesk(lambda request, approve: Reply("here", trace=summary.trace_id), traces)
    send(desk, "where?")
    desk.wait()
    desk._receive({"kind": "trace", "id": desk.entries[-1]["trace"]}, [])
    close, viewer = desk.page.trace.children
    assert viewer.trace_id == summary.trace_id
    close.click()
    assert desk.page.trace.children == ()


@pytest.mark.parametrize("identity", ["x", None, 7, NASTY])
def test_a_missing_trace_is_a_sentence(traces, tmp_path, identity):
    desk = OfficeDesk(echo, traces)
    desk._receive({"kind": "trace", "id": identity}, [])
    assert "has no trace" in desk.page.form.message and desk.page.trace.children == ()
    desk = OfficeDesk(echo, tmp_path / "none.db")
    desk._receive({"kind": "trace", "id": identity}, [])
    assert "OfficeDesk(office, traces=PATH)" in desk.page.form.message
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 100)
    desk = OfficeDesk(echo, broken)
    desk._receive({"kind": "trace", "id": identity}, [])
    assert "DatabaseError" in desk.page.form.message


def test_an_office_can_state_its_file_of_traces(traces):
    def office(request, approve):
        return Reply("here")

    office.traces = traces
    assert OfficeDesk(office).traces == traces


# --- Without a front end --------------------------------------------------------------------------


def test_ask_prints_a_reply(capsys):
    office_desk.ask(echo, text="Where is the Heron?")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "You sent: Where is the Heron?",
        "Source notice-0012: The Heron lies at berth 7.",
        'Tool get_berth(ship="Heron") - done: {"berth": 7}',
    ]
    assert lines[3].startswith("Cost 2 calls, 310 + 41 tokens, ")
    assert lines[3].endswith(f"; trace {'ab' * 16}")


def test_ask_denies_writes_unless_a_function_approves(capsys):
    office_desk.ask(booking, "Book a berth.")
    text = capsys.readouterr().out
    assert 'denied: book_berth(ship="Heron", nights=3)' in text
    assert "Pass approve=lambda name, arguments: True" in text
    assert "The booking is denied." in text
    office_desk.ask(booking, "Book a berth.", approve=lambda name, arguments: name == "book_berth")
    assert "The booking is done." in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["path", "bytes", "object"])
def test_ask_takes_files_bytes_and_objects(kind, tmp_path, capsys):
    def office(request, _approve):
        assert uploads.decode_png(request.image).size == (40, 30)
        return Reply(f"{len(wav.decode(request.sound))} samples")

    (tmp_path / "a.png").write_bytes(png())
    values = {
        "path": (tmp_path / "a.png", str(sounds.CLIPS / "call-01.wav")),
        "bytes": (png(), CLIP),
        "object": (Image.new("RGB", (40, 30)), wav.decode(CLIP)),
    }
    office_desk.ask(office, image=values[kind][0], sound=values[kind][1])
    assert capsys.readouterr().out.startswith(f"{len(wav.decode(CLIP))} samples\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the request is empty"),
        ({"text": "x" * 2_001}, "2,001 characters"),
        ({"image": b"GIF89a"}, "not a PNG file"),
        ({"sound": png()}, "a WAV file is needed"),
        ({"sound": np.zeros(16_000 * 31, np.float32)}, "31.0 s"),
    ],
)
def test_ask_refuses_what_it_cannot_read(options, message):
    with pytest.raises(ValueError, match=message):
        office_desk.ask(echo, **options)


def test_an_error_of_the_office_reaches_the_caller_of_ask():
    with pytest.raises(ZeroDivisionError):
        office_desk.ask(lambda request, approve: 1 / 0, "hello")
    with pytest.raises(TypeError, match="the office returned NoneType"):
        office_desk.ask(lambda request, approve: None, "hello")


def test_a_terminal_gets_no_control_sequences(capsys):
    office_desk.ask(lambda request, approve: Reply("a\x1b[2Jb\u202ec"), "hello")
    assert capsys.readouterr().out.startswith("a\\x1b[2Jb\\u202ec\n")


def test_the_text_for_pages_without_a_kernel_is_escaped(desk):
    send(desk, NASTY)
    desk.wait()
    data, _ = desk._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "ask(office, text=" in data["text/plain"] and NASTY in data["text/plain"]
    assert "&lt;img" in data["text/html"] and "<img" not in data["text/html"]


def test_without_anywidget_the_desk_is_a_text():
    code = """
import sys
sys.modules["anywidget"] = None
from openmodels.widgets import OfficeDesk
from openmodels.widgets.office_desk import ask
from openmodels.workflows.office_request import Reply
desk = OfficeDesk(lambda request, approve: Reply(str(approve("pay", {}))))
print(desk)
assert "widget-view" not in str(desk._repr_mimebundle_()[0])
desk.submit("hello"); desk.wait()
print(desk.entries[-1]["text"])
ask(desk.office, "hello", approve=lambda name, arguments: True)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("The office desk needs JupyterLab")
    assert run.stdout.splitlines()[-4:-1] == ["False", "approved: pay()", "True"]


def test_script_and_style_load_nothing(desk):
    state = desk.page.form.get_state()
    assert "export default" in state["_esm"] and "class Microphone" in state["_esm"]
    for text in (state["_esm"], state["_css"]):
        assert "import {" not in text and "url(" not in text and "http:" not in text
