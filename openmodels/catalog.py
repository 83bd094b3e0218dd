"""The open-weight landscape as data: models, scores, prices, hardware and claims, with sources.

The rows are in `data/*.csv`. The configs of some full-size models are in `data/configs/*.json`.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DATA = Path(__file__).parent / "data"
STATUSES = ("announced", "released", "retired")
REPORTER_TYPES = ("vendor_own", "vendor_other", "independent")
VERDICTS = ("true", "partly", "outdated", "false", "not verifiable")


@dataclass(frozen=True)
class Model:
    """One row of the catalogue. `None` means unpublished or unknown.

    A field listed in `unverified_fields` was not confirmed by any of `source_urls`.
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
        """Return the parameter count: computed if possible, else as published; None if unknown."""
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
    """The scores of one model on one benchmark, grouped by who reported them."""

    vendor_own: tuple[Benchmark, ...]
    vendor_other: tuple[Benchmark, ...]
    independent: tuple[Benchmark, ...]


@dataclass(frozen=True)
class Price:
    """What a provider charges for a model behind its API, per million tokens."""

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
    """A graphics card, a Mac, or a processor's memory. `None` means not stated in the sources.

    A field listed in `unverified_fields` was not confirmed by any of the sources.
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
    """A frequent claim about open models, and the verdict after checking it."""

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
    """Return the rows of one file of `data/` as text: `records("clauses.csv")`."""
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def models() -> list[Model]:
    """Return every model of the catalogue, in the order of the file."""
    return list(_rows(Model))


def get(id: str) -> Model:
    """Return the model with this id, e.g. `get("qwen2.5-0.5b")`.

    Raises LookupError, with the closest ids, if there is none.
    """
    return _by_id(Model, "model", id)


def find(**criteria: object) -> list[Model]:
    """Return the models whose fields equal these, e.g. `find(developer="Meta", status="released")`.

    A field with several values matches if one of them does: `find(modality_in="image")`.
    Raises TypeError if models have no such field.
    """
    names = [field.name for field in fields(Model)]
    for name in criteria:
        if name not in names:
            raise TypeError(
                f"a model of the catalogue has no field {name!r}{_closest(name, names)}"
            )

    def matches(model: Model) -> bool:
        values = ((getattr(model, name), value) for name, value in criteria.items())
        return all(v in field if isinstance(field, tuple) else v == field for field, v in values)

    return [model for model in _rows(Model) if matches(model)]


def config(id: str) -> PreTrainedConfig:
    """Return the full-size model's transformers config, built without any download.

    Raises LookupError if the course has no config for this model.
    """
    path = DATA / "configs" / f"{id}.json"
    if not path.is_file():
        available = sorted(path.stem for path in path.parent.glob("*.json"))
        raise LookupError(f"no config for {id!r}; there is one for {', '.join(available)}")
    from transformers import AutoConfig

    return AutoConfig.for_model(**json.loads(path.read_text(encoding="utf-8"))["config"])


def benchmarks(
    model: str | None = None, benchmark: str | None = None, reporter_type: str | None = None
) -> list[Benchmark]:
    """Return scores in the order of the file, filtered by model, benchmark or type of reporter.

    Raises LookupError, with the closest names, for an unknown model or benchmark and for a type
    that is not in REPORTER_TYPES. A model of the catalogue without scores gives an empty list.
    """
    rows = _rows(Benchmark)
    check_name("model", model, {row.model for row in rows} | {row.id for row in _rows(Model)})
    check_name("benchmark", benchmark, {row.benchmark for row in rows})
    check_name("type of reporter", reporter_type, REPORTER_TYPES)
    return _filter(rows, model=model, benchmark=benchmark, reporter_type=reporter_type)


def side_by_side(model: str, benchmark: str) -> Reports:
    """Return what the model's vendor, other vendors and independent parties report.

    The three groups are neither averaged nor ranked. Raises LookupError as `benchmarks` does.
    """
    return Reports(*(tuple(benchmarks(model, benchmark, kind)) for kind in REPORTER_TYPES))


def prices(model: str | None = None, provider: str | None = None) -> list[Price]:
    """Return API prices in the order of the file, filtered by model or provider.

    Raises LookupError, with the closest names, for an unknown provider, and for a model that is
    neither here nor in the catalogue.
    """
    rows = _rows(Price)
    check_name("model", model, {row.model for row in rows} | {row.id for row in _rows(Model)})
    check_name("provider", provider, {row.provider for row in rows})
    return _filter(rows, model=model, provider=provider)


def get_price(model: str, provider: str | None = None, tariff: str | None = None) -> Price:
    """Return the only price of a model, e.g. `get_price("llama-4-scout", "Groq")`.

    Raises LookupError if there is no price, or if there are several: the message lists them.
    """
    matches = _filter(prices(model, provider), tariff=tariff)
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise LookupError(f"the catalogue has no price of {model!r} for this provider and tariff")
    names = ", ".join(f"{row.provider} {row.tariff}".strip() for row in matches)
    raise LookupError(f"{model!r} has {len(matches)} prices; choose a provider and tariff: {names}")


def hardware(kind: str | None = None) -> list[Hardware]:
    """Return hardware in the order of the file: "gpu", "mac", "cpu" or all.

    Raises LookupError for any other kind.
    """
    rows = _rows(Hardware)
    check_name("kind of hardware", kind, {row.kind for row in rows})
    return _filter(rows, kind=kind)


def get_hardware(id: str) -> Hardware:
    """Return the hardware with this id, e.g. `get_hardware("RTX 4090")`.

    Raises LookupError as `get` does.
    """
    return _by_id(Hardware, "hardware", id)


def claims(family: str | None = None, verdict: str | None = None) -> list[Claim]:
    """Return claims in the order of the file, filtered by family or verdict.

    Raises LookupError, with the closest names, for a family without claims and an unknown verdict.
    """
    rows = _rows(Claim)
    check_name("family of claims", family, {row.family for row in rows})
    check_name("verdict", verdict, VERDICTS)
    return _filter(rows, family=family, verdict=verdict)


def get_claim(id: str) -> Claim:
    """Return the claim with this id, e.g. `get_claim("a2")`. Raises LookupError as `get` does."""
    return _by_id(Claim, "claim", id)


def _by_id(row_class: type[Row], kind: str, id: str) -> Row:
    by_id = {row.id: row for row in _rows(row_class)}
    check_name(kind, id, by_id)
    return by_id[id]


def _filter(rows: Iterable[Row], **criteria) -> list[Row]:
    """Return the rows whose fields equal the criteria; a criterion of None is ignored."""
    filters = {name: value for name, value in criteria.items() if value is not None}
    return [row for row in rows if all(getattr(row, name) == v for name, v in filters.items())]


def check_name(kind: str, name: str | None, known_names: Collection[str]) -> None:
    """Raise LookupError, with the closest names, unless `name` is None or in `known_names`."""
    if name is not None and name not in known_names:
        raise LookupError(f"the catalogue has no {kind} {name!r}{_closest(name, known_names)}")


def _closest(name: str, known_names: Collection[str]) -> str:
    lower = {candidate.lower(): candidate for candidate in sorted(known_names)}
    close = difflib.get_close_matches(name.lower(), lower, n=3)
    return f"; did you mean {', '.join(lower[candidate] for candidate in close)}?" if close else ""
