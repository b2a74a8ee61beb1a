"""What the time of a client goes into: a pure function of the ledger, in whole nanoseconds that lose none.

Every instant of a timeline belongs to exactly one cause; where several hold at once, the first in this list:

compute        the client computes
serialisation  a message of its own, either way, is leaving: first to last bit
propagation    one is on its way: last bit left, not yet arrived
queueing       one was posted, and its first bit waits for the link: behind others, for a client that is away, for TCP's
               set-up; or one has arrived at the server, and the computation for it has not begun (``queueing``)
waiting        none of these: the client waits for the server, and with it for other clients

Times are due times. A message that the network had not carried to its last bit when its record ended counts as waiting.
So does, in a record that does not say for which message a computation was, what queued for anything but a worker.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from emulator.ledger.events import Computed, Received, Started, Transmitted
from emulator.ledger.timeline import Timeline
from emulator.spans import Pairs, joined, pairs_of

CAUSES = ("compute", "serialisation", "propagation", "queueing", "waiting")


def latency_splits(clients: Iterable[str], events: Timeline, *until_ns: int) -> list[dict[str, dict[str, int]]]:
    """Nanoseconds of each of ``CAUSES`` for each client, one dict for each end; they sum to that end. One pass."""
    spans = _all_spans(events)
    taken = {name: _by_priority(spans[name]) for name in clients}
    return [{name: _split(found, end_ns) for name, found in taken.items()} for end_ns in until_ns]


def _by_priority(spans: Mapping[str, array[int]]) -> list[Pairs]:
    """For each cause but the last the instants that it or one before it holds, as disjoint spans."""
    found, taken = [], pairs_of([])
    for cause in CAUSES[:-1]:
        taken = joined(taken, pairs_of(np.frombuffer(spans[cause], np.int64)))
        found.append(taken)
    return found


def _split(taken: Sequence[Pairs], length_ns: int) -> dict[str, int]:
    reached_ns = [0]
    for pairs in taken:
        clipped = np.clip(pairs, 0, length_ns)
        reached_ns.append(int((clipped[:, 1] - clipped[:, 0]).sum()))
    reached_ns.append(length_ns)
    return {cause: reached_ns[i + 1] - reached_ns[i] for i, cause in enumerate(CAUSES)}


def _all_spans(events: Timeline) -> dict[str, dict[str, array[int]]]:
    """By node and cause, beginnings and ends in turn; those of one node may overlap."""
    spans: dict[str, dict[str, array[int]]] = defaultdict(lambda: {cause: array("q") for cause in CAUSES})
    asked: dict[tuple[str, int], list[Computed]] = defaultdict(list)  # by where and when they were asked for
    for event in events.of(Computed):
        spans[event.node]["compute"].extend((event.start_ns, event.due_ns))
        if event.source is None:
            asked[event.node, event.start_ns - event.queued_ns].append(event)
        elif event.source:
            spans[event.source]["queueing"].extend((event.start_ns - event.queued_ns, event.start_ns))
    for message in events.of(Transmitted):
        for client in (message.source, message.destination):
            own = spans[client]
            own["queueing"].extend((message.posted_ns, message.start_ns))
            own["serialisation"].extend((message.start_ns, message.due_ns))
            own["propagation"].extend((message.due_ns, message.arrival_ns))
    arrivals: dict[tuple[str, int], list[str]] = defaultdict(list)  # sources, by where and when they arrived
    for received in events.of(Received):
        arrivals[received.node, received.due_ns].append(received.source)
    servers = {event.node for event in events.of(Started) if event.role == "server"}
    # Of an older record: what a worker computes at once was asked for at the instant of its message's arrival; of
    # several at the same instant, the first to arrive is the first to be computed.
    for where, computed in asked.items():
        if where[0] in servers:
            in_turn = sorted(computed, key=lambda event: (event.start_ns, event.seq))
            for source, event in zip(arrivals[where], in_turn, strict=False):
                spans[source]["queueing"].extend((where[1], event.start_ns))
    return spans
