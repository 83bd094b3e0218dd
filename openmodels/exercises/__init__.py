"""The exercises of the labs.

Package `labN` lists the exercises of lab N: number, title and hints. Exercise N.4 is in the module
`labN/ex_N_4_topic.py`: its checker, a reference solution and the wrong answers that learners give.
`known_mistakes` and `cases` have what checkers share. A new exercise starts with
`tools/new_exercise.py`.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openmodels import loading


def load_quietly(name: str) -> loading.Loaded:
    """Return a miniature on the CPU and its tokenizer, without printing anything."""
    from openmodels import loading  # imports torch, which not every lab needs

    with contextlib.redirect_stdout(io.StringIO()):
        model, tokenizer = loading.load(name)
    return loading.Loaded(model.to("cpu"), tokenizer)
