"""A harbour whose tools fail by a script, and models that call them by a script, for exercise 4.3.

The harbour records each attempt and what it really did, so the check sees a double booking even if
the conversation looks right.
"""

import copy
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

MOST_STEPS = 20  # of a loop that does not stop
PRICES = {"rope": 11, "bell": 27, "net": 34}
Turn = tuple[str | None, tuple[tuple[str, str, str], ...]]  # content, (id, tool, arguments) each


@dataclass(frozen=True)
class Script:
    """What a model replies in each step, and how the attempts of each tool end.

    faults: for each tool, how its attempts end in order: "ok", "lost" (the work is done, the
    response is missing), "down" (nothing is done) or "refused" (the tool raises ValueError). Later
    attempts end well. quiet: errors have no text.
    """

    turns: tuple[Turn, ...]
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    steps: int = 6
    retries: int = 2
    quiet: bool = False
    request: str = "A berth for the Heron, please."


class Run(NamedTuple):
    """What a loop did with a script.

    answer: what it returned. messages: the conversation that it returned, in words. prompts: the
    messages of each call of the model. attempts: (tool, arguments, number of the key) in order.
    booked, sent: what really happened. shared: two runs used the same key.
    changed: the request was changed.
    """

    answer: Any
    messages: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    attempts: tuple[tuple[str, str, Any], ...]
    booked: int
    sent: int
    shared: bool = False
    changed: bool = False


class Harbour:
    """Tools that fail by a script. get_price reads, book_berth remembers keys, send_message not."""

    def __init__(self, script: Script) -> None:
        self.script, self.attempts = script, []
        self.berths: dict[Any, int] = {}
        self.sent = 0

    def tools(self) -> dict[str, tuple[Callable[[dict, str], Any], bool]]:
        """Return each tool's function, and whether a repeated call is safe."""
        return {
            "get_price": (lambda arguments, key: self._call("get_price", arguments, key), True),
            "book_berth": (lambda arguments, key: self._call("book_berth", arguments, key), True),
            "send_message": (
                lambda arguments, key: self._call("send_message", arguments, key), False,
            ),
        }  # fmt: skip

    def _call(self, name: str, arguments: dict, key: Any) -> Any:
        count = sum(attempt[0] == name for attempt in self.attempts)
        self.attempts.append((name, json.dumps(arguments, sort_keys=True), key))
        faults = self.script.faults.get(name, ())
        fault = faults[count] if count < len(faults) else "ok"
        if len(self.attempts) > MOST_STEPS:
            raise RecursionError(f"more than {MOST_STEPS} attempts")
        if fault == "down":
            raise ConnectionError(*self._text("connection refused"))
        if fault == "denied":
            raise PermissionError(*self._text(f"{name} is not permitted"))
        if fault == "refused":
            raise ValueError(*self._text(f"{name} does not accept this"))
        result = getattr(self, f"_{name}")(arguments, key)
        if fault == "lost":
            raise TimeoutError(*self._text("no response within 5 s"))
        return result

    def _text(self, text: str) -> tuple[str, ...]:
        return () if self.script.quiet else (text,)

    def _get_price(self, arguments: dict, key: Any) -> dict[str, int]:
        return {"price": PRICES[arguments["item"]]}

    def _book_berth(self, arguments: dict, key: Any) -> dict[str, int]:
        berth = self.berths.setdefault(key, 4 + len(self.berths))
        return {"berth": berth}

    def _send_message(self, arguments: dict, key: Any) -> list:
        self.sent += 1
        return ["sent", None, self.sent]


def message_of(scripted: Turn) -> ChatCompletionMessage:
    """Return a turn as the API's client returns it."""
    content, calls = scripted
    tool_calls = [
        {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}
        for identity, name, arguments in calls
    ]
    return ChatCompletionMessage.model_validate(
        {"role": "assistant", "content": content, "tool_calls": tool_calls or None}
    )


def describe_message(message: Any, request: Mapping[str, str]) -> str:
    """Return a message in a few words."""
    if isinstance(message, BaseModel):
        message = message.model_dump(exclude_none=True)
    if message == request:
        return "request"
    role, content = message.get("role"), message.get("content")
    if role == "assistant":
        calls = [f"{c['function']['name']} {c['id']}" for c in message.get("tool_calls") or ()]
        return f"calls {', '.join(calls)}" if calls else f"answer {content or ''!r}"
    if role != "tool":
        return f"another message ({role})"
    return f"result of {message.get('tool_call_id')}: {_describe_result(content)}"


def _describe_result(content: Any) -> str:
    if not isinstance(content, str):
        return f"{type(content).__name__} instead of a text"
    try:
        value = json.loads(content)
    except ValueError:
        return f"{content!r}, which is not JSON"
    if isinstance(value, dict) and "error" in value:
        text = value["error"]
        return "an error" if isinstance(text, str) and text.strip() else "a blank error"
    return json.dumps(value, sort_keys=True)


def _run(run_loop: Callable, script: Script) -> tuple[Run, set]:
    """Return what a loop does with a script, and the keys that it used."""
    request = {"role": "user", "content": script.request}
    messages, prompts, harbour = [request], [], Harbour(script)
    before = copy.deepcopy(messages)

    def ask(sent: Sequence[Any]) -> ChatCompletionMessage:
        prompts.append(tuple(describe_message(message, before[0]) for message in sent))
        if len(prompts) > MOST_STEPS:
            raise RecursionError(f"the model was called more than {MOST_STEPS} times")
        return message_of(script.turns[min(len(prompts), len(script.turns)) - 1])

    result = run_loop(ask, messages, harbour.tools(), script.steps, script.retries)
    changed = messages != before
    answer, returned = result if _is_pair(result) else (repr(result), ())
    keys = list(dict.fromkeys(key for _, _, key in harbour.attempts if _is_key(key)))
    attempts = tuple(
        (name, arguments, keys.index(key) + 1 if _is_key(key) else "no text")
        for name, arguments, key in harbour.attempts
    )
    described = tuple(describe_message(message, before[0]) for message in returned)
    booked = len(harbour.berths)
    run = Run(answer, described, tuple(prompts), attempts, booked, harbour.sent, changed=changed)
    return run, set(keys)


def _is_pair(result: Any) -> bool:
    return isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[1], list)


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and bool(key)


def run_script(run_loop: Callable, script: Script) -> Run:
    """Return what a loop does with a script; a second run shows whether its keys differ."""
    run, keys = _run(run_loop, script)
    _, other_keys = _run(run_loop, script)
    return run._replace(shared=bool(keys & other_keys))


def price(identity: str, item: str = "rope") -> tuple[str, str, str]:
    """Return a call of get_price."""
    return identity, "get_price", json.dumps({"item": item})


def book(identity: str, ship: str = "Heron") -> tuple[str, str, str]:
    """Return a call of book_berth."""
    return identity, "book_berth", json.dumps({"ship": ship, "nights": 3})


def send(identity: str, person: str = "Ada") -> tuple[str, str, str]:
    """Return a call of send_message."""
    return identity, "send_message", json.dumps({"to": person, "text": "Come at 9."})


def draw_script(seed: int) -> Script:
    """Return an invented script."""
    rng = random.Random(f"tools/{seed}")
    turns: list[Turn] = []
    for _ in range(rng.randint(0, 4)):
        kinds = rng.choices((price, book, send), k=rng.randint(1, 3))
        turns.append((None, tuple(kind(f"call_{place}") for place, kind in enumerate(kinds))))
    turns.append(("Done.", ()))
    ends = ("ok", "lost", "down", "refused")
    faults = {
        name: tuple(rng.choices(ends, (4, 3, 2, 1), k=5))
        for name in ("get_price", "book_berth", "send_message")
    }
    return Script(tuple(turns), faults, rng.randint(1, 5), rng.randint(0, 3), rng.random() < 0.3)
