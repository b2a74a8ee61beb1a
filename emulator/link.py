"""Links as arithmetic: time in, time out; no clock, no sleep, no I/O.

A ``Connection`` is what lies between one sender and one receiver: the sender's and the receiver's access link in a
row, private to the pair, served first in first out. A message of n bytes that is posted at time p

    starts at   s = max(p, departure of the message before it)
    has left at d = s + ceil(8 n / rate)                 rate: the slower of the two links, bit/s
    arrives at  a = max(d + delay + jitter, arrival of the message before it)

with delay the sum of both one-way delays and jitter drawn anew for every message from each link's own stream. All
quantities are integers: nanoseconds, bytes, bit/s.
"""

from __future__ import annotations

import random
from typing import NamedTuple, Protocol

SECOND_NS = 10**9
JITTER_QUANTUM_NS = 1000
JITTER_CUT_SIGMAS = 3.0


class Direction(Protocol):
    """One direction of a link."""

    @property
    def rate_bps(self) -> int: ...
    @property
    def one_way_ns(self) -> int: ...
    @property
    def jitter_ns(self) -> int: ...


class Carriage(NamedTuple):
    """When a message's first bit leaves, its last bit has left, and it arrives."""

    start_ns: int
    left_ns: int
    arrival_ns: int


def serialisation_ns(size_bytes: int, rate_bps: int) -> int:
    """Time to put ``size_bytes`` on a link, rounded up to a whole nanosecond."""
    return -(-size_bytes * 8 * SECOND_NS // rate_bps)


class Jitter:
    """Extra delay of one direction: |N(0, sigma)|, cut at 3 sigma, in whole microseconds, from a named stream.

    A stream of its own for each (seed, link, direction): one more draw here moves nothing there.
    """

    def __init__(self, sigma_ns: int, stream: str) -> None:
        self._sigma_ns = sigma_ns
        self._random = random.Random(stream)

    def draw_ns(self) -> int:
        if not self._sigma_ns:
            return 0
        sigmas = min(abs(self._random.gauss(0.0, 1.0)), JITTER_CUT_SIGMAS)
        return round(sigmas * self._sigma_ns / JITTER_QUANTUM_NS) * JITTER_QUANTUM_NS


class Connection:
    """The FIFO pipe from one node to another, over the sender's ``out`` and the receiver's ``into`` direction."""

    def __init__(self, out: Direction, into: Direction, stream: str) -> None:
        self.rate_bps = min(out.rate_bps, into.rate_bps)
        self.delay_ns = out.one_way_ns + into.one_way_ns
        self._jitters = (Jitter(out.jitter_ns, f"{stream}:out"), Jitter(into.jitter_ns, f"{stream}:in"))
        self._free_ns = 0
        self._last_arrival_ns = 0

    def carry(self, posted_ns: int, size_bytes: int) -> Carriage:
        """Take a message; each call follows the one before it on the pipe."""
        start_ns = max(posted_ns, self._free_ns)
        left_ns = start_ns + serialisation_ns(size_bytes, self.rate_bps)
        jitter_ns = sum(jitter.draw_ns() for jitter in self._jitters)
        arrival_ns = max(left_ns + self.delay_ns + jitter_ns, self._last_arrival_ns)
        self._free_ns, self._last_arrival_ns = left_ns, arrival_ns
        return Carriage(start_ns, left_ns, arrival_ns)
