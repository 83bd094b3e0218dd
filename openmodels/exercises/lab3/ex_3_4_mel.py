"""Exercise 3.4: build the mel filterbank of Whisper and Qwen2-Audio.

Source: transformers, `mel_filter_bank` in audio_utils with norm and mel_scale "slaney", transposed.
Shapes: filters (n_mels, n_fft // 2 + 1), edges (n_mels + 2,). Frequencies in Hz.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from transformers.audio_utils import mel_filter_bank

from openmodels.check import NotYet, WrongAnswer, exercise, expect_shape
from openmodels.exercises.lab3.expectations import (
    as_array,
    expect_no_library,
    expect_result,
    expect_value_error,
    explain,
)

STEP = 27 / math.log(6.4)  # mel per factor e above 1000 Hz
TOLERANCE = 1e-6

Scale = Callable[[np.ndarray], np.ndarray]


# --- The reference solution -----------------------------------------------------------------------


def to_mel(hertz: np.ndarray) -> np.ndarray:
    """Return frequencies on Slaney's scale."""
    hertz = np.asarray(hertz, dtype=float)
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + STEP * np.log(np.maximum(hertz, 1) / 1000))


def to_hertz(mel: np.ndarray) -> np.ndarray:
    """Return frequencies for values on Slaney's scale."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) / STEP))


def expect_range(low: float, high: float, rate: int) -> None:
    """Raise ValueError unless the range lies between 0 and half the rate."""
    if not 0 <= low < high <= rate / 2:
        raise ValueError(f"{low} to {high} Hz is no range from 0 to {rate / 2} Hz")


def spaced_edges(
    n_mels: int, low: float, high: float, to: Scale = to_mel, back: Scale = to_hertz
) -> np.ndarray:
    """Return n_mels + 2 edges, evenly spaced on a scale."""
    return back(np.linspace(to(np.array(low)), to(np.array(high)), n_mels + 2))


def bin_frequencies(n_fft: int, rate: int) -> np.ndarray:
    """Return the frequencies of the bins of a Fourier transform."""
    return np.arange(n_fft // 2 + 1) * rate / n_fft


def triangles(edges: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return triangles of height 1 between the edges: (n_mels, bins)."""
    lower, middle, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    lines = np.minimum((bins - lower) / (middle - lower), (upper - bins) / (upper - middle))
    return np.maximum(lines, 0)


def widths(edges: np.ndarray) -> np.ndarray:
    """Return the width of each triangle: (n_mels, 1)."""
    return (edges[2:] - edges[:-2])[:, None]


def reference_filterbank(
    n_mels: int, n_fft: int, rate: int, low: float = 0.0, high: float | None = None
) -> np.ndarray:
    """Return triangular filters of equal area."""
    high = rate / 2 if high is None else high
    expect_range(low, high, rate)
    edges = spaced_edges(n_mels, low, high)
    return triangles(edges, bin_frequencies(n_fft, rate)) * 2 / widths(edges)


# --- Known mistakes -------------------------------------------------------------------------------


class Call(NamedTuple):
    """The arguments of `mel_filterbank`, with their defaults."""

    n_mels: int
    n_fft: int
    rate: int
    low: float = 0.0
    high: float | None = None

    @property
    def range(self) -> tuple[float, float]:
        """Return low and high. Raises ValueError for a bad range."""
        high = self.rate / 2 if self.high is None else self.high
        expect_range(self.low, high, self.rate)
        return self.low, high

    @property
    def edges(self) -> np.ndarray:
        """Return the right edges."""
        return spaced_edges(self.n_mels, *self.range)

    @property
    def bins(self) -> np.ndarray:
        """Return the frequencies of the bins."""
        return bin_frequencies(self.n_fft, self.rate)

    def on_scale(self, to: Scale, back: Scale) -> np.ndarray:
        """Return filters whose edges are evenly spaced on another scale."""
        edges = spaced_edges(self.n_mels, *self.range, to, back)
        return triangles(edges, self.bins) * 2 / widths(edges)


def filters_of_the_library(*call: Any) -> np.ndarray:
    n_mels, n_fft, rate, *_ = call
    return mel_filter_bank(
        n_fft // 2 + 1, n_mels, *Call(*call).range, rate, norm="slaney", mel_scale="slaney"
    ).T


def filters_of_htk(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(
        lambda hertz: 2595 * np.log10(1 + hertz / 700),
        lambda mel: 700 * (10 ** (mel / 2595) - 1),
    )


def filters_even_in_hertz(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(lambda hertz: hertz, lambda mel: mel)


def filters_all_linear(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(to_mel, lambda mel: mel * 200 / 3)


def filters_of_log10(*call: Any) -> np.ndarray:
    step = 27 / math.log10(6.4)

    def scale(hertz: np.ndarray) -> np.ndarray:
        above = 15 + step * np.log(np.maximum(hertz, 1) / 1000)
        return np.where(hertz < 1000, hertz * 3 / 200, above)

    def back(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * 10 ** ((mel - 15) / step))

    return Call(*call).on_scale(scale, back)


def filters_without_ln_back(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(
        to_mel, lambda mel: np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) / 27))
    )


def to_mel_by(factor: float, start: float = 15) -> Scale:
    """Return a scale whose logarithm above 1000 Hz has another factor or starts elsewhere."""

    def scale(hertz: np.ndarray) -> np.ndarray:
        above = start + factor * np.log(np.maximum(hertz, 1) / 1000)
        return np.where(hertz < 1000, hertz * 3 / 200, above)

    return scale


def to_hertz_by(factor: float, start: float = 15) -> Scale:
    """Return the way back of `to_mel_by`; the rule changes at mel 15."""
    return lambda mel: np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - start) / factor))


def filters_without_ln(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(to_mel_by(27), to_hertz_by(27))


def filters_without_ln_out(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(to_mel_by(27), to_hertz)


def filters_times_ln(*call: Any) -> np.ndarray:
    factor = 27 * math.log(6.4)
    return Call(*call).on_scale(to_mel_by(factor), to_hertz_by(factor))


def filters_times_ln_out(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(to_mel_by(27 * math.log(6.4)), to_hertz)


def filters_times_ln_back(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(to_mel, to_hertz_by(27 * math.log(6.4)))


def filters_without_15(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(to_mel_by(STEP, 0), to_hertz_by(STEP, 0))


def filters_without_15_out(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(to_mel_by(STEP, 0), to_hertz)


def filters_without_15_back(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(to_mel, to_hertz_by(STEP, 0))


def filters_not_inverted(*call: Any) -> np.ndarray:
    return Call(*call).on_scale(
        to_mel, lambda mel: np.where(mel < 15, mel * 3 / 200, to_hertz(mel))
    )


def filters_not_normalised(*call: Any) -> np.ndarray:
    return triangles(Call(*call).edges, Call(*call).bins)


def filters_of_half_area(*call: Any) -> np.ndarray:
    return reference_filterbank(*call) / 2


def filters_times_width(*call: Any) -> np.ndarray:
    edges = Call(*call).edges
    return triangles(edges, Call(*call).bins) * widths(edges) / 2


def filters_by_mel_width(*call: Any) -> np.ndarray:
    edges = Call(*call).edges
    return triangles(edges, Call(*call).bins) * 2 / widths(to_mel(edges))


def filters_by_sum(*call: Any) -> np.ndarray:
    filters = filters_not_normalised(*call)
    return filters / np.maximum(filters.sum(axis=1, keepdims=True), 1e-12)


def filters_by_next_width(*call: Any) -> np.ndarray:
    edges = Call(*call).edges
    return triangles(edges, Call(*call).bins) * 2 / (edges[1:-1] - edges[:-2])[:, None]


def filters_in_mel_space(*call: Any) -> np.ndarray:
    edges = Call(*call).edges
    return triangles(to_mel(edges), to_mel(Call(*call).bins)) * 2 / widths(edges)


def filters_on_bins(*call: Any) -> np.ndarray:
    n_fft = call[1]
    return filters_on(lambda places: np.floor(places * (n_fft + 1) / n_fft), *call)


def filters_on_lower_bins(*call: Any) -> np.ndarray:
    return filters_on(np.floor, *call)


def filters_on_nearest_bins(*call: Any) -> np.ndarray:
    return filters_on(np.round, *call)


def filters_on_upper_bins(*call: Any) -> np.ndarray:
    return filters_on(np.ceil, *call)


def filters_of_moved_edges(rounding: Callable, *call: Any) -> np.ndarray:
    """Return filters whose edges and widths are those of bins."""
    _, n_fft, rate, *_ = Call(*call)
    edges = rounding(Call(*call).edges * n_fft / rate) * rate / n_fft
    with np.errstate(divide="ignore", invalid="ignore"):
        return triangles(edges, Call(*call).bins) * 2 / widths(edges)


def filters_at_whole_hertz(*call: Any) -> np.ndarray:
    edges = np.round(Call(*call).edges)
    with np.errstate(divide="ignore", invalid="ignore"):
        return triangles(edges, Call(*call).bins) * 2 / widths(edges)


def filters_at_lower_hertz(*call: Any) -> np.ndarray:
    edges = np.floor(Call(*call).edges + 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        return triangles(edges, Call(*call).bins) * 2 / widths(edges)


def filters_on(rounding: Callable, *call: Any) -> np.ndarray:
    """Return filters whose edges are moved to bins."""
    _, n_fft, rate, *_ = Call(*call)
    edges, bins = Call(*call).edges, np.arange(n_fft // 2 + 1)
    snapped = rounding(edges * n_fft / rate)
    lower, middle, upper = snapped[:-2, None], snapped[1:-1, None], snapped[2:, None]
    rising, falling = (lower <= bins) & (bins < middle), (middle <= bins) & (bins < upper)
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = np.where(rising, (bins - lower) / (middle - lower), 0)
        fall = np.where(falling, (upper - bins) / (upper - middle), 0)
    return (rise + fall) * 2 / widths(edges)


def filters_without_peak(*call: Any) -> np.ndarray:
    edges = Call(*call).edges
    peaks = np.isclose(Call(*call).bins, edges[1:-1, None], rtol=1e-12)
    return np.where(peaks, 0, reference_filterbank(*call))


def filters_of_larger_line(*call: Any) -> np.ndarray:
    edges, bins = Call(*call).edges, Call(*call).bins
    lower, middle, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    lines = np.maximum((bins - lower) / (middle - lower), (upper - bins) / (upper - middle))
    return np.maximum(lines, 0) * 2 / widths(edges)


def filters_unclipped(*call: Any) -> np.ndarray:
    edges, bins = Call(*call).edges, Call(*call).bins
    lower, middle, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    lines = np.minimum((bins - lower) / (middle - lower), (upper - bins) / (upper - middle))
    return lines * 2 / widths(edges)


def filters_from_0(*call: Any) -> np.ndarray:
    return reference_filterbank(*Call(*call)._replace(low=0.0))


def filters_to_half_the_rate(*call: Any) -> np.ndarray:
    return reference_filterbank(*Call(*call)._replace(high=None))


def filters_of_whole_range(*call: Any) -> np.ndarray:
    return reference_filterbank(*call[:3])


def filters_at_16_khz(*call: Any) -> np.ndarray:
    edges = Call(*call).edges
    return triangles(edges, bin_frequencies(call[1], 16_000)) * 2 / widths(edges)


def filters_to_8000_hertz(*call: Any) -> np.ndarray:
    fields = Call(*call)
    edges = spaced_edges(fields.n_mels, fields.range[0], fields.high or 8000.0)
    return triangles(edges, fields.bins) * 2 / widths(edges)


def filters_at_open_bins(*call: Any) -> np.ndarray:
    fields = Call(*call)
    bins = np.linspace(0, fields.rate / 2, fields.n_fft // 2 + 1, endpoint=False)
    return triangles(fields.edges, bins) * 2 / widths(fields.edges)


def filters_to_the_rate(*call: Any) -> np.ndarray:
    fields = Call(*call)
    bins = np.linspace(0, fields.rate, fields.n_fft // 2 + 1)
    return triangles(fields.edges, bins) * 2 / widths(fields.edges)


def filters_at_bin_numbers(*call: Any) -> np.ndarray:
    fields = Call(*call)
    bins = np.arange(fields.n_fft // 2 + 1)
    return triangles(fields.edges, bins) * 2 / widths(fields.edges)


def filters_of_n_edges(*call: Any) -> np.ndarray:
    return reference_filterbank(call[0] - 2, *call[1:])


def filters_with_more_edges(*call: Any) -> np.ndarray:
    return reference_filterbank(call[0] + 1, *call[1:])[: call[0]]


def filters_transposed(*call: Any) -> np.ndarray:
    return reference_filterbank(*call).T


def filters_without_last_bin(*call: Any) -> np.ndarray:
    return reference_filterbank(*call)[:, :-1]


def filters_of_all_bins(*call: Any) -> np.ndarray:
    filters = reference_filterbank(*call)
    return np.concatenate([filters, filters[:, -2:0:-1]], axis=1)


def filters_of_any_range(*call: Any) -> np.ndarray:
    fields = Call(*call)
    high = fields.rate / 2 if fields.high is None else fields.high
    edges = spaced_edges(fields.n_mels, fields.low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        return triangles(edges, fields.bins) * 2 / widths(edges)


def filters_checking_order(*call: Any) -> np.ndarray:
    fields = Call(*call)
    if fields.high is not None and fields.low >= fields.high:
        raise ValueError("low is not below high")
    return filters_of_any_range(*call)


def filters_of_falsy_high(*call: Any) -> np.ndarray:
    fields = Call(*call)
    return reference_filterbank(*fields._replace(high=fields.high or fields.rate / 2))


def filters_without_half_the_rate(*call: Any) -> np.ndarray:
    if (Call(*call).high or 0) >= call[2] / 2:
        raise ValueError("high is too large")
    return reference_filterbank(*call)


def filters_above_0_hertz(*call: Any) -> np.ndarray:
    fields = Call(*call)
    if fields.low <= 0 and fields.high is not None:
        raise ValueError("low is too small")
    return reference_filterbank(*call)


MISTAKES = [
    WrongAnswer(
        "HTK's scale", filters_of_htk,
        "Your edges are spaced on HTK's mel scale, 2595 log10(1 + f / 700). Slaney's scale is "
        "linear below 1000 Hz.",
    ),
    WrongAnswer(
        "even in Hz", filters_even_in_hertz,
        "Your edges are evenly spaced in Hz. Space them in mel, then convert them to Hz.",
    ),
    WrongAnswer(
        "linear above 1000 Hz", filters_all_linear,
        "Your conversion to Hz is linear everywhere. Its rule changes at mel 15, which is 1000 Hz: "
        "from there on it is 1000 * exp((mel - 15) * ln(6.4) / 27).",
    ),
    WrongAnswer(
        "ln(6.4) missing on the way back", filters_without_ln_back,
        "Your conversion to Hz lacks the factor ln(6.4): it is 1000 * exp((mel - 15) * ln(6.4) / "
        "27).",
    ),
    WrongAnswer(
        "ln(6.4) missing", filters_without_ln,
        "Your mel scale lacks ln(6.4) above 1000 Hz: mel is 15 + 27 * ln(f / 1000) / ln(6.4), and "
        "so the way back is 1000 * exp((mel - 15) * ln(6.4) / 27).",
    ),
    WrongAnswer(
        "ln(6.4) missing on the way to mel", filters_without_ln_out,
        "Your conversion to mel lacks the division by ln(6.4): it is 15 + 27 * ln(f / 1000) / "
        "ln(6.4).",
    ),
    WrongAnswer(
        "multiplied by ln(6.4)", filters_times_ln,
        "Your mel scale multiplies by ln(6.4): mel is 15 + 27 * ln(f / 1000) / ln(6.4), and so the "
        "way back is 1000 * exp((mel - 15) * ln(6.4) / 27).",
    ),
    WrongAnswer(
        "multiplied by ln(6.4) on the way to mel", filters_times_ln_out,
        "Your conversion to mel multiplies by ln(6.4). It divides: 15 + 27 * ln(f / 1000) / "
        "ln(6.4).",
    ),
    WrongAnswer(
        "divided by ln(6.4) on the way back", filters_times_ln_back,
        "Your conversion to Hz divides by ln(6.4). It multiplies: 1000 * exp((mel - 15) * ln(6.4) "
        "/ 27).",
    ),
    WrongAnswer(
        "15 missing", filters_without_15,
        "Your mel scale lacks the 15 above 1000 Hz: mel is 15 + 27 * ln(f / 1000) / ln(6.4).",
    ),
    WrongAnswer(
        "15 missing on the way to mel", filters_without_15_out,
        "Your conversion to mel lacks the 15: it is 15 + 27 * ln(f / 1000) / ln(6.4).",
    ),
    WrongAnswer(
        "15 missing on the way back", filters_without_15_back,
        "Your conversion to Hz does not subtract the 15: it is 1000 * exp((mel - 15) * ln(6.4) / "
        "27).",
    ),
    WrongAnswer(
        "not inverted", filters_not_inverted,
        "Your conversion to Hz repeats the rule for mel. Below mel 15 it is 200 * mel / 3.",
    ),
    WrongAnswer(
        "log10", filters_of_log10,
        "ln is the natural logarithm, `math.log` or `np.log`; log10 does not fit to exp.",
    ),
    WrongAnswer(
        "not normalised", filters_not_normalised,
        "Your triangles all have the height 1. Multiply each by 2 / (its last edge - its first).",
    ),
    WrongAnswer(
        "half the area", filters_of_half_area,
        "Your filters have half the height: the factor is 2 / width, because a triangle fills half "
        "its rectangle.",
    ),
    WrongAnswer(
        "multiplied by the width", filters_times_width,
        "Your filters are multiplied by their width. Divide by it: a wide band has a low triangle.",
    ),
    WrongAnswer(
        "width in mel", filters_by_mel_width,
        "You divide by the width in mel, which is the same for all. The width in Hz counts.",
    ),
    WrongAnswer(
        "width to the middle", filters_by_next_width,
        "The width goes from the first edge of a triangle to its last, two edges further.",
    ),
    WrongAnswer(
        "sum of 1", filters_by_sum,
        "You divide each filter by its sum. The height comes from the edges alone: 2 / width in "
        "Hz.",
    ),
    WrongAnswer(
        "triangles in mel", filters_in_mel_space,
        "Your triangles have straight lines in mel. Convert the edges to Hz first: the lines are "
        "straight in Hz.",
    ),
    WrongAnswer(
        "edges on bins", filters_on_bins,
        "You move the edges to bins. They stay where they are, also between two bins.",
    ),
    WrongAnswer(
        "edges on lower bins", filters_on_lower_bins,
        "You move the edges to bins. They stay where they are, also between two bins.",
    ),
    WrongAnswer(
        "edges on nearest bins", filters_on_nearest_bins,
        "You move the edges to bins. They stay where they are, also between two bins.",
    ),
    *(
        WrongAnswer(
            name, answer,
            "You move the edges to bins. They stay where they are, also between two bins.",
        )
        for name, answer in {
            "edges on upper bins": filters_on_upper_bins,
            "edges and widths of the nearest bins": partial(filters_of_moved_edges, np.round),
            "edges and widths of lower bins": partial(filters_of_moved_edges, np.floor),
            "edges and widths of upper bins": partial(filters_of_moved_edges, np.ceil),
        }.items()
    ),
    WrongAnswer(
        "edges of whole Hz", filters_at_whole_hertz,
        "You round the edges to whole Hz. They stay where they are, also between two whole "
        "numbers.",
    ),
    WrongAnswer(
        "edges rounded down to Hz", filters_at_lower_hertz,
        "You round the edges to whole Hz. They stay where they are, also between two whole "
        "numbers.",
    ),
    WrongAnswer(
        "no peak", filters_without_peak,
        "The peak is missing: a bin at edge i + 1 has the full height of filter i.",
    ),
    WrongAnswer(
        "the larger line", filters_of_larger_line,
        "A triangle is the smaller of its two lines, not the larger.",
    ),
    WrongAnswer(
        "negative values", filters_unclipped,
        "Your filters are negative outside their edges: there they are 0.",
    ),
    WrongAnswer(
        "range ignored", filters_of_whole_range, "Your function ignores `low` and `high`.",
    ),
    WrongAnswer("low ignored", filters_from_0, "Your function ignores `low`."),
    WrongAnswer("high ignored", filters_to_half_the_rate, "Your function ignores `high`."),
    WrongAnswer(
        "rate of 16 kHz", filters_at_16_khz,
        "Your bins always belong to a rate of 16,000 Hz. Bin k is at k * rate / n_fft Hz.",
    ),
    WrongAnswer(
        "up to 8000 Hz", filters_to_8000_hertz,
        "A `high` of None is rate / 2, not always 8000 Hz.",
    ),
    WrongAnswer(
        "bins without the last", filters_at_open_bins,
        "The bins are too close: the last bin is at rate / 2, included.",
    ),
    WrongAnswer(
        "bins up to the rate", filters_to_the_rate,
        "The bins are twice too far apart: the last bin is at rate / 2.",
    ),
    WrongAnswer(
        "bins as numbers", filters_at_bin_numbers,
        "You use bin numbers as frequencies. Bin k is at k * rate / n_fft Hz.",
    ),
    WrongAnswer(
        "more edges", filters_with_more_edges,
        "You have one edge too many: n_mels + 2 edges, both ends included.",
    ),
]  # fmt: skip


# --- The checker ----------------------------------------------------------------------------------

EXAMPLE = (3, 16, 1600)
CASES = {  # what: (arguments, what to look at)
    "the example": (EXAMPLE, "All its edges are below 1000 Hz: 0, 200, 400, 600 and 800."),
    "5 bands up to 9700 Hz": (
        (5, 64, 20_000, 0.0, 9700.0), "Most edges are above 1000 Hz.",
    ),
    "Whisper's 80 bands": ((80, 400, 16_000), "Some edges are above 1000 Hz."),
    "Qwen2-Audio's 128 bands": ((128, 400, 16_000), "The lowest bands are narrower than a bin."),
    "7 bands from 130 to 2700 Hz": ((7, 256, 6000, 130.0, 2700.0), "`low` and `high` count."),
    "20 bands from 1200 to 9000 Hz": (
        (20, 512, 22_050, 1200.0, 9000.0), "All edges are above 1000 Hz.",
    ),
    "6 bands from 1000 to 4000 Hz": ((6, 128, 9000, 1000.0, 4000.0), "1000 Hz is mel 15."),
    "3 bands at a rate of 401 Hz": ((3, 20, 401), "rate / 2 is 200.5 Hz."),
    "3 bands from 10 to 200.5 Hz": ((3, 22, 401, 10.0, 200.5), "`high` is rate / 2."),
    "4 bands from 0 to 4000 Hz": ((4, 100, 8000, 0, 4000), "`low` is 0 and `high` is rate / 2."),
}  # fmt: skip
VALID = "0 Hz and rate / 2 are valid limits, and a band may be narrower than a bin."
RANGE = "Raise ValueError unless 0 <= low < high <= rate / 2."
ZERO = f"{RANGE} A `high` of 0 is not None: compare with `is None`, since `or` also replaces 0."
BAD_RANGES = {
    "from -100 Hz": (5, 64, 8000, -100.0, 3000.0),
    "from -0.5 Hz": (5, 64, 8000, -0.5, 3000.0),
    "from 3000 to 3000 Hz": (5, 64, 8000, 3000.0, 3000.0),
    "from 3000 to 500 Hz": (5, 64, 8000, 3000.0, 500.0),
    "to 5000 Hz at a rate of 8000": (5, 64, 8000, 100.0, 5000.0),
    "to 4000.5 Hz at a rate of 8000": (5, 64, 8000, 100.0, 4000.5),
    "from 4000 Hz at a rate of 8000": (5, 64, 8000, 4000.0),
    "from 0 to 0 Hz": (5, 64, 8000, 0.0, 0.0),
    "from 0 to 0 Hz, both integers": (5, 64, 8000, 0, 0),
    "from 0 to -100 Hz": (5, 64, 8000, 0.0, -100.0),
}


@exercise(
    "3.4",
    wrong=[
        *MISTAKES,
        WrongAnswer("n_mels edges", filters_of_n_edges, "n_mels + 2 edges"),
        WrongAnswer("transposed", filters_transposed, "transposed"),
        WrongAnswer("n_fft // 2 bins", filters_without_last_bin, "n_fft // 2 + 1 bins"),
        WrongAnswer("all n_fft bins", filters_of_all_bins, "n_fft // 2 + 1 bins"),
        WrongAnswer("any range", filters_of_any_range, "0 <= low < high <= rate / 2"),
        WrongAnswer("order checked only", filters_checking_order, "0 <= low < high <= rate / 2"),
        WrongAnswer(
            "half the rate excluded", filters_without_half_the_rate, "valid limit",
        ),
        WrongAnswer("0 Hz excluded", filters_above_0_hertz, "valid limit"),
        WrongAnswer("high or rate / 2", filters_of_falsy_high, "`or` also replaces 0"),
        WrongAnswer("the library's", filters_of_the_library, "Write the rule yourself"),
        WrongAnswer("the library's itself", mel_filter_bank, "Write the rule yourself"),
        WrongAnswer("no return", lambda *_: None, "Is a `return` missing"),
    ],
)  # fmt: skip
def check_filterbank(mel_filterbank: Callable[..., np.ndarray]) -> str:
    """Judge `mel_filterbank(n_mels, n_fft, rate, low, high)` on ten sets of arguments."""
    expect_no_library(mel_filterbank)
    largest = 0.0
    for what, (call, hint) in CASES.items():
        largest = max(largest, _expect_filters(mel_filterbank, what, call, hint))
    for what, call in BAD_RANGES.items():
        hint = ZERO if call[4:] and call[4] == 0 else RANGE
        expect_value_error(mel_filterbank, call, f"bands {what}", hint)
    return (
        f"your filters agree with the library's for {len(CASES)} sets of arguments; the largest "
        f"difference is below {10.0 ** math.ceil(math.log10(max(largest, 1e-15))):.0e}."
    )


def _expect_filters(mel_filterbank: Callable, what: str, call: tuple, hint: str) -> float:
    """Raise NotYet unless the filters are the library's; return the largest difference."""
    expected = reference_filterbank(*call)
    result = expect_result(mel_filterbank, call, what, VALID)
    values = as_array(result, f"your filterbank for {what}")
    expect_shape(
        values, expected.shape, f"your filterbank for {what}", _explain_shape(values, call)
    )
    values = np.asarray(values, dtype=float)
    wrong = np.argwhere(~np.isclose(values, expected, rtol=0, atol=TOLERANCE))
    if not len(wrong):
        return float(np.abs(values - expected).max())
    band, bin_number = (int(i) for i in wrong[0])
    calls = [known for known, _ in CASES.values()]
    why = explain(mel_filterbank, calls, list(CASES).index(what), MISTAKES)
    if not why and what != "the example":
        why = f"{hint} Compare your edges with these first."
    raise NotYet(
        f"for {what}, filter {band} is {values[band, bin_number]:.6f} at "
        f"{bin_number * call[2] / call[1]:g} Hz, expected {expected[band, bin_number]:.6f}; its "
        f"edges are {_edges(call, band)} Hz. {why or hint}"
    )


def _edges(call: tuple, band: int) -> str:
    """Return the three edges of a filter as text."""
    return ", ".join(f"{edge:.1f}" for edge in Call(*call).edges[band : band + 3])


def _explain_shape(values: Any, call: tuple) -> str:
    """Return what a wrong shape says about the mistake."""
    shape, n_mels, bins = tuple(getattr(values, "shape", ())), call[0], call[1] // 2 + 1
    if shape == (bins, n_mels):
        return "It is transposed: one row per band."
    if len(shape) == 2 and shape[0] != n_mels:
        return "n_mels filters need n_mels + 2 edges: each filter spans three."
    return "A transform of n_fft samples has n_fft // 2 + 1 bins, from 0 to rate / 2."
