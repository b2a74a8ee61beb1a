"""Messages posted that had not left yet: the most that a node held, and which posts waited for room.

A client's send queue is limited by its device's profile, and a post that finds no room waits: the ledger says how long.
The server has no such limit, which would make its connections wait for each other; so the ledger says what it held.
"""

from __future__ import annotations

from collections.abc import Iterable

from emulator.ledger.events import Blocked, Posted, Transmitted
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import Timeline

MIB = 2**20
SECOND_NS = 10**9
NAMED = 3  # clients in a note; of the others it says how many


def held_peak_bytes(node: str, events: Timeline) -> int:
    """The most payload that ``node`` held at once, each message from its post until its last bit had left."""
    posted = {event.counter: event for event in events.of(Posted, node)}
    changes = [(event.due_ns, event.payload_bytes) for event in posted.values()]
    for event in events.of(Transmitted):
        if event.source == node and event.counter in posted:
            changes.append((event.due_ns, -event.payload_bytes))
    held_bytes = peak_bytes = 0
    for _, change_bytes in sorted(changes):  # at one moment what leaves comes first
        held_bytes += change_bytes
        peak_bytes = max(peak_bytes, held_bytes)
    return peak_bytes


def blocked(events: Timeline) -> list[str]:
    """Which clients' posts waited for room in their send queues, how often, how long together and at the longest."""
    waits = {node: [e.due_ns - e.since_ns for e in found] for node, found in events.by_node(Blocked).items()}
    if not waits:
        return []
    longest = sorted(waits, key=lambda node: -sum(waits[node]))  # equal ones stay in order of their names
    each = [f"{node} {_said(waits[node])}" for node in longest[:NAMED]]
    if rest := longest[NAMED:]:
        each.append(f"{len(rest)} more clients {_said(wait_ns for node in rest for wait_ns in waits[node])}")
    return [f"posts waited for room in a send queue (a larger send_queue_mib has it): {'; '.join(each)}"]


def _said(waits_ns: Iterable[int]) -> str:
    found = list(waits_ns)
    total_s, longest_s = sum(found) / SECOND_NS, max(found) / SECOND_NS
    times = "once" if len(found) == 1 else f"{len(found)} times"
    return f"{times}, {total_s:.3f} s in all, {longest_s:.3f} s at the longest"


def beyond_memory(manifest: Manifest, events: Timeline) -> list[str]:
    """Servers that held more than their devices have memory for: nothing stopped them."""
    notes = []
    for node in manifest.servers:
        has_bytes = node.training_bytes
        held_bytes = held_peak_bytes(node.name, events)
        if has_bytes is not None and held_bytes > has_bytes:
            what = f"held up to {held_bytes / MIB:.1f} MiB of messages that had not left"
            notes.append(
                f"{node.name} {what}; its device has {has_bytes / MIB:.1f} MiB to train in; give it one with more"
            )
    return notes


def unused_limits(manifest: Manifest) -> list[str]:
    """Send queues in the profiles of devices that are servers."""
    return [
        f"{node.name}: send_queue_mib = {node.send_queue_bytes / MIB:g} of {node.device} is a limit of clients: "
        "a server has none; leave it out"
        for node in manifest.servers
        if node.send_queue_bytes is not None
    ]
