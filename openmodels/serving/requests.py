"""Parses and checks requests: JSON bodies, fields, options, messages, schemas, media.

Each function raises ApiError(400), with a message for the client, if a value is wrong. Only fields
that are known here are passed on to llama.cpp.
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from openmodels.serving import media
from openmodels.serving.model_store import ApiError

# Ollama's options: the type, and llama.cpp's name (None: the option chooses the engine's context).
# Options that are not listed are ignored. deploy/stand_in.md documents each of these.
OPTIONS = {
    "temperature": (float, "temperature"),
    "top_k": (int, "top_k"),
    "top_p": (float, "top_p"),
    "min_p": (float, "min_p"),
    "typical_p": (float, "typical_p"),
    "seed": (int, "seed"),
    "stop": (list, "stop"),
    "num_predict": (int, "n_predict"),
    "num_ctx": (int, None),
    "num_keep": (int, "n_keep"),
    "repeat_penalty": (float, "repeat_penalty"),
    "repeat_last_n": (int, "repeat_last_n"),
    "presence_penalty": (float, "presence_penalty"),
    "frequency_penalty": (float, "frequency_penalty"),
}
# Ollama's defaults, for options that neither the request nor the model sets
DEFAULTS = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
}
# Fields that would change the response but are not supported, with the values that change nothing
UNSUPPORTED_IN_GENERATE = {"width": (0,), "height": (0,), "steps": (0,)}
UNSUPPORTED_IN_CREATE = {
    "renderer": ("",),
    "parser": ("",),
    "draft_files": ({},),
    "draft_quantize": ("",),
}
ROLES = ("system", "user", "assistant", "tool")
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ns|us|µs|ms|s|m|h)", re.ASCII)
MAX_KEEP_ALIVE = 10 * 365 * 86_400.0  # seconds; a longer duration means for ever
MAX_IMAGES = 16
MAX_INPUTS = 2048
MAX_TOP_LOGPROBS = 20
MAX_STOPS = 64
MAX_STOP_LENGTH = 1000  # characters
MAX_SCHEMA_LENGTH = 65_536  # characters
MAX_SCHEMA_DEPTH = 32
MAX_SCHEMA_REPEATS = 1000  # llama.cpp's grammar gets one rule for each repeated item or character
REPEAT_KEYWORDS = ("minItems", "maxItems", "minLength", "maxLength")


def parse_body(content: bytes) -> "Fields":
    """Return the fields of a request's body; ApiError(400) unless it is a JSON object."""
    body = parse_json(content)
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return Fields(body)


def parse_json(content: bytes | str) -> Any:
    """Return parsed JSON.

    Raises ApiError(400) for invalid JSON, non-finite numbers, lone surrogates and deep nesting.
    """
    try:
        value = json.loads(content, parse_float=_finite_float, parse_constant=_finite_float)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"invalid JSON: {str(error)[:200]}") from error
    return value


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number {text[:20]} is out of range")
    return number


class Fields:
    """Reads the fields of a JSON object by type.

    A null counts as absent. Each method raises ApiError(400) if a field has the wrong type or
    exceeds a limit; the message names the field with `prefix`, the path of this object.
    """

    def __init__(self, body: Mapping[str, Any], prefix: str = ""):
        self.body, self._prefix = body, prefix

    def _get(self, key: str, types: tuple[type, ...], expected: str) -> Any:
        value = self.body.get(key)
        if value is None:
            return None
        # In Python a bool is also an int; in JSON it is not.
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise self._error(key, f"must be {expected}")
        return value

    def _error(self, key: str, problem: str) -> ApiError:
        return ApiError(400, f'"{self._prefix}{key}" {problem}')

    def string(self, key: str) -> str | None:
        """Return a string, or None if absent; raises ApiError(400)."""
        return self._get(key, (str,), "a string")

    def boolean(self, key: str) -> bool | None:
        """Return true or false, or None if absent; raises ApiError(400)."""
        return self._get(key, (bool,), "true or false")

    def integer(self, key: str, low: int, high: int) -> int | None:
        """Return an integer from `low` to `high`, or None if absent; raises ApiError(400)."""
        value = self._get(key, (int,), "a whole number")
        if value is not None and not low <= value <= high:
            raise self._error(key, f"must be between {low} and {high}")
        return value

    def array(self, key: str, limit: int = 10_000) -> list | None:
        """Return a list of at most `limit` values, or None if absent; raises ApiError(400)."""
        values = self._get(key, (list,), "a list")
        if values is not None and len(values) > limit:
            raise self._error(key, f"has more than {limit} entries")
        return values

    def object(self, key: str) -> "Fields | None":
        """Return the fields of an inner object, or None if absent; raises ApiError(400)."""
        value = self._get(key, (dict,), "an object")
        return None if value is None else Fields(value, f"{self._prefix}{key}.")

    def objects(self, key: str, limit: int = 10_000) -> "list[Fields] | None":
        """Return the fields of each object in a list, or None if absent; raises ApiError(400)."""
        values = self.array(key, limit)
        if values is None:
            return None
        if not all(isinstance(value, dict) for value in values):
            raise self._error(key, "must be a list of objects")
        return [
            Fields(value, f"{self._prefix}{key}[{index}].") for index, value in enumerate(values)
        ]

    def string_map(self, key: str) -> dict[str, str] | None:
        """Return an object whose values are strings, or None if absent; raises ApiError(400)."""
        values = self._get(key, (dict,), "an object")
        if values is not None and not all(isinstance(value, str) for value in values.values()):
            raise self._error(key, "must have strings as values")
        return values

    def strings(self, key: str, limit: int = 10_000) -> list[str] | None:
        """Return a string or a list of strings as a list; None if absent; raises ApiError(400)."""
        value = self.body.get(key)
        if isinstance(value, str):
            return [value]
        values = self.array(key, limit)
        if values is not None and not all(isinstance(value, str) for value in values):
            raise self._error(key, "must be a string or a list of strings")
        return values

    def model(self) -> str:
        """Return the model's name ("name" in older clients); ApiError(400) if it is missing."""
        name = self.string("model") or self.string("name")
        if not name:
            raise ApiError(400, "model is required")
        return name


def parse_options(fields: Fields | None) -> dict[str, Any]:
    """Return the known options, converted to their types; ApiError(400) for a wrong value."""
    options: dict[str, Any] = {}
    for key, value in (fields.body if fields else {}).items():
        if key not in OPTIONS or value is None:
            continue
        kind = OPTIONS[key][0]
        options[key] = _stops(key, value) if kind is list else _number(key, value, kind)
    if options.get("repeat_penalty", 1) <= 0:
        raise ApiError(400, 'option "repeat_penalty" must be above 0')
    return options


def _stops(key: str, value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ApiError(400, f'option "{key}" must be of type array of strings')
    if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_LENGTH for stop in stops):
        raise ApiError(400, f'option "{key}" is too long')
    return [stop for stop in stops if stop]


def _number(key: str, value: Any, kind: type) -> int | float:
    wrong_type = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong_type or (kind is int and value != int(value)):
        raise ApiError(400, f'option "{key}" must be of type {kind.__name__}')
    if abs(value) > (2**63 if key == "seed" else 2**31 - 1):
        raise ApiError(400, f'option "{key}" is out of range')
    return kind(value)


def sampling_parameters(options: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Return checked options and defaults under llama.cpp's names.

    context: tokens in a slot, used if `repeat_last_n` is negative (all tokens).
    """
    settings = {OPTIONS[key][1]: value for key, value in {**DEFAULTS, **options}.items()}
    settings.pop(None, None)
    settings["seed"] = settings.get("seed", -1) % 2**32  # 2**32 - 1 is llama.cpp's random seed
    settings["n_predict"] = max(settings.get("n_predict", -1), -1)
    if settings["repeat_last_n"] < 0:
        settings["repeat_last_n"] = context
    settings["n_keep"] = max(settings.get("n_keep", 0), -1)
    return settings


def parse_keep_alive(fields: Fields) -> float | None:
    """Return how many seconds the model stays loaded.

    A negative value is infinite; None means that the request does not say. Raises ApiError(400).
    """
    value = fields.body.get("keep_alive")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ApiError(400, '"keep_alive" must be seconds, or a string such as "5m"')
    if isinstance(value, str):
        value = _parse_duration(value)
    return math.inf if value < 0 or value > MAX_KEEP_ALIVE else float(value)


def _parse_duration(text: str) -> float:
    """Return the seconds of a Go duration: "300ms", "1h30m", "-1m"; "0" needs no unit."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if digits == "0":
        return 0.0
    parts = DURATION.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        raise ApiError(400, f'"keep_alive": invalid duration {text[:40]!r}; use "5m" or "-1s"')
    return sign * sum(float(number) * UNITS[unit] for number, unit in parts)


def parse_think(fields: Fields) -> bool | None:
    """Return whether to think; Ollama's levels all mean true. Raises ApiError(400)."""
    value = fields.body.get("think")
    if value is None or isinstance(value, bool):
        return value
    if value in ("high", "medium", "low", "max"):
        return True
    raise ApiError(400, '"think" must be true, false, "high", "medium" or "low"')


def parse_format(fields: Fields) -> dict[str, Any] | None:
    """Return the JSON schema that the response must follow; raises ApiError(400).

    {} stands for any JSON object, None for free text.
    """
    value = fields.body.get("format")
    if value is None or value == "":
        return None
    if value == "json":
        return {}
    if not isinstance(value, dict):
        raise ApiError(400, '"format" must be "json" or a JSON schema')
    return close_schema(check_schema(value))


def check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema from which llama.cpp can build a grammar in reasonable time.

    Raises ApiError(400) for a schema that is too long, too deep, repeats too much or refers to
    another document.
    """
    if len(json.dumps(schema)) > MAX_SCHEMA_LENGTH:
        raise ApiError(400, f"the schema is longer than {MAX_SCHEMA_LENGTH:,} characters")
    pending: list[tuple[Any, int]] = [(schema, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_SCHEMA_DEPTH:
            raise ApiError(400, f"the schema is nested more than {MAX_SCHEMA_DEPTH} levels deep")
        if isinstance(node, dict):
            _check_schema_node(node)
            pending += [(child, depth + 1) for child in node.values()]
        elif isinstance(node, list):
            pending += [(child, depth + 1) for child in node]
    return schema


def _check_schema_node(node: Mapping[str, Any]) -> None:
    reference = node.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise ApiError(400, f"the schema refers to {reference[:80]!r}, which is outside of it")
    for key in REPEAT_KEYWORDS:
        count = node.get(key)
        if isinstance(count, int | float) and not 0 <= count <= MAX_SCHEMA_REPEATS:
            raise ApiError(400, f"the schema's {key} must be between 0 and {MAX_SCHEMA_REPEATS}")


def close_schema(schema: Any) -> Any:
    """Return a schema whose objects have only the properties it names, as Ollama reads it.

    JSON Schema allows more properties if `additionalProperties` is absent, and a small model then
    never stops generating them.
    """
    if not isinstance(schema, dict):
        return schema
    result = {key: value for key, value in schema.items() if key != "x-guidance"}
    for key in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            result[key] = {name: close_schema(inner) for name, inner in schema[key].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            result[key] = close_schema(schema[key])
    for key in ("anyOf", "oneOf", "prefixItems"):
        if isinstance(schema.get(key), list):
            result[key] = [close_schema(inner) for inner in schema[key]]
    if isinstance(schema.get("properties"), dict) and "allOf" not in schema:
        result.setdefault("additionalProperties", False)
    return result


def parse_images(fields: Fields) -> list[str]:
    """Return the checked images and sounds of a request or message, in base64.

    Raises ApiError(400).
    """
    values = fields.array("images", MAX_IMAGES) or []
    if not all(isinstance(value, str) for value in values):
        raise ApiError(400, '"images" must be a list of base64 strings')
    return [media.check(value) for value in values]


def parse_messages(messages: Sequence[Fields]) -> list[dict[str, Any]]:
    """Return checked messages; raises ApiError(400).

    Each has role, content, images, tool_name and tool_calls: [{"name", "arguments": dict}].
    """
    return [_parse_message(message) for message in messages]


def _parse_message(message: Fields) -> dict[str, Any]:
    role = message.string("role")
    if role not in ROLES:
        raise ApiError(400, f"invalid role {role!r}: use one of {', '.join(ROLES)}")
    return {
        "role": role,
        "content": message.string("content") or "",
        "images": parse_images(message),
        "tool_name": message.string("tool_name") or "",
        "tool_calls": [_parse_call(call) for call in message.objects("tool_calls", 100) or []],
    }


def _parse_call(call: Fields) -> dict[str, Any]:
    function = call.object("function") or Fields({})
    name, arguments = function.string("name"), function.object("arguments")
    if not name:
        raise ApiError(400, "a tool call needs a function with a name")
    return {"name": name, "arguments": arguments.body if arguments else {}}


def parse_tools(fields: Fields) -> list[dict[str, Any]]:
    """Return the tools as llama.cpp expects them: functions with a name and a schema.

    Raises ApiError(400).
    """
    return [_parse_tool(tool) for tool in fields.objects("tools", 128) or []]


def _parse_tool(tool: Fields) -> dict[str, Any]:
    function = tool.object("function") or Fields({})
    name, parameters = function.string("name"), function.object("parameters")
    if not name:
        raise ApiError(400, "a tool needs a function with a name")
    schema = check_schema(parameters.body) if parameters else {"type": "object"}
    description = function.string("description") or ""
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


def refuse_unsupported(fields: Fields, unsupported: Mapping[str, Collection]) -> None:
    """Raise ApiError(400) for a field that would change the response but is not supported.

    unsupported: for each field, the values that change nothing.
    """
    for key, harmless in unsupported.items():
        value = fields.body.get(key)
        if value is not None and value not in harmless:
            raise ApiError(400, f'"{key}" is not supported by this stand-in: leave it out')


def parse_top_logprobs(fields: Fields) -> int | None:
    """Return how many alternatives to report for each token; raises ApiError(400).

    0 reports only the generated tokens' log-probabilities; None reports nothing.
    """
    count = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS)
    return (count or 0) if fields.boolean("logprobs") else None
