"""The landscape as data: models, scores, prices, hardware and claims, each row with its sources.

The rows are `data/*.csv`; the shapes of some full-size models are `data/configs/*.json`.
"""

from __future__ import annotations

import csv
import difflib
import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TypeVar

DATA = Path(__file__).parent / "data"
STATUSES = ("announced", "released", "retired")
REPORTER_TYPES = ("vendor_own", "vendor_other", "independent")
VERDICTS = ("true", "partly", "outdated", "false", "not verifiable")


@dataclass(frozen=True)
class Model:
    """One row of the catalogue. `None`: unpublished, or not known to us.

    A field named in `unverified_fields` was not seen in any of `source_urls`.
    """

    id: str
    family: str
    developer: str
    country: str
    release_date: str  # YYYY-MM-DD, YYYY-MM or YYYY, as exactly as known
    status: str  # announced: no weights yet; released; retired: withdrawn by its maker
    modality_in: tuple[str, ...]
    params_total_B: float | None  # as published, in billions
    params_active_B: float | None  # used for one token, as published, in billions
    params_computed: int | None  # counted on the transformers class, tied weights once
    architecture: str  # dense, MoE or undisclosed
    n_layers: int | None
    hidden_size: int | None
    n_heads: int | None
    n_kv_heads: int | None
    head_dim: int | None
    n_experts: int | None
    experts_per_token: int | None
    shared_experts: int | None
    vocab_size: int | None
    context_length: int | None  # tokens
    attention_kind: str
    kv_lora_rank: int | None  # latent attention only
    qk_rope_head_dim: int | None  # latent attention only
    training_tokens_T: float | None  # trillions of tokens
    training_gpu_hours_M: float | None  # millions of hours, on the GPU its maker names
    licence: str
    licence_limits: str
    hf_repo_id: str
    ollama_tag: str
    ollama_GB: float | None  # size of that download, in 10^9 bytes
    transformers_class: str
    source_urls: tuple[str, ...]
    verified: bool
    unverified_fields: tuple[str, ...]
    date_checked: str  # YYYY-MM-DD

    @property
    def parameters(self) -> int | None:
        """Number of parameters: counted where we could, else as published; None if unknown."""
        if self.params_computed is not None:
            return self.params_computed
        return None if self.params_total_B is None else round(self.params_total_B * 1e9)


@dataclass(frozen=True)
class Benchmark:
    """One score of one model, as one party reported it. Two settings make two scores."""

    model: str  # id of the catalogue; a name in lower case where it has no such row ("…-base")
    benchmark: str
    setting: str  # "" where the source states none
    score: float
    unit: str
    reported_by: str
    reporter_type: str  # vendor_own: of its own model; vendor_other: of another's; independent
    date: str  # of the report: YYYY-MM-DD, YYYY-MM or YYYY, as exactly as known
    source_urls: tuple[str, ...]
    source: str  # in words, where there is no address
    note: str
    verified: bool
    date_checked: str  # YYYY-MM-DD


@dataclass(frozen=True)
class Reports:
    """The scores of one model on one benchmark, apart by who reported them."""

    vendor_own: tuple[Benchmark, ...]
    vendor_other: tuple[Benchmark, ...]
    independent: tuple[Benchmark, ...]


@dataclass(frozen=True)
class Price:
    """What a provider asks for a model behind its API, per million tokens."""

    model: str  # id of the catalogue; the provider's name where it has no such row
    sold_as: str  # the provider's name
    provider: str
    tariff: str  # "peak" or "off-peak"; "" where the price is one all day
    currency: str
    input_per_M: float
    output_per_M: float
    cached_input_per_M: float | None
    date: str  # of the price: YYYY-MM-DD, YYYY-MM or YYYY, as exactly as known
    source_urls: tuple[str, ...]
    source: str  # in words, where there is no address
    note: str
    verified: bool
    date_checked: str  # YYYY-MM-DD


@dataclass(frozen=True)
class Hardware:
    """A graphics card, a Mac, or a processor's memory. `None`: not stated in the sources.

    A field named in `unverified_fields` was not seen in any of the sources.
    """

    id: str
    kind: str  # gpu, mac or cpu
    memory_GB: float | None  # 10^9 bytes
    bandwidth_GBps: float  # peak, 10^9 bytes per second
    power_W: float | None
    list_price: float | None
    currency: str  # of list_price
    source_urls: tuple[str, ...]
    source: str  # in words, where there is no address
    note: str
    verified: bool
    unverified_fields: tuple[str, ...]
    date_checked: str  # YYYY-MM-DD


@dataclass(frozen=True)
class Claim:
    """A claim about open models that is often read, and what checking it found."""

    id: str  # a letter for the family and a number, e.g. "a2"
    family: str
    origin: str  # article: read in articles on these models; background: a question beside them
    claim: str
    verdict: str  # one of VERDICTS
    evidence: str
    source_urls: tuple[str, ...]
    source: str  # in words, where there is no address
    verified: bool
    date_checked: str  # YYYY-MM-DD
    experiment: str  # the notebook in chapters/ that shows it; "" while there is none


_PARSE = {
    "str": str,
    "bool": lambda text: text == "yes",
    "float": float,
    "int | None": lambda text: int(text) if text else None,
    "float | None": lambda text: float(text) if text else None,
}
_SEPARATOR = {"modality_in": "+", "source_urls": " ", "unverified_fields": " "}
_FILES = {
    Model: "models.csv",
    Benchmark: "benchmarks.csv",
    Price: "prices.csv",
    Hardware: "hardware.csv",
    Claim: "claims.csv",
}
Row = TypeVar("Row", Model, Benchmark, Price, Hardware, Claim)


def _row(record: dict[str, str], row_class: type[Row]) -> Row:
    values = {}
    for field in fields(row_class):
        text = record[field.name]
        if field.name in _SEPARATOR:
            values[field.name] = tuple(text.split(_SEPARATOR[field.name])) if text else ()
        else:
            values[field.name] = _PARSE[field.type](text)
    return row_class(**values)


@cache
def _rows(row_class: type[Row]) -> tuple[Row, ...]:
    return tuple(_row(record, row_class) for record in records(_FILES[row_class]))


def records(name: str) -> list[dict[str, str]]:
    """The rows of one file of `data/`, as text: `records("clauses.csv")`."""
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def models() -> list[Model]:
    """Every model of the catalogue, in the order of the file."""
    return list(_rows(Model))


def get(id: str) -> Model:
    """The model with this id, e.g. `get("qwen2.5-0.5b")`. LookupError names the closest ids."""
    return _by_id(Model, "model", id)


def find(**wanted) -> list[Model]:
    """Models whose fields equal what is asked, e.g. `find(developer="Meta", status="released")`.

    A field that holds several values matches one of them: `find(modality_in="image")`.
    TypeError when a row has no such field.
    """
    names = [field.name for field in fields(Model)]
    for name in wanted:
        if name not in names:
            raise TypeError(
                f"a model of the catalogue has no field {name!r}{_closest(name, names)}"
            )

    def matches(model: Model) -> bool:
        values = ((getattr(model, name), value) for name, value in wanted.items())
        return all(v in has if isinstance(has, tuple) else v == has for has, v in values)

    return [model for model in _rows(Model) if matches(model)]


def config(id: str):
    """The full-size model's shape: a transformers config object, built without any download.

    LookupError when the course carries no config for this model.
    """
    path = DATA / "configs" / f"{id}.json"
    if not path.is_file():
        known = sorted(path.stem for path in path.parent.glob("*.json"))
        raise LookupError(f"no config for {id!r}; there is one for {', '.join(known)}")
    from transformers import AutoConfig

    return AutoConfig.for_model(**json.loads(path.read_text(encoding="utf-8"))["config"])


def benchmarks(
    model: str | None = None, benchmark: str | None = None, reporter_type: str | None = None
) -> list[Benchmark]:
    """Scores in the order of the file, of one model, one benchmark, one type of reporter or all.

    LookupError, with the closest names, for a model or benchmark that occurs nowhere and for a type
    that is none of REPORTER_TYPES. A model of the catalogue without scores gives an empty list.
    """
    rows = _rows(Benchmark)
    check_name("model", model, {row.model for row in rows} | {row.id for row in _rows(Model)})
    check_name("benchmark", benchmark, {row.benchmark for row in rows})
    check_name("type of reporter", reporter_type, REPORTER_TYPES)
    return _chosen(rows, model=model, benchmark=benchmark, reporter_type=reporter_type)


def side_by_side(model: str, benchmark: str) -> Reports:
    """What a model's own vendor, other vendors and independent parties report on one benchmark.

    Nothing is averaged or ranked across the three. LookupError as for `benchmarks`.
    """
    return Reports(*(tuple(benchmarks(model, benchmark, kind)) for kind in REPORTER_TYPES))


def prices(model: str | None = None, provider: str | None = None) -> list[Price]:
    """API prices in the order of the file, of one model, one provider or all.

    LookupError, with the closest names, for a provider that occurs nowhere, and for a model that
    occurs neither here nor in the catalogue.
    """
    rows = _rows(Price)
    check_name("model", model, {row.model for row in rows} | {row.id for row in _rows(Model)})
    check_name("provider", provider, {row.provider for row in rows})
    return _chosen(rows, model=model, provider=provider)


def get_price(model: str, provider: str | None = None, tariff: str | None = None) -> Price:
    """The one price of a model, e.g. `get_price("llama-4-scout", "Groq")`.

    LookupError when there is none, and when several are left: then it names them.
    """
    found = _chosen(prices(model, provider), tariff=tariff)
    if len(found) == 1:
        return found[0]
    if not found:
        raise LookupError(f"the catalogue has no price of {model!r} for this provider and tariff")
    names = ", ".join(f"{row.provider} {row.tariff}".strip() for row in found)
    raise LookupError(f"{model!r} has {len(found)} prices, name one provider and tariff: {names}")


def hardware(kind: str | None = None) -> list[Hardware]:
    """Hardware in the order of the file: "gpu", "mac", "cpu" or all. LookupError otherwise."""
    rows = _rows(Hardware)
    check_name("kind of hardware", kind, {row.kind for row in rows})
    return _chosen(rows, kind=kind)


def get_hardware(id: str) -> Hardware:
    """The hardware with this id, e.g. `get_hardware("RTX 4090")`. LookupError as for `get`."""
    return _by_id(Hardware, "hardware", id)


def claims(family: str | None = None, verdict: str | None = None) -> list[Claim]:
    """Claims in the order of the file, of one family, with one verdict or all.

    LookupError, with the closest names, for a family without claims and an unknown verdict.
    """
    rows = _rows(Claim)
    check_name("family of claims", family, {row.family for row in rows})
    check_name("verdict", verdict, VERDICTS)
    return _chosen(rows, family=family, verdict=verdict)


def get_claim(id: str) -> Claim:
    """The claim with this id, e.g. `get_claim("a2")`. LookupError as for `get`."""
    return _by_id(Claim, "claim", id)


def _by_id(row_class: type[Row], what: str, id: str) -> Row:
    by_id = {row.id: row for row in _rows(row_class)}
    check_name(what, id, by_id)
    return by_id[id]


def _chosen(rows, **wanted) -> list:
    """The rows whose fields equal what is wanted; None wants nothing."""
    asked = {name: value for name, value in wanted.items() if value is not None}
    return [row for row in rows if all(getattr(row, name) == v for name, v in asked.items())]


def check_name(what: str, name: str | None, known) -> None:
    """LookupError, with the closest names, for a name that is not known; None is always fine."""
    if name is not None and name not in known:
        raise LookupError(f"the catalogue has no {what} {name!r}{_closest(name, known)}")


def _closest(name: str, known) -> str:
    lower = {other.lower(): other for other in sorted(known)}
    close = difflib.get_close_matches(name.lower(), lower, n=3)
    return f"; did you mean {', '.join(lower[other] for other in close)}?" if close else ""
