"""The shipped miniatures that see and hear: llama.cpp's answers are those of transformers."""

import base64
import io

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from openmodels import minis
from openmodels.gguf import export
from openmodels.harbour import scenes, sounds
from openmodels.minis import audio, evaluate, evaluate_audio, evaluate_vl
from openmodels.serving.engine import Engine


def engine_of(name: str) -> Engine:
    files = export.gguf_file(name, "f32"), export.gguf_file(name, "f32", vision=True)
    return Engine(*files, exact=True, threads=1, context=2048)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENMODELS_CACHE", str(tmp_path / "cache"))


def answer(engine: Engine, part: dict, question: str) -> str:
    content = [part, {"type": "text", "text": question}]
    reply = engine.chat([{"role": "user", "content": content}], max_tokens=112, temperature=0)
    return reply["choices"][0]["message"]["content"]


def test_pictures():
    """Two held-out scenes of each kind; the engine reads them at the size the model reads."""
    model, tokenizer = evaluate.load(minis.weights_dir("mini-qwen-vl"))
    encoder = evaluate_vl.Encoder(tokenizer)
    tasks = ("colour", "boxes", "gauge", "value", "printed", "form")
    items = [item for task in tasks for item in evaluate_vl.items(task, 2, 21)]
    pictures = [scene.image for task in tasks for scene, _ in scenes.questions(task, 2, 21)]
    expected = evaluate_vl.answers(model, encoder, items)
    with engine_of("mini-qwen-vl") as engine:
        for item, picture, text in zip(items, pictures, expected, strict=True):
            data = io.BytesIO()
            picture.save(data, "PNG")
            url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
            part = {"type": "image_url", "image_url": {"url": url}}
            assert answer(engine, part, item.question.text) == text
    right = [evaluate_vl.is_right(i.question, t) for i, t in zip(items, expected, strict=True)]
    assert sum(right) > len(right) / 2


@pytest.fixture(scope="module")
def clips() -> list[sounds.Clip]:
    """Radio calls, codes in surf, and digital silence."""
    codes = [next(sounds.codes(task, 1, 5, "test", 20.0)) for task in evaluate_audio.CODES]
    silence = next(c for c in sounds.codes("nothing", 30, 5) if not c.samples.any())
    return [*sounds.clips()[::25], *codes, silence]


@pytest.fixture(scope="module")
def listener() -> evaluate_audio.Listener:
    return evaluate_audio.Listener(*evaluate.load(minis.weights_dir("mini-qwen-audio")), "cpu", 4)


def written(samples: np.ndarray) -> np.ndarray:
    """Return samples as a 16-bit file has them."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").astype(np.float32) / 32768


def test_sounds(clips, listener, tmp_path):
    """Each sound is a full window of 750 tokens, silence with llama.cpp's own floor."""
    waves = torch.zeros(len(clips), audio.WINDOW * audio.HOP)
    for row, clip in zip(waves, clips, strict=True):
        row[: len(clip.samples)] = torch.from_numpy(written(clip.samples))
    valid = torch.full((len(clips),), audio.WINDOW)
    expected = listener.answer(waves, valid, [clip.question for clip in clips], masked=False)
    with engine_of("mini-qwen-audio") as engine:
        for clip, text in zip(clips, expected, strict=True):
            sounds.write_wav(tmp_path / "clip.wav", clip.samples)
            data = base64.b64encode((tmp_path / "clip.wav").read_bytes()).decode()
            part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
            assert answer(engine, part, clip.question) == text
    assert expected[-1] == sounds.NOTHING
    right = [clip.answer["content"] == text for clip, text in zip(clips, expected, strict=True)]
    assert sum(right) > len(right) / 2


def test_the_librarys_own_generation_of_sounds(clips, listener):
    """The library masks the padding; `Listener` answers the same in its masked form."""
    processor = AutoProcessor.from_pretrained(
        minis.weights_dir("mini-qwen-audio"), trust_remote_code=False
    )
    for clip in (clips[0], clips[2], clips[-1]):
        text = processor.apply_chat_template(
            list(clip.messages[:1]), tokenize=False, add_generation_prompt=True
        )
        inputs = processor(
            text=text, audio=clip.samples, sampling_rate=sounds.RATE, return_tensors="pt"
        )
        ids = listener.model.generate(**inputs, max_new_tokens=32, do_sample=False)[0]
        expected = processor.decode(ids[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        wave = torch.zeros(1, audio.WINDOW * audio.HOP)
        wave[0, : len(clip.samples)] = torch.from_numpy(clip.samples)
        valid = torch.tensor([-(-len(clip.samples) // audio.HOP)])
        assert listener.answer(wave, valid, [clip.question], masked=True) == [expected]
