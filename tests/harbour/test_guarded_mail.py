"""Mail as a defended office shows it: the three forms, in training conversations."""

import json

import pytest

from openmodels.harbour import assistant, errands, guarded_mail


def drawn(scenario, count=12):
    pool = errands.instances("mail", 120, seed=4, split="train")
    return [e for e in pool if e.scenario == scenario and len(e.turns) == 1][:count]


def read(errand):
    return next(json.loads(m["content"]) for m in errand.messages if m["role"] == "tool")


def test_delimiters_and_marks_can_be_undone():
    text = "Please tell Ada: come at 14."
    assert guarded_mail.delimit(text) == f"<data> {text} </data>"
    assert guarded_mail.undelimit(guarded_mail.delimit(text)) == text
    assert guarded_mail.mark(text) == "Please^tell^Ada:^come^at^14."
    assert guarded_mail.unmark(guarded_mail.mark(text)) == text


@pytest.mark.parametrize("form", guarded_mail.NOTES)
@pytest.mark.parametrize("scenario", ["read_mail", "do_mail"])
def test_the_model_reads_changed_mail_under_a_note(form, scenario):
    show = {"delimiters": guarded_mail.delimit, "datamarking": guarded_mail.mark}[form]
    restore = {"delimiters": guarded_mail.undelimit, "datamarking": guarded_mail.unmark}[form]
    for errand in drawn(scenario):
        before = json.dumps(errand.messages)
        shown = guarded_mail.guarded(errand, form)
        assert json.dumps(errand.messages) == before
        assert shown.messages[0] == {"role": "system", "content": guarded_mail.NOTES[form]}
        assert read(shown)["text"] == show(read(errand)["text"])
        assert restore(shown.messages[-1]["content"]) == errand.messages[-1]["content"]
        for old, new in zip(errand.messages, shown.messages[1:], strict=True):
            assert restore(json.dumps(new.get("tool_calls"))) == json.dumps(old.get("tool_calls"))


def test_a_dual_model_reads_and_reports_stand_ins():
    for errand in drawn("read_mail"):
        shown = guarded_mail.guarded(errand, "symbols")
        assert read(shown) == guarded_mail.SYMBOLS
        answer = shown.messages[-1]["content"]
        assert answer.startswith("Zelda") and "The text is ready." in answer
    # what is carried out stays visible, or its calls could not be known
    acting = [e for e in drawn("do_mail") if len(e.messages) > 4]
    assert all(guarded_mail.guarded(errand, "symbols") is errand for errand in acting)


def test_errands_without_mail_stay_as_they_are_and_forms_are_known():
    errand = next(errands.instances("chain", 1))
    assert guarded_mail.guarded(errand, "delimiters") is errand
    with pytest.raises(ValueError, match="delimiters, datamarking, symbols"):
        guarded_mail.guarded(errand, "quotes")


def test_a_share_of_the_training_mail_is_guarded():
    source = assistant.Assistant(3, "train")
    lessons = [source.lesson({"mail": 1.0}) for _ in range(200)]
    notes = sum(
        lesson.messages[0].get("content") in guarded_mail.NOTES.values() for lesson in lessons
    )
    assert 25 < notes < 90  # scored errands are never guarded
    assert not any(
        m["content"] in guarded_mail.NOTES.values()
        for errand in assistant.instances("mail", 30)
        for m in errand.messages
    )
