"""Scores of a model: reporters stay apart."""

from openmodels import catalog
from openmodels.widgets import score_explorer


def test_the_explorer_of_scores_keeps_reporters_apart():
    explorer = score_explorer.scores("gpt-4o-2024-05-13")
    model, reporter = explorer.controls
    results = catalog.benchmarks("gpt-4o-2024-05-13")
    assert explorer.text.startswith(f"gpt-4o-2024-05-13: {len(results)} scores: ")
    assert "OpenAI" in explorer.text and "DeepSeek" in explorer.text
    reporter.value = "vendor_own"
    assert "OpenAI" in explorer.text and "DeepSeek" not in explorer.text
    model.value = "deepseek-v3"
    reporter.value = "independent"
    assert explorer.text == "deepseek-v3: 0 scores: 0 vendor_own, 0 vendor_other, 0 independent."
    assert {name for name, _ in model.options} == {row.model for row in catalog.benchmarks()}
