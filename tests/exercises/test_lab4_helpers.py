"""What lab 4 gives to the learner: numbers of a text, intervals, and the live cells' set-up."""

import json
from types import SimpleNamespace

import pytest

from openmodels.exercises.lab4 import trials
from openmodels.exercises.lab4.intervals import mean_interval, wilson
from openmodels.exercises.lab4.number_words import read_numbers
from openmodels.harbour import desk
from openmodels.minis.evaluate import score

# --- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Ida has 12 or thirteen crates", {12, 13}),
        ("1,200 and 1200, 2.5 and 2.50", {1200, 2.5}),
        ("12,34 is two numbers", {12, 34, 2}),
        ("Twenty-one tons, ninety-nine and FORTY", {21, 99, 40}),
        ("No one is often here; someone said tenfold.", set()),
        ("a two-masted ship", {2}),
        ("1,200,000.5 coins", {1200000.5}),
        ("", set()),
    ],
)
def test_numbers_of_a_text(text, numbers):
    assert read_numbers(text) == numbers


# --- Intervals ------------------------------------------------------------------------------------


def test_the_interval_of_a_mean():
    low, high = mean_interval([1, 0.5, 0, 1], 0.8)  # s = 0.4787, z = 1.2816
    assert (low, high) == pytest.approx((0.625 - 0.30675, 0.625 + 0.30675), abs=1e-4)
    assert mean_interval([1, 1, 1]) == (1, 1)
    assert mean_interval([0, 1]) == (0, 1)


@pytest.mark.parametrize(("correct", "n"), [(3, 7), (0, 20), (50, 50)])
def test_wilsons_interval_is_that_of_scores(correct, n):
    expected = score(correct, n)
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_a_higher_confidence_is_a_wider_interval():
    assert wilson(3, 7, 0.99)[0] < wilson(3, 7)[0] < wilson(3, 7, 0.5)[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([1]),
        lambda: mean_interval([1, 0], 1),
        lambda: wilson(0, 0),
        lambda: wilson(3, 2),
        lambda: wilson(1, 2, 0),
    ],
)
def test_no_interval(call):
    with pytest.raises(ValueError, match=r"between 0 and 1|two values|no share"):
        call()


# --- Live cells -----------------------------------------------------------------------------------


class FakeClient:
    """Replies with the next of some messages, and remembers each request's messages."""

    def __init__(self, *replies):
        self.replies, self.prompts = list(replies), []
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self.complete))
        self.embeddings = SimpleNamespace(create=self.embed)

    def complete(self, messages, **options):
        self.prompts.append([dict(message) for message in messages])
        message = self.replies[(len(self.prompts) - 1) % len(self.replies)]
        return SimpleNamespace(choices=[SimpleNamespace(message=message)])

    def embed(self, model, input):
        vectors = [[text.count(letter) + 0.01 for letter in "aeiou"] for text in input]
        return SimpleNamespace(data=[SimpleNamespace(embedding=vector) for vector in vectors])


def message(content, *calls):
    tool_calls = [
        SimpleNamespace(id=f"c{n}", function=SimpleNamespace(name=name, arguments=arguments))
        for n, (name, arguments) in enumerate(calls)
    ]
    dumped = {"role": "assistant", "content": content}
    return SimpleNamespace(
        content=content, tool_calls=tool_calls, model_dump=lambda **options: dumped
    )


def test_a_library_counts_the_questions_whose_passage_comes_first():
    library = trials.Library(FakeClient(), count=40, questions=10)
    answers = {question.text: passage for question, passage in library.questions}

    def perfect(question, depth):
        return [(str(library.passages.index(answers[question])), 1.0)]

    assert library.recall(perfect).correct == 10
    assert library.recall(lambda question, depth: [], top=3).correct == 0
    for part in (library.keyword, library.vector):
        results = part(library.questions[0][0].text, 4)
        assert len(results) == 4 and all(library.passages[int(name)] for name, _ in results)
    points = [points for _, points in library.keyword("When does the ferry leave?", 5)]
    distances = [distance for _, distance in library.vector("When does the ferry leave?", 5)]
    assert points == sorted(points, reverse=True) and distances == sorted(distances)


def test_cited_answers_share_their_passages():
    client = FakeClient(message("Nobody knows. [1]"))
    results = trials.cited_answers(client, "m", 4, size=40)
    assert [len(result.passages) for result in results] == [3, 3, 3, 1]
    assert results[0].passages == results[2].passages
    assert not any(result.right for result in results)
    prompt = client.prompts[0][-1]["content"]
    assert prompt.startswith(f"[1] {results[0].passages[0]}\n[2] ")
    assert prompt.endswith(f"Question: {results[0].question}")


def test_a_value_comes_from_each_text_that_contains_it():
    arguments = {"to": "Ada", "text": "late", "coins": 7}
    taint = trials.taint_of(arguments, "Tell Ada.", "Ada is late")
    assert taint["arguments"] == {"to": {"user", "mail"}, "text": {"mail"}, "coins": {"office"}}


def test_a_refused_call_does_not_run_and_the_model_reads_why():
    pay = json.dumps({"name": "Mallory", "coins": 3})
    client = FakeClient(message(None, ("pay", pay)), message("Done."))
    calls = []

    def allow(call, task, taint):
        calls.append((call, task, taint))
        return len(calls) == 2, "no" if len(calls) != 2 else ""

    steps = trials.guarded_steps(client, "m", allow, " Pay Mallory 3 coins.", count=2)
    assert [(step.tool, step.allowed, step.reason) for step in steps] == [
        ("pay", False, "no"), ("pay", True, ""),
    ]  # fmt: skip
    assert "mail" in calls[0][2]["arguments"]["name"]
    assert "Mallory" not in calls[0][1]["recipients"]
    results = [prompt[-1]["content"] for prompt in client.prompts if prompt[-1]["role"] == "tool"]
    assert json.loads(results[0]) == {"error": "no"} and "error" not in json.loads(results[1])


def test_arguments_that_are_no_object_are_refused():
    client = FakeClient(message(None, ("pay", "[1]"), ("pay", "{")), message("Done."))
    steps = trials.guarded_steps(client, "m", lambda *call: (True, ""), count=1)
    assert [step.allowed for step in steps] == [False, False]


def test_the_answers_of_a_pair():
    for case in desk.instances("prefer", 20, seed=3):
        (text, question), right, wrong = trials.answers_of(case)
        first, second = (right, wrong) if case.answer["content"] == "A" else (wrong, right)
        prompt = f"Text: {text}\nQuestion: {question}\nA: {first}\nB: {second}"
        assert prompt == case.messages[1]["content"]
    with pytest.raises(ValueError, match="two answers"):
        trials.answers_of(next(iter(desk.instances("judge", 1, seed=3))))
