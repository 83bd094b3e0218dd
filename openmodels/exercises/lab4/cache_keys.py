"""The first half of exercise 4.7: `cache_key`, its cases and its known mistakes."""

import builtins
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from openmodels.check import WrongAnswer
from openmodels.exercises.cases import Case

Request = Mapping[str, Any]
IGNORED = ("user", "metadata", "timeout", "store")  # fields that cannot change the answer

# --- The reference solution -----------------------------------------------------------------------


def reference_key(request: Request, digest: str) -> str | None:
    """Return the key of a request, or None if its answer must not be cached."""
    if request.get("stream") or not (
        request.get("temperature") == 0 or request.get("seed") is not None
    ):
        return None
    parts = {name: value for name, value in request.items() if name not in IGNORED}
    text = json.dumps([digest, parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# --- Known mistakes -------------------------------------------------------------------------------


def _hashed(value: Any, sort_keys: bool = True) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=sort_keys).encode()).hexdigest()


def _is_sample(request: Request) -> bool:
    return reference_key(request, "") is None


def _parts(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in IGNORED}


def _forgetting(*names: str) -> Callable[[Request, str], str | None]:
    """Return a key without some fields of the request."""

    def key(request: Request, digest: str) -> str | None:
        parts = {name: value for name, value in _parts(request).items() if name not in names}
        return None if _is_sample(request) else _hashed([digest, parts])

    return key


def _with_messages(change: Callable[[list], Any]) -> Callable[[Request, str], str | None]:
    """Return a key whose messages are changed first."""

    def key(request: Request, digest: str) -> str | None:
        parts = _parts(request) | {"messages": change(request["messages"])}
        return None if _is_sample(request) else _hashed([digest, parts])

    return key


def _key_without_digest(request: Request, digest: str) -> str | None:
    return reference_key(request, "")


def _key_of_known_fields(request: Request, digest: str) -> str | None:
    known = (
        "model", "messages", "tools", "response_format", "temperature", "top_p", "seed", "stop",
        "max_tokens",
    )  # fmt: skip
    parts = {name: request.get(name) for name in known}
    return None if _is_sample(request) else _hashed([digest, parts])


def _key_of_all_fields(request: Request, digest: str) -> str | None:
    return None if _is_sample(request) else _hashed([digest, dict(request)])


def _key_in_order(request: Request, digest: str) -> str | None:
    return None if _is_sample(request) else _hashed([digest, _parts(request)], sort_keys=False)


def _key_of_sorted_fields(request: Request, digest: str) -> str | None:
    text = repr((digest, sorted(_parts(request).items())))
    return None if _is_sample(request) else hashlib.sha256(text.encode()).hexdigest()


def _sort(value: Any) -> Any:
    """Return a value with every list sorted, which is one step too many."""
    if isinstance(value, dict):
        return {name: _sort(part) for name, part in value.items()}
    return sorted(map(_sort, value), key=repr) if isinstance(value, list) else value


def _key_of_sorted_lists(request: Request, digest: str) -> str | None:
    return None if _is_sample(request) else _hashed([digest, _sort(_parts(request))])


def _without_ignored(value: Any) -> Any:
    if isinstance(value, dict):
        return {n: _without_ignored(part) for n, part in value.items() if n not in IGNORED}
    return [_without_ignored(part) for part in value] if isinstance(value, list) else value


def _key_without_names_anywhere(request: Request, digest: str) -> str | None:
    return None if _is_sample(request) else _hashed([digest, _without_ignored(request)])


def _key_without_separator(request: Request, digest: str) -> str | None:
    parts = _parts(request)
    text = parts.pop("model") + digest + json.dumps(parts, sort_keys=True)
    return None if _is_sample(request) else hashlib.sha256(text.encode()).hexdigest()


def _key_of_samples(request: Request, digest: str) -> str | None:
    return None if request.get("stream") else _hashed([digest, _parts(request)])


def _key_without_seeds(request: Request, digest: str) -> str | None:
    cached = request.get("temperature") == 0 and not request.get("stream")
    return _hashed([digest, _parts(request)]) if cached else None


def _key_with_default_temperature(request: Request, digest: str) -> str | None:
    sample = request.get("temperature") and request.get("seed") is None
    return None if sample or request.get("stream") else _hashed([digest, _parts(request)])


def _key_with_seed_0_missing(request: Request, digest: str) -> str | None:
    if request.get("temperature") != 0 and not request.get("seed"):
        return None
    return reference_key(request, digest)


def _key_of_streams(request: Request, digest: str) -> str | None:
    return reference_key(dict(request) | {"stream": False}, digest)


def _key_needs_temperature(request: Request, digest: str) -> str | None:
    if request["temperature"] > 0 and request.get("seed") is None:
        return None
    return reference_key(request, digest)


def _key_by_hash(request: Request, digest: str) -> str | None:
    text = json.dumps([digest, _parts(request)], sort_keys=True)
    return None if _is_sample(request) else str(hash(text))


def _key_as_bytes(request: Request, digest: str) -> Any:
    key = reference_key(request, digest)
    return key and key.encode()


def _key_or_error(request: Request, digest: str) -> str:
    key = reference_key(request, digest)
    if key is None:
        raise ValueError("this request must not be cached")
    return key


def _key_changing_the_request(request: dict, digest: str) -> str | None:
    for name in IGNORED:
        request.pop(name, None)
    return reference_key(request, digest)


KEY_MISTAKES = [
    WrongAnswer("no digest", _key_without_digest,
                "Your key forgets the digest. After new weights get the old name, the cache "
                "returns the answers of the old ones."),
    WrongAnswer("no model", _forgetting("model"),
                "Your key forgets the model's name: two names of the same weights can have "
                "different templates and system prompts."),
    WrongAnswer("no tools", _forgetting("tools"),
                "Your key forgets `tools`: a new tool, or a new description, changes the answer."),
    WrongAnswer("no response_format", _forgetting("response_format"),
                "Your key forgets `response_format`, which constrains the answer."),
    WrongAnswer("no temperature", _forgetting("temperature"),
                "Your key forgets `temperature`: with the same seed, another temperature gives "
                "another answer."),
    WrongAnswer("no seed", _forgetting("seed"),
                "Your key forgets `seed`: five votes with five seeds become five copies of one."),
    WrongAnswer("no max_tokens", _forgetting("max_tokens", "max_completion_tokens"),
                "Your key forgets `max_tokens`: a larger limit can give a longer answer."),
    WrongAnswer("known fields only", _key_of_known_fields,
                "Your key has a list of fields, and this one is missing. Leave out the fields that "
                "cannot matter, and use all others."),
    WrongAnswer("all fields", _key_of_all_fields,
                "Your key contains fields that cannot change the answer, so equal questions of two "
                "users miss."),
    WrongAnswer("the order of keys", _key_in_order,
                "Your key depends on the order of a dictionary's keys: use sort_keys=True."),
    WrongAnswer("sorted at the top only", _key_of_sorted_fields,
                "You sort the fields of the request, but not the dictionaries inside them."),
    WrongAnswer("sorted lists", _key_of_sorted_lists,
                "You sort lists too. The order of messages changes the answer."),
    WrongAnswer("the latest message", _with_messages(lambda messages: messages[-1]),
                "Your key has the latest message only: the same question means something else "
                "after another answer."),
    WrongAnswer("texts without roles", _with_messages(lambda m: [x.get("content") for x in m]),
                "Your key forgets the roles of the messages, and their tool calls."),
    WrongAnswer("joined texts",
                _with_messages(lambda m: "\n".join(f"{x['role']}: {x.get('content')}" for x in m)),
                "You join messages into one text, so one message can look like two."),
    WrongAnswer("texts in lower case",
                _with_messages(lambda m: [x | {"content": (x.get("content") or "").lower().strip()}
                                          for x in m]),
                "You change the texts before you hash them. The model reads capitals and spaces."),
    WrongAnswer("no separator", _key_without_separator,
                "You join the model's name and the digest without a separator, so two pairs can "
                "give the same text."),
    WrongAnswer("IGNORED at every depth", _key_without_names_anywhere,
                "You leave out `user` and the others at every depth. A tool may have a parameter "
                "with such a name: leave them out at the top only."),
    WrongAnswer("samples", _key_of_samples,
                "You return a key for a sample: without a seed, a temperature above 0 asks for a "
                "new answer each time."),
    WrongAnswer("no seeds", _key_without_seeds,
                "You refuse a request with a seed. The seed makes the sample repeatable."),
    WrongAnswer("a missing temperature is 0", _key_with_default_temperature,
                "You treat a missing temperature as 0. The model's default is usually above 0."),
    WrongAnswer("a seed of 0 is missing", _key_with_seed_0_missing,
                "You treat a seed of 0 as missing: compare with None."),
    WrongAnswer("streams", _key_of_streams,
                "You return a key for a stream, which is no complete response."),
    WrongAnswer("needs a temperature", _key_needs_temperature,
                "A request need not have a temperature: use `request.get`."),
    WrongAnswer("Python's hash", _key_by_hash,
                "`hash` gives other numbers in every Python process, so a stored key is never "
                "seen again. Use hashlib."),
    WrongAnswer("bytes", _key_as_bytes,
                "Return the key as a str."),
    WrongAnswer("an error for a sample", _key_or_error,
                "A sample is a normal request: return None, do not raise an error."),
    WrongAnswer("a request changed by the key", _key_changing_the_request,
                "You remove fields from the caller's request: work on a copy."),
]  # fmt: skip

# --- Cases ----------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "tide", "description": "High water", "parameters":
        {"type": "object", "properties": {"day": {"type": "string"}}}}}  # fmt: skip
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "When is high water?"}
BASE = {"model": "mini", "messages": [SYSTEM, USER], "temperature": 0, "max_tokens": 60}
SEEDED = BASE | {"temperature": 0.7, "seed": 11}
FORMAT = {"type": "json_schema", "json_schema": {"name": "order", "schema": {"type": "object"}}}


def backwards(value: Any) -> Any:
    """Return a value with the keys of each dictionary in reverse order."""
    if isinstance(value, dict):
        return {name: backwards(part) for name, part in reversed(value.items())}
    return [backwards(part) for part in value] if isinstance(value, list) else value


def _changed(what: str, change: Request, hint: str = "", base: Request = BASE) -> Case:
    return Case(what, (base, "d1", {**base, **change}, "d1"), hint)


def _messages(*messages: Request) -> Request:
    return {"messages": list(messages)}


def _description(text: str) -> Request:
    function = TOOL["function"] | {"description": text}
    return {"tools": [TOOL | {"function": function}]}


def _parameter(name: str) -> Request:
    properties = {"day": {"type": "string"}, name: {"type": "string"}}
    parameters = {"type": "object", "properties": properties}
    return {"tools": [TOOL | {"function": TOOL["function"] | {"parameters": parameters}}]}


CALLING = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "a", "type": "function", "function": {"name": "tide", "arguments": "{}"}}]}  # fmt: skip
OTHER_CALL = json.loads(json.dumps(CALLING).replace("{}", '{\\"day\\": 5}'))

KEY_CASES = [
    _changed("the same request twice", {}, "The key depends on the request and the digest alone."),
    _changed("another question", _messages(SYSTEM, USER | {"content": "When is low water?"})),
    Case("another digest", (BASE, "d1", BASE, "d2"), "Put the digest into the key."),
    _changed("another model", {"model": "maxi"}),
    Case("model \"mini\" with digest \"d1\", and model \"minid\" with digest \"1\"",
         (BASE, "d1", BASE | {"model": "minid"}, "1"), "Hash a list, not a joined text."),
    Case("a request whose keys are in another order",
         (BASE, "d1", dict(reversed(BASE.items())), "d1"),
         "`json.dumps(..., sort_keys=True)` ignores the order of keys."),
    Case("a tool whose keys are in another order",
         (BASE | {"tools": [TOOL]}, "d1", BASE | {"tools": [backwards(TOOL)]}, "d1"),
         "`json.dumps(..., sort_keys=True)` ignores the order of keys at every depth."),
    _changed("two messages in another order", _messages(USER, SYSTEM)),
    _changed("another earlier message", _messages(SYSTEM | {"content": "Be polite."}, USER)),
    _changed("another role", _messages(SYSTEM | {"role": "user"}, USER)),
    Case("another tool call in the history",
         (BASE | _messages(USER, CALLING, SYSTEM), "d1",
          BASE | _messages(USER, OTHER_CALL, SYSTEM), "d1")),
    Case("one message that looks like two",
         (BASE | _messages(USER | {"content": "Hi"}, USER | {"content": "there"}), "d1",
          BASE | _messages(USER | {"content": "Hi\nuser: there"}), "d1")),
    _changed("capitals", _messages(SYSTEM, USER | {"content": "when is high water?"})),
    _changed("a space at the end", _messages(SYSTEM, USER | {"content": USER["content"] + " "})),
    _changed("a tool", {"tools": [TOOL]}),
    Case("another description of a tool",
         (BASE | {"tools": [TOOL]}, "d1", BASE | _description("Low water"), "d1")),
    Case("a tool with a parameter named user",
         (BASE | {"tools": [TOOL]}, "d1", BASE | _parameter("user"), "d1"),
         "IGNORED names fields at the top only."),
    _changed("a response_format", {"response_format": FORMAT}),
    _changed("another max_tokens", {"max_tokens": 61}),
    _changed("a seed next to temperature 0", {"seed": 5}),
    _changed("another seed", {"seed": 12}, base=SEEDED),
    _changed("another temperature with the same seed", {"temperature": 0.8}, base=SEEDED),
    _changed("stop words", {"stop": ["."]}),
    _changed("stop words in another order", {"stop": ["\n", "."]},
             base=BASE | {"stop": [".", "\n"]}),
    _changed("top_p", {"top_p": 0.9}),
    _changed("logit_bias", {"logit_bias": {"5": -100}}, "Use every field that is not in IGNORED."),
    _changed("reasoning_effort", {"reasoning_effort": "high"},
             "Use every field that is not in IGNORED."),
    _changed("a field that this course does not know", {"extra_body": {"top_k": 3}},
             "Use every field that is not in IGNORED."),
    _changed("another user", {"user": "ada"}, "`user` is in IGNORED.", BASE | {"user": "otto"}),
    _changed("a time limit", {"timeout": 5.0}, "`timeout` is in IGNORED."),
    _changed("metadata", {"metadata": {"run": "7"}}, "`metadata` is in IGNORED."),
    _changed("store", {"store": True}, "`store` is in IGNORED."),
    _changed("temperature 0.7 without a seed", {"temperature": 0.7},
             "Return None for a sample: its answer must not be cached."),
    _changed("temperature 0.7 with a seed", {"temperature": 0.7, "seed": 3},
             "The seed makes the answer repeatable."),
    _changed("temperature 0.7 with seed 0", {"temperature": 0.7, "seed": 0},
             "The seed 0 is a seed."),
    _changed("temperature 0.7 with a seed of None", {"temperature": 0.7, "seed": None},
             "A seed of None is no seed."),
    Case("no temperature and no seed",
         (BASE, "d1", {"model": "mini", "messages": [USER]}, "d1"),
         "Without a temperature the model's default applies: return None."),
    Case("a seed without a temperature",
         (BASE, "d1", {"model": "mini", "messages": [USER], "seed": 4}, "d1")),
    _changed("a stream", {"stream": True}, "Return None for a stream."),
    _changed("stream=False with temperature 0.7", {"stream": False, "temperature": 0.7}),
]  # fmt: skip


@contextmanager
def _watched_hash() -> Iterator[list]:
    """Record whether Python's `hash` is called on a text inside the block."""
    calls: list = []
    original = builtins.hash

    def watched(value: Any) -> int:
        calls.append(value)
        return original(value)

    builtins.hash = watched
    try:
        yield calls
    finally:
        builtins.hash = original


def relate(cache_key: Callable, first: dict, digest: str, second: dict, other_digest: str) -> str:
    """Return how the keys of two requests relate: "equal", "different" or "no key"."""
    before = json.dumps([first, second])
    with _watched_hash() as calls:
        keys = [cache_key(first, digest), cache_key(second, other_digest)]
    if json.dumps([first, second]) != before:
        return "changed requests"
    if calls:
        return "a key by `hash`"
    if keys[0] is None:
        return "no key for the first"
    if any(not isinstance(key, str | None) for key in keys):
        return f"a key that is a {type(keys[0]).__name__}"
    if keys[1] is None:
        return "no key for the second"
    return "equal keys" if keys[0] == keys[1] else "different keys"
