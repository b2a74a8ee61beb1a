"""The clocks of a run: they decide which of the events of all nodes and links may take place next.

The network process plans departures of messages; nodes have timers and computations. A *conductor* in the network
process and a *pacer* in each node (``clock``) make a clock together:

- real: what is planned takes place when wall time has come to it; nodes go by wall time on their own.
- virtual: there is one order of everything, by (due time, network before nodes, rank, node). The conductor lets only
  the first of all take place. A node that may not be waiting is waited for: it could still send, now. No node advances
  by itself, and a promise (``on_promise``: nothing happens here before ``until_ns``) is lowered only by the conductor,
  when something is delivered. Since the promise is given before the host has done the work of a computation, all nodes
  compute at the same time on the host, while events stay in one strict order.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from emulator.clock.pacers import Entry, Pacer, RealPacer, Sleep, VirtualPacer, WallTime
from emulator.errors import InternalError
from emulator.network.jitter import SECOND_NS

HEAD_START_NS = 20_000_000  # between START and time 0, so that every node has read it
LONGEST_WAIT_S = 3600.0  # select refuses a time that the system's clock cannot hold


class Conductor(Protocol):
    """Decides in the network process what may take place next. Times are emulated ns.

    What a node does and hears means nothing to a clock by which nodes go on their own: it is ignored here.
    """

    def begin(self, nodes: Sequence[str]) -> WallTime:
        """All ``nodes`` are ready: time 0 comes."""

    def on_post(self, node: str, stamp_ns: int) -> None:
        """``node`` has posted a message at ``stamp_ns``."""

    def on_promise(self, node: str, until_ns: int | None, rank: int, *, deaf: bool = False) -> None:
        """``node`` does nothing before ``until_ns`` (None: at all) unless it is told of something; ``deaf``: also
        then."""

    def on_stale_promise(self, node: str) -> None:
        """``node`` has waited without having heard all that it was told; it will wait again when it has."""

    def on_scheduled(self, node: str, due_ns: int, rank: int) -> None:
        """Something will happen at ``node``, which it is being told."""

    def on_exit(self, node: str) -> None:
        """``node`` has ended."""

    def may_act(self, planned_ns: int | None) -> bool:
        """Whether the earliest departure that is planned may take place now."""

    def grant(self, planned_ns: int | None) -> tuple[str, int] | None:
        """The node that may go on now, and to what time; call when ``may_act`` says no."""

    def rest_s(self, planned_ns: int | None) -> float | None:
        """Host seconds for which nothing can be done without input; None: any."""

    def actual_ns(self) -> int:
        """The emulated time that the clock shows."""


class RealConductor(Conductor):
    """Wall time, slowed ``dilation`` times. A post that is late on the host leaves on the schedule of its stamp.

    An event takes place ``reorder_window_ns`` of wall time after it is due: posts that are less late than that come
    before it. Its due time stays the same.
    """

    def __init__(self, dilation: int, reorder_window_ns: int) -> None:
        self._dilation, self._reorder_window_s = dilation, reorder_window_ns / SECOND_NS
        self._wall: WallTime | None = None

    def begin(self, nodes: Sequence[str]) -> WallTime:
        del nodes
        self._wall = WallTime(time.monotonic_ns() + HEAD_START_NS, self._dilation)
        return self._wall

    def may_act(self, planned_ns: int | None) -> bool:
        return self._wall is not None and planned_ns is not None and self._seconds_until(planned_ns) <= 0

    def _seconds_until(self, planned_ns: int) -> float:
        """Host seconds until what is planned takes place."""
        assert self._wall is not None
        return self._wall.seconds_until(planned_ns) + self._reorder_window_s

    def rest_s(self, planned_ns: int | None) -> float | None:
        if self._wall is None or planned_ns is None:
            return None
        return min(max(self._seconds_until(planned_ns), 0.0), LONGEST_WAIT_S)

    def actual_ns(self) -> int:
        return self._wall.actual_ns() if self._wall else 0


class VirtualConductor(Conductor):
    """The one order of everything. A heap of promises; what a node promised before its last change is skipped."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._running: set[str] = set()  # not waiting: everything waits for them
        self._deaf: set[str] = set()  # what they are told leaves their promise as it is
        self._promises: dict[str, tuple[int, int] | None] = {}
        self._versions: dict[str, int] = {}
        self._heap: list[tuple[int, int, int, int, str]] = []
        self._now_ns = 0
        self._begun = False

    def begin(self, nodes: Sequence[str]) -> WallTime:
        self._index = {node: i for i, node in enumerate(nodes)}
        self._versions = dict.fromkeys(nodes, 0)
        self._running = set(nodes)
        self._begun = True
        return WallTime(time.monotonic_ns(), 1)

    def on_post(self, node: str, stamp_ns: int) -> None:
        if stamp_ns != self._now_ns:
            raise InternalError(f"{node} posted at {stamp_ns} ns what it could only post at {self._now_ns} ns")

    def on_promise(self, node: str, until_ns: int | None, rank: int, *, deaf: bool = False) -> None:
        if until_ns is not None and until_ns < self._now_ns:
            raise InternalError(f"{node} promised {until_ns} ns when it was {self._now_ns} ns")
        self._running.discard(node)
        (self._deaf.add if deaf else self._deaf.discard)(node)
        self._promise(node, None if until_ns is None else (until_ns, rank))

    def on_stale_promise(self, node: str) -> None:
        raise InternalError(f"{node} was told something while it ran")

    def on_scheduled(self, node: str, due_ns: int, rank: int) -> None:
        promise = self._promises.get(node)
        if node in self._index and node not in self._deaf and (promise is None or (due_ns, rank) < promise):
            self._promise(node, (due_ns, rank))

    def on_exit(self, node: str) -> None:
        self._running.discard(node)
        self._index.pop(node, None)
        self._promises.pop(node, None)

    def _promise(self, node: str, promise: tuple[int, int] | None) -> None:
        self._promises[node] = promise
        self._versions[node] += 1
        if promise is not None:
            heapq.heappush(self._heap, (*promise, self._index[node], self._versions[node], node))

    def _first(self) -> tuple[int, str] | None:
        """The earliest promise of all nodes."""
        while self._heap:
            due_ns, _, _, version, node = self._heap[0]
            if node in self._index and version == self._versions[node]:
                return due_ns, node
            heapq.heappop(self._heap)
        return None

    def _waits_for_a_node(self) -> bool:
        return not self._begun or bool(self._running)

    def may_act(self, planned_ns: int | None) -> bool:
        if planned_ns is None or self._waits_for_a_node():
            return False
        first = self._first()
        if first is not None and first[0] < planned_ns:
            return False
        self._advance(planned_ns)
        return True

    def grant(self, planned_ns: int | None) -> tuple[str, int] | None:
        first = None if self._waits_for_a_node() else self._first()
        if first is None or (planned_ns is not None and planned_ns <= first[0]):
            return None
        due_ns, node = first
        self._advance(due_ns)
        self._deaf.discard(node)
        self._promise(node, None)
        self._running.add(node)
        return node, due_ns

    def _advance(self, due_ns: int) -> None:
        if due_ns < self._now_ns:
            raise InternalError(f"time would go back from {self._now_ns} to {due_ns} ns")
        self._now_ns = due_ns

    def rest_s(self, planned_ns: int | None) -> None:
        del planned_ns  # only input changes anything

    def actual_ns(self) -> int:
        return self._now_ns


class PacerEndpoint(Protocol):
    """The part of a node's endpoint that a pacer needs."""

    def start(self, sleep: Sleep) -> WallTime | None: ...
    def take_input(self) -> bool: ...
    def wait(self, entry: Entry | None, awaits: Callable[[], str], *, deaf: bool = False) -> None: ...
    def granted(self, least_ns: int) -> int | None: ...


class Clock(NamedTuple):
    """The parts of a clock. ``conductor(dilation, reorder_window)``, the latter in ns.

    ``dilation(asked, needed)``: the one to use, from the user's and the host's. ``dilates``: whether it can be slowed.
    """

    dilates: bool
    conductor: Callable[[int, int], Conductor]
    pacer: Callable[[PacerEndpoint, Callable[[], str]], Pacer]
    dilation: Callable[[int | None, int], int]


def _virtual(*, runs_ahead: bool) -> Clock:
    return Clock(
        dilates=False,
        conductor=lambda _dilation, _patience_ns: VirtualConductor(),
        pacer=lambda endpoint, awaits: VirtualPacer(
            endpoint.start,
            endpoint.take_input,
            lambda entry, deaf: endpoint.wait(entry, awaits, deaf=deaf),
            endpoint.granted,
            runs_ahead=runs_ahead,
        ),
        dilation=lambda _asked, _needed: 1,
    )


CLOCKS: dict[str, Clock] = {
    "real": Clock(
        dilates=True,
        conductor=RealConductor,
        pacer=lambda endpoint, awaits: RealPacer(
            endpoint.start, endpoint.take_input, lambda: endpoint.wait(None, awaits)
        ),
        dilation=lambda asked, needed: asked or needed,
    ),
    "virtual": _virtual(runs_ahead=True),
}

STRICT = _virtual(runs_ahead=False)  # a grant for every event: the other is checked by it
