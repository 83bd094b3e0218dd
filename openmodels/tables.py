"""Write tables as HTML and as text: the one writer for every table that the package shows.

This is a root module, not part of `widgets`, because `check`, `doctor` and `minis` show tables too
and imports only go down. Styles stand in the cells, since notebooks remove style sheets from
outputs that are not trusted yet. Colours come from the page, so light and dark themes both work.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

Row = Sequence[str]
WIDEST = 180  # characters of a line of text
SHORT = 24  # characters; a column is never wrapped if its cells are this short or single words
LONG = 60  # characters; a wrapped column with longer cells gets more room
BLANK = ("", "–")
LINE = "1px solid rgba(128,128,128,0.4)"  # grey, visible on light and on dark pages
_VALUE = r"[+−-]?\d[\d,]*(?:\.\d+)?(?:\s?%)?(?:\s(?!of\b)[^\W\d]\S{0,11})?"
NUMBER = re.compile(rf"(?:at most )?{_VALUE}(?:(?:\s?[–/×]\s?|\sof\s){_VALUE})?")
MAX_ADDRESS = 30  # characters of an address that the page shows
UNBROKEN = re.compile(  # dates, and numbers with their units
    r"\b\d{4}-\d\d(?:-\d\d)?\b|\b\d[\d,.]* (?:[KMGT]?B|bits|%|tokens)(?!\w)"
)


def as_html(rows: Sequence[Row], title: str = "") -> str:
    """Return a table as HTML, with everything escaped; the first row is the header.

    Numbers are aligned on the right, with units and percentages too. Short columns are not wrapped:
    a table that is wider than the page scrolls. Words that begin with https:// become links. No
    rows give an empty text. ValueError if rows differ in length.
    """
    if not rows:
        return ""
    columns = zip(*rows, strict=True)
    styles = [_style(column, label=place == 0) for place, column in enumerate(columns)]
    header = _html_row(rows[0], styles, "th")
    body = "".join(_html_row(row, styles, "td") for row in rows[1:])
    caption = ""
    if title:
        caption = f'<caption style="text-align:left"><b>{html.escape(title)}</b></caption>'
    return (
        '<div style="overflow-x:auto">'
        '<table style="border-collapse:collapse; line-height:1.3; margin:0 0 1em">'
        f"{caption}<thead>{header}</thead><tbody>{body}</tbody></table></div>"
    )


def as_text(rows: Sequence[Row], title: str = "", width: int = WIDEST) -> str:
    """Return a table as aligned text, a line per row; the first row is the header.

    Numbers are aligned on the right. A table wider than `width` characters becomes a block of lines
    per row. No rows give an empty text. ValueError if rows differ in length.
    """
    if not rows:
        return ""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    if sum(widths) > width:
        lines = [_block(rows[0], row) for row in rows[1:]]
    else:
        pads = [str.rjust if is_numeric(column) else str.ljust for column in columns]
        pads[0] = str.ljust  # the first column names the rows
        lines = [_text_row(row, widths, pads) for row in rows]
    heading = [title, "-" * len(title)] if title else []
    return "\n".join([*heading, *lines])


def is_numeric(column: Sequence[str]) -> bool:
    """Return whether a column holds numbers. Its first cell is the header and does not count.

    Units, percentages, ranges ("1.2% – 3.4%") and shares ("3 of 4") count as numbers, dates and
    version numbers do not. At least a third of the cells must be numbers, the other cells short.
    """
    cells = [cell for cell in column[1:] if cell not in BLANK]
    words = [cell for cell in cells if not NUMBER.fullmatch(cell)]
    return len(words) * 3 <= len(cells) * 2 > 0 and all(len(word) <= 12 for word in words)


def _text_row(row: Row, widths: Sequence[int], pads: Sequence) -> str:
    cells = zip(pads, row, widths, strict=True)
    return "  ".join(pad(cell, width) for pad, cell, width in cells).rstrip()


def _block(header: Row, row: Row) -> str:
    """Return a row as lines: its first cell, then each other cell after its column's name."""
    pairs = zip(header[1:], row[1:], strict=True)
    return "\n".join([row[0], *(f"  {name}: {cell}" for name, cell in pairs)])


def _style(column: Row, label: bool) -> str:
    """Return the CSS of a column's cells. label: this column names the rows."""
    align = "right" if is_numeric(column) and not label else "left"
    texts = [_visible(cell) for cell in column]
    longest = max(map(len, texts))
    if longest <= SHORT or not any(" " in text for text in texts):
        wrap = "white-space:nowrap"
    else:
        wrap = f"white-space:normal; min-width:{9 if longest <= LONG else 13}em"
    return f"text-align:{align}; vertical-align:top; padding:0.25em 0.8em 0.25em 0; {wrap}"


def _html_row(row: Row, styles: Sequence[str], tag: str) -> str:
    cells = (
        f'<{tag} style="{style}">{_linked(cell)}</{tag}>'
        for cell, style in zip(row, styles, strict=True)
    )
    return f'<tr style="border-bottom:{LINE}">{"".join(cells)}</tr>'


def _linked(cell: str) -> str:
    """Return a cell's HTML: links for addresses; dates and numbers with units do not break."""
    parts = re.split(r"(https://\S+)", html.escape(cell))
    texts, addresses = parts[::2], parts[1::2]
    texts = [UNBROKEN.sub(r'<span style="white-space:nowrap">\g<0></span>', t) for t in texts]
    links = [f'<a href="{address}">{short_address(address)}</a>' for address in addresses]
    return "".join(text + link for text, link in zip(texts, [*links, ""], strict=True))


def _visible(cell: str) -> str:
    """Return what the page shows of a cell: addresses are shortened."""
    words = cell.split(" ")
    return " ".join(short_address(w) if w.startswith("https://") else w for w in words)


def short_address(address: str) -> str:
    """Return the site and the last part of an https address, e.g. "arxiv.org/…/2412.19437".

    An address that stays longer than MAX_ADDRESS is the site alone, e.g. "example.org/…".
    """
    site, _, path = address.removeprefix("https://").partition("/")
    short = f"{site}/…/{path.rsplit('/', 1)[-1]}" if "/" in path else f"{site}/{path}"
    return short if len(short) <= MAX_ADDRESS else f"{site}/…"
