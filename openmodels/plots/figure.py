"""Figures that carry their own alt text, and the HTML that shows them in a notebook.

The image is stored once, with dark ink on a transparent ground. Where the page is known to be dark,
a style sheet inverts it. Where a page removes style sheets (JupyterLab does until a notebook is
trusted), the image keeps a white ground, so it stays readable on every page.
"""

from __future__ import annotations

import base64
import html
import io

from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

COLOURS = 64  # of the palette: a third of the size of a full PNG, and it looks the same
WHITE_GROUND = "background-color:#fff;max-width:100%"
# JupyterLab, VS Code, VS Code in high contrast, a Sphinx site, Colab.
DARK_PAGES = (
    '[data-jp-theme-light="false"]',
    ".vscode-dark",
    ".vscode-high-contrast:not(.vscode-high-contrast-light)",
    '[data-theme="dark"]',
    "html[theme=dark]",
)
DARK_STYLE = (
    f"<style>:is({','.join(DARK_PAGES)}) img.openmodels-figure"
    "{background-color:transparent!important;filter:invert(1) hue-rotate(180deg)}</style>"
)


class DescribedFigure(Figure):
    """A figure with its alt text; as the last value of a cell it shows itself.

    Attributes:
        alt: what the figure shows, in words.
        photo: whether its colours carry meaning, so that a dark page must not invert them.
    """

    alt = ""
    photo = False

    def _ipython_display_(self) -> None:
        show(self)


def canvas(
    columns: int = 1, width: float = 7, height: float = 3
) -> tuple[DescribedFigure, list[Axes]]:
    """Return an empty figure and its axes, side by side; sizes in inches."""
    figure = DescribedFigure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _palette(figure: Figure) -> Image.Image:
    """Return the figure as a picture with a palette of COLOURS."""
    full = io.BytesIO()
    figure.savefig(full, format="png", dpi=110, bbox_inches="tight")
    return Image.open(full).convert("RGB").quantize(COLOURS)


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file of few colours, on a white ground."""
    small = io.BytesIO()
    _palette(figure).save(small, format="png", optimize=True)
    return small.getvalue()


def transparent_png(figure: Figure) -> bytes:
    """Return the figure as a PNG file that looks the same on white, with as little ink as possible.

    Every colour of the palette becomes as transparent as its darkest channel allows. So white
    becomes fully transparent, and pale fills let a dark page show through.
    """
    small, picture = io.BytesIO(), _palette(figure)
    colours, alphas = [], []
    flat = picture.getpalette()
    for start in range(0, len(flat), 3):
        channels = flat[start : start + 3]
        alpha = 255 - min(channels)
        alphas.append(alpha)
        # On white: seen = (255 - alpha) + colour * alpha / 255.
        colours += [round(255 * (c - 255 + alpha) / alpha) if alpha else 255 for c in channels]
    picture.putpalette(colours)
    picture.save(small, format="png", optimize=True, transparency=bytes(alphas))
    return small.getvalue()


def html_image(figure: Figure, alt: str, photo: bool = False) -> str:
    """Return HTML that shows a figure with its alt text, on light and on dark pages.

    photo: keep the figure's colours on dark pages too.
    """
    data = base64.b64encode(png(figure) if photo else transparent_png(figure)).decode()
    kind = "openmodels-photo" if photo else "openmodels-figure"
    image = (
        f'<img class="{kind}" alt="{html.escape(alt)}" style="{WHITE_GROUND}" '
        f'src="data:image/png;base64,{data}">'
    )
    return image if photo else DARK_STYLE + image


def show(figure: Figure, alt: str = "") -> None:
    """Display a figure with its alt text.

    alt: what the figure shows; without it, a `DescribedFigure` uses its own words.

    Raises:
        ValueError: for a figure without words, which a screen reader could not present.
    """
    alt = alt or getattr(figure, "alt", "")
    if not alt:
        raise ValueError("this figure has no alt text: pass show(figure, alt='what it shows')")
    page = html_image(figure, alt, photo=getattr(figure, "photo", False))
    display({"text/html": page, "text/plain": alt}, raw=True)
