"""mini-qwen-vl: its processor, its batched forward pass, its training batches and its scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from openmodels import minis
from openmodels.harbour import scenes
from openmodels.minis import (
    configs,
    evaluate,
    evaluate_vl,
    media_card,
    qwen_vl,
    tokenizer,
    train_vl,
    vl_data,
    vl_forward,
    vl_helper,
)

WORDS = tokenizer.load("mini-qwen-vl")
ENCODER = vl_data.Encoder(WORDS)
PROCESS = qwen_vl.Processor(WORDS)


@pytest.fixture(scope="module")
def run() -> train_vl.Run:
    recipe = train_vl.Recipe(budget=60, micro=1, warmup=1, text_warmup=1)
    return train_vl.Run(recipe, "cpu", torch.float32)


def chat(text: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": text}]
    return WORDS.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )


# --- Processor ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(112, 112), (100, 130), (30, 200), (900, 700), (57, 43)])
def test_a_picture_becomes_what_the_librarys_processor_makes_of_it(size):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    s = qwen_vl.MINI
    library = Qwen2VLImageProcessorPil(
        min_pixels=s.min_pixels, max_pixels=s.max_pixels, image_mean=s.mean, image_std=s.std
    )
    expected = library(image, return_tensors="pt")
    found = PROCESS(chat("What?"), image)
    assert torch.equal(found["image_grid_thw"], expected["image_grid_thw"])
    assert (found["pixel_values"] - expected["pixel_values"]).abs().max() < 1e-5
    count = int((found["input_ids"] == WORDS.convert_tokens_to_ids(qwen_vl.PLACE)).sum())
    assert count == s.tokens(*size) == int(expected["image_grid_thw"].prod()) // 4


def test_places_and_pictures_must_agree_in_number():
    with pytest.raises(ValueError, match="1 place.* but 0 picture"):
        PROCESS(chat("What?"))
    with pytest.raises(ValueError, match="0 place.* but 1 picture"):
        PROCESS("What?", Image.new("RGB", (56, 56)))
    with pytest.raises(ValueError, match="more than 200 times"):
        PROCESS(chat("What?"), Image.new("RGB", (3000, 10)))


def test_a_saved_processor_is_the_same(tmp_path):
    PROCESS.save_pretrained(tmp_path)
    loaded = qwen_vl.Processor.from_pretrained(tmp_path)
    assert loaded.shape == PROCESS.shape
    assert loaded.tokenizer.get_vocab() == WORDS.get_vocab()


def test_picture_tokens_come_after_the_shared_ones():
    shared = tokenizer.load().get_vocab()
    added = {t: n for t, n in WORDS.get_vocab().items() if t not in shared}
    assert added == {t: tokenizer.VOCABULARY + n for n, t in enumerate(qwen_vl.TOKENS)}
    config = configs.config("mini-qwen-vl")
    ids = (config.vision_start_token_id, config.vision_end_token_id, config.image_token_id,
           config.video_token_id)  # fmt: skip
    assert WORDS.convert_ids_to_tokens(list(ids)) == list(qwen_vl.TOKENS)


# --- Forward pass ---------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", scenes.KINDS)
def test_the_batched_pass_computes_what_the_library_computes(kind, run):
    model = run.model.eval()
    drawn = [scenes.scene(kind, n, size=scenes.SIZES[kind][-1]) for n in range(2)]
    question = drawn[0].questions[0]
    inputs = PROCESS([chat(question.text)] * 2, [scene.image for scene in drawn])
    ids = ENCODER.prompt(question, qwen_vl.MINI.tokens(*drawn[0].image.size))
    assert inputs["input_ids"].tolist() == [ids, ids]
    where = torch.from_numpy(vl_data.positions(ids, ENCODER.place, drawn[0].image.size)).long()
    expected, _ = model.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
    )
    assert torch.equal(where, expected[:, 0])
    pixels = torch.from_numpy(np.stack([np.array(scene.image) for scene in drawn]))
    seen, _ = vl_forward.see(model.model.visual, pixels)
    hidden = vl_forward.read(
        model.model.language_model, vl_forward.embed(model, inputs["input_ids"], seen),
        where[:, None].expand(3, 2, -1),
    )  # fmt: skip
    found = vl_forward.logits(model, hidden)
    assert (found - model(**inputs).logits).abs().max() < 1e-4


@torch.no_grad()
def test_rows_of_different_length_are_answered_as_the_library_answers_them(run):
    model = run.model.eval()
    size = (112, 112)
    drawn = [scenes.scene("flags", n, size=size) for n in range(3)]
    items = [
        evaluate_vl.Item(question, np.asarray(scene.image))
        for scene, question in zip(drawn, (d.questions[-1] for d in drawn), strict=True)
    ]
    written = evaluate_vl.answers(model, ENCODER, items)
    for item, scene, text in zip(items, drawn, written, strict=True):
        inputs = PROCESS(chat(item.question.text), scene.image)
        out = model.generate(**inputs, max_new_tokens=evaluate_vl.LONGEST, do_sample=False)
        new = out[0, inputs["input_ids"].shape[1] :]
        assert text == WORDS.decode(new, skip_special_tokens=True)


# --- Training -------------------------------------------------------------------------------------


def test_what_is_read_is_spelled_and_decodes_to_the_answer():
    scene = scenes.scene("form", 3)
    [question] = scene.questions
    ids = ENCODER.answer(question)
    assert WORDS.decode(ids) == question.answer + "<|im_end|>"
    for letter in vl_data.CHARACTERS:
        assert len(ENCODER.text(letter)) == 1
    name = question.spelled[0]
    assert [WORDS.decode([n]) for n in ENCODER.spell(name)] == list(name)


def test_a_rows_targets_are_its_answers():
    scene = scenes.scene("chart", 1, "train")
    row = ENCODER.row(scene.questions, scene.image.size)
    targets = [n for n, weight in zip(row.ids, row.weights, strict=True) if weight]
    expected = "".join(q.answer + "<|im_end|>" for q in scene.questions)
    assert WORDS.decode(targets) == expected
    assert row.positions.shape == (3, len(row.ids))


def test_letter_labels_stand_where_the_letters_are():
    scene = scenes.scene("notice", 2, "train")
    labels = vl_data.letter_labels(scene)
    assert len(labels) == 2 * scene.image.width * scene.image.height // 14**2
    printed = labels[labels[:, 0] > 0]
    found = sorted(vl_data.CHARACTERS[n - 1] for n in printed[:, 0])
    expected = sorted(letter.character for letter in scene.letters)
    assert len(found) >= 0.8 * len(expected) and set(found) <= set(expected)
    letter = scene.letters[0]
    columns = scene.image.width // 14
    x, y = int(letter.x // 14), int(letter.y // 14)
    square = (y // 2) * (columns // 2) + x // 2
    index = 2 * (4 * square + 2 * (y % 2) + x % 2) + int(letter.x // 7) % 2
    assert vl_data.CHARACTERS[labels[index, 0] - 1] == letter.character
    assert tuple(labels[index, 1:]) == (letter.string, letter.place)


def test_object_labels_say_where_a_patch_is_and_what_covers_it():
    scene = scenes.scene("flags", 4, "train", (168, 112))
    labels = vl_data.object_labels(scene)
    assert labels.shape == (12 * 8, vl_data.OBJECTS)
    # the model's order: the four patches of a token follow each other
    assert (labels[:5, :2] * vl_data.SCALE).tolist() == [
        [7, 7],
        [21, 7],
        [7, 21],
        [21, 21],
        [35, 7],
    ]
    x, y = labels[:, 0] * vl_data.SCALE, labels[:, 1] * vl_data.SCALE
    for mark in scene.marks:
        left, top, right, bottom = mark.box
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        boxes = {tuple(row) for row in np.round(labels[inside, 2:6] * vl_data.SCALE)}
        assert mark.box in boxes or not inside.any()
    uncovered = labels[:, 2] < 0
    assert uncovered.any()
    assert (labels[uncovered, 6:] == -1).all()


def test_marks_of_a_chart_carry_height_and_axis():
    scene = scenes.scene("chart", 3, "train", (224, 224))
    values = [
        int(part.rsplit(" ", 1)[1]) for part in scene.description[:-1].split(": ")[1].split(", ")
    ]
    tops = {scenes.TOPS[mark.labels["top"]] for mark in scene.marks}
    assert len(tops) == 1
    steps = [mark.labels["step"] + 1 for mark in scene.marks]
    assert [step * tops.copy().pop() // 10 for step in steps] == values
    tallest = max(scene.marks, key=lambda mark: mark.labels["step"])
    assert tallest.box[1] == min(mark.box[1] for mark in scene.marks)
    assert all(m.area[1] <= m.box[1] and m.area[3] >= m.box[3] for m in scene.marks)


def test_the_helper_learns_places_and_objects_without_letters(run):
    recipe = train_vl.continued(train_vl.Recipe(budget=60, micro=1), Path("x"), 0.5)
    assert (recipe.start, recipe.letters, recipe.reading) == ("x", False, 0.0)
    assert recipe.vision_rate == train_vl.Recipe().vision_rate / 2
    patches = torch.randn(2, 96, run.model.config.vision_config.hidden_size)
    drawn = [scenes.scene("flags", n, "train", (168, 112)) for n in (1, 2)]
    objects = torch.from_numpy(np.stack([vl_data.object_labels(scene) for scene in drawn]))
    reader = vl_helper.Reader(patches.shape[-1])
    optimiser = torch.optim.Adam(reader.parameters(), 3e-3)
    losses, errors = [], []
    for _ in range(60):
        loss, error = reader.object_loss(patches, objects)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        errors.append(error.item())
    assert losses[-1] < losses[0] / 3
    assert errors[-1] < errors[0] / 3


def test_a_run_continues_from_a_folder(run, tmp_path):
    train_vl.publish(run, WORDS, tmp_path)
    model = train_vl.build(train_vl.Recipe(start=str(tmp_path)))
    name = "model.visual.blocks.0.attn.qkv.weight"
    right = run.model.state_dict()[name].bfloat16().float()
    assert torch.equal(model.state_dict()[name], right)


def test_a_continued_run_lists_the_runs_before_it(tmp_path):
    file = tmp_path / "scores.json"
    assert train_vl.earlier_runs(file) == []
    first, second = {"steps": 3, "text": {"sums": 1.0}}, {"steps": 5}
    file.write_text(json.dumps({"run": second | {"earlier": [first]}}))
    assert train_vl.earlier_runs(file) == [first, second]


def test_a_card_tells_each_run_of_a_continued_model():
    results = json.loads((minis.shipped_dir("mini-qwen-vl") / "scores.json").read_text())
    first = results["run"] | {"earlier": []}
    second = first | {"steps": 77, "device": "a cpu", "helper": "objects", "earlier": [first]}
    text = media_card.vl_training(second)
    assert text.count(f"{first['steps']:,} steps") == 1
    assert "in 77 steps" in text
    assert "which flag or bar covers it" in text
    assert text.count("Before training:") == 1


def test_while_the_helper_learns_alone_the_text_model_does_not(run):
    source = vl_data.Source(ENCODER, 1, 60)
    before = {n: w.detach().clone() for n, w in run.model.named_parameters()}
    batch = train_vl.on_device(source.next(True, 1.0), "cpu")
    while batch.labels is None:  # flags have no letters
        batch = train_vl.on_device(source.next(True, 1.0), "cpu")
    first = run.step([batch], 1.0, True)["letters"].item()
    changed = {n for n, w in run.model.named_parameters() if not torch.equal(w, before[n])}
    assert any("blocks.0" in n for n in changed)
    assert not any("language_model" in n for n in changed)
    for _ in range(5):
        last = run.step([batch], 1.0, True)["letters"].item()
    assert last < first
    source = vl_data.Source(ENCODER, 2, 60)
    scene = source.scene("chart", (196, 168), 1.0)
    pixels = np.array(scene.image)[None]
    answers = train_vl.on_device(vl_data.collate("chart", [source.chat(scene)], pixels), "cpu")
    run.step([answers], 1.0, False)
    changed = {n for n, w in run.model.named_parameters() if not torch.equal(w, before[n])}
    assert any("language_model" in n for n in changed)


def test_a_published_model_is_loaded_as_it_was(run, tmp_path):
    train_vl.publish(run, WORDS, tmp_path)
    loaded = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    expected = dict(run.model.named_parameters())
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, expected[name].to(torch.bfloat16)), name
    assert (tmp_path / "model.safetensors").stat().st_size < 16 * 2**20
    assert loaded.config.text_config.eos_token_id == WORDS.eos_token_id


def test_the_text_model_starts_as_mini_qwen():
    model = train_vl.build(train_vl.Recipe())
    parent, words = evaluate.load(minis.weights_dir("mini-qwen"))
    ids = torch.tensor([words("Who runs the bakery?").input_ids])
    with torch.no_grad():
        expected = parent(ids).logits
        found = model(input_ids=ids).logits[..., : expected.shape[-1]]
    assert (found - expected).abs().max() < 1e-4


def test_the_stages_follow_each_other():
    recipe = train_vl.Recipe()
    assert train_vl.stage(0.0, recipe) == (True, 1.0)
    levels = [train_vl.stage(p, recipe) for p in (recipe.reading, 0.3, 1.0)]
    assert [reading for reading, _ in levels] == [False] * 3
    assert levels[0][1] < levels[1][1] < levels[2][1] == 1.0


# --- Scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ('[{"bbox_2d": [10, 10, 30, 30], "label": "red flag"}]', True),
        ('[{"bbox_2d": [12, 12, 32, 32], "label": "red flag"}]', True),
        ('[{"bbox_2d": [20, 20, 40, 40], "label": "red flag"}]', False),
        ('[{"bbox_2d": [10, 10, 30, 30], "label": "blue flag"}]', False),
        ('[{"bbox_2d": [10, 10, 30], "label": "red flag"}]', False),
        ('[{"bbox_2d": [10, 10, 30, 30], "label": "red flag"}', False),
        ('{"bbox_2d": [10, 10, 30, 30], "label": "red flag"}', False),
        ("[1, 2]", False),
        ("[]", False),
    ],
)
def test_boxes_need_the_label_and_half_the_overlap(written, right):
    answer = scenes.grounding([((10, 10, 30, 30), "red flag")])
    assert evaluate_vl.is_right(scenes.Question("boxes", "", answer), written) is right


def test_a_form_is_right_when_all_fields_are():
    answer = json.dumps({"customer": "Ada", "quantity": 3})
    question = scenes.Question("form", "", answer)
    assert evaluate_vl.is_right(question, '{"quantity":3, "customer":"Ada"}')
    assert not evaluate_vl.is_right(question, '{"customer": "Ada", "quantity": "3"}')
    assert not evaluate_vl.is_right(question, '{"customer": "Ada"')


def test_letters_wrong_are_counted():
    assert [evaluate_vl.edits("heron", w) for w in ("heron", "hero", "xheron", "hxron", "")] == [
        0, 1, 1, 1, 5,
    ]  # fmt: skip
    right = [scenes.Question("printed_invented", "", word) for word in ("abcd", "efgh")]
    items = [evaluate_vl.Item(question, None) for question in right]
    table = evaluate_vl.marked(items, ["abcd", "efxh"])
    assert table["printed_invented"]["correct"] == 1 and table["printed_invented"]["cer"] == 0.125


def test_jobs_share_out_all_questions_and_scales_change_the_pictures(tmp_path: Path):
    work = evaluate_vl.jobs(["gauge"], 60, 7)
    assert [job[1] for job in work] == [50, 10] and work[0][2] != work[1][2]
    [small], [large] = (evaluate_vl.items("gauge", 1, 3, scale) for scale in (0.75, 1.5))
    assert small.pixels.size < large.pixels.size
    assert small.question == large.question
