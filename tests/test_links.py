"""Links between notebooks: one path of *Next* links through the course, and links by title."""

import re
from pathlib import Path

import nbformat
import notebooks
import pytest
import setup_jupyter
from notebooks import ROOT

LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+\.ipynb)\)")
NEXT = re.compile(rf"\*\*Next:\*\* {LINK.pattern}")
SHORT_NAMES = re.compile(r"(claim [a-z]\d+|[Ll]ab \d)\Z")  # of a row of the ledger, of a lab
VAGUE = re.compile(
    r"\b(?:notebook \d|(?:next|last|previous) notebook|notebook on|exercise \d)|\*\*\d\.\d+"
)
ALL = notebooks.notebooks("chapters", "solutions")


def text_cells(path: Path) -> list[nbformat.NotebookNode]:
    """Return the text cells of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "markdown"]


def title(path: Path) -> str:
    """Return a notebook's title, which is the heading of its first cell."""
    return text_cells(path)[0].source.splitlines()[0].removeprefix("# ")


def next_notebook(path: Path) -> Path | None:
    """Return the notebook that a notebook's *Next* link opens; None if it has no such link.

    Raises:
        AssertionError: for more than one *Next* link.
    """
    links = [match for cell in text_cells(path) for match in NEXT.finditer(cell.source)]
    assert len(links) <= 1, f"{notebooks.name(path)} has {len(links)} Next links"
    return (path.parent / links[0][2]).resolve() if links else None


def next_path(first: Path) -> list[Path]:
    """Return the notebooks in the order in which *Next* links lead through them."""
    path = [first]
    while (following := next_notebook(path[-1])) is not None:
        assert following not in path, f"the Next links go round: {notebooks.name(following)}"
        path.append(following)
    return path


def expected_path() -> list[Path]:
    """Return the first notebook, each chapter's notebooks and its lab, and labs of no chapter."""
    order = [ROOT / setup_jupyter.FIRST_PAGE]
    for chapter in sorted(folder for folder in (ROOT / "chapters").iterdir() if folder.is_dir()):
        order += notebooks.notebooks(f"chapters/{chapter.name}")
        lab = ROOT / "labs" / f"{chapter.name}.ipynb"
        order += [lab] if lab.exists() else []
    return order + [lab for lab in notebooks.notebooks("labs") if lab not in order]


def test_next_links_lead_through_every_notebook_once():
    names = [notebooks.name(path) for path in next_path(ROOT / setup_jupyter.FIRST_PAGE)]
    assert names == [notebooks.name(path) for path in expected_path()]
    assert set(names) == {notebooks.name(path) for path in notebooks.notebooks("chapters", "labs")}


@pytest.mark.parametrize("path", notebooks.notebooks("chapters", "labs"), ids=notebooks.name)
def test_links_open_notebooks_and_name_them_by_title(path):
    links = [match.groups() for cell in text_cells(path) for match in LINK.finditer(cell.source)]
    targets = [(text, (path.parent / target).resolve()) for text, target in links]
    assert [target for _, target in targets if not target.is_file()] == []
    assert [
        (text, title(target))
        for text, target in targets
        if text != title(target) and not SHORT_NAMES.match(text)
    ] == []


@pytest.mark.parametrize("path", ALL, ids=notebooks.name)
def test_notebooks_and_exercises_are_named_in_full(path):
    vague = [(cell.id, m[0]) for cell in text_cells(path) for m in VAGUE.finditer(cell.source)]
    assert vague == []


@pytest.mark.parametrize(
    "text",
    [
        "see notebook 2.2",
        "the next notebook has a queue",
        "the notebook on experts",
        "its exercise 2.2",
        "**2.1** write the sampler",
        "**1.5 ●●○ · 15 min — Fit**",
    ],
)
def test_vague_names_are_found(text):
    assert VAGUE.search(text)


@pytest.mark.parametrize("text", ["Exercise 2.3", "this notebook", "**Exercise 2.1 ●●○ · 15 min"])
def test_full_names_pass(text):
    assert not VAGUE.search(text)


def notebook_file(folder: Path, name: str, link: str) -> Path:
    """Write a notebook with a title and a *Next* link; return its path."""
    cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n{link}", id="title")]
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_round_trip_of_next_links_is_found(tmp_path):
    first = notebook_file(tmp_path, "first", "**Next:** [second](second.ipynb)")
    notebook_file(tmp_path, "second", "**Next:** [first](first.ipynb)")
    with pytest.raises(AssertionError, match="go round: first"):
        next_path(first)
    notebook_file(tmp_path, "second", "The end.")
    assert [path.stem for path in next_path(first)] == ["first", "second"]
    twice = "**Next:** [second](second.ipynb) **Next:** [first](first.ipynb)"
    with pytest.raises(AssertionError, match="2 Next links"):
        next_path(notebook_file(tmp_path, "first", twice))
