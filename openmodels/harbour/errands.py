"""Generate conversations of several tool calls from a seed, and score a model that runs them.

An errand is a conversation with a simulated office: calls after each other, side by side or both,
errors, mail, requests without a tool, and typed output. See `text` for what is held out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from openmodels.harbour.errand_kinds import (
    Redraw,
    Request,
    Scenarios,
    Talk,
    Turn,
    combinations,
    invented_names,
)
from openmodels.harbour.office import Office
from openmodels.harbour.text import Instance, Message
from openmodels.harbour.tools import OFFICE_SCHEMAS, WRITES, final_result
from openmodels.harbour.world import NAMES

KINDS = ("chain", "parallel", "tool_error", "no_tool", "mail", "final_result")
MAX_STEPS = 8  # assistant messages per user message

# Each kind's scenarios and how often they are drawn.
SCENARIOS = {
    "chain": {
        "single": 3, "captain": 5, "cheaper_order": 4, "stock_order": 3, "price_order": 3,
        "price_pay": 2, "tide_book": 2, "report_to": 4, "follow_up": 2,
    },
    "parallel": {"several": 6, "which_cheaper": 1},
    "tool_error": {
        "typo": 4, "price_anywhere": 2, "not_sold": 3, "partial": 2, "no_ferry": 2, "absent": 3, "too_many": 2,
    },
    "no_tool": {"fact": 2, "greeting": 1, "odd": 3, "lacking": 3},
    "mail": {"read_mail": 5, "do_mail": 4},
}  # fmt: skip
TYPED = {
    "typed_output": 10, "single": 2, "captain": 2, "several": 2, "fact": 1, "absent": 1,
    "stock_order": 1, "report_to": 1, "read_mail": 1,
}  # fmt: skip
SHARES = {
    "chain": 5, "parallel": 3, "tool_error": 3, "no_tool": 2, "mail": 2, "final_result": 2,
}  # fmt: skip
ONE_TURN = ("fact", "greeting", "odd", "lacking", "follow_up", "read_mail")


@dataclass(frozen=True)
class Errand(Instance):
    """A conversation with an office, and what every turn of it must contain.

    office_seed, names, mail: what the office is made from. turns: one per user message. scenario:
    the name of the scenario.
    """

    office_seed: int = 0
    names: tuple[str, ...] = NAMES
    mail: dict[str, dict] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    scenario: str = ""

    def office(self) -> Office:
        """Return the errand's office in its first state."""
        office = Office(self.office_seed, self.names)
        office.mail |= self.mail
        return office


class Errands(Scenarios):
    """A seeded source of errands: the same seed and split give the same bytes everywhere.

    split is "train" or "test". In "test" every combination that a call depends on is held out, and
    many phrases are. invented is the share of names made from syllables.
    """

    def errand(self, kind: str | None = None) -> Errand:
        """Return an errand of a kind in `KINDS`, by default of a random one.

        Raises ValueError for an unknown kind.
        """
        if kind is None:
            kind = self.rng.choices(list(SHARES), list(SHARES.values()))[0]
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; the kinds are {', '.join(KINDS)}")
        weights = TYPED if kind == "final_result" else SCENARIOS[kind]
        scenario = self.rng.choices(list(weights), list(weights.values()))[0]
        while True:
            try:
                return self._written(kind, scenario)
            except Redraw:
                continue

    def _written(self, kind: str, scenario: str) -> Errand:
        """Return an errand of this scenario. Raises Redraw if it does not belong to the split."""
        seed = self.rng.randrange(10**9)
        names = invented_names(self.harbour)
        self.office = Office(seed, names)
        before = dict(self.office.mail)
        talk = Talk(self.office, typed=kind == "final_result")
        missing = getattr(self, scenario)(talk)
        if kind in ("chain", "parallel") and scenario not in ONE_TURN:
            for _ in range(self.rng.choice((0, 0, 0, 0, 0, 1, 1, 2))):
                self.single(talk, follows=True)
        parts = [c for call in self.office.calls
                 for c in combinations(call.name, call.arguments, call.result)]  # fmt: skip
        texts = [m["content"] for m in talk.messages if m["role"] == "user"]
        if not parts and scenario != "fact":
            parts = [tuple(texts)]
        if not all(self.belongs(*part) for part in parts):
            raise Redraw
        tools = self._tools(talk, missing)
        key = json.dumps([texts, [t["function"]["name"] for t in tools], seed])
        if scenario in ("greeting", "fact"):  # the answer does not depend on the office
            key = json.dumps([texts, [t["function"]["name"] for t in tools]])
        mail = {p: m for p, m in self.office.mail.items() if before.get(p) != m}
        return Errand(
            kind, tuple(talk.messages), key, tuple(tools), seed, names, mail,
            tuple(talk.turns), scenario,
        )  # fmt: skip

    def _tools(self, talk: Talk, missing: str | None) -> list[dict]:
        """Return two to five schemas in random order: those that are needed, and others."""
        rng = self.rng
        needed = {name for turn in talk.turns for step in turn.calls for name, _ in step}
        needed |= set(talk.offered)
        others = [n for n in OFFICE_SCHEMAS if n not in needed and n != missing]
        most = 4 if talk.output else 5
        count = max(len(needed), rng.randint(2, most))
        schemas = [OFFICE_SCHEMAS[n] for n in sorted(needed)]
        schemas += [OFFICE_SCHEMAS[n] for n in rng.sample(others, count - len(needed))]
        if talk.output:
            schemas.append(final_result(**talk.output))
        rng.shuffle(schemas)
        return schemas


def instances(
    kind: str, count: int, seed: int = 0, split: str = "test", invented: float = 0.0
) -> Iterator[Errand]:
    """Yield `count` errands of one kind, no two with the same key.

    Raises ValueError for an unknown kind or split.
    """
    source, keys = Errands(seed, split, invented), set()
    while len(keys) < count:
        errand = source.errand(kind)
        if errand.key not in keys:
            keys.add(errand.key)
            yield errand


# ---------------------------------------------------------------------- scores


@dataclass(frozen=True)
class Result:
    """Whether a model carried out an errand, and if not, why.

    messages: the whole conversation as it ran. writes: how many writing calls were made.
    """

    complete: bool
    reason: str
    messages: tuple[Message, ...] = ()
    writes: int = 0


class Failure(Exception):  # noqa: N818 (the model's failure, not the program's)
    """The reason why a run is not complete."""


Ask = Callable[[list[Message], list[dict]], Message]


def score(errand: Errand, ask: Ask) -> Result:
    """Run an errand with a model and return whether it was complete.

    ask: takes the messages and the tools and returns the assistant's message, {"role": "assistant",
    "content": text, "tool_calls": [{"function": {"name": ..., "arguments": dict or JSON}}]}. It is
    called up to 8 times per user message. Complete: the same calls with the same arguments in the
    same order (any order side by side), and the right values or refusal in the answer.
    """
    office, messages = errand.office(), []
    requests = iter([m for m in errand.messages if m["role"] == "user"])
    reason = ""
    try:
        for turn in errand.turns:
            messages.append(next(requests))
            _run_turn(errand, turn, office, messages, ask)
    except Failure as failure:
        reason = str(failure)
    writes = sum(call.name in WRITES for call in office.calls)
    return Result(not reason, reason, tuple(messages), writes)


def _run_turn(
    errand: Errand, turn: Turn, office: Office, messages: list[Message], ask: Ask
) -> None:
    """Run one user message until the answer. Raises Failure if it differs from the right one."""
    made: list[Request] = []
    names = {tool["function"]["name"] for tool in errand.tools}
    for _ in range(MAX_STEPS):
        reply = ask(list(messages), list(errand.tools))
        messages.append(reply)
        requests = [_parsed(call) for call in reply.get("tool_calls") or []]
        for name, _ in requests:
            if name not in names:
                raise Failure(f"called {name}, which is not available")
        if not requests or any(name == "final_result" for name, _ in requests):
            _compare_calls(turn, made)
            _compare_answer(turn, reply, requests, messages[:-1])
            return
        for call, (name, arguments) in zip(reply["tool_calls"], requests, strict=True):
            made.append((name, arguments))
            message = {"role": "tool", "content": json.dumps(office.call(name, arguments))}
            if "id" in call:
                message["tool_call_id"] = call["id"]
            messages.append(message)
    raise Failure(f"no answer after {MAX_STEPS} steps")


def _parsed(call: dict) -> Request:
    """Return a call's name and arguments. Raises Failure if the arguments are not an object."""
    function = call.get("function", call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise Failure(f"the arguments of {function.get('name')} are not JSON") from None
    if not isinstance(arguments, dict):
        raise Failure(f"the arguments of {function.get('name')} are not an object")
    return function.get("name"), arguments


def _written(request: Request) -> str:
    """Return a call as text that is equal for equal calls."""
    name, arguments = request
    return f"{name}{json.dumps(arguments, sort_keys=True)}"


def _compare_calls(turn: Turn, made: list[Request]) -> None:
    """Raise Failure unless the calls are those of the turn, in the order of its steps."""
    wanted = [_written(request) for step in turn.calls for request in step]
    calls = [_written(request) for request in made]
    for request, call in zip(made, calls, strict=True):
        if calls.count(call) > wanted.count(call):
            kind = "writing call" if request[0] in WRITES else "call"
            same = [w for w in wanted if w not in calls and w.startswith(request[0] + "{")]
            if same:
                raise Failure(f"wrong arguments: {call} instead of {same[0]}")
            raise Failure(f"extra {kind}: {call}")
    for call in wanted:
        if wanted.count(call) > calls.count(call):
            raise Failure(f"missing call: {call}")
    place = 0
    for step in turn.calls:
        if sorted(calls[place : place + len(step)]) != sorted(map(_written, step)):
            raise Failure(f"wrong order: {calls[place]}")
        place += len(step)


def _compare_answer(
    turn: Turn, reply: Message, requests: list[Request], context: list[Message]
) -> None:
    """Raise Failure unless the answer contains the right values, or refuses."""
    text = reply.get("content") or ""
    if turn.fields is not None:
        if not requests:
            raise Failure("answered with text instead of final_result")
        if len(requests) > 1:
            raise Failure("called final_result beside other calls")
        fields = requests[0][1]
        if set(fields) != set(turn.fields):
            raise Failure(f"final_result has the fields {sorted(fields)}")
        if set(fields) != {"answer"}:
            if fields != turn.fields:
                raise Failure(f"wrong fields: {json.dumps(fields)}")
            return
        text = str(fields["answer"])
    if not text.strip():
        raise Failure("the answer is empty")
    for value in turn.values:
        if not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE):
            raise Failure(f"the answer lacks {value!r}")
    refuses = re.search(r"\bI could not\b|\bno tool\b", text)
    if turn.opening and turn.opening not in text:
        raise Failure("the answer does not refuse")
    if refuses and not turn.opening:
        raise Failure("the answer refuses")
    known = " ".join(str(m.get("content")) for m in context)
    extra = set(re.findall(r"\d+", text)) - set(re.findall(r"\d+", known))
    if extra - set(re.findall(r"\d+", " ".join(turn.values))):
        raise Failure(f"the answer contains numbers that no result has: {sorted(extra)}")
