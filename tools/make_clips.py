"""Speak the radio calls in `openmodels/data/clips`: `python tools/make_clips.py`.

Needs the program espeak-ng. Sentences and voices are held out: no training clip has them. The same
seed gives the same sentences and voices if the same version of espeak-ng speaks.
"""

import argparse
import csv
import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from openmodels.harbour import sounds, speech

SEED = 18
ENGLISH = ("arrive", "leave", "wait", "help", "price", "berth", "send")
CHINESE = ("arrive", "leave", "help", "price", "send")
QUOTAS = {"en": dict.fromkeys(ENGLISH, 6), "zh": dict(zip(CHINESE, (2, 1, 2, 2, 2), strict=True))}
LONGEST = 2.1  # seconds: all files together stay below 3 MB
COLUMNS = (
    "file", "text", "spoken", "intent", "language", "voice", "words_per_minute", "seconds",
)  # fmt: skip

Spoken = tuple[sounds.Call, speech.Voice, np.ndarray]


def draw(language: str, seed: int = SEED) -> list[Spoken]:
    """Return spoken calls in one language, as many of each intent as `QUOTAS` says.

    No sentence occurs twice. Raises speech.NoSpeech if espeak-ng is missing.
    """
    rng = random.Random(f"clips/{language}/{seed}")
    missing = dict(QUOTAS[language])
    texts: set[str] = set()
    spoken: list[Spoken] = []
    while any(missing.values()):
        call = sounds.draw_call(rng, True, chinese=float(language == "zh"))
        voice = speech.draw_voice(rng, True, language)
        if call.text in texts or not missing.get(call.intent):
            continue
        samples = speech.speak(call, voice)
        if len(samples) <= LONGEST * sounds.RATE:
            spoken.append((call, voice, samples))
            texts.add(call.text)
            missing[call.intent] -= 1
    return spoken


def write(folder: Path, spoken: list[Spoken]) -> int:
    """Write calls as WAV files with a table of what they say; return their bytes in total."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.wav"):
        file.unlink()
    rows = []
    for number, (call, voice, samples) in enumerate(spoken, start=1):
        file = f"call-{number:02}.wav"
        sounds.write_wav(folder / file, samples)
        seconds = round(len(samples) / sounds.RATE, 2)
        rows.append((file, call.text, call.spoken, call.intent, call.language, voice.name,
                     voice.speed, seconds))  # fmt: skip
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return sum(file.stat().st_size for file in folder.iterdir())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=sounds.CLIPS)
    parser.add_argument("--seed", type=int, default=SEED)
    settings = parser.parse_args()
    spoken = [*draw("en", settings.seed), *draw("zh", settings.seed)]
    size = write(settings.folder, spoken)
    print(f"{len(spoken)} clips, {size:,} bytes in {settings.folder}")


if __name__ == "__main__":
    main()
