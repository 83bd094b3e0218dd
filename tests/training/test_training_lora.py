"""Adapting: what is learned from, what a step costs, and adapters as files."""

import copy
import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from openmodels import catalog, minis, sizing
from openmodels.gguf import export
from openmodels.gguf import lora as gguf_lora
from openmodels.harbour import dialect, instances
from openmodels.minis import data, evaluate
from openmodels.serving.engine import Engine
from openmodels.training import lora

LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
ORDERS = list(dialect.orders(5))


@pytest.fixture(scope="module")
def loaded():
    return evaluate.load(minis.shipped_dir("mini-qwen"))


@pytest.fixture(scope="module")
def pupil(loaded):
    """mini-qwen with an adapter that does something: its B is not zero."""
    torch.manual_seed(0)
    adapted = get_peft_model(copy.deepcopy(loaded[0]), LORA)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if ".lora_B." in name:
                weight.normal_(std=0.05)
    return adapted.eval()


@pytest.fixture
def folder(pupil, tmp_path):
    pupil.save_pretrained(tmp_path / "reef")
    return tmp_path / "reef"


def scores(model, tokenizer, text):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits[0, -1].log_softmax(-1)


def test_labels_are_the_answers_alone(loaded):
    _, tokenizer = loaded
    made = lora.batch(tokenizer, ORDERS)
    assert made["input_ids"].shape == made["attention_mask"].shape == made["labels"].shape
    for order, ids, mask, labels in zip(ORDERS, *made.values(), strict=True):
        assert tokenizer.decode(ids[mask == 1]) == data.render(tokenizer, order)
        assert tokenizer.decode(labels[labels != -100]) == order.answer["content"] + "<|im_end|>"
        assert not mask[mask.sum() :].any()  # padding on the right only


def test_the_loss_is_that_of_the_answer_and_padding_changes_nothing(loaded):
    model, tokenizer = loaded
    together = lora.batch(tokenizer, ORDERS)
    apart = [lora.batch(tokenizer, [order]) for order in ORDERS]
    with torch.no_grad():
        losses = [model(**one).loss * (one["labels"] != -100).sum() for one in apart]
        whole = model(**together).loss * (together["labels"] != -100).sum()
    assert sum(losses).item() == pytest.approx(whole.item(), rel=1e-4)


def test_batches_lose_no_instance(loaded):
    sizes = [len(one["labels"]) for one in lora.batches(loaded[1], iter(ORDERS), 2)]
    assert sizes == [2, 2, 1]


def test_old_work_is_mixed_in_at_its_share():
    old = list(instances("order", 2))
    assert list(lora.mixed(ORDERS, old, every=2)) == [
        *ORDERS[:2], old[0], *ORDERS[2:4], old[1], ORDERS[4],
    ]  # fmt: skip


@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "all"])
def test_a_step_is_counted_without_weights_as_it_is_with_them(adapter):
    config = AutoConfig.from_pretrained(minis.shipped_dir("mini-qwen"))
    counted = lora.needs(config, adapter, rows=2, tokens=24)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    if adapter:
        model = get_peft_model(model, adapter)
    assert counted == lora.measured(model, torch.zeros((2, 24), dtype=torch.long))
    assert counted.memory == counted.weights + counted.training + counted.activations


def test_what_a_step_costs_at_full_size():
    config = catalog.config("qwen2.5-0.5b")
    whole, adapted = (lora.needs(config, one, 1, 64) for one in (None, LORA))
    # layers, rank, in + out of each matrix
    inside = 24 * 4 * (2 * (896 + 896) + 2 * (896 + 128) + 3 * (896 + 4864))
    assert whole.parameters == whole.trained == sizing.parameters(config)
    assert (adapted.trained, adapted.parameters) == (inside, whole.parameters + inside)
    assert whole.training == 3 * whole.weights == 12 * whole.parameters
    # forward and backward each cost as much again; frozen weights need no gradient of their own
    assert whole.flops == pytest.approx(6 * 64 * whole.parameters, rel=0.05)
    assert 4 / 6 < adapted.flops / whole.flops < 0.72
    more = lora.needs(config, LORA, 2, 64)
    assert more.activations == pytest.approx(2 * adapted.activations, rel=0.05)


def test_an_adapter_comes_back_as_it_was_saved(loaded, pupil, folder):
    model, tokenizer = loaded
    again = lora.attach(copy.deepcopy(model), folder)
    assert isinstance(again, PeftModel) and not again.training
    text = evaluate.prompt(tokenizer, ORDERS[0])
    assert torch.equal(scores(again, tokenizer, text), scores(pupil, tokenizer, text))
    assert not torch.allclose(scores(again, tokenizer, text), scores(model, tokenizer, text))


def test_a_folder_with_a_pickle_or_without_safetensors_is_refused(loaded, folder):
    shutil.copy(folder / lora.ADAPTER, folder / "adapter_model.bin")
    with pytest.raises(ValueError, match="adapter_model.bin"):
        lora.attach(loaded[0], folder)
    (folder / "adapter_model.bin").unlink()
    (folder / lora.ADAPTER).unlink()
    with pytest.raises(ValueError, match="safetensors"):
        lora.attach(loaded[0], folder)


def test_llama_cpp_computes_the_adapter_as_peft_does(loaded, pupil, folder, tmp_path):
    model, tokenizer = loaded
    base = export.gguf_file("mini-qwen", "f32")
    added = gguf_lora.export_adapter(minis.weights_dir("mini-qwen"), folder, tmp_path / "reef.gguf")
    text = evaluate.prompt(tokenizer, ORDERS[0])
    how = {"n_predict": 1, "n_probs": 20, "temperature": 0, "cache_prompt": False}
    with Engine(base, adapter=added, threads=1, exact=True) as engine:
        for scale, wanted in ((1.0, pupil), (0.0, model)):
            told = engine.complete(text, **how, lora=[{"id": 0, "scale": scale}])
            [place] = told["completion_probabilities"]
            right = scores(wanted, tokenizer, text)
            assert len(place["top_logprobs"]) == 20
            for one in place["top_logprobs"]:
                assert one["logprob"] == pytest.approx(right[one["id"]].item(), abs=2e-3)


def test_an_adapter_of_unknown_parts_becomes_no_file(folder, tmp_path):
    weights = load_file(folder / lora.ADAPTER)
    name = next(iter(weights))
    weights["base_model.model.model.layers.0.elsewhere.lora_A.weight"] = weights.pop(name)
    save_file(weights, folder / lora.ADAPTER)
    with pytest.raises(ValueError, match="elsewhere"):
        gguf_lora.export_adapter(minis.weights_dir("mini-qwen"), folder, tmp_path / "reef.gguf")
    assert not (tmp_path / "reef.gguf").exists()


def test_the_scale_in_the_file_is_the_adapters(folder, tmp_path):
    import gguf

    file = gguf_lora.export_adapter(minis.weights_dir("mini-qwen"), folder, tmp_path / "reef.gguf")
    told = json.loads((folder / gguf_lora.CONFIG).read_text(encoding="utf-8"))
    read = gguf.GGUFReader(file)
    assert read.fields["adapter.lora.alpha"].contents() == told["lora_alpha"] == 8
    assert len(read.tensors) == 6 * 7 * 2
