"""Explorers for the mouse and the arrow keys: sliders above a figure and a line of words."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable

import ipywidgets
import torch
from matplotlib.figure import Figure

from openmodels import plots
from openmodels.catalog import VERDICTS, Claim

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


def live(draw: Callable[..., tuple[Figure, str]], *sliders) -> ipywidgets.VBox:
    """Sliders above the figure `draw` returns; it is drawn anew whenever one of them moves.

    draw: gets each slider's value under its name, returns the figure and what it shows in words;
    the words stand below the figure and are its alternative text.
    Example: `live(lambda days: (plot(days), f"{days:.0f} days"), slider("days", 1, 7, 3, 1))`.
    """
    picture, words = ipywidgets.HTML(), ipywidgets.HTML()

    def update(_change=None) -> None:
        figure, text = draw(**{one.description.replace("-", "_"): one.value for one in sliders})
        data, alt = base64.b64encode(plots.png(figure)).decode(), html.escape(text)
        picture.value = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
        words.value = f'<div role="status">{alt}</div>'

    for one in sliders:
        one.observe(update, names="value")
    update()
    return ipywidgets.VBox([*sliders, picture, words])


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


def choices(chances: torch.Tensor) -> float:
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
