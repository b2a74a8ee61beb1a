"""The network process: every byte between two nodes passes through it, and it alone applies the link models.

It takes messages from their senders, computes when their first and last bit leave and when they arrive (``fabric``),
and acts at those times: ANNOUNCED to the receiver with the first bit, so that it can fetch the payload; with the last
bit LEFT to the sender and ARRIVING to the receiver (``port`` has the protocol).
It reads posts as they come but orders what happens by due time, so a post that the host delivered late still leaves
on the schedule of its stamp; at one instant by sender and the sender's counter, never by who was read first. When
something may happen is for the conductor of the run's clock to say (``coordinator``). The clock starts when every node
has said READY.
"""

from __future__ import annotations

import select
import time
from collections import deque
from multiprocessing.connection import Connection as Pipe
from typing import Any

import msgpack
import zmq

from emulator.clock.conductors import Conductor
from emulator.clock.loop import DELIVERY_RANK, LEFT_RANK
from emulator.errors import WireError
from emulator.ledger import events
from emulator.ledger.files import Ledger
from emulator.network.fabric import Fabric, LinkEvent
from emulator.network.jitter import Transmission
from emulator.transport.control_channel import Lines
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


class Transit:
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


class Network:
    """The state of the network process; ``run`` ends when the supervisor says so or is gone."""

    def __init__(
        self, address: str, fabric: Fabric, nodes: list[str], conductor: Conductor, ledger: Ledger, control: Pipe
    ) -> None:
        self._fabric, self._nodes, self._ledger, self._control = fabric, nodes, ledger, control
        self._conductor = conductor
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = open_socket(self._context, zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.bind(address)
        self._lines = Lines(address, len(nodes))
        self._received = dict.fromkeys(nodes, 0)  # messages by ZeroMQ
        self._early: dict[str, list[Any]] = {}  # promises that came before what their nodes had sent
        self._present: set[str] = set()
        self._gone: set[str] = set()
        self._ready: set[str] = set()
        self._left_in_order: set[str] = set()
        self._told = dict.fromkeys(nodes, 0)  # LEFT and ARRIVING sent
        self._idle: dict[str, str] = {}  # what the tasks of an idle node await
        self._started = False
        self._transits: dict[tuple[str, int], Transit] = {}
        self._stopped = False

    def run(self) -> None:
        """Serve until told to close."""
        files = [file_of(self._socket), self._control.fileno(), self._lines.fileno()]
        while not self._stopped:
            busy = self._take_input()
            for node, promise in self._lines.read():
                self._take_promise(node, promise)
                busy = True
            busy = self._act() or busy
            rest_s = 0.0 if busy else self._conductor.rest_s(self._fabric.next_ns())
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
                self._lose(argument)
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
                self._handle(source, msgpack.unpackb(frames[1]), chunk)
            except (WireError, ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
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
        elif heard != self._told[node]:
            self._conductor.misses(node)
        else:
            self._conductor.waits(node, until_ns, rank)
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
                transit = self._transits[source, counter]
                if len(chunk) > transit.missing_bytes:
                    raise WireError(f"{transit.header.kind}: more payload than announced")
                transit.missing_bytes -= len(chunk)
                if transit.destination not in self._gone:
                    transit.chunks.append(chunk)
                self._serve(transit)
            case ["fetch", str() as origin, int() as counter, int() as chunks]:
                transit = self._transits[origin, counter]
                if transit.destination != source:
                    raise WireError(f"{source} asked for a message to {transit.destination}")
                transit.granted += chunks
                self._serve(transit)
            case ["hello"]:
                self._present.add(source)
                self._send(source, WELCOME)
            case ["ready"]:
                self._ready.add(source)
                self._start_if_ready()
            case ["bye"]:
                self._send(source, FAREWELL)
                self._left_in_order.add(source)
                self._lose(source)
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
        transit = Transit(source, destination, stamp_ns, header, encoded)
        if destination not in self._nodes or transit.key in self._transits or stamp_ns < 0:
            raise WireError(f"{header.kind} {header.counter} to {destination!r} cannot be carried")
        self._conductor.posts(source, stamp_ns)
        self._fabric.post(source, destination, header.counter, transit.wire_bytes, stamp_ns)
        self._transits[transit.key] = transit

    def _act(self) -> bool:
        """Do what may be done now; whether there was anything."""
        acted = False
        while True:
            next_ns = self._fabric.next_ns()
            if self._conductor.may_act(next_ns):
                for event in self._fabric.advance():
                    self._tell_of(event)
                if self._fabric.next_ns() is None:
                    self._report_deadlock()
            else:
                granted = self._conductor.grant(next_ns)
                if granted is None:
                    return acted
                node, due_ns = granted
                self._idle.pop(node, None)
                self._lines.send(node, (self._told[node], due_ns))
            acted = True

    def _tell_of(self, event: LinkEvent) -> None:
        transit = self._transits[event.source, event.counter]
        if event.departs:
            transit.transmission = event.transmission
            self._depart(transit)
            return
        if event.moved_ns:
            what = f"start of {transit.header.kind} from {event.source}"
            self._ledger.write(
                events.Clamped(
                    due_ns=event.due_ns, actual_ns=self._conductor.actual_ns(), by_ns=event.moved_ns, what=what
                )
            )
        self._announce(transit)

    def _announce(self, transit: Transit) -> None:
        """Let the receiver make room and fetch the payload, off the clock."""
        transit.announced = self._send(transit.destination, ANNOUNCED, *transit.key, transit.encoded)

    def _depart(self, transit: Transit) -> None:
        """The last bit has left."""
        self._ledger.write(
            events.Transmitted(
                due_ns=transit.transmission.left_ns,
                actual_ns=self._conductor.actual_ns(),
                counter=transit.header.counter,
                source=transit.source,
                destination=transit.destination,
                kind=transit.header.kind,
                wire_bytes=transit.wire_bytes,
                payload_bytes=transit.header.payload_bytes,
                posted_ns=transit.posted_ns,
                start_ns=transit.transmission.start_ns,
                arrival_ns=transit.transmission.arrival_ns,
                ack_bytes=transit.transmission.ack_bytes,
                resent_bytes=transit.transmission.resent_bytes,
            )
        )
        transit.left = True
        left_ns, arrival_ns = transit.transmission.left_ns, transit.transmission.arrival_ns
        self._tell(transit.source, left_ns, LEFT_RANK, LEFT, transit.header.counter, left_ns)
        self._tell(transit.destination, arrival_ns, DELIVERY_RANK, ARRIVING, *transit.key, arrival_ns)
        self._forget_if_done(transit)

    def _tell(self, node: str, due_ns: int, rank: int, *fields: object) -> None:
        """Tell ``node`` of something that will happen to it."""
        self._idle.pop(node, None)
        self._told[node] += 1
        self._conductor.tells(node, due_ns, rank)
        self._send(node, *fields)

    def _serve(self, transit: Transit) -> None:
        """Send on as many chunks as there are and the receiver has asked for."""
        while transit.granted and transit.chunks:
            chunk = transit.chunks.popleft()
            transit.granted -= 1
            transit.unsent_bytes -= len(chunk)
            self._send(transit.destination, CHUNK, *transit.key, chunk=chunk)
        self._forget_if_done(transit)

    def _forget_if_done(self, transit: Transit) -> None:
        if transit.left and transit.announced and not transit.unsent_bytes:
            self._transits.pop(transit.key, None)

    def _send(self, node: str, *fields: object, chunk: Chunk | None = None) -> bool:
        """False where the node is gone; the supervisor learns of a connection that broke by itself."""
        if node not in self._present:
            return False
        try:
            self._socket.send(node.encode(), SNDMORE)
            if chunk is None:
                self._socket.send(msgpack.packb(fields))
            else:
                self._socket.send(msgpack.packb(fields), SNDMORE)
                self._socket.send(chunk, copy=False)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._lose(node)
            self._control.send(("lost", node))
            return False
        return True

    def _lose(self, node: str) -> None:
        """Nothing more can be sent to ``node``; what is on its way to it stays undelivered."""
        self._present.discard(node)
        self._gone.add(node)
        self._early.pop(node, None)
        self._conductor.loses(node)
        if node not in self._left_in_order:
            now_ns = self._conductor.actual_ns()
            for source, counter in self._fabric.drop(node, now_ns):
                self._tell(source, now_ns, LEFT_RANK, LEFT, counter, now_ns)  # it takes no room in its queue any more
        if self._started and self._gone.issuperset(self._nodes):
            self._control.send(("ended", str(time.monotonic_ns())))
        self._start_if_ready()
        self._report_deadlock()

    def _report_deadlock(self) -> None:
        """Tell the supervisor when nothing is on its way and whoever is left only waits."""
        left = [node for node in self._nodes if node not in self._gone]
        if left and self._fabric.next_ns() is None and all(node in self._idle for node in left):
            ended = [f"{node} has ended" for node in self._nodes if node in self._gone]
            self._control.send(("deadlock", "; ".join([f"{node} {self._idle[node]}" for node in left] + ended)))

    def _close(self) -> None:
        actual_ns = self._conductor.actual_ns()
        for transit in sorted(self._transits.values(), key=lambda t: t.key):
            if transit.announced and transit.destination in self._left_in_order:
                continue
            self._ledger.write(
                events.Undelivered(
                    due_ns=actual_ns,
                    actual_ns=actual_ns,
                    counter=transit.header.counter,
                    source=transit.source,
                    destination=transit.destination,
                    kind=transit.header.kind,
                    payload_bytes=transit.header.payload_bytes,
                )
            )
        self._ledger.write(events.Ended(due_ns=actual_ns, actual_ns=actual_ns, outcome="finished"))
        self._lines.close()
        self._socket.close(linger=0)
        self._context.term()
