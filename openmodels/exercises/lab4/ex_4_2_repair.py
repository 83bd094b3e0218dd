"""Exercise 4.2: a loop that asks until a reply is valid, and knows when to stop.

The scripted models are in `scripted_replies`. The notebook then runs the learner's function on a
real model.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from openai.types.chat.chat_completion import Choice
from pydantic import BaseModel, ValidationError

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.cases import Case, name_mistake, raise_again, result_of
from openmodels.exercises.lab4.scripted_replies import (
    BOTH,
    BROKEN,
    DEAR,
    FENCED,
    LONG,
    MANY,
    NAMELESS,
    OTHER,
    QUESTION,
    RIGHT,
    STAY,
    TEXT,
    Reply,
    Run,
    Script,
    Stay,
    draw_script,
    run_script,
)

Messages = Sequence[Mapping[str, Any]]
Ask = Callable[[Messages], Choice]
Result = tuple[BaseModel | None, str, int]
DRAWN = 200

# --- The reference solution -----------------------------------------------------------------------


def reference_record(
    ask: Ask, messages: Messages, record_class: type[BaseModel], attempts: int
) -> Result:
    """Return (record or None, reason, number of calls)."""
    conversation, texts = list(messages), []
    for number in range(1, attempts + 1):
        choice = ask(conversation)
        if choice.message.refusal or choice.finish_reason == "content_filter":
            return None, "refused", number
        if choice.finish_reason == "length":
            return None, "cut", number
        text = choice.message.content or ""
        try:
            return record_class.model_validate_json(text), "valid", number
        except ValidationError as error:
            problem = str(error)
        if text in texts:
            return None, "repeated", number
        texts.append(text)
        conversation += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": problem},
        ]
    return None, "invalid", attempts


# --- Known mistakes -------------------------------------------------------------------------------


class Parts:
    """The right loop in parts; each mistake replaces one of them."""

    def __call__(
        self, ask: Ask, messages: Messages, record_class: type[BaseModel], attempts: int
    ) -> Any:
        """Return what `reference_record` returns, as far as the parts are right."""
        conversation, texts = self.start(messages), []
        for number in range(1, self.limit(attempts) + 1):
            choice = self.call(ask, conversation)
            if reason := self.stop(choice):
                return self.result(None, reason, number, attempts)
            text = self.text(choice)
            record, problem = self.validate(record_class, text)
            if not problem:
                return self.result(record, "valid", number, attempts)
            if self.repeats(text, texts):
                return self.result(None, "repeated", number, attempts)
            texts.append(text)
            conversation = self.follow(conversation, text, problem, messages)
        return self.end(record_class, texts, attempts)

    def start(self, messages: Messages) -> list:
        return list(messages)

    def limit(self, attempts: int) -> int:
        return attempts

    def call(self, ask: Ask, conversation: Messages) -> Choice:
        return ask(conversation)

    def stop(self, choice: Choice) -> str:
        if choice.message.refusal or choice.finish_reason == "content_filter":
            return "refused"
        return "cut" if choice.finish_reason == "length" else ""

    def text(self, choice: Choice) -> str:
        return choice.message.content or ""

    def validate(self, record_class: type[BaseModel], text: str) -> tuple[Any, str]:
        try:
            return record_class.model_validate_json(text), ""
        except ValidationError as error:
            return None, str(error)

    def repeats(self, text: str, texts: list[str]) -> bool:
        return text in texts

    def follow(self, conversation: list, text: str, problem: str, messages: Messages) -> list:
        reply = {"role": "assistant", "content": text}
        return [*conversation, reply, {"role": "user", "content": problem}]

    def result(self, record: Any, reason: str, number: int, attempts: int) -> Any:
        return record, reason, number

    def end(self, record_class: type[BaseModel], texts: list[str], attempts: int) -> Any:
        return self.result(None, "invalid", attempts, attempts)


class Unvalidated(Parts):
    def validate(self, record_class: type[BaseModel], text: str) -> tuple[Any, str]:
        try:
            return record_class.model_construct(**json.loads(text)), ""
        except (ValueError, TypeError) as error:
            return None, f"{error} column"


class Dictionary(Parts):
    def result(self, record: Any, reason: str, number: int, attempts: int) -> Any:
        return record and record.model_dump(), reason, number


class RecordOnly(Parts):
    def result(self, record: Any, reason: str, number: int, attempts: int) -> Any:
        return record


class LaxTypes(Parts):
    def validate(self, record_class: type[BaseModel], text: str) -> tuple[Any, str]:
        try:
            return record_class.model_validate_json(text, strict=False), ""
        except ValidationError as error:
            return None, str(error)


class Unfenced(Parts):
    def text(self, choice: Choice) -> str:
        return re.sub(r"^```json\n|\n```$", "", choice.message.content or "")


class OnlyValidationErrors(Parts):
    def validate(self, record_class: type[BaseModel], text: str) -> tuple[Any, str]:
        try:
            return record_class.model_validate(json.loads(text)), ""
        except ValidationError as error:
            return None, str(error)


class NoContent(Parts):
    def text(self, choice: Choice) -> str:
        return choice.message.content.strip()


class SameQuestion(Parts):
    def follow(self, conversation: list, text: str, problem: str, messages: Messages) -> list:
        return conversation


class NoDetails(Parts):
    def follow(self, conversation: list, text: str, problem: str, messages: Messages) -> list:
        return super().follow(conversation, text, "That is not valid. Try again.", messages)


class FirstProblem(Parts):
    def follow(self, conversation: list, text: str, problem: str, messages: Messages) -> list:
        lines = problem.splitlines()
        head = " ".join(lines[:3])
        return super().follow(conversation, text, head, messages)


class NoReply(Parts):
    def follow(self, conversation: list, text: str, problem: str, messages: Messages) -> list:
        return [*conversation, {"role": "user", "content": problem}]


class LatestOnly(Parts):
    def follow(self, conversation: list, text: str, problem: str, messages: Messages) -> list:
        return super().follow(list(messages), text, problem, messages)


class FromSystem(Parts):
    def follow(self, conversation: list, text: str, problem: str, messages: Messages) -> list:
        reply = {"role": "assistant", "content": text}
        return [*conversation, reply, {"role": "system", "content": problem}]


class ChangesMessages(Parts):
    def start(self, messages: Any) -> list:
        return messages

    def follow(self, conversation: list, text: str, problem: str, messages: Messages) -> list:
        conversation += super().follow([], text, problem, messages)
        return conversation


class ExtraAttempt(Parts):
    def limit(self, attempts: int) -> int:
        return attempts + 1

    def end(self, record_class: type[BaseModel], texts: list[str], attempts: int) -> Any:
        return None, "invalid", attempts + 1


class MissingAttempt(Parts):
    def limit(self, attempts: int) -> int:
        return max(1, attempts - 1)


class LimitAsNumber(Parts):
    def result(self, record: Any, reason: str, number: int, attempts: int) -> Any:
        return record, reason, attempts


class NumberFromZero(Parts):
    def result(self, record: Any, reason: str, number: int, attempts: int) -> Any:
        return record, reason, number - 1


class AsksAfterRefusal(Parts):
    def stop(self, choice: Choice) -> str:
        return "cut" if choice.finish_reason == "length" else ""


class RefusalIsInvalid(Parts):
    def stop(self, choice: Choice) -> str:
        reason = super().stop(choice)
        return "invalid" if reason == "refused" else reason


class NoFilter(Parts):
    def stop(self, choice: Choice) -> str:
        if choice.message.refusal:
            return "refused"
        return "cut" if choice.finish_reason == "length" else ""


class AsksAfterCut(Parts):
    def stop(self, choice: Choice) -> str:
        reason = super().stop(choice)
        return "" if reason == "cut" else reason


class NeverRepeated(Parts):
    def repeats(self, text: str, texts: list[str]) -> bool:
        return False


class LatestRepeated(Parts):
    def repeats(self, text: str, texts: list[str]) -> bool:
        return text in texts[-1:]


class LastTryAnyway(Parts):
    def end(self, record_class: type[BaseModel], texts: list[str], attempts: int) -> Any:
        try:
            record = record_class.model_construct(**json.loads(texts[-1]))
        except (ValueError, TypeError):
            record = None
        return record, "invalid", attempts


class RaisesAtTheEnd(Parts):
    def end(self, record_class: type[BaseModel], texts: list[str], attempts: int) -> Any:
        raise ValueError("no valid reply")


class FaultIsRefusal(Parts):
    def __call__(
        self, ask: Ask, messages: Messages, record_class: type[BaseModel], attempts: int
    ) -> Any:
        try:
            return super().__call__(ask, messages, record_class, attempts)
        except Exception:
            return None, "refused", attempts


class RetriesFaults(Parts):
    def call(self, ask: Ask, conversation: Messages) -> Choice:
        while True:
            try:
                return ask(conversation)
            except TimeoutError:
                continue


MISTAKES = [
    WrongAnswer("a record without validation", Unvalidated(),
                "You build a record that was not validated: a quantity of 41 passes."),
    WrongAnswer("a dictionary", Dictionary(),
                "Return the validated record, not a dictionary of its fields."),
    WrongAnswer("the record alone", RecordOnly(),
                "Return three things: the record or None, the reason, and the number of calls."),
    WrongAnswer("lax types", LaxTypes(),
                "You switch the class's strict mode off, so the text \"3\" becomes the number 3."),
    WrongAnswer("without the fence", Unfenced(),
                "You repair the text yourself. The task is to report the error to the model."),
    WrongAnswer("one kind of error", OnlyValidationErrors(),
                "`json.loads` raises JSONDecodeError, which is no ValidationError."),
    WrongAnswer("content of None", NoContent(),
                "A reply's content can be None: treat it as empty text."),
    WrongAnswer("the same question again", SameQuestion(),
                "You ask the same question again. A model at temperature 0 repeats its reply."),
    WrongAnswer("no details", NoDetails(),
                "You report an error without its details: name each field and its problem."),
    WrongAnswer("the first problem", FirstProblem(),
                "You report the first problem only. Each further problem costs another call."),
    WrongAnswer("no reply", NoReply(),
                "You leave out the model's reply, so the error is about a text that it cannot "
                "see."),
    WrongAnswer("the latest reply only", LatestOnly(),
                "You drop the earlier replies: the model can then return to an earlier mistake."),
    WrongAnswer("an error from the system", FromSystem(),
                "Send the error with the role user: many chat templates allow a system message "
                "only at the start."),
    WrongAnswer("changed messages", ChangesMessages(),
                "You append to the caller's list: work on a copy."),
    WrongAnswer("a call too many", ExtraAttempt(),
                "You call the model once more than allowed: `attempts` includes the first call."),
    WrongAnswer("a call too few", MissingAttempt(),
                "You stop a call too early: `range(1, attempts)` ends at attempts - 1."),
    WrongAnswer("the limit as the number", LimitAsNumber(),
                "You return the limit. Return how many calls there were."),
    WrongAnswer("numbers from 0", NumberFromZero(),
                "You count from 0: the first call is call 1."),
    WrongAnswer("asks after a refusal", AsksAfterRefusal(),
                "You treat a refusal as an invalid reply and ask again. It is an answer: stop."),
    WrongAnswer("a refusal is invalid", RefusalIsInvalid(),
                "You report a refusal as invalid. The caller must be able to tell them apart."),
    WrongAnswer("no content filter", NoFilter(),
                "A provider's filter also refuses: finish_reason is then \"content_filter\"."),
    WrongAnswer("asks after a cut reply", AsksAfterCut(),
                "You go on with a reply that was cut off. The same limit cuts the next one too, "
                "and a cut text that validates can lack its end."),
    WrongAnswer("never repeated", NeverRepeated(),
                "You go on although the model repeats an invalid reply: more calls bring the same "
                "text."),
    WrongAnswer("repeated in sequence only", LatestRepeated(),
                "You compare with the latest reply only. A model can alternate between two "
                "mistakes."),
    WrongAnswer("the last reply anyway", LastTryAnyway(),
                "After the last attempt you return a record that breaks a rule: return None."),
    WrongAnswer("an error at the end", RaisesAtTheEnd(),
                "No valid reply is an expected outcome: return None with the reason, do not raise "
                "an error."),
    WrongAnswer("a fault is a refusal", FaultIsRefusal(),
                "You catch the exception of `ask`. A fault of the connection says nothing about "
                "the request: let it pass."),
    WrongAnswer("retries faults", RetriesFaults(),
                "You repeat a call that raised an exception, without counting it. Let it pass: the "
                "caller decides about retries."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------


def _script(*texts: Reply | Exception | str, **options: Any) -> tuple[Script]:
    replies = tuple(Reply(text) if isinstance(text, str) else text for text in texts)
    return (Script(replies, **options),)


STAYS = {"record_class": Stay, "messages": QUESTION}
SCRIPTS = [
    Case("a valid first reply", _script(RIGHT, OTHER),
         "Return the record, \"valid\" and 1."),
    Case("a quantity over its limit, then a valid reply", _script(MANY, RIGHT),
         "Send the reply and its error, then validate the next reply."),
    Case("a reply with two problems", _script(BOTH, OTHER, attempts=3),
         "`str(error)` of a ValidationError names every field with its problem."),
    Case("broken JSON, then a valid reply", _script(BROKEN, RIGHT),
         "Broken JSON is an invalid reply like any other."),
    Case("a number as a text", _script(TEXT, RIGHT)),
    Case("valid JSON between backticks", _script(FENCED, OTHER),
         "Nothing is repaired: the whole content must be JSON."),
    Case("a content of None, then a valid reply", _script(Reply(None), RIGHT)),
    Case("three invalid replies, then a valid one", _script(MANY, DEAR, BOTH, RIGHT),
         "Each call gets all messages of the call before, the reply and the error."),
    Case("as many invalid replies as attempts", _script(MANY, DEAR, BOTH, RIGHT, attempts=3),
         "After the last attempt, return None and \"invalid\"."),
    Case("a single attempt", _script(DEAR, RIGHT, attempts=1)),
    Case("a single attempt that succeeds", _script(OTHER, RIGHT, attempts=1)),
    Case("the last attempt succeeds", _script(BROKEN, OTHER, attempts=2)),
    Case("a refusal after an invalid reply",
         _script(MANY, Reply(None, refusal="I cannot help with that."), RIGHT),
         "A refusal ends the loop."),
    Case("a refusal next to a valid record",
         _script(Reply(RIGHT, refusal="I should not do this."), OTHER),
         "Ask for the refusal before you validate."),
    Case("the provider's filter", _script(BROKEN, Reply("", finish="content_filter"), RIGHT),
         "A finish_reason of \"content_filter\" is a refusal too."),
    Case("a reply that was cut off", _script(Reply(BROKEN, finish="length"), RIGHT),
         "A finish_reason of \"length\" ends the loop."),
    Case("a reply that was cut off and validates", _script(Reply(RIGHT, finish="length"), OTHER),
         "Ask for the finish_reason before you validate."),
    Case("the same invalid reply twice", _script(MANY, MANY, RIGHT),
         "The content equals an earlier reply: return None and \"repeated\"."),
    Case("two mistakes in turn", _script(MANY, DEAR, MANY, RIGHT),
         "Compare with all earlier replies."),
    Case("a repeated reply at the last attempt", _script(DEAR, DEAR, attempts=2),
         "The rules apply in their order: \"repeated\" comes before \"invalid\"."),
    Case("a list instead of an object", _script("[]", attempts=1)),
    Case("another class", _script(STAY, LONG, **STAYS), "Use `record_class`."),
    Case("another class, with a limit and a field too many",
         _script(LONG, NAMELESS, STAY, **STAYS)),
    Case("an exception at the first call", _script(TimeoutError("no response"), RIGHT),
         "An exception of `ask` passes through unchanged."),
    Case("an exception after an invalid reply",
         _script(MANY, ConnectionError("reset"), RIGHT, attempts=3),
         "An exception of `ask` passes through unchanged."),
]  # fmt: skip


def _describe(run: Run) -> str:
    """Return what a loop did in words."""
    if run.result == ("fault",):
        shown = "the exception of `ask` passes"
    elif run.result[:1] == ("no tuple",):
        shown = run.result[1]
    else:
        parts = [f"{p[0]}({p[1]})" if isinstance(p, tuple) else repr(p) for p in run.result]
        shown = f"({', '.join(parts)})"
    last = ", ".join(run.calls[-1]) if run.calls else "nothing"
    return f"{shown} after {len(run.calls)} calls, the last with: {last}"


def _expect_script(get_record: Callable, case: Case) -> None:
    """Raise NotYet unless a function treats a script as the reference does."""
    number = SCRIPTS.index(case)
    runner = partial(run_script, get_record)
    expected = run_script(reference_record, *case.arguments)
    state, result = result_of(runner, case.arguments)
    if state == "value" and result == expected and _same_types(result, expected):
        return
    if state == "error" and result == "NotImplementedError":
        runner(*case.arguments)  # raises again, from the learner's own line
    runs = [replace(m, answer=partial(run_script, m.answer)) for m in MISTAKES]
    why = name_mistake(runner, SCRIPTS, number, runs)
    if state == "error":
        raise_again(runner, get_record, "get_record", case, why)
    if result.changed:
        why = why or "`get_record` changes the caller's messages: work on a copy."
    raise NotYet(
        f"{case.what}: {_describe(result)}; expected {_describe(expected)}. "
        f"{why or case.hint}".strip()
    )


def _same_types(run: Run, expected: Run) -> bool:
    return [type(part) for part in run.result] == [type(part) for part in expected.result]


@exercise("4.2", wrong=[
    *MISTAKES,
    WrongAnswer("returns nothing", lambda ask, messages, record_class, attempts: None,
                "None after 0 calls"),
])  # fmt: skip
def check_repair(get_record: Callable[..., Result]) -> str:
    """Judge `get_record(ask, messages, record_class, attempts)`."""
    for case in SCRIPTS:
        _expect_script(get_record, case)
    reasons, calls = Counter(), 0
    for seed in range(DRAWN):
        script = draw_script(seed)
        run, expected = run_script(get_record, script), run_script(reference_record, script)
        if run != expected:
            raise NotYet(
                f"an invented model that replies {[*script.replies]}, {script.attempts} attempts: "
                f"{_describe(run)}; expected {_describe(expected)}."
            )
        reasons[run.result[1] if len(run.result) == 3 else "fault"] += 1
        calls += len(run.calls)
    others = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
    return (
        f"{DRAWN} invented models end as expected ({others}) with {calls / DRAWN:.1f} calls each."
    )
