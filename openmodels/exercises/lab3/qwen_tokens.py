"""Qwen2.5-VL's half of exercise 3.2: the reference solution and the known mistakes.

Source: transformers, `smart_resize` in models/qwen2_vl. Sides are in pixels or in units.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from openmodels.check import WrongAnswer

MARKERS_OF_QWEN = 2


# --- The reference solution -----------------------------------------------------------------------


def expect_ratio(width: int, height: int) -> None:
    """Raise ValueError if one side is more than 200 times the other."""
    if max(width, height) > 200 * min(width, height):
        raise ValueError(f"{width} x {height}: one side is more than 200 times the other")


def rounded_sides(width: int, height: int, unit: int) -> tuple[int, int]:
    """Return the sides in units, rounded to the nearest."""
    return round(width / unit), round(height / unit)


def shrunk_sides(width: int, height: int, pixels: int, unit: int) -> tuple[int, int]:
    """Return the sides in units, scaled to enclose at most this many pixels."""
    scale = math.sqrt(width * height / pixels)
    return max(1, math.floor(width / scale / unit)), max(1, math.floor(height / scale / unit))


def grown_sides(width: int, height: int, pixels: int, unit: int) -> tuple[int, int]:
    """Return the sides in units, scaled to enclose at least this many pixels."""
    scale = math.sqrt(pixels / (width * height))
    return math.ceil(width * scale / unit), math.ceil(height * scale / unit)


def qwen_units(
    width: int, height: int, min_pixels: int, max_pixels: int, unit: int
) -> tuple[int, int]:
    """Return the sides in units of the picture that Qwen2.5-VL reads."""
    across, down = rounded_sides(width, height, unit)
    if across * down * unit**2 > max_pixels:
        return shrunk_sides(width, height, max_pixels, unit)
    if across * down * unit**2 < min_pixels:
        return grown_sides(width, height, min_pixels, unit)
    return across, down


def reference_qwen(
    width: int, height: int, min_pixels: int, max_pixels: int, patch: int = 14, merge: int = 2
) -> int:
    """Return the tokens of a picture in Qwen2.5-VL."""
    expect_ratio(width, height)
    across, down = qwen_units(width, height, min_pixels, max_pixels, patch * merge)
    return across * down + MARKERS_OF_QWEN


# --- Known mistakes in Qwen's count: all take the arguments of `reference_qwen` ------------------


class QwenCall(NamedTuple):
    """The arguments of a count, with their defaults."""

    width: int
    height: int
    low: int
    high: int
    patch: int = 14
    merge: int = 2

    @property
    def unit(self) -> int:
        """Return the pixels per side of a token."""
        return self.patch * self.merge

    @property
    def sides(self) -> tuple[int, int]:
        """Return width and height. Raises ValueError if the ratio is too large."""
        expect_ratio(self.width, self.height)
        return self.width, self.height

    def scaled(self, across: int, down: int, new_sides: Callable) -> int:
        """Count rounded sides, or those that a rule returns if they break a limit.

        new_sides: from the limit that is broken to the sides in units.
        """
        for limit, broken in (
            (self.high, across * down * self.unit**2 > self.high),
            (self.low, across * down * self.unit**2 < self.low),
        ):
            if broken:
                return math.prod(new_sides(limit)) + MARKERS_OF_QWEN
        return across * down + MARKERS_OF_QWEN


def _without_markers(*call: int) -> int:
    return reference_qwen(*call) - MARKERS_OF_QWEN


def _patches(*call: int) -> int:
    return (reference_qwen(*call) - 2) * QwenCall(*call).merge ** 2 + 2


def _unmerged(*call: int) -> int:
    return reference_qwen(*QwenCall(*call)._replace(merge=1))


def _by_area(*call: int) -> int:
    fields = QwenCall(*call)
    area = math.prod(fields.sides)
    return min(max(area, fields.low), fields.high) // fields.unit**2 + 2


def _fixed_unit(*call: int) -> int:
    return reference_qwen(*call[:4])


def _without_max(*call: int) -> int:
    return reference_qwen(*QwenCall(*call)._replace(high=10**12))


def _without_min(*call: int) -> int:
    return reference_qwen(*QwenCall(*call)._replace(low=0))


def _without_limits(*call: int) -> int:
    return reference_qwen(*QwenCall(*call)._replace(low=0, high=10**12))


def _at_least_one(*call: int) -> int:
    fields = QwenCall(*call)
    across, down = (max(1, side) for side in rounded_sides(*fields.sides, fields.unit))
    if across * down * fields.unit**2 > fields.high:
        across, down = shrunk_sides(*fields.sides, fields.high, fields.unit)
    return across * down + 2


def _rounding(call: tuple, rounded: Callable, shrunk: Callable, grown: Callable) -> int:
    """Count with other roundings in the three cases."""
    fields = QwenCall(*call)

    def new_sides(limit: int) -> list[int]:
        scale = math.sqrt(limit / math.prod(fields.sides))
        if scale < 1 and limit == fields.high:
            return [max(1, shrunk(side * scale / fields.unit)) for side in fields.sides]
        return [grown(side * scale / fields.unit) for side in fields.sides]

    return fields.scaled(*(rounded(side / fields.unit) for side in fields.sides), new_sides)


def round_half_up(value: float) -> int:
    """Return the nearest whole number; a half becomes the next larger one."""
    return math.floor(value + 0.5)


def _rounded_down(*call: int) -> int:
    return _rounding(call, math.floor, math.floor, math.ceil)


def _rounded_up(*call: int) -> int:
    return _rounding(call, math.ceil, math.floor, math.ceil)


def _half_up(*call: int) -> int:
    return _rounding(call, round_half_up, math.floor, math.ceil)


def _shrunk_to_nearest(*call: int) -> int:
    return _rounding(call, round, round, math.ceil)


def _grown_to_nearest(*call: int) -> int:
    return _rounding(call, round, math.floor, round)


def _all_to_nearest(*call: int) -> int:
    return _rounding(call, round, round, round)


def _all_up(*call: int) -> int:
    return _rounding(call, math.ceil, math.ceil, math.ceil)


def _all_down(*call: int) -> int:
    return _rounding(call, math.floor, math.floor, math.floor)


def _up_but_nearest(*call: int) -> int:
    return _rounding(call, round, math.ceil, math.ceil)


def _down_but_nearest(*call: int) -> int:
    return _rounding(call, round, math.floor, math.floor)


def _swapped_roundings(*call: int) -> int:
    return _rounding(call, round, math.ceil, math.floor)


def _with_rounded_scale(call: tuple[int, ...], limits: str) -> int:
    """Count with an s of the rounded sides at some limits: "low", "high" or both."""
    fields = QwenCall(*call)
    sides = rounded_sides(*fields.sides, fields.unit)

    def new_sides(limit: int) -> list[int]:
        high = limit == fields.high
        rounded = ("high" if high else "low") in limits
        area = math.prod(sides) * fields.unit**2 if rounded else math.prod(fields.sides)
        scale = math.sqrt(limit / area) / fields.unit
        if high:
            return [max(1, math.floor(side * scale)) for side in fields.sides]
        return [math.ceil(side * scale) for side in fields.sides]

    return fields.scaled(*sides, new_sides)


def _scale_of_rounded_sides(*call: int) -> int:
    return _with_rounded_scale(call, "low, high")


def _shrinking_scale_of_rounded_sides(*call: int) -> int:
    return _with_rounded_scale(call, "high")


def _growing_scale_of_rounded_sides(*call: int) -> int:
    return _with_rounded_scale(call, "low")


def _scaled_linearly(*call: int) -> int:
    fields = QwenCall(*call)

    def new_sides(limit: int) -> list[int]:
        scale = limit / math.prod(fields.sides)
        if limit == fields.high:
            return [max(1, math.floor(side * scale / fields.unit)) for side in fields.sides]
        return [math.ceil(side * scale / fields.unit) for side in fields.sides]

    return fields.scaled(*rounded_sides(*fields.sides, fields.unit), new_sides)


def _one_unit_first(*call: int) -> int:
    fields = QwenCall(*call)

    def new_sides(limit: int) -> tuple[int, int]:
        scaled = shrunk_sides if limit == fields.high else grown_sides
        return scaled(*fields.sides, limit, fields.unit)

    sides = (max(1, side) for side in rounded_sides(*fields.sides, fields.unit))
    return fields.scaled(*sides, new_sides)


def _comparing_units(*call: int) -> int:
    fields = QwenCall(*call)
    sides = rounded_sides(*fields.sides, fields.unit)
    if math.prod(sides) > fields.high:
        sides = shrunk_sides(*fields.sides, fields.high, fields.unit)
    elif math.prod(sides) < fields.low:
        sides = grown_sides(*fields.sides, fields.low, fields.unit)
    return math.prod(sides) + 2


def _shrinking_rounded_sides(*call: int) -> int:
    fields = QwenCall(*call)
    sides = rounded_sides(*fields.sides, fields.unit)

    def new_sides(limit: int) -> list[int]:
        if limit == fields.low:
            return list(grown_sides(*fields.sides, limit, fields.unit))
        scale = math.sqrt(math.prod(fields.sides) / limit)
        return [max(1, math.floor(side / scale)) for side in sides]

    return fields.scaled(*sides, new_sides)


def _scaling_rounded_sides(*call: int) -> int:
    fields = QwenCall(*call)
    across, down = (max(1, side) for side in rounded_sides(*fields.sides, fields.unit))
    return reference_qwen(across * fields.unit, down * fields.unit, *call[2:])


def _limiting_original(*call: int) -> int:
    fields = QwenCall(*call)
    sides = rounded_sides(*fields.sides, fields.unit)
    if math.prod(fields.sides) > fields.high:
        sides = shrunk_sides(*fields.sides, fields.high, fields.unit)
    elif math.prod(fields.sides) < fields.low:
        sides = grown_sides(*fields.sides, fields.low, fields.unit)
    return math.prod(sides) + 2


def _without_floor_of_one(*call: int) -> int:
    fields = QwenCall(*call)

    def new_sides(limit: int) -> list[int]:
        if limit == fields.low:
            return list(grown_sides(*fields.sides, limit, fields.unit))
        scale = math.sqrt(math.prod(fields.sides) / limit) * fields.unit
        return [math.floor(side / scale) for side in fields.sides]

    return fields.scaled(*rounded_sides(*fields.sides, fields.unit), new_sides)


def _clamped(*call: int) -> int:
    fields = QwenCall(*call)
    count = math.prod(rounded_sides(*fields.sides, fields.unit))
    return min(max(count, fields.low // fields.unit**2), fields.high // fields.unit**2) + 2


def _any_ratio(*call: int) -> int:
    width, height, low, high, patch, merge = QwenCall(*call)
    return math.prod(qwen_units(width, height, low, high, patch * merge)) + 2


def _ratio_of_width(*call: int) -> int:
    if call[0] > 200 * call[1]:
        raise ValueError("too wide")
    return _any_ratio(*call)


def _ratio_of_200(*call: int) -> int:
    if max(call[:2]) >= 200 * min(call[:2]):
        raise ValueError("too long")
    return reference_qwen(*call)


QWEN_MISTAKES = [
    WrongAnswer(
        "no markers", _without_markers,
        "The two markers, start and end of the picture, are missing.",
    ),
    WrongAnswer(
        "patches", _patches,
        "You count patches: merge x merge of them become one token.",
    ),
    WrongAnswer(
        "unit without merge", _unmerged,
        "The unit is patch * merge pixels; yours has the side of one patch.",
    ),
    WrongAnswer(
        "by area", _by_area,
        "Dividing the area is only an estimate: each side is rounded to whole units.",
    ),
    WrongAnswer(
        "fixed unit", _fixed_unit,
        "The unit is patch * merge; your code always uses 28 pixels.",
    ),
    WrongAnswer(
        "no limits", _without_limits,
        "Your count ignores both limits, `min_pixels` and `max_pixels`.",
    ),
    WrongAnswer("no upper limit", _without_max, "Your count ignores `max_pixels`."),
    WrongAnswer("no lower limit", _without_min, "Your count ignores `min_pixels`."),
    WrongAnswer(
        "at least one unit instead of the lower limit", _at_least_one,
        "Your count ignores `min_pixels`: a small picture is enlarged to that many pixels.",
    ),
    WrongAnswer(
        "rounded down", _rounded_down,
        "Within the limits, each side is rounded to the nearest multiple, not down.",
    ),
    WrongAnswer(
        "rounded up", _rounded_up,
        "Within the limits, each side is rounded to the nearest multiple, not up.",
    ),
    WrongAnswer(
        "half rounded up", _half_up,
        "A side halfway between two multiples is rounded as by Python's `round`: to the even one.",
    ),
    WrongAnswer(
        "shrunk to the nearest", _shrunk_to_nearest,
        "Above `max_pixels`, sides are rounded down, so that the limit holds.",
    ),
    WrongAnswer(
        "grown to the nearest", _grown_to_nearest,
        "Below `min_pixels`, sides are rounded up, so that the limit holds.",
    ),
    WrongAnswer(
        "always to the nearest", _all_to_nearest,
        "Outside the limits, sides are not rounded to the nearest: down above `max_pixels`, up "
        "below `min_pixels`.",
    ),
    WrongAnswer(
        "always up", _all_up,
        "You round up everywhere: up only below `min_pixels`, to the nearest within the limits, "
        "and down above `max_pixels`.",
    ),
    WrongAnswer(
        "always down", _all_down,
        "You round down everywhere: down only above `max_pixels`, to the nearest within the "
        "limits, and up below `min_pixels`.",
    ),
    WrongAnswer(
        "up outside the limits", _up_but_nearest,
        "You round up outside the limits. Above `max_pixels`, sides are rounded down, so that the "
        "limit holds.",
    ),
    WrongAnswer(
        "down outside the limits", _down_but_nearest,
        "You round down outside the limits. Below `min_pixels`, sides are rounded up, so that the "
        "limit holds.",
    ),
    WrongAnswer(
        "up and down swapped", _swapped_roundings,
        "You round the wrong way outside the limits: down above `max_pixels`, and up below "
        "`min_pixels`.",
    ),
    WrongAnswer(
        "s of the rounded sides", _scale_of_rounded_sides,
        "Your s uses the rounded sides. s uses the original width and height.",
    ),
    WrongAnswer(
        "s of the rounded sides above the limit", _shrinking_scale_of_rounded_sides,
        "Your s uses the rounded sides. s uses the original width and height.",
    ),
    WrongAnswer(
        "s of the rounded sides below the limit", _growing_scale_of_rounded_sides,
        "Your s uses the rounded sides. s uses the original width and height.",
    ),
    WrongAnswer(
        "no square root", _scaled_linearly,
        "s scales both sides, so the area changes by s * s: take the square root.",
    ),
    WrongAnswer(
        "rounded sides scaled", _scaling_rounded_sides,
        "Outside the limits, scale the original sides, not the rounded ones.",
    ),
    WrongAnswer(
        "rounded sides shrunk", _shrinking_rounded_sides,
        "Above `max_pixels`, shrink the original sides, not the rounded ones.",
    ),
    WrongAnswer(
        "units compared with pixels", _comparing_units,
        "The limits are in pixels, and you compare numbers of units: multiply by unit**2 first.",
    ),
    WrongAnswer(
        "one unit first", _one_unit_first,
        "You raise a side to one unit before you compare with the limits. It may be 0 there: the "
        "picture then has fewer than `min_pixels`, and both sides grow.",
    ),
    WrongAnswer(
        "limits of the original picture", _limiting_original,
        "Compare the area of the rounded sides with the limits, not width * height.",
    ),
    WrongAnswer(
        "sides of no unit", _without_floor_of_one,
        "Above `max_pixels`, a side has at least one unit: rounding down may return 0.",
    ),
    WrongAnswer(
        "count clamped", _clamped,
        "The limits change the sides, not the count: both sides are scaled, then rounded.",
    ),
]  # fmt: skip
RATIO_MISTAKES = [
    WrongAnswer("any ratio", _any_ratio, "more than 200 times the other"),
    WrongAnswer("ratio of the width", _ratio_of_width, "10 x 2010"),
    WrongAnswer("ratio below 200", _ratio_of_200, "exactly 200 is valid"),
]
