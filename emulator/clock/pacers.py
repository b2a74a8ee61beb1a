"""Pacers: they decide when the next event of a node's loop may happen.

The real clock's lets wall time catch up with the event's due time; the virtual clock's asks the network process;
profiling's does not wait at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from emulator.clock import unawaited
from emulator.errors import Deadlock, InternalError
from emulator.network.jitter import SECOND_NS

Sleep = Callable[[float | None], None]  # waits on the host: seconds, or None until there is input

NETWORK_RANK = -1  # at one instant the network precedes all nodes
DELIVERY_RANK = 0  # at one instant a delivery precedes a timer: what arrives at the deadline is received
LEFT_RANK = 1
TIMER_RANK = 2


class Entry:
    """Something that happens at ``due_ns``; not before ``ready()`` says that the host has done its part of it.

    ``computes``: it is the end of a computation.
    """

    __slots__ = ("callback", "cancelled", "computes", "due_ns", "rank", "ready", "what")

    def __init__(
        self,
        due_ns: int,
        rank: int,
        callback: Callable[[], None],
        ready: Callable[[], bool] | None,
        what: str,
        computes: bool = False,
    ) -> None:
        self.due_ns, self.rank, self.callback, self.ready, self.what = due_ns, rank, callback, ready, what
        self.computes = computes
        self.cancelled = False

    @property
    def is_ready(self) -> bool:
        """Whether the host has done its part."""
        return self.ready is None or self.ready()


class Pacer(Protocol):
    """A clock: decides when the next event of a loop may happen. ``runs_ahead``: it lets a node that is alone go on."""

    runs_ahead: bool

    def may_run(self, entry: Entry | None, sleep: Sleep, alone: Entry | None = None) -> bool:
        """True: run ``entry`` now. Otherwise ``sleep`` has been called, or new events were scheduled; ask again.

        ``sleep(seconds)`` waits on the host until that time has passed or there is input; None: until input.
        ``alone``: the event of the node's own that comes next whatever the network says; None: there is no such event.
        It is ``entry`` itself where it is the end of a computation; else it comes when ``entry`` has happened.
        """

    def is_ahead(self, now_ns: int) -> bool:
        """Whether the node has come to ``now_ns`` before the network knows that nothing reaches it until then."""

    def actual_ns(self) -> int:
        """The emulated time that the clock shows at this moment."""


class WallTime:
    """Emulated time as wall time since an origin, divided by the dilation. CLOCK_MONOTONIC is one for all processes."""

    def __init__(self, origin_ns: int, dilation: int) -> None:
        self.origin_ns, self.dilation = origin_ns, dilation

    def actual_ns(self) -> int:
        return (time.monotonic_ns() - self.origin_ns) // self.dilation

    def seconds_until(self, due_ns: int) -> float:
        """Host seconds until ``due_ns``; negative when it has passed."""
        return (self.origin_ns + due_ns * self.dilation - time.monotonic_ns()) / SECOND_NS


class RealPacer:
    """The real clock: an event happens when wall time has reached it and the host has done its part.

    Events happen in due order even when the host is late: an event that is due but not ready holds up those after it,
    so due times stay exact and only the lag grows. ``take_input`` reads what the network has sent and returns whether
    there was anything; ``start`` is called while the loop has nothing to do, until it returns the wall time;
    ``idle`` whenever there is no event to wait for, so that only input can go on.
    """

    runs_ahead = False

    def __init__(
        self, start: Callable[[Sleep], WallTime | None], take_input: Callable[[], bool], idle: Callable[[], None]
    ) -> None:
        self._start = start
        self._take_input = take_input
        self._idle = idle
        self._wall: WallTime | None = None

    def may_run(self, entry: Entry | None, sleep: Sleep, alone: Entry | None = None) -> bool:
        del alone
        if self._wall is None:
            self._wall = self._start(sleep)
            return False
        if self._take_input():
            return False
        if entry is None:
            self._idle()
            if not self._take_input():  # sending may have taken in what came meanwhile
                sleep(None)
            return False
        seconds = self._wall.seconds_until(entry.due_ns)
        if seconds > 0:
            sleep(seconds)
            return False
        if not entry.is_ready:
            sleep(None)
            return False
        return True

    def actual_ns(self) -> int:
        return self._wall.actual_ns() if self._wall else 0

    def is_ahead(self, now_ns: int) -> bool:
        del now_ns
        return False


class VirtualPacer:
    """The virtual clock: an event happens when the network process has granted it and the host has done its part.

    ``wait(entry, deaf)`` promises the network that nothing happens here before ``entry`` (None: nothing at all), unless
    it delivers something first; ``deaf``: also then. It is called once after each event, before any input is read.
    ``granted(least_ns)`` is the time that the network has granted, not below that, or None. Host work of a computation
    goes on while the node waits: its end was promised.

    A node that computes, and does nothing else, runs ahead: nothing that it is told changes what it computes next. It
    catches up before it posts or receives. What it has been told meanwhile it hears in order of time, all the same.
    ``runs_ahead`` False: every event waits for its grant.
    """

    def __init__(
        self,
        start: Callable[[Sleep], WallTime | None],
        take_input: Callable[[], bool],
        wait: Callable[[Entry | None, bool], None],
        granted: Callable[[int], int | None],
        *,
        runs_ahead: bool = True,
    ) -> None:
        self._start, self._take_input, self._wait, self._granted = start, take_input, wait, granted
        self.runs_ahead = runs_ahead
        self._started = False
        self._waiting = False
        self._now_ns = self._caught_up_ns = 0
        self._deaf_until: tuple[int, int] | None = None  # promised, and not granted

    def may_run(self, entry: Entry | None, sleep: Sleep, alone: Entry | None = None) -> bool:
        if not self._started:
            self._started = self._start(sleep) is not None
            return False
        if not self._waiting:
            self._waiting = True
            self._promise(alone or entry, deaf=alone is not None)
        if self._take_input():
            return False
        if alone is not None and alone.computes:
            granted_ns = None
        else:
            granted_ns = self._granted(alone.due_ns if alone else 0)
            if granted_ns is None:
                sleep(None)
                return False
        if entry is None or (granted_ns is not None and entry.due_ns > granted_ns):
            self._waiting = False  # what was to arrive then was refused
            return False
        if alone is None and entry.due_ns != granted_ns:
            raise InternalError(f"{entry.what} is due at {entry.due_ns} ns, but {granted_ns} ns was granted")
        if not entry.is_ready:
            sleep(None)
            return False
        self._now_ns = entry.due_ns
        if alone is None or entry is alone:
            self._waiting = False
            if granted_ns is not None:
                self._caught_up_ns, self._deaf_until = granted_ns, None
        return True

    def _promise(self, entry: Entry | None, *, deaf: bool) -> None:
        until = (entry.due_ns, entry.rank) if deaf and entry is not None else None
        if until is None or until != self._deaf_until:
            self._wait(entry, deaf)
        self._deaf_until = until

    def actual_ns(self) -> int:
        return self._now_ns

    def is_ahead(self, now_ns: int) -> bool:
        return now_ns > self._caught_up_ns


class InstantPacer:
    """Profiling's clock: the next event happens at once. ``who_waits`` describes a deadlock."""

    runs_ahead = False

    def __init__(self, who_waits: Callable[[], str]) -> None:
        self._who_waits = who_waits
        self._now_ns = 0

    def may_run(self, entry: Entry | None, sleep: Sleep, alone: Entry | None = None) -> bool:
        del alone
        if entry is None:
            raise Deadlock(f"deadlock: {'; '.join([*unawaited.kept(), self._who_waits()])}")
        if not entry.is_ready:
            sleep(None)
            return False
        self._now_ns = entry.due_ns
        return True

    def actual_ns(self) -> int:
        return self._now_ns

    def is_ahead(self, now_ns: int) -> bool:
        del now_ns
        return False
