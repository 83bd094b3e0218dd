"""Sounds with one right answer: seeded, in splits that share nothing, true to what was drawn."""

import hashlib
import io
import random
import subprocess
import sys
import wave

import numpy as np
import pytest

from openmodels.harbour import sounds, speech
from openmodels.harbour.text import held_out

COUNT = 100
CLEAN = float("inf")


def make_clips(task: str, split: str, seed: int = 1, snr: float | None = None) -> list[sounds.Clip]:
    return list(sounds.codes(task, COUNT, seed, split, snr))


def digest(task: str, seed: int = 4) -> str:
    result = hashlib.sha256()
    for clip in sounds.codes(task, 10, seed):
        result.update(clip.samples.tobytes() + clip.key.encode() + str(clip.messages).encode())
    return result.hexdigest()


def bursts(samples: np.ndarray, gap: float = 0.06) -> list[float]:
    """Return the lengths in seconds of the parts that are loud, apart by at least `gap`."""
    frame = sounds.RATE // 200
    size = len(samples) // frame
    level = np.abs(samples[: size * frame]).reshape(size, frame).max(1) > 0.1 * samples.max()
    loud = np.flatnonzero(level)
    breaks = np.flatnonzero(np.diff(loud) > gap * 200)
    starts, ends = loud[np.r_[0, breaks + 1]], loud[np.r_[breaks, len(loud) - 1]]
    return [float(end - start + 1) / 200 for start, end in zip(starts, ends, strict=True)]


def strokes(samples: np.ndarray) -> int:
    """Return how often the level of a clean clip jumps up, at least 0.12 s apart."""
    frame = sounds.RATE // 100
    size = len(samples) // frame
    level = np.abs(samples[: size * frame]).reshape(size, frame).max(1)
    count, last = 0, -99
    for index in range(2, size):
        jumps = level[index] > 1.25 * level[index - 2 : index].max()
        if not jumps or level[index] <= 0.3 * level.max():
            continue
        count += index - last > 12
        last = index
    return count


@pytest.mark.parametrize("task", sounds.CODES)
def test_a_seed_gives_the_same_samples_in_every_process(task):
    code = f"from tests.harbour.test_sounds import digest; print(digest({task!r}))"
    outside = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert outside.stdout.strip() == digest(task) == digest(task)
    assert digest(task, seed=5) != digest(task)


@pytest.mark.parametrize("task", sounds.CODES)
def test_splits_share_no_key_and_no_sound(task):
    train, test = make_clips(task, "train"), make_clips(task, "test", seed=2)
    assert {clip.key for clip in train} & {clip.key for clip in test} == set()
    audible = [{clip.samples.tobytes() for clip in split if clip.samples.any()}
               for split in (train, test)]  # fmt: skip
    assert audible[0] & audible[1] == set()


@pytest.mark.parametrize("task", sounds.CODES)
def test_a_clip_is_mono_short_and_never_louder_than_1(task):
    for clip in make_clips(task, "train")[:40]:
        assert clip.samples.dtype == np.float32 and clip.samples.ndim == 1
        assert np.isfinite(clip.samples).all() and np.abs(clip.samples).max() <= 1
        assert 0.4 < clip.seconds < 12
        assert [part["type"] for part in clip.messages[0]["content"]] == ["audio", "text"]
        assert clip.question.endswith("?") and clip.answer["role"] == "assistant"
        assert clip.description and clip.description.endswith(".")


def test_a_foghorn_sounds_what_the_answer_says():
    for clip in make_clips("foghorn", "test", snr=CLEAN)[:40]:
        pattern = clip.answer["content"].removeprefix("foghorn: ").split()
        lengths = bursts(clip.samples)
        assert len(lengths) == len(pattern), clip.key
        assert ["long" if length > 0.5 else "short" for length in lengths] == pattern


def test_a_signal_means_what_the_table_says():
    for clip in make_clips("signal", "test", snr=CLEAN)[:40]:
        pattern = tuple("long" if length > 0.5 else "short" for length in bursts(clip.samples))
        assert sounds.MEANINGS[pattern] == clip.answer["content"]


def test_a_bell_has_as_many_strokes_as_the_answer_says():
    for clip in make_clips("bell", "test", snr=CLEAN)[:40]:
        assert strokes(clip.samples) == int(clip.answer["content"].split()[1]), clip.key


def test_patterns_of_the_test_are_missing_in_training():
    train, test = (
        {clip.answer["content"] for clip in make_clips("foghorn", split)}
        for split in ("train", "test")
    )
    assert train & test == set() and len(test) >= 5


def test_nothing_is_silence_or_surf():
    clips = make_clips("nothing", "test")
    assert {clip.answer["content"] for clip in clips} == {sounds.NOTHING}
    silent = [clip for clip in clips if not clip.samples.any()]
    assert {clip.description for clip in silent} == {"Silence."}
    assert 10 <= len(silent) <= 60
    assert {clip.question for clip in clips} == {sounds.HEAR, sounds.WANT, sounds.MEANING}


@pytest.mark.parametrize("snr", (-5, 0, 10, 20))
def test_surf_has_the_ratio_that_was_asked_for(snr):
    rng = np.random.default_rng(snr + 10)
    tone = (0.5 * np.sin(np.arange(5 * sounds.RATE) / 9)).astype(np.float32)
    noisy = sounds.add_surf(tone, snr, rng)
    scale = float(noisy @ tone / (tone @ tone))
    noise = noisy - scale * tone
    loud = tone[np.abs(tone) > 0.01]
    measured = 10 * np.log10(scale**2 * np.mean(loud**2) / np.mean(noise**2))
    assert abs(measured - snr) < 0.5
    assert np.abs(noisy).max() <= 1


def test_numbers_are_spoken():
    assert [sounds.number_words(n) for n in (0, 13, 20, 45, 99)] == [
        "zero", "thirteen", "twenty", "forty five", "ninety nine",
    ]  # fmt: skip
    for number in (-1, 100):
        with pytest.raises(ValueError, match="from 0 to 99"):
            sounds.number_words(number)
    assert sounds.spoken_form("Gull arrives on Sunday, berth 21.") == (
        "gull arrives on sunday berth twenty one"
    )


@pytest.mark.parametrize("test", (False, True))
def test_calls_stay_in_their_split(test):
    rng = random.Random(3)
    calls = [sounds.draw_call(rng, test) for _ in range(300)]
    assert {held_out(call.text) for call in calls} == {test}
    assert {call.language for call in calls} == {"en", "zh"}
    for call in calls:
        assert call.spoken == (
            sounds.spoken_form(call.text) if call.language == "en" else call.text
        )
    english = {call.intent for call in calls if call.language == "en"}
    assert english == {"arrive", "leave", "wait", "help", "price", "berth", "send"}


def test_a_call_becomes_a_clip_with_either_question():
    call = sounds.Call("Gull asks for berth 4.", "gull asks for berth four", "berth")
    samples = np.zeros(100, np.float32)
    clip = sounds.call_clip(call, samples, voice="en+m2")
    assert (clip.question, clip.answer["content"]) == (sounds.HEAR, call.text)
    clip = sounds.call_clip(call, samples, "intent")
    assert (clip.question, clip.answer["content"]) == (sounds.WANT, "berth")
    assert call.text in clip.description


def test_an_unknown_task_or_split_is_refused():
    with pytest.raises(ValueError, match="no task 'drum'"):
        next(sounds.codes("drum", 1))
    with pytest.raises(ValueError):
        next(sounds.codes("bell", 1, split="exam"))


def test_a_wav_file_gives_back_its_samples(tmp_path):
    samples = np.linspace(-1, 1, 1000, dtype=np.float32)
    sounds.write_wav(tmp_path / "a.wav", np.append(samples, [3.0]))
    read = sounds.read_wav(tmp_path / "a.wav")
    assert read.dtype == np.float32
    assert np.abs(read[:-1] - samples).max() <= 2 / 32768 and read[-1] == read[-2]


def test_another_format_of_wav_is_refused(tmp_path):
    with wave.open(str(tmp_path / "b.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0" * 400)
    with pytest.raises(ValueError, match="found \\(2, 2, 8000\\)"):
        sounds.read_wav(tmp_path / "b.wav")


def test_shipped_clips_are_held_out_and_small():
    clips = sounds.clips()
    assert len(clips) >= 50
    assert sum(file.stat().st_size for file in sounds.CLIPS.iterdir()) <= 3_000_000
    texts = [clip.answer["content"] for clip in clips]
    assert len(set(texts)) == len(texts) and all(map(held_out, texts))
    for clip in clips:
        accent, variant = clip.details["voice"].split("+")
        assert variant in speech.HELD_OUT_VARIANTS and variant not in speech.TRAIN_VARIANTS
        assert accent in (*speech.ACCENTS, speech.CHINESE)
        assert speech.SPEEDS[0] <= clip.details["speed"] <= speech.SPEEDS[1]
        assert 0.5 < clip.seconds < 3 and 0.8 < np.abs(clip.samples).max() <= 1
    assert sum(clip.details["voice"].startswith("cmn+") for clip in clips) == 9
    assert {file.name for file in sounds.CLIPS.glob("*.wav")} == {
        f"call-{number:02}.wav" for number in range(1, len(clips) + 1)
    }


def test_a_buffer_is_not_taken_for_the_name_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError):
        sounds.write_wav(io.BytesIO(), np.zeros(160, np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("test", (False, True))
def test_every_chinese_intent_occurs_in_both_splits(test):
    rng = random.Random(5)
    calls = [sounds.draw_call(rng, test, chinese=1.0) for _ in range(400)]
    texts = {}
    for call in calls:
        texts.setdefault(call.intent, set()).add(call.text)
    assert set(texts) == {"arrive", "leave", "send", "price", "help"}
    assert all(len(sentences) >= 5 for sentences in texts.values())


def test_training_hears_longer_patterns_than_the_test():
    train, test = make_clips("foghorn", "train"), make_clips("foghorn", "test")
    longest = [max(len(c.answer["content"].split()) - 1 for c in clips) for clips in (train, test)]
    assert longest == [8, sounds.MOST_BLASTS]


def test_training_patterns_are_many_and_fit_into_seconds():
    patterns = sounds.training_patterns(blasts=8, seconds=5.2)
    assert len(set(patterns)) == len(patterns) > 200
    assert {len(pattern) for pattern in patterns} == set(range(1, 9))
    assert ("long",) * 5 in patterns and ("long",) * 6 not in patterns
    assert sounds.training_patterns(2, 1.0) == [("short",), ("long",), ("short", "short")]


def test_long_foghorns_are_held_out_and_have_six_blasts():
    clips = list(sounds.long_foghorns(120, snr=CLEAN))
    patterns = {clip.answer["content"] for clip in clips}
    assert len(patterns) == 9 and {len(p.split()) - 1 for p in patterns} == {6}
    assert not patterns & {clip.answer["content"] for clip in make_clips("foghorn", "train")}
    assert len(bursts(clips[0].samples)) == 6
    assert all(held_out("sound", *pattern.split()[1:]) for pattern in patterns)
