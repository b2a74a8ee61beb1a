"""Connections between two nodes: the queue and path of each direction, and the state of TCP that both share."""

from __future__ import annotations

from collections import deque

from emulator.network import tcp
from emulator.network.fairness import Q20, UNLIMITED_Q20, Flow
from emulator.network.jitter import SECOND_NS, Jitter
from emulator.network.topology import Channel, LinkDirection, NodeLink, delay_ns, loss_ppb
from emulator.profiles.scenario import Direction

BYTE_Q20_NS = 8 * Q20 * SECOND_NS  # one byte, in units of 2^-20 bit/s x ns


class QueuedMessage:
    """A message on its connection. ``rest_bytes`` have not begun to leave; ``first_number``: of the
    connection on which it began."""

    __slots__ = (
        *("counter", "first_number", "moved_ns", "posted_ns", "resent_bytes", "rest_bytes"),
        *("start_ns", "wire_bytes"),
    )

    def __init__(self, counter: int, wire_bytes: int, posted_ns: int) -> None:
        self.counter, self.wire_bytes, self.posted_ns = counter, wire_bytes, posted_ns
        self.rest_bytes, self.resent_bytes, self.moved_ns, self.start_ns = wire_bytes, 0, 0, -1
        self.first_number = -1


class ConnectionState:
    """The state that both directions of a connection share: when it was set up. Without TCP there is no set-up."""

    __slots__ = ("established_ns", "number", "tcp", "used_ns")

    def __init__(self, has_tcp: bool) -> None:
        self.tcp = has_tcp
        self.number = 0  # of the connections so far that an absence has ended
        self.established_ns: int | None = None
        self.used_ns = 0


class Connection(Flow):
    """One direction of a connection, and the flow of the message that is on it."""

    __slots__ = (
        *(
            "arrival_ns",
            "burst_bytes",
            "current",
            "destination",
            "ends_ns",
            "free_ns",
            "into",
            "jitters",
            "limit_until_ns",
            "state",
            "number",
        ),
        *("out", "place", "since_ns", "source", "starts_ns", "tail", "unserved_q20_ns", "waiting", "window"),
    )

    def __init__(
        self, place: int, source: str, destination: str, links: dict[str, NodeLink], state: ConnectionState, seed: int
    ) -> None:
        self.out, self.into = links[source], links[destination]
        sides = (self.out.up, self.into.down)
        alone = source == destination
        super().__init__([channel for side in sides for channel in (_own(source, side) if alone else side.channels)])
        self.place, self.source, self.destination, self.state = place, source, destination, state
        stream = f"{seed}:jitter:{source}>{destination}"
        self.jitters = (
            Jitter(self.out.up.direction.jitter_ns, f"{stream}:out"),
            Jitter(self.into.down.direction.jitter_ns, f"{stream}:in"),
        )
        self.tail = tcp.TailLoss(f"{seed}:loss:{source}>{destination}")
        self.window, self.number = tcp.Window(), 0
        self.waiting: deque[QueuedMessage] = deque()
        self.current: QueuedMessage | None = None
        self.free_ns = self.arrival_ns = 0
        self.starts_ns: int | None = None  # when it will begin, or go on
        self.ends_ns: int | None = None  # when the burst in hand will have been served
        self.burst_bytes, self.unserved_q20_ns, self.since_ns = 0, 0, 0
        self.limit_until_ns = -1  # a change of the limit is planned for then

    def delay_ns(self, t_ns: int) -> int:
        return delay_ns((self.out.up.direction, self.into.down.direction), t_ns)

    def rtt_ns(self, t_ns: int) -> int:
        return self.delay_ns(t_ns) + delay_ns((self.into.up.direction, self.out.down.direction), t_ns)

    def rto_ns(self, t_ns: int) -> int:
        sides = self.out.up, self.out.down, self.into.up, self.into.down
        return tcp.timeout_ns(self.rtt_ns(t_ns), sum(side.direction.jitter_ns for side in sides))

    def loss_ppb(self, t_ns: int) -> int:
        return loss_ppb((self.out.up.direction, self.into.down.direction), t_ns) if self.state.tcp else 0

    def loss_limit_q20(self, t_ns: int) -> int:
        """The rate that loss allows, in 2^-20 bit/s, of those links whose rate does not contain it already."""
        if not self.state.tcp:
            return UNLIMITED_Q20
        limit_bps = tcp.loss_limited_bps(self.rtt_ns(t_ns), loss_ppb(self._lossy, t_ns))
        return UNLIMITED_Q20 if limit_bps is None else limit_bps * Q20

    def loss_limit_changes_ns(self, t_ns: int) -> int | None:
        """The time, ns, at which the rate that loss allows may change next; None: never."""
        if not self.state.tcp or not any(way.loss_ppb or way.losses for way in self._lossy):
            return None
        ways = [side.direction for end in (self.out, self.into) for side in (end.up, end.down)]
        steps = [*(way.losses for way in self._lossy), *(way.delays for way in ways)]
        return min((ns for each in steps if each and (ns := each.change_ns(t_ns)) is not None), default=None)

    @property
    def _lossy(self) -> list[Direction]:
        """The ways whose rate does not contain their loss."""
        ways = ((self.out, self.out.up.direction), (self.into, self.into.down.direction))
        return [direction for end, direction in ways if end.network.rate_kind == "link"]

    def back_ns(self, t_ns: int) -> int:
        """The time, ns, by which each end that is away at ``t_ns`` is back; ``t_ns`` where neither is away."""
        back_ns = t_ns
        for end in (self.out, self.into):
            if end.absences.kind == "away":
                back_ns = max(back_ns, end.absences.back_ns(t_ns))
        return back_ns

    def was_away(self, from_ns: int, to_ns: int) -> bool:
        """Whether an end has been away in the meantime."""
        return any(end.absences.kind == "away" and end.absences.begun(from_ns, to_ns) for end in (self.out, self.into))

    def serve(self, t_ns: int) -> None:
        """Subtract the bytes sent since the share last changed."""
        self.unserved_q20_ns -= self.rate_q20 * (t_ns - self.since_ns)
        self.since_ns = t_ns


def _own(name: str, side: LinkDirection) -> tuple[Channel, ...]:
    """The capacities of a side on a node's way to itself.

    A server's that clients cannot fill is left out: there it is the link's own, as if nobody else used it.
    """
    way = side.direction
    return side.channels or (Channel(f"{name} to itself", way.rate_bps, way.rates),)
