"""Reading pictures with the probability of the answer, and OCR lines as a form."""

import json
import math

import pytest
import torch

import openmodels
from openmodels.harbour import scenes
from openmodels.minis import evaluate_vl
from openmodels.minis.qwen_vl import Processor
from openmodels.minis.vl_data import Encoder
from openmodels.workflows import documents
from openmodels.workflows.documents import Line


@pytest.fixture(scope="module")
def model_processor():
    model, tokenizer = openmodels.load("mini-qwen-vl")
    return model, Processor(tokenizer)


def line(text: str, x: float, y: float, degrees: float = 0.0) -> Line:
    """Return a line whose left end is at (x, y) of an upright page that is then tilted."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    width, height = 9 * len(text), 16
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return Line(text, [(cos * x - sin * y, sin * x + cos * y) for x, y in corners])


FORM = [
    ("Order form", 20, 10), ("customer", 20, 40), ("Anders", 130, 41), ("good", 20, 70),
    ("rope", 130, 69), ("quantity", 20, 100), ("9", 130, 100), ("day", 20, 130),
    ("Friday", 130, 131), ("price", 20, 160), ("91", 130, 160),
]  # fmt: skip
ORDER = {"customer": "Anders", "good": "rope", "quantity": 9, "day": "Friday", "price": 91}


@pytest.mark.parametrize("degrees", [-10, 0, 10])
def test_a_tilted_form_is_read_in_any_order_of_lines(degrees):
    lines = [line(*parts, degrees) for parts in FORM]
    assert documents.form_fields(lines) == ORDER
    assert documents.form_fields(lines[::-1]) == ORDER


def test_a_label_may_hold_its_value_and_be_misspelled():
    merged = [line("customer Anders", 20, 40), *(line(*parts) for parts in FORM[3:])]
    assert documents.form_fields(merged) == ORDER
    misread = [
        line(text.replace("good", "qood").replace("quantity", "quantlty"), x, y)
        for text, x, y in FORM
    ]
    assert documents.form_fields(misread) == ORDER


def test_a_missing_value_leaves_its_field_out():
    lines = [line(*parts) for parts in FORM if parts[0] not in ("91", "Friday")]
    without = {key: value for key, value in ORDER.items() if key not in ("price", "day")}
    assert documents.form_fields(lines) == without
    assert documents.form_fields([]) == {}


def test_words_are_read_row_by_row():
    lines = [line("Mara", 100, 11), line("harbour", 10, 40), line("Small", 10, 10)]
    assert documents.reading_order(lines) == "Small Mara harbour"
    assert documents.reading_order([]) == ""


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", '{"a": 1', "[" * 100_000])
def test_what_is_no_object_has_no_fields(text):
    assert documents.parse(text) == {}
    assert documents.parse('{"a": 1}') == {"a": 1}


def test_readings_equal_the_scored_answers(model_processor):
    model, processor = model_processor
    cases = [case for task in ("gauge", "form") for case in scenes.questions(task, 2, seed=5)]
    pictures = [scene.image for scene, _ in cases]
    readings = documents.read(model, processor, pictures, [q.text for _, q in cases], batch=3)
    items = [item for task in ("gauge", "form") for item in evaluate_vl.items(task, 2, 5)]
    expected = evaluate_vl.answers(model, Encoder(processor.tokenizer), items)
    assert [reading.text for reading in readings] == expected
    assert [r.picture_tokens for r in readings] == [
        processor.shape.tokens(*p.size) for p in pictures
    ]
    alone = documents.read(model, processor, pictures[:1], [cases[0][1].text])[0]
    assert 0 < readings[0].confidence <= 1
    assert alone.confidence == pytest.approx(readings[0].confidence, rel=1e-3)
    with pytest.raises(ValueError, match="1 pictures and 0 questions"):
        documents.read(model, processor, pictures[:1], [])


def test_confidence_is_the_probability_of_the_answer(model_processor):
    model, processor = model_processor
    scene, question = next(iter(scenes.questions("gauge", 1, seed=5)))
    reading = documents.read(model, processor, [scene.image], [question.text])[0]
    message = {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": question.text}],
    }
    tokenizer = processor.tokenizer
    prompt = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    start = processor(prompt, [scene.image])["input_ids"].shape[1]
    inputs = processor(prompt + reading.text + tokenizer.eos_token, [scene.image])
    with torch.no_grad():
        logprobs = model(**inputs).logits[0].log_softmax(-1)
    ids = inputs["input_ids"][0]
    total = sum(logprobs[n - 1, ids[n]].item() for n in range(start, len(ids)))
    assert reading.confidence == pytest.approx(math.exp(total), rel=1e-3)


def test_a_trial_scores_at_a_scale(model_processor):
    whole = documents.trial(*model_processor, "gauge", 4, seed=5)
    double = documents.trial(*model_processor, "gauge", 4, seed=5, scale=2.0)
    assert whole.score.n == 4 and whole.seconds > 0
    assert double.tokens == pytest.approx(4 * whole.tokens)
    share, low, high = whole.interval
    assert low <= share <= high and share == whole.score.correct / 4
    assert f"{whole.score.correct} of 4" in str(whole)
    with pytest.raises(ValueError, match="no task"):
        documents.trial(*model_processor, "weather", 1, seed=5)


def test_rescaling_changes_both_sides():
    scene = scenes.scene("form", 1, size=(336, 224))
    assert documents.rescale(scene, 0.5).size == (168, 112)
    assert json.loads(scene.questions[0].answer).keys() == set(scenes.FIELDS)
