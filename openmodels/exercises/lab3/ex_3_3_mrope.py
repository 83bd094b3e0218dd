"""Exercise 3.3: the positions of text and pictures in Qwen2.5-VL (M-RoPE).

Source: transformers, `get_rope_index` in models/qwen2_5_vl. Shapes: ids (tokens,), grids (pictures,
3), positions (3, tokens): time, height, width.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from openmodels.check import NotYet, WrongAnswer, exercise, expect_shape
from openmodels.exercises.lab3.expectations import (
    as_array,
    expect_no_library,
    expect_result,
    expect_value_error,
    explain,
)

AXES = ("time", "height", "width")
Segment = int | tuple[int, int]  # a number of text tokens, or a picture's rows and columns


# --- The reference solution -----------------------------------------------------------------------


def merged_sizes(grids: Tensor, merge: int) -> list[tuple[int, int]]:
    """Return rows and columns of tokens of each picture."""
    return [(rows // merge, columns // merge) for _, rows, columns in grids.tolist()]


def expect_tokens(ids: Tensor, sizes: list[tuple[int, int]], image_token: int) -> None:
    """Raise ValueError unless the ids have the image tokens that the pictures need."""
    needed = sum(rows * columns for rows, columns in sizes)
    count = int((ids == image_token).sum())
    if count != needed:
        raise ValueError(f"{count} image tokens, the grids need {needed}")


def segments(
    ids: Tensor, sizes: list[tuple[int, int]], image_token: int
) -> Iterator[tuple[int, int, bool]]:
    """Yield rows, columns and whether it is a picture, for each text token and each picture."""
    token, pictures = 0, iter(sizes)
    while token < len(ids):
        picture = int(ids[token]) == image_token
        rows, columns = next(pictures) if picture else (1, 1)
        yield rows, columns, picture
        token += rows * columns


def grid_of(rows: int, columns: int) -> Tensor:
    """Return time, row and column of a picture's tokens, row by row: (3, rows * columns)."""
    cells = torch.arange(rows * columns)
    return torch.stack([torch.zeros_like(cells), cells // columns, cells % columns])


Block = Callable[[int, int, int], Tensor]  # from start, rows, columns to (3, rows * columns)
Growth = Callable[[int, int], int]  # from rows and columns to what the next position grows by


def offset_grid(start: int, rows: int, columns: int) -> Tensor:
    """Return the positions of a picture that starts at a position."""
    return start + grid_of(rows, columns)


def lay_out(
    ids: Tensor, sizes: list[tuple[int, int]], image_token: int, block: Block = offset_grid,
    growth: Growth = max,
) -> Tensor:  # fmt: skip
    """Return the positions for a rule of a picture's block and of the growth after it."""
    start, blocks = 0, [torch.zeros(3, 0, dtype=torch.long)]
    for rows, columns, picture in segments(ids, sizes, image_token):
        blocks.append(block(start, rows, columns) if picture else torch.full((3, 1), start))
        start += growth(rows, columns) if picture else 1
    return torch.cat(blocks, dim=1)


def reference_positions(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    """Return the positions of a prompt's tokens."""
    sizes = merged_sizes(grids, merge)
    expect_tokens(ids, sizes, image_token)
    return lay_out(ids, sizes, image_token)


# --- Known mistakes -------------------------------------------------------------------------------


def positions_with(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2, *, block: Block = offset_grid,
    growth: Growth = max,
) -> Tensor:  # fmt: skip
    """Return positions with another block of a picture or another growth after it."""
    sizes = merged_sizes(grids, merge)
    expect_tokens(ids, sizes, image_token)
    return lay_out(ids, sizes, image_token, block, growth)


def block_swapped(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, rows, columns)[[0, 2, 1]]


def block_by_column(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, columns, rows)[[0, 2, 1]]


def block_last_axis_time(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, rows, columns)[[1, 2, 0]]


def block_time_height_swapped(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, rows, columns)[[1, 0, 2]]


def block_time_width_swapped(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, rows, columns)[[2, 1, 0]]


def block_first_axis_width(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, rows, columns)[[2, 0, 1]]


def block_without_start(start: int, rows: int, columns: int) -> Tensor:
    return grid_of(rows, columns)


def block_with_start_in_time(start: int, rows: int, columns: int) -> Tensor:
    return grid_of(rows, columns) + torch.tensor([[start], [0], [0]])


def block_with_time_zero(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, rows, columns) * torch.tensor([[0], [1], [1]])


def block_counting_in_time(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, rows, columns) + torch.stack(
        [torch.arange(rows * columns), *torch.zeros(2, rows * columns, dtype=torch.long)]
    )


def block_from_one(start: int, rows: int, columns: int) -> Tensor:
    return offset_grid(start, rows, columns) + torch.tensor([[0], [1], [1]])


def block_of_one_position(start: int, rows: int, columns: int) -> Tensor:
    return torch.full((3, rows * columns), start)


def positions_from_one(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return reference_positions(ids, grids, image_token, merge) + 1


def positions_of_token_numbers_in_time(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    positions = reference_positions(ids, grids, image_token, merge)
    positions[0] = torch.arange(len(ids))
    return positions


def positions_of_picture_numbers_in_time(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    positions = reference_positions(ids, grids, image_token, merge)
    positions[0, ids == image_token] = torch.arange(len(ids))[ids == image_token]
    return positions


def _of_patch_columns(start: int, rows: int, columns: int, merge: int) -> Tensor:
    """Return a block whose rows and columns are counted in a grid of patches."""
    return start + grid_of(rows * merge, columns * merge)[:, : rows * columns]


def positions_of_patch_columns(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    block = partial(_of_patch_columns, merge=merge)
    return positions_with(ids, grids, image_token, merge, block=block)


def positions_of_patch_columns_and_growth(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    def growth(rows: int, columns: int) -> int:
        return max(rows, columns) * merge

    block = partial(_of_patch_columns, merge=merge)
    return positions_with(ids, grids, image_token, merge, block=block, growth=growth)


def positions_as_text(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return torch.arange(len(ids)).expand(3, -1)


def positions_of_patches(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return reference_positions(ids, grids, image_token, 1)


def positions_growing_by_patches(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    def growth(rows: int, columns: int) -> int:
        return max(rows, columns) * merge

    return positions_with(ids, grids, image_token, merge, growth=growth)


def positions_by_count(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return lay_out(ids, merged_sizes(grids, merge), image_token)


def positions_counting_pictures(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    if len(grids) and image_token not in ids.tolist():
        raise ValueError("no image token")
    return positions_by_count(ids, grids, image_token, merge)


def positions_first_grid(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return reference_positions(ids, grids[:1].expand(len(grids), -1), image_token, merge)


def positions_restarting(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    blocks, start = [torch.zeros(3, 0, dtype=torch.long)], 0
    for rows, columns, picture in segments(ids, merged_sizes(grids, merge), image_token):
        blocks.append(start + grid_of(rows, columns))
        start = 0 if picture else start + 1
    return torch.cat(blocks, dim=1)


def positions_by_group(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    expect_tokens(ids, merged_sizes(grids, merge), image_token)
    pictures, start = iter(merged_sizes(grids, merge)), 0
    blocks = [torch.zeros(3, 0, dtype=torch.long)]
    for token, group in groupby(ids.tolist()):
        if token == image_token:
            rows, columns = next(pictures)
            blocks.append(start + grid_of(rows, columns))
            start += max(rows, columns)
        else:
            count = len(list(group))
            blocks.append((start + torch.arange(count)).expand(3, -1))
            start += count
    return torch.cat(blocks, dim=1)


def positions_of_shared_tensor(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    expect_tokens(ids, merged_sizes(grids, merge), image_token)
    columns, place, pictures = [], 0, iter(grids // merge)
    position: int | Tensor = 0
    while place < len(ids):
        if ids[place] == image_token:
            _, rows, width = next(pictures)
            for row in range(rows):
                columns += [(position, position + row, position + c) for c in range(width)]
            place += rows * width
            position += max(rows, width)  # in place, too, from the second picture on
        else:
            columns.append((position, position, position))
            place += 1
            position += 1  # in place once it is a tensor
    return torch.tensor([[int(value) for value in column] for column in columns]).T


def positions_of_other_token(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    return lay_out(ids, merged_sizes(grids, merge), 151_655)


def positions_merge_of_two(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return reference_positions(ids, grids, image_token)


def positions_text_in_time(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    positions = reference_positions(ids, grids, image_token, merge)
    positions[1:, ids != image_token] = 0
    return positions


def positions_needing_a_picture(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    before = (ids == image_token).nonzero()[0].item()
    return reference_positions(ids, grids, image_token, merge) + 0 * before


def positions_per_token(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return reference_positions(ids, grids, image_token, merge).T


def positions_in_a_batch(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return reference_positions(ids, grids, image_token, merge)[:, None]


def positions_in_a_batch_first(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    return reference_positions(ids, grids, image_token, merge)[None]


def positions_of_time(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return reference_positions(ids, grids, image_token, merge)[0]


def positions_of_different_lengths(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> list[list[int]]:
    time, height, width = reference_positions(ids, grids, image_token, merge).tolist()
    return [time[:-1], height, width]


def positions_in_float(ids: Tensor, grids: Tensor, image_token: int, merge: int = 2) -> Tensor:
    return reference_positions(ids, grids, image_token, merge).float()


def positions_dividing_in_place(
    ids: Tensor, grids: Tensor, image_token: int, merge: int = 2
) -> Tensor:
    grids[:, 1:] //= merge
    return reference_positions(ids, grids, image_token, 1)


def mistake(name: str, message: str, **rules: Callable) -> WrongAnswer:
    """Return a mistake in the block of a picture or in the growth after it."""
    return WrongAnswer(name, partial(positions_with, **rules), message)


MISTAKES = [
    WrongAnswer(
        "all text", positions_as_text,
        "Image tokens get the positions of text. Compare each id with `image_token`; its number "
        "differs between models.",
    ),
    mistake(
        "height and width swapped",
        "Height and width are swapped: height grows with the row, width with the column.",
        block=block_swapped,
    ),
    mistake(
        "column by column",
        "Your tokens of a picture come column by column. They come row by row.",
        block=block_by_column,
    ),
    mistake(
        "axes in another order", "The axes have the order time, height, width.",
        block=block_last_axis_time,
    ),
    mistake(
        "width first", "The axes have the order time, height, width.",
        block=block_first_axis_width,
    ),
    mistake(
        "time and height swapped",
        "Time and height are swapped: a picture's tokens all have the same time, and their height "
        "grows with the row.",
        block=block_time_height_swapped,
    ),
    mistake(
        "time and width swapped",
        "Time and width are swapped: a picture's tokens all have the same time, and their width "
        "grows with the column.",
        block=block_time_width_swapped,
    ),
    WrongAnswer(
        "next starts at 1", positions_from_one,
        "All your positions are 1 too large: the first next position is 0.",
    ),
    WrongAnswer(
        "token numbers as time", positions_of_token_numbers_in_time,
        "Your time is the number of the token. It is the next position, which a picture's tokens "
        "share.",
    ),
    WrongAnswer(
        "token numbers as time in pictures", positions_of_picture_numbers_in_time,
        "Your time of a picture's tokens is the number of the token. It is the next position, "
        "which they share.",
    ),
    *(
        WrongAnswer(
            name, answer,
            "Your rows and columns are those of patches: divide the grid's by `merge` before you "
            "number the tokens.",
        )
        for name, answer in {
            "rows and columns of patches": positions_of_patch_columns,
            "rows, columns and growth of patches": positions_of_patch_columns_and_growth,
        }.items()
    ),
    mistake(
        "start missing",
        "A picture's positions begin at the next position, not at 0: add it to all three.",
        block=block_without_start,
    ),
    mistake(
        "start in time only", "Height and width also begin at the next position: add it to the row "
        "and to the column.",
        block=block_with_start_in_time,
    ),
    mistake(
        "time 0", "All tokens of a picture have the next position as their time, not 0.",
        block=block_with_time_zero,
    ),
    mistake(
        "time counts tokens", "Time does not grow inside a picture: it is one frame.",
        block=block_counting_in_time,
    ),
    mistake(
        "rows from 1", "Rows and columns count from 0: the first token has the next position on "
        "all axes.",
        block=block_from_one,
    ),
    mistake(
        "one position for a picture", "Each token of a picture has a row and a column of its own.",
        block=block_of_one_position,
    ),
    mistake(
        "grows by tokens", "After a picture, the next position grows by the larger of rows and "
        "columns, not by the number of tokens.",
        growth=lambda rows, columns: rows * columns,
    ),
    mistake(
        "grows by rows", "After a picture, the next position grows by the larger of rows and "
        "columns, not always by the rows.",
        growth=lambda rows, columns: rows,
    ),
    mistake(
        "grows by columns", "After a picture, the next position grows by the larger of rows and "
        "columns, not always by the columns.",
        growth=lambda rows, columns: columns,
    ),
    mistake("grows by the smaller side", "The larger of rows and columns counts.", growth=min),
    mistake(
        "grows by both sides", "After a picture, the next position grows by the larger of rows "
        "and columns, not by their sum.",
        growth=lambda rows, columns: rows + columns,
    ),
    mistake(
        "grows by 1", "After a picture, the next position grows by the larger of rows and "
        "columns, not by 1.",
        growth=lambda rows, columns: 1,
    ),
    mistake(
        "one more", "The text after a picture is one position too far: the next position is "
        "already the first that the picture does not use.",
        growth=lambda rows, columns: max(rows, columns) + 1,
    ),
    mistake(
        "one less", "The text after a picture shares the picture's last position. The next "
        "position grows by the larger side, not by the largest row or column number.",
        growth=lambda rows, columns: max(rows, columns) - 1,
    ),
    WrongAnswer(
        "grows by patches", positions_growing_by_patches,
        "The next position grows by rows and columns of tokens: divide those of the grid by "
        "`merge`.",
    ),
    WrongAnswer(
        "restarts after a picture", positions_restarting,
        "The text after a picture continues behind it; it does not start at 0 again.",
    ),
    WrongAnswer(
        "a shared tensor", positions_of_shared_tensor,
        "Your next position is a tensor, because `grids` holds tensors, and `+=` changes it in "
        "place, also where you stored it. Use numbers: `grids.tolist()`.",
    ),
    WrongAnswer(
        "text in time only", positions_text_in_time,
        "A text token has the same position on all three axes.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


class Prompt(NamedTuple):
    """A prompt of the check, and what to look at if its positions are wrong."""

    what: str
    parts: Sequence[Segment]
    image_token: int
    merge: int
    hint: str

    @property
    def call(self) -> tuple:
        """Return the arguments of `mrope_positions`; a merge of 2 is the default, so left out."""
        ids, text = [], 0
        for part in self.parts:
            if isinstance(part, tuple):
                ids += [self.image_token] * (part[0] * part[1] // self.merge**2)
            else:  # text: ids on both sides of the image token's, some of them repeated
                ids += [
                    self.image_token + (-1) ** n * (1 + n % 3) for n in range(text, text + part)
                ]
                text += part
        grids = [(1, *part) for part in self.parts if isinstance(part, tuple)]
        call = (torch.tensor(ids), torch.tensor(grids, dtype=torch.long).reshape(-1, 3))
        return (*call, self.image_token, *([self.merge] if self.merge != 2 else []))


ADJACENT = (
    "The two pictures stand next to each other: each ends after rows / merge * columns / merge "
    "tokens of its own grid."
)
PROMPTS = [
    Prompt(
        "the example", [1, (4, 6), 1], 9, 2,
        "The picture has 2 x 3 tokens: the grid's rows and columns, divided by `merge`.",
    ),
    Prompt("text alone", [5], 40, 2, "There may be no picture and no grid."),
    Prompt("a wide picture in text", [4, (6, 10), 3], 151_655, 2, "The picture has 3 x 5 tokens."),
    Prompt("a tall picture in text", [2, (12, 4), 5], 77, 2, "The picture has 6 x 2 tokens."),
    Prompt(
        "two pictures with text between them", [3, (4, 10), 2, (8, 6), 4], 300, 2,
        "Each picture has its own row of `grids`.",
    ),
    Prompt("two pictures side by side", [2, (4, 8), (10, 4), 3], 61, 2, ADJACENT),
    Prompt(
        "pictures at the start and at the end", [(2, 6), 3, (2, 2), 1, (10, 2)], 88, 2,
        "There is no text before the first picture, and the second has a single token.",
    ),
    Prompt("a merge of 3", [2, (6, 15), 4], 500, 3, "`merge` is 3: the picture has 2 x 5 tokens."),
    Prompt("a merge of 1", [3, (2, 5), 2], 12, 1, "`merge` is 1: the picture has 2 x 5 tokens."),
]  # fmt: skip
WRONG_COUNTS = {  # what: ids, grids
    "5 image tokens and a grid of 2 x 3 tokens": ([3, 9, 9, 9, 9, 9, 4], [[1, 4, 6]]),
    "7 image tokens and a grid of 2 x 3 tokens": ([9, 9, 9, 9, 9, 9, 9, 4], [[1, 4, 6]]),
    "4 image tokens and no grid": ([3, 9, 9, 9, 9, 4], []),
    "a grid and no image token": ([3, 4, 5], [[1, 4, 6]]),
}


@exercise(
    "3.3",
    wrong=[
        *MISTAKES,
        WrongAnswer("another token", positions_of_other_token, "Compare each id with"),
        WrongAnswer("patches counted", positions_of_patches, "divided by `merge`"),
        WrongAnswer("merge of 2", positions_merge_of_two, "`merge` is 3"),
        WrongAnswer("first grid for all", positions_first_grid, "its own row of `grids`"),
        WrongAnswer("groups of equal ids", positions_by_group, "stand next to each other"),
        WrongAnswer("needs a picture", positions_needing_a_picture, "There may be no picture"),
        WrongAnswer("count not compared", positions_by_count, "Count the image tokens first"),
        WrongAnswer(
            "only missing tokens noticed", positions_counting_pictures,
            "Count the image tokens first",
        ),
        WrongAnswer("a row per token", positions_per_token, "is transposed"),
        WrongAnswer("a batch", positions_in_a_batch, "has a batch axis"),
        WrongAnswer("a batch first", positions_in_a_batch_first, "has a batch axis"),
        WrongAnswer("a single row", positions_of_time, "Three rows"),
        WrongAnswer("rows of different lengths", positions_of_different_lengths, "not the same"),
        WrongAnswer("floats", positions_in_float, "expected whole numbers"),
        WrongAnswer("grids divided in place", positions_dividing_in_place, "changed its input"),
        WrongAnswer("no return", lambda *_: None, "Is a `return` missing"),
    ],
)  # fmt: skip
def check_positions(mrope_positions: Callable[..., Any]) -> str:
    """Judge `mrope_positions(ids, grids, image_token, merge)` on nine prompts."""
    expect_no_library(mrope_positions)
    for prompt in PROMPTS:
        _expect_positions(mrope_positions, prompt)
    for what, (ids, grids) in WRONG_COUNTS.items():
        call = (torch.tensor(ids), torch.tensor(grids, dtype=torch.long).reshape(-1, 3), 9)
        hint = "Count the image tokens first, and compare with what all grids need."
        expect_value_error(mrope_positions, call, what, hint)
    return (
        f"the positions of {len(PROMPTS)} prompts are those of the library, on all three axes. "
        "Text after a picture continues at the picture's longer side."
    )


def _expect_positions(mrope_positions: Callable, prompt: Prompt) -> None:
    """Raise NotYet unless the positions of a prompt are right."""
    expected = reference_positions(*prompt.call)
    result = expect_result(mrope_positions, prompt.call, prompt.what, prompt.hint)
    what = f"your result for {prompt.what}"
    values = as_array(result, what)
    expect_shape(values, tuple(expected.shape), what, _explain_shape(values, prompt))
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise NotYet(
            f"your positions for {prompt.what} have the dtype {values.dtype}, expected whole "
            "numbers."
        )
    wrong = np.argwhere((values != expected.numpy()).T)
    if not len(wrong):
        return
    token, axis = (int(i) for i in wrong[0])
    why = MISTAKES[0].message  # as text, perhaps because another token is looked for
    if (values != np.arange(values.shape[1])).any():
        calls = [known.call for known in PROMPTS]
        why = explain(mrope_positions, calls, PROMPTS.index(prompt), MISTAKES, rtol=1e-9)
    raise NotYet(
        f"for {prompt.what}, token {token} ({_describe(prompt, token)}) has {AXES[axis]} "
        f"{values[axis, token]}, expected {expected[axis, token]}. "
        f"{why or _rule(prompt, token, axis)}"
    )


def _explain_shape(values: Any, prompt: Prompt) -> str:
    """Return what a wrong shape says about the mistake."""
    shape, tokens = tuple(getattr(values, "shape", ())), len(prompt.call[0])
    if shape == (tokens, 3):
        return "It is transposed: three rows (time, height, width), and a column per token."
    if len(shape) == 3 and shape in ((3, 1, tokens), (1, 3, tokens)):
        return "It has a batch axis: `ids` is a single prompt, so return three rows."
    return f"Three rows (time, height, width), and a column per token. {prompt.hint}"


def _rule(prompt: Prompt, token: int, axis: int) -> str:
    """Return the table's rule for an axis of a token."""
    ids, _, image_token, *_ = prompt.call
    if ids[token] == image_token:
        return (
            "In a picture, time is the next position for all tokens.",
            "In a picture, height is the next position + the row.",
            "In a picture, width is the next position + the column.",
        )[axis] + f" {prompt.hint}"
    if (ids[:token] == image_token).any():
        return (
            "After a picture, the next position grows by its rows or columns of tokens, whichever "
            f"is larger. {prompt.hint}"
        )
    return "All three positions of text are the next position: 0 first, then 1 more per token."


def _describe(prompt: Prompt, token: int) -> str:
    """Return what a token is: text, or a place in a picture."""
    ids, grids, image_token, *_ = prompt.call
    place = 0
    picture = 0
    for rows, columns, is_picture in segments(ids, merged_sizes(grids, prompt.merge), image_token):
        picture += is_picture
        if token < place + rows * columns:
            row, column = divmod(token - place, columns)
            return f"row {row}, column {column} of picture {picture}" if is_picture else "text"
        place += rows * columns
    raise ValueError(f"there is no token {token}")
