"""The explorers: what a slider means, and that moving one draws another figure."""

import base64
import html
import re

import ipywidgets
import pytest
import torch
from transformers import LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM
from transformers import TemperatureLogitsWarper as Temperature
from transformers import TopPLogitsWarper as TopP

from openmodels import catalog, plots, sizing
from openmodels.minis import tokenizer as miniature_tokenizer
from openmodels.widgets import controls

CHANCES = torch.tensor([0.08, 0.42, 0.05, 0.27, 0.18])
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


def parts(explorer: ipywidgets.VBox):
    """The sliders, the picture's HTML and the words' HTML of an explorer."""
    *sliders, picture, words = explorer.children
    return sliders, picture, words


def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p():
    chances, ids, kept = controls.nucleus(CHANCES.log(), 1.0, 0.6)
    assert ids.tolist() == [1, 3, 4, 0, 2]
    assert chances.tolist() == pytest.approx([0.42, 0.27, 0.18, 0.08, 0.05])
    assert kept == 2
    assert [controls.nucleus(CHANCES.log(), 1.0, p)[2] for p in (0.05, 0.5, 1.0)] == [1, 2, 5]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_p", [0.2, 0.7, 0.95])
def test_the_nucleus_is_the_one_generate_draws_from(temperature, top_p):
    scores = torch.randn(1, 300, generator=torch.Generator().manual_seed(7)) * 3
    library = LogitsProcessorList([Temperature(temperature), TopP(top_p)])(None, scores.clone())
    _, ids, kept = controls.nucleus(scores[0], temperature, top_p)
    assert set(ids[:kept].tolist()) == set(library[0].isfinite().nonzero().flatten().tolist())


@pytest.mark.parametrize(("temperature", "top_p"), [(0, 0.9), (-1, 0.9), (1, 0), (1, 1.1)])
def test_settings_that_mean_nothing_are_refused(temperature, top_p):
    with pytest.raises(ValueError, match="temperature" if temperature <= 0 else "top_p"):
        controls.nucleus(CHANCES.log(), temperature, top_p)


def test_choices_counts_equal_chances():
    assert controls.perplexity(torch.full((8,), 1 / 8)) == pytest.approx(8)
    assert controls.perplexity(torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(1)


def test_next_logits_are_the_models(model, tokenizer):
    logits = controls.next_logits(model, tokenizer, PROMPT)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    torch.testing.assert_close(logits, model(ids).logits[0, -1].detach())
    assert logits.shape == (len(tokenizer),)


def test_labels_can_be_drawn(tokenizer):
    def labels(text: str) -> list[str]:
        return [controls.label(tokenizer, token) for token in tokenizer(text)["input_ids"]]

    assert labels("a rope\n") == ["a", "␣rope", "↵"]
    assert all(re.fullmatch(r"#\d+", label) for label in labels("绳子"))


def test_moving_a_slider_draws_another_figure(model, tokenizer):
    explorer = controls.sampling(model, tokenizer, PROMPT)
    (temperature, top_p), picture, words = parts(explorer)
    seen = [(picture.value, words.value)]
    for slider, value in ((temperature, 0.3), (top_p, 0.5)):
        slider.value = value
        seen.append((picture.value, words.value))
    assert len({image for image, _ in seen}) == len({text for _, text in seen}) == 3
    temperature.value, top_p.value = 1.0, 0.9
    assert (picture.value, words.value) == seen[0]  # the same settings, the same figure


def test_what_the_sampling_explorer_says(model, tokenizer):
    explorer = controls.sampling(model, tokenizer, PROMPT, temperature=0.7, top_p=0.8)
    (temperature, top_p), picture, words = parts(explorer)
    kept = controls.nucleus(controls.next_logits(model, tokenizer, PROMPT), 0.7, 0.8)[2]
    assert (temperature.value, top_p.value) == (0.7, 0.8)
    assert f"{kept} of {len(tokenizer):,} tokens can be drawn." in words.value
    alt = re.search('alt="(.*?)"', picture.value)[1]
    assert alt in words.value
    assert base64.b64decode(re.search('base64,(.*?)"', picture.value)[1]).startswith(PNG)


def test_an_explorer_of_ones_own():
    def draw(days: float, knots: float):
        return plots.bars({"miles": 24 * days * knots}, x="miles"), f"<{days * knots:.0f}>"

    sliders = controls.slider("days", 1, 7, 3, 1), controls.slider("knots", 1, 9, 2, 1)
    explorer = controls.live(draw, *sliders)
    assert "&lt;6&gt;" in explorer.children[-1].value
    sliders[0].value = 4
    assert "&lt;8&gt;" in explorer.children[-1].value


def test_without_a_kernel_the_words_stay_as_text():
    explorer = controls.live(
        lambda days_out: (plots.bars({"a": days_out}, x="x"), f"<{days_out:.0f}> & more"),
        controls.slider("days out", 1, 7, 3, 1),
    )
    assert explorer._repr_mimebundle_()["text/plain"] == "<3> & more"


# --- A card of one's own, or an API ---------------------------------------------------------------


def test_own_or_api_says_what_the_formulas_say():
    explorer = controls.own_or_api("qwen2.5-7b", "Alibaba", "RTX 5060 Ti 16GB")
    config, card = catalog.config("qwen2.5-7b"), catalog.get_hardware("RTX 5060 Ti 16GB")
    read = sizing.step_bytes(config, 1, controls.CONTEXT, "q4_k_m")
    speed = sizing.decode_bound(read, card.bandwidth_GBps * sizing.GB)
    how = dict(price=card.list_price, years=4, power_W=card.power_W, price_per_kWh=0.3)
    api = sizing.api_cost_per_million(0.175, 0.7, 3)
    enough = sizing.break_even(api, **how, tokens_per_second=4 * speed) / 1e6
    assert explorer.text.startswith(f"qwen2.5-7b: {api:.2f} dollars")
    assert f"from {enough:.0f} million tokens a month" in explorer.text
    *_, picture, _ = explorer.children
    assert html.unescape(re.search('alt="(.*?)"', picture.value)[1]) == explorer.text


def test_every_control_of_own_or_api_changes_the_answer():
    explorer = controls.own_or_api("llama-4-scout", "Groq", "H100 80GB SXM")
    *inputs, _, _ = explorer.children
    seen = [explorer.text]
    assert "never gets there" in seen[0]
    price, card, together, ratio, years, power = inputs
    for control, value in ((together, 4), (ratio, 6), (years, 2), (power, 0.1)):
        control.value = value
        seen.append(explorer.text)
    together.value = 32
    assert "does not fit" in explorer.text
    card.value = catalog.get_hardware("H200 141GB SXM")
    assert "cheaper from" in explorer.text
    price.value = catalog.get_price("qwen2.5-72b")
    assert "qwen2.5-72b" in explorer.text
    assert len(set(seen)) == len(seen)
    assert all(one.description and one.tabbable is not False for one in inputs)


def test_offers_and_cards_are_in_dollars_and_can_be_computed():
    assert {row.currency for row in controls.offers() + controls.cards()} == {"USD"}
    for row in controls.offers():
        assert catalog.config(row.model) is not None
    assert len(controls.cards()) >= 3 and all(row.list_price > 0 for row in controls.cards())


def test_an_error_while_drawing_is_not_hidden():
    slider = controls.slider("days", 1, 7, 3, 1)
    controls.live(lambda days: (plots.bars({"a": 1 / (days - 5)}, x="x"), "a"), slider)
    with pytest.raises(ZeroDivisionError):
        slider.value = 5
