"""Interactive figures and tables for notebooks. Importing the package loads no torch.

Each explorer has a module of its own, which is loaded when its name is first used.
"""

import importlib

_MODULES = {
    "choice": "controls",
    "checkbox": "controls",
    "slider": "controls",
    "FigureExplorer": "figure_explorer",
    "live": "figure_explorer",
    "TableExplorer": "table_explorer",
    "filter_models": "model_explorer",
    "models": "model_explorer",
    "runs": "model_explorer",
    "runs_at_all": "model_explorer",
    "may_i": "licence_explorer",
    "scores": "score_explorer",
    "fit": "memory_explorer",
    "load_of": "memory_explorer",
    "next_logits": "sampling_explorer",
    "nucleus": "sampling_explorer",
    "panel": "sampling_explorer",
    "perplexity": "sampling_explorer",
    "sampling": "sampling_explorer",
    "cards": "cost_explorer",
    "offers": "cost_explorer",
    "own_or_api": "cost_explorer",
    "image_tokens": "image_explorer",
    "Ledger": "claims_ledger",
    "TraceViewer": "trace_viewer",
    "SoundRecorder": "sound_recorder",
    "DrawingPad": "drawing_pad",
    "Approval": "approval",
    "ErrorAnalysis": "error_analysis",
    "OfficeDesk": "office_desk",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'openmodels.widgets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"openmodels.widgets.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
