"""What the time of a client goes into: a pure function of the ledger, in whole nanoseconds that lose none.

Every instant of a timeline belongs to exactly one cause; where several hold at once, the first in this list:

compute        the client computes
serialisation  a message of its own, either way, is leaving: first to last bit
propagation    one is on its way: last bit left, not yet arrived
queueing       one was posted, and its first bit waits for the link; or one has arrived at the server, and the
               computation that it brought about waits for a free worker there
waiting        none of these: the client waits for the server, and with it for other clients

Times are due times. A message that the network had not carried to its last bit when its record ended counts as waiting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from emulator.health import length_of
from emulator.ledger import AnyEvent, Carried, Computed, Received, Started

CAUSES = ("compute", "serialisation", "propagation", "queueing", "waiting")

Spans = list[tuple[int, int]]


def latency_split(client: str, events: Sequence[AnyEvent], until_ns: int | None = None) -> dict[str, int]:
    """Nanoseconds of each of ``CAUSES`` for one client; they sum to ``until_ns``, by default the timeline's length."""
    (splits,) = latency_splits([client], events, length_of(events) if until_ns is None else until_ns)
    return splits[client]


def latency_splits(
    clients: Iterable[str], events: Sequence[AnyEvent], *until_ns: int
) -> list[dict[str, dict[str, int]]]:
    """The same for several clients, until each of several times, in one pass over the events."""
    spans: dict[str, dict[str, Spans]] = {name: {cause: [] for cause in CAUSES} for name in clients}
    for node, cause, span in _all_spans(events):
        if node in spans:
            spans[node][cause].append(span)
    return [{name: _by_priority(found, end_ns) for name, found in spans.items()} for end_ns in until_ns]


def _by_priority(spans: dict[str, Spans], length_ns: int) -> dict[str, int]:
    split, taken, taken_ns = {}, Spans(), 0
    for cause in CAUSES[:-1]:
        taken = union([*taken, *spans[cause]], length_ns)
        covered_ns = sum(end - start for start, end in taken)
        split[cause], taken_ns = covered_ns - taken_ns, covered_ns
    return split | {CAUSES[-1]: length_ns - taken_ns}


def _all_spans(events: Iterable[AnyEvent]) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Client (or another node), cause and span; those of one node may overlap."""
    arrivals: dict[tuple[str, int], list[str]] = defaultdict(list)  # sources, by where and when they arrived
    asked: dict[tuple[str, int], list[Computed]] = defaultdict(list)  # by where and when they were asked for
    servers = set()
    for event in events:
        match event:
            case Computed():
                yield event.node, "compute", (event.start_ns, event.due_ns)
                asked[event.node, event.start_ns - event.queued_ns].append(event)
            case Carried():
                for client in (event.source, event.destination):
                    yield client, "queueing", (event.posted_ns, event.start_ns)
                    yield client, "serialisation", (event.start_ns, event.due_ns)
                    yield client, "propagation", (event.due_ns, event.arrival_ns)
            case Received():
                arrivals[event.node, event.due_ns].append(event.source)
            case Started(role="server"):
                servers.add(event.node)
    # A message that brings about a computation is handed over at the instant of its arrival; of several at the same
    # instant, the first to arrive is the first to be computed.
    for where, computed in asked.items():
        if where[0] in servers:
            in_turn = sorted(computed, key=lambda event: (event.start_ns, event.seq))
            for source, event in zip(arrivals[where], in_turn, strict=False):
                yield source, "queueing", (where[1], event.start_ns)


def union(spans: Iterable[tuple[int, int]], length_ns: int) -> Spans:
    """Disjoint spans that cover the same instants of 0 … length."""
    joined: Spans = []
    for start, end in sorted((max(start, 0), min(end, length_ns)) for start, end in spans):
        if end <= start:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
