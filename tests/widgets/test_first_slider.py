"""The first slider of the course: it starts where several tokens are likely."""

import nbformat
from notebooks import ROOT

import openmodels
from openmodels.widgets import sampling_explorer

FIRST = ROOT / "chapters" / "00_start_here.ipynb"


def test_the_first_slider_starts_with_several_bars():
    notebook = nbformat.read(FIRST, as_version=4)
    [cell] = [cell for cell in notebook.cells if "widgets.sampling(" in cell.source]
    model, tokenizer = openmodels.load("mini-qwen")
    scope = {"model": model, "tokenizer": tokenizer, "widgets": sampling_explorer}
    exec(cell.source.replace("widgets.sampling(", "explorer = widgets.sampling("), scope)
    explorer = scope["explorer"]
    assert explorer.controls[0].value == 2
    logits = sampling_explorer.next_logits(model, tokenizer, scope["prompt"] + "A lamp costs ")
    probabilities, _, _ = sampling_explorer.nucleus(logits, 2.0, 0.9)
    assert (probabilities > 0.02).sum() >= 8
    assert explorer.text == cell.outputs[0]["data"]["text/plain"]
