"""What the harbour office receives and returns: requests, tool calls, sources and replies.

An office is any callable with the signature of `Office`. The acceptance suite of lab 5 and the
office desk widget both work with these types only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openmodels.workflows.calls import Usage

STATES = ("done", "waiting", "denied", "failed")


@dataclass(frozen=True)
class Request:
    """What a person sends to the office; every part may be missing.

    text: English or Chinese. image: a PNG file. sound: a WAV file, 16 kHz, one channel.
    """

    text: str = ""
    image: bytes | None = None
    sound: bytes | None = None


@dataclass(frozen=True)
class Source:
    """A passage that a reply cites. document: the id of the document that contains it."""

    document: str
    text: str


@dataclass(frozen=True)
class Call:
    """A tool call of a reply.

    result: None while the call waits for approval, and after a denial. state: "done", "waiting",
    "denied" or "failed". Raises ValueError for another state.
    """

    name: str
    arguments: dict[str, Any]
    result: Any = None
    state: str = "done"

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"the state of a call is one of {STATES}, not {self.state!r}")


@dataclass
class Reply:
    """What the office returns for a request.

    sources: the passages that the text cites. calls: the tool calls, in order. usage: what the
    reply cost. trace: the id of its trace in the store of `workflows.trace`, "" without a trace.
    """

    text: str
    sources: tuple[Source, ...] = ()
    calls: tuple[Call, ...] = ()
    usage: Usage = field(default_factory=Usage)
    trace: str = ""


Approve = Callable[[str, dict[str, Any]], bool]  # name and arguments of a tool that writes
Office = Callable[[Request, Approve], Reply]  # asks for approval before every tool that writes
