"""A radio's states over time: sending, receiving, the tail after them, DRX, asleep.

While a message passes, the radio is connected: it *sends* while one of its client's own leaves, else it *receives*.
After the last bit it stays connected for its tail, is in DRX (discontinuous reception) for a while where it has that
state, and sleeps until the next bit, for which it is promoted. A promotion's energy is charged and its time is not: the
delays of links are what they are with the radio as it was measured. At time 0 it sleeps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.spans import Integers, Pairs, covered_ns


class RadioStates(NamedTuple):
    """Until each of some moments, ns in each state, which add up to the moment, and the number of promotions."""

    sending_ns: Integers
    receiving_ns: Integers
    tail_ns: Integers
    drx_ns: Integers
    asleep_ns: Integers
    promotions: Integers


def radio_states(on_air: Pairs, sending: Pairs, tail_ns: int, drx_ns: int, moments_ns: Integers) -> RadioStates:
    """The states of a radio that messages pass in ``on_air``, of which ``sending`` is a part; both disjoint."""
    starts, ends = on_air[:, 0], on_air[:, 1]
    begun = np.searchsorted(starts, moments_ns)
    over = np.maximum(begun - 1, 0)  # gaps that are, each before a span that has begun
    gaps = starts[1:] - ends[:-1]
    has_begun = begun > 0
    last_ns = np.where(has_begun, ends[over] if len(ends) else 0, moments_ns)
    open_gap = np.maximum(moments_ns - last_ns, 0)
    before = np.minimum(moments_ns, starts[0]) if len(starts) else moments_ns

    def in_gaps(parts: Integers, open_part: Integers) -> Integers:
        return np.concatenate([[0], np.cumsum(parts)])[over] + open_part

    tail, drx, asleep = (
        in_gaps(*(_clipped(gap, *between) for gap in (gaps, open_gap)))
        for between in ((0, tail_ns), (tail_ns, drx_ns), (tail_ns + drx_ns, None))
    )
    slept = in_gaps((gaps > tail_ns + drx_ns).astype(np.int64), np.zeros_like(moments_ns))
    sends_ns, passes_ns = covered_ns(sending, moments_ns), covered_ns(on_air, moments_ns)
    return RadioStates(sends_ns, passes_ns - sends_ns, tail, drx, asleep + before, np.where(has_begun, 1 + slept, 0))


def _clipped(gap: Integers, after_ns: int, most_ns: int | None) -> Integers:
    """The part of a gap after so many ns of it, at most so long."""
    return np.clip(gap - after_ns, 0, most_ns)
