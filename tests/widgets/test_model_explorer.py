"""Which models run on a machine, and what the filters let through."""

import re

from machines import machine

from openmodels import catalog, licences
from openmodels.widgets import model_explorer


def test_runs_says_why():
    small = machine(8)
    assert model_explorer.runs(catalog.get("llama-4-behemoth"), small) == (
        "no",
        "announced, no weights",
    )
    assert model_explorer.runs(catalog.get("muse-spark"), small) == ("no", "weights not published")
    assert model_explorer.runs(catalog.get("gemma-4-e2b"), small) == (
        "not known",
        "size not published",
    )
    verdict, reason = model_explorer.runs(catalog.get("qwen2.5-7b"), small)
    assert verdict == "yes, 4 bits" and "of 8.0 GB" in reason
    assert model_explorer.runs(catalog.get("qwen2.5-0.5b"), small)[0] == "yes, bf16"
    assert model_explorer.runs(catalog.get("kimi-k3"), small)[0] == "no"


def test_filters_narrow_the_list():
    here = machine(24)
    everything = model_explorer.filter_models(here)
    assert len(everything) == len(catalog.models())
    dates = [model.release_date for model, _, _ in everything]
    assert dates == sorted(dates, reverse=True)

    def names(**filters):
        return {model.id for model, _, _ in model_explorer.filter_models(here, **filters)}

    assert {"qwen2.5-3b", "mistral-large-2-2407"} <= names(licence="research only")
    assert "llama-4-scout" in names(size="over 100 B", takes="image")
    assert "llama-4-scout" not in names(runs_here="yes")
    assert "gemma-4-e2b" not in names(size="up to 10 B")  # its size is not published
    split = [names(runs_here=answer) for answer in ("yes", "no")]
    assert not split[0] & split[1]
    assert names(licence="closed", runs_here="yes") == set()


def test_more_memory_runs_more():
    counts = [
        sum(
            verdict.startswith("yes")
            for _, verdict, _ in model_explorer.filter_models(machine(memory))
        )
        for memory in (2, 8, 24, 80, 2000)
    ]
    assert counts == sorted(set(counts))


def test_the_explorer_of_models():
    explorer = model_explorer.models(machine(24), runs_here="yes")
    passing = model_explorer.filter_models(machine(24), runs_here="yes")
    assert explorer.text.startswith(f"{len(passing)} of {len(catalog.models())} models pass")
    licence, size, takes, here = explorer.controls
    assert here.value == "yes"
    licence.value, size.value = "research only", "over 100 B"
    assert explorer.text == f"0 of {len(catalog.models())} models pass; 0 of them run here."
    assert set(licence.options) > {(kind, kind) for kind in licences.KINDS}


def test_the_licence_kinds_shown_are_those_of_the_catalogue():
    text = model_explorer.models(machine(16)).table.value
    assert re.search("Apache-2.0|MIT|not stated", text)
