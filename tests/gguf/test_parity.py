"""Each miniature is its full-size model in small: same modules, same formulas for every shape."""

import re

import pytest
import torch
from transformers import AutoConfig

from openmodels import catalog, minis, sizing
from openmodels.minis import configs

# A miniature and the full-size models it is compared with.
PAIRS = {
    "mini-qwen": ("qwen2.5-0.5b", "qwen2.5-72b"),
    "mini-qwen-agent": ("qwen2.5-0.5b",),
    "mini-qwen-s": ("qwen2.5-0.5b",),
    "mini-qwen-xs": ("qwen2.5-0.5b",),
    "mini-mistral": ("mistral-7b-v0.1", "mistral-large-2-2407"),
    "mini-deepseek": ("deepseek-v3", "deepseek-r1"),
    "mini-r1-base": ("qwen2.5-0.5b",),
    "mini-r1-zero": ("qwen2.5-0.5b",),
    "mini-r1": ("qwen2.5-0.5b",),
    "mini-r1-distill": ("qwen2.5-0.5b",),
    "mini-qwen-coder": ("qwen2.5-0.5b",),
    "mini-scout": ("llama-4-scout",),
    "mini-qwen-vl": ("qwen2.5-vl-7b",),
    "mini-qwen-audio": ("qwen2-audio-7b",),
    "mini-maverick": ("llama-4-maverick",),
    "mini-behemoth": ("llama-4-maverick",),
}
# Catalogue models without a stored config, and the one that has their shape.
SAME_SHAPE = {"qwen2.5-coder-0.5b": "qwen2.5-0.5b"}
# Announced without a config: all that is known is the family.
NO_CONFIG = {"llama-4-behemoth": "llama-4-maverick"}
FULL_SIZE = sorted({full for fulls in PAIRS.values() for full in fulls})

# h: hidden_size, i: intermediate_size, q: heads × head_dim, kv: KV heads × head_dim, v: vocab_size
GQA = {
    "self_attn.q_proj.weight": ("q", "h"),
    "self_attn.k_proj.weight": ("kv", "h"),
    "self_attn.v_proj.weight": ("kv", "h"),
    "self_attn.o_proj.weight": ("h", "q"),
}
BIASES = {
    "self_attn.q_proj.bias": ("q",),
    "self_attn.k_proj.bias": ("kv",),
    "self_attn.v_proj.bias": ("kv",),
}
MLP = {
    "mlp.gate_proj.weight": ("i", "h"),
    "mlp.up_proj.weight": ("i", "h"),
    "mlp.down_proj.weight": ("h", "i"),
}
NORMS = {"input_layernorm.weight": ("h",), "post_attention_layernorm.weight": ("h",)}
TOP = {
    "model.embed_tokens.weight": ("v", "h"),
    "model.norm.weight": ("h",),
    "lm_head.weight": ("v", "h"),
}
# ql, kl: ranks of the latents; qk: heads × (without + with position); r: rotary part; kb: heads ×
# (key without position + value); o: heads × value; m, s: an expert's and the shared MLP's size
MLA = {
    "self_attn.q_a_proj.weight": ("ql", "h"),
    "self_attn.q_a_layernorm.weight": ("ql",),
    "self_attn.q_b_proj.weight": ("qk", "ql"),
    "self_attn.kv_a_proj_with_mqa.weight": ("kl+r", "h"),
    "self_attn.kv_a_layernorm.weight": ("kl",),
    "self_attn.kv_b_proj.weight": ("kb", "kl"),
    "self_attn.o_proj.weight": ("h", "o"),
}
DEEPSEEK_MOE = {
    "mlp.gate.weight": ("e", "h"),
    "mlp.experts.gate_up_proj": ("e", "2m", "h"),
    "mlp.experts.down_proj": ("e", "h", "m"),
    "mlp.shared_experts.gate_proj.weight": ("s", "h"),
    "mlp.shared_experts.up_proj.weight": ("s", "h"),
    "mlp.shared_experts.down_proj.weight": ("h", "s"),
}
# i: an expert's size and the shared one's; e: experts; t: vision tower's hidden_size, u: its
# intermediate_size (also the width of shuffled patches), n: its positions, k: a patch's values,
# j: the projector's size
LLAMA4_MOE = {
    "feed_forward.experts.gate_up_proj": ("e", "h", "2i"),
    "feed_forward.experts.down_proj": ("e", "i", "h"),
    "feed_forward.router.weight": ("e", "h"),
    "feed_forward.shared_expert.gate_proj.weight": ("i", "h"),
    "feed_forward.shared_expert.up_proj.weight": ("i", "h"),
    "feed_forward.shared_expert.down_proj.weight": ("h", "i"),
}
# a layer without experts; d: its intermediate size
LLAMA4_DENSE = {
    "feed_forward.gate_proj.weight": ("d", "h"),
    "feed_forward.up_proj.weight": ("d", "h"),
    "feed_forward.down_proj.weight": ("h", "d"),
}
TOWER_LAYER = {
    **{f"self_attn.{p}_proj.weight": ("t", "t") for p in "qkvo"},
    **{f"self_attn.{p}_proj.bias": ("t",) for p in "qkvo"},
    "mlp.fc1.weight": ("u", "t"),
    "mlp.fc1.bias": ("u",),
    "mlp.fc2.weight": ("t", "u"),
    "mlp.fc2.bias": ("t",),
    **{
        f"{n}_layernorm.{w}": ("t",)
        for n in ("input", "post_attention")
        for w in ("weight", "bias")
    },
}
TOWER = {
    "class_embedding": ("t",),
    "positional_embedding_vlm": ("n", "t"),
    "patch_embedding.linear.weight": ("t", "k"),
    **{f"layernorm_{n}.{w}": ("t",) for n in ("pre", "post") for w in ("weight", "bias")},
    "vision_adapter.mlp.fc1.weight": ("j", "u"),
    "vision_adapter.mlp.fc2.weight": ("j", "j"),
}
# Qwen2.5-VL's; t, u, k as above; 3t: queries, keys and values; s: the vectors of four patches;
# c, f: channels and frames of a patch, p: its pixels a side
QWEN_BLOCK = {
    "norm1.weight": ("t",),
    "norm2.weight": ("t",),
    "attn.qkv.weight": ("3t", "t"),
    "attn.qkv.bias": ("3t",),
    "attn.proj.weight": ("t", "t"),
    "attn.proj.bias": ("t",),
    **{f"mlp.{part}_proj.weight": ("u", "t") for part in ("gate", "up")},
    **{f"mlp.{part}_proj.bias": ("u",) for part in ("gate", "up")},
    "mlp.down_proj.weight": ("t", "u"),
    "mlp.down_proj.bias": ("t",),
}
QWEN_TOWER = {
    "patch_embed.proj.weight": ("t", "c", "f", "p", "p"),
    "merger.ln_q.weight": ("t",),
    "merger.mlp.0.weight": ("s", "s"),
    "merger.mlp.0.bias": ("s",),
    "merger.mlp.2.weight": ("h", "s"),
    "merger.mlp.2.bias": ("h",),
}
# Qwen2-Audio's encoder, as Whisper's; t, u as above; b: mel bins, n: positions, z: a kernel's width
EAR_LAYER = {
    **{f"self_attn.{part}_proj.weight": ("t", "t") for part in ("q", "k", "v", "out")},
    **{f"self_attn.{part}_proj.bias": ("t",) for part in ("q", "v", "out")},
    **{f"{norm}.{part}": ("t",) for norm in ("self_attn_layer_norm", "final_layer_norm")
       for part in ("weight", "bias")},
    "fc1.weight": ("u", "t"),
    "fc1.bias": ("u",),
    "fc2.weight": ("t", "u"),
    "fc2.bias": ("t",),
}  # fmt: skip
EAR = {
    "conv1.weight": ("t", "b", "z"),
    "conv1.bias": ("t",),
    "conv2.weight": ("t", "t", "z"),
    "conv2.bias": ("t",),
    "embed_positions.weight": ("n", "t"),
    "layer_norm.weight": ("t",),
    "layer_norm.bias": ("t",),
}


def config_of(name: str):
    """The config of a catalogue model, or of the miniature: the stored one where it is shipped."""
    if name not in configs.CONFIGS:
        return catalog.config(name)
    path = minis.shipped_dir(name)
    if (path / "config.json").is_file():
        return AutoConfig.from_pretrained(path)
    assert name != "mini-qwen", "models/mini-qwen is missing: train it or check it out"
    config = configs.config(name)
    config.architectures = full_of(name, PAIRS[name][0]).architectures
    return config


def full_of(name: str, full: str):
    """The full-size config beside a miniature's; its text part where the miniature reads only."""
    config = catalog.config(full)
    if config.model_type == "llama4" and configs.config(name).model_type == "llama4_text":
        config = config.text_config
        config.architectures = ["Llama4ForCausalLM"]
    return config


def on_meta(name: str):
    return shape_of(config_of(name))


def shape_of(config):
    with torch.device("meta"):
        return sizing.model_class(config)(config)


def module_tree(model) -> set[tuple[str, str]]:
    """(module name with the layer's number as *, class name) of every module."""
    return {
        (re.sub(r"(layers|blocks)\.\d+", r"\1.*", name), type(module).__name__)
        for name, module in model.named_modules()
    }


def sizes_of(config) -> dict[str, int]:
    """What the letters of a shape mean for one config."""
    whole, config = config, config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = {
        "h": config.hidden_size,
        "i": config.intermediate_size,
        "q": config.num_attention_heads * head_dim,
        "kv": config.num_key_value_heads * head_dim,
        "v": config.vocab_size,
    }
    if config.model_type == "deepseek_v3":
        heads, m = config.num_attention_heads, config.moe_intermediate_size
        size |= {
            "ql": config.q_lora_rank,
            "kl": config.kv_lora_rank,
            "kl+r": config.kv_lora_rank + config.qk_rope_head_dim,
            "qk": heads * (config.qk_nope_head_dim + config.qk_rope_head_dim),
            "kb": heads * (config.qk_nope_head_dim + config.v_head_dim),
            "o": heads * config.v_head_dim,
            "e": config.n_routed_experts,
            "m": m,
            "2m": 2 * m,
            "s": m * config.n_shared_experts,
        }
    if config.model_type == "llama4_text":
        size |= {
            "2i": 2 * config.intermediate_size,
            "d": config.intermediate_size_mlp,
            "e": config.num_local_experts,
        }
    if whole.model_type == "llama4":
        vision = whole.vision_config
        size |= {
            "t": vision.hidden_size,
            "u": round(vision.hidden_size / vision.pixel_shuffle_ratio**2),
            "n": (vision.image_size // vision.patch_size) ** 2 + 1,
            "k": vision.num_channels * vision.patch_size**2,
            "j": vision.vision_output_dim,
        }
    if whole.model_type == "qwen2_5_vl":
        vision = whole.vision_config
        size |= {
            "t": vision.hidden_size,
            "3t": 3 * vision.hidden_size,
            "u": vision.intermediate_size,
            "s": vision.hidden_size * vision.spatial_merge_size**2,
            "c": vision.in_channels,
            "f": vision.temporal_patch_size,
            "p": vision.patch_size,
        }
    if whole.model_type == "qwen2_audio":
        encoder = whole.audio_config
        size |= {
            "t": encoder.d_model,
            "u": encoder.encoder_ffn_dim,
            "b": encoder.num_mel_bins,
            "n": encoder.max_source_positions,
            "z": 3,
        }
    return size


def layer_shapes(config, layer: int) -> dict[str, tuple[str, ...]]:
    """The parameters of one decoder layer and what their shapes are made of."""
    if config.model_type in ("qwen2", "qwen2_5_vl_text"):
        return GQA | BIASES | MLP | NORMS
    if config.model_type == "mistral":
        return GQA | MLP | NORMS
    if config.model_type == "llama4_text":
        return GQA | NORMS | (LLAMA4_MOE if layer in config.moe_layers else LLAMA4_DENSE)
    return MLA | NORMS | (MLP if layer < config.first_k_dense_replace else DEEPSEEK_MOE)


def expected_shapes(config) -> dict[str, tuple[int, ...]]:
    size, shapes, text = sizes_of(config), dict(TOP), config.get_text_config()
    for layer in range(text.num_hidden_layers):
        shapes |= {f"model.layers.{layer}.{k}": s for k, s in layer_shapes(text, layer).items()}
    if config.model_type == "llama4":
        shapes = {f"language_model.{k}": s for k, s in shapes.items()}
        shapes["multi_modal_projector.linear_1.weight"] = ("h", "j")
        shapes |= {f"vision_model.{k}": s for k, s in TOWER.items()}
        for layer in range(config.vision_config.num_hidden_layers):
            name = f"vision_model.model.layers.{layer}"
            shapes |= {f"{name}.{k}": s for k, s in TOWER_LAYER.items()}
    if config.model_type in ("qwen2_5_vl", "qwen2_audio"):
        shapes = {
            re.sub("^model[.]", "model.language_model.", name): shape
            for name, shape in shapes.items()
        }
    if config.model_type == "qwen2_audio":
        shapes |= {f"model.audio_tower.{k}": s for k, s in EAR.items()}
        shapes["model.multi_modal_projector.linear.weight"] = ("h", "t")
        shapes["model.multi_modal_projector.linear.bias"] = ("h",)
        for layer in range(config.audio_config.encoder_layers):
            name = f"model.audio_tower.layers.{layer}"
            shapes |= {f"{name}.{k}": s for k, s in EAR_LAYER.items()}
    if config.model_type == "qwen2_5_vl":
        shapes |= {f"model.visual.{k}": s for k, s in QWEN_TOWER.items()}
        for block in range(config.vision_config.depth):
            shapes |= {f"model.visual.blocks.{block}.{k}": s for k, s in QWEN_BLOCK.items()}
    return {name: tuple(size[letter] for letter in shape) for name, shape in shapes.items()}


def test_every_miniature_is_compared():
    assert set(PAIRS) == set(configs.CONFIGS) == set(configs.STANDS_FOR)
    for name, fulls in PAIRS.items():
        full = configs.STANDS_FOR[name]
        assert (SAME_SHAPE | NO_CONFIG).get(full, full) in fulls


@pytest.mark.parametrize("id", SAME_SHAPE)
def test_models_of_one_shape_have_it_in_the_catalogue(id):
    one, other = catalog.get(id), catalog.get(SAME_SHAPE[id])
    for field in ("transformers_class", "n_layers", "hidden_size", "n_heads", "n_kv_heads",
                  "head_dim", "vocab_size"):  # fmt: skip
        assert getattr(one, field) == getattr(other, field) is not None, field


@pytest.mark.parametrize("name", PAIRS)
def test_a_miniature_is_the_same_architecture(name):
    mini = config_of(name)
    for full in (full_of(name, full) for full in PAIRS[name]):
        assert mini.architectures == full.architectures
        assert mini.model_type == full.model_type
        assert sizing.model_class(mini) is sizing.model_class(full)


@pytest.mark.parametrize("name", PAIRS)
def test_a_miniature_has_the_same_module_tree(name):
    tree = module_tree(on_meta(name))
    for full in PAIRS[name]:
        assert tree == module_tree(shape_of(full_of(name, full)))


@pytest.mark.parametrize("name", [*PAIRS, *FULL_SIZE])
def test_every_shape_follows_the_same_formula(name):
    model = on_meta(name)
    shapes = {
        key: tuple(parameter.shape)
        for key, parameter in model.named_parameters(remove_duplicate=False)
    }
    assert shapes == expected_shapes(model.config)


@pytest.mark.parametrize(
    "name, counted, published",
    [
        ("qwen2.5-0.5b", 494_032_768, 0.494e9),
        ("qwen2.5-72b", 72_706_203_648, 72.7e9),
        ("mistral-7b-v0.1", 7_241_732_096, 7.24e9),
        ("mistral-large-2-2407", 122_610_069_504, 123e9),
        ("deepseek-v3", 671_026_404_352, 671e9),
        ("deepseek-r1", 671_026_404_352, 671e9),
        ("llama-4-scout", 108_641_793_536, 109e9),
        ("llama-4-maverick", 401_583_781_376, 400e9),
    ],
)
def test_the_full_size_count_is_the_published_one(name, counted, published):
    assert on_meta(name).num_parameters() == counted
    assert counted == pytest.approx(published, rel=0.01)
    assert counted == pytest.approx(catalog.get(name).params_total_B * 1e9, rel=0.01)
