"""A client's activity: when it computes, and when messages pass its radio, from the ledger.

A message that the client sends passes its radio from first to last bit; one that it receives does so later by the time
that the last bit takes to arrive. TCP's set-up counts with the message that it is for. Nothing passes while the client
is unreachable.

A message's *airtime* is the time that the client's own link would take to carry it at its full rate: where others, a
cell or TCP slow it down, the radio is connected for the whole span and on the air for a part of it. Acknowledgements
are bytes on the other way; what had left once already has airtime of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

import msgspec
import numpy as np

from emulator.energy.passage import ClientActivity, Passage
from emulator.energy.powers import PowerFiles, Powers
from emulator.ledger.events import Computed, Transmitted, Unreachable
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import Timeline
from emulator.profiles.power import RadioPower
from emulator.spans import Pairs, joined, pairs_of, without

SECOND_NS = 10**9

Capacity = Callable[[int, int], int]  # bit x 10^9 that a client's own link carries at its full rate between two ns


def activities(clients: Iterable[str], manifest: Manifest, events: Timeline) -> dict[str, ClientActivity]:
    """The activity of each client."""
    names = [*clients]
    ways: dict[str, dict[str, list[tuple[int, int, int, int]]]] = {name: {"up": [], "down": []} for name in names}
    set_up: dict[str, dict[str, list[tuple[int, int]]]] = {name: {"up": [], "down": []} for name in names}
    free_ns: dict[tuple[str, str], int] = defaultdict(int)  # when a connection's last message had left
    for event in sorted(events.of(Transmitted), key=attrgetter("start_ns")):
        if event.source == event.destination:
            continue
        between = event.source, event.destination
        waits_ns = max(event.posted_ns, free_ns[between]), event.start_ns  # for nothing but TCP's set-up
        free_ns[between] = event.due_ns
        for name, way, later_ns in (
            (event.source, "up", 0),
            (event.destination, "down", event.arrival_ns - event.due_ns),
        ):
            if name in ways:
                bits = 8 * (event.wire_bytes + event.resent_bytes)
                ways[name][way].append((event.start_ns + later_ns, event.due_ns + later_ns, bits, 8 * event.ack_bytes))
                set_up[name][way].append((waits_ns[0] + later_ns, waits_ns[1] + later_ns))
    gone: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for absence in events.of(Unreachable):
        gone[absence.client].append((absence.due_ns, absence.until_ns))
    return {
        name: _activity(
            joined(pairs_of([(event.start_ns, event.due_ns) for event in events.of(Computed, name)])),
            ways[name],
            set_up[name],
            joined(pairs_of(gone[name])),
            {way: own_capacity(manifest, name, way) for way in ("up", "down")},
        )
        for name in names
    }


def _activity(
    computing: Pairs,
    ways: Mapping[str, list[tuple[int, int, int, int]]],
    set_up: Mapping[str, list[tuple[int, int]]],
    gone: Pairs,
    capacity: Mapping[str, Capacity | None],
) -> ClientActivity:
    passages, spans = {}, {}
    for way, other in (("up", "down"), ("down", "up")):
        # What passes by this way: its messages, and the acknowledgements of the other's.
        rows = [(start, end, bits) for start, end, bits, _ in ways[way]]
        rows += [(start, end, acks) for start, end, _, acks in ways[other] if acks]
        rows.sort()
        airtime = [_airtime_ns(row, capacity[way]) for row in rows]
        table = np.asarray(rows, np.int64).reshape(-1, 3)
        passages[way] = Passage(table[:, :2], np.asarray(airtime, np.int64), table[:, 2])
        own = joined(pairs_of([(start, end) for start, end, _, _ in ways[way]]), pairs_of(set_up[way]))
        spans[way] = without(own, gone)
    return ClientActivity(computing, spans["up"], joined(*spans.values()), passages["up"], passages["down"])


def _airtime_ns(row: tuple[int, int, int], capacity: Capacity | None) -> int:
    """The part of a span in which the link's full rate carries so many bits; all of it where that is not known."""
    start_ns, end_ns, bits = row
    span_ns = end_ns - start_ns
    carries = capacity(start_ns, end_ns) if capacity else 0
    return min(span_ns, span_ns * bits * SECOND_NS // carries) if carries else span_ns


def own_capacity(manifest: Manifest, name: str, way: str) -> Capacity | None:
    """The rate of a client's own link over time, without what it shares with others; None in a record without it."""
    node = manifest.by_name[name]
    numbers = node.up_channels if way == "up" else node.down_channels
    own = [channel for number in numbers if (channel := manifest.channels[number]).name.startswith(f"{name} ")]
    if all(channel.trace is None and channel.larger_of is None for channel in own):
        bps = min((channel.bps for channel in own), default=node.up_bps if way == "up" else node.down_bps)
        return (lambda start_ns, end_ns: (end_ns - start_ns) * bps) if bps else None
    rates = [manifest.rates_of(manifest.channels.index(channel)) for channel in own]
    return lambda start_ns, end_ns: min(each.integral(start_ns, end_ns) for each in rates)


def powers_of(manifest: Manifest, files: PowerFiles) -> dict[str, Powers]:
    """Power of each client, in order; ``files`` go before the record's own. Records of older versions have none."""
    parts = manifest.parts
    radios = [msgspec.convert(each.get("radio"), RadioPower | None) for each in parts.networks] if parts else []
    found = {}
    for node in manifest.clients:
        board = radio = None
        if parts and node.device_number is not None and node.network_number is not None:
            board, radio = parts.devices[node.device_number].power, radios[node.network_number]
        device, network = (name.partition("#")[0] for name in (node.device, node.network))  # as their files are called
        board, radio = files.devices.get(device, board), files.networks.get(network, radio)
        found[node.name] = Powers(node.device, board, node.network, radio)
    return found
