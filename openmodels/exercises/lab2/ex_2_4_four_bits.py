"""Exercise 2.4: quantise weights to four bits and back, as llama.cpp's Q4_0 does.

Shapes: matrix and codes (rows, columns), scales (rows, columns / 32).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from gguf import GGMLQuantizationType, quants

from openmodels.check import NotYet, WrongAnswer, exercise, expect_close, expect_shape
from openmodels.exercises.known_mistakes import diagnose, expect_pair, pair_answers
from openmodels.exercises.lab2.fixtures import load_miniature

BLOCK = 32  # weights that share a scale
FOUR_BITS = GGMLQuantizationType.Q4_0

Quantised = tuple[torch.Tensor, torch.Tensor]  # codes and scales


# --- The reference solution -----------------------------------------------------------------------


def split_blocks(matrix: torch.Tensor, size: int = BLOCK) -> torch.Tensor:
    """Return the matrix in blocks: (rows, blocks, size)."""
    return matrix.reshape(len(matrix), -1, size)


def farthest_from_zero(blocks: torch.Tensor) -> torch.Tensor:
    """Return the entry of each block that is farthest from 0, with its sign: (rows, blocks, 1)."""
    return blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))


def divide(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return the blocks in steps of their scales; blocks of scale 0 stay as they are."""
    return blocks / torch.where(scales == 0, torch.ones_like(scales), scales)


def pack(codes: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return codes as integers in the matrix's shape."""
    return codes.to(torch.int16).reshape(matrix.shape)


def quantise_blocks(matrix: torch.Tensor, blocks: torch.Tensor) -> Quantised:
    """Return codes and scales for a matrix that is split into these blocks."""
    scales = farthest_from_zero(blocks) / -8
    codes = (divide(blocks, scales) + 8).round().clamp(0, 15)
    return pack(codes, matrix), scales[..., 0]


def reference_quantise(matrix: torch.Tensor) -> Quantised:
    """Return codes and scales of Q4_0."""
    return quantise_blocks(matrix, split_blocks(matrix))


def reference_dequantise(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return the weights that codes and scales stand for."""
    return (codes.float() - 8) * scales.repeat_interleave(BLOCK, dim=1)


# --- Known mistakes -------------------------------------------------------------------------------


def quantise_without_sign(matrix: torch.Tensor) -> Quantised:
    blocks = split_blocks(matrix)
    scales = farthest_from_zero(blocks).abs() / -8
    return pack((divide(blocks, scales) + 8).round().clamp(0, 15), matrix), scales[..., 0]


def quantise_in_seven_steps(matrix: torch.Tensor) -> Quantised:
    blocks = split_blocks(matrix)
    scales = farthest_from_zero(blocks) / -7
    return pack((divide(blocks, scales) + 8).round().clamp(0, 15), matrix), scales[..., 0]


def quantise_truncating(matrix: torch.Tensor) -> Quantised:
    blocks = split_blocks(matrix)
    scales = farthest_from_zero(blocks) / -8
    return pack((divide(blocks, scales) + 8).trunc().clamp(0, 15), matrix), scales[..., 0]


def quantise_without_clipping(matrix: torch.Tensor) -> Quantised:
    blocks = split_blocks(matrix)
    scales = farthest_from_zero(blocks) / -8
    return pack((divide(blocks, scales) + 8).round(), matrix), scales[..., 0]


def quantise_without_shift(matrix: torch.Tensor) -> Quantised:
    blocks = split_blocks(matrix)
    scales = farthest_from_zero(blocks) / -8
    return pack(divide(blocks, scales).round().clamp(0, 15), matrix), scales[..., 0]


def quantise_whole_rows(matrix: torch.Tensor) -> Quantised:
    return quantise_blocks(matrix, matrix[:, None])


def quantise_blocks_of_16(matrix: torch.Tensor) -> Quantised:
    return quantise_blocks(matrix, split_blocks(matrix, 16))


def quantise_without_rows(matrix: torch.Tensor) -> Quantised:
    codes, scales = reference_quantise(matrix)
    return codes.reshape(-1), scales.reshape(-1)


def quantise_flat_codes(matrix: torch.Tensor) -> Quantised:
    codes, scales = reference_quantise(matrix)
    return codes.flatten(), scales


def quantise_dividing_by_zero(matrix: torch.Tensor) -> Quantised:
    blocks = split_blocks(matrix)
    scales = farthest_from_zero(blocks) / -8
    codes = (blocks / scales + 8).round().clamp(0, 15)
    return codes.reshape(matrix.shape), scales[..., 0]


def quantise_without_rounding(matrix: torch.Tensor) -> Quantised:
    return matrix / matrix.abs().max() + 8, reference_quantise(matrix)[1]


def quantise_to_uint8(matrix: torch.Tensor) -> Quantised:
    codes, scales = reference_quantise(matrix)
    return codes.to(torch.uint8), scales


def dequantise_uint8(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (codes - 8) * scales.repeat_interleave(BLOCK, dim=1)


def dequantise_without_shift(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return codes.float() * scales.repeat_interleave(BLOCK, dim=1)


def dequantise_dividing(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return reference_dequantise(codes, 1 / scales)


QUANTISE_MISTAKES = [
    WrongAnswer(
        "the sign lost", quantise_without_sign,
        "The entry farthest from 0 keeps its sign: divided by -8 it gives a scale of the other "
        "sign, and its own code is 0.",
    ),
    WrongAnswer(
        "divided by 7", quantise_in_seven_steps,
        "Codes reach eight steps below the middle, to 0: the scale is the farthest entry by -8.",
    ),
    WrongAnswer(
        "cut off", quantise_truncating,
        "Round to the nearest code; cutting the fraction off doubles the error.",
    ),
    WrongAnswer(
        "not clipped", quantise_without_clipping,
        "An entry as far from 0 on the other side gets 16, which has five bits: clip to 15.",
    ),
    WrongAnswer(
        "not shifted", quantise_without_shift,
        "Four bits have no sign: add 8 after dividing, so that 0 becomes code 8.",
    ),
]  # fmt: skip
DEQUANTISE_MISTAKES = [
    WrongAnswer(
        "the shift kept", dequantise_without_shift,
        "A code of 8 stands for 0: subtract 8 before multiplying.",
    ),
    WrongAnswer(
        "divided by the scale", dequantise_dividing,
        "Dividing made the codes, multiplying makes the weights again.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


@cache
def _matrices() -> dict[str, torch.Tensor]:
    """Return matrices by description: random, both extremes in one block, mini-qwen's own."""
    generator = torch.Generator().manual_seed(24)
    extremes = torch.randn(3, 2 * BLOCK, generator=generator)
    extremes[:, 5], extremes[:, 9] = 4.0, -3.9
    weight = load_miniature().model.model.layers[0].mlp.down_proj.weight.data
    return {
        "a matrix of normal numbers": torch.randn(5, 3 * BLOCK, generator=generator),
        "a matrix with 4 and -3.9 in each row": extremes,
        "mini-qwen's first down_proj": weight,
    }


def _flatten(quantise: Callable, matrix: torch.Tensor) -> torch.Tensor:
    """Return codes and scales in one row of numbers."""
    return torch.cat([torch.as_tensor(part).flatten().float() for part in quantise(matrix)])


def _codes_of_llama_cpp(matrix: torch.Tensor) -> torch.Tensor:
    """Return the codes that llama.cpp packs: two bytes of scale, then two codes in each byte."""
    rows = quants.quantize(matrix.numpy(), FOUR_BITS).reshape(len(matrix), -1, 18)[..., 2:]
    halves = np.concatenate([rows & 15, rows >> 4], axis=-1)  # (rows, blocks, 32)
    return torch.from_numpy(halves.reshape(matrix.shape))


def _explain(quantise: Callable) -> str:
    """Return the message of the mistake that gives the same codes and scales, "" for none."""
    mistakes = [
        replace(known, answer=partial(_flatten, known.answer)) for known in QUANTISE_MISTAKES
    ]
    return diagnose(partial(_flatten, quantise), [(m,) for m in _matrices().values()], mistakes)


def _expect_codes(quantise: Callable, what: str, matrix: torch.Tensor) -> None:
    """Raise NotYet unless `quantise` gives Q4_0's codes and scales for a matrix."""
    result = quantise(matrix.clone())
    codes, scales = expect_pair(result, f"what `quantise` makes of {what}", "codes and scales")
    codes, scales = torch.as_tensor(codes), torch.as_tensor(scales)
    blocks = (len(matrix), matrix.shape[1] // BLOCK)
    expect_shape(
        scales, blocks, f"the scales of {what}", "One scale for every 32 neighbours in a row."
    )
    expect_shape(codes, tuple(matrix.shape), f"the codes of {what}", "One for each weight.")
    expected_codes, expected_scales = reference_quantise(matrix)
    why = _explain(quantise)
    if codes.is_floating_point() and (codes != codes.round()).any():
        raise NotYet(f"the codes of {what} are not whole numbers. Round after adding 8.")
    if codes.min() < 0 or codes.max() > 15:
        raise NotYet(
            f"the codes of {what} go from {codes.min():g} to {codes.max():g}; four bits hold 0 to "
            f"15. {why}".strip()
        )
    tolerance = 1e-3 * expected_scales.abs().max().item()  # an answer may have 16-bit scales
    expect_close(scales, expected_scales, f"the scale of {what}", why, atol=tolerance)
    # At a tie either neighbour is as near: one code in a hundred may differ by one.
    difference = (codes.long() - expected_codes).abs()
    if difference.max() > 1 or (difference > 0).float().mean() > 0.01:
        row, column = (int(i) for i in (difference > 0).nonzero()[0])
        raise NotYet(
            f"in {what}, the weight {matrix[row, column]:.3f} of a block with scale "
            f"{expected_scales[row, column // BLOCK]:.4f} got code {codes[row, column]:g}, "
            f"expected {expected_codes[row, column]}. {why}".strip()
        )


def _expect_weights(dequantise: Callable, what: str, matrix: torch.Tensor) -> None:
    """Raise NotYet unless `dequantise` gives the weights of the right codes and scales."""
    codes, scales = reference_quantise(matrix)
    weights = dequantise(codes.clone(), scales.clone())
    why = diagnose(dequantise, [(codes, scales)], DEQUANTISE_MISTAKES)
    expect_close(weights, reference_dequantise(codes, scales), f"{what}, dequantised,", why)


@exercise(
    "2.4",
    wrong=[
        *pair_answers(QUANTISE_MISTAKES, second=reference_dequantise),
        *pair_answers(DEQUANTISE_MISTAKES, first=reference_quantise),
        *pair_answers(
            [
                WrongAnswer("a scale a row", quantise_whole_rows, "32 neighbours"),
                WrongAnswer("rows forgotten", quantise_without_rows, "32 neighbours in a row"),
                WrongAnswer("blocks of 16", quantise_blocks_of_16, "32 neighbours"),
                WrongAnswer("flat codes", quantise_flat_codes, "One for each weight"),
                WrongAnswer("zeros", quantise_dividing_by_zero, "block of zeros"),
                WrongAnswer("not rounded", quantise_without_rounding, "not whole numbers"),
                WrongAnswer(
                    "codes alone", lambda matrix: reference_quantise(matrix)[0], "expected two"
                ),
            ],
            second=reference_dequantise,
        ),
        WrongAnswer(
            "no sign in a byte",
            (quantise_to_uint8, dequantise_uint8),
            "3 - 8 is 251: make the codes float",
        ),
        WrongAnswer("codes returned", (reference_quantise, lambda codes, _: codes), "expected"),
    ],
)
def check_quantise(
    quantise: Callable[[torch.Tensor], Quantised], dequantise: Callable[..., torch.Tensor]
) -> str:
    """Judge `quantise(matrix)` and `dequantise(codes, scales)`."""
    for what, matrix in _matrices().items():
        _expect_codes(quantise, what, matrix)
        _expect_weights(dequantise, what, matrix)
    zeros = torch.zeros(2, BLOCK)
    weights = torch.as_tensor(dequantise(*quantise(zeros.clone())))
    if weights.isnan().any() or weights.any():
        raise NotYet(
            "a block of zeros does not come back as zeros: its scale is 0, and 0 / 0 is nan."
        )
    return _expect_round_trip(quantise, dequantise, what, matrix)


def _expect_round_trip(
    quantise: Callable, dequantise: Callable, what: str, matrix: torch.Tensor
) -> str:
    """Raise NotYet if a weight changes by more than its scale; return the praise otherwise."""
    codes, scales = quantise(matrix.clone())
    weights = torch.as_tensor(dequantise(codes, scales)).float()
    bound = reference_quantise(matrix)[1].abs().repeat_interleave(BLOCK, dim=1)
    if ((weights - matrix).abs() > bound * 1.005).any():  # eight steps of a scale in 16 bits
        why = "Do the two agree?"
        if torch.as_tensor(codes).dtype == torch.uint8:
            why = "In uint8 3 - 8 is 251: make the codes float before you subtract."
        raise NotYet(f"{what}, there and back, is off by more than a scale. {why}")
    same = _codes_of_llama_cpp(matrix) == torch.as_tensor(quantise(matrix.clone())[0])
    error = (weights - matrix).norm() / matrix.norm()
    return (
        f"no weight is off by more than its scale. In {what}, {same.float().mean():.1%} of the "
        f"codes are those of llama.cpp's Q4_0, at {(16 + 4 * BLOCK) / BLOCK} bits a weight; the "
        f"error is {error:.1%} of the weights' size."
    )
