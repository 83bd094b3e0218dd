"""Exercise 5.6: the whole office, against the acceptance suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.lab5.cases import KINDS, VISIBLE, Case, draw_suite, of_kind
from openmodels.exercises.lab5.ex_5_4_media import ToolCall
from openmodels.exercises.lab5.parts import REFERENCES
from openmodels.exercises.lab5.perfect import perfect_models
from openmodels.exercises.lab5.requirements import CALLS, TOKENS, Result
from openmodels.exercises.lab5.suite import failures, hidden_seed, points, run_suite, share
from openmodels.harbour.documents import CITE_SYSTEM
from openmodels.harbour.errand_talk import calling
from openmodels.harbour.sounds import HEAR, MEANING
from openmodels.harbour.tools import OFFICE_SCHEMAS
from openmodels.workflows import agent, calls
from openmodels.workflows.calls import Budget, Usage
from openmodels.workflows.office_kit import (
    GLOSSARY,
    MARKERS,
    ROUTES,
    Desk,
    Models,
    cited_passages,
    connect_models,
)
from openmodels.workflows.office_request import Office, Reply, Request, Source

NEEDED = 0.8  # share of the cases that an office must pass with the miniatures
EACH = 2  # cases of each kind that an office must pass with models that make no mistake
FORM_QUESTION = "Write the order as JSON."
UNREADABLE = "I cannot read this form. Please ask a person at the desk."
PERSON = "I cannot do that. Please ask a person at the desk."

# --- The reference solution -----------------------------------------------------------------------

_, ROUTE = REFERENCES["5.1"]
(CARRY_OUT,) = REFERENCES["5.2"]
(ANSWER_RULES,) = REFERENCES["5.3"]
FORM_CALL, RADIO_CALL = REFERENCES["5.4"]
GUARD, WITHIN = REFERENCES["5.5"]


@dataclass(frozen=True)
class Parts:
    """The parts of an office. A known mistake replaces one of them."""

    route: Callable = ROUTE
    carry_out: Callable = CARRY_OUT
    answer_rules: Callable = ANSWER_RULES
    form_call: Callable = FORM_CALL
    radio_call: Callable = RADIO_CALL
    guard: Callable = GUARD
    within: Callable = WITHIN
    tools: Callable[[str], Sequence[str]] = lambda handler: [handler]
    question: Callable[[str], str] = lambda text: MEANING if "signal" in text else HEAR
    form_question: str = FORM_QUESTION
    call: Callable[[Desk], Callable] = lambda desk: desk.call
    approve: Callable[[Callable], Callable] = lambda approve: approve
    finish: Callable[[Reply], Reply] = lambda reply: reply
    budget: Budget = field(default_factory=lambda: Budget(calls=CALLS, tokens=TOKENS))


def run_tool(parts: Parts, desk: Desk, name: str, text: str, approve: Callable,
             first: ToolCall | None = None) -> Reply:  # fmt: skip
    """Return the reply to a request that one tool answers. first: the call, if it is known."""

    def ask(messages: list[dict], tools: list[dict]) -> dict:
        if first and messages[-1]["role"] == "user":
            return agent.numbered(calling(first))
        return agent.reply(desk.client, desk.model, messages, tools)

    schemas = desk.schemas(*parts.tools(name))
    answer, made = parts.carry_out(ask, text, schemas, parts.call(desk), approve)
    return Reply(answer, calls=tuple(made))


def answer_text(parts: Parts, desk: Desk, question: str) -> Reply:
    """Return the reply to a question about customs."""

    def search(question: str) -> list[Source]:
        results = desk.search(question, 12)
        return [s for s in results if parts.guard(s.text, MARKERS) == s.text]

    def read(question: str, passages: list[str]) -> str:
        lines = cited_passages([Source("", passage) for passage in passages])
        prompt = f"{lines}\nQuestion: {question}"
        return calls.ask(desk.client, desk.model, prompt, CITE_SYSTEM, max_tokens=60)

    return Reply(*parts.answer_rules(question, search, read))


def office_of(parts: Parts, desk: Desk) -> Office:
    """Return the office that these parts make at a desk."""

    def handle(request: Request, approve: Callable) -> Reply:
        approve = parts.approve(approve)
        handler, text = parts.route(request, GLOSSARY, ROUTES)
        if handler == "person":
            return Reply(PERSON)
        if handler == "picture":
            return Reply(desk.see(request.image, text))
        if handler == "rules":
            return answer_text(parts, desk, text)
        if handler == "form":
            call = parts.form_call(desk.see(request.image, parts.form_question), text)
            if call is None:
                return Reply(UNREADABLE)
            return run_tool(parts, desk, call[0], text, approve, call)
        if handler == "sound":
            heard = desk.hear(request.sound, parts.question(text))
            call = parts.radio_call(heard, text)
            return run_tool(parts, desk, call[0], text, approve, call) if call else Reply(heard)
        return run_tool(parts, desk, handler, text, approve)

    office = parts.within(handle, desk, parts.budget)
    return lambda request, approve: parts.finish(office(request, approve))


def use(**changes: Any) -> Callable[[Desk], Office]:
    """Return a function that builds an office with some parts replaced."""
    return partial(office_of, replace(Parts(), **changes))


reference_build_office = use()

# --- Known mistakes -------------------------------------------------------------------------------


def _untranslated(request: Request, glossary: dict, routes: dict) -> tuple[str, str]:
    handler, _ = ROUTE(request, glossary, routes)
    return handler, request.text


def _uncaught(handle: Callable, desk: Desk, budget: Budget) -> Office:
    return handle


def _reckless(handle: Callable, desk: Desk, budget: Budget) -> Office:
    def wasteful(request: Request, approve: Callable) -> Reply:
        for _ in range(CALLS):
            calls.ask(desk.client, desk.model, "Question: " + request.text)
        return handle(request, approve)

    return WITHIN(wasteful, desk, Budget())


MISTAKES = [
    WrongAnswer("no approval", use(approve=lambda approve: lambda name, arguments: True),
                "requirement approval: `approve` was called 0 times"),
    WrongAnswer("asks twice", use(approve=lambda approve: lambda name, arguments: (
                    approve(name, arguments) and approve(name, arguments))),
                "requirement approval: `approve` was called 2 times"),
    WrongAnswer("denials hidden", use(finish=lambda reply: replace(
                    reply, text="Done." if any(c.state == "denied" for c in reply.calls)
                    else reply.text)),
                "requirement approval: the reply does not say that nothing was written"),
    WrongAnswer("no sources", use(finish=lambda reply: replace(reply, sources=())),
                "requirement citation: the sources are missing"),
    WrongAnswer("invented passages", use(finish=lambda reply: replace(reply, sources=tuple(
                    replace(s, text="As I recall, yes.") for s in reply.sources))),
                "requirement citation ... does not contain the passage"),
    WrongAnswer("answers everything", use(answer_rules=lambda question, search, read: (
                    "The duty is 5 coins.", ())),
                "requirement refusal"),
    WrongAnswer("refuses everything", use(answer_rules=lambda question, search, read: (
                    "The documents do not say.", ())),
                "requirement citation ... 'The documents do not say.'"),
    WrongAnswer("no guard", use(guard=lambda text, markers: text),
                "requirement obedience: the reply follows an instruction of the document"),
    WrongAnswer("all tools", use(tools=lambda handler: list(OFFICE_SCHEMAS)),
                "requirement obedience: an instruction of the text led to send_message"),
    WrongAnswer("Chinese untranslated", use(route=_untranslated),
                "requirement tool: expected ... seen no call"),
    WrongAnswer("form not as JSON", use(form_question="What does the form say?"),
                "`approve` was called 0 times for place_order ... cannot read this form"),
    WrongAnswer("signals by their blasts", use(question=lambda text: HEAR),
                "requirement answer: the text lacks ... 'foghorn: short'"),
    WrongAnswer("calls not listed", use(finish=lambda reply: replace(reply, calls=())),
                "requirement tool: `calls` of the reply lacks"),
    WrongAnswer("tools outside the trace", use(call=lambda desk: desk.harbour.call),
                "requirement trace: the trace does not contain the call of"),
    WrongAnswer("no limits", use(within=_uncaught), "0 of 24 ... requirement trace: the store has no trace"),
    WrongAnswer("wasteful", use(within=_reckless), "requirement budget: 8 calls"),
    WrongAnswer("trace not named", use(finish=lambda reply: replace(reply, trace="")),
                "requirement trace: the store has no trace ''"),
    WrongAnswer("usage not reported", use(finish=lambda reply: replace(reply, usage=Usage())),
                "requirement budget: `usage` reports 0 calls"),
    WrongAnswer("text instead of a reply", use(finish=lambda reply: reply.text),
                "it returned str, not a Reply"),
]  # fmt: skip

# --- The checker ----------------------------------------------------------------------------------


def sample(seed: int = VISIBLE) -> list[Case]:
    """Return EACH cases of every kind."""
    suite = draw_suite(seed)
    return [case for kind in KINDS for case in list(of_kind(suite, kind))[:EACH]]


@cache
def models() -> Models:
    """Return the connections to the three models, made once."""
    return connect_models()


def expect_contract(build_office: Callable[[Desk], Office]) -> None:
    """Raise NotYet unless an office passes its cases with models that make no mistake."""
    results = run_suite(build_office, draw_suite(VISIBLE), perfect_models, cases=sample())
    if all(result.passed for result in results):
        return
    missed = Counter(name for r in results for name, problem in r.problems.items() if problem)
    total = Counter(name for r in results for name in r.problems)
    name = max(missed, key=lambda name: (missed[name] / total[name], missed[name]))
    example = next(result for result in results if result.problems.get(name))
    raise NotYet(
        f"with models that make no mistake, {share(r.passed for r in results)} cases pass. Most "
        f"missed: {name}, {missed[name]} of {total[name]}. {example.message(name)}"
    )


@exercise("5.6", wrong=MISTAKES)
def check_office(build_office: Callable[[Desk], Office]) -> tuple[str, float]:
    """Judge `build_office(desk)` with perfect models, then with the miniatures.

    A grader scores the hidden cases in any event, so that an office gets points for its parts.
    """
    try:
        expect_contract(build_office)
    except NotYet as problem:
        if hidden_seed() == VISIBLE:
            raise
        results = run_suite(build_office, draw_suite(hidden_seed()), models())
        raise NotYet(str(problem), points(results)) from None
    results = run_suite(build_office, draw_suite(hidden_seed()), models())
    passed = [result.passed for result in results]
    kind = "visible" if hidden_seed() == VISIBLE else "hidden"
    summary = (
        f"your office passes {share(passed)} {kind} cases, and meets {points(results):.0%} of "
        "their requirements"
    )
    if sum(passed) < NEEDED * len(passed):
        raise NotYet(
            f"{summary}; {NEEDED:.0%} of the cases are needed. {failures(results)[0]}",
            points(results),
        )
    return f"{summary}.", points(results)


def table(results: Sequence[Result]) -> list[list[str]]:
    """Return a table: the cases that do not pass, with the requirement and the problem."""
    rows = [["case", "requirement", "problem"]]
    for result in results:
        rows += [[result.case.name, n, p] for n, p in result.problems.items() if p]
    return rows
