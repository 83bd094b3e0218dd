"""GGUF files against transformers: the same numbers, the same tokens, whole files or none."""

import base64
import io
import json
import multiprocessing
import shutil

import gguf
import numpy as np
import pytest
import torch
from PIL import Image

from openmodels import minis
from openmodels.gguf import export
from openmodels.harbour import pictures, world
from openmodels.minis import evaluate, images
from openmodels.serving.engine import Engine

TEXT = (
    "Zoë and Åse sold 12 coats at the café — 港口 🚢. Who sells the bread, and what does it cost?"
)
NAMES = (
    "mini-qwen", "mini-mistral", "mini-deepseek", "mini-scout", "mini-maverick", "mini-qwen-coder",
)  # fmt: skip
NAMES_WITHIN = ("Frida", "Leon", "Leo", "Eva", "Ivan", "Elin", "Rana")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENMODELS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_llama_cpp_computes_what_transformers_computes(name):
    model, tokenizer = evaluate.load(minis.weights_dir(name))
    ids = tokenizer(2 * TEXT).input_ids[:60]
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = torch.tensor([ids[:20]])
        written = model.generate(start, max_new_tokens=64, min_new_tokens=64, do_sample=False)
    size, [dot] = expected.shape[1], tokenizer(".").input_ids
    with Engine(export.gguf_file(name, "f32"), exact=True, threads=1) as engine:
        assert engine.tokenize(TEXT) == tokenizer(TEXT).input_ids
        for place in range(60):
            # a plain token is forced: of half a character llama.cpp tells no probabilities
            answer = engine.complete(
                ids[: place + 1], n_predict=1, n_probs=size, logit_bias=[[dot, 1000]],
                cache_prompt=False, ignore_eos=True,
            )  # fmt: skip
            rows = answer["completion_probabilities"][0]["top_logprobs"]
            found = torch.full((size,), float("nan"))
            for row in rows:
                found[row["id"]] = row["logprob"]
            off = (found - expected[place]).abs().max()  # nan where one is missing
            assert off <= 1e-4, (place, off)
        greedy = engine.complete(
            ids[:20], n_predict=64, temperature=0, ignore_eos=True, return_tokens=True
        )
    assert greedy["tokens"] == written[0, 20:].tolist()


def test_a_name_within_a_word_is_no_token_of_its_own():
    texts = ["Friday", "by Friday; a Friday", *map("On {}, {}.".format, world.DAYS, NAMES_WITHIN)]
    _, tokenizer = evaluate.load(minis.weights_dir("mini-qwen"))
    with Engine(export.gguf_file("mini-qwen"), threads=1) as engine:
        assert [engine.tokenize(text) for text in texts] == tokenizer(texts).input_ids


def picture(image: Image.Image) -> dict:
    data = io.BytesIO()
    image.save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def seeing(transposed: bool) -> Engine:
    seen = export.gguf_file("mini-scout", "f32", vision=True, transposed=transposed)
    return Engine(export.gguf_file("mini-scout", "f32"), seen, exact=True, threads=1)


def look(engine: Engine, one: pictures.Sighting, transposed: bool, **how) -> dict:
    """What llama.cpp answers to a picture's question."""
    image = one.image.transpose(Image.Transpose.TRANSPOSE) if transposed else one.image
    asked = [picture(image), {"type": "text", "text": one.messages[0]["content"][1]["text"]}]
    told = {"temperature": 0, "max_tokens": 20, **how}
    return engine.chat([{"role": "user", "content": asked}], **told)["choices"][0]


def right(task: str, transposed: bool, count: int = 20) -> int:
    """Right answers of `count` held-out pictures, read through llama.cpp."""
    with seeing(transposed) as engine:
        return sum(
            look(engine, one, transposed)["message"]["content"].strip() == one.answer["content"]
            for one in pictures.sightings(task, count)
        )


def test_turned_pictures_are_read_and_upright_ones_are_mixed_up():
    assert right("chart", transposed=True) >= 18  # 99 % in transformers
    assert right("chart", transposed=False) <= 14  # the tokens of a chart in the wrong order
    assert right("gauge", transposed=True) >= 18


@torch.no_grad()
def test_what_llama_cpp_makes_of_a_picture():
    """How far its log-probabilities of the answer's first token are from transformers'.

    Turned, they differ by what is left: llama.cpp leaves out <|image|>, which Llama 4 has before
    its patches, computes pixels in float32 and takes GELU's approximation. With the first two in
    transformers as well, 0.02 nats at most over 30 pictures; with none, 0.96; upright, 12.7.
    """
    model, tokenizer = evaluate.load(minis.weights_dir("mini-scout"))
    process = images.Processor(tokenizer)
    cases = [
        one for task in ("flag_colour", "gauge", "chart") for one in pictures.sightings(task, 4)
    ]
    rows = []
    for one in cases:
        read = process(evaluate.prompt(tokenizer, one), one.image)
        kept = read["input_ids"][0] != tokenizer.convert_tokens_to_ids(images.PLACE)
        values = torch.tensor(np.array(one.image), dtype=torch.float32).permute(2, 0, 1)[None]
        logits = model(input_ids=read["input_ids"][:, kept], pixel_values=values / 127.5 - 1).logits
        rows.append(logits[0, -1].log_softmax(-1).numpy())

    def farthest(transposed: bool) -> float:
        how = {"max_tokens": 1, "logprobs": True, "top_logprobs": len(tokenizer)}
        apart = 0.0
        with seeing(transposed) as engine:
            for one, row in zip(cases, rows, strict=True):
                [first] = look(engine, one, transposed, **how)["logprobs"]["content"]
                told = {top["id"]: top["logprob"] for top in first["top_logprobs"]}
                assert len(told) == len(row)
                apart = max(apart, *(abs(row[n] - value) for n, value in told.items()))
        return apart

    assert farthest(transposed=True) < 0.05
    assert farthest(transposed=False) > 1


def test_turning_twice_changes_nothing():
    config = export.AutoConfig.from_pretrained(minis.weights_dir("mini-scout")).vision_config
    turned = set()
    for name, values in export.tensors(minis.weights_dir("mini-scout")):
        if not name.startswith("vision_model."):
            continue
        once = export.transpose(name, values, config)
        assert np.array_equal(export.transpose(name, once, config), values), name
        turned |= {name} if not np.array_equal(once, values) else set()
    assert len(turned) == 3 + 4 * config.num_hidden_layers  # queries and keys, weights and biases


@pytest.mark.parametrize("kind, bits", {"f32": 32, "f16": 16, "q8_0": 8.5, "q4_0": 4.5}.items())
def test_matrices_are_stored_in_the_kind_asked_for(kind, bits):
    read = gguf.GGUFReader(export.gguf_file("mini-qwen", kind))
    assert read.get_field("general.file_type").contents() == int(export.FILE_TYPES[kind])
    # the specification of GGUF asks for it where a tensor is quantised
    version = read.get_field("general.quantization_version")
    assert (version and version.contents()) == (2 if bits < 16 else None)
    matrices = [tensor for tensor in read.tensors if len(tensor.shape) == 2]
    assert {tensor.tensor_type for tensor in matrices} == {export.KINDS[kind]}
    size = sum(tensor.n_bytes for tensor in matrices) * 8
    assert size == bits * sum(tensor.n_elements for tensor in matrices)


def test_a_file_is_made_once_and_again_when_the_folder_changes(tmp_path):
    home = tmp_path / "mine"
    shutil.copytree(minis.weights_dir("mini-qwen-xs"), home)
    first = export.gguf_file(home)
    stamp = first.stat().st_mtime_ns
    assert export.gguf_file(home) == first and first.stat().st_mtime_ns == stamp
    (home / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    second = export.gguf_file(home)
    assert second != first
    read = gguf.GGUFReader(second)
    assert read.get_field("tokenizer.chat_template").contents() == "{{ messages[0].content }}"


def made(name: str) -> bytes:
    return export.gguf_file(name, "q8_0").read_bytes()


def test_processes_that_ask_at_once_get_the_same_whole_file():
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        files = pool.map(made, ["mini-qwen-xs"] * 3)
    assert len(set(files)) == 1
    kept = [file.suffix for file in export.cache().iterdir()]
    assert kept.count(".gguf") == 1 and ".part" not in kept


def test_what_fails_midway_leaves_no_file(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(export, "add_tokenizer", broken)
    with pytest.raises(OSError, match="no space"):
        export.export(minis.weights_dir("mini-qwen-xs"), tmp_path / "x.gguf")
    assert list(tmp_path.iterdir()) == []


def test_clear_words_for_what_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match="no kind 'q3'; there are f32, f16"):
        export.export(minis.weights_dir("mini-qwen-xs"), tmp_path / "x.gguf", "q3")
    with pytest.raises(ValueError, match="reads no pictures"):
        export.export_vision(minis.weights_dir("mini-qwen-xs"), tmp_path / "x.gguf")
    home = tmp_path / "gpt2"
    home.mkdir()
    told = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    (home / "config.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ValueError, match="GPT2LMHeadModel.*only Qwen2ForCausalLM"):
        export.export(home, tmp_path / "x.gguf")
