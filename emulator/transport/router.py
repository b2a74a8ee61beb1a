"""The network process: every byte between two nodes passes through it, and it alone applies the link models.

It takes messages from their senders, computes when their first and last bit leave and when they arrive (``fabric``),
and acts at those times: ANNOUNCED to the receiver with the first bit, so that it can fetch the payload; with the last
bit LEFT to the sender and ARRIVING to the receiver (``endpoint`` has the protocol).
It reads posts as they come but orders link events by due time, so a post that the host delivered late still leaves on
the schedule of its stamp; at one instant by sender and the sender's counter, never by who was read first. When
an event may take place, the conductor of the run's clock decides (``clock.conductors``). The clock starts when every
node has sent READY.
"""

from __future__ import annotations

import select
import time
from collections import deque
from multiprocessing.connection import Connection as Pipe
from typing import Any

import zmq
from msgspec import MsgspecError, msgpack

from emulator.clock.conductors import Conductor
from emulator.clock.pacers import DELIVERY_RANK, LEFT_RANK
from emulator.errors import WireError
from emulator.ledger import events
from emulator.ledger.files import Ledger
from emulator.network.fabric import Fabric, LinkEvent
from emulator.network.jitter import Transmission
from emulator.transport.control_channel import ControlHub
from emulator.transport.delivery import transmitted, undelivered
from emulator.transport.endpoint import (
    ABORT,
    ANNOUNCED,
    ARRIVING,
    CHUNK,
    FAREWELL,
    LEFT,
    NOBLOCK,
    SNDMORE,
    START,
    WELCOME,
    Chunk,
    file_of,
    open_socket,
    receive,
)
from emulator.transport.messages import Header, decode_header, sizes_of

HANG_UP_TURNS = 64  # of the network process until a node that has hung up is lost, however much the others send


class RelayedMessage:
    """A message between its post and the fetch of its last byte."""

    def __init__(self, source: str, destination: str, posted_ns: int, header: Header, encoded: bytes) -> None:
        self.source, self.destination, self.posted_ns = source, destination, posted_ns
        self.header, self.encoded = header, encoded
        self.wire_bytes = sizes_of(header, len(encoded), ()).wire
        self.transmission: Transmission
        self.announced = False  # from then on the receiver answers for it
        self.left = False
        self.chunks: deque[Chunk] = deque()
        self.missing_bytes = header.payload_bytes  # not yet handed over by the sender
        self.unsent_bytes = header.payload_bytes  # not yet sent on to the receiver
        self.granted = 0  # chunks that the receiver is ready to take

    @property
    def key(self) -> tuple[str, int]:
        return self.source, self.header.counter


class Router:
    """The router of all messages; ``run`` ends when the supervisor says so or is gone."""

    def __init__(
        self, address: str, fabric: Fabric, nodes: list[str], conductor: Conductor, ledger: Ledger, control: Pipe
    ) -> None:
        self._fabric, self._nodes, self._ledger, self._control = fabric, nodes, ledger, control
        self._conductor = conductor
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = open_socket(self._context, zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.bind(address)
        self._control_hub = ControlHub(address, len(nodes))
        self._received = dict.fromkeys(nodes, 0)  # messages by ZeroMQ
        self._early: dict[str, list[Any]] = {}  # promises that came before what their nodes had sent
        self._present: set[str] = set()
        self._gone: set[str] = set()
        self._turns = 0
        self._hung_up: dict[str, int] = {}  # the turn by which it is lost
        self._ready: set[str] = set()
        self._left_in_order: set[str] = set()
        self._notified = dict.fromkeys(nodes, 0)  # LEFT and ARRIVING sent
        self._idle: dict[str, str] = {}  # what the tasks of an idle node await, with its name
        self._started = False
        self._messages: dict[tuple[str, int], RelayedMessage] = {}
        self._stopped = False

    def run(self) -> None:
        """Serve until told to close."""
        files = [file_of(self._socket), self._control.fileno(), self._control_hub.fileno()]
        while not self._stopped:
            self._turns += 1
            busy = self._take_input()
            for node, promise in self._control_hub.read():
                if promise is None:
                    self._hung_up[node] = self._turns + HANG_UP_TURNS
                else:
                    self._take_promise(node, promise)
                busy = True
            busy = self._act() or busy
            self._note_absences()
            for node, turn in list(self._hung_up.items()):
                if not busy or self._turns >= turn:  # what it had said before is handled before
                    del self._hung_up[node]
                    self._lose(node)
                    busy = True
            planned = [ns for ns in (self._fabric.next_ns(), self._fabric.next_absence_ns) if ns is not None]
            rest_s = 0.0 if busy else self._conductor.rest_s(min(planned, default=None))
            readable, _, _ = select.select(files, [], [], rest_s)
            if self._control.fileno() in readable:
                self._take_orders()
        self._close()

    def _take_orders(self) -> None:
        """From the supervisor: a node is gone, abort the run, close."""
        while not self._stopped and self._control.poll():
            try:
                order, argument = self._control.recv()
            except EOFError:
                self._stopped = True
                break
            if order == "gone":
                self._on_exit(argument)
            elif order == "abort":
                for node in self._nodes:
                    self._send(node, ABORT, argument)
            elif order == "close":
                self._stopped = True

    def _take_input(self) -> bool:
        """Handle what the nodes have sent, up to a bound, so that departures are never starved."""
        for count in range(64):
            try:
                frames, chunk = receive(self._socket, 2, NOBLOCK)
            except zmq.Again:
                return count > 0
            source = frames[0].decode("utf-8", "replace")
            try:
                if source in self._received:
                    self._received[source] += 1
                self._handle(source, msgpack.decode(frames[1]), chunk)
            except (WireError, ValueError, TypeError, KeyError, IndexError, MsgspecError, RecursionError) as error:
                actual_ns = self._conductor.actual_ns()
                reason = str(error) if isinstance(error, WireError) else repr(error)
                self._ledger.write(events.Refused(due_ns=actual_ns, actual_ns=actual_ns, source=source, reason=reason))
            if source in self._early:
                self._take_promise(source, self._early.pop(source))
        return True

    def _take_promise(self, node: str, promise: list[Any]) -> None:
        """A node waits; what it had sent before is handled before."""
        sent, heard, until_ns, rank, awaits = promise
        if node in self._gone:
            return
        if self._received[node] < sent:
            self._early[node] = promise
        elif heard is not None and heard != self._notified[node]:
            self._conductor.on_stale_promise(node)
        else:
            self._conductor.on_promise(node, until_ns, rank, deaf=heard is None)
            if until_ns is None:
                self._idle[node] = awaits
                self._report_deadlock()

    def _handle(self, source: str, fields: list[Any], chunk: Chunk) -> None:
        if source not in self._nodes:
            raise WireError(f"{source!r} is not a node of this run")
        match fields:
            case ["post", str() as destination, int() as stamp_ns, bytes() as encoded]:
                self._post(source, destination, stamp_ns, encoded)
            case ["chunk", int() as counter]:
                message = self._messages[source, counter]
                if len(chunk) > message.missing_bytes:
                    raise WireError(f"{message.header.kind}: more payload than announced")
                message.missing_bytes -= len(chunk)
                if message.destination not in self._gone:
                    message.chunks.append(chunk)
                self._serve(message)
            case ["fetch", str() as origin, int() as counter, int() as chunks]:
                message = self._messages[origin, counter]
                if message.destination != source:
                    raise WireError(f"{source} asked for a message to {message.destination}")
                message.granted += chunks
                self._serve(message)
            case ["hello"]:
                self._present.add(source)
                self._send(source, WELCOME)
            case ["ready"]:
                self._ready.add(source)
                self._start_if_ready()
            case ["bye"]:
                self._send(source, FAREWELL)
                self._left_in_order.add(source)
                self._on_exit(source)
            case _:
                raise WireError(f"unknown operation {fields!r:.80}")

    def _start_if_ready(self) -> None:
        """Time 0 comes when every node waits, or has ended without ever waiting."""
        if self._started or not (self._ready | self._gone).issuperset(self._nodes):
            return
        self._started = True
        wall = self._conductor.begin([node for node in self._nodes if node not in self._gone])
        for node in self._nodes:
            self._send(node, START, wall.origin_ns, wall.dilation)
        self._control.send(("started", str(wall.origin_ns)))

    def _post(self, source: str, destination: str, stamp_ns: int, encoded: bytes) -> None:
        header = decode_header(encoded)
        message = RelayedMessage(source, destination, stamp_ns, header, encoded)
        if destination not in self._nodes or message.key in self._messages or stamp_ns < 0:
            raise WireError(f"{header.kind} {header.counter} to {destination!r} cannot be carried")
        self._conductor.on_post(source, stamp_ns)
        self._fabric.post(source, destination, header.counter, message.wire_bytes, stamp_ns)
        self._messages[message.key] = message

    def _act(self) -> bool:
        """Do what may be done now; whether there was anything."""
        acted = False
        while True:
            next_ns = self._fabric.next_ns()
            if self._conductor.may_act(next_ns):
                for event in self._fabric.advance():
                    self._handle_link_event(event)
                if self._fabric.next_ns() is None:
                    self._report_deadlock()
            else:
                granted = self._conductor.grant(next_ns)
                if granted is None:
                    return acted
                node, due_ns = granted
                self._idle.pop(node, None)
                self._control_hub.send(node, (self._notified[node], due_ns))
            acted = True

    def _note_absences(self) -> None:
        if self._started:
            actual_ns = self._conductor.actual_ns()
            for absence in self._fabric.absences(actual_ns):
                self._ledger.write(events.Unreachable(actual_ns=actual_ns, **absence._asdict()))

    def _handle_link_event(self, event: LinkEvent) -> None:
        message = self._messages[event.source, event.counter]
        if event.departs:
            message.transmission = event.transmission
            self._on_transmitted(message)
            return
        if event.moved_ns:
            what = f"start of {message.header.kind} from {event.source}"
            self._ledger.write(
                events.Clamped(
                    due_ns=event.due_ns, actual_ns=self._conductor.actual_ns(), by_ns=event.moved_ns, what=what
                )
            )
        self._announce(message)

    def _announce(self, message: RelayedMessage) -> None:
        """Let the receiver make room and fetch the payload, off the clock."""
        message.announced = self._send(message.destination, ANNOUNCED, *message.key, message.encoded)

    def _on_transmitted(self, message: RelayedMessage) -> None:
        """Record that the last bit has left, and tell sender and receiver."""
        self._ledger.write(
            transmitted(
                message.header,
                message.source,
                message.destination,
                message.wire_bytes,
                message.posted_ns,
                self._conductor.actual_ns(),
                message.transmission,
            )
        )
        message.left = True
        left_ns, arrival_ns = message.transmission.left_ns, message.transmission.arrival_ns
        self._notify(message.source, left_ns, LEFT_RANK, LEFT, message.header.counter, left_ns)
        self._notify(message.destination, arrival_ns, DELIVERY_RANK, ARRIVING, *message.key, arrival_ns)
        self._forget_if_done(message)

    def _notify(self, node: str, due_ns: int, rank: int, *fields: object) -> None:
        """Announce to ``node`` an event that is due at ``due_ns``."""
        self._idle.pop(node, None)
        self._notified[node] += 1
        self._conductor.on_scheduled(node, due_ns, rank)
        self._send(node, *fields)

    def _serve(self, message: RelayedMessage) -> None:
        """Send on as many chunks as there are and the receiver has asked for."""
        while message.granted and message.chunks:
            chunk = message.chunks.popleft()
            message.granted -= 1
            message.unsent_bytes -= len(chunk)
            self._send(message.destination, CHUNK, *message.key, chunk=chunk)
        self._forget_if_done(message)

    def _forget_if_done(self, message: RelayedMessage) -> None:
        if message.left and message.announced and not message.unsent_bytes:
            self._messages.pop(message.key, None)

    def _send(self, node: str, *fields: object, chunk: Chunk | None = None) -> bool:
        """False where the node is gone; the supervisor learns of a connection that broke by itself."""
        if node not in self._present:
            return False
        try:
            self._socket.send(node.encode(), SNDMORE)
            if chunk is None:
                self._socket.send(msgpack.encode(fields))
            else:
                self._socket.send(msgpack.encode(fields), SNDMORE)
                self._socket.send(chunk, copy=False)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._lose(node)
            return False
        return True

    def _lose(self, node: str) -> None:
        """A node is heard and reached no more; the supervisor sees whether it has ended or its connection broke."""
        if node not in self._gone:
            self._on_exit(node)
            self._control.send(("lost", node))

    def _on_exit(self, node: str) -> None:
        """Drop ``node``, which has ended; what is on its way to it stays undelivered."""
        self._present.discard(node)
        self._gone.add(node)
        self._early.pop(node, None)
        self._conductor.on_exit(node)
        if node not in self._left_in_order:
            now_ns = self._conductor.actual_ns()
            for source, counter in self._fabric.drop(node, now_ns):
                self._notify(source, now_ns, LEFT_RANK, LEFT, counter, now_ns)  # it takes no room in its queue any more
        if self._started and self._gone.issuperset(self._nodes):
            self._control.send(("ended", str(time.monotonic_ns())))
        self._start_if_ready()
        self._report_deadlock()

    def _report_deadlock(self) -> None:
        """Tell the supervisor when nothing is on its way and whoever is left only waits."""
        left = [node for node in self._nodes if node not in self._gone]
        if left and self._fabric.next_ns() is None and all(node in self._idle for node in left):
            ended = [f"{node} has ended" for node in self._nodes if node in self._gone]
            self._control.send(("deadlock", "; ".join([self._idle[node] for node in left] + ended)))

    def _close(self) -> None:
        self._note_absences()
        actual_ns = self._conductor.actual_ns()
        for message in sorted(self._messages.values(), key=lambda t: t.key):
            if message.announced and message.destination in self._left_in_order:
                continue
            ends = message.source, message.destination
            self._ledger.write(undelivered(message.header, *ends, actual_ns, actual_ns))
        self._ledger.write(events.Ended(due_ns=actual_ns, actual_ns=actual_ns, outcome="finished"))
        self._control_hub.close()
        self._socket.close(linger=0)
        self._context.term()
