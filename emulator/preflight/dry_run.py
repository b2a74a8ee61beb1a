"""What a run will take in bytes and seconds, without training: every client plays, but computes each thing only once.

All nodes of the scenario run the algorithm's own coroutines in one loop without waiting, as in profiling: same node,
links, wire format and data. A computation is carried out the first time that its cost key is met; afterwards its
remembered result is handed out, of the same shapes, while the modelled time of its work passes as ever. Sizes and times
depend on shapes and never on values, so the bytes are those of a run, and the times those of its timeline.

What values would show is not recorded: losses and accuracy. Nor is a client's memory, which nobody measures here, where
one process holds all nodes and tensors pass between them without a copy: it is foreseen by ``memory_account``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import torch
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from emulator.clock.loop import EmulatedLoop, InstantPacer
from emulator.compute.counting import Costs, HostRun
from emulator.compute.device import Work, duration_ns
from emulator.host.liveness import PULSE
from emulator.ledger.events import Ended, Event, Posted, Reported, Started, Transmitted, Undelivered, Unreachable
from emulator.network.fabric import Fabric
from emulator.network.jitter import SECOND_NS, Transmission
from emulator.node.node import Node, ServerNode, make_node
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.in_process import REFERENCE, InProcessFabric, InProcessTransport, who_waits
from emulator.profiles.scenario import Device, Member, Scenario
from emulator.transport.messages import Incoming, Parcel

LOOKS = 1000  # at how far a bounded dry run has come

Record = Callable[[Event], None]


class Maker(NamedTuple):
    """How the tensor in that place of a result, from 0, would have been made."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    place: int


class RememberedCosts(Costs):
    """A cost table that also remembers results: a computation is carried out once for each key.

    A remembered tensor with a graph is handed out as a leaf that asks for a gradient, so that each can be gone
    backward through once. Where such a stand-in comes to a computation that *is* carried out, what it stands for is
    made now: the graph is a part of the work that is counted.
    """

    def __init__(self, table: dict[str, Work], measured_ns: dict[str, int], host: Device | None) -> None:
        super().__init__(table, measured_ns, host)
        self.asked = self.carried_out = 0  # computations of the play, and those of the host
        self.host_ns = 0  # what all of the play would take of ``REFERENCE``
        self._results: dict[str, Any] = {}
        self._makers = WeakTensorKeyDictionary()  # Maker by stand-in

    def knows(self, key: str) -> bool:
        """Never: every computation comes through ``count``."""
        del key
        return False

    def count(self, key: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of ``fn(*args)``, or what it was for the first arguments of this key."""
        self.asked += 1
        if key in self._results:
            return self._hand_out(self._results[key], fn, args)
        self.carried_out += 1
        genuine = tree_map_only(torch.Tensor, self._genuine, args)
        result = fn(*genuine) if key in self.table else super().count(key, fn, genuine)
        self._results[key] = tree_map_only(torch.Tensor, _without_graph, result)
        return result

    def carry_out(
        self, key: str, fn: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, counted: bool
    ) -> list[Any]:
        """One computation of several equal ones; the result of the first is taken for all."""
        if key in self.table:
            self.host_ns += len(arguments) * duration_ns(self.table[key], REFERENCE)
        return super().carry_out(key, fn, arguments[:1], counted=counted) * len(arguments)

    def _hand_out(self, remembered: Any, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        places = itertools.count()

        def hand_out(tensor: torch.Tensor) -> torch.Tensor:
            place = next(places)
            if not tensor.requires_grad:
                return tensor
            stand_in = _without_graph(tensor)
            self._makers[stand_in] = Maker(fn, args, place)
            return stand_in

        return tree_map_only(torch.Tensor, hand_out, remembered)

    def _genuine(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor not in self._makers:
            return tensor
        maker: Maker = self._makers[tensor]
        self.carried_out += 1
        result = maker.fn(*tree_map_only(torch.Tensor, self._genuine, maker.args))
        made: list[torch.Tensor] = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return made[maker.place]


def _without_graph(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in the same place."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


class DryRunHost:
    """Runs computations at once, in the loop's own thread."""

    def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun:
        del wake
        run = HostRun()
        PULSE.begin("computation")
        run.carry_out(fn, clock)
        PULSE.begin("coroutine")
        return run


class DryRunTransport(InProcessTransport):
    """Hands tensors over without a copy, and keeps the network's ledger. ``under_way``: what has not arrived anywhere,
    its destination and itself, by source and counter."""

    def __init__(self, *arguments: Any, record: Record, under_way: dict[tuple[str, int], tuple[str, Parcel]]) -> None:
        super().__init__(*arguments)
        self._record, self._under_way = record, under_way
        self.ended = False  # this node takes nothing any more

    def take_in(self, parcel: Parcel, source: str) -> Incoming:
        incoming = Incoming(parcel.header, len(parcel.encoded), self.types, source)
        incoming.adopt(parcel.tensors)
        self._under_way[source, parcel.header.counter] = self.name, parcel
        return incoming

    def on_transmitted(self, destination: str, parcel: Parcel, posted_ns: int, transmission: Transmission) -> None:
        times = transmission._asdict()
        left_ns = times.pop("left_ns")
        transmitted = Transmitted(
            due_ns=left_ns,
            actual_ns=left_ns,
            counter=parcel.header.counter,
            source=self.name,
            destination=destination,
            kind=parcel.header.kind,
            wire_bytes=parcel.sizes.wire,
            payload_bytes=parcel.sizes.payload,
            posted_ns=posted_ns,
            **times,
        )
        self._record(transmitted)

    def arrive(self, incoming: Incoming, source: str, counter: int) -> None:
        if not self.ended:
            del self._under_way[source, counter]
            super().arrive(incoming, source, counter)


def _undelivered(now_ns: int, source: str, counter: int, destination: str, parcel: Parcel) -> Undelivered:
    """A message that had not arrived when all nodes had ended."""
    return Undelivered(
        due_ns=now_ns,
        actual_ns=now_ns,
        counter=counter,
        source=source,
        destination=destination,
        kind=parcel.header.kind,
        payload_bytes=parcel.sizes.payload,
    )


class Bounds(NamedTuple):
    """Where a dry run breaks off: so far on the timeline, or after so many computations."""

    elapsed_ns: int
    computations: int


class DryRunResult(NamedTuple):
    """How long the timeline is (ns), how many computations it has, and how many of them the host carried out.

    ``host_ns``: what all computations would take of one ``REFERENCE``. ``whole``: it came to the end.
    """

    elapsed_ns: int
    computations: int
    carried_out: int
    host_ns: int
    complete: bool


def dry_run(
    module_name: str,
    settings: dict[str, Any],
    scenario: Scenario,
    seed: int,
    profiled: ProfilingResult,
    ledger_of: Callable[[str], Record],
    bounds: Bounds | None = None,
) -> DryRunResult:
    """Play ``module_name`` to its end with all clients; ``ledger_of(node)`` takes that node's events, as in a run.

    ``profiled``: of its costs, what is lacking is counted when it is carried out, as in a run.
    """
    module = importlib.import_module(module_name)
    config = msgspec.convert(settings, module.Config)
    names = tuple(client.name for client in scenario.clients)
    nodes: dict[str, Node] = {}
    records = {name: ledger_of(name) for name in ("network", scenario.server.name, *names)}
    loop = EmulatedLoop(InstantPacer(lambda: who_waits(nodes.values())))
    remembered, host = RememberedCosts(profiled.costs, profiled.measured_ns, scenario.host), DryRunHost()
    records["network"](Started(due_ns=0, actual_ns=0, role="network", pid=os.getpid()))
    network = Fabric(scenario, seed)
    fabric, transports = InProcessFabric(loop, network), dict[str, DryRunTransport]()
    under_way: dict[tuple[str, int], tuple[str, Parcel]] = {}

    def make(spec: Member) -> Node:
        record, device, link = records[spec.name], spec.device.name, spec.network.name
        role, workers = spec.role, spec.workers
        common = spec.name, loop, fabric, transports, module.MESSAGES
        transport = DryRunTransport(*common, record=records["network"], under_way=under_way)
        record(Started(due_ns=0, actual_ns=0, role=role, pid=os.getpid(), device=device, network=link, workers=workers))
        parts = loop, transport, host, remembered, partial(_without_values, record)
        node = make_node(spec, scenario.clients, *parts)
        node.pack = partial(Parcel, copy=torch.Tensor.detach)
        return node

    async def take_part(node: Node) -> None:
        await (module.server if isinstance(node, ServerNode) else module.client)(node, config)
        await node.drained()
        transports[node.name].ended = True
        records[node.name](Ended(due_ns=loop.now_ns, actual_ns=loop.now_ns, outcome="finished"))

    async def everybody() -> None:
        async with asyncio.TaskGroup() as group:
            for node in nodes.values():
                group.create_task(take_part(node))

    async def within(bounds: Bounds) -> bool:
        """Whether it came to its end; how far it has come is looked at a thousand times on the way."""
        playing = asyncio.ensure_future(everybody())
        for _ in range(LOOKS):
            await asyncio.wait((playing,), timeout=bounds.elapsed_ns / LOOKS / SECOND_NS)
            if playing.done() or remembered.asked > bounds.computations:
                break
        if playing.done():
            playing.result()
            return True
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
        return False

    try:
        for spec in scenario.members:
            nodes[spec.name] = make(spec)
        complete = True
        if bounds is None:
            loop.run_until_complete(everybody())
        else:
            complete = loop.run_until_complete(within(bounds))
        for sent, (destination, parcel) in under_way.items():
            records["network"](_undelivered(loop.now_ns, *sent, destination, parcel))
        for absence in network.absences(loop.now_ns):
            records["network"](Unreachable(actual_ns=absence.due_ns, **absence._asdict()))
        records["network"](Ended(due_ns=loop.now_ns, actual_ns=loop.now_ns, outcome="finished"))
        return DryRunResult(loop.now_ns, remembered.asked, remembered.carried_out, remembered.host_ns, complete)
    finally:
        loop.wind_up()


def _without_values(record: Record, event: Event) -> None:
    """What an algorithm reports of itself, such as its loss, would be that of remembered results; but who was too late
    is a matter of times. Nor do messages have values."""
    if isinstance(event, Posted) and event.not_finite:
        event = msgspec.structs.replace(event, not_finite=[])
    if isinstance(event, Reported):
        counts = {key: value for key, value in event.values.items() if key in ("left_out", "counted")}
        if not counts:
            return
        event = msgspec.structs.replace(event, values=counts, not_finite=[])
    record(event)
