"""A node, a group of clients and a capacity of the network, as the events read so far show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from emulator.dashboard.activity import COMPUTE, DOWN_BITS, DOWNLOAD, UP_BITS, UPLOAD, Bins, UnderWay
from emulator.ledger.events import AnyEvent, Computed, Ended, Memory, Received, Reported, Started, Waiting
from emulator.ledger.manifest import Manifest

SECOND_NS = 10**9
RATE_WINDOW_NS = 2 * SECOND_NS
OUTCOME_LABELS = {"does-not-fit": "does not fit", "peer-lost": "peer lost"}
ONGOING = {"compute": COMPUTE, "upload": UPLOAD, "download": DOWNLOAD}


def rate_bps(bins: Bins, up: bool, now_ns: int) -> float:
    """Wire bits a second in the bins that began in the last two emulated seconds; a message counts evenly over its
    time on the link."""
    window_ns = max(RATE_WINDOW_NS, bins.width_ns)
    bits = bins.total(UP_BITS if up else DOWN_BITS, now_ns, window_ns)
    return bits * SECOND_NS / max(now_ns - bins.since_ns(now_ns, window_ns), 1)


@dataclass
class NodeState:
    """One node as its last events show it."""

    name: str
    role: str
    device: str = ""
    network: str = ""
    workers: int = 1
    up_bps: int = 0
    down_bps: int = 0
    function: str = ""  # last computed
    awaited: str = ""  # kinds, while it waits
    last_ns: int = 0  # its last own line
    outcome: str = ""
    phase: str = ""
    round: int | None = None
    loss: float | None = None
    growth_bytes: int | None = None
    peak_bytes: int | None = None
    budget_bytes: int | None = None
    up_bytes: int = 0  # payload that has left, resp. was carried towards the node
    down_bytes: int = 0
    queued_ns: int = 0  # its computations have waited for a free worker so long, together
    alive: bool = False
    absent: Callable[[], bool] = lambda: False  # whether nothing can reach it now
    uploads: UnderWay = field(default_factory=UnderWay)
    downloads: UnderWay = field(default_factory=UnderWay)
    bins: Bins = field(default_factory=Bins)

    @property
    def state(self) -> str:
        """compute, upload, download, wait; away, where it would be one of the last three; starting; or how it ended."""
        if self.outcome:
            return OUTCOME_LABELS.get(self.outcome, self.outcome)
        if not self.alive:
            return "starting"
        if not self.awaited:
            return "compute"
        if self.absent():
            return "away"
        if self.role == "client" and self.uploads:
            return "upload"
        if self.role == "client" and self.downloads:
            return "download"
        return "wait"

    @property
    def what(self) -> str:
        """The function that it computes, the kind of message that it sends, receives or awaits; where it ended."""
        match self.state:
            case "compute":
                return self.function
            case "upload":
                return self.uploads.oldest[0]
            case "download":
                return self.downloads.oldest[0]
            case "wait" | "away":
                return self.awaited
            case _:
                return self.phase if self.outcome == "does-not-fit" else ""

    @property
    def ongoing(self) -> Iterator[tuple[int, int]]:
        """The activity that no line has told the end of, and its begin, ns; nothing where there is none."""
        state = self.state
        if state in ONGOING:
            since = {"compute": self.last_ns, "upload": self.uploads.oldest[1], "download": self.downloads.oldest[1]}
            yield ONGOING[state], since[state]

    def rate_bps(self, up: bool, now_ns: int) -> float:
        """Wire bits a second in about the last two emulated seconds."""
        return rate_bps(self.bins, up, now_ns)

    @property
    def memory_share(self) -> float | None:
        """Peak over budget."""
        return self.peak_bytes / self.budget_bytes if self.peak_bytes is not None and self.budget_bytes else None

    def waited_ns(self, now_ns: int, window_ns: int) -> float:
        """Of the last ``window_ns``: neither computing nor with a message under way, as if these never overlapped."""
        return window_ns - sum(self.bins.total(which, now_ns, window_ns) for which in ONGOING.values())

    def note(self, event: AnyEvent) -> None:
        """Take over from a node's own line what it says about the node itself."""
        self.alive = True
        self.last_ns = max(self.last_ns, event.due_ns)
        if isinstance(event, Started):
            self.budget_bytes = event.budget_bytes if event.budget_bytes is not None else self.budget_bytes
        elif isinstance(event, Waiting):
            self.awaited = " or ".join(event.kinds) or "a message"
        elif isinstance(event, Computed):
            # Written at the span's end; until it posts or waits, the node is at its next one.
            self.function = event.function.rpartition(".")[2]
            self.awaited = ""
            self.queued_ns += event.queued_ns
        elif isinstance(event, Received):
            self.awaited = ""
        elif isinstance(event, Reported):
            self.round = max(event.round, self.round if self.round is not None else event.round)
            self.loss = event.values.get("loss", None if "loss" in event.not_finite else self.loss)
        elif isinstance(event, Memory):
            self.growth_bytes, self.peak_bytes = event.growth_bytes, event.peak_bytes
            self.budget_bytes = event.budget_bytes if event.budget_bytes is not None else self.budget_bytes
        elif isinstance(event, Ended):
            self.outcome = event.outcome
            self.phase = event.phase


class NodeGroup:
    """The clients of one device on one network."""

    def __init__(self, device: str, network: str, members: Sequence[NodeState]) -> None:
        self.device, self.network, self.members = device, network, members
        self.bins = Bins()

    @property
    def name(self) -> str:
        return f"{len(self.members)} x {self.device}"

    @property
    def states(self) -> Counter[str]:
        return Counter(member.state for member in self.members)

    @property
    def ongoing(self) -> Iterator[tuple[int, int]]:
        for member in self.members:
            yield from member.ongoing

    @property
    def fullest(self) -> NodeState:
        """The member that has used most of its budget."""
        return max(self.members, key=lambda member: member.memory_share or 0.0)

    @property
    def rounds(self) -> tuple[int, int] | None:
        """The least and the most of the members, from 0; None before any has one."""
        found = [member.round for member in self.members if member.round is not None and member.round >= 0]
        return (min(found), max(found)) if found else None

    @property
    def loss(self) -> float | None:
        """The members' mean."""
        losses = [member.loss for member in self.members if member.loss is not None]
        return sum(losses) / len(losses) if losses else None


class ChannelState:
    """One channel of the manifest: a link's direction, a cell's, the server's; and what goes over it."""

    def __init__(self, manifest: Manifest, number: int) -> None:
        channel = manifest.channels[number]
        self.name, self.peak_bps = channel.name, channel.bps
        self._rates = manifest.rates_of(number)
        users = [node for node in manifest.nodes if number in (*node.up_channels, *node.down_channels)]
        self.shared = len(users) > 1 or any(node.role == "server" for node in users)  # clients meet in it
        self.waiting = UnderWay()  # posted, and the last bit has not left yet
        self.wire_bytes = 0
        self.bins = Bins(1)

    def rate_bps(self, now_ns: int) -> int:
        """The capacity at a moment."""
        return self._rates.at(now_ns)

    def used(self, now_ns: int, window_ns: int) -> float:
        """Bits carried over bits that could be, in the last ``window_ns``; 0 to 1."""
        begin_ns = self.bins.since_ns(now_ns, window_ns)
        could = self._rates.integral(begin_ns, max(now_ns, begin_ns + 1)) / SECOND_NS
        return min(self.bins.total(0, now_ns, window_ns) / could, 1.0) if could > 0 else 0.0
