"""The paths between the nodes of a scenario: the capacities that a flow crosses, their delay, jitter and loss.

``up`` and ``down`` are a node's own directions: a message from a client to the server goes over the client's uplink,
its cell's uplink and the server's downlink; one to another client over both their cells. A half-duplex link or cell
is one capacity for both directions, at each moment the larger of their rates, and a direction that is ever slower
keeps to its own rate besides. A capacity that could never be full, since all that leads to it is smaller, is left out:
it would change no rate, and what shares nothing can be computed apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from emulator.network import tcp
from emulator.network.fairness import Q20, Resource
from emulator.piecewise import PointwiseMax, StepFunction
from emulator.profiles.availability import Absences, of_client
from emulator.profiles.capacity import VaryingRate, wider
from emulator.profiles.scenario import Cell, ClientSpec, Direction, Network, Scenario, ServerSpec

MS = 10**6


class Channel(Resource):
    """A resource whose capacity may follow a trace, and is 0 while a client is absent. ``peak_bps``: its maximum."""

    __slots__ = ("absences", "peak_bps", "rates", "watched_ns")

    def __init__(
        self,
        name: str,
        peak_bps: int,
        rates: StepFunction | PointwiseMax | None = None,
        absences: Absences | None = None,
    ) -> None:
        super().__init__(name, peak_bps * Q20)
        self.peak_bps, self.rates, self.absences = peak_bps, rates, absences or None
        self.watched_ns = -1  # a change of capacity is planned for then
        self.update(0)

    def update(self, t_ns: int) -> None:
        """Set the capacity to that at ``t_ns``."""
        rate_bps = self.rates.at(t_ns) if self.rates else self.peak_bps
        if self.absences and self.absences.back_ns(t_ns) > t_ns:
            rate_bps = 0
        self.capacity_q20 = rate_bps * Q20

    def next_ns(self, t_ns: int) -> int | None:
        """The time, ns, at which the capacity may change next; None: never."""
        rates_ns = self.rates.change_ns(t_ns) if self.rates else None
        absences_ns = self.absences.next_ns(t_ns) if self.absences else None
        return min((ns for ns in (rates_ns, absences_ns) if ns is not None), default=None)


class LinkDirection(NamedTuple):
    """One direction of a node's link, and the capacities on it, from the node on (up) or towards it (down)."""

    direction: Direction
    channels: tuple[Channel, ...]


class NodeLink(NamedTuple):
    """A node's access to the network: its network profile, both directions, and the absences of the node."""

    network: Network
    up: LinkDirection
    down: LinkDirection
    absences: Absences


class Topology:
    """The links of all nodes of a scenario and the channels between them, drawn with named streams of ``seed``."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.channels: list[Channel] = []
        self._server_name = scenario.server.name
        self.links: dict[str, NodeLink] = {}
        members: dict[str, list[ClientSpec]] = {cell.name: [] for cell in scenario.cells}
        for client in scenario.clients:
            if client.cell:
                members[client.cell].append(client)
        cells = {cell.name: self._cell(cell, members[cell.name]) for cell in scenario.cells}
        for client in scenario.clients:
            absences = of_client(client.absence, seed, client.name)
            network = _at_its_place(client.network, f"{seed}:trace:{client.name}")
            up, down = self._link(client.name, network, absences)
            beyond = cells.get(client.cell, ((), ()))
            sides = LinkDirection(network.up, (*up, *beyond[0])), LinkDirection(network.down, (*beyond[1], *down))
            self.links[client.name] = NodeLink(network, *sides, absences)
        self._server(scenario.server, scenario, members)

    def shared_delay_ns(self) -> int | None:
        """The least delay of a message where clients share a capacity; None where they share none."""
        users: dict[str, int] = {}
        for name, link in self.links.items():
            for channel in {*link.up.channels, *link.down.channels}:
                users[channel.name] = users.get(channel.name, 0) + (name != self._server_name)
        if all(count <= 1 for count in users.values()):
            return None
        links = [link for name, link in self.links.items() if name != self._server_name]
        server = self.links[self._server_name]
        delays = [least_delay_ns(link.up.direction) + least_delay_ns(server.down.direction) for link in links]
        delays += [least_delay_ns(server.up.direction) + least_delay_ns(link.down.direction) for link in links]
        up, down = (min(least_delay_ns(getattr(link, side).direction) for link in links) for side in ("up", "down"))
        return min(*delays, up + down)  # the last: from one client to another

    def _link(self, name: str, network: Network, absences: Absences | None) -> tuple[list[Channel], list[Channel]]:
        """The channels of a link: one a direction, or one for both and beyond it those of what is slower."""
        gone = absences if absences and absences.kind == "outage" else None
        up, down = (VaryingRate(way.rate_bps, way.rates) for way in (network.up, network.down))
        if network.duplex == "half":
            return self._half((f"{name} both", name), up, down, network.transport == "tcp", gone)
        return self._channel(f"{name} up", up, gone), self._channel(f"{name} down", down, gone)

    def _cell(self, cell: Cell, members: list[ClientSpec]) -> tuple[list[Channel], list[Channel]]:
        """The same of a cell: a client's way out of it and its way in, from the client on and towards it."""
        fed_bps = (
            sum(client.network.up.rate_bps for client in members),
            sum(client.network.down.rate_bps for client in members),
        )
        name, up, down = (
            f"cell {cell.name}",
            VaryingRate(cell.up_bps, cell.up_rates),
            VaryingRate(cell.down_bps, cell.down_rates),
        )
        if cell.duplex == "half":
            carries_acks = any(client.network.transport == "tcp" for client in members)
            return self._half((name, name), up, down, carries_acks, None, fed_bps)
        return (
            self._channel(f"{name} up", up, fed_bps=fed_bps[0]),
            self._channel(f"{name} down", down, fed_bps=fed_bps[1]),
        )

    def _half(
        self,
        names: tuple[str, str],
        up: VaryingRate,
        down: VaryingRate,
        carries_acks: bool,
        gone: Absences | None,
        fed_bps: tuple[int, int] | None = None,
    ) -> tuple[list[Channel], list[Channel]]:
        """One capacity for both directions, the larger at each moment, and one of its own for what is ever slower.

        ``names``: of the first, and what the others' begin with.
        """
        wide = wider(up, down)
        shared = _less_acks(wide) if carries_acks else wide
        both = self._channel(names[0], shared, gone, sum(fed_bps) if fed_bps else None)
        own = [
            [] if way == wide else self._channel(f"{names[1]} {side}", way, None, fed)
            for side, way, fed in zip(("up", "down"), (up, down), fed_bps or (None, None), strict=True)
        ]
        return [*own[0], *both], [*both, *own[1]]

    def _server(self, server: ServerSpec, scenario: Scenario, members: dict[str, list[ClientSpec]]) -> None:
        inward = sum(client.network.up.rate_bps for client in scenario.clients if not client.cell)
        outward = sum(client.network.down.rate_bps for client in scenario.clients if not client.cell)
        for cell in scenario.cells:
            inward += min(cell.up_bps, sum(client.network.up.rate_bps for client in members[cell.name]))
            outward += min(cell.down_bps, sum(client.network.down.rate_bps for client in members[cell.name]))
        network = server.network
        if network.duplex == "half":
            up, down = self._link(server.name, network, None)
        else:
            up = self._channel(f"{server.name} up", VaryingRate(network.up.rate_bps, network.up.rates), None, outward)
            down = self._channel(
                f"{server.name} down", VaryingRate(network.down.rate_bps, network.down.rates), None, inward
            )
        sides = LinkDirection(network.up, tuple(up)), LinkDirection(network.down, tuple(down))
        self.links[server.name] = NodeLink(network, *sides, Absences(None, ""))

    def _channel(
        self, name: str, way: VaryingRate, gone: Absences | None = None, fed_bps: int | None = None
    ) -> list[Channel]:
        """A channel, or none where what leads to it cannot fill it."""
        least_bps = way.rates.least if way.rates else way.peak_bps
        if fed_bps is not None and fed_bps <= least_bps:
            return []
        channel = Channel(name, way.peak_bps, way.rates, gone)
        self.channels.append(channel)
        return [channel]


def _less_acks(way: VaryingRate) -> VaryingRate:
    """The rate that the acknowledgements of the other direction leave to data."""
    rates = way.rates
    if isinstance(rates, PointwiseMax):
        return VaryingRate(tcp.half_duplex(way.peak_bps), PointwiseMax(_scaled(rates.first), _scaled(rates.second)))
    return VaryingRate(tcp.half_duplex(way.peak_bps), _scaled(rates) if rates else None)


def _scaled(rates: StepFunction) -> StepFunction:
    return StepFunction(rates.starts_ns, tuple(map(tcp.half_duplex, rates.values)), rates.length_ns, rates.ahead_ns)


def _at_its_place(network: Network, stream: str) -> Network:
    """The link with its trace begun where the profile says, or at a place drawn in whole milliseconds."""
    ways = network.up, network.down
    traces = [steps for way in ways for steps in (way.rates, way.delays, way.losses) if steps]
    if not traces:
        return network
    ahead_ns = network.trace_start_ns
    if ahead_ns is None:  # anywhere in the longest, so that no part of any is left out
        longest_ns = max(steps.length_ns for steps in traces)
        ahead_ns = random.Random(stream).randrange(max(longest_ns // MS, 1)) * MS
    up, down = (_from(direction, ahead_ns) for direction in (network.up, network.down))
    return replace(network, up=up, down=down, trace_start_ns=ahead_ns)


def _from(direction: Direction, ahead_ns: int) -> Direction:
    moved = (s.shifted(ahead_ns) if s else None for s in (direction.rates, direction.delays, direction.losses))
    return Direction(direction.rate_bps, direction.one_way_ns, direction.jitter_ns, direction.loss_ppb, *moved)


def delay_ns(directions: Iterable[Direction], t_ns: int) -> int:
    """The one-way delays of links in a row, at a moment."""
    return sum(d.delays.at(t_ns) if d.delays else d.one_way_ns for d in directions)


def least_delay_ns(direction: Direction) -> int:
    """The one-way delay that a link never falls below."""
    return min(direction.delays.values) if direction.delays else direction.one_way_ns


def loss_ppb(directions: Iterable[Direction], t_ns: int) -> int:
    """The loss over links in a row, at a moment."""
    total = 0
    for direction in directions:
        total = tcp.both_losses(total, direction.losses.at(t_ns) if direction.losses else direction.loss_ppb)
    return total
