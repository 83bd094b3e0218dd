"""The exercises of the labs: a module for each lab, `lab` and its number; `mistakes` is theirs."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openmodels import loading


def quietly(name: str) -> loading.Loaded:
    """A miniature and its tokenizer on the CPU, loaded without a word."""
    from openmodels import loading  # brings in torch, which not every lab needs

    with contextlib.redirect_stdout(io.StringIO()):
        model, tokenizer = loading.load(name)
    return loading.Loaded(model.to("cpu"), tokenizer)
