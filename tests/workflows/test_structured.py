"""Letters, schemas, the methods of extraction and their scores, without a server."""

import json
from types import SimpleNamespace
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from openmodels.harbour.text import held_out
from openmodels.harbour.world import DAYS, GOODS
from openmodels.minis import stats
from openmodels.workflows import structured
from openmodels.workflows.structured import Extraction, Extractor

ANSWER = {"name": "Thora", "item": "knife", "quantity": 2, "price": 36, "day": "Sunday"}
LETTER = "2 knives for Thora, 36 coins, Sunday."
VALID = json.dumps(ANSWER)


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    item: Literal[tuple(GOODS)]
    quantity: int = Field(ge=1, le=40)
    price: int
    day: Literal[tuple(DAYS)]


class ScriptedClient:
    """Answers with prepared texts, in order, and records the requests."""

    def __init__(self, *texts: str):
        self.texts, self.requests = list(texts), []
        self.chat = SimpleNamespace(completions=self)

    def create(self, **request: object) -> SimpleNamespace:
        self.requests.append(request)
        message = SimpleNamespace(content=self.texts.pop(0))
        return SimpleNamespace(
            choices=[SimpleNamespace(message=message, finish_reason="stop")],
            usage=SimpleNamespace(prompt_tokens=10, completion_tokens=4),
        )


def extractor(*texts: str, limit: int = 1) -> Extractor:
    return Extractor(ScriptedClient(*texts), "model", Order, "Return JSON.", limit=limit)


def extraction(record: BaseModel | None, tokens: int = 10) -> Extraction:
    return Extraction(record, "", "", "stop", 1, tokens, 0, 0.1)


# --- Letters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", structured.KINDS)
def test_letters_are_seeded_held_out_and_have_their_record(kind):
    letters = structured.letters(kind, 24, seed=1)
    assert letters == structured.letters(kind, 24, seed=1)
    assert len({letter.key for letter in letters}) == 24
    for letter in letters:
        record = json.loads(letter.answer["content"])
        assert Order.model_validate(record)
        assert held_out(record["name"], record["item"])
        assert str(record["price"]) in letter.messages[1]["content"]


def test_an_unknown_kind_of_letter_is_refused():
    with pytest.raises(ValueError, match="trained, typed, dialect"):
        structured.letters("spoken", 1)


@pytest.mark.parametrize("field", ["price", "day"])
def test_an_incomplete_letter_does_not_state_the_field(field):
    for letter in structured.incomplete_letters(field, 20):
        text, record = letter.messages[1]["content"], json.loads(letter.answer["content"])
        assert record[field] is None
        assert structured.unstated_fields(record, text) == []
        assert structured.unstated_fields(record | {field: "Noday"}, text) == [field]


# --- Schemas --------------------------------------------------------------------------------------


def test_properties_are_sorted_at_every_depth():
    inner = {"type": "object", "properties": {"z": {}, "b": {}}}
    schema = {"properties": {"y": inner, "a": {"anyOf": [inner]}}, "$defs": {"part": inner}}
    result = structured.sort_properties(schema)
    assert list(result["properties"]) == ["a", "y"]
    assert list(result["properties"]["y"]["properties"]) == ["b", "z"]
    assert list(result["properties"]["a"]["anyOf"][0]["properties"]) == ["b", "z"]
    assert list(result["$defs"]["part"]["properties"]) == ["b", "z"]
    assert list(schema["properties"]) == ["y", "a"]


def test_a_field_called_properties_is_no_list_of_properties():
    schema = {"properties": {"properties": {"type": "string"}, "a": {}}}
    assert structured.sort_properties(schema)["properties"]["properties"] == {"type": "string"}


def test_properties_are_put_into_an_order():
    schema = structured.order_properties(Order.model_json_schema(), ["day", "name"])
    assert list(schema["properties"]) == schema["required"] == ["day", "name"]
    with pytest.raises(KeyError):
        structured.order_properties(schema, ["price"])


def test_an_object_has_exactly_its_properties():
    schema = structured.object_schema({"b": {"type": "integer"}, "a": {}})
    assert list(schema["properties"]) == schema["required"] == ["b", "a"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("change", "letter", "fields"),
    [
        ({}, LETTER, []),
        ({"price": 63}, LETTER, ["price"]),
        ({"price": 3}, LETTER, ["price"]),  # 3 is part of 36, but no word
        ({"quantity": 1}, "A knife for Thora, 36 coins, Sunday.", []),
        ({"day": "Monday", "name": "Ida"}, LETTER, ["name", "day"]),
        ({"day": None}, "2 knives for Thora, 36 coins.", []),
    ],
)
def test_unstated_values_are_listed(change, letter, fields):
    assert structured.unstated_fields(ANSWER | change, letter) == fields


# --- Extraction -----------------------------------------------------------------------------------


def test_one_call_brings_a_record_or_the_error():
    result = extractor(VALID).ask(LETTER)
    assert result.matches(ANSWER)
    assert (result.calls, result.prompt_tokens, result.completion_tokens) == (1, 10, 4)
    result = extractor(VALID.replace("2", "200")).ask(LETTER)
    assert result.record is None
    assert result.error == "quantity: Input should be less than or equal to 40"
    assert not result.matches(ANSWER)


def test_text_that_is_no_json_is_an_error_without_a_field():
    assert extractor("2 knives.").ask(LETTER).error == "Extra data: line 1 column 3 (char 2)"


def test_a_constrained_call_sends_the_schema():
    subject = extractor(VALID, VALID)
    subject.constrain(LETTER)
    subject.constrain(LETTER, {"type": "object"})
    first, second = (request["response_format"] for request in subject.client.requests)
    assert first["json_schema"]["schema"] == Order.model_json_schema()
    assert first["json_schema"]["strict"] is True
    assert second["json_schema"]["schema"] == {"type": "object"}


def test_a_retry_sees_the_letter_the_reply_and_the_error():
    subject = extractor("no JSON", VALID)
    result = subject.retry(LETTER, subject.ask(LETTER))
    messages = subject.client.requests[1]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[1]["content"] == LETTER
    assert messages[2]["content"] == "no JSON"
    assert messages[3]["content"].startswith("Error: Expecting value")
    assert result.matches(ANSWER)
    assert (result.calls, result.prompt_tokens, result.completion_tokens) == (2, 20, 8)


def test_a_repair_sees_the_reply_and_the_error_only():
    subject = extractor('{"name": ', VALID)
    result = subject.repair(subject.ask(LETTER))
    messages = subject.client.requests[1]["messages"]
    assert messages[0]["content"] == "Repair the JSON."
    assert messages[1]["content"].startswith('JSON: {"name": \nError: Expecting value')
    assert LETTER not in messages[1]["content"]
    assert (result.calls, result.matches(ANSWER)) == (2, True)


def test_a_repair_can_see_the_letter_too():
    subject = extractor("{}", VALID)
    subject.repair(subject.ask(LETTER), LETTER)
    content = subject.client.requests[1]["messages"][1]["content"]
    assert content == f"Order: {LETTER}\nJSON: {{}}\nError: name: Field required"


def test_a_new_sample_repeats_the_request_at_a_temperature():
    subject = extractor("no JSON", VALID)
    result = subject.resample(LETTER, subject.ask(LETTER))
    first, second = subject.client.requests
    assert first["messages"] == second["messages"]
    assert (first["temperature"], second["temperature"]) == (0, 0.8)
    assert (result.calls, result.matches(ANSWER)) == (2, True)


def test_a_valid_reply_costs_no_further_call():
    subject = extractor(VALID)
    first = subject.ask(LETTER)
    assert subject.retry(LETTER, first) == first
    assert subject.resample(LETTER, first) == first
    assert subject.repair(first) == first


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_further_calls_are_limited(limit):
    for method in ("retry", "resample", "repair"):
        subject = extractor(*["no JSON"] * (limit + 1), limit=limit)
        first = subject.ask(LETTER)
        arguments = [first] if method == "repair" else [LETTER, first]
        result = getattr(subject, method)(*arguments)
        assert (result.calls, result.record) == (limit + 1, None)


# --- Scores ---------------------------------------------------------------------------------------


def test_a_summary_separates_valid_from_right():
    right, wrong = Order(**ANSWER), Order(**ANSWER | {"price": 63})
    results = [extraction(right), extraction(wrong), extraction(None), extraction(right)]
    summary = structured.summarise(results, [ANSWER] * 4)
    assert (summary.valid.correct, summary.right.correct, summary.wrong_but_valid) == (3, 2, 1)
    assert summary.tokens_per_right == 20
    assert len(summary.cells()) == len(structured.HEADER) - 1
    assert summary.cells()[:3] == ["75 (30–95)", "50 (15–85)", "1"]
    assert structured.summarise(results[1:3], [ANSWER] * 2).tokens_per_right == float("inf")
    with pytest.raises(ValueError):
        structured.summarise(results, [ANSWER])


def test_points_state_the_paired_interval():
    new, old = [True] * 32 + [False] * 18, [True] * 20 + [False] * 12 + [True] * 2 + [False] * 16
    assert structured.points(new, old) == "+20.0 points (+5.6 to +32.9), better"
    assert structured.points(old, new).endswith(", worse")
    assert structured.points(new, new).endswith(", not clear")
    assert stats.verdict((0.1, 0.0, 0.2)) == "not clear"
    assert stats.verdict((0.1, 0.01, 0.2), "higher", "lower") == "higher"


def test_the_cheapest_method_is_not_clearly_worse():
    right, none = Order(**ANSWER), None
    answers = [ANSWER] * 40
    methods = {
        "good": [extraction(right, 50)] * 40,
        "nearly": [extraction(right, 20)] * 39 + [extraction(none, 20)],
        "bad": [extraction(none, 5)] * 40,
    }
    assert structured.cheapest(methods, answers) == "nearly"
    assert structured.cheapest({"bad": methods["bad"]}, answers) == "none"


def test_a_decision_names_the_best_method_and_the_cheapest():
    right, answers = Order(**ANSWER), [ANSWER] * 40
    methods = {
        "good": [extraction(right, 50)] * 40,
        "nearly": [extraction(right, 39)] * 39 + [extraction(None, 39)],
    }
    assert structured.decide(methods, answers) == ["good", "nearly", "39 of 40", "40"]
    failed = {"bad": [extraction(None)] * 40}
    assert structured.decide(failed, answers) == ["none", "none: send to a person", "0", "–"]
    assert len(structured.DECISION_HEADER) == 5


def test_a_table_has_a_row_per_label():
    lines = structured.table({"all": ([extraction(Order(**ANSWER))], [ANSWER])}).splitlines()
    assert lines[0].split() == " ".join(structured.HEADER).split()
    assert lines[1].startswith("all     100 (21–100)")
    rows = structured.summarise([extraction(None)], [ANSWER]).intervals("all")
    assert list(rows) == ["all: valid", "all: right"]
    assert rows["all: valid"][0] == 0


def chunks(*texts: str | None) -> list[SimpleNamespace]:
    deltas = [SimpleNamespace(delta=SimpleNamespace(content=text)) for text in texts]
    return [*(SimpleNamespace(choices=[delta]) for delta in deltas), SimpleNamespace(choices=[])]


def test_a_streamed_object_grows_field_by_field():
    parts = list(structured.partial_objects(chunks('{"a": ', "1", '2, "b', '": "x"', None, "}")))
    assert parts == [{"a": 1}, {"a": 12}, {"a": 12, "b": "x"}]
    with pytest.raises(ValueError, match="no JSON object"):
        list(structured.partial_objects(chunks("[1")))
    with pytest.raises(ValueError):
        list(structured.partial_objects(chunks("No idea.")))
