"""The checker itself on a demo exercise, then every exercise of the course."""

import asyncio
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

import openmodels.check as checking
from openmodels import progress_file
from openmodels.check import Checker, NotYet, WrongAnswer, check, exercise, hint, progress

COURSE = checking.all_exercises()
CHECKERS = [known.load_checker() for known in COURSE]


# --- A demo exercise ------------------------------------------------------------------------------


def mean(values):
    return sum(values) / len(values)


def untouched(values):
    raise NotImplementedError("replace this line with your code")


def crashing(values):
    return values / 0


def forgetful(values):
    sum(values)


def words(values):
    return "two and a half"


def calling_a_library(values):
    return asyncio.AbstractEventLoop().run_forever()


@pytest.fixture(autouse=True)
def demo(monkeypatch, tmp_path):
    """Exercises 90.1 (a function), 90.2 (a value), 90.3 (two functions); the progress file."""
    monkeypatch.setattr(checking, "_checkers", dict(checking._checkers))
    monkeypatch.setattr(checking, "_unlisted", {})
    monkeypatch.setattr(checking, "_latest_lab", None)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(progress_file, "_last_entries", {})
    monkeypatch.setattr(progress_file, "_warned", False)
    monkeypatch.setenv("OPENMODELS_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("OPENMODELS_GRADING", raising=False)

    @exercise(
        "90.1",
        title="Take a mean",
        hints=["Add them up.", "Then divide."],
        wrong=[WrongAnswer("the sum", sum, "10 ... expected 2.5. Did you divide")],
    )
    def check_mean(mean):
        checking.expect_close(mean([1, 2, 3, 4]), 2.5, "the mean", "Did you divide?")
        return "and it agrees with numpy."

    @exercise("90.2", title="Guess", hints=[], value=True)
    def check_guess(guess):
        checking.expect_equal(guess, 42, "your guess")
        return "that is it."

    @exercise("90.3", title="Two", hints=[])
    def check_two(first, second):
        checking.expect_equal(first(), second(), "the first result")
        return "they agree."

    return tmp_path / "progress.json"


def test_four_states():
    assert repr(check("90.1", untouched)) == (
        "90.1 not attempted yet: `untouched` still raises NotImplementedError."
    )
    assert repr(check("90.1", mean)) == "90.1 ✓ and it agrees with numpy."
    wrong = check("90.1", sum)
    assert wrong.state == "not yet"
    assert repr(wrong) == "90.1 not yet: the mean is 10, expected 2.5. Did you divide?"


def test_crash_names_the_line_of_the_learner():
    message = check("90.1", crashing).message
    line = crashing.__code__.co_firstlineno + 1
    assert message.startswith(f"your code stopped in line {line} of its cell, `return values / 0`")
    assert "TypeError: unsupported operand" in message


def test_a_stub_from_a_cell_without_source_is_untouched():
    names = {}
    exec("def route(values):\n    raise NotImplementedError", names)
    assert check("90.1", names["route"]).state == "not attempted"


def test_a_library_that_raises_notimplementederror_is_an_attempt():
    outcome = check("90.1", calling_a_library)
    assert outcome.state == "not yet"
    assert "AbstractEventLoop().run_forever()`, with NotImplementedError" in outcome.message


def test_none_and_unusable_results_have_their_own_messages():
    assert check("90.1", forgetful).message == "the mean is None. Is a `return` missing?"
    assert "str 'two and a half', expected numbers" in check("90.1", words).message

    @exercise("90.4", title="Bare", hints=[])
    def check_bare(mean):
        return f"{mean([1, 2]) + 1} is right."

    assert check("90.4", forgetful).message == (
        "what `forgetful` returned is None. Is a `return` missing?"
    )
    assert "`words` returned str 'two" in check("90.4", words).message


def test_a_value_where_a_function_belongs():
    message = check("90.1", np.zeros((2, 3))).message
    assert "the function itself, and got a ndarray of shape (2, 3)" in message
    assert '`check("90.1", mean)`' in message
    assert "got None" in check("90.1", None).message
    assert "called with 1 answers" in check("90.3", mean).message


def test_values_and_pairs():
    assert check("90.2", None).state == check("90.2", ...).state == "not attempted"
    assert check("90.2", 41).message == "your guess is 41, expected 42."
    assert check("90.2", 42).state == "correct"
    assert check("90.3", lambda: 1, lambda: 1).state == "correct"


def test_exit_is_caught_and_an_interrupt_is_not():
    def leave(values):
        raise SystemExit

    def stop(values):
        raise KeyboardInterrupt

    assert "SystemExit" in check("90.1", leave).message
    with pytest.raises(KeyboardInterrupt):
        check("90.1", stop)


def test_unknown_and_bad_numbers():
    with pytest.raises(LookupError, match=r'no exercise "90\.9".*90\.1, 90\.2, 90\.3'):
        check("90.9", mean)
    with pytest.raises(ValueError, match="looks like"):
        exercise("2", title="", hints=[])
    with pytest.raises(ValueError, match="already registered"):
        exercise("90.1", title="", hints=[])(lambda answer: "")


def test_title_and_hints_have_one_place():
    with pytest.raises(ValueError, match=r"0\.1 belong in openmodels\.exercises\.lab0 only"):
        exercise("0.1", title="Bill an order")
    with pytest.raises(ValueError, match=r"belong in"):
        exercise("0.1", hints=["Multiply."])
    with pytest.raises(ValueError, match=r"0\.99 is not listed: add .* to openmodels.*lab0"):
        exercise("0.99")


def test_a_listed_exercise_without_a_module_is_named():
    missing = checking.Exercise("0.99", "Nothing")
    with pytest.raises(LookupError, match=r"exercise 0\.99 has no checker: see .*lab0"):
        missing.load_checker()


@pytest.mark.parametrize(
    ("message", "matches"),
    [
        ("a (b) is 2.5", True),
        ("2.5 ... divide", True),
        ("2x5", False),
        ("divide ... 2.5", False),
        ("is ... one", False),
    ],
)
def test_a_wrong_answer_matches_its_message(message, matches):
    wrong = WrongAnswer("name", None, message)
    assert wrong.matches("a (b) is 2.5.\nDid you divide?") == matches


def test_a_checker_without_a_sentence_is_the_authors_mistake():
    exercise("90.5", title="", hints=[])(lambda answer: None)
    with pytest.raises(TypeError, match="must return a sentence"):
        check("90.5", mean)


# --- How an outcome is shown ----------------------------------------------------------------------


def test_html_escapes_and_plain_text_is_always_there():
    bundle = checking.Outcome("90.1", "not yet", "`a<b` & so on")._repr_mimebundle_()
    assert bundle["text/plain"] == "90.1 not yet: `a<b` & so on"
    assert "90.1 not yet: <code>a&lt;b</code> &amp; so on" in bundle["text/html"]
    assert set(bundle) == {"text/plain", "text/html"}


def test_grading_adds_a_machine_readable_result(monkeypatch):
    monkeypatch.setenv("OPENMODELS_GRADING", "1")
    assert check("90.1", mean)._repr_mimebundle_()[checking.MIME] == {
        "exercise": "90.1",
        "state": "correct",
        "message": "and it agrees with numpy.",
    }


CELLS = {  # source of a cell, and what it shows, in order
    'check("90.1", len)': ["90.1 ✓ right."],
    'check("90.1", sum)\nx = 1': ["90.1 not yet: `sum` is 3."],
    'check("90.1", sum);': ["90.1 not yet: `sum` is 3."],
    'x = check("90.1", sum)': ["90.1 not yet: `sum` is 3."],
    'x = check("90.1", sum)\nx': ["90.1 not yet: `sum` is 3."],
    'x = check("90.1", sum)\nprint(x)': ["90.1 not yet: `sum` is 3."],
    '(check("90.1", len), 1)': ["(90.1 ✓ right., 1)"],
    'check("90.1", sum)\ncheck("90.1", len)': ["90.1 not yet: `sum` is 3.", "90.1 ✓ right."],
    'for f in (len, sum):\n    check("90.1", f)': ["90.1 ✓ right.", "90.1 not yet: `sum` is 3."],
    'check("90.1", len)\nraise ValueError("stop")': ["ValueError: stop", "90.1 ✓ right."],
    "1": ["1"],
    'hint("90.1")': ["Hint 1 of 1: Try `len`."],
    'hint("90.1")\nx = 1': ['90.1 has 1 hint, no more. The first: hint("90.1", 1).'],
}
IN_A_KERNEL = """from openmodels.check import NotYet, check, exercise, hint

@exercise("90.1", title="Count", hints=["Try `len`."])
def check_count(count):
    if count([1, 2]) != 2:
        raise NotYet("`sum` is 3.")
    return "right."
"""


def shown_text(output) -> str:
    """Return an output of a cell as text."""
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return output.text.strip() if output.output_type == "stream" else output.data["text/plain"]


def test_a_notebook_shows_each_result_once(demo, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(checking._PACKAGE.parent))
    monkeypatch.setenv("OPENMODELS_GRADING", "1")
    cells = [new_code_cell(source) for source in (IN_A_KERNEL, *CELLS)]
    notebook = new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=60).execute()
    results = {cell.source: cell.outputs for cell in notebook.cells[1:]}
    assert {source: [*map(shown_text, outputs)] for source, outputs in results.items()} == CELLS
    last, earlier = results['check("90.1", sum)\ncheck("90.1", len)'][::-1]
    assert (last.output_type, last.data[checking.MIME]["state"]) == ("execute_result", "correct")
    assert (earlier.output_type, earlier.data[checking.MIME]["state"]) == (
        "display_data",
        "not yet",
    )
    (output,) = results['hint("90.1")']
    assert output.data["text/html"] == "<div>Hint 1 of 1: Try <code>len</code>.</div>"


# --- Expectations ---------------------------------------------------------------------------------


def message_of(expectation, *arguments, **named):
    with pytest.raises(NotYet) as caught:
        expectation(*arguments, **named)
    return str(caught.value)


def test_a_script_prints_each_result_and_a_prompt_shows_its_value(monkeypatch, capsys):
    check("90.1", untouched)
    assert capsys.readouterr().out.startswith("90.1 not attempted yet: ")
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    check("90.1", untouched)
    assert capsys.readouterr().out == ""


def test_expect_close():
    torch = pytest.importorskip("torch")
    close = checking.expect_close
    close(torch.tensor([1.0, 2.0], requires_grad=True), [1, 2.00001], "x")
    close(torch.tensor(2, dtype=torch.bfloat16), 2, "x")
    assert message_of(close, [[0.0, 0.87]], [[0.0, 1.0]], "the sum", "Look there.") == (
        "the sum is 0.87 at [0, 1], expected 1. Look there."
    )
    assert message_of(close, float("nan"), 1, "x") == "x is nan, expected 1."
    assert message_of(close, [1, 2], [1, 2, 3], "x") == "x has shape (2,), expected (3,)."


def test_expect_equal():
    torch = pytest.importorskip("torch")
    equal = checking.expect_equal
    equal(torch.tensor([1, 2]), (1, 2), "x")
    equal(None, None, "x")
    assert message_of(equal, [0, 2], [1, 2], "token 0") == "token 0 is [0, 2], expected [1, 2]."
    assert message_of(equal, "the quick fox", "the quiet fox", "the text") == (
        "the text, at position 7, is 'c', expected 'e'."
    )
    assert message_of(equal, None, 3, "x") == "x is None. Is a `return` missing?"


def test_expect_type_and_shape():
    checking.expect_type(np.zeros(1), "ndarray", "x")
    assert (
        message_of(checking.expect_type, 3, (str, list), "x") == "x is int 3, expected str or list."
    )
    checking.expect_shape(np.zeros((2, 3)), (2, None), "x")
    assert message_of(checking.expect_shape, np.zeros(2), (2, None), "x", "One row each?") == (
        "x has shape (2,), expected (2, any). One row each?"
    )
    assert "x is list [1]" in message_of(checking.expect_shape, [1], (1,), "x")


# --- Hints and progress ---------------------------------------------------------------------------


def said(capsys, *arguments):
    hint(*arguments)
    return capsys.readouterr().out.strip()


def test_hints_by_number_and_in_turn(capsys):
    assert said(capsys, "90.1") == "Hint 1 of 2: Add them up."
    assert said(capsys, "90.1") == "Hint 2 of 2: Then divide."
    assert said(capsys, "90.1").startswith("90.1 has 2 hints, no more.")
    assert said(capsys, "90.1", 1) == "Hint 1 of 2: Add them up."
    assert said(capsys, "90.1", 7).startswith("90.1 has 2 hints, no more.")
    assert said(capsys, "90.2") == "90.2 has 0 hints, no more."


def entry(path, number="90.1"):
    return json.loads(path.read_text())["exercises"].get(number)


def test_progress_counts_and_correct_stays_correct(demo, capsys):
    check("90.1", untouched)
    assert entry(demo) == {"state": "not attempted", "attempts": 0, "hints": []}
    check("90.1", sum)
    check("90.1", mean)
    check("90.1", sum)
    hint("90.1", 2)
    assert entry(demo) == {"state": "correct", "attempts": 2, "hints": [2]}
    table = repr(progress())
    row = next(line for line in table.splitlines() if line.startswith("90.1"))
    assert row.split() == ["90.1", "Take", "a", "mean", "correct", "2", "1", "of", "2"]
    assert table.splitlines()[-1].startswith("1 of ")
    page = re.sub(r' style="[^"]*"', "", progress()._repr_html_())
    assert "<td>90.1</td><td>Take a mean</td><td>correct</td>" in page


def test_progress_outlives_the_kernel(demo):
    check("90.1", mean)
    progress_file._last_entries = {}
    row = next(row for row in progress().rows if row[0] == "90.1")
    assert row[2] == "correct"


@pytest.mark.parametrize(
    ("latest", "path", "first"),
    [
        ("", "", "0.1"),
        ("1.2", "", "1.1"),
        ("2.4", "labs/1_landscape.ipynb", "2.1"),
        ("", "/home/ada/3_courses/labs/2_local_deployment.ipynb", "2.1"),
        ("", "chapters/2_local_deployment/1_will_it_fit.ipynb", "2.1"),
        ("", r"C:\course\labs\1_landscape.ipynb", "1.1"),
        ("", "1_landscape.ipynb", "1.1"),
        ("", "labs/7_unknown.ipynb", "0.1"),
        ("", "notes of 2027.ipynb", "0.1"),
    ],
)
def test_progress_begins_with_the_current_lab(monkeypatch, capsys, latest, path, first):
    monkeypatch.setenv("JPY_SESSION_NAME", path)
    if latest:
        hint(latest)
    numbers = [row[0] for row in progress().rows]
    assert numbers[0] == first
    assert sorted(numbers) == sorted(known.number for known in checking.all_exercises())


def test_vs_code_names_the_notebook_in_a_variable(monkeypatch):
    shell = SimpleNamespace(
        user_ns={"__vsc_ipynb_file__": "/home/ada/labs/2_local_deployment.ipynb"}
    )
    monkeypatch.setattr(checking, "_shell", lambda: shell)
    assert progress().rows[0][0] == "2.1"


def modules_after(code: str) -> set[str]:
    """Return the modules that a fresh Python has loaded after running code."""
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(checking._PACKAGE.parent)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


HEAVY = {"torch", "transformers", "starlette", "numpy", "ollama", "IPython"}


def test_progress_and_hints_load_no_exercise():
    code = "from openmodels.check import hint, progress\nrepr(progress()); hint('2.1')"
    modules = modules_after(code)
    assert not modules & HEAVY
    assert [name for name in modules if ".ex_" in name] == []
    assert "openmodels.exercises.lab2" in modules


def test_a_check_loads_its_own_exercise_only():
    code = "from openmodels.check import check\ncheck('0.1', lambda price, quantity: 60)"
    modules = modules_after(code)
    assert [name for name in modules if ".ex_" in name] == ["openmodels.exercises.lab0.ex_0_1_bill"]
    assert not modules & HEAVY


@pytest.mark.parametrize(
    "bad",
    [
        3,
        {"state": "best", "attempts": 0, "hints": []},
        {"state": "correct", "attempts": "many", "hints": []},
        {"state": "correct", "attempts": 1},
        {"state": "correct", "attempts": 1, "hints": ["first"]},
    ],
)
def test_a_damaged_entry_costs_no_other_entry(demo, capsys, bad):
    check("90.1", mean)
    stored = json.loads(demo.read_text())
    stored["exercises"]["90.2"] = bad
    demo.write_text(json.dumps(stored))
    damaged = demo.read_bytes()
    rows = {row[0]: row[2] for row in progress().rows}
    assert (rows["90.1"], rows["90.2"]) == ("correct", "not attempted")
    said = capsys.readouterr().out
    copy = demo.with_name("progress.json.broken-1")
    assert copy.read_bytes() == damaged
    assert "damaged at 90.2" in said and copy.name in said
    assert entry(demo, "90.2") is None and entry(demo)["state"] == "correct"
    check("90.2", 42)
    assert capsys.readouterr().out == "90.2 ✓ that is it.\n"
    assert entry(demo, "90.2")["state"] == "correct"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b'{"exercises": []}',
        b'{"exercises": {"90.1": 3}}',
        b'{"exercises": {"90.1": {"state": "best", "attempts": 0, "hints": []}}}',
        b'{"exercises": {"90.1": {"state": "correct", "attempts": "many", "hints": []}}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_kept_and_a_new_one_begins(demo, capsys, damage):
    for number in (1, 2):
        demo.write_bytes(damage)
        assert check("90.1", mean).state == "correct"
        aside = demo.with_name(f"progress.json.broken-{number}")
        assert aside.read_bytes() == damage
        assert f"kept as {aside.name}" in capsys.readouterr().out
        assert entry(demo)["state"] == "correct"


def test_where_nothing_can_be_written_it_says_so_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OPENMODELS_PROGRESS", str(tmp_path / "file" / "progress.json"))
    check("90.1", sum)
    assert capsys.readouterr().out.count("cannot be saved") == 1
    check("90.1", mean)
    assert capsys.readouterr().out == "90.1 ✓ and it agrees with numpy.\n"
    assert next(row for row in progress().rows if row[0] == "90.1")[2:4] == ("correct", "2")


WRITER = """
import sys
from openmodels.check import check, exercise
for i in range(25):
    number = f"{sys.argv[1]}.{i}"
    exercise(number, title="", hints=[])(lambda answer: "right.")
    check(number, print)
"""


def test_two_notebooks_at_once_lose_nothing(demo):
    environment = {**os.environ, "PYTHONPATH": str(checking._PACKAGE.parent)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, lab], env=environment)
        for lab in ("91", "92")
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert len(json.loads(demo.read_text())["exercises"]) == 50


# --- Every exercise of the course -----------------------------------------------------------------


def untouched_answers(checker: Checker):
    """What an untouched lab passes to the check."""

    def stub(*args, **kwargs):
        raise NotImplementedError("replace this line with your code")

    return [None if checker.value else stub for _ in checker.parameters]


def number_of(checker: Checker) -> str:
    return checker.number


def test_the_course_has_exercises():
    assert COURSE, "no lab lists an exercise"


@pytest.mark.parametrize("checker", CHECKERS, ids=number_of)
def test_untouched_is_not_attempted(checker):
    assert checker.judge(*untouched_answers(checker)).state == "not attempted"


@pytest.mark.parametrize("known", COURSE, ids=number_of)
def test_an_exercise_has_a_title_and_hints(known):
    lab = f"openmodels/exercises/lab{known.lab}/__init__.py"
    assert known.title.strip(), f"write the title in {lab}"
    assert known.hints, f"write hints in {lab}"
    assert isinstance(known.hints, tuple) and all(map(str.strip, known.hints))


@pytest.mark.parametrize("checker", CHECKERS, ids=number_of)
def test_an_exercise_has_wrong_answers_with_names_and_messages(checker):
    names = [wrong.name for wrong in checker.wrong_answers]
    assert names, f"add wrong answers to {checker.function.__module__}"
    assert len(set(names)) == len(names)
    assert all(wrong.message.strip() for wrong in checker.wrong_answers)


@pytest.mark.parametrize(
    ("checker", "wrong"),
    [pytest.param(c, w, id=f"{c.number} {w.name}") for c in CHECKERS for w in c.wrong_answers],
)
def test_a_wrong_answer_gets_its_message(checker, wrong):
    answers = wrong.answer if len(checker.parameters) > 1 else (wrong.answer,)
    outcome = checker.judge(*answers)
    place = checker.function.__module__
    assert outcome.state == "not yet", (
        f"{place} accepts the wrong answer {wrong.name!r}: let the checker try arguments for which "
        f"it differs from the solution; now: {outcome.message}"
    )
    assert wrong.matches(outcome.message), (
        f"{place} rejects the wrong answer {wrong.name!r} without {wrong.message!r}; the learner "
        f"reads: {outcome.message}"
    )


# --- Points ---------------------------------------------------------------------------------------


def test_a_checker_can_return_points_with_its_sentence(monkeypatch):
    def scored(value):
        if value < 1:
            raise NotYet("half of the cases pass.", value)
        return "all cases pass.", 1.0

    checker = Checker("90.9", (), True, scored)
    right, partly = checker.judge(1), checker.judge(0.5)
    assert (right.state, right.points, right.message) == ("correct", 1.0, "all cases pass.")
    assert (partly.state, partly.points) == ("not yet", 0.5)
    monkeypatch.setenv("OPENMODELS_GRADING", "token")
    assert partly._repr_mimebundle_()[checking.MIME]["points"] == 0.5
    plain = Checker("90.9", (), True, lambda value: "right.").judge(1)
    assert "points" not in plain._repr_mimebundle_()[checking.MIME]
