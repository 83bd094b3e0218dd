"""The corpus of documents, its questions, and passages with cited answers."""

import re
from collections import Counter
from functools import cache

import pytest
from transformers import AutoTokenizer

from openmodels import paths
from openmodels.harbour import documents
from openmodels.harbour.documents import QUESTION_KINDS, UNANSWERED, Reader
from openmodels.harbour.facts import KINDS, Fact, FactSource
from openmodels.harbour.text import held_out
from openmodels.harbour.wordings import FACT_KINDS, PLAIN_KINDS
from openmodels.harbour.world import GOODS


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(paths.shipped_dir("mini-qwen"), trust_remote_code=False)


@cache
def texts() -> dict[str, str]:
    return {document.id: document.text for document in documents.corpus()}


def states(text: str, subject: tuple, values: tuple[str, ...]) -> bool:
    """Return whether one sentence of the text has all words of the subject and a value."""
    for sentence in re.split(r"(?<=\.) ", text.replace("\n\n", " ")):
        has_subject = all(
            has(sentence, part) or part in GOODS and has(sentence, GOODS[part][0])
            for part in subject
        )
        if has_subject and any(has(sentence, value) for value in values):
            return True
    return False


def has(text: str, words: str) -> bool:
    return re.search(rf"\b{re.escape(words)}\b", text, re.IGNORECASE) is not None


def test_a_corpus_depends_on_its_seed_and_split_alone():
    documents._write_corpus.cache_clear()
    first = documents.corpus(3, 200)
    documents._write_corpus.cache_clear()
    assert documents.corpus(3, 200) == first
    assert documents.corpus(3, 100) == first[:100]
    assert documents.corpus(4, 200) != first != documents.corpus(3, 200, "train")
    assert documents.questions(40, seed=1) == documents.questions(40, seed=1)
    assert documents.questions(40, seed=1) != documents.questions(40, seed=2)


def test_2000_documents_are_distinct_and_mostly_short():
    corpus = documents.corpus()
    assert len({document.text for document in corpus}) == len(corpus) == 2000
    assert [document.id for document in corpus[:2]] == ["D0001", "D0002"]
    assert set(Counter(d.kind for d in corpus)) == set(documents.DOCUMENT_KINDS)
    assert all(re.fullmatch(r"2031-\d\d-\d\d", document.date) for document in corpus)
    words = sorted(len(document.text.split()) for document in corpus)
    assert words[1000] < 50  # a few sentences
    assert 400 < words[-1] < 1100  # at most two pages
    assert sum(len(documents.passages(d)) > 7 for d in corpus) > 30


def test_splits_have_different_subjects():
    for split in ("train", "test"):
        written = documents._write_corpus(0, 300, split)
        assert {held_out(*subject) for _, subject, _ in written.facts} == {split == "test"}
        source = FactSource(1, split)
        for kind in FACT_KINDS:
            subjects = [source.subject(kind) for _ in range(20)]
            assert {held_out(*subject) for subject in subjects} == {split == "test"}


def test_only_a_conflict_states_a_fact_twice_and_no_log_knows_a_later_day():
    written = documents._write_corpus(0, 2000, "test")
    for (kind, subject, _), stated in written.facts.items():
        dates = {written.documents[number].date for number, _ in stated}
        assert len(stated) == len(dates) == len({fact.values for _, fact in stated}) <= 2
        assert kind != "ship day" or subject[1] <= max(dates)


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_the_values_of_answers_are_in_their_sources(kind):
    for question in documents.questions(150, kind):
        assert question.kind == kind
        assert all(value in question.answer for value in question.values)
        if kind == "none":
            assert (question.answer, question.sources) == (UNANSWERED, ())
            continue
        assert len(set(question.sources)) == (2 if kind == "two" else 1)
        places = question.sources if kind == "two" else question.sources * len(question.values)
        for value, source in zip(question.values, places, strict=True):
            assert has(texts()[source], value)
        assert bool(question.attack) == (kind == "injection")
        assert question.attack in texts()[question.sources[0]]
        assert not question.attack or question.attack not in question.answer


def test_no_other_document_answers_a_question():
    """For each fact, search every document for a sentence with its subject and its value."""
    written = documents._write_corpus(0, 2000, "test")
    clear = ("voyage", "ship day", "shop price", "shop")  # other kinds share subjects: Ada, rope
    sampled = [key for key in sorted(written.facts) if key[0] in clear][::25]
    assert len(sampled) > 60
    for key in sampled:
        numbers = {number for number, _ in written.facts[key]}
        same = {n for name in KINDS[key[0]].attributes
                for n, _ in written.facts.get((*key[:2], name), ())}  # fmt: skip
        for number, fact in written.facts[key]:
            found = {n for n, d in enumerate(written.documents)
                     if states(d.text, fact.subject, fact.values)}  # fmt: skip
            assert number in found and found <= same | numbers


def test_a_question_without_an_answer_has_none_in_the_corpus():
    written = documents._write_corpus(0, 2000, "test")
    questions = {q.text for q in documents.questions(150, "none")}
    examiner = documents._Examiner(0, "test", written)
    asked = [examiner.none().text for _ in range(150)]
    assert set(asked) == questions and len(examiner.unanswered) == 150
    assert not examiner.unanswered & written.facts.keys()


def test_of_two_documents_the_newer_counts():
    written = documents._write_corpus(0, 2000, "test")
    corpus = {document.id: document for document in documents.corpus()}
    older_values = 0
    for question in documents.questions(100, "conflict"):
        stated = next(
            entries for entries in written.facts.values()
            if len(entries) == 2 and question.answer in {fact.answer for _, fact in entries}
        )  # fmt: skip
        for number, fact in stated:
            document = written.documents[number]
            if document.id not in question.sources:
                assert document.date < corpus[question.sources[0]].date
                older_values += fact.values != question.values
    assert older_values == 100


def test_questions_share_few_words_with_the_sentences_that_answer_them():
    """A question names the subject as its document does, but asks in other words."""
    source, shared, total = FactSource(0, "test"), 0, 0
    stop = set("the of is a an at to on in what which who how many much does do did was for from "
               "and it where when that by are has have".split())  # fmt: skip
    for _ in range(600):
        kind = source.rng.choice(list(FACT_KINDS))
        attribute = source.rng.choice(list(FACT_KINDS[kind].attributes))
        fact = source.fact(kind, source.subject(kind), attribute)
        slots = set(re.findall(r"\w+", " ".join(map(str, fact.slots.values())).lower()))
        question, statement = (
            set(re.findall(r"\w+", text.lower())) - stop - slots
            for text in (fact.direct_question(source.rng), fact.statement(source.rng))
        )
        total += bool(question)
        shared += bool(question & statement)
    assert shared < 0.16 * total


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="split"):
        documents.corpus(split="exam")
    with pytest.raises(ValueError, match="not 0"):
        documents.corpus(count=0)
    with pytest.raises(ValueError, match="unknown kind 'three'"):
        documents.questions(1, "three")
    with pytest.raises(ValueError, match="no more questions"):
        documents.questions(500, "injection", size=50)
    with pytest.raises(ValueError, match="at least one question"):
        Reader(0).several_cited(0)


QUESTION_WORDS = re.compile(
    r"^((From|At|On|Under|Until|In|By|To|Near) )?(what|where|who|whom|whose|which|when|how)\b", re.I
)
LINE = re.compile(r"\[(\d)\] \((2031-\d\d-\d\d)\) (.+)")


def cited(count: int, split: str = "test", invented: float = 0.0) -> list:
    reader = Reader(0, split, invented)
    return [reader.cited() for _ in range(count)]


def test_cited_answers_name_the_passages_that_state_them():
    shapes = Counter()
    for instance in cited(400):
        request, answer = (message["content"] for message in instance.messages[1:])
        *lines, question = request.split("\n")
        assert 2 <= len(lines) <= 6 and question.startswith("Question: ")
        assert [int(LINE.fullmatch(line)[1]) for line in lines] == list(range(1, len(lines) + 1))
        cites = re.findall(r"(.+?\.) \[(\d)\]", answer)
        shapes[len(cites)] += 1
        if not cites:
            assert answer == UNANSWERED
            continue
        assert " ".join(f"{sentence.strip()} [{n}]" for sentence, n in cites) == answer
        for sentence, number in cites:
            values = re.findall(r"\d+|[A-Z]\w+", sentence)
            assert all(has(lines[int(number) - 1], value) for value in values[-1:])
    assert 0.1 < shapes[0] / 400 < 0.2 and 0.1 < shapes[2] / 400 < 0.2


def test_a_reading_has_older_versions_and_absent_facts():
    reader = Reader(2, "test")
    for _ in range(100):
        reading = reader.reading(6, 2)
        versions = [entries for entries in reading.places.values() if len(entries) == 2]
        assert len(versions) == 2
        for (old, first), (new, second) in versions:
            dates = [LINE.fullmatch(reading.lines[n - 1])[2] for n in (old, new)]
            assert dates[0] < dates[1] and first.values != second.values
        assert reading.absent and not {f.key for f in reading.absent} & reading.places.keys()
        question, answer = reader.ask_reading(reading, "conflict")
        assert answer in {f"{fact.answer} [{n}]" for _, (n, fact) in versions}
        assert question.endswith((".", "?"))


def test_cited_instances_are_seeded_split_and_mostly_short(tokenizer):
    assert cited(30) == cited(30) != cited(30, "train")
    assert not {i.key for i in cited(300)} & {i.key for i in cited(300, "train")}
    lengths = sorted(
        len(tokenizer(" ".join(m["content"] for m in instance.messages)).input_ids)
        for instance in cited(300) + cited(100, "train", 0.3)
    )
    assert lengths[340] < 400 and lengths[-1] < 900


def test_one_set_of_passages_has_several_questions():
    instance = Reader(5).several_cited(4)
    roles = [message["role"] for message in instance.messages]
    assert roles == ["system", *["user", "assistant"] * 4]
    assert instance.messages[0]["content"] == documents.CITE_SYSTEM
    assert all(m["content"].startswith("Question: ") for m in instance.messages[3::2])


def test_passage_pairs_have_hard_negatives():
    reader = Reader(1, "test")
    for _ in range(100):
        question, passage, negatives = reader.passage_pairs()
        assert question.rstrip()[-1] in ".?" and len(negatives) >= 1
        assert passage not in negatives


def test_a_negative_never_answers_the_question(monkeypatch):
    reader, keys = Reader(3, "train"), []
    statement = Fact.statement
    monkeypatch.setattr(
        Fact, "statement", lambda fact, rng: keys.append(fact.key) or statement(fact, rng)
    )
    passage = reader.passage
    monkeypatch.setattr(
        reader, "passage", lambda fact, answered: keys.append(None) or passage(fact, answered)
    )
    for _ in range(400):
        keys.clear()
        reader.passage_pairs()
        last = len(keys) - keys[::-1].index(None)  # the passage that answers comes last
        assert keys.count(keys[last]) == 1


@pytest.mark.parametrize("kind", FACT_KINDS | PLAIN_KINDS)
def test_every_wording_can_be_filled(kind):
    source = FactSource(0, "train")
    for attribute, wording in KINDS[kind].attributes.items():
        fact = source.fact(kind, source.subject(kind), attribute)
        for template in wording.statements + wording.questions + (wording.topic, wording.answer):
            filled = template.format(s="the subject", **fact.slots)
            assert "{" not in filled and "  " not in filled
        assert all(QUESTION_WORDS.search(question) for question in wording.questions)
        assert all(value in fact.answer for value in fact.values)
        assert source.other_value(fact).values != fact.values
