"""The catalogue is typed, sourced and searchable."""

import json
import re
from collections import Counter

import pytest

from openmodels import catalog, sizing

ROWS = {
    "benchmarks": catalog.benchmarks,
    "prices": catalog.prices,
    "hardware": catalog.hardware,
    "claims": catalog.claims,
}
CONFIGS = sorted((catalog.DATA / "configs").glob("*.json"))
DAY = re.compile(r"20\d\d-\d\d-\d\d")
DATE = re.compile(r"20\d\d(-[01]\d(-[0-3]\d)?)?")
ADDRESS = re.compile(r"https://[^\s;,]+")


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


@pytest.mark.parametrize("name", ROWS)
def test_every_other_row_is_typed_and_sourced(name):
    rows = ROWS[name]()
    assert rows
    for row in rows:
        assert row.source_urls or row.source, row
        assert all(ADDRESS.fullmatch(url) for url in row.source_urls), row
        assert DAY.fullmatch(row.date_checked), row
        assert DATE.fullmatch(getattr(row, "date", row.date_checked)), row
        assert isinstance(row.verified, bool), row
        assert set(getattr(row, "unverified_fields", ())) <= set(row.__dataclass_fields__), row


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_has_its_sources(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert set(stored) - {"note"} == {"source_urls", "date_checked", "config"}
    assert stored["source_urls"] and all(ADDRESS.fullmatch(url) for url in stored["source_urls"])
    assert DAY.fullmatch(stored["date_checked"])
    assert stored["config"]["architectures"] == [catalog.get(path.stem).transformers_class]


def test_scores_are_told_apart_by_who_reports_them():
    rows = catalog.benchmarks()
    assert {row.reporter_type for row in rows} == set(catalog.REPORTER_TYPES)
    developer = {"Meta": "Meta", "DeepSeek": "DeepSeek", "Qwen": "Alibaba (Qwen)"}
    developer["Mistral"] = "Mistral AI"
    known = {model.id: model.developer for model in catalog.models()}
    for row in rows:
        if row.model in known and row.reported_by in developer:
            own = known[row.model] == developer[row.reported_by]
            assert row.reporter_type == ("vendor_own" if own else "vendor_other"), row
        if row.reported_by in ("LMArena", "Epoch AI", "Artificial Analysis", "whatmodel"):
            assert row.reporter_type == "independent", row
        assert row.unit != "%" or 0 <= row.score <= 100, row


def test_no_score_stands_twice():
    count = Counter(
        (row.model, row.benchmark, row.setting, row.reported_by, row.date, row.source_urls)
        for row in catalog.benchmarks()
    )
    assert count.most_common(1)[0][1] == 1


def test_side_by_side_keeps_vendors_and_others_apart():
    found = catalog.side_by_side("llama-4-maverick", "MMLU-Pro")
    assert [row.score for row in found.vendor_own] == [80.5, 80.68]
    assert found.vendor_other == found.independent == ()

    found = catalog.side_by_side("gpt-4o-2024-05-13", "MMLU")
    assert [(row.reported_by, row.score) for row in found.vendor_own] == [("OpenAI", 88.7)]
    assert {row.reported_by for row in found.vendor_other} == {"DeepSeek"}
    assert not found.independent

    assert len(catalog.side_by_side("llama-4-maverick", "LMArena text rank").independent) == 1
    for row in catalog.benchmarks():
        reports = catalog.side_by_side(row.model, row.benchmark)
        for kind in catalog.REPORTER_TYPES:
            others = getattr(reports, kind)
            assert (row in others) == (row.reporter_type == kind)
            assert {other.reporter_type for other in others} <= {kind}


def test_qwen_s_series_has_one_table_for_all_sizes():
    for benchmark in ("MMLU", "GSM8K", "MATH", "HumanEval"):
        for size in ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b"):
            [row] = catalog.benchmarks(f"qwen2.5-{size}-base", benchmark)
            assert (row.reported_by, row.date) == ("Qwen", "2024-12-19"), row


def test_scores_of_a_model_without_any():
    assert catalog.benchmarks("phi-4") == []
    with pytest.raises(LookupError, match=r"no model 'llama-4-scot'; did you mean llama-4-scout"):
        catalog.benchmarks("llama-4-scot")
    with pytest.raises(LookupError, match=r"no benchmark 'gpqa diamond'; did you mean GPQA Diam"):
        catalog.side_by_side("deepseek-r1", "gpqa diamond")
    with pytest.raises(LookupError, match=r"'vendor'; did you mean vendor_own, vendor_other"):
        catalog.benchmarks(reporter_type="vendor")


def test_prices():
    keys = [(row.model, row.provider, row.tariff) for row in catalog.prices()]
    assert len(keys) == len(set(keys))
    for row in catalog.prices():
        assert 0 < row.input_per_M <= row.output_per_M, row
        assert row.cached_input_per_M is None or row.cached_input_per_M < row.input_per_M, row
        assert row.currency in ("USD", "CNY"), row
        assert row.tariff in ("", "peak", "off-peak"), row
    groq = catalog.get_price("llama-4-scout", "Groq")
    assert (groq.input_per_M, groq.output_per_M, groq.date) == (0.11, 0.34, "2026-07-02")
    peak, off_peak = (
        catalog.get_price("deepseek-v4.1-flash", tariff=name) for name in ("peak", "off-peak")
    )
    assert peak.output_per_M == 2 * off_peak.output_per_M == 8


def test_a_price_that_is_not_one():
    with pytest.raises(LookupError, match=r"has 3 prices.*: Groq, DeepInfra, median"):
        catalog.get_price("llama-4-scout")
    with pytest.raises(LookupError, match=r"has 2 prices.*: DeepSeek off-peak, DeepSeek peak"):
        catalog.get_price("deepseek-v4.1-flash", "DeepSeek")
    with pytest.raises(LookupError, match=r"no provider 'Grok'; did you mean Groq"):
        catalog.get_price("llama-4-scout", "Grok")
    with pytest.raises(LookupError, match=r"no price of 'phi-4'"):
        catalog.get_price("phi-4")
    with pytest.raises(LookupError, match=r"no model 'gpt4o'; did you mean gpt-4o"):
        catalog.prices("gpt4o")


def test_hardware():
    rows = catalog.hardware()
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert row.bandwidth_GBps > 0, row
        assert (row.list_price is None) == (row.currency == ""), row
        assert row.kind != "gpu" or (row.memory_GB and row.power_W), row
        assert row.verified or row.unverified_fields, row
    card = catalog.get_hardware("RTX 4090")
    assert (card.memory_GB, card.bandwidth_GBps, card.power_W) == (24, 1008, 450)
    assert catalog.get_hardware("H100 80GB SXM").list_price == 30_000
    assert not catalog.get_hardware("DGX Spark GB10").verified
    with pytest.raises(LookupError, match=r"no hardware 'rtx4090'; did you mean RTX 4090"):
        catalog.get_hardware("rtx4090")
    with pytest.raises(LookupError, match=r"no kind of hardware 'gpus'; did you mean gpu"):
        catalog.hardware("gpus")


def test_the_bandwidth_of_a_processor_is_channels_times_eight_bytes():
    rows = catalog.hardware("cpu")
    assert len(rows) == 6
    for row in rows:
        channels, speed = map(int, re.match(r"(\d+)ch DDR\d-(\d+)", row.id).groups())
        assert row.bandwidth_GBps == pytest.approx(channels * 8 * speed / 1000), row.id


def test_every_claim_is_there_and_judged():
    rows = catalog.claims()
    numbers = {"a": 10, "b": 5, "c": 5, "d": 5}
    ids = [f"{letter}{n}" for letter, last in numbers.items() for n in range(1, last + 1)]
    assert [row.id for row in rows] == [*ids, "e", "f"]
    families = {model.family for model in catalog.models()} | {"open weights"}
    chapters = catalog.DATA.parents[1] / "chapters"
    for row in rows:
        assert row.verdict in catalog.VERDICTS, row.id
        assert row.family in families, row.id
        assert row.origin in ("article", "background"), row.id
        assert row.claim.endswith(".") and row.evidence.endswith("."), row.id
        assert len(re.findall(r"[.?!](?= [A-Z]|$)", row.evidence)) <= 2, row.id
        assert (chapters / row.experiment).is_file() and row.experiment, row.id
    assert {row.id for row in catalog.claims(verdict="not verifiable")} == {"b2"}
    assert catalog.get_claim("a8").verdict == "false"
    with pytest.raises(LookupError, match=r"no claim 'a11'; did you mean a1"):
        catalog.get_claim("a11")
    with pytest.raises(LookupError, match=r"no verdict 'outdate'; did you mean outdated"):
        catalog.claims(verdict="outdate")


@pytest.mark.parametrize(
    "id, model, benchmark, score",
    [
        ("a4", "llama-4-maverick", "MMMU", 73.4),
        ("a4", "gpt-4o-2024-08-06", "MMMU", 72.2),
        ("a4", "llama-4-maverick", "GPQA Diamond", 69.8),
        ("a4", "gpt-4o-2024-08-06", "GPQA Diamond", 70.1),
        ("a5", "claude-sonnet-4", "GPQA Diamond", 75.4),
        ("a5", "claude-sonnet-4", "whatmodel.sh composite", 65.0),
        ("a5", "llama-4-maverick", "whatmodel.sh composite", 57.2),
        ("a6", "llama-4-maverick-03-26-experimental", "LMArena text", 1417),
        ("b1", "mistral-large-2-2407", "HumanEval", 92.0),
        ("b1", "gpt-4o-2024-05-13", "HumanEval", 90.2),
        ("c1", "qwen2.5-72b", "C-Eval", 86.1),
        ("c1", "deepseek-r1", "C-Eval", 91.8),
        ("c2", "qwen2.5-72b", "MATH-500", 80.0),
        ("c2", "gpt-4o-2024-05-13", "LiveCodeBench (CoT)", 33.4),
        ("d1", "deepseek-r1", "AIME 2024", 79.8),
        ("d1", "o1-2024-12-17", "GPQA Diamond", 75.7),
        ("e", "qwen2.5-72b", "SWE-bench Verified", 23.8),
        ("e", "open-vs-closed-frontier", "lag in Epoch Capabilities Index", 4),
    ],
)
def test_the_scores_in_the_evidence_are_the_catalogue_s(id, model, benchmark, score):
    assert re.search(rf"(?<![\d.]){score}(?![\d]|\.\d)", catalog.get_claim(id).evidence)
    assert score in [row.score for row in catalog.benchmarks(model, benchmark)]


def test_the_other_figures_in_the_evidence_are_the_catalogue_s():
    scout, r1 = catalog.get("llama-4-scout"), catalog.get("deepseek-r1")
    evidence = {row.id: row.evidence for row in catalog.claims()}
    assert f"{sizing.weight_bytes(scout.parameters) / 1e9:.0f} GB in bf" in evidence["a2"]
    assert f"{scout.ollama_GB:.0f} GB in 4 bits" in evidence["a2"]
    large, llama = catalog.get("mistral-large-2-2407"), catalog.get("llama-3.1-405b")
    assert f"{large.params_total_B / llama.params_total_B:.0%}".replace("%", " %") in evidence["b2"]
    assert f"{r1.ollama_GB:.0f} GB" in evidence["d3"]
    assert f"{catalog.get('deepseek-v3').training_gpu_hours_M} million" in evidence["d2"]
    hosted = catalog.get_price("llama-4-scout", "DeepInfra")
    assert f"{hosted.input_per_M:.2f} and {hosted.output_per_M:.2f} dollars" in evidence["f"]
    assert f"{catalog.get_hardware('RTX 4090').power_W:.0f} W" in evidence["f"]
    assert f"{catalog.get_hardware('H100 80GB SXM').list_price:,.0f} dollars" in evidence["f"]
