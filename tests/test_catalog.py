"""The catalogue is typed, sourced and searchable."""

import pytest

from openmodels import catalog


def test_every_row_is_typed_and_sourced():
    rows = catalog.models()
    assert len(rows) > 100
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert row.status in catalog.STATUSES, row.id
        assert row.source_urls, row.id
        assert all(url.startswith("https://") for url in row.source_urls), row.id
        assert row.date_checked == "2026-11-23", row.id
        assert row.release_date[:2] == "20", row.id
        assert set(row.unverified_fields) <= set(catalog.Model.__dataclass_fields__), row.id


def test_active_parameters_never_exceed_the_total():
    for row in catalog.models():
        if row.params_total_B and row.params_active_B:
            assert row.params_active_B <= row.params_total_B, row.id


def test_published_and_counted_parameters_agree():
    for row in catalog.models():
        if row.params_computed and "params_total_B" not in row.unverified_fields:
            assert row.params_computed == pytest.approx(row.params_total_B * 1e9, rel=0.01), row.id


def test_behemoth_was_announced_and_never_released():
    behemoth = catalog.get("llama-4-behemoth")
    assert behemoth.status == "announced"
    assert behemoth.hf_repo_id == ""
    assert behemoth.licence == ""


def test_values_have_their_types():
    scout = catalog.get("llama-4-scout")
    assert scout.modality_in == ("text", "image")
    assert (scout.params_total_B, scout.n_experts, scout.verified) == (109.0, 16, True)
    assert catalog.get("mistral-7b-v0.1").n_experts is None


def test_a_typo_names_the_closest_model():
    with pytest.raises(LookupError, match=r"qwen2\.5-05b.*did you mean qwen2\.5-0\.5b"):
        catalog.get("qwen2.5-05b")


def test_find():
    assert [row.id for row in catalog.find(family="Llama 4", status="announced")] == [
        "llama-4-behemoth"
    ]
    assert "llama-4-scout" in [row.id for row in catalog.find(modality_in="image")]
    with pytest.raises(TypeError, match=r"'developper'.*did you mean developer"):
        catalog.find(developper="Meta")


def test_a_config_is_the_full_size_shape():
    config = catalog.config("qwen2.5-0.5b")
    assert (config.num_hidden_layers, config.num_key_value_heads) == (24, 2)
    with pytest.raises(LookupError, match="no config for 'phi-4'"):
        catalog.config("phi-4")
