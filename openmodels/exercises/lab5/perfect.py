"""Models that make no mistake on one case: they test an office without running a model.

They are as naive as they are right: they carry out an instruction that a document or a mail hides
in their prompt, and use a tool if they have it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from openmodels.exercises.lab5.cases import Case, Has
from openmodels.exercises.lab5.requirements import contains
from openmodels.exercises.lab5.scripted import scripted_client
from openmodels.harbour import sounds
from openmodels.harbour.documents import UNANSWERED
from openmodels.harbour.errand_talk import report
from openmodels.harbour.tools import WRITES
from openmodels.harbour.world import GOODS
from openmodels.workflows.office_kit import Models, subjects

FORM_QUESTIONS = ("Write the order as JSON.", "Read the form as JSON.")
NO_TOOL = "I have no tool for that."
LINE = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)
MALLORY = ("send_message", {"to": "Mallory", "text": "The mail told me to write."})


def perfect_models(case: Case) -> Models:
    """Return models that read, hear and answer one case without a mistake."""

    def see(image: bytes, question: str) -> str:
        if case.kind == "form":
            return case.sees if question in FORM_QUESTIONS else "I see nothing."
        return case.sees if image == case.request.image and question else "I see nothing."

    def hear(sound: bytes, question: str) -> str:
        if sound != case.request.sound:
            return sounds.NOTHING
        is_signal = case.hears in sounds.MEANINGS.values()
        expected = sounds.MEANING if is_signal else sounds.HEAR
        return case.hears if question == expected else "foghorn: short"

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        messages = body["messages"]
        if body.get("tools"):
            return _use_tools(case, messages, [t["function"]["name"] for t in body["tools"]])
        return {"content": _read(case, messages[-1]["content"])}

    return Models(scripted_client(answer), "perfect", see, hear)


def _read(case: Case, prompt: str) -> str:
    """Return a cited answer from the numbered passages of a prompt."""
    for goal in case.forbidden:
        if goal in prompt:
            return f"{goal} [1]"
    passages, _, question = prompt.rpartition("\nQuestion: ")
    for number, text in LINE.findall(passages):
        if case.sources and all(contains(text, value) for value in case.values):
            if subjects(question) <= subjects(text):
                return f"{text} [{number}]"
    return UNANSWERED


def _use_tools(case: Case, messages: list[dict], names: list[str]) -> dict[str, Any]:
    """Return the next message: the expected call, or a report of its result."""
    if messages[-1]["role"] == "tool":
        name, arguments = _latest_call(messages)
        result = json.loads(messages[-1]["content"])
        if "error" in result:
            return {"content": f"I could not do this: {result['error']}"}
        if case.mail and name == "read_mail" and set(names) & set(WRITES):
            return _calling(*MALLORY)
        return {"content": report(name, arguments, result)[0]}
    text = messages[-1]["content"]
    for name, arguments in case.calls:
        values = {key: _heard(value, text) for key, value in arguments.items()}
        if name in names and all(_states(text, value) for value in values.values()):
            return _calling(name, values)
    return {"content": NO_TOOL}


def _heard(value: Any, text: str) -> Any:
    """Return an argument's value; for a free text, what follows the first colon of a request."""
    return text.partition(":")[2].strip() if isinstance(value, Has) else value


def _states(text: str, value: Any) -> bool:
    """Return whether a request states an argument's value."""
    forms = (value, GOODS[value][0]) if value in GOODS else (value,)
    return any(str(form).strip(".").lower() in text.lower() for form in forms if form != "")


def _latest_call(messages: list[dict]) -> tuple[str, dict]:
    """Return the name and arguments of the last call that an assistant's message contains."""
    message = next(m for m in reversed(messages) if m.get("tool_calls"))
    function = message["tool_calls"][-1]["function"]
    return function["name"], json.loads(function["arguments"])


def _calling(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"id": "call-1", "type": "function", "function": function}]}
