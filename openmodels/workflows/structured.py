"""Turn a letter into a validated record: ask again, repair, or constrain the decoding.

Every method returns an `Extraction`: the record or None, and what it cost. The letters are orders
of Port Lark in three kinds of wording, all held out from the miniatures' training.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import openai
from pydantic import BaseModel
from pydantic_core import from_json

from openmodels import tables
from openmodels.harbour import dialect, instances
from openmodels.harbour.desk_tasks import REPAIR_SYSTEM, problem
from openmodels.harbour.text import ORDER_SYSTEM, Instance, assistant, held_out, system, user
from openmodels.harbour.world import DAYS, GOODS, NAMES, some
from openmodels.minis.evaluate import Score, score
from openmodels.minis.stats import paired_interval, verdict

Message = dict[str, str]
Schema = dict[str, Any]

TYPED = (  # typed by hand; no training sentence has these forms
    "hi {name} here, need {goods} {day} pls, can do {price} coins",
    "{goods}?? for {day}. {price} coins max. thx {name}",
    "Morning! Last week I took 3 ropes, this time it's {goods}. Pick-up {day}, {price} coins. "
    "{name}",
    "we lie at berth 7. {name} wants {goods}, will pay {price} coins, {day} is best",
    "{name}: same as always, {goods}, {price} coins as agreed. See you {day}!",
    "Could you set {goods} aside? It's {name}. {price} coins in cash on {day}.",
    "not {other_day}, {day} please: {goods}, {price} coins, {name}",
    "Dear office, my neighbour {name} asked me to order {goods}. {price} coins are ready. {day} "
    "would suit.",
    "{price} coins for {goods}, deal? {name}. I can come {day}",
    "It is {name} again. Forget the bells, I only need {goods} now. {day}. {price} coins.",
    "ORDER // {name} // {goods} // {day} // {price} coins",
    "{goods} by {day} if the weather holds, otherwise never mind. {name} pays {price} coins.",
)
INCOMPLETE = {  # the field that a letter leaves out, and such letters
    "price": (
        "{name} wants {goods} on {day}.",
        "{goods} for {name}, {day}.",
        "Please send {goods} to {name} by {day}.",
        "{name} here. Deliver {goods} on {day}.",
    ),
    "day": (
        "{name} wants {goods} for {price} coins.",
        "{goods} for {name}, {price} coins.",
        "Please send {goods} to {name}; the price is {price} coins.",
        "{name} here. Deliver {goods}. I will pay {price} coins.",
    ),
}
KINDS = ("trained", "typed", "dialect")


# --- Letters with their records -------------------------------------------------------------------


def letters(kind: str, count: int, seed: int = 0) -> list[Instance]:
    """Return held-out orders in words, each with its record as JSON.

    kind: "trained" (sentences of the training, with names and goods that it never combined),
    "typed" (sentences typed by hand) or "dialect" (the words of Long Reef, see `harbour.dialect`).
    Raises ValueError for another kind.
    """
    if kind == "trained":
        return list(instances("order", count, seed))
    if kind == "dialect":
        return list(dialect.orders(count, seed))
    if kind != "typed":
        raise ValueError(f"no letters of kind {kind!r}: choose {', '.join(KINDS)}")
    rng = random.Random(f"typed/{seed}")
    return [_letter(rng, TYPED[number % len(TYPED)]) for number in range(count)]


def incomplete_letters(field: str, count: int, seed: int = 0) -> list[Instance]:
    """Return orders that do not state a field, "price" or "day": their records have null there."""
    rng = random.Random(f"incomplete/{field}/{seed}")
    return [_letter(rng, rng.choice(INCOMPLETE[field]), field) for _ in range(count)]


def _letter(rng: random.Random, template: str, missing: str = "") -> Instance:
    while True:
        name, item = rng.choice(NAMES), rng.choice(list(GOODS))
        if held_out(name, item):
            break
    quantity, price = rng.randint(1, 40), rng.randint(2, 99)
    day, other_day = rng.sample(DAYS, 2)
    text = template.format(
        name=name, goods=some(quantity, item), price=price, day=day, other_day=other_day
    )
    fields = {"name": name, "item": item, "quantity": quantity, "price": price, "day": day}
    if missing:
        fields[missing] = None
    messages = (system(ORDER_SYSTEM), user(text), assistant(json.dumps(fields)))
    return Instance("order", messages, key=text)


# --- Schemas --------------------------------------------------------------------------------------


def response_format(schema: Schema, name: str = "record") -> dict[str, Any]:
    """Return OpenAI's `response_format` that constrains the decoding to a schema."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def object_schema(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object with exactly these properties, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def order_properties(schema: Schema, names: Sequence[str]) -> Schema:
    """Return an object's schema with its properties in this order; raises KeyError for others."""
    properties = {name: schema["properties"][name] for name in names}
    return schema | {"properties": properties, "required": list(names)}


def sort_properties(schema: Schema) -> Schema:
    """Return a schema with the properties of every object sorted by name.

    Ollama 0.33 does this to each schema before the engine sees it.
    """
    result = {key: _sorted_part(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        result["properties"] = dict(sorted(result["properties"].items()))
    return result


def _sorted_part(part: Any) -> Any:
    if isinstance(part, dict):
        return sort_properties(part)
    if isinstance(part, list):
        return [_sorted_part(item) for item in part]
    return part


def unstated_fields(record: Mapping[str, Any], letter: str) -> list[str]:
    """Return the fields whose value does not occur in the letter as a word.

    A good may occur in its plural, and "a bell" states the quantity 1. A value that is null states
    nothing, so it is never in the result.
    """
    words = re.findall(r"\w+", letter.lower())
    return [key for key, value in record.items() if not _occurs(value, words)]


def _occurs(value: Any, words: Sequence[str]) -> bool:
    if value is None:
        return True
    forms = {str(value).lower()}
    if value in GOODS:
        forms.add(GOODS[value][0])  # the plural
    if value == 1:
        forms |= {"a", "an"}
    return not forms.isdisjoint(words)


def partial_objects(
    stream: Iterable[openai.types.chat.ChatCompletionChunk],
) -> Iterator[dict[str, Any]]:
    """Yield the fields of a streamed JSON object each time that they change.

    A number may still grow, so only a field that another one follows is complete. Raises ValueError
    for text that is not the beginning of a JSON object.
    """
    text, fields = "", {}
    for chunk in stream:
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        partial = from_json(text, allow_partial=True) if text.strip() else {}
        if not isinstance(partial, dict):
            raise ValueError(f"no JSON object: {text[:40]!r}")
        if partial != fields:
            fields = partial
            yield fields


# --- Extraction -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extraction:
    """A record, or None with the reason, and the cost of all calls that it took."""

    record: BaseModel | None
    text: str  # the last reply
    error: str  # of the last reply's validation, "" if it is valid
    finish_reason: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float

    def matches(self, answer: Mapping[str, Any]) -> bool:
        """Return whether there is a record and all its values are the answer's."""
        return self.record is not None and self.record.model_dump() == dict(answer)

    def after(self, previous: Extraction) -> Extraction:
        """Return this extraction with the cost of the previous calls added."""
        return replace(
            self,
            calls=self.calls + previous.calls,
            prompt_tokens=self.prompt_tokens + previous.prompt_tokens,
            completion_tokens=self.completion_tokens + previous.completion_tokens,
            seconds=self.seconds + previous.seconds,
        )


@dataclass(frozen=True)
class Extractor:
    """Extracts records with one model and one instruction.

    record: a pydantic model. instruction: the system message. max_tokens: limit of each reply.
    limit: how many calls may follow a first invalid reply.
    """

    client: openai.OpenAI
    model: str
    record: type[BaseModel]
    instruction: str
    max_tokens: int = 100
    limit: int = 1

    def ask(self, letter: str, **options: Any) -> Extraction:
        """Return what one call brings, with the decoding unconstrained; options go to the API."""
        return self._call(self._messages(letter), **options)

    def constrain(self, letter: str, schema: Schema | None = None, **options: Any) -> Extraction:
        """Return what one call brings whose decoding follows a schema, by default the record's."""
        schema = schema or self.record.model_json_schema()
        return self.ask(letter, response_format=response_format(schema), **options)

    def retry(self, letter: str, first: Extraction) -> Extraction:
        """Return a valid extraction, or the last: each call sees the last reply and its error."""
        result, messages = first, self._messages(letter)
        for _ in range(self.limit):
            if result.record is not None:
                break
            request = f"Error: {result.error}\nReturn the corrected JSON."
            messages = [*messages, assistant(result.text), user(request)]
            result = self._call(messages).after(result)
        return result

    def resample(self, letter: str, first: Extraction, temperature: float = 0.8) -> Extraction:
        """Return a valid extraction, or the last: each call repeats the first at a temperature."""
        result = first
        for seed in range(self.limit):
            if result.record is not None:
                break
            reply = self.ask(letter, temperature=temperature, seed=seed)
            result = reply.after(result)
        return result

    def repair(self, first: Extraction, letter: str = "") -> Extraction:
        """Return a valid extraction, or the last: each call sees only the reply and its error.

        letter: shown too if it is not empty, so that a missing value can be found.
        """
        result, head = first, f"Order: {letter}\n" if letter else ""
        for _ in range(self.limit):
            if result.record is not None:
                break
            request = f"{head}JSON: {result.text}\nError: {result.error}"
            result = self._call([system(REPAIR_SYSTEM), user(request)]).after(result)
        return result

    def _messages(self, letter: str) -> list[Message]:
        return [system(self.instruction), user(letter)]

    def _call(self, messages: Sequence[Message], **options: Any) -> Extraction:
        options = {"temperature": 0, "max_tokens": self.max_tokens} | options
        start = time.perf_counter()
        reply = self.client.chat.completions.create(
            model=self.model, messages=list(messages), **options
        )
        seconds = time.perf_counter() - start
        choice, usage = reply.choices[0], reply.usage
        text = choice.message.content or ""
        error = problem(self.record, text)
        return Extraction(
            record=None if error else self.record.model_validate(json.loads(text)),
            text=text,
            error=error or "",
            finish_reason=choice.finish_reason or "",
            calls=1,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            seconds=seconds,
        )


# --- Scores ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Scores and cost of one method on a list of letters."""

    valid: Score
    right: Score
    wrong_but_valid: int
    calls: float  # per letter, as are tokens and milliseconds
    prompt_tokens: float
    completion_tokens: float
    milliseconds: float

    @property
    def tokens_per_right(self) -> float:
        """Return the tokens spent, prompts included, per right record; infinite without any."""
        spent = (self.prompt_tokens + self.completion_tokens) * self.right.n
        return spent / self.right.correct if self.right.correct else float("inf")

    def intervals(self, name: str) -> dict[str, tuple[float, float, float]]:
        """Return the rows of `plots.intervals` for both shares."""
        shares = {"valid": self.valid, "right": self.right}
        return {f"{name}: {k}": (r.correct / r.n, r.low, r.high) for k, r in shares.items()}

    def cells(self) -> list[str]:
        """Return the cells of a table's row, in the order of `HEADER` after its first column."""
        costs = (self.prompt_tokens, self.completion_tokens, self.milliseconds)
        return [
            percent(self.valid), percent(self.right), str(self.wrong_but_valid),
            f"{self.calls:.2f}", *(f"{cost:.0f}" for cost in costs),
        ]  # fmt: skip


HEADER = (
    "method", "valid %", "right %", "valid but wrong", "calls", "tokens in", "tokens out", "ms",
)  # fmt: skip


def percent(result: Score) -> str:
    """Return a share with its 95 % interval in per cent: "73 (67–79)"."""
    share, low, high = 100 * result.correct / result.n, 100 * result.low, 100 * result.high
    return f"{share:.0f} ({low:.0f}–{high:.0f})"


def summarise(results: Sequence[Extraction], answers: Sequence[Mapping[str, Any]]) -> Summary:
    """Return scores and mean cost; raises ValueError if the numbers of both differ."""
    right = sum(matches(results, answers))
    valid = sum(result.record is not None for result in results)
    n = len(results)
    return Summary(
        valid=score(valid, n),
        right=score(right, n),
        wrong_but_valid=valid - right,
        calls=sum(result.calls for result in results) / n,
        prompt_tokens=sum(result.prompt_tokens for result in results) / n,
        completion_tokens=sum(result.completion_tokens for result in results) / n,
        milliseconds=1000 * sum(result.seconds for result in results) / n,
    )


def table(
    rows: Mapping[str, tuple[Sequence[Extraction], Sequence[Mapping[str, Any]]]],
) -> str:
    """Return a table as text: a row per label, from its extractions and their right answers."""
    cells = [(name, *summarise(*pair).cells()) for name, pair in rows.items()]
    return tables.as_text([HEADER, *cells])


def matches(results: Sequence[Extraction], answers: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return per letter whether its record is right; raises ValueError for unequal lengths."""
    return [result.matches(answer) for result, answer in zip(results, answers, strict=True)]


def points(new: Sequence[bool], old: Sequence[bool]) -> str:
    """Return the paired difference of two shares: "+7.5 points (+3.1 to +12.2), better".

    The interval is that of `stats.paired_interval`, and the last words are its `verdict`.
    """
    interval = paired_interval(new, old)
    difference, low, high = (f"{100 * value:+.1f}" for value in interval)
    return f"{difference} points ({low} to {high}), {verdict(interval)}"


def cheapest(
    methods: Mapping[str, Sequence[Extraction]], answers: Sequence[Mapping[str, Any]]
) -> str:
    """Return the method with the fewest tokens per letter among those not clearly worse.

    A method is clearly worse if the paired 95 % interval of its difference to the method with the
    most right records lies below 0. Returns "none" if no method has a right record.
    """
    outcomes = {name: matches(results, answers) for name, results in methods.items()}
    best = max(outcomes.values(), key=sum)
    if not any(best):
        return "none"
    candidates = [name for name, right in outcomes.items() if paired_interval(right, best)[2] >= 0]
    return min(candidates, key=lambda name: _tokens(methods[name]))


DECISION_HEADER = (
    "letters",
    "most right",
    "cheapest, not clearly worse",
    "its right records",
    "tokens per right record",
)


def decide(
    methods: Mapping[str, Sequence[Extraction]], answers: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return a row's cells after the first: the best method, the cheapest one, and its cost.

    See `cheapest`. If no method has a right record, the row says to send the letters to a person.
    """
    choice = cheapest(methods, answers)
    if choice == "none":
        return ["none", "none: send to a person", "0", "–"]
    best = max(methods, key=lambda name: sum(matches(methods[name], answers)))
    summary = summarise(methods[choice], answers)
    right = f"{summary.right.correct} of {summary.right.n}"
    return [best, choice, right, f"{summary.tokens_per_right:.0f}"]


def _tokens(results: Sequence[Extraction]) -> int:
    return sum(result.prompt_tokens + result.completion_tokens for result in results)
