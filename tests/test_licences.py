"""The licence rules: every answer rests on a clause with source and date, or says it does not."""

import re
from itertools import product
from pathlib import Path

import pytest

from openmodels import catalog, licences

APACHE = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8")
DAY = re.compile(r"20\d\d-\d\d-\d\d")


def verdict(*question, **circumstances) -> str:
    return licences.may_i(*question, **circumstances).verdict


def ids(*question, **circumstances) -> set[str]:
    return {clause.id for clause in licences.may_i(*question, **circumstances).clauses}


# --- The table ------------------------------------------------------------------------------------


def test_every_clause_is_typed_sourced_and_dated():
    rows = licences.clauses()
    assert len({row.id for row in rows}) == len(rows) > 50
    known = {name for model in catalog.models() for name in licences.licences_of(model)}
    for row in rows:
        assert row.licence in known, row.id
        assert row.effect in licences.EFFECTS, row.id
        assert row.uses and set(row.uses) <= set(licences.USES), row.id
        assert row.seen in licences.SEEN, row.id
        assert row.means.endswith("."), row.id
        assert row.source_urls and all(url.startswith("https://") for url in row.source_urls), row
        assert DAY.fullmatch(row.date_checked), row.id
        assert all(catalog.get(id).licence == row.licence for id in row.models), row.id


def test_only_what_was_seen_is_quoted():
    for row in licences.clauses():
        assert not (row.seen == "summary" and row.quote), row.id
        assert row.seen != "text" or (row.quote and row.section), row.id


def test_apache_is_quoted_word_for_word():
    text = " ".join(APACHE.split())
    quotes = [row.quote for row in licences.clauses() if row.licence == "Apache-2.0"]
    assert quotes and all(quote in text for quote in quotes)


def test_every_licence_of_the_catalogue_has_a_kind():
    kinds = {model.id: licences.kind(model) for model in catalog.models()}
    assert set(kinds.values()) == set(licences.KINDS)
    assert kinds["deepseek-r1"] == "Apache or MIT"
    assert (
        kinds["kimi-k2"] == kinds["llama-4-scout"] == "terms of its own"
    )  # modified MIT is not MIT
    assert kinds["deepseek-r1-distill-llama-8b"] == "terms of its own"
    assert kinds["qwen2.5-3b"] == kinds["mistral-large-2-2407"] == "research only"
    assert kinds["qwen3-next-80b-a3b"] == "not stated"


# --- The rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [row.id for row in catalog.models()])
def test_every_answer_is_one_of_four_and_rests_on_clauses(model):
    for use, in_eu, users_M in product(licences.USES, (False, True), (0, 200, 800)):
        answer = licences.may_i(model, use, in_eu, users_M)
        assert answer.verdict in licences.VERDICTS
        if answer.verdict in ("yes", "yes, if"):
            names = {clause.licence for clause in answer.clauses if clause.effect == "allows"}
            assert names == set(licences.licences_of(catalog.get(model)))
        if answer.verdict == "no" and not answer.clauses:
            row = catalog.get(model)
            assert row.status == "announced" or row.licence == "closed"
        for clause in answer.clauses:
            assert clause.source_urls[0] in str(answer) and clause.date_checked in str(answer)


def test_llama_4_in_the_eu():
    assert verdict("llama-4-scout", "work") == "yes, if"
    assert verdict("llama-4-scout", "work", in_eu=True) == "no"
    assert ids("llama-4-maverick", "research", in_eu=True) == {"llama-4-eu"}
    assert verdict("llama-3.2-3b", "work", in_eu=True) == "yes, if"  # it takes no images
    assert verdict("llama-3.2-11b-vision", "work", in_eu=True) == "no"
    assert verdict("llama-3.3-70b", "work", in_eu=True) == "yes, if"


@pytest.mark.parametrize(
    "users_M, llama, qwen", [(100, "yes, if", "yes"), (101, "yes, if", "no"), (701, "no", "no")]
)
def test_the_thresholds(users_M, llama, qwen):
    assert verdict("llama-4-scout", "product", users_M=users_M) == llama
    assert verdict("qwen2.5-72b", "product", users_M=users_M) == qwen
    assert verdict("qwen2.5-7b", "product", users_M=users_M) == "yes"


def test_llama_counts_users_on_the_day_of_release():
    [clause] = licences.may_i("llama-4-scout", "product", users_M=800).clauses
    assert "month before Llama 4 was released" in clause.means


def test_research_licences_differ_on_trying_out_at_work():
    assert verdict("mistral-large-2-2407", "research") == "yes, if"
    assert verdict("mistral-large-2-2407", "evaluate") == "no"
    assert verdict("qwen2.5-3b", "evaluate") == "yes"
    for use in ("work", "product", "host"):
        assert verdict("mistral-large-2-2407", use) == verdict("qwen2.5-3b", use) == "no"


def test_three_licences_in_one_family():
    sizes = ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")
    answers = [verdict(f"qwen2.5-{size}", "product", users_M=200) for size in sizes]
    assert answers == ["yes", "yes", "no", "yes", "yes", "yes", "no"]


def test_two_licences_apply_together():
    assert licences.licences_of(catalog.get("deepseek-r1-distill-llama-70b")) == [
        "MIT",
        "Llama 3.3 Community License",
    ]
    both = ids("deepseek-r1-distill-llama-8b", "train")
    assert {"mit-grant", "llama-3.1-grant", "llama-3.1-name"} <= both
    assert ids("deepseek-r1-distill-qwen-7b", "train") == {"mit-grant"}


def test_what_we_do_not_know_is_said():
    for model, use in (
        ("glm-5.3", "host"),
        ("mistral-medium-3.5-2604", "work"),  # another modified MIT than Kimi K2's
        ("mistral-large-4-1t-a52b", "train"),
        ("gemma-3-4b", "product"),
    ):
        answer = licences.may_i(model, use)
        assert answer.verdict == "not known"
        assert catalog.get(model).licence in answer.because
    assert verdict("kimi-k2", "work") == "yes"
    assert "not seen at a source" in licences.may_i("mistral-7b-v0.3", "work").because
    assert "no licence" in licences.may_i("hy3-preview", "work").because
    assert "the text itself was not seen" in str(licences.may_i("qwen2.5-72b", "work"))


def test_an_answer_fits_a_page_and_keeps_its_addresses_whole():
    for row in catalog.models():
        for line in str(licences.may_i(row.id, "share", in_eu=True)).splitlines():
            assert len(line) <= 100 or line.strip().startswith("https://"), line


def test_what_cannot_be_had():
    assert "no weights were released" in licences.may_i("llama-4-behemoth", "research").because
    assert "not published" in licences.may_i("muse-spark", "work").because


def test_unknown_names_are_refused():
    with pytest.raises(LookupError, match="no model 'llama-4-scot'; did you mean llama-4-scout"):
        licences.may_i("llama-4-scot", "work")
    with pytest.raises(LookupError, match="no use 'products'; did you mean product"):
        licences.may_i("llama-4-scout", "products")
    with pytest.raises(ValueError, match="users_M is -1"):
        licences.may_i("llama-4-scout", "work", users_M=-1)
