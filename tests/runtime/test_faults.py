"""A broken network process, on either clock: the run's verdict on itself turns bad, and says what is wrong.

Everything here goes through real sockets and is recorded by nodes that know nothing of the fault.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from relay import play
from toy import make_manifest

from emulator.checks.health import Health, check_health
from emulator.clock.conductors import CLOCKS
from emulator.ledger.events import Lifecycle
from emulator.ledger.files import read_timeline
from emulator.network.fabric import Fabric
from emulator.node.node import ClientNode, ServerNode
from emulator.testing.stage import MBIT, MS, WAY_NS, Note, note
from emulator.transport.endpoint import ANNOUNCED, ARRIVING
from emulator.transport.router import RelayedMessage, Router

MESSAGES = 5
VICTIM = 2  # of each client's messages


class Dropping(Router):
    """Loses one message between its link and its receiver, without a trace."""

    def _announce(self, message: RelayedMessage) -> None:
        if message.header.counter != VICTIM:
            super()._announce(message)

    def _notify(self, node: str, due_ns: int, rank: int, *fields: object) -> None:
        if fields[0] == ARRIVING and fields[2] == VICTIM:
            del self._messages[str(fields[1]), VICTIM]
        else:
            super()._notify(node, due_ns, rank, *fields)


class Doubling(Router):
    """Delivers one message again, as if it were another."""

    def _on_transmitted(self, message: RelayedMessage) -> None:
        super()._on_transmitted(message)
        if message.header.counter == VICTIM:
            source, arrival_ns = message.source, message.transmission.arrival_ns
            self._send(message.destination, ANNOUNCED, source, 99, message.encoded)
            self._notify(message.destination, arrival_ns, 0, ARRIVING, source, 99, arrival_ns)


class Reordering(Router):
    """Lets the messages behind one of them overtake it."""

    def _on_transmitted(self, message: RelayedMessage) -> None:
        if message.header.counter == VICTIM:
            message.transmission = message.transmission._replace(arrival_ns=message.transmission.arrival_ns + 50 * MS)
        super()._on_transmitted(message)


class Rushing(Router):
    """Serves 1 % too fast."""

    def __init__(self, address: str, fabric: Fabric, *more: Any) -> None:
        super().__init__(address, fabric, *more)
        for channel in fabric.topology.channels:
            channel.capacity_q20 += channel.capacity_q20 // 100


FAULTS: dict[str, tuple[type[Router], str]] = {
    "none": (Router, ""),
    "drops": (Dropping, "neither received nor undelivered"),
    "doubles": (Doubling, "never posted"),
    "reorders": (Reordering, "was overtaken"),
    "is 1 % too fast": (Rushing, "faster than the links allow"),
}


async def client(node: ClientNode) -> None:
    for number in range(MESSAGES):
        await node.post("server", note(number))


async def server(node: ServerNode) -> None:
    """Takes what comes until nothing has come for a while."""
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.2):
                await node.recv(Note)


def judge(folder: Path, clock: str, make: type[Router]) -> Health:
    relay, _ = play(folder, 2, server, client, clock=CLOCKS[clock], make=make)
    link = {"up_bps": MBIT, "down_bps": MBIT, "up_one_way_ns": WAY_NS // 2, "down_one_way_ns": WAY_NS // 2}
    nodes = [{"name": name, "role": name.partition("-")[0], "device": "board", **link} for name in relay.names]
    finished = Lifecycle(due_ns=0, actual_ns=0, node="supervisor", seq=0, outcome="finished")
    return check_health(make_manifest(clock=clock, nodes=nodes), {"toy": [*read_timeline(folder), finished]})


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_broken_network_turns_the_verdict_bad(clock: str, fault: str, folder: Path) -> None:
    make, expected = FAULTS[fault]
    health = judge(folder, clock, make)
    assert health.verdict == ("bad" if expected else "good"), health.reasons
    assert expected in " ".join(health.reasons)
