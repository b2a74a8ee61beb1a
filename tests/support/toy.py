"""A toy run made of events, small enough to compute every figure by hand.

Two clients, links of 8 Mbit/s (1 byte takes 1 µs) and 10 ms one way, a server with a link of 1 Gbit/s and no delay.
A round lasts 100 ms, for both clients alike:

      0 …  10  the server's "global" leaves (payload 9,800 B, wire 10,000 B); it arrives at 20
     20 …  50  the client computes "step"
     50 …  70  its "update" leaves (payload 19,800 B, official 19,000 B, wire 20,000 B); it arrives at 80
     80 …  90  the server computes "average", after 3 ms in the queue by its own account
     90 … 100  the server computes "align_aux"; the round has ended

The first global is labelled round -1 and has no official bytes. What is due at t is actual at t + 1 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from emulator.ledger.events import (
    AnyEvent,
    Computed,
    Ended,
    Evaluated,
    Event,
    Lifecycle,
    Memory,
    Posted,
    Received,
    Reported,
    RoundEnded,
    Started,
    Transmitted,
    Waiting,
)
from emulator.ledger.files import Ledger
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import Timeline

MS = 10**6
MB = 10**6
MIB = 2**20
ROUND_NS = 100 * MS
GLOBAL, UPDATE = 9_800, 19_800
ACCURACIES = (0.5, 0.87, 0.93)


def make_manifest(clients: int = 2, **changes: Any) -> Manifest:
    server = {"name": "server", "role": "server", "device": "edge-server", "network": "ethernet-1g", "workers": 2}
    server |= {"up_bps": 10**9, "down_bps": 10**9}
    link = {"up_bps": 8 * 10**6, "down_bps": 8 * 10**6, "up_one_way_ns": 10 * MS, "down_one_way_ns": 10 * MS}
    nodes = [
        {"name": f"client-{i}", "role": "client", "device": "pi-zero-2w", "network": "iot-4g", **link}
        | {"budget_bytes": 100 * MIB}
        for i in range(clients)
    ]
    manifest = {"schema": "splitbed/1", "profile": "toy", "clock": "real", "seed": 1, "dilation": 1}
    manifest |= {"algorithms": ["fedavg"], "rounds": 3, "stop_after_s": None, "nodes": [server, *nodes]}
    return msgspec.convert(manifest | changes, Manifest)


class Recorder:
    """Collects each node's events as its ledger would hold them."""

    def __init__(self) -> None:
        self.lines: dict[str, list[AnyEvent]] = {}
        self.counters: dict[str, int] = {}

    def write(self, node: str, event: Event) -> None:
        lines = self.lines.setdefault(node, [])
        lines.append(msgspec.structs.replace(event, node=node, seq=len(lines)))  # type: ignore[arg-type]

    def message(self, source: str, destination: str, at_ms: int, kind: str, round: int, official: int) -> None:
        """One message: posted, carried and received, on a link of 1 µs a byte and 10 ms."""
        counter = self.counters.get(source, 0)
        self.counters[source] = counter + 1
        payload = {"global": GLOBAL, "update": UPDATE}[kind]
        size = {"payload_bytes": payload, "framed_bytes": payload + 100, "wire_bytes": payload + 200}
        posted, left = at_ms * MS, at_ms * MS + 1000 * size["wire_bytes"]
        arrival = left + 10 * MS
        self.write(
            source,
            Posted(
                **at(posted),
                counter=counter,
                destination=destination,
                kind=kind,
                round=round,
                official_bytes=official,
                **size,
            ),
        )
        ends = {"counter": counter, "source": source, "kind": kind}
        self.write(
            "network",
            Transmitted(
                **at(left),
                **ends,
                destination=destination,
                wire_bytes=size["wire_bytes"],
                payload_bytes=payload,
                posted_ns=posted,
                start_ns=posted,
                arrival_ns=arrival,
            ),
        )
        self.write(destination, Received(**at(arrival), **ends, **size))


def at(due_ns: int) -> dict[str, int]:
    return {"due_ns": due_ns, "actual_ns": due_ns + MS}


def span(function: str, start_ms: int, end_ms: int, queued_ms: int = 0, source: str | None = "") -> Computed:
    return Computed(
        **at(end_ms * MS),
        function=function,
        start_ns=start_ms * MS,
        queued_ns=queued_ms * MS,
        source=source,
        host_ns=(end_ms - start_ms) * MS // 2,
        host_late_ns=-MS,
        operations=1,
        dense_flops=1,
        depthwise_flops=0,
        moved_bytes=1,
    )


def make_nodes(rounds: int = 3, clients: int = 2, outcome: str = "finished") -> dict[str, list[AnyEvent]]:
    """Each node's own lines, as its file holds them."""
    run = Recorder()
    names = [f"client-{i}" for i in range(clients)]
    run.write("supervisor", Lifecycle(**at(0), outcome=""))
    for name in ("network", "server", "evaluator", *names):
        role = name.partition("-")[0]
        budget = 100 * MIB if role == "client" else None
        run.write(name, Started(**at(0), role=role, pid=1, baseline_bytes=16 * MIB, budget_bytes=budget))
    for round in range(rounds):
        start = 100 * round
        for name in names:
            run.write(name, Waiting(**at(start * MS), kinds=["global"], sources=["server"]))
            run.message("server", name, start, "global", round or -1, GLOBAL if round else 0)
        for name in names:
            run.write(name, span("task.step", start + 20, start + 50))
            run.message(name, "server", start + 50, "update", round, 19_000)
            run.write(name, Reported(**at((start + 50) * MS), round=round, values={"loss": 1.0 / (round + 1)}))
            run.write(name, Memory(**at((start + 50) * MS), growth_bytes=10 * MIB, peak_bytes=(40 + round) * MIB))
        run.write("server", span("average", start + 80, start + 90, queued_ms=3))
        run.write("server", span("steps.align_aux", start + 90, start + 100))
        ended = at((start + 100) * MS)
        run.write("server", RoundEnded(**ended, round=round, started_ns=start * MS))
        score = Evaluated(**ended, round=round, accuracy=ACCURACIES[round % len(ACCURACIES)], loss=0.3)
        run.write("evaluator", score)
    for name in ("network", "server", "evaluator", *names):
        run.write(name, Ended(**at(rounds * ROUND_NS), outcome=outcome))
    run.write("supervisor", Lifecycle(**at(rounds * ROUND_NS), outcome=outcome))
    return run.lines


def make_timeline(rounds: int = 3, clients: int = 2, outcome: str = "finished") -> Timeline:
    return Timeline(chain.from_iterable(make_nodes(rounds, clients, outcome).values()))


def renumber(events: Iterable[AnyEvent]) -> Timeline:
    """Number each node's lines anew in their order, so that an edit leaves no gap."""
    numbers: dict[str, int] = {}
    fresh = []
    for event in sorted(events, key=lambda event: event.seq):
        seq = numbers.get(event.node, 0)
        numbers[event.node] = seq + 1
        fresh.append(msgspec.structs.replace(event, seq=seq))
    return Timeline(fresh)


def edit(
    events: Sequence[AnyEvent], which: Callable[[AnyEvent], bool], change: Callable[[Any], dict[str, Any] | None]
) -> Timeline:
    """Replace fields of the events that ``which`` picks; None removes the event."""
    edited: list[AnyEvent] = []
    for event in events:
        changes = change(event) if which(event) else {}
        if changes is not None:
            edited.append(msgspec.structs.replace(event, **changes))
    return renumber(edited)


def is_message(event: AnyEvent, kind: type[Event], source: str, counter: int) -> bool:
    """Whether ``event`` is the line of this kind about this message."""
    if not isinstance(event, kind):
        return False
    return (getattr(event, "source", event.node), getattr(event, "counter", -1)) == (source, counter)


def write_run(folder: Path, algorithm: str, lines: Mapping[str, Iterable[AnyEvent]]) -> None:
    """The ledger's files of one algorithm, as nodes leave them."""
    (folder / "ledger" / algorithm).mkdir(parents=True)
    for node, events in lines.items():
        with Ledger(folder / "ledger" / algorithm, node) as ledger:
            for event in events:
                ledger.write(event)
