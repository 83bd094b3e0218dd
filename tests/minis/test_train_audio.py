"""mini-qwen-audio: a short training run, its files, and how its answers are scored."""

import json
import math
import random

import numpy as np
import pytest
import torch

from openmodels import minis
from openmodels.harbour import sounds, speech
from openmodels.minis import (
    audio,
    audio_data,
    evaluate,
    evaluate_audio,
    media_card,
    train_audio,
)

OPTIONS = ["--device", "cpu", "--workers", "1", "--clips", "4", "--codes", "60", "--held-out", "2",
           "--batch", "6", "--texts", "2", "--check", "2", "--score-batch", "4"]  # fmt: skip


def tone_call(call: sounds.Call, voice: speech.Voice) -> np.ndarray:
    """Return half a second of a tone instead of speech, so that no test needs espeak-ng."""
    pitch = 200 + 10 * voice.pitch
    return (0.5 * np.sin(np.arange(8000) * pitch / 2546)).astype(np.float32)


@pytest.fixture(scope="module")
def run() -> train_audio.Run:
    """A run on a few clips that has not begun."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech, "speak", tone_call)
        patch.setattr(train_audio, "CALLS_IN_A_JOB", 4)
        options = train_audio.build_parser().parse_args([*OPTIONS, "--minutes", "1"])
        return train_audio.Run(options)


def test_a_run_goes_through_all_phases_and_its_model_is_loaded(run, tmp_path, monkeypatch):
    """Spelling alone, then answers, text and full windows; the loss stays finite."""
    monkeypatch.setattr(type(run), "progress", property(lambda self: self.steps / 6))
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    losses = []
    while run.progress < 1:
        losses.append(run.step()[0])
    assert all(math.isfinite(loss) for loss in losses)
    changed = {n for n, v in run.model.named_parameters() if not torch.equal(v, before[n])}
    assert any("audio_tower.layers" in name for name in changed)
    assert any("language_model.layers" in name for name in changed)
    run.log.append(run.check())
    home, target = tmp_path / "run", tmp_path / "model"
    run.save(home, {"tasks": {}})
    train_audio.publish(home, target)
    model, tokenizer = evaluate.load(target)
    assert len(tokenizer) == model.config.get_text_config().vocab_size
    assert json.loads((target / "log.jsonl").read_text().splitlines()[-1])["bell"] >= 0
    again = dict(model.named_parameters())
    for name, value in run.model.named_parameters():
        assert torch.equal(value.to(torch.bfloat16).float(), again[name]), name


def test_the_ctc_head_learns_first(run):
    """In the first phase only the encoder has a gradient."""
    loss, spelling = run.loss(0.1)
    loss.backward()
    assert loss.item() == spelling
    assert run.parts.encoder.conv1.weight.grad.abs().sum() > 0
    assert run.parts.head.weight.grad is None or not run.parts.head.weight.grad.any()
    run.optimizer.zero_grad()


def test_a_trained_model_continues_without_the_first_phase(run, monkeypatch):
    """Its weights are those of the folder, and a new CTC head does not change the encoder yet."""
    folder = minis.weights_dir("mini-qwen-audio")
    monkeypatch.setattr(speech, "speak", tone_call)
    monkeypatch.setattr(train_audio, "CALLS_IN_A_JOB", 4)
    options = train_audio.build_parser().parse_args([*OPTIONS, "--start", str(folder)])
    started = train_audio.Run(options)
    assert started.progress >= train_audio.SPELLING
    stored = dict(evaluate.load(folder)[0].named_parameters())
    assert all(torch.equal(v, stored[n]) for n, v in started.model.named_parameters())
    started.steps = 1  # no batch of text
    vectors = torch.zeros(1, 4, 192, requires_grad=True)
    seen = []
    monkeypatch.setattr(
        started, "ctc_loss", lambda hidden, *rest: seen.append(hidden) or vectors.sum()
    )
    started.loss(0.32)
    started.loss(0.6)
    assert [hidden.requires_grad for hidden in seen] == [False, True]


def test_a_window_holds_whole_clips_only(run):
    """A clip that is cut off would be trained with an answer that cannot be heard."""
    for _ in range(5):
        chosen = run.choose(run.codes, 50, audio_data.SHORT)
        longest = max(int(run.codes.starts[n + 1] - run.codes.starts[n]) for n in chosen.tolist())
        assert longest / 0.9 <= audio_data.SHORT * audio.HOP
    lengths = (run.codes.starts[1:] - run.codes.starts[:-1]).float()
    assert lengths.max() / 0.9 > audio_data.SHORT * audio.HOP  # so there is something to leave out


def test_a_short_window_has_calls_or_codes_and_always_nothing(run):
    """Each kind has windows of its own lengths, so little silence is computed."""
    kinds, sizes = set(), set()
    for _ in range(30):
        wave, valid, prompts, spelled = run.short_windows()
        assert len(wave) == len(valid) == len(prompts) == len(spelled) >= 3
        nothing = run.prompts.of(sounds.HEAR, sounds.NOTHING)[2]
        answers = {tuple(prompt[2]) for prompt in prompts}
        assert tuple(nothing) in answers
        codes = [text for text in spelled if text and set(text.split()) <= {"short", "long", "d"}]
        kinds.add(len(codes) / sum(map(bool, spelled)))
        sizes.add(wave.shape[1] // audio.HOP)
    assert kinds == {0.0, 1.0}
    assert sizes == {*train_audio.CALL_FRAMES, *train_audio.CODE_FRAMES}


def test_the_share_of_foghorns_among_codes_is_an_option(run, monkeypatch):
    tasks = [details["task"] for details in run.codes.details]
    monkeypatch.setattr(
        run, "code_weights", torch.tensor([1.0 if t == "foghorn" else 0.0 for t in tasks])
    )
    assert {tasks[n] for n in run.choose(run.codes, 40, audio.WINDOW).tolist()} == {"foghorn"}


@pytest.mark.parametrize("start", [None, "folder"])
def test_full_windows_train_the_encoder_only_in_a_new_model(run, start, monkeypatch):
    monkeypatch.setattr(run.options, "start", start)
    monkeypatch.setattr(run, "full_share", lambda progress: 1.0)
    run.steps = 1  # no batch of text
    run.optimizer.zero_grad()
    run.loss(0.8)[0].backward()
    gradient = run.parts.encoder.conv1.weight.grad
    assert (gradient is None or not gradient.any()) == (start is not None)
    assert run.parts.text.layers[0].mlp.up_proj.weight.grad.any()
    run.optimizer.zero_grad()


def test_a_record_holds_the_run_that_it_continues(run, monkeypatch):
    assert "start" not in run.record()["run"]
    folder = minis.shipped_dir("mini-qwen-audio")
    monkeypatch.setattr(run.options, "start", folder)
    stored = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert run.record()["run"]["start"] == stored["run"]


def test_a_published_model_can_be_an_average_of_two_stages(run, tmp_path):
    start = minis.shipped_dir("mini-qwen-audio")
    home, half, whole = tmp_path / "run", tmp_path / "half", tmp_path / "whole"
    run.save(home, {"run": {"steps": 1}})
    train_audio.publish(home, whole)
    train_audio.publish(home, half, start, 0.5)
    first, second, mean = (evaluate.load(f)[0].state_dict() for f in (start, whole, half))
    name = "audio_tower.conv1.weight"
    name = next(key for key in first if key.endswith(name))
    assert not torch.allclose(first[name], second[name])
    expected = first[name].lerp(second[name], 0.5).to(torch.bfloat16).float()
    assert torch.equal(mean[name], expected)
    assert json.loads((half / "scores.json").read_text())["run"] == {"steps": 1, "share": 0.5}


def test_a_masked_window_of_the_scores_holds_the_longest_clip(run):
    samples = np.ones(7 * audio.RATE, np.float32)
    bank = audio_data.Bank.of(
        [(samples, sounds.HEAR, "x", "", {}), (samples[:800], "", "", "", {})]
    )
    frames = evaluate_audio.holding(bank, torch.tensor([0, 1]))
    wave, valid = run.mixer.cut(bank, torch.tensor([0, 1]), frames, augment=False)
    assert (wave[0] > 0.9).sum() >= len(samples) - 2 and valid[0] < frames <= 720
    assert evaluate_audio.holding(bank, torch.tensor([1])) < 30


def test_fewer_clips_are_scored_in_the_slow_form():
    counts = evaluate_audio.Counts((500, 200), (100, 20))
    assert [counts.of(f, s) for f in ("masked", "full") for s in (None, 10)] == [500, 200, 100, 20]


def test_the_card_of_a_second_stage_states_both():
    stored = json.loads(
        (minis.shipped_dir("mini-qwen-audio") / "scores.json").read_text(encoding="utf-8")
    )
    first = stored["run"].get("start", stored["run"])
    second = {"steps": 321, "clips": 9876, "minutes": 40, "calls": 4498, "codes": 1260,
              "date": "2026-01-02", "chinese": 0.55, "foghorn": 0.6, "rate": 5e-4, "device": "cpu",
              "full": 0.2, "shrink": 8, "share": 0.8, "start": first}  # fmt: skip
    row = {"correct": 3, "n": 4, "low": 0.3, "high": 0.95}
    stored |= {"run": second, "six_blasts": {"masked": row, "full": row}}
    stored["counts"] = {"masked": (500, 200), "full": (100, 20)}
    text = media_card.render("mini-qwen-audio", stored)
    assert f"{first['clips']:,} windows" in text and "9,876 windows" in text
    assert "80% of the second's value" in text and "--codes 420" in text
    assert "500 clean and 200 noisy clips as *masked*" in text
    assert "six blasts have a score of their own: 75.0% right" in text


def test_both_floors_of_the_mel_power_are_drawn(run, monkeypatch):
    floors = set()
    mel = run.mel

    def record(samples: torch.Tensor, floor: float) -> torch.Tensor:
        floors.add(floor)
        return mel(samples, floor)

    monkeypatch.setattr(run, "mel", record)
    run.steps = 1  # no batch of text
    for _ in range(12):
        run.loss(0.1)
    assert floors == {audio.LIBRARY_FLOOR, audio.LLAMA_FLOOR}


def test_silence_depends_on_the_floor_and_a_loud_sound_does_not():
    mel = audio.LogMel()
    quiet, loud = torch.zeros(1, 16_000), torch.sin(torch.arange(16_000) / 3)[None]
    assert mel(quiet).unique().tolist() == [-1.5]
    assert mel(quiet, audio.LLAMA_FLOOR).unique().tolist() == pytest.approx([-0.806], abs=1e-3)
    assert torch.equal(mel(loud), mel(loud, audio.LLAMA_FLOOR))


@pytest.mark.parametrize(
    "right, written, errors",
    [
        ("Gull waits near Skarholm.", "Gull waits near Skarholm.", 0),
        ("Gull waits near Skarholm.", "Gull waits near the Skarholm", 1),
        ("Gull waits near Skarholm.", "", 4),
        ("渔网价格", "鱼价格", 2),  # a character counts as a word
    ],
)
def test_word_errors(right, written, errors):
    words = evaluate_audio.words_of
    assert evaluate_audio.edit_errors(words(right), words(written))[0] == errors


def test_a_summary_has_an_interval_around_its_rate():
    rng = random.Random(0)
    calls = [{"errors": rng.random() < 0.2, "words": 5, "exact": False} for _ in range(200)]
    row = evaluate_audio.summary(calls)
    assert row["low"] < row["wer"] < row["high"] and row["calls"] == 200
    assert row["wer"] == pytest.approx(sum(c["errors"] for c in calls) / 1000, abs=1e-4)
    assert evaluate_audio.summary([]) == {"n": 0}


def test_a_deaf_model_gives_the_most_frequent_answer():
    def bank(rows: list[tuple[str, dict]]) -> audio_data.Bank:
        samples = np.zeros(10, np.float32)
        return audio_data.Bank.of([(samples, "?", answer, "", d) for answer, d in rows])

    codes = bank([("a", {"task": t}) for t in evaluate_audio.CODES for _ in range(3)]
                 + [("b", {"task": t}) for t in evaluate_audio.CODES])  # fmt: skip
    calls = bank([("x", {"intent": "help"}), ("y", {"intent": "wait"}), ("z", {"intent": "help"})])
    floors = evaluate_audio.floors(calls, codes)
    assert (floors["bell"]["correct"], floors["bell"]["n"]) == (3, 4)
    assert (floors["intent"]["correct"], floors["intent"]["n"]) == (2, 3)


def test_the_card_has_the_scores_of_the_file():
    file = minis.shipped_dir("mini-qwen-audio") / "scores.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert evaluate_audio.tasks_of(stored) == stored["tasks"]
