"""Figures in JupyterLab: the DOM has their alt text, and their ink is readable in both themes.

Needs Chromium or Google Chrome on this machine; skipped where there is none. Leaves screenshots in
build/browser/.
"""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import notebooks
import numpy as np
import pytest
import setup_jupyter
import test_browser as browser
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright
from test_browser import address  # noqa: F401  (a fixture)

from openmodels import plots

NOTEBOOK = Path("chapters/1_landscape/2_licences.ipynb")
FIGURE = "grid-figure"  # labels of its rows stand alone in the left part
LABELS = 0.26  # of the figure's width
LABEL_PIXELS = 5  # height from which a band of ink counts as a line of text
THEMES = {"light": ("JupyterLab Light", 255), "dark": ("JupyterLab Dark", 0x11)}
READABLE = 4.5  # contrast of text by WCAG 2.2, level AA


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A folder with one chapter notebook as it is stored, with its outputs."""
    folder = tmp_path_factory.mktemp("figures")
    (folder / NOTEBOOK).parent.mkdir(parents=True)
    shutil.copy(notebooks.ROOT / NOTEBOOK, folder / NOTEBOOK)
    settings(folder, "notebook-extension", "tracker", browser.WHOLE_PAGE)
    return folder


def settings(course: Path, extension: str, name: str, text: str) -> None:
    """Write settings of a JupyterLab extension."""
    folder = course / "jupyter/lab/user-settings/@jupyterlab" / extension
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jupyterlab-settings").write_text(text, encoding="utf-8")


@pytest.fixture
def page() -> Iterator[Page]:
    """An empty page, wide enough for a figure at its full size."""
    program = browser.chromium()
    if program is None:
        pytest.skip("no Chromium or Google Chrome on this machine: nothing to open JupyterLab in")
    with sync_playwright() as playwright:
        arguments = browser.QUIET_CHROMIUM + ["--no-sandbox"] * browser.as_root()
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        context = chromium.new_context(viewport={"width": 1600, "height": 1000})
        context.set_default_timeout(browser.PATIENCE * 1000)
        yield context.new_page()
        chromium.close()


def pixels(figure: Locator, path: Path) -> np.ndarray:
    """Return the pixels (rows, columns, 3) of a figure as the page shows it; save them too."""
    figure.scroll_into_view_if_needed()
    path.parent.mkdir(parents=True, exist_ok=True)
    shot = figure.screenshot(path=path)
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=float)


def contrasts(area: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Return the contrast of every pixel (rows, columns, 3) with the ground (3,), by WCAG."""

    def luminance(rgb: np.ndarray) -> np.ndarray:
        channels = rgb / 255
        low, high = channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        return np.where(channels <= 0.04045, low, high) @ np.array([0.2126, 0.7152, 0.0722])

    levels = luminance(area), luminance(ground)
    return (np.maximum(*levels) + 0.05) / (np.minimum(*levels) + 0.05)


def most_frequent(area: np.ndarray) -> np.ndarray:
    """Return the most frequent colour (3,) of an area: its ground."""
    colours, counts = np.unique(area.reshape(-1, 3), axis=0, return_counts=True)
    return colours[counts.argmax()]


def label_contrasts(area: np.ndarray) -> list[float]:
    """Return the contrast of every line of text in the left part of a figure."""
    labels = area[:, : round(LABELS * area.shape[1])]
    best = contrasts(labels, most_frequent(area)).max(1)  # (rows,)
    bands, height = [], 0
    for row, value in enumerate([*best, 1.0]):
        if value > 1.5:
            height += 1
            continue
        if height >= LABEL_PIXELS:
            bands.append(float(max(best[row - height : row])))
        height = 0
    return bands


def stored_figures() -> list[str]:
    """Return the alt text of the notebook's figures, in order."""
    notebook = nbformat.read(notebooks.ROOT / NOTEBOOK, as_version=4)
    return [
        output["data"]["text/plain"]
        for cell in notebooks.code_cells(notebook)
        for output in cell.outputs
        if "data:image/" in output.get("data", {}).get("text/html", "")
    ]


@pytest.mark.parametrize("theme", THEMES)
def test_alt_text_and_ink_reach_the_page(theme, course, page, address):  # noqa: F811
    name, ground = THEMES[theme]
    settings(course, "apputils-extension", "themes", json.dumps({"theme": name}))
    page.goto(address.replace(setup_jupyter.FIRST_PAGE, NOTEBOOK.as_posix()))
    images = page.locator(".jp-Notebook .jp-OutputArea img")
    alts = stored_figures()
    expect(images).to_have_count(len(alts), timeout=browser.PATIENCE * 1000)
    browser.wait_until_idle(page)
    assert page.locator("body").get_attribute("data-jp-theme-name") == name
    rows = 11  # models in the grid

    def check(state: str) -> np.ndarray:
        assert [image.get_attribute("alt") for image in images.all()] == alts
        for alt in alts:
            assert page.get_by_role("img", name=alt, exact=True).count() == 1
        area = pixels(images.first, browser.SHOTS / f"figure-{theme}-{state}.png")
        lines = label_contrasts(area)
        assert len(lines) >= rows
        assert min(lines) >= READABLE
        return most_frequent(area)

    check("stored")
    browser.run_all(page)
    browser.wait_until_idle(page)
    assert check("executed").tolist() == [ground] * 3  # of the theme: the figure is no slab
    page.screenshot(path=browser.SHOTS / f"notebook-{theme}.png")


PAGES = {  # attributes of <html>, of <body>, the ground, whether the page is dark
    "a plain page": ("", "", "#ffffff", False),
    "VS Code, light": ("", 'class="vscode-light"', "#ffffff", False),
    "VS Code, dark": ("", 'class="vscode-dark"', "#1e1e1e", True),
    "VS Code, dark contrast": ("", 'class="vscode-high-contrast"', "#000000", True),
    "VS Code, light contrast": (
        "",
        'class="vscode-high-contrast vscode-high-contrast-light"',
        "#ffffff",
        False,
    ),
    "a site, light": ('data-theme="light"', "", "#ffffff", False),
    "a site, dark": ('data-theme="dark"', "", "#14181e", True),
    "Colab, dark": ("theme=dark", "", "#383838", True),
}


def test_other_pages_show_the_figure_without_a_slab(page):
    figure = plots.answers({f"model {row}": {"sell": "yes", "host": "no"} for row in range(4)})
    image = plots.html_image(figure, figure.alt)
    for name, (root, body, ground, dark) in PAGES.items():
        page.set_content(f"<html {root}><body {body} style='background:{ground}'>{image}</body>")
        locator = page.get_by_role("img", name=figure.alt)
        path = browser.SHOTS / f"figure-{name.replace(', ', '-').replace(' ', '-')}.png"
        area = pixels(locator, path)
        assert locator.evaluate("img => getComputedStyle(img).filter !== 'none'") == dark, name
        expected = [int(ground[place : place + 2], 16) for place in (1, 3, 5)]
        assert most_frequent(area).tolist() == expected, name
        lines = label_contrasts(area)
        assert len(lines) == 4 and min(lines) >= READABLE, name


def test_pale_labels_are_found():
    area = np.full((40, 200, 3), 255.0)
    area[5:15, 2:20] = 0xAA
    area[20:30, 2:20] = 0
    weak, strong = label_contrasts(area)
    assert weak < READABLE < strong
