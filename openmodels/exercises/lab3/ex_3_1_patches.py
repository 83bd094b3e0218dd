"""Exercise 3.1: cut a picture into patches, and put the patches together again.

Shapes: pixels (height, width, channels); patches (patches, channels * patch * patch).
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from openmodels.check import NotYet, WrongAnswer, exercise, expect_shape
from openmodels.exercises.known_mistakes import pair_answers
from openmodels.exercises.lab3.expectations import (
    as_array,
    expect_no_library,
    expect_result,
    expect_value_error,
    explain,
)

# Axes of a split picture: square row, patch row, pixel row, square column, patch column, pixel
# column, channel. The order of a row of patches, and the inverse.
ORDER, INVERSE = (0, 3, 1, 4, 6, 2, 5), (0, 2, 5, 1, 3, 6, 4)


# --- The reference solution -----------------------------------------------------------------------


def split(pixels: np.ndarray, patch: int, merge: int) -> np.ndarray:
    """Return the picture with its seven axes. Raises ValueError if the sides do not divide."""
    height, width, channels = pixels.shape
    side = patch * merge
    if height % side or width % side:
        raise ValueError(f"{height} x {width} pixels are not squares of {side} x {side}")
    return pixels.reshape(height // side, merge, patch, width // side, merge, patch, channels)


def flatten(axes: np.ndarray, pixels: np.ndarray, patch: int) -> np.ndarray:
    """Return reordered axes as rows, one per patch."""
    return axes.reshape(-1, pixels.shape[2] * patch * patch)


def reference_patchify(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    """Return the patches as flat rows."""
    return flatten(split(pixels, patch, merge).transpose(ORDER), pixels, patch)


def expect_fit(patches: np.ndarray, height: int, width: int, patch: int, merge: int) -> None:
    """Raise ValueError unless the patches fill the picture."""
    side = patch * merge
    if height % side or width % side or len(patches) * patch**2 != height * width:
        raise ValueError(f"{len(patches)} patches do not fill {height} x {width} pixels")


def reference_unpatchify(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    """Return the picture of these patches."""
    expect_fit(patches, height, width, patch, merge)
    side = patch * merge
    axes = patches.reshape(height // side, width // side, merge, merge, -1, patch, patch)
    return axes.transpose(INVERSE).reshape(height, width, -1)


# --- Known mistakes on the way out ----------------------------------------------------------------


def patchify_channels_last(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    return flatten(split(pixels, patch, merge).transpose(0, 3, 1, 4, 2, 5, 6), pixels, patch)


def patchify_squares_by_column(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    return flatten(split(pixels, patch, merge).transpose(3, 0, 1, 4, 6, 2, 5), pixels, patch)


def patchify_merged_by_column(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    return flatten(split(pixels, patch, merge).transpose(0, 3, 4, 1, 6, 2, 5), pixels, patch)


def patchify_all_by_column(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    return flatten(split(pixels, patch, merge).transpose(3, 0, 4, 1, 6, 2, 5), pixels, patch)


def patchify_transposed_pixels(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    return flatten(split(pixels, patch, merge).transpose(0, 3, 1, 4, 6, 5, 2), pixels, patch)


def patchify_strips(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    split(pixels, patch, merge)
    return flatten(pixels, pixels, patch)


def patchify_strips_by_channel(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    split(pixels, patch, merge)
    return flatten(pixels.transpose(2, 0, 1), pixels, patch)


def patchify_without_merge(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    split(pixels, patch, merge)
    return reference_patchify(pixels, patch)


def patchify_channels_last_without_merge(
    pixels: np.ndarray, patch: int, merge: int = 1
) -> np.ndarray:
    return patchify_channels_last(pixels, patch)


def patchify_swapped_sides(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    width, height, channels = pixels.shape
    return reference_patchify(pixels.reshape(height, width, channels), patch, merge)


def patchify_joined(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    return reference_patchify(pixels, patch * merge)


def patchify_in_float(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    patches = np.zeros(reference_patchify(pixels, patch, merge).shape)
    patches[:] = reference_patchify(pixels, patch, merge)
    return patches


def patchify_not_flat(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    patches = reference_patchify(pixels, patch, merge)
    return patches.reshape(-1, pixels.shape[2], patch, patch)


def patchify_grid(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    patches = reference_patchify(pixels, patch, merge)
    return patches.reshape(pixels.shape[0] // patch, pixels.shape[1] // patch, -1)


def patchify_a_channel_per_row(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    return reference_patchify(pixels, patch, merge).reshape(-1, patch * patch)


def patchify_in_lists(pixels: np.ndarray, patch: int, merge: int = 1) -> list[list[int]]:
    return reference_patchify(pixels, patch, merge).tolist()


def patchify_in_uneven_lists(pixels: np.ndarray, patch: int, merge: int = 1) -> list[list[int]]:
    first, *others = reference_patchify(pixels, patch, merge).tolist()
    return [first[:-1], *others]


def patchify_three_channels(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    side = patch * merge
    height, width = pixels.shape[0] // side, pixels.shape[1] // side
    axes = pixels.reshape(height, merge, patch, width, merge, patch, 3)
    return axes.transpose(ORDER).reshape(-1, 3 * patch * patch)


def patchify_square_pictures(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    side = patch * merge
    count = pixels.shape[0] // side
    axes = pixels.reshape(count, merge, patch, count, merge, patch, pixels.shape[2])
    return flatten(axes.transpose(ORDER), pixels, patch)


def patchify_cropped(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    side = patch * merge
    height, width = (length // side * side for length in pixels.shape[:2])
    return reference_patchify(pixels[:height, :width], patch, merge)


def patchify_padded(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    side = patch * merge
    down, across = (-length % side for length in pixels.shape[:2])
    return reference_patchify(np.pad(pixels, ((0, down), (0, across), (0, 0))), patch, merge)


def patchify_checking_patch_only(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    split(pixels, patch, 1)
    return patchify_cropped(pixels, patch, merge)


def patchify_checking_height_only(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    split(pixels[:, : patch * merge], patch, merge)
    return patchify_cropped(pixels, patch, merge)


def patchify_in_place(pixels: np.ndarray, patch: int, merge: int = 1) -> np.ndarray:
    patches = reference_patchify(pixels, patch, merge).copy()
    pixels.resize(patches.shape, refcheck=False)
    pixels[:] = patches
    return pixels


PATCHIFY_MISTAKES = [
    WrongAnswer(
        "channels last", patchify_channels_last,
        "Your rows list all channels of a pixel together. A row lists the whole patch of channel "
        "0 first: move the channel axis in front of the pixel axes.",
    ),
    WrongAnswer(
        "everything column by column", patchify_all_by_column,
        "Your patches come column by column. They come row by row: from left to right, then down.",
    ),
    WrongAnswer(
        "squares column by column", patchify_squares_by_column,
        "Your squares come column by column. They come row by row: from left to right, then down.",
    ),
    WrongAnswer(
        "patches of a square column by column", patchify_merged_by_column,
        "The squares are in order, but the patches inside a square come column by column. They "
        "also come row by row.",
    ),
    WrongAnswer(
        "patches transposed", patchify_transposed_pixels,
        "Each patch is transposed: it lists pixel columns. A channel is listed pixel row by pixel "
        "row.",
    ),
    WrongAnswer(
        "reshape alone", patchify_strips,
        "A `reshape` alone cuts the picture's memory into strips of consecutive pixels. Split "
        "both sides, reorder the axes, then flatten.",
    ),
    WrongAnswer(
        "reshape alone, channels first", patchify_strips_by_channel,
        "Moving the channels first and reshaping cuts one channel into strips of consecutive "
        "pixels. Split both sides, reorder the axes, then flatten.",
    ),
    WrongAnswer(
        "merge ignored", patchify_without_merge,
        "Your function ignores `merge`: the merge x merge patches of a square must follow each "
        "other.",
    ),
    WrongAnswer(
        "sides swapped", patchify_swapped_sides,
        "Height and width are swapped: `pixels.shape` is (height, width, channels).",
    ),
]  # fmt: skip


# --- Known mistakes on the way back ---------------------------------------------------------------


def unpatchify_with(
    patches: np.ndarray, sizes: tuple[int, int, int, int], axes: tuple, order: tuple
) -> np.ndarray:
    """Return the picture for other axes or another order."""
    height, width, patch, merge = sizes
    expect_fit(patches, height, width, patch, merge)
    return patches.reshape(axes).transpose(order).reshape(height, width, -1)


def unpatchify_channels_last(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    side = patch * merge
    axes = (height // side, width // side, merge, merge, patch, patch, -1)
    order = (0, 2, 4, 1, 3, 5, 6)
    return unpatchify_with(patches, (height, width, patch, merge), axes, order)


def unpatchify_squares_by_column(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    side = patch * merge
    axes = (width // side, height // side, merge, merge, -1, patch, patch)
    order = (1, 2, 5, 0, 3, 6, 4)
    return unpatchify_with(patches, (height, width, patch, merge), axes, order)


def unpatchify_merged_by_column(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    side = patch * merge
    axes = (height // side, width // side, merge, merge, -1, patch, patch)
    order = (0, 3, 5, 1, 2, 6, 4)
    return unpatchify_with(patches, (height, width, patch, merge), axes, order)


def unpatchify_transposed_pixels(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    side = patch * merge
    axes = (height // side, width // side, merge, merge, -1, patch, patch)
    order = (0, 2, 6, 1, 3, 5, 4)
    return unpatchify_with(patches, (height, width, patch, merge), axes, order)


def unpatchify_same_order(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    side = patch * merge
    axes = (height // side, width // side, merge, merge, -1, patch, patch)
    return unpatchify_with(patches, (height, width, patch, merge), axes, ORDER)


def unpatchify_strips(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    expect_fit(patches, height, width, patch, merge)
    return patches.reshape(height, width, -1)


def unpatchify_without_merge(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    expect_fit(patches, height, width, patch, merge)
    return reference_unpatchify(patches, height, width, patch)


def unpatchify_channels_first(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    return reference_unpatchify(patches, height, width, patch, merge).transpose(2, 0, 1)


def unpatchify_swapped_sides(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    return reference_unpatchify(patches, width, height, patch, merge)


def unpatchify_three_channels(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    side = patch * merge
    axes = (height // side, width // side, merge, merge, 3, patch, patch)
    return unpatchify_with(patches, (height, width, patch, merge), axes, INVERSE)


def unpatchify_in_float(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    return reference_unpatchify(patches, height, width, patch, merge).astype(float)


def unpatchify_in_lists(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> list[list[list[int]]]:
    return reference_unpatchify(patches, height, width, patch, merge).tolist()


def unpatchify_any_number(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    side = patch * merge
    axes = patches.reshape(height // side, width // side, merge, merge, -1, patch, patch)
    return axes.transpose(INVERSE).reshape(height, width, -1)


def unpatchify_cropped(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    side = patch * merge
    height, width = height // side * side, width // side * side
    return reference_unpatchify(patches, height, width, patch, merge)


def unpatchify_first_patches(
    patches: np.ndarray, height: int, width: int, patch: int, merge: int = 1
) -> np.ndarray:
    needed = height * width // patch**2
    return reference_unpatchify(patches[:needed], height, width, patch, merge)


UNPATCHIFY_MISTAKES = [
    WrongAnswer(
        "channels last on the way back", unpatchify_channels_last,
        "Your function reads the channels of a pixel together. A row lists channel 0 of the whole "
        "patch first.",
    ),
    WrongAnswer(
        "squares column by column on the way back", unpatchify_squares_by_column,
        "Your function fills the picture column by column. Squares come row by row.",
    ),
    WrongAnswer(
        "patches of a square by column on the way back", unpatchify_merged_by_column,
        "Your function fills each square column by column. Its patches come row by row.",
    ),
    WrongAnswer(
        "patches transposed on the way back", unpatchify_transposed_pixels,
        "Each patch is transposed: its rows have become columns.",
    ),
    WrongAnswer(
        "the same order twice", unpatchify_same_order,
        "The way back applies the order of the way out again. It needs the inverse order: "
        "`np.argsort(order)`.",
    ),
    WrongAnswer(
        "reshape alone on the way back", unpatchify_strips,
        "A `reshape` alone writes each patch as a strip of pixels. Reorder the axes between two "
        "reshapes.",
    ),
    WrongAnswer(
        "merge ignored on the way back", unpatchify_without_merge,
        "Your function ignores `merge`: consecutive patches belong to one square.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------


class Picture(NamedTuple):
    """A picture of the check. merge 1 is the default, which the check leaves out."""

    what: str
    pixels: np.ndarray
    patch: int
    merge: int

    @property
    def call(self) -> tuple:
        """Return the arguments of `patchify`."""
        return (self.pixels, self.patch) + ((self.merge,) if self.merge > 1 else ())

    @property
    def call_back(self) -> tuple:
        """Return the arguments of `unpatchify`."""
        patches = reference_patchify(self.pixels, self.patch, self.merge)
        return (patches, *self.pixels.shape[:2], *self.call[1:])


def number_pixels(shape: tuple[int, ...], patch: int, merge: int, dtype: str) -> Picture:
    """Return a picture in which every value occurs once, as far as its dtype allows."""
    height, width, channels = shape
    what = f"{height} x {width} pixels of {channels} channels (patch {patch}, merge {merge})"
    return Picture(what, np.arange(math.prod(shape)).reshape(shape).astype(dtype), patch, merge)


@cache
def _pictures() -> list[Picture]:
    """Return the pictures of the check: the example, then sides and sizes that all differ."""
    example = number_pixels((2, 4, 1), 2, 1, "int64")
    return [
        example._replace(what="the example"),
        number_pixels((6, 10, 4), 2, 1, "int32"),
        number_pixels((15, 6, 1), 3, 1, "int32"),
        number_pixels((24, 30, 7), 3, 2, "int32"),
        number_pixels((48, 30, 5), 2, 3, "float32"),
        number_pixels((28, 70, 3), 7, 2, "uint8"),
    ]


WHOLE_SQUARES = "Both sides must be multiples of patch * merge."
# (what, shape of the pixels, patch, merge)
BAD_SIDES = [
    ("a height of 7 and patches of 2", (7, 10, 4), 2, 1),
    ("a width of 9 and patches of 2", (6, 9, 4), 2, 1),
    ("a height of 6 = 3 patches of 2, merged by 2", (6, 12, 4), 2, 2),
    ("a width of 10 = 5 patches of 2, merged by 2", (8, 10, 4), 2, 2),
]
# (what, shape of the patches, height, width, patch, merge)
BAD_COUNTS = [
    ("60 patches for a picture that has 15", (60, 8), 6, 10, 2, 1),
    ("15 patches for a picture that has 60", (15, 48), 12, 20, 2, 1),
    ("16 patches for a picture that has 15", (16, 12), 6, 10, 2, 1),
]


@exercise(
    "3.1",
    wrong=[
        *pair_answers(PATCHIFY_MISTAKES, second=reference_unpatchify),
        *pair_answers(UNPATCHIFY_MISTAKES, first=reference_patchify),
        *pair_answers(
            [
                WrongAnswer(
                    "channels last, merge ignored", patchify_channels_last_without_merge,
                    "move the channel axis in front",
                ),
                WrongAnswer("patches joined", patchify_joined, "`merge` only changes the order"),
                WrongAnswer("not flat", patchify_not_flat, "Flatten each patch"),
                WrongAnswer("a grid of rows", patchify_grid, "Flatten each patch"),
                WrongAnswer("a row per channel", patchify_a_channel_per_row, "all its channels"),
                WrongAnswer("in float", patchify_in_float, "float64, expected int64"),
                WrongAnswer("numbers in lists", patchify_in_lists, "A list has no dtype"),
                WrongAnswer("uneven lists", patchify_in_uneven_lists, "lengths are not the same"),
                WrongAnswer(
                    "three channels", patchify_three_channels,
                    "Does your code fix the number of channels",
                ),
                WrongAnswer(
                    "square pictures", patchify_square_pictures, "expect a square picture",
                ),
                WrongAnswer("cropped", patchify_cropped, "do not crop"),
                WrongAnswer("padded", patchify_padded, "do not crop or pad"),
                WrongAnswer(
                    "divisible by patch only", patchify_checking_patch_only, "patch * merge",
                ),
                WrongAnswer(
                    "height checked only", patchify_checking_height_only, "a width of 9",
                ),
                WrongAnswer("in place", patchify_in_place, "changed its input"),
                WrongAnswer("no return", lambda *_: None, "Is a `return` missing"),
            ],
            second=reference_unpatchify,
        ),
        *pair_answers(
            [
                WrongAnswer("channels first", unpatchify_channels_first, "channels come last"),
                WrongAnswer(
                    "sides swapped on the way back", unpatchify_swapped_sides,
                    "Height and width are swapped",
                ),
                WrongAnswer(
                    "three channels on the way back", unpatchify_three_channels,
                    "Does your code fix the number of channels",
                ),
                WrongAnswer("in float on the way back", unpatchify_in_float, "float64, expected"),
                WrongAnswer(
                    "numbers in lists on the way back", unpatchify_in_lists, "A list has no dtype"
                ),
                WrongAnswer(
                    "any number of patches", unpatchify_any_number, "surplus values as channels",
                ),
                WrongAnswer("cropped on the way back", unpatchify_cropped, WHOLE_SQUARES),
                WrongAnswer("first patches only", unpatchify_first_patches, "Count the patches"),
            ],
            first=reference_patchify,
        ),
    ],
)  # fmt: skip
def check_patchify(
    patchify: Callable[..., np.ndarray], unpatchify: Callable[..., np.ndarray]
) -> str:
    """Judge `patchify(pixels, patch, merge)` and its inverse on pictures of six shapes."""
    for answer in (patchify, unpatchify):
        expect_no_library(answer)
    for picture in _pictures():
        _expect_patches(patchify, picture)
    for what, shape, patch, merge in BAD_SIDES:
        call = (np.zeros(shape), patch, merge)
        expect_value_error(patchify, call, what, f"{WHOLE_SQUARES} Raise, do not crop or pad.")
    for picture in _pictures():
        _expect_picture(unpatchify, picture)
    for what, shape, *sizes in BAD_COUNTS:
        hint = "Count the patches: with a size of -1, `reshape` takes surplus values as channels."
        expect_value_error(unpatchify, (np.zeros(shape), *sizes), what, hint)
    for what, (height, width, channels), patch, merge in BAD_SIDES:
        squares = (height // (patch * merge)) * (width // (patch * merge))
        for count in (squares * merge**2, (height // patch) * (width // patch)):
            call = (np.zeros((count, channels * patch**2)), height, width, patch, merge)
            expect_value_error(unpatchify, call, what, WHOLE_SQUARES)
    return (
        f"{len(_pictures())} pictures of different shapes come back unchanged, and your patches "
        "have the order of Qwen2.5-VL's processor."
    )


def _expect_patches(patchify: Callable, picture: Picture) -> None:
    """Raise NotYet unless `patchify` returns a picture's patches."""
    what, expected = picture.what, reference_patchify(*picture.call)
    result = expect_result(patchify, picture.call, what, _fixed_size(picture))
    rows = f"what `patchify` returns for {what}"
    answered_list, result = isinstance(result, (list, tuple)), as_array(result, rows)
    expect_shape(result, expected.shape, rows, _explain_shape(result, expected, picture))
    _expect_dtype(result, picture.pixels, rows, answered_list)
    values = np.asarray(result)
    if (values == expected).all():
        return
    calls = [known.call for known in _pictures()]
    why = explain(patchify, calls, _pictures().index(picture), PATCHIFY_MISTAKES, 1e-9)
    row, entry = (int(i) for i in np.argwhere(values != expected)[0])
    places = [_place(picture.pixels, array[row, entry]) for array in (values, expected)]
    raise NotYet(
        f"for {what}, entry {entry} of patch {row} is {places[0]}, expected {places[1]}. {why}"
        .strip()
    )  # fmt: skip


def _expect_picture(unpatchify: Callable, picture: Picture) -> None:
    """Raise NotYet unless `unpatchify` returns the picture of its patches."""
    what = f"the patches of {picture.what}"
    returned = f"what `unpatchify` returns for {what}"
    result = expect_result(unpatchify, picture.call_back, what, _fixed_size(picture))
    answered_list, result = isinstance(result, (list, tuple)), as_array(result, returned)
    shape, height_width = picture.pixels.shape, getattr(result, "shape", ())
    hint = ""
    if tuple(height_width) == (shape[1], shape[0], shape[2]):
        hint = "Height and width are swapped."
    elif tuple(height_width) == (shape[2], *shape[:2]):
        hint = "The channels come last: (height, width, channels)."
    expect_shape(result, shape, returned, hint)
    _expect_dtype(result, picture.pixels, returned, answered_list)
    values = np.asarray(result)
    if (values == picture.pixels).all():
        return
    calls = [known.call_back for known in _pictures()]
    why = explain(unpatchify, calls, _pictures().index(picture), UNPATCHIFY_MISTAKES, 1e-9)
    place = tuple(int(i) for i in np.argwhere(values != picture.pixels)[0])
    actual = _place(picture.pixels, values[place])
    raise NotYet(
        f"in the picture from {what}, row {place[0]}, column {place[1]}, channel "
        f"{place[2]} shows {actual}. {why}".strip()
    )


def _place(pixels: np.ndarray, value: Any) -> str:
    """Return which pixel of the picture has this value."""
    places = np.argwhere(pixels == value)
    if len(places) != 1:
        return f"{value:g}"
    row, column, channel = (int(i) for i in places[0])
    return f"the pixel of row {row}, column {column}, channel {channel}"


def _fixed_size(picture: Picture) -> str:
    """Return the hint for an answer that cannot reshape this picture."""
    height, width, channels = picture.pixels.shape
    return (
        f"Does your code fix the number of channels (here {channels}) or expect a square picture "
        f"(here {height} x {width})?"
    )


def _expect_dtype(result: Any, pixels: np.ndarray, what: str, answered_list: bool) -> None:
    """Raise NotYet unless a result has the dtype of the pixels; a tensor's dtype counts too.

    answered_list: the answer is a list, of which `result` is the array.
    """
    name = str(result.dtype).removeprefix("torch.")
    if name == pixels.dtype.name:
        return
    hint = "A new array, such as `np.zeros`, needs `dtype=`."
    if answered_list:
        hint = "A list has no dtype: return an array, such as `np.array(rows, dtype=pixels.dtype)`."
    raise NotYet(f"{what}: the dtype is {name}, expected {pixels.dtype.name}. {hint}")


def _explain_shape(result: Any, expected: np.ndarray, picture: Picture) -> str:
    """Return what a wrong shape says about the mistake."""
    shape = tuple(getattr(result, "shape", ()))
    count, numbers = expected.shape
    if shape == (count // picture.merge**2, numbers * picture.merge**2):
        return "`merge` only changes the order: each patch still has a row."
    if shape and shape[-1] == picture.patch**2 and len(shape) == 2:
        return "A row holds a patch with all its channels."
    if len(shape) > 2:
        return "Flatten each patch: one row per patch."
    return ""
