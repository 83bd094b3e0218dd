"""The trace viewer in JupyterLab: the keyboard selects a span, in a light and a dark theme.

Needs Chromium or Google Chrome on this machine; skipped where there is none. Leaves screenshots in
build/browser/.
"""

import json
from pathlib import Path

import nbformat
import pytest
import test_browser as browser
from playwright.sync_api import Page, expect
from test_browser import address, page  # noqa: F401  (fixtures)
from test_browser_figures import READABLE, THEMES, contrasts, most_frequent, pixels, settings

MAKE = """
from pathlib import Path
from openmodels import widgets
from openmodels.workflows import trace

def answer():
    with recorder.chain("answer a letter", "Where does the <b>Heron</b> lie?") as chain:
        with recorder.retrieval("Heron berth") as search:
            trace.set_documents(search, [("d1", "The Heron lies at berth 7.", 1.5)])
        with recorder.chain("write"):
            with recorder.tool("get_berth", {"ship": "Heron"}) as tool:
                trace.set_output(tool, {"berth": 7})
            try:
                with recorder.tool("send_message", {"to": "Ada"}):
                    raise TimeoutError("no answer within 2 s")
            except TimeoutError:
                chain.add_event("retry", {"attempt": 2})
        request = {"model": "mini-qwen", "temperature": 0, "messages": [
            {"role": "system", "content": "Answer from the passages and cite them."},
            {"role": "user", "content": "<script>document.title = 'gone'</script> Where?"}]}
        span = recorder.tracer.start_span("chat mini-qwen",
                                          attributes=trace.request_attributes(request))
        message = {"role": "assistant", "content": "The Heron lies at berth 7. [1]"}
        usage = {"prompt_tokens": 61, "completion_tokens": 14}
        recorder.finish(span, {"choices": [{"message": message}], "usage": usage}, request)
        span.end()

Path("traces.db").unlink(missing_ok=True)
with trace.Recorder("traces.db", cost=lambda m, p, c: (p + 4 * c) * 1e-6) as recorder:
    for _ in range(3):
        answer()
widgets.TraceViewer("traces.db")
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A folder with a notebook that shows the viewer."""
    folder = tmp_path_factory.mktemp("trace")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(MAKE)])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, folder / "trace.ipynb")
    settings(folder, "notebook-extension", "tracker", browser.WHOLE_PAGE)
    return folder


def selected(shown: Page) -> str:
    return shown.locator(".openmodels-span.mod-primary").inner_text()


@pytest.mark.parametrize("theme", THEMES)
def test_the_keyboard_selects_spans(theme, course, page, address):  # noqa: F811
    name, _ = THEMES[theme]
    settings(course, "apputils-extension", "themes", json.dumps({"theme": name}))
    place = f"/lab/tree/{browser.setup_jupyter.FIRST_PAGE}"
    page.goto(address.replace(place, f"/lab/workspaces/{theme}/tree/trace.ipynb"))
    browser.run_all(page)
    rows = page.locator(".openmodels-span")
    expect(rows).to_have_count(6)
    assert selected(page) == "execute_tool send_message"  # the span with an error comes first
    traces = page.locator(".openmodels-trace")
    expect(traces).to_have_count(3)
    traces.last.focus()
    page.keyboard.press("Tab")  # to the first span
    page.keyboard.press("Enter")
    expect(page.locator(".openmodels-span.mod-primary")).to_have_text("answer a letter")
    for _ in range(5):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".openmodels-span.mod-primary")).to_have_text("chat mini-qwen")
    answer = page.get_by_role("group", name="assistant (answer)")
    expect(answer).to_have_text("The Heron lies at berth 7. [1]")
    prompt = page.get_by_role("group", name="user (prompt)")
    expect(prompt).to_contain_text("<script>")  # escaped: a text, not a script
    area = pixels(answer, browser.SHOTS / f"trace_answer_{theme}.png")
    assert contrasts(area, most_frequent(area)).max() >= READABLE
    output = page.locator(".jp-OutputArea-output").first
    output.screenshot(path=browser.SHOTS / f"trace_{theme}.png")
    traces.first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the next trace
    expect(page.locator(".openmodels-span.mod-primary")).to_have_text("execute_tool send_message")
    expect(page.locator(".openmodels-trace.mod-primary")).to_have_text(traces.nth(1).inner_text())
    assert browser.elsewhere(page.requested) == []
