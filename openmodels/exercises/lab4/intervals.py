"""Intervals of a mean and of a share at any confidence, for exercise 4.8."""

import math
from collections.abc import Sequence
from statistics import NormalDist, mean, stdev


def quantile(confidence: float) -> float:
    """Return z of a two-sided interval: 1.96 at 0.95. Raises ValueError unless it is in (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return (low, high) of the mean of values from 0 to 1, cut to 0 to 1.

    mean - z * s / sqrt(n) and mean + z * s / sqrt(n), with the standard deviation s of n - 1.
    Raises ValueError for fewer than two values and unless 0 < confidence < 1.
    """
    z = quantile(confidence)
    if len(values) < 2:
        raise ValueError(f"an interval needs two values or more, not {len(values)}")
    half = z * stdev(values) / math.sqrt(len(values))
    return max(0.0, mean(values) - half), min(1.0, mean(values) + half)


def wilson(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return (low, high) of the share correct / n (Wilson 1927, JASA 22:209).

    Raises ValueError unless n >= 1, 0 <= correct <= n and 0 < confidence < 1.
    """
    z = quantile(confidence)
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} of {n} is no share")
    share = correct / n
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / scale, (middle + half) / scale
