"""Shares, thresholds and probes are what their formulas say; confidences are the model's own."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from openmodels.harbour import illusions, sounds
from openmodels.harbour.pictures import COLOURS
from openmodels.harbour.scenes import Question
from openmodels.inside import audio, hallucination
from openmodels.minis import evaluate, evaluate_vl
from openmodels.minis.evaluate_audio import Listener
from openmodels.minis.qwen_vl import MARK, Processor
from openmodels.paths import shipped_dir


@pytest.fixture(scope="module")
def viewer():
    return hallucination.Viewer(*evaluate_vl.load(shipped_dir("mini-qwen-vl")))


def test_a_share_shows_its_interval():
    assert hallucination.share([True] * 3 + [False]) == "3/4 = 75% (30% – 95%)"


def test_equal_ignores_case_and_spaces_only():
    assert hallucination.equal(["RED ", "red", "reds"], ["red"] * 3) == [True, True, False]


def test_both_and_confidences_refuse_lists_of_other_lengths():
    assert hallucination.both([True, True, False], [True, False, True]) == [True, False, False]
    with pytest.raises(ValueError):
        hallucination.both([True], [True, False])
    answers = [hallucination.Answer("1", -0.1), hallucination.Answer("2", -0.5)]
    assert hallucination.confidences(answers, [False, True]) == [-0.5]


def test_a_threshold_refuses_the_share_it_promises():
    values = [-n / 100 for n in range(100)]
    limit = hallucination.threshold(values, kept=0.9)
    assert sum(value >= limit for value in values) == 90


def test_separation_is_the_share_of_pairs_in_order():
    assert hallucination.separation([3, 4], [1, 2]) == 1
    assert hallucination.separation([1, 2], [3, 4]) == 0
    assert hallucination.separation([1], [1]) == 0.5
    assert hallucination.separation([1, 3], [2]) == 0.5


def test_refusals_go_from_nothing_to_nearly_everything():
    lost, prevented = hallucination.refusals([-0.1 * n for n in range(20)], [-5.0, -0.95])
    assert lost[0] == 0 and lost[-1] == 100
    assert prevented[0] == 50 and prevented[-1] == 100
    assert prevented == sorted(prevented)


def test_a_probe_finds_a_direction_and_no_more():
    rng = np.random.default_rng(0)
    labels = rng.random(160) < 0.5
    noise = rng.standard_normal((160, 300))
    signal = noise + 1.0 * np.where(labels, 1, -1)[:, None] * rng.standard_normal(300)
    right = hallucination.probe(signal[:80], labels[:80], signal[80:]) == labels[80:]
    assert right.mean() > 0.95
    chance = hallucination.probe(noise[:80], labels[:80], noise[80:]) == labels[80:]
    assert 0.3 < chance.mean() < 0.7


def test_a_colour_is_seen_if_it_covers_enough_pixels():
    image = Image.new("RGB", (100, 100), (205, 225, 240))
    image.paste(COLOURS["red"], (0, 0, 20, 10))  # 2 %
    assert hallucination.shows_colour(image, "red")
    assert not hallucination.shows_colour(image, "red", least=0.03)
    assert not hallucination.shows_colour(image, "green")


def test_a_confidence_is_the_library_s_log_probability(viewer):
    image = illusions.presence(1)[0].image
    question = Question("count", "How many flags are there?", "3")
    [value] = viewer.confidences([image], [question])
    encoder, model = viewer.encoder, viewer.model
    size = image.size
    row = encoder.row([question], size)
    tokens = torch.tensor([row.ids])
    pixels = Processor(encoder.tokenizer)(MARK, image)
    with torch.no_grad():
        logits = model(
            input_ids=tokens,
            mm_token_type_ids=(tokens == encoder.place).int(),
            pixel_values=pixels["pixel_values"],
            image_grid_thw=pixels["image_grid_thw"],
        ).logits[0]
    logprobs = logits.log_softmax(-1)
    places = [n for n, weight in enumerate(row.weights) if weight > 0]
    expected = np.mean([logprobs[n - 1, row.ids[n]].item() for n in places])
    assert value == pytest.approx(expected, abs=1e-3)


def test_answers_keep_their_order_over_sizes_of_pictures(viewer):
    questions = illusions.presence(4, seed=2)
    images, queries = [q.image for q in questions], [q.count_question for q in questions]
    together = viewer.answers(images, queries)
    for number in (0, 7, 16, 23):
        [alone] = viewer.answers([images[number]], [queries[number]])
        assert together[number].text == alone.text
        assert together[number].confidence == pytest.approx(alone.confidence, abs=1e-3)
        assert together[number].confidence <= 0


def test_features_hold_each_token_of_a_picture(viewer):
    images = [shape.image for shape in illusions.shapes("flags", 4)]
    features = viewer.features(images)
    assert features.shape == (4, 16 * viewer.model.config.text_config.hidden_size)
    assert not np.allclose(features[0], features[1])


def test_an_ear_is_sure_of_silence_and_returns_the_trained_answer():
    ear = hallucination.Ear(*evaluate.load(shipped_dir("mini-qwen-audio")))
    silence = illusions.no_words("silence", 2, seed=1)
    answers = ear.answers(silence)
    assert [answer.text for answer in answers] == [sounds.NOTHING] * 2
    assert all(math.exp(answer.confidence) > 0.9 for answer in answers)
    call = next(clip for clip in sounds.clips() if clip.details["language"] == "en")
    [answer] = ear.answers([call.samples])
    assert len(answer.text) > 5 and answer.text != sounds.NOTHING


def test_an_ear_hears_what_a_listener_hears():
    model, tokenizer = evaluate.load(shipped_dir("mini-qwen-audio"))
    waves = [clip.samples for clip in sounds.clips()[:20]] + illusions.no_words("melody", 2)
    texts = [answer.text for answer in hallucination.Ear(model, tokenizer).answers(waves)]
    assert texts == audio.answers(Listener(model, tokenizer, "cpu"), waves)


def test_a_guard_on_the_confidence_trades_right_answers_for_false_ones():
    values = [-n / 100 for n in range(20)]
    answers = [hallucination.Answer("a", value) for value in values]
    unsure = [hallucination.Answer("b", value) for value in (-0.01, -0.5, -0.6)]
    cases = hallucination.Cases(answers, [True] * 20, unsure, [True, True, False])
    assert cases.confidences() == (values, [-0.01, -0.5])
    absent, present = cases.sure()
    assert absent == [True, False, False] and sum(present) == 19
    row = cases.row("confidence", absent, present)
    assert row == ("confidence", "2/3", "1/3", "20/20", "19/20", "none")
    assert hallucination.guard_row("blur", [1], [0], [1], [1], "one")[1:] == (
        "1/1", "0/1", "1/1", "1/1", "one",
    )  # fmt: skip


def test_a_loud_sound_is_told_from_a_quiet_one():
    assert hallucination.is_loud(np.full(100, 0.02, np.float32))
    assert not hallucination.is_loud(np.full(100, 0.005, np.float32))


def test_a_probe_is_scored_on_other_pictures_than_it_learned(viewer):
    train, test = (illusions.shapes("flags", 24, seed, gap=8) for seed in (1, 2))
    right = viewer.tell_apart(train, test)
    assert len(right) == 24 and sum(right) > 16
    flipped = [dataclasses.replace(shape, apart=not shape.apart) for shape in test]
    assert viewer.tell_apart(train, flipped) == [not outcome for outcome in right]


def test_a_mirrored_answer_is_compared_with_the_first(viewer):
    questions = illusions.presence(1, seed=1)[:2]
    mirrored = [ImageOps.mirror(question.image) for question in questions]
    texts = viewer.texts(mirrored, [question.count_question for question in questions])
    answers = [hallucination.Answer(texts[0], 0.0), hallucination.Answer("other", 0.0)]
    assert viewer.same_mirrored(questions, answers) == [True, False]


def test_a_faster_sound_is_compared_with_the_first():
    ear = hallucination.Ear(*evaluate.load(shipped_dir("mini-qwen-audio")))
    wave = illusions.no_words("silence", 1, seed=1)[0]
    first, other = hallucination.Answer(sounds.NOTHING, 0.0), hallucination.Answer("other", 0.0)
    assert ear.same_faster([wave, wave], [first, other]) == [True, False]
