"""What a request asks, checked: bodies, options, messages and durations from outside.

Everything here raises Refused(400) with words for the one who sent it, and hands on only what it
knows: no other field reaches llama.cpp.
"""

import base64
import binascii
import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from PIL import Image

from openmodels.minis import images
from openmodels.serving.model_store import ApiError

# Ollama's options: type, and llama.cpp's name. What is not here changes nothing and is ignored.
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
# Ollama's values for what neither the request nor the model says
DEFAULTS = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
}
# What would change an answer and is not done, with the values that change nothing
DRAWING = {"width": (0,), "height": (0,), "steps": (0,)}
BUILDING = {"renderer": ("",), "parser": ("",), "draft_files": ({},), "draft_quantize": ("",)}
OPENAI = {"n": (1,), "logit_bias": ({},), "tool_choice": ("auto", "none")}
COMPLETING = {"best_of": (1,), "echo": (False,), "logprobs": (0, False)}
ROLES = ("system", "user", "assistant", "tool")
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ns|us|µs|ms|s|m|h)", re.ASCII)
LONGEST = 10 * 365 * 86_400.0  # seconds; longer is for ever
MOST_IMAGES = 16
MOST_INPUTS = 2048
MOST_LABELS = 20
SCHEMA_SIZE = 65_536  # characters
SCHEMA_REPEATS = 1000  # of an item or a character: each becomes a rule of llama.cpp's grammar
COUNTS = ("minItems", "maxItems", "minLength", "maxLength")


def body(content: bytes) -> "Fields":
    """A request's body as a JSON object."""
    told = _json(content)
    if not isinstance(told, dict):
        raise ApiError(400, "the body must be a JSON object")
    return Fields(told)


def _json(content: bytes | str) -> Any:
    """JSON that can be written again: no infinities, no halves of characters, no abyss."""
    try:
        told = json.loads(content, parse_float=_finite, parse_constant=_finite)
        json.dumps(told, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"invalid JSON: {str(error)[:200]}") from error
    return told


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number {text[:20]} is out of range")
    return number


class Fields:
    """A JSON object's fields by type; null counts as absent, the wrong type is refused."""

    def __init__(self, told: Mapping[str, Any], within: str = ""):
        self.body, self._within = told, within

    def _get(self, key: str, kinds: tuple[type, ...], word: str) -> Any:
        found = self.body.get(key)
        # to Python, True is an int; to JSON it is not
        wrong = not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds)
        if found is not None and wrong:
            raise ApiError(400, f'"{self._within}{key}" must be {word}')
        return found

    def text(self, key: str) -> str | None:
        return self._get(key, (str,), "a string")

    def flag(self, key: str) -> bool | None:
        return self._get(key, (bool,), "true or false")

    def whole(self, key: str, low: int, high: int) -> int | None:
        found = self._get(key, (int,), "a whole number")
        if found is not None and not low <= found <= high:
            raise ApiError(400, f'"{self._within}{key}" must be from {low} to {high}')
        return found

    def list(self, key: str, most: int = 10_000) -> list | None:
        found = self._get(key, (list,), "a list")
        if found is not None and len(found) > most:
            raise ApiError(400, f'"{self._within}{key}" has more than {most} entries')
        return found

    def object(self, key: str) -> "Fields | None":
        found = self._get(key, (dict,), "an object")
        return None if found is None else Fields(found, f"{self._within}{key}.")

    def objects(self, key: str, most: int = 10_000) -> "list[Fields] | None":
        found = self.list(key, most)
        if found is None:
            return None
        if not all(isinstance(one, dict) for one in found):
            raise ApiError(400, f'"{self._within}{key}" must be a list of objects')
        return [Fields(one, f"{self._within}{key}[{n}].") for n, one in enumerate(found)]

    def texts(self, key: str) -> "dict[str, str] | None":
        """An object whose values are strings."""
        found = self._get(key, (dict,), "an object")
        if found is not None and not all(isinstance(one, str) for one in found.values()):
            raise ApiError(400, f'"{self._within}{key}" must have strings as values')
        return found

    def strings(self, key: str, most: int = 10_000) -> "list[str] | None":
        """A string, or a list of them."""
        found = self.body.get(key)
        if isinstance(found, str):
            return [found]
        found = self.list(key, most)
        if found is not None and not all(isinstance(one, str) for one in found):
            raise ApiError(400, f'"{self._within}{key}" must be a string or a list of strings')
        return found

    def model(self) -> str:
        """The model's name; older clients say "name"."""
        found = self.text("model") or self.text("name")
        if not found:
            raise ApiError(400, "model is required")
        return found


def options(asked: Fields | None) -> dict[str, Any]:
    """Ollama's options with their types checked; those not known here are left out."""
    found: dict[str, Any] = {}
    for key, value in (asked.body if asked else {}).items():
        kind = OPTIONS.get(key, (None,))[0]
        if kind is None or value is None:
            continue
        if kind is list:
            stops = [value] if isinstance(value, str) else value
            if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
                raise ApiError(400, f'option "{key}" must be of type array of strings')
            if len(stops) > 64 or any(len(one) > 1000 for one in stops):
                raise ApiError(400, f'option "{key}" is too long')
            found[key] = [one for one in stops if one]
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ApiError(400, f'option "{key}" must be of type {kind.__name__}')
        if kind is int and value != int(value):
            raise ApiError(400, f'option "{key}" must be of type int')
        if abs(value) > (2**63 if key == "seed" else 2**31 - 1):
            raise ApiError(400, f'option "{key}" is out of range')
        found[key] = kind(value)
    if found.get("repeat_penalty", 1) <= 0:
        raise ApiError(400, 'option "repeat_penalty" must be above 0')
    return found


def sampling(chosen: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Options in llama.cpp's words. context: tokens of a slot, where an option means all."""
    told = {OPTIONS[key][1]: value for key, value in {**DEFAULTS, **chosen}.items()}
    told.pop(None, None)
    told["seed"] = told.get("seed", -1) % 2**32  # 2**32 - 1: a new one each time
    told["n_predict"] = max(told.get("n_predict", -1), -1)
    if told["repeat_last_n"] < 0:
        told["repeat_last_n"] = context
    told["n_keep"] = max(told.get("n_keep", 0), -1)
    return told


def keep_alive(asked: Fields) -> float | None:
    """Seconds to stay loaded: infinity for a negative value, None where nothing is said."""
    value = asked.body.get("keep_alive")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ApiError(400, '"keep_alive" must be seconds, or a string such as "5m"')
    if isinstance(value, str):
        value = _seconds(value)
    return math.inf if value < 0 or value > LONGEST else float(value)


def _seconds(text: str) -> float:
    """Go's durations: "300ms", "1h30m", "-1m"; "0" needs no unit."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    found = DURATION.findall(rest)
    if not found or "".join(number + unit for number, unit in found) != rest:
        raise ApiError(400, f'"keep_alive": invalid duration {text[:40]!r}; such as "5m", "-1s"')
    return sign * sum(float(number) * UNITS[unit] for number, unit in found)


def think(asked: Fields) -> bool | None:
    """Ollama's levels count as true: there is one way to think here."""
    value = asked.body.get("think")
    if value is None or isinstance(value, bool):
        return value
    if value in ("high", "medium", "low", "max"):
        return True
    raise ApiError(400, '"think" must be true, false, "high", "medium" or "low"')


def response_schema(asked: Fields) -> dict[str, Any] | None:
    """The JSON schema that the answer must follow: {} for any JSON, None for free text."""
    value = asked.body.get("format")
    if value is None or value == "":
        return None
    if value == "json":
        return {}
    if not isinstance(value, dict):
        raise ApiError(400, '"format" must be "json" or a JSON schema')
    return closed(schema(value))


def schema(value: dict[str, Any]) -> dict[str, Any]:
    """A schema that llama.cpp can make a grammar of in reasonable time, with no outside parts."""
    if len(json.dumps(value)) > SCHEMA_SIZE:
        raise ApiError(400, f"the schema is longer than {SCHEMA_SIZE:,} characters")
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > 32:
            raise ApiError(400, "the schema is nested more than 32 deep")
        if isinstance(one, dict):
            reference = one.get("$ref")
            if isinstance(reference, str) and not reference.startswith("#"):
                raise ApiError(400, f"the schema refers to {reference[:80]!r}, outside itself")
            for key in COUNTS:
                count = one.get(key)
                if isinstance(count, int | float) and not 0 <= count <= SCHEMA_REPEATS:
                    raise ApiError(400, f"the schema's {key} must be from 0 to {SCHEMA_REPEATS}")
            waiting += [(inner, depth + 1) for inner in one.values()]
        elif isinstance(one, list):
            waiting += [(inner, depth + 1) for inner in one]
    return value


def closed(value: Any) -> Any:
    """A schema whose objects have the properties it names and no more, as Ollama reads it.

    JSON Schema allows others where `additionalProperties` is not given; a small model then never
    stops writing them.
    """
    if not isinstance(value, dict):
        return value
    told = {key: one for key, one in value.items() if key != "x-guidance"}
    for key in ("properties", "$defs", "definitions"):
        if isinstance(value.get(key), dict):
            told[key] = {name: closed(one) for name, one in value[key].items()}
    for key in ("items", "additionalProperties"):
        told |= {key: closed(value[key])} if key in value else {}
    for key in ("anyOf", "oneOf", "prefixItems"):
        if isinstance(value.get(key), list):
            told[key] = [closed(one) for one in value[key]]
    if isinstance(value.get("properties"), dict) and "allOf" not in value:
        told.setdefault("additionalProperties", False)
    return told


def image(data: str) -> str:
    """A picture in base64, checked and without line breaks. Only PNG, JPEG, WebP, GIF, BMP."""
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"a picture is not base64: {error}") from error
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM")
    if not raw.startswith(starts) and not (raw[:4] == b"RIFF" and raw[8:12] == b"WEBP"):
        raise ApiError(400, "a picture must be PNG, JPEG, WebP, GIF or BMP, in base64")
    return base64.b64encode(raw).decode()


def transposed(image: str) -> str:
    """A picture of a miniature's size with rows and columns swapped, as PNG; both in base64.

    Raises Refused for what is no picture, or too large.
    """
    kept = io.BytesIO()
    try:
        with Image.open(io.BytesIO(base64.b64decode(image))) as read:
            picture = images.fit(images.as_rgb(read), images.MINI.size)
            picture.transpose(Image.Transpose.TRANSPOSE).save(kept, "PNG")
    # PIL's ways of saying that it is no picture, or a bomb
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ApiError(400, f"the picture cannot be read: {error}") from error
    return base64.b64encode(kept.getvalue()).decode()


def pictures(asked: Fields) -> list[str]:
    found = asked.list("images", MOST_IMAGES) or []
    if not all(isinstance(one, str) for one in found):
        raise ApiError(400, '"images" must be a list of base64 strings')
    return [image(one) for one in found]


def messages(asked: list[Fields]) -> list[dict[str, Any]]:
    """Ollama's messages: role, content, images, tool_calls with arguments as objects."""
    found = []
    for one in asked:
        role = one.text("role")
        if role not in ROLES:
            raise ApiError(400, f"invalid role {role!r}: one of {', '.join(ROLES)}")
        message: dict[str, Any] = {"role": role, "content": one.text("content") or ""}
        message["images"] = pictures(one)
        message["tool_name"] = one.text("tool_name") or ""
        calls = []
        for call in one.objects("tool_calls", 100) or []:
            function = call.object("function") or Fields({})
            name, arguments = function.text("name"), function.object("arguments")
            if not name:
                raise ApiError(400, "a tool call needs a function with a name")
            calls.append({"name": name, "arguments": arguments.body if arguments else {}})
        message["tool_calls"] = calls
        found.append(message)
    return found


def tools(asked: Fields) -> list[dict[str, Any]]:
    """Tools as llama.cpp takes them: functions with a name and a schema of parameters."""
    found = []
    for one in asked.objects("tools", 128) or []:
        function = one.object("function") or Fields({})
        name, parameters = function.text("name"), function.object("parameters")
        if not name:
            raise ApiError(400, "a tool needs a function with a name")
        told = {"name": name, "description": function.text("description") or ""}
        told["parameters"] = schema(parameters.body) if parameters else {"type": "object"}
        found.append({"type": "function", "function": told})
    return found


def refuse(asked: Fields, fields: Mapping[str, tuple]) -> None:
    """Refuse fields that would change an answer and are not followed here.

    fields: what each may be instead, besides absent.
    """
    for key, harmless in fields.items():
        value = asked.body.get(key)
        if value is not None and value not in harmless:
            raise ApiError(400, f'"{key}" is not done by this stand-in: leave it out')


def top_logprobs(asked: Fields) -> int | None:
    """How many alternatives of each token to report; None for no log-probabilities."""
    most = asked.whole("top_logprobs", 0, MOST_LABELS)
    return (most or 0) if asked.flag("logprobs") else None


def from_openai(asked: Fields) -> dict[str, Any]:
    """The fields that /v1/chat/completions and /v1/completions share, in Ollama's words."""
    chosen = {
        key: asked.body.get(key)
        for key in ("temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty")
    }
    longest = asked.body.get("max_completion_tokens")
    chosen["num_predict"] = asked.body.get("max_tokens") if longest is None else longest
    refuse(asked, OPENAI)
    return {"model": asked.model(), "options": chosen}


def chat_from_openai(asked: Fields) -> dict[str, Any]:
    """A body of /v1/chat/completions as one of /api/chat."""
    told = from_openai(asked)
    told["messages"] = [_message(one) for one in asked.objects("messages") or []]
    if not told["messages"]:
        raise ApiError(400, '"messages" must be a list with at least one message')
    told["tools"] = asked.body.get("tools") if asked.body.get("tool_choice") != "none" else None
    wanted = asked.object("response_format")
    if wanted and wanted.text("type") == "json_object":
        told["format"] = "json"
    elif wanted and wanted.text("type") == "json_schema":
        inner = wanted.object("json_schema") or Fields({})
        told["format"] = (inner.object("schema") or Fields({})).body or "json"
    elif wanted and wanted.text("type") != "text":
        raise ApiError(400, '"response_format.type" must be text, json_object or json_schema')
    effort = asked.text("reasoning_effort")
    if effort is None:
        effort = (asked.object("reasoning") or Fields({})).text("effort")
    told["think"] = None if effort is None else effort != "none"
    told["logprobs"] = asked.body.get("logprobs")
    told["top_logprobs"] = asked.body.get("top_logprobs")
    return told


def _message(one: Fields) -> dict[str, Any]:
    role = one.text("role")
    told: dict[str, Any] = {"role": "system" if role == "developer" else role}
    if isinstance(one.body.get("content"), list):
        texts, seen = [], []
        for part in one.objects("content", 1000) or []:
            if part.text("type") == "text":
                texts.append(part.text("text") or "")
            elif part.text("type") == "image_url":
                url = (part.object("image_url") or Fields({})).text("url") or ""
                head, comma, data = url.partition(",")
                if not (head.startswith("data:image/") and head.endswith(";base64") and comma):
                    raise ApiError(
                        400, "pictures come as data:image/…;base64,… and from nowhere else"
                    )
                seen.append(data)
            else:
                raise ApiError(400, "a part of a message must be text or image_url")
        told["content"], told["images"] = "\n".join(texts), seen
    else:
        told["content"] = one.text("content")
    told["tool_name"] = one.text("name")
    calls = []
    for call in one.objects("tool_calls", 100) or []:
        function = call.object("function") or Fields({})
        arguments = _json(function.text("arguments") or "{}")
        calls.append({"function": {"name": function.text("name"), "arguments": arguments}})
    if calls:
        told["tool_calls"] = calls
    return told
