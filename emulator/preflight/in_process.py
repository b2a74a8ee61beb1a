"""All nodes of an algorithm in one event loop of one process, without waiting: for profiling, estimates and dry runs.

The same nodes, links and wire format as in a run; time jumps from event to event, and computations run in line. It ends
after a fixed amount of work, not of host time: what is counted, and so the timeline, is the same on every host. A
``Config`` may have a method ``for_profiling()``, which returns the configuration to play instead of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import msgspec

from emulator.clock.loop import EmulatedLoop
from emulator.clock.pacers import DELIVERY_RANK, LEFT_RANK, NETWORK_RANK, Entry, InstantPacer
from emulator.compute.counting import ComputeHost, Costs, HostRun
from emulator.compute.device import Speed, duration_ns
from emulator.compute.memory import MemoryCap
from emulator.compute.tensor_account import RECEIVED, TEMPORARIES, owned_by
from emulator.compute.uncharged import Uncharged
from emulator.errors import UserError
from emulator.host.liveness import PULSE
from emulator.ledger.events import Computed, Event, Posted, RoundEnded
from emulator.network.fabric import Fabric, LinkEvent
from emulator.network.jitter import Transmission
from emulator.node.node import Assembly, Node
from emulator.profiles.scenario import ClientSpec, Member, Scenario
from emulator.transport.endpoint import CHUNK_BYTES
from emulator.transport.messages import Incoming, Message, Parcel, decode_header, types_of


class InProcessFabric:
    """Lets happen what happens in ``fabric`` when the loop has come to it, before anything else at that moment."""

    def __init__(self, loop: EmulatedLoop, fabric: Fabric) -> None:
        self._loop, self._fabric = loop, fabric
        self._entry: Entry | None = None
        self._left: dict[tuple[str, int], Callable[[LinkEvent], None]] = {}

    def post(
        self,
        source: str,
        destination: str,
        counter: int,
        wire_bytes: int,
        stamp_ns: int,
        left: Callable[[LinkEvent], None],
    ) -> None:
        """Carry a message; ``left`` is called when its last bit has left."""
        self._left[source, counter] = left
        self._fabric.post(source, destination, counter, wire_bytes, stamp_ns)
        self._plan()

    def _plan(self) -> None:
        due_ns = self._fabric.next_ns()
        if self._entry is not None:
            if due_ns == self._entry.due_ns:
                return
            self._entry.cancelled = True
        self._entry = None if due_ns is None else self._loop.at(due_ns, self._advance, NETWORK_RANK, what="network")

    def _advance(self) -> None:
        self._entry = None
        try:
            link_events = self._fabric.advance()
        except UserError as error:  # asyncio would only log it, in a callback
            self._loop.failure = error
            return
        for event in link_events:
            if event.departs:
                self._left.pop((event.source, event.counter))(event)
        self._plan()


class ReferenceHost(NamedTuple):
    """The nominal host whose time the budget counts: about one core of a server of 2020, counting included."""

    dense_flops: int = 25 * 10**9
    depthwise_flops: int = 1 * 10**9
    memory_rate_bytes: int = 4 * 10**9
    dispatch_ns: int = 12_000


REFERENCE = ReferenceHost()


BUDGET_NS = 2 * 10**9  # of time on REFERENCE; what it has not met by then is counted at its first run


MEASURED_BUDGET_NS = 90 * 10**9  # the same where durations come from CPU time, which drifts by a tenth in seconds


class ProfiledCosts(Costs):
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
    """Runs computations at once, in the loop's own thread."""

    def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun:
        del wake
        run = HostRun()
        PULSE.begin("computation")
        run.carry_out(fn, clock)
        PULSE.begin("coroutine")
        return run


class InProcessHost(InlineHost):
    """Runs one node's computations inline, and keeps their host times by cost key."""

    def __init__(self, costs: ProfiledCosts, name: str = "", watch: Uncharged | None = None) -> None:
        self._costs, self._name, self._watch = costs, name, watch
        self.host_ns: dict[str, list[int]] = {}  # without counting
        self.counted_ns: dict[str, list[int]] = {}
        self.cpu_ns: dict[str, list[int]] = {}  # without counting

    def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun:
        counted = not self._costs.knows(self._costs.key)
        outside = self._watch.computing() if self._watch else contextlib.nullcontext()
        with outside, owned_by(self._name, TEMPORARIES, self._costs.key):
            run = super().submit(fn, clock, wake)
        kind = self.counted_ns if counted else self.host_ns
        kind.setdefault(self._costs.key, []).append(run.host_ns)
        if not counted:
            self.cpu_ns.setdefault(self._costs.key, []).append(run.cpu_ns)
        self._costs.spend()
        return run


class InProcessTransport:
    """Carries parcels over the fabric's connections to the other nodes of the same loop."""

    def __init__(
        self,
        name: str,
        loop: EmulatedLoop,
        fabric: InProcessFabric,
        transports: dict[str, Self],
        messages: Iterable[type[Message]],
    ) -> None:
        self.name, self._loop, self._fabric, self._transports = name, loop, fabric, transports
        self.types = types_of(messages)
        self.on_delivery: Callable[[Incoming, str, int], None]
        self.on_left: Callable[[int], None]
        self.on_failure: Callable[[Exception], None]
        self.on_refused: Callable[[str, str], None]
        self.ended = False  # its node takes nothing any more
        transports[name] = self

    def post(self, destination: str, parcel: Parcel, stamp_ns: int) -> None:
        receiver, counter = self._transports[destination], parcel.header.counter
        incoming = receiver.take_in(parcel, self.name)

        def left(event: LinkEvent) -> None:
            transmission = event.transmission
            self.on_transmitted(destination, parcel, stamp_ns, transmission)
            self._loop.at(transmission.left_ns, partial(self.on_left, counter), LEFT_RANK)
            arrive = partial(receiver.arrive, incoming, self.name, counter)
            self._loop.at(transmission.arrival_ns, arrive, DELIVERY_RANK)

        self._fabric.post(self.name, destination, counter, parcel.sizes.wire, stamp_ns, left)

    def take_in(self, parcel: Parcel, source: str) -> Incoming:
        """A parcel at its receiver, which has its own copy of the tensors."""
        incoming = Incoming(decode_header(parcel.encoded), len(parcel.encoded), self.types, source)
        with owned_by(self.name, RECEIVED):
            incoming.allocate()
        for chunk in parcel.chunks(CHUNK_BYTES):
            incoming.fill(chunk)
        return incoming

    def on_transmitted(self, destination: str, parcel: Parcel, posted_ns: int, transmission: Transmission) -> None:
        """The last bit of a parcel of this node's has left."""

    def arrive(self, incoming: Incoming, source: str, counter: int) -> None:
        """A message for this node becomes visible."""
        if not self.ended:
            self.on_delivery(incoming, source, counter)


class InProcessNodes(Assembly):
    """The nodes of ``clients`` and of the server of a scenario in one loop: every in-process run's.

    What differs from run to run is handed in: ``costs``, ``host_of`` and ``record_of`` a node by its name, and the
    ``transport`` (name, loop, fabric, the transports of all, types of messages) that carries what it posts.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        clients: Sequence[ClientSpec],
        messages: Iterable[type[Message]],
        costs: Costs,
        host_of: Callable[[str], ComputeHost],
        record_of: Callable[[str], Callable[[Event], None]],
        *,
        transport: Callable[..., InProcessTransport] = InProcessTransport,
        cap: MemoryCap | None = None,
    ) -> None:
        super().__init__(clients, InstantPacer)
        self.network = Fabric(scenario, seed)
        self.transports: dict[str, InProcessTransport] = {}
        fabric = InProcessFabric(self.loop, self.network)
        members: list[Member] = [*clients, scenario.server]
        for spec in members:
            carrier = transport(spec.name, self.loop, fabric, self.transports, messages)
            parts = carrier, host_of(spec.name), costs, record_of(spec.name)
            self.add(spec, *parts, cap=cap if spec.role == "client" else None)

    def play(self, *coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run them side by side to their ends; what they returned."""
        return self.loop.run_until_complete(_together(coroutines))

    def play_until(self, enough: Awaitable[None], *coroutines: Coroutine[Any, Any, Any]) -> bool:
        """The same until it is ``enough``; whether they came to their ends."""

        async def bounded() -> bool:
            playing, bound = asyncio.ensure_future(_together(coroutines)), asyncio.ensure_future(enough)
            await asyncio.wait((playing, bound), return_when=asyncio.FIRST_COMPLETED)
            complete = playing.done()
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing
            return complete

        return self.loop.run_until_complete(bounded())


async def _together(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
    return [task.result() for task in tasks]


class InProcessRun(NamedTuple):
    """The result of an in-process run. ``elapsed_ns``: emulated. ``complete``: the method came to its end."""

    nodes: dict[str, Node]
    hosts: dict[str, InProcessHost]
    costs: ProfiledCosts
    elapsed_ns: int
    complete: bool
    uncharged: list[str]
    rounds: int  # that have ended
    events: int  # that a run would have recorded of this, about: a message's way over its links among them


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


def run_in_process(
    module_name: str,
    settings: dict[str, Any],
    scenario: Scenario,
    seed: int,
    clients: Sequence[ClientSpec],
    budget_ns: int,
    rounds: int | None = None,
    measured_ns: dict[str, int] | None = None,
) -> InProcessRun:
    """Run the coroutines of ``clients`` and the server in one loop without waiting, within a budget of work.

    ``rounds``: it also ends when so many are over. ``measured_ns``: CPU times that durations come from.
    """
    module = importlib.import_module(module_name)
    config = msgspec.convert(settings, module.Config)
    config = getattr(config, "for_profiling", lambda: config)()
    ended: list[RoundEnded] = []
    members: list[Member] = [*clients, scenario.server]
    devices = {spec.name: spec.device for spec in members}
    computed_ns = dict.fromkeys(devices, 0)
    events = 0

    def record(name: str, event: Event) -> None:
        nonlocal events
        events += 2 if isinstance(event, Posted) else 1
        if isinstance(event, Computed):
            computed_ns[name] += event.due_ns - event.start_ns
        if isinstance(event, RoundEnded):
            ended.append(event)
            if len(ended) == rounds:
                costs.spent()

    costs, watch = (
        ProfiledCosts(len(devices), budget_ns, measured_ns, scenario.host),
        Uncharged(devices, module.__file__),
    )
    hosts = {name: InProcessHost(costs, name, watch) for name in devices}
    run = InProcessNodes(
        scenario, seed, clients, module.MESSAGES, costs, hosts.__getitem__, lambda name: partial(record, name)
    )
    enough: asyncio.Future[None] = run.loop.create_future()
    costs.spent = lambda: None if enough.done() else enough.set_result(None)

    async def take_part(name: str, node: Node) -> None:
        with owned_by(name):
            await getattr(module, node.role)(node, config)

    async def arm() -> None:  # begins when each of the others has, and built what it needs
        watch.arm()

    try:
        with watch:
            complete = run.play_until(enough, *(take_part(*item) for item in run.nodes.items()), arm())
        elapsed_ns, uncharged = run.loop.now_ns, watch.lines(computed_ns)
        return InProcessRun(run.nodes, hosts, costs, elapsed_ns, complete, uncharged, len(ended), events)
    finally:
        run.loop.wind_up()
