"""Do the records of different processes agree, and did every message keep to its links?

Laws over one timeline's ledger that no process applies by itself: bytes posted = received + undelivered, no message
faster than its link or two at once on it, first in first out, time never backwards. Each function returns the ways in
which its law is broken, one line each; an empty list where it holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from emulator.ledger.events import (
    Ended,
    Posted,
    Received,
    Refused,
    Started,
    Transmitted,
    Undelivered,
)
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import MessageKey, Timeline

SECOND_NS = 10**9


def conserved(events: Timeline, ending: str) -> tuple[list[str], list[str]]:
    """Posted = received + undelivered, message by message and byte by byte; reasons and notes.

    A process that was killed could not write what it did last: for its messages, and for the last ones of each pair in
    a timeline that was cut short, a missing line is a note and not a reason. A line too many always is a reason.
    """
    reasons: list[str] = []
    posted = events.posted
    received = events.of(Received)
    # The network and a receiver that fell silent may both report the same message as undelivered.
    lost = {(event.source, event.counter) for event in events.of(Undelivered)}
    transmitted = Counter((event.source, event.counter) for event in events.of(Transmitted))
    ended = {event.node for event in events.of(Ended)}
    times = Counter[MessageKey]((event.source, event.counter) for event in received)
    times.update(lost)
    last: dict[tuple[str, str], int] = {}  # highest counter that was received, of each pair
    for event in received:
        pair = (event.source, event.node)
        last[pair] = max(last.get(pair, -1), event.counter)

    missing: Counter[tuple[str, str, str]] = Counter()
    missing_bytes: Counter[tuple[str, str, str]] = Counter()
    excused = 0
    for key, message in posted.items():
        if times[key]:
            continue
        pair = (message.node, message.destination)
        killed = not {"network", *pair} <= ended
        cut_short = ending != "finished" and message.counter > last.get(pair, -1)
        if killed or cut_short:
            excused += 1
            continue
        missing[(*pair, message.kind)] += 1
        missing_bytes[(*pair, message.kind)] += message.payload_bytes
    for where, count in missing.items():
        reasons.append(
            f"{_way(*where)}: {count} posted messages ({missing_bytes[where]} B) were neither received nor undelivered"
        )
    reasons += tally("received or undelivered more than once", [key for key, n in times.items() if n > 1])
    reasons += tally("received but never posted", [key for key in times if key not in posted])
    reasons += tally("carried more than once", [key for key, n in transmitted.items() if n > 1])
    untransmitted = [(e.source, e.counter) for e in received if not transmitted[(e.source, e.counter)]]
    network_whole = "network" in ended
    reasons += tally("received but not carried", untransmitted if network_whole else [])
    reasons += _same_sizes(events)

    notes = []
    if events.of(Started) and not network_whole:  # it had begun
        notes.append("network record incomplete: it was killed before its last words")
    if excused:
        notes.append(f"{excused} messages were under way when the timeline was cut short")
    nodes = {event.node for event in events.of(Posted)} | {"network"}
    silent = sorted(nodes - ended) if ending == "finished" and posted else []
    if silent:
        reasons.append(f"finished, but no last words of {', '.join(silent)}")
    return reasons, notes


def _same_sizes(events: Timeline) -> list[str]:
    """Sizes and ends of a message as its sender, the network and its receiver recorded them."""
    wrong: list[MessageKey] = []
    for event in events:
        if not isinstance(event, Received | Transmitted | Undelivered):
            continue
        sent = events.posted.get((event.source, event.counter))
        if sent is None:
            continue
        destination = event.node if isinstance(event, Received) else event.destination
        same = (sent.destination, sent.kind, sent.payload_bytes) == (destination, event.kind, event.payload_bytes)
        if not isinstance(event, Undelivered):
            same = same and sent.wire_bytes == event.wire_bytes
        if isinstance(event, Received):
            same = same and sent.framed_bytes == event.framed_bytes
        if not same:
            wrong.append((event.source, event.counter))
    return tally("recorded with different sizes, kinds or ends", wrong)


def whole_ledgers(events: Timeline) -> list[str]:
    """Each node's lines are numbered without a gap, and nothing malformed arrived."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in events:
        numbers[event.node].append(event.seq)
    reasons = [
        f"ledger of {node} has lost or doubled lines"
        for node, found in sorted(numbers.items())
        if sorted(found) != list(range(len(found)))
    ]
    refused = events.of(Refused)
    if refused:
        reasons.append(f"{len(refused)} messages refused, first by {refused[0].node}: {refused[0].reason}")
    return reasons


def within_links(manifest: Manifest, events: Timeline) -> list[str]:
    """No message beats its links, and no pair's link carries two at once: together, bytes <= the capacity's integral.

    With bits = 8 x wire bytes and rate = the slower of both ends: left - start >= bits / rate, and arrival - posted
    >= bits / rate + the delays of both ends; 1 ns is granted to rounding. Jitter only ever adds.
    """
    nodes = manifest.by_name
    fast: list[MessageKey] = []
    before_due: list[MessageKey] = []
    for event in events.of(Transmitted):
        key = (event.source, event.counter)
        source, destination = nodes.get(event.source), nodes.get(event.destination)
        if source is None or destination is None or source.up_bps is None or destination.down_bps is None:
            continue
        # Each node's up is what it sends and its down what it receives, the server's too.
        rate_bps = min(source.up_bps, destination.down_bps)
        delay_ns = (source.up_one_way_ns or 0) + (destination.down_one_way_ns or 0)
        bits_ns = 8 * event.wire_bytes * SECOND_NS
        left_too_soon = (event.due_ns - event.start_ns + 1) * rate_bps < bits_ns
        posted_ns = events.posted[key].due_ns if key in events.posted else event.posted_ns
        arrived_too_soon = (event.arrival_ns - posted_ns - delay_ns + 1) * rate_bps < bits_ns
        if left_too_soon or arrived_too_soon or event.start_ns < posted_ns:
            fast.append(key)
    for received in events.of(Received):
        key = (received.source, received.counter)
        if key in events.transmitted and received.due_ns < events.transmitted[key].arrival_ns:
            before_due.append(key)
    return tally("faster than the links allow", fast) + tally("received before the network's arrival", before_due)


def within_channels(manifest: Manifest, events: Timeline) -> list[str]:
    """No capacity carries more than its integral: what began and left within a span of time has its bits there.

    Looked at for each channel over every busy period (in which something is always under way), up to each departure
    in it; 1 ns of each is granted to rounding.
    """
    nodes = manifest.by_name
    transmitted = sorted(events.of(Transmitted), key=lambda event: event.start_ns)
    over: dict[int, list[Transmitted]] = defaultdict(list)
    for event in transmitted:
        source, destination = nodes.get(event.source), nodes.get(event.destination)
        for number in (*(source.up_channels if source else ()), *(destination.down_channels if destination else ())):
            over[number].append(event)
    reasons = []
    for number, crossing in sorted(over.items()):
        rates = manifest.rates_of(number)
        found: list[str] = []
        for period in _busy(crossing):
            begun_ns = until_ns = period[0].start_ns
            bits = could = 0
            for event in sorted(period, key=lambda event: event.due_ns):
                bits += 8 * event.wire_bytes
                could += rates.integral(until_ns, event.due_ns + 1)
                until_ns = event.due_ns + 1
                if could < bits * SECOND_NS:
                    found.append(f"between {begun_ns / SECOND_NS:.3f} and {event.due_ns / SECOND_NS:.3f} s")
                    break
        if found:
            more = f", and {len(found) - 1} times more" if len(found) > 1 else ""
            reasons.append(f"{manifest.channels[number].name} carried more than its capacity {found[0]}{more}")
    return reasons


def _busy(crossing: Sequence[Transmitted]) -> Iterable[list[Transmitted]]:
    """Messages in the order of their starts, in groups between which nothing was under way."""
    period: list[Transmitted] = []
    end_ns = -1
    for event in crossing:
        if period and event.start_ns >= end_ns:
            yield period
            period = []
        period.append(event)
        end_ns = max(end_ns, event.due_ns)
    if period:
        yield period


def in_order(events: Timeline) -> list[str]:
    """First in, first out on each pair; time never runs backwards at a receiver."""
    reasons = []
    for node, received in events.by_node(Received).items():
        if any(later.due_ns < earlier.due_ns for earlier, later in pairwise(received)):
            reasons.append(f"time ran backwards at {node}")
        newest: dict[str, int] = {}
        for event in received:
            if event.counter < newest.get(event.source, -1):
                reasons.append(f"{event.source} -> {node}: message {event.counter} was overtaken")
            newest[event.source] = max(event.counter, newest.get(event.source, -1))
    free: dict[tuple[str, str], int] = {}
    for transmitted in sorted(events.of(Transmitted), key=lambda event: (event.source, event.counter)):
        pair = (transmitted.source, transmitted.destination)
        if transmitted.start_ns < free.get(pair, 0):
            reasons.append(f"{_way(*pair)}: two messages on the link at once, second {transmitted.counter}")
        free[pair] = transmitted.due_ns
    return reasons


def _way(source: str, destination: str, kind: str = "") -> str:
    return f"{source} -> {destination}" + (f" ({kind})" if kind else "")


def tally(what: str, messages: Sequence[MessageKey]) -> list[str]:
    if not messages:
        return []
    source, counter = messages[0]
    return [f"{len(messages)} messages {what}, first: number {counter} of {source}"]
