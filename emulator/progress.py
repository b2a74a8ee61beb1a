"""What a run is doing now, folded from the ledger event by event: the state that the dashboard draws.

Files of different nodes are read one after the other, so an effect may be seen before its cause (a message received
before it was posted): messages are matched by (source, counter) whichever comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.ledger import (
    AnyEvent,
    Carried,
    Clamped,
    Computed,
    Ended,
    Evaluated,
    Memory,
    Posted,
    Received,
    Reported,
    RoundEnded,
    Started,
    Timeline,
    Undelivered,
    Waiting,
)

SECOND_NS = 10**9
RATE_WINDOW_NS = 2 * SECOND_NS
ENDINGS = {"does-not-fit": "does not fit", "peer-lost": "peer lost"}


class UnderWay:
    """Messages that were posted and are not yet done, in whichever order the two are learnt."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, int], str] = {}
        self._done: set[tuple[str, int]] = set()

    def begin(self, source: str, counter: int, kind: str) -> None:
        if (source, counter) in self._done:
            self._done.remove((source, counter))
        else:
            self._kinds[(source, counter)] = kind

    def end(self, source: str, counter: int) -> None:
        if self._kinds.pop((source, counter), None) is None:
            self._done.add((source, counter))

    @property
    def kind(self) -> str:
        """The oldest message's kind, or "" when there is none."""
        return next(iter(self._kinds.values()), "")


@dataclass
class Seen:
    """One node as its last events show it."""

    name: str
    role: str
    device: str = ""
    network: str = ""
    function: str = ""  # last computed
    awaited: str = ""  # kinds, while it waits
    ending: str = ""
    phase: str = ""
    round: int | None = None
    loss: float | None = None
    growth_bytes: int | None = None
    peak_bytes: int | None = None
    budget_bytes: int | None = None
    up_bytes: int = 0  # payload that has left, resp. was carried towards the node
    down_bytes: int = 0
    alive: bool = False
    uploads: UnderWay = field(default_factory=UnderWay)
    downloads: UnderWay = field(default_factory=UnderWay)
    carried: deque[tuple[bool, int, int, int]] = field(default_factory=deque)  # (up, start, left, wire bytes)

    @property
    def doing(self) -> str:
        if self.ending:
            phase = f": {self.phase}" if self.ending == "does not fit" and self.phase else ""
            return self.ending + phase
        if not self.alive:
            return "starting"
        if not self.awaited:
            return f"computing {self.function}".rstrip()
        if self.role == "client" and self.uploads.kind:
            return f"sending {self.uploads.kind}"
        if self.role == "client" and self.downloads.kind:
            return f"receiving {self.downloads.kind}"
        return f"awaiting {self.awaited}"

    def rate_bps(self, up: bool, now_ns: int) -> float:
        """Wire bits of the last two emulated seconds per second; a message counts evenly over its time on the link."""
        begin_ns = max(now_ns - RATE_WINDOW_NS, 0)
        bits = 0.0
        for way, start_ns, left_ns, size_bytes in self.carried:
            overlap_ns = min(left_ns, now_ns) - max(start_ns, begin_ns)
            if way == up and overlap_ns > 0:
                bits += 8 * size_bytes * overlap_ns / max(left_ns - start_ns, 1)
        return bits * SECOND_NS / max(now_ns - begin_ns, 1)

    def forget_before(self, now_ns: int) -> None:
        while self.carried and self.carried[0][2] < now_ns - RATE_WINDOW_NS:
            self.carried.popleft()


class Progress:
    """State of the run; ``begin`` opens an algorithm's timeline, ``apply`` takes one event of it."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.manifest = manifest
        self.algorithms: list[str] = list(manifest.get("algorithms", []))
        self.rounds: int | None = manifest.get("rounds")
        self.stop_after_s: float | None = manifest.get("stop_after_s")
        self.results: list[tuple[str, str]] = []  # algorithm, its line
        self.begin("")

    def begin(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.nodes: dict[str, Seen] = {}
        for node in self.manifest.get("nodes", []):
            self.nodes[node["name"]] = Seen(
                name=node["name"],
                role=node["role"],
                device=str(node.get("device", "")),
                network=str(node.get("network", "")),
                budget_bytes=node.get("budget_bytes"),
            )
        self.now_ns = 0
        self.dilation = 1
        self.ended: dict[int, RoundEnded] = {}
        self.scores: dict[int, Evaluated] = {}
        self.payload_of_round: dict[int, int] = {}
        self.worst_lag_ns = 0
        self.clamps = 0
        self.clamped_ns = 0

    def end(self, algorithm: str, line: str) -> None:
        """Keep an algorithm's result in one line."""
        self.results.append((algorithm, line))

    @property
    def clients(self) -> list[Seen]:
        return [node for node in self.nodes.values() if node.role == "client"]

    @property
    def server(self) -> Seen | None:
        return next((node for node in self.nodes.values() if node.role == "server"), None)

    @property
    def number(self) -> int:
        """The running algorithm's place among those of the run, from 1."""
        return self.algorithms.index(self.algorithm) + 1 if self.algorithm in self.algorithms else 0

    @property
    def score(self) -> Evaluated | None:
        """The evaluation of the latest round that has one."""
        return self.scores[max(self.scores)] if self.scores else None

    @property
    def payload_bytes(self) -> int:
        """All payload posted so far, both ways."""
        return sum(self.payload_of_round.values())

    def payload_until(self, round: int) -> int:
        """Payload of messages labelled with ``round`` or before, the initial weights included."""
        return sum(size for label, size in self.payload_of_round.items() if label <= round)

    def apply(self, event: AnyEvent) -> None:
        """Fold one event in; events of nodes that the manifest does not name (network, evaluator) count too."""
        node = self.nodes.get(event.node)
        if isinstance(event, Posted | Carried | Received | Computed | RoundEnded | Waiting):
            self.now_ns = max(self.now_ns, event.due_ns)
        if isinstance(event, Posted):
            self._posted(event)
        elif isinstance(event, Carried):
            self._carried(event)
        elif isinstance(event, Received):
            self._arrived(event.node, event.source, event.counter)
        elif isinstance(event, Undelivered):
            self._arrived(event.destination, event.source, event.counter)
        elif isinstance(event, RoundEnded):
            self.ended[event.round] = event
            self.worst_lag_ns = max(self.worst_lag_ns, abs(event.actual_ns - event.due_ns))
        elif isinstance(event, Evaluated):
            self.scores[event.round] = event
        elif isinstance(event, Timeline):
            self.dilation = event.dilation
        elif isinstance(event, Clamped):
            self.clamps += 1
            self.clamped_ns += event.by_ns
        if node is not None:
            _own(node, event)

    def _posted(self, event: Posted) -> None:
        self.payload_of_round[event.round] = self.payload_of_round.get(event.round, 0) + event.payload_bytes
        sender, receiver = self.nodes.get(event.node), self.nodes.get(event.destination)
        if sender is not None:
            sender.uploads.begin(event.node, event.counter, event.kind)
            sender.round = max(event.round, sender.round if sender.round is not None else event.round)
        if receiver is not None:
            receiver.downloads.begin(event.node, event.counter, event.kind)
            if receiver.role == "client" and event.round >= 0:
                receiver.round = max(event.round, receiver.round or 0)

    def _carried(self, event: Carried) -> None:
        sender, receiver = self.nodes.get(event.source), self.nodes.get(event.destination)
        if sender is not None:
            sender.uploads.end(event.source, event.counter)
            sender.up_bytes += event.payload_bytes
            sender.carried.append((True, event.start_ns, event.due_ns, event.wire_bytes))
            sender.forget_before(self.now_ns)
        if receiver is not None:
            receiver.down_bytes += event.payload_bytes
            receiver.carried.append((False, event.start_ns, event.due_ns, event.wire_bytes))
            receiver.forget_before(self.now_ns)

    def _arrived(self, destination: str, source: str, counter: int) -> None:
        receiver = self.nodes.get(destination)
        if receiver is not None:
            receiver.downloads.end(source, counter)


def _own(node: Seen, event: AnyEvent) -> None:
    """What a node's own line says about the node itself."""
    node.alive = True
    if isinstance(event, Started):
        node.budget_bytes = event.budget_bytes if event.budget_bytes is not None else node.budget_bytes
    elif isinstance(event, Waiting):
        node.awaited = " or ".join(event.kinds) or "a message"
    elif isinstance(event, Computed):
        # Written at the span's end; until it posts or waits, the node is at its next one.
        node.function = event.function.rpartition(".")[2]
        node.awaited = ""
    elif isinstance(event, Received):
        node.awaited = ""
    elif isinstance(event, Reported):
        node.round = max(event.round, node.round if node.round is not None else event.round)
        node.loss = event.values.get("loss", node.loss)
    elif isinstance(event, Memory):
        node.growth_bytes, node.peak_bytes = event.growth_bytes, event.peak_bytes
        node.budget_bytes = event.budget_bytes if event.budget_bytes is not None else node.budget_bytes
    elif isinstance(event, Ended):
        node.ending = ENDINGS.get(event.outcome, event.outcome)
        node.phase = event.phase
