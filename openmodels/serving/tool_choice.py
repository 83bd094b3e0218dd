"""Reads OpenAI's `tool_choice`, and builds the prompt and the schema of a tool call that must come.

A forced call is generated in three steps. The chat template renders an example of a call, which
shows where a call begins. The prompt ends there, behind "<tool_call>" for example. The JSON schema
of a call then constrains the decoding: the name of an allowed tool and arguments that follow its
parameters.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openmodels.serving import requests
from openmodels.serving.model_store import ApiError
from openmodels.serving.requests import Fields

FORMS = (
    '"tool_choice" must be "auto", "none", "required", '
    '{"type": "function", "function": {"name": ...}} or an object of type allowed_tools'
)
# The example call. Its values are found again in the rendered text.
EXAMPLE_NAME = "openmodels_example_tool"
EXAMPLE_ARGUMENTS = {"openmodels_example_key": "openmodels_example_value"}
EXAMPLE_MESSAGES = (
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"name": EXAMPLE_NAME, "arguments": EXAMPLE_ARGUMENTS}],
    },
    # llama.cpp would continue an assistant message that is the last message.
    {"role": "tool", "content": "", "tool_name": "result"},
)
MAX_BRACES = 16  # opening braces to try as the beginning of the example call
# A schema with these keys alone describes a tool without parameters.
ANNOTATIONS = {"type", "title", "description", "$schema"}
VALUE_KEYWORDS = {"enum", "const", "default", "examples"}  # hold values, not schemas
STRING_BOUNDS = {"enum", "const", "maxLength", "pattern", "format"}
LIST_BOUNDS = {"enum", "const", "maxItems", "prefixItems"}


@dataclass(frozen=True)
class ToolChoice:
    """Which tools a model may call, and whether it must call one of them.

    offered: names of the tools in the prompt, None for all. forced: names of which the response
    must call one; empty if the model decides. parallel: whether a response may have several calls,
    None for the template's default.
    """

    offered: tuple[str, ...] | None = None
    forced: tuple[str, ...] = ()
    parallel: bool | None = None

    def select(self, tools: list[Any] | None) -> list[Any] | None:
        """Return the tools of a request that the prompt lists."""
        if self.offered is None or not isinstance(tools, list):
            return tools
        return [tool for tool in tools if tool["function"]["name"] in self.offered]


AUTO = ToolChoice()


def parse_tool_choice(fields: Fields) -> ToolChoice:
    """Return the tool choice of a body of /v1/chat/completions.

    Raises ApiError(400) for another form, for a tool that is not in `tools`, and for a call that
    must come although there are no tools.
    """
    names = tuple(tool["function"]["name"] for tool in requests.parse_tools(fields))
    parallel = fields.boolean("parallel_tool_calls")
    value = fields.body.get("tool_choice")
    if value is None or value == "auto":
        return ToolChoice(parallel=parallel)
    if value == "none":
        return ToolChoice(offered=(), parallel=parallel)
    if value == "required":
        return ToolChoice(forced=_check_some(names), parallel=parallel)
    if not isinstance(value, dict):
        raise ApiError(400, FORMS)
    choice = Fields(value, "tool_choice.")
    kind = choice.string("type")
    if kind == "function":
        return ToolChoice(forced=(_tool_name(choice, names),), parallel=parallel)
    if kind == "allowed_tools":
        return _allowed_tools(choice.object("allowed_tools") or choice, names, parallel)
    raise ApiError(400, FORMS)


def _allowed_tools(choice: Fields, names: Sequence[str], parallel: bool | None) -> ToolChoice:
    allowed = [_tool_name(tool, names) for tool in choice.objects("tools", 128) or []]
    mode = choice.string("mode")
    if mode not in ("auto", "required") or not allowed:
        raise ApiError(400, 'allowed_tools needs "tools" and the "mode" auto or required')
    forced = tuple(allowed) if mode == "required" else ()
    return ToolChoice(offered=tuple(allowed), forced=forced, parallel=parallel)


def _tool_name(choice: Fields, names: Sequence[str]) -> str:
    """Return the name in {"function": {"name"}} or, as in /v1/responses, {"name"}."""
    name = (choice.object("function") or choice).string("name")
    if not name:
        raise ApiError(400, FORMS)
    if name not in names:
        known = ", ".join(names) or "no tool"
        raise ApiError(400, f'"tool_choice" names the tool {name[:80]!r}, but "tools" has {known}')
    return name


def _check_some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ApiError(400, '"tool_choice" is "required", but "tools" has no tool')
    return names


@dataclass(frozen=True)
class CallFormat:
    """How a chat template writes a tool call.

    prompt: the rendered conversation up to the JSON object of the call. name_key, arguments_key:
    the object's keys.
    """

    prompt: str
    name_key: str
    arguments_key: str

    def schema(self, tools: Sequence[Mapping[str, Any]], context: int) -> dict[str, Any]:
        """Return the JSON schema of a call of any of these tools; raises ApiError(400).

        tools: as `requests.parse_tools` returns them. context: tokens in a slot, which bounds the
        strings and lists that have no bound.
        """
        if len(tools) == 1:
            schema = self._tool_schema(tools[0], "#")
        else:
            places = (f"#/anyOf/{index}" for index in range(len(tools)))
            schema = {"anyOf": list(map(self._tool_schema, tools, places))}
        return bound_schema(requests.check_schema(schema), context)

    def _tool_schema(self, tool: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Return the schema of a call of a tool. place: the JSON pointer of this schema."""
        name, parameters = tool["function"]["name"], tool["function"]["parameters"]
        if parameters.get("type", "object") != "object":
            raise ApiError(400, f"the parameters of the tool {name[:80]!r} must be an object")
        if set(parameters) <= ANNOTATIONS:
            parameters = parameters | {"type": "object", "properties": {}}
        key = self.arguments_key.replace("~", "~0").replace("/", "~1")
        arguments = move_references(parameters, f"{place}/properties/{key}")
        return {
            "type": "object",
            "properties": {
                self.name_key: {"const": name},
                self.arguments_key: requests.close_schema(arguments),
            },
            "required": [self.name_key, self.arguments_key],
            "additionalProperties": False,
        }

    def parse(self, text: str) -> dict[str, Any]:
        """Return the call in a generated text: {"id", "function": {"name", "arguments"}}.

        Raises ApiError(400) if the text is no call: the decoding was not constrained.
        """
        try:
            call = json.loads(text)
            name, arguments = call[self.name_key], call[self.arguments_key]
        except (ValueError, TypeError, KeyError) as error:
            raise ApiError(400, "llama.cpp cannot follow the schema of these tools") from error
        function = {"name": name, "arguments": arguments}
        return {"id": f"call_{uuid.uuid4().hex[:12]}", "function": function}


def move_references(schema: Any, place: str) -> Any:
    """Return a schema whose references to itself still hold when it stands at `place`.

    place: the JSON pointer of the schema within a larger schema, such as "#/properties/a".
    """
    if isinstance(schema, list):
        return [move_references(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: move_references(value, place) for key, value in schema.items()}
    reference = result.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        result["$ref"] = place + reference.removeprefix("#")
    return result


def bound_schema(schema: Any, context: int) -> Any:
    """Return a schema whose strings and lists end before a context of `context` tokens is full.

    A small model may never end a string or a list by itself. Bounds in the schema stay.
    """
    if isinstance(schema, list):
        return [bound_schema(item, context) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: value if key in VALUE_KEYWORDS else bound_schema(value, context)
        for key, value in schema.items()
    }
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "string" in kinds and not STRING_BOUNDS & set(schema):
        result["maxLength"] = _bound(context // 4, schema.get("minLength"))
    if "array" in kinds and not LIST_BOUNDS & set(schema):
        result["maxItems"] = _bound(context // 32, schema.get("minItems"))
    return result


def _bound(limit: int, minimum: Any) -> int:
    """Return an upper bound that leaves room for a schema's lower bound."""
    limit = min(limit, requests.MAX_SCHEMA_REPEATS)
    return max(limit, int(minimum)) if isinstance(minimum, int | float) else limit


def find_call_format(rendered: str) -> CallFormat:
    """Return the format of a call in a conversation that ends with EXAMPLE_MESSAGES.

    Raises ApiError(400) if the template does not write a call as a JSON object.
    """
    [value] = EXAMPLE_ARGUMENTS.values()
    end, decoder = rendered.rfind(value), json.JSONDecoder()
    for _ in range(MAX_BRACES):
        end = rendered.rfind("{", 0, max(end, 0))
        if end < 0:
            break
        try:
            call, _ = decoder.raw_decode(rendered, end)
        except ValueError:
            continue
        keys = {json.dumps(inner): key for key, inner in call.items()}
        name_key = keys.get(json.dumps(EXAMPLE_NAME))
        arguments_key = keys.get(json.dumps(EXAMPLE_ARGUMENTS))
        if name_key and arguments_key:
            return CallFormat(rendered[:end], name_key, arguments_key)
    raise ApiError(
        400,
        "this model's template does not write tool calls as JSON, so this stand-in cannot force "
        'a call: use "auto" as the tool_choice',
    )
