"""What messages weigh: by way, by kind, and until each round's end. A pure function of the ledger.

``up`` is what clients sent and ``down`` what they received, by source and destination: a message from client to client
is in both, one from the server to itself in neither. Totals have each message once.

Until a round's end is by due time, whatever round a message is labelled with: what was posted until that instant, that
instant included. So a mean that goes out at the instant at which its round ended counts to that round, after the last
round too, and a straggler's message to the round in which it was posted.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from emulator.analysis.summary import (
    BothWays,
    ByteSizes,
    ByteSizesBothWays,
    KindBytes,
    RoundSummary,
    Size,
    TargetReached,
    Way,
)
from emulator.checks.findings import Divergence
from emulator.ledger.criteria import Goal
from emulator.ledger.events import Evaluated, Posted, RoundEnded, Transmitted
from emulator.ledger.timeline import Timeline

SIZES: tuple[Size, ...] = ("payload", "framed", "wire")
WAYS: tuple[Way, ...] = ("up", "down")
SECOND_NS = 10**9


def both_ways(posted: Sequence[Posted], clients: set[str]) -> ByteSizesBothWays:
    """Bytes of each size, up and down."""
    up = total(message for message in posted if message.node in clients)
    down = total(message for message in posted if message.destination in clients)
    return ByteSizesBothWays(**{size: BothWays(up=getattr(up, size), down=getattr(down, size)) for size in SIZES})


def total(posted: Iterable[Posted]) -> ByteSizes:
    """Bytes of each size, each message once."""
    found = ByteSizes()
    for message in posted:
        _add(found, message)
    return found


def _add(sizes: ByteSizes, message: Posted) -> None:
    sizes.payload += message.payload_bytes
    sizes.framed += message.framed_bytes
    sizes.wire += message.wire_bytes


def besides(events: Timeline, clients: set[str]) -> tuple[BothWays, int]:
    """Bytes that messages cost besides their own: acknowledgements on the way back (each once: of what a client sent
    down, of all else up), what was sent again."""
    acks, transmitted = BothWays(), events.of(Transmitted)
    for message in transmitted:
        if message.source in clients:
            acks.down += message.ack_bytes
        else:
            acks.up += message.ack_bytes
    return acks, sum(message.resent_bytes for message in transmitted)


def by_kind(posted: Iterable[Posted]) -> dict[str, KindBytes]:
    """Messages, bytes of each size and official bytes of each kind."""
    kinds: dict[str, KindBytes] = {}
    for message in posted:
        row = kinds.setdefault(message.kind, KindBytes())
        row.messages += 1
        row.official += message.official_bytes
        _add(row, message)
    return dict(sorted(kinds.items()))


def history(events: Timeline, clients: set[str], diverged: Divergence | None = None) -> list[RoundSummary]:
    """One row a finished round, in the order of their ends, with the bytes that were posted until its end.

    From the round on in which the training ``diverged`` there is no judgement.
    """
    until = diverged.round if diverged else math.inf
    posted = sorted(events.of(Posted), key=lambda message: message.due_ns)
    scores = {event.round: event for event in events.of(Evaluated) if event.round < until}
    rows: list[RoundSummary] = []
    counted = official = up = down = payload = 0
    for ended in _ends(events):
        while counted < len(posted) and posted[counted].due_ns <= ended.due_ns:
            message = posted[counted]
            official += message.official_bytes
            payload += message.payload_bytes
            up += message.payload_bytes if message.node in clients else 0
            down += message.payload_bytes if message.destination in clients else 0
            counted += 1
        score = scores.get(ended.round)
        rows.append(
            RoundSummary(
                round=ended.round,
                started_s=ended.started_ns / SECOND_NS,
                due_s=ended.due_ns / SECOND_NS,
                actual_s=ended.actual_ns / SECOND_NS,
                accuracy=score.accuracy if score else None,
                balanced_accuracy=score.balanced if score else None,
                loss=score.loss if score else None,
                scores=score.by_metric if score else {},
                official_bytes=official,
                payload_bytes=payload,
                payload_up=up,
                payload_down=down,
            )
        )
    return rows


def client_rounds(events: Timeline, clients: set[str]) -> int:
    """In how many rounds clients took part, that is posted something between the round's end and the one before, added
    up over clients. What they post after the last round's end is in none."""
    ends_ns = [ended.due_ns for ended in _ends(events)]
    took_part = {
        (message.node, bisect_left(ends_ns, message.due_ns)) for message in events.of(Posted) if message.node in clients
    }
    return sum(place < len(ends_ns) for _, place in took_part)


def _ends(events: Timeline) -> list[RoundEnded]:
    return sorted(events.of(RoundEnded), key=lambda event: (event.due_ns, event.seq))


def to_target(evaluated: Iterable[RoundSummary], goal: Goal) -> TargetReached | None:
    """The first evaluated round that reached a target; bytes are payload of all messages, initial weights included,
    that were posted until its end."""
    for row in evaluated:
        value = row.scores.get(goal.metric.name)
        if value is not None and goal.metric.reached(value, goal.value):
            return TargetReached(
                round=row.round, seconds=row.actual_s, bytes=row.payload_bytes, official_bytes=row.official_bytes
            )
    return None
