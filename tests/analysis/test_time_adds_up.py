"""Where a client's time goes: computing, transferring and waiting, found apart from each other, are the run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from runs import latency_split
from timelines import CLIENTS, timeline

from algorithms import ALGORITHMS
from emulator.analysis.summarize import split_time
from emulator.ledger.events import Computed, Ended, Posted, Received, Transmitted, Waiting
from emulator.ledger.timeline import Timeline, only

Span = tuple[int, int]


def gaps(spans: list[Span], length_ns: int) -> Iterator[Span]:
    """The stretches of 0 to length that no span covers."""
    reached = 0
    for start, end in sorted(spans):
        if start > reached:
            yield reached, start
        reached = max(reached, end)
    if reached < length_ns:
        yield reached, length_ns


@pytest.mark.parametrize("client", [f"client-{i}" for i in range(CLIENTS)])
@pytest.mark.parametrize("method", ALGORITHMS)
def test_computing_transferring_and_waiting_are_the_whole_run(method: str, client: str) -> None:
    events = timeline(method)
    length_ns = Timeline(events).length_ns
    split = split_time(latency_split(client, events))
    assert sum(split.values()) == length_ns
    computed = sorted((e.start_ns, e.due_ns) for e in only(events, Computed) if e.node == client)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(computed))  # one at a time
    assert split["compute"] == sum(end - start for start, end in computed)
    transmitted = [(e.start_ns, e.arrival_ns) for e in only(events, Transmitted) if client in (e.source, e.destination)]
    idle = list(gaps([*computed, *transmitted], length_ns))
    assert split["wait"] == sum(end - start for start, end in idle)


@pytest.mark.parametrize("method", ALGORITHMS)
def test_whoever_neither_computes_nor_transfers_has_said_what_it_waits_for_or_has_ended(method: str) -> None:
    """An idle stretch holds nothing that the client does, and its last act before was to wait, post or end."""
    events = timeline(method)
    for client in (f"client-{i}" for i in range(CLIENTS)):
        spans = [(e.start_ns, e.due_ns) for e in only(events, Computed) if e.node == client]
        spans += [(e.start_ns, e.arrival_ns) for e in only(events, Transmitted) if client in (e.source, e.destination)]
        own = [e for e in events if e.node == client]
        for start, end in gaps(spans, Timeline(events).length_ns):
            acts = [e for e in own if start < e.due_ns < end]
            assert not [e for e in acts if isinstance(e, Computed | Received | Posted)], (client, start, end)
            before = [e for e in own if e.due_ns <= start and isinstance(e, Waiting | Ended | Posted | Received)]
            queued = [
                e
                for e in only(events, Transmitted)
                if client in (e.source, e.destination) and e.posted_ns <= start and e.start_ns >= end
            ]
            assert not before or isinstance(before[-1], Waiting | Ended) or queued, (client, start, end, before[-1])
