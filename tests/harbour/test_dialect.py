"""Long Reef's dialect: every order can be read back by hand, and the splits share nothing."""

import json
import re

import pytest

from openmodels.harbour import Harbour, dialect
from openmodels.harbour.text import ORDER_SYSTEM, held_out
from openmodels.harbour.world import DAYS
from openmodels.harbour.world import GOODS as PLAIN

READ = {
    "item": {theirs: ours for ours, theirs in dialect.GOODS.items()},
    "quantity": {theirs: ours for ours, theirs in dialect.COUNTS.items()},
    "day": {f"{theirs} tide": ours for ours, theirs in dialect.TIDES.items()},
}


def fields(order) -> dict:
    return json.loads(order.answer["content"])


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_order_says_what_its_answer_holds(split):
    for order in dialect.orders(300, split=split):
        text, right = order.key, fields(order)
        assert order.messages[1]["content"] == text
        for field, words in READ.items():
            said = [words[word] for word in words if re.search(rf"\b{re.escape(word)}", text)]
            assert said == [right[field]], text
        assert re.findall(r"\d+", text) == [str(right["price"])]
        assert len(re.findall(rf"\b{right['name']}\b", text)) == 1


def test_an_order_has_the_form_of_a_plain_one():
    plain, order = Harbour(0).order(), dialect.Reef(0).order()
    assert order.messages[0] == plain.messages[0] == {"role": "system", "content": ORDER_SYSTEM}
    assert list(fields(order)) == list(fields(plain))
    assert order.task == plain.task


def test_no_held_out_pair_is_trained():
    pairs = {
        split: {(fields(o)["name"], fields(o)["item"]) for o in dialect.orders(600, 3, split)}
        for split in ("train", "test")
    }
    assert not pairs["train"] & pairs["test"]
    assert all(held_out(*pair) for pair in pairs["test"])


def test_orders_are_a_function_of_their_seed_and_differ():
    first = list(dialect.orders(200, seed=4))
    assert first == list(dialect.orders(200, seed=4))
    assert first != list(dialect.orders(200, seed=5))
    assert len({order.key for order in first}) == 200
    with pytest.raises(ValueError, match="split"):
        dialect.Reef(0, "both")


def test_the_words_are_no_words_of_the_plain_world():
    assert set(dialect.GOODS) <= set(PLAIN)
    plain = {word for good, (plural, _, _) in PLAIN.items() for word in (good, plural)}
    assert not set(dialect.GOODS.values()) & plain
    assert list(dialect.TIDES) == list(DAYS)
    for words in READ.values():
        assert len(words) == len(set(words.values()))
        assert all(word in dialect.glossary() for word in words)
