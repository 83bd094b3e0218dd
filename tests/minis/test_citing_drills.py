"""Drills in citing: numbered passages, then pieces of them with the passage's number."""

import random
import re

import pytest

from openmodels.harbour.documents import Reader
from openmodels.minis import data, tokenizer, train
from openmodels.minis.tokenizer import VOCABULARY


@pytest.fixture(scope="module")
def words():
    return tokenizer.load("mini-qwen-agent")


@pytest.fixture(scope="module")
def brackets(words):
    return data.Brackets.of(words)


def split(document, brackets):
    """Return the passages' tokens by number, and the pieces with the number each cites."""
    ids, passages, place = document.ids, {}, 0
    while ids[place] == brackets.opening:
        stop = ids.index(brackets.stop, place)
        passages[ids[place + 1]] = ids[place + 3 : stop]
        place = stop + 1
    pieces = []
    while brackets.citing in ids[place:-2]:
        stop = ids.index(brackets.citing, place)
        piece = [token for token in ids[place:stop] if token != brackets.stop]
        pieces.append((piece, ids[stop + 1]))
        place = stop + 3
    return passages, pieces


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_a_piece_is_from_the_passage_that_it_cites(level, brackets):
    for seed in range(20):
        document = data.pointing(random.Random(seed), VOCABULARY, brackets, level)
        passages, pieces = split(document, brackets)
        assert pieces and 2 <= len(passages) <= 6
        for piece, number in pieces:
            shared = {t for n, passage in passages.items() if n != number for t in passage}
            assert piece[0] in passages[number] and piece[0] not in shared


def test_only_the_numbers_of_citations_are_targets(brackets):
    document = data.pointing(random.Random(3), VOCABULARY, brackets, 0.7)
    assert len(document.ids) == len(document.weights)
    places = [n for n, weight in enumerate(document.weights) if weight]
    assert places == [n + 1 for n, t in enumerate(document.ids[:-1]) if t == brackets.citing]
    assert {document.ids[n] for n in places} <= set(brackets.digits)


def test_the_first_pieces_are_followed_by_their_citation_at_once(brackets):
    def between(level):
        gaps = []
        for seed in range(40):
            document = data.pointing(random.Random(seed), VOCABULARY, brackets, level)
            passages, pieces = split(document, brackets)
            gaps += [sum(t not in passages[n] for t in piece) for piece, n in pieces]
        return gaps

    assert set(between(0.0)) == {0}
    assert max(between(1.0)) > 3


def test_quotations_are_from_the_passages_they_name(words, brackets):
    reader, kinds = Reader(2, "train"), set()
    for _ in range(30):
        lines, texts = reader.quotations()
        for text, number in texts:
            kinds.add(text in lines[number - 1])
            assert 1 <= number <= len(lines)
        document = data.quoting(words, (lines, texts), brackets)
        assert sum(document.weights) == len(texts)
        decoded = words.decode(document.ids)
        assert decoded.startswith(lines[0]) and decoded.endswith("]")
        assert len(re.findall(r" \[\d\]", decoded)) == len(texts)
    assert kinds == {True, False}  # verbatim sentences, and answers in other words


def test_drills_become_harder_and_then_rarer(words):
    recipe = train.CONTINUED["mini-qwen-agent"]
    stream = data.Stream(words, recipe, 1, recipe.batch_tokens)

    def drills(tokens_read):
        rows = [stream._document(tokens_read) for _ in range(60)]
        marker = words.convert_tokens_to_ids("<|im_start|>")
        return [row for row in rows if marker not in row.ids]

    early, late = drills(0), drills(recipe.drill_tokens)
    assert len(early) > 30 > 15 > len(late)
    assert max(len(row.ids) for row in early) < 220
