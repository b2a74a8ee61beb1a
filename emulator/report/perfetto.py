"""A run as ``trace.json`` in Chrome's trace event format, for Perfetto and other trace viewers. A view.

A process is a node in one algorithm ("fsl-sage / client-0 (pi-zero-2w)"), algorithms one after another, the server
first. Its tracks:

compute     what it computes; a server with several workers has one for each that is in use
uplink      its messages leaving, from first to last bit; more than one where several leave at once
downlink    messages arriving, from first to last bit: the same, later by the delay
wait        a client that neither computes nor has a message of its own under way, named by what it awaits

Arrows lead from a message's leaving to its arriving; counters are memory above the baseline and the rates of the link;
ends of rounds are instants. Times are due times in microseconds with three decimals, so no nanosecond is lost. Sums of
spans are those of the summary: compute, and wait as its ``wait_s`` without what queues for the link.

Format: "Trace Event Format", Google, docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from emulator.analysis.recorded import RunRecord
from emulator.checks import divergence
from emulator.checks.clock_limits import limits_of
from emulator.errors import UserError
from emulator.ledger.events import (
    Computed,
    Evaluated,
    Memory,
    Posted,
    Received,
    RoundEnded,
    Transmitted,
    Waiting,
)
from emulator.ledger.manifest import Manifest, NodeFacts
from emulator.ledger.timeline import Timeline
from emulator.spans import union

Line = dict[str, object]

NAME = "trace.json"
TRACKS = ("compute", "uplink", "downlink", "wait")
LANES = 100  # numbers kept for the lanes of a track
MIB = 2**20


def write(folder: Path, run: RunRecord) -> Path:
    """Write the trace of a run; its path. UserError where it cannot be written."""
    path, encoder = folder / NAME, msgspec.json.Encoder()
    try:
        with path.open("wb") as file:
            file.write(b'{"displayTimeUnit":"ms","traceEvents":[\n')
            separator = b""
            for line in lines(run.manifest, run.timelines):
                file.write(separator + encoder.encode(line))
                separator = b",\n"
            file.write(b"\n]}\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); copy the run to where you can") from None
    return path


def lines(manifest: Manifest, timelines: Mapping[str, Timeline]) -> Iterator[Line]:
    """The trace's events, one algorithm after another."""
    pid = 0
    for algorithm, events in timelines.items():
        nodes = sorted(manifest.nodes, key=lambda node: node.role != "server")  # stable: clients in their order
        pids = {node.name: pid + place for place, node in enumerate(nodes, start=1)}
        pid += len(nodes)
        yield from _timeline(algorithm, nodes, pids, events, measured=limits_of(manifest.clock).trains)


def _timeline(
    algorithm: str, nodes: Sequence[NodeFacts], pids: Mapping[str, int], events: Timeline, *, measured: bool
) -> Iterator[Line]:
    """``measured``: whether there are readings of the host: none in a dry run."""
    sent: dict[str, list[Transmitted]] = defaultdict(list)
    came: dict[str, list[Transmitted]] = defaultdict(list)
    for message in sorted(events.of(Transmitted), key=lambda message: message.start_ns):
        sent[message.source].append(message)
        came[message.destination].append(message)
    delivered = {(event.source, event.counter) for event in events.of(Received)}
    for node in nodes:
        name, spans = node.name, sorted(events.of(Computed, node.name), key=lambda span: span.start_ns)
        drawn = _NodeTracks(pids[name])
        yield from drawn.named(f"{algorithm} / {name} ({node.device})")
        for span in spans:
            yield from drawn.span("compute", span.function, span.start_ns, span.due_ns, _work(span, measured))
        for message in sent[name]:
            about = _about(message, events.posted)
            yield from drawn.span("uplink", message.kind, message.start_ns, message.due_ns, about)
            if (message.source, message.counter) in delivered:
                yield drawn.arrow("s", "uplink", message, message.start_ns, algorithm)
        for message in sorted(came[name], key=lambda message: message.start_ns + message.arrival_ns - message.due_ns):
            begins_ns = message.start_ns + message.arrival_ns - message.due_ns
            if (message.source, message.counter) not in delivered:
                continue
            about = _about(message, events.posted)
            yield from drawn.span("downlink", message.kind, begins_ns, message.arrival_ns, about)
            yield drawn.arrow("f", "downlink", message, begins_ns, algorithm)
        if node.role == "client":
            for from_ns, to_ns, what in _waits(
                spans, [*sent[name], *came[name]], events.of(Waiting, name), events.length_ns
            ):
                yield from drawn.span("wait", what, from_ns, to_ns, {})
        yield from _memory(drawn.pid, events.of(Memory, name) if measured else [])
        yield from _rates(drawn.pid, "uplink Mbit/s", sent[name], 0)
        yield from _rates(drawn.pid, "downlink Mbit/s", came[name], 1)
    yield from _rounds(next(iter(pids.values()), 0), events)


class _NodeTracks:
    """Spans of one process, whose tracks have as many lanes as overlap."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._free: dict[str, list[tuple[int, int]]] = {track: [] for track in TRACKS}  # (busy until, lane)
        self._lane: dict[str, int] = {}

    def named(self, name: str) -> Iterator[Line]:
        yield self._meta("process_name", 0, name=name)
        yield self._meta("process_sort_index", 0, sort_index=self.pid)

    def _meta(self, what: str, tid: int, **args: Any) -> Line:
        return {"ph": "M", "pid": self.pid, "tid": tid, "name": what, "args": args}

    def span(self, track: str, name: str, from_ns: int, to_ns: int, args: Line) -> Iterator[Line]:
        """A span in the first lane of its track that is free; they must come in the order of their beginnings."""
        lanes = self._free[track]
        if lanes and lanes[0][0] <= from_ns:
            lane = heapq.heappop(lanes)[1]
        else:
            lane = len(lanes)
            tid = self._tid(track, lane)
            yield self._meta("thread_name", tid, name=track if lane == 0 else f"{track} {lane + 1}")
            yield self._meta("thread_sort_index", tid, sort_index=tid)
        heapq.heappush(lanes, (to_ns, lane))
        self._lane[track] = lane
        where = {"pid": self.pid, "tid": self._tid(track, lane)}
        yield {
            "ph": "X",
            **where,
            "name": name,
            "cat": track,
            "ts": _us(from_ns),
            "dur": _us(to_ns - from_ns),
            "args": args,
        }

    def arrow(self, end: str, track: str, message: Transmitted, at_ns: int, algorithm: str) -> Line:
        """One end of an arrow, at the span that was just drawn."""
        where = {"pid": self.pid, "tid": self._tid(track, self._lane[track]), "ts": _us(at_ns)}
        number = f"{algorithm}/{message.source}/{message.counter}"
        return {"ph": end, **where, "id": number, "name": message.kind, "cat": "message", "bp": "e"}

    def _tid(self, track: str, lane: int) -> int:
        return (TRACKS.index(track) + 1) * LANES + lane


def _us(time_ns: int) -> float:
    return time_ns / 1000


def _work(span: Computed, measured: bool) -> Line:
    keys = ("operations", "dense_flops", "depthwise_flops", "moved_bytes", "queued_ns", *["host_ns"] * measured)
    return {key: getattr(span, key) for key in keys}


def _about(message: Transmitted, posted: Mapping[tuple[str, int], Posted]) -> Line:
    sent = posted.get((message.source, message.counter))
    ends = {"from": message.source, "to": message.destination, "queued_ns": message.start_ns - message.posted_ns}
    sizes = {"payload_bytes": message.payload_bytes, "wire_bytes": message.wire_bytes}
    return {**({"round": sent.round} if sent else {}), **ends, **sizes}


def _waits(
    computed: Sequence[Computed], messages: Sequence[Transmitted], waiting: Sequence[Waiting], length_ns: int
) -> Iterator[tuple[int, int, str]]:
    """When a client does nothing and none of its messages is under way, and what it waits for then."""
    busy = [(span.start_ns, span.due_ns) for span in computed]
    busy += [(message.start_ns, message.arrival_ns) for message in messages]
    reached_ns, last, place = 0, "", 0
    for start_ns, end_ns in [*union(busy, length_ns), (length_ns, length_ns)]:
        if start_ns > reached_ns:
            while place < len(waiting) and waiting[place].due_ns <= reached_ns:
                last, place = f"awaiting {' or '.join(waiting[place].kinds)}", place + 1
            yield reached_ns, start_ns, last or "before its first message"
        reached_ns = end_ns


def _memory(pid: int, readings: Iterable[Memory]) -> Iterator[Line]:
    for reading in readings:
        sizes = {"now": reading.growth_bytes / MIB, "peak": reading.peak_bytes / MIB}
        if reading.budget_bytes is not None:
            sizes["budget"] = reading.budget_bytes / MIB
        yield {"ph": "C", "pid": pid, "tid": 0, "name": "memory MiB", "ts": _us(reading.due_ns), "args": sizes}


def _rates(pid: int, name: str, messages: Iterable[Transmitted], arriving: int) -> Iterator[Line]:
    """The sum of the mean rates of the messages on the link, where it changes."""
    changes: dict[int, float] = defaultdict(float)
    for message in messages:
        delay_ns = (message.arrival_ns - message.due_ns) * arriving
        taken_ns = message.due_ns - message.start_ns
        if taken_ns > 0:
            mbps = 8 * message.wire_bytes * 1000 / taken_ns
            changes[message.start_ns + delay_ns] += mbps
            changes[message.due_ns + delay_ns] -= mbps
    rate = 0.0
    for at_ns, change in sorted(changes.items()):
        rate += change
        args = {"Mbit/s": round(max(rate, 0.0), 6)}
        yield {"ph": "C", "pid": pid, "tid": 0, "name": name, "ts": _us(at_ns), "args": args}


def _rounds(pid: int, events: Timeline) -> Iterator[Line]:
    diverged = divergence.find_non_finite(events)
    scores = {e.round: e.by_metric for e in events.of(Evaluated) if diverged is None or e.round < diverged.round}
    for ended in events.of(RoundEnded):
        at = {"pid": pid, "tid": 0, "ts": _us(ended.due_ns), "s": "p"}
        yield {
            "ph": "i",
            **at,
            "name": f"round {ended.round + 1} ends",
            "cat": "round",
            "args": scores.get(ended.round, {}),
        }
