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
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import Context
from typing import Any, NoReturn, TypeVar

from emulator.clock import unawaited
from emulator.clock.pacers import TIMER_RANK, Entry, Pacer
from emulator.errors import ProtocolError, SplitbedError, root_of
from emulator.host.liveness import PULSE
from emulator.network.jitter import SECOND_NS

T = TypeVar("T")

LONGEST_SLEEP_S = 3600.0  # a loop that has slept so long looks at its clock, and sleeps on


def to_ns(seconds: float) -> int:
    """Integer nanoseconds of a time in float seconds."""
    return round(seconds * SECOND_NS)


class EmulatedLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with emulated time; ``pacer`` moves it."""

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer
        self.now_ns = 0
        self.failure: Exception | None = None  # ends the loop; asyncio only logs what a callback raises
        self.on_clamp: Callable[[int, str], None] = lambda _by_ns, _what: None
        self.listens: Callable[[], bool] = lambda: True  # whether what the network says could wake a task
        self._heap: list[tuple[int, int, int, Entry]] = []
        self._catching_up: Entry | None = None
        self._created = itertools.count()
        self._input = _Input(self)
        PULSE.begin("coroutine")
        super().__init__(self._input)

    def time(self) -> float:
        return self.now_ns / SECOND_NS

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """As asyncio's; ProtocolError where a coroutine was dropped before anybody had awaited it."""
        with unawaited.told_of(self._fail):
            try:
                result = super().run_until_complete(future)
            except Exception as error:
                unawaited.explain(root_of(error), self.failure, asyncio.all_tasks(self))
                raise
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
        *,
        computes: bool = False,
    ) -> Entry:
        """Schedule ``callback`` for ``due_ns``; set ``cancelled`` on the result to withdraw it."""
        entry = Entry(due_ns, rank, callback, ready, what, computes)
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

    async def caught_up(self) -> None:
        """Return when everything is here that reaches the node until now: before it looks at that, or says anything."""
        if self.pacer.is_ahead(self.now_ns):
            there = asyncio.Event()
            self._catch_up(there.set)
            await there.wait()

    def _catch_up(self, then: Callable[[], None]) -> Entry:
        self._catching_up = self.at(self.now_ns, then, what="catching up")
        return self._catching_up

    def _alone(self) -> Entry | None:
        """The one event that comes next whatever the network says; None: there is no such event."""
        if not self.pacer.runs_ahead:
            return None
        if self._catching_up is not None:
            return self._catching_up
        timers = [entry for _, rank, _, entry in self._heap if rank == TIMER_RANK and not entry.cancelled]
        if len(timers) == 1 and timers[0].computes and not self.listens():
            return timers[0]
        return self._catch_up(lambda: None) if self.pacer.is_ahead(self.now_ns) else None

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
            alone = self._alone()
            if alone is not None and alone.computes:
                entry = alone
            found: list[Any] = []
            may_run = self.pacer.may_run(entry, lambda seconds: found.extend(sleep(seconds)), alone)  # noqa: B023
            if may_run and entry is not None:
                entry.cancelled = True  # it may not be the first of the heap
                if entry is self._catching_up:
                    self._catching_up = None
                if alone is not None:
                    self.now_ns = entry.due_ns  # also back, to what it only hears of now
                elif entry.due_ns < self.now_ns:
                    self.on_clamp(self.now_ns - entry.due_ns, entry.what)
                else:
                    self.now_ns = entry.due_ns
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
