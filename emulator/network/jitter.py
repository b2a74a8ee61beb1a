"""The times of a message's transmission, and the jitter of a link: integer nanoseconds, bytes and bit/s."""

from __future__ import annotations

import random
from typing import NamedTuple

SECOND_NS = 10**9
JITTER_QUANTUM_NS = 1000
JITTER_CUT_SIGMAS = 3.0


class Transmission(NamedTuple):
    """The times of a message's first bit, last bit and arrival (ns), and the bytes that it cost besides its own.

    ``ack_bytes`` go the other way; ``resent_bytes`` had been sent when a node became unreachable, and were sent again.
    """

    start_ns: int
    left_ns: int
    arrival_ns: int
    ack_bytes: int = 0
    resent_bytes: int = 0


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
