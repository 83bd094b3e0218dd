"""Models that reply by a script, for exercise 4.2.

A scripted model returns its replies in order and records the messages of each call, so the check
knows what the learner's loop sent, how often, and what it returned.
"""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from openai.types.chat import ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_CALLS = 20  # of a loop that does not stop


class Order(BaseModel):
    """An order of the harbour."""

    model_config = ConfigDict(extra="forbid", strict=True)

    item: Literal["rope", "bell", "net"]
    quantity: int = Field(ge=1, le=40)
    price: int = Field(ge=2, le=99)


class Stay(BaseModel):
    """A stay of a ship."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ship: str = Field(min_length=1)
    nights: int = Field(ge=1, le=30)


class Reply(NamedTuple):
    """A model's reply. finish: the API's `finish_reason`."""

    content: str | None
    refusal: str | None = None
    finish: str = "stop"


@dataclass(frozen=True)
class Script:
    """What a model replies to the calls of one request; an exception is raised instead."""

    replies: tuple[Reply | Exception, ...]
    attempts: int = 4
    record_class: type[BaseModel] = Order
    messages: tuple[Mapping[str, str], ...] = (
        {"role": "system", "content": "Write the order as JSON."},
        {"role": "user", "content": "Three ropes for 12 coins."},
    )


class Run(NamedTuple):
    """What a loop did with a script.

    result: what it returned, comparable; ("fault",) if it let the model's exception pass.
    calls: the messages of each call, each message in a few words. changed: the request was changed.
    """

    result: tuple
    calls: tuple[tuple[str, ...], ...]
    changed: bool = False


def choice_of(reply: Reply) -> Choice:
    """Return a reply as the API's client returns it."""
    message = ChatCompletionMessage(role="assistant", content=reply.content, refusal=reply.refusal)
    return Choice.model_construct(index=0, finish_reason=reply.finish, message=message)


def needed_words(text: str | None, record_class: type[BaseModel]) -> list[str]:
    """Return what a message about an invalid reply must contain: each field and its problem."""
    try:
        record_class.model_validate_json(text or "")
    except ValidationError as error:
        problems = error.errors()
    else:
        return []
    if problems[0]["type"] == "json_invalid":
        return ["column"]  # where the JSON ends: "line 1 column 5"
    return [word for p in problems for word in (*map(str, p["loc"]), p["msg"])]


def describe_messages(script: Script, messages: Sequence[Any]) -> tuple[str, ...]:
    """Return each message of a call in a few words: "request", "reply 1", "error 1"."""
    texts = [reply.content or "" for reply in script.replies if isinstance(reply, Reply)]
    described, latest = [], 0
    for place, message in enumerate(messages):
        if isinstance(message, BaseModel):
            message = message.model_dump(exclude_none=True)
        role, content = message.get("role"), message.get("content") or ""
        if place < len(script.messages) and message == script.messages[place]:
            described.append("request")
        elif role == "assistant" and content in texts:
            latest = texts.index(content) + 1
            described.append(f"reply {latest}")
        elif role == "user" and latest:
            words = needed_words(texts[latest - 1], script.record_class)
            missing = [word for word in words if word not in content]
            described.append(f"error {latest} without {missing[0]!r}" if missing
                             else f"error {latest}")  # fmt: skip
        else:
            described.append(f"another message ({role})")
    return tuple(described)


def comparable(result: Any, record_class: type[BaseModel]) -> tuple:
    """Return a result that can be compared: a record becomes its class's name and its fields."""
    if not isinstance(result, (tuple, list)):
        return ("no tuple", repr(result))
    parts = [
        (type(part).__name__, part.model_dump(warnings=False)) if isinstance(part, BaseModel)
        else part
        for part in result
    ]  # fmt: skip
    return tuple(parts)


def run_script(get_record: Callable, script: Script) -> Run:
    """Return what `get_record` does with a scripted model."""
    messages, calls = [dict(message) for message in script.messages], []
    before = copy.deepcopy(messages)

    def ask(sent: Sequence[Any]) -> Choice:
        calls.append(describe_messages(script, copy.deepcopy(list(sent))))
        if len(calls) > MOST_CALLS:
            raise RecursionError(f"the model was called more than {MOST_CALLS} times")
        reply = script.replies[min(len(calls), len(script.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return choice_of(reply)

    try:
        record = get_record(ask, messages, script.record_class, script.attempts)
        result = comparable(record, script.record_class)
    except Exception as error:
        if not any(error is reply for reply in script.replies):
            raise
        result = ("fault",)
    return Run(result, tuple(calls), messages != before)


RIGHT = '{"item": "rope", "quantity": 3, "price": 12}'
OTHER = '{"item": "bell", "quantity": 7, "price": 45}'
MANY = '{"item": "rope", "quantity": 41, "price": 13}'
DEAR = '{"item": "net", "quantity": 5, "price": 100}'
BOTH = '{"item": "fish", "quantity": 6, "price": 1}'
TEXT = '{"item": "rope", "quantity": "3", "price": 12}'
BROKEN = '{"item": "rope", "quantity": 3'
FENCED = f"```json\n{RIGHT}\n```"
STAY = '{"ship": "Heron", "nights": 9}'
LONG = '{"ship": "Heron", "nights": 31}'
NAMELESS = '{"ship": "", "nights": 8, "berth": 7}'
QUESTION = ({"role": "user", "content": "The Heron stays for nine nights."},)
PARTS = (RIGHT, OTHER, MANY, DEAR, BOTH, TEXT, BROKEN, FENCED)


def draw_script(seed: int) -> Script:
    """Return an invented script of orders with some refusals, cut replies and faults."""
    rng = random.Random(f"repair/{seed}")
    replies: list[Reply | Exception] = []
    for _ in range(5):
        kind = rng.random()
        text = rng.choices(PARTS, (3, 2, 3, 3, 3, 2, 2, 2))[0]
        if kind < 0.05:
            replies.append(TimeoutError("no response"))
        elif kind < 0.1:
            replies.append(Reply(None, refusal="I cannot help with that."))
        else:
            replies.append(Reply(text, finish="length" if kind < 0.16 else "stop"))
    return Script(tuple(replies), rng.randint(1, 5))
