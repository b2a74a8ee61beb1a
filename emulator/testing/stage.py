"""Nodes of a small scenario in one loop whose time jumps, without processes; what they record is kept.

Every figure follows by hand: 1 Mbit/s and 10 ms a link, so a byte takes 8 µs and every way 20 ms; an operation that
torch dispatches takes 1 ms, and ``operations(n)`` dispatches n of them and moves no bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from emulator.compute.counting import ComputeHost
from emulator.ledger.events import Event
from emulator.node.node import ClientNode, ServerNode
from emulator.preflight.in_process import InProcessHost, InProcessNodes, ProfiledCosts
from emulator.profiles.scenario import ClientSpec, Device, Direction, Network, Scenario, ServerSpec
from emulator.transport.messages import Message, Parcel

MS = 10**6
SECOND = 10**9
MBIT = 10**6
BYTE_NS = 8000  # on 1 Mbit/s
WAY_NS = 20 * MS

_ONE = torch.zeros(1)


class Blob(Message, frozen=True, kw_only=True):
    """A message that weighs something."""

    official: ClassVar[tuple[str, ...]] = ("x",)
    x: torch.Tensor


class Note(Message, frozen=True, kw_only=True):
    """A message that weighs next to nothing."""

    number: int


def blob(size_bytes: int, fill: int = 0, round: int = 0) -> Blob:
    return Blob(round=round, x=torch.full((size_bytes,), fill, dtype=torch.uint8))


def note(number: int) -> Note:
    return Note(round=0, number=number)


def link_ns(*messages: Message) -> int:
    """How long a link of 1 Mbit/s needs for these."""
    return BYTE_NS * sum(Parcel(message, 0).sizes.wire for message in messages)


def operations(count: int) -> int:
    """Dispatch ``count`` operations, views, that move no bytes."""
    for _ in range(count):
        _ONE.view(1)
    return count


def make_network(name: str = "link", rate_bps: int = MBIT, one_way_ns: int = 10 * MS, jitter_ns: int = 0) -> Network:
    direction = Direction(rate_bps, one_way_ns, jitter_ns)
    return Network(name, direction, direction)


def make_device(name: str = "board", dispatch_ns: int = MS, send_queue_bytes: int = 2**30) -> Device:
    return Device(name, 2**30, 2**20, 2**20, 10**9, 10**8, 10**9, dispatch_ns, send_queue_bytes)


def make_scenario(clients: int = 2, workers: int = 1, device: Device | None = None, **network: Any) -> Scenario:
    """Equal clients on equal links, and a server whose link is wide enough for all of them at once."""
    device, link = device or make_device(), make_network(**network)
    specs = tuple(ClientSpec(f"client-{i}", i, device, link) for i in range(clients))
    wide = Direction(link.up.rate_bps * clients, link.up.one_way_ns, link.up.jitter_ns)
    server = Network(link.name, wide, wide)
    return Scenario("stage", "for tests", ServerSpec("server", device, server, workers), specs, {})


def queue_of(size_bytes: int) -> Stage:
    """A stage whose nodes have send queues of that size."""
    return Stage(make_scenario(device=make_device(send_queue_bytes=size_bytes)))


class Stage(InProcessNodes):
    """The nodes of ``scenario`` (``members``: only these). ``events``: what each has recorded, in its order."""

    def __init__(
        self,
        scenario: Scenario,
        *types: type[Message],
        seed: int = 1,
        members: tuple[str, ...] | None = None,
        host: Callable[[ProfiledCosts], ComputeHost] = InProcessHost,
        cap: Any = None,
    ) -> None:
        clients = [client for client in scenario.clients if not members or client.name in members]
        self.events: dict[str, list[Event]] = {
            name: [] for name in (*(client.name for client in clients), scenario.server.name)
        }
        costs = ProfiledCosts(len(self.events))
        super().__init__(
            scenario,
            seed,
            clients,
            types or (Blob, Note),
            costs,
            lambda _name: host(costs),
            lambda name: self.events[name].append,
            cap=cap,
        )
        self._broken: list[dict[str, Any]] = []  # exceptions in callbacks, which asyncio would only log
        self.loop.set_exception_handler(lambda _loop, context: self._broken.append(context))

    @property
    def client(self) -> ClientNode:
        node = self.nodes["client-0"]
        assert isinstance(node, ClientNode)
        return node

    @property
    def server(self) -> ServerNode:
        node = self.nodes["server"]
        assert isinstance(node, ServerNode)
        return node

    def of(self, node: str, kind: type[Event]) -> list[Any]:
        """A node's events of one kind."""
        return [event for event in self.events[node] if isinstance(event, kind)]

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.wind_up()
        assert self._broken == []
