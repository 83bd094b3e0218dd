"""The ledger of claims: which public statements about models are true, and from which source."""

from __future__ import annotations

import html
from collections.abc import Sequence

import ipywidgets

from openmodels.catalog import VERDICTS, Claim
from openmodels.widgets.controls import align, choice, status

ALL = "all"


def ledger_text(rows: Sequence[Claim]) -> str:
    """Return claims as text, one per line: id, verdict, claim, and a mark if no source was seen."""
    width = max(map(len, VERDICTS))
    lines = [f"{row.id:4}{row.verdict:{width}}  {row.claim}{_unverified(row)}" for row in rows]
    return "\n".join(lines) or "no claim"


def _unverified(row: Claim) -> str:
    return "" if row.verified else "  [UNVERIFIED: source not seen]"


class Ledger(ipywidgets.VBox):
    """Two lists that filter, a line that counts the claims that pass, and the claims, folded.

    rows: the claims, e.g. `catalog.claims()`. Where no kernel runs, all claims remain as text.
    """

    def __init__(self, rows: Sequence[Claim]) -> None:
        self.rows = rows
        families = list(dict.fromkeys(row.family for row in rows))
        self.verdict = choice("verdict", [ALL, *VERDICTS])
        self.family = choice("family", [ALL, *families])
        self.words, self.entries = ipywidgets.HTML(), ipywidgets.HTML()
        align([self.verdict, self.family])
        super().__init__([self.verdict, self.family, self.words, self.entries])
        for control in (self.verdict, self.family):
            control.observe(self._update, names="value")
        self._update()

    def chosen(self) -> list[Claim]:
        """Return the claims that pass both lists."""
        fields = {"verdict": self.verdict.value, "family": self.family.value}
        filters = {field: value for field, value in fields.items() if value != ALL}
        return [row for row in self.rows if all(getattr(row, f) == v for f, v in filters.items())]

    def _update(self, _change: object = None) -> None:
        rows = self.chosen()
        text = f"{len(rows)} of {len(self.rows)} claims. "
        text += f"Verdict: {self.verdict.value}; family: {self.family.value}."
        self.words.value = status(text)
        self.entries.value = "".join(map(entry_html, rows))

    def _repr_mimebundle_(self, **options) -> dict[str, object]:
        return super()._repr_mimebundle_(**options) | {"text/plain": ledger_text(self.rows)}


def entry_html(row: Claim) -> str:
    """Return a claim as HTML: what it says and its verdict, and, folded, evidence and sources."""
    claim, verdict, evidence, source = map(
        html.escape, (row.claim, row.verdict + _unverified(row), row.evidence, row.source)
    )
    links = [f'<a href="{html.escape(url)}">{html.escape(url[8:])}</a>' for url in row.source_urls]
    notebook = f"<br>Shown in chapters/{html.escape(row.experiment)}." if row.experiment else ""
    return (
        f'<details style="line-height:1.6"><summary>'
        f"{row.id} · <b>{verdict}</b> · {claim}</summary>"
        f"<p>{evidence}{notebook}<br>Checked {row.date_checked}: "
        f"{'; '.join(filter(None, [*links, source]))}</p></details>"
    )
