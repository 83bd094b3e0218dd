"""Speak radio calls with the program espeak-ng. Needed only while data are made.

Training voices and test voices are different: a voice is an accent and a variant of espeak-ng, at a
speed and a pitch.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import wave
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from openmodels.harbour.sounds import LONGEST, RATE, Call

PROGRAM = os.environ.get("ESPEAK_NG", "espeak-ng")
# "en-gb" is missing: espeak-ng 1.51 ignores its variants, so 77 voices would be one
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029", "en-us-nyc")
CHINESE = "cmn"
# espeak-ng's variants, without whispers, robots and jokes
VARIANTS = (
    "adam Alex Alicia Andrea Andy Annie antonio aunty belinda benjamin boris caleb david Denis "
    "Diogo ed edward edward2 Gene Gene2 gustave Henrique Hugo iven iven2 iven3 iven4 Jacky john "
    "kaukovalta Lee linda marcelo Marco Mario max Michael michel miguel Mike Nguyen pablo paul "
    "pedro quincy RicishayMax RicishayMax2 RicishayMax3 rob robert steph steph2 steph3 zac anika "
    "AnxiousAndy f1 f2 f3 f4 f5 grandpa grandma m1 m2 m3 m4 m5 m6 m7 m8 norbert sandro shelby "
    "travis victor"
).split()
HELD_OUT_VARIANTS = (
    "Alicia belinda edward Gene Hugo linda Michael quincy steph f3 f5 m2 m7 victor".split()
)
TRAIN_VARIANTS = tuple(name for name in VARIANTS if name not in HELD_OUT_VARIANTS)
SPEEDS = (120, 220)  # words a minute
PITCHES = (25, 75)  # espeak-ng's scale, from 0 to 99


class NoSpeech(RuntimeError):
    """espeak-ng is missing or said nothing; the message says what to do."""


@dataclass(frozen=True)
class Voice:
    """A voice: espeak-ng's accent and variant, words a minute, and pitch from 0 to 99."""

    accent: str
    variant: str
    speed: int
    pitch: int

    @property
    def name(self) -> str:
        """Return the voice's name for espeak-ng's option -v."""
        return f"{self.accent}+{self.variant}"


def draw_voice(rng: random.Random, test: bool, language: str = "en") -> Voice:
    """Return a voice of one split; training and test share no variant."""
    accent = CHINESE if language == "zh" else rng.choice(ACCENTS)
    variant = rng.choice(HELD_OUT_VARIANTS if test else TRAIN_VARIANTS)
    return Voice(accent, variant, rng.randint(*SPEEDS), rng.randint(*PITCHES))


def speak(call: Call, voice: Voice) -> np.ndarray:
    """Return a spoken call, float32, shape (samples,), 16 kHz, peak 0.9, silence trimmed.

    Raises NoSpeech where espeak-ng is missing or returns no sound.
    """
    if shutil.which(PROGRAM) is None:
        raise NoSpeech("espeak-ng is not installed: `apt install espeak-ng`, or set ESPEAK_NG")
    command = [PROGRAM, "-v", voice.name, "-s", str(voice.speed), "-p", str(voice.pitch)]
    done = subprocess.run(
        [*command, "--stdout", call.spoken], capture_output=True, check=False, timeout=30
    )
    try:
        with wave.open(io.BytesIO(done.stdout)) as file:
            rate, raw = file.getframerate(), file.readframes(2**24)
    except (wave.Error, EOFError) as error:
        raise NoSpeech(f"espeak-ng returned no sound: {done.stderr[:200]!r}") from error
    samples = resample(np.frombuffer(raw, "<i2").astype(np.float32) / 32768, rate)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    if not len(loud):
        raise NoSpeech(f"espeak-ng spoke {call.spoken!r} in silence with {voice.name}")
    samples = samples[max(0, loud[0] - 400) : loud[-1] + 800]
    return (samples * (0.9 / float(np.abs(samples).max()))).astype(np.float32)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return samples, shape (samples,), at 16 kHz: band-limited by FFT, no other package needed."""
    if rate == RATE or not len(samples):
        return samples
    size = round(len(samples) * RATE / rate)
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(size // 2 + 1, spectrum.dtype)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    return (np.fft.irfft(kept, size) * (size / len(samples))).astype(np.float32)


def speak_all(
    pairs: Iterable[tuple[Call, Voice]], workers: int | None = None
) -> list[tuple[Call, Voice, np.ndarray]]:
    """Return spoken calls in order; a call that is silent or longer than LONGEST is left out."""

    def work(pair: tuple[Call, Voice]) -> tuple[Call, Voice, np.ndarray] | None:
        try:
            return *pair, speak(*pair)
        except NoSpeech:
            return None

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        spoken = [item for item in pool.map(work, pairs) if item is not None]
    return [item for item in spoken if len(item[2]) <= LONGEST * RATE]
