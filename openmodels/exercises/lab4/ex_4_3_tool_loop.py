"""Exercise 4.3: a tool loop in which tools fail and responses get lost.

The scripted models and the harbour are in `scripted_tools`. The notebook then runs the learner's
function on a real model.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from openai.types.chat import ChatCompletionMessage

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.cases import Case, name_mistake, raise_again, result_of
from openmodels.exercises.lab4.scripted_tools import (
    Run,
    Script,
    book,
    draw_script,
    price,
    run_script,
    send,
)

Ask = Callable[[Sequence[Any]], ChatCompletionMessage]
Tools = Mapping[str, tuple[Callable[[dict, str], Any], bool]]
DRAWN = 200

# --- The reference solution -----------------------------------------------------------------------


def reference_loop(
    ask: Ask, messages: Sequence[Any], tools: Tools, steps: int, retries: int
) -> tuple[str | None, list]:
    """Return (answer or None, the whole conversation)."""
    conversation = list(messages)
    for _ in range(steps):
        message = ask(conversation)
        conversation.append(message)
        if not message.tool_calls:
            return message.content or "", conversation
        for call in message.tool_calls:
            content = json.dumps(reference_result(call.function, tools, retries))
            conversation.append({"role": "tool", "tool_call_id": call.id, "content": content})
    return None, conversation


def reference_result(request: Any, tools: Tools, retries: int) -> Any:
    """Return what the model reads about one call: the tool's result, or an error."""
    if request.name not in tools:
        return {"error": f"there is no tool {request.name!r}"}
    try:
        arguments = json.loads(request.arguments)
    except ValueError as error:
        return {"error": f"the arguments are not JSON: {error}"}
    if not isinstance(arguments, dict):
        return {"error": "the arguments are not an object"}
    function, safe = tools[request.name]
    key, problem = uuid.uuid4().hex, ""
    for _ in range(1 + retries if safe else 1):
        try:
            return function(arguments, key)
        except (TimeoutError, ConnectionError) as error:
            problem = f"no response ({error}); the call may have run"
        except Exception as error:  # a tool raises anything; the model reads it and goes on
            return {"error": f"{type(error).__name__}: {error}"}
    return {"error": problem}


# --- Known mistakes -------------------------------------------------------------------------------


class Parts:
    """The right loop in parts; each mistake replaces one of them."""

    def __call__(
        self, ask: Ask, messages: Sequence[Any], tools: Tools, steps: int, retries: int
    ) -> Any:
        """Return what `reference_loop` returns, as far as the parts are right."""
        self.run_key = uuid.uuid4().hex
        conversation = self.start(messages)
        for _ in range(self.limit(steps)):
            message = ask(conversation)
            self.add(conversation, message)
            if self.is_answer(message):
                return message.content or "", conversation
            self.run_calls(conversation, message, tools, retries)
        return self.end(conversation)

    def start(self, messages: Any) -> list:
        return list(messages)

    def limit(self, steps: int) -> int:
        return steps

    def add(self, conversation: list, message: ChatCompletionMessage) -> None:
        conversation.append(message)

    def is_answer(self, message: ChatCompletionMessage) -> bool:
        return not message.tool_calls

    def end(self, conversation: list) -> Any:
        return None, conversation

    def run_calls(
        self, conversation: list, message: ChatCompletionMessage, tools: Tools, retries: int
    ) -> None:
        for call in message.tool_calls or ():
            result = self.result(call, tools, retries)
            conversation.append(self.tool_message(call.id, result))

    def tool_message(self, identity: str, result: Any) -> dict:
        return {"role": "tool", "tool_call_id": identity, "content": json.dumps(result)}

    def result(self, call: Any, tools: Tools, retries: int) -> Any:
        if call.function.name not in tools:
            return self.unknown(call)
        try:
            arguments = json.loads(call.function.arguments)
        except ValueError as error:
            return self.bad_arguments(error)
        if not isinstance(arguments, dict):
            return self.no_object(call)
        function, safe = tools[call.function.name]
        return self.attempts(partial(self.once, function, arguments, call), safe, retries)

    def once(self, function: Callable, arguments: dict, call: Any, key: str) -> Any:
        return function(arguments, self.key(call, key))

    def unknown(self, call: Any) -> Any:
        return {"error": "no such tool"}

    def bad_arguments(self, error: ValueError) -> Any:
        return {"error": "no JSON"}

    def no_object(self, call: Any) -> Any:
        return {"error": "no object"}

    def key(self, call: Any, key: str) -> Any:
        return key

    def count(self, safe: bool, retries: int) -> int:
        return 1 + retries if safe else 1

    def is_lost(self, error: Exception) -> bool:
        return isinstance(error, (TimeoutError, ConnectionError))

    def failure(self, error: Exception) -> Any:
        return {"error": f"failed: {error}"}

    def attempts(self, once: Callable[[str], Any], safe: bool, retries: int) -> Any:
        key, latest = uuid.uuid4().hex, Exception("no attempt")
        for _ in range(self.count(safe, retries)):
            try:
                return once(key)
            except Exception as error:
                latest = error
                if not self.is_lost(error):
                    break
        return self.failure(latest)


class KeyPerAttempt(Parts):
    def key(self, call: Any, key: str) -> Any:
        return uuid.uuid4().hex


class KeyIsId(Parts):
    def key(self, call: Any, key: str) -> Any:
        return call.id


class KeyIsNumber(Parts):
    def start(self, messages: Any) -> list:
        self.numbers: dict[str, str] = {}
        return super().start(messages)

    def key(self, call: Any, key: str) -> Any:
        return self.numbers.setdefault(key, f"call {len(self.numbers)}")


class KeyIsCall(Parts):
    def key(self, call: Any, key: str) -> Any:
        return f"{call.function.name} {call.function.arguments}"


class KeyOfRun(Parts):
    def key(self, call: Any, key: str) -> Any:
        return self.run_key


class KeyOfRunAndId(Parts):
    def key(self, call: Any, key: str) -> Any:
        return f"{self.run_key}/{call.id}"


class KeyFromArguments(Parts):
    def key(self, call: Any, key: str) -> Any:
        return f"{self.run_key}/{call.function.name}/{call.function.arguments}"


class NoKey(Parts):
    def key(self, call: Any, key: str) -> Any:
        return None


class RetriesUnsafe(Parts):
    def count(self, safe: bool, retries: int) -> int:
        return 1 + retries


class NeverRetries(Parts):
    def count(self, safe: bool, retries: int) -> int:
        return 1


class AttemptsAsRetries(Parts):
    def count(self, safe: bool, retries: int) -> int:
        return max(1, retries) if safe else 1


class RetriesEverything(Parts):
    def is_lost(self, error: Exception) -> bool:
        return True


class RetriesSystemErrors(Parts):
    def is_lost(self, error: Exception) -> bool:
        return isinstance(error, OSError)


class TimeoutsOnly(Parts):
    def is_lost(self, error: Exception) -> bool:
        return isinstance(error, TimeoutError)


class ConnectionsOnly(Parts):
    def is_lost(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)


class BlankError(Parts):
    def failure(self, error: Exception) -> Any:
        return {"error": str(error)}


class NullOnFailure(Parts):
    def failure(self, error: Exception) -> Any:
        return None


class RaisesToolErrors(Parts):
    def failure(self, error: Exception) -> Any:
        raise error


class UnknownRaises(Parts):
    def unknown(self, call: Any) -> Any:
        raise KeyError(call.function.name)


class BrokenJsonRaises(Parts):
    def bad_arguments(self, error: ValueError) -> Any:
        raise error


class BrokenJsonIsEmpty(Parts):
    def result(self, call: Any, tools: Tools, retries: int) -> Any:
        result = super().result(call, tools, retries)
        if result == {"error": "no JSON"}:
            function, safe = tools[call.function.name]
            return self.attempts(partial(self.once, function, {}, call), safe, retries)
        return result


class AnyJson(Parts):
    def no_object(self, call: Any) -> Any:
        raise TypeError("list indices must be integers or slices, not str")


class FirstCallOnly(Parts):
    def run_calls(self, conversation: list, message: Any, tools: Tools, retries: int) -> None:
        call = message.tool_calls[0]
        result = self.result(call, tools, retries)
        conversation.append(self.tool_message(call.id, result))


class StopsAtFailure(Parts):
    def run_calls(self, conversation: list, message: Any, tools: Tools, retries: int) -> None:
        for call in message.tool_calls:
            result = self.result(call, tools, retries)
            conversation.append(self.tool_message(call.id, result))
            if isinstance(result, dict) and "error" in result:
                break


class LatestId(Parts):
    def run_calls(self, conversation: list, message: Any, tools: Tools, retries: int) -> None:
        results = [self.result(call, tools, retries) for call in message.tool_calls]
        for result in results:
            conversation.append(self.tool_message(message.tool_calls[-1].id, result))


class OneMessage(Parts):
    def run_calls(self, conversation: list, message: Any, tools: Tools, retries: int) -> None:
        results = [self.result(call, tools, retries) for call in message.tool_calls]
        merged = results[0] if len(results) == 1 else results
        conversation.append(self.tool_message(message.tool_calls[0].id, merged))


class Reversed(Parts):
    def run_calls(self, conversation: list, message: Any, tools: Tools, retries: int) -> None:
        for call in reversed(message.tool_calls):
            result = self.result(call, tools, retries)
            conversation.append(self.tool_message(call.id, result))


class PythonText(Parts):
    def tool_message(self, identity: str, result: Any) -> dict:
        return {"role": "tool", "tool_call_id": identity, "content": str(result)}


class ResultAsObject(Parts):
    def tool_message(self, identity: str, result: Any) -> dict:
        return {"role": "tool", "tool_call_id": identity, "content": result}


class ResultFromUser(Parts):
    def tool_message(self, identity: str, result: Any) -> dict:
        return {"role": "user", "content": json.dumps(result)}


class NoAssistantMessage(Parts):
    def add(self, conversation: list, message: ChatCompletionMessage) -> None:
        if not message.tool_calls:
            conversation.append(message)


class NoAnswerMessage(Parts):
    def add(self, conversation: list, message: ChatCompletionMessage) -> None:
        if message.tool_calls:
            conversation.append(message)


class ContentIsAnswer(Parts):
    def is_answer(self, message: ChatCompletionMessage) -> bool:
        return bool(message.content) or not message.tool_calls


class NoneIsNoAnswer(Parts):
    def is_answer(self, message: ChatCompletionMessage) -> bool:
        return message.content is not None and not message.tool_calls


class NoLimit(Parts):
    def limit(self, steps: int) -> int:
        return 1000


class ExtraStep(Parts):
    def limit(self, steps: int) -> int:
        return steps + 1


class MissingStep(Parts):
    def limit(self, steps: int) -> int:
        return max(1, steps - 1)


class LastCallsSkipped(Parts):
    def __call__(
        self, ask: Ask, messages: Sequence[Any], tools: Tools, steps: int, retries: int
    ) -> Any:
        answer, conversation = super().__call__(ask, messages, tools, steps - 1, retries)
        if answer is not None:
            return answer, conversation
        message = ask(conversation)
        conversation.append(message)
        return (None if message.tool_calls else message.content or ""), conversation


class RaisesAtTheEnd(Parts):
    def end(self, conversation: list) -> Any:
        raise RuntimeError("no answer")


class AnswerOnly(Parts):
    def __call__(
        self, ask: Ask, messages: Sequence[Any], tools: Tools, steps: int, retries: int
    ) -> Any:
        return super().__call__(ask, messages, tools, steps, retries)[0]


class ChangesMessages(Parts):
    def start(self, messages: Any) -> list:
        return messages


MISTAKES = [
    WrongAnswer("a key for each attempt", KeyPerAttempt(),
                "You choose a new key for each attempt, so a booking whose response was lost is "
                "made twice."),
    WrongAnswer("the id as the key", KeyIsId(),
                "You use the model's id as the key. A model can repeat its ids in another step or "
                "run, and the second booking then returns the first berth."),
    WrongAnswer("a number as the key", KeyIsNumber(),
                "Your keys count the calls of a run, so the next run books with the same keys. "
                "Add something that no other run has."),
    WrongAnswer("name and arguments as the key", KeyIsCall(),
                "Your key comes from the call's name and arguments. Two equal calls can be two "
                "bookings, in one run or in two."),
    WrongAnswer("one key for the run", KeyOfRun(),
                "All calls of your run share a key, so every booking after the first is lost."),
    WrongAnswer("run and id as the key", KeyOfRunAndId(),
                "Your key contains the run and the model's id. The model can repeat an id in a "
                "later step of the same run."),
    WrongAnswer("the arguments as the key", KeyFromArguments(),
                "Your key comes from the arguments. Two calls with equal arguments can be two "
                "bookings."),
    WrongAnswer("no key", NoKey(),
                "You pass no key: it is a text that is not empty."),
    WrongAnswer("retries what is unsafe", RetriesUnsafe(),
                "You retry a call that is not safe: the message may have been sent, and is then "
                "sent twice."),
    WrongAnswer("never retries", NeverRetries(),
                "You never retry. A safe call whose response was lost gets `retries` more "
                "attempts."),
    WrongAnswer("attempts as retries", AttemptsAsRetries(),
                "You count the first attempt as a retry."),
    WrongAnswer("retries every error", RetriesEverything(),
                "You retry an error that the tool raised on purpose. The next attempt ends in the "
                "same way."),
    WrongAnswer("retries system errors", RetriesSystemErrors(),
                "You retry every OSError. A PermissionError is one too, and ends in the same way "
                "again."),
    WrongAnswer("retries timeouts only", TimeoutsOnly(),
                "You do not retry a ConnectionError."),
    WrongAnswer("retries lost connections only", ConnectionsOnly(),
                "You do not retry a TimeoutError."),
    WrongAnswer("a blank error", BlankError(),
                "`str(error)` can be empty: name the class of the error too."),
    WrongAnswer("null after a failure", NullOnFailure(),
                "You return null after a failure. The model reads it as a result: report an "
                "error."),
    WrongAnswer("a tool's error ends the loop", RaisesToolErrors(),
                "A tool's exception ends your loop. The model must read the error and go on."),
    WrongAnswer("an unknown tool ends the loop", UnknownRaises(),
                "An unknown tool ends your loop. A model can invent a name: report an error."),
    WrongAnswer("broken JSON ends the loop", BrokenJsonRaises(),
                "Broken arguments end your loop. A model can generate them: report an error."),
    WrongAnswer("broken JSON is empty", BrokenJsonIsEmpty(),
                "You run a tool although its arguments are broken."),
    WrongAnswer("arguments of any type", AnyJson(),
                "Arguments can be valid JSON and no object: report an error."),
    WrongAnswer("the first call only", FirstCallOnly(),
                "You run the first call of a message only."),
    WrongAnswer("stops at a failure", StopsAtFailure(),
                "After a failed call you skip the others of its message. Each call needs a "
                "result."),
    WrongAnswer("the latest id", LatestId(),
                "All results have the same tool_call_id. Each result has the id of its call."),
    WrongAnswer("one message for all", OneMessage(),
                "You put all results into one message. Each call gets its own message."),
    WrongAnswer("reversed", Reversed(),
                "You run the calls of a message in another order."),
    WrongAnswer("a Python text", PythonText(),
                "`str` writes Python, with single quotes and None. Use `json.dumps`."),
    WrongAnswer("an object as content", ResultAsObject(),
                "The content of a message is a text: use `json.dumps`."),
    WrongAnswer("a result from the user", ResultFromUser(),
                "A result has the role tool and a tool_call_id. As a user message it looks like a "
                "request."),
    WrongAnswer("no assistant message", NoAssistantMessage(),
                "You leave out the model's message with the calls, so the results answer "
                "nothing."),
    WrongAnswer("no final message", NoAnswerMessage(),
                "You leave out the model's last message: the conversation ends with the answer."),
    WrongAnswer("any content is an answer", ContentIsAnswer(),
                "A message can have a content and calls. Only a message without calls is the "
                "answer."),
    WrongAnswer("None is no answer", NoneIsNoAnswer(),
                "A message without calls ends the loop, also if its content is None."),
    WrongAnswer("no limit", NoLimit(),
                "Your loop ignores `steps`."),
    WrongAnswer("a step too many", ExtraStep(),
                "You call the model once more than `steps` allows."),
    WrongAnswer("a step too few", MissingStep(),
                "You stop a step too early."),
    WrongAnswer("skips the last calls", LastCallsSkipped(),
                "You skip the calls of the last step, so they have no results. The next request "
                "with these messages would be refused."),
    WrongAnswer("an error at the end", RaisesAtTheEnd(),
                "After the last step, return None and the conversation: do not raise an error."),
    WrongAnswer("the answer alone", AnswerOnly(),
                "Return two things: the answer and the list of messages."),
    WrongAnswer("changed messages", ChangesMessages(),
                "You append to the caller's list: work on a copy."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------

DONE = ("The Heron has a berth.", ())


def _script(*turns: Any, **options: Any) -> tuple[Script]:
    """Return a script; a turn is an answer, or a list of calls."""
    complete = tuple(
        (part, ()) if isinstance(part, str) else part if isinstance(part, tuple)
        else (None, tuple(part))
        for part in turns
    )  # fmt: skip
    return (Script(complete, **options),)


SCRIPTS = [
    Case("an answer without calls", _script("Hello."),
         "Return the content and the conversation, which ends with the model's message."),
    Case("one price", _script([price("a")], "11 coins."),
         "Append the model's message, then the result with the call's id, and ask again."),
    Case("two calls in one message", _script([price("a"), price("b", "bell")], "38 coins."),
         "Run each call of a message, in order."),
    Case("a result that is no object", _script([send("a")], "Sent."),
         "The content is the result as JSON, whatever its type."),
    Case("a content next to a call", _script(("Let me see.", (price("a"),)), "11 coins."),
         "A message with calls is not the answer."),
    Case("a price whose response is lost once",
         _script([price("a")], "11 coins.", faults={"get_price": ("lost",)}, retries=1),
         "A TimeoutError of a safe call is worth another attempt."),
    Case("a connection that is refused twice",
         _script([price("a", "net")], "34 coins.", faults={"get_price": ("down", "down")}),
         "A ConnectionError of a safe call is worth another attempt."),
    Case("a booking whose response is lost once",
         _script([book("a")], *[DONE], faults={"book_berth": ("lost",)}, retries=1),
         "Choose the key once per call, before the first attempt."),
    Case("a booking whose response is lost twice",
         _script([book("a", "Gull")], *[DONE], faults={"book_berth": ("lost", "lost")})),
    Case("no response with retries=1",
         _script([price("a")], "I could not read it.", faults={"get_price": ("lost",) * 3},
                 retries=1),
         "After 1 + retries attempts, report an error."),
    Case("no response with retries=3",
         _script([price("a")], "I could not read it.", faults={"get_price": ("down",) * 6},
                 retries=3),
         "After 1 + retries attempts, report an error."),
    Case("a lost response with retries=0",
         _script([book("a")], "I do not know.", faults={"book_berth": ("lost",)}, retries=0),
         "retries=0 allows one attempt."),
    Case("a message whose response is lost",
         _script([send("a")], "I do not know.", faults={"send_message": ("lost",)}),
         "send_message is not safe: one attempt, then an error."),
    Case("a message that meets a refused connection",
         _script([send("a", "Otto")], "I could not send it.", faults={"send_message": ("down",)}),
         "send_message is not safe: one attempt, then an error."),
    Case("a booking that the tool refuses",
         _script([book("a")], "That is not possible.", faults={"book_berth": ("refused",)}),
         "Report the error of the tool, without a retry."),
    Case("a booking that is not permitted",
         _script([book("a")], "I may not book.", faults={"book_berth": ("denied",)}),
         "Only TimeoutError and ConnectionError are worth another attempt."),
    Case("errors without a text",
         _script([book("a")], [price("b")], "I could not do it.",
                 faults={"book_berth": ("refused",), "get_price": ("lost",)}, retries=0,
                 quiet=True),
         "The model reads {\"error\": a text that is not blank}."),
    Case("two equal bookings in one message",
         _script([book("a"), book("b")], "Two berths."),
         "Each call has its own key."),
    Case("two bookings with the same id in two steps",
         _script([book("call_0")], [book("call_0", "Gull")], "Two berths."),
         "The model's id is not unique: choose your own key."),
    Case("a failed call before another one",
         _script([send("a"), price("b")], "11 coins.", faults={"send_message": ("refused",)}),
         "Each call of a message gets a result."),
    Case("a tool that does not exist", _script([("a", "get_weather", "{}")], "I cannot know."),
         "Report an error that the model can read."),
    Case("arguments that are no JSON", _script([("a", "send_message", '{"to": ')], "Sorry."),
         "Report an error, and run nothing."),
    Case("arguments that are a list", _script([("a", "get_price", '["rope"]')], "Sorry."),
         "The arguments are an object, or the call is an error."),
    Case("steps=2 without an answer",
         _script([price("a")], [book("b")], [price("c")], "Done.", steps=2),
         "After `steps` calls of the model and their tools, return None."),
    Case("an answer in the last step", _script([price("a")], "11 coins.", steps=2)),
    Case("a single step", _script([book("a")], *[DONE], steps=1)),
    Case("an answer without content", _script([price("a")], (None, ())),
         "A content of None counts as an empty text."),
]  # fmt: skip


def _describe(run: Run) -> str:
    """Return what a loop did in words."""
    if not run.messages:
        return f"it returned {run.answer}"
    attempts = ", ".join(f"{name} with key {key}" for name, _, key in run.attempts) or "none"
    return (
        f"answer {run.answer!r}; {len(run.prompts)} calls of the model; attempts: {attempts}; "
        f"{run.booked} booked, {run.sent} sent; messages: {' | '.join(run.messages)}"
    )


def _expect_script(run_loop: Callable, case: Case) -> None:
    """Raise NotYet unless a function treats a script as the reference does."""
    number = SCRIPTS.index(case)
    runner = partial(run_script, run_loop)
    expected = run_script(reference_loop, *case.arguments)
    state, result = result_of(runner, case.arguments)
    if state == "value" and result == expected:
        return
    if state == "error" and result == "NotImplementedError":
        runner(*case.arguments)  # raises again, from the learner's own line
    runs = [replace(m, answer=partial(run_script, m.answer)) for m in MISTAKES]
    why = name_mistake(runner, SCRIPTS, number, runs)
    if state == "error":
        raise_again(runner, run_loop, "run_loop", case, why)
    if result.changed:
        why = why or "`run_loop` changes the caller's messages: work on a copy."
    if result.shared:
        why = why or "A second run used the same keys: a key is different in every run."
    raise NotYet(
        f"{case.what}: {_describe(result)}. Expected: {_describe(expected)}. "
        f"{why or case.hint}".strip()
    )


@exercise("4.3", wrong=[
    *MISTAKES,
    WrongAnswer("returns nothing", lambda ask, messages, tools, steps, retries: None,
                "it returned None"),
])  # fmt: skip
def check_tool_loop(run_loop: Callable[..., tuple[str | None, list]]) -> str:
    """Judge `run_loop(ask, messages, tools, steps, retries)`."""
    for case in SCRIPTS:
        _expect_script(run_loop, case)
    booked = attempts = 0
    for seed in range(DRAWN):
        script = draw_script(seed)
        run, expected = run_script(run_loop, script), run_script(reference_loop, script)
        if run != expected:
            raise NotYet(
                f"an invented model and harbour, {script.steps} steps, retries={script.retries}: "
                f"{_describe(run)}. Expected: {_describe(expected)}."
            )
        booked += run.booked
        attempts += len(run.attempts)
    return (
        f"in {DRAWN} invented runs your loop makes {attempts} attempts and {booked} bookings, "
        "none of them twice."
    )
