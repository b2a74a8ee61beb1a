"""The event loop in whose time algorithms live.

``loop.time()`` is emulated time: the due time of the event that is being handled, in seconds. Time stands still while
callbacks run, so a coroutine sees one moment, whatever the host needs for it, and durations that it adds do not
accumulate the host's delays. ``asyncio.sleep``, ``timeout`` and ``TaskGroup`` therefore mean emulated time.

When no callback is ready, asyncio asks its selector for input. That is the one place where time moves: the loop asks
its *pacer* whether the earliest event may happen now. A pacer is a clock: the real one lets wall time catch up with
the event's due time; the virtual one asks the network process, which lets only the earliest event of all nodes happen;
profiling's does not wait at all.

Events are ordered by (due time, rank, order of creation). Times are integer nanoseconds: a float second holds them
exactly up to 46 days.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import select
import selectors
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import Context
from typing import Any, NoReturn, Protocol, TypeVar

from emulator.clock import unawaited
from emulator.errors import Deadlock, InternalError, ProtocolError, SplitbedError
from emulator.host.liveness import PULSE
from emulator.network.jitter import SECOND_NS

Sleep = Callable[[float | None], None]  # waits on the host: seconds, or None until there is input

T = TypeVar("T")

NETWORK_RANK = -1  # at one instant the network precedes all nodes
DELIVERY_RANK = 0  # at one instant a delivery precedes a timer: what arrives at the deadline is received
LEFT_RANK = 1
TIMER_RANK = 2
LONGEST_SLEEP_S = 3600.0  # a loop that has slept so long looks at its clock, and sleeps on


def to_ns(seconds: float) -> int:
    """Integer nanoseconds of a time in float seconds."""
    return round(seconds * SECOND_NS)


class Entry:
    """Something that happens at ``due_ns``; not before ``ready()`` says that the host has done its part of it."""

    __slots__ = ("callback", "cancelled", "due_ns", "rank", "ready", "what")

    def __init__(
        self, due_ns: int, rank: int, callback: Callable[[], None], ready: Callable[[], bool] | None, what: str
    ) -> None:
        self.due_ns, self.rank, self.callback, self.ready, self.what = due_ns, rank, callback, ready, what
        self.cancelled = False


class Pacer(Protocol):
    """A clock: decides when the next event of a loop may happen."""

    def may_run(self, entry: Entry | None, sleep: Sleep) -> bool:
        """True: run ``entry`` now. Otherwise ``sleep`` has been called, or new events were scheduled; ask again.

        ``sleep(seconds)`` waits on the host until that time has passed or there is input; None: until input.
        """

    def actual_ns(self) -> int:
        """The emulated time that the clock shows at this moment."""


class EmulatedLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with emulated time; ``pacer`` moves it."""

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer
        self.now_ns = 0
        self.failure: Exception | None = None  # ends the loop; asyncio only logs what a callback raises
        self.on_clamp: Callable[[int, str], None] = lambda _by_ns, _what: None
        self._heap: list[tuple[int, int, int, Entry]] = []
        self._created = itertools.count()
        self._input = _Input(self)
        PULSE.begin("coroutine")
        super().__init__(self._input)

    def time(self) -> float:
        return self.now_ns / SECOND_NS

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """As asyncio's; ProtocolError where a coroutine was dropped before anybody had awaited it."""
        with unawaited.told_of(self._fail):
            result = super().run_until_complete(future)
        if self.failure is not None:
            raise self.failure
        return result

    def _fail(self, why: str) -> None:
        self.failure = self.failure or ProtocolError(why)

    def watch(self, fd: int) -> None:
        """Let input on ``fd`` end a host wait, so that the pacer looks at it."""
        self._input.watch(fd)

    def unwatch(self, fd: int) -> None:
        """No longer."""
        self._input.unwatch(fd)

    def at(
        self,
        due_ns: int,
        callback: Callable[[], None],
        rank: int = TIMER_RANK,
        ready: Callable[[], bool] | None = None,
        what: str = "timer",
    ) -> Entry:
        """Schedule ``callback`` for ``due_ns``; set ``cancelled`` on the result to withdraw it."""
        entry = Entry(due_ns, rank, callback, ready, what)
        heapq.heappush(self._heap, (due_ns, rank, next(self._created), entry))
        return entry

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Timer(when, callback, args, self, context)

        def fire() -> None:
            if not handle.cancelled():
                handle._run()

        handle.entry = self.at(to_ns(when), fire)
        return handle

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise SplitbedError("threads run in host time and are refused in an algorithm; use node.compute(fn, ...)")

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        """SplitbedError: stands in place of asyncio's ways to the outside world, which answer in host time."""
        raise SplitbedError(
            "sockets, pipes, processes, signals and files answer in host time and are refused in an algorithm; "
            "use node.post, node.recv and node.compute"
        )

    create_connection = create_server = create_datagram_endpoint = sendfile = start_tls = refuse
    create_unix_connection = create_unix_server = connect_accepted_socket = refuse
    connect_read_pipe = connect_write_pipe = subprocess_exec = subprocess_shell = refuse
    add_reader = add_writer = add_signal_handler = refuse  # type: ignore[assignment]
    getaddrinfo = getnameinfo = refuse
    sock_connect = sock_accept = sock_recv = sock_recv_into = sock_recvfrom = refuse
    sock_recvfrom_into = sock_sendall = sock_sendto = sock_sendfile = refuse

    def wind_up(self) -> None:
        """Cancel all that waits, and close: also after a failure."""
        self.failure = None
        waiting = asyncio.all_tasks(self)
        for task in waiting:
            task.cancel()
        if waiting:
            with unawaited.told_of(lambda _text: None):
                super().run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
        self.close()

    def advance(self, sleep: Callable[[float | None], list[Any]]) -> list[Any]:
        """Nothing is ready: handle the next event, or return input that asyncio itself must handle."""
        if self.failure is not None:
            raise self.failure
        PULSE.rest()
        while True:
            while self._heap and self._heap[0][3].cancelled:
                heapq.heappop(self._heap)
            entry = self._heap[0][3] if self._heap else None
            found: list[Any] = []
            may_run = self.pacer.may_run(entry, lambda seconds: found.extend(sleep(seconds)))  # noqa: B023
            if may_run and entry is not None:
                heapq.heappop(self._heap)
                if entry.due_ns < self.now_ns:
                    self.on_clamp(self.now_ns - entry.due_ns, entry.what)
                self.now_ns = max(self.now_ns, entry.due_ns)
                self.call_soon(entry.callback)
                PULSE.begin()
                return []
            if found or self._ready:  # type: ignore[attr-defined]  # for asyncio, or what the pacer's input has called
                PULSE.begin()
                return found


class _Timer(asyncio.TimerHandle):
    """asyncio's timer; cancelling it withdraws its entry, so that time does not move to where it was set."""

    __slots__ = ("entry",)
    entry: Entry

    def cancel(self) -> None:
        super().cancel()
        self.entry.cancelled = True


class _Input(selectors.BaseSelector):
    """The selector that asyncio asks when it has nothing to do."""

    def __init__(self, loop: EmulatedLoop) -> None:
        self._loop = loop
        self._own = selectors.SelectSelector()  # what asyncio has registered: its self-pipe
        self._files: list[int] = []  # of asyncio, that is its self-pipe, and those watched

    def watch(self, fd: int) -> None:
        self._files.append(fd)

    def unwatch(self, fd: int) -> None:
        self._files.remove(fd)

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None:  # something is ready: time stands still, and input can wait
            return []
        return self._loop.advance(self._sleep)

    def _sleep(self, seconds: float | None) -> list[Any]:
        """Wait with ``select``: to the microsecond, while epoll rounds up to a millisecond."""
        readable, _, _ = select.select(self._files, [], [], None if seconds is None else min(seconds, LONGEST_SLEEP_S))
        keys = self._own.get_map()
        return [(keys[fd], selectors.EVENT_READ) for fd in readable if fd in keys]

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._own.register(fileobj, events, data)
        self._files.append(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._own.unregister(fileobj)
        self._files.remove(key.fd)
        return key

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._own.get_map()

    def close(self) -> None:
        self._own.close()


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

    def __init__(
        self, start: Callable[[Sleep], WallTime | None], take_input: Callable[[], bool], idle: Callable[[], None]
    ) -> None:
        self._start = start
        self._take_input = take_input
        self._idle = idle
        self._wall: WallTime | None = None

    def may_run(self, entry: Entry | None, sleep: Sleep) -> bool:
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
        if entry.ready is not None and not entry.ready():
            sleep(None)
            return False
        return True

    def actual_ns(self) -> int:
        return self._wall.actual_ns() if self._wall else 0


class VirtualPacer:
    """The virtual clock: an event happens when the network process has granted it and the host has done its part.

    ``wait(entry)`` promises the network that nothing happens here before ``entry`` (None: nothing at all) unless the
    network delivers something first; it is called once after each event, before any input is read: nothing is delivered
    to a node that runs. ``granted`` is the time of the event that the network has granted, or None. Host work of a
    computation goes on while the node waits: its end was promised.
    """

    def __init__(
        self,
        start: Callable[[Sleep], WallTime | None],
        take_input: Callable[[], bool],
        wait: Callable[[Entry | None], None],
        granted: Callable[[], int | None],
    ) -> None:
        self._start, self._take_input, self._wait, self._granted = start, take_input, wait, granted
        self._started = False
        self._waiting = False
        self._now_ns = 0

    def may_run(self, entry: Entry | None, sleep: Sleep) -> bool:
        if not self._started:
            self._started = self._start(sleep) is not None
            return False
        if not self._waiting:
            self._waiting = True
            self._wait(entry)
        if self._take_input():
            return False
        granted_ns = self._granted()
        if granted_ns is None:
            sleep(None)
            return False
        if entry is None or entry.due_ns > granted_ns:  # what was to arrive then was refused
            self._waiting = False
            return False
        if entry.due_ns < granted_ns:
            raise InternalError(f"{entry.what} is due at {entry.due_ns} ns, but {granted_ns} ns was granted")
        if entry.ready is not None and not entry.ready():
            sleep(None)
            return False
        self._waiting = False
        self._now_ns = granted_ns
        return True

    def actual_ns(self) -> int:
        return self._now_ns


class InstantPacer:
    """Profiling's clock: the next event happens at once. ``who_waits`` describes a deadlock."""

    def __init__(self, who_waits: Callable[[], str]) -> None:
        self._who_waits = who_waits
        self._now_ns = 0

    def may_run(self, entry: Entry | None, sleep: Sleep) -> bool:
        if entry is None:
            raise Deadlock(f"deadlock: {'; '.join([*unawaited.kept(), self._who_waits()])}")
        if entry.ready is not None and not entry.ready():
            sleep(None)
            return False
        self._now_ns = entry.due_ns
        return True

    def actual_ns(self) -> int:
        return self._now_ns
