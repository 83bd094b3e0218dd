"""Generate held-out tasks on which workflow patterns are scored, each with one right answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from openmodels.harbour import desk, documents
from openmodels.harbour.desk_tasks import PLAN_SYSTEM, REPAIR_SYSTEM, Order, problem
from openmodels.harbour.grammar import capital
from openmodels.harbour.phrasing_requests import SHOP_QUESTIONS
from openmodels.harbour.questions import DECOMPOSE_SYSTEM, STANDALONE_SYSTEM
from openmodels.harbour.templates import SHOP_FACTS
from openmodels.harbour.text import Message, assistant
from openmodels.harbour.text import user as user_message
from openmodels.harbour.world import GOODS, SHOPS

PROMPTS = {  # the system prompts that the course's miniature was trained with
    "split": DECOMPOSE_SYSTEM,
    "rewrite": STANDALONE_SYSTEM,
    "plan": PLAN_SYSTEM,
    "cite": documents.CITE_SYSTEM,
    "repair": REPAIR_SYSTEM,
    "judge": desk.JUDGE_SYSTEM,
}
UNANSWERED = documents.UNANSWERED  # the answer if no passage has one
FACTS = {"owner": "owner", "hour": "opens", "place": "place"}  # a record's attributes: a shop's
PASSAGES = 8  # of a reading, more than the model was trained on
NO_ANSWER_SHARE = 0.2  # of the readings
CITATION = re.compile(r"\s*\[\d+\]")
SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Task:
    """A request with one right answer.

    user, system: the prompt of one call. earlier: the messages before it. parts: what a workflow
    works on separately: passages, or the text to repair. hidden: an error that the prompt hides.
    """

    user: str
    answer: str
    system: str | None = None
    earlier: tuple[Message, ...] = ()
    parts: tuple[str, ...] = ()
    hidden: str = ""

    @property
    def messages(self) -> list[Message]:
        """Return the messages of one call."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *self.earlier, user_message(self.user)]

    def is_right(self, text: str) -> bool:
        """Return whether a text has the right content.

        JSON: the same value. Sentences: the same ones in any order, without citations.
        """
        if self.answer.startswith("{"):
            return _parses(text) and json.loads(text) == json.loads(self.answer)
        return _sentences(text) == _sentences(self.answer)


def _sentences(text: str) -> list[str]:
    return sorted(SENTENCE.split(CITATION.sub("", text).strip()))


def _draw(count: int, draw: Callable[[], Task | None]) -> list[Task]:
    """Return `count` tasks with different prompts; a draw of None is repeated."""
    tasks: dict[str, Task] = {}
    while len(tasks) < count:
        task = draw()
        if task is not None:
            tasks.setdefault(task.user, task)
    return list(tasks.values())


def _from_desk(name: str, count: int, seed: int) -> list[Task]:
    """Return tasks of `harbour.desk` with one question each."""
    tasks = []
    for instance in desk.instances(name, count, seed):
        *head, prompt, answer = instance.messages
        system = head[0]["content"] if head else None
        tasks.append(Task(prompt["content"], answer["content"], system))
    return tasks


def judgements(count: int, seed: int = 0) -> list[Task]:
    """Return texts with a question and an answer to judge: "yes" or "no"."""
    return _from_desk("judge", count, seed)


def text_questions(count: int, seed: int = 0) -> list[Task]:
    """Return texts with a question each; some have no answer in the text."""
    return _from_desk("varied_text_qa", count, seed)


# --- Orders to repair -----------------------------------------------------------------------------


def broken_orders(count: int, seed: int = 0) -> list[Task]:
    """Return orders as JSON with an error of syntax and a wrong field.

    A parser reports only the first error. parts: the broken JSON. user: its `repair_prompt`.
    hidden: the wrong field's error.
    """
    source = desk.Desk(seed, "test")

    def draw() -> Task | None:
        _, fields = source.free_order()
        invalid = source.break_fields(fields, complete=False)
        broken = source.break_syntax(json.dumps(invalid), invalid, complete=False)
        hidden = problem(Order, json.dumps(invalid))
        if hidden is None or _parses(broken):
            return None
        answer = json.dumps(fields)
        return Task(repair_prompt(broken), answer, REPAIR_SYSTEM, parts=(broken,), hidden=hidden)

    return _draw(count, draw)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def order_problem(text: str) -> str | None:
    """Return the first error of an order as JSON, None if it is valid."""
    return problem(Order, text)


def repair_prompt(text: str) -> str:
    """Return the prompt that shows an order as JSON and its first error."""
    return f"JSON: {text}\nError: {order_problem(text)}"


# --- Questions about the town ---------------------------------------------------------------------


def _fact(source: desk.Desk, shop: str, fact: str) -> tuple[str, str]:
    """Return a question about a shop and its answer."""
    slots = {"shop": shop, **vars(SHOPS[shop])}
    slots["sells"] = [GOODS[good][0] for good in SHOPS[shop].sells]
    question = source.grammar.expand(SHOP_QUESTIONS[fact][0]).format(shop=shop)
    return capital(question) + "?", SHOP_FACTS[fact][1].format(**slots)


def compound_questions(count: int, seed: int = 0) -> list[Task]:
    """Return two questions about different shops as one; the answer has two sentences."""
    source = desk.Desk(seed, "test")

    def draw() -> Task | None:
        shops = source.rng.sample(list(SHOPS), 2)
        facts = [source.rng.choice(list(FACTS.values())) for _ in shops]
        pairs = [_fact(source, shop, fact) for shop, fact in zip(shops, facts, strict=True)]
        text = documents.join_questions(pairs[0][0], pairs[1][0])
        if pairs[1][0].startswith("I ") or not source.belongs(text):
            return None
        return Task(text, " ".join(answer for _, answer in pairs))

    return _draw(count, draw)


def follow_ups(count: int, seed: int = 0) -> list[Task]:
    """Return questions that name their shop only by a pronoun, with the turn before them."""
    source = desk.Desk(seed, "test")

    def draw() -> Task | None:
        shop = source.rng.choice(list(SHOPS))
        first, attribute = source.rng.sample(list(FACTS), 2)
        question, reply = _fact(source, shop, FACTS[first])
        follow, _ = source.pronoun(source.record("shop", shop), attribute)
        text = capital(source.rng.choice(("", "and ")) + follow) + "?"
        earlier = (user_message(question), assistant(reply))
        if not source.belongs(f"{question} {text}"):
            return None
        return Task(text, _fact(source, shop, FACTS[attribute])[1], earlier=earlier)

    tasks: dict[str, Task] = {}
    while len(tasks) < count:
        task = draw()
        if task is not None:
            tasks.setdefault(transcript(task), task)
    return list(tasks.values())


def transcript(task: Task) -> str:
    """Return a conversation as text: "Question: ...\\nAnswer: ...\\nQuestion: ..."."""
    names = {"user": "Question", "assistant": "Answer"}
    return "\n".join(f"{names[m['role']]}: {m['content']}" for m in task.messages)


# --- Requests and readings ------------------------------------------------------------------------


def tool_requests(count: int, seed: int = 0) -> list[Task]:
    """Return requests that need one tool call; the answer is the call as JSON."""
    tasks = []
    for instance in desk.instances("varied_tool", count, seed):
        function = instance.messages[1]["tool_calls"][0]["function"]
        call = {"name": function["name"], "arguments": function["arguments"]}
        tasks.append(Task(instance.messages[0]["content"], json.dumps(call)))
    return tasks


def cited_prompt(passages: tuple[str, ...], question: str) -> str:
    """Return the prompt with numbered passages and a question."""
    lines = [f"[{number}] {passage}" for number, passage in enumerate(passages, 1)]
    return "\n".join([*lines, f"Question: {question}"])


def readings(count: int, seed: int = 0, passages: int = PASSAGES) -> list[Task]:
    """Return questions about numbered passages; one in five has no answer in them.

    parts: the passages with their dates, and the question as the last part.
    """
    reader = documents.Reader(seed, "test")
    opening = re.compile(r"^\[\d+\] ")

    def draw() -> Task | None:
        lines: list[str] = []
        facts: dict = {}
        absent: list = []
        while len(lines) < passages:
            reading = reader.reading(2, 0)  # short passages
            if facts.keys() & reading.places.keys():
                return None
            lines += [opening.sub("", line) for line in reading.lines]
            facts |= {key: entries[-1][1] for key, entries in reading.places.items()}
            absent += reading.absent
        if len(lines) > passages:
            return None
        missing = [fact for fact in absent if fact.key not in facts]
        unanswered = reader.rng.random() < NO_ANSWER_SHARE
        fact = reader.rng.choice(missing if unanswered else list(facts.values()))
        reader.rng.shuffle(lines)
        question = fact.question(reader.rng)
        answer = UNANSWERED if unanswered else fact.answer
        prompt = cited_prompt(tuple(lines), question)
        return Task(prompt, answer, documents.CITE_SYSTEM, parts=(*lines, question))

    return _draw(count, draw)
