"""The landscape as data: one row per model, every row with its sources and the day it was checked.

The rows are `data/models.csv`; the shapes of some full-size models are `data/configs/*.json`.
"""

from __future__ import annotations

import csv
import difflib
import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"
STATUSES = ("announced", "released", "retired")


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


_PARSE = {
    "str": str,
    "bool": lambda text: text == "yes",
    "int | None": lambda text: int(text) if text else None,
    "float | None": lambda text: float(text) if text else None,
}
_SEPARATOR = {"modality_in": "+", "source_urls": " ", "unverified_fields": " "}


def _row(record: dict[str, str]) -> Model:
    values = {}
    for field in fields(Model):
        text = record[field.name]
        if field.name in _SEPARATOR:
            values[field.name] = tuple(text.split(_SEPARATOR[field.name])) if text else ()
        else:
            values[field.name] = _PARSE[field.type](text)
    return Model(**values)


@cache
def _rows() -> tuple[Model, ...]:
    with (DATA / "models.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_row(record) for record in csv.DictReader(file))


def models() -> list[Model]:
    """Every model of the catalogue, in the order of the file."""
    return list(_rows())


def get(id: str) -> Model:
    """The model with this id, e.g. `get("qwen2.5-0.5b")`. LookupError names the closest ids."""
    by_id = {model.id: model for model in _rows()}
    if id not in by_id:
        raise LookupError(f"the catalogue has no model {id!r}{_closest(id, by_id)}")
    return by_id[id]


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

    return [model for model in _rows() if matches(model)]


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


def _closest(name: str, known) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""
