"""TCP as arithmetic on a link: set-up, slow start, restart after idle, a rate limited by loss, lost tails.

Segments are 1448 bytes of data in 1500 on the wire. Each formula names its source; what is left out is listed in
``docs/network-model.md``. Times are integer nanoseconds, loss is in parts of 10^9, rates in bit/s.
"""

from __future__ import annotations

import random
from math import sqrt

SEGMENT_BYTES = 1500  # on the wire, a full one
SEGMENT_DATA_BYTES = 1448
ACK_BYTES = 52  # IPv4 and TCP headers with timestamps
INITIAL_WINDOW = 10  # segments (RFC 6928)
LEAST_RTO_MARGIN_NS = 200_000_000  # Linux: the least that is added to the round trip (TCP_RTO_MIN)
JITTER_MARGIN = 4  # of the deviation (RFC 6298: RTO = SRTT + 4 RTTVAR)
TAIL_SEGMENTS = 3  # fewer than three duplicate ACKs can follow the loss of one of the last three (RFC 5681, 3.2)
DOUBLINGS = 6  # of the timeout (RFC 6298, 5.5: it may be bounded); more losses in a row are as good as none
PPB = 10**9


def timeout_ns(rtt_ns: int, jitter_ns: int) -> int:
    """The retransmission timeout: round trip + 4 deviations (RFC 6298), at least + 200 ms (Linux)."""
    return rtt_ns + max(LEAST_RTO_MARGIN_NS, JITTER_MARGIN * jitter_ns)


def segments_of(wire_bytes: int) -> int:
    return -(-wire_bytes // SEGMENT_BYTES)


def ack_bytes(wire_bytes: int) -> int:
    """Bytes of the ACKs of a message, one ACK for every second segment (RFC 5681, 4.2)."""
    return -(-segments_of(wire_bytes) // 2) * ACK_BYTES


def half_duplex(capacity: int) -> int:
    """The part of a shared capacity that the other direction's ACKs leave to data: 3000 of 3052 bytes."""
    data = 2 * SEGMENT_BYTES
    return capacity * data // (data + ACK_BYTES)


def both_losses(first_ppb: int, second_ppb: int) -> int:
    """Loss over two links in a row."""
    return PPB - (PPB - first_ppb) * (PPB - second_ppb) // PPB


def loss_limited_bps(rtt_ns: int, loss_ppb: int) -> int | None:
    """The rate on the wire that a long flow reaches with random loss p; None where nothing limits it.

    The larger of Reno's window sqrt(3 / 2p) (Mathis et al., CCR 27(3), 1997) and CUBIC's 1.054 (RTT / p)^(3/4), in
    segments and seconds (RFC 9438, 5.1, with C = 0.4 and beta = 0.7), in each round trip.
    """
    if not loss_ppb or not rtt_ns:
        return None
    loss, rtt_s = loss_ppb / PPB, rtt_ns / 1e9
    window = max(sqrt(1.5 / loss), 1.054 * (rtt_s / loss) ** 0.75)
    return max(int(window * 8 * SEGMENT_BYTES / rtt_s), 1)


class TailLoss:
    """Delays of messages, one of whose last segments was lost, drawn from a named stream of random numbers.

    One of the last three segments that is lost is noticed by the retransmission timeout, which doubles each time that
    the segment is lost again (RFC 6298). Losses before those are mended while the flow goes on, and cost rate.
    """

    def __init__(self, stream: str) -> None:
        self._random = random.Random(stream)

    def draw_ns(self, wire_bytes: int, loss_ppb: int, rto_ns: int) -> int:
        """The delay of one message, ns; one draw for each of its last segments, and one for each that is sent again."""
        if not loss_ppb:
            return 0
        tail = min(segments_of(wire_bytes), TAIL_SEGMENTS)
        longest_ns = 0
        for _ in range(tail):
            late_ns, doubled = 0, 0
            while self._random.randrange(PPB) < loss_ppb and doubled < DOUBLINGS:
                late_ns += rto_ns << doubled
                doubled += 1
            longest_ns = max(longest_ns, late_ns)
        return longest_ns


class Window:
    """The congestion window of one direction of a connection: slow start in rounds, as long as it limits.

    In a round a window of segments is sent at the link's rate; the next, twice as large, when the first segment's ACK
    is back, a round trip after it was sent (Kurose and Ross, Computer Networking, 3.7; Cardwell, Savage and Anderson,
    INFOCOM 2000). A round that lasts until then is the last one: the window covers the path, and limits no more until
    the connection has been idle for longer than its timeout (RFC 5681, 4.1).
    """

    def __init__(self) -> None:
        self.segments = INITIAL_WINDOW
        self.open = False  # it covers the path
        self.left_bytes = 0  # of the round, on the wire
        self.round_ns = -1  # when the round began
        self.used_ns = -1  # when something was last sent
        self.segment_ns = 0  # how long a segment took on the link then

    def begin(self, now_ns: int, rtt_ns: int, rto_ns: int) -> None:
        """Something is sent: does the round go on, does a new one begin, or has it been idle for too long?"""
        if self.used_ns >= 0 and now_ns - self.used_ns > rto_ns:
            self.segments, self.open, self.round_ns = INITIAL_WINDOW, False, -1
        if self.round_ns < 0:
            self._new_round(now_ns)
        elif now_ns >= self.round_ns + rtt_ns:
            self.next_round(now_ns)

    def next_round(self, now_ns: int) -> None:
        """The ACKs are back: each lets the window grow by a segment (RFC 5681, 3.1), where half of it was used.

        Linux lets it grow only where it limits: it counts as limiting while it is below twice what was under way.
        """
        used = self.segments - segments_of(self.left_bytes)
        if 2 * used > self.segments:
            self.segments += used
        self._new_round(now_ns)

    def _new_round(self, now_ns: int) -> None:
        self.round_ns, self.left_bytes = now_ns, self.segments * SEGMENT_BYTES

    def allows(self, wire_bytes: int) -> int:
        """The part of ``wire_bytes`` that may be sent before the next ACK, in bytes."""
        return wire_bytes if self.open else min(wire_bytes, self.left_bytes)

    def sent(self, wire_bytes: int, now_ns: int, segment_ns: int) -> None:
        """So much has left now; a segment of it takes so long on the link."""
        self.used_ns, self.segment_ns = now_ns, segment_ns
        self.left_bytes = max(self.left_bytes - wire_bytes, 0)

    def resumes_ns(self, rtt_ns: int) -> int:
        """The time, ns, of this round's first ACK: its begin + a segment's time on the link + a round trip."""
        return self.round_ns + self.segment_ns + rtt_ns
