"""Where a model looks: attention and occlusion of a tiny random model, and of a model with eyes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, Qwen2_5_VLForConditionalGeneration

from openmodels import paths
from openmodels.harbour import pictures, scenes
from openmodels.inside import attention
from openmodels.minis import qwen_vl

FOLDER = paths.ROOT / "models" / "mini-qwen-vl"
QUESTION = "What is on the red flag?"


@pytest.fixture(scope="module")
def processor():
    return qwen_vl.Processor.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return AutoModelForImageTextToText.from_pretrained(
        FOLDER, dtype=torch.float32, attn_implementation="eager", use_safetensors=True
    ).eval()


@pytest.fixture(scope="module")
def scene():
    return scenes.scene("flags", 1, size=(112, 84))


def test_inputs_hold_a_row_per_picture_and_either_order(processor, scene):
    first = attention.chat_inputs(processor, scene.image, QUESTION)
    last = attention.chat_inputs(processor, [scene.image] * 3, QUESTION, last=True)
    assert first["input_ids"].shape[0] == 1 and last["input_ids"].shape[0] == 3
    text = processor.tokenizer.decode(last["input_ids"][0])
    assert text.index("red flag") < text.index(qwen_vl.START)
    text = processor.tokenizer.decode(first["input_ids"][0])
    assert text.index("red flag") > text.index(qwen_vl.START)


@pytest.mark.parametrize("last", [False, True])
def test_attention_maps_are_shares_over_the_pictures_squares(model, processor, scene, last):
    inputs = attention.chat_inputs(processor, scene.image, QUESTION, last)
    maps = attention.attention_maps(model, inputs)
    layers = model.config.text_config.num_hidden_layers
    assert maps.shape == (layers, 3, 4)
    assert (maps >= 0).all() and (maps.sum((1, 2)) < 1).all()
    whole = model(**inputs, output_attentions=True).attentions[1][0].mean(0)[-1]
    start = inputs["input_ids"][0].tolist().index(model.config.image_token_id)
    torch.testing.assert_close(maps[1].flatten(), whole[start : start + 12].detach())


def test_a_model_without_attention_output_is_refused(processor, scene):
    config = SimpleNamespace(image_token_id=0)

    class Silent:
        def __call__(self, **_):
            return SimpleNamespace(attentions=None)

    silent = Silent()
    silent.config = config
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        attention.attention_maps(silent, attention.chat_inputs(processor, scene.image, "?"))


def test_logprobs_equal_those_of_one_token_at_a_time(model, processor, scene):
    inputs = attention.chat_inputs(processor, scene.image, QUESTION)
    ids = processor.tokenizer("a cross", add_special_tokens=False)["input_ids"]
    total, prompt = 0.0, inputs["input_ids"]
    for number in range(len(ids)):  # each token after the right ones before it
        before = torch.tensor([ids[:number]], dtype=prompt.dtype)
        tokens = torch.cat([prompt, before], 1)
        types = (tokens == model.config.image_token_id).int()
        full = dict(inputs) | {"input_ids": tokens, "mm_token_type_ids": types}
        full["attention_mask"] = torch.ones_like(tokens)
        with torch.no_grad():
            total += model(**full).logits[0, -1].log_softmax(-1)[ids[number]].item()
    assert len(ids) > 1
    assert attention.answer_logprobs(model, inputs, ids).item() == pytest.approx(total, abs=1e-3)
    with pytest.raises(ValueError, match="empty answer"):
        attention.answer_logprobs(model, inputs, [])


def test_occlusion_is_the_fall_of_the_answers_logprob(model, processor, scene):
    answer = "a cross"
    values = attention.occlusion_map(model, processor, scene.image, QUESTION, answer)
    assert values.shape == (3, 4)
    ids = processor.tokenizer(answer, add_special_tokens=False)["input_ids"]

    def logprob(image):
        inputs = attention.chat_inputs(processor, image, QUESTION)
        return attention.answer_logprobs(model, inputs, ids).item()

    box = attention.square_box((1, 2), (3, 4), scene.image.size)
    assert box == (56, 28, 84, 56)
    fall = logprob(scene.image) - logprob(attention.cover(scene.image, box))
    assert values[1, 2].item() == pytest.approx(fall, abs=1e-3)


def test_batches_do_not_change_occlusion(model, processor, scene, monkeypatch):
    whole = attention.occlusion_map(model, processor, scene.image, QUESTION, "nothing", last=True)
    monkeypatch.setattr(attention, "BATCH", 5)
    parts = attention.look_maps(model, processor, scene.image, QUESTION, "nothing", last=True)
    torch.testing.assert_close(whole, parts.occlusion, atol=1e-3, rtol=0)
    assert parts.attention.shape[1:] == whole.shape


def test_a_covered_square_is_grey_and_the_picture_is_a_copy():
    image = Image.new("RGB", (56, 28), "red")
    covered = np.asarray(attention.cover(image, (28, 0, 56, 28)))
    assert (covered[:, 28:] == 128).all() and (covered[:, :28] == (255, 0, 0)).all()
    assert (np.asarray(image) == (255, 0, 0)).all()


def test_pointing():
    touched = attention.touched((20, 5, 40, 20), (2, 3), (84, 56))
    assert touched.tolist() == [[True, True, False], [False, False, False]]
    values = torch.tensor([[0.1, 0.5, 0.2], [0.0, 0.1, 0.1]])
    assert attention.points_at(values, (20, 5, 40, 20), (84, 56))
    assert not attention.points_at(values.flip(0), (20, 5, 40, 20), (84, 56))
    # a box that ends where a square begins does not touch it
    assert not attention.touched((0, 0, 28, 28), (2, 3), (84, 56))[0, 1]


def test_pointing_cases_show_the_flag_that_is_asked_about():
    cases = list(attention.pointing_cases(6, seed=3))
    assert len({case.question for case in cases}) > 1
    for case in cases:
        colour = case.question.removeprefix("What is on the ").split()[0]
        x0, y0, x1, y1 = map(int, case.box)
        edge = np.asarray(case.image)[y0 + 2 : y1 - 1, x0 + 2 : x1 - 1].reshape(-1, 3)
        distance = np.abs(edge.astype(int) - pictures.COLOURS[colour]).sum(1)
        assert (distance < 120).mean() > 0.25, case  # of the pixels, on any pattern
        assert case.image.size == (168, 112)
    again = attention.pointing_cases(6, seed=3)
    assert [case.question for case in again] == [case.question for case in cases]


def test_the_class_is_the_full_sizes(model):
    assert isinstance(model, Qwen2_5_VLForConditionalGeneration)
