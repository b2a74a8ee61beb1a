"""Two short names for a run: equal digests mean the same timeline, and the same numbers.

``timeline_digest`` is what happened when: every message (posted, left, arrived, received), computation and round with
its due times, nodes, kind and wire bytes. Nothing of the host, the seed, memory or losses goes into it.
``numerics_digest`` is what came out: losses and other values that nodes reported, accuracies, test losses, weights.

Lines are sorted by (due time, kind of event, nodes, counters) and hashed with SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from emulator.ledger.events import (
    Computed,
    Ended,
    Evaluated,
    Posted,
    Received,
    Reported,
    RoundEnded,
    Transmitted,
)
from emulator.ledger.timeline import Timeline

Line = tuple[int | str | float | None, ...]

MEMORY_ENDED_IT = "memory: a cap ended a node, at a moment that depends on the host"


def timeline_digest(events: Timeline) -> tuple[str | None, str]:
    """The digest; or None, and why there is none."""
    if any(ended.outcome == "does-not-fit" for ended in events.of(Ended)):
        return None, MEMORY_ENDED_IT
    lines: list[Line] = []
    for event in events:
        match event:
            case Posted():
                lines.append((event.due_ns, "posted", event.node, event.destination, event.counter, event.kind))
            case Transmitted():
                path = (event.source, event.destination, event.counter, event.kind, event.wire_bytes)
                lines.append((event.due_ns, "left", *path, event.start_ns, event.arrival_ns))
            case Received():
                lines.append((event.due_ns, "received", event.node, event.source, event.counter, event.kind))
            case Computed():
                lines.append((event.due_ns, "computed", event.node, event.start_ns, event.function))
            case RoundEnded():
                lines.append((event.due_ns, "round", event.node, event.round))
    return _hash(sorted(lines)), ""


def numerics_digest(events: Timeline) -> str:
    """The digest of all that was reported, in each node's order, and of each round's judgement."""
    reports: dict[str, list[Reported]] = {}
    for report in events.of(Reported):
        reports.setdefault(report.node, []).append(report)
    lines: list[Line] = [
        (node, report.round, name, value)
        for node in sorted(reports)
        for report in sorted(reports[node], key=lambda report: report.seq)
        for name, value in sorted(report.values.items())
    ]
    judged = sorted(events.of(Evaluated), key=lambda event: event.round)
    lines += [(e.round, e.accuracy, e.loss, e.weights) for e in judged]
    return _hash(lines)


def _hash(lines: Iterable[Line]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(msgspec.json.encode(line) + b"\n")
    return digest.hexdigest()[:16]
