"""Traffic over a fabric: messages posted at given times, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from emulator.ledger.events import Transmitted
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import Timeline
from emulator.network.fabric import Fabric
from emulator.network.jitter import Transmission
from emulator.profiles.scenario import Cell, ClientSpec, Direction, Network, Scenario, ServerSpec
from emulator.runtime.run_manifest import make_manifest
from emulator.testing.stage import MBIT, make_device

WIDE = 10**12


class Sent(NamedTuple):
    source: str
    destination: str
    size_bytes: int
    posted_ns: int = 0


def carry(fabric: Fabric, messages: Iterable[Sent]) -> list[Transmission]:
    """What becomes of each message, in their order; they are handed over when it is time, as in a run."""
    waiting = sorted(enumerate(messages), key=lambda numbered: numbered[1].posted_ns)
    found: dict[int, Transmission] = {}
    waiting.reverse()
    while True:
        next_ns = fabric.next_ns()
        while waiting and (next_ns is None or waiting[-1][1].posted_ns <= next_ns):
            number, sent = waiting.pop()
            fabric.post(sent.source, sent.destination, number, sent.size_bytes, sent.posted_ns)
            next_ns = fabric.next_ns()
        if next_ns is None:
            return [found[number] for number in sorted(found)]
        for event in fabric.advance():
            assert event.due_ns == next_ns
            assert event.moved_ns == 0
            if event.departs:
                found[event.counter] = event.transmission


def link(up_bps: int = MBIT, down_bps: int = 0, **more: object) -> Network:
    """An ideal link without delay; ``more`` as in ``Network``."""
    up, down = Direction(up_bps, 0, 0), Direction(down_bps or up_bps, 0, 0)
    return Network("link", up, down, **more)  # type: ignore[arg-type]


def fabric_of(
    *links: Network,
    server: Network | None = None,
    cells: tuple[Cell, ...] = (),
    within: tuple[str, ...] = (),
    seed: int = 1,
) -> Fabric:
    """A client on each of ``links``, in the cells named by ``within``; a server on a link that is never full."""
    device = make_device()
    specs = tuple(
        ClientSpec(f"client-{i}", i, device, network, cell=within[i] if within else "")
        for i, network in enumerate(links)
    )
    server_spec = ServerSpec("server", device, server or link(WIDE), 1)
    return Fabric(Scenario("traffic", "for tests", server_spec, specs, {}, cells), seed)


SETTINGS = {"none": {"rounds": 1, "stop_after_s": None}}


def manifest_of(made: Scenario) -> Manifest:
    return make_manifest(made, SETTINGS, clock="virtual", seed=1, dilation=None, argv=[])


def record(made: Scenario, sent: list[Sent], hurry: int = 0) -> Timeline:
    """What the network would write down; ``hurry``: it serves so many per cent too fast, whatever it says."""
    fabric = Fabric(made, 1)
    transmitted = carry(fabric, sent)
    return Timeline(
        Transmitted(
            due_ns=c.start_ns + (c.left_ns - c.start_ns) * 100 // (100 + hurry),
            actual_ns=0,
            counter=i,
            source=s.source,
            destination=s.destination,
            kind="blob",
            wire_bytes=s.size_bytes,
            payload_bytes=0,
            posted_ns=s.posted_ns,
            start_ns=c.start_ns,
            arrival_ns=c.arrival_ns,
        )
        for i, (s, c) in enumerate(zip(sent, transmitted, strict=True))
    )
