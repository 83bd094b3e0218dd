"""JupyterLab in a real browser: a learner's first minutes, and every widget at two page widths.

Needs Chromium or Google Chrome on this machine; skipped where there is none. Leaves pictures in
build/browser/.
"""

import importlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import notebooks
import pytest
from playwright.sync_api import expect, sync_playwright

from openmodels import widgets

sys.path.insert(0, str(notebooks.ROOT / "tools"))
setup_jupyter = importlib.import_module("setup_jupyter")

SHOTS = notebooks.ROOT / "build" / "browser"
PATIENCE = 600  # seconds until something counts as never happening; a busy machine is slow
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files\Chromium\Application\chrome.exe",
)
QUIET_CHROMIUM = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no name is ever looked up
]
# All cells in the page at once: otherwise JupyterLab leaves out those that are scrolled away.
WHOLE_PAGE = '{"windowingMode": "none"}'
PROMPTS = ".jp-Notebook .jp-CodeCell .jp-InputArea-prompt"
PICTURE = """area => {
    const shown = area.querySelector("img, canvas, svg");
    if (!shown) return null;
    return shown.src || (shown.toDataURL ? shown.toDataURL() : shown.outerHTML);
}"""

WIDTHS = (1280, 900)  # of the page, in pixels
TRACK = 150  # pixels of every slider's track, at least
# One cell per widget that the package offers to notebooks. A new one may change the two counts
# below: of the sliders and the tables that the page then shows.
WIDGET_CELLS = {
    "models": "widgets.models()",
    "may_i": "widgets.may_i(in_eu=True)",
    "scores": "widgets.scores()",
    "fit": "widgets.fit(bandwidth=3e10)",
    "sampling": "widgets.sampling(*openmodels.load(), 'A lamp costs ', temperature=2.0)",
    "own_or_api": "widgets.own_or_api()",
    "image_tokens": "widgets.image_tokens()",
    "Ledger": "widgets.Ledger(catalog.claims())",
    "TraceViewer": (
        "from openmodels.workflows import trace\n"
        "with trace.Recorder('traces.db') as recorder, recorder.chain('letter', 'to Mara'):\n"
        "    pass\n"
        "widgets.TraceViewer('traces.db')"
    ),
    "Approval": (
        "from openmodels.workflows import tools\n"
        "widgets.Approval([tools.make_call('book_berth', ship='Heron')])"
    ),
    "SoundRecorder": "widgets.SoundRecorder(ask=str)",
    "DrawingPad": "widgets.DrawingPad()",
    "ErrorAnalysis": "widgets.ErrorAnalysis([dict.fromkeys(('id', 'input', 'output', 'target'), "
    "'a')], 'notes.json', ['wrong'])",
    "OfficeDesk": "widgets.OfficeDesk(lambda request, approve: None)",
}
TABLE_CELLS = ("doctor.table()", "minis.scores('mini-qwen')", "check.progress()")
SLIDER_COUNT, TABLE_COUNT = 8, 11
# Names of the package that show nothing by themselves: parts of widgets, numbers and texts.
NO_WIDGETS = {
    "FigureExplorer", "TableExplorer", "cards", "checkbox", "choice", "filter_models", "live",
    "load_of", "next_logits", "nucleus", "offers", "panel", "perplexity", "runs", "runs_at_all",
    "slider",
}  # fmt: skip
SLIDERS = """() => [...document.querySelectorAll(".jp-Notebook .widget-slider")].map(slider => {
    const track = slider.querySelector(".noUi-target").getBoundingClientRect();
    const page = slider.closest(".jp-OutputArea-output").getBoundingClientRect();
    const end = slider.querySelector(".widget-readout").getBoundingClientRect().right;
    const label = slider.querySelector(".widget-label");
    return {name: label.textContent, track: track.width, inside: end <= page.right + 1,
            label: label.scrollWidth <= label.clientWidth};
})"""
# Of each table: whether the page shows all of it or can scroll it, and the cells that break a date.
TABLES = """() => [...document.querySelectorAll(".jp-Notebook table")].map(table => {
    const frame = table.closest(".widget-html") ?? table.parentElement;
    const page = table.closest(".jp-OutputArea-output").getBoundingClientRect();
    const broken = [...table.querySelectorAll("td")].filter(cell => {
        const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        while (text.nextNode()) {
            const date = /\\d{4}-\\d\\d(-\\d\\d)?/.exec(text.currentNode.data);
            if (!date) continue;
            const range = document.createRange();
            range.setStart(text.currentNode, date.index);
            range.setEnd(text.currentNode, date.index + date[0].length);
            if (range.getClientRects().length > 1) return true;
        }
        return false;
    });
    const scrolls = ["auto", "scroll"].includes(getComputedStyle(frame).overflowX);
    const fits = table.getBoundingClientRect().right <= page.right + 1;
    const inside = frame.getBoundingClientRect().right <= page.right + 1;
    return {inside: inside && (fits || scrolls), broken: broken.map(cell => cell.innerText),
            aligned: [...table.querySelectorAll("th")].map(h => getComputedStyle(h).textAlign)};
})"""


def chromium() -> str | None:
    """The Chromium or Chrome of this machine."""
    found = [path for path in map(shutil.which, PROGRAMS) if path]
    return next(iter(found + [place for place in PLACES if Path(place).is_file()]), None)


def as_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A folder with a copy of the chapters, without outputs: what they show is then new."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(notebooks.ROOT / "chapters", folder / "chapters")
    for path in notebooks.notebooks("chapters", root=folder):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebooks.code_cells(notebook):
            cell.outputs, cell.execution_count = [], None
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
    settings = folder / "jupyter/lab/user-settings/@jupyterlab/notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(WHOLE_PAGE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def address(course):
    """The address of JupyterLab, started as start.py does, with the socket guard on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", *setup_jupyter.QUIET_JUPYTERLAB, "--no-browser"]
    command += [f"--ServerApp.root_dir={course}", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}"] + ["--allow-root"] * as_root()
    log = course / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            cwd=course,
            env=notebooks.offline_environment(course),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(server, port, log)
        yield f"http://127.0.0.1:{port}/lab/tree/{setup_jupyter.FIRST_PAGE}?token={token}"
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE)


def wait_for(server: subprocess.Popen, port: int, log: Path) -> None:
    """Return when the server accepts connections; fails with its log when it never does."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and server.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')}")


@pytest.fixture
def page(request):
    """An empty page; afterwards its picture is taken and no request may have left this machine."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium or Google Chrome on this machine: nothing to open JupyterLab in")
    requested = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=QUIET_CHROMIUM + ["--no-sandbox"] * as_root()
        )
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(PATIENCE * 1000)
        context.on("request", lambda request: requested.append(request.url))
        page = context.new_page()
        page.on("websocket", lambda opened: requested.append(opened.url))
        page.requested = requested
        yield page
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{request.node.name}.png")
        browser.close()


def elsewhere(urls: list[str]) -> list[str]:
    """The addresses that lead to another machine."""
    parts = [(url, urlsplit(url)) for url in urls]
    outside = [
        url
        for url, part in parts
        if part.scheme in ("http", "https", "ws", "wss")
        and part.hostname not in ("127.0.0.1", "localhost")
    ]
    return sorted(set(outside))


def wait_until_idle(page) -> None:
    """The toolbar's indicator says Idle before the kernel is connected; the status bar's not."""
    page.locator(".jp-StatusBar-Widget", has_text="| Idle").first.wait_for()


def run_all(page) -> None:
    """Run the open notebook from top to bottom and wait until each code cell has its number."""
    wait_until_idle(page)
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.locator('li[data-command="runmenu:run-all"]').click()
    page.wait_for_function(
        """selector => [...document.querySelectorAll(selector)].every(
            prompt => /^\\[\\d+\\]:$/.test(prompt.innerText.trim()))""",
        arg=PROMPTS,
    )


def saved(page, path: Path):
    """The open notebook as JupyterLab writes it to its file, once its last cell is in there."""
    page.keyboard.press("ControlOrMeta+s")
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        notebook = nbformat.read(path, as_version=4)
        if notebooks.code_cells(notebook)[-1].execution_count:
            return notebook
        page.wait_for_timeout(200)
    pytest.fail("JupyterLab did not save the notebook")


def test_the_first_notebook_in_a_browser(course, page, address):
    page.goto(address)
    path = course / setup_jupyter.FIRST_PAGE
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    count = len(notebooks.code_cells(nbformat.read(path, as_version=4)))
    expect(cells).to_have_count(count, timeout=PATIENCE * 1000)
    run_all(page)
    assert notebooks.unexpected(saved(page, path)) == []

    area = cells.locator(".jp-Cell-outputArea").filter(has=page.locator(".widget-slider")).first
    handle = area.locator(".widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed()
    area.locator("img, canvas, svg").first.wait_for()
    before, value = area.evaluate(PICTURE), handle.get_attribute("aria-valuenow")
    at_end = value == handle.get_attribute("aria-valuemax")
    for _ in range(3):
        handle.press("ArrowLeft" if at_end else "ArrowRight")
    page.wait_for_function(
        f"([area, before]) => {{ const now = ({PICTURE})(area); return now && now !== before; }}",
        arg=[area.element_handle(), before],
    )
    assert handle.get_attribute("aria-valuenow") != value
    wait_until_idle(page)
    assert area.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0

    assert any("/api/kernels" in url for url in page.requested)
    assert elsewhere(page.requested) == []
    assert notebooks.outside(course) == ""


def notebook_of_widgets(path: Path) -> None:
    """Write a notebook with every widget and table of the package, not run yet."""
    imports = "import openmodels\nfrom openmodels import catalog, check, doctor, minis, widgets"
    cells = [imports, *WIDGET_CELLS.values(), *TABLE_CELLS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel  # otherwise JupyterLab asks for a kernel
    nbformat.write(notebook, path)


def test_every_widget_at_two_page_widths(course, page, address):
    notebook_of_widgets(course / "widgets.ipynb")
    # In a workspace of its own: the usual one opens the notebook of the test above again.
    place = f"/lab/tree/{setup_jupyter.FIRST_PAGE}", "/lab/workspaces/widgets/tree/widgets.ipynb"
    page.goto(address.replace(*place))
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    expect(cells).to_have_count(1 + len(WIDGET_CELLS) + len(TABLE_CELLS), timeout=PATIENCE * 1000)
    run_all(page)
    for selector, count in ((".widget-slider", SLIDER_COUNT), ("table", TABLE_COUNT)):
        shown = page.locator(f".jp-Notebook {selector}")
        shown.nth(count - 1).wait_for(state="attached")  # more than expected fail below, at once
    assert notebooks.unexpected(saved(page, course / "widgets.ipynb")) == []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)  # JupyterLab lays the page out again
        sliders, tables = page.evaluate(SLIDERS), page.evaluate(TABLES)
        counts = len(sliders), len(tables)
        assert counts == (SLIDER_COUNT, TABLE_COUNT), "correct SLIDER_COUNT and TABLE_COUNT"
        print(width, {slider["name"]: round(slider["track"]) for slider in sliders})
        assert [s for s in sliders if s["track"] < TRACK or not s["inside"] or not s["label"]] == []
        assert [table for table in tables if not table["inside"] or table["broken"]] == []
        assert tables[0]["aligned"] == ["left"] * 3 + ["right"] + ["left"] * 3  # of the models


def test_every_widget_is_measured():
    calls = set()
    for path in notebooks.notebooks("chapters") + notebooks.notebooks("solutions"):
        for cell in notebooks.code_cells(nbformat.read(path, as_version=4)):
            calls |= set(re.findall(r"widgets\.(\w+)\(", cell.source))
    assert {"sampling", "own_or_api", "Ledger"} <= calls  # the pattern finds them
    missing = sorted((calls | set(widgets.__all__)) - NO_WIDGETS - set(WIDGET_CELLS))
    assert not missing, f"add {missing} to WIDGET_CELLS, or to NO_WIDGETS if they show nothing"


def test_addresses_elsewhere_are_recognised():
    here = ["http://127.0.0.1:8888/lab", "ws://localhost:8888/api", "data:,x", "blob:http://x/1"]
    there = ["https://example.org/a.js", "wss://127.0.0.1.example.org/", "http://127.0.0.2/"]
    assert elsewhere(here + there) == sorted(there)
