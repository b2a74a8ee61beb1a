"""The node, as a method sees it: post, send, recv, compute, now, report, snapshot.

A node has one access link, one compute device with ``workers``, a send queue and an inbox. A client's send queue is
limited to that of its device; the server's has no limit, so that none of its connections waits for another. Verbs take
emulated time and are the same on every clock; their effects on the outside go through the node's transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, overload

from emulator.clock.loop import EmulatedLoop
from emulator.clock.pacers import Pacer
from emulator.compute.counting import ComputeHost, Costs, HostRun, cost_key, tag_of
from emulator.compute.memory import MemoryCap, out_of_memory_explained
from emulator.compute.tensor_account import MESSAGES, mark
from emulator.errors import DoesNotFit, ProtocolError
from emulator.ledger import events
from emulator.ledger.events import Event
from emulator.node.inbox import Arrived, Awaiting, Inbox
from emulator.node.memory_watch import MemoryWatch
from emulator.node.outbox import Outbox, payload_bytes
from emulator.node.queueing import Queueing, ServerQueueing
from emulator.profiles.scenario import ClientSpec, Device, Member
from emulator.transport.messages import Incoming, Message, Parcel, SharedCopies, StateDict, kind_of

M1 = TypeVar("M1", bound=Message)
M2 = TypeVar("M2", bound=Message)
M3 = TypeVar("M3", bound=Message)


class Transport(Protocol):
    """The transport of a node's messages: the endpoint of its process, or that of an in-process run."""

    on_delivery: Callable[[Incoming, str, int], None]
    on_left: Callable[[int], None]
    on_failure: Callable[[Exception], None]
    on_refused: Callable[[str, str], None]

    def post(self, destination: str, parcel: Parcel, stamp_ns: int) -> None: ...


class Node:
    """The state and the verbs that a client and the server have in common."""

    role: str  # and the name of the coroutine function of a method's module that the node runs

    def __init__(
        self,
        name: str,
        device: Device,
        loop: EmulatedLoop,
        transport: Transport,
        host: ComputeHost,
        costs: Costs,
        record: Callable[[Event], None],
        *,
        workers: int = 1,
        cap: MemoryCap | None = None,
    ) -> None:
        self.name, self.device = name, device
        self._loop, self._transport, self._host, self._costs, self._record = loop, transport, host, costs, record
        self._cap = cap
        self._workers = asyncio.Semaphore(workers)  # first come, first served
        self._counter = 0
        self.pack: Callable[[Message, int], Parcel] = Parcel
        self._outbox = Outbox()
        self._inbox = Inbox()
        self._queueing = Queueing()
        self.failed: asyncio.Future[None] = loop.create_future()
        self._memory = MemoryWatch(cap, partial(self._write, events.Memory))
        self.phase = "build the model"  # until the first computation
        transport.on_delivery, transport.on_left = self._deliver, self._outbox.on_transmitted
        transport.on_failure, transport.on_refused = self._fail, self._refuse
        loop.on_clamp = self._clamp
        loop.listens = lambda: bool(self._inbox.awaiting) or self._outbox.waits

    # -- time ---------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Emulated time in ns: the due time of the event that woke the task."""
        return self._loop.now_ns

    def _write(self, event_type: type[Event], due_ns: int | None = None, **fields: Any) -> None:
        due_ns = self._loop.now_ns if due_ns is None else due_ns
        self._record(event_type(due_ns=due_ns, actual_ns=self._loop.pacer.actual_ns(), **fields))

    def awaits(self) -> str:
        """The messages that its tasks wait for, in words, for the report of a deadlock."""
        return str(self._inbox)

    # -- messages -----------------------------------------------------------------------------------------------

    async def post(self, destination: str, message: Message) -> None:
        """Queue ``message`` on the link; waits only while a client's send queue has no room for it.

        The node takes its own copy of the tensors and holds it until the last bit has left.
        """
        await self._enqueue(destination, message)

    async def send(self, destination: str, message: Message) -> None:
        """Like ``post``, and return when the last bit has left. Cancelling stops only the waiting."""
        await self._outbox.until(await self._enqueue(destination, message))

    async def _enqueue(self, destination: str, message: Message) -> asyncio.Future[None]:
        await self._loop.caught_up()
        kind, size_bytes, asked_ns = kind_of(type(message)), payload_bytes(message), self._loop.now_ns
        try:
            await self._outbox.room_for(size_bytes)
        finally:  # how long it waited is recorded also where the task gives up
            if self._loop.now_ns > asked_ns:
                self._write(
                    events.Blocked,
                    destination=destination,
                    kind=kind,
                    since_ns=asked_ns,
                    payload_bytes=size_bytes,
                    held_bytes=self._outbox.held_bytes,
                    room_bytes=self._outbox.room_bytes,
                )
        self._memory.expect_message(kind, size_bytes, message.round, computing=self._workers.locked())
        with out_of_memory_explained(f"send {kind}", self._cap):
            parcel = self.pack(message, self._counter)
            mark(parcel.tensors, MESSAGES)
        self._counter += 1
        left: asyncio.Future[None] = self._loop.create_future()
        self._outbox.put(parcel, left)
        sizes = parcel.sizes
        self._write(
            events.Posted,
            counter=parcel.header.counter,
            destination=destination,
            kind=parcel.header.kind,
            round=message.round,
            payload_bytes=sizes.payload,
            official_bytes=sizes.official,
            framed_bytes=sizes.framed,
            wire_bytes=sizes.wire,
            not_finite=parcel.not_finite(),
        )
        self._transport.post(destination, parcel, self._loop.now_ns)
        return left

    async def drained(self) -> None:
        """Return when everything that was posted has left."""
        await self._loop.caught_up()
        await self._outbox.drained()

    @overload
    async def recv(
        self,
        type1: type[M1],
        /,
        *,
        source: str | Collection[str] | None = None,
        until_ns: int | None = None,
        leave_others: bool = False,
    ) -> M1: ...
    @overload
    async def recv(
        self, type1: type[M1], type2: type[M2], /, *, source: str | Collection[str] | None = None
    ) -> M1 | M2: ...
    @overload
    async def recv(
        self, type1: type[M1], type2: type[M2], type3: type[M3], /, *, source: str | Collection[str] | None = None
    ) -> M1 | M2 | M3: ...
    @overload
    async def recv(
        self, *types: type[Message], source: str | Collection[str] | None = None, until_ns: int | None = None
    ) -> Message: ...
    async def recv(
        self,
        *types: type[Message],
        source: str | Collection[str] | None = None,
        until_ns: int | None = None,
        leave_others: bool = False,
    ) -> Message:
        """The next message, or the next from ``source`` (a name or several); ``message.sender`` names its sender.

        TimeoutError where none has arrived by ``until_ns`` (a message that came in time is received whenever it is
        asked for); ProtocolError if the message is of none of ``types``, unless the task ``leave_others`` to tasks that
        await them.
        """
        await self._loop.caught_up()
        sources = frozenset((source,) if isinstance(source, str) else source or ())
        waiting = Awaiting(types, sources, self._loop.now_ns, leave_others=leave_others)
        if (arrived := self._inbox.take(waiting, until_ns)) is not None:
            return self._expected(arrived, types)
        if self.phase:
            self._memory.check(self.phase)
        if not leave_others:  # the node does something else meanwhile
            self._write(events.Waiting, kinds=[kind_of(t) for t in types], sources=sorted(sources))
        with self._inbox.await_by(waiting):
            async with asyncio.timeout_at(None if until_ns is None else until_ns / 1e9):
                return self._expected(await waiting.future, types)

    def _expected(self, arrived: Arrived, types: tuple[type[Message], ...]) -> Message:
        message = arrived.message
        if types and not isinstance(message, types):
            expected = " or ".join(kind_of(t) for t in types)
            raise ProtocolError(f"{self.name} expected {expected} but {message.sender} sent {kind_of(type(message))}")
        self._queueing.take(arrived)
        return message

    def _deliver(self, incoming: Incoming, source: str, counter: int) -> None:
        sizes = incoming.sizes
        self._write(
            events.Received,
            source=source,
            counter=counter,
            kind=incoming.kind,
            payload_bytes=sizes.payload,
            framed_bytes=sizes.framed,
            wire_bytes=sizes.wire,
        )
        round, computing = int(incoming.header.scalars["round"]), self._workers.locked()
        self._memory.expect_message(incoming.kind, sizes.payload, round, computing=computing)
        try:
            self._memory.check(f"receive {incoming.kind}")
        except DoesNotFit as error:
            self._fail(error)
            return
        self._inbox.put(Arrived(incoming.message(), counter, self._loop.now_ns))

    # -- computation --------------------------------------------------------------------------------------------

    async def compute(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run ``fn(*args)`` on the host and let the modelled time of its work pass; returns or raises what ``fn`` did.

        At most ``workers`` computations overlap in emulated time; further ones queue in order of arrival. Cancelling
        frees the worker at once and raises after the host has finished ``fn``.
        """
        return (await self.compute_repeated(fn, [args]))[0]

    async def compute_repeated(self, fn: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run ``fn`` for each of the ``arguments``, which must cost the same, as one computation; returns a list of
        results.

        Profiling runs only the first and takes its result for all: for long loops, such as the epochs of an alignment.
        """
        asked_ns, tag = self._loop.now_ns, tag_of(fn)
        async with self._workers:
            start_ns = self._loop.now_ns
            key, times = cost_key(fn, arguments[0]), len(arguments)
            if times > 1 and any(cost_key(fn, args) != key for args in arguments[1:]):
                raise ValueError(f"compute_repeated: {tag} does not cost the same for all of its arguments")
            counted = not self._costs.knows(key)
            self._memory.expect_computation(key)
            run = self._run_on_host(partial(self._costs.carry_out, key, fn, arguments, counted=counted))
            if counted:  # its cost is known when the host has run it
                run.settle()
            end_ns = start_ns + times * self._costs.duration_ns(key, self.device)
            finished: asyncio.Future[None] = self._loop.create_future()
            entry = self._loop.at(end_ns, partial(finished.set_result, None), ready=run.ready, what=tag, computes=True)
            with self._queueing.turn(arguments, asked_ns, start_ns) as turn:
                try:
                    await finished
                except asyncio.CancelledError:
                    entry.cancelled = True
                    run.settle()
                    raise
            work = self._costs.table[key]
            self._write(
                events.Computed,
                due_ns=end_ns,
                function=tag,
                start_ns=start_ns,
                queued_ns=turn.queued_ns,
                source=turn.source,
                counter=turn.counter,
                host_ns=run.host_ns,
                cpu_ns=run.cpu_ns,
                host_late_ns=run.ended_actual_ns - end_ns,
                operations=times * work.operations,
                dense_flops=times * work.dense_flops,
                depthwise_flops=times * work.depthwise_flops,
                moved_bytes=times * work.moved_bytes,
                unknown=work.unknown,
            )
        try:
            with out_of_memory_explained(tag, self._cap):
                results: list[Any] = run.result()
                return results
        finally:
            self.phase = ""
            self._memory.check(tag)

    def _run_on_host(self, fn: Callable[[], Any]) -> HostRun:
        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(lambda: None)

        return self._host.submit(fn, self._loop.pacer.actual_ns, wake)

    # -- reports ------------------------------------------------------------------------------------------------

    def report(self, round: int, **values: float) -> None:
        """A ledger line about the algorithm itself, e.g. ``loss``; off the clock."""
        for name, value in values.items():
            if not isinstance(value, int | float):
                raise TypeError(f"report: {name} is a {type(value).__name__}: give a number, as a tensor's .item()")
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._write(events.Reported, round=round, values=finite, not_finite=sorted(values.keys() - finite.keys()))
        self._memory.check("report", every_s=0.0)

    # -- what goes wrong ----------------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _refuse(self, source: str, reason: str) -> None:
        self._write(events.Refused, source=source, reason=reason)

    def _clamp(self, by_ns: int, what: str) -> None:
        if what == "left" and not self._outbox.awaited:
            return  # nobody waited for it: nothing is later than it would have been
        self._write(events.Clamped, by_ns=by_ns, what=what)


class ClientNode(Node):
    """A client's node. ``index``: the number of the client in the scenario, from 0."""

    role = "client"

    def __init__(self, *args: Any, index: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.index = index
        self._outbox.room_bytes = self.device.room_bytes
        self.on_part: Callable[[int, str, StateDict], None] = lambda _round, _part, _state: None

    def publish_part(self, round: int, part: str, state: StateDict) -> None:
        """Hand the evaluator a copy of a model part that the server does not have, off the clock."""
        self.on_part(round, part, state)


class ServerNode(Node):
    """The server's node. ``clients``: the names of the clients, in order."""

    role = "server"

    def __init__(self, *args: Any, clients: tuple[str, ...], **options: Any) -> None:
        super().__init__(*args, **options)
        self.clients = clients
        self.pack = partial(Parcel, copy=SharedCopies())
        self._queueing = ServerQueueing(self.now)
        self.on_snapshot: Callable[[int, dict[str, StateDict], str], None] = lambda _round, _parts, _awaits: None
        self.round_started_ns = 0

    def begin_round(self, round: int) -> None:
        """Mark the start of ``round``: its first post comes next."""
        del round
        self.round_started_ns = self._loop.now_ns

    def snapshot(self, round: int, parts: dict[str, StateDict], missing_part: str = "") -> None:
        """End the round, and hand a copy of the joined model's ``parts`` to the evaluator, off the clock.

        ``missing_part``: the part that a client publishes (``publish_part``), before or after this call.
        """
        self.on_snapshot(round, parts, missing_part)
        self._write(events.RoundEnded, round=round, started_ns=self.round_started_ns)


class Assembly:
    """An event loop and the nodes in it by name: the one of a process of a run, or all of an in-process run.

    ``pacer``: the clock, given a function that says what the nodes await, for the report of a deadlock.
    """

    def __init__(self, clients: Sequence[ClientSpec], pacer: Callable[[Callable[[], str]], Pacer]) -> None:
        self.clients = clients
        self.loop = EmulatedLoop(pacer(self._awaits))
        self.nodes: dict[str, Node] = {}

    def add(self, spec: Member, *parts: Any, cap: MemoryCap | None = None) -> Node:
        """Wire the node of ``spec``. ``parts``: transport, host, costs, record, as ``Node`` has them."""
        parts = spec.name, spec.device, self.loop, *parts
        if isinstance(spec, ClientSpec):
            self.nodes[spec.name] = ClientNode(*parts, cap=cap, index=spec.index)
        else:
            names = tuple(client.name for client in self.clients)
            self.nodes[spec.name] = ServerNode(*parts, cap=cap, workers=spec.workers, clients=names)
        return self.nodes[spec.name]

    def _awaits(self) -> str:
        return "; ".join(f"{node.name} {node.awaits()}" for node in self.nodes.values())
