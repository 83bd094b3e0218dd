"""A shape with random weights, as a folder and a GGUF file, and the speeds measured on it."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from openmodels import catalog, sizing
from openmodels.gguf.export import export
from openmodels.serving import throughput
from openmodels.serving.engine import Engine


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """qwen2.5-0.5b's shape in small: the same class, tied, its vocabulary above the tokenizer's."""
    small = Qwen2Config(
        hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=2000, tie_word_embeddings=True,
        max_position_embeddings=512,
    )  # fmt: skip
    small.architectures = ["Qwen2ForCausalLM"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "config", {"small": small}.__getitem__)
        return throughput.random_model("small", tmp_path_factory.mktemp("random"), seed=1)


def test_the_folder_is_a_model_of_the_shape(home):
    model = AutoModelForCausalLM.from_pretrained(home)
    assert model.dtype == torch.bfloat16
    assert model.num_parameters() == sizing.parameters(model.config)
    norms = [p for name, p in model.named_parameters() if "norm" in name]
    assert norms and all(bool((p == 1).all()) for p in norms)
    assert 0.01 < model.get_input_embeddings().weight.float().std() < 0.03


def test_llama_cpp_writes_what_transformers_writes(home, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(home, dtype=torch.float32)
    prompt = torch.tensor([[1, 2, 3, 4]])
    written = model.generate(prompt, do_sample=False, min_new_tokens=8, max_new_tokens=8)
    how = {"temperature": 0, "n_predict": 8, "ignore_eos": True, "return_tokens": True}
    with Engine(export(home, tmp_path / "m.gguf", "f32"), exact=True, threads=1) as engine:
        answer = engine.complete(prompt[0].tolist(), **how)
        assert answer["tokens"] == written[0, 4:].tolist()


def test_a_file_holds_the_weights_and_a_header(home, tmp_path):
    n = AutoModelForCausalLM.from_pretrained(home).num_parameters()
    sizes = {kind: export(home, tmp_path / kind, kind).stat().st_size for kind in ("f32", "q4_0")}
    assert 0 < sizes["f32"] - 4 * n < 200_000
    assert 0 < sizes["q4_0"] - sizing.weight_bytes(n, "q4_0") < 200_000


def test_what_does_not_fit_is_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr(sizing, "available_memory", lambda: 10**9)
    with pytest.raises(MemoryError, match="does not fit: needs 1.6 GB of 1.0 GB"):
        throughput.random_model("qwen2.5-0.5b", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LookupError, match="no config"):
        throughput.random_model("llama-3.1-8b", tmp_path)


def test_bandwidth_is_that_of_the_fastest_piece(monkeypatch):
    clock = iter([0, 2, 10, 10.5, 20, 24, 30, 31])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    assert throughput.bandwidth(size=2 * throughput.PIECE, rounds=2) == throughput.PIECE / 0.5
    clock = iter([0, 2, 10, 10.5])
    assert (
        throughput.bandwidth(size=2 * throughput.PIECE, rounds=2, cores=2)
        == 2 * throughput.PIECE / 0.5
    )
    with pytest.raises(ValueError, match="less than a piece"):
        throughput.bandwidth(size=1000)


class Slow:
    """Stands for an engine: 3 s for the prompt, half a second a token, and now and then a pause."""

    def __init__(self):
        self.now, self.pauses = 0.0, iter([9, 0, 5, 0, 1, 2, 0])

    def complete(self, prompt, n_predict, **how):
        assert how["ignore_eos"] and not how["cache_prompt"]
        self.now += 3 + n_predict / 2 + next(self.pauses)


def test_an_engine_s_speed_leaves_out_prompt_and_pauses(monkeypatch):
    engine = Slow()
    monkeypatch.setattr(throughput.time, "process_time", lambda: engine.now)
    assert throughput.engine_speed(engine, tokens=8, times=3) == 2


def test_transformers_speed_is_the_fastest_token_s(home, monkeypatch):
    clock = iter([0, 1, 3, 4, 4.25, 5, 9])  # the prompt's pass is not counted
    monkeypatch.setattr(throughput.time, "thread_time", lambda: next(clock))
    assert throughput.model_speed(AutoModelForCausalLM.from_pretrained(home), tokens=3) == 4
