"""What a direction of a link or a cell can carry, and both directions of one that is half duplex."""

from __future__ import annotations

from typing import NamedTuple

from emulator.piecewise import Larger, Steps, larger

FOR_EVER_NS = 10**18  # thirty years


class Way(NamedTuple):
    """What a direction of a link or a cell can carry: at most so much, and what it follows, where that is a trace."""

    peak_bps: int
    rates: Steps | Larger | None


def wider(up: Way, down: Way) -> Way:
    """The larger of both rates, at each moment where they follow traces."""
    if not up.rates and not down.rates:
        return max(up, down, key=lambda way: way.peak_bps)
    first, second = (
        way.rates if isinstance(way.rates, Steps) else Steps((0,), (way.peak_bps,), FOR_EVER_NS) for way in (up, down)
    )
    rates = larger(first, second)
    for way, steps in ((up, first), (down, second)):
        if rates is steps:
            return way
    return Way(max(up.peak_bps, down.peak_bps), rates)
