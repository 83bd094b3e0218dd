"""Which models are there, and which of them run on this machine?"""

from __future__ import annotations

from openmodels import catalog, doctor, licences
from openmodels.tables import Row
from openmodels.widgets.controls import choice
from openmodels.widgets.table_explorer import TableExplorer

ANY = "any"
MAX_ROWS = 12  # of the table
SIZES = {"up to 10 B": (0, 10), "10 to 100 B": (10, 100), "over 100 B": (100, float("inf"))}
INPUTS = ("image", "audio", "video")


def runs(model: catalog.Model, here: doctor.Machine) -> tuple[str, str]:
    """Return (verdict, reason): does this model run on this machine? The doctor's rule decides."""
    verdict, reason = runs_at_all(model)
    if verdict:
        return verdict, reason
    result = doctor.runs(model.id, here)
    return result.verdict, result.reason


def runs_at_all(model: catalog.Model) -> tuple[str, str]:
    """Return (verdict, reason) if no machine can run the model or its size is not known.

    Otherwise the machine decides, and both texts are empty.
    """
    if model.status == "announced":
        return "no", "announced, no weights"
    if model.licence == "closed":
        return "no", "weights not published"
    if model.parameters is None:
        return "not known", "size not published"
    return "", ""


def filter_models(
    here: doctor.Machine,
    licence: str = ANY,
    size: str = ANY,
    takes: str = ANY,
    runs_here: str = ANY,
) -> list[tuple[catalog.Model, str, str]]:
    """Return (model, verdict, reason) of the models that pass the filters, newest first.

    licence: one of `licences.KINDS`; size: a key of SIZES, in billions of parameters; takes: one
    of INPUTS; runs_here: "yes" or "no". ANY does not filter.
    """
    results = []
    for model in catalog.models():
        verdict, reason = runs(model, here)
        if (
            licence in (ANY, licences.kind(model))
            and _has_size(model, size)
            and (takes == ANY or takes in model.modality_in)
            and (runs_here == ANY or verdict.startswith(runs_here))
        ):
            results.append((model, verdict, reason))
    return sorted(results, key=lambda result: result[0].release_date, reverse=True)


def _has_size(model: catalog.Model, size: str) -> bool:
    if size == ANY:
        return True
    low, high = SIZES.get(size, (0, float("inf")))
    return low < (model.parameters or 0) / 1e9 <= high


def models(
    here: doctor.Machine | None = None,
    licence: str = ANY,
    size: str = ANY,
    takes: str = ANY,
    runs_here: str = ANY,
) -> TableExplorer:
    """Explore the catalogue by licence, size, input, and whether a model runs on a machine.

    here: the machine; without it, this one. The other arguments are the first values of the
    controls, as in `filter_models`. ValueError for a value that is not offered.
    """
    machine = here or doctor.machine()

    def look_up(**filters: str) -> tuple[str, list[Row]]:
        results = filter_models(machine, **filters)
        running = sum(verdict.startswith("yes") for _, verdict, _ in results)
        words = (
            f"{len(results)} of {len(catalog.models())} models pass; {running} of them run here."
        )
        if len(results) > MAX_ROWS:
            words += f" The newest {MAX_ROWS}:"
        header = ("model", "maker", "released", "parameters", "licence", "runs here?", "why")
        rows = [header, *(_model_row(*result) for result in results[:MAX_ROWS])]
        return words, rows if results else []

    return TableExplorer(
        look_up,
        choice("licence", [ANY, *licences.KINDS], licence),
        choice("size", [ANY, *SIZES], size),
        choice("takes", [ANY, *INPUTS], takes),
        choice("runs here", [ANY, "yes", "no"], runs_here),
    )


def _model_row(model: catalog.Model, verdict: str, reason: str) -> Row:
    size = f"{model.parameters / 1e9:,.1f} B" if model.parameters else "–"
    licence = model.licence or "not stated"
    return model.id, model.developer, model.release_date, size, licence, verdict, reason
