"""Explorers for the mouse and the arrow keys: sliders above a figure and a line of words."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Callable
from functools import cache

import ipywidgets
import torch
from matplotlib.figure import Figure

from openmodels import catalog, plots, sizing
from openmodels.catalog import VERDICTS, Claim
from openmodels.widgets import explorers

DRAWS = 8
SHOWN = 12  # tokens in the figure


def slider(name: str, low: float, high: float, value: float, step: float = 0.1):
    """A labelled slider for `live`. Tab reaches it, the arrow keys move it."""
    return ipywidgets.FloatSlider(
        value=value,
        min=low,
        max=high,
        step=step,
        description=name,
        continuous_update=False,
        style={"description_width": "initial"},
    )


def live(draw: Callable[..., tuple[Figure, str]], *sliders) -> Live:
    """Sliders above the figure `draw` returns; it is drawn anew whenever one of them moves.

    draw: gets each slider's value under its name, with _ for - and spaces, returns the figure and
    what it shows in words;
    the words stand below the figure and are its alternative text.
    Example: `live(lambda days: (plot(days), f"{days:.0f} days"), slider("days", 1, 7, 3, 1))`.
    """
    picture, words = ipywidgets.HTML(), ipywidgets.HTML()

    def update(_change=None) -> None:
        names = [re.sub("[- ]", "_", one.description) for one in sliders]
        figure, text = draw(**{name: one.value for name, one in zip(names, sliders, strict=True)})
        data, alt = base64.b64encode(plots.png(figure)).decode(), html.escape(text)
        picture.value = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
        words.value = f'<div role="status">{alt}</div>'

    for one in sliders:
        one.observe(update, names="value")
    update()
    return Live(sliders, picture, words)


class Live(ipywidgets.VBox):
    """What `live` makes. Where no kernel runs, its text is the words of the first setting."""

    def __init__(self, controls, picture: ipywidgets.HTML, words: ipywidgets.HTML) -> None:
        self.words = words
        super().__init__([*controls, picture, words])

    @property
    def text(self) -> str:
        return html.unescape(re.sub("<.*?>", "", self.words.value))

    def _repr_mimebundle_(self, **options):
        return super()._repr_mimebundle_(**options) | {"text/plain": self.text}


@torch.no_grad()
def next_logits(model, tokenizer, prompt: str) -> torch.Tensor:
    """Scores of every token as the next one after a prompt. Returns (vocabulary,), on the CPU."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    return model(**inputs, logits_to_keep=1).logits[0, -1].float().cpu()


def nucleus(
    logits: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """What is left to draw from, after temperature and top-p (Holtzman et al. 2020).

    logits: (vocabulary,). Returns all probabilities after the temperature, likeliest first, their
    token ids, and how many belong to the nucleus: the fewest whose probabilities sum to `top_p`.
    ValueError when the temperature is not above 0 or top_p not in (0, 1].
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it divides the logits: more than 0")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; a share above 0 and up to 1")
    chances, ids = (logits / temperature).softmax(-1).sort(descending=True)
    before = chances.cumsum(-1) - chances  # what the likelier tokens sum to
    return chances, ids, int((before < top_p).sum())


def perplexity(chances: torch.Tensor) -> float:
    """How many equally likely tokens would be as hard to guess: the exponential of the entropy."""
    return torch.special.entr(chances).sum().exp().item()


def label(tokenizer, token: int) -> str:
    """A token as a figure's font can show it: ␣ a space, ↵ a line's end, #id what is not ASCII."""
    text = tokenizer.decode([token])
    return text.replace(" ", "␣").replace("\n", "↵") if text.isascii() else f"#{token}"


def panel(
    tokenizer, logits: torch.Tensor, temperature: float = 1.0, top_p: float = 1.0
) -> tuple[list[str], list[float], int]:
    """(labels, shares, kept) of the likeliest tokens, as `plots.chances` draws them."""
    shares, ids, kept = nucleus(logits, temperature, top_p)
    labels = [label(tokenizer, token) for token in ids[:SHOWN].tolist()]
    return labels, shares[:SHOWN].tolist(), kept


def sampling(
    model, tokenizer, prompt: str, temperature: float = 1.0, top_p: float = 0.9
) -> ipywidgets.VBox:
    """Explore the next token after a prompt: sliders for temperature and top-p, bars, eight draws.

    The bars are the twelve likeliest tokens; full ones can be drawn, hatched ones are cut off.
    """
    logits = next_logits(model, tokenizer, prompt)

    def draw(temperature: float, top_p: float) -> tuple[Figure, str]:
        chances, ids, kept = nucleus(logits, temperature, top_p)
        generator = torch.Generator().manual_seed(1)
        drawn = torch.multinomial(chances[:kept], DRAWS, replacement=True, generator=generator)
        words = ", ".join(tokenizer.decode([ids[place]]).strip() for place in drawn)
        text = f"{kept} of {len(ids):,} tokens can be drawn. {DRAWS} draws: {words}."
        title = f"temperature {temperature:.1f}, top-p {top_p:.2f}"
        return plots.chances({title: panel(tokenizer, logits, temperature, top_p)}), text

    return live(
        draw,
        slider("temperature", 0.1, 2.0, temperature),
        slider("top-p", 0.05, 1.0, top_p, 0.05),
    )


# --- A card of one's own, or an API ---------------------------------------------------------------

MILLIONS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)  # tokens a month, drawn
CONTEXT = 2_000  # tokens of each text while it is written
FOUR_BITS = "q4_k_m"


def offers() -> list[catalog.Price]:
    """The prices in dollars of models whose shape the course carries: what can be compared."""
    known = {path.stem for path in (catalog.DATA / "configs").glob("*.json")}
    return [row for row in catalog.prices() if row.currency == "USD" and row.model in known]


def cards() -> list[catalog.Hardware]:
    """The hardware with a list price in dollars and a power."""
    return [row for row in catalog.hardware() if row.currency == "USD" and row.power_W]


@cache
def _step(model: str, texts: int) -> tuple[int, int]:
    """Bytes read for one more token of each text, and bytes of memory needed."""
    config = catalog.config(model)
    kept = texts * sizing.kv_cache_bytes(config, CONTEXT)
    weights = sizing.weight_bytes(sizing.parameters(config), FOUR_BITS)
    read = sizing.step_bytes(config, texts, CONTEXT, FOUR_BITS)
    return read, sizing.needed_bytes(weights, kept)


def own_or_api(
    model: str = "qwen2.5-7b", provider: str = "Alibaba", card: str = "RTX 5060 Ti 16GB"
) -> Live:
    """Explore what a million tokens cost on a card of your own and behind an API, by use.

    The card writes at the ceiling of its memory's bandwidth (`sizing.step_bytes`), in 4 bits, and
    reads prompts in no time: both are in its favour. Left out as in `sizing.cost_per_million`.
    """

    def draw(
        API: catalog.Price, card: catalog.Hardware, answers_at_once: float,
        prompt_tokens_per_answer_token: float, years: float, dollars_per_kWh: float,
    ) -> tuple[Figure, str]:  # fmt: skip
        texts = round(answers_at_once)
        ratio = prompt_tokens_per_answer_token
        api = sizing.api_cost_per_million(API.input_per_M, API.output_per_M, ratio)
        read, needed = _step(API.model, texts)
        speed = texts * sizing.decode_bound(read, card.bandwidth_GBps * sizing.GB)
        how = {
            "price": card.list_price, "years": years, "power_W": card.power_W,
            "price_per_kWh": dollars_per_kWh, "tokens_per_second": (ratio + 1) * speed,
        }  # fmt: skip
        most = how["tokens_per_second"] * 3600 * sizing.HOURS_PER_YEAR / 12 / 1e6
        fit = sizing.Fit(needed, round(card.memory_GB * sizing.GB))
        drawn = [use for use in MILLIONS if use <= most] if fit else []
        own = [sizing.cost_per_million(**how, utilisation=use / most) for use in drawn]
        series = {f"{API.provider}'s API": (MILLIONS, [api] * len(MILLIONS))}
        if drawn:
            series[card.id] = (drawn, own)
        figure = plots.lines(
            series, x="tokens a month (millions)", y="dollars per million tokens", log="xy"
        )
        words = f"{API.model}: {api:.2f} dollars per million tokens behind {API.provider}'s API. "
        if not fit:
            return figure, words + f"On the {card.id} it {fit} in 4 bits."
        enough = sizing.break_even(api, **how) / 1e6
        if math.isinf(enough):
            full = sizing.cost_per_million(**how)
            words += f"The {card.id} never gets there: {full:.2f} when it works day and night."
        else:
            words += f"The {card.id} is cheaper from {_rounded(enough)} million tokens a month, "
            words += f"{enough / most:.1%} of the {_rounded(most)} million it could do."
        return figure, words

    prices = {f"{row.model}, {row.provider}, {row.date}": row for row in offers()}
    asked = catalog.get_price(model, provider)
    hardware = {f"{row.id}, {row.list_price:,.0f} dollars": row for row in cards()}
    return live(
        draw,
        explorers.choice("API", prices, asked),
        explorers.choice("card", hardware, catalog.get_hardware(card)),
        slider("answers at once", 1, 32, 1, 1),
        slider("prompt tokens per answer token", 0, 20, 3, 1),
        slider("years", 1, 8, 4, 1),
        slider("dollars per kWh", 0.05, 0.6, 0.3, 0.05),
    )


def _rounded(millions: float) -> str:
    return f"{millions:,.0f}" if millions >= 10 else f"{millions:.2g}"


# --- The ledger of claims -------------------------------------------------------------------------


def ledger_text(rows: list[Claim]) -> str:
    """Claims as plain text, one a line: id, verdict, claim; marked where no source was seen."""
    width = max(map(len, VERDICTS))
    lines = [f"{row.id:4}{row.verdict:{width}}  {row.claim}{_unseen(row)}" for row in rows]
    return "\n".join(lines) or "no claim"


def _unseen(row: Claim) -> str:
    return "" if row.verified else "  [UNVERIFIED: source not seen]"


class Ledger(ipywidgets.VBox):
    """Two lists to choose from, a line that says what is left, and the claims, each to unfold.

    Where no kernel is live, its text is all claims, one a line.
    """

    def __init__(self, rows: list[Claim]) -> None:
        """rows: the claims to browse, e.g. `catalog.claims()`."""
        self.rows = rows
        families = list(dict.fromkeys(row.family for row in rows))
        self.verdict = ipywidgets.Dropdown(options=["all", *VERDICTS], description="verdict")
        self.family = ipywidgets.Dropdown(options=["all", *families], description="family")
        self.words, self.found = ipywidgets.HTML(), ipywidgets.HTML()
        super().__init__([self.verdict, self.family, self.words, self.found])
        for one in (self.verdict, self.family):
            one.observe(self._update, names="value")
        self._update()

    def chosen(self) -> list[Claim]:
        """The claims that pass both lists."""
        asked = {"verdict": self.verdict.value, "family": self.family.value}
        asked = {field: value for field, value in asked.items() if value != "all"}
        return [row for row in self.rows if all(getattr(row, f) == v for f, v in asked.items())]

    def _update(self, _change=None) -> None:
        rows = self.chosen()
        text = f"{len(rows)} of {len(self.rows)} claims. "
        text += f"Verdict: {self.verdict.value}; family: {self.family.value}."
        self.words.value = f'<div role="status">{html.escape(text)}</div>'
        self.found.value = "".join(map(_entry, rows))

    def _repr_mimebundle_(self, **options):
        return super()._repr_mimebundle_(**options) | {"text/plain": ledger_text(self.rows)}


def _entry(row: Claim) -> str:
    """One claim in HTML: what it says and its verdict, then, unfolded, why and from where."""
    claim, verdict, evidence, source = map(
        html.escape, (row.claim, row.verdict + _unseen(row), row.evidence, row.source)
    )
    links = [f'<a href="{html.escape(url)}">{html.escape(url[8:])}</a>' for url in row.source_urls]
    shown = f"<br>Shown in chapters/{html.escape(row.experiment)}." if row.experiment else ""
    return (
        f"<details><summary>{row.id} · <b>{verdict}</b> · {claim}</summary>"
        f"<p>{evidence}{shown}<br>Checked {row.date_checked}: "
        f"{'; '.join(filter(None, [*links, source]))}</p></details>"
    )
