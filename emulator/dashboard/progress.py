"""State of a run now, folded from the ledger event by event: what the dashboard draws.

Files of different nodes are read one after the other, so an effect may be seen before its cause (a message received
before it was posted): messages are matched by (source, counter) whichever comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import NamedTuple

from emulator.checks.clock_limits import limits_of
from emulator.checks.divergence import judged
from emulator.checks.health import PRESSURE_SHARE, STEAL_SHARE, STOPPED_SHARE, clamped, lagging
from emulator.checks.round_limits import round_limits
from emulator.dashboard.activity import BIN_NS, BINS, COMPUTE, DOWN_BITS, DOWNLOAD, UP_BITS, UPLOAD, Bins, SentByTime
from emulator.dashboard.node_state import ChannelState, NodeGroup, NodeState
from emulator.ledger.events import (
    AnyEvent,
    Clamped,
    Computed,
    Ended,
    Evaluated,
    Host,
    Lasting,
    Lifecycle,
    Memory,
    Posted,
    Received,
    Refused,
    RoundEnded,
    Transmitted,
    Undelivered,
    Unreachable,
    Waiting,
)
from emulator.ledger.manifest import Manifest, NodeFacts
from emulator.profiles.availability import of_client
from emulator.validation import printable

SECOND_NS = 10**9
MB = 10**6
LEAVES_OTHERS = ("finished", "diverged", "does-not-fit", "refused")  # outcomes after which other methods are played
TOLD = 1000  # lines of the log that are kept
WINDOWS_NS = tuple(seconds * SECOND_NS for seconds in (5, 10, 20, 30))  # until there is a minute to show


class AlgorithmProgress(NamedTuple):
    """An algorithm as far as it came."""

    algorithm: str
    outcome: str
    line: str  # the outcome with its explanation
    rounds: int
    length_ns: int  # until its last round's end, as the clock showed it
    scores: list[float]  # of the metric that the run is judged by, by round, until it diverged
    diverged: bool
    payload_bytes: int
    peak_bytes: int | None
    unfit: int  # clients whose peak is above their budget, or who said that they do not fit
    wall_s: float | None


class Progress:
    """State of the run; ``begin`` opens an algorithm's timeline, ``take`` folds in what was read of it."""

    def __init__(self, manifest: Manifest, *, explains: bool = True) -> None:
        """``explains``: the log says why a method ended the run; else whoever plays it says so at its end."""
        self.manifest, self._explains = manifest, explains
        self.metric = manifest.criteria.metric
        self.algorithms: list[str] = list(manifest.algorithms)
        self._measures = limits_of(manifest.clock).trains  # older dry runs recorded what they foresaw like a reading
        self.results: list[AlgorithmProgress] = []
        self.log: deque[str] = deque(maxlen=TOLD)
        self.told = 0  # lines of the log so far, those no longer kept too
        self.begin("")

    def _absent(self, node: NodeFacts) -> Callable[[], bool]:
        """Whether a client is absent at the time that is shown."""
        return lambda: self.now_ns < self._away_until_ns.get(node.name, 0)

    def _absent_in_an_older_record(self, node: NodeFacts) -> Callable[[], bool]:
        """The same where absences are not in the ledger: drawn from the seed, as the network had drawn them."""
        spans = of_client(node.absence, self.manifest.seed, node.name)
        return lambda: spans.back_ns(self.now_ns) > self.now_ns

    def begin(self, algorithm: str) -> None:
        """A clean slate for ``algorithm``."""
        self.algorithm = algorithm
        self.rounds, self.stop_after_s = round_limits(self.manifest, algorithm)
        self.nodes: dict[str, NodeState] = {}
        for node in self.manifest.nodes:
            self.nodes[node.name] = NodeState(
                name=node.name,
                role=node.role,
                device=node.device,
                network=node.network,
                workers=node.workers or 1,
                up_bps=node.up_bps or 0,
                down_bps=node.down_bps or 0,
                budget_bytes=node.budget_bytes,
            )
            if node.absence:
                known = self._absent if self.manifest.parts else self._absent_in_an_older_record
                self.nodes[node.name].absent = known(node)
        members: dict[tuple[str, str], list[NodeState]] = {}
        for client in self.clients:
            members.setdefault((client.device, client.network), []).append(client)
        self.groups = [NodeGroup(*kind, clients) for kind, clients in members.items()]
        self._group_of = {client.name: group for group in self.groups for client in group.members}
        self.capacities = [ChannelState(self.manifest, i) for i in range(len(self.manifest.channels))]
        sides = self.manifest.nodes
        self._outward = {node.name: [self.capacities[i] for i in node.up_channels] for node in sides}
        self._inward = {node.name: [self.capacities[i] for i in node.down_channels] for node in sides}
        self._away_until_ns: dict[str, int] = {}
        self.now_ns = 0
        self.dilation = 1
        self.ended: dict[int, RoundEnded] = {}
        self.evaluated: dict[int, Evaluated] = {}
        self.sent = SentByTime()
        self.worst_lag_ns = 0
        self.clamped: dict[str, list[Clamped]] = {}
        self.refused = 0
        self.host: Host | None = None
        self.speed: float | None = None  # emulated seconds a second on the wall
        self.over: Lifecycle | None = None
        if algorithm:
            self._say("starts")

    # --- what the state says ------------------------------------------------------------------------------------

    @property
    def clients(self) -> list[NodeState]:
        return [node for node in self.nodes.values() if node.role == "client"]

    @property
    def server(self) -> NodeState | None:
        return next((node for node in self.nodes.values() if node.role == "server"), None)

    @property
    def number(self) -> int:
        """The running algorithm's place among those of the run, from 1."""
        return self.algorithms.index(self.algorithm) + 1 if self.algorithm in self.algorithms else 0

    @property
    def scores(self) -> list[float]:
        """By round, until the training diverged, of the metric that the run is judged by."""
        ranked = takewhile(judged, (self.evaluated[round] for round in sorted(self.evaluated)))
        return [score for event in ranked if (score := event.by_metric.get(self.metric.name)) is not None]

    @property
    def diverged(self) -> bool:
        """Whether a model that was judged is one of no numbers."""
        return not all(map(judged, self.evaluated.values()))

    @property
    def payload_bytes(self) -> int:
        """All payload posted so far, both ways."""
        return self.sent.total_bytes

    @property
    def clamps(self) -> int:
        return sum(map(len, self.clamped.values()))

    @property
    def clamped_ns(self) -> int:
        return sum(clamp.by_ns for clamps in self.clamped.values() for clamp in clamps)

    @property
    def window_ns(self) -> int:
        """The span that strips show, ns: the last minute, less in the beginning, more where two rounds take longer."""
        return next((window_ns for window_ns in WINDOWS_NS if window_ns >= self.now_ns), self._kept_ns)

    @property
    def _kept_ns(self) -> int:
        return BINS * (self.groups[0].bins.width_ns if self.groups else BIN_NS)

    def left_ns(self) -> int | None:
        """Emulated time until the last round's end, by the rounds so far; None before the first has ended."""
        if not self.ended or not self.rounds:
            return None
        done = len(self.ended)
        round_ns = max(max(ended.due_ns for ended in self.ended.values()) // done, 1)
        total = self.rounds
        if self.stop_after_s:
            total = min(total, int(self.stop_after_s * SECOND_NS / round_ns) + 1)
        return max(total * round_ns - self.now_ns, 0) if total > done else 0

    def others_wall_s(self) -> float | None:
        """Wall time of the algorithms to come, s, by those that have ended: each takes as long as they did or, where
        rounds alone are their limit, as long a round; None before one has ended."""
        known = [(round_limits(self.manifest, r.algorithm), r.wall_s) for r in self.results if r.wall_s is not None]
        if not known or not self.number:
            return None
        others_s = 0.0
        for name in self.algorithms[self.number :]:
            rounds, stop_after_s = round_limits(self.manifest, name)
            for limits, wall_s in known:
                alike = stop_after_s is not None or limits.stop_after_s is not None or not rounds or not limits.rounds
                others_s += wall_s * (1.0 if alike else (rounds or 1) / (limits.rounds or 1)) / len(known)
        return others_s

    def concerns(self) -> list[str]:
        """Reasons to call the run's health bad, as far as they can be told while it goes on."""
        share = limits_of(self.manifest.clock).clamp_share
        found = clamped(self.clamped, self.now_ns, len(self.clients), share) + lagging(list(self.ended.values()))
        found += [f"{self.refused} malformed messages refused"] if self.refused else []
        return found + [f"{node.name}: {node.outcome}" for node in self.nodes.values() if node.outcome == "failed"]

    def remarks(self) -> list[str]:
        """Remarks on the host's load, where it matters."""
        if self.host is None or not limits_of(self.manifest.clock).host_matters:
            return []
        host = self.host
        found = ["work waits for a core"] * (host.pressure is not None and host.pressure > PRESSURE_SHARE)
        found += ["other machines take cores"] * (host.steal > STEAL_SHARE)
        return found + ["the CPU quota runs out"] * (host.stopped is not None and host.stopped > STOPPED_SHARE)

    def result(self) -> AlgorithmProgress:
        """The algorithm that is played, as far as it is."""
        over = self.over
        peaks = [client.peak_bytes for client in self.clients if client.peak_bytes is not None]
        unfit = [c for c in self.clients if c.outcome == "does-not-fit" or (c.memory_share or 0.0) > 1]
        slowed = f" (dilation {self.dilation})" if self.dilation != 1 else ""
        outcome = over.outcome if over else "running"
        outcome = "diverged" if outcome == "finished" and self.diverged else outcome
        return AlgorithmProgress(
            algorithm=self.algorithm,
            outcome=outcome,
            line=f"{outcome}{slowed}{': ' + over.detail if over and over.detail else ''}",
            rounds=len(self.ended),
            length_ns=max((ended.actual_ns for ended in self.ended.values()), default=0),
            scores=self.scores,
            diverged=self.diverged,
            payload_bytes=self.payload_bytes,
            peak_bytes=max(peaks, default=None),
            unfit=len(unfit),
            wall_s=over.wall_s if over else None,
        )

    # --- events -----------------------------------------------------------------------------------------------------

    def take(self, events: Iterable[AnyEvent]) -> None:
        """Fold in events that were read together, then tell of them in the log."""
        worth_telling = []
        for event in events:
            self.apply(event)
            if isinstance(event, Evaluated | Ended | Refused | Lasting):
                worth_telling.append(event)
        for event in worth_telling:
            self._tell(event)

    def end(self) -> None:
        """All of the algorithm's events have been read: keep its result."""
        self.results.append(self.result())
        its = self.results[-1]
        self._say(its.line if self._explains or its.outcome in LEAVES_OTHERS else its.outcome)

    def apply(self, event: AnyEvent) -> None:
        """Fold one event in; events of nodes that the manifest does not name (network, evaluator) count too."""
        node = self.nodes.get(event.node)
        if isinstance(event, Posted | Transmitted | Received | Computed | RoundEnded | Waiting | Unreachable):
            self.now_ns = max(self.now_ns, event.due_ns)
        if node is not None and (self._measures or not isinstance(event, Memory)):
            node.note(event)
        if isinstance(event, Computed):
            self._spent(node, COMPUTE, event.start_ns, event.due_ns)
        elif isinstance(event, Posted):
            self._posted(event)
        elif isinstance(event, Transmitted):
            self._carried(event)
        elif isinstance(event, Received):
            self._arrived(event.node, event.source, event.counter)
        elif isinstance(event, Unreachable):
            self._away_until_ns[event.client] = event.until_ns
        elif isinstance(event, Undelivered):
            self._arrived(event.destination, event.source, event.counter)
        elif isinstance(event, RoundEnded):
            self.ended[event.round] = event
            self.sent.round_ended(event.due_ns)
            self.worst_lag_ns = max(self.worst_lag_ns, abs(event.actual_ns - event.due_ns))
            while self._kept_ns < 2 * event.due_ns // len(self.ended):
                self._widen()
        elif isinstance(event, Evaluated):
            self.evaluated[event.round] = event
        elif isinstance(event, Lifecycle):
            self.dilation = event.dilation
            self.over = event if event.outcome else None
        elif isinstance(event, Clamped):
            self.clamped.setdefault(event.node, []).append(event)
        elif isinstance(event, Refused):
            self.refused += 1
        elif isinstance(event, Host):
            self.host = event
            self.speed = self.now_ns / (event.due_ns * self.dilation) if event.due_ns > 0 else None

    def _bins(self, node: NodeState | None) -> list[Bins]:
        """The bins to which a node's time and bits are added: its own, and its group's."""
        if node is None:
            return []
        group = self._group_of.get(node.name)
        return [node.bins, group.bins] if group else [node.bins]

    def _spent(self, node: NodeState | None, state: int, start_ns: int, end_ns: int) -> None:
        for bins in self._bins(node):
            bins.add(state, start_ns, end_ns, end_ns - start_ns)

    def _widen(self) -> None:
        nodes = [node.bins for node in self.nodes.values()]
        for bins in (*nodes, *(group.bins for group in self.groups), *(channel.bins for channel in self.capacities)):
            bins.widen()

    def _way(self, source: str, destination: str) -> list[ChannelState]:
        return [*self._outward.get(source, ()), *self._inward.get(destination, ())]

    def _posted(self, event: Posted) -> None:
        self.sent.add(event.due_ns, event.payload_bytes)
        sender, receiver = self.nodes.get(event.node), self.nodes.get(event.destination)
        message = (event.node, event.counter, event.kind, event.due_ns)
        for capacity in self._way(event.node, event.destination):
            capacity.waiting.begin(*message)
        if sender is not None:
            sender.uploads.begin(*message)
            sender.round = max(event.round, sender.round if sender.round is not None else event.round)
        if receiver is not None:
            receiver.downloads.begin(*message)
            if receiver.role == "client" and event.round >= 0:
                receiver.round = max(event.round, receiver.round or 0)

    def _carried(self, event: Transmitted) -> None:
        sender, receiver = self.nodes.get(event.source), self.nodes.get(event.destination)
        bits, from_ns, left_ns = 8 * event.wire_bytes, event.start_ns, event.due_ns
        for capacity in self._way(event.source, event.destination):
            capacity.waiting.end(event.source, event.counter)
            capacity.wire_bytes += event.wire_bytes
            capacity.bins.add(0, from_ns, left_ns, bits)
        if sender is not None:
            sender.uploads.end(event.source, event.counter)
            sender.up_bytes += event.payload_bytes
        if receiver is not None:
            receiver.down_bytes += event.payload_bytes
        for node, state, way in ((sender, UPLOAD, UP_BITS), (receiver, DOWNLOAD, DOWN_BITS)):
            for bins in self._bins(node):
                bins.add(state, from_ns, event.arrival_ns, event.arrival_ns - from_ns)
                bins.add(way, from_ns, left_ns, bits)

    def _arrived(self, destination: str, source: str, counter: int) -> None:
        receiver = self.nodes.get(destination)
        if receiver is not None:
            receiver.downloads.end(source, counter)

    # --- the log ----------------------------------------------------------------------------------------------------

    def _tell(self, event: Evaluated | Ended | Refused | Lasting) -> None:
        if isinstance(event, Evaluated):
            of_total = f" of {self.rounds}" if self.rounds and not self.stop_after_s else ""
            known, score = f"no {self.metric.words}: diverged", event.by_metric.get(self.metric.name)
            if judged(event):
                known = f"{self.metric.words} {self.metric.text(score)}, " if score is not None else ""
                known += f"test loss {event.loss:.3f}"
            sent = f"{self.sent.until_bytes(event.due_ns) / MB:.2f} MB so far"
            self._say(f"round {event.round + 1}{of_total} ended at {event.due_ns / SECOND_NS:.2f} s, {known}, {sent}")
        elif isinstance(event, Lasting):
            self._say(event.what)
        elif isinstance(event, Refused):
            self._say(f"{event.node} refused a message of {event.source}: {event.reason}")
        elif event.node in self.nodes and event.outcome != "finished":
            node = self.nodes[event.node]
            phase = node.phase if node.outcome == "does-not-fit" else ""
            words = ": ".join(word for word in (node.state, phase, event.detail) if word)
            self._say(f"{node.name} ({node.device}) at {event.due_ns / SECOND_NS:.2f} s: {words}")

    def _say(self, text: str) -> None:
        line = f"[{self.number}/{len(self.algorithms)}] {self.algorithm}: {text}"
        self.log.append(printable(line).rstrip())
        self.told += 1
