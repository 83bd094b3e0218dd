"""Exercise 4.7: a cache whose key forgets nothing, and which stores complete answers only.

The first half, `cache_key`, is in `cache_keys`. The notebook then puts the learner's functions in
front of a real model.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from openai.types.chat import ChatCompletion

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.cases import Case, name_mistake, raise_again, result_of
from openmodels.exercises.known_mistakes import pair_answers
from openmodels.exercises.lab4.cache_keys import (
    BASE,
    KEY_CASES,
    KEY_MISTAKES,
    SEEDED,
    USER,
    reference_key,
    relate,
)

Create = Callable[..., ChatCompletion]
Request = Mapping[str, Any]
COMPLETE = ("stop", "tool_calls")
DRAWN = 100

# --- The reference solution -----------------------------------------------------------------------


def reference_cached(
    create: Create, request: Request, digest: str, store: dict[str, str]
) -> ChatCompletion:
    """Return the response of a request, from the store if it is there."""
    key = reference_key(request, digest)
    if key is not None and key in store:
        return ChatCompletion.model_validate_json(store[key])
    response = create(**request)
    reasons = [choice.finish_reason for choice in response.choices]
    if key is not None and reasons and all(reason in COMPLETE for reason in reasons):
        store[key] = response.model_dump_json()
    return response


# --- Known mistakes -------------------------------------------------------------------------------


class Parts:
    """The right cache in parts; each mistake replaces one of them."""

    def __call__(self, create: Create, request: dict, digest: str, store: dict[str, Any]) -> Any:
        """Return what `reference_cached` returns, as far as the parts are right."""
        key = self.key(request, digest)
        if self.is_stored(key, store):
            return self.load(store[key])
        response = self.call(create, request)
        if self.may_store(key, response):
            self.save(store, key, response)
        return response

    def key(self, request: dict, digest: str) -> str | None:
        return reference_key(request, digest)

    def is_stored(self, key: str | None, store: dict) -> bool:
        return key in store

    def load(self, text: Any) -> Any:
        return ChatCompletion.model_validate_json(text)

    def call(self, create: Create, request: dict) -> Any:
        return create(**request)

    def may_store(self, key: str | None, response: ChatCompletion) -> bool:
        return key is not None and self.is_complete(response)

    def is_complete(self, response: ChatCompletion) -> bool:
        reasons = [choice.finish_reason for choice in response.choices]
        return bool(reasons) and all(reason in COMPLETE for reason in reasons)

    def save(self, store: dict, key: Any, response: ChatCompletion) -> None:
        store[key] = response.model_dump_json()


class NeverLooks(Parts):
    def is_stored(self, key: str | None, store: dict) -> bool:
        return False


class NeverStores(Parts):
    def may_store(self, key: str | None, response: ChatCompletion) -> bool:
        return False


class StoresSamples(Parts):
    def may_store(self, key: str | None, response: ChatCompletion) -> bool:
        return self.is_complete(response)


class StoresEverything(Parts):
    def is_complete(self, response: ChatCompletion) -> bool:
        return True


class RefusesLengthOnly(Parts):
    def is_complete(self, response: ChatCompletion) -> bool:
        return bool(response.choices) and all(c.finish_reason != "length" for c in response.choices)


class StopOnly(Parts):
    def is_complete(self, response: ChatCompletion) -> bool:
        return bool(response.choices) and all(c.finish_reason == "stop" for c in response.choices)


class FirstChoice(Parts):
    def is_complete(self, response: ChatCompletion) -> bool:
        return bool(response.choices) and response.choices[0].finish_reason in COMPLETE


class AnyChoice(Parts):
    def is_complete(self, response: ChatCompletion) -> bool:
        return any(choice.finish_reason in COMPLETE for choice in response.choices)


class NoChoices(Parts):
    def is_complete(self, response: ChatCompletion) -> bool:
        return all(choice.finish_reason in COMPLETE for choice in response.choices)


class NeedsChoice(Parts):
    def is_complete(self, response: ChatCompletion) -> bool:
        return response.choices[0].finish_reason in COMPLETE and super().is_complete(response)


class StoresObjects(Parts):
    def save(self, store: dict, key: Any, response: ChatCompletion) -> None:
        store[key] = response

    def load(self, text: Any) -> Any:
        return text


class ReturnsText(Parts):
    def load(self, text: Any) -> Any:
        return text


class ReturnsDictionary(Parts):
    def load(self, text: Any) -> Any:
        return json.loads(text)


class StripsRequest(Parts):
    def call(self, create: Create, request: dict) -> Any:
        return create(**{k: v for k, v in request.items() if k not in ("user", "timeout")})


class PassesDictionary(Parts):
    def call(self, create: Create, request: dict) -> Any:
        return create(request)


class StoresErrors(Parts):
    def __call__(self, create: Create, request: dict, digest: str, store: dict) -> Any:
        key = self.key(request, digest)
        try:
            return super().__call__(create, request, digest, store)
        except Exception as error:
            if key is not None:
                store[key] = json.dumps({"error": str(error)})
            raise


class HidesErrors(Parts):
    def call(self, create: Create, request: dict) -> Any:
        try:
            return create(**request)
        except Exception:
            return ChatCompletion.model_construct(choices=[])


class RetriesErrors(Parts):
    def call(self, create: Create, request: dict) -> Any:
        for _ in range(3):
            try:
                return create(**request)
            except TimeoutError as error:
                latest = error
        raise latest


class AddsTemperature(Parts):
    def call(self, create: Create, request: dict) -> Any:
        request.setdefault("temperature", 0)
        return create(**request)


class NoDigest(Parts):
    def key(self, request: dict, digest: str) -> str | None:
        return reference_key(request, "")


class KeyIsText(Parts):
    def key(self, request: dict, digest: str) -> str | None:
        return reference_key({**request, "messages": str(request["messages"][-1])}, digest)


class LatestOnly(Parts):
    def save(self, store: dict, key: Any, response: ChatCompletion) -> None:
        store.clear()
        store[key] = response.model_dump_json()


CACHE_MISTAKES = [
    WrongAnswer("never looks", NeverLooks(),
                "You never look into the store: the model is called again."),
    WrongAnswer("never stores", NeverStores(),
                "You never store a response: the model is called again."),
    WrongAnswer("stores samples", StoresSamples(),
                "You store the answer of a request without a key, under None. The next sample then "
                "gets it, whatever it asks."),
    WrongAnswer("stores everything", StoresEverything(),
                "You store an answer that was cut off. It would be returned forever."),
    WrongAnswer("refuses cut answers only", RefusesLengthOnly(),
                "You store an answer that a filter stopped: list the reasons that you store."),
    WrongAnswer("stores finished texts only", StopOnly(),
                "You do not store tool calls. A finish_reason of \"tool_calls\" is complete."),
    WrongAnswer("the first choice", FirstChoice(),
                "You look at the first choice only: with n=2 the second can be cut off."),
    WrongAnswer("any choice", AnyChoice(),
                "One complete choice is enough for you: all choices must be complete."),
    WrongAnswer("no choices", NoChoices(),
                "`all` of an empty list is true: a response without choices is no answer."),
    WrongAnswer("needs a choice", NeedsChoice(),
                "A response can have no choices: return it, and store nothing."),
    WrongAnswer("stores objects", StoresObjects(),
                "You store the response itself. A caller who changes it changes the cache: store "
                "`response.model_dump_json()`."),
    WrongAnswer("returns the text", ReturnsText(),
                "From the store you return a text. The caller expects a ChatCompletion."),
    WrongAnswer("returns a dictionary", ReturnsDictionary(),
                "From the store you return a dictionary. The caller expects a ChatCompletion."),
    WrongAnswer("a shortened request", StripsRequest(),
                "You call the model without some fields. They do not belong into the key, but the "
                "server needs them."),
    WrongAnswer("a dictionary for create", PassesDictionary(),
                "Call `create(**request)`: the API takes fields by name."),
    WrongAnswer("stores errors", StoresErrors(),
                "You store an error. A short fault then lasts as long as the cache."),
    WrongAnswer("hides errors", HidesErrors(),
                "You hide the exception of `create`: let it pass."),
    WrongAnswer("retries errors", RetriesErrors(),
                "You call the model again after an exception: let it pass. Retries belong into the "
                "client."),
    WrongAnswer("a changed request", AddsTemperature(),
                "You change the caller's request: work on a copy, and add no fields."),
    WrongAnswer("no digest for the key", NoDigest(),
                "`cached` does not pass the digest on: new weights get the answers of the old "
                "ones."),
    WrongAnswer("a separate key", KeyIsText(),
                "`cached` has a separate key: use `cache_key(request, digest)`."),
    WrongAnswer("the latest response only", LatestOnly(),
                "You remove other responses from the store."),
]  # fmt: skip

# --- Scripted models ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A request, and the finish reasons of a scripted model's answer, or its exception."""

    request: Request
    reasons: tuple[str, ...] | Exception = ("stop",)
    digest: str = "d1"


class Run(NamedTuple):
    """What a cache did with a list of steps.

    answers: for each step, the text that came back, or the exception. sent: the fields of each
    request that reached the model. stored: the texts in the store. changed: a request was changed.
    """

    answers: tuple[str, ...]
    sent: tuple[str, ...]
    stored: tuple[str, ...]
    changed: bool = False


def response_of(text: str, reasons: tuple[str, ...]) -> ChatCompletion:
    """Return a response as the API's client returns it, one choice for each finish reason."""
    choices = [
        {"index": place, "finish_reason": reason, "logprobs": None,
         "message": {"role": "assistant", "content": f"{text} {'abc'[place]}"}}
        for place, reason in enumerate(reasons)
    ]  # fmt: skip
    return ChatCompletion.model_validate(
        {"id": text, "created": 1, "model": "mini", "object": "chat.completion", "choices": choices}
    )


def _text(response: Any) -> str:
    """Return a response in words."""
    if not isinstance(response, ChatCompletion):
        return f"a {type(response).__name__} instead of a ChatCompletion"
    texts = [choice.message.content or "" for choice in response.choices]
    return f"{response.id}: {', '.join(texts)}" if texts else f"{response.id}: no choices"


def run_steps(cached: Callable, steps: tuple[Step, ...]) -> Run:
    """Return what a cache does with a list of steps; its caller changes each response."""
    store: dict[str, Any] = {}
    answers, sent, changed = [], [], False

    def create(**fields: Any) -> ChatCompletion:
        sent.append(json.dumps(fields, sort_keys=True))
        if isinstance(step.reasons, Exception):
            raise step.reasons
        return response_of(f"answer {len(sent)}", step.reasons)

    for step in steps:
        request = json.loads(json.dumps(step.request))
        try:
            response = cached(create, request, step.digest, store)
            answers.append(_text(response))
            for choice in getattr(response, "choices", ()):
                choice.message.content = "changed by the caller"
        except Exception as error:
            if error is not step.reasons:
                raise
            answers.append(type(error).__name__)
        changed = changed or request != step.request
    stored = tuple(sorted(_stored(value) for value in store.values()))
    return Run(tuple(answers), tuple(sent), stored, changed)


def _stored(value: Any) -> str:
    """Return a stored value in words."""
    if not isinstance(value, str):
        return f"a {type(value).__name__} instead of a text"
    try:
        return _text(ChatCompletion.model_validate_json(value))
    except ValueError:
        return f"{value[:40]!r}, which is no response"


OTHER = BASE | {"messages": [USER]}
SAMPLE = BASE | {"temperature": 0.7}
FULL = BASE | {"user": "ada", "timeout": 5.0, "top_p": 0.9}
UNSET = {"model": "mini", "messages": [USER], "seed": 4}
STEPS = [
    Case("one request", ((Step(BASE),),), "Call `create`, store the response, and return it."),
    Case("the same request twice", ((Step(BASE), Step(BASE)),),
         "The second response comes from the store."),
    Case("two requests in turn", ((Step(BASE), Step(OTHER), Step(BASE), Step(OTHER)),),
         "Each request has its own response."),
    Case("requests that differ in an earlier message",
         ((Step(BASE), Step(OTHER)),), "Use `cache_key`."),
    Case("a request with every kind of field", ((Step(FULL), Step(FULL | {"user": "otto"})),),
         "`create` gets the whole request; the key leaves fields out."),
    Case("the same request after the weights changed",
         ((Step(BASE), Step(BASE, digest="d2"), Step(BASE)),), "The digest belongs to the key."),
    Case("two samples", ((Step(SAMPLE), Step(SAMPLE)),),
         "A request without a key is sent each time, and its response is not stored."),
    Case("a seeded request twice", ((Step(SEEDED), Step(SEEDED)),)),
    Case("a seed without a temperature", ((Step(UNSET), Step(UNSET)),)),
    Case("an answer that was cut off", ((Step(BASE, ("length",)), Step(BASE), Step(BASE)),),
         "Return it, and store nothing."),
    Case("an answer that a filter stopped", ((Step(BASE, ("content_filter",)), Step(BASE)),),
         "Return it, and store nothing."),
    Case("a tool call", ((Step(OTHER, ("tool_calls",)), Step(OTHER)),),
         "A finish_reason of \"tool_calls\" is complete."),
    Case("two choices, the second cut off", ((Step(BASE, ("stop", "length")), Step(BASE)),),
         "Store a response only if all choices are complete."),
    Case("two choices, the first cut off", ((Step(BASE, ("length", "stop")), Step(BASE)),),
         "Store a response only if all choices are complete."),
    Case("two complete choices",
         ((Step(SEEDED, ("stop", "tool_calls")), Step(SEEDED, ("stop", "stop"))),)),
    Case("a response without choices", ((Step(BASE, ()), Step(BASE)),),
         "Return it, and store nothing."),
    Case("an exception, then an answer", ((Step(BASE, TimeoutError("late")), Step(BASE)),),
         "The exception passes, and nothing is stored."),
    Case("an exception after a stored answer",
         ((Step(BASE), Step(OTHER, ConnectionError("reset")), Step(BASE)),)),
]  # fmt: skip


def draw_steps(seed: int) -> tuple[Step, ...]:
    """Return invented steps."""
    rng = random.Random(f"cache/{seed}")
    ends = (("stop",), ("tool_calls",), ("length",), ("stop", "length"), (), TimeoutError("late"))
    requests = (BASE, OTHER, SAMPLE, SEEDED, FULL, UNSET)
    return tuple(
        Step(rng.choice(requests), rng.choices(ends, (6, 2, 2, 1, 1, 1))[0], rng.choice("dddde"))
        for _ in range(rng.randint(3, 12))
    )


# --- The checker ----------------------------------------------------------------------------------


def _expect_keys(cache_key: Callable) -> None:
    """Raise NotYet unless the keys of each pair of requests relate as the reference's do."""
    for number, case in enumerate(KEY_CASES):
        if number == 0:
            cache_key(*case.arguments[:2])  # an error here shows the line of the learner's code
        runner = partial(relate, cache_key)
        state, result = result_of(runner, case.arguments)
        expected = relate(reference_key, *case.arguments)
        if (state, result) == ("value", expected):
            continue
        keys = [replace(m, answer=partial(relate, m.answer)) for m in KEY_MISTAKES]
        why = name_mistake(runner, KEY_CASES, number, keys) or case.hint
        if state == "error":
            raise_again(runner, cache_key, "cache_key", case, why)
        raise NotYet(f"{case.what}: `cache_key` gives {result}, expected {expected}. {why}".strip())


def _describe(run: Run) -> str:
    """Return what a cache did in words."""
    return (
        f"answers {list(run.answers)}, {len(run.sent)} calls of the model, "
        f"{list(run.stored)} stored"
    )


def _expect_steps(cached: Callable, case: Case) -> None:
    """Raise NotYet unless a cache treats a list of steps as the reference does."""
    number = STEPS.index(case)
    runner = partial(run_steps, cached)
    expected = run_steps(reference_cached, *case.arguments)
    state, result = result_of(runner, case.arguments)
    if state == "value" and result == expected:
        return
    runs = [replace(m, answer=partial(run_steps, m.answer)) for m in CACHE_MISTAKES]
    why = name_mistake(runner, STEPS, number, runs) or case.hint
    if state == "error":
        raise_again(runner, cached, "cached", case, why)
    if result.changed:
        why = "You change the caller's request: work on a copy, and add no fields."
    raise NotYet(f"{case.what}: {_describe(result)}; expected {_describe(expected)}. {why}".strip())


@exercise(
    "4.7",
    wrong=[
        *pair_answers(KEY_MISTAKES, second=reference_cached),
        *pair_answers(CACHE_MISTAKES, first=reference_key),
        WrongAnswer(
            "returns nothing", (reference_key, lambda create, request, digest, store: None),
            "a NoneType instead of a ChatCompletion",
        ),
    ],
)  # fmt: skip
def check_cache(
    cache_key: Callable[[Request, str], str | None], cached: Callable[..., ChatCompletion]
) -> str:
    """Judge `cache_key(request, digest)` and `cached(create, request, digest, store)`."""
    _expect_keys(cache_key)
    for case in STEPS:
        _expect_steps(cached, case)
    total = calls = 0
    for seed in range(DRAWN):
        steps = draw_steps(seed)
        run, expected = run_steps(cached, steps), run_steps(reference_cached, steps)
        if run != expected:
            raise NotYet(
                f"{len(steps)} invented requests: {_describe(run)}; expected {_describe(expected)}."
            )
        total += len(steps)
        calls += len(run.sent)
    return (
        f"{len(KEY_CASES)} pairs of requests have the right keys, and of {total} invented requests "
        f"your cache answers {total - calls} without the model."
    )
