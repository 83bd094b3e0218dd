"""Exercise 1.4: attention masks of windows and of chunks.

A mask is boolean, (query tokens, key tokens); True means that the query may look at the key.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from openmodels import catalog
from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.known_mistakes import agree, as_lists, diagnose
from openmodels.inside import architecture

SIZES = ((12, 4), (10, 3), (3, 8), (6, 1))  # tokens, span


# --- The reference solution and known mistakes ----------------------------------------------------


def places(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places of queries (tokens, 1) and of keys (1, tokens)."""
    place = torch.arange(tokens)
    return place[:, None], place[None, :]


def reference_window(
    tokens: int, window: int, *, extra: int = 0, causal: bool = True
) -> torch.Tensor:
    """Return the mask of a sliding window; extra tokens and a missing causal mask are mistakes."""
    query, key = places(tokens)
    near = key > query - window - extra
    return near & (key <= query) if causal else near


def reference_chunk(
    tokens: int, chunk: int, *, causal: bool = True, shift: int = 0
) -> torch.Tensor:
    """Return the mask of chunks; a shift and a missing causal mask are mistakes."""
    query, key = places(tokens)
    same = (query + shift) // chunk == (key + shift) // chunk
    return same & (key <= query) if causal else same


def transposed(mask: Callable) -> Callable:
    return lambda *call: mask(*call).T


def inverted(mask: Callable) -> Callable:
    return lambda *call: ~mask(*call)


def additive_window(tokens: int, window: int) -> torch.Tensor:
    """Return 0 and -inf instead of True and False."""
    return torch.zeros(tokens, tokens).masked_fill(~reference_window(tokens, window), -math.inf)


MISTAKES = [
    WrongAnswer(
        "window one too wide", (partial(reference_window, extra=1), reference_chunk),
        "A window counts the token itself: with 4, three before it.",
    ),
    WrongAnswer(
        "window one too narrow", (partial(reference_window, extra=-1), reference_chunk),
        "A window counts the token itself, and then `window - 1` before it.",
    ),
    WrongAnswer(
        "window sees the future", (partial(reference_window, causal=False), reference_chunk),
        "A token never looks at later ones: the causal condition is missing.",
    ),
    WrongAnswer(
        "chunk sees the future", (reference_window, partial(reference_chunk, causal=False)),
        "Inside a chunk, too, a token never looks at later ones.",
    ),
    WrongAnswer(
        "chunk as window", (reference_window, reference_window),
        "That is a window. Chunks have walls at fixed places: a token sees its own chunk only.",
    ),
    WrongAnswer(
        "chunks one off", (reference_window, partial(reference_chunk, shift=1)),
        "The first chunk begins at token 0: number tokens from 0 before you divide.",
    ),
    WrongAnswer(
        "rows and columns", (transposed(reference_window), transposed(reference_chunk)),
        "Rows and columns are swapped: row q says whom token q looks at.",
    ),
    WrongAnswer(
        "inverted", (inverted(reference_window), inverted(reference_chunk)),
        "True means may look; yours marks what is hidden.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


@cache
def _library_masks(tokens: int, span: int) -> dict[str, torch.Tensor]:
    """Return transformers' masks by the name of the learner's function."""
    window = architecture.masks(catalog.config("mistral-7b-v0.1"), tokens, span)
    chunk = architecture.masks(catalog.config("llama-4-scout"), tokens, span)
    return {
        "window_mask": window["sliding_attention"],
        "chunk_mask": chunk["chunked_attention"],
    }


@exercise(
    "1.4",
    wrong=[
        *MISTAKES,
        WrongAnswer(
            "0.0 and 1.0",
            (lambda *call: reference_window(*call).float(), reference_chunk),
            "True and False",
        ),
        WrongAnswer(
            "0 and -inf", (additive_window, reference_chunk), "those are numbers to add to scores"
        ),
        WrongAnswer(
            "one row",
            (lambda *call: reference_window(*call)[-1], reference_chunk),
            "has shape ... a row and a",
        ),
    ],
)
def check_masks(window_mask: Callable, chunk_mask: Callable) -> str:
    """Judge `window_mask(tokens, window)` and `chunk_mask(tokens, chunk)`."""
    answers = {"window_mask": window_mask, "chunk_mask": chunk_mask}
    for tokens, span in SIZES:
        for place, (name, answer) in enumerate(answers.items()):
            mask = answer(tokens, span)
            _expect_mask(mask, f"`{name}({tokens}, {span})`", tokens)
            expected = _library_masks(tokens, span)[name]
            if agree(mask, expected):
                continue
            mistakes = [replace(known, answer=known.answer[place]) for known in MISTAKES]
            why = diagnose(answer, SIZES, mistakes)
            marked = np.asarray(as_lists(mask), dtype=float) != 0
            query, key = (int(i) for i in np.argwhere(marked != expected.numpy())[0])
            sees = "may look" if expected[query, key] else "may not look"
            raise NotYet(
                f"`{name}({tokens}, {span})`: token {query} {sees} at token {key}. {why}".strip()
            )
    return f"and both are what transformers makes of {len(SIZES)} pairs of length and span."


def _expect_mask(mask: Any, what: str, tokens: int) -> None:
    """Raise NotYet unless this is a square of truth values, or of zeros and ones."""
    if mask is None:
        raise NotYet(f"{what} is None. Is a `return` missing?")
    try:
        square = np.asarray(as_lists(mask), dtype=float)
    except (TypeError, ValueError):
        raise NotYet(f"{what} is {type(mask).__name__}, expected a boolean tensor.") from None
    if square.shape != (tokens, tokens):
        raise NotYet(
            f"{what} has shape {square.shape}, expected {(tokens, tokens)}: a row and a column "
            "for each token."
        )
    if not np.isin(square, (0, 1)).all():
        raise NotYet(
            f"{what} holds {square.min():g}: those are numbers to add to scores; return True where "
            "a token may look."
        )
    if "float" in str(getattr(mask, "dtype", "")):
        raise NotYet(f"{what} holds {mask.dtype}, expected True and False: what `<` and `&` give.")
