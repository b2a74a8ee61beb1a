"""The ledger: what happened, one frozen event a line, and nothing measured a second time for display.

Each process appends its own ``ledger/ALGORITHM/NODE.jsonl`` with one ``write()`` a line to an ``O_APPEND`` file,
before the effect becomes visible to others: whatever was recorded survives any kill of the process. Readers merge by
``(due_ns, node, seq)`` and ignore an incomplete last line.

Times are emulated nanoseconds since time 0 of the algorithm's timeline. ``due_ns`` is what the model says,
``actual_ns`` what the real clock showed (wall time since the start, divided by the dilation). Sizes are bytes.
"""

from __future__ import annotations

import errno
import heapq
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from emulator.errors import UserError

SCHEMA = "splitbed/1"  # of a run's folder: its manifest, ledger and summary


def _tag(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=_tag):
    """Base of all events. ``seq`` counts the lines of one node; the writer fills in ``node`` and ``seq``."""

    due_ns: int
    actual_ns: int
    node: str = ""
    seq: int = -1


class Started(Event, frozen=True, kw_only=True):
    """A node is set up, before its model exists. ``budget_bytes`` is None where memory is not capped."""

    role: str  # "server" | "client" | "network" | "evaluator"
    pid: int
    device: str = ""
    network: str = ""
    workers: int = 1
    baseline_bytes: int = 0
    budget_bytes: int | None = None
    limit_bytes: int | None = None  # growth at which the soft RLIMIT_DATA stops an allocation


class Posted(Event, frozen=True, kw_only=True):
    """A node handed a message to its link (due = the stamp it carries). Sizes as the wire module counts them."""

    counter: int  # of this sender, from 0
    destination: str
    kind: str
    round: int
    payload_bytes: int  # tensor bytes
    official_bytes: int  # the part of the payload that the official FSL-SAGE code counts
    framed_bytes: int  # with header and ZMTP framing
    wire_bytes: int  # with TCP/IP headers, estimated; what the link carries
    not_finite: list[str] = []  # fields of the message with values that are infinite or no numbers


class Blocked(Event, frozen=True, kw_only=True):
    """A post had waited since ``since_ns`` for its node's send queue: now it goes, or its task has given up.

    ``held_bytes``: payload that the queue holds now; ``room_bytes``: all that it has room for.
    """

    destination: str
    kind: str
    since_ns: int
    payload_bytes: int
    held_bytes: int
    room_bytes: int


class Carried(Event, frozen=True, kw_only=True):
    """Network: the last bit of a message has left its sender (due = left). It arrives at ``arrival_ns``."""

    counter: int
    source: str
    destination: str
    kind: str
    wire_bytes: int
    payload_bytes: int
    posted_ns: int
    start_ns: int  # first bit leaves: later than posted_ns when the link was busy
    arrival_ns: int
    ack_bytes: int = 0  # acknowledgements, on the way back; counted, not scheduled
    resent_bytes: int = 0  # had left when an end went away, and left once more; not in wire_bytes


class Undelivered(Event, frozen=True, kw_only=True):
    """Network, at its end: a message that was posted and never fetched by its receiver."""

    counter: int
    source: str
    destination: str
    kind: str
    payload_bytes: int


class Received(Event, frozen=True, kw_only=True):
    """A message became visible to the receiving node (due = arrival)."""

    counter: int
    source: str
    kind: str
    payload_bytes: int
    framed_bytes: int
    wire_bytes: int


class Refused(Event, frozen=True, kw_only=True):
    """A malformed message was refused."""

    source: str
    reason: str


class Waiting(Event, frozen=True, kw_only=True):
    """A task of the node began to wait for a message that is not there yet."""

    kinds: list[str]
    sources: list[str]  # empty: from anybody


class Computed(Event, frozen=True, kw_only=True):
    """A computation's span: emulated from ``start_ns`` to ``due_ns``; ``host_ns`` is what the host needed for it.

    ``cpu_ns`` is the part of it in which the computing thread had a core. A server's says for which message it was,
    ``counter`` of ``source``, and ``queued_ns`` is how long that queued before ``start_ns`` (``emulator.queueing``).
    ``unknown``: operators counted by their bytes because nothing is known of their arithmetic.
    """

    function: str
    start_ns: int
    queued_ns: int  # at a client, and where source is None: waited for a free worker
    source: str | None = None  # "": for nobody's alone; None: a client's, or a record that does not say
    counter: int = -1
    host_ns: int
    cpu_ns: int = 0
    host_late_ns: int  # host work ended this long after the span's end was due (negative: in time)
    operations: int
    dense_flops: int
    depthwise_flops: int
    moved_bytes: int
    unknown: tuple[str, ...] = ()


class Clamped(Event, frozen=True, kw_only=True):
    """An event reached the node after its time had passed it, and was moved by ``by_ns`` to the node's time."""

    by_ns: int
    what: str


class Reported(Event, frozen=True, kw_only=True):
    """What an algorithm reports about itself, e.g. the training loss of a step or round."""

    round: int
    values: dict[str, float]
    not_finite: list[str] = []  # what was reported as infinite or not a number, which JSON cannot say


class Memory(Event, frozen=True, kw_only=True):
    """Memory of a node above its baseline, at this moment and at its peak so far."""

    growth_bytes: int
    peak_bytes: int
    budget_bytes: int | None = None


MEMORY_KINDS = (
    *("parameters", "gradients", "optimizer", "activations", "auxiliary", "messages", "received", "batch"),
    "temporaries",
)


class Accounted(Event, frozen=True, kw_only=True):
    """Supervisor: the tensors of one client of ``device`` when they were most, played alone before the timeline.

    ``kinds``: bytes by ``MEMORY_KINDS``. parameters: with buffers; auxiliary: its parameters, gradients and optimizer
    state together; activations: what autograd saved; messages: copies on their way out; received: what came in;
    batch: what else was made outside computations; temporaries: the rest. ``needed_bytes``: with what torch and the
    allocator need besides, by a fit.
    """

    device: str
    kinds: dict[str, int]
    during: str  # the computation; "": between two
    needed_bytes: int


class RoundEnded(Event, frozen=True, kw_only=True):
    """Server: the round's last update has arrived and is averaged; a snapshot for the evaluator was taken."""

    round: int
    started_ns: int


class Evaluated(Event, frozen=True, kw_only=True):
    """Evaluator: the joined model of a round on the test set (due and actual: those of the round's end)."""

    round: int
    accuracy: float | None  # top-1, 0 to 1; None (an argmax of NaN in older ledgers): the training has diverged
    loss: float | None  # mean negative log-likelihood; None: not a number, the training has diverged
    weights: str = ""  # SHA-256 of the model's parts
    balanced: float | None = None  # mean over classes of the share of each that was known; None: not judged so
    not_finite: list[str] = []  # parts with values that are infinite or no numbers


class Ended(Event, frozen=True, kw_only=True):
    """A node's last words. ``outcome``: finished, does-not-fit, interrupted, peer-lost, stuck, refused, failed."""

    outcome: str
    detail: str = ""
    phase: str = ""
    asked_bytes: int | None = None


class Host(Event, frozen=True, kw_only=True):
    """Supervisor, about once a second: the host's load. Fractions 0 to 1 of all cores, or of those that a CPU quota
    allows; PSI as the kernel's avg10, None where the kernel has none.

    Its times are wall time since the start, divided by the dilation, on every clock.
    """

    busy: float
    steal: float
    pressure: float | None
    stopped: float | None = None  # share of a CPU quota's periods in which it ran out; None: there is no quota


class Lasting(Event, frozen=True, kw_only=True):
    """Supervisor: something has been going on for long on the host; ``what``: a sentence that says where and for how
    long. Told as it has doubled. Its times are those of ``Host``."""

    what: str


class Timeline(Event, frozen=True, kw_only=True):
    """Supervisor: an algorithm's timeline begins (outcome "") or is over; ``wall_s`` from the clock's start to it.

    ``why``: what this host needs of a clock that can be slowed, as it begins. ``uncharged``: lines of the method that
    work on tensors outside its computations, so that their time is in no figure.
    """

    outcome: str
    detail: str = ""
    dilation: int = 1
    why: str = ""
    uncharged: list[str] = []
    wall_s: float | None = None


AnyEvent = (
    Started
    | Posted
    | Blocked
    | Carried
    | Undelivered
    | Received
    | Refused
    | Waiting
    | Computed
    | Clamped
    | Reported
    | Memory
    | Accounted
    | RoundEnded
    | Evaluated
    | Ended
    | Host
    | Lasting
    | Timeline
)

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


class Ledger:
    """Append-only writer of one node's events; safe to use from several threads of the process."""

    def __init__(self, folder: Path, node: str, seq: int = 0) -> None:
        self.path = folder / f"{node}.jsonl"
        self._node = node
        self._seq = seq  # lines that are there already
        self._lock = threading.Lock()
        self._encoder = msgspec.json.Encoder()
        self._file = self.path.open("ab", buffering=0)

    def write(self, event: Event) -> None:
        """Append ``event`` as one line in one ``write()``; OSError, and no part of a line, where there is no room."""
        with self._lock:
            line = self._encoder.encode(msgspec.structs.replace(event, node=self._node, seq=self._seq)) + b"\n"
            file = self._file.fileno()
            try:
                written = os.write(file, line)
            except OSError as error:  # which knows a number alone
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            if written != len(line):  # a full disk: the next line would be appended to a part of this one
                os.ftruncate(file, os.fstat(file).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._seq += 1

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tail:
    """Reads a growing ledger file: each ``read`` returns the events that were completed since the last one; UserError
    with the line where there is one that cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = self._lines = 0

    def read(self) -> list[AnyEvent]:
        try:
            with io.FileIO(self.path) as file:  # unbuffered: hundreds of files are looked at twice a second
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        complete = text[: text.rfind(b"\n") + 1]
        lines, read = complete.splitlines(), self._lines
        self._offset += len(complete)
        self._lines += len(lines)
        try:
            return [_decoder.decode(line) for line in lines]
        except msgspec.MsgspecError:
            return [_decoded(_decoder, line, self.path, read + i) for i, line in enumerate(lines, 1)]


T = TypeVar("T")


def _decoded(decoder: msgspec.json.Decoder[T], line: bytes, path: Path, number: int) -> T:
    """What a line holds; UserError with the file and the line's number, where that is nothing of the kind."""
    try:
        return decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise UserError(
            f"{path}, line {number}: no event that this version can read ({error}); take the line out of it"
        ) from None


def read_node(path: Path) -> list[AnyEvent]:
    """All complete lines of one node's file, in the order they were written."""
    return Tail(path).read()


def merge(streams: Iterable[Iterable[AnyEvent]], key: Callable[[AnyEvent], Any] | None = None) -> Iterator[AnyEvent]:
    """Events of several nodes in the order (due time, node, the node's own counter)."""
    order = key or (lambda event: (event.due_ns, event.node, event.seq))
    return heapq.merge(*(sorted(stream, key=order) for stream in streams), key=order)


def read_timeline(folder: Path) -> list[AnyEvent]:
    """The merged events of one algorithm, from its folder of per-node files."""
    return list(merge(read_node(path) for path in sorted(folder.glob("*.jsonl"))))


def encode_line(event: Event) -> bytes:
    """One line of JSON, without the newline."""
    return msgspec.json.encode(event)


class _Owned(msgspec.Struct):
    algorithm: str


def merged_lines(algorithm: str, events: Iterable[Event]) -> Iterator[bytes]:
    """The lines of ``ledger.jsonl``: those of nodes, each with its algorithm."""
    prefix = msgspec.json.encode({"algorithm": algorithm})[:-1] + b","
    return (prefix + encode_line(event)[1:] + b"\n" for event in events)


def read_merged(path: Path) -> dict[str, list[AnyEvent]]:
    """What ``merged_lines`` wrote, by algorithm."""
    found: dict[str, list[AnyEvent]] = {}
    owner = msgspec.json.Decoder(_Owned)
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        algorithm = _decoded(owner, line, path, number).algorithm
        found.setdefault(algorithm, []).append(_decoded(_decoder, line, path, number))
    return found
