"""The acceptance suite of lab 5 is decidable, and scores each requirement on its own."""

from collections import Counter
from dataclasses import replace

import pytest

from openmodels.check import NotYet
from openmodels.exercises.lab5 import ex_5_6_office as office
from openmodels.exercises.lab5 import requirements as needs
from openmodels.exercises.lab5 import suite
from openmodels.exercises.lab5.cases import COUNTS, VISIBLE, Has, draw_suite, of_kind
from openmodels.exercises.lab5.perfect import perfect_models
from openmodels.harbour.documents import located_questions
from openmodels.workflows.calls import Usage
from openmodels.workflows.office_kit import claims, subjects, topic
from openmodels.workflows.office_request import Call, Reply, Source

SEEDS = (VISIBLE, 1, 7)


@pytest.fixture(scope="module")
def results():
    return suite.run_suite(office.reference_build_office, draw_suite(1), perfect_models)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_suite_has_60_cases_in_fixed_shares(seed):
    cases = draw_suite(seed).cases
    assert len(cases) == 60
    assert Counter(case.kind for case in cases) == COUNTS
    assert [case.number for case in cases] == list(range(1, 61))


def test_hidden_cases_differ_from_the_visible_ones_and_repeat_with_their_seed():
    visible, hidden = (
        {(c.request.text, c.harbour) for c in draw_suite(s).cases} for s in SEEDS[:2]
    )
    assert not visible & hidden
    draw_suite.cache_clear()
    assert {(c.request.text, c.harbour) for c in draw_suite(1).cases} == hidden


@pytest.mark.parametrize("seed", SEEDS)
def test_the_documents_answer_exactly_the_questions_that_they_should(seed):
    drawn = draw_suite(seed)
    rules = [d for d in drawn.documents if d.kind == "rules"]
    for case in [*of_kind(drawn, "rules"), *of_kind(drawn, "unanswered")]:
        question = case.request.text
        states = {
            document.id
            for document in rules
            for sentence in document.text.replace("\n\n", " ").split(". ")
            if subjects(question) <= subjects(sentence) and claims(sentence, topic(question))
            if "clerk" not in sentence and "Assistant" not in sentence
        }
        assert states == set(case.sources)


def test_the_reference_passes_every_case_with_models_that_make_no_mistake(results):
    assert suite.failures(results) == []
    assert suite.points(results) == 1


def test_tables_have_every_kind_and_requirement(results):
    assert [row[0] for row in suite.by_kind(results)[1:]] == [*COUNTS, "all"]
    assert suite.by_kind(results)[-1][1] == "60 of 60 (94 to 100 %)"
    assert [row[0] for row in suite.by_requirement(results)[1:]] == list(needs.REQUIREMENTS)


def test_a_case_gets_partial_credit(results):
    result = next(r for r in results if r.case.kind == "rules")
    reply = replace(result.record.reply, sources=(Source("D9999", "x"),))
    scored = needs.score(result.case, replace(result.record, reply=reply))
    assert [name for name, problem in scored.problems.items() if problem] == ["citation"]
    assert scored.points == pytest.approx(3 / 4)
    assert "requirement citation" in scored.message()
    assert result.case.request.text in scored.message()


def test_an_office_that_raises_gets_no_points():
    def build(desk):
        return lambda request, approve: 1 / 0

    [result] = suite.run_suite(build, draw_suite(1), perfect_models, cases=draw_suite(1).cases[:1])
    assert result.points == 0
    assert "ZeroDivisionError" in result.message()


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("It costs 40 coins.", "40", True), ("It costs 140 coins.", "40", False),
        ("The water is at 5.4 m.", "5.4", True), ("The water is at 5.4 m.", "5", False),
        ("At 14, and at 9.", "9", True), ("THE PILOT declares it.", "pilot", True),
    ],
)  # fmt: skip
def test_values_are_whole_words(text, value, expected):
    assert needs.contains(text, value) is expected


@pytest.mark.parametrize(
    "text",
    [
        "The documents do not say.", "The rules don't mention this.", "No rule states this.",
        "I could not find that in the documents.", "没有。",
    ],
)  # fmt: skip
def test_a_refusal_may_have_several_wordings(text, results):
    result = next(r for r in results if r.case.kind == "unanswered")
    record = replace(result.record, reply=replace(result.record.reply, text=text))
    assert needs.check_refusal(result.case, record) == ""


def test_a_refusal_with_a_number_is_none(results):
    result = next(r for r in results if r.case.kind == "unanswered")
    reply = replace(result.record.reply, text="The documents do not say, perhaps 5 coins.")
    assert "contains 5" in needs.check_refusal(result.case, replace(result.record, reply=reply))


def test_texts_of_calls_may_differ_in_case_and_full_stop():
    expected = {"to": "Ada", "text": "The rope is here."}
    assert needs.same_arguments({"to": "Ada", "text": "the rope is here"}, expected)
    assert not needs.same_arguments({"to": "Ada", "text": "the rope was here"}, expected)
    assert not needs.same_arguments({"to": "Ada"}, expected)
    free = {"to": "Ada", "text": Has(("Heron", "8"))}
    assert needs.same_arguments({"to": "Ada", "text": "Heron asks for berth 8."}, free)
    assert not needs.same_arguments({"to": "Ada", "text": "Heron asks for berth 18."}, free)


def test_a_budget_is_what_the_suite_counts(results):
    result = results[0]
    spent = replace(result.record, usage=Usage(calls=7, prompt_tokens=10))
    assert "7 calls" in needs.check_budget(result.case, spent)
    assert "reports" in needs.check_budget(
        result.case, replace(result.record, usage=Usage(calls=5))
    )


def test_hidden_cases_are_drawn_if_a_grader_sets_their_seed(monkeypatch):
    monkeypatch.delenv(suite.HIDDEN_SEED, raising=False)
    assert suite.hidden_seed() == VISIBLE
    monkeypatch.setenv(suite.HIDDEN_SEED, "31")
    assert suite.hidden_seed() == 31


def test_an_office_that_misses_its_contract_gets_points_for_hidden_cases(monkeypatch):
    monkeypatch.setenv(suite.HIDDEN_SEED, "1")
    drawn = draw_suite(1)
    cases = {case.request: case for case in drawn.cases}
    scored = suite.run_suite(
        office.use(finish=lambda reply: replace(reply, trace="")), drawn, perfect_models
    )
    assert len(cases) == 60
    monkeypatch.setattr(office, "models", lambda: perfect_models)
    with pytest.raises(NotYet) as problem:
        office.check_office(office.use(finish=lambda reply: replace(reply, trace="")))
    assert problem.value.points == pytest.approx(suite.points(scored))
    sentence, points = office.check_office(office.reference_build_office)
    assert (points, "hidden" in sentence) == (1, True)


def test_questions_of_one_kind_of_fact_name_their_document():
    facts = list(located_questions("duty", "single", 3, 3, 300))
    absent = list(located_questions("duty", "none", 3, 3, 300))
    assert facts
    assert all(fact.kind == "duty" and document for fact, _, document in facts)
    assert not {fact.key for fact, _, _ in facts} & {fact.key for fact, _, _ in absent}
    assert {document for _, _, document in absent} == {""}
    with pytest.raises(ValueError, match="'single' or 'none'"):
        next(located_questions("duty", "two"))


def test_a_call_has_one_of_four_states():
    assert Call("tide", {"day": "Monday"}).state == "done"
    assert Reply("Good morning.").sources == ()
    with pytest.raises(ValueError, match="denied"):
        Call("tide", {}, state="lost")


def test_a_desk_gets_an_office_whose_traces_it_can_open(tmp_path):
    visible = draw_suite(VISIBLE)
    models = perfect_models(visible.cases[0])
    shown = suite.open_office(office.reference_build_office, visible, models, tmp_path / "desk")
    reply = shown(visible.cases[0].request, lambda name, arguments: False)
    assert suite.trace_spans(shown.traces, reply.trace)

    def unwritten(desk):
        raise NotImplementedError

    unfinished = suite.open_office(unwritten, visible, models, tmp_path / "desk")
    with pytest.raises(NotImplementedError):
        unfinished(visible.cases[0].request, lambda name, arguments: False)
