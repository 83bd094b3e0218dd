"""Interactive figures and tables for notebooks. Importing the package loads no torch."""

import importlib

_HOMES = {
    "models": "explorers",
    "may_i": "explorers",
    "scores": "explorers",
    "fit": "explorers",
    "load_of": "explorers",
    "runs": "explorers",
    "runs_at_all": "explorers",
    "sampling": "controls",
    "slider": "controls",
    "live": "controls",
    "own_or_api": "controls",
    "cards": "controls",
    "choices": "controls",
    "next_logits": "controls",
    "nucleus": "controls",
    "panel": "controls",
    "Ledger": "controls",
}


def __getattr__(name: str):
    if name in _HOMES:
        module = importlib.import_module(f"openmodels.widgets.{_HOMES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'openmodels.widgets' has no attribute {name!r}")
