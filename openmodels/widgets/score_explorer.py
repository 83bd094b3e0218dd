"""Who reports which benchmark score of a model?"""

from __future__ import annotations

from openmodels import catalog
from openmodels.tables import Row
from openmodels.widgets.controls import choice
from openmodels.widgets.table_explorer import TableExplorer

ANY = "any"


def scores(model: str = "llama-4-maverick", reporter: str = ANY) -> TableExplorer:
    """Explore every score of a model in the catalogue, and who reported it. Nothing is averaged.

    model: an id of the catalogue; reporter: ANY or one of `catalog.REPORTER_TYPES`. These are the
    first values of the controls. ValueError for a value that is not offered.
    """

    def look_up(model: str, reported_by: str) -> tuple[str, list[Row]]:
        results = catalog.benchmarks(model, None, None if reported_by == ANY else reported_by)
        results = sorted(results, key=lambda row: (row.benchmark.lower(), row.reporter_type))
        header = ("benchmark", "score", "reported by", "which is", "date", "setting", "source")
        kinds = [row.reporter_type for row in results]
        words = ", ".join(f"{kinds.count(kind)} {kind}" for kind in catalog.REPORTER_TYPES)
        rows = [header, *map(_score_row, results)] if results else []
        return f"{model}: {len(results)} scores: {words}.", rows

    names = sorted({row.model for row in catalog.benchmarks()})
    return TableExplorer(
        look_up,
        choice("model", names, model),
        choice("reported by", [ANY, *catalog.REPORTER_TYPES], reporter),
    )


def _score_row(row: catalog.Benchmark) -> Row:
    source = row.source_urls[0] if row.source_urls else row.source
    score, setting = f"{row.score:g} {row.unit}", row.setting or "not stated"
    return row.benchmark, score, row.reported_by, row.reporter_type, row.date, setting, source
