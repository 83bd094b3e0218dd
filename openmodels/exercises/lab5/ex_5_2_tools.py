"""Exercise 5.2: run the tools that a model requests, and write only with approval."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openmodels.check import WrongAnswer, exercise
from openmodels.exercises.cases import Case
from openmodels.exercises.contracts import Contract
from openmodels.exercises.lab5.requirements import NOT_DONE
from openmodels.harbour.tools import OFFICE_SCHEMAS, WRITES
from openmodels.workflows.agent import Message, requests, results_of
from openmodels.workflows.office_request import Call

DENIED = "This was not approved, so nothing was written."
UNFINISHED = "I could not finish this."
NO_ANSWER = "I have no answer."

# --- The reference solution -----------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """The steps of the loop. A known mistake replaces one of them."""

    writes: Sequence[str] = WRITES
    listed: bool = True  # a tool that is not in `tools` is refused
    before: bool = True  # approval comes before the call
    repeat: str = "known"  # result of a repeated write; "again" runs it again
    denied: str = "stop"
    denied_listed: bool = True
    failed: Callable[[Any], bool] = lambda result: isinstance(result, dict) and "error" in result
    first: bool = False  # only the first call of a message runs
    history: Callable[[Message, list], list] = lambda message, results: [
        message,
        *results_of(message, results),
    ]
    extra: int = 0  # calls of the model beyond the limit
    key: Callable[[str, dict], str] = lambda name, arguments: json.dumps(
        [name, arguments], sort_keys=True
    )
    copy: bool = True
    empty: str = NO_ANSWER
    unfinished: str = UNFINISHED
    error_ends: bool = False


def loop(
    steps: Steps, ask: Callable, text: str, tools: list[dict], call: Callable, approve: Callable,
    limit: int = 4,
) -> tuple[str, list[Call]]:  # fmt: skip
    """Return the final text, and the calls in order."""
    names = [tool["function"]["name"] for tool in tools]
    messages: list[Message] = [{"role": "user", "content": text}]
    calls: list[Call] = []
    finished: dict[str, Any] = {}
    for _ in range(limit + steps.extra):
        message = ask(messages, tools)
        pending = requests(message)[: 1 if steps.first else None]
        if not pending:
            return message.get("content") or steps.empty, calls
        results = []
        for name, arguments in pending:
            key = steps.key(name, arguments)
            if steps.repeat == "known" and key in finished:
                results.append(finished[key])
                continue
            record = _run(steps, name, arguments, names, call, approve)
            if record.state != "denied" or steps.denied_listed:
                calls.append(record)
            if record.state == "denied" and steps.denied == "stop":
                return DENIED, calls
            if record.state == "denied" and steps.denied == "claim":
                return f"{name} is done.", calls
            if record.state == "failed" and steps.error_ends:
                return UNFINISHED, calls
            if name in steps.writes and record.state == "done":
                finished[key] = record.result
            results.append(record.result or {"error": "not approved"})
        messages = messages + steps.history(message, results)
    return steps.unfinished, calls


def _run(
    steps: Steps, name: str, arguments: dict, names: list[str], call: Callable, approve: Callable
) -> Call:
    """Return a call with its result and state."""
    if steps.listed and name not in names:
        return Call(name, arguments, {"error": f"no tool {name}"}, "failed")
    passed = dict(arguments) if steps.copy else arguments
    if not steps.before:
        result = call(name, arguments)
    if name in steps.writes and not approve(name, passed):
        return Call(name, arguments, None, "denied")
    if steps.before:
        result = call(name, arguments)
    return Call(name, arguments, result, "failed" if steps.failed(result) else "done")


def use(**changes: Any) -> Callable:
    """Return the loop with some steps replaced."""
    steps = replace(Steps(), **changes)
    return lambda *arguments: loop(steps, *arguments)


reference_carry_out = use()

# --- A scripted model, and what a run did ---------------------------------------------------------


def calling(*calls: tuple[str, dict]) -> Message:
    """Return an assistant message with tool calls."""
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": f"call-{number}", "type": "function",
             "function": {"name": name, "arguments": json.dumps(arguments)}}
            for number, (name, arguments) in enumerate(calls)
        ],
    }  # fmt: skip


def saying(text: str) -> Message:
    """Return an assistant message with a text."""
    return {"role": "assistant", "content": text}


@dataclass(frozen=True)
class Scenario:
    """What a model says in turn, and how people and tools respond.

    tools: names of the tools that the loop may use. answers: the decision for each tool's name.
    results: of each tool's name. change: the approving person changes the arguments.
    """

    script: tuple[Message, ...]
    tools: tuple[str, ...]
    answers: dict[str, bool]
    results: dict[str, Any]
    limit: int = 4
    change: bool = False


def observe(carry_out: Callable, scenario: Scenario) -> dict[str, Any]:
    """Return what a run did: its text, calls, tool runs, approvals and the model's prompts."""
    script, prompts, events = iter(scenario.script), [], []

    def ask(messages: list[Message], tools: list[dict]) -> Message:
        prompts.append([(m["role"], m.get("content", "")) for m in messages])
        return next(script, saying("I go on and on."))

    def call(name: str, arguments: dict) -> Any:
        events.append(("ran", name, json.dumps(arguments, sort_keys=True)))
        return scenario.results.get(name, {"error": f"no tool {name}"})

    def approve(name: str, arguments: dict) -> bool:
        events.append(("approval", name, json.dumps(arguments, sort_keys=True)))
        if scenario.change:
            arguments.clear()
        return scenario.answers.get(name, False)

    tools = [OFFICE_SCHEMAS[name] for name in scenario.tools]
    result = carry_out(ask, "Please help.", tools, call, approve, scenario.limit)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        return {"result": result}
    text, calls = result
    return {
        "approvals": [event[1:] for event in events if event[0] == "approval"],
        "runs": [event[1:] for event in events if event[0] == "ran"],
        "order": [event[0] for event in events],
        "calls": [(c.name, c.arguments, c.result, c.state) for c in calls],
        "prompts": prompts,
        "text": _text_kind(text, scenario),
    }


def _text_kind(text: Any, scenario: Scenario) -> str:
    """Return the model's own text, or what kind of text the office made."""
    if not isinstance(text, str) or not text.strip():
        return "empty"
    if text in [message.get("content") for message in scenario.script]:
        return text
    return "a text that says what was not done" if NOT_DONE.search(text) or "no " in text else text


# --- Known mistakes -------------------------------------------------------------------------------


def _approving_by_name(ask: Callable, text: str, tools: list, call: Callable, approve: Callable,
                       limit: int = 4) -> tuple[str, list[Call]]:  # fmt: skip
    decisions: dict[str, bool] = {}

    def once(name: str, arguments: dict) -> bool:
        if name not in decisions:
            decisions[name] = approve(name, arguments)
        return decisions[name]

    return reference_carry_out(ask, text, tools, call, once, limit)


MISTAKES = [
    WrongAnswer("no approval", use(writes=()), "A tool in WRITES needs approval before it runs."),
    WrongAnswer("approval of reads", use(writes=tuple(OFFICE_SCHEMAS)),
                "Reading tools run without approval: a person who is asked all the time says yes."),
    WrongAnswer("approval afterwards", use(before=False),
                "Ask for approval before the call: afterwards the order is placed."),
    WrongAnswer("claims it is done", use(denied="claim"),
                "After a denial, say that nothing was written."),
    WrongAnswer("goes on after a denial", use(denied="continue"),
                "A denial ends the run: do not call the model again."),
    WrongAnswer("denied call not listed", use(denied_listed=False),
                "List the denied call too, with the state `denied`."),
    WrongAnswer("tools not listed", use(listed=False),
                "Refuse a tool that is not in `tools`: the model may invent its name."),
    WrongAnswer("errors are done", use(failed=lambda result: False),
                "A result with an error has the state `failed`."),
    WrongAnswer("an error ends the run", use(error_ends=True),
                "Return an error to the model: it can correct its call."),
    WrongAnswer("first call only", use(first=True, history=lambda message, results: [
                    message, *results_of({"tool_calls": message["tool_calls"][:1]}, results)]),
                "A message can have several calls: run all of them."),
    WrongAnswer("writes repeated", use(repeat="again"),
                "The same write ran before: return its result again, and do not run it twice."),
    WrongAnswer("approval by name", _approving_by_name,
                "Each write needs its own approval: the second one has other arguments."),
    WrongAnswer("writes compared by name", use(key=lambda name, arguments: name),
                "Two writes are the same only if their arguments are the same too."),
    WrongAnswer("calls forgotten", use(history=lambda message, results:
                                       results_of(message, results)),
                "Append the assistant's message before the results: they answer its calls."),
    WrongAnswer("results forgotten", use(history=lambda message, results: [message]),
                "Append one tool message per call, with `results_of`."),
    WrongAnswer("one call too many", use(extra=1), "Call the model at most `limit` times."),
    WrongAnswer("arguments shared", use(copy=False),
                "Pass a copy to `approve`: what runs must be what the person saw."),
    WrongAnswer("empty text", use(empty=""), "A message without a text needs a text of yours."),
    WrongAnswer("nothing at the limit", use(unfinished=""),
                "At the limit, return a text that says that you could not finish."),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------

PRICE = ("get_price", {"item": "rope", "shop": "chandlery"})
STOCK = ("get_stock", {"item": "rope", "shop": "chandlery"})
PAY = ("pay", {"name": "Ada", "coins": 3})
PAY_MORE = ("pay", {"name": "Ada", "coins": 30})
TELL = ("send_message", {"to": "Otto", "text": "The rope is here."})
RESULTS = {"get_price": {"price": 7}, "get_stock": {"stock": 3}, "pay": {"receipt": 12},
           "send_message": {"sent": True}}  # fmt: skip
FAILING = RESULTS | {"get_price": {"error": "no shop bakerie; shops: bakery"}}


def scenario(
    what: str, *script: Message, tools: str = "get_price get_stock pay send_message",
    deny: str = "", results: dict = RESULTS, hint: str = "", **options: Any,
) -> Case:  # fmt: skip
    """Return a case. deny: names of the tools that a person does not approve."""
    answers = {name: name not in deny.split() for name in WRITES}
    names = tuple(tools.split())
    return Case(what, (Scenario(script, names, answers, results, **options),), hint)


CASES = [
    scenario("a text without calls", saying("Good morning.")),
    scenario("one reading call", calling(PRICE), saying("7 coins.")),
    scenario("two calls in one message", calling(PRICE, STOCK), saying("7 coins, 3 ropes.")),
    scenario("an approved payment", calling(PAY), saying("Paid.")),
    scenario("a denied payment", calling(PAY), saying("I paid Ada 3 coins."), deny="pay"),
    scenario("a denied message after a price", calling(PRICE), calling(TELL), saying("Sent."),
             deny="send_message"),
    scenario("a denied payment before a message", calling(PAY, TELL), saying("Done."), deny="pay"),
    scenario("a tool that fails", calling(PRICE), calling(STOCK), saying("3 ropes."),
             results=FAILING),
    scenario("a payment that fails", calling(PAY), saying("The office has only 2 coins."),
             results=RESULTS | {"pay": {"error": "the office has only 2 coins"}}),
    scenario("a tool that is not in `tools`", calling(PAY), saying("I have no tool for that."),
             tools="get_price"),
    scenario("a read that is not in `tools`", calling(STOCK), saying("I have no tool."),
             tools="get_price"),
    scenario("the same payment twice", calling(PAY), calling(PAY), saying("Paid.")),
    scenario("two different payments", calling(PAY), calling(PAY_MORE), saying("Paid twice.")),
    scenario("a read twice", calling(PRICE), calling(PRICE), saying("7 coins.")),
    scenario("an approval that changes the arguments", calling(PAY), saying("Paid."), change=True),
    scenario("an empty text", saying("")),
    scenario("a model that never ends", *[calling(PRICE)] * 9),
    scenario("a limit of one call", calling(PRICE), saying("7 coins."), limit=1),
]  # fmt: skip


@exercise(
    "5.2",
    wrong=[
        *MISTAKES,
        WrongAnswer("text only", lambda *arguments: reference_carry_out(*arguments)[0],
                    "returns two things"),
    ],
)  # fmt: skip
def check_carry_out(carry_out: Callable) -> str:
    """Judge `carry_out(ask, text, tools, call, approve, limit)`."""
    mistakes = [replace(m, answer=lambda s, answer=m.answer: observe(answer, s)) for m in MISTAKES]

    def learner(scenario: Scenario) -> dict[str, Any]:
        return observe(carry_out, scenario)

    def problem(result: Any, expected: Any) -> str:
        if "result" in result:
            return f"`carry_out` returns two things, a text and a list, not {result['result']!r}"
        for name, value in expected.items():
            if result[name] != value:
                return f"{name}: seen {result[name]}, expected {value}"
        return ""

    reference = lambda scenario: observe(reference_carry_out, scenario)  # noqa: E731
    Contract(reference, CASES, mistakes, problem).expect(learner)
    return f"your loop handles {len(CASES)} conversations, and writes only what a person approved."
