"""Transfers of a timeline: actual against due, and due against the closed form. Pure functions of its ledger.

On a link without jitter a message of n bytes posted at p starts at s = max(p, when the one before it had left), has
left at d = s + ceil(8 n 10^9 / rate) and arrives at a = d + delay, in ns. Written here a second time, on purpose.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from emulator.checks.health import percentile
from emulator.ledger.events import AnyEvent, Posted, Received, Transmitted
from emulator.profiles.scenario import Scenario

MS = 10**6


class Transfer(NamedTuple):
    """One message from post to arrival; times in emulated ns."""

    client: str
    kind: str
    payload_bytes: int
    wire_bytes: int
    rate_bps: int
    posted_ns: int
    due_ns: int  # its arrival, by the closed form
    alone_ns: int  # its due duration without waiting for messages before it
    left_late_ns: int  # actual - due at the sender's end of the link
    late_ns: int  # actual - due of its arrival, as the receiving node saw it
    exact: bool  # the network process found the closed form's times too

    def within(self, spare_ns: int) -> bool:
        """Whether it came at most ``spare_ns`` + 1 % of its due duration late."""
        return self.late_ns <= spare_ns + self.alone_ns / 100


class Spread(NamedTuple):
    """Lateness of some transfers, in ms, and the share of them that came in time."""

    transfers: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    left_p95_ms: float
    share: float


def transfers(events: Iterable[AnyEvent], scenario: Scenario) -> list[Transfer]:
    """All transfers between clients and the server that arrived, by their sender's order."""
    posts = [event for event in events if isinstance(event, Posted)]
    left = {(event.source, event.counter): event for event in events if isinstance(event, Transmitted)}
    received = {(event.source, event.counter): event for event in events if isinstance(event, Received)}
    networks = {client.name: client.network for client in scenario.clients}
    found: list[Transfer] = []
    posts.sort(key=lambda post: (*_pair(post), post.counter))
    for (source, destination), queue in itertools.groupby(posts, _pair):
        client = source if source in networks else destination
        direction = networks[client].up if client == source else networks[client].down
        free_ns = 0
        for post in queue:
            key = source, post.counter
            serialisation_ns = -(-8 * post.wire_bytes * 10**9 // direction.rate_bps)
            free_ns = max(post.due_ns, free_ns) + serialisation_ns
            if key not in received:
                continue
            arrival, departure = received[key], left[key]
            due_ns = free_ns + direction.one_way_ns
            found.append(
                Transfer(
                    client=client,
                    kind=post.kind,
                    payload_bytes=post.payload_bytes,
                    wire_bytes=post.wire_bytes,
                    rate_bps=direction.rate_bps,
                    posted_ns=post.due_ns,
                    due_ns=due_ns,
                    alone_ns=serialisation_ns + direction.one_way_ns,
                    left_late_ns=departure.actual_ns - free_ns,
                    late_ns=arrival.actual_ns - due_ns,
                    exact=(departure.due_ns, departure.arrival_ns) == (free_ns, due_ns),
                )
            )
    return found


def _pair(post: Posted) -> tuple[str, str]:
    return post.node, post.destination


def spread(some: Sequence[Transfer], spare_ns: int) -> Spread:
    """How late ``some`` (at least one) were; in time: at most ``spare_ns`` + 1 % of the due duration late."""
    late_ns, left_late_ns = [transfer.late_ns for transfer in some], [transfer.left_late_ns for transfer in some]
    return Spread(
        transfers=len(some),
        p50_ms=statistics.median(late_ns) / MS,
        p95_ms=(percentile(late_ns, 0.95) or 0) / MS,
        max_ms=max(late_ns) / MS,
        left_p95_ms=(percentile(left_late_ns, 0.95) or 0) / MS,
        share=sum(transfer.within(spare_ns) for transfer in some) / len(some),
    )
