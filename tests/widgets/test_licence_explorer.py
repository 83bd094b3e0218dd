"""May I use this model? The explorer says what the rules say, with source and date."""

from openmodels import catalog, licences
from openmodels.widgets import licence_explorer


def test_the_explorer_of_licences_says_what_the_rules_say():
    explorer = licence_explorer.may_i("llama-4-scout", "product")
    model, use, in_eu, users = explorer.controls
    assert "llama-4-scout: yes, if" in explorer.words.value
    in_eu.value = True
    assert "llama-4-scout: no" in explorer.words.value
    assert "European Union" in explorer.table.value and "USE_POLICY.md" in explorer.table.value
    model.value, users.value = "qwen2.5-72b", 101
    assert "100 million" in explorer.text and "the text itself was not seen" in explorer.text
    model.value = "hy3-preview"
    assert explorer.table.value == "" and "not known" in explorer.text
    assert {value for _, value in use.options} == set(licences.USES)


def test_every_answer_shows_source_and_date():
    explorer = licence_explorer.may_i()
    model, *_ = explorer.controls
    for row in catalog.models():
        model.value = row.id
        for clause in licences.may_i(row.id, "product").clauses:
            assert clause.source_urls[0] in explorer.text
            assert clause.date_checked in explorer.text
