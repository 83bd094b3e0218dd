"""Exercise 3.2: count the tokens of a picture in Qwen2.5-VL and in Llama 4.

The reference solutions and the known mistakes are in `qwen_tokens` and `llama_tokens`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from openmodels.check import NotYet, WrongAnswer, exercise
from openmodels.exercises.known_mistakes import expect_number, pair_answers
from openmodels.exercises.lab3.expectations import (
    expect_no_library,
    expect_result,
    expect_value_error,
    explain,
)
from openmodels.exercises.lab3.llama_tokens import (
    LLAMA_MISTAKES,
    MARKERS_OF_LLAMA,
    LlamaCall,
    best_canvas,
    reference_llama,
)
from openmodels.exercises.lab3.qwen_tokens import (
    MARKERS_OF_QWEN,
    QWEN_MISTAKES,
    RATIO_MISTAKES,
    QwenCall,
    qwen_units,
    reference_qwen,
)

# --- The checker ----------------------------------------------------------------------------------


class Case(NamedTuple):
    """Arguments of a count, and what to look at if the count is wrong."""

    call: tuple[int, ...]
    hint: str

    @property
    def what(self) -> str:
        """Return the sizes of the picture, and the other arguments by name."""
        width, height, *sizes = self.call
        names = QwenCall if len(sizes) > 1 and sizes[1] > 5000 else LlamaCall
        named = zip(names._fields[2:], sizes, strict=False)
        arguments = ", ".join(f"{NAMES.get(name, name)} {size:,}" for name, size in named)
        return f"{width} x {height} pixels" + (f" ({arguments})" if arguments else "")


NAMES = {"low": "min_pixels", "high": "max_pixels"}
SHRINK = (
    "The rounded sides exceed `max_pixels`: compute s from the original sides, divide the original "
    "sides by s, and round down to a multiple of the unit."
)
GROW = (
    "The rounded sides enclose fewer than `min_pixels`: compute s from the original sides, "
    "multiply the original sides by s, and round up to a multiple of the unit."
)
ALL_BELOW = (
    "All factors are below 1: take the largest, and of the canvases with it the one with the "
    "fewest tiles."
)
QWEN_CASES = [
    Case((1000, 700, 3136, 1_003_520), "Round each side to the nearest multiple of 28 pixels."),
    Case((1020, 710, 3136, 1_003_520), "Round each side to the nearest multiple of 28 pixels."),
    Case((42, 70, 784, 1_003_520), "Halfway between two multiples, `round` takes the even."),
    Case((98, 126, 784, 1_003_520), "Halfway between two multiples, `round` takes the even."),
    Case((4032, 3024, 3136, 1_003_520), SHRINK),
    Case((1660, 790, 3136, 1_003_520), SHRINK),
    Case((20, 30, 3136, 1_003_520), GROW),
    Case((31, 58, 12_544, 1_003_520), GROW),
    Case((13, 500, 3136, 1_003_520), f"One side is rounded to 0 units. {GROW}"),
    Case((30, 3000, 784, 20_000), "A shrunk side has at least one unit."),
    Case((1000, 1000, 3136, 1_010_000), f"Only the rounded sides are too large. {SHRINK}"),
    Case((1021, 1034, 3136, 1_045_000), "The rounded sides do not exceed `max_pixels`."),
    Case((40, 41, 1500, 90_000), f"Only the rounded sides are too small. {GROW}"),
    Case((43, 75, 4500, 90_000), "The rounded sides reach `min_pixels`."),
    Case((1000, 700, 3136, 705_600), "Exactly `max_pixels` is within the limits."),
    Case((40, 60, 1568, 90_000), "Exactly `min_pixels` is within the limits."),
    Case((2000, 10, 784, 90_000), "A ratio of exactly 200 is valid."),
    Case((10, 2000, 784, 90_000), "A ratio of exactly 200 is valid."),
    Case((1000, 700, 3136, 1_003_520, 16, 3), "The unit has 48 pixels."),
    Case((3000, 1700, 3136, 500_000, 10, 4), "The unit has 40 pixels."),
    Case((90, 50, 40_000, 500_000, 14, 1), "The unit has 14 pixels."),
]
LLAMA_CASES = [
    Case((500, 300), "The smallest factor of at least 1 is that of 1 row of 2 tiles."),
    Case((300, 200), "One tile is enough."),
    Case((336, 336), "The factor of one tile is exactly 1."),
    Case((300, 337), "One tile of 336 pixels would shrink the picture."),
    Case((1008, 672), "The factor of 2 rows of 3 tiles is exactly 1."),
    Case((2000, 450), "Several canvases have the smallest factor of at least 1."),
    Case((4032, 3024), ALL_BELOW),
    Case((3000, 1400), ALL_BELOW),
    Case((200, 6000), ALL_BELOW),
    Case((1000, 950), "The smallest factor of at least 1 counts."),
    Case((900, 1400, 5), "At most 5 tiles."),
    Case((900, 1400, 1), "One tile is all there is."),
    Case((700, 500, 9, 300, 14, 2), "A tile has 21 x 21 patches."),
    Case((500, 400, 12, 224, 16, 1), "A tile has 14 x 14 patches, and each is a token."),
    Case((1500, 800, 7, 360, 12, 3), "A tile has 30 x 30 patches, and 9 of them are a token."),
]
BAD_RATIOS = [(2010, 10, 784, 90_000), (10, 2010, 784, 90_000)]


@exercise(
    "3.2",
    wrong=[
        *pair_answers(QWEN_MISTAKES, second=reference_llama),
        *pair_answers(
            [
                *RATIO_MISTAKES,
                WrongAnswer("no return", lambda *_: None, "Is a `return` missing"),
                WrongAnswer(
                    "two numbers", lambda width, height, *_: (width // 28, height // 28),
                    "expected int or float",
                ),
            ],
            second=reference_llama,
        ),
        *[
            replace(mistake, name=f"{mistake.name}, Llama 4")
            for mistake in pair_answers(LLAMA_MISTAKES, first=reference_qwen)
        ],
    ],
)  # fmt: skip
def check_tokens(qwen_tokens: Callable[..., int], llama_tokens: Callable[..., int]) -> str:
    """Judge `qwen_tokens(width, height, ...)` and `llama_tokens(width, height, ...)`."""
    for answer in (qwen_tokens, llama_tokens):
        expect_no_library(answer)
    for case in QWEN_CASES:
        _expect_count(qwen_tokens, reference_qwen, case, QWEN_CASES, QWEN_MISTAKES)
    for call in BAD_RATIOS:
        hint = "Raise ValueError if one side is more than 200 times the other."
        expect_value_error(qwen_tokens, call, Case(call, "").what, hint)
    for case in LLAMA_CASES:
        _expect_count(llama_tokens, reference_llama, case, LLAMA_CASES, LLAMA_MISTAKES)
    return (
        f"your counts are right for {len(QWEN_CASES) + len(LLAMA_CASES)} pictures. A photograph of "
        f"4032 x 3024 pixels has {reference_qwen(4032, 3024, 3136, 12_845_056):,} tokens in "
        f"Qwen2.5-VL at its largest limit, and {reference_llama(4032, 3024):,} in Llama 4."
    )


def _expect_count(
    count: Callable, reference: Callable, case: Case, cases: list[Case], mistakes: list[WrongAnswer]
) -> None:
    """Raise NotYet unless a count is right for a picture."""
    what, expected = case.what, reference(*case.call)
    result = expect_result(count, case.call, what, case.hint)
    number = expect_number(result, f"your count for {what}")
    if number != expected:
        why = explain(count, [k.call for k in cases], cases.index(case), mistakes, rtol=1e-9)
        sizes = _breakdown(case, reference is reference_qwen)
        raise NotYet(
            f"for {what} you count {number:,} tokens, expected {expected:,} ({sizes}). "
            f"{why or case.hint}"
        )


def _breakdown(case: Case, qwen: bool) -> str:
    """Return what the right count consists of."""
    if qwen:
        across, down = qwen_units(*case.call[:4], QwenCall(*case.call).unit)
        return f"{across} x {down} units and {MARKERS_OF_QWEN} markers"
    rows, columns = best_canvas(*LlamaCall(*case.call)[:4])
    tiles = "1 tile" if rows * columns == 1 else f"{rows} x {columns} tiles, the whole picture"
    return f"{tiles} and {MARKERS_OF_LLAMA} markers"
