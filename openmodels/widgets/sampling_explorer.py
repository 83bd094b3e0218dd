"""Which token comes next? Probabilities, temperature and top-p. A model runs here: needs torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from openmodels import plots
from openmodels.widgets.controls import slider
from openmodels.widgets.figure_explorer import FigureExplorer, live

DRAWS = 8
BARS = 12  # tokens in the figure
AXIS_END = 112  # of the axis in percent: room for a number beside the longest bar


@torch.no_grad()
def next_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str
) -> torch.Tensor:
    """Return the logits of the token after a prompt: (vocabulary,), float32, on the CPU."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    return model(**inputs, logits_to_keep=1).logits[0, -1].float().cpu()


def nucleus(
    logits: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return (probabilities, token ids, size of the nucleus) for a temperature and a top-p.

    logits: (vocabulary,). Probabilities and ids, (vocabulary,) each, are sorted, the likeliest
    first. The nucleus is the fewest tokens whose probabilities sum to `top_p` (Holtzman et al.
    2020). ValueError if the temperature is not above 0 or top_p not in (0, 1].
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it divides the logits: more than 0")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; a share above 0 and up to 1")
    probabilities, ids = (logits / temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities  # the sum over all likelier tokens
    return probabilities, ids, int((before < top_p).sum())


def perplexity(probabilities: torch.Tensor) -> float:
    """Return how many equally likely tokens would be as hard to predict: exp(entropy)."""
    return torch.special.entr(probabilities).sum().exp().item()


def label(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """Return a token as a figure's font can draw it: ␣ a space, ↵ a line's end, #id non-ASCII."""
    text = tokenizer.decode([token])
    return text.replace(" ", "␣").replace("\n", "↵") if text.isascii() else f"#{token}"


def panel(
    tokenizer: PreTrainedTokenizerBase,
    logits: torch.Tensor,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> tuple[list[str], list[float], int]:
    """Return (labels, probabilities, size of the nucleus), as `plots.chances` draws them.

    logits: (vocabulary,). The likeliest BARS tokens are returned.
    """
    probabilities, ids, size = nucleus(logits, temperature, top_p)
    labels = [label(tokenizer, token) for token in ids[:BARS].tolist()]
    return labels, probabilities[:BARS].tolist(), size


def plot_sampling(
    labels: list[str], probabilities: torch.Tensor, size: int, title: str = ""
) -> Figure:
    """Return bars for the likeliest tokens, and a last bar for all other tokens together.

    labels: of the likeliest tokens. probabilities: (vocabulary,), sorted. size: of the nucleus.
    Full bars are in the nucleus, hatched bars are not. The axis always goes from 0 to 100 %.
    """
    count = len(labels)
    figure = plots.chances({title: (labels, probabilities[:count].tolist(), size)})
    [axis] = figure.axes
    inside = 100 * probabilities[count:size].sum().item()
    outside = 100 * probabilities[max(count, size) :].sum().item()
    axis.barh(count, inside, height=0.7, facecolor=plots.DARK, edgecolor=plots.DARK)
    axis.barh(
        count, outside, left=inside, height=0.7, facecolor="white", edgecolor=plots.DARK, hatch="//"
    )
    percentages = [*(100 * probabilities[:count]).tolist(), inside + outside]
    for place, percentage in enumerate(percentages):
        axis.annotate(
            f"{percentage:.1f}", (percentage, place), (4, 0),
            textcoords="offset points", va="center", fontsize=8.5,
        )  # fmt: skip
    last = f"the other {len(probabilities) - count:,} tokens"
    axis.set_yticks(range(count + 1), [*labels, last], fontsize=9)
    axis.set(xlim=(0, AXIS_END), xticks=range(0, 101, 20))
    return figure


def sampling(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    temperature: float = 1.0,
    top_p: float = 0.9,
) -> FigureExplorer:
    """Explore the next token after a prompt: sliders for temperature and top-p, bars, eight draws.

    temperature and top_p are the first values of the sliders.
    """
    return live(
        _drawing(tokenizer, next_logits(model, tokenizer, prompt)),
        slider("temperature", 0.1, 2.0, temperature),
        slider("top-p", 0.05, 1.0, top_p, 0.05),
    )


def _drawing(
    tokenizer: PreTrainedTokenizerBase, logits: torch.Tensor
) -> Callable[[float, float], tuple[Figure, str]]:
    """Return the function that draws the explorer of these logits, (vocabulary,)."""

    def draw(temperature: float, top_p: float) -> tuple[Figure, str]:
        probabilities, ids, size = nucleus(logits, temperature, top_p)
        generator = torch.Generator().manual_seed(1)
        places = torch.multinomial(
            probabilities[:size], DRAWS, replacement=True, generator=generator
        )
        words = ", ".join(tokenizer.decode([ids[place]]).strip() for place in places)
        labels = [label(tokenizer, token) for token in ids[:BARS].tolist()]
        top = ", ".join(
            f"{name} {share:.1%}"
            for name, share in zip(labels[:3], probabilities.tolist(), strict=False)
        )
        text = f"{size} of {len(ids):,} tokens can be drawn. {DRAWS} draws: {words}."
        text += f" The likeliest tokens: {top}."
        title = f"temperature {temperature:.1f}, top-p {top_p:.2f}"
        return plot_sampling(labels, probabilities, size, title), text

    return draw
