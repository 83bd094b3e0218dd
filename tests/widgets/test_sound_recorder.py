"""The sound recorder: bytes of any kind in Python, and the page with a fake microphone."""

import functools
import http.server
import json
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright
from test_browser import QUIET_CHROMIUM, as_root, chromium

from openmodels import widgets
from openmodels.harbour import sounds
from openmodels.serving import wav
from openmodels.widgets import sound_recorder

CLIP = (sounds.CLIPS / "call-01.wav").read_bytes()


def header(rate=16_000, channels=1, bits=16, codec=1, size=64) -> bytes:
    """Return a WAV file's header that states `size` bytes of sound."""
    frame = channels * bits // 8
    layout = struct.pack("<HHIIHH", codec, channels, rate, rate * frame, frame, bits)
    chunks = b"fmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + size) + b"WAVE" + chunks


@pytest.fixture
def recorder():
    return widgets.SoundRecorder(ask=lambda samples: f"{len(samples)} samples")


# --- Python ---------------------------------------------------------------------------------------


def test_there_is_no_sound_at_first(recorder):
    assert recorder.samples.shape == (0,) and recorder.samples.dtype == np.float32
    assert recorder.ask() == "" and recorder.message == sound_recorder.HELP


def test_a_wav_file_becomes_samples(recorder):
    recorder.load(CLIP)
    assert np.array_equal(recorder.samples, sounds.read_wav(sounds.CLIPS / "call-01.wav"))
    assert recorder.samples.dtype == np.float32
    assert recorder.seconds == pytest.approx(len(recorder.samples) / sounds.RATE)
    assert recorder.message == "1.6 s of sound."
    assert recorder.ask() == recorder.answer == f"{len(recorder.samples)} samples"


def test_another_rate_and_stereo_are_converted(recorder):
    data = np.zeros((8_000, 2), "<i2").tobytes()
    recorder.load(header(8_000, 2, 16, 1, len(data)) + data)
    assert len(recorder.samples) == sounds.RATE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be"),
        (b"RIFF", "must be"),
        (b"\0" * 100, "must be"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "picture"),
        (b"ID3" + b"\0" * 40, "MP3"),
        (header() + b"\0" * 10, "truncated"),
        (header(size=0), "no samples"),
        (header(rate=1) + b"\0" * 64, "samples a second"),
        (header(channels=0) + b"\0" * 64, "header is wrong"),
        (header(bits=12) + b"\0" * 64, "bits per sample"),
        (header(codec=85) + b"\0" * 64, "MP3"),
        (header(size=62 * sounds.RATE) + b"\0" * 62 * sounds.RATE, "31.0 s"),
        (header(bits=32, codec=3, size=64) + struct.pack("<16f", *[float("nan")] * 16), "finite"),
        (header(size=9_000_000) + b"\0" * 9_000_000, "at most 8 MB"),
    ],
)
def test_hostile_bytes_leave_no_sound_and_say_why(recorder, content, message):
    recorder.load(CLIP)
    recorder.ask()
    recorder.load(content)
    assert len(recorder.samples) == 0 and recorder.seconds == 0 and recorder.answer == ""
    assert recorder.message.startswith("This sound cannot be read") and message in recorder.message
    with pytest.raises(ValueError):
        sound_recorder.decode(content)


@pytest.mark.parametrize("content", [None, [], "sound", {}, {"kind": "other"}, {"kind": ["sound"]}])
def test_unknown_messages_of_the_page_change_nothing(recorder, content):
    recorder.load(CLIP)
    recorder._receive(recorder, content, [memoryview(b"x")])
    recorder._receive(recorder, {"kind": "sound"}, [])
    assert len(recorder.samples) and recorder.answer == ""


def test_the_page_sends_sounds_and_questions(recorder):
    recorder._receive(recorder, {"kind": "sound"}, [memoryview(CLIP)])
    assert recorder.seconds > 1
    recorder._receive(recorder, {"kind": "ask"}, [])
    assert recorder.answer == f"{len(recorder.samples)} samples"


def test_the_page_cannot_set_what_python_checks(recorder):
    recorder.set_state({"seconds": 5.0, "answer": "x"})
    assert recorder.ask() == ""  # no samples


def test_an_error_of_the_function_is_shown():
    recorder = widgets.SoundRecorder(ask=lambda samples: 1 / 0)
    recorder.load(CLIP)
    assert recorder.ask() == "" and "ZeroDivisionError" in recorder.message


def test_a_long_answer_is_cut():
    recorder = widgets.SoundRecorder(ask=lambda samples: "x" * 10**6)
    recorder.load(CLIP)
    assert len(recorder.ask()) == sound_recorder.MAX_ANSWER


def test_words_remain_where_no_kernel_runs_and_the_sound_is_not_stored(recorder):
    recorder.load(CLIP)
    data = recorder._repr_mimebundle_()[0]
    assert "Sound recorder" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data
    state = json.dumps({key: str(value) for key, value in recorder.get_state().items()})
    assert len(state) < 40_000  # the page's code, and no samples


# --- The page -------------------------------------------------------------------------------------

# A page that gives the widget what anywidget gives it, and Python's recorder behind it.
PAGE = """<!doctype html><meta charset="utf-8"><title>recorder</title>
<link rel="stylesheet" href="/sound_recorder.css"><div id="widget"></div>
<script type="module">
import widget from "/sound_recorder.js";
const handlers = {};
let state = await window.stateOf();
const base64 = (buffer) => {
  let text = "";
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text);
};
const model = {
  get: (name) => state[name],
  on: (name, f) => (handlers[name] ??= new Set()).add(f),
  off: (name, f) => handlers[name]?.delete(f),
  send: async (content, _callbacks, buffers = []) => {
    if (window.noKernel) return;
    state = await window.toPython(content, buffers.map(base64));
    for (const f of handlers["msg:custom"] ?? []) f({ kind: "done" });
  },
};
window.cleanUp = widget.render({ model, el: document.getElementById("widget") });
window.handlers = handlers;
</script>"""
TRAITS = ("longest", "max_bytes", "can_ask", "seconds", "message", "answer")
FAKE_MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the widget's files and PAGE."""

    def do_GET(self) -> None:
        if self.path != "/page":
            return super().do_GET()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE.encode())
        return None

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address():
    folder = Path(sound_recorder.__file__).parent
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/page"
        server.shutdown()
        thread.join()


@pytest.fixture
def open_page(address, recorder):
    """A function that opens the widget in Chromium, with or without a microphone."""
    import base64

    program = chromium()
    if program is None:
        pytest.skip("no Chromium or Google Chrome on this machine")

    def state() -> dict:
        return {name: getattr(recorder, name) for name in TRAITS}

    def to_python(content: dict, buffers: list[str]) -> dict:
        recorder._receive(recorder, content, [memoryview(base64.b64decode(b)) for b in buffers])
        return state()

    with sync_playwright() as playwright:
        browsers = []

        def open_it(microphone: bool = True):
            arguments = QUIET_CHROMIUM + FAKE_MICROPHONE * microphone
            browser = playwright.chromium.launch(
                executable_path=program, args=arguments + ["--no-sandbox"] * as_root()
            )
            browsers.append(browser)
            page = browser.new_page()
            page.errors = []
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            page.expose_function("stateOf", state)
            page.expose_function("toPython", to_python)
            page.goto(address)
            page.get_by_role("group", name="Sound recorder").wait_for()
            return page

        yield open_it
        for browser in browsers:
            browser.close()


def test_recording_with_the_keyboard_alone(open_page, recorder):
    page = open_page()
    record = page.get_by_role("button", name="Record from the microphone")
    stop = page.get_by_role("button", name="Stop recording")
    ask = page.get_by_role("button", name="Ask the model about the sound")
    expect(ask).to_be_disabled()
    record.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("Recording")
    expect(stop).to_be_focused()
    expect(record).to_be_disabled()
    page.wait_for_function("parseFloat(document.querySelector('.clock').textContent) >= 1.2")
    page.keyboard.press("Space")
    expect(page.get_by_role("status").first).to_contain_text("s of sound")
    assert 1 < recorder.seconds < 20
    assert np.abs(recorder.samples).max() > 0.05  # Chromium's fake microphone beeps
    expect(record).to_be_focused()
    ask.press("Enter")
    expect(page.get_by_label("Answer")).to_have_text(f"{len(recorder.samples)} samples")
    play = page.get_by_role("button", name="Play the sound")
    play.click()
    page.wait_for_function("document.querySelector('audio').currentTime > 0")
    assert page.errors == []


def test_a_recording_ends_by_itself(open_page, recorder):
    recorder.set_trait("longest", 1.0)
    page = open_page()
    page.get_by_role("button", name="Record from the microphone").click()
    expect(page.get_by_role("status").first).to_contain_text("s of sound", timeout=60_000)
    assert 0.9 < recorder.seconds <= 1.0


def test_a_file_is_loaded_and_a_damaged_one_explained(open_page, recorder, tmp_path):
    page = open_page()

    def choose(path: Path) -> None:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Load a WAV file").click()
        chooser.value.set_files(path)

    choose(sounds.CLIPS / "call-01.wav")
    expect(page.get_by_role("status").first).to_have_text("1.6 s of sound.")
    assert np.array_equal(recorder.samples, wav.decode(CLIP))
    damaged, large = tmp_path / "damaged.wav", tmp_path / "large.wav"
    damaged.write_bytes(CLIP[:1000])
    choose(damaged)
    expect(page.get_by_role("status").first).to_contain_text("truncated")
    assert len(recorder.samples) == 0
    expect(page.get_by_role("button", name="Ask")).to_be_disabled()
    large.write_bytes(CLIP + b"\0" * sound_recorder.MAX_BYTES)
    choose(large)
    expect(page.get_by_role("status").first).to_contain_text("at most 8 MB")


def test_without_a_microphone_words_say_what_to_do(open_page, recorder):
    page = open_page(microphone=False)
    page.get_by_role("button", name="Record from the microphone").click()
    expect(page.get_by_role("status").first).to_contain_text("Load a WAV file instead")
    expect(page.get_by_role("button", name="Record from the microphone")).to_be_enabled()
    assert page.errors == [] and len(recorder.samples) == 0


def test_a_page_without_microphone_access_says_so(open_page):
    page = open_page()
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    page.get_by_role("button", name="Record from the microphone").click()
    expect(page.get_by_role("status").first).to_contain_text("Load a WAV file instead")


def test_a_page_without_a_kernel_explains_itself(open_page, recorder):
    recorder.load(CLIP)
    page = open_page()
    page.clock.install()
    page.evaluate("window.noKernel = true")
    page.get_by_role("button", name="Ask the model about the sound").click()
    expect(page.get_by_role("status").first).to_contain_text("The model listens")
    page.clock.fast_forward(11_000)
    expect(page.get_by_role("status").first).to_contain_text("run this cell again")
    expect(page.get_by_role("button", name="Ask the model about the sound")).to_be_enabled()


def test_an_answer_is_text_and_the_widget_cleans_up(open_page, recorder):
    recorder._ask = lambda samples: "<img src=x onerror=alert(1)>"
    recorder.load(CLIP)
    page = open_page()
    page.get_by_role("button", name="Ask the model about the sound").click()
    expect(page.get_by_label("Answer")).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator("#widget img").count() == 0
    page.evaluate("window.cleanUp()")
    assert page.evaluate("Object.values(window.handlers).every(set => set.size === 0)")
