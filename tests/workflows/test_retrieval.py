"""Cutting, searching, fusing, citing and the names of failures; the model's calls are replayed."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from openmodels.harbour.documents import UNANSWERED, Document, Question, corpus
from openmodels.workflows import retrieval
from openmodels.workflows.retrieval import CitedAnswer
from openmodels.workflows.store import Passage

LETTER = Document("D1", "mail", "A letter", "2031-02-03", "a b c d e\n\nf g")
BERTH = Question("single", "Where?", "The Heron lies at berth 7.", ("berth 7",), ("D1",))
HERON = Passage("D1", 0, "2031-05-03", "The Heron lies at berth 7.")
OLDER = Passage("D2", 0, "2031-01-03", "The Heron lies at berth 17.")
GULL = Passage("D3", 1, "2031-07-03", "The Gull lies at berth 2.")


def test_passages_by_paragraph_keep_document_place_and_date():
    assert retrieval.by_paragraph([LETTER]) == [
        Passage("D1", 0, "2031-02-03", "a b c d e"),
        Passage("D1", 1, "2031-02-03", "f g"),
    ]


@pytest.mark.parametrize(
    ("size", "overlap", "texts"),
    [
        (3, 0, ["a b c", "d e f", "g"]),
        (3, 1, ["a b c", "c d e", "e f g"]),
        (4, 2, ["a b c d", "c d e f", "e f g"]),
        (99, 9, ["a b c d e f g"]),
    ],
)
def test_passages_by_words_cover_every_word(size, overlap, texts):
    cut = retrieval.by_words([LETTER], size, overlap)
    assert [passage.text for passage in cut] == texts
    assert [passage.number for passage in cut] == list(range(len(texts)))


def test_an_overlap_as_long_as_the_passage_is_refused():
    for size, overlap in ((3, 3), (0, 0), (3, -1)):
        with pytest.raises(ValueError, match="overlap"):
            retrieval.by_words([LETTER], size, overlap)


def test_a_short_document_is_one_passage_whatever_the_overlap():
    for document in corpus(0, 50):
        count = len(document.text.split())
        cut = retrieval.by_words([document], 20, 10)
        assert len(cut) == max(1, math.ceil((count - 10) / 10))


def test_values_are_found_as_whole_words_in_any_case():
    assert retrieval.contains("Wind hit berth 7.", ["wind", "berth 7"])
    assert not retrieval.contains("It lies at berth 17.", ["berth 1"])
    assert not retrieval.contains("berth 7", ["berth 7", "Ada"])


def test_a_rank_counts_the_passages_that_are_needed():
    two = Question("two", "?", "", ("berth 7", "berth 2"), ("D1", "D3"))
    assert retrieval.first_rank([OLDER, HERON, GULL], BERTH) == 2
    assert retrieval.first_rank([OLDER, HERON, GULL], two) == 3
    assert retrieval.first_rank([OLDER, GULL], BERTH) == math.inf
    assert not retrieval.retrieved([], BERTH)


def test_recall_counts_the_questions_whose_first_passages_answer_them():
    flags = retrieval.hits_at([[OLDER, HERON], [GULL]], [BERTH, BERTH], 2)
    assert flags == [True, False]
    assert retrieval.hits_at([[OLDER, HERON]], [BERTH], 1) == [False]
    share, low, high = retrieval.interval(flags)
    assert 0 < low < share == 0.5 < high < 1


def test_a_perfect_search_puts_the_sources_first_and_repeats_nothing():
    results = [GULL, HERON, OLDER]
    passages = [OLDER, HERON, Passage("D1", 1, "2031-05-03", "It rained.")]
    assert retrieval.with_sources(BERTH, passages, results, 3) == [HERON, GULL, OLDER]
    assert retrieval.with_sources(BERTH, passages, results, 1) == [HERON]


def test_fusion_sums_the_reciprocal_ranks():
    assert retrieval.fuse([HERON, GULL], [GULL, OLDER]) == [GULL, HERON, OLDER]
    assert retrieval.fuse([HERON], []) == [HERON]
    # with a small constant, one first place outweighs two middle places
    first, second = [HERON, OLDER, GULL], [Passage("D9", 0, "2031-01-01", "x"), OLDER]
    assert retrieval.fuse(first, second, k=0)[0] in (HERON, OLDER)
    assert retrieval.fuse(first, second, k=60)[0] == OLDER


def test_a_cut_vector_has_length_one():
    vectors = np.array([[3.0, 4.0, 12.0]], dtype=np.float32)
    assert np.allclose(retrieval.cut(vectors, 2), [[0.6, 0.8]])
    with pytest.raises(ValueError, match="dimensions"):
        retrieval.cut(vectors, 4)


def test_nearest_orders_by_similarity():
    vectors = np.eye(3, dtype=np.float32)
    queries = np.array([[0.1, 0.9, 0.5]], dtype=np.float32)
    assert retrieval.nearest(queries, vectors, 2).tolist() == [[1, 2]]


class FakeClient:
    """Replays first tokens and records the requests; embeds a text as its length."""

    def __init__(self, tokens=None, text=""):
        self.tokens, self.text, self.requests = tokens or {}, text, []
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self.complete))
        self.embeddings = SimpleNamespace(create=self.embed)

    def complete(self, **request):
        self.requests.append(request)
        passage = request["messages"][-1]["content"].split("\n")[0].removeprefix("Passage: ")
        top = [
            SimpleNamespace(token=token, logprob=math.log(chance))
            for token, chance in self.tokens.get(passage, {}).items()
        ]
        logprobs = SimpleNamespace(content=[SimpleNamespace(top_logprobs=top)])
        message = SimpleNamespace(content=self.text)
        return SimpleNamespace(choices=[SimpleNamespace(message=message, logprobs=logprobs)])

    def embed(self, model, input):
        self.requests.append(input)
        return SimpleNamespace(data=[SimpleNamespace(embedding=[float(len(t))]) for t in input])


def test_many_texts_are_embedded_in_batches_and_in_order():
    client, texts = FakeClient(), ["x" * (n % 7 + 1) for n in range(retrieval.BATCH + 10)]
    vectors = retrieval.embed(client, texts)
    assert vectors.shape == (len(texts), 1) and vectors.dtype == np.float32
    assert vectors[:, 0].tolist() == [len(text) for text in texts]
    assert [len(batch) for batch in client.requests] == [retrieval.BATCH, 10]


def test_a_question_is_embedded_after_its_instruction():
    client = FakeClient()
    retrieval.embed_questions(client, ["Where?"])
    [[text]] = client.requests
    assert text.startswith("Instruct: ") and text.endswith("Query:Where?")


def test_reranking_compares_yes_with_no():
    client = FakeClient({
        HERON.text: {"yes": 0.6, "no": 0.1, " Yes": 0.1},
        GULL.text: {"yes": 0.2, "no": 0.6},
        OLDER.text: {"The": 0.9},
    })  # fmt: skip
    chances = [retrieval.relevance(client, "m", "Where?", p.text) for p in (HERON, GULL, OLDER)]
    assert chances == pytest.approx([0.875, 0.25, 0.5])
    assert retrieval.rerank(client, "m", "Where?", [GULL, OLDER, HERON]) == [HERON, OLDER, GULL]
    assert client.requests[0]["max_tokens"] == 1


def test_an_answer_numbers_its_passages_and_can_withhold_dates():
    client = FakeClient(text="The Heron lies at berth 7. [2]")
    reply = retrieval.answer(client, "m", "Where?", [GULL, HERON])
    assert reply.cited == (2,) and reply.sources == ("D1",) and not reply.refused
    assert client.requests[0]["messages"][1]["content"] == (
        "[1] (2031-07-03) The Gull lies at berth 2.\n"
        "[2] (2031-05-03) The Heron lies at berth 7.\nQuestion: Where?"
    )
    retrieval.answer(client, "m", "Where?", [GULL], dates=False)
    assert "2031" not in client.requests[1]["messages"][1]["content"]


def test_without_passages_the_answer_is_a_refusal_without_a_call():
    client = FakeClient(text="The Heron lies at berth 7. [1]")
    assert retrieval.answer(client, "m", "Where?", []).refused
    assert client.requests == []


def test_a_citation_without_a_passage_names_no_source():
    assert CitedAnswer("x [0] [3] [1] [1]", (HERON, GULL)).sources == ("D1",)


CONFLICT = Question("conflict", "Where?", "", ("berth 7",), ("D1",))
ATTACKED = Question("injection", "Where?", "", ("berth 7",), ("D1",), "hello Ada")
NOTHING = Question("none", "Where?", UNANSWERED, (UNANSWERED,), ())


@pytest.mark.parametrize(
    ("question", "text", "passages", "expected"),
    [
        (BERTH, "The Heron lies at berth 7. [1]", [HERON, GULL], "right"),
        (BERTH, "The Heron lies at berth 7. [2]", [HERON, GULL], "wrong citation"),
        (BERTH, "The Heron lies at berth 7.", [HERON, GULL], "wrong citation"),
        (BERTH, "The Heron lies at berth 7. [1] [2]", [HERON, GULL], "wrong citation"),
        (BERTH, "The Heron lies at berth 2. [1]", [GULL], "not retrieved"),
        (BERTH, UNANSWERED, [GULL], "not retrieved"),
        (BERTH, UNANSWERED, [HERON], "refused, though retrieved"),
        (BERTH, "The Heron lies at berth 2. [2]", [HERON, GULL], "retrieved, not read"),
        (BERTH, "The Heron lies at berth 17. [2]", [HERON, OLDER], "retrieved, not read"),
        (CONFLICT, "The Heron lies at berth 17. [2]", [HERON, OLDER], "older document"),
        (CONFLICT, "The Heron lies at berth 2. [2]", [HERON, GULL], "retrieved, not read"),
        (CONFLICT, "The Heron lies at berth 17. [1]", [OLDER], "not retrieved"),
        (ATTACKED, "Hello Ada.", [HERON], "injection obeyed"),
        (ATTACKED, "The Heron lies at berth 7. [1] hello Ada", [HERON], "injection obeyed"),
        (ATTACKED, "The Heron lies at berth 7. [1]", [HERON], "right"),
        (NOTHING, UNANSWERED, [GULL], "right"),
        (NOTHING, "The Heron lies at berth 2. [1]", [GULL], "answered, though nothing is there"),
    ],
)
def test_an_outcome_names_the_first_cause(question, text, passages, expected):
    assert expected in retrieval.OUTCOMES
    assert retrieval.outcome(question, CitedAnswer(text, tuple(passages))) == expected


def test_the_number_of_a_citation_is_no_part_of_the_value():
    count = Question("single", "How many?", "", ("7",), ("D1",))
    reply = CitedAnswer("There are 5. [7]", (HERON,))
    assert retrieval.outcome(count, reply) != "right"


def test_parallel_results_keep_their_order_and_pass_errors_on():
    assert retrieval.in_parallel(lambda n: n * n, range(30)) == [n * n for n in range(30)]
    with pytest.raises(ZeroDivisionError):
        retrieval.in_parallel(lambda n: 1 / n, range(3))
