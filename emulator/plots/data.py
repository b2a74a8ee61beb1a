"""What the plots show, as plain numbers: pure functions of ``summary.json`` and the ledger.

Curves, stacks and memory are the summary's own figures; rounds of clients and strips come from the events. Seconds
are emulated, MB are 10^6 bytes, MiB 2^20.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from emulator.analysis.metrics import largest
from emulator.analysis.summary import ClientSummary, Summary
from emulator.ledger.events import Computed, Posted, RoundEnded, Transmitted
from emulator.ledger.manifest import NodeFacts
from emulator.ledger.timeline import Timeline
from emulator.spans import Spans, union

MB = 10**6
SECOND_NS = 10**9
KINDS = ("compute", "upload", "download")  # of a strip; what is none of them is waiting


class CurvePoint(NamedTuple):
    """The joined model after a round, counted from 1; MB are payload of all messages posted until its end."""

    round: int
    seconds: float
    mb: float
    score: float  # the metric that the run is judged by
    joules: float | None = None  # of all clients until its end, where their power is known


class Curve(NamedTuple):
    """One algorithm's way; ``reached``: the first point that is as good as each target, as the tables say.
    ``diverged``: behind its last point the model is none, so that it has reached nothing."""

    algorithm: str
    points: list[CurvePoint]
    reached: dict[float, CurvePoint | None]
    diverged: bool = False


class MemoryRow(NamedTuple):
    """The largest peak of a device's clients, above the process's baseline; ``foreseen`` where none was measured.
    ``unfit``: how many clients do not fit; ``would``: none of them was stopped, so that they would not."""

    algorithm: str
    device: str
    mib: float | None
    foreseen: bool
    budget_mib: float | None
    clients: int
    unfit: int
    would: bool = False


class ClientFinish(NamedTuple):
    """When a client was done with its rounds: the last of its messages had arrived, so long after the round began."""

    client: str
    device: str
    seconds: list[float]

    @property
    def typical(self) -> float:
        return median(self.seconds)


class Lane(NamedTuple):
    """What a node does in a strip: each of ``KINDS`` as spans, ns since its start; ``done_ns``: the end of the last."""

    node: str
    device: str
    spans: dict[str, Spans]
    done_ns: int


class Strip(NamedTuple):
    """One round of an algorithm: the server, then clients in order; ``round`` from 1, None for an unfinished one.
    ``mean_ns``: the length of a round, mean over all that ended."""

    algorithm: str
    round: int | None
    length_ns: int
    mean_ns: float | None
    server: Lane
    clients: list[Lane]

    @property
    def at_work(self) -> float:
        """How many clients compute, send or receive at a time, on average."""
        busy = (
            union([span for spans in lane.spans.values() for span in spans], self.length_ns) for lane in self.clients
        )
        return sum(end - start for spans in busy for start, end in spans) / self.length_ns


def curves(summary: Summary) -> list[Curve]:
    """Of the algorithms that were judged at least once, in the order of the run."""
    found, metric = [], summary.criteria.metric.name
    for name, algorithm in summary.algorithms.items():
        points = {
            row.round: CurvePoint(row.round + 1, row.actual_s, row.payload_bytes / MB, row.scores[metric], row.joules)
            for row in algorithm.history
            if metric in row.scores
        }
        reached = {t: points[row.round] if row else None for t, row in algorithm.to_target.items()}
        if points:
            found.append(Curve(name, list(points.values()), reached, bool(algorithm.diverged)))
    return found


def stacks(summary: Summary) -> dict[str, dict[str, float]]:
    """Seconds of a mean round by cause, mean over clients, of the algorithms that ended a round; shortest first."""
    found = {name: each.round_latency_s for name, each in summary.algorithms.items() if each.round_latency_s}
    return dict(sorted(found.items(), key=lambda item: sum(item[1].values())))


def energy_stacks(summary: Summary) -> dict[str, dict[str, float]]:
    """Joules of a mean round by cause, mean over the clients whose power is known; fewest first."""
    found = {
        name: {cause: joules / energy.clients / each.rounds for cause, joules in energy.causes.items()}
        for name, each in summary.algorithms.items()
        if (energy := each.energy)
    }
    return dict(sorted(found.items(), key=lambda item: sum(item[1].values())))


def memory_rows(summary: Summary) -> list[MemoryRow]:
    """Devices in the order of the clients, algorithms in that of the run."""
    rows: dict[tuple[str, str], list[ClientSummary]] = {}
    for name, algorithm in summary.algorithms.items():
        for client in algorithm.clients:
            rows.setdefault((client.device, name), []).append(client)
    devices = list(dict.fromkeys(device for device, _ in rows))
    found = []
    for (device, name), clients in sorted(rows.items(), key=lambda row: devices.index(row[0][0])):
        peak, needed = largest(c.peak_mib for c in clients), largest(c.needed_mib for c in clients)
        outcomes = [client.outcome for client in clients]
        stopping, going_on = outcomes.count("does-not-fit"), outcomes.count("would-not-fit")
        unfit = stopping + going_on
        stopped = unfit and needed is not None and (peak is None or needed > peak)
        mib, foreseen = (needed, True) if peak is None or stopped else (peak, False)
        budget = min((c.budget_mib for c in clients if c.budget_mib is not None), default=None)
        found.append(MemoryRow(name, device, mib, foreseen, budget, len(clients), unfit, not stopping))
    return found


# --- from the events ----------------------------------------------------------------------------------------------


def done(clients: Sequence[NodeFacts], events: Timeline) -> list[ClientFinish]:
    """Each client that took part in a round that ended; ``clients`` are nodes of the manifest.

    A client takes part in a round by what it posts between the end of the round before and its own.
    """
    ended = sorted(events.of(RoundEnded), key=lambda event: (event.due_ns, event.seq))
    ends_ns = [event.due_ns for event in ended]
    arrivals = {(event.source, event.counter): event.arrival_ns for event in events.of(Transmitted)}
    last: dict[str, dict[int, int]] = {node.name: {} for node in clients}
    for event in events.of(Posted):
        arrival_ns, place = arrivals.get((event.node, event.counter)), bisect_left(ends_ns, event.due_ns)
        if event.node in last and place < len(ended) and arrival_ns is not None:
            rounds = last[event.node]
            rounds[place] = max(rounds.get(place, 0), arrival_ns - ended[place].started_ns)
    return [
        ClientFinish(node.name, node.device, [ns / SECOND_NS for _, ns in sorted(rounds.items())])
        for node in clients
        if (rounds := last[node.name])
    ]


def typical_round(events: Timeline) -> tuple[int | None, int, int] | None:
    """Number from 0, start and end in ns of the round of median length (of two, the shorter).

    Where none has ended: None and the whole timeline; None where nothing took any time.
    """
    ended = sorted(events.of(RoundEnded), key=lambda event: (event.due_ns - event.started_ns, event.round))
    if ended:
        middle = ended[(len(ended) - 1) // 2]
        return middle.round, middle.started_ns, middle.due_ns
    length_ns = events.length_ns
    return (None, 0, length_ns) if length_ns else None


def mean_round_ns(events: Timeline) -> float | None:
    """Length of a round, mean over those that ended."""
    lengths = [event.due_ns - event.started_ns for event in events.of(RoundEnded)]
    return fmean(lengths) if lengths else None


def strip(algorithm: str, nodes: Sequence[NodeFacts], events: Timeline) -> Strip | None:
    """A typical round; None where there is nothing to see. ``nodes`` are the manifest's."""
    found = typical_round(events)
    if found is None:
        return None
    round, start_ns, end_ns = found
    spans: dict[str, dict[str, Spans]] = {node.name: {kind: [] for kind in KINDS} for node in nodes}
    servers = {node.name for node in nodes if node.role == "server"}

    def add(node: str, kind: str, from_ns: int, to_ns: int) -> None:
        if node in spans and to_ns > start_ns and from_ns < end_ns:
            spans[node][kind].append((from_ns - start_ns, to_ns - start_ns))

    for event in events:
        match event:
            case Computed():
                add(event.node, "compute", event.start_ns, event.due_ns)
            case Transmitted():
                # A server's links are busy for somebody at almost any time, which would hide when it computes.
                if event.source not in servers:
                    add(event.source, "upload", event.start_ns, event.arrival_ns)
                if event.destination not in servers:
                    add(event.destination, "download", event.start_ns, event.arrival_ns)
    length_ns = end_ns - start_ns
    lanes = []
    for node in nodes:
        own = {kind: union(found, length_ns) for kind, found in spans[node.name].items()}
        done_ns = max((kind[-1][1] for kind in own.values() if kind), default=0)
        lanes.append(Lane(node.name, node.device, own, done_ns))
    server = next(lane for lane in lanes if lane.node in servers)
    clients = [lane for lane in lanes if lane.node not in servers]
    return Strip(algorithm, None if round is None else round + 1, length_ns, mean_round_ns(events), server, clients)


def slowest(strip: Strip, most: int) -> list[Lane]:
    """At most so many clients: those that were busy last, in the order of the clients."""
    kept = {lane.node for lane in sorted(strip.clients, key=lambda lane: -lane.done_ns)[:most]}
    return [lane for lane in strip.clients if lane.node in kept]
