"""What a run will take in bytes and seconds, without training: every client plays, but computes each thing only once.

All nodes of the scenario run the algorithm's own coroutines in one loop without waiting, as in profiling: same node,
links, wire format and data. A computation is carried out the first time that its cost key is met; afterwards its
remembered result is handed out, of the same shapes, while the modelled time of its work passes as ever. Sizes and times
depend on shapes and never on values, so the bytes are those of a run, and the times those of its timeline.

What values would show is not recorded: losses and metrics. Nor is a client's memory, which nobody measures here, where
one process holds all nodes and tensors pass between them without a copy: it is foreseen by ``memory_account``.
"""

from __future__ import annotations

import asyncio
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

from emulator.compute.counting import Costs
from emulator.compute.device import Work, duration_ns
from emulator.ledger.events import Ended, Event, Posted, Reported, Started, Unreachable
from emulator.network.jitter import SECOND_NS, Transmission
from emulator.node.node import Node
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.in_process import REFERENCE, InlineHost, InProcessNodes, InProcessTransport
from emulator.profiles.scenario import Device, Scenario
from emulator.transport.delivery import transmitted, undelivered
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


class DryRunTransport(InProcessTransport):
    """Hands tensors over without a copy, and keeps the network's ledger. ``under_way``: what has not arrived anywhere,
    its destination and itself, by source and counter."""

    def __init__(self, *arguments: Any, record: Record, under_way: dict[tuple[str, int], tuple[str, Parcel]]) -> None:
        super().__init__(*arguments)
        self._record, self._under_way = record, under_way

    def take_in(self, parcel: Parcel, source: str) -> Incoming:
        incoming = Incoming(parcel.header, len(parcel.encoded), self.types, source)
        incoming.adopt(parcel.tensors)
        self._under_way[source, parcel.header.counter] = self.name, parcel
        return incoming

    def on_transmitted(self, destination: str, parcel: Parcel, posted_ns: int, transmission: Transmission) -> None:
        wire_bytes, left_ns = parcel.sizes.wire, transmission.left_ns
        self._record(transmitted(parcel.header, self.name, destination, wire_bytes, posted_ns, left_ns, transmission))

    def arrive(self, incoming: Incoming, source: str, counter: int) -> None:
        if not self.ended:
            del self._under_way[source, counter]
        super().arrive(incoming, source, counter)


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
    names = "network", scenario.server.name, *(client.name for client in scenario.clients)
    ledgers = {name: ledger_of(name) for name in names}
    record = ledgers["network"]
    record(Started(due_ns=0, actual_ns=0, role="network", pid=os.getpid()))
    for spec in scenario.members:
        of_node: dict[str, Any] = {"device": spec.device.name, "network": spec.network.name, "workers": spec.workers}
        ledgers[spec.name](Started(due_ns=0, actual_ns=0, role=spec.role, pid=os.getpid(), **of_node))
    remembered, host = RememberedCosts(profiled.costs, profiled.measured_ns, scenario.host), InlineHost()
    under_way: dict[tuple[str, int], tuple[str, Parcel]] = {}
    run = InProcessNodes(
        scenario,
        seed,
        scenario.clients,
        module.MESSAGES,
        remembered,
        lambda _name: host,
        lambda name: partial(_without_values, ledgers[name]),
        transport=partial(DryRunTransport, record=record, under_way=under_way),
    )
    loop = run.loop

    async def take_part(node: Node) -> None:
        node.pack = partial(Parcel, copy=torch.Tensor.detach)
        await getattr(module, node.role)(node, config)
        await node.drained()
        run.transports[node.name].ended = True
        ledgers[node.name](Ended(due_ns=loop.now_ns, actual_ns=loop.now_ns, outcome="finished"))

    async def reach(bounds: Bounds) -> None:
        """Return at the bounds; how far the dry run has come is looked at a thousand times on the way."""
        for _ in range(LOOKS):
            await asyncio.sleep(bounds.elapsed_ns / LOOKS / SECOND_NS)
            if remembered.asked > bounds.computations:
                break

    try:
        playing = [take_part(node) for node in run.nodes.values()]
        complete = run.play_until(reach(bounds), *playing) if bounds else bool(run.play(*playing))
        for (source, _), (destination, parcel) in under_way.items():
            record(undelivered(parcel.header, source, destination, loop.now_ns, loop.now_ns))
        for absence in run.network.absences(loop.now_ns):
            record(Unreachable(actual_ns=absence.due_ns, **absence._asdict()))
        record(Ended(due_ns=loop.now_ns, actual_ns=loop.now_ns, outcome="finished"))
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
