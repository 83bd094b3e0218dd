"""A model taken apart: each parameter in one part, the library's own masks, their reach."""

import pytest
import torch
from torch import nn
from transformers import DeepseekV3Config, Llama4TextConfig, MistralConfig
from transformers.masking_utils import create_causal_mask

from openmodels import catalog, plots, sizing
from openmodels.inside import architecture

GIANTS = ["mistral-large-2-2407", "deepseek-v3", "llama-4-scout", "llama-4-maverick"]


def build(name: str) -> nn.Module:
    config = catalog.config(name)
    with torch.device("meta"):
        return sizing.model_class(config)(config)


@pytest.fixture(scope="module", params=GIANTS)
def giant(request):
    return build(request.param)


def test_the_parts_hold_every_parameter_of_a_layer(giant):
    layers = architecture.decoder_layers(giant)
    assert len(layers) == giant.config.get_text_config().num_hidden_layers
    for layer in layers:
        parts = architecture.parts(layer)
        assert sum(part.parameters for part in parts) == sum(p.numel() for p in layer.parameters())
        for part in parts:
            assert (part.group == "") == (part.shape == ())
            assert not part.shape or part.parameters == torch.Size(part.shape).numel()


def test_the_parts_of_a_mixture():
    parts = {
        part.name: part
        for part in architecture.parts(architecture.decoder_layers(build(GIANTS[2]))[5])
    }
    experts = parts["experts.gate_up_proj"]
    assert experts.shape == (16, 5120, 2 * 8192)
    assert experts.group == "feed_forward: Llama4TextMoe"
    assert parts["2 norms"].parameters == 2 * 5120


def test_how_a_layer_attends():
    scout, large = build("llama-4-scout"), build("mistral-large-2-2407")
    assert architecture.attention(scout, 2) == "chunks of 8,192, RoPE"
    assert architecture.attention(scout, 3) == "full, no RoPE"
    assert architecture.attention(large, 0) == "full, RoPE"
    assert architecture.attention(build("mistral-7b-v0.1"), 0) == "window of 4,096, RoPE"
    assert architecture.attention(build("gpt-oss-120b"), 0) == "window of 128, RoPE"
    assert architecture.heads(scout.config) == "40 query heads on 8 KV heads"
    assert architecture.heads(DeepseekV3Config()) == "128 query heads on one latent of 512 + 64"


def test_a_model_without_layers_says_so():
    with pytest.raises(LookupError, match="Linear has no module with embed_tokens"):
        architecture.decoder_layers(nn.Linear(2, 2))


# --- Masks ----------------------------------------------------------------------------------------


def test_masks_are_what_their_names_say():
    row, column = torch.arange(12)[:, None], torch.arange(12)[None]
    past = column <= row
    scout = architecture.masks(catalog.config("llama-4-scout"), tokens=12, span=5)
    assert set(scout) == {"full_attention", "chunked_attention"}
    assert torch.equal(scout["full_attention"], past)
    assert torch.equal(scout["chunked_attention"], past & (row // 5 == column // 5))
    [(kind, window)] = architecture.masks(MistralConfig(sliding_window=3), tokens=12).items()
    assert kind == "sliding_attention"
    assert torch.equal(window, past & (row - column < 3))
    every = architecture.masks(catalog.config("deepseek-v3"), tokens=12)
    assert torch.equal(every["full_attention"], past)


def test_a_mask_is_the_one_the_library_gives_its_layers():
    config = MistralConfig(sliding_window=None, attn_implementation="eager")
    library = create_causal_mask(config, torch.zeros(1, 6, 1), None, None)[0, 0]
    assert torch.equal(architecture.masks(config, tokens=6)["full_attention"], library == 0)


def test_masks_leave_the_config_alone():
    config = Llama4TextConfig()
    before = config.to_dict()
    architecture.masks(config, span=4)
    assert config.to_dict() == before


def test_reach_of_windows_grows_and_of_chunks_does_not():
    window = architecture.masks(MistralConfig(), tokens=16, span=4)["sliding_attention"]
    llama = architecture.masks(Llama4TextConfig(), tokens=16, span=4)
    chunk, full = llama["chunked_attention"], llama["full_attention"]
    grown = [int(architecture.reach([window] * layers)[-1].sum()) for layers in (1, 2, 3, 4, 6)]
    assert grown == [4, 7, 10, 13, 16]
    assert torch.equal(architecture.reach([chunk] * 48), chunk)
    assert torch.equal(architecture.reach([chunk, chunk, chunk, full]), full)
    with pytest.raises(ValueError, match="at least one"):
        architecture.reach([])


def test_reach_is_where_a_gradient_flows():
    """Attention with the mask, layer by layer: a token hears of what its output depends on."""
    window = architecture.masks(MistralConfig(), tokens=10, span=3)["sliding_attention"]
    text = torch.randn(10, 4, requires_grad=True)
    vectors = text
    for _ in range(2):
        scores = (vectors @ vectors.T).masked_fill(~window, -torch.inf)
        vectors = vectors + scores.softmax(-1) @ vectors
    vectors[-1].sum().backward()
    assert torch.equal(text.grad.abs().sum(-1) > 0, architecture.reach([window] * 2)[-1])


# --- Figures --------------------------------------------------------------------------------------


def test_blocks_name_every_tensor():
    layer = architecture.decoder_layers(build("mistral-large-2-2407"))[0]
    parts = architecture.parts(layer)
    figure = plots.blocks({"one": parts, "two": parts, "three": parts})
    assert len(figure.axes) == 4  # two in a row
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "k_proj   1024 × 12288" in words and "12.6 M" in words
    assert words.count("self_attn: MistralAttention") == 1
    assert figure.axes[0].get_title(loc="left") == "one"
    assert not figure.axes[3].texts


def test_short_numbers():
    numbers = [671_026_404_352, 62_914_560, 81_920, 64]
    assert [plots.short(number) for number in numbers] == ["671 B", "62.9 M", "81.9 K", "64"]


def test_masks_are_drawn_with_the_first_token_on_top():
    mask = architecture.masks(MistralConfig(sliding_window=None), tokens=8)["full_attention"]
    axes = plots.masks({"full": mask, "again": mask}, x="heard of", y="hears").axes
    assert [axis.get_title() for axis in axes] == ["full", "again"]
    assert (axes[0].get_xlabel(), axes[0].get_ylabel()) == ("heard of", "hears")
    assert axes[0].yaxis_inverted() and list(axes[0].get_xticks()) == [1, 4, 8]
    assert plots.png(plots.masks({"full": mask})) == plots.png(plots.masks({"full": mask}))
