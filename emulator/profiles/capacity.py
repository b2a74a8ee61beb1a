"""The rate of one direction of a link or a cell over time, and of both where it is half duplex."""

from __future__ import annotations

from typing import NamedTuple

from emulator.piecewise import PointwiseMax, StepFunction, pointwise_max

FOR_EVER_NS = 10**18  # thirty years


class VaryingRate(NamedTuple):
    """The rate of one direction, in bit/s: its peak, and its course over time, where it follows a trace."""

    peak_bps: int
    rates: StepFunction | PointwiseMax | None


def wider(up: VaryingRate, down: VaryingRate) -> VaryingRate:
    """The larger of both rates, at each moment where they follow traces."""
    if not up.rates and not down.rates:
        return max(up, down, key=lambda rate: rate.peak_bps)
    first, second = (
        rate.rates if isinstance(rate.rates, StepFunction) else StepFunction((0,), (rate.peak_bps,), FOR_EVER_NS)
        for rate in (up, down)
    )
    rates = pointwise_max(first, second)
    for rate, steps in ((up, first), (down, second)):
        if rates is steps:
            return rate
    return VaryingRate(max(up.peak_bps, down.peak_bps), rates)
