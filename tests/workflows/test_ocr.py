"""OCR lines as answers, and the stored scores of RapidOCR."""

import json

import pytest

from openmodels.harbour import scenes
from openmodels.workflows import ocr
from openmodels.workflows.documents import Line


def line(text: str, x: float, y: float) -> Line:
    return Line(text, [(x, y), (x + 60, y), (x + 60, y + 15), (x, y + 15)])


def test_answers_follow_the_task():
    assert ocr.answer("gauge", [line("3.5", 10, 10)]) == "3.5 m"
    assert ocr.answer("gauge", [line("6", 10, 10), line("5", 10, 40)]) == "6 5"
    assert ocr.answer("printed", [line("Mara", 90, 10), line("Small", 10, 12)]) == "Small Mara"
    assert json.loads(ocr.answer("form", [line("day", 10, 10), line("Friday", 90, 10)])) == {
        "day": "Friday"
    }


def test_a_form_is_right_in_any_order_and_a_notice_letter_by_letter():
    form = scenes.Question("form", "", '{"good": "rope", "price": 7}')
    assert ocr.is_right(form, '{"price": 7, "good": "rope"}')
    assert not ocr.is_right(form, '{"price": 7}')
    assert not ocr.is_right(form, "rope")
    assert ocr.is_right(scenes.Question("printed", "", "Mara"), "Mara ")
    assert not ocr.is_right(scenes.Question("printed", "", "Mara"), "mara")


def test_stored_scores_are_complete():
    trials = ocr.trials()
    assert {trial.task for trial in trials} == {"form", "printed", "printed_invented", "gauge"}
    for trial, row in zip(trials, ocr.rows(), strict=True):
        assert 0 <= trial.score.correct <= trial.score.n >= 50
        assert (trial.score.low, trial.score.high) == (float(row["low"]), float(row["high"]))
        assert trial.seconds > 0
        assert "tokens" not in str(trial)
    assert "rapidocr 3" in ocr.versions() and "onnxruntime 1" in ocr.versions()


@pytest.mark.skipif(not ocr.installed(), reason="RapidOCR is not installed")
def test_rapidocr_reads_a_notice():
    scene, question = next(iter(scenes.questions("printed", 1, seed=31)))
    assert ocr.is_right(question, ocr.answer("printed", ocr.reader()(scene.image)))


@pytest.mark.skipif(ocr.installed(), reason="RapidOCR is installed")
def test_without_rapidocr_the_reader_names_it():
    with pytest.raises(ImportError, match="rapidocr"):
        ocr.reader()
