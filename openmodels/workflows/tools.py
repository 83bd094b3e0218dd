"""Run the tools that a model calls: validated, bounded, approved if they write, and recorded.

A tool's failure is a result. The model reads {"error": "..."} and can correct its call; nothing
that a model or a tool does raises an exception in the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jsonschema
import openai

from openmodels.harbour.office import Office
from openmodels.harbour.tools import OFFICE_SCHEMAS, SCHEMAS, WRITES
from openmodels.isolation import sandbox

KEY = "openmodels/idempotency-key"  # where the `_meta` of an MCP call holds its key
MAX_ARGUMENTS = 10_000  # characters of a call's arguments
MAX_CALLS = 16  # of one message
MAX_PROBLEM = 300  # characters of an error message that a model reads
Arguments = dict[str, Any]
Check = Callable[[Arguments, Any], str | None]
Status = Literal["ok", "invalid", "not allowed", "denied", "late", "failed", "rejected", "pending"]


class ToolError(Exception):
    """A failure that a tool foresees; the model reads its text. Other exceptions' texts stay here.

    Their texts can hold paths or passwords.
    """


@dataclass(frozen=True)
class Tool:
    """A function that a model may call, with its limits.

    parameters: the JSON schema of the arguments. function: takes the arguments and an idempotency
    key, plain or async, and returns a value that JSON can hold. writes: it changes something, so
    a person or a policy approves each call. seconds: time limit of a call. max_chars: limit of
    the result. fields: the result's fields and their types; others are dropped, because a text
    field is a way in for instructions. checks: return what is wrong with a result, or None.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[[Arguments, str], Any]
    writes: bool = False
    seconds: float = 5.0
    max_chars: int = 2_000
    fields: Mapping[str, type] | None = None
    checks: tuple[Check, ...] = ()

    def schema(self) -> dict[str, Any]:
        """Return the tool as the entry of an OpenAI request's `tools`."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Call:
    """A call that a model requested. key: the same for each retry of this call, and no other."""

    id: str
    name: str
    arguments: str  # JSON, as the model generated it
    key: str


def make_call(tool: str, /, **arguments: Any) -> Call:
    """Return a call as a model could generate it, with an id and a key of its own."""
    identity = uuid.uuid4().hex
    return Call(identity, tool, json.dumps(arguments), identity)


@dataclass(frozen=True)
class Outcome:
    """A finished call: its status, the text that the model reads, the attempts and the seconds."""

    call: Call
    status: Status
    text: str
    attempts: int = 0
    seconds: float = 0.0


def approve_nothing(call: Call) -> bool | None:
    """Return None: a person decides."""
    return None


class Toolbox:
    """Tools for one task, with an allow-list, an approval policy and a record of all calls.

    allowed: names of the tools that the task needs; None allows all. The list is applied twice:
    the model does not see other tools, and a call to one is refused. approve: decides a call that
    writes: True, False, or None to pause until a person decides. retries: repeated attempts after
    a time limit or a lost connection, with the same key.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        allowed: Collection[str] | None = None,
        approve: Callable[[Call], bool | None] = approve_nothing,
        retries: int = 0,
    ) -> None:
        names = [tool.name for tool in tools]
        repeated = sorted({name for name in names if names.count(name) > 1})
        unknown = sorted(set(allowed or ()) - set(names))
        if repeated or unknown:
            raise ValueError(f"repeated tools: {repeated}; allowed but unknown: {unknown}")
        self.tools = {t.name: t for t in tools if allowed is None or t.name in allowed}
        self.approve, self.retries = approve, retries
        self.outcomes: list[Outcome] = []

    def schemas(self) -> list[dict[str, Any]]:
        """Return the allowed tools for an OpenAI request."""
        return [tool.schema() for tool in self.tools.values()]

    async def call(self, call: Call, decision: bool | None = None) -> Outcome:
        """Run a call and return its outcome; never raises for what a model or a tool does.

        decision: what a person decided about a call that writes; None applies the policy. The
        status "pending" means that nothing ran, and that a person has to decide.
        """
        outcome = await self._outcome(call, decision)
        if outcome.status != "pending":
            self.outcomes.append(outcome)
        return outcome

    async def _outcome(self, call: Call, decision: bool | None) -> Outcome:
        tool = self.tools.get(call.name)
        if tool is None:
            names = ", ".join(self.tools) or "none"
            return _refusal(call, "not allowed", f"no tool {call.name!r} here; tools: {names}")
        arguments, problem = read_arguments(tool.parameters, call.arguments)
        if problem:
            return _refusal(call, "invalid", problem)
        if tool.writes:
            decision = self.approve(call) if decision is None else decision
            if decision is None:
                return Outcome(call, "pending", "")
            if not decision:
                return _refusal(call, "denied", "this call was not approved")
        return await self._attempts(tool, call, arguments)

    async def _attempts(self, tool: Tool, call: Call, arguments: Arguments) -> Outcome:
        """Run a tool until it responds, at most 1 + retries times."""
        began, attempts = time.monotonic(), 0
        status: Status = "late"
        while status == "late" and attempts <= self.retries:
            attempts += 1
            status, text = await _attempt(tool, call, arguments)
        return Outcome(call, status, text, attempts, time.monotonic() - began)


async def _attempt(tool: Tool, call: Call, arguments: Arguments) -> tuple[Status, str]:
    """Return the status of one attempt, and the text that the model reads."""
    try:
        return "ok", _text(await _bounded(tool, arguments, call.key), tool)
    except (TimeoutError, ConnectionError):
        problem = f"no response from {tool.name} within {tool.seconds:g} s"
        return "late", error_text(problem + ("; it may have run" if tool.writes else ""))
    except _ResultRejected as error:
        return "rejected", error_text(f"{error}; the result was discarded")
    except ToolError as error:
        return "failed", error_text(str(error))
    except Exception as error:
        return "failed", error_text(f"{tool.name} failed: {type(error).__name__}")


class _ResultRejected(Exception):
    """A check refused a tool's result."""


def error_text(problem: str) -> str:
    """Return an error as the model reads it, cut to a bounded length."""
    return json.dumps({"error": problem[:MAX_PROBLEM]}, ensure_ascii=False)


def _refusal(call: Call, status: Status, problem: str) -> Outcome:
    return Outcome(call, status, error_text(problem))


def read_arguments(parameters: Mapping[str, Any], text: str) -> tuple[Arguments, str]:
    """Return a call's arguments, and "" or what is wrong with them, for the model to correct.

    Arguments that the schema does not name are refused, also if the schema would allow them.
    """
    if len(text) > MAX_ARGUMENTS:
        return {}, f"the arguments have {len(text):,} characters, at most {MAX_ARGUMENTS:,}"
    try:
        arguments = json.loads(text or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return {}, f"the arguments are not JSON: {error}"
    schema = {"additionalProperties": False, **parameters, "type": "object"}
    try:
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(arguments))
    except Exception as error:  # the schema can be a stranger's
        return {}, f"the tool's schema cannot be used: {type(error).__name__}"
    problems = sorted(
        f"{'.'.join(map(str, error.absolute_path)) or 'arguments'}: {error.message}"
        for error in errors
    )
    return (arguments, "") if not problems else ({}, "; ".join(problems))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _text(result: Any, tool: Tool) -> str:
    """Return a result as the text for the model: at most `max_chars` characters of JSON.

    Raises ToolError for a value that JSON cannot hold.
    """
    try:
        text = json.dumps(result, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"{tool.name} returned a value that is not JSON") from error
    if len(text) <= tool.max_chars:
        return text
    start = (result if isinstance(result, str) else text)[: tool.max_chars]
    return json.dumps({"cut": start, "characters": len(text)}, ensure_ascii=False)


async def _bounded(tool: Tool, arguments: Arguments, key: str) -> Any:
    """Return the checked result of one attempt. Raises TimeoutError after the tool's seconds."""
    async with asyncio.timeout(tool.seconds):
        if inspect.iscoroutinefunction(tool.function):
            result = await tool.function(dict(arguments), key)
        else:
            result = await in_thread(tool.function, dict(arguments), key)
    if tool.fields is not None:
        result = _only_fields(tool, tool.fields, result)
    problems = [problem for check in tool.checks if (problem := check(arguments, result))]
    if problems:
        raise _ResultRejected(f"{tool.name}: {'; '.join(problems)}")
    return result


def _only_fields(tool: Tool, fields: Mapping[str, type], result: Any) -> dict[str, Any]:
    """Return a result's expected fields. Raises if one is missing or has another type."""
    if not isinstance(result, dict):
        raise _ResultRejected(f"{tool.name}: {type(result).__name__} instead of an object")
    wrong = [name for name, kind in fields.items() if type(result.get(name)) is not kind]
    if wrong:
        raise _ResultRejected(f"{tool.name}: missing or of another type: {', '.join(wrong)}")
    return {name: result[name] for name in fields}


async def in_thread(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return a plain function's result, from a thread that cannot hold up the program's end.

    A time limit abandons the thread: Python cannot stop it, so what it does may still happen.
    """
    loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def deliver(action: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            action(value)

    def run() -> None:
        try:
            action, value = future.set_result, function(*arguments, **options)
        except Exception as error:
            action, value = future.set_exception, error
        try:
            loop.call_soon_threadsafe(deliver, action, value)
        except RuntimeError:
            pass  # the loop closed meanwhile: nobody waits for the value

    threading.Thread(target=run, daemon=True).start()
    return await future


# --- The loop -------------------------------------------------------------------------------------


@dataclass
class Run:
    """A conversation with tools, as data: it can be stored while it waits for a person.

    stopped: "answer", "approval" (`pending` holds the calls to decide) or "rounds" (the limit).
    id: makes this run's idempotency keys different from those of any other.
    """

    messages: list[dict[str, Any]]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    answer: str | None = None
    pending: list[Call] = field(default_factory=list)
    stopped: str = ""


async def run_tools(
    client: openai.OpenAI,
    model: str,
    messages: str | Sequence[Mapping[str, Any]] | Run,
    toolbox: Toolbox,
    decisions: Mapping[str, bool] | None = None,
    rounds: int = 6,
    **options: Any,
) -> Run:
    """Return a run: the model's calls, their results, and the final answer.

    messages: a request, messages, or a run that paused for approval. decisions: for each pending
    call's id, whether a person approved it. rounds: limit of model calls. options: passed to the
    request, e.g. temperature. The given messages are not changed.
    """
    run = _continued(messages)
    if run.pending:
        await _run_calls(run, run.pending, toolbox, decisions or {})
    for _ in range(rounds):
        if run.pending:
            run.stopped = "approval"
            return run
        request = {"model": model, "messages": run.messages, "temperature": 0, **options}
        if schemas := toolbox.schemas():
            request["tools"] = schemas
        response = await in_thread(client.chat.completions.create, **request)
        message = response.choices[0].message
        run.messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            run.answer, run.stopped = message.content or "", "answer"
            return run
        await _run_calls(run, _calls(run, message.tool_calls), toolbox, {})
    run.stopped = "approval" if run.pending else "rounds"
    return run


def _continued(messages: str | Sequence[Mapping[str, Any]] | Run) -> Run:
    if isinstance(messages, Run):
        return Run(list(messages.messages), messages.id, pending=list(messages.pending))
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return Run([dict(message) for message in messages])


def _calls(run: Run, tool_calls: Sequence[Any]) -> list[Call]:
    """Return a message's calls. A key is the run, the message's number and the call's place."""
    step = len(run.messages)
    return [
        Call(c.id, c.function.name, c.function.arguments, f"{run.id}/{step}/{place}")
        for place, c in enumerate(tool_calls)
    ]


async def _run_calls(
    run: Run, calls: Sequence[Call], toolbox: Toolbox, decisions: Mapping[str, bool]
) -> None:
    """Run calls in their order, append their results, and leave undecided ones pending."""
    run.pending = []
    for place, call in enumerate(calls):
        if place >= MAX_CALLS:
            outcome = _refusal(call, "not allowed", f"at most {MAX_CALLS} calls in one message")
        else:
            outcome = await toolbox.call(call, decisions.get(call.id))
        if outcome.status == "pending":
            run.pending.append(call)
        else:
            result = {"role": "tool", "tool_call_id": call.id, "content": outcome.text}
            run.messages.append(result)


# --- Checks of a result ---------------------------------------------------------------------------


def within(name: str, low: float, high: float) -> Check:
    """Return a check that a result's field is a number from low to high."""

    def check(_: Arguments, result: Any) -> str | None:
        value = result.get(name) if isinstance(result, dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"{name} is no number"
        return None if low <= value <= high else f"{name} {value} is not in {low:g} to {high:g}"

    return check


def agrees(name: str, source: Callable[[Arguments], Any]) -> Check:
    """Return a check that a result's field equals what a second source says.

    source: takes the call's arguments and returns the value, or None if it has none.
    """

    def check(arguments: Arguments, result: Any) -> str | None:
        value = result.get(name) if isinstance(result, dict) else None
        expected = source(arguments)
        if expected is None:
            return f"no second source for {name}"
        return None if value == expected else f"{name} differs from the second source"

    return check


# --- The harbour office's tools -------------------------------------------------------------------


def office_tools(office: Office, names: Collection[str] | None = None) -> list[Tool]:
    """Return the office's functions as tools; those that change its state count as writes.

    names: by default the five that every model of the course knows. A write runs once per key.
    Raises KeyError for an unknown name.
    """
    once = OnceStore()

    def function(name: str) -> Callable[[Arguments, str], Any]:
        def call(arguments: Arguments, key: str) -> Any:
            if name in WRITES:
                return once.call(key, [name, arguments], lambda: run(arguments))
            return run(arguments)

        def run(arguments: Arguments) -> Any:
            result = office.call(name, arguments)
            if "error" in result:
                raise ToolError(result["error"])
            return result

        return call

    schemas = [OFFICE_SCHEMAS[name]["function"] for name in names or SCHEMAS]
    return [Tool(**s, function=function(s["name"]), writes=s["name"] in WRITES) for s in schemas]


# --- Idempotency, and a tool that runs code -------------------------------------------------------


class OnceStore:
    """Stores each write's result by its key, so that a repeated call has one effect.

    Holds the latest `size` results in memory. A service would store the key in the same database
    transaction as the write itself, or a crash between the two repeats the write.
    """

    def __init__(self, size: int = 10_000) -> None:
        self.size = size
        self._results: dict[str, tuple[str, Any]] = {}
        self._lock = threading.Lock()

    def call(self, key: str, request: Any, write: Callable[[], Any]) -> Any:
        """Return the result of `write()`, or the stored result if this key was used before.

        A write that raises stores nothing. Calls wait for each other. Raises ToolError if a key
        comes with another request: then the caller has a bug, and no stored result is right.
        """
        if not key:
            raise ToolError("a write needs an idempotency key")
        fingerprint = json.dumps(request, sort_keys=True)
        with self._lock:
            if key in self._results:
                first, result = self._results[key]
                if first != fingerprint:
                    raise ToolError("this idempotency key was used for another request")
                return result
            result = write()
            self._results[key] = fingerprint, result
            if len(self._results) > self.size:
                del self._results[next(iter(self._results))]
            return result


def python_tool(seconds: float = 2.0, memory_mb: int = 256, max_chars: int = 1_000) -> Tool:
    """Return a tool that runs Python in a process of its own, with limits.

    The limits stop accidents, not attacks: see `openmodels.isolation.sandbox`.
    """

    def run(arguments: Arguments, _key: str) -> dict[str, str]:
        result = sandbox.run(arguments["code"], seconds, memory_mb)
        return {"state": str(result.state), "output": result.output[-max_chars:]}

    parameters = {
        "type": "object",
        "properties": {"code": {"type": "string", "maxLength": 4_000}},
        "required": ["code"],
    }
    description = "Run a Python program and return what it prints"
    # the tool's own limit is a second fence, for the case that the process cannot be ended
    return Tool("run_python", description, parameters, run, True, 2 * seconds + 5, 2 * max_chars)
