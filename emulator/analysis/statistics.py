"""Several seeds as one figure: mean, standard deviation, and the interval that the mean is in. Pure arithmetic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec
from scipy.stats import t as student

CONFIDENCE = 0.95


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the values of several seeds say, in their unit; deviation and interval are None for a single value."""

    n: int  # seeds that have the figure
    of: int  # seeds that were played
    mean: float
    std: float | None  # of the sample: sqrt(sum (x - mean)^2 / (n - 1))
    half_width: float | None  # of the mean's 95 % interval: t(0.975, n - 1) std / sqrt(n), Student's t


def estimate_mean(values: Sequence[float | None]) -> Estimate | None:
    """Of those values that are there; None where none is."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    n, mean = len(there), statistics.fmean(there)
    if n == 1:
        return Estimate(n=n, of=len(values), mean=mean, std=None, half_width=None)
    std = statistics.stdev(there)
    quantile = float(student.ppf((1 + CONFIDENCE) / 2, n - 1))
    return Estimate(n=n, of=len(values), mean=mean, std=std, half_width=quantile * std / math.sqrt(n))


def paired(pairs: Sequence[tuple[float | None, float | None]]) -> Estimate | None:
    """Of the differences one - other within each seed, for the seeds that have both."""
    return estimate_mean([None if one is None or other is None else one - other for one, other in pairs])
