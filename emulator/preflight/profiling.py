"""One process plays an algorithm on a few clients without waiting: what its computations cost, how long it takes.

The same nodes, links and wire format as in a run, but in one event loop whose time jumps from event to event and with
computations run in line. The work of each distinct computation is counted at its first few runs and timed at all. A
``Config`` may say by ``rehearsed()`` what is to be played instead of it.
It ends after a fixed amount of work, not of host time: what is counted, and so the timeline, is the same on every host.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from emulator.clock.loop import DELIVERY_RANK, LEFT_RANK, EmulatedLoop, InstantPacer
from emulator.compute.counting import Costs, HostRun
from emulator.compute.device import Speed, Work, duration_ns
from emulator.compute.tensor_account import RECEIVED, TEMPORARIES, owned_by
from emulator.compute.uncharged import Uncharged
from emulator.host.liveness import PULSE
from emulator.ledger.events import Computed, Event, RoundEnded
from emulator.network.fabric import Fabric, Happening
from emulator.node.node import ClientNode, Node, ServerNode
from emulator.preflight.dilation import Rehearsed, Span
from emulator.preflight.in_process import InlineFabric
from emulator.profiles.scenario import ClientSpec, Device, Scenario
from emulator.transport.endpoint import CHUNK_BYTES
from emulator.transport.messages import Incoming, Message, Parcel, decode_header, kind_of

BUDGET_NS = 2 * 10**9  # of time on REFERENCE; what it has not met by then is counted at its first run
MEASURED_BUDGET_NS = 90 * 10**9  # the same where durations come from CPU time, which drifts by a tenth in seconds


class Reference(NamedTuple):
    """A host of which the budget is so much time: about one core of a server of 2020, counting included."""

    dense_flops: int = 25 * 10**9
    depthwise_flops: int = 1 * 10**9
    memory_rate_bytes: int = 4 * 10**9
    dispatch_ns: int = 12_000


REFERENCE = Reference()


class RehearsedCosts(Costs):
    """A cost table that counts each computation at its first ``counted_runs`` and keeps the least.

    An optimizer allocates its state at its first step, so with one optimizer a node, one run more than there are
    nodes sees a later step. ``key`` is that of the computation in hand. ``spent`` is called when ``budget_ns`` are.
    """

    def __init__(
        self,
        counted_runs: int,
        budget_ns: int = BUDGET_NS,
        measured_ns: dict[str, int] | None = None,
        host: Speed | None = None,
    ) -> None:
        super().__init__({}, measured_ns, host)
        self.key = ""
        self.spent: Callable[[], None] = lambda: None
        self._left_ns = budget_ns
        self.counted_runs = counted_runs
        self.repeats: dict[str, int] = {}  # how often a computation is repeated within one span, at most
        self._counted: dict[str, int] = {}

    def knows(self, key: str) -> bool:
        self.key = key
        return self._counted.get(key, 0) >= self.counted_runs

    def count(self, key: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self._counted[key] = self._counted.get(key, 0) + 1
        before = self.table.get(key)
        try:
            return super().count(key, fn, args)
        finally:
            if before is not None:
                self.table[key] = min(before, self.table[key], key=lambda work: work.operations)

    def carry_out(
        self, key: str, fn: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, counted: bool
    ) -> list[Any]:
        """Run ``fn`` for the first of the ``arguments`` and take what it returned for all."""
        self.repeats[key] = max(len(arguments), self.repeats.get(key, 0))
        return super().carry_out(key, fn, arguments[:1], counted=counted) * len(arguments)

    def spend(self) -> None:
        """The computation in hand has run."""
        had_ns, self._left_ns = self._left_ns, self._left_ns - duration_ns(self.table[self.key], REFERENCE)
        if had_ns > 0 >= self._left_ns:
            self.spent()


class InlineHost:
    """Runs one node's computations at once, in the loop's own thread; keeps their host times by cost key."""

    def __init__(self, costs: RehearsedCosts, name: str = "", watch: Uncharged | None = None) -> None:
        self._costs, self._name, self._watch = costs, name, watch
        self.host_ns: dict[str, list[int]] = {}  # without counting
        self.counted_ns: dict[str, list[int]] = {}
        self.cpu_ns: dict[str, list[int]] = {}  # without counting

    def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun:
        del wake
        counted = not self._costs.knows(self._costs.key)
        run = HostRun()
        PULSE.begin("computation")
        outside = self._watch.computing() if self._watch else contextlib.nullcontext()
        with outside, owned_by(self._name, TEMPORARIES, self._costs.key):
            run.carry_out(fn, clock)
        PULSE.begin("coroutine")
        kind = self.counted_ns if counted else self.host_ns
        kind.setdefault(self._costs.key, []).append(run.host_ns)
        if not counted:
            self.cpu_ns.setdefault(self._costs.key, []).append(run.cpu_ns)
        self._costs.spend()
        return run


class InlineOutlet:
    """Carries parcels over the fabric's connections to the other nodes of the same loop."""

    def __init__(self, name: str, loop: EmulatedLoop, fabric: InlineFabric, outlets: dict[str, InlineOutlet]) -> None:
        self.name, self._loop, self._fabric, self._outlets = name, loop, fabric, outlets
        self.types: dict[str, type[Message]] = {}
        self.on_delivery: Callable[[Incoming, str, int], None]
        self.on_left: Callable[[int], None]
        self.on_failure: Callable[[Exception], None]
        self.on_refused: Callable[[str, str], None]
        outlets[name] = self

    def post(self, destination: str, parcel: Parcel, stamp_ns: int) -> None:
        receiver, counter = self._outlets[destination], parcel.header.counter
        incoming = Incoming(decode_header(parcel.encoded), len(parcel.encoded), receiver.types, self.name)
        with owned_by(destination, RECEIVED):
            incoming.allocate()
        for chunk in parcel.chunks(CHUNK_BYTES):
            incoming.fill(chunk)

        def left(happening: Happening) -> None:
            deliver = partial(receiver.on_delivery, incoming, self.name, counter)
            self._loop.at(happening.carriage.left_ns, partial(self.on_left, counter), LEFT_RANK)
            self._loop.at(happening.carriage.arrival_ns, deliver, DELIVERY_RANK)

        self._fabric.post(self.name, destination, counter, parcel.sizes.wire, stamp_ns, left)


class Players(NamedTuple):
    """What is left of nodes that have played in one loop."""

    nodes: dict[str, Node]
    hosts: dict[str, InlineHost]
    costs: RehearsedCosts
    elapsed_ns: int
    whole: bool
    uncharged: list[str]


def representatives(module_name: str, settings: dict[str, Any], scenario: Scenario) -> list[ClientSpec]:
    """One client of each kind of device, in order: that whose step is the largest, where the algorithm's ``Config`` can
    tell (``heaviest(indices)``: the index of it), else the first."""
    config = msgspec.convert(settings, importlib.import_module(module_name).Config)
    heaviest = getattr(config, "heaviest", min)
    kinds: dict[str, list[int]] = {}
    for client in scenario.clients:
        kinds.setdefault(client.device.name, []).append(client.index)
    chosen = {heaviest(indices) for indices in kinds.values()}
    return [client for client in scenario.clients if client.index in chosen]


def rehearse(
    module_name: str, settings: dict[str, Any], scenario: Scenario, seed: int, budget_ns: int = BUDGET_NS
) -> Rehearsed:
    """Play ``module_name`` with one client of each kind of device, until it ends or the budget is used up."""
    specs = representatives(module_name, settings, scenario)
    members = {**{client.name: client.device for client in specs}, scenario.server.name: scenario.server.device}
    where = module_name, settings, scenario, seed, members
    measured_ns = _measured(play(*where, MEASURED_BUDGET_NS)) if scenario.host else {}
    players = play(*where, budget_ns, measured_ns=measured_ns)
    table = players.costs.table
    overhead_ns = _counting_overhead_ns(table, players.hosts.values())
    spans: list[Span] = []
    host_ns_of: dict[str, int] = {}
    for name, host in players.hosts.items():
        device, host_ns_of[name] = members[name], 0
        for key in sorted(host.host_ns.keys() | host.counted_ns.keys()):
            plain, counted = host.host_ns.get(key, []), host.counted_ns.get(key, [])
            counting_ns = int(table[key].operations * overhead_ns)
            host_ns = int(statistics.median(plain)) if plain else max(min(counted) - counting_ns, 0)
            times, repeats = len(plain) + len(counted), players.costs.repeats[key]
            host_ns_of[name] += host_ns * repeats * times
            if times > 1 or repeats > 1:  # a first run pays for what torch prepares once for each shape
                function, span_ns = (
                    key.split("(")[0].rpartition(".")[2],
                    repeats * players.costs.duration_ns(key, device),
                )
                spans.append(Span(device.name, function, span_ns, repeats * host_ns, times))
    return Rehearsed(
        costs=table,
        spans=spans,
        elapsed_ns=players.elapsed_ns,
        server_host_ns=host_ns_of[scenario.server.name],
        client_host_ns={client.device.name: host_ns_of[client.name] for client in specs},
        clients={client.device.name: 1 for client in specs},
        whole=players.whole,
        measured_ns=measured_ns,
        uncharged=players.uncharged,
    )


def _measured(players: Players) -> dict[str, int]:
    """CPU time by cost key: the median of all runs in which nothing was counted."""
    runs: dict[str, list[int]] = {}
    for host in players.hosts.values():
        for key, cpu_ns in host.cpu_ns.items():
            runs.setdefault(key, []).extend(cpu_ns)
    return {key: int(statistics.median(cpu_ns)) for key, cpu_ns in sorted(runs.items())}


def _counting_overhead_ns(table: dict[str, Work], hosts: Iterable[InlineHost]) -> float:
    """What counting adds to the host time of one operation: the median over what ran both ways."""
    found = [
        (min(host.counted_ns[key]) - statistics.median(plain)) / max(table[key].operations, 1)
        for host in hosts
        for key, plain in host.host_ns.items()
        if key in host.counted_ns
    ]
    return max(statistics.median(found), 0.0) if found else 0.0


def play(
    module_name: str,
    settings: dict[str, Any],
    scenario: Scenario,
    seed: int,
    members: dict[str, Device],
    budget_ns: int,
    rounds: int | None = None,
    measured_ns: dict[str, int] | None = None,
) -> Players:
    """Run the coroutines of ``members`` (the server last) in one loop without waiting, within a budget of work.

    ``rounds``: it also ends when so many are over. ``measured_ns``: CPU times that durations come from.
    """
    module = importlib.import_module(module_name)
    config = msgspec.convert(settings, module.Config)
    config = getattr(config, "rehearsed", lambda: config)()
    nodes: dict[str, Node] = {}
    ended: list[RoundEnded] = []

    computed_ns = dict.fromkeys(members, 0)

    def record(name: str, event: Event) -> None:
        if isinstance(event, Computed):
            computed_ns[name] += event.due_ns - event.start_ns
        if isinstance(event, RoundEnded):
            ended.append(event)
            if len(ended) == rounds:
                costs.spent()

    loop = EmulatedLoop(InstantPacer(lambda: who_waits(nodes.values())))
    fabric, costs = (
        InlineFabric(loop, Fabric(scenario, seed)),
        RehearsedCosts(len(members), budget_ns, measured_ns, scenario.host),
    )
    watch = Uncharged(members, module.__file__)
    hosts = {name: InlineHost(costs, name, watch) for name in members}
    outlets: dict[str, InlineOutlet] = {}
    clients = tuple(name for name in members if name != scenario.server.name)
    indices = {client.name: client.index for client in scenario.clients}
    for name, device in members.items():
        outlet = InlineOutlet(name, loop, fabric, outlets)
        outlet.types = {kind_of(message_type): message_type for message_type in module.MESSAGES}
        common = name, device, loop, outlet, hosts[name], costs, partial(record, name)
        if name == scenario.server.name:
            nodes[name] = ServerNode(*common, clients=clients, workers=scenario.server.workers)
        else:
            nodes[name] = ClientNode(*common, index=indices[name])

    async def everybody() -> None:
        async with asyncio.TaskGroup() as group:
            for name, node in nodes.items():
                role = module.server if name == scenario.server.name else module.client
                with owned_by(name):
                    group.create_task(role(node, config))
            await asyncio.sleep(0)  # each has begun, and built what it needs
            watch.arm()

    async def within_budget() -> bool:
        playing, enough = asyncio.ensure_future(everybody()), loop.create_future()
        costs.spent = lambda: None if enough.done() else enough.set_result(None)
        await asyncio.wait((playing, enough), return_when=asyncio.FIRST_COMPLETED)
        whole = playing.done()
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
        return whole

    try:
        with watch:
            whole = loop.run_until_complete(within_budget())
        return Players(nodes, hosts, costs, loop.now_ns, whole, watch.lines(computed_ns))
    finally:
        loop.close()


def who_waits(nodes: Iterable[Node]) -> str:
    """Who waits for what since when, for a deadlock's report."""
    return "deadlock: " + "; ".join(f"{node.name} {node.awaits()}" for node in nodes)
