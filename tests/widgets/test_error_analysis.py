"""Error analysis: notes that survive, what Python accepts from a browser, and a real browser."""

import json
import subprocess
import sys
import threading

import nbformat
import notebooks
import pytest
import test_browser as browser
from test_browser import address, course, page  # noqa: F401

from openmodels.widgets import ErrorAnalysis, error_analysis
from openmodels.widgets.error_analysis import MAX_CODE, MAX_CODES, MAX_NOTE

TRACES = [
    {"id": f"R{n}", "input": f"passages {n}", "output": f"output {n}", "target": "berth 7"}
    for n in range(4)
]
HOSTILE = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "notes.json"


@pytest.fixture
def analysis(path):
    return ErrorAnalysis(TRACES, path, ["wrong value"])


def send(widget, **content):
    widget._receive(widget, {"kind": "note", **content}, [])


# --- What is stored -------------------------------------------------------------------------------


def test_a_note_is_in_the_file_at_once_and_there_again(analysis, path):
    assert not path.exists()  # looking changes nothing
    send(analysis, id="R1", codes=["wrong value", "older"], note="reads [1] first")
    assert json.loads(path.read_text("utf-8"))["notes"]["R1"]["note"] == "reads [1] first"
    again = ErrorAnalysis(TRACES, path, ["wrong value"])
    assert again.notes == analysis.notes and again.codes == ["wrong value", "older"]
    assert again.counts == {"older": 1, "wrong value": 1} and analysis.message == ""


def test_codes_are_counted_by_case(analysis):
    analysis.code("R0", ["b", "a", "b"])
    analysis.code("R1", ["b"])
    analysis.code("R2", [], "only a note")
    assert list(analysis.counts.items()) == [("b", 2), ("a", 1)]
    analysis.code("R1", [])
    assert list(analysis.counts.items()) == [("a", 1), ("b", 1)]


def test_two_notebooks_do_not_lose_each_others_notes(analysis, path):
    second = ErrorAnalysis(TRACES, path)
    analysis.code("R0", ["a"])
    second.code("R1", ["b"])
    assert second.counts == {"a": 1, "b": 1}
    threads = [
        threading.Thread(target=error_analysis.store_note, args=(path, f"N{n}", note))
        for n in range(20)
        for note in [{"codes": ["c"], "note": ""}]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(error_analysis.read_notes(path)) == 22


def test_notes_of_other_cases_stay_in_the_file(analysis, path):
    error_analysis.store_note(path, "another run", {"codes": ["x"], "note": ""})
    analysis.code("R0", ["a"])
    assert set(error_analysis.read_notes(path)) == {"another run", "R0"}
    assert "another run" not in ErrorAnalysis(TRACES, path).notes


@pytest.mark.parametrize(
    ("content", "valid"),
    [("{", 0), ("[]", 0), ('{"notes": 3}', 0), ('{"notes": []}', 0),
     ('{"notes": {"R0": {"codes": ["a"], "note": ""}, "R1": {"codes": 3}}}', 1)],
)  # fmt: skip
def test_a_damaged_file_is_copied_before_it_is_replaced(path, content, valid):
    path.parent.mkdir()
    path.write_text(content, "utf-8")
    analysis = ErrorAnalysis(TRACES, path)
    assert len(analysis.notes) == valid
    analysis.code("R2", ["b"])
    copies = [copy.read_text("utf-8") for copy in path.parent.glob("*.broken-*")]
    assert copies == [content]
    assert len(error_analysis.read_notes(path)) == valid + 1


KILLED = """
import os, sys
from openmodels.widgets import error_analysis
from openmodels import files
files.replace = lambda draft, target: os._exit(9)
error_analysis.store_note(__import__("pathlib").Path(sys.argv[1]), "R1", {"codes": [], "note": "x"})
"""


def test_a_crash_while_storing_leaves_the_old_file(analysis, path):
    analysis.code("R0", ["a"], "first")
    before = path.read_bytes()
    ran = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=notebooks.ROOT)
    assert ran.returncode == 9 and path.read_bytes() == before
    analysis.code("R1", ["b"])
    assert set(error_analysis.read_notes(path)) == {"R0", "R1"}


def test_a_note_that_cannot_be_stored_stays_in_the_notebook(analysis, path, monkeypatch):
    def refuse(*_arguments):
        raise PermissionError("read-only")

    monkeypatch.setattr(error_analysis.files, "replace", refuse)
    send(analysis, id="R0", codes=["a"], note="")
    assert analysis.message.startswith("Not stored in the file, only in this notebook")
    assert analysis.notes["R0"]["codes"] == ["a"] and not path.exists()
    monkeypatch.undo()
    send(analysis, id="R0", codes=["a"], note="")
    assert analysis.message == "" and path.exists()


# --- What Python accepts --------------------------------------------------------------------------

NOTE = {"id": "R0", "codes": ["a"], "note": ""}
REFUSED = {
    "unknown case": (NOTE | {"id": "R9"}, "no case 'R9'"),
    "id is a list": (NOTE | {"id": []}, "Not stored"),
    "no codes": (NOTE | {"codes": None}, "at most 20 codes"),
    "many codes": (NOTE | {"codes": [str(n) for n in range(MAX_CODES + 1)]}, "at most 20 codes"),
    "long code": (NOTE | {"codes": ["x" * (MAX_CODE + 1)]}, "1 to 40 characters"),
    "empty code": (NOTE | {"codes": ["  "]}, "1 to 40 characters"),
    "number": (NOTE | {"codes": [3]}, "1 to 40 characters"),
    "long note": (NOTE | {"note": "x" * (MAX_NOTE + 1)}, "at most 4000 characters"),
    "note is a number": (NOTE | {"note": 3}, "a note is a text"),
    "other kind": (NOTE | {"kind": "run"}, "unknown message"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_message_changes_nothing_and_says_why(analysis, path, content, message):
    analysis._receive(None, {"kind": "note"} | content, [])
    assert message in analysis.message and analysis.notes == {} and not path.exists()


@pytest.mark.parametrize("content", [None, 3, [], "note"])
def test_a_message_of_another_form_is_refused(analysis, content):
    analysis._receive(None, content, [])
    assert "unknown message" in analysis.message


@pytest.mark.parametrize(
    ("traces", "message"),
    [([], "1 to 200 traces"), (TRACES * 60, "1 to 200 traces"), (TRACES[:1] * 2, "same id"),
     ([{"id": "a", "input": "x", "output": "y"}], "needs the text 'target'"),
     ([TRACES[0] | {"output": None}], "needs the text 'output'")],
)  # fmt: skip
def test_other_traces_are_errors(path, traces, message):
    with pytest.raises(ValueError, match=message):
        ErrorAnalysis(traces, path)


def test_the_text_for_pages_without_a_kernel_is_escaped(analysis):
    analysis.code("R0", ["<b>bold</b>"])
    data, _ = analysis._repr_mimebundle_()
    assert "1 of 4 cases have a code" in data["text/plain"]
    assert "<b>" not in data["text/html"] and "&lt;b&gt;" in data["text/html"]


# --- In a browser ---------------------------------------------------------------------------------

CELL = """
import json
from openmodels import widgets
traces = json.load(open("traces.json"))
widgets.ErrorAnalysis(traces, "notes.json", ["wrong value", "wrong source", "not refused"])
"""


def stored(course):  # noqa: F811
    return error_analysis.read_notes(course / "notes.json")


def wait_for_note(page, course, check):  # noqa: F811
    for _ in range(150):
        if check(stored(course)):
            return
        page.wait_for_timeout(200)
    pytest.fail(f"not stored: {stored(course)}")


def test_code_cases_with_mouse_and_keys_in_a_browser(course, page, address):  # noqa: F811
    traces = [*TRACES[:2], TRACES[2] | {"input": HOSTILE, "output": HOSTILE}]
    (course / "traces.json").write_text(json.dumps(traces), "utf-8")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, course / "errors.ipynb")
    first = f"/lab/tree/{browser.setup_jupyter.FIRST_PAGE}"
    page.goto(address.replace(first, "/lab/workspaces/errors/tree/errors.ipynb"))
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    browser.run_all(page)
    area = page.locator(".jp-Notebook .error-analysis")
    title, notes = area.locator(".title"), area.get_by_role("textbox", name="Note")
    browser.expect(title).to_have_text("Case 1 of 3 · 0 of 3 coded")

    area.get_by_role("button", name="wrong source", exact=True).click()
    notes.fill("the citation is of the older passage")
    wait_for_note(page, course, lambda n: n.get("R0", {}).get("note", "").startswith("the cit"))
    assert stored(course)["R0"]["codes"] == ["wrong source"]

    area.focus()
    area.press("ArrowRight")
    browser.expect(title).to_have_text("Case 2 of 3 · 1 of 3 coded")
    browser.expect(notes).to_have_value("")
    area.press("1")
    area.press("3")
    area.press("1")  # a second time: removed
    wait_for_note(page, course, lambda n: n.get("R1", {}).get("codes") == ["not refused"])
    area.get_by_label("new code").fill("odd")
    area.get_by_label("new code").press("Enter")
    wait_for_note(page, course, lambda n: n["R1"]["codes"] == ["not refused", "odd"])
    browser.expect(area.locator("table")).to_contain_text("odd")

    area.get_by_role("button", name="Next without a code").click()
    browser.expect(area.locator("dd.output")).to_have_text(HOSTILE)
    assert area.locator("dd img").count() == 0 and page.title() != "hit"
    browser.run_all(page)  # a new widget shows what was stored
    browser.expect(title).to_have_text("Case 1 of 3 · 2 of 3 coded")
    browser.expect(notes).to_have_value("the citation is of the older passage")
    assert browser.elsewhere(page.requested) == []


def test_a_place_inside_the_course_is_shown_relative_to_it(tmp_path):
    inside = error_analysis.ROOT / "build" / "notes.json"
    assert error_analysis.shown_place(inside).as_posix() == "build/notes.json"
    assert error_analysis.shown_place(tmp_path / "notes.json") == tmp_path / "notes.json"
