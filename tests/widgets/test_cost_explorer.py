"""A card of your own or an API: the explorer says what the formulas say."""

import html
import re

from openmodels import catalog, sizing
from openmodels.widgets import cost_explorer


def test_own_or_api_says_what_the_formulas_say():
    explorer = cost_explorer.own_or_api("qwen2.5-7b", "Alibaba", "RTX 5060 Ti 16GB")
    config, card = catalog.config("qwen2.5-7b"), catalog.get_hardware("RTX 5060 Ti 16GB")
    read = sizing.step_bytes(config, 1, cost_explorer.CONTEXT, "q4_k_m")
    speed = sizing.decode_bound(read, card.bandwidth_GBps * sizing.GB)
    terms = dict(price=card.list_price, years=4, power_W=card.power_W, price_per_kWh=0.3)
    api = sizing.api_cost_per_million(0.175, 0.7, 3)
    enough = sizing.break_even(api, **terms, tokens_per_second=4 * speed) / 1e6
    assert explorer.text.startswith(f"qwen2.5-7b: {api:.2f} dollars")
    assert f"from {enough:.0f} million tokens a month" in explorer.text
    assert html.unescape(re.search('alt="(.*?)"', explorer.picture.value)[1]) == explorer.text


def test_every_control_of_own_or_api_changes_the_answer():
    explorer = cost_explorer.own_or_api("llama-4-scout", "Groq", "H100 80GB SXM")
    answers = [explorer.text]
    assert "never gets there" in answers[0]
    price, card, together, ratio, years, power = explorer.controls
    for control, value in ((together, 4), (ratio, 6), (years, 2), (power, 0.1)):
        control.value = value
        answers.append(explorer.text)
    together.value = 32
    assert "does not fit" in explorer.text
    card.value = catalog.get_hardware("H200 141GB SXM")
    assert "cheaper from" in explorer.text
    price.value = catalog.get_price("qwen2.5-72b")
    assert "qwen2.5-72b" in explorer.text
    assert len(set(answers)) == len(answers)
    assert all(c.description and c.tabbable is not False for c in explorer.controls)


def test_offers_and_cards_are_in_dollars_and_can_be_computed():
    assert {row.currency for row in cost_explorer.offers() + cost_explorer.cards()} == {"USD"}
    for row in cost_explorer.offers():
        assert catalog.config(row.model) is not None
    assert len(cost_explorer.cards()) >= 3 and all(
        row.list_price > 0 for row in cost_explorer.cards()
    )
