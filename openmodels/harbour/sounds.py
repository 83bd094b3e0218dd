"""Sounds of Port Lark: bell and foghorn codes, radio calls, surf; 16 kHz, mono.

A seeded generator of clips with a question and one right answer, in splits as in `text`. Codes are
drawn with numpy. Radio calls are sentences of a closed vocabulary; `speech` speaks them while data
are made, and the clips in `data/clips` were spoken beforehand, so the course needs no speech
program. A held-out clip has a combination of words that no training clip has, and a voice that no
training clip has.
"""

from __future__ import annotations

import csv
import random
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from openmodels.harbour.text import Message, assistant, held_out, is_test
from openmodels.harbour.world import DAYS, DAYS_ZH, GOODS, ISLANDS, SHIPS, some

RATE = 16_000  # samples a second
LONGEST = 6.0  # seconds of a generated clip
CLIPS = Path(__file__).parents[1] / "data" / "clips"
NOTHING = "I hear nothing."
HEAR = "What do you hear?"
WANT = "What does the caller want?"
MEANING = "What does the signal mean?"

# The fog signals of Port Lark. Three of them are those of the sea rules (COLREG, rules 34 and 35).
MEANINGS = {
    ("long",): "a ship is under way",
    ("long", "long"): "a ship has stopped",
    ("long", "short", "short"): "a ship is being towed",
    ("short",): "a ship turns right",
    ("short", "short"): "a ship turns left",
    ("short", "short", "short"): "a ship goes back",
    ("short", "short", "short", "short", "short"): "danger, keep clear",
    ("short", "long", "short"): "a ship is at anchor",
    ("long", "short", "long"): "a ship needs a pilot",
    ("long", "long", "short"): "a ship wants to pass",
}
BLASTS = {"short": 0.28, "long": 0.85}  # seconds
PAUSE = 0.22  # seconds between two blasts
MOST_BLASTS, MOST_STROKES = 5, 8


def training_patterns(blasts: int = 8, seconds: float = 5.2) -> list[tuple[str, ...]]:
    """Return the foghorn patterns of up to `blasts` blasts that last at most `seconds`."""
    patterns = []
    for size in range(1, blasts + 1):
        for pattern in product(BLASTS, repeat=size):
            if sum(BLASTS[blast] for blast in pattern) + PAUSE * (size - 1) <= seconds:
                patterns.append(pattern)
    return patterns


PATTERNS = training_patterns()


@dataclass(frozen=True)
class Clip:
    """A sound, a question about it, and the right answer.

    samples: float32, shape (samples,), 16 kHz, from -1 to 1. messages: chat messages, the first
    holding the sound and the question, the last the right answer. key: what is heard and asked;
    splits share no key. description: the caption for readers who do not hear it. details: how the
    clip was made, such as its voice or its SNR in dB.
    """

    task: str
    samples: np.ndarray
    messages: tuple[Message, ...]
    key: str
    description: str
    details: dict = field(default_factory=dict)

    @property
    def question(self) -> str:
        """Return the text of the question."""
        return self.messages[0]["content"][1]["text"]

    @property
    def answer(self) -> Message:
        """Return the message with the right answer."""
        return self.messages[-1]

    @property
    def seconds(self) -> float:
        """Return the length in seconds."""
        return len(self.samples) / RATE


def ask(question: str) -> Message:
    """Return the chat message that holds a sound and a question about it."""
    return {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": question}]}


# --- Waveforms ------------------------------------------------------------------------------------


def envelope(samples: int, attack: float, release: float) -> np.ndarray:
    """Return a fade in and out, shape (samples,); attack and release in seconds."""
    shape = np.ones(samples, np.float32)
    up, down = (min(samples // 2, round(part * RATE)) for part in (attack, release))
    if up:
        shape[:up] = np.linspace(0, 1, up)
    if down:
        shape[-down:] *= np.linspace(1, 0, down)
    return shape


def horn(seconds: float, pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Return one blast of a foghorn: a low tone with odd partials and a slight drift in pitch."""
    time = np.arange(round(seconds * RATE)) / RATE
    drift = pitch * (1 + 0.01 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(drift) / RATE
    tone = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in (1, 2, 3, 5))
    return (tone * envelope(len(time), 0.03, 0.06)).astype(np.float32)


def bell(pitch: float, rng: np.random.Generator, seconds: float = 0.9) -> np.ndarray:
    """Return one stroke of a bell: partials that are no multiples, each with a decay of its own."""
    time = np.arange(round(seconds * RATE)) / RATE
    partials = ((0.5, 1.0), (1.0, 1.0), (1.19, 0.6), (1.56, 0.4), (2.0, 0.5), (2.66, 0.25))
    tone = sum(
        weight * np.exp(-time * ratio * 3.5) * np.sin(2 * np.pi * pitch * ratio * time + phase)
        for (ratio, weight), phase in zip(partials, rng.uniform(0, 6, len(partials)), strict=True)
    )
    return (tone * envelope(len(time), 0.002, 0.05)).astype(np.float32)


def surf(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the noise of the sea, shape (samples,), power 1: filtered noise that swells slowly."""
    size = samples + 2048
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    spectrum /= 1 + (frequency / rng.uniform(400, 2500)) ** rng.uniform(0.6, 1.4)
    noise = np.fft.irfft(spectrum, size)[:samples]
    swell = 2 * np.pi * rng.uniform(0.1, 0.4) * np.arange(samples) / RATE
    noise *= 1 + 0.5 * np.sin(swell + rng.uniform(0, 6))
    return (noise / max(1e-9, float(np.sqrt(np.mean(noise**2))))).astype(np.float32)


def add_surf(samples: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Return a sound in surf at a signal-to-noise ratio in dB, scaled to a peak of at most 1.

    The signal's power is that of its loud part: samples above 2 % of the peak.
    """
    loud = samples[np.abs(samples) > 0.02 * max(1e-9, float(np.abs(samples).max()))]
    power = float(np.mean(loud**2)) if len(loud) else 1e-6
    noisy = samples + surf(len(samples), rng) * np.sqrt(power / 10 ** (snr / 10))
    return (noisy / max(1.0, float(np.abs(noisy).max()))).astype(np.float32)


def place(pieces: list[np.ndarray], gaps: list[float], before: float, after: float) -> np.ndarray:
    """Return sounds one after the other; gaps: seconds from the end of each to the next."""
    parts = [np.zeros(round(before * RATE), np.float32)]
    for piece, gap in zip(pieces, [*gaps, 0.0], strict=True):
        parts += [piece, np.zeros(round(gap * RATE), np.float32)]
    return np.concatenate([*parts, np.zeros(round(after * RATE), np.float32)])


# --- Radio calls ----------------------------------------------------------------------------------

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBERS_ZH = "一二三四五六七八九十"
CHINESE_SHARE = 0.15  # of the calls
CALLS_ZH = ("大船", "绳子", "苹果", "渔网", "灯", "鱼")


def number_words(number: int) -> str:
    """Return a number from 0 to 99 as it is spoken. Raises ValueError for any other."""
    if not 0 <= number <= 99:
        raise ValueError(f"a number from 0 to 99, not {number}")
    if number < 20:
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f" {ONES[ones]}" if ones else "")


@dataclass(frozen=True)
class Call:
    """A radio call: its transcript, what is spoken word by word, what the caller wants, language.

    text: the transcript, numbers in digits. spoken: what a voice says, lower case, numbers as
    words, no punctuation. intent: one word. language: "en" or "zh".
    """

    text: str
    spoken: str
    intent: str
    language: str = "en"


def spoken_form(text: str) -> str:
    """Return a transcript as words: lower case, numbers spelled, no punctuation."""
    words = []
    for word in text.replace(",", " ").replace(".", " ").replace("?", " ").lower().split():
        words.append(number_words(int(word)) if word.isdecimal() else word)
    return " ".join(words)


def english_call(rng: random.Random) -> Call:
    """Return a call in English, drawn from seven kinds of sentence."""
    ship, day, island = rng.choice(SHIPS), rng.choice(DAYS), rng.choice(ISLANDS)
    berth, count, hour = rng.randint(1, 24), rng.randint(2, 99), rng.randint(1, 12)
    goods = some(count, rng.choice(list(GOODS)))
    intent, text = rng.choice(
        (
            ("arrive", f"{ship} arrives on {day}, berth {berth}."),
            ("leave", f"{ship} leaves on {day} at {hour}."),
            ("wait", f"{ship} waits near {island}."),
            ("help", f"{ship} needs help at {island}."),
            ("price", f"What is the price of {goods}?"),
            ("berth", f"{ship} asks for berth {berth}."),
            ("send", f"Send {goods} to {ship} on {day}."),
        )
    )
    return Call(text, spoken_form(text), intent)


def chinese_call(rng: random.Random) -> Call:
    """Return a call of Chinese words: a ship on a day, a number of goods, a price, or help.

    Half of the sentences about a ship, a price or help also have a number, so that each intent
    has many combinations, some of them held out.
    """
    day = rng.choice((*DAYS_ZH.values(), "明天", "今天"))
    number, good = rng.choice(NUMBERS_ZH), rng.choice(CALLS_ZH)
    count = number if rng.random() < 0.5 else ""
    intent, text = rng.choice(
        (
            ("arrive", f"大船{day}{count}来"),
            ("leave", f"大船{day}{count}走"),
            ("send", f"{day}{number}{good}"),
            ("price", f"{count}{good}价格"),
            ("help", f"{day}{count}请帮助"),
        )
    )
    return Call(text, text, intent, "zh")


def draw_call(rng: random.Random, test: bool, chinese: float = CHINESE_SHARE) -> Call:
    """Return a call of one split; chinese: the share of calls in Chinese."""
    while True:
        call = chinese_call(rng) if rng.random() < chinese else english_call(rng)
        if held_out(call.text) == test:
            return call


# --- Codes ----------------------------------------------------------------------------------------


class Shore:
    """A seeded source of clips without speech: the same seed and split give the same samples.

    snr: the signal-to-noise ratio in dB of every clip; None draws it from 5 dB to clean.
    """

    def __init__(self, seed: int, split: str = "train", snr: float | None = None):
        self.test, self.snr = is_test(split), snr
        self.rng = random.Random(f"sounds/{split}/{seed}")
        self.noise = np.random.default_rng(self.rng.getrandbits(64))

    def draw(self, make: Callable[[], tuple]) -> tuple:
        """Return what `make` draws, once it lies in this split."""
        while True:
            drawn = make()
            if held_out("sound", *drawn) == self.test:
                return drawn

    def finish(self, samples: np.ndarray) -> tuple[np.ndarray, float | None]:
        """Return a clip at a loudness of its own and in surf, and its SNR; None where clean."""
        samples = samples / max(1e-9, float(np.abs(samples).max()))
        samples = samples * self.rng.uniform(0.25, 0.9)
        snr = self.snr
        if snr is None:
            snr = self.rng.uniform(5, 40) if self.rng.random() < 0.7 else None
        if snr is None or np.isinf(snr):
            return samples.astype(np.float32), None
        return add_surf(samples, snr, self.noise), snr

    def clip(self, task: str, samples: np.ndarray, question: str, answer: str, key: str,
             description: str) -> Clip:  # fmt: skip
        """Return a clip of these samples, at a random loudness and in surf."""
        samples, snr = self.finish(samples)
        messages = (ask(question), assistant(answer))
        return Clip(task, samples, messages, f"{question}|{key}", description, {"snr": snr})

    def blasts(self, pattern: tuple[str, ...]) -> np.ndarray:
        """Return the samples of a foghorn's blasts at a tempo and pitch of their own."""
        rng = self.rng
        tempo, pitch = rng.uniform(0.8, 1.15), rng.uniform(85, 260)
        pieces = [
            horn(BLASTS[blast] * tempo * rng.uniform(0.9, 1.1), pitch, self.noise)
            for blast in pattern
        ]
        gaps = [PAUSE * tempo * rng.uniform(0.85, 1.2) for _ in pattern[1:]]
        return place(pieces, gaps, rng.uniform(0.05, 0.4), rng.uniform(0.1, 0.4))

    def pattern(self) -> tuple[str, ...]:
        """Return one to five blasts at random, each "short" or "long".

        In training, all `PATTERNS` outside the test are equally likely. They have up to eight
        blasts, because a model learns a short list of patterns by heart.
        """
        if not self.test:
            return self.rng.choice(PATTERNS)
        return tuple(self.rng.choices(tuple(BLASTS), k=self.rng.randint(1, MOST_BLASTS)))

    def foghorn(self, pattern: tuple[str, ...] = ()) -> Clip:
        """Return one to five blasts (eight in training), short and long; which they are.

        Test patterns are held out. pattern: blasts to sound instead of random ones.
        """
        pattern = pattern or self.draw(self.pattern)
        words = " ".join(pattern)
        answer = f"foghorn: {words}"
        return self.clip(
            "foghorn", self.blasts(pattern), HEAR, answer, answer, f"A foghorn sounds: {words}."
        )

    def signal(self) -> Clip:
        """Return a fog signal of the table; what it means. Test clips differ in sound alone."""
        pattern = self.rng.choice(list(MEANINGS))
        key = f"signal|{' '.join(pattern)}|{self.rng.getrandbits(32)}|{self.test}"
        description = f"A foghorn sounds: {' '.join(pattern)}."
        return self.clip(
            "signal", self.blasts(pattern), MEANING, MEANINGS[pattern], key, description
        )

    def bell(self) -> Clip:
        """Return one to eight strokes of a bell; how many. Tempo and pitch are held out."""
        rng = self.rng

        def stroke() -> tuple[int, int, int]:
            return rng.randint(1, MOST_STROKES), rng.randint(28, 60), rng.randint(40, 110)

        strokes, tempo, pitch = self.draw(stroke)
        gap = tempo / 100
        size = round((gap * strokes + 1.2) * RATE)
        samples = np.zeros(size, np.float32)
        for place_of in range(strokes):
            start = round((0.1 + gap * place_of * rng.uniform(0.98, 1.02)) * RATE)
            piece = bell(pitch * 10, self.noise)[: size - start]
            samples[start : start + len(piece)] += piece
        answer = f"bell: {strokes} stroke{'' if strokes == 1 else 's'}"
        key = f"bell|{strokes}|{tempo}|{pitch}"
        return self.clip("bell", samples, HEAR, answer, key, f"A bell sounds, {answer[6:]}.")

    def nothing(self) -> Clip:
        """Return silence or surf alone; the answer says that there is nothing to hear."""
        rng = self.rng
        size = round(rng.uniform(0.5, 4.0) * RATE)
        loudness = 0.0 if rng.random() < 0.3 else 10 ** rng.uniform(-4, -0.7)
        samples = (surf(size, self.noise) * loudness).clip(-1, 1).astype(np.float32)
        question = rng.choice((HEAR, WANT, MEANING))
        key = f"{question}|nothing|{rng.getrandbits(32)}|{self.test}"
        words = "Silence." if loudness == 0 else "Surf, and nothing else."
        messages = (ask(question), assistant(NOTHING))
        return Clip("nothing", samples, messages, key, words, {"loudness": loudness})


def long_foghorns(count: int, seed: int = 0, snr: float | None = None) -> Iterator[Clip]:
    """Yield `count` held-out foghorn patterns of six blasts, all equally likely; snr as in `codes`.

    They are longer than those of `codes("foghorn", ...)`, which are few.
    """
    source = Shore(seed, "test", snr)
    patterns = [p for p in PATTERNS if len(p) == MOST_BLASTS + 1 and held_out("sound", *p)]
    for _ in range(count):
        yield source.foghorn(source.rng.choice(patterns))


CODES = ("foghorn", "signal", "bell", "nothing")
SPOKEN = ("call", "intent")
TASKS = CODES + SPOKEN


def codes(
    task: str, count: int, seed: int = 0, split: str = "test", snr: float | None = None
) -> Iterator[Clip]:
    """Yield `count` clips of a task without speech; snr in dB, infinity for clean ones.

    Raises ValueError for an unknown task or split.
    """
    if task not in CODES:
        raise ValueError(f"no task {task!r}; there are {', '.join(CODES)}")
    source = Shore(seed, split, snr)
    for _ in range(count):
        yield getattr(source, task)()


# --- Clips on disk --------------------------------------------------------------------------------


def call_clip(call: Call, samples: np.ndarray, task: str = "call", **details: object) -> Clip:
    """Return a spoken call as a clip: its transcript, or with task "intent" what is wanted."""
    question, answer = (HEAR, call.text) if task == "call" else (WANT, call.intent)
    messages = (ask(question), assistant(answer))
    description = f"A voice on the radio: {call.text}"
    return Clip(task, samples, messages, f"{question}|{call.text}", description, details)


def read_wav(path: Path | str) -> np.ndarray:
    """Return the samples of a 16-bit mono WAV file at 16 kHz as float32, shape (samples,).

    Raises ValueError for another format.
    """
    with wave.open(str(path), "rb") as file:
        layout = file.getnchannels(), file.getsampwidth(), file.getframerate()
        if layout != (1, 2, RATE):
            raise ValueError(f"{path}: wanted 1 channel, 2 bytes, {RATE} Hz, found {layout}")
        raw = file.readframes(file.getnframes())
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768


def write_wav(path: Path | str, samples: np.ndarray) -> None:
    """Write samples from -1 to 1, shape (samples,), as a 16-bit mono WAV file at 16 kHz.

    Raises TypeError if `path` is no path; `serving.wav.encode` returns the bytes instead.
    """
    with wave.open(str(Path(path)), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def clips() -> list[Clip]:
    """Return the shipped radio calls: held-out sentences in held-out voices, with their text."""
    with (CLIPS / "clips.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        call_clip(
            Call(row["text"], row["spoken"], row["intent"], row["language"]),
            read_wav(CLIPS / row["file"]),
            voice=row["voice"], speed=int(row["words_per_minute"]), intent=row["intent"],
            language=row["language"],
        )
        for row in rows
    ]  # fmt: skip
