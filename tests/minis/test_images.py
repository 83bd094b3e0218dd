"""mini-scout's pictures: from PIL to pixels and placeholder tokens, into training and scoring.

Nothing here measures how well a miniature sees: its card does.
"""

import dataclasses
import json
import random
import types

import numpy as np
import pytest
import torch
from PIL import Image
from test_minis import CONVERSATIONS
from transformers import AutoTokenizer, Llama4ForConditionalGeneration

from openmodels import catalog, minis
from openmodels.harbour import TASKS, Harbour, pictures
from openmodels.minis import (
    card,
    configs,
    data,
    evaluate,
    evaluate_audio,
    evaluate_code,
    evaluate_vl,
    images,
    tokenizer,
    train,
)

SHARED, SHIPPED = tokenizer.load(), tokenizer.load_with_images()


def sightings(count: int = 3, task: str = "chart", split: str = "train") -> list[pictures.Sighting]:
    return list(pictures.sightings(task, count, seed=5, split=split))


@pytest.fixture(scope="module")
def model() -> Llama4ForConditionalGeneration:
    torch.manual_seed(0)
    config = configs.config("mini-scout")
    return configs.model_class(config).from_config(config, attn_implementation="eager").eval()


# --- Configuration --------------------------------------------------------------------------------


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_scout_is_small_and_its_vision_smaller(model):
    assert type(model) is Llama4ForConditionalGeneration
    assert 2.0e6 < count(model) < 2.2e6
    assert count(model.vision_model) + count(model.multi_modal_projector) < 0.6e6


def test_scout_keeps_the_ratios_of_the_full_size_model(model):
    full, small = catalog.config("llama-4-scout"), model.config
    for vision in (full.vision_config, small.vision_config):
        assert vision.intermediate_size == vision.hidden_size / vision.pixel_shuffle_ratio**2
        assert vision.projector_input_dim == vision.projector_output_dim == vision.vision_output_dim
    assert small.text_config.layer_types == full.text_config.layer_types[:4]
    for field in ("num_experts_per_tok", "interleave_moe_layer_step", "use_qk_norm", "attn_scale",
                  "floor_scale", "attn_temperature_tuning", "no_rope_layer_interval",
                  "tie_word_embeddings", "attention_bias", "hidden_act"):  # fmt: skip
        assert getattr(full.text_config, field) == getattr(small.text_config, field), field


def test_the_configuration_names_the_image_tokens(model):
    config = model.config
    ids = [config.boi_token_index, config.eoi_token_index, config.image_token_index]
    assert SHIPPED.convert_ids_to_tokens(ids) == [images.START, images.END, images.PATCH]
    shape = images.Shape.of(config)
    assert shape == images.MINI
    pixels = torch.zeros(1, 3, shape.size, shape.size)
    assert model.get_image_features(pixels).last_hidden_state.shape[1] == shape.tokens == 16


# --- Tokenizer and template -----------------------------------------------------------------------


def test_image_tokens_come_after_the_shared_ones():
    vocabulary = SHIPPED.get_vocab()
    added = {token: id for token, id in vocabulary.items() if id >= tokenizer.VOCABULARY}
    assert added == {token: tokenizer.VOCABULARY + n for n, token in enumerate(images.TOKENS)}
    assert {t: id for t, id in vocabulary.items() if t not in added} == SHARED.get_vocab()
    text = "Ask Mara. <|image_start|><|patch|>7<|image_end|>"
    assert SHIPPED.tokenize(text)[-4:] == [images.START, images.PATCH, "7", images.END]
    assert SHIPPED.decode(SHIPPED(text).input_ids, skip_special_tokens=True) == "Ask Mara. 7"


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_chats_in_words_are_written_as_before(name):
    messages, tools, expected = CONVERSATIONS[name]
    asking = messages[-1]["role"] != "assistant"
    for loaded in (SHARED, SHIPPED):
        assert loaded.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=asking
        ) == expected  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_every_task_in_words_is_written_as_before(task):
    source = Harbour(1, "train", invented=0.3)
    for _ in range(10):
        instance = getattr(source, task)()
        assert data.render(SHIPPED, instance) == data.render(SHARED, instance)
        assert data.encode(SHIPPED, instance, 0.25) == data.encode(SHARED, instance, 0.25)


def test_a_picture_is_one_token_in_the_chat_and_written_out_for_the_model():
    chat = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "image"}]},
    ]
    text = SHIPPED.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|image|>What?<|im_end|>\n"
        "<|im_start|>assistant\nred<|im_end|>\n<|im_start|>user\nAnd <|image|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    written = "<|image_start|><|image|>" + 16 * "<|patch|>" + "<|image_end|>"
    assert images.MINI.expand(text, 2) == text.replace("<|image|>", written)


def test_a_model_of_words_refuses_a_picture():
    with pytest.raises(TypeError):
        SHARED.apply_chat_template([pictures.ask("What?")], tokenize=False)


# --- Pixels ---------------------------------------------------------------------------------------


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounded to bfloat16's 8 significant bits, ties to even: by the bits of float32."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def normalised(picture: np.ndarray) -> np.ndarray:
    """(height, width, 3) of 0-255 to (3, height, width): what the library's steps must give."""
    share = bfloat16(picture.astype(np.float32) * np.float32(1 / 255))
    return np.moveaxis(bfloat16(bfloat16(share - np.float32(0.5)) / np.float32(0.5)), -1, 0)


def test_a_picture_of_the_right_size_is_only_rescaled():
    for one in sightings():
        found = images.MINI.pixels(one.image)
        assert found.dtype == torch.float32 and found.shape == (3, 64, 64)
        assert np.array_equal(found.numpy(), normalised(np.asarray(one.image)))
        exact = np.moveaxis(np.asarray(one.image) / 127.5 - 1, -1, 0)
        assert np.abs(found.numpy() - exact).max() < 2**-7


def halved(picture: np.ndarray) -> np.ndarray:
    """Half the rows and columns, by a triangle two old pixels wide to each side: 1 3 3 1 of 8."""

    def rows(values: np.ndarray) -> np.ndarray:
        n = len(values) // 2
        places = 2 * np.arange(n)[:, None] + np.arange(-1, 3)  # (n, 4)
        weights = np.where((places >= 0) & (places < 2 * n), (1, 3, 3, 1), 0)
        near = values[places.clip(0, 2 * n - 1)]  # (n, 4, ...)
        return (near * weights[:, :, None, None]).sum(1) / weights.sum(1)[:, None, None]

    return rows(rows(picture).swapaxes(0, 1)).swapaxes(0, 1)


def test_a_wide_picture_is_scaled_to_fit_and_the_rest_is_black():
    drawn = np.random.default_rng(1).integers(0, 256, (80, 128, 3), dtype=np.uint8)
    found = images.MINI.pixels(Image.fromarray(drawn)).numpy()
    assert (found[:, 40:] == -1).all()
    away = np.abs(found[:, :40] - np.moveaxis(halved(drawn) / 127.5 - 1, -1, 0))
    assert away.max() < 1.1 / 127.5 + 2**-7
    tall = images.MINI.pixels(Image.fromarray(drawn.swapaxes(0, 1))).numpy()
    assert (tall[:, :, 40:] == -1).all()
    thin = images.MINI.pixels(Image.new("RGB", (3, 900), "white")).numpy()
    assert (thin[:, :, :1] == 1).all() and (thin[:, :, 1:] == -1).all()


def test_transparency_is_laid_on_white_and_grey_becomes_rgb():
    clear = images.MINI.pixels(Image.new("RGBA", (64, 64), (255, 0, 0, 0)))
    assert (clear == 1).all()
    grey = images.MINI.pixels(Image.new("L", (64, 64), 255))
    assert grey.shape == (3, 64, 64) and (grey == 1).all()


def library() -> object:
    """transformers' image processor for Llama 4, set to mini-scout's one tile."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: its wheel was made for CUDA
        pytest.skip(f"the library's processor needs torchvision, which does not import: {error}")
    from transformers.models.llama4.image_processing_llama4 import Llama4ImageProcessor

    return Llama4ImageProcessor(size={"height": 64, "width": 64}, max_patches=1)


@pytest.mark.parametrize("size", [(64, 64), (49, 49), (20, 13), (13, 20), (300, 200), (7, 640)])
def test_the_library_gives_the_same_pixels(size):
    processor, rng = library(), np.random.default_rng(2)
    for channels in (3, 4):
        drawn = rng.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
        picture = Image.fromarray(drawn)
        theirs = processor(picture, return_tensors="pt")
        assert theirs["aspect_ratios"].tolist() == [[1, 1]]
        away = (theirs["pixel_values"][0].float() - images.MINI.pixels(picture)).abs()
        if size == (64, 64):
            assert away.max() == 0
        assert away.max() <= 2**-6  # one level of 255, rounded


def test_the_library_writes_the_same_inputs():
    from transformers.models.llama4.processing_llama4 import Llama4Processor

    theirs = Llama4Processor(library(), SHIPPED, patch_size=8, chat_template=SHIPPED.chat_template)
    ours = images.Processor(SHIPPED)
    for one in sightings():
        text = evaluate.prompt(SHIPPED, one)
        expected, found = theirs(text=text, images=one.image, return_tensors="pt"), ours(
            text, one.image)  # fmt: skip
        assert set(found) == set(expected)
        for key, value in found.items():
            assert torch.equal(value, expected[key].to(value.dtype)), key


# --- Processor ------------------------------------------------------------------------------------


def test_texts_of_several_lengths_are_padded_on_the_left():
    first, second, _ = sightings()
    process = images.Processor(SHIPPED)
    texts = [evaluate.prompt(SHIPPED, first), "Well, well. " + evaluate.prompt(SHIPPED, second)]
    inputs = process(texts, [first.image, second.image])
    alone = process(texts[0], first.image)
    padding = inputs["input_ids"].shape[1] - alone["input_ids"].shape[1]
    assert padding > 0
    assert inputs["input_ids"][0].tolist() == padding * [0] + alone["input_ids"][0].tolist()
    assert inputs["attention_mask"].sum(1).tolist() == [
        alone["input_ids"].shape[1], inputs["input_ids"].shape[1],
    ]  # fmt: skip
    assert torch.equal(inputs["pixel_values"][0], alone["pixel_values"][0])
    assert inputs["pixel_values"].shape == (2, 3, 64, 64)
    assert set(process("no picture")) == {"input_ids", "attention_mask"}


def test_errors_say_what_was_wrong(tmp_path, monkeypatch):
    process, picture = images.Processor(SHIPPED), Image.new("RGB", (64, 64))
    with pytest.raises(ValueError, match=r"2 place\(s\) .* 1 picture\(s\)"):
        process(["<|image|>", "<|image|>"], picture)
    with pytest.raises(ValueError, match=r"0 place\(s\) .* 1 picture\(s\)"):
        process("What is this?", picture)
    with pytest.raises(ValueError, match=r"already holds <\|patch\|>"):
        process("<|image|><|patch|>", picture)
    with pytest.raises(ValueError, match="only 'pt'"):
        process("<|image|>", picture, return_tensors="np")
    with pytest.raises(ValueError, match="not ndarray"):
        process("<|image|>", [np.zeros((64, 64, 3))])
    with pytest.raises(ValueError, match="mode I;16 has more than 8 bits"):
        process("<|image|>", Image.new("I;16", (64, 64)))
    with pytest.raises(ValueError, match="0 x 64 pixels"):
        process("<|image|>", Image.new("RGB", (0, 64)))
    with pytest.raises(ValueError, match="10000 x 10000 pixels"):
        process("<|image|>", Image.new("1", (10_000, 10_000)))
    file = tmp_path / "flag.png"
    file.write_text("not a picture")
    with pytest.raises(ValueError, match="flag.png is not a picture"):
        process("<|image|>", file)
    monkeypatch.setattr(images, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="flag.png has 13 bytes; at most 10"):
        process("<|image|>", file)
    with pytest.raises(FileNotFoundError):
        process("<|image|>", tmp_path / "none.png")


def test_a_saved_processor_does_the_same(tmp_path):
    shape = images.Shape(size=32, patch_size=4, mean=(0.4, 0.5, 0.6))
    images.Processor(SHIPPED, shape).save_pretrained(tmp_path)
    again = images.Processor.from_pretrained(tmp_path)
    assert again.shape == shape
    one = sightings(1)[0]
    file = tmp_path / "flag.png"
    one.image.save(file)
    text = evaluate.prompt(again.tokenizer, one)
    assert text == evaluate.prompt(SHIPPED, one)
    ours, theirs = images.Processor(SHIPPED, shape)(text, one.image), again(text, file)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    path = tmp_path / images.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_patches": 16}))
    with pytest.raises(ValueError, match="max_patches is 16"):
        images.Processor.from_pretrained(tmp_path)


# --- Training data --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", pictures.TASKS)
def test_a_training_document_is_what_the_model_will_read(task):
    for one in sightings(5, task):
        document = data.encode(SHIPPED, one, context_weight=0.25)
        inputs = images.Processor(SHIPPED)(data.render(SHIPPED, one), one.image)
        assert document.ids == inputs["input_ids"][0].tolist()
        assert torch.equal(torch.stack(document.images), inputs["pixel_values"])
        pairs = list(zip(document.ids, document.weights, strict=True))
        answer = SHIPPED.decode([token for token, weight in pairs if weight == 1])
        assert answer == one.answer["content"] + "<|im_end|>"
        assert sum(weight == 0 for token, weight in pairs if token >= tokenizer.VOCABULARY) == 19
        assert one.messages[0]["content"][1]["text"] in SHIPPED.decode(
            [token for token, weight in pairs if weight == 0.25]
        )


def test_pictures_are_packed_in_the_order_of_their_places():
    shown = sightings(5)
    pool = [data.encode(SHIPPED, one, 0.1) for one in shown]
    pool.insert(2, data.Document([30] * 90, [1.0] * 90))  # fills a row, so a picture moves on
    batch = data.pack(pool, rows=4, length=128)
    assert pool == []
    assert batch.pixels.shape == (5, 3, 64, 64)
    places = (batch.ids == SHIPPED.convert_tokens_to_ids(images.PLACE)).nonzero()
    questions = []
    for row, place in places.tolist():
        rest = SHIPPED.decode(batch.ids[row, place + 18 :].tolist())
        questions.append(rest.split("<|im_end|>")[0])
    keys = [one.messages[0]["content"][1]["text"] for one in shown]
    order = [next(n for n, one in enumerate(shown) if torch.equal(images.MINI.pixels(one.image), p))
             for p in batch.pixels]  # fmt: skip
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert [keys[n] for n in order] == [question.strip() for question in questions]
    assert not torch.isin(batch.targets, torch.arange(tokenizer.VOCABULARY, len(SHIPPED))).any()
    assert data.pack([data.Document([30] * 9, [1.0] * 9)], 1, 16).pixels is None


def recipe(**changes) -> train.Recipe:
    return dataclasses.replace(train.RECIPES["mini-scout"], batch_tokens=1536, start="", **changes)


def test_text_is_drawn_as_before_from_a_mix_without_pictures():
    """Image tokens in the vocabulary change nothing, not even in drills on random tokens."""
    plain = dataclasses.replace(train.RECIPES["mini-qwen"], drill_share=0.3)
    ours, theirs = (data.Stream(t, plain, seed=3, batch_tokens=1536) for t in (SHIPPED, SHARED))
    for step in range(6):
        one, other = ours.next(step * 10**6), theirs.next(step * 10**6)
        assert one.pixels is None
        for key in ("ids", "positions", "targets", "weights"):
            assert torch.equal(getattr(one, key), getattr(other, key))


def test_a_stream_mixes_in_pictures_as_often_as_the_recipe_says(monkeypatch):
    drawn = []
    encode = data.encode
    monkeypatch.setattr(
        data,
        "encode",
        lambda t, i, *more, **weights: drawn.append(i) or encode(t, i, *more, **weights),
    )
    mix = {"order": 1, "gauge": 2, "chart": 1}
    stream = data.Stream(SHIPPED, recipe(mix=mix, curriculum=("order",), drill_share=0.0), 1, 1536)
    batches = [stream.next(seen) for seen in (0, *[10**9] * 20)]
    shown = [one.task for one in drawn if isinstance(one, pictures.Sighting)]
    assert 0.65 < len(shown) / len(drawn) < 0.85
    assert 0.5 < shown.count("gauge") / len(shown) < 0.8
    keys = {one.key for task in ("gauge", "chart") for one in pictures.sightings(task, 300)}
    assert not keys & {one.key for one in drawn}
    patch = SHIPPED.convert_tokens_to_ids(images.PATCH)
    for batch in batches:
        n_pictures = 0 if batch.pixels is None else len(batch.pixels)
        assert (batch.ids == patch).sum() == 16 * n_pictures


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_stream_puts_a_share_of_the_pictures_after_their_question(share, monkeypatch):
    orders = []
    encode = data.encode

    def record(reader, sighting, *options):
        orders.append(sighting.messages[0]["content"][0]["type"])
        return encode(reader, sighting, *options)

    monkeypatch.setattr(data, "encode", record)
    mix = recipe(mix={"order": 1, "gauge": 2000}, drill_share=0.0, picture_last=share)
    stream = data.Stream(SHIPPED, mix, 1, 1536)
    for _ in range(10):
        stream.next(10**9)
    assert len(orders) > 150
    assert abs(orders.count("text") / len(orders) - share) < 0.1


def test_the_question_then_the_picture_is_what_the_model_reads():
    sighting = pictures.put_last(sightings(1, "gauge")[0])
    ids = data.encode(SHIPPED, sighting, 0.1).ids
    text = SHIPPED.decode(ids)
    assert text.index("gauge show?") < text.index(images.START)
    assert ids.count(SHIPPED.convert_tokens_to_ids(images.PATCH)) == 16


# --- Model ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_pictures_are_embedded_as_the_model_does(model):
    inputs = images.Processor(SHIPPED)(
        [evaluate.prompt(SHIPPED, one) for one in sightings(2, "gauge")],
        [one.image for one in sightings(2, "gauge")],
    )
    embedded = images.embed(model, inputs["input_ids"], inputs["pixel_values"])
    expected = model(**inputs).logits
    found = model.language_model(
        inputs_embeds=embedded, attention_mask=inputs["attention_mask"]
    ).logits
    assert torch.equal(found, expected)
    swapped = images.embed(model, inputs["input_ids"], inputs["pixel_values"].flip(0))
    assert not torch.equal(swapped, embedded)


@torch.no_grad()
def test_packed_pictures_do_not_see_each_other(model):
    """Also in the layers that look back within a chunk of the row."""
    pool = [data.encode(SHIPPED, one, 0.1) for one in sightings(4)]
    originals = list(pool)
    batch = data.pack(pool, rows=1, length=256)
    embedded = images.embed(model, batch.ids, batch.pixels)
    packed = model.language_model(
        inputs_embeds=embedded, position_ids=batch.positions, use_cache=False
    ).logits[0]
    start = 0
    for document in originals:
        stop = start + len(document.ids)
        assert batch.ids[0, start:stop].tolist() == document.ids
        alone = model(
            input_ids=torch.tensor([document.ids]), pixel_values=torch.stack(document.images)
        ).logits[0]
        torch.testing.assert_close(packed[start:stop], alone, rtol=0, atol=2e-5)
        start = stop
    assert start > 200


@torch.no_grad()
def test_a_long_document_in_its_row_is_read_as_it_is_alone(model):
    """Beyond one chunk of 256 tokens: training cuts where generation cuts."""
    rng = random.Random(1)
    pool = [data.Document([rng.randrange(20, 1500) for _ in range(n)], [1.0] * n) for n in (300, 8)]
    ids = torch.tensor([pool[0].ids])
    batch = data.pack(pool, rows=1, length=512)
    packed = model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False).logits
    torch.testing.assert_close(packed[:, :300], model(input_ids=ids).logits, rtol=0, atol=2e-5)
    far = ids.clone()
    far[0, 0] = 19  # only the layer that looks at everything can tell, so little changes
    assert (model(input_ids=far).logits[0, 299] - packed[0, 299]).abs().max() > 0


@pytest.mark.parametrize("length", [100, 300])
def test_a_padded_batch_writes_what_each_text_alone_does(model, length):
    """With the cache, and beyond one chunk of attention."""
    words = [SHIPPED.decode(random.Random(n).choices(range(300, 1200), k=length)) for n in (1, 2)]
    shown = sightings(2, "flag_colour")
    prompts = [w + evaluate.prompt(SHIPPED, one) for w, one in zip(words, shown, strict=True)]
    prompts[1] += " and one thing more"
    drawn = [one.image for one in shown]
    process = images.Processor(SHIPPED)
    together = process(prompts, drawn)
    assert together["attention_mask"].min() == 0
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    size = together["input_ids"].shape[1]
    found = model.generate(**together, **options)[:, size:]
    for text, picture, row in zip(prompts, drawn, found, strict=True):
        inputs = process(text, picture)
        alone = model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
        assert row.tolist() == alone.tolist()
        ids = inputs["input_ids"]
        for _ in range(6):  # without a cache
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
        assert row.tolist() == ids[0, -6:].tolist()


# --- Training and scoring -------------------------------------------------------------------------


@pytest.fixture
def make_run(monkeypatch, tmp_path):
    monkeypatch.setitem(
        train.RECIPES, "mini-scout", recipe(warmup=2, mix={"chart": 1}, drill_share=0.0)
    )
    return lambda dtype=torch.float32: train.Run("mini-scout", 0, 1, "cpu", tmp_path, dtype)


def test_a_second_stage_starts_from_the_shipped_weights(tmp_path):
    run = train.Run("mini-scout", 0, 1, "cpu", tmp_path, torch.float32, continued=True)
    assert run.recipe is train.CONTINUED["mini-scout"] and run.recipe.picture_last == 0.5
    shipped = evaluate.load(minis.shipped_dir("mini-scout"))[0].state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in run.model.named_parameters())


def test_a_second_stage_is_averaged_with_the_first(tmp_path):
    run = train.Run("mini-scout", 0, 1, "cpu", tmp_path, torch.float32, continued=True)
    shipped = evaluate.load(minis.shipped_dir("mini-scout"))[0].state_dict()
    name = "language_model.model.norm.weight"
    with torch.no_grad():
        run.masters[name] += 1
    run.average()
    assert torch.allclose(run.weights[name], shipped[name] + run.recipe.average)
    other = "language_model.lm_head.weight"
    assert torch.allclose(run.weights[other], shipped[other])


def test_a_second_stage_is_marked_in_the_log(tmp_path, monkeypatch):
    run = train.Run("mini-scout", 0, 1, "cpu", tmp_path, torch.float32, continued=True)
    monkeypatch.setattr(run, "watch", lambda: {"chart": 0.5})
    train._check(run, 0.1, lambda *_, **__: None)
    record = json.loads((tmp_path / "log.jsonl").read_text())
    assert record["continued"] is True and record["date"]


def test_scores_can_put_the_picture_last(monkeypatch):
    prompts = []

    def answer(model, reader, texts, **options):
        prompts.extend(texts)
        return [""] * len(texts)

    monkeypatch.setattr(evaluate, "answer", answer)
    config = types.SimpleNamespace(model_type="llama4")
    monkeypatch.setattr(evaluate, "media_scores", lambda config: None)
    for last in (False, True):
        evaluate.evaluate(
            types.SimpleNamespace(config=config), SHIPPED, ["gauge"], 2, picture_last=last
        )
    question = "What number does the gauge show?"
    assert [text.index(images.PLACE) > text.index(question) for text in prompts] == [
        False, False, True, True
    ]  # fmt: skip


def test_the_card_shows_both_orders_and_the_second_stage():
    stored = json.loads((minis.shipped_dir("mini-scout") / "scores.json").read_text("utf-8"))
    last = {task: {"correct": 401, "n": 500, "low": 0.7, "high": 0.9} for task in pictures.TASKS}
    first = {"correct": 123, "n": 500, "low": 0.2, "high": 0.3}
    stored["picture_last"] = last
    stored["first_stage"] = {"tasks": stored["tasks"], "picture_last": {"gauge": first}}
    stored["second_stage"] = {
        "tokens": 2e6, "seconds": 720, "on": [1, "cpu", "bfloat16"], "date": "2026-01-02"
    }  # fmt: skip
    text = card.render("mini-scout", stored)
    row = next(line for line in text.splitlines() if line.startswith("| gauge") and "80.2%" in line)
    assert row.endswith("| 80.2% | 70.0% – 90.0% | 24.6% |")
    assert (
        "2.0 M tokens in 12 minutes" in text and "2026-01-02" in text and "| first stage |" in text
    )


def batch_of(shown: list[pictures.Sighting]) -> data.Batch:
    return data.pack([data.encode(SHIPPED, one, 0.0) for one in shown], len(shown), 64)


def two_charts() -> list[pictures.Sighting]:
    """The same question about two pictures with different answers: only sight tells them apart."""
    question, *found = "Which bar is the tallest?", *sightings(30)
    found = [one for one in found if one.messages[0]["content"][1]["text"] == question]
    return [found[0], next(o for o in found if o.answer["content"] != found[0].answer["content"])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_few_steps_teach_it_to_look(make_run, dtype, tmp_path):
    run, shown = make_run(dtype), two_charts()
    batch = batch_of(shown)
    losses = [run.step(batch, rate=0.3) for _ in range(30)]
    assert losses[-1] < 0.1 * losses[0]
    run.model.eval()
    for one in shown:
        right, text = run.predict(one)
        assert all(right)
        assert text == one.answer["content"] + "<|im_end|>"
    train.publish(run.model, images.Processor(run.tokenizer, run.shape), tmp_path)
    model, loaded = evaluate.load(tmp_path)
    prompts = [evaluate.prompt(loaded, one) for one in shown]
    assert prompts[0] == prompts[1]
    drawn, answers = zip(*((one.image, one.answer["content"]) for one in shown), strict=True)
    assert evaluate.answer(model, loaded, prompts, pictures=drawn) == list(answers)
    assert evaluate.answer(model, loaded, prompts, pictures=drawn[::-1]) == list(answers[::-1])


def test_a_batch_without_pictures_leaves_the_vision_tower_alone(make_run):
    run = make_run()
    run.step(batch_of(two_charts()), rate=1)
    query = "vision_model.model.layers.0.self_attn.q_proj.weight"
    other = "language_model.model.layers.0.self_attn.q_proj.weight"
    before = {name: run.weights[name].detach().clone() for name in (query, other)}
    text = data.pack([data.recall(random.Random(1), 200, 64) for _ in range(4)], 4, 64)
    run.step(text, rate=1)
    kept = 1 - run.recipe.matrix_rate * run.recipe.weight_decay
    torch.testing.assert_close(run.weights[query].detach(), before[query] * kept)
    assert (run.weights[other] - before[other] * kept).abs().max() > 1e-3


def test_a_published_scout_reloads_to_the_same_logits(make_run, tmp_path):
    run = make_run()
    run.step(batch_of(two_charts()), rate=1)
    run.model.eval()
    train.publish(run.model, images.Processor(run.tokenizer, run.shape), tmp_path)
    again = configs.model_class(run.model.config).from_pretrained(
        tmp_path, attn_implementation="eager"
    )
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert again.generation_config.eos_token_id == SHIPPED.eos_token_id
    process, one = images.Processor.from_pretrained(tmp_path), sightings(1)[0]
    inputs = process(evaluate.prompt(process.tokenizer, one), one.image).to(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, run.model(**inputs).logits)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == SHIPPED.get_vocab()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"model.safetensors", "chat_template.jinja", images.CONFIG} <= names


def test_a_checkpoint_resumes_where_it_was(make_run):
    run = make_run()
    run.step(batch_of(two_charts()), rate=1)
    run.save()
    again = make_run()
    assert again.resume()
    for one in (run, again):
        one.step(batch_of(two_charts()), rate=1)
    assert all(torch.equal(w, again.weights[name]) for name, w in run.weights.items())


def test_watching_scores_pictures_too(make_run, monkeypatch):
    monkeypatch.setattr(train, "WATCHED", ("fact",))
    scores = make_run().watch(count=2)
    assert set(scores) == {"fact", *pictures.TASKS}
    assert all(0 <= score <= 1 for score in scores.values())


def test_pictures_are_scored_by_what_is_written(model, monkeypatch):
    assert evaluate.scored(model.config, SHIPPED) == evaluate.SCORED + pictures.TASKS
    assert evaluate.scored(configs.config("mini-qwen"), SHARED) == evaluate.SCORED
    words = set(evaluate.scored(model.config, SHIPPED)) | set(evaluate_code.SCORED)
    words |= {*evaluate.scored(configs.config("mini-qwen-agent"), SHARED), "recall_5"}
    words |= {*evaluate_vl.TASKS, *evaluate_audio.TASKS, "call_chinese"}  # spoken by espeak-ng
    assert set(minis.TASK_WORDS) == words
    assert list(evaluate.evaluate(model, SHIPPED, ["gauge"], count=3)) == ["gauge"]
    right = {}
    for task in pictures.TASKS:
        for one in pictures.sightings(task, 8, seed=0, split="test"):
            right[evaluate.prompt(SHIPPED, one), one.image.tobytes()] = one.answer["content"]

    def answer(_model, _tokenizer, prompts, pictures, batch, longest):
        told = [right[p, i.tobytes()] for p, i in zip(prompts, pictures, strict=True)]
        return told[:-1] + [told[-1] + "x"]

    monkeypatch.setattr(evaluate, "answer", answer)
    found = evaluate.evaluate(model, SHIPPED, pictures.TASKS, count=8)
    assert found == dict.fromkeys(pictures.TASKS, evaluate.score(7, 8))
