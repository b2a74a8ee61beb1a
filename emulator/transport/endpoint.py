"""A node's socket to the network process, and the protocol between them.

First frame of every message: a msgpack array that begins with an operation. Payload travels in chunks of at most
256 KiB, each in a second frame, sent from the parcel's own buffers without a copy.

Promises and grants take a channel of their own (``control_channel``): WAIT and GRANT below.

node -> network                                       network -> node
HELLO                                                 WELCOME
READY      nothing left to do before the start        START origin_ns dilation
POST       destination stamp_ns header                LEFT counter left_ns
CHUNK      counter | bytes                            ANNOUNCED source counter header
FETCH      source counter chunks                      CHUNK source counter | bytes
                                                      ARRIVING source counter arrival_ns
BYE        it takes nothing more                      FAREWELL nothing more will come
                                                      ABORT reason
WAIT       sent heard until_ns rank awaits            GRANT told due_ns     (virtual clock)

What one side sends into a connection that has just broken is lost without an error. A node therefore watches its own
connection (ZeroMQ's monitor) and closes its control channel when it breaks, which the network process always sees.

A delivery has two steps. The network announces a message (header alone) when its first bit leaves; the receiver
validates the header, allocates the tensors itself and fetches the payload into them, chunk by chunk, off the
clock. When the last bit has left, ARRIVING tells the time at which the message becomes visible. So an allocation that
fails is the receiver's catchable outcome; libzmq never holds more than a few chunks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy
import zmq
from msgspec import msgpack

from emulator.clock.loop import EmulatedLoop
from emulator.clock.pacers import DELIVERY_RANK, LEFT_RANK, Entry, Sleep, WallTime
from emulator.compute.memory import bytes_asked, is_out_of_memory
from emulator.errors import DoesNotFit, PeerLost, WireError
from emulator.ledger.events import Undelivered
from emulator.transport.control_channel import ControlChannel
from emulator.transport.delivery import undelivered
from emulator.transport.messages import Incoming, Message, Parcel, decode_header, types_of

CHUNK_BYTES = 256 * 1024
WINDOW_CHUNKS = 4  # granted to the network at a time, so at most 1 MiB of chunks waits in libzmq
MAX_FRAME_BYTES = CHUNK_BYTES + 128 * 1024
SPARE_BYTES = 3 * 2**20  # must be free beside a message, for the chunks that wait in libzmq

HELLO, READY, POST, CHUNK, FETCH, BYE = "hello", "ready", "post", "chunk", "fetch", "bye"
WELCOME, START, LEFT, ARRIVING, FAREWELL, ABORT = "welcome", "start", "left", "arriving", "farewell", "abort"
ANNOUNCED = "announced"

# Plain numbers: arithmetic with pyzmq's enums is slow.
NOBLOCK, SNDMORE, EVENTS, POLLIN = int(zmq.NOBLOCK), int(zmq.SNDMORE), int(zmq.EVENTS), int(zmq.POLLIN)

Chunk = zmq.Frame | bytes


def open_socket(context: zmq.Context[Any], kind: int) -> zmq.Socket[Any]:
    """A socket without high-water marks (the send queue is the only back-pressure) and with small frames only."""
    socket: zmq.Socket[Any] = context.socket(kind)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.LINGER, 2000)
    return socket


def receive(socket: zmq.Socket[Any], small: int, flags: int = 0) -> tuple[list[bytes], Chunk]:
    """The first ``small`` frames of a message, and a further one without a copy (empty where there is none)."""
    frame = socket.recv(flags, copy=False)
    frames = [frame.bytes]
    while frame.more and len(frames) < small:
        frame = socket.recv(copy=False)
        frames.append(frame.bytes)
    chunk: Chunk = b""
    while frame.more:  # nobody sends more than one
        chunk = frame = socket.recv(copy=False)
    return frames, chunk


def has_input(socket: zmq.Socket[Any]) -> bool:
    """Whether a message is there; a third of the price of an attempt in vain to receive one."""
    return bool(int(socket.getsockopt(EVENTS)) & POLLIN)


def file_of(socket: zmq.Socket[Any]) -> int:
    """The descriptor that becomes readable when there is something to do; edge-triggered: read until EAGAIN first."""
    return int(socket.getsockopt(zmq.FD))


class Endpoint:
    """A node's transport in a process of its own. The node sets the ``on_`` callbacks before the loop runs."""

    def __init__(self, address: str, name: str, messages: Iterable[type[Message]]) -> None:
        self._name, self._types = name, types_of(messages)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = open_socket(self._context, zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, name.encode())
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)  # a lost connection ends the run, by name
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(address)
        self._channel: ControlChannel | None = None
        self._sent = 0  # messages to the network by ZeroMQ
        self._loop: EmulatedLoop | None = None
        self._wall: WallTime | None = None
        self._ready = False
        self._farewell = False
        self._granted_ns: int | None = None
        self._heard = 0  # LEFT and ARRIVING so far, so that the network can tell a WAIT that has been overtaken
        self._filling: dict[tuple[str, int], Incoming] = {}
        self._failed: dict[tuple[str, int], DoesNotFit] = {}
        self._ungranted: dict[tuple[str, int], int] = {}  # chunks still to ask for
        self._announced: dict[tuple[str, int], Incoming] = {}  # not yet visible to the node
        self.on_delivery: Callable[[Incoming, str, int], None]
        self.on_left: Callable[[int], None]
        self.on_failure: Callable[[Exception], None]
        self.on_refused: Callable[[str, str], None]
        self._send(HELLO)
        if self._receive()[0][0] != WELCOME:  # however long it takes: the supervisor sees the network process end
            raise PeerLost(f"{name}: the network process does not welcome it")
        self._channel = ControlChannel(address, name)

    def attach(self, loop: EmulatedLoop) -> None:
        """Deliver into ``loop``."""
        self._loop = loop
        loop.watch(file_of(self._socket))
        loop.watch(file_of(self._monitor))
        assert self._channel is not None
        loop.watch(self._channel.fileno())

    def start(self, sleep: Sleep) -> WallTime | None:
        """Tell the network that this node has done what it can before the start, and wait for input: None, not yet."""
        if not self._ready:
            self._ready = True
            self._send(READY)
        if not self.take_input():
            sleep(None)
        return self._wall

    def post(self, destination: str, parcel: Parcel, stamp_ns: int) -> None:
        """Hand a parcel to the network; its buffers must stay as they are until its LEFT."""
        self._send(POST, destination, stamp_ns, parcel.encoded)
        envelope = msgpack.encode([CHUNK, parcel.header.counter])
        for chunk in parcel.chunks(CHUNK_BYTES):
            self._socket.send(envelope, SNDMORE)
            self._socket.send(chunk, copy=False)
            self._sent += 1

    def wait(self, entry: Entry | None, awaits: Callable[[], str], *, deaf: bool = False) -> None:
        """Promise that nothing happens here before ``entry``, or None: unless it hears something; ``deaf``: also
        then."""
        self._granted_ns = None
        promise = (None, 0, awaits()) if entry is None else (entry.due_ns, entry.rank, "")
        if self._channel is not None:
            self._channel.promise(self._sent, None if deaf else self._heard, *promise)

    def granted(self, least_ns: int = 0) -> int | None:
        """The time that the network has granted since the last ``wait``; one before ``least_ns`` answered an older
        promise."""
        if self._granted_ns is not None and self._granted_ns < least_ns:
            self._granted_ns = None
        return self._granted_ns

    def take_input(self) -> bool:
        """Handle everything that the network has sent; True if there was anything."""
        granted = self._read_grant()
        while granted is not None and self._heard < granted[0]:  # it was told more before, by ZeroMQ
            if not self._has_input():
                return False
            self._handle(*self._receive())
        taken = granted is not None
        while has_input(self._socket):
            taken = True
            self._handle(*self._receive())
        if granted is not None:
            self._granted_ns = granted[1]
        if not taken and has_input(self._monitor):
            self._hang_up()
        return taken

    def _has_input(self) -> bool:
        """Wait for a message from the network; False where the connection has broken and none is left in it."""
        while not self._socket.poll(0):
            if self._monitor.poll(0):
                self._hang_up()
                return False
            zmq.select([self._socket, self._monitor], [], [])
        return True

    def _hang_up(self) -> None:
        """Let the network process see that nothing reaches this node any more; the supervisor then ends the run."""
        self._monitor.recv_multipart()
        self._close_channel()

    def _close_channel(self) -> None:
        if self._loop is not None and self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _read_grant(self) -> tuple[int, int] | None:
        """A grant, where there is one; without the network process there is none, and the supervisor sees that."""
        if self._channel is None:
            return None
        try:
            return self._channel.grant()
        except EOFError:
            self._close_channel()
            return None

    def sign_off(self, due_ns: int, actual_ns: int, within_s: float = 2.0) -> list[Undelivered]:
        """Sign off from the network; return what was on its way to this node then, undelivered at these times."""
        self._send(BYE)
        deadline_s = time.monotonic() + within_s
        while not self._farewell and time.monotonic() < deadline_s:
            if self._socket.poll(100):
                self.take_input()
        return [
            undelivered(incoming.header, source, self._name, due_ns, actual_ns)
            for (source, _), incoming in self._announced.items()
        ]

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        if self._channel is not None:
            self._channel.close()
        self._context.term()

    def _send(self, *fields: object) -> None:
        self._socket.send(msgpack.encode(fields))
        self._sent += 1

    def _receive(self, flags: int = 0) -> tuple[list[Any], Chunk]:
        frames, chunk = receive(self._socket, 1, flags)
        return msgpack.decode(frames[0]), chunk

    def _handle(self, fields: list[Any], chunk: Chunk) -> None:
        assert self._loop is not None
        match fields:
            case ["left", counter, left_ns]:
                self._heard += 1
                self._loop.at(left_ns, partial(self.on_left, counter), LEFT_RANK, what="left")
            case ["announced", source, counter, encoded]:
                self._make_room(source, counter, encoded)
            case ["arriving", source, counter, arrival_ns]:
                self._heard += 1
                self._schedule(source, counter, arrival_ns)
            case ["chunk", source, counter]:
                incoming = self._filling.get((source, counter))
                if incoming is not None:
                    incoming.fill(chunk.buffer if isinstance(chunk, zmq.Frame) else chunk)
                    if not incoming.missing_bytes:
                        del self._filling[source, counter]
                    elif self._ungranted[source, counter]:
                        self._ungranted[source, counter] -= 1
                        self._send(FETCH, source, counter, 1)
            case ["start", origin_ns, dilation]:
                self._wall = WallTime(origin_ns, dilation)
            case ["farewell"]:
                self._farewell = True
            case ["abort", reason]:
                self._loop.call_soon(self.on_failure, PeerLost(reason))
            case _:
                raise WireError(f"the network process sent {fields!r}")

    def _make_room(self, source: str, counter: int, encoded: bytes) -> None:
        """Validate an announced message, allocate its tensors and begin to fetch its payload."""
        try:
            incoming = Incoming(decode_header(encoded), len(encoded), self._types, source)
        except WireError as error:
            self.on_refused(source, str(error))
            return
        self._announced[source, counter] = incoming
        try:
            incoming.allocate()
            numpy.empty(SPARE_BYTES, numpy.uint8)  # never written, so it is in no peak
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            asked = bytes_asked(error)
            self._failed[source, counter] = DoesNotFit(
                f"receive {incoming.kind}", asked if asked is not None else incoming.missing_bytes
            )
            incoming.release()
            return
        if incoming.missing_bytes:
            self._filling[source, counter] = incoming
            self._ungranted[source, counter] = max(incoming.chunk_count(CHUNK_BYTES) - WINDOW_CHUNKS, 0)
            self._send(FETCH, source, counter, WINDOW_CHUNKS)

    def _schedule(self, source: str, counter: int, arrival_ns: int) -> None:
        """Make a message visible at its arrival, when its payload is there; one that was refused never will be."""
        assert self._loop is not None
        incoming = self._announced.get((source, counter))
        if incoming is None:
            return
        failure = self._failed.pop((source, counter), None)
        self._loop.at(
            arrival_ns,
            partial(self.on_failure, failure) if failure else partial(self._arrive, incoming, source, counter),
            DELIVERY_RANK,
            ready=None if failure else lambda: incoming.missing_bytes == 0,
            what=f"arrival of {incoming.kind} from {source}",
        )

    def _arrive(self, incoming: Incoming, source: str, counter: int) -> None:
        del self._announced[source, counter]
        self._ungranted.pop((source, counter), None)
        self.on_delivery(incoming, source, counter)
