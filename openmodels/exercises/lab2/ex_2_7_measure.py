"""Exercise 2.7: measure the latency and the throughput of a streamed answer.

A scripted client and a clock that it moves give exact numbers; then the course's server answers.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import ollama

from openmodels.check import NotYet, WrongAnswer, exercise, expect_equal, expect_type
from openmodels.exercises.known_mistakes import expect_number
from openmodels.exercises.lab2.fixtures import DESK, serve, shorten
from openmodels.gguf import modelfile

# --- A scripted client ----------------------------------------------------------------------------


class Clock:
    """A clock that stands still until somebody changes `now`, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Script(NamedTuple):
    """A streamed answer: (seconds it takes, text) for each piece, then the last line's numbers.

    Durations are in nanoseconds, as Ollama gives them.
    """

    pieces: tuple[tuple[float, str], ...]
    eval_count: int
    eval_duration: int
    prompt_eval_count: int = 30
    prompt_eval_duration: int = 150_000_000
    load_duration: int = 900_000_000
    last: float = 0.5  # seconds from the last text to the last line


class ScriptedClient:
    """A client like ollama's that answers by a script and moves the clock accordingly."""

    def __init__(self, script: Script, clock: Clock):
        self.script, self.clock = script, clock
        self.calls: list[dict] = []

    def chat(self, model: str = "", messages: Any = None, stream: bool = False, **more: Any) -> Any:
        """Return the answer, as one response or as an iterator of its lines."""
        self.calls.append({"model": model, "messages": messages, "stream": stream, **more})
        lines = self._lines()
        if stream:
            return lines
        responses = list(lines)
        text = "".join(response.message.content for response in responses)
        message = ollama.Message(role="assistant", content=text)
        return responses[-1].model_copy(update={"message": message})

    def _lines(self) -> Iterator[ollama.ChatResponse]:
        script, clock, start = self.script, self.clock, self.clock.now
        for seconds, text in script.pieces:
            clock.now += seconds
            message = ollama.Message(role="assistant", content=text)
            yield ollama.ChatResponse(message=message, done=False)
        clock.now += script.last
        yield ollama.ChatResponse(
            message=ollama.Message(role="assistant", content=""), done=True, done_reason="stop",
            eval_count=script.eval_count, eval_duration=script.eval_duration,
            prompt_eval_count=script.prompt_eval_count,
            prompt_eval_duration=script.prompt_eval_duration, load_duration=script.load_duration,
            total_duration=round((clock.now - start) * 1e9),
        )  # fmt: skip


# Seven and nine tokens in fewer pieces; the first piece of the second answer is empty.
SCRIPTS = {
    "a scripted answer": Script(
        ((1.25, "The"), (0.25, " bakery is"), (0.5, " run by"), (0.25, " Mara.")), 7, 875_000_000
    ),
    "a scripted answer whose first piece is empty": Script(
        ((0.75, ""), (0.5, "The"), (0.5, " Gull lies"), (0.25, " at berth"), (0.25, " 8.")),
        9, 1_500_000_000, prompt_eval_count=50, last=0.25,
    ),
}  # fmt: skip
MESSAGES = [{"role": "user", "content": "Who runs the bakery?"}]
QUANTITIES = {  # what each number of an answer is, and its unit
    "first": "seconds to the first text",
    "seen": "tokens per second seen in the stream",
    "told": "tokens per second by the engine's own count",
    "read": "prompt tokens read per second",
}


# --- The reference solution -----------------------------------------------------------------------


@dataclass
class Stream:
    """A stream with the times of its lines, in seconds on the clock."""

    start: float  # before the request is sent
    lines: list[tuple[float, str]]  # time and text of each line; the last one has no text
    last: Any  # the last line, with the engine's numbers

    @property
    def text_times(self) -> list[float]:
        """Return the times of the lines that have text."""
        return [seconds for seconds, text in self.lines if text]


def record(client: Any, model: str, messages: list, clock: Callable[[], float]) -> Stream:
    """Send a request and record the stream."""
    start, lines = clock(), []
    for line in client.chat(model=model, messages=messages, stream=True):
        lines.append((clock(), line.message.content))
    return Stream(start, lines, line)


def first_text(stream: Stream) -> float:
    """Return the seconds from the request to the first text."""
    return stream.text_times[0] - stream.start


def seen_rate(stream: Stream) -> float:
    """Return the tokens per second between the first and the last text."""
    return (stream.last.eval_count - 1) / (stream.text_times[-1] - stream.text_times[0])


def engine_rate(stream: Stream) -> float:
    """Return the generated tokens per second, by the engine's numbers."""
    return stream.last.eval_count / stream.last.eval_duration * 1e9


def prompt_rate(stream: Stream) -> float:
    """Return the prompt tokens per second, by the engine's numbers."""
    return stream.last.prompt_eval_count / stream.last.prompt_eval_duration * 1e9


FORMULAS = {"first": first_text, "seen": seen_rate, "told": engine_rate, "read": prompt_rate}


def reference_measure(
    client: Any,
    model: str,
    messages: list,
    clock: Callable[[], float] = time.perf_counter,
    **formulas: Callable[[Stream], float],
) -> dict:
    """Return the text and the numbers of QUANTITIES; other formulas for them are mistakes."""
    stream = record(client, model, messages, clock)
    numbers = {key: formula(stream) for key, formula in (FORMULAS | formulas).items()}
    return {"text": "".join(text for _, text in stream.lines), **numbers}


# --- Known mistakes -------------------------------------------------------------------------------


def first_text_after_first_line(stream: Stream) -> float:
    return stream.text_times[0] - stream.lines[0][0]


def first_line(stream: Stream) -> float:
    return stream.lines[0][0] - stream.start


def last_text(stream: Stream) -> float:
    return stream.text_times[-1] - stream.start


def _per_second_of_text(tokens: int, stream: Stream) -> float:
    return tokens / (stream.text_times[-1] - stream.text_times[0])


def rate_of_lines(stream: Stream) -> float:
    return _per_second_of_text(len(stream.lines) - 1, stream)


def rate_of_texts(stream: Stream) -> float:
    return _per_second_of_text(len(stream.text_times) - 1, stream)


def rate_of_all_texts(stream: Stream) -> float:
    return _per_second_of_text(len(stream.text_times), stream)


def rate_without_end(stream: Stream) -> float:
    return _per_second_of_text(stream.last.eval_count - 2, stream)


def rate_with_first(stream: Stream) -> float:
    return _per_second_of_text(stream.last.eval_count, stream)


def rate_from_start(stream: Stream) -> float:
    return (stream.last.eval_count - 1) / (stream.text_times[-1] - stream.start)


def rate_until_last_line(stream: Stream) -> float:
    return (stream.last.eval_count - 1) / (stream.lines[-1][0] - stream.text_times[0])


def engine_rate_in_milliseconds(stream: Stream) -> float:
    return engine_rate(stream) / 1e6


def engine_rate_in_microseconds(stream: Stream) -> float:
    return engine_rate(stream) / 1e3


def engine_rate_of_total(stream: Stream) -> float:
    return stream.last.eval_count / stream.last.total_duration * 1e9


def engine_rate_with_prompt(stream: Stream) -> float:
    tokens = stream.last.eval_count + stream.last.prompt_eval_count
    return tokens / stream.last.eval_duration * 1e9


def measure_without_stream(
    client: Any, model: str, messages: list, clock: Callable[[], float] = time.perf_counter
) -> dict:
    start = clock()
    response = client.chat(model=model, messages=messages)
    seconds = clock() - start
    stream = Stream(start, [(start + seconds, response.message.content)], response)
    return {
        "text": response.message.content,
        "first": seconds,
        "seen": response.eval_count / seconds,
        "told": engine_rate(stream),
        "read": prompt_rate(stream),
    }


def measure_by_another_clock(
    client: Any, model: str, messages: list, clock: Callable[[], float] = time.perf_counter
) -> dict:
    return reference_measure(client, model, messages)


def _with(**formulas: Callable[[Stream], float]) -> Callable[..., dict]:
    return partial(reference_measure, **formulas)


PIECES = "A piece may hold several tokens: count by the last line's `eval_count`."
MISTAKES = {  # by the number that they make wrong
    "first": [
        WrongAnswer(
            "begun at the first piece", _with(first=first_text_after_first_line),
            "The clock starts before the question is sent: the waiting is what is measured.",
        ),
        WrongAnswer(
            "an empty piece taken", _with(first=first_line),
            "A piece without text shows the reader nothing: wait for the first with text.",
        ),
        WrongAnswer(
            "until the end", _with(first=last_text),
            "That is when the answer was complete. The first text came earlier.",
        ),
    ],
    "seen": [
        WrongAnswer("pieces counted", _with(seen=rate_of_lines), PIECES),
        WrongAnswer("pieces with text counted", _with(seen=rate_of_texts), PIECES),
        WrongAnswer("all pieces with text", _with(seen=rate_of_all_texts), PIECES),
        WrongAnswer(
            "the end mark left out", _with(seen=rate_without_end),
            "The end mark counts, as the engine counts it: only the first token is left out.",
        ),
        WrongAnswer(
            "the first one counted", _with(seen=rate_with_first),
            "The time runs from the first text, so the first token is not among those that were "
            "written in it: one less.",
        ),
        WrongAnswer(
            "from the question on", _with(seen=rate_from_start),
            "The waiting for the first text is a number of its own; here time runs from the first "
            "text to the last.",
        ),
        WrongAnswer(
            "until the last line", _with(seen=rate_until_last_line),
            "The line with the numbers comes after the last text: time ends with the text.",
        ),
    ],
    "told": [
        WrongAnswer(
            "milliseconds", _with(told=engine_rate_in_milliseconds),
            "The durations are in nanoseconds: a second has 1e9.",
        ),
        WrongAnswer(
            "microseconds", _with(told=engine_rate_in_microseconds),
            "The durations are in nanoseconds: a second has 1e9 of them, not 1e6.",
        ),
        WrongAnswer(
            "the whole time", _with(told=engine_rate_of_total),
            "`total_duration` has loading and reading in it; writing took `eval_duration`.",
        ),
        WrongAnswer(
            "prompt and answer", _with(told=engine_rate_with_prompt),
            "`prompt_eval_count` was read, not written.",
        ),
    ],
}  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


def run_script(measure: Callable, script: Script) -> tuple[Any, ScriptedClient]:
    """Return the measurement of a scripted answer, and the client that gave the answer."""
    clock = Clock()
    client = ScriptedClient(script, clock)
    return measure(client, "mini-qwen", list(MESSAGES), clock), client


def _expect_measurement(measure: Callable, what: str, script: Script) -> None:
    """Raise NotYet unless the measurement of a script gives the script's numbers."""
    result, client = run_script(measure, script)
    if not client.calls or not client.calls[-1]["stream"]:
        raise NotYet("the client was not asked for a stream: `client.chat(..., stream=True)`.")
    expect_type(result, dict, "what `measure` returned", "It has text, first, seen, told and read.")
    if missing := [key for key in ("text", *QUANTITIES) if key not in result]:
        raise NotYet(f"the dict has no {' and no '.join(map(repr, missing))}.")
    expected, _ = run_script(reference_measure, script)
    expect_equal(result["text"], expected["text"], "the text", "Join the pieces in their order.")
    for key, name in QUANTITIES.items():
        number = expect_number(result[key], f"{key!r}")
        if not math.isclose(number, expected[key], rel_tol=1e-3):
            raise NotYet(
                f"{what}: {key!r}, {name}, is {number:.4g}, expected {expected[key]:.4g}. "
                f"{_explain(measure, key)}".strip()
            )


def _explain(measure: Callable, key: str) -> str:
    """Return the message of the mistake that gives the same number on every script."""

    def numbers(function: Callable) -> list[float]:
        return [run_script(function, script)[0][key] for script in SCRIPTS.values()]

    def close(first: list[float], second: list[float]) -> bool:
        pairs = zip(first, second, strict=True)
        return all(math.isclose(a, b, rel_tol=1e-3) for a, b in pairs)

    result = numbers(measure)
    for mistake in MISTAKES.get(key, ()):
        if close(result, numbers(mistake.answer)):
            return mistake.message
    if key in ("first", "seen") and result != numbers(measure):
        return "The time is not from `clock()`: is it another clock you look at?"
    return ""


class RecordingClient:
    """A client that stores the last line of every stream it passes on."""

    def __init__(self, client: ollama.Client):
        self.client, self.last = client, None

    def chat(self, *args: Any, **options: Any) -> Any:
        """Return what the wrapped client returns."""
        lines = self.client.chat(*args, **options)
        return self._record(lines) if options.get("stream") else lines

    def _record(self, lines: Iterator) -> Iterator:
        for self.last in lines:
            yield self.last


@exercise(
    "2.7",
    wrong=[
        *(mistake for mistakes in MISTAKES.values() for mistake in mistakes),
        WrongAnswer("no stream", measure_without_stream, "not asked for a stream"),
        WrongAnswer("another clock", measure_by_another_clock, "not from `clock()`"),
        WrongAnswer("no text", lambda *call: reference_measure(*call) | {"text": ""}, "the text"),
        WrongAnswer(
            "numbers missing",
            lambda *call: {"text": reference_measure(*call)["text"]},
            "has no 'first'",
        ),
        WrongAnswer("text only", lambda *call: reference_measure(*call)["text"], "expected dict"),
        WrongAnswer(
            "prompt tokens written",
            lambda *call: reference_measure(*call) | {"read": 7.0},
            "prompt tokens read per second",
        ),
    ],
)
def check_measure(measure: Callable[..., dict]) -> str:
    """Judge `measure(client, model, messages, clock=time.perf_counter)`."""
    for what, script in SCRIPTS.items():
        _expect_measurement(measure, what, script)
    with serve() as client:
        recording = RecordingClient(client)
        modelfile.Modelfile("mini-qwen", {"temperature": 0}).create(client, DESK)
        result = measure(recording, DESK, list(MESSAGES))
        whole = client.chat(DESK, MESSAGES)
    if result["text"] != whole.message.content:
        raise NotYet(
            f"streamed, the server's answer is {shorten(result['text'])}, in one piece it is "
            f"{shorten(whole.message.content)}."
        )
    last = recording.last
    rate = last.eval_count / last.eval_duration * 1e9
    if not math.isclose(result["told"], rate, rel_tol=1e-3):
        raise NotYet(
            f"the server told of {rate:.4g} tokens a second, you say {result['told']:.4g}."
        )
    return (
        f"two scripted answers to the last digit, and {last.eval_count} tokens from the server, in "
        "the same words streamed and whole."
    )
