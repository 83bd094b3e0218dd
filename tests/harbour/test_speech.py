"""Spoken radio calls; the tests that speak need the program espeak-ng."""

import random
import shutil

import numpy as np
import pytest

from openmodels.harbour import sounds, speech

speaks = pytest.mark.skipif(
    shutil.which(speech.PROGRAM) is None, reason="espeak-ng is not installed"
)
CALL = sounds.Call("Gull asks for berth 12.", "gull asks for berth twelve", "berth")


def test_training_and_test_share_no_voice():
    rng = random.Random(0)
    train, test = (
        {speech.draw_voice(rng, split, language).variant for _ in range(2000)}
        for split, language in ((False, "en"), (True, "en"))
    )
    assert train & test == set()
    assert train == set(speech.TRAIN_VARIANTS) and test == set(speech.HELD_OUT_VARIANTS)
    assert len(train) >= 60 and len(test) >= 10


def test_voices_come_from_the_seed_and_stay_in_range():
    first, second = (
        [speech.draw_voice(random.Random(seed), True) for seed in range(20)] for _ in range(2)
    )
    assert first == second
    for voice in first:
        assert voice.accent in speech.ACCENTS
        assert speech.SPEEDS[0] <= voice.speed <= speech.SPEEDS[1]
        assert speech.PITCHES[0] <= voice.pitch <= speech.PITCHES[1]
    assert speech.draw_voice(random.Random(0), False, "zh").accent == speech.CHINESE


@pytest.mark.parametrize("rate", (8000, 22_050, 44_100, 48_000))
def test_resampling_preserves_a_tone(rate):
    time = np.arange(rate) / rate
    resampled = speech.resample(np.sin(2 * np.pi * 440 * time).astype(np.float32), rate)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert resampled.dtype == np.float32 and resampled.shape == (16_000,)
    assert np.abs(resampled - expected).max() < 0.01


def test_resampling_removes_what_16_khz_cannot_hold():
    high = np.sin(2 * np.pi * 12_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(speech.resample(high, 48_000)).max() < 0.01


def test_a_missing_program_is_reported(monkeypatch):
    monkeypatch.setattr(speech, "PROGRAM", "no-such-program")
    voice = speech.draw_voice(random.Random(0), True)
    with pytest.raises(speech.NoSpeech, match="espeak-ng is not installed"):
        speech.speak(CALL, voice)
    assert speech.speak_all([(CALL, voice)], workers=1) == []


@speaks
def test_a_call_is_spoken_the_same_way_twice():
    voice = speech.Voice("en", "m2", 150, 50)
    first, second = speech.speak(CALL, voice), speech.speak(CALL, voice)
    assert first.dtype == np.float32 and np.array_equal(first, second)
    assert np.abs(first).max() == pytest.approx(0.9)
    assert 1 < len(first) / sounds.RATE < 4


@speaks
def test_speed_and_variant_change_what_is_heard():
    slow, fast = (speech.speak(CALL, speech.Voice("en", "m2", speed, 50)) for speed in (120, 220))
    assert len(slow) > 1.3 * len(fast)
    other = speech.speak(CALL, speech.Voice("en", "f3", 220, 50))
    assert len(other) != len(fast) or not np.allclose(other, fast, atol=0.01)


@speaks
@pytest.mark.parametrize("accent", speech.ACCENTS)
def test_each_accent_knows_variants(accent):
    first, second = (
        speech.speak(CALL, speech.Voice(accent, variant, 160, 50)) for variant in ("f3", "m7")
    )
    assert len(first) != len(second) or not np.allclose(first, second, atol=0.01)


@speaks
def test_calls_in_chinese_are_spoken():
    call = sounds.Call("明天三绳子", "明天三绳子", "send", "zh")
    [(_, _, samples)] = speech.speak_all([(call, speech.Voice("cmn", "f3", 150, 50))])
    assert len(samples) > 0.5 * sounds.RATE


@speaks
def test_a_call_that_is_too_long_is_left_out():
    call = sounds.Call("", "gull " * 60, "wait")
    assert speech.speak_all([(call, speech.Voice("en", "m2", 120, 50))]) == []
