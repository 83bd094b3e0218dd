"""The checker itself on a demo exercise, then every exercise of the course."""

import asyncio
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import openmodels.check as checking
from openmodels.check import Exercise, NotYet, Wrong, check, exercise, hint, progress

try:
    COURSE = checking.all_exercises()
except ModuleNotFoundError as missing:
    if missing.name != "openmodels.exercises":
        raise
    COURSE = []


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
    monkeypatch.setattr(checking, "_registry", dict(checking._registry))
    monkeypatch.setattr(checking, "_last_entries", {})
    monkeypatch.setattr(checking, "_warned", False)
    monkeypatch.setenv("OPENMODELS_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("OPENMODELS_GRADING", raising=False)

    @exercise(
        "90.1",
        title="Take a mean",
        hints=["Add them up.", "Then divide."],
        wrong=[Wrong("the sum", sum, r"10.* expected 2\.5\. Did you divide")],
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


# --- Expectations ---------------------------------------------------------------------------------


def message_of(expectation, *arguments, **named):
    with pytest.raises(NotYet) as caught:
        expectation(*arguments, **named)
    return str(caught.value)


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
    checking._last_entries = {}
    row = next(row for row in progress().rows if row[0] == "90.1")
    assert row[2] == "correct"


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
    assert capsys.readouterr().out == ""
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


def test_importing_the_checker_brings_in_no_torch():
    code = "import sys, openmodels.check; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(checking._PACKAGE.parent)}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "False"


# --- Every exercise of the course -----------------------------------------------------------------


def stand_in(exercise: Exercise):
    """What an untouched lab passes to the check."""

    def stub(*args, **kwargs):
        raise NotImplementedError("replace this line with your code")

    return [None if exercise.value else stub for _ in exercise.takes]


def test_the_course_has_exercises():
    assert COURSE, "openmodels.exercises registers no exercise"


@pytest.mark.parametrize("known", COURSE, ids=lambda e: e.number)
def test_untouched_is_not_attempted(known):
    assert known.judge(*stand_in(known)).state == "not attempted"


@pytest.mark.parametrize("known", COURSE, ids=lambda e: e.number)
def test_an_exercise_has_a_title_hints_and_wrong_answers(known):
    assert known.title
    assert known.hints
    assert known.wrong


@pytest.mark.parametrize(
    ("known", "wrong"),
    [pytest.param(e, w, id=f"{e.number} {w.name}") for e in COURSE for w in e.wrong],
)
def test_a_wrong_answer_gets_its_message(known, wrong):
    answers = wrong.make if len(known.takes) > 1 else (wrong.make,)
    outcome = known.judge(*answers)
    assert outcome.state == "not yet"
    assert re.search(wrong.message_part, outcome.message), outcome.message
