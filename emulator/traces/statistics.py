"""Spread of the rates, delays and losses of a trace over one lap of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, pairwise
from math import isqrt

from msgspec import Struct

from emulator.piecewise import StepFunction
from emulator.traces.reading import Trace

LAG_NS = 10**9  # of the autocorrelation


class Spread(Struct, frozen=True):
    """The spread of a quantity over a lap of its trace, every step weighted by its time.

    ``p5``, ``p50``, ``p95``: the smallest value at or below which it is for that share of the time. ``zero_share``: of
    the time; ``longest_zero_s``: without a break, across the wrap too. ``variation``: standard deviation over mean.
    ``autocorrelation``: of the steps with themselves 1 s later, across the wrap too; None for a constant.
    """

    length_s: float
    steps: int
    mean: float
    std: float
    least: float
    p5: float
    p50: float
    p95: float
    most: float
    zero_share: float
    longest_zero_s: float
    variation: float
    autocorrelation: float | None


class Statistics(Struct, frozen=True):
    """Of a trace: rates in Mbit/s, the round trip in ms, the share that is lost; None for what it does not have."""

    up_mbps: Spread | None
    down_mbps: Spread | None
    rtt_ms: Spread | None = None
    loss: Spread | None = None


def statistics(trace: Trace) -> Statistics:
    """The spread of a trace's rates (Mbit/s), round trip (ms) and losses (a share) over one lap."""
    up, down = (spread(rates, 1, 10**6) if rates else None for rates in (trace.up, trace.down))
    rtt = spread(trace.delays, 2, 10**6) if trace.delays else None
    loss = spread(trace.losses, 1, 10**9) if trace.losses else None
    return Statistics(up, down, rtt, loss)


def spread(steps: StepFunction, factor: int, unit: int) -> Spread:
    """Of ``value * factor / unit``. Sums are whole numbers until the last division, so a constant deviates by 0."""
    lengths = [b - a for a, b in pairwise(steps.edges_ns)]
    timed = list(zip(steps.values, lengths, strict=True))
    span = steps.length_ns
    total, squares = steps.sums[-1], sum(value * value * length for value, length in timed)
    spread_of = span * squares - total * total  # the variance, times the square of the length
    shown = factor / unit
    mean, std = total / span * shown, isqrt(spread_of) / span * shown
    percentiles = [value * factor / unit for value in _percentiles(timed, (5, 50, 95))]
    return Spread(
        length_s=span / 10**9,
        steps=len(timed),
        mean=mean,
        std=std,
        least=min(steps.values) * factor / unit,
        p5=percentiles[0],
        p50=percentiles[1],
        p95=percentiles[2],
        most=max(steps.values) * factor / unit,
        zero_share=sum(length for value, length in timed if not value) / span,
        longest_zero_s=_longest_zero_ns(timed) / 10**9,
        variation=std / mean if mean else 0.0,
        autocorrelation=(span * _product(steps, LAG_NS) - total * total) / spread_of if spread_of else None,
    )


def _percentiles(timed: list[tuple[int, int]], shares: tuple[int, ...]) -> Iterator[int]:
    """For each share in percent, the smallest value at or below which the steps are for that share of the time."""
    ordered = sorted(timed)
    passed = list(accumulate(length for _, length in ordered))
    for share in shares:
        yield ordered[bisect_left(passed, passed[-1] * share, key=lambda ns: ns * 100)][0]


def _longest_zero_ns(timed: list[tuple[int, int]]) -> int:
    """The longest time at zero, over the wrap too."""
    longest = run = 0
    for value, length in (*timed, *timed):
        run = 0 if value else run + length
        longest = max(longest, run)
    return min(longest, sum(length for _, length in timed))


def _product(steps: StepFunction, lag_ns: int) -> int:
    """The sum over a lap of value x value ``lag_ns`` later x ns."""
    edges = sorted({*steps.starts_ns, *((start - lag_ns) % steps.length_ns for start in steps.starts_ns)})
    spans = pairwise((*edges, steps.length_ns))
    return sum(steps.at(a) * steps.at(a + lag_ns) * (b - a) for a, b in spans)
