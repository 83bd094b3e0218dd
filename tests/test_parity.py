"""`mini-qwen` is Qwen2.5 in small: same modules, same formulas for every shape, other numbers."""

import re

import pytest
import torch
from transformers import AutoConfig, Qwen2ForCausalLM

from openmodels import catalog, minis, sizing

FULL_SIZE = ("qwen2.5-0.5b", "qwen2.5-72b")

# h: hidden_size, i: intermediate_size, q: heads × head_dim, kv: KV heads × head_dim, v: vocab_size
LAYER_SHAPES = {
    "self_attn.q_proj.weight": ("q", "h"),
    "self_attn.q_proj.bias": ("q",),
    "self_attn.k_proj.weight": ("kv", "h"),
    "self_attn.k_proj.bias": ("kv",),
    "self_attn.v_proj.weight": ("kv", "h"),
    "self_attn.v_proj.bias": ("kv",),
    "self_attn.o_proj.weight": ("h", "q"),
    "mlp.gate_proj.weight": ("i", "h"),
    "mlp.up_proj.weight": ("i", "h"),
    "mlp.down_proj.weight": ("h", "i"),
    "input_layernorm.weight": ("h",),
    "post_attention_layernorm.weight": ("h",),
}
TOP_SHAPES = {
    "model.embed_tokens.weight": ("v", "h"),
    "model.norm.weight": ("h",),
    "lm_head.weight": ("v", "h"),
}


def config_of(name: str):
    """The config of a catalogue model, or of the miniature as it lies in models/."""
    if name != "mini-qwen":
        return catalog.config(name)
    path = minis.path("mini-qwen")
    assert (path / "config.json").is_file(), "models/mini-qwen is missing: train it or check it out"
    return AutoConfig.from_pretrained(path)


def on_meta(name: str):
    config = config_of(name)
    with torch.device("meta"):
        return sizing.model_class(config)(config)


def module_tree(model) -> dict[str, str]:
    """{module name with the layer's number as *: class name}."""
    return {
        re.sub(r"layers\.\d+", "layers.*", name): type(module).__name__
        for name, module in model.named_modules()
    }


def expected_shapes(config) -> dict[str, tuple[int, ...]]:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = {
        "h": config.hidden_size,
        "i": config.intermediate_size,
        "q": config.num_attention_heads * head_dim,
        "kv": config.num_key_value_heads * head_dim,
        "v": config.vocab_size,
    }
    shapes = dict(TOP_SHAPES)
    for layer in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in LAYER_SHAPES.items()}
    return {name: tuple(size[letter] for letter in shape) for name, shape in shapes.items()}


def test_mini_qwen_is_the_same_architecture():
    mini = config_of("mini-qwen")
    assert mini.architectures == ["Qwen2ForCausalLM"]
    for name in FULL_SIZE:
        full = config_of(name)
        assert mini.model_type == full.model_type == "qwen2"
        assert sizing.model_class(mini) is sizing.model_class(full) is Qwen2ForCausalLM


@pytest.mark.parametrize("name", FULL_SIZE)
def test_mini_qwen_has_the_same_module_tree(name):
    mini, full = on_meta("mini-qwen"), on_meta(name)
    assert module_tree(mini) == module_tree(full)
    for model in (mini, full):
        # every layer is like the first, so the number of layers is all that differs
        first, *others = [dict(layer.named_modules()).keys() for layer in model.model.layers]
        assert all(layer == first for layer in others)
        assert 1 + len(others) == model.config.num_hidden_layers


@pytest.mark.parametrize("name", ("mini-qwen", *FULL_SIZE))
def test_every_shape_follows_the_same_formula(name):
    model = on_meta(name)
    shapes = {
        key: tuple(parameter.shape)
        for key, parameter in model.named_parameters(remove_duplicate=False)
    }
    assert shapes == expected_shapes(model.config)


@pytest.mark.parametrize(
    "name, counted, published",
    [("qwen2.5-0.5b", 494_032_768, 0.494e9), ("qwen2.5-72b", 72_706_203_648, 72.7e9)],
)
def test_the_full_size_count_is_the_published_one(name, counted, published):
    assert on_meta(name).num_parameters() == counted
    assert counted == pytest.approx(published, rel=0.01)
    assert counted == pytest.approx(catalog.get(name).params_total_B * 1e9, rel=0.01)
