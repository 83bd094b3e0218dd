"""Which uses a model's licence permits, each answer with the clause it rests on.

The clauses are in `data/clauses.csv`: what each allows, requires or forbids, in the course's words
and in the licence's own, with source and date. The rules below only select the clauses that apply.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from functools import cache

from openmodels import catalog

USES = {
    "research": "study it, unpaid and apart from any business",
    "evaluate": "try it out at work",
    "work": "use it for the work of my company",
    "product": "build it into a product or service",
    "host": "offer the model itself to others, as an API",
    "share": "pass on the weights, or what I made of them",
    "train": "train another model on its answers",
}
EFFECTS = ("allows", "asks", "forbids")
VERDICTS = ("yes", "yes, if", "no", "not known")
SEEN = {
    "text": "read in the licence's text or a copy of it",
    "quoted": "quoted by others; the text itself was not seen",
    "summary": "known from a summary; the text itself was not seen",
}
KINDS = ("Apache or MIT", "terms of its own", "research only", "not stated", "closed")
PERMISSIVE = ("Apache-2.0", "MIT")
RESEARCH = ("Mistral AI Research License", "Qwen RESEARCH LICENSE")


@dataclass(frozen=True)
class Clause:
    """What one clause of one licence says about some uses."""

    id: str
    licence: str  # as in the catalogue
    section: str  # "" where the source names none
    effect: str  # one of EFFECTS
    uses: tuple[str, ...]  # keys of USES
    models: tuple[str, ...]  # ids, where the licence's name stands for several texts; () is all
    in_eu: bool  # applies only to people and companies based in the European Union
    image_input: bool  # applies only to models that take images
    users_above_M: float  # applies only above this many million monthly users
    means: str  # in the course's words
    quote: str  # in the licence's words; "" where its words were not seen
    seen: str  # a key of SEEN
    source_urls: tuple[str, ...]
    date_checked: str  # YYYY-MM-DD

    def __str__(self) -> str:
        location = f"{self.licence}, {self.section}" if self.section else self.licence
        quotation = f": «{self.quote}»" if self.quote else ""
        provenance = f"({SEEN[self.seen]}, {self.date_checked})"
        return "\n".join(
            [
                _wrapped(self.means, ""),
                _wrapped(location + quotation),
                *map(_wrapped, [*self.source_urls, provenance]),
            ]
        )


@dataclass(frozen=True)
class Answer:
    """A verdict on one use of one model, with the clauses it rests on."""

    model: str
    use: str
    verdict: str  # one of VERDICTS
    because: str
    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        head = f"{self.model} · {USES[self.use]}: {self.verdict}. {self.because}".strip()
        return "\n".join([_wrapped(head, ""), *(f"- {clause}" for clause in self.clauses)])


def _wrapped(text: str, indent: str = "  ") -> str:
    """Return the text wrapped to the page width; addresses are not broken."""
    return textwrap.fill(
        text, 98, initial_indent=indent, subsequent_indent=indent or "  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


@cache
def clauses() -> tuple[Clause, ...]:
    """Return every clause, in the order of the file."""
    return tuple(
        Clause(
            **{
                **record,
                "uses": tuple(record["uses"].split()),
                "models": tuple(record["models"].split()),
                "in_eu": record["in_eu"] == "yes",
                "image_input": record["image_input"] == "yes",
                "users_above_M": float(record["users_above_M"] or 0),
                "source_urls": tuple(record["source_urls"].split()),
            }
        )
        for record in catalog.records("clauses.csv")
    )


def kind(model: catalog.Model) -> str:
    """Return which of KINDS a model's licence is. If two licences apply, the stricter counts."""
    if model.licence in ("", "closed"):
        return "closed" if model.licence else "not stated"
    names = licences_of(model)
    if set(names) <= set(PERMISSIVE):
        return "Apache or MIT"
    return "research only" if set(names) & set(RESEARCH) else "terms of its own"


def licences_of(model: catalog.Model) -> list[str]:
    """Return the licences that apply together.

    A model fine-tuned from another maker's model has two.
    """
    names = model.licence.split(" + ") if model.licence else []
    return [re.sub(r"^(Llama [\d.]+) licence$", r"\1 Community License", name) for name in names]


def may_i(model: str, use: str, in_eu: bool = False, users_M: float = 0) -> Answer:
    """Return whether the licence of a model of the catalogue permits a use.

    use: a key of USES. in_eu: you live in the European Union, or your company is based there.
    users_M: monthly users of all your products, in millions. Raises LookupError, with the closest
    names, for an unknown model or use, and ValueError if users_M is negative.

    Example: `may_i("llama-4-scout", "product", in_eu=True).verdict` is "no".
    """
    row = catalog.get(model)
    catalog.check_name("use", use, USES)
    if users_M < 0:
        raise ValueError(f"users_M is {users_M}; millions of users cannot be negative")
    if row.status == "announced":
        return Answer(model, use, "no", "It was announced, but no weights were released.", ())
    if row.licence == "closed":
        return Answer(
            model, use, "no", "Its weights are not published; only its maker runs it.", ()
        )
    if not row.licence:
        return Answer(model, use, "not known", "The catalogue knows no licence of it.", ())

    applicable = [clause for clause in clauses() if _applies(clause, row, use, in_eu, users_M)]
    forbids, asks, allows = (
        tuple(clause for clause in applicable if clause.effect == effect)
        for effect in ("forbids", "asks", "allows")
    )
    uncovered = [
        name for name in licences_of(row) if name not in {clause.licence for clause in allows}
    ]
    doubt = "Which licence it has was not seen at a source." * ("licence" in row.unverified_fields)
    if forbids:
        return Answer(model, use, "no", f"{doubt} It takes another licence.".strip(), forbids)
    if uncovered:
        because = f"Our table has no clause that allows it; read this: {uncovered[0]}."
        return Answer(model, use, "not known", f"{doubt} {because}".strip(), asks + allows)
    return Answer(model, use, "yes, if" if asks else "yes", doubt, asks + allows)


def _applies(clause: Clause, model: catalog.Model, use: str, in_eu: bool, users_M: float) -> bool:
    return (
        clause.licence in licences_of(model)
        and use in clause.uses
        and (not clause.models or model.id in clause.models)
        and (in_eu or not clause.in_eu)
        and ("image" in model.modality_in or not clause.image_input)
        and (users_M > clause.users_above_M or not clause.users_above_M)
    )
