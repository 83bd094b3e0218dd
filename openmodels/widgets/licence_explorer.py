"""May I use this model? Ask its licence: a use, a place and a number of users."""

from __future__ import annotations

from openmodels import catalog, licences
from openmodels.tables import Row
from openmodels.widgets.controls import checkbox, choice
from openmodels.widgets.table_explorer import TableExplorer

USERS = {"up to 100 million": 0, "100 to 700 million": 101, "over 700 million": 701}


def may_i(model: str = "llama-4-scout", use: str = "product", in_eu: bool = False) -> TableExplorer:
    """Explore what licences permit, with the clauses that decide.

    model: an id of the catalogue; use: a key of `licences.USES`; in_eu: based in the EU. These are
    the first values of the controls. ValueError for a model or a use that is not offered.
    """

    def look_up(
        model: str, may_I: str, based_in_the_EU: bool, monthly_users: int
    ) -> tuple[str, list[Row]]:
        answer = licences.may_i(model, may_I, based_in_the_EU, monthly_users)
        rows: list[Row] = [("clause", "what it means", "in its words", "source", "checked")]
        rows += [_clause_row(clause) for clause in answer.clauses]
        words = f"May I {licences.USES[may_I]}? {model}: {answer.verdict}. {answer.because}"
        return words.strip(), rows if answer.clauses else []

    uses = {text: key for key, text in licences.USES.items()}
    return TableExplorer(
        look_up,
        choice("model", [row.id for row in catalog.models()], model),
        choice("may I", uses, use),
        checkbox("based in the EU", in_eu),
        choice("monthly users", USERS),
    )


def _clause_row(clause: licences.Clause) -> Row:
    place = f"{clause.licence}, {clause.section}" if clause.section else clause.licence
    checked = f"{clause.date_checked}, {licences.SEEN[clause.seen]}"
    return place, clause.means, clause.quote, " ".join(clause.source_urls), checked
