"""How a figure reaches the page: its alt text, its transparency, and the rule for cells."""

import ast
import base64
import html
import io
import re

import nbformat
import notebooks
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from openmodels import plots
from openmodels.plots import figure as figure_module

PNG = b"\x89PNG\r\n"
IMAGE = re.compile(r'<img\b[^>]*\balt="([^"]+)"[^>]*src="data:image/png;base64,([^"]+)"')
EVERY = notebooks.notebooks("chapters", "solutions", "labs")


@pytest.fixture
def displayed(monkeypatch):
    """A list that collects what `show` displays."""
    outputs = []
    monkeypatch.setattr(figure_module, "display", lambda data, **_: outputs.append(data))
    return outputs


def test_a_figure_is_the_same_file_every_time():
    first, second = (plots.html_image(plots.bars({"a": 1}, x="x"), "One.") for _ in range(2))
    assert first == second
    assert plots.png(plots.bars({"a": 1}, x="x")).startswith(PNG)


def test_show_writes_an_image_with_its_alt_text(displayed):
    plots.show(plots.bars({'"a" & <b>': 1}, x="x"))
    [data] = displayed
    assert data["text/plain"] == 'Bar chart of x. "a" & <b> 1.'
    alt, image = IMAGE.search(data["text/html"]).groups()
    assert html.unescape(alt) == data["text/plain"]
    assert base64.b64decode(image).startswith(PNG)


def test_a_figure_as_the_last_value_of_a_cell_shows_itself(displayed):
    plots.bars({"a": 1}, x="x")._ipython_display_()
    assert displayed[0]["text/plain"] == "Bar chart of x. a 1."


def test_a_figure_without_words_is_refused(displayed):
    with pytest.raises(ValueError, match="no alt text"):
        plots.show(Figure())
    plots.show(Figure(), "A blank page.")
    assert displayed[0]["text/plain"] == "A blank page."


def test_the_transparent_image_looks_the_same_on_white():
    figure = plots.stacked({"r": {"a": 1, "b": 2, "c": 3}}, x="share (%)")
    opaque = Image.open(io.BytesIO(plots.png(figure))).convert("RGB")
    clear = Image.open(io.BytesIO(figure_module.transparent_png(figure))).convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    difference = np.asarray(opaque, int) - np.asarray(on_white, int)
    assert abs(difference).max() <= 2
    assert clear.getpixel((0, 0))[3] == 0


# --- Learners' cells pass values; they do not compose alt text ------------------------------------


def alt_code(source: str) -> list[str]:
    """Return the lines of a cell that compose alt text or a conclusion from values."""
    problems = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id == "alt":
            problems.append(f"line {node.lineno}: the name alt")
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) == "plots.show" and len(node.args) + len(node.keywords) > 1:
            problems.append(f"line {node.lineno}: plots.show with its own alt text")
        problems += [
            f"line {node.lineno}: a conclusion that is no constant"
            for keyword in node.keywords
            if keyword.arg == "conclusion" and not isinstance(keyword.value, ast.Constant)
        ]
    return problems


@pytest.mark.parametrize("path", EVERY, ids=notebooks.name)
def test_no_cell_composes_alt_text(path):
    cells = notebooks.code_cells(nbformat.read(path, as_version=4))
    assert {cell.id: lines for cell in cells if (lines := alt_code(cell.source))} == {}


@pytest.mark.parametrize(
    "source",
    [
        'alt = f"{share} %"',
        'plots.show(figure, f"{share} %")',
        'plots.bars(share, x="%", conclusion=f"{share} %")',
        'plots.bars(share, x="%", conclusion="a " + b)',
    ],
)
def test_composed_alt_text_is_found(source):
    assert alt_code(source)


def test_constant_conclusions_pass():
    assert alt_code('plots.bars(share, x="%", conclusion="It grows.")\nplots.show(figure)') == []


@pytest.mark.parametrize("path", notebooks.notebooks("chapters"), ids=notebooks.name)
def test_every_stored_figure_has_its_alt_text(path):
    notebook = nbformat.read(path, as_version=4)
    bare = [
        cell.id
        for cell in notebooks.code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert bare == []
    for cell_id, page in notebooks.figures(notebook):
        alts = [html.unescape(alt) for alt, _ in IMAGE.findall(page)]
        assert len(alts) == page.count("<img") == 1, cell_id
        assert len(alts[0].split()) >= 6, f"{cell_id}: {alts[0]!r} says too little"
