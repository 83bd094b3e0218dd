"""A random Qwen2.5-VL through llama.cpp and through transformers: the same log-probabilities."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from openmodels.gguf import export
from openmodels.gguf import qwen_vl as exporter
from openmodels.minis import configs, qwen_vl, tokenizer
from openmodels.serving.engine import Engine

QUESTION = "What is this?"
EXACT = 0.004  # nats: llama.cpp rounds its patch embedding to 16 bits
SIZES = ((112, 112), (224, 56), (56, 224), (224, 168), (336, 224), (140, 196))
UNEVEN = ((100, 130), (200, 100), (300, 333))  # their shape changes when resized to squares of 28


def small_config():
    """mini-qwen-vl's configuration with half the text layers."""
    config = configs.config("mini-qwen-vl")
    config.text_config.num_hidden_layers = 3
    config.text_config.layer_types = config.text_config.layer_types[:3]
    return config


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with random weights, large enough for the picture to change the answer."""
    folder = tmp_path_factory.mktemp("random-vl")
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(small_config()).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight) * 0.1)
            elif "visual" in name:
                weight.mul_(3)
    model.save_pretrained(folder)
    qwen_vl.Processor(tokenizer.load("mini-qwen-vl")).save_pretrained(folder)
    export.export(folder, folder / "text.gguf", "f32")
    export.export_vision(folder, folder / "vision.gguf", "f32")
    return folder


@pytest.fixture(scope="module")
def engine(home):
    files = home / "text.gguf", home / "vision.gguf"
    with Engine(*files, exact=True, threads=1, context=2048) as engine:
        yield engine


@pytest.fixture(scope="module")
def model(home):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(home, dtype=torch.float32)
    return model.eval()


def picture(width: int, height: int) -> Image.Image:
    """A smooth random picture."""
    rng = np.random.default_rng(width * 1000 + height)
    coarse = rng.integers(0, 256, (height // 14 + 1, width // 14 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def part(image: Image.Image) -> dict:
    data = io.BytesIO()
    image.save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def through_llama_cpp(engine: Engine, image: Image.Image) -> tuple[dict[int, float], int]:
    """Log-probabilities of the answer's first token, and how many tokens the prompt has."""
    asked = [part(image), {"type": "text", "text": QUESTION}]
    answer = engine.chat(
        [{"role": "user", "content": asked}],
        max_tokens=1, temperature=0, logprobs=True, top_logprobs=2000,
    )  # fmt: skip
    [first] = answer["choices"][0]["logprobs"]["content"]
    rows = {top["id"]: top["logprob"] for top in first["top_logprobs"]}
    return rows, answer["usage"]["prompt_tokens"]


@torch.no_grad()
def through_transformers(model, home: Path, image: Image.Image) -> tuple[np.ndarray, int]:
    process = qwen_vl.Processor.from_pretrained(home)
    asked = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = process.tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
    )
    inputs = process(text, image)
    row = model(**inputs).logits[0, -1].log_softmax(-1).numpy()
    return row, inputs["input_ids"].shape[1]


def apart(rows: dict[int, float], row: np.ndarray) -> float:
    assert len(rows) == len(row)
    return max(abs(row[number] - value) for number, value in rows.items())


@pytest.mark.parametrize("size", SIZES)
def test_llama_cpp_reads_a_picture_of_whole_squares_as_transformers_does(size, engine, model, home):
    rows, tokens = through_llama_cpp(engine, picture(*size))
    row, expected = through_transformers(model, home, picture(*size))
    assert tokens == expected
    assert apart(rows, row) < EXACT
    other, _ = through_transformers(model, home, picture(*size).rotate(180))
    assert np.abs(other - row).max() > 50 * EXACT  # the picture does change the answer


def letterboxed(image: Image.Image) -> Image.Image:
    """The picture as llama.cpp resizes it: its shape kept, black around it."""
    size = qwen_vl.MINI.size(*image.size)
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = tuple(
        min(full, round(side * scale)) for side, full in zip(image.size, size, strict=True)
    )
    canvas = Image.new("RGB", size)
    middle = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas.paste(image.resize(inner, Image.Resampling.BICUBIC), middle)
    return canvas


@pytest.mark.parametrize("size", UNEVEN)
def test_llama_cpp_puts_other_pictures_on_black_where_transformers_stretches(
    size, engine, model, home
):
    image = picture(*size)
    rows, tokens = through_llama_cpp(engine, image)
    stretched, expected = through_transformers(model, home, image)
    assert tokens == expected
    assert apart(rows, stretched) > 50 * EXACT
    assert apart(rows, through_transformers(model, home, letterboxed(image))[0]) < EXACT
    # a picture resized before it is sent is read the same by both
    resized = qwen_vl.MINI.resize(image)
    assert apart(through_llama_cpp(engine, resized)[0], stretched) < EXACT


def test_small_and_large_pictures_cost_what_the_formula_says(engine, model, home):
    for size, squares in (((30, 30), 9), ((1000, 800), 238)):
        _, tokens = through_llama_cpp(engine, picture(*size))
        assert qwen_vl.MINI.tokens(*size) == squares
        assert tokens == through_transformers(model, home, picture(*size))[1]


def test_a_tower_that_llama_cpp_cannot_compute_is_refused(home, tmp_path):
    for field, value in (("window_size", 56), ("fullatt_block_indexes", [1, 5])):
        config = small_config()
        setattr(config.vision_config, field, value)
        with pytest.raises(ValueError, match="llama.cpp needs a window of 112"):
            exporter.describe_vision(None, config, home)
