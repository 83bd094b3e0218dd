"""The next token: what temperature and top-p do, and what the explorer draws."""

import base64
import re

import pytest
import torch
from transformers import LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM
from transformers import TemperatureLogitsWarper as Temperature
from transformers import TopPLogitsWarper as TopP

from openmodels.minis import tokenizer as miniature_tokenizer
from openmodels.widgets import sampling_explorer

PROBABILITIES = torch.tensor([0.08, 0.42, 0.05, 0.27, 0.18])
PNG = b"\x89PNG\r\n"
PROMPT = "I want to buy a"


@pytest.fixture(scope="module")
def tokenizer():
    return miniature_tokenizer.load()


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            initializer_range=0.5,
        )
    ).eval()


def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p():
    probabilities, ids, size = sampling_explorer.nucleus(PROBABILITIES.log(), 1.0, 0.6)
    assert ids.tolist() == [1, 3, 4, 0, 2]
    assert probabilities.tolist() == pytest.approx([0.42, 0.27, 0.18, 0.08, 0.05])
    assert size == 2
    assert [
        sampling_explorer.nucleus(PROBABILITIES.log(), 1.0, p)[2] for p in (0.05, 0.5, 1.0)
    ] == [1, 2, 5]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_p", [0.2, 0.7, 0.95])
def test_the_nucleus_is_the_one_generate_draws_from(temperature, top_p):
    scores = torch.randn(1, 300, generator=torch.Generator().manual_seed(7)) * 3
    library = LogitsProcessorList([Temperature(temperature), TopP(top_p)])(None, scores.clone())
    _, ids, size = sampling_explorer.nucleus(scores[0], temperature, top_p)
    assert set(ids[:size].tolist()) == set(library[0].isfinite().nonzero().flatten().tolist())


@pytest.mark.parametrize(("temperature", "top_p"), [(0, 0.9), (-1, 0.9), (1, 0), (1, 1.1)])
def test_settings_that_mean_nothing_are_refused(temperature, top_p):
    with pytest.raises(ValueError, match="temperature" if temperature <= 0 else "top_p"):
        sampling_explorer.nucleus(PROBABILITIES.log(), temperature, top_p)


def test_perplexity_counts_equal_probabilities():
    assert sampling_explorer.perplexity(torch.full((8,), 1 / 8)) == pytest.approx(8)
    assert sampling_explorer.perplexity(torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(1)


def test_next_logits_are_the_models(model, tokenizer):
    logits = sampling_explorer.next_logits(model, tokenizer, PROMPT)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    torch.testing.assert_close(logits, model(ids).logits[0, -1].detach())
    assert logits.shape == (len(tokenizer),)


def test_labels_can_be_drawn(tokenizer):
    def labels(text: str) -> list[str]:
        return [sampling_explorer.label(tokenizer, token) for token in tokenizer(text)["input_ids"]]

    assert labels("a rope\n") == ["a", "␣rope", "↵"]
    assert all(re.fullmatch(r"#\d+", label) for label in labels("绳子"))


def test_moving_a_slider_draws_another_figure(model, tokenizer):
    explorer = sampling_explorer.sampling(model, tokenizer, PROMPT)
    temperature, top_p = explorer.controls
    picture, words = explorer.picture, explorer.words
    outputs = [(picture.value, words.value)]
    for slider, value in ((temperature, 0.3), (top_p, 0.5)):
        slider.value = value
        outputs.append((picture.value, words.value))
    assert len({image for image, _ in outputs}) == len({text for _, text in outputs}) == 3
    temperature.value, top_p.value = 1.0, 0.9
    assert (picture.value, words.value) == outputs[0]  # the same settings, the same figure


def test_what_the_sampling_explorer_says(model, tokenizer):
    explorer = sampling_explorer.sampling(model, tokenizer, PROMPT, temperature=0.7, top_p=0.8)
    temperature, top_p = explorer.controls
    picture, words = explorer.picture, explorer.words
    size = sampling_explorer.nucleus(
        sampling_explorer.next_logits(model, tokenizer, PROMPT), 0.7, 0.8
    )[2]
    assert (temperature.value, top_p.value) == (0.7, 0.8)
    assert f"{size} of {len(tokenizer):,} tokens can be drawn." in words.value
    alt = re.search('alt="(.*?)"', picture.value)[1]
    assert alt in words.value
    assert base64.b64decode(re.search('base64,(.*?)"', picture.value)[1]).startswith(PNG)


def test_the_axis_stays_and_a_last_bar_holds_the_other_tokens():
    scores = torch.randn(300, generator=torch.Generator().manual_seed(7)) * 3
    labels = [f"token {number}" for number in range(sampling_explorer.BARS)]
    ends = set()
    for temperature in (0.2, 1.0, 2.0):
        probabilities, _, size = sampling_explorer.nucleus(scores, temperature, 0.9)
        [axis] = sampling_explorer.plot_sampling(labels, probabilities, size).axes
        ends.add(axis.get_xlim())
        assert list(axis.get_xticks()) == [0, 20, 40, 60, 80, 100]
        ticks = [label.get_text() for label in axis.get_yticklabels()]
        assert ticks == [*labels, "the other 288 tokens"]
        widths = [bar.get_width() for bar in axis.patches]
        assert sum(widths) == pytest.approx(100, abs=1e-3)
        assert sum(widths[12:]) == pytest.approx(100 * probabilities[12:].sum().item(), abs=1e-3)
        inside = sum(bar.get_width() for bar in axis.patches if not bar.get_hatch())
        assert inside == pytest.approx(100 * probabilities[:size].sum().item(), abs=1e-3)
    assert ends == {(0, sampling_explorer.AXIS_END)}
