"""The exercises of the labs: a module for each lab, `lab` and its number; `mistakes` is theirs."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openmodels import switch


def quietly(name: str) -> switch.Loaded:
    """A miniature and its tokenizer on the CPU, loaded without a word."""
    from openmodels import switch  # brings in torch, which not every lab needs

    with contextlib.redirect_stdout(io.StringIO()):
        model, tokenizer = switch.load(name)
    return switch.Loaded(model.to("cpu"), tokenizer)
