"""Sound inside Qwen2-Audio: players, shapes, token counts, figures, answers and error rates."""

import base64
import io
import re
import wave

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, WhisperFeatureExtractor

from openmodels import minis
from openmodels.harbour import sounds
from openmodels.inside import audio
from openmodels.minis import evaluate, evaluate_audio

HOME = minis.shipped_dir("mini-qwen-audio")


@pytest.fixture(scope="module")
def loaded():
    return evaluate.load(HOME)


@pytest.fixture(scope="module")
def listener(loaded):
    return evaluate_audio.Listener(*loaded, "cpu", batch=4)


@pytest.fixture(scope="module")
def clips():
    return sounds.clips()


@pytest.fixture(scope="module")
def inputs(loaded, clips):
    processor = AutoProcessor.from_pretrained(HOME)
    text = loaded[1].apply_chat_template(
        [clips[0].messages[0]], tokenize=False, add_generation_prompt=True
    )
    return processor(
        text=text, audio=clips[0].samples, sampling_rate=sounds.RATE, return_tensors="pt"
    )


def tone(hertz: float, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * sounds.RATE)) / sounds.RATE
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


# --- Players --------------------------------------------------------------------------------------


def test_a_player_holds_the_sound_and_its_caption():
    samples = tone(440, 0.5)
    page = audio.player(samples, "A tone.")._repr_html_()
    [data] = re.findall(r'src="data:audio/wav;base64,([^"]+)"', page)
    with wave.open(io.BytesIO(base64.b64decode(data))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 1, 16_000)
        stored = np.frombuffer(file.readframes(10**6), np.uint8)
    assert np.abs((stored - 128.0) / 127 - samples).max() < 1 / 127
    assert "<audio controls" in page and "<figcaption" in page and ">A tone.</figcaption>" in page
    assert repr(audio.player(samples, "A tone.")) == "Sound of 0.5 s. A tone."


def test_a_caption_is_text_and_no_markup():
    page = audio.player(tone(440, 0.1), '<script>"x"</script>')._repr_html_()
    assert "<script" not in page and page.count("&lt;script&gt;&quot;x&quot;") == 2


@pytest.mark.parametrize(
    ("samples", "caption", "message"),
    [
        (np.zeros(0), "A", "mono"),
        (np.zeros((2, 100)), "A", "mono"),
        (np.zeros(31 * sounds.RATE), "A", "at most 30 s"),
        (np.array([0.0, np.nan]), "A", "finite"),
        (np.zeros(100), "  ", "caption"),
    ],
)
def test_a_player_refuses(samples, caption, message):
    with pytest.raises(ValueError, match=message):
        audio.player(samples, caption)


# --- From samples to tokens -----------------------------------------------------------------------


def test_every_step_has_the_shape_of_the_module(loaded, inputs, clips):
    model, _ = loaded
    steps = audio.trace(model, inputs)
    names = ["input_features", "conv1", "conv2", "4 layers", "avg_pooler", "multi_modal_projector"]
    assert [step.module for step in steps] == names
    config = model.config
    width, hidden = config.audio_config.d_model, config.text_config.hidden_size
    assert [step.shape for step in steps] == [
        (1, 128, 3000), (1, width, 3000), (1, width, 1500), (1, 1500, width), (1, width, 750),
        (1, 750, hidden),
    ]  # fmt: skip
    frames = -(-len(clips[0].samples) // 160)
    assert steps[0].steps == frames
    for before, after in zip(steps, steps[1:], strict=False):
        scale = before.milliseconds / after.milliseconds
        assert abs(after.steps - before.steps * scale) <= 1
    assert not model.model.audio_tower.conv1._forward_hooks  # removed again


def test_the_last_step_is_what_the_processor_inserts(loaded, inputs):
    model, tokenizer = loaded
    placeholder = tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    expected = int((inputs["input_ids"] == placeholder).sum())
    assert audio.trace(model, inputs)[-1].steps == expected


def test_tokens_follow_the_length_only_in_transformers(inputs, loaded, clips):
    placeholder = loaded[1].convert_tokens_to_ids("<|AUDIO|>")
    expected = int((inputs["input_ids"] == placeholder).sum())
    assert audio.audio_tokens(clips[0].seconds) == {"transformers": expected, "llama.cpp": 750}
    assert audio.audio_tokens(30) == {"transformers": 750, "llama.cpp": 750}
    assert audio.audio_tokens(30.1)["llama.cpp"] == 1500
    assert audio.audio_tokens(60) == {"transformers": 1500, "llama.cpp": 1500}
    for seconds in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="length"):
            audio.audio_tokens(seconds)


# --- Figures --------------------------------------------------------------------------------------


def test_figures_have_units_and_words(clips):
    samples = clips[0].samples
    figure = audio.plot_waveform(samples)
    [axes] = figure.axes
    assert axes.get_xlabel() == "time (s)"
    assert f"{len(samples) / sounds.RATE:.2f} s" in figure.alt


def test_a_tone_is_strongest_at_its_frequency():
    extractor = WhisperFeatureExtractor(feature_size=128)
    features = extractor(tone(1000, 1.0), sampling_rate=sounds.RATE, return_tensors="np")
    mel = features["input_features"][0, :, :100]
    figure = audio.plot_mel(mel)
    axes, bar = figure.axes
    assert axes.get_xlabel() == "time (s)" and "Hz" in axes.get_ylabel() and bar.get_ylabel()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    place = axes.get_yticks()[labels.index("1,000")]
    assert abs(place - mel.mean(1).argmax()) <= 2
    assert f"bin {mel.mean(1).argmax()} is the strongest" in figure.alt
    assert "1.00 s" in figure.alt


# --- Listening and scoring ------------------------------------------------------------------------


def test_short_windows_get_the_answer_of_transformers(listener, loaded, inputs, clips):
    model, tokenizer = loaded
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    expected = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert audio.answers(listener, [clips[0].samples]) == [expected]


def test_answers_are_in_order_and_depend_on_the_question(listener, clips):
    heard = audio.answers(listener, [clip.samples for clip in clips[:5]])
    assert sum(map(str.__eq__, heard, [clip.answer["content"] for clip in clips[:5]])) >= 4
    wishes = audio.answers(listener, [clip.samples for clip in clips[:5]], sounds.WANT)
    assert sum(map(str.__eq__, wishes, [clip.details["intent"] for clip in clips[:5]])) >= 4
    assert audio.answers(listener, []) == []


def test_a_sound_that_does_not_fit_is_refused(listener):
    assert len(audio.answers(listener, [np.zeros(6 * sounds.RATE, np.float32)])) == 1
    with pytest.raises(ValueError, match=r"6\.1 s"):
        audio.answers(listener, [np.zeros(round(6.1 * sounds.RATE), np.float32)])


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_changes_length_and_pitch(factor):
    fast = audio.change_speed(tone(500, 1.0), factor)
    assert len(fast) == pytest.approx(sounds.RATE / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(fast))
    peak = spectrum.argmax() * sounds.RATE / len(fast)
    assert peak == pytest.approx(500 * factor, abs=2)
    assert np.abs(fast).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("factor", [0, -1, 5, float("nan")])
def test_absurd_speeds_are_refused(factor):
    with pytest.raises(ValueError, match="speed"):
        audio.change_speed(tone(500, 0.1), factor)


def test_error_rate_counts_words_and_calls():
    texts = ["Heron leaves on Monday at 10.", "Send 2 nets to Petrel."]
    result = audio.error_rate(["Heron leaves on Sunday at 10.", texts[1]], texts)
    assert (result.words, result.calls, result.exact) == (11, 2, 1)
    assert result.rate == pytest.approx(1 / 11, abs=1e-4)
    assert result.low == 0 and result.high == pytest.approx(1 / 6, abs=1e-3)
    assert "9.1%" in str(result) and "11 words in 2 calls" in str(result)


def test_error_rate_counts_chinese_characters():
    assert audio.error_rate(["大船明天走"], ["大船明天来"]).rate == pytest.approx(0.2)


def test_no_error_is_not_certainty():
    result = audio.error_rate(["Heron waits."] * 10, ["Heron waits."] * 10)
    assert result.rate == result.low == 0
    assert result.high == evaluate.score(0, 10).high > 0.25  # of 10 calls, not of 20 words


def test_error_rate_refuses_no_or_too_few_texts():
    with pytest.raises(ValueError):
        audio.error_rate([], [])
    with pytest.raises(ValueError):
        audio.error_rate(["a"], ["a", "b"])


def test_an_argument_must_occur_in_the_transcript_as_whole_words():
    transcript = "Heron asks for 13 nets on Monday."
    said = {"ship": "heron", "number": 13, "order": "13 nets", "day": "Monday"}
    assert audio.unsaid(said, transcript) == []
    other = {"number": 1, "item": "net", "order": "13 ropes", "shop": "", "day": "monday."}
    assert audio.unsaid(other, transcript) == ["number", "item", "order", "shop"]
