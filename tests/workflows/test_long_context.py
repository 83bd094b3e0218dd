"""Texts with facts at known places."""

import re

import pytest

from openmodels.workflows import long_context
from openmodels.workflows.retrieval import contains


@pytest.mark.parametrize("task", [long_context.needle, long_context.multi_key])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_the_fact_is_at_its_place(task, place):
    stack = task(400, place, 3)
    assert abs(len(" ".join(stack.sentences).split()) - 400) < 12
    facts = [n for n, text in enumerate(stack.sentences) if text not in long_context.FILLER]
    at = place * (len(stack.sentences) - 1)
    near = min(facts, key=lambda n: abs(n - at))
    assert abs(near - at) <= 2 and contains(stack.sentences[near], stack.values)
    assert task(400, place, 3) == stack != task(400, place, 4)
    assert stack.prompt.startswith("Text: ") and stack.prompt.endswith(stack.question)


def test_one_key_of_many_has_the_value_that_is_asked_for():
    for seed in range(20):
        stack = long_context.multi_key(300, 0.5, seed)
        facts = [text for text in stack.sentences if text not in long_context.FILLER]
        assert len(facts) == len(set(facts)) == long_context.KEYS
    assert len(long_context.multi_key(300, 0.5, 0, keys=3).sentences) > 3


@pytest.mark.parametrize("hops", [0, 1, 3])
def test_a_chain_leads_to_the_value(hops):
    stack = long_context.variable_tracking(300, hops, 1)
    berths = {m[1]: m[2] for m in re.finditer(r"The (\S+) lies at (berth \d+)", stack.prompt)}
    links = dict(re.findall(r"The (\S+) lies at the berth of the (\S+)\.", stack.prompt))
    ship, steps = re.search(r"does the (\S+) lie", stack.question)[1], 0
    while ship in links:
        ship, steps = links[ship], steps + 1
    assert steps == hops and stack.values == (berths[ship],) and len(set(berths.values())) == 2


def test_facts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        long_context.multi_key(20, 0.5, 0)
    with pytest.raises(ValueError, match="ships"):
        long_context.variable_tracking(300, 99, 0)


def test_a_search_shortens_a_text_to_the_sentences_with_the_words_of_the_question():
    stack = long_context.needle(600, 0.4, 2)
    short = long_context.shorten(stack, 5)
    assert len(short.sentences) <= 5 and contains(short.prompt, stack.values)
    places = [stack.sentences.index(sentence) for sentence in short.sentences]
    assert places == sorted(places) and short.question == stack.question
