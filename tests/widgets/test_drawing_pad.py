"""The drawing pad: what Python accepts from a browser, and a stroke drawn in a real one."""

import io
import struct
import zlib

import ipywidgets
import nbformat
import notebooks
import numpy as np
import pytest
import test_browser as browser
import traitlets
from PIL import Image
from test_browser import address, course, page  # noqa: F401

from openmodels.widgets import DrawingPad, drawing_pad
from openmodels.widgets.drawing_pad import MAX_QUESTION
from openmodels.widgets.uploads import MAX_PNG_BYTES, MAX_SIDE, PNG, decode_png, encode_png

RED = (215, 45, 40)


def png(size=(40, 30), mode="RGB", colour="red", **options) -> bytes:
    output = io.BytesIO()
    Image.new(mode, size, colour).save(output, "PNG", **options)
    return output.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_chunks(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return PNG + body


def jpeg() -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (40, 30)).save(output, "JPEG")
    return output.getvalue()


HOSTILE = {
    "no bytes": (12, "int, not the bytes"),
    "text": ("iVBORw0KGgo=", "str, not the bytes"),
    "nothing": (None, "NoneType, not the bytes"),
    "empty": (b"", "not a PNG file"),
    "JPEG": (jpeg(), "not a PNG file"),
    "script": (b"<svg onload=alert(1)>", "not a PNG file"),
    "only a signature": (PNG, "ends in its header"),
    "no header": (PNG + bytes(8) + b"\0\0\0\x10" * 2 + bytes(9), "header"),
    "cut": (png((200, 200), colour="blue")[:-30], "cannot be decoded"),
    "damaged": (png()[:40] + b"\0" * 20 + png()[60:], "cannot be decoded"),
    "too many bytes": (PNG + bytes(MAX_PNG_BYTES), "at most 2,000,000"),
    "too wide": (png((MAX_SIDE + 1, 10)), "449 x 10 pixels; from 1 to 448"),
    "huge, few bytes": (png_of_chunks(60_000, 60_000, b""), "60,000 x 60,000 pixels"),
    "no pixels": (png_of_chunks(0, 0, b""), "0 x 0 pixels"),
    "no data": (png_of_chunks(50, 50, b""), "cannot be decoded"),
}


@pytest.fixture
def pad():
    return DrawingPad(lambda data, question: f"{question} {len(data)}")


# --- What Python accepts --------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_broken_picture_is_a_clear_error(value, message):
    with pytest.raises(ValueError, match=message):
        decode_png(value)


@pytest.mark.parametrize("value", [v for v, _ in HOSTILE.values()], ids=HOSTILE)
def test_a_broken_picture_from_the_browser_changes_nothing(pad, value):
    before = pad.picture
    pad.set_state({"picture": value})
    assert pad.picture == before and pad.message.startswith("The picture was not accepted")
    pad.message = ""
    pad._receive(pad, {"kind": "ask", "question": "What?"}, [value])
    assert pad.picture == before and pad.message.startswith("The picture was not accepted")
    assert pad.answer == "" and not pad.busy


@pytest.mark.parametrize(
    ("content", "buffers", "message"),
    [
        (None, [], "does not know"),
        ("ask", [], "does not know"),
        ({"kind": "run", "code": "1"}, [], "does not know"),
        ({"kind": "ask"}, [png()], "Write a question"),
        ({"kind": "ask", "question": 7}, [png()], "Write a question"),
        ({"kind": "ask", "question": "  "}, [png()], "Write a question"),
        ({"kind": "ask", "question": "What?"}, [], "0 pictures instead of 1"),
        ({"kind": "ask", "question": "What?"}, [png(), png()], "2 pictures instead of 1"),
    ],
)
def test_a_broken_message_is_a_clear_error(pad, content, buffers, message):
    pad._receive(pad, content, buffers)
    assert message in pad.message and pad.answer == ""


def test_a_stroke_arrives_as_a_picture(pad):
    pad.set_state({"picture": memoryview(png((50, 20), colour=RED))})
    assert pad.message == "" and pad.image.size == (50, 20)
    assert pad.image.mode == "RGB" and pad.image.getpixel((3, 3)) == RED


def test_a_question_is_asked_about_the_picture_that_came_with_it(pad):
    content = {"kind": "ask", "question": "What is it? " + "x" * 1000}
    pad._handle_custom_msg(content, [memoryview(png())])
    assert pad.question == content["question"][:MAX_QUESTION]
    assert pad.answer == f"{pad.question} {len(png())}"
    assert pad.picture == png() and not pad.busy


def test_an_error_of_the_model_is_shown(pad):
    def fail(_data, _question):
        raise ConnectionError("nobody there")

    pad.on_submit(fail)
    assert pad.submit() == ""
    assert pad.message == "The model did not answer: ConnectionError: nobody there"
    assert not pad.busy
    pad.on_submit(lambda _data, _question: "two")
    assert pad.submit() == "two" and pad.message == ""


def test_python_can_load_a_picture_and_must_load_a_whole_one(pad):
    pad.load(Image.new("RGB", (900, 300), RED))
    assert pad.image.size == (448, 149)
    with pytest.raises(traitlets.TraitError, match="not a PNG file"):
        pad.picture = jpeg()
    assert pad.image.size == (448, 149)


def test_transparency_becomes_white():
    assert decode_png(png(mode="RGBA", colour=(255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    grey = png(mode="I;16", colour=0)
    assert decode_png(grey).mode == "RGB"


def test_a_pad_without_a_model_offers_no_ask_button():
    pad = DrawingPad(image=Image.new("RGB", (30, 20), RED))
    assert not pad.can_ask and pad.image.size == (30, 20)
    assert DrawingPad().image.size == drawing_pad.SIZE


def test_the_palette_is_the_flags(pad):
    assert set(pad.palette) == {*drawing_pad.COLOURS, "sea"}


def test_without_the_script_picture_and_answer_remain(pad):
    pad.question, pad.answer = "How <many>?", "2"
    data, _ = pad._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"].endswith("Question: How <many>? Answer: 2")
    assert "&lt;many&gt;" in data["text/html"] and "data:image/png;base64," in data["text/html"]


def test_script_and_style_are_in_the_widget_and_load_nothing(pad):
    state = pad.get_state()
    assert "export default" in state["_esm"] and "--jp-layout-color1" in state["_css"]
    for text in (state["_esm"], state["_css"]):
        assert "http" not in text and "import " not in text and "url(" not in text
    assert isinstance(pad, ipywidgets.DOMWidget)


def test_a_large_picture_stays_below_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    data = encode_png(Image.fromarray(noise))
    assert len(data) < MAX_PNG_BYTES and max(decode_png(data).size) == MAX_SIDE


# --- In a browser ---------------------------------------------------------------------------------

ASK = """
from openmodels import widgets

def ask(png, question):
    return f"{question} {len(png) > 100}"

pad = widgets.DrawingPad(ask)
pad
"""
READ = """
def difference(name):
    pixel = pad.image.getpixel((20, 60))
    return sum(abs(a - b) for a, b in zip(pixel, pad.palette[name]))

[min(pad.palette, key=difference), pad.image.size, pad.question]
"""


def run_last(page) -> str:  # noqa: F811
    """Run the notebook's last cell again and return its result."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").last
    prompt = cell.locator(".jp-InputArea-prompt")
    before = prompt.inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+Enter")
    page.wait_for_function(
        """([prompt, before]) => /\\d/.test(prompt.innerText) && prompt.innerText !== before""",
        arg=[prompt.element_handle(), before],
    )
    browser.wait_until_idle(page)
    return cell.locator(".jp-OutputArea-output").last.inner_text()


def drag(page, canvas, start, end):  # noqa: F811
    """Draw a stroke between two points, shares of the canvas's width and height."""
    frame = canvas.bounding_box()
    points = [
        (frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=8)
    page.mouse.up()


def open_pad(page, course, address):  # noqa: F811
    """Open a notebook with a pad in JupyterLab, run it, and return the pad."""
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (ASK, READ)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, course / "pad.ipynb")
    first = f"/lab/tree/{browser.setup_jupyter.FIRST_PAGE}"
    page.goto(address.replace(first, "/lab/workspaces/pad/tree/pad.ipynb"))
    page.locator(".jp-Notebook .jp-CodeCell").nth(1).wait_for()
    browser.run_all(page)
    pad = page.locator(".jp-Notebook .drawing-pad").first
    pad.locator("canvas[data-ready]").wait_for()
    return pad


def test_draw_ask_load_and_read_in_a_browser(course, page, address, tmp_path):  # noqa: F811
    pad = open_pad(page, course, address)
    canvas = pad.locator("canvas")
    canvas.scroll_into_view_if_needed()
    pad.get_by_role("button", name="colour red").click()
    pad.get_by_role("button", name="large brush").click()
    drag(page, canvas, (0.05, 60 / 112), (0.6, 60 / 112))
    pad.get_by_label("Question").fill("What colour?")
    pad.get_by_role("button", name="Ask").click()
    browser.expect(pad.locator(".answer")).to_have_text("What colour? True")
    assert run_last(page) == "['red', (168, 112), 'What colour?']"

    pad.get_by_role("button", name="Undo").click()
    page.wait_for_timeout(500)  # the picture goes to the kernel
    assert run_last(page).startswith("['sea'")

    canvas.focus()  # by keyboard: a stamp, nine steps to the left of the middle
    pad.get_by_role("button", name="Flag stamp").press("Enter")
    pad.get_by_role("button", name="colour blue").press("Enter")
    canvas.focus()
    for _ in range(9):
        canvas.press("ArrowLeft")
    canvas.press(" ")
    page.wait_for_timeout(500)
    assert run_last(page).startswith("['blue'")

    large = tmp_path / "large.jpg"
    Image.new("RGB", (1600, 400), (10, 200, 10)).save(large)
    pad.locator("input[type=file]").set_input_files(large)
    browser.expect(canvas).to_have_js_property("width", MAX_SIDE)
    page.wait_for_timeout(500)
    assert "(448, 112)" in run_last(page)
    broken = tmp_path / "broken.png"
    broken.write_bytes(png()[:30])
    pad.locator("input[type=file]").set_input_files(broken)
    browser.expect(pad.locator(".message")).to_contain_text("damaged")
    assert "(448, 112)" in run_last(page)
    assert browser.elsewhere(page.requested) == []
    assert notebooks.outside(course) == ""
