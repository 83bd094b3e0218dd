"""Boxes out of a model's answer, whatever the answer is."""

import json

import pytest

from openmodels.harbour import scenes
from openmodels.inside.grounding import MAX_BOXES, LabelledBox, parse_boxes

FLAG = '{"bbox_2d": [10, 5, 40, 30], "label": "red flag"}'
BOX = LabelledBox("red flag", (10, 5, 40, 30))


@pytest.mark.parametrize(
    "answer",
    [f"[{FLAG}]", FLAG, f"```json\n[{FLAG}]\n```", f"Here it is:\n```\n{FLAG}\n```\nDone."],
)
def test_boxes_are_read_with_and_without_a_code_block(answer):
    assert parse_boxes(answer) == [BOX]


def test_right_answers_of_the_harbour_are_read():
    for _, question in scenes.questions("boxes", 5):
        boxes = parse_boxes(question.answer)
        assert [{"bbox_2d": list(b.box), "label": b.label} for b in boxes] == json.loads(
            question.answer
        )


@pytest.mark.parametrize(
    "answer",
    [
        "", "red", "[", "[" * 100_000, "null", "7", '"text"', "[7, null, []]", "[{}]",
        '{"bbox_2d": [1, 2, 3]}', '{"bbox_2d": "1 2 3 4"}', '{"bbox_2d": [1, 2, 3, "4"]}',
        '{"bbox_2d": [1, 2, true, 4]}', '{"bbox_2d": [1, 2, NaN, 4]}',
        '{"bbox_2d": [1, 2, Infinity, 4]}', '{"bbox_2d": [40, 5, 10, 30]}',
        '{"bbox_2d": [10, 5, 10, 30]}', '[{"bbox_2d": [10, 5, 40',
    ],
)  # fmt: skip
def test_an_answer_without_readable_boxes_has_none(answer):
    assert parse_boxes(answer) == []


def test_broken_entries_are_left_out_and_the_number_is_limited():
    assert parse_boxes(f"[{FLAG}, 3, {FLAG}]") == [BOX, BOX]
    assert parse_boxes('{"bbox_2d": [1, 2, 3, 4]}') == [LabelledBox("", (1, 2, 3, 4))]
    assert len(parse_boxes(json.dumps([json.loads(FLAG)] * 500))) == MAX_BOXES
