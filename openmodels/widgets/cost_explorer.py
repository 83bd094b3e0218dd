"""What do a million tokens cost on your own card, and what behind an API?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from matplotlib.figure import Figure

from openmodels import catalog, plots, sizing
from openmodels.widgets.controls import choice, slider
from openmodels.widgets.figure_explorer import FigureExplorer, live

MILLIONS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)  # tokens a month, on the axis
CONTEXT = 2_000  # tokens of each sequence while it is generated
FOUR_BITS = "q4_k_m"


def offers() -> list[catalog.Price]:
    """Return the prices in dollars of models whose config the course has: they can be compared."""
    known = {path.stem for path in (catalog.DATA / "configs").glob("*.json")}
    return [row for row in catalog.prices() if row.currency == "USD" and row.model in known]


def cards() -> list[catalog.Hardware]:
    """Return the hardware with a list price in dollars and a power."""
    return [row for row in catalog.hardware() if row.currency == "USD" and row.power_W]


@cache
def _step(model: str, sequences: int) -> tuple[int, int]:
    """Return the bytes read for one more token of each sequence, and the bytes of memory needed."""
    config = catalog.config(model)
    cache_bytes = sequences * sizing.kv_cache_bytes(config, CONTEXT)
    weights = sizing.weight_bytes(sizing.parameters(config), FOUR_BITS)
    read = sizing.step_bytes(config, sequences, CONTEXT, FOUR_BITS)
    return read, sizing.needed_bytes(weights, cache_bytes)


@dataclass(frozen=True)
class Comparison:
    """A card of your own against an API, for one model and one kind of use.

    ratio: prompt tokens per answer token; answers: generated at the same time.
    """

    offer: catalog.Price
    card: catalog.Hardware
    answers: int
    ratio: float
    years: float
    price_per_kWh: float

    @property
    def fit(self) -> sizing.Fit:
        """Return whether the model fits on the card, in 4 bits."""
        needed = _step(self.offer.model, self.answers)[1]
        return sizing.Fit(needed, round(self.card.memory_GB * sizing.GB))

    @property
    def api_cost(self) -> float:
        """Return the dollars per million tokens behind the API."""
        offer = self.offer
        return sizing.api_cost_per_million(offer.input_per_M, offer.output_per_M, self.ratio)

    @property
    def card_terms(self) -> dict[str, float]:
        """Return the arguments of `sizing.cost_per_million` for the card at its highest speed."""
        read, _ = _step(self.offer.model, self.answers)
        speed = self.answers * sizing.decode_bound(read, self.card.bandwidth_GBps * sizing.GB)
        return {
            "price": self.card.list_price,
            "years": self.years,
            "power_W": self.card.power_W,
            "price_per_kWh": self.price_per_kWh,
            "tokens_per_second": (self.ratio + 1) * speed,
        }

    @property
    def most(self) -> float:
        """Return how many million tokens a month the card can handle."""
        return self.card_terms["tokens_per_second"] * 3600 * sizing.HOURS_PER_YEAR / 12 / 1e6

    def plot(self) -> Figure:
        """Return the cost per million tokens over the tokens a month, for both."""
        api = [self.api_cost] * len(MILLIONS)
        series: dict[str, tuple] = {f"{self.offer.provider}'s API": (MILLIONS, api)}
        uses = [use for use in MILLIONS if use <= self.most] if self.fit else []
        if uses:
            terms, most = self.card_terms, self.most
            costs = [sizing.cost_per_million(**terms, utilisation=use / most) for use in uses]
            series[self.card.id] = (uses, costs)
        return plots.lines(
            series, x="tokens a month (millions)", y="dollars per million tokens", log="xy"
        )

    def describe(self) -> str:
        """Return what the plot shows: both costs, and from how many tokens the card is cheaper."""
        offer, card = self.offer, self.card
        words = f"{offer.model}: {self.api_cost:.2f} dollars per million tokens "
        words += f"behind {offer.provider}'s API. "
        if not self.fit:
            return words + f"On the {card.id} it {self.fit} in 4 bits."
        enough = sizing.break_even(self.api_cost, **self.card_terms) / 1e6
        if math.isinf(enough):
            full = sizing.cost_per_million(**self.card_terms)
            return (
                words + f"The {card.id} never gets there: {full:.2f} when it works day and night."
            )
        words += f"The {card.id} is cheaper from {_rounded(enough)} million tokens a month, "
        return words + f"{enough / self.most:.1%} of the {_rounded(self.most)} million it could do."


def own_or_api(
    model: str = "qwen2.5-7b", provider: str = "Alibaba", card: str = "RTX 5060 Ti 16GB"
) -> FigureExplorer:
    """Explore what a million tokens cost on a card of your own and behind an API, by use.

    The card generates at the ceiling of its memory bandwidth (`sizing.step_bytes`), in 4 bits, and
    prompts take no time: both favour the card. `sizing.cost_per_million` says what is left out.
    The arguments are the first values of the lists. LookupError for an unknown price or card,
    ValueError for a card without a price in dollars or a power.
    """

    def draw(
        API: catalog.Price,
        card: catalog.Hardware,
        answers_at_once: float,
        prompt_answer_tokens: float,
        years: float,
        dollars_per_kWh: float,
    ) -> tuple[Figure, str]:
        answers = round(answers_at_once)
        pair = Comparison(API, card, answers, prompt_answer_tokens, years, dollars_per_kWh)
        return pair.plot(), pair.describe()

    prices = {f"{row.model}, {row.provider}, {row.date}": row for row in offers()}
    hardware = {f"{row.id}, {row.list_price:,.0f} dollars": row for row in cards()}
    return live(
        draw,
        choice("API", prices, catalog.get_price(model, provider)),
        choice("card", hardware, catalog.get_hardware(card)),
        slider("answers at once", 1, 32, 1, 1),
        slider("prompt / answer tokens", 0, 20, 3, 1),
        slider("years", 1, 8, 4, 1),
        slider("dollars per kWh", 0.05, 0.6, 0.3, 0.05),
    )


def _rounded(millions: float) -> str:
    return f"{millions:,.0f}" if millions >= 10 else f"{millions:.2g}"
