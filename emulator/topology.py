"""What lies between two nodes of a scenario: which capacities a flow goes over, with what delay, jitter and loss.

``up`` and ``down`` are a node's own directions: a message from a client to the server goes over the client's uplink,
its cell's uplink and the server's downlink; one to another client over both their cells. A half-duplex link or cell
is one capacity for both directions. A capacity that could never be full, since all that leads to it is smaller, is
left out: it would change no rate, and what shares nothing can be computed apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from emulator import tcp
from emulator.absences import Absences, of_client
from emulator.profiles import Cell, ClientSpec, Direction, Network, Scenario, ServerSpec
from emulator.sharing import FINENESS, Resource
from emulator.steps import Steps

MS = 10**6


class Channel(Resource):
    """A resource whose capacity may follow a trace, and be nothing while a client is absent. ``peak_bps``: the most."""

    __slots__ = ("absences", "peak_bps", "rates", "watched_ns")

    def __init__(self, name: str, peak_bps: int, rates: Steps | None = None, absences: Absences | None = None) -> None:
        super().__init__(name, peak_bps * FINENESS)
        self.peak_bps, self.rates, self.absences = peak_bps, rates, absences or None
        self.watched_ns = -1  # a change of capacity is planned for then
        self.update(0)

    def update(self, t_ns: int) -> None:
        """Set the capacity to that at ``t_ns``."""
        rate_bps = self.rates.at(t_ns) if self.rates else self.peak_bps
        if self.absences and self.absences.back_ns(t_ns) > t_ns:
            rate_bps = 0
        self.capacity = rate_bps * FINENESS

    def next_ns(self, t_ns: int) -> int | None:
        """When the capacity may change next; None: never."""
        rates_ns = self.rates.change_ns(t_ns) if self.rates else None
        absences_ns = self.absences.next_ns(t_ns) if self.absences else None
        return min((ns for ns in (rates_ns, absences_ns) if ns is not None), default=None)


class Side(NamedTuple):
    """A node's way out, or in: the direction of its own link, the capacities on it from the node on."""

    direction: Direction
    channels: tuple[Channel, ...]


class End(NamedTuple):
    """A node as the network sees it."""

    network: Network
    up: Side
    down: Side
    absences: Absences


class Topology:
    """The ends of all nodes of a scenario and the channels between them. Drawn with named streams of ``seed``."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.channels: list[Channel] = []
        self._server_name = scenario.server.name
        self.ends: dict[str, End] = {}
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
            sides = Side(network.up, (*up, *beyond[0])), Side(network.down, (*beyond[1], *down))
            self.ends[client.name] = End(network, *sides, absences)
        self._server(scenario.server, scenario, members)

    def shared_delay_ns(self) -> int | None:
        """The least delay of a message where clients share a capacity; None where they share none."""
        users: dict[str, int] = {}
        for name, end in self.ends.items():
            for channel in {*end.up.channels, *end.down.channels}:
                users[channel.name] = users.get(channel.name, 0) + (name != self._server_name)
        if all(count <= 1 for count in users.values()):
            return None
        ends = [end for name, end in self.ends.items() if name != self._server_name]
        server = self.ends[self._server_name]
        delays = [least_delay_ns(end.up.direction) + least_delay_ns(server.down.direction) for end in ends]
        delays += [least_delay_ns(server.up.direction) + least_delay_ns(end.down.direction) for end in ends]
        up, down = (min(least_delay_ns(getattr(end, side).direction) for end in ends) for side in ("up", "down"))
        return min(*delays, up + down)  # the last: from one client to another

    def _link(self, name: str, network: Network, absences: Absences | None) -> tuple[list[Channel], list[Channel]]:
        """The channels of a link: one a direction, or one for both and below it what is slower."""
        gone = absences if absences and absences.kind == "outage" else None
        up, down = network.up, network.down
        if network.duplex == "full":
            return self._channel(f"{name} up", up.rate_bps, up.rates, gone), self._channel(
                f"{name} down", down.rate_bps, down.rates, gone
            )
        wide = up if up.rate_bps >= down.rate_bps else down
        both_bps = tcp.half_duplex(wide.rate_bps) if network.transport == "tcp" else wide.rate_bps
        rates = _scaled(wide.rates, network.transport == "tcp")
        both = self._channel(f"{name} both", both_bps, rates, gone)
        own = [
            []
            if way is wide or way.rate_bps == wide.rate_bps
            else self._channel(f"{name} {side}", way.rate_bps, way.rates)
            for side, way in (("up", up), ("down", down))
        ]
        return [*own[0], *both], [*both, *own[1]]

    def _cell(self, cell: Cell, members: list[ClientSpec]) -> tuple[list[Channel], list[Channel]]:
        up_bps, down_bps = (
            (sum(client.network.up.rate_bps for client in members)),
            (sum(client.network.down.rate_bps for client in members)),
        )
        if cell.duplex == "half":
            carries_acks = any(client.network.transport == "tcp" for client in members)
            wide_bps, rates = max((cell.up_bps, cell.up_rates), (cell.down_bps, cell.down_rates), key=lambda w: w[0])
            wide_bps = tcp.half_duplex(wide_bps) if carries_acks else wide_bps
            both = self._channel(f"cell {cell.name}", wide_bps, _scaled(rates, carries_acks), None, up_bps + down_bps)
            return both, both
        up = self._channel(f"cell {cell.name} up", cell.up_bps, cell.up_rates, None, up_bps)
        return up, self._channel(f"cell {cell.name} down", cell.down_bps, cell.down_rates, None, down_bps)

    def _server(self, server: ServerSpec, scenario: Scenario, members: dict[str, list[ClientSpec]]) -> None:
        inward = sum(client.network.up.rate_bps for client in scenario.clients if not client.cell)
        outward = sum(client.network.down.rate_bps for client in scenario.clients if not client.cell)
        for cell in scenario.cells:
            most = max(cell.up_bps, cell.down_bps) if cell.duplex == "half" else 0
            inward += min(most or cell.up_bps, sum(client.network.up.rate_bps for client in members[cell.name]))
            outward += min(most or cell.down_bps, sum(client.network.down.rate_bps for client in members[cell.name]))
        network = server.network
        if network.duplex == "half":
            up, down = self._link(server.name, network, None)
        else:
            up = self._channel(f"{server.name} up", network.up.rate_bps, network.up.rates, None, outward)
            down = self._channel(f"{server.name} down", network.down.rate_bps, network.down.rates, None, inward)
        sides = Side(network.up, tuple(up)), Side(network.down, tuple(down))
        self.ends[server.name] = End(network, *sides, Absences(None, ""))

    def _channel(
        self, name: str, peak_bps: int, rates: Steps | None, gone: Absences | None = None, fed_bps: int | None = None
    ) -> list[Channel]:
        """A channel, or none where what leads to it cannot fill it."""
        least_bps = min(rates.values) if rates else peak_bps
        if fed_bps is not None and fed_bps <= least_bps:
            return []
        channel = Channel(name, peak_bps, rates, gone)
        self.channels.append(channel)
        return [channel]


def _scaled(rates: Steps | None, carries_acks: bool) -> Steps | None:
    if rates is None or not carries_acks:
        return rates
    return Steps(rates.starts_ns, tuple(map(tcp.half_duplex, rates.values)), rates.length_ns, rates.ahead_ns)


def _at_its_place(network: Network, stream: str) -> Network:
    """The link with its trace begun where the profile says, or at a place drawn in whole milliseconds."""
    traced = [d for d in (network.up, network.down) if d.rates or d.delays or d.losses]
    if not traced:
        return network
    steps = next(s for s in (traced[0].rates, traced[0].delays, traced[0].losses) if s)
    ahead_ns = network.trace_start_ns
    if ahead_ns is None:
        ahead_ns = random.Random(stream).randrange(max(steps.length_ns // MS, 1)) * MS
    up, down = (_from(direction, ahead_ns) for direction in (network.up, network.down))
    return Network(
        network.name, up, down, network.duplex, network.transport, network.rate_kind, trace_start_ns=ahead_ns
    )


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
