"""The event loop's laws: emulated time is exact, ordered, stands still, and waits for nobody but the pacer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.clock.loop import EmulatedLoop, to_ns
from emulator.clock.pacers import DELIVERY_RANK, LEFT_RANK, TIMER_RANK, Entry, InstantPacer, RealPacer, Sleep, WallTime
from emulator.errors import Deadlock, SplitbedError
from emulator.testing.stage import MS, SECOND

DAY = 86_400 * SECOND


def play(main: Callable[[EmulatedLoop], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine of a loop whose time jumps; its result."""
    loop = EmulatedLoop(InstantPacer(lambda: "client-3 awaits global"))
    task = loop.create_task(main(loop))
    try:
        return loop.run_until_complete(task)
    finally:
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()


# --- time -------------------------------------------------------------------------------------------------------------

naps = st.lists(st.integers(1, 20 * DAY) | st.integers(1, 100), min_size=1, max_size=8)


@given(naps.filter(lambda each: sum(each) < 24 * DAY))
def test_sleeps_add_up_to_the_nanosecond_and_beyond_a_day(naps_ns: list[int]) -> None:
    async def main(loop: EmulatedLoop) -> None:
        slept = 0
        for nap_ns in naps_ns:
            await asyncio.sleep(nap_ns / SECOND)
            slept += nap_ns
            assert loop.now_ns == slept

    play(main)


@given(st.integers(0, 46 * DAY))
def test_seconds_hold_every_nanosecond_of_46_days(time_ns: int) -> None:
    assert to_ns(time_ns / SECOND) == time_ns


def test_a_timeout_ends_exactly_at_its_deadline() -> None:
    async def main(loop: EmulatedLoop) -> int:
        await asyncio.sleep(0.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * 86_400 + 1e-9):
                await asyncio.Event().wait()
        return loop.now_ns

    assert play(main) == SECOND // 2 + 3 * DAY + 1


def test_what_ends_at_the_deadline_itself_lost_to_a_timeout_set_before_it() -> None:
    """Equal deadlines fire in the order in which they were set."""

    async def main(_loop: EmulatedLoop) -> list[str]:
        seen = []
        for first_s, second_s in ((1.0, 1.0), (1.0, 1.0 - 1e-9)):
            try:
                async with asyncio.timeout(first_s):
                    await asyncio.sleep(second_s)
                    seen.append("slept")
            except TimeoutError:
                seen.append("timed out")
        return seen

    assert play(main) == ["timed out", "slept"]


def test_time_stands_still_while_callbacks_run() -> None:
    async def main(loop: EmulatedLoop) -> set[int]:
        await asyncio.sleep(1)
        seen = set()
        for _ in range(1000):
            await asyncio.sleep(0)
            sum(range(1000))
            seen.add(loop.now_ns)
        return seen

    assert play(main) == {SECOND}


def test_a_task_group_takes_as_long_as_its_longest_task() -> None:
    async def main(loop: EmulatedLoop) -> int:
        async with asyncio.TaskGroup() as group:
            for seconds in (1, 3, 2):
                group.create_task(asyncio.sleep(seconds))
        return loop.now_ns

    assert play(main) == 3 * SECOND


# --- order ------------------------------------------------------------------------------------------------------------


def test_equal_deadlines_fire_in_the_order_in_which_they_were_set() -> None:
    async def main(_loop: EmulatedLoop) -> list[int]:
        order: list[int] = []

        async def wake(number: int) -> None:
            await asyncio.sleep(1)
            order.append(number)

        await asyncio.gather(*(wake(number) for number in range(50)))
        return order

    assert play(main) == list(range(50))


def test_at_one_instant_deliveries_precede_departures_and_departures_timers() -> None:
    async def main(loop: EmulatedLoop) -> list[str]:
        order: list[str] = []
        for what, rank in (("timer", TIMER_RANK), ("left", LEFT_RANK), ("delivery", DELIVERY_RANK)) * 2:
            loop.at(SECOND, lambda what=what: order.append(what), rank)
        loop.at(SECOND - 1, lambda: order.append("earlier"), TIMER_RANK)
        await asyncio.sleep(2)
        return order

    assert play(main) == ["earlier", "delivery", "delivery", "left", "left", "timer", "timer"]


def test_what_is_delivered_at_the_deadline_is_received() -> None:
    async def main(loop: EmulatedLoop) -> str:
        delivered: asyncio.Future[str] = loop.create_future()
        async with asyncio.timeout(1):
            loop.at(SECOND, lambda: delivered.set_result("received"), DELIVERY_RANK)
            return await delivered

    assert play(main) == "received"


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([DELIVERY_RANK, LEFT_RANK, TIMER_RANK])), max_size=30))
def test_events_happen_by_due_time_then_rank_then_creation(events: list[tuple[int, int]]) -> None:
    async def main(loop: EmulatedLoop) -> list[tuple[int, int, int]]:
        seen: list[tuple[int, int, int]] = []
        for number, (due_ns, rank) in enumerate(events):
            loop.at(due_ns, lambda event=(due_ns, rank, number): seen.append(event), rank)
        await asyncio.sleep(1)
        return seen

    assert play(main) == sorted((due_ns, rank, number) for number, (due_ns, rank) in enumerate(events))


# --- cancelling, refusing, waiting for ever ---------------------------------------------------------------------------


def test_what_is_cancelled_never_happens() -> None:
    async def main(loop: EmulatedLoop) -> list[str]:
        seen: list[str] = []
        loop.at(SECOND, lambda: seen.append("entry")).cancelled = True
        loop.call_later(1, seen.append, "timer").cancel()
        late = loop.call_later(2, seen.append, "late timer")
        loop.at(2 * SECOND, late.cancel, DELIVERY_RANK)
        loop.call_later(3, seen.append, "kept")
        await asyncio.sleep(4)
        return seen

    assert play(main) == ["kept"]


def test_a_cancelled_timer_does_not_move_time() -> None:
    loops: list[EmulatedLoop] = []

    async def main(loop: EmulatedLoop) -> None:
        loops.append(loop)
        async with asyncio.timeout(1000):
            await asyncio.sleep(1)
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        play(main)
    assert loops[0].now_ns == SECOND


def test_a_thread_of_the_host_is_refused_with_the_verb_to_use() -> None:
    async def main(loop: EmulatedLoop) -> None:
        with pytest.raises(SplitbedError, match=r"use node\.compute"):
            loop.run_in_executor(None, print)
        with pytest.raises(SplitbedError, match=r"use node\.compute"):
            await asyncio.to_thread(print)

    play(main)


def test_a_wait_that_nothing_can_end_is_a_deadlock_that_names_who_waits() -> None:
    async def main(_loop: EmulatedLoop) -> None:
        await asyncio.sleep(1)
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="client-3 awaits global"):
        play(main)


# --- the real clock ---------------------------------------------------------------------------------------------------


class Wall(WallTime):
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.shown_ns = 0

    def actual_ns(self) -> int:
        return self.shown_ns

    def seconds_until(self, due_ns: int) -> float:
        return (due_ns - self.shown_ns) / SECOND


class Host:
    """A pacer's surroundings: it records how long it was asked to sleep, and has input when told so."""

    def __init__(self) -> None:
        self.wall = Wall()
        self.slept: list[float | None] = []
        self.starts = 0
        self.input = False
        self.idle_at: list[int] = []  # how much had been slept then
        self.pacer = RealPacer(self._start, lambda: self.input, lambda: self.idle_at.append(len(self.slept)))

    def _start(self, _sleep: Sleep) -> WallTime:
        self.starts += 1
        return self.wall

    def asks(self, entry: Entry | None) -> tuple[bool, list[float | None]]:
        self.slept = []
        return self.pacer.may_run(entry, self.slept.append), self.slept


def entry_at(due_ns: int, ready: Callable[[], bool] | None = None) -> Entry:
    return Entry(due_ns, TIMER_RANK, lambda: None, ready, "test")


@pytest.fixture
def host() -> Host:
    started = Host()
    assert started.pacer.actual_ns() == 0
    started.wall.shown_ns = 5 * MS
    assert started.asks(entry_at(0)) == (False, [])  # the first question is the start
    return started


def test_the_clock_starts_once_at_the_first_idle_moment(host: Host) -> None:
    host.asks(entry_at(0))
    assert host.starts == 1
    assert host.pacer.actual_ns() == 5 * MS


def test_an_event_happens_when_the_wall_has_reached_it_and_not_before(host: Host) -> None:
    assert host.asks(entry_at(5 * MS + 1)) == (False, [1e-9])
    assert host.asks(entry_at(5 * MS)) == (True, [])
    assert host.asks(entry_at(0)) == (True, [])


def test_without_an_event_only_input_ends_the_wait(host: Host) -> None:
    assert host.asks(None) == (False, [None])


def test_a_node_says_that_it_is_idle_before_it_waits_for_input_alone(host: Host) -> None:
    host.asks(entry_at(5 * MS + 1))
    host.asks(entry_at(0, ready=lambda: False))
    host.input = True
    host.asks(None)
    assert host.idle_at == []
    host.input = False
    host.asks(None)
    assert host.idle_at == [0]


def test_input_that_comes_while_it_says_so_is_not_slept_over() -> None:
    surroundings = Host()
    surroundings.asks(None)
    answers = iter([False, True])
    pacer = RealPacer(lambda _sleep: surroundings.wall, lambda: next(answers), lambda: None)
    assert not pacer.may_run(None, surroundings.slept.append)  # the start
    assert not pacer.may_run(None, surroundings.slept.append)
    assert surroundings.slept == []


def test_input_is_looked_at_before_an_event_that_is_due(host: Host) -> None:
    host.input = True
    assert host.asks(entry_at(0)) == (False, [])


def test_an_event_that_is_due_waits_until_the_host_has_done_its_part(host: Host) -> None:
    assert host.asks(entry_at(0, ready=lambda: False)) == (False, [None])
    assert host.asks(entry_at(0, ready=lambda: True)) == (True, [])


@pytest.mark.parametrize("dilation", [1, 7])
def test_wall_time_is_slowed_by_the_dilation(dilation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.clock.pacers.time.monotonic_ns", lambda: 1000 + dilation * 3 * SECOND)
    wall = WallTime(1000, dilation)
    assert wall.actual_ns() == 3 * SECOND
    assert wall.seconds_until(5 * SECOND) == dilation * 2.0
    assert wall.seconds_until(2 * SECOND) == dilation * -1.0


@pytest.fixture
def real() -> Iterator[tuple[EmulatedLoop, Host]]:
    """A loop on a real clock whose wall is always far ahead, so that the loop never waits for it."""
    surroundings = Host()
    surroundings.wall.shown_ns = DAY
    loop = EmulatedLoop(surroundings.pacer)
    yield loop, surroundings
    loop.close()


def test_an_event_that_is_not_ready_holds_up_those_behind_it(real: tuple[EmulatedLoop, Host]) -> None:
    loop, _ = real
    order: list[tuple[str, int]] = []
    asked = count()

    def ready() -> bool:
        loop.call_soon_threadsafe(lambda: None)  # as the computing thread does when it has ended
        return next(asked) == 3

    async def main() -> None:
        loop.at(1 * MS, lambda: order.append(("held", loop.now_ns)), ready=ready)
        loop.at(2 * MS, lambda: order.append(("behind", loop.now_ns)), DELIVERY_RANK)
        await asyncio.sleep(0.003)

    loop.run_until_complete(main())
    assert order == [("held", 1 * MS), ("behind", 2 * MS)]
    assert next(asked) == 4


def test_an_event_that_comes_after_its_time_is_moved_to_the_nodes_time_and_reported(
    real: tuple[EmulatedLoop, Host],
) -> None:
    loop, _ = real
    clamped: list[tuple[int, str]] = []
    seen: list[int] = []
    loop.on_clamp = lambda by_ns, what: clamped.append((by_ns, what))

    async def main() -> None:
        await asyncio.sleep(0.010)
        loop.at(7 * MS, lambda: seen.append(loop.now_ns), DELIVERY_RANK, what="arrival of smashed")
        loop.at(10 * MS, lambda: seen.append(loop.now_ns), DELIVERY_RANK)
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    assert seen == [10 * MS, 10 * MS]
    assert clamped == [(3 * MS, "arrival of smashed")]
