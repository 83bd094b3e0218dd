"""The ledger of claims: what its lists leave, what it says, and what stays of it on paper."""

import dataclasses
import html

import pytest

from openmodels import catalog
from openmodels.widgets import claims_ledger


@pytest.fixture
def ledger():
    return claims_ledger.Ledger(catalog.claims())


def test_all_claims_are_there_at_first(ledger):
    assert ledger.chosen() == catalog.claims()
    assert ledger.entries.value.count("<details ") == len(catalog.claims())
    assert 'role="status"' in ledger.words.value
    assert "27 of 27 claims" in ledger.words.value


@pytest.mark.parametrize("verdict", catalog.VERDICTS)
def test_the_verdict_filters(ledger, verdict):
    ledger.verdict.value = verdict
    assert ledger.chosen() == catalog.claims(verdict=verdict)
    assert f"{len(ledger.chosen())} of 27 claims" in ledger.words.value
    assert f"Verdict: {verdict}" in ledger.words.value


def test_both_lists_filter_together(ledger):
    ledger.family.value, ledger.verdict.value = "DeepSeek", "outdated"
    assert [row.id for row in ledger.chosen()] == ["d5"]
    ledger.verdict.value = "false"
    assert ledger.entries.value == ""
    assert "0 of 27 claims" in ledger.words.value


def test_an_entry_tells_evidence_sources_and_notebook(ledger):
    for row in catalog.claims():
        entry = claims_ledger.entry_html(row)
        assert html.escape(row.evidence) in entry and row.date_checked in entry
        assert all(f'href="{html.escape(url)}"' in entry for url in row.source_urls)
        assert ("Shown in chapters/" + row.experiment in entry) == bool(row.experiment)


def test_a_claim_without_a_source_is_marked():
    row = dataclasses.replace(catalog.get_claim("a2"), verified=False, claim="<b>6 & 7</b>")
    assert "UNVERIFIED" in claims_ledger.entry_html(
        row
    ) and "UNVERIFIED" in claims_ledger.ledger_text([row])
    assert "<b>6" not in claims_ledger.entry_html(row)
    assert "UNVERIFIED" not in claims_ledger.entry_html(catalog.get_claim("a2"))


def test_without_a_kernel_all_claims_remain_as_text(ledger):
    bundle = ledger._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    lines = bundle["text/plain"].splitlines()
    assert len(lines) == 27
    assert lines[1].split(maxsplit=2) == ["a2", "false", "Llama 4 Scout is a lightweight model."]
    assert claims_ledger.ledger_text([]) == "no claim"
