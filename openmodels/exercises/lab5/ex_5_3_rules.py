"""Exercise 5.3: answer from the customs rules with a citation, or refuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openmodels.check import WrongAnswer, exercise
from openmodels.exercises.cases import Case
from openmodels.exercises.contracts import Contract
from openmodels.exercises.lab5.requirements import REFUSAL
from openmodels.harbour.documents import UNANSWERED
from openmodels.workflows.office_kit import claims, subjects, topic
from openmodels.workflows.office_request import Source

MOST = 3  # passages that the model reads

# --- The reference solution -----------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """The steps of an answer. A known mistake replaces one of them."""

    fits: Callable[[str, str], bool] = lambda question, text: subjects(question) <= subjects(text)
    states: Callable[[str, str], Any] = lambda question, text: claims(text, topic(question))
    most: int = MOST
    cited: Callable[[str], bool] = lambda answer: re.findall(r"\[\d+\]", answer) == ["[1]"]
    supported: Callable[[set, set], bool] = lambda answer, passage: answer and answer <= passage
    topic: Callable[[str], str] = topic
    sources: Callable[[Source, list[Source]], Sequence[Source]] = lambda source, read: (source,)
    refused: tuple = (UNANSWERED, ())
    refusal: bool = True  # a model's refusal leads to the next passage
    again: bool = False  # the model reads all passages together
    stop: bool = False  # the first passage decides
    last: bool = False  # the last supported answer counts


def respond(
    steps: Steps, question: str, search: Callable, read: Callable
) -> tuple[str, Sequence[Source]]:
    """Return an answer and the passage that it cites, or a refusal without sources."""
    about = steps.topic(question)
    results = [
        source
        for source in search(question)
        if steps.fits(question, source.text) and steps.states(question, source.text)
    ]
    result = None
    for place, source in enumerate(results[: steps.most]):
        answer = read(question, [s.text for s in results] if steps.again else [source.text])
        if not steps.refusal and REFUSAL.search(answer):
            return answer, steps.sources(source, results)
        plain = re.sub(r"\[\d+\]", "", answer)
        supported = steps.supported(claims(plain, about), claims(source.text, about))
        if steps.cited(answer) and supported:
            result = answer, steps.sources(source, results)
            if not steps.last:
                return result
        if steps.stop and place == 0:
            break
    return result or steps.refused


def use(**changes: Any) -> Callable:
    """Return the function with some steps replaced."""
    steps = replace(Steps(), **changes)
    return lambda question, search, read: respond(steps, question, search, read)


reference_answer_rules = use()

# --- Known mistakes -------------------------------------------------------------------------------

MISTAKES = [
    WrongAnswer("every passage", use(fits=lambda question, text: True),
                "Keep a passage only if it names every subject of the question."),
    WrongAnswer("any subject", use(fits=lambda question, text: bool(
                    subjects(question) & subjects(text))),
                "One common subject is not enough: ropes from Gull Island are not ropes off the "
                "Heron."),
    WrongAnswer("same subjects", use(fits=lambda question, text: subjects(question) ==
                                     subjects(text)),
                "A passage may name more subjects than the question."),
    WrongAnswer("any topic", use(states=lambda question, text: True),
                "Skip a passage that claims nothing about the topic: it cannot answer, and the "
                "model may think that it does."),
    WrongAnswer("too many passages", use(most=99), "Read at most three passages."),
    WrongAnswer("one passage", use(stop=True),
                "If the first passage gives no supported answer, read the next one."),
    WrongAnswer("all together", use(again=True),
                "Pass one passage to each call of `read`: then [1] can only mean this passage."),
    WrongAnswer("uncited answers", use(cited=lambda answer: True),
                "An answer without [1] cites nothing: do not return it."),
    WrongAnswer("any citation", use(cited=lambda answer: "[" in answer),
                "`read` had one passage, so [2] does not exist."),
    WrongAnswer("unsupported", use(supported=lambda answer, passage: True),
                "Compare the claims: the model states a value that the passage does not."),
    WrongAnswer("no claim", use(supported=lambda answer, passage: answer <= passage),
                "An empty set of claims is no answer about this topic."),
    WrongAnswer("overlap", use(supported=lambda answer, passage: answer & passage),
                "Every claim of the answer must be in the passage, not only one of them."),
    WrongAnswer("sources of a refusal", use(refused=(UNANSWERED, (Source("D0001", "x"),))),
                "A refusal has no sources."),
    WrongAnswer("refusal as an answer", use(refusal=False),
                "A refusal of the model about one passage is no answer: read the next one."),
    WrongAnswer("all sources", use(sources=lambda source, read: tuple(read)),
                "Return only the passage that supports the answer."),
    WrongAnswer("last answer", use(last=True), "The first supported answer is the answer: stop."),
    WrongAnswer("empty refusal", use(refused=("", ())),
                "Say that the documents do not say: an empty text helps nobody."),
    WrongAnswer("documents only", use(sources=lambda source, read: (source.document,)),
                "Sources are `Source` objects, with the passage."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------

RATE = Source("D0007", "For a lamp off the Heron the state gets 40 coins.")
HIGH = Source("D0009", "The levy on lamps off the Heron is 55 coins each.")
FREE = Source("D0004", "The first 12 lamps off the Heron are not taxed.")
WHO = Source("D0003", "It is the pilot who reports lamps off the Heron.")
OTHER = Source("D0001", "For a lamp from Gull Island the state gets 8 coins.")
ROPES = Source("D0002", "For a rope off the Heron the state gets 3 coins.")
BELLS = Source("D0008", "For a bell from Stone Isle the state gets 9 coins.")
BOTH = Source("D0006", "For a lamp off the Heron the state gets 40 coins, as for a rope.")
DUTY = "What is the duty on a lamp off the Heron?"
NUMBER = "How many lamps off the Heron are free of duty?"
PERSON = "Who must declare lamps off the Heron?"


@dataclass(frozen=True)
class Question:
    """A question, what the search finds, and what the model answers for each passage."""

    text: str
    results: tuple[Source, ...]
    answers: dict[str, str]


def observe(answer_rules: Callable, question: Question) -> dict[str, Any]:
    """Return what an answer contained, and which passages the model read."""
    reads: list[list[str]] = []

    def read(text: str, passages: list[str]) -> str:
        reads.append(list(passages))
        return question.answers.get(passages[0], UNANSWERED)

    result = answer_rules(question.text, lambda text: list(question.results), read)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        return {"result": result}
    text, sources = result
    kind = "a refusal" if isinstance(text, str) and REFUSAL.search(text) else text
    return {"read": reads, "sources": list(sources), "text": kind}


def ask(what: str, text: str, *results: Source, hint: str = "", **answers: str) -> Case:
    """Return a case. answers: of the model, by the name of the passage."""
    named = {"rate": RATE, "high": HIGH, "free": FREE, "who": WHO, "other": OTHER, "ropes": ROPES,
             "both": BOTH, "bells": BELLS}  # fmt: skip
    replies = {named[name].text: answer for name, answer in answers.items()}
    return Case(what, (Question(text, results, replies),), hint)


PAYS = "The duty on a lamp off the Heron is 40 coins. [1]"
CASES = [
    ask("a duty", DUTY, RATE, rate=PAYS),
    ask("an allowance", NUMBER, FREE, free="12 lamps off the Heron are free of duty. [1]"),
    ask("a person", PERSON, WHO, who="The pilot must declare lamps off the Heron. [1]"),
    ask("nothing", DUTY),
    ask("another origin first", DUTY, OTHER, RATE, rate=PAYS, other="The duty is 8 coins. [1]"),
    ask("another good first", DUTY, ROPES, RATE, rate=PAYS, ropes="The duty is 3 coins. [1]"),
    ask("only another origin", DUTY, OTHER, other="The duty is 8 coins. [1]"),
    ask("another topic first", DUTY, FREE, RATE, rate=PAYS, free="The duty is 12 lamps. [1]"),
    ask("only another topic", DUTY, FREE, WHO, free="The duty on a lamp is 12 lamps. [1]",
        hint="The allowance is not the duty."),
    ask("a passage with more subjects", DUTY, BOTH, both=PAYS),
    ask("an answer without a citation", DUTY, RATE, rate="The duty is 40 coins."),
    ask("a citation that does not exist", DUTY, RATE, rate="The duty is 40 coins. [2]"),
    ask("two citations", DUTY, RATE, rate="The duty is 40 coins. [1] [2]"),
    ask("a wrong number", DUTY, RATE, rate="The duty on a lamp is 45 coins. [1]"),
    ask("a wrong person", PERSON, WHO, who="The trader must declare lamps off the Heron. [1]"),
    ask("a number and a wrong number", DUTY, RATE, rate="The duty is 40 coins or 45 coins. [1]"),
    ask("no claim", DUTY, RATE, rate="The duty on a lamp is high. [1]"),
    ask("a refusal, then an answer", DUTY, HIGH, RATE, high=UNANSWERED, rate=PAYS),
    ask("a wrong number, then an answer", DUTY, HIGH, RATE, high="The duty is 5 coins. [1]",
        rate=PAYS),
    ask("two answers", DUTY, RATE, HIGH, rate=PAYS, high="The duty is 55 coins. [1]"),
    ask("a foreign passage first", DUTY, BELLS, RATE, rate=PAYS, bells="The duty is 9 coins. [1]"),
    ask("a fourth passage", DUTY, RATE, RATE, RATE, HIGH, high="The duty is 55 coins. [1]"),
]  # fmt: skip


@exercise(
    "5.3",
    wrong=[
        *MISTAKES,
        WrongAnswer("text only", lambda *arguments: reference_answer_rules(*arguments)[0],
                    "returns two things"),
    ],
)  # fmt: skip
def check_answer_rules(answer_rules: Callable) -> str:
    """Judge `answer_rules(question, search, read)`."""
    mistakes = [replace(m, answer=lambda q, answer=m.answer: observe(answer, q)) for m in MISTAKES]

    def problem(result: Any, expected: Any) -> str:
        if "result" in result:
            return f"`answer_rules` returns two things, a text and sources: {result['result']!r}"
        for name, value in expected.items():
            if result[name] != value:
                return f"{name}: seen {result[name]}, expected {value}"
        return ""

    def learner(question: Question) -> dict[str, Any]:
        return observe(answer_rules, question)

    def reference(question: Question) -> dict[str, Any]:
        return observe(reference_answer_rules, question)

    Contract(reference, CASES, mistakes, problem).expect(learner)
    return f"your office answers or refuses {len(CASES)} questions, and every answer is supported."
