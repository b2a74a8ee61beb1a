"""The ledger: what happened, one frozen event a line, and nothing measured a second time for display.

Each process appends its own ``ledger/ALGORITHM/NODE.jsonl`` with one ``write()`` a line to an ``O_APPEND`` file,
before the effect becomes visible to others: whatever was recorded survives any kill of the process. Readers merge by
``(due_ns, node, seq)`` and ignore an incomplete last line.

Times are emulated nanoseconds since time 0 of the algorithm's timeline. ``due_ns`` is what the model says,
``actual_ns`` what the real clock showed (wall time since the start, divided by the dilation). Sizes are bytes.
"""

from __future__ import annotations

import msgspec

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


class Transmitted(Event, frozen=True, kw_only=True, tag="carried"):
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


class Unreachable(Event, frozen=True, kw_only=True):
    """Network: from ``due_ns`` to before ``until_ns`` nothing reaches ``client``, and it reaches nothing.

    ``kind``: "outage" or "away" (``profiles.availability``). Written when it begins; no digest hashes it, since it
    follows from the profile and the seed.
    """

    client: str
    kind: str
    until_ns: int


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
    ``counter`` of ``source``, and ``queued_ns`` is how long that queued before ``start_ns`` (``node.queueing``).
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
    """Memory of a node above its baseline, at this moment and at its peak so far.

    ``allocator``: "tight" gives freed memory back at once, and a client's growth and peak are what was resident under
    it; under the "roomy" one, that of a server always, they stay what they were.
    """

    growth_bytes: int
    peak_bytes: int
    budget_bytes: int | None = None
    allocator: str = "tight"


MEMORY_KINDS = (
    *("parameters", "gradients", "optimizer", "activations", "auxiliary", "messages", "received", "batch"),
    "temporaries",
)


class MemoryEstimated(Event, frozen=True, kw_only=True, tag="accounted"):
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
    accuracy: float | None  # top-1, 0 to 1; None: the task has none, or the training has diverged
    loss: float | None  # the task's, its mean; None: not a number, the training has diverged
    weights: str = ""  # SHA-256 of the model's parts
    balanced: float | None = None  # mean over classes of the share of each that was known; None: not judged so
    not_finite: list[str] = []  # parts with values that are infinite or no numbers
    scores: dict[str, float] = {}  # the task's metrics by name, those two among them; empty in older ledgers
    clients: list[float | None] = []  # its first metric for each client in order; empty: not told by client, or older

    @property
    def by_metric(self) -> dict[str, float]:
        """The task's metrics by name; of an older ledger those two."""
        older = {"accuracy": self.accuracy, "balanced_accuracy": self.balanced}
        return self.scores or {name: value for name, value in older.items() if value is not None}


class ModelSaved(Event, frozen=True, kw_only=True):
    """Evaluator: it has written the joined model of a round to ``models/FILE`` of the record, over an earlier one's."""

    round: int
    file: str
    sha256: str


class Ended(Event, frozen=True, kw_only=True):
    """A node's last words. ``outcome``: finished, does-not-fit, interrupted, peer-lost, stuck, refused, failed;
    ``traceback``: of an error in the method."""

    outcome: str
    detail: str = ""
    phase: str = ""
    asked_bytes: int | None = None
    traceback: str = ""


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


class Lifecycle(Event, frozen=True, kw_only=True, tag="timeline"):
    """Supervisor: an algorithm's timeline begins (outcome "") or is over; ``wall_s`` from the clock's start to it.

    ``why``: what this host needs of a clock that can be slowed, as it begins; ``abandoned``: attempts at smaller
    dilations, and what was late in each. ``uncharged``: lines of the method that
    work on tensors outside its computations, so that their time is in no figure. ``traceback``: of an error in the
    method, which ended it.
    """

    outcome: str
    detail: str = ""
    dilation: int = 1
    why: str = ""
    abandoned: list[str] = []
    uncharged: list[str] = []
    wall_s: float | None = None
    traceback: str = ""


AnyEvent = (
    Started
    | Posted
    | Blocked
    | Transmitted
    | Unreachable
    | Undelivered
    | Received
    | Refused
    | Waiting
    | Computed
    | Clamped
    | Reported
    | Memory
    | MemoryEstimated
    | RoundEnded
    | Evaluated
    | ModelSaved
    | Ended
    | Host
    | Lasting
    | Lifecycle
)
