"""The office desk in JupyterLab: a request, a picture, a sound, an approval and a trace.

Needs Chromium or Google Chrome on this machine; skipped where there is none. Leaves screenshots in
build/browser/.
"""

import io
import json
from pathlib import Path

import nbformat
import pytest
import test_browser as browser
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from test_browser import address, page  # noqa: F401  (fixtures)
from test_browser_figures import READABLE, THEMES, contrasts, most_frequent, pixels, settings

from openmodels.harbour import sounds

MAKE = """
import time
from pathlib import Path
from openmodels import widgets
from openmodels.workflows import trace
from openmodels.workflows.calls import Usage
from openmodels.workflows.office_request import Call, Reply, Source

RULE = "A ship may stay three nights. <img src=x onerror=\\"document.title='gone'\\">"

def office(request, approve):
    usage = Usage(calls=2, prompt_tokens=310, completion_tokens=41)
    with recorder.chain("answer a request", request.text) as chain:
        trace_id = f"{chain.get_span_context().trace_id:032x}"
        if request.text == "fail":
            raise ConnectionError("no model at this address")
        if request.image or request.sound:
            sizes = len(request.image or b"") > 0, len(request.sound or b"")
            return Reply(f"Received {sizes}.", usage=usage, trace=trace_id)
        if "book" not in request.text:
            call = Call("get_price", {"item": "苹果"}, {"coins": 3})
            source = Source("rules-0012", RULE)
            return Reply(RULE, (source,), (call,), usage, trace_id)
        arguments = {"ship": "Heron", "nights": 3}
        with recorder.tool("book_berth", arguments):
            state = "done" if approve("book_berth", arguments) else "denied"
        call = Call("book_berth", arguments, {"berth": 7} if state == "done" else None, state)
        return Reply(f"The booking is {state}.", (), (call,), usage, trace_id)

Path("traces.db").unlink(missing_ok=True)
recorder = trace.Recorder("traces.db")
widgets.OfficeDesk(office)
"""
DROP = """([area, bytes, name, type]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        area.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true,
            cancelable: true }));
    }
}"""


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A folder with a notebook that shows the desk."""
    folder = tmp_path_factory.mktemp("office")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(MAKE.strip())])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, folder / "office.ipynb")
    settings(folder, "notebook-extension", "tracker", browser.WHOLE_PAGE)
    return folder


@pytest.fixture(scope="module", autouse=True)
def patience():
    """Wait longer than playwright's 5 s: a busy machine is slow."""
    expect.set_options(timeout=browser.PATIENCE * 1000)
    yield
    expect.set_options(timeout=5_000)


def open_desk(page: Page, course: Path, address: str, theme: str) -> Locator:  # noqa: F811
    """Open the notebook in JupyterLab with a theme, run it, and return the desk."""
    name, _ = THEMES[theme]
    settings(course, "apputils-extension", "themes", json.dumps({"theme": name}))
    place = f"/lab/tree/{browser.setup_jupyter.FIRST_PAGE}"
    page.goto(address.replace(place, f"/lab/workspaces/{theme}/tree/office.ipynb"))
    browser.run_all(page)
    desk = page.locator(".jp-OutputArea-output .office-desk").first
    desk.get_by_role("button", name="Send").wait_for()
    return desk


def drop(desk: Locator, content: bytes, name: str, kind: str) -> None:
    form = desk.locator(".form")
    form.evaluate(f"(area, values) => ({DROP})([area, ...values])", [[*content], name, kind])


def last(desk: Locator) -> Locator:
    return desk.locator("article").last


@pytest.mark.parametrize("theme", THEMES)
def test_a_person_works_with_the_office(theme, course, page, address, tmp_path):  # noqa: F811
    page.set_viewport_size({"width": 1280, "height": 1500})
    desk = open_desk(page, course, address, theme)
    request = desk.get_by_label("Request, in English or Chinese")

    # By keyboard alone: a request, its source and the tool.
    request.focus()
    page.keyboard.type("Where is the Heron?")
    page.keyboard.press("Enter")
    expect(last(desk).locator(".text")).to_contain_text("<img src=x")  # a text, not a picture
    source = last(desk).locator("summary")
    expect(source).to_have_text("Source rules-0012")
    expect(last(desk).locator("blockquote")).to_be_hidden()
    source.press("Enter")
    expect(last(desk).locator("blockquote")).to_be_visible()
    expect(last(desk).locator(".call")).to_contain_text('get_price(item="苹果")')
    expect(last(desk)).to_contain_text("2 calls, 310 + 41 tokens")
    expect(request).to_have_value("")
    area = pixels(last(desk).locator(".text"), browser.SHOTS / f"office_text_{theme}.png")
    assert contrasts(area, most_frequent(area)).max() >= READABLE

    # A dropped picture and a chosen sound.
    picture = io.BytesIO()
    Image.new("RGB", (900, 600), (215, 45, 40)).save(picture, "PNG")
    drop(desk, picture.getvalue(), "flag.png", "image/png")
    expect(desk.get_by_alt_text("The picture of your request")).to_be_visible()
    expect(desk.locator(".attached").first).to_contain_text("448 x 299 pixels")
    desk.get_by_label("Add a sound").and_(desk.locator("input")).set_input_files(
        sounds.CLIPS / "call-01.wav"
    )
    expect(desk.locator(".attached").last).to_contain_text("1.6 s")
    desk.get_by_role("button", name="Play the sound").click()
    page.wait_for_function("document.querySelector('.office-desk audio').currentTime > 0")
    request.fill("苹果多少钱？")
    desk.get_by_role("button", name="Send").click()
    expect(last(desk)).to_contain_text("Received (True, ")
    expect(desk.get_by_alt_text("Your picture")).to_be_visible()
    expect(desk.locator(".attached").first).to_be_hidden()
    drop(desk, b"\x89PNG damaged", "damaged.png", "image/png")
    expect(desk.locator(".words")).to_contain_text("damaged")

    # A write waits for a person; the page stays usable.
    request.fill("Please book a berth for the Heron.")
    request.press("Enter")
    approve = desk.get_by_role("button", name="Approve")
    approve.wait_for()
    expect(desk.locator(".state")).to_contain_text("waits for you")
    expect(desk.get_by_role("button", name="Send")).to_be_disabled()
    desk.screenshot(path=browser.SHOTS / f"office_waits_{theme}.png")
    approve.focus()
    page.keyboard.press("Enter")
    expect(last(desk)).to_contain_text("The booking is done.")
    expect(approve).to_have_count(0)
    expect(last(desk).locator(".call")).to_contain_text('{"berth": 7}')
    expect(request).to_be_focused()

    # Its trace, and an error.
    last(desk).get_by_role("button", name="Open the trace").click()
    expect(page.locator(".openmodels-span")).to_have_text(
        ["answer a request", "execute_tool book_berth"]
    )
    desk.screenshot(path=browser.SHOTS / f"office_{theme}.png")
    page.get_by_role("button", name="Close the trace").click()
    expect(page.locator(".openmodels-span")).to_have_count(0)
    request.fill("fail")
    request.press("Enter")
    expect(last(desk)).to_contain_text("ConnectionError: no model at this address")
    area = pixels(last(desk).locator(".text"), browser.SHOTS / f"office_error_{theme}.png")
    assert contrasts(area, most_frequent(area)).max() >= READABLE
    assert page.title() != "gone" and desk.locator("article blockquote img").count() == 0
    assert browser.elsewhere(page.requested) == []
