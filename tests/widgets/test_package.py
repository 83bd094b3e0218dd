"""The package of widgets: its names arrive on first use, and torch only where a model runs."""

import importlib
import subprocess
import sys

import pytest
from notebooks import ROOT

from openmodels import widgets

WITHOUT_TORCH = sorted(set(widgets.__all__) - {"next_logits", "nucleus", "panel", "perplexity"})
WITHOUT_TORCH.remove("sampling")


def loaded(code: str) -> set[str]:
    """Return the modules that a fresh Python has loaded after running code."""
    code += "\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_names_used_by_notebooks_bring_in_no_torch():
    code = f"from openmodels import widgets\nfor n in {WITHOUT_TORCH}: getattr(widgets, n)"
    assert not loaded(code) & {"torch", "transformers"}


def test_explorers_of_the_catalogue_run_without_torch():
    code = "from openmodels import catalog, widgets\n"
    code += "widgets.models(); widgets.may_i(); widgets.scores(); widgets.Ledger(catalog.claims())"
    assert not loaded(code) & {"torch", "transformers"}


def test_importing_the_package_loads_no_explorer():
    names = loaded("import openmodels.widgets")
    assert not names & {"ipywidgets", "matplotlib", "IPython"}


def test_no_module_hides_a_name():
    """A submodule replaces an attribute of its package when it is imported."""
    for module in (ROOT / "openmodels" / "widgets").glob("[a-z]*.py"):
        importlib.import_module(f"openmodels.widgets.{module.stem}")
    assert all(callable(getattr(widgets, name)) for name in widgets.__all__)
    assert set(widgets.__all__) <= set(dir(widgets))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'choices'"):
        widgets.choices  # noqa: B018
