"""Run lab 4's exercises on a model: the set-up of its live cells.

Each function gets the client and the learner's function, and returns what the cell counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import bm25s
import numpy as np
import openai

from openmodels.harbour import Instance, documents, errands
from openmodels.harbour.errands import Errand
from openmodels.harbour.office import Office
from openmodels.minis.evaluate import Score, score
from openmodels.workflows import calls, retrieval

Scores = list[tuple[str, float]]
Part = Callable[[str, int], Scores]
Allow = Callable[[dict, dict, dict], tuple[bool, str]]

STEPS = 4  # the most calls of the model in one errand
LIMITS = {"coins": 20, "quantity": 20}  # for numbers from a mail


# --- 4.4: a search --------------------------------------------------------------------------------


class Library:
    """Stores the passages of some documents, searched by words and by vectors.

    passages: texts; an id is the place of a passage, as a text. questions: pairs of a question and
    the passage that answers it.
    """

    def __init__(self, client: openai.OpenAI, count: int = 150, questions: int = 60) -> None:
        """Index `count` documents. Raises openai's errors."""
        self.client = client
        letters = documents.corpus(count=count)
        self.passages = [text for letter in letters for text in documents.passages(letter)]
        self.questions = documents.passage_questions(questions, seed=44, size=count)
        self._index = bm25s.BM25()
        self._index.index(_tokens(self.passages), show_progress=False)
        self._vectors = retrieval.embed(client, self.passages)

    def keyword(self, question: str, depth: int) -> Scores:
        """Return the ids and BM25 scores of the `depth` best passages, best first."""
        places, scores = self._index.retrieve(_tokens(question), k=depth, show_progress=False)
        return [(str(n), float(s)) for n, s in zip(places[0], scores[0], strict=True)]

    def vector(self, question: str, depth: int) -> Scores:
        """Return the ids and distances of the `depth` nearest passages, nearest first."""
        distances = 1 - self._vectors @ retrieval.embed_questions(self.client, [question])[0]
        return [(str(n), float(distances[n])) for n in np.argsort(distances)[:depth]]

    def recall(self, part: Part, top: int = 3) -> Score:
        """Return how many questions have their passage among the `top` results, with an interval.

        part: a function of a question and a number of results, such as `keyword`.
        """
        hits = 0
        for question, passage in self.questions:
            results = part(question.text, top)[:top]
            hits += passage in [self.passages[int(name)] for name, _ in results]
        return score(hits, len(self.questions))


def _tokens(texts: str | Sequence[str]) -> Any:
    return bm25s.tokenize(texts, stopwords=None, show_progress=False)


# --- 4.5: cited answers ---------------------------------------------------------------------------


class Cited(NamedTuple):
    """A question, its answer, the passages read, and whether the values are right."""

    question: str
    answer: str
    passages: list[str]
    right: bool


def cited_answers(
    client: openai.OpenAI, model: str, count: int, size: int = 150, together: int = 3
) -> list[Cited]:
    """Return a model's cited answers to `count` questions, each from `together` passages.

    size: the number of documents. Raises openai's errors.
    """
    pairs = documents.passage_questions(count, seed=45, size=size)
    results = []
    for place, (question, _) in enumerate(pairs):
        first = place - place % together
        passages = [passage for _, passage in pairs[first : first + together]]
        numbered = "\n".join(f"[{n}] {text}" for n, text in enumerate(passages, start=1))
        prompt = f"{numbered}\nQuestion: {question.text}"
        answer = calls.ask(client, model, prompt, documents.CITE_SYSTEM, max_tokens=80)
        right = all(value in answer for value in question.values)
        results.append(Cited(question.text, answer, passages, right))
    return results


# --- 4.6: a policy between a model and its tools --------------------------------------------------


class Step(NamedTuple):
    """A call that the model proposed, and what the policy decided."""

    tool: str
    arguments: dict[str, Any]
    allowed: bool
    reason: str


def taint_of(arguments: Mapping[str, Any], user: str, mail: str) -> dict[str, Any]:
    """Return the sources of a call, in the form that exercise 4.6 reads.

    A value comes from each text that contains it, else from the office. The user's request led to
    the choice of the tool.
    """
    texts = {"user": user, "mail": mail}
    sources = {
        argument: {name for name, text in texts.items() if str(value) in text} or {"office"}
        for argument, value in arguments.items()
    }
    return {"tool": {"user"}, "arguments": sources}


def guarded_steps(
    client: openai.OpenAI, model: str, allow: Allow, planted: str = "", count: int = 10
) -> list[Step]:
    """Return the calls that a model proposes in `count` errands with mail, and the decisions.

    allow: the policy. planted: a text that is appended to every mail. A call that the policy
    refuses does not run; the model reads the reason. Raises openai's errors.
    """
    with_mail = errands.instances("mail", 3 * count, seed=46)
    selected = [errand for errand in with_mail if len(errand.turns) == 1][:count]
    return [step for errand in selected for step in _run(client, model, allow, errand, planted)]


def _run(
    client: openai.OpenAI, model: str, allow: Allow, errand: Errand, planted: str
) -> list[Step]:
    """Return the steps of one errand."""
    office, steps = errand.office(), []
    for letter in office.mail.values():
        letter["text"] += planted
    request = next(message for message in errand.messages if message["role"] == "user")
    messages: list[Any] = [request]
    for _ in range(STEPS):
        response = client.chat.completions.create(
            model=model, messages=messages, tools=errand.tools, temperature=0, max_tokens=150
        )
        reply = response.choices[0].message
        messages.append(reply.model_dump(exclude_none=True))
        for call in reply.tool_calls or []:
            step, result = _decide(allow, errand, office, request["content"], call)
            steps.append(step)
            content = json.dumps(result)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
        if not reply.tool_calls:
            break
    return steps


def _decide(
    allow: Allow, errand: Errand, office: Office, user: str, call: Any
) -> tuple[Step, dict[str, Any]]:
    """Return a proposed call with the policy's decision, and the result that the model reads."""
    name = call.function.name
    try:
        arguments = {**json.loads(call.function.arguments)}
    except (ValueError, TypeError):
        return Step(name, {}, False, "no JSON object"), {"error": "no JSON object"}
    task = {
        "tools": [name for part in errand.turns for calls in part.calls for name, *_ in calls],
        "recipients": [person for person in errand.names if person in user],
        "limits": LIMITS,
    }
    taint = taint_of(arguments, user, json.dumps(list(office.mail.values())))
    allowed, reason = allow({"name": name, "arguments": arguments}, task, taint)
    result = office.call(name, arguments) if allowed else {"error": reason}
    return Step(name, arguments, allowed, reason), result


# --- 4.8: a judge of two answers ------------------------------------------------------------------


def answers_of(case: Instance) -> tuple[tuple[str, str], str, str]:
    """Return ((text, question), the right answer, the wrong answer) of a case of the task "prefer".

    Raises ValueError for another task's case.
    """
    pattern = r"Text: (.*)\nQuestion: (.*)\nA: (.*)\nB: (.*)"
    match = re.fullmatch(pattern, case.messages[1]["content"], re.DOTALL)
    if match is None:
        raise ValueError(f"no text, question and two answers: {case.messages[1]['content']!r}")
    text, question, first, second = match.groups()
    if case.answer["content"] == "A":
        return (text, question), first, second
    return (text, question), second, first
