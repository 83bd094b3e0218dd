"""Generate the language tasks of Port Lark's office: rewriting, judging, repairing, planning.

Every task has one right answer by construction. `varied` has the older tasks in free phrasings.
"""

import json
from collections.abc import Iterator

from openmodels.harbour import phrasing
from openmodels.harbour.desk_tasks import DeskTasks
from openmodels.harbour.grammar import capital
from openmodels.harbour.templates import TEXT_FACTS
from openmodels.harbour.text import (
    SCHEMAS,
    UNKNOWN,
    Instance,
    Message,
    assistant,
    system,
    user,
)
from openmodels.harbour.varied import VALUES, VARIED, Pair, tidy

JUDGE_SYSTEM = "Does the text support the answer? Reply yes or no."
JUDGE_JSON_SYSTEM = "Judge the answer as JSON."
PREFER_SYSTEM = "Which answer is right? Reply A or B."
RELEVANT_SYSTEM = "Does the passage answer the question? Reply yes or no."
MARKS = {  # how an answer or a reason names a value
    "owner": "{name}", "seller": "{name}", "captain": "{name}", "hour": "{hour}",
    "price": "{price} coins", "debt": "{price} coins", "berth": "berth {berth}", "day": "{day}",
    "cargo": "{cargo}", "bought": "{cargo}", "place": "{place}", "spot": "{place}",
}  # fmt: skip
BEFORE = (
    "The text says so:", "As I read it,", "According to the text,", "I think", "Well,", "It says:",
    "~From what I see,",
)  # fmt: skip
AFTER = (
    "I hope this helps.", "That is all the text says about it.", "Ask me more if you like.",
    "~Nothing else is said.",
)  # fmt: skip
LABELS = {False: "no", True: "yes"}


class Desk(DeskTasks):
    """A seeded source of the office's tasks; see `TASKS`."""

    # ------------------------------------------------------------------ answers
    def phrase(self, record: dict, attribute: str) -> str:
        """Return an answer that gives the record's value: a few words or a sentence or two."""
        rng, short = self.rng, MARKS[attribute].format(**record)
        kind = rng.random()
        if kind < 0.3:
            return capital(short) + rng.choice(("", "."))
        if kind < 0.6:
            return self.statement_of(record, attribute)
        templates = phrasing.STATEMENTS[record["kind"]][attribute]
        plain = [t for t in templates if "{old_" not in t and "{other}" not in t]
        sentence = tidy(self.grammar.expand(plain).format(**record)) + "."
        if kind < 0.8:
            return capital(sentence)
        if rng.random() < 0.5:
            return f"{capital(sentence)} {self.grammar.expand(AFTER)}"
        return f"{self.grammar.expand(BEFORE)} {sentence}"

    def wrong(self, record: dict, attribute: str, stated: list[Pair]) -> dict:
        """Return the record with another value of an attribute, if possible one from the text."""
        rng, slot = self.rng, VALUES[attribute]
        true = record[slot]
        pool = [r[VALUES[b]] for r, b in stated if VALUES[b] == slot]
        if slot in ("hour", "price", "berth"):
            numbers = ("hour", "price", "berth")
            pool += [r[VALUES[b]] for r, b in stated if VALUES[b] in numbers]
            pool.append(record[f"old_{slot}"])
        if slot == "name":
            pool.append(record["other"])
        pool = [value for value in pool if value != true]
        if not pool or rng.random() < 0.3:
            fresh = self.record(record["kind"], record["subject"])
            while fresh[slot] == true:
                fresh = self.record(record["kind"], record["subject"])
            pool = [fresh[slot]]
        return record | {slot: rng.choice(pool)}

    def judgement(self, stated: list[Pair], absent: list[Pair]) -> tuple[Pair, str, bool, str]:
        """Return a (record, attribute), an answer, whether it is supported, and the reason."""
        rng, supported = self.rng, self.rng.random() < 0.5
        record, attribute = rng.choice(stated)
        if rng.random() < 0.08:  # the answer is that the text has none
            if supported:
                record, attribute = rng.choice(absent)
            answer = UNKNOWN
        elif supported:
            answer = self.phrase(record, attribute)
        elif rng.random() < 0.3:  # not in the text: plausible, or said of another subject
            record, attribute = rng.choice(absent)
            values = [r[VALUES[b]] for r, b in stated if VALUES[b] == VALUES[attribute]]
            if record["kind"] != "person" and values and rng.random() < 0.7:
                record = record | {VALUES[attribute]: rng.choice(values)}
            answer = self.phrase(record, attribute)
            return (record, attribute), answer, False, UNKNOWN
        else:
            answer = self.phrase(self.wrong(record, attribute, stated), attribute)
        known = (record["subject"], attribute) in {(r["subject"], b) for r, b in stated}
        reason = f"The text says {MARKS[attribute].format(**record)}." if known else UNKNOWN
        return (record, attribute), answer, supported, reason

    def judgements(self, count: int, task: str = "judge") -> Instance:
        """Return a text with `count` questions and answers to judge."""
        rng = self.rng
        text, stated, absent = self.free_text(rng.randint(1, 4))
        head = JUDGE_SYSTEM if task == "judge" else JUDGE_JSON_SYSTEM
        messages: list[Message] = [system(head)]
        for number in range(count):
            (record, attribute), answer, supported, reason = self.judgement(stated, absent)
            question = self.question(record, attribute, 0.1)
            prefix = f"Text: {text}\n" if number == 0 else ""
            verdict = LABELS[supported]
            if task == "judge_json":
                verdict = json.dumps({"reason": reason, "supported": supported})
            messages += [
                user(f"{prefix}Question: {question}\nAnswer: {answer}"), assistant(verdict),
            ]  # fmt: skip
        return Instance(task, tuple(messages), key=messages[1]["content"])

    def judge(self) -> Instance:
        """Return a text, a question and an answer, and whether the text supports the answer."""
        return self.judgements(1)

    def judge_json(self) -> Instance:
        """Return a judgement as JSON, with the reason first."""
        return self.judgements(1, "judge_json")

    def preferences(self, count: int) -> Instance:
        """Return a text with `count` questions and two answers each, one of them right."""
        rng = self.rng
        text, stated, absent = self.free_text(rng.randint(1, 4))
        messages: list[Message] = [system(PREFER_SYSTEM)]
        for number in range(count):
            if rng.random() < 0.12:  # no answer in the text
                record, attribute = rng.choice(absent)
                answers = [UNKNOWN, self.phrase(record, attribute)]
            else:
                record, attribute = rng.choice(stated)
                false = self.wrong(record, attribute, stated)
                answers = [self.phrase(record, attribute), self.phrase(false, attribute)]
                if rng.random() < 0.08:
                    answers[1] = UNKNOWN
            right = rng.randint(0, 1)
            first, second = answers if right == 0 else answers[::-1]
            prefix = f"Text: {text}\n" if number == 0 else ""
            question = self.question(record, attribute, 0.1)
            content = f"{prefix}Question: {question}\nA: {first}\nB: {second}"
            messages += [user(content), assistant("AB"[right])]
        return Instance("prefer", tuple(messages), key=messages[1]["content"])

    def prefer(self) -> Instance:
        """Return a text, a question and two answers, and which of them is right."""
        return self.preferences(1)

    def relevant(self) -> Instance:
        """Return a passage and a question, and whether the passage answers it."""
        rng, answered = self.rng, self.rng.random() < 0.5
        text, stated, absent = self.free_text(rng.choice((1, 1, 2)), 2)
        record, attribute = rng.choice(stated if answered else absent)
        if not answered and rng.random() < 0.15:  # another kind of subject
            kind = rng.choice([k for k in TEXT_FACTS if k not in {r["kind"] for r, _ in stated}])
            record = self.record(kind, self.subjects(kind, 1)[0])
            attribute = rng.choice(list(TEXT_FACTS[kind]))
        content = f"Passage: {text}\nQuestion: {self.question(record, attribute, 0.1)}"
        messages = (system(RELEVANT_SYSTEM), user(content), assistant(LABELS[answered]))
        return Instance("relevant", messages, key=content)

    # ------------------------------------------------------------------ several at once
    def lesson(
        self, mix: dict[str, float], level: float = 1.0, value_first_share: float = 0.0
    ) -> Instance:
        """Return a training conversation: a task drawn from the mix, several times over.

        Tasks of `Harbour` are those of `Harbour.lesson`. level, from 0 to 1, limits the length of
        free texts.
        """
        rng = self.rng
        task = rng.choices(list(mix), list(mix.values()))[0]
        if task not in TASKS:
            return super().lesson({task: 1}, level, value_first_share)
        if task in ("varied_text_qa", "conversation_qa"):
            records = rng.randint(1, 2 + round(2 * level))
            return self.free_questions(rng.randint(records, 2 * records + 1), task, records)
        if task in ("judge", "judge_json"):
            return self.judgements(rng.randint(2, 6 if task == "judge" else 4), task)
        if task == "prefer":
            return self.preferences(rng.randint(2, 5))
        if task == "varied_tool":
            available = rng.sample(list(SCHEMAS), rng.choice((1, 1, 2, 2, 3)))
            functions = [rng.choice(available) for _ in range(rng.randint(1, 3))]
            return self.free_tools(functions, available)
        return self.several(task, rng.randint(1, SEVERAL[task]))


SEVERAL = {
    "standalone": 4, "decompose": 4, "relevant": 4, "repair": 3, "plan": 4, "varied_intent": 6,
    "varied_order": 4, "varied_fact": 5,
}  # fmt: skip
TASKS = (
    "standalone", "decompose", "judge", "judge_json", "prefer", "relevant", "repair", "plan",
    "conversation_qa", *VARIED,
)  # fmt: skip


def instances(
    task: str, count: int, seed: int = 0, split: str = "test", invented: float = 0.0
) -> Iterator[Instance]:
    """Yield `count` instances of one task, no two with the same key.

    Raises ValueError for an unknown task.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; tasks: {', '.join(TASKS)}")
    desk, keys = Desk(seed, split, invented), set()
    while len(keys) < count:
        instance = getattr(desk, task)()
        if instance.key not in keys:
            keys.add(instance.key)
            yield instance
